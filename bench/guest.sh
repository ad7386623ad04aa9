#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a listing costs the host in a guest: qidmapd over TCP, and QEMU's own virtio-9p with
# multidevs=remap, in the same guest, in turn.
#
#   guest.sh [--rounds N] [--entries N] [--targets FILE]        from the build folder
#
# The guest has no KVM; what it costs itself is not counted. Of QEMU its threads count but those that
# run the guest; as its main thread also does other things, such as the network that leads to
# qidmapd, what it takes while the guest sleeps as long is taken off. Names come by readdir alone (a
# shell's *), without a cache. The ids of a hundred files are compared before and after. With
# --targets a line is added to the file, as bench.sh has them.

. "$(dirname "$0")/../tests/lib.sh"
. "$(dirname "$0")/../tests/guest/guest.sh"
rounds=5
entries=20000
targets=/dev/null
while [ $# -gt 1 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --entries) entries=$2 ;;
    --targets) targets=$(realpath "$2") ;;
    *) echo "usage: guest.sh [--rounds N] [--entries N] [--targets FILE]" >&2; exit 2 ;;
    esac
    shift 2
done
guest_need

mkdir -m 755 "$tmp/export" "$tmp/export/many"
chmod 755 "$tmp"
(cd "$tmp/export/many" && seq -f 'a-file-%06g' "$entries" | xargs touch)
server_start "$tmp/export" "lmdb:$tmp/store" || bail_out "the server does not start"
guest_qemu+=(-name guest,debug-threads=on
    -virtfs "local,path=$tmp/export,mount_tag=virtfs,security_model=none,multidevs=remap")

cpu_of() { # TASK_DIRECTORY...: microseconds that these threads have run
    awk '{ sum += $1 } END { printf "%d\n", sum / 1000 }' "${@/%//schedstat}" 2>/dev/null
}
qemu_cpu() {
    local task threads=()
    for task in /proc/"$guest_pid"/task/*; do
        case $(cat "$task/comm" 2>/dev/null) in
        'CPU '*) ;;
        *) threads+=("$task") ;;
        esac
    done
    cpu_of "${threads[@]}"
}
step_begin() {
    begin_time=${EPOCHREALTIME/./}
    begin_ours=$(cpu_of /proc/"$server_pid"/task/*)
    begin_qemu=$(qemu_cpu)
}
step_end() { # WHO [COUNT]
    echo "$1 ${2:-0} $((${EPOCHREALTIME/./} - begin_time)) $(($(cpu_of /proc/"$server_pid"/task/*) - \
        begin_ours)) $(($(qemu_cpu) - begin_qemu))" >>"$tmp/results"
}

cat >"$tmp/script" <<'GUEST'
mkdir -p /ours /virtfs
mount9p /ours "$ACCESS,cache=none" || exit 1
(VIRTFS=1 mount9p /virtfs "$ACCESS,cache=none" virtfs) || exit 1
ids() { # WHERE: of the first hundred files; they must differ
    (cd $1/many && stat -c %i a-file-0000*) >$2
    [ "$(wc -l <$2)" = 99 ] && [ "$(sort -u $2 | wc -l)" = 99 ]
}
ids /ours /ids.ours && ids /virtfs /ids.virtfs || exit 1
n=0
while [ $n -le "$ROUNDS" ]; do
    for who in ours virtfs; do
        host_step begin
        set -- /$who/many/*
        host_step end $who $#
    done
    host_step begin
    sleep 2
    host_step end idle
    n=$((n + 1))
done
ids /ours /ids.again && cmp /ids.ours /ids.again || exit 2
ids /virtfs /ids.again && cmp /ids.virtfs /ids.again || exit 2
GUEST
guest_run "$tmp/script" "${guest_server[@]}" "ROUNDS=$rounds" ACCESS=access=any MSIZE=131072
is "$?" 0 "the guest lists the directory by both servers; ids differ, and stay"
is "$(awk -v n="$entries" '$2 != 0 && $2 != n { bad++ } END { print bad + 0 }' "$tmp/results")" 0 \
    "each listing is whole"
# the first round warms up
awk -v n="$entries" -v targets="$targets" '
    function median(list,    v, c, i, j, t) {
        c = split(list, v, " ")
        for (i = 2; i <= c; i++)
            for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return v[int((c + 1) / 2)]
    }
    { seen[$1]++ }
    seen[$1] == 1 { next }
    $1 == "idle" { idle = idle " " $5 / $3 }
    $1 == "ours" { ours = ours " " $4 / n }
    $1 == "virtfs" { time = time " " $3; qemu = qemu " " $5 / n }
    END {
        own = median(qemu) - median(idle) * median(time) / n
        printf "# server CPU for each entry, us: qidmapd %.3f, QEMU %.3f (%.3f with its idle work)\n",
            median(ours), own, median(qemu)
        verdict = own / median(ours) >= 4 ? "PASS" : "short"
        printf "# QEMU to qidmapd: %.1f (at least 4: %s)\n", own / median(ours), verdict
        printf "\"listing in a guest: CPU of QEMU remap to ours\",-,%.4g,x ours,at least,4,,%s\n",
            own / median(ours), verdict >>targets
    }' "$tmp/results"
tap_done
