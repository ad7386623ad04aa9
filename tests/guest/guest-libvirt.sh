#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the recipe of docs/libvirt.md works as it stands there: libvirt's network `default` gives a domain
# the fixed address, qidmapd lets it in there, its mount has the files, and a domain with another address
# is not let in. libvirt takes the XML for vsock, and makes of it QEMU's device with that CID.
#
# A libvirtd of its own, in namespaces of its own: the host's is not met, nor are its files.

if [ "$(id -u)" = 0 ] && [ -z "${QIDMAP_OWN_MOUNTS:-}" ] && unshare -m -n true 2>/dev/null; then
    QIDMAP_OWN_MOUNTS=1 exec unshare -m -n --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/pages.sh"
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
[ "$(id -u)" = 0 ] && [ -n "${QIDMAP_OWN_MOUNTS:-}" ] || skip_all "needs root"
for program in libvirtd virsh virt-xml-validate dnsmasq iptables; do
    command -v "$program" >/dev/null || skip_all "no $program"
done
[ -e /etc/libvirt/qemu/networks/default.xml ] || skip_all "no network default (libvirt-daemon-config-network)"
(: <>/dev/net/tun) 2>/dev/null || skip_all "no /dev/net/tun"
guest_need
ip link set lo up
ip link add br-try type bridge 2>/dev/null || skip_all "no bridge in this kernel"
ip link delete br-try

# ---- folders of its own ---------------------------------------------------------------------------
mkdir "$tmp/etc"
mount -t tmpfs -o mode=755 tmpfs "$tmp/etc" && mkdir "$tmp/etc"/{upper,work} &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$tmp/etc/upper,workdir=$tmp/etc/work" overlay /etc &&
    mount -t tmpfs -o mode=755 tmpfs /var/lib && mount -t tmpfs -o mode=755 tmpfs /run &&
    mount -t tmpfs -o mode=755 tmpfs /var/log && mount -t tmpfs -o mode=755 tmpfs /var/cache &&
    mount -t tmpfs -o mode=755 tmpfs /srv || bail_out "cannot mount"
mkdir -p /srv/data /var/lib/libvirt /run/lock /var/log/libvirt/qemu
echo here >/srv/data/file
grep -q '^libvirt-qemu:' /etc/passwd || # which libvirt-daemon-system makes, and libvirtd asks for
    echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>/etc/passwd
grep -q '^libvirt-qemu:' /etc/group || echo 'libvirt-qemu:x:64055:' >>/etc/group
cat >>/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
END
libvirtd >"$tmp/libvirtd.log" 2>&1 &
libvirtd_pid=$!
stop_libvirt() {
    virsh destroy guest >/dev/null 2>&1
    virsh net-destroy default >/dev/null 2>&1 # with its dnsmasq
    kill "$libvirtd_pid" && wait "$libvirtd_pid"
    umount -l /etc "$tmp/etc"
} 2>/dev/null
on_exit stop_libvirt
export LIBVIRT_DEFAULT_URI=qemu:///system
wait_until 60 virsh version >/dev/null 2>&1 || {
    tap_diag "$(tail -n 20 "$tmp/libvirtd.log")"
    skip_all "libvirtd does not start here"
}
check "the network default" virsh net-start default

qidmapd() { start_qidmapd "$@"; }
page prepare
page libvirt-address
page libvirt-host

# ---- vsock: as far as it goes without vhost_vsock ------------------------------------------------
domain() { # MAC [DEVICE]
    cat <<END
<domain type='qemu'>
  <name>guest</name><memory unit='MiB'>384</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$guest_image/vmlinuz</kernel><initrd>$tmp/initramfs</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 norandmaps no_timer_check mitigations=off</cmdline>
  </os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <serial type='file'><source path='$tmp/console'/><target port='0'/></serial>
    <serial type='file'><source path='$tmp/output'/><target port='1'/></serial>
    <interface type='network'><source network='default'/><mac address='$1'/><model type='virtio'/></interface>
    ${2:-}
  </devices>
</domain>
END
}
domain 52:54:00:12:34:56 "$(block libvirt-vsock)" >"$tmp/vsock.xml"
check "libvirt takes the XML for vsock" virt-xml-validate "$tmp/vsock.xml" domain
check "and makes QEMU's device of it" grep -qE 'vhost-vsock-pci.*guest-cid"?[:=]3\b' \
    <<<"$(virsh domxml-to-native qemu-argv "$tmp/vsock.xml")"

# ---- a domain ----------------------------------------------------------------------------------------
mkdir -p "$tmp/root/test"
block libvirt-guest >"$tmp/root/test/page"
: >"$tmp/root/test/env"
cat >"$tmp/root/test/dhcp" <<'GUEST'
#!/bin/sh
[ "$1" != bound ] || ifconfig eth0 "$ip" netmask "$subnet"
GUEST
chmod 755 "$tmp/root/test/dhcp"
for module in $(find "${guest_image%-*-*}/lib/modules" -name 'af_packet.ko*'); do
    case $module in
    *.xz) xz -dc "$module" >"$tmp/root/test/af_packet.ko" ;;
    *.ko) cp "$module" "$tmp/root/test/af_packet.ko" ;;
    esac
done
cat >"$tmp/root/test/script" <<'GUEST'
[ ! -e /test/af_packet.ko ] || insmod /test/af_packet.ko
ifconfig eth0 0.0.0.0 up
udhcpc -i eth0 -n -q -t 20 -s /test/dhcp
echo "address $(ifconfig eth0 | sed -n 's/.*inet addr:\([0-9.]*\).*/\1/p')"
mkdir -p /mnt/data
sh /test/page
echo "mount $?"
echo "content $(cat /mnt/data/file)"
GUEST
(
    cat "$guest_image/initramfs"
    cd "$tmp/root" && find test | cpio --quiet -o -H newc -R 0:0
) >"$tmp/initramfs"
run_domain() { # MAC: what the guest said is in $tmp/output
    rm -f "$tmp/output" "$tmp/console"
    domain "$1" >"$tmp/domain.xml"
    virsh create "$tmp/domain.xml" >"$tmp/create" 2>&1 || {
        tap_diag "$(cat "$tmp/create")"
        return 1
    }
    wait_until 600 grep -q '^@@exit' "$tmp/output"
    virsh destroy guest >/dev/null 2>&1
    true
}
said() { sed -n "s/^$1 //p" "$tmp/output"; }
check "a domain starts" run_domain 52:54:00:12:34:56
is "$(said address)" 192.168.122.10 "its address is that of the page"
is "$(said mount) $(said content)" "0 here" "it mounts as the page says"
check "another one starts" run_domain 52:54:00:12:34:57
check "it has an address of the network" grep -q '^192\.168\.122\.' <<<"$(said address)"
[ "$(said mount)" != 0 ]
is "$? $(said content)" "0 " "and is not let in"
check "by the server" grep -qF "$(said address)" <<<"$(grep 'may not connect' "$qidmapd_log")"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "guest: $(cat "$tmp/output" 2>/dev/null)"
    tap_diag "console: $(tail -n 20 "$tmp/console" 2>/dev/null)"
    tap_diag "libvirtd: $(tail -n 20 "$tmp/libvirtd.log")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
