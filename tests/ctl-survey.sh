#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl survey counts the files of a tree and the collisions of each way of making ids,
# names two files that do collide, and says what qidmap needs; it changes nothing in the tree, needs
# no store and no root, and says what it could not see. Without root: on a plain tree, with hard
# links, symlinks, odd names and a folder that is locked. With root: on FUSE mounts of chosen inode
# numbers, whose collisions are known beforehand, and on bind mounts.

# mounts are made where nobody else sees them
if [ "$(id -u)" = 0 ] && [ -z "${QIDMAP_TEST_NS:-}" ] && unshare -m true 2>/dev/null; then
    QIDMAP_TEST_NS=1 exec unshare -m --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

finds() { # STATUS DESCRIPTION: of the last run, which found something, and had no trouble itself
    is "$status $err" "$1 " "$2"
}
field() { # JQ-EXPRESSION: of the last run's JSON
    printf '%s\n' "$out" | jq -r "$1"
}
collisions() { # WAY
    field ".ways[] | select(.way == \"$1\") | .collisions"
}
example() { # WAY: the two names, sorted, in one line
    field ".ways[] | select(.way == \"$1\") | .paths | sort | join(\" \")"
}
command -v jq >/dev/null || skip_all "no jq program"

make_tree || bail_out "cannot make the tree"
before=$(find "$tree" -printf '%p %i %s %T@\n' | LC_ALL=C sort)
names=$(find "$tree" -printf x | wc -c)
files=$(find "$tree" -printf '%i\n' | sort -u | wc -l)

run survey "$tree"
exits 0 "a plain tree has no collisions"
says "^$tree: $names names, $files files, 3 of them directories" "names, files and directories are counted"
says 'raw inode number +0$' "raw inode numbers are judged"
says 'qidmap +0$' "qidmap is judged"
run survey "$tree" --json
exits 0 "survey --json"
is "$(wc -l <<<"$out")" 1 "is one object"
is "$(field .names)" "$names" "which counts the names"
is "$(field .files)" "$files" "and a file with two names once"
is "$(field '[.ways[].way] | join(" ")')" "raw xor hash qemu-remap qidmap" "and has each way"
is "$(field '.filesystems | length')" 1 "and the filesystem"
is "$(field '.filesystems[0].files')" "$files" "with its files"
is "$(find "$tree" -printf '%p %i %s %T@\n' | LC_ALL=C sort)" "$before" "the tree has not changed"

run survey "$tree/symlink"
exits 3 "a symlink to a file"
run survey "$tree/absent"
exits 3 "a folder that is not there"
complains "$tree/absent" "is named"
run survey "$tree/one"
exits 3 "a file"
run survey
exits 2 "no folder"
run survey "$tree" "$tree"
exits 2 "two folders"
run survey --store "$store" "$tree"
exits 2 "a store"

# a link out of the tree is a file, and not a way
mkdir "$tmp/outside" && touch "$tmp/outside/a" "$tmp/outside/b" && ln -s "$tmp/outside" "$tree/out"
run survey "$tree" --json
is "$(field .names)" $((names + 1)) "a symlink is not followed"

# no room for the output
if [ -c /dev/full ]; then
    "$ctl" survey "$tree" >/dev/full 2>"$tmp/err"
    is $? 3 "no room for the output"
fi

# a locked folder: only its content is missing
mkdir "$tree/locked" && touch "$tree/locked/x" && chmod 0 "$tree/locked"
as_nobody=
if have_root; then
    if command -v setpriv >/dev/null; then
        chmod 755 "$tmp"
        as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
    fi
fi
out=$(cd / && $as_nobody "$ctl" survey "$tree" --json 2>"$tmp/err")
status=$?
if have_root && { [ -z "$as_nobody" ] || [ "$status" = 126 ] || [ "$status" = 127 ]; }; then
    ok "a locked folder (the program is out of that user's reach)"
else
    is "$status" 0 "a survey by an ordinary user"
    is "$(field .unread)" 1 "counts the locked folder"
    is "$(field .first_unread)" "$tree/locked" "and names it"
    is "$(field .names)" $((names + 2)) "and sees the rest"
    is "$(field .root)" false "and says that it is not root"
fi
chmod 755 "$tree/locked"

# a progress line comes on a terminal only
run survey "$tree"
is "$err" "" "nothing on stderr without a terminal"

inofs=$(find_program inofs)
if ! have_root; then
    skip "chosen inode numbers" "no root"
    tap_done
elif ! have_mounts; then
    skip "chosen inode numbers" "no mounts allowed"
    tap_done
elif [ ! -c /dev/fuse ] || [ -z "$inofs" ]; then
    skip "chosen inode numbers" "no /dev/fuse"
    tap_done
fi

x=$tmp/x
mkdir -p "$x/m1" "$x/m2" "$x/m3" "$x/again"
unmount_all() {
    local m
    for m in again m1 m2 m3 plain; do
        mountpoint -q "$x/$m" && umount "$x/$m"
    done
}
# Everything below is in a filesystem of its own, so that st_ino of the rest is known, too.
mount -t tmpfs none "$x" || bail_out "tmpfs"
on_exit 'umount "$x"'
on_exit unmount_all
mkdir -p "$x/m1" "$x/m2" "$x/m3" "$x/again"

# m1: for QEMU's remap; bits 63 and 62 differ, the others do not
printf '%s\n' 1000000 0x80000000000f4240 0xc0000000000f4240 >"$tmp/list1"
# m2: an inode number of m1
printf '%s\n' 1000000 2000000 >"$tmp/list2"
"$inofs" "$tmp/list1" "$x/m1" -o fsname=survey-1,allow_other || bail_out "inofs"
"$inofs" "$tmp/list2" "$x/m2" -o fsname=survey-2,allow_other || bail_out "inofs"

run survey "$x" --json
finds 1 "collisions give exit status 1"
# the roots of both have inode 1, as that of the tmpfs; 1000000 is in both
is "$(collisions raw)" 3 "raw inode numbers: both roots with a third one, and one file"
# FUSE is not met first here, so that its devices compare 3 bits: nothing is lost
is "$(collisions qemu-remap)" 0 "QEMU's remap, with the tmpfs met first"
is "$(collisions qidmap)" 0 "qidmap"
is "$(collisions hash)" 0 "the hash"

run survey "$x/m1" --json
finds 1 "QEMU's remap alone gives exit status 1"
is "$(collisions raw)" 0 "raw inode numbers within one filesystem"
is "$(collisions qemu-remap)" 1 "QEMU's remap: two files of one device"
is "$(example qemu-remap)" "$x/m1/f-80000000000f4240 $x/m1/f-c0000000000f4240" "it names them"
is "$(collisions qidmap)" 0 "qidmap keeps them apart"
is "$(field .affix_rows)" "$(field '.filesystems[0].affix_rows')" "affix entries are summed up"
[ "$(field .affix_rows)" -ge 3 ] && ok "each high part needs an affix entry" ||
    not_ok "affix entries" "$out"

run survey "$x/m1"
finds 1 "as text"
says 'QEMU, multidevs=remap +1$' "the text counts it"
says "and  $x/m1/f-[8c]0000000000f4240" "and names the files"

# XOR: an inode that is that of the other one, XOR their device numbers
dev1=$(stat -c %d "$x/m1")
printf '%s\n' 4711 >"$tmp/list1"
umount "$x/m1"
"$inofs" "$tmp/list1" "$x/m1" -o fsname=survey-1,allow_other || bail_out "inofs"
dev1=$(stat -c %d "$x/m1")
# The device number of a mount that is gone is given to the next one, unless somebody else on this
# machine mounts in between; it is checked.
made=
echo 1 >"$tmp/list3"
for guess in {1..100}; do
    "$inofs" "$tmp/list3" "$x/m3" -o fsname=survey-3,allow_other || bail_out "inofs"
    dev3=$(stat -c %d "$x/m3")
    [ "$dev3" != "${meant:-}" ] || { made=1 && break; }
    umount "$x/m3"
    meant=$dev3
    printf '0x%016x\n' $((4711 ^ ((dev1 ^ meant) << 32))) >"$tmp/list3"
done
if [ -n "$made" ]; then
    run survey "$x" --json
    is "$(collisions xor)" 1 "inode XOR device: a pair made for it"
    is "$(example xor)" "$x/m1/f-0000000000001267 $x/m3/f-$(sed 's/0x//' "$tmp/list3")" "it names them"
    is "$(collisions qidmap)" 0 "qidmap keeps them apart"
else
    not_ok "inode XOR device" "the device number of the next mount could not be foretold"
fi

# one filesystem at two places is one, and its files are counted once
mkdir -p "$x/plain"
mount -t tmpfs none "$x/plain" && touch "$x/plain/a" "$x/plain/b"
run survey "$x" --json
once=$(field .files)
list=$(field '.filesystems | length')
mount --bind "$x/plain" "$x/again" || bail_out "bind"
run survey "$x" --json
# the mount point itself is hidden now
is "$(field .files)" $((once - 1)) "files of a bind mount are not counted twice"
is "$(field '.filesystems | length')" "$list" "nor is their filesystem"
umount "$x/again" "$x/plain"

# hashed inodes use the affix budget up; the rest goes to the full map
perl -e 'srand 4; printf "0x%08x%08x\n", 0x80000000 | rand(2**31), rand(2**32) for 1 .. 300' >"$tmp/list1"
umount "$x/m1"
"$inofs" "$tmp/list1" "$x/m1" -o fsname=survey-1,allow_other || bail_out "inofs"
run survey "$x/m1" --json
is "$(collisions qidmap)" 0 "hashed inodes: qidmap"
is "$(field .affix_rows)" 16 "the budget of affix entries is used up"
[ "$(field .full_rows)" -ge 100 ] && ok "and the rest is in the full map" || not_ok "full map" "$out"
is "$(field '.filesystems[0].certainty')" weak "FUSE is recognised by names only, and that is said"

# btrfs: a snapshot shows nested subvolumes as empty directories of inode 2, all of one st_dev
if ! have_fs btrfs; then
    skip "btrfs placeholders" "no btrfs in this kernel"
elif ! have_loop; then
    skip "btrfs placeholders" "no loop devices"
else
    mkdir "$x/b"
    truncate -s 128M "$tmp/btrfs.img"
    mkfs.btrfs -q "$tmp/btrfs.img" >/dev/null 2>&1 && mount -o loop "$tmp/btrfs.img" "$x/b" || bail_out "btrfs"
    on_exit 'mountpoint -q "$x/b" && umount "$x/b"'
    {
        btrfs subvolume create "$x/b/a"
        btrfs subvolume create "$x/b/a/n1"
        btrfs subvolume create "$x/b/a/n2"
        touch "$x/b/a/file" "$x/b/a/n1/file"
        btrfs subvolume snapshot "$x/b/a" "$x/b/s"
    } >/dev/null || bail_out "btrfs subvolume"
    run survey "$x/b" --json
    is "$(field .files)" "$(find "$x/b" -printf x | wc -c)" "btrfs: two placeholders are two files"
    is "$(field '.filesystems | length')" 5 "subvolumes and the snapshot are filesystems of their own"
    is "$(collisions qidmap)" 0 "qidmap keeps placeholders apart"
    [ "$(collisions raw)" -ge 6 ] && ok "raw inode numbers do not" || not_ok "raw" "$out"
    is "$(field '[.ways[].refused] | unique | join(",")')" 0 "every file gets an id"
    umount "$x/b"
fi

# overlay of layers on two filesystems: where it has no xino its files show the layers' devices
if ! have_fs overlay; then
    skip "overlay" "no overlay in this kernel"
else
    mkdir -p "$x/l1" "$x/l2" "$x/up" "$x/o"
    mount -t tmpfs none "$x/l1" && mount -t tmpfs none "$x/l2" && mount -t tmpfs none "$x/up" || bail_out "tmpfs"
    on_exit 'umount "$x/l1" "$x/l2" "$x/up"'
    mkdir "$x/up/u" "$x/up/w"
    touch "$x/l1/a" "$x/l1/b" "$x/l2/c" "$x/l2/d"
    for xino in off on; do
        mount -t overlay none -o "lowerdir=$x/l1:$x/l2,upperdir=$x/up/u,workdir=$x/up/w,xino=$xino" "$x/o" ||
            bail_out "overlay"
        on_exit 'mountpoint -q "$x/o" && umount "$x/o"'
        touch "$x/o/e"
        run survey "$x/o" --json
        is "$(field .files)" 6 "overlay, xino=$xino: files"
        is "$(collisions qidmap)" 0 "overlay, xino=$xino: qidmap"
        is "$(field '[.filesystems[].fs] | unique | length')" 1 "overlay, xino=$xino: one filesystem"
        is "$(field '.ways[] | select(.way == "qidmap") | .refused')" 0 "overlay, xino=$xino: each gets an id"
        umount "$x/o"
    done
fi

# a filesystem whose server has died
umount "$x/m3" 2>/dev/null
"$inofs" "$tmp/list2" "$x/m3" -o fsname=survey-dead || bail_out "inofs"
kill -KILL "$(pgrep -f "inofs $tmp/list2 $x/m3")"
wait_until 60 sh -c '! stat "$0" >/dev/null 2>&1' "$x/m3"
run survey "$x" --json
is "$(field .unread)" 1 "a dead filesystem is counted as not read"
is "$(field .first_unread)" "$x/m3" "and named"
umount "$x/m3"
tap_done
