#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: filesystems that come, go and are replaced while the server runs are seen before the next
# answer; one that does not answer holds up nobody and is taken up when it answers; device and mount
# numbers that are given again lead nobody astray; bind mounts share ids, or with bind=distinct have
# their own. With the calls of older kernels, too.

. "$(dirname "$0")/own-mounts.sh"
# Mounts are moved here, which shared ones cannot be.
QIDMAP_SHARED_MOUNTS=0
. "$(dirname "$0")/lib.sh"
need_loop
[ -c /dev/fuse ] || skip_all "no /dev/fuse"

x=$tmp/x
servers=()
finish() {
    local pid
    for pid in "${servers[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    unmount_below "$tmp"
}
on_exit finish
mkdir -p "$x/a" "$x/b" "$x/dir"
echo r >"$x/file"
echo d >"$x/dir/file"

preload=
serve() { # ARG...
    rm -f "$tmp/s"
    LD_PRELOAD=$preload start_qidmapd --export "x=$x" --listen "unix:$tmp/s" "$@" ||
        bail_out "no server: $(tail "$qidmapd_log")"
}
stat9() { timeout 300 "$top_builddir/tests/9pstat" "$@" 2>&1; }
listed() { stat9 -R "unix:$tmp/s" x | awk '{ print $4 }' | sort | tr '\n' ' '; }
id_of() { stat9 "unix:$tmp/s" x "$1" | cut -d' ' -f1; }
agree() { stat9 -R "unix:$tmp/s" x >/dev/null; }

inofs() { # NAME MOUNTPOINT: its pid is in $inofs_pid
    printf '7\n8\n' >"$tmp/list.$1"
    "$top_builddir/tests/lib/inofs" "$tmp/list.$1" "$2" -o "fsname=$1,allow_other" || return 1
    inofs_pid=$(ps -eo pid=,args= | awk -v l="$tmp/list.$1" '$3 == l { print $1 }')
    servers+=("$inofs_pid")
}

for kernel in new old; do
    [ "$kernel" = new ] || preload=$top_builddir/tests/lib/.libs/oldkernel.so

    # ---- coming and going
    serve --store memory:
    is "$(listed)" "/ /a /b /dir /dir/file /file " "$kernel kernel: nothing is mounted"
    under=$(id_of a)
    seen=" $under "
    twice=
    for i in $(seq 1 12); do # the numbers of the one that left go to the one that comes
        mount -t tmpfs -o size=64k "t$i" "$x/a"
        mkdir "$x/a/d$i"
        id=$(id_of a)
        case $seen in *" $id "*) twice="$twice $i:$id" ;; esac
        seen="$seen$id "
        if [ $((i % 3)) = 0 ]; then agree || twice="$twice $i:differs"; fi
        unmount "$x/a"
    done
    is "$twice" "" "$kernel kernel: each of 12 filesystems at one place has ids of its own"
    is "$(id_of a)" "$under" "$kernel kernel: the directory below has its id again"
    mount -t tmpfs -o size=64k one "$x/a"
    mount -t tmpfs -o size=64k two "$x/b"
    a=$(id_of a) b=$(id_of b)
    mkdir "$tmp/aside"
    mount --move "$x/a" "$tmp/aside"
    mount --move "$x/b" "$x/a"
    mount --move "$tmp/aside" "$x/b"
    is "$(id_of a) $(id_of b)" "$b $a" "$kernel kernel: two that change places keep their ids"
    check "$kernel kernel: listing and walk agree after it" agree
    unmount "$x/a" "$x/b"
    rmdir "$tmp/aside"
    stop_qidmapd TERM

    # ---- one that does not answer, from the start, later, and after it was known
    inofs "early-$kernel" "$x/a"
    early=$inofs_pid
    kill -STOP "$early"
    serve --store memory:
    is "$(listed)" "/ /b /dir /dir/file /file " \
        "$kernel kernel: a filesystem that does not answer does not hide its neighbours"
    is "$(stat9 "unix:$tmp/s" x a | grep -c 'Input/output error')" 1 \
        "$kernel kernel: a walk to it fails with EIO"
    check "$kernel kernel: a walk elsewhere goes on" stat9 "unix:$tmp/s" x dir/file
    mkdir -p "$tmp/out/f"
    inofs "later-$kernel" "$tmp/out/f"
    later=$inofs_pid
    kill -STOP "$later"
    mount --rbind "$tmp/out" "$x/b" # it comes to the export when it does not answer any more
    is "$(listed)" "/ /b /dir /dir/file /file " "$kernel kernel: the same with one that comes later"
    mount -t tmpfs -o size=64k three "$x/dir"
    is "$(listed)" "/ /b /dir /file " "$kernel kernel: what is mounted meanwhile is recognised"
    unmount "$x/dir"
    kill -CONT "$early" "$later"
    all="/ /a /a/f-0000000000000007 /a/f-0000000000000008 /b /b/f"
    all="$all /b/f/f-0000000000000007 /b/f/f-0000000000000008 /dir /dir/file /file "
    is_all_listed() { [ "$(listed)" = "$all" ]; }
    check "$kernel kernel: they are taken up when they answer" wait_until 60 is_all_listed
    check "$kernel kernel: with ids that agree" agree
    kill -STOP "$early"
    is "$(stat9 "unix:$tmp/s" x b/f/f-0000000000000007 dir/file | wc -l)" 2 "$kernel kernel: when a known one stops, walks elsewhere go on"
    mount -t tmpfs -o size=64k four "$x/dir"
    check "$kernel kernel: and what is mounted then is recognised" stat9 "unix:$tmp/s" x dir
    unmount "$x/dir"
    kill -CONT "$early"
    stop_qidmapd TERM
    umount "$x/a"
    umount -R "$x/b"
    umount "$tmp/out/f"

    # ---- bind mounts
    mkdir -p "$x/tree/sub"
    echo t >"$x/tree/file"
    touch "$x/bound-file"
    mount --bind "$x/tree" "$x/a"
    mount --bind "$x/tree/file" "$x/bound-file"
    serve --store "lmdb:$tmp/store-$kernel"
    is "$(id_of a) $(id_of a/file) $(id_of bound-file)" \
        "$(id_of tree) $(id_of tree/file) $(id_of tree/file)" "$kernel kernel: bind mounts share ids"
    mount --bind "$x/tree" "$x/b"
    is "$(id_of b/sub)" "$(id_of tree/sub)" "$kernel kernel: one that comes later, too"
    check "$kernel kernel: listing and walk agree on them" agree
    tree=$(id_of tree/file)
    stop_qidmapd TERM
    if [ "${QIDMAP_TEST_DISTINCT:-1}" = 1 ]; then
        serve --store "lmdb:$tmp/distinct-$kernel" --bind distinct
        ids="$(id_of a/file) $(id_of b/file) $(id_of bound-file) $(id_of tree/file)"
        is "$(printf '%s\n' $ids | sort -u | wc -l)" 4 "$kernel kernel: bind=distinct: ids of their own"
        check "$kernel kernel: bind=distinct: listing and walk agree" agree
        stop_qidmapd KILL
        umount "$x/a" "$x/b"
        mount --bind "$x/tree" "$x/b"
        mount --bind "$x/tree" "$x/a"
        serve --store "lmdb:$tmp/distinct-$kernel" --bind distinct
        is "$(id_of a/file) $(id_of b/file) $(id_of bound-file) $(id_of tree/file)" "$ids" \
            "$kernel kernel: bind=distinct: the same after a restart and in another order"
        stop_qidmapd TERM
    fi
    [ -n "$tree" ] || not_ok "$kernel kernel: ids"
    umount "$x/a" "$x/b" "$x/bound-file"
    rm -rf "$x/tree" "$x/bound-file"
done
tap_done
