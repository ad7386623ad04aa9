#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the hot paths of the map, of the rows' codec and of the messages' codec cost no more
# instructions than stated here, counted by callgrind: neither time nor other work on the machine
# plays a part. A change that makes one cheaper lowers its limit.
#
#   bash tests/cost.sh      from the build folder; prints what each one costs

. "$(dirname "$0")/lib.sh"

# Name, limit of instructions for one, what it is. About a quarter above what gcc 12 makes of it.
limits='
covered    150 an inode that an affix entry covers
kept       515 a row of the full map that is kept in RAM
read      4400 a row of the full map, read from LMDB
new      20200 a new row of the full map, one of 1,000 in a commit
codec     1290 a row of the full map, encoded and parsed
walk       570 Twalk of three names, decoded
getattr    175 Tgetattr, decoded
reply      510 Rgetattr, encoded'

[ "$(uname -m)" = x86_64 ] || skip_all "no limits for this architecture"
for tool in valgrind callgrind_annotate; do
    command -v "$tool" >/dev/null || skip_all "no valgrind"
done
made_with() { # VARIABLE: as configure set it
    sed -n "s/^S\[\"$1\"\]=\"\(.*\)\"\$/\1/p" "$top_builddir/config.status"
}
case " $(made_with CFLAGS) " in
*" -fsanitize"* | *" --coverage"*) skip_all "instructions are counted in plain builds" ;;
*" -O2 "*) ;;
*) skip_all "instructions are counted in plain builds" ;;
esac
[ -z "$(made_with SANITIZER_CFLAGS)" ] || skip_all "instructions are counted in plain builds"
case $(made_with CC) in
*gcc*) ;;
*) skip_all "instructions are counted in plain builds" ;;
esac

program=$top_builddir/tests/cost
[ -x "$program" ] || bail_out "no tests/cost: run make check TESTS= first"
# What make check sets to find misuse of memory fills every block.
unset MALLOC_PERTURB_ G_SLICE
count=$(cd "$tmp" && valgrind --tool=callgrind --callgrind-out-file="$tmp/out" "$program" 2>"$tmp/err")
if ! [ "${count:-0}" -gt 0 ]; then
    tap_diag "$(tail -n 20 "$tmp/err")"
    bail_out "tests/cost failed under callgrind"
fi
callgrind_annotate --inclusive=yes --threshold=100 "$tmp/out" >"$tmp/costs"

while read -r name limit what; do
    [ -n "$name" ] || continue
    cost=$(sed -n "s/^ *\([0-9,]*\) .*[:?]measure_$name\( .*\)\?\$/\1/p" "$tmp/costs" | tr -d , | head -n 1)
    each=$((${cost:-0} / count))
    if [ "$each" -gt 0 ] && [ "$each" -le "$limit" ]; then
        ok "$what: $each instructions, at most $limit"
    else
        not_ok "$what: at most $limit instructions" "$([ "$each" -gt 0 ] && echo "it takes $each" || echo "it was not counted")"
    fi
done <<<"$limits"
tap_done
