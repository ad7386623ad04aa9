#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the mount lines of quickstart and of the README work as they are, for root of a guest and an export
# that only root may enter. A server that is isolated shows its guests what the host mounts and unmounts
# later; files of two such filesystems that have one inode number stay apart. Killed, the server leaves a
# mount that fails and can be unmounted, and a new one shows the old ids. With qid-version=mtime a guest that
# caches finds out that the host has changed a file; without, it does not.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_mounts
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
guest_need
# What is mounted later reaches the server's own namespace as it does on a host: by propagation.
mount --make-rshared / || bail_out "cannot make mounts shared"

x=$tmp/export
mkdir -m 700 "$x" "$x"/{p1,p2}
chmod 700 "$tmp"
echo here >"$x/file"
mkdir "$x/changing"
for cache in loose fscache; do
    for version in mtime stable; do
        echo "the old words" >"$x/changing/$version-$cache"
        ln "$x/changing/$version-$cache" "$x/changing/$version-$cache-too"
    done
done
late=()
on_exit release
release() {
    local d
    for d in "${late[@]}"; do umount "$d" 2>/dev/null || umount -l "$d"; done
    late=()
}

step_mount() { # two filesystems whose first files have one inode number
    local d
    for d in p1 p2; do
        mount -t tmpfs tmpfs "$x/$d" && late+=("$x/$d") && echo "in $d" >"$x/$d/file" || return 1
    done
    is "$(stat -c %i "$x/p1/file")" "$(stat -c %i "$x/p2/file")" "one inode number on the host"
    # the server learns of it by itself, in time
    wait_until 60 sh -c "'$top_builddir/tests/9pstat' 'unix:$tmp/s' x /p2/file >/dev/null 2>&1"
}

step_unmount() {
    is "$(cat "$x/p1/file" "$x/p2/file")" "$(printf 'in p1\nin p2\nof p2')" "each has its own words on the host"
    unmount "$x/p1" "$x/p2" && late=() && return
    tap_diag "open in the server: $(find "/proc/$qidmapd_pid/fd" -printf '%l\n' 2>/dev/null | grep -F "$x")"
    tap_diag "by others: $(fuser -vm "$x/p1" "$x/p2" 2>&1)"
    return 1
}

step_change() { # FILE: as long as before, another time
    printf 'the new words\n' 1<>"$x/changing/$1" && touch -d '2001-02-03' "$x/changing/$1"
}

step_restart() {
    server_stop KILL
    start
}

start() {
    server_start "$x" "lmdb:$tmp/store" --config "$tmp/conf" --listen "unix:$tmp/s"
}

cat >"$tmp/script" <<'GUEST'
# ---- as it is written
while read -r line; do
    check "mounts: $line" sh -c "$line"
    dir=${line##* }
    is "$(cat "$dir/file")" here "root reads there"
    check "root writes there" sh -c "echo x >$dir/new && rm $dir/new"
    umount "$dir"
done </test/lines

# ---- what comes and goes
check "mounts" mount9p /mnt "cache=none" || exit 1
file=$(stat -c %i /mnt/file)
is "$(ls /mnt/p1 /mnt/p2 | grep -c file)" 0 "nothing there yet"
check "the host mounts" host_step mount
is "$(cat /mnt/p1/file /mnt/p2/file)" "$(printf 'in p1\nin p2')" "what the host has mounted is there"
[ "$(stat -c %i /mnt/p1/file)" != "$(stat -c %i /mnt/p2/file)" ] && pass "two numbers in the guest" ||
    fail "two numbers in the guest"
exec 5<>/mnt/p1/file
check "writes to one while the other one is open" sh -c 'echo "of p2" >>/mnt/p2/file'
exec 5>&-
check "the host unmounts, nothing of the server holds it" host_step unmount
is "$(ls /mnt/p1 /mnt/p2 | grep -c file)" 0 "what the host has unmounted is gone"

# ---- kill -9 under a mount with an open file
exec 5<>/mnt/file
check "the server is killed, and starts" host_step restart
check_fails "the open file fails" head -c 1 <&5
check_fails "and the mount" ls /mnt
exec 5>&-
check "it can be unmounted" umount /mnt
check "and mounted again" mount9p /mnt "cache=none"
is "$(stat -c %i /mnt/file)" "$file" "the file has its number"
umount /mnt

# ---- does a guest that caches see that the host has changed a file?
for cache in loose fscache; do
    for version in mtime stable; do
        f=$version-$cache
        [ $version = mtime ] && aname=versions || aname=$ANAME
        mount9p /mnt "cache=$cache" $aname || fail "mounts with cache=$cache"
        cd /mnt/changing
        exec 5<>$f
        is "$(cat $f)" "the old words" "cache=$cache, $version: reads"
        host_step change $f
        case $version in
        mtime) is "$(cat $f-too)" "the new words" "cache=$cache, qid-version=mtime: sees the change" ;;
        stable) is "$(cat $f-too)" "the old words" "cache=$cache, qid-version=stable: believes its cache" ;;
        esac
        exec 5>&-
        # What it writes itself it must read, whatever the version does.
        echo "my words" >mine-$f
        sync
        echo "more" >>mine-$f
        is "$(cat mine-$f)" "$(printf 'my words\nmore')" "cache=$cache, $version: reads what it wrote"
        cd /
        umount /mnt
        mount9p /mnt cache=none
        is "$(cat /mnt/changing/mine-$f)" "$(printf 'my words\nmore')" "cache=$cache, $version: it is in the file"
        umount /mnt
    done
done
GUEST

printf '[export versions]\ndir = %s\nqid-version = mtime\n' "$x" >"$tmp/conf"
start || bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
# The lines that quickstart prints, and the README's, with this server's port and name.
eval "$(sed -n '/^guest_lines() {/,/^}/p' "$top_srcdir/quickstart")"
guest_lines "tcp:127.0.0.1:$server_port" "$server_aname" | sed -n 's/^  \(mkdir .*\)/\1/p' >"$tmp/lines"
sed -n "s/^    \(mount -t 9p -o trans=tcp.*\)/\1/p" "$top_srcdir/README.md" |
    sed "s/port=[0-9]*/port=$server_port/; s/aname=data/aname=$server_aname/" >>"$tmp/lines"
is "$(wc -l <"$tmp/lines")" 2 "quickstart and README name a line each"
guest_run "$tmp/script" "${guest_server[@]}" "+$tmp/lines"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
check "the server was isolated" grep -q "isolation: mount namespace yes" "$qidmapd_log"
server_stop TERM
is "$qidmapd_status" 0 "SIGTERM ends the server in order"
tap_done
