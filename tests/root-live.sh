#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: whatever happens to filesystems under a running server and across its restarts (mounted,
# unmounted, swapped, cloned with dd, bound, subvolumes made and deleted), no two files ever share an
# id, and no file of a filesystem with an identity of its own changes it.
#
# An oracle keeps every (image, inode) with the id that it was shown with, for all rounds together.
# LONG=1: more rounds. The order of events is random; SEED=N repeats one.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
rounds=12
[ -z "${LONG:-}" ] || rounds=150
seed=${SEED:-$RANDOM}
RANDOM=$seed
tap_diag "SEED=$seed, $rounds rounds"

x=$tmp/x
images=$tmp/images
mkdir -p "$x" "$images"
declare -A where device # image -> mount point, loop device
free_all() {
    local i
    unmount_below "$tmp"
    for i in "${!device[@]}"; do losetup -d "${device[$i]}" 2>/dev/null; done
}
on_exit free_all

types=
for type in ext4 xfs btrfs; do
    have_fs "$type" && command -v "mkfs.$type" >/dev/null && types="$types $type"
done
[ -n "$types" ] || skip_all "no ext4 in this kernel"

options() { case $1 in xfs*) echo nouuid ;; *) echo defaults ;; esac; }

attach() { # IMAGE SLOT
    device[$1]=$(losetup -f --show "$images/$1") || bail_out "no loop device"
    mkdir -p "$x/$2"
    mount -o "$(options "$1")" "${device[$1]}" "$x/$2" 2>"$tmp/mount.log" || {
        losetup -d "${device[$1]}"
        unset "device[$1]"
        return 1
    }
    where[$1]=$2
}

detach() { # IMAGE
    [ -n "${where[$1]:-}" ] || return 0
    # not with -l: the same image on another device beside this one would be damaged
    unmount "$x/${where[$1]}" || bail_out "$1 stays busy"
    losetup -d "${device[$1]}"
    unset "where[$1]" "device[$1]"
}

populate() { # DIR
    mkdir -p "$1/d"
    for i in $(seq 1 15); do echo "$i" >"$1/d/f$i"; done
    ln "$1/d/f1" "$1/d/hard"
}

start() { start_qidmapd --export "x=$x" --store "lmdb:$tmp/store" --listen "unix:$tmp/s"; }

# What the host says of each path: the image and subvolume that it is on, its inode.
host_names() {
    local image slot path sub
    for image in "${!where[@]}"; do
        slot=${where[$image]}
        for path in "$x/$slot" "$x/$slot-bound"; do
            [ -d "$path" ] || continue
            [ "$path" = "$x/$slot" ] || mountpoint -q "$path" || continue
            case $image in
            btrfs*)
                find "$path" -printf '%D %i %p\n' | while read -r dev ino file; do
                    sub=$(dirs_of "$dev" "$path")
                    echo "$image/$sub:$ino ${file#"$x"}"
                done
                ;;
            *) find "$path" -printf "$image:%i %p\n" | sed "s, $x, ," ;;
            esac
        done
    done
}

# A btrfs device number as the uuid of its subvolume.
declare -A sub_uuid
dirs_of() { # DEV MOUNTPOINT
    [ -n "${sub_uuid[$1]:-}" ] || return 1
    echo "${sub_uuid[$1]}"
}
note_subvolumes() {
    local image path uuid
    sub_uuid=()
    for image in "${!where[@]}"; do
        case $image in btrfs*) ;; *) continue ;; esac
        while read -r path; do
            uuid=$(btrfs subvolume show "$path" | awk '$1 == "UUID:" { print $2 }')
            sub_uuid[$(stat -c %d "$path")]=${uuid:-top}
        done < <(echo "$x/${where[$image]}"; find "$x/${where[$image]}" -maxdepth 1 -name 'vol*')
    done
}

collisions=0
changed=0
looks=0
files=0
: >"$tmp/known"
look() { # compares all ids with the oracle's; new ones are noted
    local out
    if ! "$top_builddir/tests/9pstat" -R "unix:$tmp/s" x >"$tmp/raw" 2>"$tmp/errors"; then
        changed=$((changed + 1))
        tap_diag "round $round ($event): $(head -n 3 "$tmp/errors")"
    fi
    note_subvolumes
    host_names >"$tmp/host"
    out=$(perl -e '
        my ($known, $host, $raw) = @ARGV;
        my (%id, %of, %key, $collisions, $changed, $n) = ();
        ($collisions, $changed, $n) = (0, 0, 0);
        open(my $f, "<", $known);
        while (<$f>) { chomp; my ($k, $q) = split; $id{$k} = $q; $of{$q} = $k }
        open(my $h, "<", $host); while (<$h>) { chomp; my ($k, $p) = split / /, $_, 2; $key{$p} = $k }
        open(my $r, "<", $raw);
        while (<$r>) {
            chomp; my ($q, undef, undef, $p) = split / /, $_, 4;
            next unless defined(my $k = delete $key{$p});
            $n++;
            if (defined $id{$k} && $id{$k} ne $q) { $changed++; print STDERR "changed: $p $k $id{$k} $q\n" }
            if (defined $of{$q} && $of{$q} ne $k) { $collisions++; print STDERR "collision: $p $k $of{$q} $q\n" }
            $id{$k} //= $q; $of{$q} //= $k;
        }
        for (sort keys %key) { print STDERR "not shown: $_\n"; $changed++ }
        open(my $w, ">", $known); print $w "$_ $id{$_}\n" for keys %id;
        print "$collisions $changed $n ", scalar keys %id;
    ' "$tmp/known" "$tmp/host" "$tmp/raw" 2>"$tmp/told")
    [ ! -s "$tmp/told" ] || tap_diag "round $round ($event): $(head -n 4 "$tmp/told")"
    set -- $out
    collisions=$((collisions + $1))
    changed=$((changed + $2))
    looks=$((looks + $3))
    files=$4
}

# ---- the images: two of each type, and a clone of one
all=()
for type in $types; do
    for n in 1 2; do
        truncate -s 320M "$images/$type-$n"
        "mkfs.$type" -q "$images/$type-$n" >/dev/null 2>&1 || bail_out "mkfs.$type failed"
        attach "$type-$n" "setup" || bail_out "cannot mount $type: $(cat "$tmp/mount.log")"
        populate "$x/setup"
        [ "$type" != btrfs ] || { btrfs subvolume create "$x/setup/vol" && populate "$x/setup/vol"; } >/dev/null
        detach "$type-$n"
    done
    all+=("$type-1" "$type-2")
done
rmdir "$x/setup"
slots=0
for image in "${all[@]}"; do
    slots=$((slots + 1))
    attach "$image" "s$slots" || bail_out "cannot mount $image"
done
round=0 event=start
start || bail_out "no server: $(tail "$qidmapd_log")"
look
first_files=$files

# Copies of what has its ids: mounted beside the original, while the server runs.
clones=()
for type in $types; do
    if [ "$type" = btrfs ] && [ "$(uname -r | awk -F. '{ print ($1 * 100 + $2 >= 607) }')" != 1 ]; then
        continue # needs temp_fsid
    fi
    sync -f "$x"
    detach "$type-1"
    cp --sparse=always "$images/$type-1" "$images/$type-1c"
    slots=$((slots + 1))
    event="clone of $type"
    attach "$type-1" "s$slots" || bail_out "cannot mount $type-1 again"
    slots=$((slots + 1))
    attach "$type-1c" "s$slots" || { tap_diag "no clone of $type: $(cat "$tmp/mount.log")"; continue; }
    clones+=("$type-1c")
    look
done
is "$collisions collisions, $changed changed" "0 collisions, 0 changed" \
    "a clone of each type beside its original, which keeps its ids"
[ "$files" -gt "$first_files" ] && ok "the clones have ids of their own: $files files known" ||
    not_ok "the clones have ids of their own" "$first_files before, $files after"
all+=("${clones[@]}")

pick() { # one that is mounted
    local mounted=("${!where[@]}")
    [ "${#mounted[@]}" -gt 0 ] || return 1
    picked=${mounted[$((RANDOM % ${#mounted[@]}))]}
}
unbind() { # SLOT
    ! mountpoint -q "$x/$1-bound" || unmount "$x/$1-bound"
    rmdir "$x/$1-bound" 2>/dev/null
}

subvolumes=0
for round in $(seq 1 "$rounds"); do
    case $((RANDOM % 8)) in
    0) # two change places, and devices
        pick; a=$picked; pick; b=$picked
        event="swap $a $b"
        sa=${where[$a]} sb=${where[$b]}
        if [ "$a" != "$b" ]; then
            unbind "$sa"; unbind "$sb"
            detach "$a"; detach "$b"
            attach "$b" "$sa"; attach "$a" "$sb"
        fi
        ;;
    1) # one goes, and comes elsewhere
        pick; a=$picked; s=${where[$a]}
        event="move $a"
        unbind "$s"; detach "$a"; look
        slots=$((slots + 1))
        attach "$a" "s$slots"
        ;;
    2) # all go, and come in another order, with the server dead
        event="restart"
        stop_qidmapd KILL
        for a in "${!where[@]}"; do unbind "${where[$a]}"; done
        for a in "${!where[@]}"; do detach "$a"; done
        n=0
        for a in $(printf '%s\n' "${all[@]}" | shuf --random-source=<(yes "$RANDOM")); do
            n=$((n + 1))
            attach "$a" "s$n" || tap_diag "cannot mount $a: $(cat "$tmp/mount.log")"
        done
        rm -f "$tmp/s"
        start || bail_out "no server: $(tail "$qidmapd_log")"
        ;;
    3) # only one of a pair of copies, or neither, is there when the server starts
        event="one of a pair"
        stop_qidmapd KILL
        for a in "${all[@]}"; do
            case $a in
            *-1 | *-1c)
                if [ -n "${where[$a]:-}" ] && [ $((RANDOM % 2)) = 0 ]; then
                    unbind "${where[$a]}"; detach "$a"
                fi
                ;;
            esac
        done
        rm -f "$tmp/s"
        start || bail_out "no server: $(tail "$qidmapd_log")"
        look
        for a in "${all[@]}"; do
            [ -n "${where[$a]:-}" ] || { slots=$((slots + 1)); attach "$a" "s$slots"; }
        done
        ;;
    4)
        pick; a=$picked
        event="bind $a"
        unbind "${where[$a]}"
        mkdir -p "$x/${where[$a]}-bound"
        mount --bind "$x/${where[$a]}" "$x/${where[$a]}-bound"
        ;;
    5) # a subvolume is deleted, and another takes its device number
        event="subvolumes"
        for a in "${!where[@]}"; do
            case $a in btrfs*) ;; *) continue ;; esac
            d=$x/${where[$a]}
            for n in 1 2 3; do
                subvolumes=$((subvolumes + 1))
                btrfs subvolume snapshot "$d/vol" "$d/vol-$subvolumes" >/dev/null 2>&1
                "$top_builddir/tests/9pstat" -R "unix:$tmp/s" x >/dev/null 2>&1
                btrfs subvolume delete "$d/vol-$((subvolumes - RANDOM % 2))" >/dev/null 2>&1
            done
            find "$d" -maxdepth 1 -name 'vol-*' | sort -R | tail -n +4 | while read -r v; do
                btrfs subvolume delete "$v" >/dev/null 2>&1
            done
        done
        ;;
    6) # files come; none that is known goes, as inodes are given again
        pick; a=$picked
        event="files on $a"
        for n in 1 2 3 4 5; do echo "$n" >"$x/${where[$a]}/d/r$round-$n"; done
        ;;
    7)
        event="clean restart"
        stop_qidmapd TERM
        rm -f "$tmp/s"
        start || bail_out "no server: $(tail "$qidmapd_log")"
        ;;
    esac
    look
done
tap_diag "$rounds rounds, $looks ids compared, $files files: $collisions collisions, $changed changed"
is "$collisions" 0 "no two files ever shared an id"
is "$changed" 0 "no file changed its id"
[ "$looks" -gt 0 ] && [ "$files" -gt 50 ] && ok "files were looked at" || not_ok "files were looked at"
tap_done
