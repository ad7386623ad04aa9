#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: on-duplicate=refuse serves what has its ids and nothing that looks like it, names both in
# the log once, and takes up what is no duplicate any more; split gives each its own ids. On the wire,
# an overlay without xino keeps its ids over copy-up, remount and restart, and policy deny is EPERM.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_loop
on_exit 'unmount_below "$tmp"'
x=$tmp/x
mkdir -p "$x/a" "$x/b" "$tmp/y"

serve() { # DIR ARG...
    local dir=$1
    shift
    rm -f "$tmp/s"
    : >"$qidmapd_log"
    start_qidmapd --export "x=$dir" --listen "unix:$tmp/s" "$@"
}
stat9() { timeout 300 "$top_builddir/tests/9pstat" "$@" 2>&1; }
listed() { stat9 -R "unix:$tmp/s" x | awk '{ print $4 }' | sort | tr '\n' ' '; }
error_of() { stat9 "unix:$tmp/s" x "$1" | sed -n 's/^9pstat: .*: walk: //p'; }
id_of() { stat9 "unix:$tmp/s" x "$1" | cut -d' ' -f1; }
refusals() { grep -c 'is refused' "$qidmapd_log"; }

# ---- duplicates
truncate -s 16M "$tmp/one"
mkfs.ext4 -q "$tmp/one" || bail_out "mkfs.ext4 failed"
mount -o loop "$tmp/one" "$x/a"
rmdir "$x/a/lost+found"
echo f >"$x/a/file"
umount "$x/a"
cp "$tmp/one" "$tmp/two"
mount -o loop "$tmp/one" "$x/a"

serve "$x" --store "lmdb:$tmp/store" --on-duplicate refuse || bail_out "no server: $(cat "$qidmapd_log")"
is "$(listed)" "/ /a /a/file /b " "refuse: one of its kind is served"
a=$(id_of a/file)
mount -o loop "$tmp/two" "$x/b"
is "$(error_of b)" "No such device" "refuse: a copy that comes later gives ENODEV"
is "$(error_of b/file)" "No such device" "refuse: and its files"
is "$(listed)" "/ /a /a/file " "refuse: it is not listed"
is "$(id_of a/file)" "$a" "refuse: what has its ids keeps them"
is "$(refusals)" 1 "refuse: the log tells it once"
check "refuse: and names both" grep -q "on $x/b is refused.*on $x/a" "$qidmapd_log"
stop_qidmapd TERM
serve "$x" --store "lmdb:$tmp/store" --on-duplicate refuse || bail_out "no server: $(cat "$qidmapd_log")"
is "$(listed) $(refusals)" "/ /a /a/file  1" "refuse: the same after a restart, told at the start"
stop_qidmapd TERM
serve "$x" --store memory: --on-duplicate refuse || bail_out "no server: $(cat "$qidmapd_log")"
is "$(listed) $(refusals)" "/  2" "refuse: where none has ids yet, none is served"
unmount "$x/b"
is "$(listed)" "/ /a /a/file /b " "refuse: the one that is left is no duplicate any more"
mount -o loop "$tmp/two" "$x/b"
stop_qidmapd TERM
if serve "$x/b" --store "lmdb:$tmp/store" --on-duplicate refuse; then
    stop_qidmapd TERM
    tap_diag "the copy alone was taken for the original's place"
fi
serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
b=$(id_of b/file)
is "$(id_of a/file)" "$a" "split: the original keeps its ids"
[ "$b" != "$a" ] && [ -n "$b" ] && ok "split: the copy has its own" || not_ok "split: the copy" "$b"
stop_qidmapd KILL
umount "$x/a" "$x/b"
mount -o loop "$tmp/two" "$x/a"
serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
is "$(id_of a/file)" "$b" "split: the copy has its ids alone at the original's place, too"
mount -o loop "$tmp/one" "$x/b"
is "$(id_of b/file)" "$a" "split: and the original at the copy's"
stop_qidmapd TERM
umount "$x/a" "$x/b"

# ---- overlay without xino
if have_fs overlay; then
    o=$tmp/o
    mkdir "$o"
    truncate -s 32M "$tmp/lower"
    mkfs.ext4 -q "$tmp/lower"
    mount -o loop "$tmp/lower" "$o"
    mkdir "$o/l1" "$o/l2" "$o/up" "$o/work"
    mkdir "$tmp/o2"
    truncate -s 32M "$tmp/lower2"
    mkfs.ext4 -q "$tmp/lower2"
    mount -o loop "$tmp/lower2" "$tmp/o2" # lowers on two filesystems: inode numbers meet
    mkdir "$tmp/o2/l3"
    for i in 1 2 3 4 5; do echo "$i" >"$o/l1/f$i"; echo "$i" >"$tmp/o2/l3/g$i"; done
    ln "$tmp/o2/l3/g4" "$tmp/o2/l3/h4"
    over() { # [OPTIONS]
        mount -t overlay none "$x/a" -o \
            "lowerdir=$o/l1:$o/l2:$tmp/o2/l3,upperdir=$o/up,workdir=$o/work,${1:-xino=off,index=on}"
    }
    # Files with several names are one file.
    ids_of_all() { stat9 -R "unix:$tmp/s" x | awk '{ print $1, $4 }' | sort; }
    over || bail_out "cannot mount overlay"
    serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
    ids_of_all >"$tmp/first"
    is "$(grep -v h4 "$tmp/first" | cut -d' ' -f1 | uniq -d)" "" "overlay: no id twice"
    is "$(id_of a/g4)" "$(id_of a/h4)" "overlay: two names of a file have one id"
    echo more >>"$x/a/f1"
    chmod 600 "$x/a/f2"
    echo more >>"$x/a/g1"
    ids_of_all >"$tmp/second"
    is "$(diff "$tmp/first" "$tmp/second")" "" "overlay: copy-up changes no id"
    stop_qidmapd KILL
    umount "$x/a"
    over
    serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
    stat9 -R "unix:$tmp/s" x >"$tmp/raw"
    is "$?" 0 "overlay: Treaddir, Twalk and Tgetattr agree"
    awk '{ print $1, $4 }' "$tmp/raw" | sort >"$tmp/second"
    is "$(diff "$tmp/first" "$tmp/second")" "" "overlay: the same after a remount and a restart"
    stop_qidmapd TERM
    umount "$x/a"

    # Without an index, a file with two names that is written to through one of them is two files.
    over xino=off,index=off
    serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
    h4=$(id_of a/h4)
    echo more >>"$x/a/g4"
    if [ "$(cat "$x/a/g4")" = "$(cat "$x/a/h4")" ]; then
        not_ok "overlay: the names part" "they do not: this shows nothing"
    fi
    check "overlay: names that part have different ids" [ "$(id_of a/g4)" != "$(id_of a/h4)" ]
    is "$(id_of a/h4)" "$h4" "overlay: the name that was not written to keeps its id"
    stop_qidmapd TERM
    umount "$x/a"

    # Other options of the mount that would renumber are not passed over in silence.
    rm -rf "$o/up" "$o/work"
    mkdir "$o/up" "$o/work"
    over xino=on
    serve "$x" --store "lmdb:$tmp/store-xino" || bail_out "no server: $(cat "$qidmapd_log")"
    f3=$(id_of a/f3)
    stop_qidmapd TERM
    umount "$x/a"
    over xino=off
    : >"$qidmapd_log"
    serve "$x" --store "lmdb:$tmp/store-xino" || bail_out "no server: $(cat "$qidmapd_log")"
    check "overlay: xino switched off gives new ids" [ "$(id_of a/f3)" != "$f3" ]
    check "and the log says so" grep -q "cannot keep the policy" "$qidmapd_log"
    stop_qidmapd TERM
    umount "$x/a"
    over xino=on
    serve "$x" --store "lmdb:$tmp/store-xino" || bail_out "no server: $(cat "$qidmapd_log")"
    is "$(id_of a/f3)" "$f3" "overlay: with xino as before the old ids are back"
    stop_qidmapd TERM
    umount "$x/a"
else
    skip "overlay" "no overlay in this kernel"
fi

# ---- deny
mount -o loop "$tmp/one" "$x/a"
ctl=$(qidmapctl_program)
fs=$("$ctl" lookup --store "lmdb:$tmp/store" "$a" --json 2>/dev/null | sed -n 's/.*"fs": *"\{0,1\}\([0-9]*\).*/\1/p' | head -n 1)
if [ -n "$fs" ] && "$ctl" fs policy --store "lmdb:$tmp/store" --renumber --yes "$fs" deny >"$tmp/ctl" 2>&1; then
    serve "$x" --store "lmdb:$tmp/store" || bail_out "no server: $(cat "$qidmapd_log")"
    is "$(error_of a/file)" "Operation not permitted" "deny: a walk gives EPERM"
    is "$(listed)" "/ /b " "deny: it is not listed"
    stop_qidmapd TERM
else
    not_ok "deny: the policy of a row is changed" "$fs: $(cat "$tmp/ctl" 2>/dev/null)"
fi
tap_done
