# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a script has at hand inside the guest (busybox sh). Lines that start
# with @@ are words for tests/guest/guest.sh on the host; all else is output.

# host-step NAME ARG...: the driver script on the host runs its function
# step_NAME and answers with its exit status; until then the guest waits, with
# whatever it holds open.
host_step() {
    local host_status
    exec 8<>/dev/ttyS1
    echo "@@step $*" >&8
    read -r host_status <&8
    exec 8>&-
    return "$host_status"
}

pass() { echo "@@ok $1"; }
fail() { echo "@@not_ok $1"; }
skip() { echo "@@skip $1 # SKIP $2"; }

check() { # DESCRIPTION COMMAND...
    local description=$1 output
    shift
    if output=$("$@" 2>&1); then
        pass "$description"
    else
        fail "$description"
        echo "failed: $*"
        echo "$output"
    fi
}

check_fails() { # DESCRIPTION COMMAND...
    local description=$1 output
    shift
    if output=$("$@" 2>&1); then
        fail "$description"
        echo "succeeded: $*"
        echo "$output"
    else
        pass "$description"
    fi
}

is() { # ACTUAL EXPECTED DESCRIPTION
    if [ "$1" = "$2" ]; then
        pass "$3"
    else
        fail "$3"
        echo "expected: $2"
        echo "got:      $1"
    fi
}

# mount9p DIRECTORY [OPTIONS [ANAME [PORT]]]
mount9p() {
    local options="trans=tcp,port=${4:-$PORT},version=9p2000.L,msize=${MSIZE:-65536}"
    options="$options,aname=${3:-$ANAME}"
    [ -z "${2:-}" ] || options="$options,$2"
    mkdir -p "$1"
    if [ -n "${VIRTFS:-}" ]; then
        options="trans=virtio,version=9p2000.L,msize=${MSIZE:-65536}${2:+,$2}"
        mount -t 9p -o "$options" "${3:-$ANAME}" "$1"
    else
        mount -t 9p -o "$options" 10.0.2.2 "$1"
    fi
}

# The modules of loop devices, ext4, xfs, btrfs, overlay and fuse.
load_filesystems() {
    load_modules disk
    load_modules filesystems
}

load_modules() { # LIST
    local module name
    while read -r module; do
        name=$(echo "${module%.ko}" | tr - _)
        [ -d "/sys/module/$name" ] || insmod "/modules/$module" 2>/dev/null ||
            echo "cannot load $module"
    done <"/modules/$1"
}

# enter_disk DIRECTORY: mounts the image that guest_disk on the host has named there, with
# what programs expect to find; chroot DIRECTORY PROGRAM runs one.
enter_disk() {
    load_modules disk
    mkdir -p "$1"
    mount -t ext4 /dev/vda "$1" &&
        mount -t devtmpfs devtmpfs "$1/dev" &&
        mkdir -p "$1/dev/shm" "$1/dev/pts" &&
        mount -t tmpfs tmpfs "$1/dev/shm" &&
        mount -t proc proc "$1/proc" &&
        mount -t sysfs sysfs "$1/sys" &&
        mount -t tmpfs tmpfs "$1/tmp" &&
        mount -t tmpfs tmpfs "$1/run" &&
        chmod 1777 "$1/tmp"
}

# enter_host DIRECTORY: mounts the host's root read-only there, with a tmpfs on /mnt and the
# guest's own /dev, /proc and /sys, so that programs of the host run on the guest's kernel.
enter_host() {
    mount9p "$1" ro,cache=loose,access=any || return 1
    mount -t tmpfs -o size=70% tmpfs "$1/mnt" &&
        mount -t devtmpfs devtmpfs "$1/dev" &&
        mount -t proc proc "$1/proc" &&
        mount -t sysfs sysfs "$1/sys" &&
        mount -t tmpfs tmpfs "$1/run"
}
