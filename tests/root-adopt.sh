#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: files copied from ext4 to xfs, to btrfs, or to another ext4, have over the wire the ids that they
# had, names that are no UTF-8 or have newlines and files with several names among them, the export's root
# too; in the store that gave the ids, and in another one. New files get ids that no file had. The old
# filesystem is refused when it comes again, and its ids are never given again. A commit that is killed at
# random points (ADOPT_KILLS=N: so many) into a store with ids of its own can be given again, and ends well.
# A filesystem of which no file moved keeps its ids.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
on_exit 'unmount_below "$tmp"'

ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
stat9p=$(find_program 9pstat) || bail_out "no 9pstat below $builddir: run make check first"

attach() { # TYPE PLACE: a new filesystem
    local options=loop
    truncate -s "$([ "$1" = xfs ] && echo 320M || echo 128M)" "$tmp/$2.image"
    "mkfs.$1" -q "$tmp/$2.image" >/dev/null 2>&1 || return 1
    mkdir -p "$tmp/$2" && mount -t "$1" -o "$options" "$tmp/$2.image" "$tmp/$2"
}
serve() { # STORE PLACE
    rm -f "$tmp/s"
    start_qidmapd --export "tree=$tmp/$2/tree" --store "lmdb:$tmp/$1" --listen "unix:$tmp/s" ||
        bail_out "no server: $(tail "$qidmapd_log")"
}
ids() { # STORE PLACE
    serve "$1" "$2"
    "$stat9p" -R "unix:$tmp/s" tree | sort
    stop_qidmapd
}
adopt() { # STORE PLACE: quietly, and tells the exit statuses
    "$ctl" adopt --store "lmdb:$tmp/$1" "$tmp/manifest" "$tmp/$2/tree" >"$tmp/out" 2>"$tmp/err"
    echo -n "$? "
    "$ctl" adopt --store "lmdb:$tmp/$1" --commit --yes >>"$tmp/out" 2>>"$tmp/err"
    echo $?
}

attach ext4 old || bail_out "no ext4"
# one that the store knows before, so that its numbers are not those of every store
attach ext4 first && mkdir "$tmp/first/tree" && ids store first >/dev/null && umount "$tmp/first"
mkdir -p "$tmp/old/tree/sub/deep" && cd "$tmp/old/tree" || bail_out "no folder"
touch $'new\nline' $'bytes-\xff\xfe' 'back\slash' a.b && mkdir a && touch a/z
echo linked >one && ln one sub/two && ln one sub/deep/three && ln -s one sym && mkfifo fifo
mknod null c 1 3
for i in {1..40}; do echo "$i" >"sub/deep/f$i"; done
cd / || exit 1
ids store old >"$tmp/before"
check "manifest" "$ctl" manifest --store "lmdb:$tmp/store" -o "$tmp/manifest" "$tmp/old/tree"

for type in xfs btrfs ext4; do
    if ! have_fs "$type" || ! command -v "mkfs.$type" >/dev/null; then
        skip "$type" "no $type in this kernel"
        continue
    fi
    new=new-$type
    attach "$type" "$new" || bail_out "no $type"
    touch "$tmp/$new/"{1..9} # other inode numbers
    cp -a "$tmp/old/tree" "$tmp/$new/tree"
    # in a store that knows nothing of the old one, on another host
    is "$(adopt "empty-$type" "$new")" "0 0" "ext4 to $type, another store"
    is "$(ids "empty-$type" "$new")" "$(cat "$tmp/before")" "and all ids are the same"
    check "and it is whole" "$ctl" verify --store "lmdb:$tmp/empty-$type"
    rm -rf "$tmp/store-$type" && "$ctl" copy "lmdb:$tmp/store" "lmdb:$tmp/store-$type" --latest >/dev/null
    is "$(adopt "store-$type" "$new")" "0 0" "ext4 to $type, a copy of the store"
    is "$(ids "store-$type" "$new")" "$(cat "$tmp/before")" "and all ids are the same"
    check "and it is whole" "$ctl" verify --store "lmdb:$tmp/store-$type"
    touch "$tmp/$new/tree/late"
    late=$(ids "store-$type" "$new" | awk '$4 == "/late" { print $1 }')
    [ -n "$late" ] && ! grep -q "^$late " "$tmp/before" && ok "a new file has a new id" ||
        not_ok "a new file has a new id" "$late"
    for store in "store-$type" "empty-$type"; do
        serve "$store" old
        check_fails "the old filesystem is refused ($store)" "$stat9p" "unix:$tmp/s" tree
        stop_qidmapd
    done
    check "and the log says why" grep -q 'moved' "$qidmapd_log"
done

# ---- killed, in a store with ids of its own ------------------------------------------------------

inject=$builddir/tests/lib/.libs/inject.so
kills=${ADOPT_KILLS:-6}
again() { # what the next turn begins with: nothing of the last one, and the stage for it
    rm -rf "$tmp"/work* && "$ctl" load --store "lmdb:$tmp/work" --latest "$tmp/own.dump" >/dev/null &&
        "$ctl" adopt --store "lmdb:$tmp/work" "$tmp/manifest" "$tmp/new-ext4/tree" >/dev/null
}
commit() { "$ctl" adopt --store "lmdb:$tmp/work" --commit --yes; }
bound() { "$ctl" dump --store "lmdb:$tmp/work" --json 2>&1 | grep -E '"row":"(affix|full)"' | cksum; }
if [ ! -e "$inject" ]; then
    skip "adopt --commit, killed" "no $inject: run make check first"
else
    # the ids of the other store come after those that this one has given
    mount -t ext4 -o loop "$tmp/first.image" "$tmp/first"
    mkdir -p "$tmp/first/tree"
    ids mine first >"$tmp/own" && "$ctl" dump --store "lmdb:$tmp/mine" --json >"$tmp/own.dump"
    again && old=$(bound)
    LD_PRELOAD=$inject QIDMAP_INJECT="log=$tmp/calls" commit >/dev/null 2>"$tmp/err"
    new=$(bound) calls=$(wc -l <"$tmp/calls") wrong=
    check_fails "adopting changes a store with ids of its own" test "$old" = "$new"
    for ((i = 0; i < kills; i++)); do
        point=$((calls - RANDOM % (i % 2 ? calls : 30 < calls ? 30 : calls)))
        again || wrong="$wrong $point: not staged"
        { LD_PRELOAD=$inject QIDMAP_INJECT="nth=$point error=KILL" commit >/dev/null; } 2>/dev/null
        seen=$(bound)
        [ "$seen" = "$old" ] || [ "$seen" = "$new" ] || wrong="$wrong $point: neither"
        "$ctl" verify --store "lmdb:$tmp/work" >"$tmp/verify" 2>&1 || wrong="$wrong $point: $(cat "$tmp/verify")"
        [ ! -e "$tmp/work.adopt/data.mdb" ] || commit >/dev/null 2>"$tmp/err" || wrong="$wrong $point, again: $(cat "$tmp/err")"
        [ "$(bound)" = "$new" ] || wrong="$wrong $point, in the end"
    done
    is "$wrong" "" "adopt --commit, killed at $kills of $calls calls, into a store with ids of its own"
    is "$(ids work new-ext4 | grep -v ' /late$')" "$(cat "$tmp/before")" "and the ids are right"
fi

# ---- what was mounted below, and did not move ------------------------------------------------------

mountpoint -q "$tmp/first" || mount -t ext4 -o loop "$tmp/first.image" "$tmp/first"
mkdir -p "$tmp/first/tree/below" && attach ext4 second && mkdir "$tmp/second/tree" &&
    mount --bind "$tmp/second/tree" "$tmp/first/tree/below" && touch "$tmp/first/tree/below/"{x,y}
ids two first >"$tmp/two.ids"
"$ctl" manifest --store "lmdb:$tmp/two" "$tmp/first/tree" >"$tmp/two.manifest" 2>/dev/null
cp -ax "$tmp/first/tree" "$tmp/new-ext4/two"
"$ctl" adopt --store "lmdb:$tmp/two" "$tmp/two.manifest" "$tmp/new-ext4/two" >"$tmp/out" 2>&1
check "what was mounted there is missing" grep -q 'below: nothing below it is here' "$tmp/out"
check "the rest is adopted" "$ctl" adopt --store "lmdb:$tmp/two" --commit --yes
mkdir "$tmp/moved" && mount --bind "$tmp/new-ext4/two" "$tmp/moved" &&
    mount --bind "$tmp/second/tree" "$tmp/moved/below"
rm -f "$tmp/s"
start_qidmapd --export "tree=$tmp/moved" --store "lmdb:$tmp/two" --listen "unix:$tmp/s" || bail_out "no server"
is "$("$stat9p" -R "unix:$tmp/s" tree | sort)" "$(cat "$tmp/two.ids")" "mounted again below the copy, it has its ids"
stop_qidmapd

# ---- the store itself, while a daemon has it ----------------------------------------------------

rm -f "$tmp/s"
start_qidmapd --export "tree=$tmp/old/tree" --export "new=$tmp/new-ext4/tree" --store "lmdb:$tmp/store" \
    --listen "unix:$tmp/s" || bail_out "no server: $(tail "$qidmapd_log")"
"$ctl" adopt --store "lmdb:$tmp/store" "$tmp/manifest" "$tmp/new-ext4/tree" >"$tmp/out" 2>&1
is $? 0 "staging works beside a daemon"
is "$("$stat9p" -R "unix:$tmp/s" tree | sort)" "$(cat "$tmp/before")" "and changes nothing"
# a client that stays: Tversion, Tattach, and nothing more
if command -v python3 >/dev/null; then
    mkfifo "$tmp/stay"
    python3 - "$tmp/s" "$tmp/stay" <<'END' &
import socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def t(kind, tag, body): s.sendall(struct.pack("<IBH", 7 + len(body), kind, tag) + body); s.recv(8192)
t(100, 65535, struct.pack("<IH", 8192, 8) + b"9P2000.L")
t(104, 1, struct.pack("<II", 0, 0xffffffff) + struct.pack("<H", 4) + b"root" +
  struct.pack("<H", 4) + b"tree" + struct.pack("<I", 0))
open(sys.argv[2], "w").close()
open(sys.argv[2]).close()
END
    cat "$tmp/stay" >/dev/null
    "$ctl" adopt --store "lmdb:$tmp/store" --commit --yes >"$tmp/out" 2>"$tmp/err"
    is $? 3 "adopt --commit is refused while a client is attached"
    check "and the session is named" grep -q 'export tree' "$tmp/err"
    : >"$tmp/stay"
    wait $!
else
    skip "adopt --commit while a client is attached" "no python3"
fi
commit() { "$ctl" adopt --store "lmdb:$tmp/store" --commit --yes >"$tmp/out" 2>"$tmp/err"; }
if wait_until 60 commit; then ok "the daemon adopts"; else not_ok "the daemon adopts" "$(cat "$tmp/err")"; fi
check "what was there is beside the store" test -s "$(sed -n 's/^what was there: //p' "$tmp/out")"
is "$("$stat9p" -R "unix:$tmp/s" new | sort | grep -v ' /late$')" "$(cat "$tmp/before")" \
    "the new export shows the old ids at once"
check_fails "and the old one is refused" "$stat9p" "unix:$tmp/s" tree
stop_qidmapd
check "the store is whole" "$ctl" verify --store "lmdb:$tmp/store"
tap_done
