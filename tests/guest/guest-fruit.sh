#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a Mac, that is a client which speaks Apple's extensions to SMB2 (vfs_fruit), sees on the
# share of qidmap-samba(7) for Macs the inode numbers of the guest as file ids, each file's its own,
# clones' too. They stay when qidmapd is killed and when the guest restarts; so do Finder info,
# streams and resource forks, also large ones, and those of a file whose name NTFS does not allow. With
# fruit:zero_file_id = yes at the first share it is told 0 on all, and with fruit:resource = stream a
# fork that ext4 has no room for is refused, and what was there stays. A share above the mount has
# other file ids, as the page warns.
#
# QIDMAP_SAMBA_STORE=memory: lets qidmapd break the promise, to see the test fail.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_types ext4 xfs
. "$(dirname "$0")/samba.sh"
store=${QIDMAP_SAMBA_STORE:-lmdb:$tmp/store}

# ---- the export --------------------------------------------------------------
mkdir "$export_dir"/{a,b,xfs}
make_clones a b
make_xfs xfs
forked=({a,b,xfs}/dir/file2)

[ -n "$(section mac)" ] || bail_out "no share for Macs in $page"
{
    samba_global
    section mac
    section mac | sed 's/^\[mac\]/[zero]/; s/\(zero_file_id =\) no/\1 yes/'
    section mac | sed 's/^\[mac\]/[default]/; /zero_file_id/d'
    section mac | sed "s/^\[mac\]/[above]/; s,^path = .*,path = ${mountpoint%/*},"
    section mac | sed 's/^\[mac\]/[stream]/; s/\(fruit:resource =\) file/\1 stream/'
} >"$tmp/smb.conf"

# ---- what the guests ask for (host_step) -------------------------------------
inodes() { # the guest printed them: those of the files that PATHS names, as the client has them
    sed -n 's|^inode \([0-9]*\) \./|\1 |p' "$guest_output" | sort -k 2 >"$tmp/inodes"
    join -1 2 -2 1 -o 1.1,0 "$tmp/inodes" <(grep . "$tmp/paths" | sort)
}

ids_of() { # SHARE PATHS OUT: what is wrong with them is not our affair
    /usr/bin/python3 "$guest_dir/samba-client.py" "$smb_port" ids "$@" >"$tmp/ids_of.log" 2>&1
}
lower_half() { # FILE
    local id
    while read -r id _; do echo "$((id & 0xffffffff))"; done <"$1"
}

step_first() {
    phase="at first"
    client mac mac+aapl "$export_dir" "${forked[@]}"
    client mac_zero zero+aapl mac "${forked[@]}"
    client mac_large stream+aapl "$export_dir" a/dir/file3
    (cd "$export_dir" && echo && find . -mindepth 1 ! -name lost+found ! -name '._*' \
        ! -name '*"*' -printf '%P\n') >"$tmp/paths"
    client ids mac+aapl "$tmp/paths" "$tmp/ids"
    client ids mac "$tmp/paths" "$tmp/ids.other"
    is "$(cat "$tmp/ids.other")" "$(cat "$tmp/ids")" "other clients see the same file ids"
    head -n 3 "$tmp/paths" >"$tmp/paths-default"
    ids_of default+aapl "$tmp/paths-default" "$tmp/ids.default"
    is "$(cut -d ' ' -f 1 "$tmp/ids.default" | sort | uniq -c | tr -s ' ')" " 3 0" \
        "without a line of fruit:zero_file_id it is told 0, too"
    sed -n '2,4p' "$tmp/paths" | sed "s,^,${mountpoint##*/}/," >"$tmp/paths-above"
    ids_of above "$tmp/paths-above" "$tmp/ids.above"
    is "$(lower_half "$tmp/ids.above")" "$(sed -n '2,4p' "$tmp/ids" | lower_half /dev/stdin)" \
        "a share above the mount has half of the inode number"
    check_fails "and something else in the other half" \
        cmp -s <(cut -d ' ' -f 1 "$tmp/ids.above") <(sed -n '2,4p' "$tmp/ids" | cut -d ' ' -f 1)
}

step_inodes() {
    is "$(inodes)" "$(grep " ." "$tmp/ids" | sort -k 2)" \
        "$phase: the file ids are the guest's inode numbers"
}

step_kill() {
    server_stop KILL
    server_start "$export_dir" "$store"
}

step_after() { # PHASE
    phase=${*//_/ }
    client ids mac+aapl "$tmp/paths" "$tmp/ids.now"
    is "$(wc -l <"$tmp/ids.now")" "$(wc -l <"$tmp/paths")" "$phase: every file answered"
    same_ids "$tmp/ids" "$tmp/ids.now" "$phase: every file id is what it was"
    client mac_kept mac+aapl "$export_dir" "${forked[@]}"
}

# ---- the guest ---------------------------------------------------------------
cat "$tmp/common" - >"$tmp/first" <<'GUEST'
smbd_start
host_step first
(cd $r$MOUNTPOINT && find . -exec stat -c 'inode %i %n' {} +)
host_step inodes
server_killed
smbd_stop
GUEST

cat "$tmp/common" - >"$tmp/second" <<'GUEST'
smbd_start
host_step after the_guest_has_restarted
(cd $r$MOUNTPOINT && find . -exec stat -c 'inode %i %n' {} +)
host_step inodes
smbd_stop
GUEST

server_start "$export_dir" "$store" || bail_out "the server does not start: $(tail "$qidmapd_log")"
guest_net="hostfwd=tcp:127.0.0.1:$smb_port-:445"
guest=("OPTIONS=$mount_options" "MOUNTPOINT=$mountpoint" "+$tmp/smb.conf" "+$tmp/smbpasswd")
for life in first second; do
    guest_run "$tmp/$life" "${guest[@]}" "DECOYS=$([ $life = first ] || echo 3)"
    is "$?" 0 "$life guest: the script ended well"
done
server_stop TERM
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(tail -n 60 "$tmp"/guest.*/output)"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
