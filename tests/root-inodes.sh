#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: whatever inode numbers filesystems make up, high bits and all, no two files of an export
# share a qid path; and each keeps its own over kill -9, remounts in another order and another order
# of first access.
#
# The filesystems are FUSE ones with chosen inode numbers (tests/lib/inofs.c). `memory:` in the same
# place must change ids: it shows that the comparison can fail.

. "$(dirname "$0")/own-mounts.sh"
set -u
. "$(dirname "$0")/lib.sh"
build=$top_builddir

mounts=${QIDMAP_TEST_MOUNTS:-40}
per_mount=${QIDMAP_TEST_FILES:-60}

need_mounts
[ -c /dev/fuse ] || skip_all "no /dev/fuse"

work=$(mktemp -d "${TMPDIR:-/tmp}/qidmap-inodes.XXXXXX")
daemon=
unmount_all() {
    local i
    for i in $(seq 1 "$mounts"); do
        mountpoint -q "$work/x/m$i" && umount "$work/x/m$i"
    done
}
stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill "-$1" "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    daemon=
}
finish() {
    stop_daemon KILL
    unmount_all
    rm -rf --one-file-system "$work"
}
on_exit finish

# Inode numbers of one mount: what real ones give (dense, from 2: 1 is the root's), what hashes give (all bits), what
# overlayfs xino gives (bit 63), one set shared by every mount, and both ends of the range.
make_list() {
    perl -e '
        my ($mount, $count) = @ARGV;
        srand(20260 + $mount);
        my %seen;
        my @fixed = (2, 3, 131, 2**31, 2**32 + 1, 2**37 - 1, 2**37, 2**40 + 7, 2**48 + 5,
                     "0x8000000000000001", "0x8000000000000083", "0xc0ffee0000000001",
                     "0xfffffffffffffeff", "0xffffffffffffff00", "0xffffffffffffffff");
        $seen{sprintf("%016x", /^0x/ ? hex : $_)} = 1 for @fixed;
        while (keys %seen < $count) {
            my $kind = int(rand(4));
            my $ino = $kind == 0 ? 2 + int(rand(5000))
                    : $kind == 1 ? (int(rand(2**32)) << 32) | int(rand(2**32))
                    : $kind == 2 ? (1 << 63) | ($mount << 50) | int(rand(100000))
                    : ((1 + int(rand(63))) << 58) | int(rand(1000));
            $seen{sprintf("%016x", $ino)} = 1 if $ino > 1;
        }
        no warnings "portable";
        print "0x$_\n" for sort keys %seen;
    ' "$1" "$2"
}

mount_in_order() {
    local i
    for i in "$@"; do
        "$build/tests/lib/inofs" "$work/list.$i" "$work/x/m$i" -o "fsname=inofs-$i,allow_other" ||
            return 1
    done
}

start_daemon() { # store
    local fifo=$work/ready
    rm -f "$fifo"
    mkfifo "$fifo"
    "$build/src/qidmapd" --export "x=$work/x" --store "$1" --listen "unix:$work/s" --ready-fd 3 \
        3>"$fifo" 2>>"$work/log" &
    daemon=$!
    read -r -t 60 line <"$fifo" && [ "$line" = READY ]
}

# All ids, as `qid_path PATH` sorted by path. -R compares Treaddir, Twalk and Tgetattr of each file.
all_ids() {
    "$build/tests/9pstat" -R "unix:$work/s" x >"$work/raw" || return 1
    awk '{ id = $1; sub(/^([^ ]+ ){3}/, ""); print id, $0 }' "$work/raw" | LC_ALL=C sort -k2
}

# The ids of the files, asked for one at a time from the last mount to the first.
backwards() {
    (cd "$work/x" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort -r) >"$work/names"
    xargs -d '\n' -n 500 "$build/tests/9pstat" "unix:$work/s" x <"$work/names" >/dev/null
}

st_devs() {
    local i
    for i in $(seq 1 "$mounts"); do stat -c '%d' "$work/x/m$i"; done | tr '\n' ' '
}

count=0
failed=0
verdict() { # description, status
    count=$((count + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $count - $1"
    else
        failed=1
        echo "not ok $count - $1"
        tail -n 5 "$work/log" 2>/dev/null | sed 's/^/# /'
    fi
}

for i in $(seq 1 "$mounts"); do
    mkdir -p "$work/x/m$i"
    make_list "$i" "$per_mount" >"$work/list.$i"
done
# Shifts every later device number, so that a key made of st_dev cannot pass by luck.
mount_in_order $(seq 1 "$mounts")
verdict "mounts $mounts filesystems of $per_mount chosen inodes" $?
devs_before=$(st_devs)

for store in "lmdb:$work/store" memory:; do
    mountpoint -q "$work/x/m1" || mount_in_order $(seq 1 "$mounts")
    start_daemon "$store"
    verdict "$store: serves" $?
    all_ids >"$work/before"
    verdict "$store: Treaddir, Twalk and Tgetattr agree on every file" $?
    total=$(wc -l <"$work/before")
    [ "$total" -ge $((mounts * per_mount)) ]
    verdict "$store: every file is seen" $?
    shared=$(cut -d' ' -f1 "$work/before" | LC_ALL=C sort | uniq -d | wc -l)
    [ "$shared" -eq 0 ]
    verdict "$store: $total files, no id twice" $?

    stop_daemon KILL
    unmount_all
    mount_in_order $(seq "$mounts" -1 1)
    [ "$store" = memory: ] || {
        [ "$(st_devs)" != "$devs_before" ]
        verdict "$store: the remount changed st_dev" $?
    }
    start_daemon "$store"
    backwards
    all_ids >"$work/after"
    changed=$(LC_ALL=C diff "$work/before" "$work/after" | grep -c '^>')
    if [ "$store" = memory: ]; then
        [ "$changed" -gt 0 ]
        verdict "$store: ids do change without a lasting store ($changed did)" $?
    else
        [ "$changed" -eq 0 ] && [ -s "$work/after" ]
        verdict "$store: no id changed after kill -9, remount and another order of access" $?
    fi
    stop_daemon TERM
    unmount_all
done

# A filesystem whose server has died answers every call with an error: its neighbours stay listed.
mkdir -p "$work/y/alive" "$work/y/dead" "$work/y/well"
"$build/tests/lib/inofs" "$work/list.1" "$work/y/dead" -o "fsname=inofs-dead"
pkill -KILL -f "inofs $work/list.1 $work/y/dead"
wait_until 60 sh -c '! stat "$0" >/dev/null 2>&1' "$work/y/dead"
verdict "a filesystem whose server has died answers with errors" $?
"$build/src/qidmapd" --export "y=$work/y" --store memory: --listen "unix:$work/s2" 2>>"$work/log" &
daemon=$!
wait_until 60 "$build/tests/9pstat" "unix:$work/s2" y / >/dev/null 2>&1
listed=$("$build/tests/9pstat" -R "unix:$work/s2" y | awk '{ print $4 }' | LC_ALL=C sort | tr '\n' ' ')
[ "$listed" = "/ /alive /well " ]
verdict "a dead mount point does not hide its neighbours (listed: $listed)" $?
stop_daemon TERM
umount "$work/y/dead"

echo "1..$count"
exit "$failed"
