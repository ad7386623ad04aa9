#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: multidevs=remap gives every file an id of its own; forbid shows nothing of other
# filesystems, be they there from the start or mounted later, and answers ENODEV, while bind mounts of
# the export's own filesystem stay; warn gives raw inode numbers, and one line for each export that
# names two filesystems; any other word is an error.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_mounts
on_exit 'unmount_below "$tmp"'

x=$tmp/x
mkdir -p "$x" "$tmp/y"
mount -t tmpfs -o size=2m first "$x"
mount -t tmpfs -o size=2m second "$tmp/y"
mkdir -p "$x/own" "$x/other" "$x/late" "$x/bound" "$tmp/y/other"
echo a >"$x/own/file"
touch "$x/bound-file"
mount -t tmpfs -o size=1m other "$x/other"
echo b >"$x/other/file"
mount --bind "$x/own" "$x/bound"
mount --bind "$x/other/file" "$x/bound-file"
mount -t tmpfs -o size=1m yother "$tmp/y/other"
echo c >"$tmp/y/other/file"

serve() { # MULTIDEVS
    rm -f "$tmp/s"
    start_qidmapd --export "x=$x" --export "y=$tmp/y" --store memory: --multidevs "$1" \
        --listen "unix:$tmp/s" || bail_out "no server: $(tail "$qidmapd_log")"
}
stat9() { "$top_builddir/tests/9pstat" "$@" 2>&1; }
listed() { stat9 -R "unix:$tmp/s" x | awk '{ print $4 }' | sort | tr '\n' ' '; }
error_of() { stat9 "unix:$tmp/s" x "$1" | sed -n 's/^9pstat: .*: walk: //p'; }

serve remap
is "$(listed)" "/ /bound /bound-file /bound/file /late /other /other/file /own /own/file " \
    "remap: everything is shown"
stat9 -R "unix:$tmp/s" x >"$tmp/raw"
is "$(awk '$4 != "/bound" && $4 != "/bound/file" && $4 != "/bound-file" { print $1 }' "$tmp/raw" |
    sort | uniq -d)" "" "remap: no id twice"
stop_qidmapd TERM

serve forbid
is "$(listed)" "/ /bound /bound/file /late /own /own/file " \
    "forbid: other filesystems are not listed, bind mounts of the own one are"
is "$(error_of other)" "No such device" "forbid: a walk to another filesystem gives ENODEV"
is "$(error_of other/file)" "No such device" "forbid: and one through it"
is "$(error_of bound-file)" "No such device" "forbid: a bind-mounted file of another is one, too"
is "$(error_of own/file)" "" "forbid: the own files are there"
mount -t tmpfs -o size=1m late "$x/late"
echo l >"$x/late/file"
is "$(error_of late)" "No such device" "forbid: what is mounted later is refused"
is "$(listed)" "/ /bound /bound/file /own /own/file " "forbid: and not listed"
unmount "$x/late"
is "$(error_of late)" "" "forbid: the directory is back when that is gone"
is "$(listed)" "/ /bound /bound/file /late /own /own/file " "forbid: and listed"
stop_qidmapd TERM

: >"$qidmapd_log"
serve warn
stat9 -R "unix:$tmp/s" x >"$tmp/raw"
stat9 -R "unix:$tmp/s" y >>"$tmp/raw"
stat9 -R "unix:$tmp/s" x >>"$tmp/raw"
is "$(awk '$4 == "/other/file" { print $1 }' "$tmp/raw" | head -n 1)" "$(stat -c %i "$x/other/file")" \
    "warn: the raw inode number"
is "$(awk '$4 == "/other" { print $1 }' "$tmp/raw" | head -n 1)" "$(stat -c %i "$x/other")" \
    "warn: of the root of a mount, too"
is "$(grep -c 'multidevs=warn' "$qidmapd_log")" 2 "warn: one line for each of two exports"
grep "multidevs=warn" "$qidmapd_log" | grep "export x" >"$tmp/line"
check "warn: it names both filesystems" grep -q "first on .*other on " "$tmp/line"
stop_qidmapd TERM

if start_qidmapd --export "x=$x" --store memory: --multidevs mapall --listen "unix:$tmp/s"; then
    not_ok "another word is an error"
else
    check "another word is an error" grep -q "multidevs: 'mapall' is none of remap, forbid, warn" \
        "$qidmapd_log"
fi
tap_done
