#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: one daemon at a time writes to a store. The second is refused with pid and name of the
# first; what a dead one left in the lock file, even with the pid of a living process, keeps nobody
# out. A store on a FUSE filesystem is refused, by name.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all
first=$qidmapd_pid

second() { # a daemon that must not start; its words go to $tmp/second
    timeout 120 "$(qidmapd_program)" --export "tree=$tree" --store "$store" \
        --listen "unix:$tmp/socket2" >"$tmp/second" 2>&1 </dev/null
}

second
is $? 1 "a second daemon on the store ends at once"
check "it says who has the store" grep -qE "pid and name: $first .*qidmapd" "$tmp/second"
check "the first goes on" kill -0 "$first"
"$stat9p" "$address" tree -R >"$tmp/again" 2>&1
check "and answers as before" cmp -s "$tmp/ids" "$tmp/again"

stop_qidmapd KILL "$first"
echo "$$ bash" >"$tmp/store/lock"
serve_tree
"$stat9p" "$address" tree -R >"$tmp/again" 2>&1
check "what a dead daemon left in the lock file keeps nobody out" cmp -s "$tmp/ids" "$tmp/again"
stop_qidmapd

inofs=$(find_program lib/inofs 2>/dev/null || echo "$builddir/tests/lib/inofs")
fuse=$tmp/fuse
mkdir "$fuse"
printf 'x 100\n' >"$tmp/list"
if [ ! -x "$inofs" ]; then
    skip "a store on FUSE is refused" "no libfuse3 in the build"
elif ! "$inofs" "$tmp/list" "$fuse" 2>"$tmp/err"; then
    skip "a store on FUSE is refused" "FUSE cannot be mounted here: $(head -1 "$tmp/err")"
else
    on_exit "umount -l '$fuse' 2>/dev/null || fusermount3 -u -z '$fuse' 2>/dev/null"
    store=lmdb:$fuse
    second
    is $? 1 "a store on FUSE is refused"
    check "and the reason is told" grep -q "FUSE" "$tmp/second"
fi
tap_done
