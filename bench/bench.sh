#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Measures all that there is to measure, in one command (`make bench`): the map, the server beside
# diod and beside what the machine can do, and a listing in a guest beside QEMU's own server.
#
#   bench.sh [--quick] [--out DIR] [--no-map] [--no-guest] [OPTION OF speed...]
#
# writes to DIR (bench-results): results.txt, what is printed; speed.csv, figures of each case and
# server; targets.csv, each target with its verdict; and plots. DIOD, PEERS and QIDMAPD are those of
# speed.sh. What is not there, such as a peer, is said and counted, and is no failure; wrong ids are
# one. From the build folder, or with top_builddir set.
set -eu -o pipefail
export LC_ALL=C
export top_builddir=${top_builddir:-.}
here=$(dirname "$0")
out=bench-results
quick=
map=1
guest=1
given=
args=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 given+=" $1" ;;
    --no-map) map= given+=" $1" ;;
    --no-guest) guest= given+=" $1" ;;
    --out)
        [ $# -gt 1 ] || { echo "bench.sh: --out needs a folder" >&2; exit 2; }
        out=$2
        shift
        ;;
    --help) sed -n '4,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) args+=("$1") given+=" $1" ;;
    esac
    shift
done
[ -x "$top_builddir/bench/speed" ] || {
    echo "bench.sh: no bench/speed below $top_builddir: run make first" >&2
    exit 1
}
given=${given# }
mkdir -p "$out"
rm -f "$out"/targets.csv "$out"/speed* "$out"/missing
start=$SECONDS
status=0

load() { cut -d' ' -f1 /proc/loadavg; }
version() { # of a package, where there is dpkg
    dpkg-query -W -f '${Package} ${Version}\n' "$1" 2>/dev/null || true
}
machine() {
    local diod
    echo "$(date -u +%Y-%m-%d), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
        "$(nproc) CPUs, Linux $(uname -r | cut -d. -f1,2)," \
        "$(findmnt -no FSTYPE -T /var/tmp || stat -f -c %T /var/tmp), load before $(load)"
    diod=${DIOD:-$(version diod)}
    echo "$("$top_builddir/src/qidmapd" --version | head -1); ${diod:-no diod};" \
        "$(version qemu-system-x86 | grep . || echo 'no qemu'); ${PEERS:+more: $PEERS; }CFLAGS" \
        "$(sed -n "s/^CFLAGS = //p" "$top_builddir/Makefile" | head -1)"
    echo "make bench${given:+ BENCH_FLAGS=\"$given\"}"
}
run_map() { # a line for each figure, and the targets
    local rows=1000000
    [ -z "$quick" ] || rows=400000
    echo "== The map (bench/map --rows $rows)"
    "$top_builddir/bench/map" --json --rows "$rows" | sed -E 's/^\{"what":"(.*)","median":([0-9.]+),'\
'"least":([0-9.]+),"unit":"([^"]*)"(,"limit":([0-9.]+),"ratio":([0-9.]+))?\}$/\1|\2|\3|\4|\6|\7/' |
        awk -F '|' -v targets="$out/targets.csv" '
        {
            sub(/:$/, "", $1)
            printf "%-46s median %12.1f  least %12.1f %-3s", $1, $2, $3, $4
            if ($5 != "") {
                verdict = $6 <= 1 ? "PASS" : "short"
                printf "  at most %g: %s", $5, verdict
                if (sub(/^\.\.\. /, "", $1)) $1 = before ", " $1
                printf "\"map: %s\",-,%.4g,%s,at most,%g,,%s\n", $1, $6 * $5, $4, $5,
                    verdict >>targets
            }
            if ($1 !~ /^\.\.\./ && $5 == "") before = $1
            print ""
        }'
}
run_guest() {
    local options=(--rounds 5 --entries 20000)
    [ -z "$quick" ] || options=(--rounds 2 --entries 5000)
    echo
    echo "== A listing in a guest (bench/guest.sh ${options[*]})"
    bash "$here/guest.sh" "${options[@]}" --targets "$out/targets.csv" |
        sed 's/^1\.\.0 # SKIP /not there: a guest: /'
}
run_all() {
    machine
    echo "what,transport,value,unit,relation,target,floor,verdict" >"$out/targets.csv"
    if [ -n "$map" ]; then
        echo
        run_map || status=1
    fi
    echo
    echo "== The server (bench/speed)"
    local options=(--calls --start-rows 1000000)
    [ -z "$quick" ] || options=(--calls --start-rows 100000 --quick)
    bash "$here/speed.sh" --out "$out/speed" "${options[@]}" ${args[@]+"${args[@]}"} || status=1
    if [ -e "$out/speed-targets.csv" ]; then
        tail -n +2 "$out/speed-targets.csv" >>"$out/targets.csv"
        rm "$out/speed-targets.csv"
    fi
    [ -z "$guest" ] || run_guest || status=1
    echo
    awk -F, -v seconds=$((SECONDS - start)) -v after="$(load)" '
        $NF == "PASS" { met++ }
        $NF == "short" { short++ }
        $NF == "not measured" { not++ }
        END {
            printf "%d targets met, %d short, %d not measured; %d s, load after %s\n", met, short,
                not, seconds, after
        }' "$out/targets.csv"
    return "$status"
}
run_all 2>&1 | tee "$out/results.txt" || status=1
absent=$(sed -n 's/.*not there: //p' "$out/results.txt")
[ -z "$absent" ] ||
    echo "$(wc -l <<<"$absent") not there: $(paste -sd ';' <<<"$absent")" | tee -a "$out/results.txt"
echo "in $out: $(cd "$out" && echo *)"
exit "$status"
