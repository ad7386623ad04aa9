#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: compact, copy, backup, restore and reset lose no mapping. Ids of all files are the same after
# compact, copy and restore; after reset no file has an id that any file had. They work beside a daemon, or through it;
# what changes ids is refused while a client is attached, with the number of its session. Each of them,
# killed at random points (KEEP_KILLS=N: at so many), leaves the old state or the new one, whole.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

inject=$builddir/tests/lib/.libs/inject.so
kills=${KEEP_KILLS:-12}

rows() { # URI: the rows of a store, without its counters
    "$ctl" dump --store "$1" --json 2>&1 | sed '1d;$d'
}

ids_of() { # FILE: the ids in it, each once, as files with two names have two lines
    awk '{ print $1 }' "$1" | grep '^[0-9]' | sort -u
}

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all

# ---- beside a daemon -----------------------------------------------------------------------------

run backup --store "$store" "$tmp/backup"
exits 0 "backup while a daemon runs"
is "$(stat -c %a "$tmp/backup")" 600 "nobody else can read it"
run backup --store "$store" "$tmp/backup"
exits 3 "a file that is there is not written over"
run backup --store "$store" "$tmp/backup" --replace
exits 0 "but with --replace"
run copy "$store" "lmdb:$tmp/live"
exits 0 "copy while a daemon runs"
is "$(rows "lmdb:$tmp/live")" "$(rows "$store")" "and all rows are there"
run compact --store "$store" --dry-run
exits 0 "compact --dry-run while a daemon runs"
hold one sub/deep
for verb in "restore $tmp/backup --yes" "reset --yes" "reset --fs 1 --yes"; do
    # shellcheck disable=SC2086 # words
    run $verb --store "$store"
    exits 3 "$verb is refused while a client is attached"
    complains "1 session is attached .* [0-9]+ \(export tree\)" "and its session is named"
done
before=$(rows "$store")
run compact --store "$store"
exits 0 "compact while a daemon runs, and a client is attached"
is "$(rows "$store")" "$before" "no row has changed"
"$stat9p" "$address" tree -R >"$tmp/ids2"
is "$(cat "$tmp/ids2")" "$(cat "$tmp/ids")" "nor any id"
release
run copy "lmdb:$tmp/live" "$store" --replace --yes
exits 3 "copy onto a store that a daemon uses is refused"
stop_qidmapd

# ---- alone ---------------------------------------------------------------------------------------

before=$(rows "$store")
run compact --store "$store" --json
exits 0 "compact"
says '"bytes_before":"[0-9]+","bytes_after":"[0-9]+"' "and tells what it saved"
is "$(rows "$store")" "$before" "no row has changed"
run copy "$store" "xattr:$tree" --latest
if [ "$status" = 3 ] && grep -q 'xattr' <<<"$err"; then
    skip "copy to xattrs" "$err"
else
    exits 0 "copy to xattrs"
    is "$(rows "xattr:$tree")" "$(rows "$store")" "and all rows are there"
    run copy "xattr:$tree" "lmdb:$tmp/back" --latest
    exits 0 "and back"
    is "$(rows "lmdb:$tmp/back")" "$before" "they are still there"
fi
cp -a "$tmp/store" "$tmp/kept"
run reset --store "$store" </dev/null
exits 2 "reset asks, and there is no terminal"
run reset --store "$store" --yes
exits 0 "reset"
is "$(rows "$store")" "" "nothing is in the store"
kept=$(sed -n 's/^what was there: //p' <<<"$out")
is "$(sed '1d;$d' "$kept")" "$before" "what was there is in the dump that it names"
serve_tree
"$stat9p" "$address" tree -R >"$tmp/ids2"
stop_qidmapd
is "$({ ids_of "$tmp/ids"; ids_of "$tmp/ids2"; } | sort | uniq -d)" "" \
    "no file has an id that a file had before"
run restore --store "$store" "$tmp/backup" --yes
exits 0 "restore"
is "$(rows "$store")" "$before" "what was backed up is back"
serve_tree
"$stat9p" "$address" tree -R >"$tmp/ids2"
stop_qidmapd
is "$(cat "$tmp/ids2")" "$(cat "$tmp/ids")" "and a client sees the ids that it saw"
run reset --store "$store" --fs 1 --yes
exits 0 "reset of one filesystem"
serve_tree
"$stat9p" "$address" tree -R >"$tmp/ids2"
stop_qidmapd
check_fails "its files have new ids" cmp -s "$tmp/ids" "$tmp/ids2"
run reset --store "$store" --fs 1 --yes
exits 1 "a retired one cannot be reset again"
run reset --store "$store" --from-scratch --yes
exits 0 "reset --from-scratch"
serve_tree
"$stat9p" "$address" tree -R >"$tmp/ids2"
stop_qidmapd
is "$(cat "$tmp/ids2")" "$(cat "$tmp/ids")" "begins as a new store does"
printf 'no dump\n' >"$tmp/nonsense"
run restore --store "$store" "$tmp/nonsense" --yes
exits 1 "what is no backup is refused"
complains "$tmp/nonsense: .*line 1" "and the file and line are named"
run copy "$store"
exits 2 "copy needs two stores"
run copy "lmdb:$tmp/none" "lmdb:$tmp/other"
exits 3 "a store that is not there cannot be copied"
check_fails "and nothing is made" test -e "$tmp/other"

# ---- killed --------------------------------------------------------------------------------------

state() { rows "$1" | cksum; } # URI: for comparison

killed() { # NAME TARGET NEW-STATE VERB...: the verb with STORE and TARGET as they are in $tmp/work
    local name=$1 target=$2 new=$3 calls point wrong='' seen old i
    shift 3
    rm -rf "$tmp"/work* && cp -a "$tmp/kept" "$tmp/work"
    old=$(state "$target")
    LD_PRELOAD=$inject QIDMAP_INJECT="log=$tmp/calls" "$ctl" "$@" >/dev/null 2>"$tmp/err" ||
        { not_ok "$name, counted" "$(cat "$tmp/err")"; return; }
    calls=$(wc -l <"$tmp/calls")
    [ "$new" = same ] && new=$old
    for ((i = 0; i < kills; i++)); do
        point=$((RANDOM % calls + 1))
        rm -rf "$tmp"/work* && cp -a "$tmp/kept" "$tmp/work"
        { LD_PRELOAD=$inject QIDMAP_INJECT="nth=$point error=KILL" "$ctl" "$@" >/dev/null; } 2>/dev/null
        seen=$(state "$target")
        if [ "$seen" != "$old" ] && [ "$seen" != "$new" ]; then
            wrong="$wrong $point: $seen"
        elif [ "$seen" != "$(printf '' | cksum)" ] && ! grep -q "cannot\|no such" <<<"$seen" &&
            [ -e "${target#*:}" ] && ! "$ctl" verify --store "$target" >"$tmp/verify" 2>&1 &&
            [ "$("$ctl" status --store "$target" >/dev/null 2>&1; echo $?)" = 0 ]; then
            wrong="$wrong $point: $(cat "$tmp/verify")"
        elif ! "$ctl" "$@" >/dev/null 2>"$tmp/err" && ! grep -q "there is a store" "$tmp/err"; then
            wrong="$wrong $point, again: $(cat "$tmp/err")"
        fi
    done
    is "$wrong" "" "$name, killed at $kills of $calls calls"
}

if [ ! -e "$inject" ]; then
    skip "killed verbs" "no $inject: run make check first"
else
    full=$(state "lmdb:$tmp/kept")
    empty=$(printf '' | cksum)
    killed compact "lmdb:$tmp/work" same compact --store "lmdb:$tmp/work"
    killed reset "lmdb:$tmp/work" "$empty" reset --store "lmdb:$tmp/work" --yes
    killed restore "lmdb:$tmp/work" same restore --store "lmdb:$tmp/work" "$tmp/backup" --yes
    killed copy "lmdb:$tmp/work2" "$full" copy "lmdb:$tmp/work" "lmdb:$tmp/work2"
    killed "copy --replace" "lmdb:$tmp/work" "$(state "lmdb:$tmp/live")" \
        copy "lmdb:$tmp/live" "lmdb:$tmp/work" --replace --yes
fi
tap_done
