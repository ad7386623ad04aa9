#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: compact --prune-missing deletes the rows of files that are gone and of no other, on ext4,
# xfs, btrfs and overlay, for files known by inode number and by handle: what hides under a mount, is
# a placeholder or has a strange name stays, and a client sees the ids that it saw. Where something
# cannot be read or seen, where a mount shows a part, or a clone, or nothing is mounted, nothing is
# deleted. --prune-fs retires none that is mounted. Killed at 50 random points the store is whole, and
# so it is where a daemon is killed that deletes for its clients (PRUNE_KILLS times, 4).

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_root
need_loop
mount --make-rshared / # so that the daemon enters a namespace of its own, as it does on most hosts
. "$(dirname "$0")/ctl-common.sh"
bind_tree=$(find_program bind-tree) || bail_out "no bind-tree below $builddir: run make check first"
inject=$builddir/tests/lib/.libs/inject.so

mnt=$tmp/mnt
tree=$mnt
mkdir "$mnt" "$tmp/part" "$tmp/second"
on_exit 'unmount_below "$tmp"'

make_fs() { # KIND FILE
    rm -f "$2"
    truncate -s 400M "$2"
    case $1 in
    ext4) mkfs.ext4 -q "$2" ;;
    xfs) mkfs.xfs -q "$2" ;;
    btrfs) mkfs.btrfs -q "$2" ;;
    esac >/dev/null 2>&1
}
mount_fs() { # KIND
    case $1 in
    tmpfs) mount -t tmpfs -o size=64m tmpfs "$mnt" ;;
    overlay)
        mountpoint -q "$tmp/layers" || {
            mkdir -p "$tmp/layers" "$tmp/low"
            make_fs ext4 "$tmp/layers.img"
            make_fs ext4 "$tmp/low.img"
            mount -o loop "$tmp/layers.img" "$tmp/layers" || return 1
            mount -o loop "$tmp/low.img" "$tmp/low" || return 1
            mkdir "$tmp/layers/up" "$tmp/layers/work" "$tmp/low/lower"
            for i in {1..9}; do echo "$i" >"$tmp/low/lower/$i"; done
        }
        mount -t overlay overlay -o "xino=off,lowerdir=$tmp/low,upperdir=$tmp/layers/up,workdir=$tmp/layers/work" "$mnt"
        ;;
    *) mount -o loop "$tmp/image" "$mnt" ;;
    esac
}

fill() {
    mkdir -p "$mnt/dir/deep" "$mnt/under" "$mnt/doomed/in"
    for i in {1..20}; do echo "$i" >"$mnt/dir/file$i"; done
    for i in {1..10}; do echo "$i" >"$mnt/doomed/$i"; done
    echo x >"$mnt/under/hidden"
    echo x >"$mnt/dir/$newline"
    echo x >"$mnt/dir/$bytes"
    ln "$mnt/dir/file1" "$mnt/dir/deep/link"
    ln -s nowhere "$mnt/dir/symlink"
    mkfifo "$mnt/dir/fifo"
}
ids() { "$stat9p" -R "$address" tree | sort -k4; }
full_rows() { "$ctl" status --store "$store" --json | grep -o '"full_rows":"[0-9]*"' | head -1 | tr -cd 0-9; }
set_kind() { # inode|handle: how files of filesystem $fs are known from now on
    if [ "$1" = handle ]; then
        run fs policy --store "$store" "$fs" handle --renumber --yes
        exits 0 "$name: policy handle"
    else
        check "$name: bound, as after a migration" "$bind_tree" "$store" "$fs" "$mnt"
    fi
}
number() { "$ctl" fs identify --store "$store" "$mnt" --json | member fs; }

clients() { # go over all files until told to end, and write down what differs
    while [ ! -e "$tmp/enough" ]; do
        "$stat9p" -R "$address" tree | sort -k4 >"$tmp/ids.now" 2>/dev/null
        cmp -s "$tmp/ids.now" "$tmp/ids.left" || cp "$tmp/ids.now" "$tmp/ids.wrong"
    done
}
online() { # the same with a daemon that has the store, and clients at work
    rm -f "$tmp/enough" "$tmp/ids.wrong"
    serve_tree
    ids >"$tmp/ids.left"
    is "$(cat "$tmp/ids.left")" "$ids_left" "$name: before, ids are what they were"
    [ ! -e "$mnt/snap" ] || hold snap/doomed/1 # the numbers that have gone live on in a snapshot
    clients &
    local clients=$!
    run "$@"
    touch "$tmp/enough"
    wait $clients
    [ ! -e "$mnt/snap" ] || release
    check "$name: and a client saw the same ids all the time" test ! -e "$tmp/ids.wrong"
    is "$(ids)" "$ids_left" "$name: and afterwards"
    stop_qidmapd
}

try() { # KIND inode|handle|natural [online]
    local name="$1, by $2${3:+, $3}" rows
    rm -rf "$tmp/store"
    make_fs "$1" "$tmp/image"
    mount_fs "$1" || { skip "$name" "cannot mount $1"; return; }
    fill
    if [ "$1" = btrfs ]; then
        btrfs -q subvolume create "$mnt/sub" && echo x >"$mnt/sub/inner" &&
            btrfs -q subvolume snapshot "$mnt" "$mnt/snap" >/dev/null
    fi
    serve_tree
    meet_all
    stop_qidmapd
    fs=$(number)
    if [ "$2" != natural ]; then
        set_kind "$2"
        serve_tree
        ids >/dev/null
        stop_qidmapd
        fs=$(number)
    fi
    serve_tree
    ids >"$tmp/ids.before"
    stop_qidmapd
    rm -rf "$mnt/doomed"
    ids_left=$(grep -v ' /doomed' "$tmp/ids.before")
    rows=$(full_rows)
    mount -t tmpfs tmpfs "$mnt/under"

    run compact --store "$store" --prune-missing --dry-run --json
    exits 0 "$name: dry run"
    is "$(grep "\"fs\":$fs," <<<"$out" | member missing)" 12 "$name: it tells how many are gone"
    is "$(full_rows)" "$rows" "$name: and deletes none"

    if [ "$1" != overlay ]; then
        umount "$mnt/under"
        mkdir "$mnt/closed" && chown 12345 "$mnt/closed" && chmod 0 "$mnt/closed"
        out=$(setpriv --bounding-set -dac_override,-dac_read_search \
            "$ctl" compact --store "$store" --prune-missing 2>&1)
        is "$(full_rows)" "$rows" "$name: a directory that cannot be read: nothing is deleted"
        grep -q "closed" <<<"$out" && ok "$name: and it is named" || not_ok "$name: and it is named" "$out"
        rmdir "$mnt/closed"
        mount -t tmpfs tmpfs "$mnt/under"
        setpriv --bounding-set -sys_admin "$ctl" compact --store "$store" --prune-missing \
            >"$tmp/out" 2>&1
        is "$(full_rows)" "$rows" "$name: what is under a mount cannot be seen: nothing is deleted"
        mount --bind "$mnt/dir" "$tmp/part"
        umount "$mnt/under" "$mnt"
        run compact --store "$store" --prune-missing
        is "$(full_rows)" "$rows" "$name: only a part is mounted: nothing is deleted"
        umount "$tmp/part"
        run compact --store "$store" --prune-missing
        is "$(full_rows)" "$rows" "$name: nothing is mounted: nothing is deleted"
        says "not mounted" "$name: and it says so"
        cp --sparse=always "$tmp/image" "$tmp/clone"
        if mount -o loop "$tmp/clone" "$mnt" 2>/dev/null; then
            run compact --store "$store" --prune-missing
            is "$(full_rows)" "$rows" "$name: a clone is mounted: nothing is deleted"
            umount "$mnt"
        fi
        rm -f "$tmp/clone"
        mount_fs "$1"
        mount -t tmpfs tmpfs "$mnt/under"
    fi

    if [ "${3:-}" = online ]; then
        umount "$mnt/under" # a client would see what is mounted there
        online compact --store "$store" --prune-missing --prune-fs --unseen-for 0s --json
        mount -t tmpfs tmpfs "$mnt/under"
    else
        run compact --store "$store" --prune-missing --prune-fs --unseen-for 0s --json
    fi
    exits 0 "$name: compact --prune-missing --prune-fs"
    is "$(grep "\"fs\":$fs,.*\"missing\"" <<<"$out" | member missing)" 12 "$name: rows of what is gone"
    is "$(full_rows)" "$((rows - 12))" "$name: are deleted, and no other"
    is "$(grep -c '"retired":true' <<<"$out")" 0 "$name: nothing that is mounted is retired"
    run verify --store "$store"
    exits 0 "$name: verify"
    umount "$mnt/under"
    serve_tree
    is "$(ids)" "$ids_left" "$name: a client sees the ids that it saw"
    stop_qidmapd
    [ "$1 $2 ${3:-}" != "ext4 handle " ] || kills
    [ "$1 $2 ${3:-}" != "ext4 handle online" ] || kills_online
    unmount_below "$tmp"
}

state() { "$ctl" dump --store "$1" --json 2>/dev/null | sed '1d;$d' | cksum; }

kills() {
    local calls point wrong='' i old new seen
    [ -e "$inject" ] || { skip "killed" "no $inject: run make check first"; return; }
    rm -f "$mnt"/dir/file*
    cp -a "$tmp/store" "$tmp/kept"
    old=$(state "lmdb:$tmp/kept")
    cp -a "$tmp/kept" "$tmp/work"
    LD_PRELOAD=$inject QIDMAP_INJECT="log=$tmp/calls" "$ctl" compact --prune-missing \
        --store "lmdb:$tmp/work" >/dev/null 2>"$tmp/err" ||
        { not_ok "compact --prune-missing, counted" "$(cat "$tmp/err")"; return; }
    calls=$(wc -l <"$tmp/calls")
    new=$(state "lmdb:$tmp/work")
    [ "$old" != "$new" ] || not_ok "there is something to prune"
    for i in {1..50}; do
        point=$((RANDOM % calls + 1))
        rm -rf "$tmp/work" && cp -a "$tmp/kept" "$tmp/work"
        { LD_PRELOAD=$inject QIDMAP_INJECT="nth=$point error=KILL" "$ctl" compact --prune-missing \
            --store "lmdb:$tmp/work" >/dev/null; } 2>/dev/null
        seen=$(state "lmdb:$tmp/work")
        [ "$seen" = "$old" ] || [ "$seen" = "$new" ] || wrong="$wrong $point: $seen"
        "$ctl" verify --store "lmdb:$tmp/work" >"$tmp/verify" 2>&1 || wrong="$wrong $point: $(cat "$tmp/verify")"
        "$ctl" compact --prune-missing --store "lmdb:$tmp/work" >/dev/null 2>&1 || wrong="$wrong $point again"
        [ "$(state "lmdb:$tmp/work")" = "$new" ] || wrong="$wrong $point, not the new state"
    done
    is "$wrong" "" "compact --prune-missing, killed at 50 of $calls calls"
    rm -rf "$tmp/work" "$tmp/kept"
}

# The daemon dies while it deletes for clients: PRUNE_KILLS times.
kills_online() {
    local wrong='' i old new seen hit=0 started
    rm -f "$mnt"/dir/file*
    ids_left=$(grep -v ' /dir/file' <<<"$ids_left")
    rows=$(full_rows)
    cp -a "$tmp/store" "$tmp/kept"
    old=$(state "lmdb:$tmp/kept")
    "$ctl" compact --prune-missing --store "lmdb:$tmp/store" >/dev/null 2>&1
    new=$(state "$store")
    [ "$old" != "$new" ] || not_ok "there is something to prune online"
    for ((i = 0; i < ${PRUNE_KILLS:-4}; i++)); do
        rm -rf "$tmp/store" && cp -a "$tmp/kept" "$tmp/store"
        serve_tree
        "$ctl" compact --store "$store" --prune-missing >/dev/null 2>&1 &
        started=$!
        sleep "0.$(printf %03d "$((RANDOM % 150))")"
        stop_qidmapd KILL
        wait "$started"
        "$ctl" verify --store "$store" >"$tmp/verify" 2>&1 || wrong="$wrong $i: $(cat "$tmp/verify")"
        seen=$(full_rows)
        hit=$((hit + (seen < rows)))
        serve_tree
        [ "$(ids)" = "$ids_left" ] || wrong="$wrong $i: ids"
        stop_qidmapd
    done
    is "$wrong" "" "prune online, the daemon killed ($hit times after rows were deleted)"
    rm -rf "$tmp/kept"
}

for kind in ext4 xfs btrfs; do
    have_fs "$kind" || { skip "$kind" "no $kind in this kernel"; continue; }
    try "$kind" inode online
    try "$kind" handle
done
have_fs overlay && try overlay natural
try ext4 handle online

# ---- times in seconds ----------------------------------------------------------------------------

if unit=$(find_program unit-prune); then
    truncate -s 20M "$tmp/seconds"
    mkfs.ext4 -q -I 128 "$tmp/seconds" >/dev/null 2>&1
    mount -o loop "$tmp/seconds" "$mnt"
    check "ext4 that keeps times in seconds: a file that is moved during two walks is seen" \
        env TMPDIR="$mnt" "$unit" -p /prune/moved-twice
    unmount_below "$tmp"
else
    skip "ext4 that keeps times in seconds" "no unit-prune below $builddir: run make check first"
fi

# ---- filesystems without rows of their own --------------------------------------------------------

rm -rf "$tmp/store"
mount_fs tmpfs
fill
serve_tree
ids >"$tmp/ids.before"
stop_qidmapd
run compact --store "$store" --prune-missing
exits 0 "tmpfs: nothing to prune"
serve_tree
is "$(ids)" "$(cat "$tmp/ids.before")" "and the ids are the same"
stop_qidmapd
unmount_below "$tmp"

# ---- filesystems that go -------------------------------------------------------------------------

rm -rf "$tmp/store"
make_fs ext4 "$tmp/image"
mount_fs ext4
fill
serve_tree
ids >"$tmp/ids.before"
stop_qidmapd
fs=$(number)
umount "$mnt"
run compact --store "$store" --prune-fs --unseen-for 90d
exits 0 "compact --prune-fs"
run fs show --store "$store" "$fs"
check_fails "what was seen within 90 days of service stays" grep -q retired.*yes <<<"$out"
run compact --store "$store" --prune-fs --unseen-for 0s --dry-run
says "filesystem $fs .*would be retired" "a dry run names what would go"
run compact --store "$store" --prune-fs --unseen-for 0s
says "filesystem $fs .*is retired" "what is not mounted goes"
mount_fs ext4
serve_tree
check_fails "and begins anew" cmp -s <(ids) "$tmp/ids.before"
stop_qidmapd
for wrong in "--prune-fs" "--unseen-for 3d" "--prune-fs --unseen-for 3" "--prune-fs --unseen-for 3y" \
    "--prune-fs --unseen-for -3d" "--fs 1" "--prune-missing --fs -1"; do
    # shellcheck disable=SC2086 # words
    run compact --store "$store" $wrong
    exits 2 "compact $wrong is refused"
done
tap_done
