#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: isolated, the daemon has the exports in its mounts and nothing else of the host's data; what
# the host mounts and unmounts later happens there, too, and is held up by nothing; it has few
# capabilities, no way to more, and few system calls. And no id is another one than without all
# that, or than at the start before: not on FUSE that counts, tmpfs, proc, overlays whose layers are
# elsewhere, nor on what is known by its names.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_mounts
mount --make-rshared / || bail_out "cannot make mounts shared"
stat9=$top_builddir/tests/9pstat
x=$tmp/x
mkdir -p "$x" "$tmp/outside/secret" "$tmp/store.d"
echo secret >"$tmp/outside/secret/file"
on_exit 'unmount_below "$tmp"'

start() { # ARG...
    start_qidmapd --export "x=$x" --store "lmdb:$tmp/store.d/store" --listen "unix:$tmp/s" "$@" ||
        bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
}
ids() { "$stat9" "unix:$tmp/s" x -R 2>&1 | sort -k4; }
mounts_of() { cut -d' ' -f5 "/proc/$1/mountinfo"; }
status_of() { awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"; }

# ---- filesystems of all kinds that are known by more, or less, than a uuid
for d in tmpfs proc plain; do mkdir "$x/$d"; done
echo 1 >"$x/plain/f"
mount -t tmpfs none "$x/tmpfs"
echo 1 >"$x/tmpfs/f"
mount -t proc none "$x/proc" -o hidepid=2
mkdir -p "$tmp/l/lower" "$tmp/l/upper" "$tmp/l/work" "$x/overlay" "$tmp/l/whole/part" "$x/part"
mount -t tmpfs none "$tmp/l/lower"
mkdir "$tmp/l/lower/d"
echo 1 >"$tmp/l/lower/d/f"
echo 2 >"$tmp/l/upper/g"
kinds="tmpfs proc plain"
if mount -t overlay none "$x/overlay" \
    -o "lowerdir=$tmp/l/lower,upperdir=$tmp/l/upper,workdir=$tmp/l/work,xino=off" 2>/dev/null; then
    kinds="$kinds overlay"
else
    skip "an overlay" "no overlay in this kernel"
fi
if command -v bindfs >/dev/null && [ -c /dev/fuse ]; then
    mkdir -p "$x/weak" "$tmp/l/src/sub/dir"
    echo 1 >"$tmp/l/src/sub/dir/f"
    mount -t tmpfs none "$tmp/l/whole"
    bindfs "$tmp/l/src" "$tmp/l/whole" && mount --bind "$tmp/l/whole/sub" "$x/weak"
    kinds="$kinds weak"
else
    skip "FUSE known by its names, of which a part is served" "no bindfs"
fi
if command -v mergerfs >/dev/null && [ -c /dev/fuse ]; then
    mkdir -p "$x/counts" "$tmp/l/a/d" "$tmp/l/b"
    for i in 1 2 3 4; do echo $i >"$tmp/l/a/f$i"; done
    mergerfs "$tmp/l/a:$tmp/l/b" "$x/counts"
    ls -lR "$x/counts" >/dev/null
    kinds="$kinds counts"
else
    skip "FUSE that counts" "no mergerfs"
fi

pick() { grep -E " /?($(echo "$kinds" | tr ' ' '|'))(/(d|dir|f|f[0-9]|g|d/f|dir/f|version|meminfo))?$"; }

start --isolate no
ids | pick >"$tmp/without"
stop_qidmapd
[ "$(wc -l <"$tmp/without")" -ge 8 ]
is $? 0 "there are ids to compare"
for i in 1 2; do
    start --isolate yes
    ids | pick >"$tmp/with"
    is "$(diff "$tmp/without" "$tmp/with")" "" "ids are the same with isolation, start $i"
    stop_qidmapd
done
grep -q "isolation: mount namespace yes" "$qidmapd_log"
is $? 0 "the log has a line about it"

# ---- what it has
start --isolate yes --store "lmdb:$tmp/store.d/store"
root=/proc/$qidmapd_pid/root
is "$(ls "$root$x/plain")" f "the export is there, at its own path"
[ ! -e "$root$tmp/outside" ] && [ ! -e "$root$tmp/l" ] && [ ! -e "$root/home" ] && [ ! -e "$root/root" ]
is $? 0 "what is beside it is not"
is "$(mounts_of "$qidmapd_pid" | grep -vE "^($x(/.*)?|$tmp/store.d/store|/proc|/sys|/dev|/etc|/usr|/lib[0-9x]*|/run/.*|/var/.*|/nix/store|/)$")" \
    "" "there are no other mounts than those that are needed"
is "$(awk -v x="$x" '$5 == x { print $6 }' "/proc/$qidmapd_pid/mountinfo" | tr , '\n' |
    grep -cxE 'nodev|nosuid|noexec')" 3 "the export is nodev, nosuid and noexec, as qidmap-security(7) says"
check_fails "nothing can be made in its root" mkdir "$root/new"
is "$(status_of "$qidmapd_pid" NoNewPrivs)" 1 "no_new_privs"
eff=$((0x$(status_of "$qidmapd_pid" CapEff)))
is "$((eff & ~0x882000df))" 0 "effective capabilities are in the list"
is "$((0x$(status_of "$qidmapd_pid" CapBnd) & ~0x882000df))" 0 "and the bounding set"
is "$(status_of "$qidmapd_pid" CapInh)$(status_of "$qidmapd_pid" CapAmb)" \
    00000000000000000000000000000000 "none are inherited"
case $(status_of "$qidmapd_pid" Seccomp) in
2) ok "system calls are filtered" ;;
*) if grep -q 'seccomp: not in this build' "$qidmapd_log"; then
    skip "system calls are filtered" "not in this build"
else
    not_ok "system calls are filtered"
fi ;;
esac
outside_threads=0
for task in /proc/"$qidmapd_pid"/task/*; do
    [ "$(readlink "$task/ns/mnt")" = "$(readlink "/proc/$qidmapd_pid/ns/mnt")" ] &&
        [ "$(awk '$1 == "NoNewPrivs:" { print $2 }' "$task/status")" = 1 ] || outside_threads=1
done
is "$outside_threads" 0 "that is so for all threads"

# ---- mounts that come and go
mkdir "$x/late"
before=$("$stat9" "unix:$tmp/s" x late | cut -d' ' -f1)
mount -t tmpfs none "$x/late"
echo late >"$x/late/f"
appears() { [ "$("$stat9" "unix:$tmp/s" x late/f 2>/dev/null | wc -l)" = 1 ]; }
check "what is mounted later is served" wait_until 60 appears
after=$("$stat9" "unix:$tmp/s" x late | cut -d' ' -f1)
[ "$before" != "$after" ]
is $? 0 "with ids of its own"
check "the host can unmount it" unmount "$x/late"
is "$("$stat9" "unix:$tmp/s" x late | cut -d' ' -f1)" "$before" "and what was below is back"
stop_qidmapd
is "$qidmapd_status" 0 "it ends in order"
[ ! -e "$tmp/s" ]
is $? 0 "and removes its socket"

# ---- automounts
if command -v automount >/dev/null && have_fs autofs; then
    mkdir "$x/auto" "$tmp/maps"
    echo "* -fstype=tmpfs,size=64k :tmpfs" >"$tmp/maps/map"
    echo "$x/auto $tmp/maps/map" >"$tmp/maps/master"
    # In a session of its own: the kernel takes processes of its group for the daemon's.
    setsid automount -f -p "$tmp/maps/pid" "$tmp/maps/master" >"$tmp/maps/log" 2>&1 &
    automount=$!
    on_exit "kill $automount 2>/dev/null; wait $automount 2>/dev/null"
    is_auto() { grep -q " $x/auto .* autofs " /proc/self/mountinfo; }
    wait_until 60 is_auto
    start --isolate yes
    is "$("$stat9" "unix:$tmp/s" x auto/one | wc -l)" 1 "a client's walk makes an automount"
    is "$(mounts_of "$qidmapd_pid" | grep -cFx "$x/auto/one")" 1 "which the daemon has"
    id=$("$stat9" "unix:$tmp/s" x auto/one | cut -d' ' -f1)
    stop_qidmapd
    start --isolate no
    is "$("$stat9" "unix:$tmp/s" x auto/one | cut -d' ' -f1)" "$id" "its id is the same without isolation"
    stop_qidmapd
    kill "$automount"
    wait_until 60 process_gone "$automount"
    umount -l "$x/auto" 2>/dev/null
    rmdir "$x/auto"
else
    skip "automounts" "no automount"
fi

# ---- what systemd is told
if command -v socat >/dev/null; then
    mkdir "$tmp/notify"
    socat -u "UNIX-RECV:$tmp/notify/socket" "OPEN:$tmp/told,creat,append" &
    socat=$!
    on_exit "kill $socat 2>/dev/null"
    wait_until 60 test -S "$tmp/notify/socket"
    NOTIFY_SOCKET=$tmp/notify/socket start --isolate yes
    if ldd "$(qidmapd_program)" 2>/dev/null | grep -q libsystemd ||
        grep -q libsystemd "/proc/$qidmapd_pid/maps"; then
        check "readiness is told" wait_until 60 grep -q READY=1 "$tmp/told"
        stop_qidmapd
        check "and the end" wait_until 60 grep -q STOPPING=1 "$tmp/told"
    else
        skip "readiness is told" "not in this build"
        stop_qidmapd
    fi
    kill "$socat" 2>/dev/null
else
    skip "readiness is told" "no socat"
fi

# ---- where it cannot be done
mkdir "$x/private"
mount -t tmpfs none "$x/private"
mount --make-private "$x/private"
start
grep -q "isolation: mount namespace no.*$x/private is private" "$qidmapd_log"
is $? 0 "with a private mount it stays in the host's namespace, and says why"
is "$(readlink "/proc/$qidmapd_pid/ns/mnt")" "$(readlink /proc/self/ns/mnt)" "it really does"
is "$(status_of "$qidmapd_pid" NoNewPrivs)" 1 "the rest is done all the same"
stop_qidmapd
start_qidmapd --export "x=$x" --store memory: --listen "unix:$tmp/s" --isolate yes
is $? 1 "isolate=yes refuses to start there"
start --isolate no
is "$(status_of "$qidmapd_pid" NoNewPrivs)$(status_of "$qidmapd_pid" Seccomp)" 00 "isolate=no leaves all as it is"
stop_qidmapd
umount "$x/private"

# ---- an export that is a mount itself
mkdir "$tmp/disk"
mount -t tmpfs none "$tmp/disk"
start_qidmapd --export "d=$tmp/disk" --store memory: --listen "unix:$tmp/s" --isolate yes
check_fails "the mount of an export is busy while it is served" umount "$tmp/disk"
stop_qidmapd
check "and no longer than that" umount "$tmp/disk"

# ---- two exports, one in the other, and the store beside them
mkdir -p "$x/plain/inner"
echo 1 >"$x/plain/inner/f"
start_qidmapd --export "x=$x" --export "in=$x/plain" --store "lmdb:$tmp/new" --listen "unix:$tmp/s" \
    --isolate yes
is $? 0 "an export in another one, and a store that is to be made"
is "$(mounts_of "$qidmapd_pid" | grep -cFx "$x/plain")" 0 "no border is drawn between them"
is "$("$stat9" "unix:$tmp/s" in inner/f | cut -d' ' -f1)" \
    "$("$stat9" "unix:$tmp/s" x plain/inner/f | cut -d' ' -f1)" "a file has one id in both"
stop_qidmapd
tap_done
