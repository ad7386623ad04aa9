#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: under a real systemd, dpkg installs the packages of `./quickstart deb`, and qidmapd.service serves
# with what the unit leaves it; `systemctl reload` takes a new export. An upgrade does not restart the daemon while a
# client has a mount: that goes on, with the same numbers. Without one it restarts it, and the new program serves
# the same numbers; who mounts between the package's look and the restart is not cut off. A removal stops the
# daemon; a purge keeps the store without asking, and what is installed again goes on with it.
#
# By hand and in `quickstart check --long`, after ./quickstart deb:
# bash ../tests/guest/guest-upgrade.sh [FOLDER-OF-PACKAGES]

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/systemd.sh"
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
debs=${1:-$top_srcdir/build/deb}
[ -n "$(ls "$debs"/qidmap_*.deb 2>/dev/null)" ] || skip_all "no packages in $debs: run ./quickstart deb first"
guest_need
image=$("$guest_dir/make-rootfs" systemd kmod mount dpkg debconf perl-base libglib2.0-0 libjson-glib-1.0-0 \
    liblmdb0 libxxhash0 libisal2 libsystemd0 libseccomp2 libblkid1 libmount1 mawk procps 2>"$tmp/rootfs.log") || {
    tap_diag "$(cat "$tmp/rootfs.log")"
    skip_all "no packages for the guest"
}
guest_disk "$image"

# ---- three versions of the packages: v1- as built, v2- and v3- the same with higher numbers
files=()
for deb in "$debs"/{qidmap,qidmap-guest,libqidmap0}_*.deb; do
    dpkg-deb -R "$deb" "$tmp/tree"
    name=$(basename "$deb" | sed 's/_.*//')
    for version in 1 2 3; do
        [ "$version" = 1 ] || sed -i "s/^\(Version: [^+]*\).*/\1+$version/" "$tmp/tree/DEBIAN/control"
        dpkg-deb --root-owner-group -Znone -b "$tmp/tree" "$tmp/v$version-$name.deb" >/dev/null ||
            bail_out "cannot repack $deb"
        files+=("+$tmp/v$version-$name.deb")
    done
    rm -rf "${tmp:?}/tree"
done

# ---- before systemd
cat >"$tmp/before" <<'GUEST'
mkdir -p /root/mnt/x /root/mnt/y /root/mnt/race /root/srv/x /root/srv/y /root/etc/qidmap /root/usr/local/sbin
# no script of a package has run in this image
ln -sf mawk /root/usr/bin/awk
mkdir -p /root/var/lib/dpkg/info /root/var/lib/dpkg/updates
touch /root/var/lib/dpkg/status /root/var/lib/dpkg/available
GUEST
systemd_init "$tmp/before" >"$tmp/init"

# ---- in the guest
{
    systemd_driver
    cat <<'GUEST'
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
unit=qidmapd.service
install_version() { # N; dpkg does not know of the image's own packages
    dpkg --force-depends --force-unsafe-io -i /test/v"$1"-*.deb >/tmp/dpkg 2>&1
}
version() { dpkg-query -W -f '${Version}' qidmap | sed -n 's/.*+//p'; }
main_pid() { systemctl show -p MainPID --value $unit; }
program() { readlink "/proc/$(main_pid)/exe"; }
numbers() { (cd "$1" && stat -c '%n %i' . file dir dir/deep other) 2>&1; }
mount_it() { mount -t qidmap unix:/run/served "$2" -o "aname=$1,retry=300"; }
no_session() { qidmapctl top --once --json | tr -d ' \n\t' | grep -q '"sessions":\[\]'; }
until_no_session() {
    local n
    for n in $(seq 200); do no_session && return; sleep 0.2; done
    return 1
}

is "$(cat /proc/1/comm)" systemd "the first process is systemd"
check "dpkg installs the packages" install_version 1
is "$(state $unit)" inactive "no daemon is started by that"
mkdir -p /srv/x/dir
for name in file other dir/deep; do echo here >/srv/x/$name; done
echo y >/srv/y/file
mount -t tmpfs tmpfs /srv/y && echo y >/srv/y/file
cat >/etc/qidmap/qidmapd.conf <<END
[daemon]
listen=unix:/run/served
store=lmdb:/var/lib/qidmap/all
[export x]
dir=/srv/x
END
check "the service starts" systemctl start $unit
is "$(state $unit)" active "and is ready"
check "a client mounts" mount_it x /mnt/x
is "$(cat /mnt/x/dir/deep)" here "and reads"
before=$(numbers /mnt/x)
daemon=$(main_pid)
exec 5</mnt/x/file

# ---- reload
check_fails "an export that is not there" mount -t qidmap unix:/run/served /mnt/y -o aname=y,retry=0
printf '[export y]\ndir=/srv/y\n' >>/etc/qidmap/qidmapd.conf
check "systemctl reload" systemctl reload $unit
is "$(main_pid)" "$daemon" "it is the same process"
check "the new export is mounted" mount_it y /mnt/y
is "$(cat /mnt/y/file)" y "and has its file"
printf 'nonsense\n' >>/etc/qidmap/qidmapd.conf
check_fails "a reload of what is wrong fails" systemctl reload $unit
is "$(cat /mnt/y/file)" y "and changes nothing"
sed -i '$d' /etc/qidmap/qidmapd.conf
check "the second mount ends" umount /mnt/y

# ---- an upgrade while a client is there
check "upgrade with a session" install_version 2
is "$(version)" 2 "the version is installed"
is "$(main_pid)" "$daemon" "the daemon was not restarted"
is "$(program)" "/usr/sbin/qidmapd (deleted)" "it is the program before"
check "dpkg says so" grep -q "$unit has sessions" /tmp/dpkg
is "$(cat <&5)" here "the open file is read"
exec 5<&-
check "the session goes on" sh -c 'echo new >/mnt/x/new && cat /mnt/x/new && rm /mnt/x/new'
is "$(numbers /mnt/x)" "$before" "with the same numbers"
check "the reload of a daemon whose program was replaced" systemctl reload $unit
check "the mount ends" umount /mnt/x
check "the daemon knows" until_no_session

# ---- one without; a client comes between the look and the restart
cat >/usr/local/sbin/systemctl <<'END'
#!/bin/sh
case "$*" in
"restart qidmapd.service")
    setsid mount -t qidmap unix:/run/served /mnt/race -o aname=x,retry=300 >/tmp/race 2>&1 </dev/null &
    echo $! >/tmp/race.pid
    sleep 5
    ;;
esac
exec /usr/bin/systemctl "$@"
END
chmod 755 /usr/local/sbin/systemctl
check "upgrade without a session" install_version 3
rm /usr/local/sbin/systemctl
hash -r
is "$(version)" 3 "the version is installed"
is "$(state $unit)" active "the service is ready"
[ "$(main_pid)" != "$daemon" ] && pass "the daemon was restarted" || fail "the daemon was restarted"
is "$(program)" /usr/sbin/qidmapd "it is the new program"
check "who came before the restart is mounted" sh -c '
    for n in $(seq 300); do grep -q " /mnt/race 9p " /proc/mounts && exit 0; sleep 0.2; done; cat /tmp/race; exit 1'
is "$(numbers /mnt/race)" "$before" "and was not cut off: same numbers"
check "the mount ends" umount /mnt/race
check "a client mounts" mount_it x /mnt/x
is "$(numbers /mnt/x)" "$before" "the new program serves the same numbers"
umount /mnt/x

# ---- removal, purge, and back
daemon=$(main_pid)
check "removal" dpkg --force-depends -r qidmap
[ ! -d "/proc/$daemon" ] && pass "stops the daemon" || fail "stops the daemon"
check_fails "the program is gone" test -e /usr/sbin/qidmapd
check "purge, nobody to ask" dpkg --force-depends -P qidmap
check "keeps the store" sh -c 'find /var/lib/qidmap/all -name data.mdb -size +0 | grep -q .'
check "installed again" install_version 3
check "the service starts" systemctl start $unit
check "a client mounts" mount_it x /mnt/x
is "$(numbers /mnt/x)" "$before" "with the same numbers"
umount /mnt/x
cat /tmp/dpkg
journalctl -u $unit --no-pager 2>/dev/null | tail -n 40
echo "@@exit 0"
sleep 1
echo b >/proc/sysrq-trigger
GUEST
} >"$tmp/driver"

export QIDMAP_GUEST_TIMEOUT=${QIDMAP_GUEST_TIMEOUT:-1500}
guest_run "$tmp/driver" "+$tmp/init" "+$tmp/driver" "${files[@]}"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "console: $(tail -n 60 "$tmp/guest.$guest_number/console")"
fi
tap_done
