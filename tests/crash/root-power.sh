#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: whenever the power goes, in between or inside any two writes of the disk, the store opens
# afterwards, with every id that was told before, and gives none of them a second time: on ext4, xfs
# and btrfs. And the test would see it if that were not so: LMDB without syncs fails at once.
#
# CRASH_SEED (random), CRASH_STATES (so many for each filesystem; 0: all), CRASH_ROUNDS,
# CRASH_SUBSETS, CRASH_SCENARIOS, CRASH_TYPES, CRASH_BACKENDS

. "$(dirname "$0")/../lib.sh"
need_root
have_mounts || skip_all "no mounts allowed"
if [ -z "${CRASH_NAMESPACE:-}" ]; then
    CRASH_NAMESPACE=1 unshare -m --propagation private bash "$0" "$@"
    exit
fi
. "$(dirname "$0")/power-lib.sh"
need_power
on_exit stop_power

seed=${CRASH_SEED:-$((RANDOM * 32768 + RANDOM))}
tap_diag "seed $seed (CRASH_SEED=$seed repeats this)"

for type in ${CRASH_TYPES:-ext4 xfs btrfs}; do
    if ! have_fs "$type"; then
        skip "power cuts on $type" "no $type in this kernel"
        continue
    fi
    for backend in ${CRASH_BACKENDS:-lmdb xattr}; do
        scenarios=${CRASH_SCENARIOS:-all}
        [ "$backend" != xattr ] || scenarios="affix reopen load" # it has no full map
        for scenario in $scenarios; do
            if ! record_power "$type" "$backend" --scenario "$scenario" --seed "$seed" \
                --rounds "${CRASH_ROUNDS:-5}"; then
                not_ok "$backend on $type, $scenario: the workload runs on a disk that logs"
                continue
            fi
            if replay_power "$type" "$backend" --scenario "$scenario" --seed "$seed" \
                --states "${CRASH_STATES:-$([ "$backend" = xattr ] && echo 40 || echo 100)}" --subsets "${CRASH_SUBSETS:-4}"; then
                ok "$backend on $type, $scenario: what was told holds after every power cut"
            else
                not_ok "$backend on $type, $scenario: what was told holds after every power cut"
            fi
        done
        PRELOAD=$crash/.libs/nosync.so
        if [ "$backend" = lmdb ] && record_power "$type" lmdb --scenario affix --seed "$seed" \
            --rounds 5 && replay_power "$type" lmdb --scenario nosync --seed "$seed" \
            --states 400 --subsets 4 --expect-violation; then
            ok "control: LMDB without syncs on $type is found out"
        elif [ "$backend" = lmdb ]; then
            not_ok "control: LMDB without syncs on $type is found out"
        fi
        PRELOAD=
    done
done
tap_done
