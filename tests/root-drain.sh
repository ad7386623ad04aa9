#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: after `qidmapctl drain PATH` the host can unmount what clients have walked to below PATH, and
# the device is free: also where the daemon has mounts of its own, where the export's tree spans the
# filesystem, and through a bind mount. What a client has open is named, with its session, and keeps
# the mount. A filesystem that is mounted again has the ids of before.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
need_loop
need_fs ext4
mount --make-rshared / || bail_out "cannot make mounts shared"
control=$tmp/control
loop=
on_exit '[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null'
on_exit 'unmount_below "$tmp"'
truncate -s 16M "$tmp/image"
mkfs.ext4 -q "$tmp/image" || bail_out "mkfs.ext4 failed"
loop=$(losetup -f --show "$tmp/image") || bail_out "no loop device"
mkdir -p "$tree/mnt" "$tree/bind" "$tmp/elsewhere"
echo out >"$tree/outside"
mount "$loop" "$tree/mnt" || bail_out "cannot mount $loop"
mkdir -p "$tree/mnt/d/e"
echo one >"$tree/mnt/d/one"
echo two >"$tree/mnt/d/two"
umount "$tree/mnt"

is_free() { # the kernel lets nobody open it exclusively while it is mounted anywhere
    flock -n "$loop" true && dd if=/dev/zero of=/dev/null count=0 2>/dev/null &&
        e2fsck -fn "$loop" >/dev/null 2>&1 && mkfs_refuses_not
}
mkfs_refuses_not() { # O_EXCL, as mkfs does: EBUSY while a mount, in any namespace, has the device
    perl -MFcntl -e 'sysopen(my $f, $ARGV[0], O_RDWR | O_EXCL) or exit 1' "$loop"
}

mount_it() { # PLACE
    if [ "$1" = mnt ]; then
        mount "$loop" "$tree/mnt"
    else
        mount "$loop" "$tmp/elsewhere" && mount --bind "$tmp/elsewhere/d" "$tree/bind" &&
            umount "$tmp/elsewhere"
    fi || bail_out "cannot mount $loop"
}

for isolate in no yes; do
    for place in mnt bind; do
        name="isolate=$isolate, $place"
        mount_it "$place"
        if [ "$place" = bind ]; then # the same filesystem, met at another place
            paths=(bind/one bind/e bind)
        else
            paths=(mnt/d/one mnt/d/e mnt)
        fi
        serve_tree --control "$control" --isolate "$isolate"
        before=$("$stat9p" "$address" tree "${paths[@]}")
        hold "${paths[@]}" outside
        check_fails "$name: it is busy while a client has walked there" umount "$tree/$place"
        check_fails "$name: and its device is in use" mkfs_refuses_not
        run drain --store "$store" "$tree/$place"
        exits 0 "$name: drain"
        says '^closed: [1-9]' "$name: closes what is idle"
        check "$name: the host unmounts it" unmount "$tree/$place"
        check "$name: and the device is free" wait_until 60 is_free
        mount_it "$place"
        is "$("$stat9p" "$address" tree "${paths[@]}")" "$before" \
            "$name: mounted again, it has the ids of before"
        release
        hold "${paths[0]%/one}" -o "${paths[0]}"
        run drain --store "$store" "$tree/$place"
        exits 1 "$name: a file is open"
        says "^$tree/${paths[0]}: open by session [0-9]+ \(unix" "$name: and is named, with its session"
        check_fails "$name: the mount stays" umount "$tree/$place"
        release
        run drain --store "$store" "$tree/$place"
        exits 0 "$name: drain once it is closed"
        check "$name: and then it goes" unmount "$tree/$place"
        stop_qidmapd
    done
done

# what the daemon writes beside its store, though its own mounts show the store alone
serve_tree --control "$control" --isolate yes
meet_all
run backup --store "$store" "$tmp/backup"
run reset --store "$store" --yes
exits 0 "reset by an isolated daemon"
check "its dump is beside the store" test -s "$(sed -n 's/^what was there: //p' <<<"$out")"
run restore --store "$store" "$tmp/backup" --yes
exits 0 "restore by an isolated daemon"
is "$("$stat9p" "$address" tree -R)" "$(cat "$tmp/ids")" "and the ids are back"
stop_qidmapd
check_fails "it takes its socket away" test -e "$control"

# a directory below the export that a client is attached to is its root for as long as it stays
mount "$loop" "$tree/mnt"
serve_tree --control "$control" --subdirs yes
mkfifo "$tmp/sub"
"$stat9p" "$address" tree/mnt/d -w <"$tmp/sub" >"$tmp/sub.out" 2>&1 &
pid=$!
exec 7>"$tmp/sub"
wait_until 60 test -s "$tmp/sub.out"
run drain --store "$store" "$tree/mnt"
exits 1 "a client is attached there"
says "^$tree/mnt/d: attached to by session [0-9]+" "and is named"
exec 7>&-
wait "$pid"
wait_until 60 no_sessions
run drain --store "$store" "$tree/mnt"
exits 0 "drain after it went"
check "the host unmounts it" unmount "$tree/mnt"
run drain --store "$store" "$tree"
exits 1 "the root of an export stays"
says "^$tree: root of an export, tree" "and is named"
stop_qidmapd
tap_done
