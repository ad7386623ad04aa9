#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what takes longer than a second tells on a terminal how far it is, how fast it goes and how
# long it will take still, and takes the line away again; what is quick, and what writes to a pipe or a
# file, tells nothing.

. "$(dirname "$0")/lib.sh"

ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
make_dump=$(find_program make-dump) || bail_out "no make-dump below $builddir: run make check first"
command -v script >/dev/null || skip_all "no script (util-linux)"
rows=20000
"$make_dump" $rows >"$tmp/dump" || bail_out "cannot make the dump"

# A dump that takes its time: the first half, then a second and a half, then the rest, each 1000 rows
# followed by as many lines of it
slowly() {
    head -n 5000 "$tmp/dump"
    sleep 1.5
    tail -n +5001 "$tmp/dump"
}

# on_terminal COMMAND: its standard error, and output, are a terminal; $seen has their bytes
on_terminal() {
    seen=$tmp/seen
    script -qefc "$1" "$seen" </dev/null >/dev/null 2>&1
}

mkfifo "$tmp/slow"
slowly >"$tmp/slow" &
on_terminal "stty cols 100; '$ctl' load --latest --store 'lmdb:$tmp/a' - <'$tmp/slow'"
wait
if grep -aqE 'loading \[#*\.*\] +[0-9]+%  [0-9]+ rows, [0-9]+/s, [0-9]+ s left' "$seen"; then
    ok "bar, share, rows, rate and time left"
else
    not_ok "bar, share, rows, rate and time left" "$(tr '\r\033' '\n^' <"$seen")"
fi
grep -aq $'\r\033\[Kloaded:' "$seen" && ok "the line is gone before what was done is said" ||
    not_ok "the line is gone before what was done is said" "$(tr '\r\033' '\n^' <"$seen")"

slowly >"$tmp/slow" &
on_terminal "stty cols 30; '$ctl' load --latest --store 'lmdb:$tmp/b' - <'$tmp/slow'"
wait
is "$(tr '\r' '\n' <"$seen" | sed 's/\x1b\[K//' | grep -a '^loading' | awk 'length($0) > 29' | wc -l)" 0 \
    "a narrow terminal gets a shorter line"

# whatever is quick: less than a second, which a busy machine may need several tries for
for try in {1..20}; do
    began=$(date +%s%N)
    on_terminal "'$ctl' status --store 'lmdb:$tmp/a' >/dev/null"
    [ $(($(date +%s%N) - began)) -ge 1000000000 ] || break
    tap_diag "try $try took more than a second"
done
grep -aq $'\033' "$seen" && not_ok "nothing where it is quick" "$(cat -v "$seen")" || ok "nothing where it is quick"

# A manifest says at its end how many names it has. The tool is held in the middle of it for a second, beside
# the rest of this test.
inject=$builddir/tests/lib/.libs/inject.so
[ -e "$inject" ] || bail_out "no $inject: run make check first"
mkdir "$tmp/tree" && (cd "$tmp/tree" && seq -f "a-name-of-some-length-%010.0f" 3000 | xargs touch)
start_qidmapd --export "tree=$tmp/tree" --store "lmdb:$tmp/ids" --listen "unix:$tmp/socket"
stop_qidmapd
"$ctl" manifest --store "lmdb:$tmp/ids" "$tmp/tree" -o "$tmp/manifest" >"$tmp/out" 2>&1
(
    : >"$tmp/begin"
    held() { [ "$(cat "$tmp/read" 2>/dev/null | wc -l)" = 2 ]; }
    (wait_until 60 held; sleep 1.2; rm "$tmp/begin") &
    script -qefc "stty cols 100; LD_PRELOAD='$inject' QIDMAP_INJECT='begin=$tmp/begin calls=read path=/manifest nth=2 error=PAUSE log=$tmp/read' \
        '$ctl' adopt '$tmp/manifest' '$tmp/tree' --store 'lmdb:$tmp/new'" "$tmp/adopting" </dev/null >/dev/null 2>&1
    wait
) &
adopting=$!

# a pipe
slowly | "$ctl" load --latest --store "lmdb:$tmp/c" - >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "" "nothing on standard error that is no terminal"
is "$(grep -c '' "$tmp/out")" 1 "and one line on standard output"
wait "$adopting"
if grep -aqE 'searching \[#*\.*\] +[0-9]+%  [0-9]+ files, [0-9]+/s, .* left' "$tmp/adopting"; then
    ok "adopt of a file, too, has share and time left"
else
    not_ok "adopt of a file, too, has share and time left" "$(cat "$tmp/out"; tr '\r\033' '\n^' <"$tmp/adopting")"
fi

tap_done
