#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: Samba in the guest, set up as qidmap-samba(7) says, shares an export of several
# filesystems, clones among them: each file has an SMB file id of its own, which it keeps when
# qidmapd is killed, when the guest restarts, and when the host mounts its filesystems in another
# order with other device numbers. A client that holds files open and writes to them all the time
# never changes another file. Locks, NT ACLs, DOS attributes, streams and free space work.
#
# The same share through QEMU's own server with multidevs=remap is there for contrast: its file ids
# must change, or this test would show nothing. QIDMAP_SAMBA_STORE=memory: and
# QIDMAP_SAMBA_MULTIDEVS=warn let qidmapd break the promise, to see the test fail.
# QIDMAP_GUEST_LONG=1 lists larger directories and kills qidmapd more than once.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_types ext4 btrfs xfs
. "$(dirname "$0")/samba.sh"

multidevs=${QIDMAP_SAMBA_MULTIDEVS:-remap}
files=40 rounds=1
[ -z "${QIDMAP_GUEST_LONG:-}" ] || files=2000 rounds=4
store=${QIDMAP_SAMBA_STORE:-lmdb:$tmp/store}

# ---- the export --------------------------------------------------------------
mkdir "$export_dir"/{a,b,btrfs,xfs,tmpfs,plain}
make_clones a b
make_btrfs btrfs
make_xfs xfs
mkdir "$export_dir/xfs/many"
for ((i = 0; i < files; i++)); do : >"$export_dir/xfs/many/entry $i"; done
mount -t tmpfs tmpfs "$export_dir/tmpfs" && mounted+=("$export_dir/tmpfs")
fill "$export_dir/tmpfs"
fill "$export_dir/plain"
held=(a/dir/held b/dir/held btrfs/one/dir/held btrfs/two/dir/held xfs/dir/held tmpfs/dir/held)
is "$(stat -c %i "$export_dir/a/dir/held")" "$(stat -c %i "$export_dir/b/dir/held")" \
    "two clones: one inode number for two files on the host"

{
    samba_global
    section data
    section durable
    section data | sed "s,^\[data\],[remap],; s,$mountpoint,/srv/remap,"
} >"$tmp/smb.conf"
# ---- the client --------------------------------------------------------------
state_is() { # WORD: the last thing that the writer said
    [ "$(tail -n 1 "$tmp/state" 2>/dev/null | cut -d ' ' -f 1)" = "$1" ]
}

no_writes() { state_is refused || state_is lost; } # a slow machine loses the connection first

acknowledged() { wc -l <"$tmp/journal"; }

wrote_since() { [ "$(acknowledged)" -gt $(($1 + 2 * ${#held[@]})) ]; }

writer_pid=
writer_end() {
    [ -z "$writer_pid" ] || { kill -TERM "$writer_pid"; wait "$writer_pid"; }
    writer_pid=
}
on_exit writer_end

after() { # PHASE: the writer goes on, all ids are the same, and all files are what they must be
    local start
    phase=$1
    start=$(acknowledged)
    check "$phase: the writer has its files open again and writes to them" \
        wait_until 600 wrote_since "$start"
    client ids data "$tmp/paths-back" "$tmp/ids.now"
    is "$(wc -l <"$tmp/ids.now")" "$(wc -l <"$tmp/paths")" "$phase: every file answered"
    same_ids "$tmp/ids" "$tmp/ids.now" \
        "$phase: every one of $(wc -l <"$tmp/ids") file ids is what it was"
    is "$(grep renumbered "$tmp/state")" "" "$phase: the held files have their ids"
    client verify "$export_dir" "$tmp/snapshot" "$tmp/journal"
}

# ---- what the guests ask for (host_step) -------------------------------------
step_first() {
    phase="at first"
    client features data "$export_dir"
    client durable durable plain/dir/file2 "$export_dir"
    # After the renames: all names. Later they are asked for the other way round.
    (cd "$export_dir" && echo && find . -mindepth 1 ! -name lost+found -printf '%P\n') >"$tmp/paths"
    tac "$tmp/paths" >"$tmp/paths-back"
    client ids data "$tmp/paths" "$tmp/ids"
    client snapshot "$export_dir" "$tmp/snapshot" "${held[@]}"
    : >"$tmp/journal"
    /usr/bin/python3 "$guest_dir/samba-client.py" "$smb_port" writer data "$tmp/ids" \
        "$tmp/journal" "$tmp/state" "${held[@]}" >"$tmp/writer.log" 2>&1 &
    writer_pid=$!
    check "$phase: the writer writes" wait_until 600 wrote_since 0
}

step_remap() { # first|again: one file of each filesystem, the second time the last one first
    local changed order=cat all
    [ "$1" = first ] || order=tac
    grep '/dir/file3$' "$tmp/paths" | sort | $order >"$tmp/paths-remap"
    /usr/bin/python3 "$guest_dir/samba-client.py" "$smb_port" ids remap "$tmp/paths-remap" \
        "$tmp/ids-remap.$1" >"$tmp/remap.log" 2>&1
    [ "$1" = again ] || return 0
    changed=$(join -j 2 <(sort -k 2 "$tmp/ids-remap.first") <(sort -k 2 "$tmp/ids-remap.again") |
        awk '$2 != $3 { print $1 ": " $2 " -> " $3 }')
    if [ -n "$changed" ]; then
        all=$(wc -l <"$tmp/paths-remap")
        ok "QEMU's remap for contrast: $(wc -l <<<"$changed") of $all file ids changed"
        tap_diag "$changed"
    else
        not_ok "QEMU's remap for contrast: file ids change" \
            "$(cat "$tmp/remap.log" "$tmp"/ids-remap.*)"
    fi
}

step_kill() { # the guest still has its mount, and the writer its files
    server_stop KILL
    check "qidmapd is killed: writes fail" wait_until 600 no_writes
    server_start "$export_dir" "$store" --multidevs "$multidevs"
}

step_after() {
    after "${*//_/ }"
}

step_devid() { # PHASE: what smbd's table of open files calls the mount, and what the guest does
    grep -o '"devid": *[0-9]*' "$guest_output" | tail -n 1 >"$tmp/devid.$1"
    tail -n 1 <(grep '^dev ' "$guest_output") >"$tmp/dev.$1"
}

step_remount() { # the guest has unmounted; other devices, other order
    local fs type
    declare -A old_dev
    for fs in a b btrfs btrfs/one xfs; do old_dev[$fs]=$(stat -c %d "$export_dir/$fs"); done
    server_stop KILL
    for fs in a b btrfs xfs; do
        unmount "$export_dir/$fs" || bail_out "$export_dir/$fs is busy"
    done
    mounted=("$export_dir/tmpfs")
    loops_release
    decoy_loop
    decoy_mount
    for fs in xfs btrfs b a; do
        case $fs in
        a | b) type=ext4 ;;
        *) type=$fs ;;
        esac
        below=()
        [ "$fs" != btrfs ] || below=(one "${old_dev[btrfs/one]}")
        mount_image "$fs" "$type" "$export_dir/$fs" "" "${old_dev[$fs]}" "${below[@]}" ||
            bail_out "cannot mount $fs again"
    done
    for fs in a b btrfs btrfs/one xfs; do
        if [ "$(stat -c %d "$export_dir/$fs")" != "${old_dev[$fs]}" ]; then
            ok "st_dev of $fs has changed (${old_dev[$fs]} -> $(stat -c %d "$export_dir/$fs"))"
        else
            not_ok "st_dev of $fs has changed" "still ${old_dev[$fs]}: this run proves nothing"
        fi
    done
    server_start "$export_dir" "$store" --multidevs "$multidevs"
}

step_last() {
    client kept data "$export_dir"
    writer_end
    check "the writer ended in order" state_is ended
    tap_diag "$(acknowledged) records written; the writer's life:" \
        "$(cut -d ' ' -f 1 "$tmp/state" | uniq | tr '\n' ' ')"
    client verify "$export_dir" "$tmp/snapshot" "$tmp/journal"
}

# ---- the guest ---------------------------------------------------------------
cat "$tmp/common" - >"$tmp/first" <<'GUEST'
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none remap $r/srv/remap || exit 1
smbd_start
host_step first
host_step remap first
devid first
i=0
while [ $i -lt $ROUNDS ]; do
    server_killed
    i=$((i + 1))
done
devid killed
GUEST

cat "$tmp/common" - >"$tmp/second" <<'GUEST'
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none remap $r/srv/remap || exit 1
smbd_start
host_step after the_guest_has_restarted
host_step remap again
smbd_stop
umount $r/srv/remap
umount $r$MOUNTPOINT || exit 1
host_step remount
mount -t tmpfs decoy /tmp/decoy
mount_data || exit 1
smbd_start
host_step after all_is_mounted_in_another_order
host_step last
smbd_stop
GUEST

server_start "$export_dir" "$store" --multidevs "$multidevs" ||
    bail_out "the server does not start: $(tail "$qidmapd_log")"
guest_net="hostfwd=tcp:127.0.0.1:$smb_port-:445"
guest_qemu+=(-virtfs "local,path=$export_dir,mount_tag=remap,security_model=none,multidevs=remap")
guest=("OPTIONS=$mount_options" "MOUNTPOINT=$mountpoint" "ROUNDS=$rounds"
    "+$tmp/smb.conf" "+$tmp/smbpasswd")
for life in first second; do
    guest_run "$tmp/$life" "${guest[@]}" "DECOYS=$([ $life = first ] || echo 3)"
    is "$?" 0 "$life guest: the script ended well"
done
check "the guest's device number changed" \
    sh -c "! cmp -s '$tmp/dev.first' '$tmp/dev.killed'"
check "smbd's table of open files names a device" grep -q devid "$tmp/devid.first"
check "it is the same one again" cmp "$tmp/devid.first" "$tmp/devid.killed"
server_stop TERM
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(tail -n 60 "$tmp"/guest.*/output)"
    tap_diag "writer: $(cat "$tmp/writer.log" "$tmp/state")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
