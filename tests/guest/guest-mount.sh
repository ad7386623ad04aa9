#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: mount.qidmap mounts over TCP, unix sockets and vsock, by mount(8) and by lines of fstab with
# the words of systemd in them; a host that comes later is waited for, also one that goes away again between
# its first answer and the mount, as one that is restarted does; what a host refuses is no reason to wait; what
# is wrong has its own message and mounts nothing; the mount outlives the helper, can be remounted, unmounted
# and mounted again; and when the server is killed it fails, can be unmounted, and is there again with the same ids.
# vsock goes over vsock_loopback: the daemon runs in the guest, too.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need_helper

cat >"$tmp/script" <<'GUEST'
# mount(8) hands no LD_LIBRARY_PATH on.
mkdir -p /lib/x86_64-linux-gnu
for library in /test/*.so.*; do
    [ -e "/lib/x86_64-linux-gnu/${library##*/}" ] || ln -s "$library" /lib/x86_64-linux-gnu/
done
mkdir -p /sbin /run /var/lib /etc /srv/x /srv/y
ln -s /test/mount.qidmap /sbin/mount.qidmap
for module in vsock vmw_vsock_virtio_transport_common vsock_loopback; do
    insmod /test/$module.ko 2>&1
done
mount=/test/mount
umount=/test/umount
echo here >/srv/x/file
echo other >/srv/y/file
printf '[export y]\ndir = /srv/y\nallow = uid:7\n' >/etc/conf
serve() { # OPTION...
    /test/qidmapd --config /etc/conf --export x=/srv/x --store lmdb:/var/lib/store \
        --isolate=no "$@" >>/tmp/log 2>&1 &
    daemon=$!
}
try_mount() { # MESSAGE COMMAND...: it fails, says that, and mounts nothing
    local message=$1 output status
    shift
    output=$("$@" 2>&1)
    status=$?
    case $output in
    *"$message"*) grep -q ' /mnt ' /proc/mounts && status=mounted ;;
    *) status="$status: $output" ;;
    esac
    case $status in
    0 | mounted* | *:*) fail "$message"; echo "$* -> $status" ;;
    *) pass "$message" ;;
    esac
}
served() { serve --listen tcp:127.0.0.1:5640 --listen unix:/run/s --listen vsock:local:564; }

# A server that answers the first Tversion of its client, and hangs up; with `again` that of the kernel, too, and
# then does not answer its Tattach. Takes one connection.
cat >/tmp/fake <<'END'
#!/bin/sh
echo "$1" >>/tmp/tries
version() { dd bs=1 count=21 >/dev/null 2>&1; printf '\25\0\0\0\145\377\377\0\20\0\0\10\09P2000.L'; }
version
[ "$1" = again ] || exit
version
dd bs=1 count=7 >/dev/null 2>&1
END
for how in gone again; do
    printf '#!/bin/sh\nexec sh /tmp/fake %s\n' $how >/tmp/fake-$how
    chmod 755 /tmp/fake-$how
done
fake() { nc -l -p "$1" -e /tmp/fake-$2; } # PORT HOW

# ---- a host that is there only later
(sleep 3; cd /; fake 5640 gone; fake 5640 again; fake 5640 gone; served; echo "$daemon" >/tmp/pid; wait) &
check "waits for the host" $mount -t qidmap tcp:127.0.0.1:5640 /mnt -o aname=x,retry=100
is "$(tr '\n' ' ' </tmp/tries)" "gone again gone " "which went away three times, once it had answered"
is "$(cat /mnt/file)" here "and has mounted"
[ -e /mnt/file ] || { cat /tmp/log; exit 1; }
until [ -s /tmp/pid ]; do usleep 100000; done
daemon=$(cat /tmp/pid)
file=$(stat -c %i /mnt/file)
[ -n "$file" ] || file=none
check "unmounts" $umount /mnt

# ---- the three ways, each as a program of its own that is gone by now
for source in tcp:127.0.0.1:5640 unix:/run/s vsock:local:564; do
    case $source in
    vsock:*) [ -d /sys/module/vsock_loopback ] || { fail "vsock_loopback is loaded"; continue; } ;;
    esac
    for times in once again; do
        check "mounts $source $times" $mount -t qidmap $source /mnt -o aname=x,retry=100,noexec
        is "$(pidof mount.qidmap)" "" "nothing of the helper stays"
        check "$source: writes" sh -c 'echo more >/mnt/new && cat /mnt/new && rm /mnt/new'
        is "$(stat -c %i /mnt/file)" "$file" "$source: the file has its number"
        case $(grep ' /mnt ' /proc/mounts) in
        "$source /mnt 9p "*noexec*) pass "the table of mounts names $source" ;;
        *) fail "the table of mounts names $source"; grep ' /mnt ' /proc/mounts ;;
        esac
        check "$source: unmounts" $umount /mnt
    done
done

# ---- fstab
cat >/etc/fstab <<END
vsock:local:564  /mnt  qidmap  aname=x,_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=90,ro,retry=100  0 0
END
check "mount -a with a line of fstab" $mount -a
is "$(cat /mnt/file)" here "has mounted"
check_fails "ro of the line is in force" sh -c 'echo x >/mnt/new'
check "mount -a again, mounted already" $mount -a
is "$(grep -c ' /mnt ' /proc/mounts)" 1 "mounted once"
check "remount by the line's name" $mount -o remount,rw /mnt
check "rw is in force" sh -c 'echo x >/mnt/new && rm /mnt/new'
check "umount -a -O _netdev finds it" $umount -a -O _netdev
is "$(grep -c ' /mnt ' /proc/mounts)" 0 "unmounted"

# ---- as mount(8) does without a line in fstab, and for another namespace
rm /etc/fstab
check "mounts" $mount -t qidmap unix:/run/s /mnt -o aname=x,retry=100
check "remount without a line of fstab" $mount -o remount,ro /mnt
check_fails "ro is in force" sh -c 'echo x >/mnt/new'
check "unmounts" $umount /mnt
unshare -m sh -c 'mkdir /tmp/there && mount -t tmpfs tmpfs /tmp/there && mkdir /tmp/there/dir && exec sleep 1000' &
other=$!
n=0
until [ -d /proc/$other/root/tmp/there/dir ] || [ $n -ge 1000 ]; do n=$((n + 1)); sleep 0.1; done
check "-N: a directory that only the other namespace has" \
    $mount -N $other -t qidmap unix:/run/s /tmp/there/dir -o aname=x,retry=100
is "$(cat /proc/$other/root/tmp/there/dir/file)" here "is mounted there"
is "$(grep -c there /proc/mounts)" 0 "and not here"
kill $other

# ---- what is wrong says what
# at once: whoever tries again says that it gave up waiting
try_mount 'no export "z"' $mount -t qidmap unix:/run/s /mnt -o aname=z,retry=600
try_mount 'refuses export "y"' $mount -t qidmap unix:/run/s /mnt -o aname=y,retry=600
try_mount 'unknown option anme' $mount -t qidmap unix:/run/s /mnt -o anme=x
try_mount 'gave up waiting' $mount -t qidmap unix:/run/none /mnt -o aname=x,retry=1
try_mount 'Connection refused' $mount -t qidmap tcp:127.0.0.1:9 /mnt -o aname=x,retry=0
try_mount 'port 9 of CID 1' $mount -t qidmap vsock:local:9 /mnt -o aname=x,retry=0
try_mount 'No such file' /sbin/mount.qidmap unix:/run/s /nowhere -o aname=x
try_mount 'expected vsock:CID:PORT' $mount -t qidmap nonsense /mnt -o aname=x
printf 'HTTP/1.1 400 Bad Request\r\n\r\n' >/tmp/http
nc -l -p 8080 </tmp/http >/dev/null 2>&1 &
try_mount 'no 9P server' $mount -t qidmap tcp:127.0.0.1:8080 /mnt -o aname=x,retry=100
fake 5660 gone &
until grep -q ':161C .* 0A ' /proc/net/tcp*; do sleep 0.1; done
try_mount 'went away while it was mounted' $mount -t qidmap tcp:127.0.0.1:5660 /mnt -o aname=x,retry=0
check "-f connects to nobody" /sbin/mount.qidmap unix:/run/none /mnt -f -o aname=x

# ---- the host is killed, and comes back
check "mounts" $mount -t qidmap vsock:local:564 /mnt -o aname=x,retry=100
exec 5</mnt/file
kill -9 $daemon
check_fails "the mount fails" ls /mnt
check_fails "the open file, too" head -c 1 <&5
exec 5>&-
check "it can be unmounted" $umount /mnt
served
check "and mounted again" $mount -t qidmap vsock:local:564 /mnt -o aname=x,retry=100
is "$(stat -c %i /mnt/file)" "$file" "the file has its number"
check "unmounts" $umount /mnt
kill $daemon

# ---- last, as modules do not come back: without 9p in the kernel
rmmod 9p 2>&1
rm -f /bin/modprobe
mkdir /tmp/here && cd /tmp/here
printf '#!/bin/sh\necho run >/tmp/run\n' >modprobe
chmod 755 modprobe
try_mount 'the kernel has no 9p' $mount -t qidmap unix:/run/t /mnt -o aname=x,retry=0
check_fails "no modprobe of the current directory is run" cat /tmp/run
cat /tmp/log
GUEST

# Programs and their libraries, for a root without any.
programs=("$helper" "$(qidmapd_program)" "$(command -v mount)" "$(command -v umount)")
files=()
declare -A seen=()
for program in "${programs[@]}"; do
    # libtool's scripts stand before programs that are not installed
    real=$(dirname "$program")/.libs/$(basename "$program")
    [ -x "$real" ] || real=$program
    files+=("+$real")
    while read -r library; do
        [ -n "${seen[${library##*/}]:-}" ] || files+=("+$library")
        seen[${library##*/}]=1
    done < <(LD_LIBRARY_PATH=$top_builddir/store/.libs ldd "$real" | grep -o '/[^ ]*')
done
guest_modules vsock vmw_vsock_virtio_transport_common vsock_loopback
guest_run "$tmp/script" "${files[@]}" "${guest_module_files[@]}"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
fi
tap_done
