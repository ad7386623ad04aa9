# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds exports of several filesystems on loop devices for the guest tests and
# mounts them so that every st_dev differs from the time before. Sourced after
# tests/lib.sh. $export is the export's root, $images holds the images.

export_dir=$tmp/export
images=$tmp/images
mkdir -p "$export_dir" "$images"
chmod 755 "$tmp" # servers that attach as nobody must get here
mounted=()   # mount points, in the order of mounting
loops=()     # loop devices that we attached
on_exit 'stop_all_qidmapd; exports_release' # a server holds the root of its export

exports_release() {
    local i
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do
        unmount "${mounted[i]}" 2>/dev/null || umount -l "${mounted[i]}"
    done
    mounted=()
    loops_release
}

loops_release() {
    [ "${#loops[@]}" = 0 ] || loop_detach "${loops[@]}"
}

loop_detach() { # DEVICE...: from here on another one may have it
    local device i
    for device; do
        losetup -d "$device" 2>/dev/null
        for i in "${!loops[@]}"; do
            [ "${loops[i]}" != "$device" ] || unset "loops[i]"
        done
    done
    loops=("${loops[@]}")
}

loop_attach() { # IMAGE: sets $loop_device; others may take devices at the same time
    local try
    for try in 1 2 3 4 5 6 7 8 9 10; do
        if loop_device=$(losetup -f --show "$1" 2>/dev/null); then
            loops+=("$loop_device")
            return 0
        fi
        sleep 0.2
    done
    bail_out "no loop device for $1"
}

decoys=0
decoy_loop() { # occupies one more loop device number
    decoys=$((decoys + 1))
    truncate -s 1M "$images/decoy$decoys"
    loop_attach "$images/decoy$decoys"
}

decoy_mount() { # occupies one more anonymous device number
    decoys=$((decoys + 1))
    mkdir -p "$tmp/decoy$decoys"
    mount -t tmpfs decoy "$tmp/decoy$decoys" && mounted+=("$tmp/decoy$decoys")
}

# mount_image IMAGE TYPE DIRECTORY [OPTIONS [OLD_ST_DEV [BELOW ITS_OLD_ST_DEV]]]: mounts so that
# st_dev is not OLD_ST_DEV, nor that of the subvolume BELOW it, by leaving decoys where it would be the same.
mount_image() {
    local try
    mkdir -p "$3"
    for try in 1 2 3 4 5 6 7 8; do
        loop_attach "$images/$1"
        mount -t "$2" -o "${4:-defaults}" "$loop_device" "$3" || return 1
        if [ -z "${5:-}" ] || [ "$(stat -c %d "$3")" != "$5" ] &&
            { [ -z "${6:-}" ] || [ "$(stat -c %d "$3/$6")" != "$7" ]; }; then
            mounted+=("$3")
            return 0
        fi
        umount "$3"
        loop_detach "$loop_device"
        decoy_loop
        decoy_mount
    done
    return 1
}

# ---- what several tests export: fill() is the test's own, and makes files below a directory ----------

make_image() { # NAME SIZE MKFS...
    truncate -s "$2" "$images/$1"
    "${@:3}" "$images/$1" >"$tmp/mkfs.log" 2>&1 || bail_out "$3: $(cat "$tmp/mkfs.log")"
}

make_clones() { # NAME CLONE: ext4 at NAME, filled, and a copy of it, with the same inode numbers, at CLONE
    local original
    make_image "$1" 32M mkfs.ext4 -q -F
    mount_image "$1" ext4 "$export_dir/$1" || bail_out "cannot mount ext4"
    original=$loop_device
    fill "$export_dir/$1"
    umount "$export_dir/$1"
    dd if="$images/$1" of="$images/$2" bs=1M conv=sparse status=none
    mount "$original" "$export_dir/$1" || bail_out "cannot mount ext4 again"
    mount_image "$2" ext4 "$export_dir/$2" || bail_out "cannot mount the clone"
}

make_btrfs() { # NAME: with two subvolumes, filled, one and two
    local subvolume
    make_image "$1" 128M mkfs.btrfs -q -f
    mount_image "$1" btrfs "$export_dir/$1" || bail_out "cannot mount btrfs"
    for subvolume in one two; do
        btrfs -q subvolume create "$export_dir/$1/$subvolume" || bail_out "cannot make a subvolume"
        fill "$export_dir/$1/$subvolume"
    done
}

make_xfs() { # NAME: filled
    make_image "$1" 320M mkfs.xfs -q -f
    mount_image "$1" xfs "$export_dir/$1" || bail_out "cannot mount xfs"
    fill "$export_dir/$1"
}
