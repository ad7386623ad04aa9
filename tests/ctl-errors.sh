#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: wrong arguments give exit status 2 and one line; a missing store, one of another version,
# a damaged one and one in memory are named, change nothing, and give the documented status. A wrong
# number of a filesystem never means all of them; no error acts on a terminal; and where a standard
# descriptor is closed, nothing is written into the store that would take its number.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

run
exits 2 "no verb"
run --nonsense
exits 2 "an option in place of a verb"
run nonsense
exits 2 "an unknown verb"
complains "nonsense" "names it"
run fs
exits 2 "half a verb"
complains "list, show, identify, alias, policy or retire" "names the second words"
run fs nonsense
exits 2 "a wrong second word"
run $'odd\nverb\xff'
exits 2 "a verb with odd bytes"
is "$(printf '%s\n' "$err" | wc -l)" 1 "which is shown in one line"
run status
exits 2 "no store given"
complains "--store URI or --export NAME" "says what is missing"
run status --store "$store" --export tree
exits 2 "--store and --export"
run status --store "$store" more
exits 2 "an argument too many"
run status --nonsense --store "$store"
exits 2 "an unknown option"
run status --store
exits 2 "an option without its value"
run lookup --store "$store"
exits 2 "lookup of nothing"
run fs show --store "$store"
exits 2 "fs show without a number"
run fs show --store "$store" one
exits 2 "fs show with a word"
run fs show --store "$store" 0
exits 2 "fs show 0"
run --help
exits 0 "--help"
run --version
exits 0 "--version"
for verb in status dump lookup survey "fs list" "fs show" "fs identify" "fs alias" "fs policy" "fs retire"; do
    # shellcheck disable=SC2086 # two words
    run $verb --help
    exits 0 "$verb --help"
done

run status --store "$store"
exits 3 "a store that is not there"
complains "$tmp/store" "is named"
[ ! -e "$tmp/store" ] && ok "and is not made by looking" || not_ok "looking made a store"
run dump --store memory:
exits 3 "a store in memory"
run status --store "nonsense:$tmp"
exits 2 "an unknown backend"
run status --store "$tmp"
exits 2 "a folder without the name of a backend"
complains "lmdb:DIR" "says what is missing"

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all
stop_qidmapd

# A number that is none
kept=$("$ctl" dump --store "$store" --json | sed 1d)
for number in 0 -1 '' x 4294967296 18446744073709551617; do
    run reset --yes --store "$store" --fs "$number"
    exits 2 "reset --fs '$number'"
    run compact --prune-missing --store "$store" --fs "$number"
    exits 2 "compact --fs '$number'"
done
is "$("$ctl" dump --store "$store" --json | sed 1d)" "$kept" "nothing was changed by these"

# Names that act on a terminal
odd=$'odd\e[31m\nname\xff'
for words in "status --store lmdb:$tmp/$odd" "fs list --store $odd:$tmp" "load --store lmdb:$tmp/x $tmp/$odd" \
    "status --export x --config $tmp/$odd" "top --once --control $tmp/$odd" "drain --control $tmp/$odd $tmp" \
    "survey $tmp/$odd" "manifest --store $store $tmp/$odd" "preflight --store $store $tmp/$odd" \
    "adopt --store $store $tmp/$odd $tree" "copy lmdb:$tmp/$odd lmdb:$tmp/x" "backup --store $store $tmp/$odd/x" \
    "lookup --store $store $tmp/$odd" "fs identify $tmp/$odd"; do
    IFS=' ' read -r -d '' -a argv <<<"$words"
    argv[-1]=${argv[-1]%$'\n'}
    run "${argv[@]}"
    if [ "$status" -gt 0 ] && ! LC_ALL=C grep -q '[^ -~]' "$tmp/err" && [ "$(grep -c '' "$tmp/err")" = 1 ]; then
        ok "${words%% *} shows an odd name in one plain line"
    else
        not_ok "${words%% *} shows an odd name in one plain line" "status $status: $(cat -v "$tmp/err")"
    fi
done

# Closed descriptors
is_taken() { # PID: 1 and 2 are not free for a store
    [ "$(readlink "/proc/$1/fd/1")$(readlink "/proc/$1/fd/2")" = /dev/null/dev/null ]
}
mkfifo "$tmp/fifo"
"$ctl" load - --store "lmdb:$tmp/x" <"$tmp/fifo" >&- 2>&- &
pid=$!
exec 7>"$tmp/fifo"
check "closed standard descriptors have no number that a store could get" wait_until 60 is_taken "$pid"
exec 7>&-
wait "$pid"
"$ctl" fs policy --store "$store" 1 affix <&- >&- 2>&-
is $? 3 "and output that cannot be written is an error"
check "and the store is whole" "$ctl" verify --store "$store"

# Damage: bytes in the middle of the data file, where rows are.
damaged=$tmp/damaged
cp -r "$tmp/store" "$damaged"
data=$(find "$damaged" -name data.mdb)
size=$(stat -c %s "$data")
rows=$(grep -aobF QIDM "$data" | head -n 1 | cut -d: -f1)
[ -n "$rows" ] || bail_out "no record of meta in $data ($size bytes)"
# every copy of the record of meta gets another counter
for at in $(grep -aobF QIDM "$data" | cut -d: -f1); do
    printf '\377\377' | dd of="$data" bs=1 seek=$((at + 36)) conv=notrunc status=none
done
before=$(sha256sum <"$data")
run status --store "lmdb:$damaged"
exits 1 "a damaged store"
complains "$damaged" "is named"
run dump --store "lmdb:$damaged" --json
exits 1 "a dump of it fails"
is "$(grep -c '"row":"end"' <<<"$out")" 0 "and has no closing line"
is "$(sha256sum <"$data")" "$before" "looking changed nothing in it"

# Another version: the number behind the magic.
newer=$tmp/newer
cp -r "$tmp/store" "$newer"
data=$(find "$newer" -name data.mdb)
for at in $(grep -aobF QIDM "$data" | cut -d: -f1); do
    printf '\011' | dd of="$data" bs=1 seek=$((at + 4)) conv=notrunc status=none
done
run status --store "lmdb:$newer"
[ "$status" != 0 ] && [ -n "$err" ] && ok "a store of another version is refused" ||
    not_ok "a store of another version is refused" "status $status: $err"

# A file, and a folder that is no store.
echo file >"$tmp/file"
run status --store "lmdb:$tmp/file"
exits 3 "a file in place of a store"
mkdir "$tmp/folder"
run status --store "lmdb:$tmp/folder"
exits 3 "a folder without a store"
is "$(ls -A "$tmp/folder")" "" "stays empty"

# No permission. (Root has all of them.)
if have_root; then
    if command -v setpriv >/dev/null; then
        cp -r "$tmp/store" "$tmp/locked"
        chmod 700 "$tmp/locked"
        out=$(cd / && setpriv --reuid=65534 --regid=65534 --clear-groups "$ctl" status \
            --store "lmdb:$tmp/locked" 2>&1)
        status=$?
        # 126 and 127: that user cannot reach the program itself
        case $status in
        126 | 127) ok "no permission (the program is out of that user's reach)" ;;
        *) is "$status" 3 "no permission" ;;
        esac
    fi
else
    cp -r "$tmp/store" "$tmp/locked"
    chmod 0 "$tmp/locked"
    run status --store "lmdb:$tmp/locked"
    exits 3 "no permission"
    chmod 700 "$tmp/locked"
fi

# The disk of the output is full.
if [ -c /dev/full ]; then
    "$ctl" dump --store "$store" --json >/dev/full 2>"$tmp/err"
    is $? 3 "no room for the output"
fi
tap_done
