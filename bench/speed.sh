#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs bench/speed with the diod that is installed, and draws what it measured:
#
#   speed.sh [--out PREFIX] [OPTION OF speed...]
#
# with --out writes PREFIX.csv (each case and server), PREFIX-targets.csv, and PREFIX-time.svg,
# PREFIX-cpu.svg and PREFIX-calls.svg where gnuplot (package gnuplot-nox) is there. From the build
# folder, or with top_builddir set. Environment:
#
#   DIOD=FILE                  another diod than the installed one
#   PEERS='NAME=FILE...'       more servers, FILE being called diod... or qidmapd..., such as another
#                              build or version of one of them
#   QIDMAPD=FILE               another qidmapd than the one that was built
set -eu
export LC_ALL=C
builddir=${top_builddir:-.}
here=$(dirname "$0")
out=
args=()
while [ $# -gt 0 ]; do
    case $1 in
    --out)
        [ $# -gt 1 ] || { echo "speed.sh: --out needs a PREFIX" >&2; exit 2; }
        out=$2
        shift
        ;;
    *) args+=("$1") ;;
    esac
    shift
done
[ -x "$builddir/bench/speed" ] || {
    echo "speed.sh: no bench/speed below $builddir: run make first" >&2
    exit 1
}
diod=${DIOD:-$(PATH=$PATH:/usr/sbin:/sbin command -v diod || true)}
[ -z "$diod" ] || args+=(--diod "$diod")
for peer in ${PEERS:-}; do
    if [ -x "${peer#*=}" ]; then
        args+=(--peer "$peer")
    else
        echo "speed: not there: ${peer%%=*}: no program ${peer#*=}" >&2
    fi
done
[ -z "$out" ] || args+=(--csv "$out.csv" --targets "$out-targets.csv")
qidmapd=$builddir/src/qidmapd
if [ -x "$builddir/src/.libs/qidmapd" ]; then # without libtool's script around it
    qidmapd=$builddir/src/.libs/qidmapd
    export LD_LIBRARY_PATH=$builddir/store/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
"$builddir/bench/speed" --qidmapd "${QIDMAPD:-$qidmapd}" "${args[@]}"
[ -n "$out" ] || exit 0
if ! command -v gnuplot >/dev/null; then
    echo "speed: not there: gnuplot: no plots; the figures are in $out.csv" >&2
    exit 0
fi
# a block for each kind of socket, a line for each case, as speed.plot says
table=$(mktemp)
trap 'rm -f "$table"' EXIT
awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    { key = $1 SUBSEP $2 }
    !($1 in known) { known[$1]; order[++count] = $1 }
    {
        time[key, $3] = $column["to_limit"]
        cpu[key, $3] = $column["cpu_to_diod"]
        calls[key, $3] = $column["syscalls"]
    }
    function or_none(value) { return value == "" ? "?" : value }
    END {
        split("unix tcp", transports, " ")
        for (t = 1; t <= 2; t++) {
            if (t > 1) print "\n"
            for (i = 1; i <= count; i++) {
                key = order[i] SUBSEP transports[t]
                print "\"" order[i] "\"", or_none(time[key, "floor"]), or_none(time[key, "qidmapd"]),
                    or_none(time[key, "diod"]), or_none(cpu[key, "floor"]),
                    or_none(cpu[key, "qidmapd"]), or_none(calls[key, "floor"]),
                    or_none(calls[key, "qidmapd"]), or_none(calls[key, "diod"])
            }
        }
    }' "$out.csv" >"$table"
gnuplot -e "table='$table'; out='$out'" "$here/speed.plot"
