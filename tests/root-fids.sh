#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what srv-fids, srv-fids-names and srv-fids-model prove of more fids than descriptors holds
# on every kind of filesystem, by handle where it gives them, and by place elsewhere; and a
# filesystem that does not answer holds up nobody else.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
for tool in mkfs.ext4 mkfs.xfs mkfs.btrfs bindfs; do
    command -v "$tool" >/dev/null || bail_out "$tool is missing"
done
on_exit 'unmount_below "$tmp"'
cd "$builddir" || exit 1
export QIDMAP_FIDS_COUNT=${QIDMAP_FIDS_COUNT:-4000} QIDMAP_FIDS_ROUNDS=${QIDMAP_FIDS_ROUNDS:-2000}
programs="srv-fids srv-fids-model srv-fids-names"
# those that the kind of filesystem makes a difference for
some=
for name in model host-replaces host-renames many; do
    some="$some /fids/$name /fids/$name-by-name"
done
tests="$some /fids/own-name /fids/own-name-by-name /fids/several-exports /fids/several-exports-by-name \
       /fids/races /fids/races-by-name /fids/last-name /fids/last-name-by-name"

run() { # DIR TEST...: each by the program that has it
    local dir=$1 left program listed test mine rest
    shift
    left=$*
    for program in $programs; do
        listed=" $("tests/$program" -l | tr '\n' ' ') " mine='' rest=''
        for test in $left; do
            case $listed in
            *" $test "*) mine="$mine -p $test" ;;
            *) rest="$rest $test" ;;
            esac
        done
        # shellcheck disable=SC2086 # several options
        [ -z "$mine" ] || TMPDIR=$dir "tests/$program" $mine || return 1
        left=$rest
    done
    [ -z "$left" ] || { echo "no program has$left" && return 1; }
}

try() { # WHAT DIR TEST...
    check "more fids than descriptors: $1" run "${@:2}"
}

image() { # TYPE SIZE
    truncate -s "$2" "$tmp/$1.img"
    "mkfs.$1" -q "$tmp/$1.img" >/dev/null 2>"$tmp/mkfs" || bail_out "mkfs.$1: $(cat "$tmp/mkfs")"
    mkdir -p "$tmp/$1"
    mount -o loop "$tmp/$1.img" "$tmp/$1" || bail_out "cannot mount $1"
}

for type in ext4 xfs btrfs; do
    if have_fs "$type"; then
        image "$type" 400M
        # shellcheck disable=SC2086
        try "$type" "$tmp/$type" $tests
    else
        skip "more fids than descriptors: $type" "no $type in this kernel"
    fi
done
mkdir "$tmp/tmpfs" "$tmp/over" "$tmp/upper" "$tmp/lower" "$tmp/fuse"
mount -t tmpfs none "$tmp/tmpfs"
# shellcheck disable=SC2086
try tmpfs "$tmp/tmpfs" $tests
if have_fs overlay && mkdir -p "$tmp/tmpfs/up" "$tmp/tmpfs/work" "$tmp/tmpfs/low" &&
    mount -t overlay over -o "lowerdir=$tmp/tmpfs/low,upperdir=$tmp/tmpfs/up,workdir=$tmp/tmpfs/work" \
        "$tmp/over"; then
    # shellcheck disable=SC2086
    try overlay "$tmp/over" $tests
    # where inode numbers come again, unlike on tmpfs
    if mountpoint -q "$tmp/ext4" && mkdir "$tmp/ext4/up" "$tmp/ext4/work" "$tmp/over-ext4" &&
        mount -t overlay over -o \
            "lowerdir=$tmp/tmpfs/low,upperdir=$tmp/ext4/up,workdir=$tmp/ext4/work" \
            "$tmp/over-ext4"; then
        try "overlay on ext4" "$tmp/over-ext4" /fids/host-replaces /fids/host-renames \
            /fids/last-name
    fi
else
    skip "more fids than descriptors: overlay" "no overlay in this kernel"
fi
if [ -c /dev/fuse ] && mkdir "$tmp/tmpfs/bound" && bindfs "$tmp/tmpfs/bound" "$tmp/fuse"; then
    # A FUSE filesystem with paths inside answers nothing of a file without a name.
    # shellcheck disable=SC2086
    try FUSE "$tmp/fuse" $some
    QIDMAP_FIDS_MOUNT=1 try "a dead mount" "$tmp" /fids/dead-mount
else
    skip "more fids than descriptors: FUSE" "no /dev/fuse"
fi
if mountpoint -q "$tmp/ext4"; then
    QIDMAP_DROP_CACHES=1 try "forgotten names" "$tmp/ext4" /fids/forgotten-name
fi
tap_done
