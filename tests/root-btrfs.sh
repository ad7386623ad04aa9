#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: btrfs subvolumes and snapshots within one mount are filesystems of their own, and where a
# snapshot shows nested subvolumes (all of them as one inode number) each has an id of its own, the
# same in Treaddir, Twalk and Tgetattr, and after a restart and a remount.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
need_fs btrfs

mkdir "$tmp/x"
truncate -s 160M "$tmp/image"
mkfs.btrfs -q "$tmp/image" || bail_out "mkfs.btrfs failed"
mounted=
attach() {
    mount -o loop "$tmp/image" "$tmp/x" && mounted=1
}
detach() {
    [ -z "$mounted" ] || umount "$tmp/x"
    mounted=
}
on_exit detach

start() {
    start_qidmapd --export "x=$tmp/x" --store "lmdb:$tmp/store" --listen "unix:$tmp/s"
}

attach || bail_out "cannot mount btrfs"
{
    btrfs subvolume create "$tmp/x/one"
    btrfs subvolume create "$tmp/x/one/nested"
    btrfs subvolume create "$tmp/x/one/other"
    echo a >"$tmp/x/one/file"
    echo b >"$tmp/x/one/nested/file"
    btrfs subvolume snapshot "$tmp/x/one" "$tmp/x/snapshot"
} >"$tmp/log" 2>&1 || bail_out "btrfs: $(cat "$tmp/log")"
is "$(stat -c %i "$tmp/x/snapshot/nested" "$tmp/x/snapshot/other" | sort -u)" 2 \
    "the host shows both nested subvolumes of the snapshot as inode 2"

start || bail_out "the server does not start: $(tail "$qidmapd_log")"
check "Treaddir, Twalk and Tgetattr agree" \
    sh -c '"$0/tests/9pstat" -R "unix:$1/s" x >"$1/first"' "$top_builddir" "$tmp"
is "$(cut -d' ' -f1 "$tmp/first" | sort | uniq -d)" "" "no id twice"
is "$(grep -cE ' /snapshot/(nested|other)$' "$tmp/first")" 2 "the snapshot's placeholders are shown"
is "$(wc -l <"$tmp/first")" 10 "everything is shown"

stop_qidmapd KILL
detach
attach || bail_out "cannot mount btrfs again"
start || bail_out "the server does not start again: $(tail "$qidmapd_log")"
"$top_builddir/tests/9pstat" "unix:$tmp/s" x snapshot/other snapshot/nested snapshot/file one >/dev/null
"$top_builddir/tests/9pstat" -R "unix:$tmp/s" x >"$tmp/second"
is "$(cat "$tmp/second")" "$(cat "$tmp/first")" "every id is what it was"
stop_qidmapd TERM

# known by handles, a filesystem has subvolumes as it had before
ctl=$(qidmapctl_program)
fs=$("$ctl" fs identify --store "lmdb:$tmp/store" "$tmp/x" --json | sed -n 's/.*"fs":\([0-9]*\).*/\1/p' | head -n 1)
check "policy handle" "$ctl" fs policy --store "lmdb:$tmp/store" --renumber --yes "$fs" handle
start || bail_out "the server does not start with handles: $(tail "$qidmapd_log")"
check "by handle, Treaddir, Twalk and Tgetattr agree" \
    sh -c '"$0/tests/9pstat" -R "unix:$1/s" x >"$1/third"' "$top_builddir" "$tmp"
is "$(cut -d' ' -f1 "$tmp/third" | sort | uniq -d)" "" "by handle, no id twice"
is "$(grep -E ' /(one|snapshot)(/|$)' "$tmp/third")" "$(grep -E ' /(one|snapshot)(/|$)' "$tmp/first")" \
    "and subvolumes keep theirs"
stop_qidmapd TERM
tap_done
