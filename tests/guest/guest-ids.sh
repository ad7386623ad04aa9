#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: in an export of several filesystems, clones among them, every file
# has an inode number of its own in the guest, and on the persistent
# filesystems it keeps it across everything: a reboot of the guest, kill -9 of
# the server, unmounting and mounting in another order with other device
# numbers, first access in another order.
#
# guest-ids-memory.sh runs the same with a store that does not persist
# ($QIDMAP_IDS_STORE) and demands that a number changes: without that, this
# test would prove nothing.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_loop
need_fs ext4
guest_need
. "$(dirname "$0")/exports.sh"

counterpart=${QIDMAP_IDS_COUNTERPART:-}
store=lmdb:$tmp/store
[ -z "$counterpart" ] || store=memory:

# ---- the export: root and two clones on ext4, btrfs with subvolumes, xfs, tmpfs
fill() { # DIRECTORY: some of everything that has an inode number
    local i
    mkdir -p "$1/dir/below"
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "$i" >"$1/dir/file$i"; done
    echo x >"$1/dir/below/deep"
    echo "$1" >"$1/file"
    ln -s file "$1/link"
    ln "$1/file" "$1/dir/hardlink"
    mkfifo "$1/fifo"
}

have_btrfs=1 have_xfs=1
{ have_fs btrfs && command -v mkfs.btrfs >/dev/null; } || have_btrfs=
{ have_fs xfs && command -v mkfs.xfs >/dev/null; } || have_xfs=

make_image root 32M mkfs.ext4 -q -F
mount_image root ext4 "$export_dir" || bail_out "cannot mount ext4"
mkdir "$export_dir"/{a,b,btrfs,xfs,tmpfs}
make_clones a b
mkdir "$export_dir/plain"
fill "$export_dir/plain"
persistent="a b"
if [ -n "$have_btrfs" ]; then
    make_btrfs btrfs
    fill "$export_dir/btrfs"
    persistent="$persistent btrfs"
else
    skip "btrfs with two subvolumes" "no btrfs in this kernel"
fi
if [ -n "$have_xfs" ]; then
    make_xfs xfs
    persistent="$persistent xfs"
else
    skip "xfs" "no xfs in this kernel"
fi
mount -t tmpfs tmpfs "$export_dir/tmpfs" && mounted+=("$export_dir/tmpfs")
fill "$export_dir/tmpfs"

is "$(stat -c %i "$export_dir/a/file")" "$(stat -c %i "$export_dir/b/file")" \
    "two clones: one inode number for two files on the host"
declare -A old_dev
for fs in . $persistent; do
    old_dev[$fs]=$(stat -c %d "$export_dir/$fs")
done

# ---- first life: everything, in the order of the directories
cat >"$tmp/walk" <<'GUEST'
mount9p /mnt || exit 1
check "readdir names the inode numbers that stat shows" sh -c 'probe tree /mnt >/tmp/tree'
sed 's/^/1: /' /tmp/tree
probe tree /mnt >/tmp/again
check "every inode number is the same when asked again" cmp /tmp/tree /tmp/again
umount /mnt
GUEST
server_start "$export_dir" "$store" || bail_out "the server does not start: $(tail "$qidmapd_log")"
guest_run "$tmp/walk" "${guest_server[@]}"
is "$?" 0 "first guest: the script ended well"
sed -n 's/^1: //p' "$guest_output" >"$tmp/first"
[ -s "$tmp/first" ] || bail_out "no numbers from the guest: $(cat "$guest_output")"

# unique FILE: one line for each number that two objects share; hard links are
# told by their link count and belong to one filesystem each.
unique() {
    awk '{ line[$1] = line[$1] " " $4; n[$1]++; links[$1] = $2; type[$1] = $3 }
         END { for (i in n) if (n[i] > 1 && !(type[i] == "f" && links[i] == n[i])) print i ":" line[i] }' "$1"
}
paths=$(wc -l <"$tmp/first")
is "$(unique "$tmp/first")" "" "every one of $paths inode numbers in the guest is unique"
expected_links=$(awk '$3 == "f" && $2 == 2 && $4 ~ /\/file$/ { n++ } END { print n + 0 }' "$tmp/first")
is "$(awk '$4 ~ /\/(dir\/hardlink|file)$/ { print $1 }' "$tmp/first" | sort | uniq -d | wc -l)" \
    "$expected_links" "hard links show one number"
find "$export_dir" ! -name lost+found | wc -l >"$tmp/host-count"
is "$(grep -vc '/lost+found$' "$tmp/first")" "$(cat "$tmp/host-count")" "the guest sees every file"

# ---- kill -9, other devices, other order
server_stop KILL
exports_release
decoy_loop
decoy_mount
reversed=
for fs in $persistent; do reversed="$fs $reversed"; done
mount_image root ext4 "$export_dir" "" "${old_dev[.]}" || bail_out "cannot mount the root again"
mount -t tmpfs tmpfs "$export_dir/tmpfs" && mounted+=("$export_dir/tmpfs")
fill "$export_dir/tmpfs"
for fs in $reversed; do
    case $fs in
    a | b) type=ext4 ;;
    *) type=$fs ;;
    esac
    mount_image "$fs" "$type" "$export_dir/$fs" "" "${old_dev[$fs]}" || bail_out "cannot mount $fs again"
done
for fs in . $persistent; do
    dev=$(stat -c %d "$export_dir/$fs")
    if [ "$dev" != "${old_dev[$fs]}" ]; then
        ok "st_dev of $fs has changed (${old_dev[$fs]} -> $dev)"
    else
        not_ok "st_dev of $fs has changed" "still $dev: this run proves nothing"
    fi
done

# ---- second life: the same paths, last one first
awk '{ print $4 }' "$tmp/first" | grep -v '^/mnt/tmpfs' | tac >"$tmp/paths"
cat >"$tmp/walk-back" <<'GUEST'
mount9p /mnt || exit 1
check "every path is there" sh -c 'probe stat </test/paths >/tmp/persistent'
sed 's/^/2: /' /tmp/persistent
check "readdir names the inode numbers that stat shows" sh -c 'probe tree /mnt >/tmp/tree'
sed 's/^/3: /' /tmp/tree
umount /mnt
GUEST
server_start "$export_dir" "$store" || bail_out "the server does not start: $(tail "$qidmapd_log")"
guest_run "$tmp/walk-back" "${guest_server[@]}" "+$tmp/paths"
is "$?" 0 "second guest: the script ended well"
sed -n 's/^2: //p' "$guest_output" | sort -k 4 >"$tmp/second"
sed -n 's/^3: //p' "$guest_output" >"$tmp/all"
is "$(unique "$tmp/all")" "" "every inode number is unique again"
grep -v ' /mnt/tmpfs' "$tmp/first" | sort -k 4 >"$tmp/wanted"
changed=$(join -1 4 -2 4 -o 0,1.1,2.1 "$tmp/wanted" "$tmp/second" |
    awk '$2 != $3 { print $1 ": " $2 " -> " $3 }')
count=$(wc -l <"$tmp/wanted")
is "$(wc -l <"$tmp/second")" "$count" "all $count paths of the persistent filesystems answered"
if [ -z "$counterpart" ]; then
    is "$changed" "" "every inode number on the persistent filesystems is what it was"
elif [ -n "$changed" ]; then
    ok "without a store, inode numbers change ($(wc -l <<<"$changed") of $count)"
    tap_diag "$(head -n 8 <<<"$changed")"
else
    not_ok "without a store, inode numbers change" \
        "not one of $count did: guest-ids.sh would pass whatever the server does"
fi
server_stop TERM
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
