#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a clone (dd) of ext4, xfs and btrfs shares the identity of its original, but what tells
# them apart is found: superblock, backing file, marker; and by their markers they are known even
# after their image files were exchanged. A uuid that is changed while mounted renumbers nothing.
# Filesystems without a call for their uuid are known by what stands on the device.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
identify=$top_builddir/tests/lib/identify

cd "$tmp" || exit 1
mkdir m m2
undo() {
    cd / || return
    umount "$tmp/m" 2>/dev/null
    umount "$tmp/m2" 2>/dev/null
}
on_exit undo
what() { "$identify" "$1" | cut -d' ' -f3-; }
register() { "$identify" --register "lmdb:$tmp/store" "$@"; }

clone() { # NAME OPTIONS PLACE-BELOW
    local name=$1 options=loop$2 rows marker other old
    cp "$name" "$name.copy"
    mount -o "$options" "$name" m && mount -o "$options" "$name.copy" m2 || {
        umount m 2>/dev/null
        skip "$name: clones" "no mounted clones of $name in this kernel"
        return
    }
    is "$(what m)" "$(what m2)" "$name: clones have one identity"
    [ "$(stat -c %d m)" != "$(stat -c %d m2)" ]
    is $? 0 "$name: and are two filesystems"
    marker=$("$identify" --mark m)
    other=$("$identify" --mark m2)
    [ -n "$marker" ] && [ "$marker" != "$other" ]
    is $? 0 "$name: each gets a marker of its own"
    rows=$(register m m2)
    is "$(echo "$rows" | tr ' ' '\n' | sort -u | wc -l)" 2 "$name: each has a row"
    umount m m2
    # The images change names: what was m is mounted as m2, from the file of the other.
    mv "$name" swap && mv "$name.copy" "$name" && mv swap "$name.copy"
    mount -o "$options" "$name" m && mount -o "$options" "$name.copy" m2
    is "$(register m2 m)" "$rows" "$name: rows follow the markers, not names and places"
    umount m m2
    mount -o "$options" "$name" m
    is "$(register m)" "${rows#* }" "$name: one alone is known, too"
    umount m
}

truncate -s 16M ext4
mkfs.ext4 -q ext4 && clone ext4 ""
if have_fs xfs && command -v mkfs.xfs >/dev/null; then
    truncate -s 300M xfs
    mkfs.xfs -q xfs && clone xfs ,nouuid
else
    skip "xfs: clones" "no xfs in this kernel"
fi
if have_fs btrfs && command -v mkfs.btrfs >/dev/null; then
    truncate -s 128M btrfs
    if mkfs.btrfs -q btrfs >/dev/null 2>&1; then
        mount -o loop btrfs m && btrfs subvolume create m/sub >/dev/null && umount m
        clone btrfs ""
        # Subvolumes: one superblock, identities of their own, the marker of the whole.
        mount -o loop btrfs m && mount -o loop btrfs.copy m2
        if mountpoint -q m2; then
            is "$(what m/sub)" "$(what m2/sub)" "btrfs: subvolumes of clones have one identity"
            [ "$(what m/sub)" != "$(what m)" ]
            is $? 0 "btrfs: which is not that of the top level"
            rows=$(register m m/sub m2 m2/sub)
            is "$(echo "$rows" | tr ' ' '\n' | sort -u | wc -l)" 4 "btrfs: four rows"
            check "btrfs: explain tells of the temporary uuid" sh -c \
                '"$0" --explain "$1" | grep "^btrfs 0" | grep -q "the visible uuid is another"' \
                "$identify" "$tmp/m2"
            umount m m2
            mount -o loop btrfs.copy m && mount -o loop btrfs m2
            is "$(register m2 m2/sub m m/sub)" "$rows" "btrfs: the same in the other order"
            check "btrfs: which of them is the temporary one has changed" sh -c \
                '! "$0" --explain "$1" | grep "^btrfs 0" | grep -q "the visible uuid is another"' \
                "$identify" "$tmp/m"
            umount m2
        fi
        umount m
    fi
else
    skip "btrfs: clones" "no btrfs in this kernel"
fi

# ---- the uuid changes while it is mounted ----------------------------------------------------
truncate -s 16M changing && mkfs.ext4 -q -O metadata_csum_seed changing
mount -o loop changing m
row=$(register m)
before=$(what m)
if ! "$identify" --explain m | grep -q '^uuid 0'; then
    skip "ext4: a new uuid while mounted" "no FS_IOC_GETFSUUID in this kernel"
elif tune2fs -U random "$(findmnt -no SOURCE m)" >/dev/null 2>&1; then
    [ "$(what m)" != "$before" ]
    is $? 0 "ext4: a new uuid shows while mounted, beside the old one"
    is "$(register m)" "$row" "ext4: and leaves the row"
    umount m
    mount -o loop changing m
    [ "$(what m)" != "$before" ]
    is $? 0 "ext4: after a remount only the new uuid is there"
    is "$(register m)" "$row" "ext4: and leads to the row"
else
    skip "ext4: a new uuid while mounted" "tune2fs does not change it online"
fi
umount m

# ---- what libblkid reads ---------------------------------------------------------------------
by_device() { # TYPE COMMAND...
    local type=$1 id error
    shift
    if ! have_fs "$type"; then
        skip "$type: known by its device" "no $type in this kernel"
        return
    fi
    if ! error=$("$@" 2>&1 >/dev/null) || ! error=$(mount -o loop -t "$type" image m 2>&1); then
        not_ok "$type: known by its device" "$error"
        return
    fi
    id=$(what m)
    case "$id" in
    uuid:*) ok "$type: known by its device" ;;
    *) not_ok "$type: known by its device" "$id" ;;
    esac
    umount m
    mount -o loop -t "$type" image m2
    is "$(what m2)" "$id" "$type: the same at another place"
    umount m2
    rm -f image
}
mkdir -p content && echo x >content/file
by_device vfat mkfs.vfat -C image 8192
by_device erofs mkfs.erofs image content
by_device f2fs sh -c 'truncate -s 64M image && mkfs.f2fs -q image'
by_device iso9660 xorriso -as mkisofs -o image content

# ---- in RAM ----------------------------------------------------------------------------------
mount -t tmpfs none m && mount -t tmpfs none m2
id=$(what m)
[ "$id" != "$(what m2)" ]
is $? 0 "two tmpfs are two"
umount m2
mount --bind m m2
is "$(what m2)" "$id" "a bind mount of one is that one"
umount m2 && umount m
mount -t tmpfs none m
[ "$(what m)" != "$id" ]
is $? 0 "another tmpfs in its place is another"
umount m
mount -t proc proc m
id=$(what m)
mount --bind m m2
is "$(what m2)" "$id" "a bind mount of proc is that proc"
umount m2 && umount m
tap_done
