#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: borg and restic in a guest, run as docs/backup.md has them, read again what was changed and
# nothing else, also after qidmapd was restarted and mounted again with another device number; with a store
# that does not last they read everything again (a control: they do go by inode numbers). rsync -H
# copies hard links as such, and never takes files of two filesystems with one inode number for one.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/pages.sh"
need_loop
need_fs ext4
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
guest_need
guest_packages borgbackup restic rsync
. "$(dirname "$0")/exports.sh"

# Two filesystems with the same inode numbers: one, and its clone.
fill() { # DIRECTORY
    local name
    for name in a b c; do echo "$name" >"$1/$name"; done
    ln "$1/a" "$1/link"
}
make_clones one two
echo other >"$export_dir/two/b"
is "$(stat -c %i "$export_dir/one/b")" "$(stat -c %i "$export_dir/two/b")" "two files have one inode number"
sleep 1.1 # borg does not trust times that are as late as the latest one
echo last >"$export_dir/last"

step_change() { echo more >>"$export_dir/two/c"; }
step_restart() { server_stop && server_start "$export_dir" "lmdb:$tmp/store"; }
step_forget() { server_stop && server_start "$export_dir" "lmdb:$tmp/another"; }
server_start "$export_dir" "lmdb:$tmp/store" || bail_out "no server"
pages=()
for name in backup-borg-full backup-borg-next backup-restic-full backup-restic-next backup-rsync; do
    block $name >"$tmp/$name"
    pages+=("+$tmp/$name")
done

cat >"$tmp/script" <<'GUEST'
enter_disk /root && mkdir -p /root/mnt/data || exit 1
in_root() { chroot /root /usr/bin/env HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin /bin/bash -c "$1"; }
page() { # NAME: its commands; what they say is in /tmp/NAME
    local line
    : >"/tmp/$1"
    while IFS= read -r line <&6; do
        in_root "$line" >>"/tmp/$1" 2>&1 6<&-
        is "$?" 0 "in the guest: $line"
    done 6<"/test/$1"
    cat "/tmp/$1"
}
# of those with one name alone: of a and link one is "h", a link to the other
borg_status() { sed -n 's,^\([A-Z]\) /*mnt/data/\([a-z]*/[bc]\)$,\1 \2,p' "/tmp/$1" | sort | tr '\n' ' '; }
restic_status() { sed -n 's/^Files: *//p' "/tmp/$1" | tr -s ' '; }
again() { # STEP: with another device number
    umount /root/mnt/data
    host_step "$1"
    mkdir -p "/tmp/$1" && mount -t tmpfs tmpfs "/tmp/$1"
    mount9p /root/mnt/data
}
mount9p /root/mnt/data
stat /root/mnt/data/one/a /root/mnt/data/two/a >/dev/null # one is met first
page backup-rsync
is "$(stat -c '%h' /root/var/tmp/data.rsync/one/a)" 2 "rsync: a hard link is one"
is "$(cat /root/var/tmp/data.rsync/one/b /root/var/tmp/data.rsync/two/b | tr '\n' ' ')" "b other " "and other files are not"
is "$(stat -c %h /root/var/tmp/data.rsync/two/b)" 1 "nor linked"
page backup-borg-full
page backup-restic-full
is "$(borg_status backup-borg-full)" "A one/b A one/c A two/b A two/c " "borg: all files are new"
before=$(stat -c %d /root/mnt/data)
host_step change
again restart
[ "$(stat -c %d /root/mnt/data)" != "$before" ]
is $? 0 "after a restart the device number is another one"
page backup-borg-next
is "$(borg_status backup-borg-next)" "M two/c U one/b U one/c U two/b " "borg: what was changed, and nothing else"
page backup-restic-next
is "$(restic_status backup-restic-next)" "0 new, 1 changed, 8 unmodified" "restic: the same"

# the control: a store that knows nothing, and two is met first
umount /root/mnt/data
host_step forget
mount9p /root/mnt/data
stat /root/mnt/data/two/a /root/mnt/data/one/a >/dev/null
sed -i s/second/third/ /test/backup-borg-next
page backup-borg-next
case $(borg_status backup-borg-next) in
*"M one/b M one/c M two/b "*) pass "borg: with other numbers all is read again" ;;
*) fail "borg: with other numbers all is read again" ;;
esac
page backup-restic-next
case $(restic_status backup-restic-next) in
*" 0 changed"*) fail "restic, too" ;;
*" changed"*) pass "restic, too" ;;
*) fail "restic, too" ;;
esac
GUEST
QIDMAP_GUEST_MEMORY=${QIDMAP_GUEST_MEMORY:-768} QIDMAP_GUEST_TIMEOUT=1500 \
    guest_run "$tmp/script" "${guest_server[@]}" "${pages[@]}"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
