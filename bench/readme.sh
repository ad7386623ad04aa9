#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Puts the results of bench.sh into the tree: files into bench/results, and tables between the
# markers of README.md and bench/README.md (`make bench-readme`).
#
#   readme.sh RESULTS TREE
set -eu -o pipefail
export LC_ALL=C
[ $# = 2 ] || { echo "usage: readme.sh RESULTS TREE" >&2; exit 2; }
results=$1
tree=$2
[ -s "$results/targets.csv" ] && [ -s "$results/speed.csv" ] || {
    echo "readme.sh: no targets.csv and speed.csv in $results: run bench.sh first" >&2
    exit 1
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

mkdir -p "$tree/bench/results"
rm -f "$tree"/bench/results/*
cp "$results"/results.txt "$results"/*.csv "$tree/bench/results"
# gnuplot has blanks at the ends of lines
for plot in "$results"/*.svg; do
    [ ! -e "$plot" ] || sed 's/[[:blank:]]*$//' "$plot" >"$tree/bench/results/${plot##*/}"
done

# Commas within quotes as semicolons, no quotes: what awk can split.
plain() { sed -E ':more s/^("[^",]*),([^"]*")/\1;\2/; t more; s/"//g' "$1"; }
words='function words(name) { gsub(/;/, ",", name); return name }'

plots() { # FOLDER
    local plot
    for plot in time:'time of each operation, beside the limit' \
        cpu:"CPU time of each operation, beside diod's" calls:'system calls of each operation'; do
        [ ! -e "$tree/bench/results/speed-${plot%%:*}.svg" ] ||
            printf '![%s](%sresults/speed-%s.svg)\n\n' "${plot#*:}" "$1" "${plot%%:*}"
    done
}
about() {
    echo "One run of \`$(sed -n 3p "$results/results.txt")\` on $(sed -n 1p "$results/results.txt");"
    echo "$(sed -n 2p "$results/results.txt")."
    echo "$(grep 'targets met' "$results/results.txt" | sed 's/ targets met/ targets are met/')."
    grep ' not there: ' "$results/results.txt" | sed -n '$s/$/./p' || true
}
# Each case: its time to the limit, its CPU to diod's, that of the floor, and system calls.
cases() {
    echo '| one at a time | time to the limit (at most 1.2): unix, TCP | of diod | CPU to diod (at most 0.5): unix, TCP | of the floor | system calls | of diod |'
    echo '| --- | --- | --- | --- | --- | --- | --- |'
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        !($1 in known) { known[$1]; order[++count] = $1 }
        {
            key = $1 SUBSEP $3 SUBSEP $2
            time[key] = $column["to_limit"]
            cpu[key] = $column["cpu_to_diod"]
            calls[key] = $column["syscalls"]
        }
        function one(value, digits) { return value == "" ? "-" : sprintf("%." digits "f", value) }
        function both(list, name, server) {
            return one(list[name, server, "unix"], 2) ", " one(list[name, server, "tcp"], 2)
        }
        END {
            for (i = 1; i <= count; i++) {
                name = order[i]
                print "| " name " | " both(time, name, "qidmapd") " | " both(time, name, "diod") " | " \
                    both(cpu, name, "qidmapd") " | " both(cpu, name, "floor") " | " \
                    one(calls[name, "qidmapd", "tcp"], 0) " | " one(calls[name, "diod", "tcp"], 0) " |"
            }
        }' "$results/speed.csv"
}
# All targets but those of the cases; `all`: with them.
targets() { # [all]
    echo '| what | over | measured | target | verdict |'
    echo '| --- | --- | --- | --- | --- |'
    plain "$results/targets.csv" | awk -F, -v all="${1:-}" "$words"'
        NR == 1 || all == "" && $1 ~ /: time$|^[^;]*: CPU$/ && $1 !~ /^depth/ { next }
        {
            printf "| %s | %s | %s %s%s | %s %s | %s |\n", words($1), $2 == "-" ? "" : $2, $3, $4,
                $7 == "" ? "" : " (floor: " $7 ")", $5, $6, $8
        }'
}
replace() { # FILE WITH
    local file=$1
    grep -q '^<!-- bench:begin' "$file" && grep -q '^<!-- bench:end' "$file" || {
        echo "readme.sh: $file has no markers bench:begin and bench:end" >&2
        exit 1
    }
    awk -v with="$2" '
        /^<!-- bench:end/ { within = 0 }
        !within
        /^<!-- bench:begin/ {
            within = 1
            print ""
            while ((getline line < with) > 0) print line
        }' "$file" >"$tmp/new"
    cat "$tmp/new" >"$file"
}

{
    about
    echo
    plots bench/
    cases
    echo
    targets
    echo
} >"$tmp/readme"
replace "$tree/README.md" "$tmp/readme"
{
    about
    echo "All of it: [results.txt](results/results.txt), [speed.csv](results/speed.csv),"
    echo "[targets.csv](results/targets.csv)."
    echo
    plots ''
    cases
    echo
    targets all
    echo
} >"$tmp/bench"
replace "$tree/bench/README.md" "$tmp/bench"
echo "README.md, bench/README.md and bench/results have the figures now"
