#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a daemon that is shut into mounts of its own can be told of directories of the host that it
# has never seen, and serves them as if it had them from the start: with the same ids, with what is
# mounted below, and with what is mounted later. What it no longer serves it holds no longer, so that
# the host can unmount it; where that is refused in part, nothing of it stays. `qidmapctl reload` fails
# where the daemon refuses, also where it is told nothing but the process, as by systemd. The process
# that stays with the host has no socket of the daemon's open, and ends with it; where it dies, the log
# and each reload say what that means. A filesystem that does not answer holds up no reload for ever,
# nor the end of the daemon, isolated or not. SIGHUP does no harm to a daemon that is just starting.
#
# RELOAD_DEAD=1 (check --long): also waits for what does not answer, until it is given up.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
need_mounts
mount --make-rshared / || bail_out "cannot make mounts shared"
on_exit 'unmount_below "$tmp"'
control=$tmp/control conf=$tmp/conf
stat9=$top_builddir/tests/9pstat
mkdir -p "$tmp/a" "$tmp/place/b/sub" "$tmp/stores" "$tmp/disk"
echo a >"$tmp/a/f"
mount -t tmpfs none "$tmp/disk"
mkdir "$tmp/disk/d"
echo d >"$tmp/disk/d/f"
mount -t tmpfs none "$tmp/place/b/sub"
echo s >"$tmp/place/b/sub/f"
echo b >"$tmp/place/b/f"

conf() { # NAME=DIR...
    local one
    printf '[daemon]\nlisten=unix:%s\ncontrol=%s\nisolate=yes\n' "$tmp/s" "$control" >"$conf"
    for one; do
        printf '[export %s]\ndir=%s\nstore=lmdb:%s\n' "${one%%=*}" "${one#*=}" \
            "$tmp/stores/${one%%=*}" >>"$conf"
    done
}
reload() { run reload --control "$control"; }
ids() { "$stat9" "unix:$tmp/s" "$1" -R 2>&1 | sort -k4; }
mounts() { cut -d' ' -f5 "/proc/$qidmapd_pid/mountinfo" | grep -F "$tmp" | sort; }

# ---- the same ids as from the start
conf "a=$tmp/a" "b=$tmp/place/b" "d=$tmp/disk/d"
start_qidmapd --config "$conf" || bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
a=$(ids a) b=$(ids b) d=$(ids d)
stop_qidmapd
conf "a=$tmp/a"
start_qidmapd --config "$conf"
first=$(mounts)
conf "a=$tmp/a" "b=$tmp/place/b" "d=$tmp/disk/d"
reload
exits 0 "a directory that the daemon has never seen"
is "$out" "added: b
added: d
as before: 1" "what is told"
is "$(ids b)" "$b" "its ids, and those of what is mounted there, are those of a start"
is "$(ids d)" "$d" "and those of a directory that is no mount point of its disk"
is "$(ids a)" "$a" "and those of what was there"

# ---- as systemd calls it, with a socket that is nowhere usual, or with none
run reload --pid "$qidmapd_pid"
exits 0 "a daemon that is named by its process"
is "$out" "as before: 3" "and reached"
run reload --pid $$
exits 3 "another process is left alone"
complains "process $$ is no qidmapd" "and named"
link=/run/qidmap/at-$qidmapd_pid
is "$(readlink "$link")" "$control" "a link leads to the socket"

# ---- mounts that come and go
mkdir "$tmp/place/b/late"
mount -t tmpfs none "$tmp/place/b/late"
echo late >"$tmp/place/b/late/f"
appears() { [ "$("$stat9" "unix:$tmp/s" b late/f 2>/dev/null | wc -l)" = 1 ]; }
check "what is mounted there later is served" wait_until 60 appears
check "the host can unmount it" unmount "$tmp/place/b/late"
rmdir "$tmp/place/b/late"

# ---- what is no longer served is not held
check_fails "the disk is busy while it is served" umount "$tmp/disk"
conf "a=$tmp/a" "b=$tmp/place/b"
reload
exits 0 "an export is taken out"
gone() { umount "$tmp/disk" 2>/dev/null; }
check "then the host can unmount its disk" wait_until 60 gone
conf "a=$tmp/a"
reload
settled() { [ "$(mounts)" = "$first" ]; }
check "and the daemon has the mounts of before" wait_until 60 settled

# ---- a store that is to be made: nothing beside it comes along, and nothing of it stays
conf "a=$tmp/a" "b=$tmp/place/b"
sed -i "s,$tmp/stores/b,$tmp/place/new," "$conf"
reload
exits 0 "a store that is to be made"
check "it is made" test -s "$tmp/place/new/current"
is "$(stat -c %a "$tmp/place/new")" 700 "for nobody else"
is "$(mounts | grep -xF -e "$tmp/place" -e "$tmp/place/new")" "$tmp/place/new" "of the folder that it is in nothing else is seen"
ids b >"$tmp/seen"
conf "a=$tmp/a" "b=$tmp/place/b"
reload
exits 0 "another store in its place, the export beside it being served on"
only_b() { [ "$(mounts)" = "$(printf '%s\n' "$first" "$tmp/place/b" "$tmp/place/b/sub" "$tmp/stores/b" | sort)" ]; }
check "it is not left mounted" wait_until 20 only_b
is "$(ids b)" "$b" "the ids are those of the store"
conf "a=$tmp/a"
reload
check "the daemon has the mounts of before" wait_until 60 settled

# ---- ids of memory: last as long as the daemon
mkdir -p "$tmp/m/x" "$tmp/m/y"
with_memory() {
    conf "a=$tmp/a"
    printf '[export m]\ndir=%s\nstore=memory:\n' "$tmp/m" >>"$conf"
    reload
}
with_memory
for dir in x y; do
    mount -t tmpfs none "$tmp/m/$dir"
    touch "$tmp/m/$dir/f"
    ids m >"$tmp/seen"
done
unmount "$tmp/m/x" # from now on the other one comes first in the table of mounts
mount -t tmpfs none "$tmp/m/x"
m=$(ids m | grep /y)
conf "a=$tmp/a"
reload
with_memory
is "$(ids m | grep /y)" "$m" "an export that comes again has the ids that it had"
conf "a=$tmp/a"
reload

# ---- the directory of a store becomes an export: with what is mounted below
mkdir -p "$tmp/x/sub"
mount -t tmpfs none "$tmp/x/sub"
touch "$tmp/x/sub/f"
stop_qidmapd
conf "a=$tmp/a"
sed -i "s,^store=.*,store=xattr:$tmp/x," "$conf"
start_qidmapd --config "$conf" || bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
printf '[export x]\ndir=%s\nstore=xattr:%s\n' "$tmp/x" "$tmp/x" >>"$conf"
reload
exits 0 "it is both"
is "$(ids x | grep -c /sub/f)" 1 "what is mounted below is there"
stop_qidmapd
umount "$tmp/x/sub"
conf "a=$tmp/a"
start_qidmapd --config "$conf"
first=$(mounts)

# ---- what is refused
conf "a=$tmp/a" "b=$tmp/place/b" "c=$tmp/nowhere"
reload
exits 3 "a directory that is not there"
complains "$conf:11: dir: $tmp/nowhere: No such file" "file and line"
check "nothing stays of what was good" wait_until 60 settled
is "$(ids a)" "$a" "the old one is served on"
conf "a=$tmp/a" "b=$tmp/place/b" "c=$tmp/nowhere"
sed -i "s,stores/b,new-store," "$conf" # still to be made: the directory above is an export's, too
reload
exits 3 "with a store that is still to be made"
is "$(mounts)" "$first" "the directory above it is not left mounted"
check_fails "and it is not made" test -e "$tmp/new-store"
mkdir "$tmp/private"
mount -t tmpfs none "$tmp/private"
mount --make-private "$tmp/private"
mkdir "$tmp/private/p"
conf "a=$tmp/a" "p=$tmp/private/p"
reload
exits 3 "a mount that would not be followed"
complains "restart" "needs a restart"
unmount "$tmp/private"

# ---- often, and the process outside
conf "a=$tmp/a" "b=$tmp/place/b"
cp "$conf" "$tmp/with"
conf "a=$tmp/a"
cp "$conf" "$tmp/without"
fds() { ls "/proc/$qidmapd_pid/fd" | wc -l; }
failed=0
for i in $(seq 25); do
    cp "$tmp/with" "$conf"
    "$ctl" reload --control "$control" >/dev/null || failed=1
    [ "$i" != 5 ] || before=$(fds)
    cp "$tmp/without" "$conf"
    "$ctl" reload --control "$control" >/dev/null || failed=1
    wait_until 60 settled || failed=1
done
cp "$tmp/with" "$conf"
"$ctl" reload --control "$control" >/dev/null || failed=1
is "$failed" 0 "26 times"
none_left() { [ "$(fds)" -le $((before + 1)) ]; }
check "no descriptor is left" wait_until 60 none_left
is "$(ids b)" "$b" "the ids are the same still"
outside=$(pgrep -P "$qidmapd_pid")
is "$(echo "$outside" | wc -w)" 1 "one process stays with the host"
its_own() { [ "$(ls "/proc/$outside/fd" | wc -l)" = 4 ]; }
check "it has nothing of the daemon's open" wait_until 60 its_own
is "$(awk '$1 == "CapPrm:" { print $2 }' "/proc/$outside/status")" 0000000000200004 "few capabilities"
kill -KILL "$outside"
told() { grep -q "process for the host (qidmapd-host, process $outside) has ended (signal 9).*restart" "$qidmapd_log"; }
check "when it dies the log says what to do" wait_until 60 told
check_fails "and nothing is left of it" test -e "/proc/$outside"
conf "a=$tmp/a" "d=$tmp/a/.."
reload
exits 3 "without it, new directories"
complains "process for the host is gone.*restart" "need a restart"
stop_qidmapd
is "$qidmapd_status" 0 "it ends in order"
check_fails "and takes its link along" test -L "$link"
sed 's/^control=.*/control=none/' "$tmp/with" >"$conf"
start_qidmapd --config "$conf"
conf "a=$tmp/a"
sed -i 's/^control=.*/control=none/' "$conf"
run reload --pid "$qidmapd_pid"
exits 0 "without a control socket it is told by a signal"
check "and reads the file" wait_until 60 grep -q "exports: 0 new, 0 changed, 1 removed" "$qidmapd_log"
stop_qidmapd
start_qidmapd --config "$tmp/with"
outside=$(pgrep -P "$qidmapd_pid")
stop_qidmapd KILL
check "the process outside ends with a daemon that is killed" wait_until 60 process_gone "$outside"

# ---- what does not answer
inofs=$top_builddir/tests/lib/inofs
echo 7 >"$tmp/list"
mkdir "$tmp/dead" "$tmp/dead-conf"
ends_soon() { # DESCRIPTION: while a reload waits
    "$ctl" reload --control "$control" >"$tmp/answer" 2>&1 &
    client=$!
    wait_until "$patience" waits || tap_diag "it is not seen that a reload waits"
    stop_qidmapd
    is "$qidmapd_status" 0 "$1"
    wait "$client"
    is $? 3 "and the client has its answer"
    check "which says so" grep -q "the daemon is ending" "$tmp/answer"
}
patience=60 # as soon as it is seen; where the kernel does not tell in what others wait, not for long
case $(cat "/proc/$$/wchan" 2>/dev/null) in '' | 0) patience=5 ;; esac
waits() { # somebody of the daemon's asks the filesystem
    local outside
    outside=$(pgrep -P "$qidmapd_pid")
    cat "/proc/$qidmapd_pid/task"/*/wchan $(pgrep -P "${outside:-1}" 2>/dev/null |
        sed 's,.*,/proc/&/wchan,') 2>/dev/null | grep -q request_wait_answer
}
for isolate in no yes; do
    if [ ! -c /dev/fuse ] || [ ! -x "$inofs" ]; then
        skip "isolate=$isolate: a filesystem that does not answer" "no /dev/fuse"
        continue
    fi
    "$inofs" "$tmp/list" "$tmp/dead" -o allow_other || bail_out "inofs"
    dead=$(ps -eo pid=,args= | awk -v l="$tmp/list" '$3 == l { print $1 }')
    on_exit "kill -KILL $dead 2>/dev/null"
    conf "a=$tmp/a"
    sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
    start_qidmapd --config "$conf" || bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
    kill -STOP "$dead"
    conf "a=$tmp/a" "dead=$tmp/dead"
    sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
    if [ -n "${RELOAD_DEAD:-}" ]; then
        reload
        exits 3 "isolate=$isolate: a filesystem that does not answer is refused"
        complains "$conf:8: .*$tmp/dead: its filesystem does not answer" "and named"
        is "$(ids a)" "$a" "what was served is served"
        conf "a=$tmp/a" "b=$tmp/place/b"
        sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
        reload
        exits 0 "the next reload is done"
        conf "a=$tmp/a" "dead=$tmp/dead"
        sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
        kill -CONT "$dead"
        served() { reload; [ "$status" = 0 ]; }
        check "and this filesystem, too, when it answers" wait_until 60 served
        conf "a=$tmp/a"
        sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
        reload
        kill -STOP "$dead"
        sleep 1.5 # what the kernel knows of it from when it answered is forgotten
        conf "a=$tmp/a" "dead=$tmp/dead"
        sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
    fi
    if [ "$isolate" = yes ]; then
        "$ctl" reload --control "$control" >"$tmp/answer" 2>&1 &
        client=$!
        wait_until "$patience" waits || tap_diag "it is not seen that a reload waits"
        pkill -KILL -P "$(pgrep -P "$qidmapd_pid")"
        wait "$client"
        is $? 3 "where the one who waits is killed, the reload is refused"
        check "and says so" grep -q "$tmp/dead: .* was killed" "$tmp/answer"
    fi
    ends_soon "isolate=$isolate: a daemon ends in order while a reload waits for a dead filesystem"
    conf "a=$tmp/a"
    sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
    start_qidmapd --config "$conf" || bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
    rm "$conf" && ln -s "$tmp/dead/conf" "$conf"
    if [ -n "${RELOAD_DEAD:-}" ]; then
        reload
        exits 3 "isolate=$isolate: a configuration file that is a link into it is refused"
        complains "$conf: its filesystem does not answer" "and named"
        rm "$conf"
        conf "a=$tmp/a" "b=$tmp/place/b"
        sed -i "s/^isolate=.*/isolate=$isolate/" "$conf"
        reload
        exits 0 "a file in its place is taken"
        is "$(ids a)" "$a" "what was served is served"
        rm "$conf" && ln -s "$tmp/dead/conf" "$conf"
    fi
    ends_soon "isolate=$isolate: or for a configuration file that is a link into it"
    rm "$conf"
    kill -KILL "$dead"
    umount "$tmp/dead"
done

# ---- a mistake in a file that is seen without the process outside
conf=$tmp/a/conf
conf "a=$tmp/a"
start_qidmapd --config "$conf" || bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
outside=$(pgrep -P "$qidmapd_pid")
kill -KILL "$outside"
wait_until 60 process_gone "$outside"
echo nonsense >>"$conf"
reload
complains "$conf:8: expected" "without the process outside a mistake is named"
check_fails "and no restart is asked for, which it would end" grep -q restart "$tmp/err"
stop_qidmapd
conf=$tmp/conf

# ---- where a namespace of its own is denied
if command -v setpriv >/dev/null; then
    printf '#!/bin/sh\nexec setpriv --bounding-set -sys_admin "%s" "$@"\n' "$(qidmapd_program)" >"$tmp/few"
    chmod +x "$tmp/few"
    mount -t tmpfs none "$tmp/disk"
    conf "a=$tmp/a" "d=$tmp/disk"
    sed -i 's/^isolate=.*/isolate=auto/' "$conf"
    qidmapd_log=$tmp/few.log
    QIDMAPD=$tmp/few start_qidmapd --config "$conf" ||
        bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
    check "without the right to it there is no namespace" grep -q "mount namespace no" "$qidmapd_log"
    conf "a=$tmp/a"
    sed -i 's/^isolate=.*/isolate=auto/' "$conf"
    reload
    exits 0 "a reload takes an export out"
    check "then the host can unmount its disk, too" wait_until 60 gone
    check_fails "no process outside is missed" grep "has ended" "$qidmapd_log"
    stop_qidmapd
    is "$qidmapd_status" 0 "it ends in order"
    qidmapd_log=$tmp/qidmapd.log
else
    skip "where a namespace is denied" "no setpriv"
fi

# ---- told by a signal before it knows its file
mkfifo "$tmp/pipe"
"$(qidmapd_program)" --config "$tmp/pipe" >"$tmp/early.log" 2>&1 &
early=$!
on_exit "kill -KILL $early 2>/dev/null"
exec 7>"$tmp/pipe" # until it reads
for i in 1 2 3 4 5; do kill -HUP "$early"; done
conf "a=$tmp/a"
cat "$conf" >&7
exec 7>&-
check "SIGHUP does not end a daemon that reads its configuration" \
    wait_until 60 grep -q "the configuration is not taken" "$tmp/early.log"
kill -TERM "$early"
wait "$early"
is $? 0 "it is asked for as soon as it serves"

tap_done
