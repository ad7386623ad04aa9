# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the tests of Samba in a guest have in common: the mount and the shares as qidmap-samba(7)
# has them, the client's results, and smbd's life in the guest. Sourced after guest.sh; skips the test
# where something is missing. Which files are shared, and what must hold, is each test's own affair.

/usr/bin/python3 -c 'import impacket' 2>/dev/null || skip_all "no python3-impacket"
guest_need
guest_packages samba samba-vfs-modules
. "$guest_dir/exports.sh"

fill() { # DIRECTORY: files for the client's tests (samba-client.py), held and others
    local i
    mkdir -p "$1/dir/below"
    for i in 1 2 3; do echo "$i" >"$1/dir/file$i"; done
    for i in held lock acl ren-open; do : >"$1/dir/$i"; done
    chmod 666 "$1/dir/acl"
    echo deep >"$1/dir/below/deep"
    echo "the old file" >"$1/dir/ren-old"
    echo "the new file" >"$1/dir/ren-new"
    ln "$1/dir/file1" "$1/dir/hardlink1"
}

# ---- the lines of the manual -------------------------------------------------
page=$top_srcdir/man/qidmap-samba.7.pod
section() { # NAME: its indented block
    awk -v p="    [$1]" '$0 == p { on = 1 } on && /^[^ ]/ { exit }
        on { sub(/^    /, ""); print }' "$page"
}
fstab=$(sed -n 's/^    \(10\.0\.2\.2 .* 9p .*\)$/\1/p' "$page")
read -r _ mountpoint _ mount_options _ <<<"$fstab"
[ -n "$mount_options" ] && [ -n "$(section data)" ] || bail_out "no example in $page"
smb_port=$(free_port)
server_port=$(free_port)
mount_options=$(sed "s/,port=[0-9]*/,port=$server_port/; s/,aname=[^,]*/,aname=x/; s/,_netdev//" \
    <<<"$mount_options")
samba_global() { # what the guest needs beside the example: no printers, and users
    cat <<'END'
[global]
    server role = standalone server
    passdb backend = smbpasswd:/run/smbpasswd
    disable netbios = yes
    smb ports = 445
    load printers = no
    printcap name = /dev/null
    disable spoolss = yes
END
}
/usr/bin/python3 - >"$tmp/smbpasswd" <<'END'
from impacket.ntlm import compute_nthash
for name, uid in ("root", 0), ("alice", 65533):
    print("%s:%d:%s:%s:[U          ]:LCT-60000000:"
          % (name, uid, "X" * 32, compute_nthash("secret").hex().upper()))
END

# ---- the client --------------------------------------------------------------
client() { # COMMAND ARGUMENT...: its results become ours
    local line
    while IFS= read -r line; do
        case $line in
        'ok '*) ok "$phase: ${line#ok }" ;;
        'not ok '*) not_ok "$phase: ${line#not ok }" ;;
        *) tap_diag "client: $line" ;;
        esac
    done < <(timeout -k 5 900 /usr/bin/python3 "$guest_dir/samba-client.py" "$smb_port" "$@" 2>&1 ||
        echo "not ok $1: ended with status $?") # also where it hung, or ended by an error that it does not know
}

# same_ids OLD NEW TEXT
same_ids() {
    local changed
    changed=$(join -j 2 -t $'\t' <(sed 's/ /\t/' "$1" | sort -t $'\t' -k 2) \
        <(sed 's/ /\t/' "$2" | sort -t $'\t' -k 2) |
        awk -F '\t' '$2 != $3 { print $1 ": " $2 " -> " $3 }')
    is "$changed" "" "$3"
}

# ---- the guest ---------------------------------------------------------------
cat >"$tmp/common" <<'GUEST'
r=/root
prepare() {
    enter_disk $r || return 1
    for d in $MOUNTPOINT srv/remap var/lib/samba/private var/cache/samba var/log/samba run/samba; do
        mkdir -p "$r/$d"
    done
    ln -sf /proc/self/mounts $r/etc/mtab
    cp /test/smb.conf /test/smbpasswd $r/run/
    # The mount's device number is another one in each life.
    mkdir /tmp/decoy
    i=0
    while [ $i -lt "${DECOYS:-0}" ]; do mount -t tmpfs decoy /tmp/decoy; i=$((i + 1)); done
}
mount_data() {
    mount -t 9p -o "$OPTIONS" 10.0.2.2 "$r$MOUNTPOINT" || return 1
    echo "dev $(stat -c %d "$r$MOUNTPOINT")"
}
listening() { grep -q '^ *[0-9]*: [0-9A-F]*:01BD [0-9A-F:]* 0A' /proc/net/tcp /proc/net/tcp6; }
smbd_start() {
    chroot $r /usr/sbin/smbd -F --debug-stdout -s /run/smb.conf >>/tmp/smbd.log 2>&1 &
    smbd=$!
    local i=0
    until listening; do
        i=$((i + 1))
        [ $i -lt 3000 ] && kill -0 $smbd || { echo "smbd does not start"; exit 1; }
        sleep 0.1
    done
}
smbd_stop() {
    killall smbd
    wait $smbd
    while pidof smbd >/dev/null; do sleep 0.1; done
}
server_killed() { # the host kills the server: its mount is dead, another one has another device number
    host_step kill
    smbd_stop
    check_fails "the mount is dead" ls $r$MOUNTPOINT/a
    umount -l $r$MOUNTPOINT && mount -t tmpfs decoy /tmp/decoy && mount_data || exit 1
    smbd_start
    host_step after qidmapd_was_killed
}
devid() { # how smbd's table calls the mount
    chroot $r /usr/bin/smbstatus -s /run/smb.conf -L --json | grep -o '"devid": *[0-9]*' | sort -u
    host_step devid "$1"
}
trap 'tail -n 40 /tmp/smbd.log' EXIT
prepare && mount_data || exit 1
GUEST
