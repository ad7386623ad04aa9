#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: an overlay is one filesystem with one identity, whichever of its files is asked about,
# after a remount, with xino or without it, after a copy-up, from a bind mount of a part of it; two
# overlays over the same lower layers are two; and where files cannot be told apart, that is said.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
need_fs overlay
identify=$top_builddir/tests/lib/identify

cd "$tmp" || exit 1
mkdir a b c m m2 m3
undo() {
    local d
    cd / || return
    for d in m3 m2 m a b c; do
        while mountpoint -q "$tmp/$d"; do umount "$tmp/$d" || break; done
    done
}
on_exit undo

truncate -s 16M A B
mkfs.ext4 -q A && mkfs.ext4 -q B || bail_out "mkfs.ext4 failed"
mount -o loop A a && mount -o loop B b || bail_out "cannot mount ext4"
mkdir -p a/up a/work a/up2 a/work2 a/low b/low/dir
echo one >b/low/one
echo two >b/low/dir/two
echo three >a/low/three
ln -s one b/low/link

over() { # PLACE OPTIONS
    mount -t overlay over -o "$2" "$1" || bail_out "cannot mount an overlay with $2"
}
what() { # PATH...: the identities, without flags
    "$identify" "$@" | sed 's/ flags=[0-9]*//'
}
policy() { "$identify" "$1" | cut -d' ' -f1; }
keys() { # DIR: the key of each file
    (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | while read -r f; do
        printf '%s %s\n' "$f" "$("$identify" --key "$f")"
    done)
}
shared_keys() { cut -d' ' -f2 | sort | uniq -d; }

lowers="lowerdir=$tmp/b/low:$tmp/a/low"
full="$lowers,upperdir=$tmp/a/up,workdir=$tmp/a/work"

# ---- without xino: handles -------------------------------------------------------------------
over m "$full,xino=off"
is "$(stat -c %d m/one m/three m | sort -u | wc -l)" 3 "the host shows three st_dev in one overlay"
echo new >m/new
first=$(policy m)
if [ "$first" = handle ]; then
    ok "its policy is handle"
    id=$(what m)
    is "$(what m/one m/three m/new m/dir m/dir/two m/link | sort -u)" "$id" \
        "every file of it shows one identity"
    mount --bind m/dir m3
    is "$(what m3 m3/two | sort -u)" "$id" "so does a bind mount of a folder of it"
    umount m3
    keys m >keys.1
    is "$(shared_keys <keys.1)" "" "no two files share a handle"
    echo more >>m/one
    chmod 700 m/dir
    keys m >keys.2
    is "$(cat keys.2)" "$(cat keys.1)" "a copy-up changes no handle"
    umount m
    echo 3 >/proc/sys/vm/drop_caches
    over m "$full,xino=off"
    is "$(what m)" "$id" "it is the same after a remount"
    keys m >keys.3
    is "$(cat keys.3)" "$(cat keys.1)" "and its handles are"
    umount m
    umount a b
    mount -o loop B b && mount -o loop A a || bail_out "cannot mount ext4 again"
    over m2 "$full,xino=off"
    is "$(what m2)" "$id" "also elsewhere, with other device numbers below"
    keys m2 >keys.4
    is "$(cat keys.4)" "$(cat keys.1)" "and its handles are"
    umount m2

    # Layers named by where the mounter stood.
    (cd "$tmp" && mount -t overlay over -o \
        lowerdir=b/low:a/low,upperdir=a/up,workdir=a/work,xino=off m)
    is "$(what m)" "$id" "relative names of layers lead to the same"
    umount m

    # The same overlay with xino has the identity of before, and another policy.
    over m "$full,xino=on"
    is "$(policy m)" affix "with xino its policy is affix"
    is "$(what m | cut -d' ' -f2-)" "$(echo "$id" | cut -d' ' -f2-)" "and its identity what it was"
    keys m >keys.5
    is "$(shared_keys <keys.5)" "" "no two files share an inode"
    umount m
else
    is "$first" ephemeral "without AT_HANDLE_FID its policy is ephemeral"
    umount m
fi

# ---- all on one filesystem -------------------------------------------------------------------
over m "lowerdir=$tmp/a/low,upperdir=$tmp/a/up2,workdir=$tmp/a/work2"
is "$(policy m)" affix "with all layers on one filesystem the policy is affix"
umount m

# ---- two containers over the same lower layers -----------------------------------------------
second="$lowers,upperdir=$tmp/a/up2,workdir=$tmp/a/work2"
over m "$full,xino=on"
over m2 "$second,xino=on"
is "$(what m m2 | cut -d' ' -f2- | tr ' ' '\n' | sort | uniq -d)" "" \
    "overlays over the same lower layers have nothing in common"
rows=$("$identify" --register "lmdb:$tmp/store" m m2)
is "$(echo "$rows" | tr ' ' '\n' | sort -u | wc -l)" 2 "each has a row"
umount m m2
over m "$second,xino=on"
over m2 "$full,xino=on"
is "$("$identify" --register "lmdb:$tmp/store" m2 m)" "$rows" "each finds it again in the other's place"
umount m m2

# Read-only ones: the layers are all there is, and these are the same.
over m "$lowers"
over m2 "$lowers"
over m3 "lowerdir=$tmp/a/low:$tmp/b/low"
if [ "$first" = handle ]; then
    is "$(what m)" "$(what m2)" "read-only overlays of the same layers have one identity"
else
    [ "$(what m)" != "$(what m2)" ]
    is $? 0 "without AT_HANDLE_FID each mount of the same layers is an instance of its own"
fi
[ "$(what m)" != "$(what m3)" ]
is $? 0 "in another order they have another"
umount m3
mkdir a/low2
over m3 "lowerdir=$tmp/b/low:$tmp/a/low2"
[ "$(what m)" != "$(what m3)" ]
is $? 0 "and with another folder of the same filesystem"
rows=$("$identify" --register "lmdb:$tmp/store" m m2 m3)
is "$(echo "$rows" | tr ' ' '\n' | sort -u | wc -l)" 3 "live together each has a row all the same"
umount m m2 m3

# ---- names that need escapes -----------------------------------------------------------------
mkdir 'a/x:y' 'a/p q' 'b/u\v' && echo 1 >'a/x:y/f' && echo 2 >'b/u\v/g'
mount -t overlay over -o 'lowerdir='"$tmp"'/a/x\:y:'"$tmp"'/a/p q:'"$tmp"'/b/u\\v' m ||
    bail_out "cannot mount an overlay with escapes"
check "layers with colons, blanks and backslashes in their names are found" \
    sh -c '"$0" --explain "$1" | grep -q "^overlay-layers 0 .* 3 layers"' "$identify" "$tmp/m"
umount m

# ---- where nothing tells files apart ---------------------------------------------------------
cp A C
mount -o loop C c || bail_out "cannot mount the clone"
over m "lowerdir=$tmp/a/low:$tmp/c/low,xino=off"
is "$("$identify" --key m/three >/dev/null && policy m)" ephemeral \
    "over two clones handles are not believed"
umount m
umount c

over m "$full,xino=off"
if [ "$(policy m)" = handle ] || [ "$(policy m)" = ephemeral ]; then
    over m2 "lowerdir=$tmp/m:$tmp/a/low,xino=on"
    is "$(policy m2)" deny "an overlay over one without xino is refused"
    umount m2
fi
umount m
over m "$full,xino=on"
over m2 "lowerdir=$tmp/m:$tmp/a/low,xino=on"
is "$(policy m2)" affix "over one with xino it is not"
keys m2 >keys.6
is "$(shared_keys <keys.6)" "" "and no two of its files share an inode"
umount m2 m

# ---- subvolumes of one btrfs share inode numbers ---------------------------------------------
if have_fs btrfs && truncate -s 128M D && mkfs.btrfs -q D >/dev/null 2>&1 && mount -o loop D c; then
    btrfs -q subvolume create c/s1 2>/dev/null || btrfs subvolume create c/s1 >/dev/null
    btrfs -q subvolume create c/s2 2>/dev/null || btrfs subvolume create c/s2 >/dev/null
    echo 1 >c/s1/one
    echo 2 >c/s2/two
    over m "lowerdir=$tmp/c/s1:$tmp/c/s2"
    is "$(stat -c %i m/one)" "$(stat -c %i m/two)" "the host shows two files by one number"
    if [ "$first" = handle ]; then
        is "$(policy m)" handle "over btrfs handles are taken"
        is "$("$identify" --key m/one m/two | sort | uniq -d)" "" "which differ"
    else
        is "$(policy m)" ephemeral "over btrfs without handles nothing is believed"
    fi
    umount m
    umount c
else
    skip "overlay over btrfs subvolumes" "no btrfs in this kernel"
fi

# ---- layers in RAM ---------------------------------------------------------------------------
mount -t tmpfs none c && mkdir c/up c/work
over m "lowerdir=$tmp/b/low,upperdir=$tmp/c/up,workdir=$tmp/c/work,xino=off"
id=$(what m)
is "$(what m/one)" "$([ "$first" = handle ] && echo "$id" || what m/one)" "upper layer on tmpfs: one identity"
umount m
over m "lowerdir=$tmp/b/low,upperdir=$tmp/c/up,workdir=$tmp/c/work,xino=off"
if [ "$first" = handle ]; then
    is "$(what m)" "$id" "and the same after a remount"
fi
umount m
tap_done
