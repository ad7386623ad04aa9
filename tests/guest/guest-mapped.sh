#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: security=mapped-xattr takes an export over from QEMU, and gives it back. Files of all
# kinds made through QEMU's own server look the same through qidmapd, those made through qidmapd
# look the same through QEMU, and both leave the same bytes on the host's disk.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"

mkdir "$tmp/export"
chmod 755 "$tmp" "$tmp/export"
setfattr -n user.try -v 1 "$tmp/export" 2>/dev/null ||
    skip_all "no user xattrs on the test's filesystem"
setfattr -x user.try "$tmp/export"
# shellcheck disable=SC2086 # CC may have several words
${CC:-cc} -static -O -o "$tmp/special" "$guest_dir/special.c" 2>"$tmp/cc.log" ||
    skip_all "no static linking: $(head -n 1 "$tmp/cc.log")"

cat >"$tmp/script" <<'GUEST'
chmod 755 /test/special
mount_qemu() { VIRTFS=1 mount9p /q access=client,posixacl mapped; }

fill() { # DIRECTORY: all kinds of files, of three users
    mkdir "$1" && cd "$1" || return 1
    echo text >file && chmod 640 file && chown 1000:1001 file || return 1
    : >setuid && chmod 6755 setuid || return 1
    mkdir dir && chmod 2770 dir && chown 0:1001 dir || return 1
    mkdir -m 1777 all || return 1
    ln -s target link && ln -s "/nowhere/$(printf '%0900d' 7)" long || return 1
    chown -h 1000:1000 long || return 1
    mknod char c 1 7 && mknod block b 8 300 && mknod big c 300 70000 && mkfifo fifo || return 1
    /test/special socket socket || return 1
    chmod 604 char && chown 1001:1000 block || return 1
    ln file dir/hard || return 1
    setfattr -n user.color -v green file || return 1
    echo acl >acl && /test/special acl acl && mkdir acls && /test/special default-acl acls ||
        return 1
    echo inherits >acls/file && mkdir acls/dir || return 1
    probe as 1000 1000 sh -c 'umask 027; cd all && echo mine >of-1000 && mkdir dir-1000 &&
        ln -s ../file link-1000 && mkfifo fifo-1000' || return 1
    probe as 1001 1001 sh -c 'umask 077; cd all && echo hers >of-1001 && chmod 444 of-1001 &&
        mv of-1001 renamed' || return 1
    touch -h -d @1234567890 file link char dir
}

show() { # DIRECTORY: all that a guest can see of it
    (cd "$1" && find . | sort | while read -r name; do
        stat -c '%n: %F %a %u:%g %t,%T size %s links %h time %Y' "$name"
        [ ! -L "$name" ] || readlink "$name"
        [ ! -f "$name" ] || [ -L "$name" ] || sha256sum <"$name"
        [ -L "$name" ] || /test/special show "$name"
        [ -L "$name" ] || getfattr -d "$name" 2>/dev/null
    done)
}

kinds() { # what a listing says, without stat
    find "$1" -type l | sort; find "$1" -type p | sort; find "$1" -type c | sort
}

check "mounts QEMU's server" mount_qemu || exit 1
check "fills it through QEMU" fill /q/by-qemu
cd /
show /q/by-qemu >/tmp/qemu.1
umount /q
check "mounts qidmapd" mount9p /n access=client,posixacl || exit 1
show /n/by-qemu >/tmp/here.1
check "what QEMU made looks the same through qidmapd" diff -u /tmp/qemu.1 /tmp/here.1
is "$(grep -c : /tmp/here.1 | awk '{ print ($1 > 20) }')" 1 "there is much of it"
grep -q '^./big: character special file .* 12c,11170 ' /tmp/here.1 &&
    pass "a device number of many bits" || fail "a device number of many bits"
check "uid 1000 reads its own file" probe as 1000 1000 cat /n/by-qemu/all/of-1000
check "uid 1001 may not" probe as 1001 1001 probe denied /n/by-qemu/all/of-1000
check "fills it through qidmapd" fill /n/by-here
cd /
show /n/by-here >/tmp/here.2
kinds /n/by-here | sed 's#/n/##' >/tmp/kinds.here
umount /n
check "mounts QEMU's server again" mount_qemu
show /q/by-here >/tmp/qemu.2
kinds /q/by-here | sed 's#/q/##' >/tmp/kinds.qemu
check "what qidmapd made looks the same through QEMU" diff -u /tmp/here.2 /tmp/qemu.2
check "and so do the kinds in listings" diff -u /tmp/kinds.here /tmp/kinds.qemu
# The time of a change is each one's own.
sed 's/ time .*//' </tmp/qemu.1 >/tmp/a && sed 's/ time .*//' </tmp/here.2 >/tmp/b
check "the same steps lead to the same files" diff -u /tmp/a /tmp/b
check "changes them: chmod, chown, a write" sh -c 'cd /q/by-here && chmod 600 file char &&
    chown 7:8 setuid && echo more >>all/of-1000 && rm link && ln -s other link'
show /q/by-here >/tmp/qemu.3
umount /q
check "mounts qidmapd again" mount9p /n access=client,posixacl
show /n/by-here >/tmp/here.3
check "changes through QEMU are seen" diff -u /tmp/qemu.3 /tmp/here.3
umount /n
GUEST

server_start "$tmp/export" "lmdb:$tmp/store" --security mapped-xattr ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
guest_qemu=(-virtfs "local,path=$tmp/export,mount_tag=mapped,security_model=mapped-xattr,multidevs=remap")
guest_run "$tmp/script" "${guest_server[@]}" "+$tmp/special"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi

# On the disk: kinds, modes and every byte of the xattrs.
on_disk() { # DIRECTORY
    (
        cd "$1" || exit 1
        find . | sort | while read -r name; do
            case $name in ./setuid | ./link | ./char | ./file | ./dir/hard | ./all/of-1000) continue ;; esac
            stat -c '%n: %F %a' "$name"
            getfattr -h -d -m - -e hex "$name" 2>/dev/null | grep -v '^#' | grep -v '^security' | sort
        done
    )
}
on_disk "$tmp/export/by-qemu" >"$tmp/disk.qemu"
on_disk "$tmp/export/by-here" >"$tmp/disk.here"
is "$(diff -u "$tmp/disk.qemu" "$tmp/disk.here")" "" "the same bytes on the disk"
is "$(grep -c '^user.virtfs.rdev=0x[0-9a-f]\{16\}$' "$tmp/disk.qemu" | awk '{ print ($1 > 3) }')" 1 \
    "QEMU's device numbers have 64 bits"
is "$(grep '^user.virtfs.mode' "$tmp/disk.qemu" | grep -vc '=0x[0-9a-f]\{8\}$')" 0 \
    "its modes have 32"
is "$(stat -c '%F %a' "$tmp/export/by-here/long")" "regular file 600" "a symlink is a regular file"
server_stop TERM
is "$qidmapd_status" 0 "SIGTERM ends the server in order"
tap_done
