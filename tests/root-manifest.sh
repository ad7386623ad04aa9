#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: on a tree of ext4, xfs, btrfs with subvolumes, snapshots and what stands there for nested
# ones, tmpfs, overlays with and without xino, and bind mounts of folders and files, qidmapctl
# manifest has just the names and ids that a client is shown over the wire, and lookup agrees. A copy
# of the store is known to preflight after all of it was mounted in another order, with other device
# numbers: every filesystem and every subvolume, by what, and what has moved; a clone is no stranger's
# row, and what is missing is told. How long a manifest will take is told of whole filesystems.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
stat9p=$(find_program 9pstat) || bail_out "no 9pstat below $builddir: run make check first"
command -v jq >/dev/null || skip_all "no jq program"

x=$tmp/x
store=lmdb:$tmp/store
mkdir -p "$x" "$tmp/layers"
on_exit 'unmount_below "$tmp"'

# ---- images
truncate -s 16M "$tmp/ext4.img" && mkfs.ext4 -q "$tmp/ext4.img" || skip_all "no mkfs.ext4"
types="ext4"
if have_fs xfs && command -v mkfs.xfs >/dev/null; then
    truncate -s 300M "$tmp/xfs.img" && mkfs.xfs -q "$tmp/xfs.img" && types="$types xfs"
else
    skip "xfs" "no xfs here"
fi
if have_fs btrfs && command -v mkfs.btrfs >/dev/null; then
    truncate -s 128M "$tmp/btrfs.img" && mkfs.btrfs -q "$tmp/btrfs.img" >/dev/null && types="$types btrfs"
else
    skip "btrfs" "no btrfs here"
fi
fill() { # DIR
    mkdir -p "$1/d/e" "$1/d.x" && echo a >"$1/d/a" && ln "$1/d/a" "$1/d/e/b" && ln -s a "$1/link" &&
        mkfifo "$1/fifo" && for i in 1 2 3 4 5 6 7 8; do echo "$i" >"$1/d/e/$i"; done
}
attach() { # TYPE...: in this order
    local type
    for type in "$@"; do
        mkdir -p "$x/$type" && mount -o loop "$tmp/$type.img" "$x/$type" || bail_out "mount $type"
    done
}
mount -t tmpfs -o size=1m root "$x" || bail_out "tmpfs"
# shellcheck disable=SC2086 # words
attach $types
for type in $types; do fill "$x/$type"; done
if [ -d "$x/btrfs" ]; then
    btrfs subvolume create "$x/btrfs/sub" >/dev/null && fill "$x/btrfs/sub" &&
        btrfs subvolume create "$x/btrfs/sub/d/nested" >/dev/null && fill "$x/btrfs/sub/d/nested" &&
        btrfs subvolume snapshot "$x/btrfs/sub" "$x/btrfs/snap" >/dev/null || bail_out "subvolumes"
fi
mkdir -p "$x/tmpfs" "$x/bind" "$x/ov" "$x/ovx" && mount -t tmpfs -o size=1m tmp "$x/tmpfs" && fill "$x/tmpfs"
mount --bind "$x/ext4/d" "$x/bind" && : >"$x/bound" && mount --bind "$x/ext4/d/a" "$x/bound" || bail_out "bind"
mount -t tmpfs -o size=1m layers "$tmp/layers" && mkdir -p "$tmp"/layers/{low,up,work,upx,workx} &&
    fill "$tmp/layers/low" || bail_out "layers"
overlays=
overlay() { # NAME OPTIONS UPPER WORK
    if mount -t overlay "$1" -o "$2,lowerdir=$tmp/layers/low:$x/ext4,upperdir=$tmp/layers/$3,workdir=$tmp/layers/$4" "$x/$1" 2>/dev/null; then
        echo up >"$x/$1/up" && echo more >>"$x/$1/d/a" && overlays="$overlays $1"
    else
        skip "overlay $2" "no such overlay here"
    fi
}
overlay ov xino=off up work
overlay ovx xino=on upx workx

start_qidmapd --export "x=$x" --store "$store" --listen "unix:$tmp/s" || bail_out "no server: $(cat "$qidmapd_log")"
"$stat9p" -R "unix:$tmp/s" x >"$tmp/seen" || bail_out "9pstat: $(cat "$tmp/seen")"

"$ctl" manifest --store "$store" -o "$tmp/manifest" "$x" >/dev/null
is $? 0 "a manifest of $types, tmpfs, overlays and bind mounts"
ids() { jq -r 'select(.row == "file") | "\(.id) /\(.path)"' "$1" | LC_ALL=C sort; }
is "$(ids "$tmp/manifest")" "$(awk '{ print $1, $4 }' "$tmp/seen" | LC_ALL=C sort)" "has the names and ids that a client sees"
group() { # PATH...
    for path in "$@"; do
        jq -r --arg p "$path" 'select(.path == $p) | "\(.fs) \(.link)"' "$tmp/manifest"
    done | sort -u | wc -l
}
for type in $types tmpfs; do
    is "$(group "$type/d/a" "$type/d/e/b")" 1 "$type: two names are one group"
done
if [ -d "$x/btrfs" ]; then
    is "$(jq -r 'select(.path == "btrfs/snap/d/nested") | .size' "$tmp/manifest")" 0 "what stands for a subvolume is there"
    is "$(jq -r 'select(.row == "fs") | select(.type == "btrfs") | .fs' "$tmp/manifest" | sort -u | wc -l)" 4 \
        "btrfs: four subvolumes are four filesystems"
fi
wrong=
while read -r id path; do
    [ "$("$ctl" lookup --json --store "$store" "$x$path" | jq -r .qid_path)" = "$id" ] || wrong="$wrong $path"
done < <(ids "$tmp/manifest" | grep -E '/(ov|ovx|btrfs/snap)(/d.*)?$')
is "$wrong" "" "lookup agrees"

# ---- another host: other device numbers, a copy of the store
"$ctl" copy "$store" "lmdb:$tmp/copy" >/dev/null || bail_out "no copy"
stop_qidmapd TERM
cp "$tmp/ext4.img" "$tmp/clone.img"
devices=$(for type in $types; do stat -c %d "$x/$type"; done | tr '\n' ' ')
declare -A had
for type in $types; do had[$type]=$(mountpoint -d "$x/$type"); done
attach_elsewhere() { # TYPE: by another loop device than before, which others may have given back
    local loop first
    loop=$(losetup -f --show "$tmp/$1.img") || bail_out "no loop device"
    if [ "$(mountpoint -x "$loop")" = "${had[$1]}" ]; then
        first=$loop
        loop=$(losetup -f --show "$tmp/$1.img") || bail_out "no loop device"
        losetup -d "$first"
    fi
    mount "$loop" "$x/$1" || bail_out "mount $1"
    losetup -d "$loop" # when it is unmounted
}
umount "$x/bound" "$x/bind"
for name in $overlays; do umount "$x/$name"; done
for type in $types; do umount "$x/$type"; done
loop=$(losetup -f --show "$tmp/clone.img") && on_exit "losetup -d $loop" # takes a number
for type in $(printf '%s\n' $types | tac); do attach_elsewhere "$type"; done
[ "$(for type in $types; do stat -c %d "$x/$type"; done | tr '\n' ' ')" != "$devices" ]
is $? 0 "device numbers are others"
out=$("$ctl" preflight --json --store "lmdb:$tmp/copy" "$x")
is $? 0 "preflight knows all"
verdict() { # PATH FIELD
    printf '%s\n' "$out" | jq -r --arg p "$1" "select(.row == \"fs\" and .path == \$p) | $2"
}
for type in $types; do
    is "$(verdict "$type" '"\(.verdict) \(.fs > 0)"')" "known true" "$type: known"
done
is "$(verdict ext4 '.moved | contains(["device number"])')" true "ext4: its device number has moved"
is "$(verdict tmpfs .verdict)" ephemeral "tmpfs: ephemeral"
if [ -d "$x/btrfs/sub" ]; then
    is "$(printf '%s\n' "$out" | jq -r 'select(.type == "btrfs") | "\(.path) \(.verdict)"' | sort | tr '\n' ';')" \
        "btrfs known;btrfs/snap known;btrfs/sub known;btrfs/sub/d/nested known;" "btrfs: each subvolume"
fi
start_qidmapd --export "x=$x" --store "lmdb:$tmp/copy" --listen "unix:$tmp/s2" || bail_out "no server: $(cat "$qidmapd_log")"
again=$("$stat9p" -R "unix:$tmp/s2" x | awk '{ print $1, $4 }' | grep -E ' /(ext4|xfs|btrfs)' | LC_ALL=C sort)
is "$again" "$(ids "$tmp/manifest" | grep -E ' /(ext4|xfs|btrfs)')" "and a server gives the ids of the manifest"
stop_qidmapd TERM

# ---- a clone beside its original, and a filesystem that never was there
mkdir "$x/clone" "$x/new" && mount "$loop" "$x/clone" || bail_out "clone"
truncate -s 8M "$tmp/new.img" && mkfs.ext4 -q "$tmp/new.img" && mount -o loop "$tmp/new.img" "$x/new" || bail_out "new"
before=$("$ctl" dump --json --store "lmdb:$tmp/copy")
out=$("$ctl" preflight --json --store "lmdb:$tmp/copy" "$x")
is $? 1 "a clone and a new filesystem are trouble"
is "$(verdict ext4 '"\(.verdict) \(.copies[])"')" "known clone" "the original is known, and the clone is named"
is "$(verdict clone '"\(.verdict) \(.copies[])"')" "new ext4" "the clone is new"
is "$(verdict new '"\(.verdict) \(.reason)"')" "new no filesystem of the store has its identity" "as is the stranger"
is "$("$ctl" dump --json --store "lmdb:$tmp/copy")" "$before" "nothing was changed"
[ -d "$x/xfs" ] && umount "$x/xfs" &&
    is "$("$ctl" preflight --json --store "lmdb:$tmp/copy" "$x" | jq -r 'select(.row == "absent" and .type == "xfs") | .type')" \
        xfs "what is not mounted is told"

# ---- trees of their own
mkdir "$x/tree2" && mount --bind "$x/ext4/d" "$x/tree2" || bail_out "bind"
printf '[export x]\npath=%s\nstore=lmdb:%s\nbind=distinct\n' "$x" "$tmp/distinct" >"$tmp/conf"
start_qidmapd --export "x=$x" --store "lmdb:$tmp/distinct" --bind distinct --listen "unix:$tmp/s3" ||
    bail_out "no server: $(cat "$qidmapd_log")"
"$stat9p" -R "unix:$tmp/s3" x >"$tmp/seen" || bail_out "9pstat: $(cat "$tmp/seen")"
"$ctl" manifest --config "$tmp/conf" -o "$tmp/manifest" x >/dev/null
is "$(ids "$tmp/manifest")" "$(awk '{ print $1, $4 }' "$tmp/seen" | LC_ALL=C sort)" "bind=distinct: the ids of each tree"
is "$(jq -r 'select(.path == "ext4/d/a" or .path == "tree2/a") | .id' "$tmp/manifest" | sort -u | wc -l)" 2 \
    "one file has two of them"

# ---- a filesystem that is there whole says how many files it has; one that is shown in part does not
inject=$builddir/tests/lib/.libs/inject.so
if command -v script >/dev/null && [ -e "$inject" ]; then
    mkdir "$tmp/many" "$tmp/part" && mount -t tmpfs many "$tmp/many" && mkdir "$tmp/many/d" &&
        (cd "$tmp/many/d" && seq -f "a-name-of-some-length-%010.0f" 4000 | xargs touch) &&
        mount --bind "$tmp/many/d" "$tmp/part" || bail_out "many"
    : >"$tmp/begin"
    holding=
    for tree in many part; do # held for a second at what it writes first
        script -qefc "stty cols 100; LD_PRELOAD='$inject' QIDMAP_INJECT='begin=$tmp/begin calls=write path=$tmp nth=1 error=PAUSE log=$tmp/$tree.log' \
            '$ctl' manifest --store '$store' -o '$tmp/$tree.json' '$tmp/$tree'" "$tmp/$tree.seen" </dev/null >/dev/null 2>&1 &
        holding="$holding $!"
    done
    wait_until 60 test -s "$tmp/many.log" -a -s "$tmp/part.log"
    sleep 1.2
    rm "$tmp/begin"
    # shellcheck disable=SC2086 # words
    wait $holding
    check "share and time left of a whole filesystem" \
        grep -aqE 'reading \[#*\.*\] +[0-9]+%  [0-9]+ names, [0-9]+/s, .* left' "$tmp/many.seen"
    check "the number alone of a part" grep -aqE 'reading: [0-9]+ names, ' "$tmp/part.seen"
else
    tap_diag "how far it is was not looked at: no script (util-linux)"
fi

tap_done
