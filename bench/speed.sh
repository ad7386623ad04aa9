#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs bench/speed with the diod that is installed, and draws what it measured:
#
#   speed.sh [--out PREFIX] [OPTION OF speed...]
#
# with --out writes PREFIX.jsonl, and PREFIX.svg where gnuplot (package gnuplot-nox) is there. From
# the build folder, or with top_builddir set.
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
[ -z "$out" ] || args+=(--json "$out.jsonl" --table "$out.table")
qidmapd=$builddir/src/qidmapd
if [ -x "$builddir/src/.libs/qidmapd" ]; then # without libtool's script around it
    qidmapd=$builddir/src/.libs/qidmapd
    export LD_LIBRARY_PATH=$builddir/store/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
"$builddir/bench/speed" --qidmapd "${QIDMAPD:-$qidmapd}" "${args[@]}"
if [ -n "$out" ] && command -v gnuplot >/dev/null; then
    gnuplot -e "table='$out.table'; out='$out.svg'" "$here/speed.plot"
fi
[ -z "$out" ] || rm -f "$out.table"
