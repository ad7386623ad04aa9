#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: an xattr: store works on ext4 (inodes of 256 and of 128 bytes, another xattr beside it,
# with and without ea_inode), xfs, btrfs and tmpfs: 100 affix entries over 16 filesystems fit; every
# id stays over kill -9 and a remount; a copy of the tree has its store with it; and where no store
# can be kept the start fails with a word that names lmdb:.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_root
need_loop

mnt=$tmp/mnt
daemon=
mkdir "$mnt"
stop_daemon() { # SIGNAL
    [ -n "$daemon" ] || return 0
    kill "-$1" "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    daemon=
}
on_exit 'stop_daemon KILL; umount "$mnt/inner" 2>/dev/null; umount "$mnt" 2>/dev/null'

start_daemon() { # DIR
    rm -f "$tmp/sock" "$tmp/log"
    "$top_builddir/src/qidmapd" --export "x=$1" --store "xattr:$1" --listen "unix:$tmp/sock" \
        2>"$tmp/log" &
    daemon=$!
    wait_until 60 "$top_builddir/tests/9pstat" "unix:$tmp/sock" x / >/dev/null 2>&1
}
ids() { "$top_builddir/tests/9pstat" -R "unix:$tmp/sock" x | awk '{ print $1, $4 }' | sort; }

make_fs() { # KIND
    rm -f "$tmp/image"
    truncate -s 400M "$tmp/image"
    case $1 in
    ext4-256) mkfs.ext4 -q -b 4096 -I 256 "$tmp/image" ;;
    ext4-128) mkfs.ext4 -q -b 4096 -I 128 "$tmp/image" ;;
    ext4-ea_inode) mkfs.ext4 -q -b 4096 -O ea_inode "$tmp/image" ;;
    ext4-1k) mkfs.ext4 -q -b 1024 "$tmp/image" ;;
    xfs) mkfs.xfs -q "$tmp/image" ;;
    btrfs) mkfs.btrfs -q "$tmp/image" ;;
    tmpfs) return 0 ;;
    esac >/dev/null 2>&1
}
mount_fs() { # KIND
    case $1 in
    tmpfs) mount -t tmpfs -o size=64m tmpfs "$mnt" ;;
    *) mount -o loop "$tmp/image" "$mnt" ;;
    esac
}

for kind in ext4-256 ext4-128 ext4-ea_inode xfs btrfs tmpfs; do
    if ! have_fs "${kind%%-*}"; then
        skip "$kind" "no ${kind%%-*} in this kernel"
        continue
    fi
    if ! make_fs "$kind" || ! mount_fs "$kind"; then
        not_ok "$kind: is made and mounted"
        continue
    fi
    # ---- room
    mkdir "$mnt/room"
    setfattr -n trusted.other -v "$(printf '%0100d' 0)" "$mnt/room"
    out=$(QIDMAP_TEST_XATTR_DIR=$mnt/room "$top_builddir/tests/unit-xattr" -p /xattr/real-room 2>&1)
    if grep -q '^ok 1 ' <<<"$out" && ! grep -q SKIP <<<"$out"; then
        ok "$kind: 100 affix entries over 16 filesystems, and as many more as fit"
    else
        not_ok "$kind: 100 affix entries over 16 filesystems, and as many more as fit" "$out"
    fi
    grep -E '^# (room|[0-9]+ entries)' <<<"$out" | sed "s/^# /# $kind: /"
    is "$(getfattr --only-values -n trusted.other "$mnt/room" 2>/dev/null | wc -c)" 100 \
        "$kind: the other xattr is still there"
    "$top_builddir/tools/qidmapctl" dump --store "xattr:$mnt/room" >"$tmp/dump.1"

    is "$(grep -c '^affix' "$tmp/dump.1" | awk '{ print ($1 >= 100) }')" 1 \
        "$kind: dump shows the entries"

    # ---- ids over the wire
    mkdir -p "$mnt/e/sub" "$mnt/inner"
    touch "$mnt/e/one" "$mnt/e/sub/two"
    start_daemon "$mnt" || not_ok "$kind: serves" "$(cat "$tmp/log")"
    ids >"$tmp/ids.1"
    stop_daemon KILL
    if [ "$kind" != tmpfs ]; then
        umount "$mnt"
        mount_fs "$kind" || bail_out "$kind: cannot be mounted again"
    fi
    touch "$mnt/e/later"
    start_daemon "$mnt" || not_ok "$kind: serves again" "$(cat "$tmp/log")"
    ids | grep -v later >"$tmp/ids.2"
    if [ -s "$tmp/ids.1" ] && cmp -s "$tmp/ids.1" "$tmp/ids.2"; then
        ok "$kind: $(wc -l <"$tmp/ids.1") ids are the same after kill -9 and a remount"
    else
        not_ok "$kind: ids are the same after kill -9 and a remount" \
            "$(diff "$tmp/ids.1" "$tmp/ids.2")"
    fi
    is "$("$top_builddir/tools/qidmapctl" dump --store "xattr:$mnt/room" | cmp - "$tmp/dump.1" 2>&1)" \
        "" "$kind: the full store says the same after the remount"
    is "$("$top_builddir/tools/qidmapctl" status --json --store "xattr:$mnt" |
        grep -c '"rows_room":"[0-9]*[1-9]')" 1 "$kind: status says how many rows are left"
    # ---- one writer
    err=$("$top_builddir/src/qidmapd" --export "x=$mnt" --store "xattr:$mnt" \
        --listen "unix:$tmp/sock2" 2>&1)
    case $err in
    *"qidmapd (pid $daemon)"*) ok "$kind: a second writer is refused, by name and pid" ;;
    *) not_ok "$kind: a second writer is refused, by name and pid" "$err" ;;
    esac
    stop_daemon TERM
    # ---- it travels
    cp -a "$mnt/room" "$mnt/copy"
    is "$("$top_builddir/tools/qidmapctl" dump --store "xattr:$mnt/copy" | cmp - "$tmp/dump.1" 2>&1)" \
        "" "$kind: cp -a takes the store with the tree"
    # ---- read-only
    mount -o remount,ro "$mnt"
    err=$("$top_builddir/src/qidmapd" --export "x=$mnt" --store "xattr:$mnt" \
        --listen "unix:$tmp/sock2" 2>&1)
    case $err in
    *lmdb:*) ok "$kind: read-only, the start fails and names lmdb:" ;;
    *) not_ok "$kind: read-only, the start fails and names lmdb:" "$err" ;;
    esac
    umount "$mnt"
done

# ext4 with blocks of 1 KiB has no room for 16 filesystems: refused, and not begun.
if make_fs ext4-1k && mount_fs ext4-1k; then
    err=$("$top_builddir/src/qidmapd" --export "x=$mnt" --store "xattr:$mnt" \
        --listen "unix:$tmp/sock2" 2>&1)
    case $err in
    *"no room"*lmdb:*) ok "ext4 with blocks of 1 KiB: the start fails and names lmdb:" ;;
    *) not_ok "ext4 with blocks of 1 KiB: the start fails and names lmdb:" "$err" ;;
    esac
    is "$(getfattr -d -m - "$mnt" 2>/dev/null)" "" "ext4 with blocks of 1 KiB: nothing is left there"
    umount "$mnt"
fi

# A filesystem without xattrs.
if mount -t ramfs ramfs "$mnt" 2>/dev/null; then
    err=$("$top_builddir/src/qidmapd" --export "x=$mnt" --store "xattr:$mnt" \
        --listen "unix:$tmp/sock2" 2>&1)
    case $err in
    *lmdb:*) ok "ramfs: the start fails and names lmdb:" ;;
    *) not_ok "ramfs: the start fails and names lmdb:" "$err" ;;
    esac
    umount "$mnt"
else
    skip "a filesystem without xattrs" "no ramfs in this kernel"
fi
tap_done
