#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: users who may not reach the store have ids like everybody, new ones included. When the disk of the store takes no more, files that are known keep their ids over the
# wire, new ones are refused with an error, the daemon says so in its log, once, with what is wrong,
# and gives no id away that is not stored.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
need_root
inofs=$builddir/tests/lib/inofs
inject=$builddir/tests/lib/.libs/inject.so
[ -x "$inofs" ] || skip_all "no libfuse3 in the build"
[ -e "$inject" ] || skip_all "no tests/lib/inject.so in the build"
! ldd "$builddir/src/.libs/qidmapd" | grep -qE 'lib(a|t|ub)san' ||
    skip_all "sanitizers do not go with preloaded libraries"

# The first who comes is somebody without any rights.
chmod 755 "$tmp"
mkdir "$tmp/plain"
echo one >"$tmp/plain/file"
chmod 700 "$tmp/plain/file"
nobody() { # COMMAND...
    LD_LIBRARY_PATH=$builddir/store/.libs setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>&1
}
start_qidmapd --export "plain=$tmp/plain" --store "lmdb:$tmp/closed" --listen "unix:$tmp/open" ||
    bail_out "qidmapd did not start: $(cat "$qidmapd_log")"
chmod 666 "$tmp/open"
is "$(stat -c %a "$tmp/closed")" 700 "nobody else reaches the store"
is "$(nobody "$stat9p" "unix:$tmp/open" plain -R | wc -l)" 2 "a user without rights sees ids"
stop_qidmapd

# Each of these needs a row of its own: they differ in their high bits.
tree=$tmp/fuse
mkdir "$tree"
for i in 1 2 3 4 5 6; do
    printf '0x%d00000000000000%d\n' "$i" "$i"
    eval "f$i=f-${i}00000000000000$i"
done >"$tmp/list"
"$inofs" "$tmp/list" "$tree" 2>"$tmp/err" || skip_all "FUSE cannot be mounted: $(cat "$tmp/err")"
on_exit "umount -l '$tree' 2>/dev/null"

ids() { "$stat9p" "$address" tree "$@" 2>&1; }

# How many flushes it takes to start and to see the first three files.
export LD_PRELOAD=$inject QIDMAP_INJECT="calls=fdatasync path=data.mdb log=$tmp/calls"
serve_tree
unset LD_PRELOAD
known=$(ids $f1 $f2 $f3)
calls=$(wc -l <"$tmp/calls")
stop_qidmapd
rm -rf "$tmp/store"
check "mapping flushes to the disk" test "$calls" -gt 3

export LD_PRELOAD=$inject QIDMAP_INJECT="calls=fdatasync path=data.mdb nth=$((calls + 1)) count=0"
: >"$qidmapd_log"
serve_tree
unset LD_PRELOAD
known=$(ids $f1 $f2 $f3)
check "three files are known" test "$(printf '%s\n' "$known" | wc -l)" = 3
ids $f4 >"$tmp/new"
check "a new file is refused" grep -q "Input/output error" "$tmp/new"
ids $f5 >>"$tmp/new"
is "$(ids $f1 $f2 $f3)" "$known" "known files keep their ids"
is "$(grep -c "a write to the store failed" "$qidmapd_log")" 1 "the log says it once"
check "the daemon lives" kill -0 "$qidmapd_pid"
stop_qidmapd KILL

unset QIDMAP_INJECT
serve_tree
is "$(ids $f1 $f2 $f3)" "$known" "after a restart known files have their ids"
ids $f1 $f2 $f3 $f4 $f5 $f6 >"$tmp/all"
is "$(cut -d' ' -f1 "$tmp/all" | sort -u | wc -l)" 6 "new ones get ids, no id twice"
stop_qidmapd
tap_done
