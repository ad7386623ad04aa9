#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what qidmapctl dump --json writes, while a daemon runs or not, qidmapctl load makes a store
# of in which every file has the id that it had. A dump that is cut or changed is refused and
# leaves nothing; load killed at any moment leaves the store that was there, or the new one, whole; a
# store that is there is replaced only when that is asked for, and what was in it is kept in a dump.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

rows() { # FILE: the rows of a dump without its first and last line
    sed '1d;$d' "$1"
}

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all
run dump --store "$store" --json
exits 0 "dump --json while the daemon runs"
printf '%s\n' "$out" >"$tmp/dump"
stop_qidmapd

run load "$tmp/dump" --store "lmdb:$tmp/copy" --latest
exits 0 "load into a new store"
says '^loaded: 1 filesystems' "load counts the rows"
run dump --store "lmdb:$tmp/copy" --json
printf '%s\n' "$out" >"$tmp/dump2"
is "$(cat "$tmp/dump2")" "$(cat "$tmp/dump")" "the dump of the new store is the same"
"$ctl" load - --store "lmdb:$tmp/piped" --json <"$tmp/dump" >"$tmp/out" &&
    is "$(member jumped <"$tmp/out")" true "load of standard input, and its counters jump"

# the same ids for a client
address=unix:$tmp/socket2
start_qidmapd --export "tree=$tree" --store "lmdb:$tmp/copy" --listen "$address" ||
    bail_out "qidmapd does not take the loaded store: $(cat "$qidmapd_log")"
"$stat9p" "$address" tree -R >"$tmp/ids2"
is "$(cat "$tmp/ids2")" "$(cat "$tmp/ids")" "a client sees the same ids"
run load "$tmp/dump" --store "lmdb:$tmp/copy"
exits 3 "load into a store that a daemon has open"
hold one
run load "$tmp/dump" --store "lmdb:$tmp/copy" --replace --yes
exits 3 "and with --replace, while a client is attached"
complains "1 session is attached" "and its session is named"
release
stop_qidmapd

# what is there is not overwritten
run load "$tmp/dump" --store "lmdb:$tmp/copy"
exits 3 "load into a store that is there"
complains -- '--replace' "and --replace is named"
run load "$tmp/dump" --store "lmdb:$tmp/copy" --replace </dev/null
exits 2 "--replace asks first, and there is no terminal"
run load "$tmp/dump" --store "lmdb:$tmp/copy" --replace --yes
exits 0 "load --replace --yes"
kept=$(sed -n 's/^what was there: //p' <<<"$out")
[ -f "$kept" ] && ok "what was there is kept in a dump" || not_ok "no dump of what was there" "$out"
run load "$kept" --store "lmdb:$tmp/again" --latest
exits 0 "and that dump can be loaded"
run verify --store "lmdb:$tmp/copy"
exits 0 "the replaced store is right"

# a damaged one can be replaced, and its files are kept
data=$(echo "$tmp"/copy/gen.*/data.mdb)
truncate -s 9000 "$data"
run load "$tmp/dump" --store "lmdb:$tmp/copy"
exits 3 "a damaged store is not replaced unasked"
run load "$tmp/dump" --store "lmdb:$tmp/copy" --replace --yes
exits 0 "a damaged store is replaced when asked"
kept=$(sed -n 's/^what was there: //p' <<<"$out")
is "$(wc -c <"$kept/data.mdb")" 9000 "its files are kept"
says 'begin far behind' "and the counters jump"
run verify --store "lmdb:$tmp/copy"
exits 0 "the new store is right"

# damaged dumps
lines=$(wc -l <"$tmp/dump")
bad=
for ((i = 0; i < lines; i++)); do
    head -n "$i" "$tmp/dump" >"$tmp/cut"
    "$ctl" load "$tmp/cut" --store "lmdb:$tmp/none" 2>/dev/null && bad="$bad $i"
    sed "$((i + 1))d" "$tmp/dump" >"$tmp/cut"
    "$ctl" load "$tmp/cut" --store "lmdb:$tmp/none" 2>/dev/null && bad="$bad -$i"
done
is "$bad" "" "a dump cut behind any line, or without any line, is refused"
bytes=$(wc -c <"$tmp/dump")
for ((i = 0; i < 60; i++)); do
    at=$((RANDOM * 32768 % bytes + RANDOM % 97))
    [ "$at" -lt "$bytes" ] || continue
    cp "$tmp/dump" "$tmp/cut"
    old=$(od -An -tu1 -j "$at" -N 1 "$tmp/cut")
    # shellcheck disable=SC2059 # the byte is the format
    printf "\\$(printf %o $((old ^ 1)))" | dd of="$tmp/cut" bs=1 seek="$at" conv=notrunc 2>/dev/null
    "$ctl" load "$tmp/cut" --store "lmdb:$tmp/none" 2>/dev/null && bad="$bad $at"
done
is "$bad" "" "a dump with a byte changed is refused"
run verify --store "lmdb:$tmp/none"
exits 3 "and no store is left of them"
run load "$tmp/absent" --store "lmdb:$tmp/none"
exits 3 "a file that is not there"
run load --store "lmdb:$tmp/none"
exits 2 "no file"
run load /dev/null --store "lmdb:$tmp/none"
exits 1 "an empty dump"
cp "$tmp/dump" "$tmp/no-end" && sed -i '$d' "$tmp/no-end"
run load "$tmp/no-end" --store "lmdb:$tmp/none"
exits 1 "a dump without its end"
complains "$tmp/no-end: " "and the file is named"

# another backend
mkdir "$tmp/plain" "$tmp/plain2"
"$builddir/tests/make-dump" 0 >"$tmp/small"
"$builddir/tests/make-dump" 3 >"$tmp/full"
run load "$tmp/small" --store "xattr:$tmp/plain" --latest
if [ "$status" != 0 ]; then
    skip "load into an xattr: store" "no user xattrs in the temporary directory: $err"
else
    run dump --store "xattr:$tmp/plain" --json
    is "$out" "$(cat "$tmp/small")" "an xattr: store gives the dump back that it was made of"
    run load "$tmp/small" --store "xattr:$tmp/plain" --replace --yes
    exits 0 "and it can be replaced"
    run load "$tmp/full" --store "xattr:$tmp/plain" --replace --yes
    exits 3 "rows of the full map do not go into an xattr: store"
    complains 'lmdb:' "and lmdb: is named"
    run verify --store "xattr:$tmp/plain"
    exits 0 "what was there is as it was"
    run load "$tmp/full" --store "xattr:$tmp/plain2"
    exits 3 "nor into a new one"
    run load "$tmp/small" --store "xattr:$tmp/plain2"
    exits 0 "and another dump can be loaded there"
fi

# killed while it loads: 20,000 rows, so that there is something to interrupt
"$builddir/tests/make-dump" 20000 >"$tmp/big" || bail_out "make-dump failed"
run load "$tmp/big" --store "lmdb:$tmp/killed" --latest
exits 0 "load of a larger dump"
run dump --store "lmdb:$tmp/killed" --json
printf '%s\n' "$out" >"$tmp/old"
"$builddir/tests/make-dump" 21000 >"$tmp/new"
# moments spread over the time that one takes, and a little more
began=$(date +%s%N)
"$ctl" load "$tmp/new" --store "lmdb:$tmp/timed" >/dev/null
took=$((($(date +%s%N) - began) / 1000000))
moment() { # I: of 25, in seconds
    local ms=$(($1 * took * 3 / 50 + 3))
    printf '%d.%03d' $((ms / 1000)) $((ms % 1000))
}
whole=0 olds=0 news=0
for ((i = 1; i <= 25; i++)); do
    "$ctl" load "$tmp/new" --store "lmdb:$tmp/killed" --replace --yes >/dev/null 2>&1 &
    pid=$!
    sleep "$(moment "$i")"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    "$ctl" verify --store "lmdb:$tmp/killed" >"$tmp/out" 2>&1 || tap_diag "$(cat "$tmp/out")"
    "$ctl" dump --store "lmdb:$tmp/killed" --json >"$tmp/now" 2>/dev/null
    if cmp -s <(rows "$tmp/now") <(rows "$tmp/old"); then
        whole=$((whole + 1)) olds=$((olds + 1))
    elif cmp -s <(rows "$tmp/now") <(rows "$tmp/new"); then
        whole=$((whole + 1)) news=$((news + 1))
        "$ctl" load "$tmp/old" --store "lmdb:$tmp/killed" --replace --yes >/dev/null
    fi
done
tap_diag "killed 25 times: $olds times the old store was there, $news times the new one"
is "$whole" 25 "load killed: the store is whole, the old one or the new one"
for ((i = 1; i <= 25; i++)); do
    "$ctl" load "$tmp/new" --store "lmdb:$tmp/fresh" >/dev/null 2>&1 &
    pid=$!
    sleep "$(moment "$i")"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    if "$ctl" dump --store "lmdb:$tmp/fresh" --json >"$tmp/now" 2>/dev/null; then
        cmp -s <(rows "$tmp/now") <(rows "$tmp/new") || bad="$bad $i"
        rm -rf "$tmp/fresh"
    fi
done
is "$bad" "" "load into nothing, killed: all of the store is there, or none"
run load "$tmp/new" --store "lmdb:$tmp/fresh"
[ "$status" = 0 ] || run load "$tmp/new" --store "lmdb:$tmp/fresh" --replace --yes
exits 0 "and it can be done again"
tap_done
