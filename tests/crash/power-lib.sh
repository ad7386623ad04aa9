# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Sourced, never run: a filesystem on a disk that logs all its writes, a workload on it, and the
# replay of what was logged. Needs tests/lib.sh. Knows nothing of what is a violation.

crash=$top_builddir/tests/crash
store_images=$tmp
[ -w /dev/shm ] && store_images=$(mktemp -d /dev/shm/qidmap-crash.XXXXXX) &&
    on_exit 'rm -rf --one-file-system "$store_images"'

make_image() { # TYPE FILE: an empty filesystem
    case $1 in
    ext4) truncate -s 24M "$2" && mkfs.ext4 -q -F -b 4096 -J size=4 -E lazy_itable_init=0 "$2" ;;
    # Smaller than what xfsprogs likes; the variables tell it that this is a test.
    xfs) truncate -s 64M "$2" && { TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -f "$2" 2>/dev/null ||
        { truncate -s 320M "$2" && mkfs.xfs -q -f "$2"; }; } ;;
    btrfs) truncate -s 128M "$2" && mkfs.btrfs -q -f "$2" ;;
    esac
}

power_daemon=
stop_power() {
    [ -z "$power_loop" ] || { umount "$power_mount" 2>/dev/null; losetup -d "$power_loop"; } 2>/dev/null
    power_loop=
    [ -z "$power_daemon" ] || { kill "$power_daemon" && wait "$power_daemon"; } 2>/dev/null
    power_daemon=
}
power_loop=
power_mount=

# record_power TYPE BACKEND WORKLOAD-ARG...: leaves base, log and journal in $store_images/TYPE.
# PRELOAD: a module that goes before the workload.
record_power() {
    local type=$1 backend=$2 d=$store_images/$1
    shift 2
    rm -rf --one-file-system "$d"
    mkdir -p "$d/mnt"
    power_mount=$d/mnt
    make_image "$type" "$d/base" >"$d/mkfs.log" 2>&1 || { tap_diag "$(cat "$d/mkfs.log")"; return 1; }
    cp --sparse=always "$d/base" "$d/disk"
    : >"$d/log"
    : >"$d/export"
    qemu-storage-daemon \
        --blockdev "driver=file,node-name=disk,filename=$d/disk" \
        --blockdev "driver=file,node-name=log,filename=$d/log" \
        --blockdev driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512 \
        --export "type=fuse,id=export,node-name=logged,mountpoint=$d/export,writable=on" \
        >"$d/daemon.log" 2>&1 &
    power_daemon=$!
    if ! wait_until 60 mountpoint -q "$d/export"; then
        tap_diag "the logging disk does not come: $(cat "$d/daemon.log")"
        stop_power
        return 1
    fi
    power_loop=$(losetup -f --show "$d/export") || return 1
    if ! mount -t "$type" "$power_loop" "$d/mnt" -o "$([ "$type" = xfs ] && echo nouuid || echo rw)"; then
        stop_power
        return 1
    fi
    LD_PRELOAD=${PRELOAD:-} "$crash/workload" --store "$backend:$d/mnt/store" --journal "$d/journal" \
        --log "$d/log" "$@" >"$d/workload.log" 2>&1
    local status=$?
    [ "$status" = 0 ] || tap_diag "$(cat "$d/workload.log")"
    umount "$d/mnt"
    losetup -d "$power_loop"
    power_loop=
    stop_power
    return "$status"
}

replay_power() { # TYPE BACKEND REPLAY-ARG...
    local type=$1 backend=$2 d=$store_images/$1
    shift 2
    mkdir -p "$d/work"
    "$crash/replay" --log "$d/log" --base "$d/base" --journal "$d/journal" --dir "$d/work" \
        --type "$type" --uri "$backend:" "$@"
}

need_power() { # the tools and kernel features, or skip everything
    need_loop
    [ -c /dev/fuse ] || skip_all "no /dev/fuse"
    command -v qemu-storage-daemon >/dev/null || skip_all "no qemu-storage-daemon"
}
