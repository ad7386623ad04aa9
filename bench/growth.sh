#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs bench/growth and draws what it measured:
#
#   growth.sh [--quick] [--rows N] [--case NAME]... [--dir DIR] [--out PREFIX]
#
# prints the table; with --out writes PREFIX.csv, and PREFIX.svg where gnuplot (package gnuplot-nox)
# is there. From the build folder, or with top_builddir set.

set -eu
export LC_ALL=C
builddir=${top_builddir:-.}
out=
args=()
while [ $# -gt 0 ]; do
    case $1 in
    --out)
        [ $# -gt 1 ] || { echo "growth.sh: --out needs a PREFIX" >&2; exit 2; }
        out=$2
        shift
        ;;
    *) args+=("$1") ;;
    esac
    shift
done
[ -x "$builddir/bench/growth" ] || {
    echo "growth.sh: no bench/growth below $builddir: run make first" >&2
    exit 1
}
if [ -z "$out" ]; then
    exec "$builddir/bench/growth" "${args[@]+"${args[@]}"}"
fi

"$builddir/bench/growth" --csv "${args[@]+"${args[@]}"}" | tee "$out.csv" | tr , '\t' |
    awk -F '\t' '{ printf "%-7s", $1; for (i = 2; i <= NF; i++) printf " %10s", $i; print "" }'
if ! command -v gnuplot >/dev/null; then
    echo "growth.sh: no gnuplot, no plot; the figures are in $out.csv" >&2
    exit 0
fi

# one curve for each case; panels share the axis of inodes
cases=$(tail -n +2 "$out.csv" | cut -d, -f1 | uniq | tr '\n' ' ')
panel() { # TITLE EXPRESSION
    printf 'set ylabel "%s"\nplot ' "$1"
    local case first=1
    for case in $cases; do
        [ -n "$first" ] || printf ', '
        first=
        printf "'%s' using (strcol(1) eq '%s' ? \$2 : NaN):(%s) with linespoints title '%s'" \
            "$out.csv" "$case" "$2" "$case"
    done
    printf '\n'
}
{
    printf 'set terminal svg size 1000,900 dynamic background rgb "white"\nset output "%s.svg"\n' "$out"
    printf 'set datafile separator ","\nset datafile missing NaN\nset logscale xy\nset grid\n'
    printf 'set key left top\nset xlabel "inodes mapped"\nset multiplot layout 3,2\n'
    panel "MiB on disk, used" '$6'
    panel "MiB anonymous memory" '$8'
    panel "MiB of the store mapped" '$9'
    panel "ns for a known inode" '$10'
    panel "us for a new inode, in batches" '$11'
    printf 'unset multiplot\n'
} | gnuplot
echo "growth.sh: $out.csv $out.svg"
