#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: in a guest whose first process is systemd, lines of /etc/fstab of type qidmap work as the pages say:
# a host that is not there holds up no boot (nofail), a line with x-systemd.automount is mounted when
# somebody looks there first, also when the host comes later; mount.qidmap loads the kernel's modules. After a
# restart of qidmapd a mount is of no use; with x-systemd.idle-timeout= it comes back by itself, else by
# `systemctl restart` of its unit, or, where a program holds it, by `umount -l`; files have their
# numbers again. Neither a stale mount nor a host that is gone holds up its unmounting.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/pages.sh"
. "$(dirname "$0")/systemd.sh"
guest_need_helper
guest_packages systemd kmod libglib2.0-0 libmount1 mount

# ---- what the guest's first process does, before it becomes systemd -------------------------------
cat >"$tmp/before" <<'GUEST'
mkdir -p /root/mnt/auto /root/mnt/idle /root/mnt/late
cp /test/mount.qidmap /root/sbin/
chmod 755 /root/sbin/mount.qidmap
# modules for modprobe; those that 9p needs are not loaded
modules=/root/lib/modules/$(uname -r)
mkdir -p "$modules"
cp /modules/*.ko /test/*.ko "$modules/"
for name in 9p 9pnet_virtio 9pnet_fd 9pnet; do rmmod $name; done
chroot /root /usr/sbin/depmod 2>/dev/null # there is no list of what is built in
cat >/root/etc/fstab <<END
tcp:10.0.2.2:$PORT /mnt/auto qidmap aname=x,_netdev,noauto,x-systemd.automount,retry=80 0 0
$IDLE
tcp:10.0.2.2:$PORT /mnt/late qidmap aname=x,_netdev,nofail,retry=80 0 0
END
GUEST
systemd_init "$tmp/before" >"$tmp/init"

# ---- what a service of the guest does ---------------------------------------------------------
{
    systemd_driver
    cat <<'GUEST'
mounted() { grep -c " $1 9p " /proc/mounts; }
is "$(cat /proc/1/comm)" systemd "the first process is systemd"

# ---- the host is not there yet
check "the boot is not held up" until_state multi-user.target active
is "$(state mnt-late.mount)" activating "the line with nofail waits for its host"
is "$(state mnt-auto.automount) $(state mnt-auto.mount)" "active inactive" "the automount is ready, not mounted"
case " $(systemctl show -p After --value mnt-late.mount) " in
*" network-online.target "*) pass "_netdev: after the network" ;;
*) fail "_netdev: after the network" ;;
esac
cat /mnt/auto/file >/tmp/read 2>&1 &
reader=$!
check "who looks there waits" until_state mnt-auto.mount activating
host_step start
wait $reader
is "$?" 0 "and reads when the host is there"
is "$(cat /tmp/read)" here "what is there"
check "the line with nofail is mounted" until_state mnt-late.mount active
check "the kernel's modules were loaded" grep -q 9p /proc/filesystems
inode=$(stat -c %i /mnt/auto/file)
is "$(stat -c %i /mnt/idle/file)" "$inode" "the second automount: the same file"

# ---- the host restarts
host_step restart
check_fails "after a restart a mount is of no use" cat /mnt/auto/file
check_fails "also one of fstab" cat /mnt/late/file
is "$(state mnt-auto.mount)" active "systemd takes it for mounted"
check "systemctl restart" $RESTART
is "$(cat /mnt/late/file)" here "mounts it again"
is "$(stat -c %i /mnt/late/file)" "$inode" "with the numbers"
check "idle: it is unmounted when nobody looks" until_state mnt-idle.mount inactive
is "$(cat /mnt/idle/file)" here "and is back when somebody does"
is "$(stat -c %i /mnt/idle/file)" "$inode" "with the numbers"
check "umount -l" umount -l /mnt/auto
is "$(cat /mnt/auto/file)" here "and the automount mounts again"

# ---- a program holds a file
exec 5</mnt/idle/file
(cd /mnt/auto && exec sleep 1000) &
holder=$!
until [ "$(readlink /proc/$holder/cwd)" = /mnt/auto ]; do sleep 0.1; done
host_step restart
check_fails "what is held is not unmounted" umount /mnt/auto
check "but with -l" umount -l /mnt/auto
is "$(cat /mnt/auto/file)" here "others have it again"
check_fails "the holder has not" ls /proc/$holder/cwd/
kill $holder
exec 5<&-
check "what is closed is unmounted by itself" until_state mnt-idle.mount inactive
is "$(stat -c %i /mnt/idle/file)" "$inode" "and is back with the numbers"

# ---- the host is gone
host_step stop
check "a mount whose host is gone is stopped" timeout 60 systemctl stop mnt-late.mount mnt-auto.automount
is "$(mounted /mnt/late)$(mounted /mnt/auto)" 00 "both are away"
echo "@@exit 0"
sleep 1
echo b >/proc/sysrq-trigger
GUEST
} >"$tmp/driver"

mkdir "$tmp/export"
echo here >"$tmp/export/file"
step_start() { server_start "$tmp/export" "lmdb:$tmp/store"; }
step_stop() { server_stop; }
step_restart() { server_stop && server_start "$tmp/export" "lmdb:$tmp/store"; }
guest_modules autofs4
files=("+$tmp/init" "+$tmp/driver" "+$helper" "${guest_module_files[@]}")
server_port=$(free_port)
export QIDMAP_GUEST_TIMEOUT=${QIDMAP_GUEST_TIMEOUT:-1500}
# the lines of docs/remount.md, with port and names of this guest, and without so much waiting
idle=$(block remount-automount | sed "s/:5640 /:$server_port /; s/aname=data/aname=x/; s,/mnt/data,/mnt/idle,
    s/idle-timeout=60/idle-timeout=4/")
restart=$(block remount-systemctl | sed s/data/late/)
check "the page has a line for fstab" grep -q "^tcp:10.0.2.2:$server_port /mnt/idle qidmap .*idle-timeout=4" <<<"$idle"
guest_run "$tmp/driver" "PORT=$server_port" "IDLE=$idle" "RESTART=$restart" "${files[@]}"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "console: $(tail -n 60 "$tmp/guest.$guest_number/console")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
