# SPDX-License-Identifier: LGPL-2.1-or-later
#
# For tests of a guest whose first process is systemd: what runs before it. Sourced after guest.sh; the
# test's disk (make-rootfs) has systemd, kmod and mount.

# systemd_init FILE: prints what runs before systemd, to be given to guest_run as /test/init. The disk is at
# /root then, with what guest_run was given in /root/test; FILE is a script that prepares more. A service then
# runs /test/driver, which begins with the lines of systemd_driver.
systemd_init() {
    cat <<'GUEST'
. /lib.sh
load_modules disk
mkdir -p /root
mount -t ext4 /dev/vda /root || { echo "@@exit 1"; reboot -f; }
export -p >/root/guest.env
mkdir -p /root/test
cp /test/* /lib.sh /root/test/
chmod 755 /root/test/driver
echo guest >/root/etc/hostname
units=/root/etc/systemd/system
for name in serial-getty@ttyS0.service getty@tty1.service systemd-firstboot.service \
    systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-sysusers.service systemd-journal-catalog-update.service ldconfig.service; do
    ln -s /dev/null $units/$name
done
mkdir -p $units/multi-user.target.wants
cat >$units/guest-test.service <<END
[Unit]
After=basic.target
[Service]
ExecStart=/bin/bash /test/driver
StandardOutput=file:/dev/ttyS1
StandardError=inherit
END
ln -s ../guest-test.service $units/multi-user.target.wants/
ln -sf /lib/systemd/system/multi-user.target $units/default.target
GUEST
    cat "$1"
    echo 'exec switch_root /root /lib/systemd/systemd </dev/null >/dev/ttyS0 2>&1'
}

systemd_driver() {
    cat <<'GUEST'
. /guest.env
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
stty -F /dev/ttyS1 raw -echo -onlcr
. /test/lib.sh
state() { systemctl show -p ActiveState --value "$1"; }
until_state() { # UNIT STATE
    local n
    for n in $(seq 600); do
        [ "$(state "$1")" = "$2" ] && return 0
        sleep 0.5
    done
    systemctl status "$1"
    return 1
}
GUEST
}
