#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: whatever of the file operations since the last syncs a crash leaves, in whatever order
# and torn in any sector, the store opens with every id that was told, and gives none twice; for
# tens of thousands of such states, without root. And the test would see it if that were not so:
# LMDB without syncs fails.
#
# CRASH_SEED (random), CRASH_EACH (states for each operation), CRASH_ROUNDS, CRASH_SCENARIOS,
# CRASH_BACKENDS

. "$(dirname "$0")/../lib.sh"

crash=$builddir/tests/crash
place=$tmp
[ -w /dev/shm ] && place=$(mktemp -d /dev/shm/qidmap-crash.XXXXXX) &&
    on_exit 'rm -rf --one-file-system "$place"'
seed=${CRASH_SEED:-$((RANDOM * 32768 + RANDOM))}
tap_diag "seed $seed (CRASH_SEED=$seed repeats this)"

try() { # BACKEND SCENARIO ROUNDS PRELOAD STATES-ARG...
    local backend=$1 scenario=$2 rounds=$3 preload=$4 d=$place/$1.$2$4
    shift 4
    mkdir -p "$d/root" "$d/states"
    LD_PRELOAD="${preload:+$crash/.libs/$preload.so }$crash/.libs/record.so" \
        CRASH_ROOT=$d/root CRASH_LOG=$d/log "$crash/workload" --store "$backend:$d/root/store" \
        --journal "$d/journal" --scenario "$scenario" --rounds "$rounds" --seed "$seed" \
        >"$d/workload.log" 2>&1 || { tap_diag "$(cat "$d/workload.log")"; return 1; }
    "$crash/states" --log "$d/log" --journal "$d/journal" --dir "$d/states" --uri "$backend:" \
        --scenario "$scenario" --seed "$seed" "$@"
}

result() { # DESCRIPTION STATUS
    if [ "$2" = 0 ]; then ok "$1"; else not_ok "$1"; fi
}

for backend in ${CRASH_BACKENDS:-lmdb xattr}; do
    scenarios=${CRASH_SCENARIOS:-affix full reopen load group}
    if [ "$backend" = xattr ]; then
        scenarios="affix reopen load" # it has no full map
        touch "$place/probe"
        if ! setfattr -n user.try -v 1 "$place/probe" 2>/dev/null && ! setfattr -n trusted.try -v 1 \
            "$place/probe" 2>/dev/null; then
            skip "xattr: what was told holds after every crash" "no user xattrs in $place"
            continue
        fi
    fi
    for scenario in $scenarios; do
        try "$backend" "$scenario" "${CRASH_ROUNDS:-6}" "" --each "${CRASH_EACH:-6}"
        result "$backend, $scenario: what was told holds after every crash" $?
    done
    case $backend in
    lmdb)
        try lmdb affix 6 nosync --expect-violation
        result "control: LMDB without syncs is found out" $?
        ;;
    xattr)
        try xattr affix 6 oneslot --expect-violation
        result "control: an xattr store with one slot is found out" $?
        ;;
    esac
done
tap_done
