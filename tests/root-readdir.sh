#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the id that Treaddir gives an entry is the one that Twalk and Tgetattr give, on every kind
# of filesystem, at mount points, bind-mounted files, subvolumes and `..`; and two paths have one id
# where the host says that they are one file, and nowhere else. With the calls of older kernels, too.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
[ -c /dev/fuse ] || skip_all "no /dev/fuse"
for tool in mkfs.ext4 mkfs.xfs mkfs.btrfs bindfs mergerfs; do
    command -v "$tool" >/dev/null || bail_out "$tool is missing"
done
x=$tmp/x
mkdir "$x"
on_exit 'unmount_below "$tmp"'

populate() { # DIR: one of each kind, in two levels
    local d=$1
    mkdir -p "$d/dir/sub" "$d/empty"
    echo a >"$d/file"
    echo b >"$d/dir/file"
    echo c >"$d/dir/sub/file"
    ln -s file "$d/link"
    ln "$d/dir/file" "$d/hard"
    mkfifo "$d/dir/fifo"
    for i in $(seq 1 40); do echo "$i" >"$d/empty/$i"; done
}

image() { # TYPE SIZE DIR
    truncate -s "$2" "$tmp/$1.img"
    "mkfs.$1" -q "$tmp/$1.img" >/dev/null 2>"$tmp/mkfs" || bail_out "mkfs.$1: $(cat "$tmp/mkfs")"
    mkdir -p "$3"
    mount -o loop "$tmp/$1.img" "$3" || bail_out "cannot mount $1"
}

populate "$x/host"
for type in ext4 xfs btrfs; do
    if have_fs "$type"; then
        image "$type" 320M "$x/$type"
        populate "$x/$type/tree"
    fi
done
if mountpoint -q "$x/btrfs"; then
    {
        btrfs subvolume create "$x/btrfs/vol"
        populate "$x/btrfs/vol/tree"
        btrfs subvolume create "$x/btrfs/vol/nested"
        btrfs subvolume create "$x/btrfs/vol/tree/deeper"
        echo n >"$x/btrfs/vol/nested/file"
        btrfs subvolume snapshot "$x/btrfs/vol" "$x/btrfs/snap"
        btrfs subvolume snapshot -r "$x/btrfs/vol" "$x/btrfs/vol/snap-inside"
    } >"$tmp/btrfs.log" 2>&1 || bail_out "$(cat "$tmp/btrfs.log")"
    mkdir "$x/btrfs-vol"
    mount -o loop,subvol=snap "$tmp/btrfs.img" "$x/btrfs-vol" 2>/dev/null ||
        mount --bind "$x/btrfs/snap" "$x/btrfs-vol"
fi
mkdir "$x/tmpfs"
mount -t tmpfs -o size=4m none "$x/tmpfs"
populate "$x/tmpfs/tree"

overlays=0
for xino in on off; do
    l=$tmp/src/$xino
    mkdir -p "$l" "$x/overlay-$xino"
    mount -t tmpfs -o size=16m none "$l"
    mkdir "$l/l1" "$l/l2" "$l/up" "$l/work"
    mount -t tmpfs -o size=4m none "$l/l1"
    mount -t tmpfs -o size=4m none "$l/l2"
    populate "$l/l1/one"
    populate "$l/l2/two"
    populate "$l/l1/both"
    populate "$l/l2/both"
    if have_fs overlay && mount -t overlay none "$x/overlay-$xino" \
        -o "lowerdir=$l/l1:$l/l2,upperdir=$l/up,workdir=$l/work,xino=$xino"; then
        overlays=$((overlays + 1))
        populate "$x/overlay-$xino/upper"
        echo changed >>"$x/overlay-$xino/one/file"
    fi
done

# binds: a directory and a file elsewhere, a mount inside a mount, a mount over a mount
mkdir "$x/bound" "$x/tmpfs/inner" "$x/tmpfs/inner-over"
touch "$x/bound-file" "$x/host/bound-file"
mount --bind "$x/host/dir" "$x/bound"
mount --bind "$x/tmpfs/tree/file" "$x/bound-file"
mount --bind "$x/host/file" "$x/host/bound-file"
mount -t tmpfs -o size=1m none "$x/tmpfs/inner"
populate "$x/tmpfs/inner/tree"
mkdir "$x/tmpfs/inner/innermost"
mount -t tmpfs -o size=1m none "$x/tmpfs/inner/innermost"
echo i >"$x/tmpfs/inner/innermost/file"
mount -t tmpfs -o size=1m none "$x/tmpfs/inner-over"
mount -t tmpfs -o size=1m none "$x/tmpfs/inner-over"
echo o >"$x/tmpfs/inner-over/file"

mkdir -p "$x/bindfs" "$x/mergerfs" "$x/inofs" "$tmp/src/b1" "$tmp/src/b2"
populate "$tmp/src/b1/one"
populate "$tmp/src/b2/two"
bindfs -o allow_other "$tmp/src/b1" "$x/bindfs" || bail_out "bindfs failed"
mergerfs -o allow_other,inodecalc=path-hash "$tmp/src/b1:$tmp/src/b2" "$x/mergerfs" ||
    bail_out "mergerfs failed"
printf '0x%x\n' 2 3 0x8000000000000001 0xffffffffffffffff >"$tmp/list"
"$top_builddir/tests/lib/inofs" "$tmp/list" "$x/inofs" -o fsname=inofs-readdir ||
    bail_out "inofs failed"

# What the host says: device:inode, path.
(cd "$x" && find . -printf '%D:%i %P\n') | sed 's, \(.*\), /\1,' >"$tmp/host"

# Ids that stand for two files of the host, or files that have two ids. Placeholders (inode 2 on
# btrfs) are one to the host, and not to us.
compare() { # RAW
    perl -e '
        my ($host, $raw) = @ARGV;
        my (%host, %of, %id);
        open(my $h, "<", $host); while (<$h>) { chomp; my ($k, $p) = split / /, $_, 2; $host{$p} = $k }
        open(my $r, "<", $raw);
        while (<$r>) {
            chomp; my ($q, undef, undef, $p) = split / /, $_, 4;
            my $k = $host{$p}; my $placeholder = $k && $k =~ /:2$/ && $p =~ m,/(snap|btrfs-vol),;
            print "unknown to the host: $p\n" unless defined $k;
            next unless defined $k;
            $k .= $p if $placeholder && $p =~ s,/btrfs-vol,/btrfs/snap,r;
            $k = $host{$p} . ($p =~ s,^/btrfs-vol,/btrfs/snap,r) if $placeholder;
            print "one id, two files: $p $of{$q}[1]\n" if $of{$q} && $of{$q}[0] ne $k;
            print "one file, two ids: $p $id{$k}[1]\n" if $id{$k} && $id{$k}[0] ne $q;
            $of{$q} = [$k, $p]; $id{$k} = [$q, $p]; delete $host{$p};
        }
        print "not shown: $_\n" for grep { $_ ne "/inofs/.." } sort keys %host;
    ' "$tmp/host" "$1"
}

tell() { tap_diag "$(head -n 10 "$1")"; }

for kernel in new old; do
    preload=
    [ "$kernel" = new ] || preload=$top_builddir/tests/lib/.libs/oldkernel.so
    rm -f "$tmp/s"
    LD_PRELOAD=$preload start_qidmapd --export "x=$x" --store "lmdb:$tmp/store-$kernel" \
        --markers no --listen "unix:$tmp/s" || bail_out "no server: $(tail "$qidmapd_log")"
    if "$top_builddir/tests/9pstat" -R "unix:$tmp/s" x >"$tmp/raw-$kernel" 2>"$tmp/errors"; then
        ok "$kernel kernel: Treaddir, Twalk and Tgetattr agree on $(wc -l <"$tmp/raw-$kernel") files"
    else
        not_ok "$kernel kernel: Treaddir, Twalk and Tgetattr agree" "$(head "$tmp/errors")"
    fi
    compare "$tmp/raw-$kernel" >"$tmp/compared-$kernel"
    is "$(wc -l <"$tmp/compared-$kernel")" 0 "$kernel kernel: one file, one id"
    [ ! -s "$tmp/compared-$kernel" ] || tell "$tmp/compared-$kernel"
    stop_qidmapd KILL
    rm -f "$tmp/s"
    LD_PRELOAD=$preload start_qidmapd --export "x=$x" --store "lmdb:$tmp/store-$kernel" \
        --markers no --listen "unix:$tmp/s" || bail_out "no server: $(tail "$qidmapd_log")"
    cut -d' ' -f4- "$tmp/raw-$kernel" | sed 's,^/,,' | tac | grep . >"$tmp/names"
    xargs -d '\n' -n 200 "$top_builddir/tests/9pstat" "unix:$tmp/s" x <"$tmp/names" 2>&1 |
        awk '{ print $1, "/" $4 }' | sort >"$tmp/second"
    is "$(awk '$4 != "/" { print $1, $4 }' "$tmp/raw-$kernel" | sort | diff - "$tmp/second" | head -n 5)" \
        "" "$kernel kernel: the same after kill -9, asked for backwards, without listing"
    stop_qidmapd TERM
done
[ "$overlays" = 2 ] && ok "overlays with xino on and off were among them" ||
    skip "overlays with xino on and off" "no overlay in this kernel"
tap_done
