#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl manifest writes the very ids that a client sees, for each name once, in the
# order of paths, with hard links grouped across directories, whatever bytes names are of and however
# deep they lie; it makes no id and changes no store, also beside a running daemon; what it cannot
# read it marks and says; what vanishes meanwhile is left out; a file that it writes is there as a
# whole or not at all.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
command -v jq >/dev/null || skip_all "no jq program"

field() { # JQ-EXPRESSION: of the lines of the last run
    printf '%s\n' "$out" | jq -r "$1"
}
files() { # JQ-EXPRESSION: of the lines of files alone
    field "select(.row == \"file\") | $1"
}
whole() { # the last run's manifest has its end, with the right count, and is sorted
    local names
    names=$(files .path | wc -l)
    [ "$(field 'select(.row == "end") | .files')" = "$(printf '%s\n' "$out" | grep -c '"row":"file"')" ] &&
        [ "$(printf '%s\n' "$out" | tail -n 1 | jq -r .row)" = end ] && [ "$names" -gt 0 ]
}

make_tree || bail_out "cannot make the tree"
touch "$tree/sub.a" "$tree/qu\"ote" && mkfifo "$tree/sub/fifo" || bail_out "no files"
serve_tree
meet_all
touch "$tree/later"
stored=$("$ctl" dump --store "$store" --json)

run manifest --store "$store" "$tree"
exits 0 "a manifest beside a running daemon"
check "is whole" whole
is "$(files 'select(.id != null and .path != "later") | .id' | sort)" "$(grep -E '^[0-9]+ [0-9]+ [a-z-] ' "$tmp/ids" | cut -d' ' -f1 | sort)" \
    "has the ids that a client sees"
for name in one sub/deep/file symlink sub.a sub/fifo "back\\slash" 'qu"ote' "$newline" "$bytes" sub; do
    seen=$("$stat9p" "$address" tree "$name" | head -n 1 | cut -d' ' -f1)
    shown=$(printf %s "$name" | sed 's/\\/\\\\/g' | LC_ALL=C sed 's/\xff/\\xff/g; s/\xfe/\\xfe/g')
    is "$(printf '%s\n' "$out" | jq -r --arg p "$shown" 'select(.row == "file" and .path == $p) | .id')" "$seen" \
        "the id of $(printf %q "$name")"
done
is "$(files 'select(.path == "") | .id')" "$(sed -n 's/ .* \/$//p' "$tmp/ids")" "the id of the tree itself"
is "$("$ctl" dump --store "$store" --json)" "$stored" "the store has not changed"
is "$(files 'select(.path == "later") | .id')" "$("$stat9p" "$address" tree later | cut -d' ' -f1)" \
    "a file that no client had met has the id that it then gets"
stored=$("$ctl" dump --store "$store" --json)
is "$(files 'select(.links != null) | "\(.path) \(.links) \(.link)"' | cut -d' ' -f1,2 | tr '\n' ' ')" "one 2 sub/link 2 " \
    "names of one file are told, in two directories"
is "$(files 'select(.links != null) | .link' | sort -u)" "$(stat -c %i "$tree/one")" "and are one group"
is "$(files 'select(.path | contains("\n") or contains("\\") | not) | .path')" \
    "$(files 'select(.path | contains("\n") or contains("\\") | not) | .path' | tr '/' '\001' | LC_ALL=C sort | tr '\001' '/')" \
    "paths are in order"
is "$(files 'select(.path == "one") | "\(.type) \(.size) \(.mtime)"')" \
    "file 4 $(stat -c %.9Y "$tree/one")" "type, size and time"
is "$(files 'select(.path == "symlink" or .path == "sub/fifo" or .path == "sub") | .type' | tr '\n' ' ')" \
    "dir fifo symlink " "types"
is "$(field 'select(.row == "manifest") | .store')" "$(printf '%s\n' "$stored" | head -n 1 | member uuid)" "it names the store"

# the export by its name
printf '[daemon]\nbind=same\n[export data]\npath=%s\nstore=%s\n' "$tree" "$store" >"$tmp/conf"
first=$(printf '%s\n' "$out" | tail -n +2)
run manifest --config "$tmp/conf" data
is "$(printf '%s\n' "$out" | tail -n +2 | head -n -1)" "$(printf '%s\n' "$first" | head -n -1)" "an export by its name in the file"
run manifest --config "$tmp/conf" --export data
is "$(printf '%s\n' "$out" | tail -n +2 | head -n -1)" "$(printf '%s\n' "$first" | head -n -1)" "and by the option"

# files
run manifest --store "$store" -o "$tmp/out" "$tree"
exits 0 "a manifest in a file"
says '^written: [0-9]+ names on 1 filesystems, [0-9]+ with an id$' "tells what was written"
is "$(tail -n +2 "$tmp/out" | head -n -1)" "$(printf '%s\n' "$first" | head -n -1)" "and is the same"
is "$(stat -c %a "$tmp/out")" 600 "for the owner's eyes"
run manifest --json --store "$store" --output "$tmp/out" "$tree"
is "$(field .ids)" "$(grep -c '"id":' "$tmp/out")" "--json counts"
is "$(ls "$tmp"/out*)" "$tmp/out" "nothing is left beside it"
if [ -c /dev/full ]; then
    "$ctl" manifest --store "$store" "$tree" >/dev/full 2>"$tmp/err"
    is $? 3 "no room for the output"
fi
run manifest --store "$store" -o "$tmp/absent/out" "$tree"
exits 3 "no folder for the file"

# what is not there, and what is wrong
run manifest --store "$store" "$tmp/absent"
exits 3 "a folder that is not there"
run manifest --store "$store" "$tree/one"
exits 3 "a file"
run manifest --store "lmdb:$tmp/nostore" "$tree"
exits 3 "a store that is not there"
run manifest "$tree"
exits 2 "no store"
run manifest --store "$store"
exits 2 "no export"
run manifest --store "$store" "$tree" "$tree"
exits 2 "two of them"
run manifest --config "$tmp/conf" nosuch
exits 3 "a name that the file does not have"
complains "nosuch" "is named"

# a locked folder; root is one without the right to pass
mkdir "$tree/locked" && touch "$tree/locked/x" && chmod 0 "$tree/locked"
unlocked=
if have_root; then
    unlocked="setpriv --bounding-set=-dac_override,-dac_read_search"
fi
if have_root && ! $unlocked true 2>/dev/null; then
    skip "a locked folder" "no setpriv program"
else
    # shellcheck disable=SC2086 # a command and its arguments
    out=$($unlocked "$ctl" manifest --store "$store" "$tree" 2>"$tmp/err")
    is $? 1 "a locked folder is trouble"
    is "$(files 'select(.unread) | .path')" locked "is marked"
    is "$(field 'select(.row == "end") | .unread')" 1 "and counted"
    err=$(cat "$tmp/err")
    complains "1 places.*locked" "and named"
    check "the rest is there" whole
fi
chmod 755 "$tree/locked" && rm -r "$tree/locked"

# files that come and go meanwhile
mkdir "$tree/busy"
(while :; do
    mkdir -p "$tree/busy/a/b" && touch "$tree"/busy/a/{1,2,3}  "$tree"/busy/a/b/{1,2,3}
    mv "$tree/busy/a" "$tree/busy/c" && rm -rf "$tree/busy/c"
done) 2>/dev/null &
busy=$!
broken=
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    run manifest --store "$store" "$tree"
    { [ "$status" = 0 ] && whole; } || broken="$broken $i: $status $err"
done
kill "$busy"
wait "$busy" 2>/dev/null
is "$broken" "" "what vanishes meanwhile is left out"
rm -rf "$tree/busy"

# killed while it writes: the file of before is there, whole
cp "$tmp/out" "$tmp/before"
for i in 1 2 3 4 5 6 7 8 9 10; do
    "$ctl" manifest --store "$store" -o "$tmp/out" "$tree" >/dev/null &
    pid=$!
    sleep "0.00$i"
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    tail -n 1 "$tmp/out" | grep -q '"row":"end"' || broken="$broken $i"
done
is "$broken" "" "killed: the file is whole at any time"
inject=$builddir/tests/lib/.libs/inject.so
if [ ! -e "$inject" ]; then
    skip "killed in its last moment: nothing is left beside the file" "no $inject: run make check first"
elif ! perl -MFcntl -e 'sysopen(my $f, shift, 020200000 | O_WRONLY, 0600) or exit 1' "$tmp"; then
    skip "killed in its last moment: nothing is left beside the file" "no O_TMPFILE in $tmp"
else
    rm -f "$tmp"/.manifest.*
    { LD_PRELOAD=$inject QIDMAP_INJECT="calls=fsync nth=1 error=KILL" \
        "$ctl" manifest --store "$store" -o "$tmp/out" "$tree" >/dev/null; } 2>/dev/null
    is "$? $(cd "$tmp" && ls -d out .manifest.* 2>/dev/null)" "137 out" "killed in its last moment: nothing is left beside the file"
fi
check "and so is the store" "$ctl" verify --store "$store"
long=$(printf 'n%.0s' $(seq 255))
check "a name as long as any can be" "$ctl" manifest --store "$store" -o "$tmp/$long" "$tree"
rm -f "$tmp/$long"

# deeper than any path that the kernel takes, and than descriptors are kept
if perl -e 'chdir shift or exit 1; for (1 .. 150) { my $n = "d" x 100; mkdir $n or exit 1; chdir $n or exit 1 }
    for ("a" .. "c") { open my $f, ">", $_ or exit 1 }' "$tree/sub"; then
    run manifest --store "$store" "$tree"
    exits 0 "a path of 15,000 bytes"
    is "$(files 'select(.type == "file" and (.path | length > 15000)) | .path[-2:]' | tr '\n' ' ')" "/a /b /c " "is gone to its end"
    check "and comes back to the rest" whole
    is "$(files 'select(.path == "symlink") | .type')" symlink "with what lies behind it"
    (ulimit -n 100 && "$ctl" manifest --store "$store" "$tree" >"$tmp/few") 2>/dev/null
    is "$(tail -n +2 "$tmp/few" | head -n -1)" "$(printf '%s\n' "$out" | tail -n +2 | head -n -1)" "with few descriptors, too"
else
    skip "a path of 15,000 bytes" "it cannot be made here"
fi

# a store that never served the tree
stop_qidmapd TERM
run manifest --store "$store" "$tree"
exits 0 "without a daemon"
store=lmdb:$tmp/other
start_qidmapd --export "tree=$tree/sub/deep" --store "$store" --listen "unix:$tmp/socket2" || bail_out "no daemon"
stop_qidmapd TERM
"$ctl" fs retire --yes --store "$store" 1 >/dev/null
run manifest --store "$store" "$tree"
exits 1 "a store that does not know the tree"
complains "no file has an id" "says so"
is "$(field 'select(.row == "fs") | .fs')" 0 "and its filesystem has no number"
tap_done
