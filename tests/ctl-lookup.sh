#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: lookup gives for a path the very id that a client sees, and for an id the file: all its
# names, odd ones in the documented escape. It makes no mapping.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all

expect=()
seen() { # PATH below the export: the qid path that a client sees
    "$stat9p" "$address" tree "$1" | head -n 1 | cut -d' ' -f1
}

for when in "while the daemon runs" "after it"; do
    for file in "" one symlink sub sub/deep/file; do
        [ "$when" = "after it" ] || expect[${#expect[@]}]=$(seen "/$file")
    done
    i=0
    for file in "" one symlink sub sub/deep/file; do
        run lookup --store "$store" --json "$tree/$file"
        exits 0 "lookup of /$file, $when"
        is "$(member qid_path <<<"$out")" "${expect[i]}" "gives the id that a client sees, $when"
        is "$(member guest_inode <<<"$out")" "$((${expect[i]} + 2))" "and the guest's number, $when"
        is "$(member inode <<<"$out")" "$(stat -c %i "$tree/$file")" "and the inode, $when"
        i=$((i + 1))
    done
    [ "$when" = "after it" ] || stop_qidmapd
done

run lookup --store "$store" "$tree/one"
exits 0 "lookup for people"
says '^  guest inode  [0-9]+$' "shows the guest's number"
is "$(head -n 1 <<<"$out")" "$tree/one" "below the path"

cd "$tree" || exit 1
run lookup --store "$store" --json one sub/link
is "$(member qid_path <<<"$out" | uniq | wc -l)" 1 "hard links have one id; several arguments work"
cd / || exit 1
id=$(member qid_path <<<"$out" | head -n 1)

# back again: filesystem, inode, and every name
run lookup --store "$store" --json --no-scan "$id"
exits 0 "lookup of an id"
is "$(member inode <<<"$out")" "$(stat -c %i "$tree/one")" "gives the inode"
is "$(grep -c paths <<<"$out")" 0 "and no names with --no-scan"
run lookup --store "$store" --json --no-scan --guest-inode $((id + 2))
exits 0 "lookup of a guest's number"
is "$(member qid_path <<<"$out")" "$id" "is that of the same file"
run lookup --store "$store" --json --no-scan "$(printf '0x%x' "$id")"
is "$(member qid_path <<<"$out")" "$id" "and so is hexadecimal"

# The search goes over the whole filesystem of the folder of this test: kept small where that can be.
small=
if have_mounts; then
    small=$tmp/small
    mkdir "$small" && mount -t tmpfs -o size=4M none "$small" && on_exit 'umount "$small" 2>/dev/null'
    tree=$small
    make_tree || bail_out "cannot make the tree"
    mkdir "$tmp/bind" && mount --bind "$small/sub" "$tmp/bind" && on_exit 'umount "$tmp/bind" 2>/dev/null'
    serve_tree
    meet_all
    i=0
    for file in one "$newline" "$bytes" 'back\slash' symlink sub/deep/file sub; do
        shown=('"'"$tree"'/one"' '"'"$tree"'/new\nline"' '"'"$tree"'/bytes-\\xff\\xfe"' \
            '"'"$tree"'/back\\\\slash"' '"'"$tree"'/symlink"' '"'"$tree"'/sub/deep/file"' \
            '"'"$tree"'/sub"')
        run lookup --store "$store" --json "$tree/$file"
        exits 0 "lookup of ${shown[i]}"
        is "$(grep -cF "\"path\":${shown[i]}" <<<"$out")" 1 "shows the path in the escape"
        run lookup --store "$store" --json "$(member qid_path <<<"$out")"
        exits 0 "lookup of its id"
        is "$(grep -cF "${shown[i]}" <<<"$out")" 1 "finds the name"
        if [ "$i" = 0 ]; then
            is "$(grep -cF "$tree/sub/link" <<<"$out")" 1 "and the hard link's"
        fi
        i=$((i + 1))
    done
    run lookup --store "$store" "$tree/$newline"
    is "$(head -n 1 <<<"$out")" "$tree/new\\x0aline" "for people, control characters are escaped too"
    id=$(seen /sub/deep/file)
    rm "$tree/sub/deep/file"
    run lookup --store "$store" "$id"
    exits 1 "the id of a removed file"
    says "host inode" "still tells what it meant"
    stop_qidmapd
    umount "$tmp/bind" && umount "$small"
    run lookup --store "$store" "$id"
    exits 1 "the id of a file whose filesystem is not mounted"
    complains "not mounted" "says so"
    tree=$tmp/tree
else
    skip "the names of an id" "no mounts allowed"
fi

# What is not there.
run status --store "$store" --json
before=$out
run lookup --store "$store" "$tree/absent"
exits 1 "a path that is not there"
run lookup --store "$store" 18446744073709551615
exits 1 "an id that was never given"
run lookup --store "$store" 99999999999999999999
exits 2 "a number of more than 64 bits"
run lookup --store "$store" --guest-inode 1
exits 1 "a guest's number below all ids"
run lookup --store "$store" --guest-inode one
exits 2 "a guest's number that is no number"
run lookup --store "$store" /proc/version
exits 1 "a file of a filesystem that was never served"
complains "not in this store" "says so"
run lookup --store "$store" --fs-id nonsense "$tree/one"
exits 2 "an fs-id of the wrong form"
run lookup --store "$store" "$tree/one" "$tree/absent"
exits 1 "of several arguments the worst status counts"
says "guest inode" "and the others are answered"
run status --store "$store" --json
is "$out" "$before" "lookup changed nothing in the store"
tap_done
