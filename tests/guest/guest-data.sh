#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a guest reads what it wrote, whatever it does and however it caches: random reads, writes,
# mappings, holes and cuts agree with a shadow copy (fsx.c) with cache=none, mmap, loose and fscache,
# and the host then sees the same bytes. Files live on after unlink and under rename, directories of
# 50,000 entries can be read while they shrink, trees may be deep and names long and no UTF-8.
# access=user, any and client let in whom they should, and what is exported read-only stays.
#
# QIDMAP_GUEST_LONG=1: longer runs. QIDMAP_FSX_SEED=N: other random operations (the seed is printed).

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need

root_note=1
have_root || root_note=
seed=${QIDMAP_FSX_SEED:-${QIDMAP_GUEST_SEED:-1}}
operations=500 entries=50000 step=50 deep=60
if [ -n "${QIDMAP_GUEST_LONG:-}" ]; then
    operations=10000
    step=2
    deep=300
fi
mkdir "$tmp/export"
chmod 755 "$tmp" "$tmp/export"
# The guest would need long for this: the host makes it, the guest reads and removes.
mkdir "$tmp/export/many"
(cd "$tmp/export/many" && seq -f 'entry-%g' "$entries" | xargs touch)

cat >"$tmp/script" <<'GUEST'
check "mounts" mount9p /mnt "$ACCESS,cache=none" || exit 1
cd /mnt

took() { echo "$1: $(($(cut -d. -f1 /proc/uptime) - started)) s"; started=$(cut -d. -f1 /proc/uptime); }
started=$(cut -d. -f1 /proc/uptime)

# ---- random operations
for mode in none mmap loose fscache; do
    if ! mount9p /mnt2 "$ACCESS,cache=$mode"; then
        fail "mounts with cache=$mode"
        continue
    fi
    # Without a cache the client has no shared mappings to write through, and private ones are not
    # kept up to date with later writes. No mount of this client punches holes.
    case $mode in
    none) without=mapwrite,mapread,punch,zero ;;
    *) without=punch,zero ;;
    esac
    check "cache=$mode: $OPERATIONS random operations, seed $SEED" \
        fsx -s "$SEED" -n "$OPERATIONS" -o $without /mnt2/fsx-$mode
    umount /mnt2
    # another client, without a cache, must see the same; the host looks as well
    echo "sum $mode $(sha256sum <fsx-$mode | cut -d' ' -f1)"
    took "fsx $mode"
done

# ---- what is open, and what is named
check "use after unlink" probe unlinked gone
check "use after unlink, to the end" probe orphan orphan
check "rename over open files" probe replaced one two
check "a directory that is removed while it is open" probe lost-directory lost
took orphans
check "every one of $ENTRIES entries, each once" probe count many "$ENTRIES"
took "count"
check "some removed while reading: every other one is seen once" \
    probe shrink many "$ENTRIES" "$STEP"
took "directory of $ENTRIES"
check "a tree of $DEEP levels" probe deep "$DEEP" deep
took "deep tree"
check "every byte in names" probe names names
took names

# ---- a mapping that is written, through several openings
for mode in mmap loose fscache; do
    mount9p /mnt2 "$ACCESS,cache=$mode" || { fail "mounts with cache=$mode"; continue; }
    check "cache=$mode: two processes share a mapping" probe shared-map /mnt2/map-$mode
    umount /mnt2
    is "$(head -c 6 map-$mode)" "parent" "cache=$mode: what the first one wrote is in the file"
    is "$(tail -c +8193 map-$mode | head -c 5)" "child" "cache=$mode: and what the second one wrote"
done
took mappings

# ---- who may
if [ -n "$ROOT" ]; then
    mkdir -m 1777 who
    for access in user client; do
        mount9p /mnt2 "cache=none,access=$access" || { fail "access=$access mounts"; continue; }
        for uid in 65534 65533 1000; do
            check "access=$access: uid $uid makes a file" \
                probe as $uid $uid sh -c "umask 077; echo mine >/mnt2/who/$access-$uid"
            is "$(stat -c %u:%g:%a who/$access-$uid)" $uid:$uid:600 "access=$access: it is $uid's"
            check "access=$access: and nobody else's" \
                probe as 1001 1001 probe denied /mnt2/who/$access-$uid
            check "access=$access: but root may read it" cat /mnt2/who/$access-$uid
        done
        umount /mnt2
    done
    # One user for all, by his name: the client hands over no number then.
    for name in nobody root; do
        mount9p /mnt2 "cache=none,access=any,uname=$name" || { fail "access=any mounts"; continue; }
        check "access=any: uid 1001 makes a file" probe as 1001 1001 touch /mnt2/who/any-$name
        [ $name = root ] && uid=0 || uid=$NOBODY
        is "$(stat -c %u who/any-$name)" "$uid" "access=any, uname=$name: it is $name's"
        umount /mnt2
    done
    if mount9p /mnt2 "cache=none,access=1000"; then
        check "access=1000: that user makes a file" probe as 1000 1000 touch /mnt2/who/only
        check_fails "access=1000: another one does not" probe as 1001 1001 touch /mnt2/who/only2
        check_fails "access=1000: nor root" touch /mnt2/who/only3
        umount /mnt2
    else
        fail "access=1000 mounts"
    fi
    took users
else
    skip "several users" "no root"
fi

# ---- read-only, whatever the guest thinks
if [ -n "$READONLY" ]; then
    mount9p /mnt2 "$ACCESS,cache=none" readonly || fail "the read-only export mounts"
    check "reads from the read-only export" grep -q mine /mnt2/kept
    for command in 'echo x >/mnt2/kept' 'echo x >/mnt2/new' 'mkdir /mnt2/new' 'rm /mnt2/kept' \
        'chmod 600 /mnt2/kept' 'ln -s a /mnt2/new' 'mv /mnt2/kept /mnt2/new' 'truncate -s 1 /mnt2/kept' \
        'touch /mnt2/kept' 'ln /mnt2/kept /mnt2/new' 'mkfifo /mnt2/new' \
        'setfattr -n user.a -v 1 /mnt2/kept'; do
        message=$(sh -c "$command" 2>&1)
        case $message in
        *'Read-only file system'*) pass "read-only export: $command" ;;
        *) fail "read-only export: $command"; echo "said: $message" ;;
        esac
    done
    umount /mnt2
fi
cd /
umount /mnt
GUEST

options=()
readonly_export=
if [ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ]; then
    mkdir -m 777 "$tmp/readonly"
    echo mine >"$tmp/readonly/kept"
    printf '[export readonly]\ndir = %s\nreadonly = true\n' "$tmp/readonly" >"$tmp/conf"
    options=(--config "$tmp/conf")
    readonly_export=1
fi
server_start "$tmp/export" "lmdb:$tmp/store" "${options[@]}" ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
guest_run "$tmp/script" "${guest_server[@]}" "ROOT=$root_note" "ACCESS=access=client" "NOBODY=$(id -u nobody)" "SEED=$seed" \
    "OPERATIONS=$operations" "ENTRIES=$entries" "DEEP=$deep" "STEP=$step" "READONLY=$readonly_export"
is "$?" 0 "the script ended well"
tap_diag "$(grep ' s$\|^access' "$guest_output")"
for mode in none mmap loose fscache; do
    is "$(sed -n "s/^sum $mode //p" "$guest_output")" \
        "$(sha256sum <"$tmp/export/fsx-$mode" | cut -d' ' -f1)" "cache=$mode: the host sees the same bytes"
done
[ -z "$readonly_export" ] ||
    is "$(ls "$tmp/readonly"):$(cat "$tmp/readonly/kept")" kept:mine "what was exported read-only is as it was"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
if [ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ]; then
    server_stop TERM
    is "$qidmapd_status" 0 "SIGTERM ends the server in order"
fi
tap_done
