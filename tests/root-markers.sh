#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: once two copies of a filesystem were served together, whichever came first, each keeps its
# ids with mount points and image files exchanged; so do their subvolumes, also those that have a
# mount of their own and those that nobody looked at meanwhile. A third copy, which brings the marker
# of the first one along, takes nothing from it. Two FUSE filesystems that show one folder keep
# theirs, and leave alone the marker of the filesystem that they show.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
on_exit 'unmount_below "$tmp"'

x=$tmp/x
mkdir -p "$x" && cd "$tmp" || exit 1

attach() { # TYPE IMAGE PLACE [OPTION]
    local options=loop${4:+,$4}
    [ "$1" != xfs ] || options=$options,nouuid
    mkdir -p "$x/$3"
    mount -t "$1" -o "$options" "$tmp/$2" "$x/$3" 2>>"$tmp/mount.log"
}
attach_subvolume() { # OF PLACE
    mkdir -p "$x/$2"
    mount -o subvol=s "$(findmnt -no SOURCE "$x/$1" | cut -d'[' -f1)" "$x/$2"
}
detach() { # PLACE...
    unmount "${@/#/$x/}"
}
exchange() { # IMAGE IMAGE
    mv "$1" "$tmp/exchanged" && mv "$2" "$1" && mv "$tmp/exchanged" "$2"
}
start() {
    rm -f "$tmp/s"
    start_qidmapd --export "x=$x" --store "lmdb:$tmp/store-$1" --listen "unix:$tmp/s" ||
        bail_out "no server: $(tail "$qidmapd_log")"
}
ids() { # PLACE: id and path of all that is below
    "$top_builddir/tests/9pstat" -R "unix:$tmp/s" x |
        awk -v p="/$1" '$4 == p || index($4, p "/") == 1 { print $1, substr($4, length(p) + 1) }' |
        LC_ALL=C sort
}
shared() { # how many ids two lists have in common
    comm -12 <(cut -d' ' -f1 "$1" | sort) <(cut -d' ' -f1 "$2" | sort) | wc -l
}
make_image() { # TYPE
    truncate -s "$([ "$1" = xfs ] && echo 320M || echo 128M)" "$1-a"
    "mkfs.$1" -q "$1-a" >/dev/null 2>&1 && attach "$1" "$1-a" a || return 1
    touch "$x/a/f1" "$x/a/f2"
    if [ "$1" = btrfs ]; then
        for sub in s s/nested t; do
            btrfs subvolume create "$x/a/$sub" >/dev/null && touch "$x/a/$sub/f"
        done
    fi
    detach a
    cp --sparse=always "$1-a" "$1-b"
}

for type in ext4 xfs btrfs; do
    if ! have_fs "$type" || ! command -v "mkfs.$type" >/dev/null || ! make_image "$type"; then
        skip "$type: a copy that comes later" "no $type"
        continue
    fi
    start "$type"
    attach "$type" "$type-a" a
    ids a >first
    stop_qidmapd TERM
    start "$type" # nobody looks at the subvolumes of the original before it changes its place
    if attach "$type" "$type-b" b; then
        ids b >second
        is "$(shared first second)" 0 "$type: a copy that comes later has ids of its own"
        detach a b
        exchange "$type-a" "$type-b"
        attach "$type" "$type-a" a
        is "$(ids a)" "$(cat second)" "$type: exchanged, the copy keeps its ids"
        attach "$type" "$type-b" b
        is "$(ids b)" "$(cat first)" "$type: and the original, which was there first"
        detach a b
        exchange "$type-a" "$type-b"
    else
        detach a
        skip "$type: a copy that comes later" "no mounted copies of $type in this kernel"
    fi
    stop_qidmapd KILL
done

if [ -f btrfs-b ] && attach btrfs btrfs-a a && attach btrfs btrfs-b b; then
    # Subvolumes that have a mount of their own share the marker of the whole.
    attach_subvolume a as && attach_subvolume b bs
    start parts
    for place in a as b bs; do ids "$place" >"$place.ids"; done
    stop_qidmapd KILL
    detach as bs a b
    exchange btrfs-a btrfs-b
    attach btrfs btrfs-a b && attach btrfs btrfs-b a
    attach_subvolume a as && attach_subvolume b bs
    exchange btrfs-a btrfs-b
    start parts
    for place in bs as b a; do
        is "$(ids "$place")" "$(cat "$place.ids")" "btrfs: $place of four mounts keeps its ids"
    done
    detach as bs a b

    # A copy of a, marker and all, comes with its subvolume; that of a was not looked at.
    exchange btrfs-a btrfs-b
    cp --sparse=always btrfs-b btrfs-c
    attach btrfs btrfs-b a
    # The daemon has met it, in the file that it is in now: what it knows of a is all that tells the two.
    check "btrfs: the original is met" "$top_builddir/tests/9pstat" "unix:$tmp/s" x a
    stop_qidmapd TERM
    attach btrfs btrfs-c c && attach_subvolume c cs
    start parts
    ids cs >cs.ids
    is "$(shared a.ids cs.ids)" 0 "btrfs: the subvolume of a marked copy has ids of its own"
    is "$(ids a)" "$(cat a.ids)" "btrfs: and that of the original keeps them"
    stop_qidmapd TERM
    detach cs c a
else
    skip "btrfs: subvolumes with mounts of their own" "no mounted copies of btrfs"
fi

if command -v bindfs >/dev/null && [ -c /dev/fuse ] && [ -f ext4-b ]; then
    mkdir -p folder/sub "$x/one" "$x/two" "$x/over"
    touch folder/f1 folder/f2
    all_up() {
        attach ext4 ext4-a a && attach ext4 ext4-b b && bindfs folder "$x/one" &&
            bindfs folder "$x/two" && bindfs "$x/a" "$x/over"
    }
    all_down() { detach over two one b a; }
    all_up || bail_out "cannot mount: $(cat "$tmp/mount.log")"
    start fuse
    ids one >one.ids
    ids two >two.ids
    ids over >over.ids
    ids a >a.ids
    is "$(shared one.ids two.ids)" 0 "FUSE: two views of a folder have ids of their own"
    for round in restart live; do
        [ "$round" = live ] || stop_qidmapd KILL
        all_down
        all_up
        [ "$round" = live ] || start fuse
        for place in two one over a; do
            is "$(ids "$place")" "$(cat "$place.ids")" "FUSE, $round: $place keeps its ids"
        done
    done
    "$(qidmapctl_program)" fs list --store "lmdb:$tmp/store-fuse" >list
    is "$(awk '$2 ~ /^fuse/ && $4 ~ /^sure/ { print $7 }' list | sort -u)" marker \
        "FUSE: fs list shows the marker where it says that the identity is sure"
    number=$(awk '$2 ~ /^fuse/ && $4 ~ /^sure/ { print $1; exit }' list)
    "$(qidmapctl_program)" fs show --store "lmdb:$tmp/store-fuse" "${number:-1}" >show
    is "$(sed -nE 's/^(identified by|identity|also known as) +([a-z]+).*/\2/p' show | tr '\n' ' ')" \
        "marker marker weak " "FUSE: fs show names the marker first"
    stop_qidmapd TERM
    all_down
else
    skip "FUSE: two views of one folder" "no bindfs"
fi
tap_done
