#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what the first report of this problem showed cannot happen. Two
# files of two cloned filesystems have one inode number and one generation. A
# guest that caches (cache=loose, cache=fscache) takes two such files for one:
# while it holds p1/file open for writing, what it writes to p2/file goes
# through the same cached inode and lands in p1/file.
#
# With our ids the right file must change. With the raw ids (multidevs=warn)
# the wrong one must, or this test would show nothing.
#
# QIDMAP_REPORT_SERVER=qemu runs it against QEMU's own server, to check the
# test: remap there is multidevs=remap.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_loop
need_fs ext4
guest_need
. "$(dirname "$0")/exports.sh"

cases="loose fscache"
fill() { # DIRECTORY: a file for each case, as what the guest's client remembers of one must not help another
    local ids cache
    for ids in ours raw; do
        for cache in $cases; do echo "the old words" >"$1/file-$ids-$cache"; done
    done
}
make_clones p1 p2

for cache in $cases; do
    is "$(stat -c %i "$export_dir/p1/file-raw-$cache")" \
        "$(stat -c %i "$export_dir/p2/file-raw-$cache")" "one inode number for both files on the host"
done

# The guest opens p1/file for writing, which gives the cached inode its
# write-back fid, and keeps it open; it then overwrites p2/file in place.
cat >"$tmp/script" <<'GUEST'
try() { # IDS CACHE PORT
    local f=file-$1-$2
    mount9p /mnt "cache=$2" "$ANAME$4" "$3" || return 1
    exec 5<>"/mnt/p1/$f"
    echo "$1 $2 inodes: $(stat -c %i "/mnt/p1/$f") $(stat -c %i "/mnt/p2/$f")"
    probe overwrite "/mnt/p2/$f" "the new words"
    sync
    exec 5>&-
    umount /mnt
}
for cache in $CASES; do
    try ours $cache "$PORT_OURS" "$TAG_OURS"
    try raw $cache "$PORT_RAW" "$TAG_RAW"
done
GUEST

if [ "${QIDMAP_REPORT_SERVER:-}" = qemu ]; then
    for ids in ours:remap raw:warn; do
        guest_qemu+=(-virtfs "local,path=$export_dir,mount_tag=${ids%:*},security_model=none,multidevs=${ids#*:}")
    done
    guest_run "$tmp/script" VIRTFS=1 ANAME= PORT_OURS=0 PORT_RAW=0 TAG_OURS=ours TAG_RAW=raw \
        "CASES=$cases"
else
    server_start "$export_dir" "lmdb:$tmp/store" ||
        bail_out "the server does not start: $(tail "$qidmapd_log")"
    ours=$server_port
    server_port=
    server_start "$export_dir" "lmdb:$tmp/store-raw" --multidevs warn ||
        bail_out "the server does not start: $(tail "$qidmapd_log")"
    guest_run "$tmp/script" "ANAME=$server_aname" "PORT_OURS=$ours" "PORT_RAW=$server_port" \
        TAG_OURS= TAG_RAW= "CASES=$cases" "MSIZE=${MSIZE:-}"
fi
is "$?" 0 "the script ended well"

content() { printf '%s | %s' "$(cat "$export_dir/p1/$1")" "$(cat "$export_dir/p2/$1")"; }
for cache in $cases; do
    is "$(content "file-ours-$cache")" "the old words | the new words" \
        "our ids, cache=$cache: p2/file has the new words, p1/file is untouched"
    is "$(content "file-raw-$cache")" "the new words | the old words" \
        "raw ids, cache=$cache: the new words landed in p1/file, p2/file has lost them"
done
tap_diag "$(grep inodes: "$guest_output")"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
