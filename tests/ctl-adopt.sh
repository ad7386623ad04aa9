#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: files that were copied have the ids of the originals after adopt and adopt --commit, those with
# odd names and several names among them; never two files one id. What is missing, new, changed or cannot
# be is told. Nothing is changed before --commit, nor by it where a daemon uses the store. Each of
# both, killed at random points (ADOPT_KILLS=N: so many), leaves the old state or the new one, and can be run again.
#
# Another store gets the ids here, as filesystems of their own need root: root-adopt.sh.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

inject=$builddir/tests/lib/.libs/inject.so
copy=$tmp/copy
other=lmdb:$tmp/other
kills=${ADOPT_KILLS:-12}

rows() { # URI: the rows of a store, without its counters
    "$ctl" dump --store "$1" --json 2>&1 | sed '1d;$d'
}

ids_of() { # TREE STORE: ids and names that a client sees
    rm -f "$tmp/socket2"
    start_qidmapd --export "tree=$1" --store "$2" --listen "unix:$tmp/socket2" ||
        bail_out "qidmapd did not start: $(tail "$qidmapd_log")"
    "$stat9p" "unix:$tmp/socket2" tree -R | sort
    stop_qidmapd
}

count() { # NAME: of the last line of a run with --json
    tail -1 <<<"$out" | member "$1"
}

make_tree || bail_out "cannot make the tree"
echo pair >"$tree/pair" && ln "$tree/pair" "$tree/zweit" && echo plain >"$tree/sub/plain"
serve_tree
meet_all
sort "$tmp/ids" >"$tmp/before"
run manifest --store "$store" -o "$tmp/manifest" "$tree"
exits 0 "manifest of the originals"
stop_qidmapd
cp -a "$tree" "$copy"

# ---- all is well ---------------------------------------------------------------------------------

run adopt --store "$other" "$tmp/manifest" "$copy" --json
exits 0 "adopt, with a store that is not there yet"
is "$(count files) $(count matched) $(count missing) $(count new) $(count changed) $(count conflicts)" \
    "$(count files) $(count files) 0 0 0 0" "everything is found, and nothing else"
is "$(count bindings)" "$(awk '/^[0-9]/ { print $1 }' "$tmp/ids" | sort -u | wc -l)" "each id once"
check_fails "no store was made" test -e "$tmp/other"
run adopt --store "$other" --status
exits 0 "adopt --status"
says '^ *[0-9]+ +ids to be taken over' "tells what is staged"
run adopt --store "$other" --commit </dev/null
exits 2 "adopt --commit asks, and there is no terminal"
run adopt --store "$other" --commit --yes
exits 0 "adopt --commit"
check_fails "and the stage is gone" test -e "$tmp/other.adopt"
check "the store is whole" "$ctl" verify --store "$other"
is "$(ids_of "$copy" "$other")" "$(cat "$tmp/before")" "a client sees the ids of the originals"
run adopt --store "$other" --commit --yes
exits 1 "nothing is staged any more"
run adopt --store "$other" "$tmp/manifest" "$copy" --json
exits 0 "adopt once more"
is "$(count bindings) $(count new)" "0 0" "finds that all is done"
run adopt --store "$other" --abandon
exits 0 "adopt --abandon"
check_fails "takes the stage away" test -e "$tmp/other.adopt"

# ---- after a last copy ---------------------------------------------------------------------------

mkdir "$tmp/was" && cp -a "$tmp/other" "$tmp/was/other"
start_qidmapd --export "tree=$tree" --store "$store" --listen "$address" || bail_out "no server"
mv "$tree/one" "$tree/renamed"
echo late >"$tree/late"
rm "$tree/sub/plain"
echo replaced >"$tree/new" && mv "$tree/new" "$tree/$newline"
"$stat9p" "$address" tree -R | sort >"$tmp/before2"
"$ctl" manifest --store "$store" -o "$tmp/manifest2" "$tree"
stop_qidmapd
rm -rf "$copy" "$tmp/other"
cp -a "$tree" "$copy"
run adopt --store "$other" "$tmp/manifest" "$copy" --json
exits 1 "adopt with the old manifest finds trouble"
says '"row":"missing","path":"sub/plain"' "what was removed is missing"
says '"row":"missing","path":"one"' "as is what was renamed,"
says '"row":"new","path":"renamed"' "which is new,"
says '"row":"new","path":"late"' "like what was added"
says '"row":"changed","path":"new.nline"' "what was replaced has changed"
run adopt --store "$other" "$tmp/manifest2" "$copy" --json
exits 0 "adopt with a new one after it"
is "$(count missing) $(count new) $(count changed)" "0 0 0" "finds everything"
cp -p "$copy/late" "$copy/.late" && mv "$copy/.late" "$copy/late" # as rsync does
run adopt --store "$other" --commit --yes
exits 1 "a commit after a file was replaced is refused"
check "with what to do" grep -q 'run adopt MANIFEST EXPORT again' "$tmp/err"
check_fails "and changes nothing" test -e "$tmp/other"
rm "$copy/sub/link" "$copy/renamed" && echo other >"$copy/renamed" && ln "$copy/renamed" "$copy/sub/link"
touch -r "$tree/renamed" "$copy/renamed"
run adopt --store "$other" --commit --yes
exits 1 "so it is where another file may have the inode number"
run adopt --store "$other" "$tmp/manifest2" "$copy" --json
[ "$(count files)" = "$(count matched)" ] && ok "adopt once more" || not_ok "adopt once more" "$out"
run adopt --store "$other" --commit --yes
exits 0 "and is committed"
is "$(ids_of "$copy" "$other")" "$(cat "$tmp/before2")" "a client sees the ids of the originals, as they are now"

# ---- what cannot be ------------------------------------------------------------------------------

rm -rf "$tmp/other" && rm -rf "$copy" && cp -a "$tree" "$copy"
rm "$copy/zweit" && cp -p "$copy/pair" "$copy/zweit"                            # a link that is broken
rm "$copy/sub/deep/file" && ln "$copy/renamed" "$copy/sub/deep/file"            # one that is new
rm "$copy/late" && mkdir "$copy/late"                                           # another type
run adopt --store "$other" "$tmp/manifest2" "$copy" --json
exits 1 "adopt where links and types differ"
is "$(count conflicts)" 3 "each is a conflict"
says '"row":"conflict","path":"zweit"' "a second file of what was one"
says '"row":"conflict","path":"sub/deep/file"' "one file of what were two"
says '"row":"conflict","path":"late","why":"it was a file, and is a dir"' "a folder for a file"
run adopt --store "$other" --commit --yes
exits 1 "adopt --commit is refused"
check_fails "and changes nothing" test -e "$tmp/other"
run adopt --store "$other" --commit --yes --skip-conflicts
exits 0 "but with --skip-conflicts"
check "the store is whole then" "$ctl" verify --store "$other"
ids_of "$copy" "$other" >"$tmp/after"
is "$(grep '^[0-9]' "$tmp/after" | awk '$4 != "/sub/link" && $4 != "/sub/deep/file" && $4 != "/renamed" { print $1 }' |
    sort | uniq -d)" "" "no two files have one id"
is "$(grep ' /pair$' "$tmp/after")" "$(grep ' /pair$' "$tmp/before2")" "the first name has the id"
check_fails "the file that came of it has not" grep -qxF "$(grep ' /zweit$' "$tmp/before2")" "$tmp/after"

# ---- ids that the store has given itself ---------------------------------------------------------

run adopt --store "$store" "$tmp/manifest2" "$copy" --json
exits 1 "adopt where the originals are served still, on one filesystem"
is "$(count bindings)" 0 "takes no id"
run adopt --store "$store" --commit --yes --skip-conflicts
exits 1 "and there is nothing to be committed"
run adopt --store "$store" --abandon

# ---- what is refused -----------------------------------------------------------------------------

rm -rf "$tmp/other" && cp -a "$tmp/was/other" "$tmp/other" && rm -rf "$copy" && cp -a "$tree" "$copy"
before=$(rows "$other")
start_qidmapd --export "tree=$copy" --store "$other" --listen "$address" || bail_out "no server"
run adopt --store "$other" "$tmp/manifest2" "$copy"
[ "$status" = 1 ] && ok "adopt works while a daemon uses the store" || not_ok "adopt beside a daemon" "$err"
run adopt --store "$other" --commit --yes --skip-conflicts
is "$(rows "$other" | wc -l)" "$(wc -l <<<"$before")" "and no row is lost"
stop_qidmapd
sed 's/"size":"5"/"size":"6"/' "$tmp/manifest" >"$tmp/altered"
head -3 "$tmp/manifest" >"$tmp/short"
printf 'nonsense\n' >"$tmp/nonsense"
for bad in altered short nonsense; do
    run adopt --store "$other" "$tmp/$bad" "$copy"
    exits 1 "a manifest that is $bad is refused"
    run adopt --store "$other" --commit --yes
    exits 1 "and nothing of it can be committed"
done
run adopt --store "$other" "$tmp/none" "$copy"
exits 3 "a manifest that is not there"
run adopt --store "$other" "$tmp/manifest" "$tmp/none"
exits 3 "a folder that is not there"
run adopt --store "$other"
exits 2 "adopt needs arguments"
run adopt --store "$other" --commit --status
exits 2 "and one thing to do"
run adopt --store "xattr:$copy" "$tmp/manifest" "$copy"
exits 3 "an xattr: store cannot keep such ids"
run adopt --store "$other" --abandon

# ---- killed --------------------------------------------------------------------------------------

ids_in() { # URI: all rows but those of filesystems, which have times
    rows "$1" | grep -E '"row":"(affix|full)"' | cksum
}

killed() { # NAME STAGED VERB...: at random points; STAGED: staged before
    local name=$1 staged=$2 calls point wrong='' seen i
    shift 2
    prepare() {
        rm -rf "$tmp"/work* && [ "$staged" = 0 ] ||
            "$ctl" adopt --store "lmdb:$tmp/work" "$tmp/manifest2" "$copy" >/dev/null 2>&1
    }
    prepare
    LD_PRELOAD=$inject QIDMAP_INJECT="log=$tmp/calls" "$ctl" "$@" >/dev/null 2>"$tmp/err"
    calls=$(wc -l <"$tmp/calls")
    [ "$calls" -gt 3 ] || { not_ok "$name, counted" "$(cat "$tmp/err")"; return; }
    for ((i = 0; i < kills; i++)); do
        point=$((RANDOM % calls + 1))
        prepare
        { LD_PRELOAD=$inject QIDMAP_INJECT="nth=$point error=KILL" "$ctl" "$@" >/dev/null; } 2>/dev/null
        seen=$(ids_in "lmdb:$tmp/work")
        if [ "$seen" != "$old" ] && { [ "$staged" = 0 ] || [ "$seen" != "$new" ]; }; then
            wrong="$wrong $point: $seen"
        fi
        [ ! -e "$tmp/work/current" ] || "$ctl" verify --store "lmdb:$tmp/work" >"$tmp/verify" 2>&1 ||
            wrong="$wrong $point: $(cat "$tmp/verify")"
        if [ "$staged" = 0 ] || [ -e "$tmp/work.adopt" ]; then
            "$ctl" "$@" >/dev/null 2>"$tmp/err" || [ $? = 1 ] || wrong="$wrong $point, again: $(cat "$tmp/err")"
            "$ctl" adopt --store "lmdb:$tmp/work" --commit --yes >/dev/null 2>&1
        fi
        [ "$(ids_in "lmdb:$tmp/work")" = "$new" ] || wrong="$wrong $point, in the end"
    done
    is "$wrong" "" "$name, killed at $kills of $calls calls"
}

if [ ! -e "$inject" ]; then
    skip "killed" "no $inject: run make check first"
else
    # without a store before: one that is copied for each turn would be known as a copy
    rm -rf "$tmp"/work*
    old=$(ids_in "lmdb:$tmp/work")
    "$ctl" adopt --store "lmdb:$tmp/work" "$tmp/manifest2" "$copy" >/dev/null 2>&1
    "$ctl" adopt --store "lmdb:$tmp/work" --commit --yes >/dev/null 2>"$tmp/err" ||
        tap_diag "$(cat "$tmp/err")"
    new=$(ids_in "lmdb:$tmp/work")
    check_fails "adopting changes the store" test "$old" = "$new"
    killed "adopt" 0 adopt --store "lmdb:$tmp/work" "$tmp/manifest2" "$copy"
    killed "adopt --commit" 1 adopt --store "lmdb:$tmp/work" --commit --yes
fi
tap_done
