#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the recipes in docs/ work as they stand there: a guest mounts over QEMU's user network and over a
# bridge, where another address is not let in; after a restart of qidmapd it mounts again and finds the
# inode numbers that it had; an incremental archive of tar has what was changed, also after a restart; a tree
# that QEMU (mapped-xattr, multidevs=remap) or diod served is served by qidmapd with the same names, contents
# and owners, and with numbers that differ once and then never.
#
# The pages mark blocks of commands with "<!-- test NAME -->"; each is run here, on the host or in the guest.
# doc-recipes.sh looks whether this script runs all of them.

if [ "$(id -u)" = 0 ] && [ -z "${QIDMAP_OWN_MOUNTS:-}" ] && unshare -m -n true 2>/dev/null; then
    # Addresses, ports and folders are those of the pages: nobody else may meet them.
    QIDMAP_OWN_MOUNTS=1 exec unshare -m -n --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_loop
need_fs ext4
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
[ -e /sys/class/net/lo ] && ip link set lo up 2>/dev/null || bail_out "no network namespace of its own"
guest_need
guest_packages attr fio git sqlite3 stress-ng
. "$(dirname "$0")/exports.sh"
ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
diod=$(PATH=$PATH:/usr/sbin command -v diod)
helper=$(ls /usr/lib/qemu/qemu-bridge-helper /usr/libexec/qemu-bridge-helper 2>/dev/null | head -n 1)

# ---- a host like that of the pages ------------------------------------------------------------
on_exit 'umount -l /etc; umount -l "$tmp/etc"' # the others go with the namespace
mkdir -p "$tmp/bin" "$tmp/etc" "$export_dir/disk"
mount -t tmpfs -o mode=755 tmpfs "$tmp/etc" && mkdir "$tmp/etc"/{upper,work} &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$tmp/etc/upper,workdir=$tmp/etc/work" overlay /etc &&
    mount -t tmpfs -o mode=755 tmpfs /var/lib && mount -t tmpfs -o mode=755 tmpfs /srv &&
    mkdir /srv/data || bail_out "cannot mount"
ln -s "$ctl" "$tmp/bin/qidmapctl"
PATH=$tmp/bin:$PATH

# Two filesystems with the same inode numbers: the export, and a clone of it mounted below it.
truncate -s 16M "$images/one"
mkfs.ext4 -q -F "$images/one" || bail_out "mkfs.ext4 failed"
mount_image one ext4 /srv/data || bail_out "cannot mount ext4"
mkdir /srv/data/disk /srv/data/other
echo "a file" >/srv/data/file
umount /srv/data
dd if="$images/one" of="$images/two" bs=1M conv=sparse status=none
mount "${loops[0]}" /srv/data || bail_out "cannot mount ext4 again"
truncate -s 16M "$images/three"
mkfs.ext4 -q -F "$images/three" || bail_out "mkfs.ext4 failed"
mount_image two ext4 /srv/data/disk || bail_out "cannot mount the clone"
clone=$loop_device
is "$(stat -c %i /srv/data/file)" "$(stat -c %i /srv/data/disk/file)" "two files have one inode number"

qidmapd() { # as a page starts it; a host has one
    [ -z "${qidmapd_pid:-}" ] || stop_qidmapd TERM
    qidmapd_words=("$@")
    start_qidmapd "$@" || { tail -n 5 "$qidmapd_log"; return 1; }
}
systemctl() { # restart qidmapd: for the first time, one more filesystem comes before the clone
    [ "$*" = "restart qidmapd" ] || return 1
    stop_qidmapd TERM
    if ! mountpoint -q /srv/data/other; then
        umount /srv/data/disk && mount_image three ext4 /srv/data/other || return 1
        mount "$clone" /srv/data/disk || return 1
    fi
    qidmapd "${qidmapd_words[@]}"
}

# ---- the commands of the pages ------------------------------------------------------------------
. "$(dirname "$0")/pages.sh"
step_page() { page "$1"; }
step_stop() { stop_qidmapd TERM; }
clock_is_past() { [ "$(date +%s)" -gt "$1" ]; }
step_change() { # SECONDS, of the guest's clock, which runs ahead on a busy host: tar goes by both
    wait_until 600 clock_is_past "$1"
    echo changed >>/srv/data/disk/file
}
step_diod() { # start|stop
    if [ "$1" = stop ]; then
        kill -TERM "$diod_pid" && wait "$diod_pid"
        return 0
    fi
    "$diod" -f -n -c /dev/null -l 127.0.0.1:564 -e /srv/data >"$tmp/diod.log" 2>&1 &
    diod_pid=$!
    on_exit 'kill -TERM "$diod_pid" 2>/dev/null'
    wait_until 60 port_in_use 564
}

page prepare
bridge= why_not="no bridge in this kernel"
if ! (: <>/dev/net/tun) 2>/dev/null; then
    why_not="no /dev/net/tun"
elif [ -n "$helper" ] && ip link add br-try type bridge 2>/dev/null; then
    ip link delete br-try
    bridge=1
    page bridge-setup
    # shellcheck disable=SC2046 # options, as words
    guest_qemu+=($(block bridge-qemu))
fi
for name in user-guest bridge-guest remount-fstab remount-guest from-qemu-guest from-diod-guest \
    backup-full backup-next; do
    block $name >"$tmp/$name"
done
guest_qemu+=(-virtfs "local,path=/srv/data,mount_tag=data,security_model=mapped-xattr,multidevs=remap")
check "the user network of the page is that of this guest" grep -qF 'device virtio-net-pci,netdev=net' \
    <<<"$(grep -F -e '-netdev user,id=net' "$top_srcdir/docs/qemu.md")"

cat >"$tmp/script" <<'GUEST'
page() { # NAME [PROGRAM...]: runs the commands of /test/NAME, by PROGRAM
    local name=$1 line
    shift
    while IFS= read -r line <&6; do
        check "in the guest: $line" "${@:-sh}" -c "$line" 6<&-
    done 6<"/test/$name"
}
inodes() { (cd /mnt/data && stat -c '%n %i' . file disk disk/file); }
differ() { # what stat says of the two files
    is "$(stat -c %i /mnt/data/file /mnt/data/disk/file | sort -u | wc -l)" 2 "$1: two files, two numbers"
}

# QEMU, user network
host_step page user-host
page user-guest
is "$(cat /mnt/data/disk/file)" "a file" "user network: a file of the lower filesystem"
differ "user network"
inodes >/tmp/noted
is "$(find /mnt/data -xdev -name file | wc -l)" 2 "find -xdev goes into what the host has mounted"

# after a restart
umount /mnt/data
cat /test/remount-fstab >>/etc/fstab
check "the line of fstab" mount /mnt/data
host_step page remount-host
check_fails "the old mount is of no use" ls /mnt/data/disk
page remount-guest
stat /mnt/data/other >/dev/null # the new one is met before the clone
is "$(inodes)" "$(cat /tmp/noted)" "after a restart the numbers are those of before"

# backup, with Debian's tar
enter_disk /root && mkdir -p /root/mnt/data
in_root() { chroot /root /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin /bin/bash "$@"; }
mount --bind /mnt/data /root/mnt/data
page backup-full in_root
umount /root/mnt/data
host_step page remount-host
umount -l /mnt/data
mkdir /tmp/other && mount -t tmpfs tmpfs /tmp/other # takes the device number
mount /mnt/data
mount --bind /mnt/data /root/mnt/data
host_step change "$(date +%s)"
page backup-next in_root
is "$(in_root -c 'tar -tf /var/tmp/data-0.tar' | grep -vc '/$')" 2 "the full archive has both files"
is "$(in_root -c 'tar -tf /var/tmp/data-1.tar' | grep -v '/$')" ./disk/file \
    "the incremental one has what was changed"
umount /root/mnt/data
host_step page backup-store
umount /mnt/data
host_step stop

# from QEMU's server
check "QEMU's own server" mount -t 9p -o trans=virtio,version=9p2000.L,msize=65536,access=client data /mnt/data
echo words >/mnt/data/by-qemu
chown 1234:5678 /mnt/data/by-qemu
chmod 640 /mnt/data/by-qemu
ln -s by-qemu /mnt/data/link
before=$(inodes)
umount /mnt/data
host_step page from-qemu-host
page from-qemu-guest
is "$(stat -c %u:%g:%a /mnt/data/by-qemu)" 1234:5678:640 "owner and mode as QEMU has kept them"
is "$(cat /mnt/data/link)" words "the symbolic link leads to the content"
is "$(inodes)" "$(cat /tmp/noted)" "the numbers are those of the store"
[ "$(inodes)" != "$before" ]
is $? 0 "and are others than QEMU's"
rm /mnt/data/link /mnt/data/by-qemu
umount /mnt/data
host_step stop

# from diod
if [ -n "$DIOD" ]; then
    host_step diod start
    page from-diod-guest
    is "$(cat /mnt/data/file)" "a file" "diod serves the export"
    is "$(ls /mnt/data/disk | wc -l)" 0 "and what is mounted below looks empty"
    before=$(inodes 2>/dev/null | sed -n 2p)
    umount /mnt/data
    host_step diod stop
else
    skip "diod serves the export" "no diod"
fi
host_step page from-diod-host
page from-diod-guest
is "$(inodes)" "$(cat /tmp/noted)" "after diod: the numbers are those of the store"
differ "after diod"
[ -z "$DIOD" ] || {
    [ "$(sed -n 2p /tmp/noted)" != "$before" ]
    is $? 0 "and others than diod's"
}
umount /mnt/data

# QEMU, bridge
if [ -n "$BRIDGE" ]; then
    host_step page bridge-host
    page bridge-guest
    is "$(inodes)" "$(cat /tmp/noted)" "over the bridge: the same numbers"
    umount /mnt/data
    ip address add 192.168.76.3/24 dev eth1
    ip address del 192.168.76.2/24 dev eth1
    ip address add 192.168.76.3/24 dev eth1 2>/dev/null
    check_fails "another address is not let in" sh -c "$(tail -n 1 /test/bridge-guest)"
else
    skip "over the bridge" "$WHY_NOT"
fi
GUEST

guest_run "$tmp/script" "DIOD=$diod" "BRIDGE=$bridge" "WHY_NOT=$why_not" +"$tmp/user-guest" +"$tmp/bridge-guest" \
    +"$tmp/remount-fstab" +"$tmp/remount-guest" +"$tmp/from-qemu-guest" +"$tmp/from-diod-guest" \
    +"$tmp/backup-full" +"$tmp/backup-next"
is "$?" 0 "the script ended well"
[ -z "$bridge" ] || check "the other address was refused by the server" \
    grep -q '192\.168\.76\.3.*may not connect' "$qidmapd_log"
check "the backup of the store is whole" grep -q '"fs"' /var/lib/qidmap/data.json
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
