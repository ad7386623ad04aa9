#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a FUSE filesystem with inode numbers of its own is told from one that counts; a marker
# makes it known at any place, unless it was copied there; and one that is dead or does not answer
# is an error, not a wait without end.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_mounts
[ -c /dev/fuse ] || skip_all "no /dev/fuse"
identify=$top_builddir/tests/lib/identify
inofs=$top_builddir/tests/lib/inofs

cd "$tmp" || exit 1
mkdir src src2 other m m2
for i in 1 2 3 4; do echo "$i" >"src/f$i"; done
mkdir src/dir src2/dir2
echo x >src/dir/x
undo() {
    cd / || return
    umount -l "$tmp/m" "$tmp/m2" 2>/dev/null
}
on_exit undo
policy() { "$identify" "$1" | cut -d' ' -f1; }
what() { "$identify" "$1" | cut -d' ' -f3-; }

if command -v mergerfs >/dev/null; then
    mergerfs src:src2 m
    counts=$(stat -c %i m/f1)
    if [ "$counts" -lt 100 ]; then
        is "$(policy m)" ephemeral "mergerfs without use_ino counts: ephemeral"
        id=$(what m)
        is "$(what m)" "$id" "the same instance while it is mounted"
        unmount m
        mergerfs src:src2 m
        if printf '6.8\n%s\n' "$(uname -r)" | sort -VC; then
            [ "$(what m)" != "$id" ]
            is $? 0 "another one after a remount"
        else # the mount may get the id and the device number of the one before
            skip "another one after a remount" "no unique mount ids in this kernel"
        fi
    fi
    unmount m
    mergerfs -o use_ino,inodecalc=path-hash src:src2 m
    is "$(policy m)" affix "mergerfs with use_ino has its own"
    is "$(what m)" "$(what m/dir/x)" "the same identity from a file of it"
    unmount m
else
    skip "mergerfs" "no mergerfs"
fi

if [ -x "$inofs" ]; then
    printf '0x2\n0x3\n0x8000000000000001\n' >list
    "$inofs" list m
    is "$(policy m)" affix "chosen inode numbers, some equal to a counter by chance: affix"
    check "without xattrs a marker is refused" \
        sh -c '"$0" --mark "$1" | grep -q "extended attributes"' "$identify" "$tmp/m"
    unmount m
else
    skip "chosen inode numbers" "no inofs (libfuse)"
fi

if command -v bindfs >/dev/null; then
    bindfs src m
    is "$(policy m)" affix "bindfs has the inode numbers of what it shows"
    case "$(what m)" in
    weak:*) ok "unmarked it is known by its names" ;;
    *) not_ok "unmarked it is known by its names" "$(what m)" ;;
    esac
    marker=$("$identify" --mark m)
    is "$(what m)" "marker:$marker" "marked it is known by its marker"
    is "$(getfattr -n trusted.qidmap.fuse -e hex --only-values src | wc -c)" 40 \
        "the marker is 40 bytes on the root"
    "$identify" --register "lmdb:$tmp/store" m >/dev/null
    marked=$("$identify" --register "lmdb:$tmp/store" m)
    unmount m
    bindfs src m2
    is "$("$identify" --register "lmdb:$tmp/store" m2)" "$marked" "elsewhere it finds its row"
    # A copy of the folder, marker and all, is another filesystem.
    cp -a src copy
    setfattr -n trusted.qidmap.fuse \
        -v "0x$(getfattr -n trusted.qidmap.fuse -e hex src 2>/dev/null | sed -n 's/.*=0x//p')" copy
    bindfs copy m
    case "$(what m)" in
    weak:*) ok "a copied marker shows itself" ;;
    *) not_ok "a copied marker shows itself" "$(what m)" ;;
    esac
    check "and explain says so" \
        sh -c '"$0" --explain "$1" | grep -q "^marker -[0-9]* a marker that was copied"' "$identify" \
        "$tmp/m"
    both=$("$identify" --register "lmdb:$tmp/store" m m2)
    is "${both#* }" "$marked" "beside it the original keeps its row"
    [ "${both% *}" != "$marked" ]
    is $? 0 "and the copy gets another"
    setfattr -n trusted.qidmap.fuse -v '0s////' copy
    case "$(what m)" in
    weak:*) ok "nonsense in its place is no marker" ;;
    *) not_ok "nonsense in its place is no marker" "$(what m)" ;;
    esac
    unmount m
    unmount m2
    bindfs -r src m
    check "a read-only one is not marked" \
        sh -c '"$0" --mark "$1" | grep -q "Read-only"' "$identify" "$tmp/m"
    unmount m
else
    skip "bindfs" "no bindfs"
fi

if [ -x "$inofs" ]; then
    "$inofs" "$tmp/list" "$tmp/m" || bail_out "inofs does not mount"
    server=$(pgrep -f "inofs $tmp/list $tmp/m") # this very one
    kill -STOP "$server"
    check "one that does not answer is given up" \
        sh -c '"$0" "$1" | grep -q "does not answer"' "$identify" "$tmp/m"
    kill -CONT "$server"
    wait_until 60 test -e m/f-0000000000000002
    is "$(policy m)" affix "when it answers again it is known again"
    kill -KILL "$server"
    wait_until 60 process_gone "$server"
    check "one whose server has died is an error" \
        sh -c '"$0" "$1" | grep -q "cannot be looked at"' "$identify" "$tmp/m"
    umount m
fi
tap_done
