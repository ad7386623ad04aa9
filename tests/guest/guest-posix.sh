#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: file calls in a guest behave as they do on the host. The cases of posix.c (2,200 checks of
# chmod, chown, link, mkdir, mkfifo, mknod, open, rename, rmdir, symlink, truncate, unlink, utimensat
# and more, with their errors, by root and by two users) run on the host's ext4, where all must
# pass, and in a guest on the same filesystem through qidmapd. Each difference must stand in
# expected-differences, with its reason. With QIDMAP_GUEST_LONG=1, QEMU's own server and diod serve the
# same filesystem to the same guest, for contrast; a table shows what passes on each.
#
# PJDFSTEST=DIR, the source tree of pjdfstest: it is built, and runs as well.
# QIDMAP_POSIX_ONLY=PREFIX leaves the cases that begin so.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_loop
need_fs ext4
guest_need
. "$(dirname "$0")/exports.sh"

only=${QIDMAP_POSIX_ONLY:-}
truncate -s 256M "$images/fs"
mkfs.ext4 -q -F -b 4096 -m 0 "$images/fs" || bail_out "mkfs.ext4 failed"
mount_image fs ext4 "$export_dir" || bail_out "cannot mount ext4"
mkdir "$export_dir"/{native,qidmapd,virtfs,diod}

# ---- on the host -------------------------------------------------------------------------------
mkdir "$tmp/readonly"
mount --bind "$export_dir/native" "$tmp/readonly" && mounted+=("$tmp/readonly") &&
    mount -o remount,bind,ro "$tmp/readonly" || bail_out "cannot mount read-only"
"$guest_image/posix" -t "$only" -r "$tmp/readonly" "$export_dir/native" >"$tmp/native" 2>&1
is "$(grep -v '^pass\|^total' "$tmp/native")" "" "every check passes on the host's ext4"
checks=$(grep -c '^pass' "$tmp/native")
[ "$checks" -gt 0 ] || bail_out "no check ran on the host: $(cat "$tmp/native")"

# ---- in the guest ------------------------------------------------------------------------------
cat >"$tmp/script" <<'GUEST'
umask 022
try() { # NAME DIRECTORY
    local started=$(cut -d. -f1 /proc/uptime)
    mkdir -p "/ro/$1"
    # qidmapd refuses by itself, the others have no such exports: there it is the guest who does.
    if [ "$1" = qidmapd ]; then
        mount9p "/ro/$1" "$ACCESS" readonly "$PORT" || return 1
    else
        mount -o bind "$2" "/ro/$1" && mount -o remount,bind,ro "/ro/$1" || return 1
    fi
    posix -t "$ONLY" -r "/ro/$1" "$2" >"/tmp/$1" 2>&1
    echo "exit status $?" >>"/tmp/$1"
    echo "$1 took $(($(cut -d. -f1 /proc/uptime) - started)) s"
    umount "/ro/$1"
}
mkdir -p /mnt/qidmapd /mnt/virtfs /mnt/diod
mount9p /mnt/qidmapd "$ACCESS" x "$PORT" || exit 1
try qidmapd /mnt/qidmapd || exit 1
[ -z "$CONTRAST" ] || { VIRTFS=1 mount9p /mnt/virtfs "$ACCESS" virtfs && try virtfs /mnt/virtfs; }
if [ -n "$DIOD" ]; then
    mount9p /mnt/diod "$ACCESS" "$DIOD_ANAME" "$DIOD" && try diod /mnt/diod
fi
# The first server brings the results of all to the host.
for name in qidmapd virtfs diod; do
    [ ! -e "/tmp/$name" ] || cp "/tmp/$name" "/mnt/qidmapd/results.$name"
done
# pjdfstest's own programs are on the disk.
if [ -n "$PJDFSTEST" ]; then
    enter_disk /root || exit 1
    for name in qidmapd virtfs diod; do
        mountpoint -q "/mnt/$name" || continue
        mkdir -p "/root/mnt/$name"
        mount -o bind "/mnt/$name" "/root/mnt/$name"
        mkdir -m 755 "/root/mnt/$name/pjd"
        chroot /root sh -c "cd /mnt/$name/pjd && prove -r --nocolor /pjdfstest/tests" >/tmp/pjd 2>&1
        cp /tmp/pjd "/mnt/qidmapd/pjdfstest.$name"
    done
fi
GUEST

printf '[export readonly]\ndir = %s\nreadonly = true\n' "$export_dir/qidmapd" >"$tmp/conf"
server_start "$export_dir/qidmapd" memory: --config "$tmp/conf" ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
guest_qemu+=(-virtfs "local,path=$export_dir/virtfs,mount_tag=virtfs,security_model=passthrough")
others="DIOD="
diod=$(PATH=$PATH:/usr/sbin command -v diod)
contrast=${QIDMAP_GUEST_LONG:-}
[ -z "${PJDFSTEST:-}" ] || contrast=1
if [ -n "$diod" ] && [ -n "$contrast" ]; then
    diod_port=$(free_port)
    "$diod" -f -n -c /dev/null -l "127.0.0.1:$diod_port" -e "$export_dir/diod" >"$tmp/diod.log" 2>&1 &
    diod_pid=$!
    on_exit 'kill -TERM "$diod_pid" 2>/dev/null; wait "$diod_pid"'
    wait_until 60 port_in_use "$diod_port" && others="DIOD=$diod_port"
fi
if [ -n "${PJDFSTEST:-}" ]; then
    cp -a "$PJDFSTEST" "$tmp/pjdfstest" &&
        (cd "$tmp/pjdfstest" && { [ -x configure ] || autoreconf -ifs; } && ./configure && make pjdfstest) \
            >"$tmp/pjd.log" 2>&1 || bail_out "pjdfstest does not build: $(tail "$tmp/pjd.log")"
    # perl for prove, openssl for the names that its scripts make; its own folder on a copy of the disk.
    image=$("$guest_dir/make-rootfs" perl openssl libacl1 2>"$tmp/rootfs.log") ||
        bail_out "no packages for the guest: $(cat "$tmp/rootfs.log")"
    cp --sparse=always "$image" "$tmp/disk" && mkdir "$tmp/disk.d" && mount -o loop "$tmp/disk" "$tmp/disk.d" &&
        cp -a "$tmp/pjdfstest" "$tmp/disk.d/pjdfstest"
    umount "$tmp/disk.d" || bail_out "cannot put pjdfstest on the guest's disk"
    guest_disk "$tmp/disk"
    QIDMAP_GUEST_TIMEOUT=${QIDMAP_GUEST_TIMEOUT:-3600}
    mkdir "$export_dir/native/pjd"
    (cd "$export_dir/native/pjd" && prove -r --nocolor "$tmp/pjdfstest/tests") >"$tmp/pjdfstest.native" 2>&1
fi
guest_run "$tmp/script" "${guest_server[@]}" "ACCESS=access=${QIDMAP_POSIX_ACCESS:-client}" "ONLY=$only" \
    "$others" "CONTRAST=$contrast" "DIOD_ANAME=$export_dir/diod" "PJDFSTEST=${PJDFSTEST:-}"
is "$?" 0 "the script ended well"
tap_diag "$(grep ' took ' "$guest_output")"

# ---- what is different -------------------------------------------------------------------------
# "# text" before some lines is their reason. NAME is that of the check; a * at its end stands for more.
expected() { # NAME: stands in the list
    local line
    while IFS= read -r line; do
        case $line in
        '' | '#'*) ;;
        *'*') case $1 in "${line%'*'}"*) return 0 ;; esac ;;
        *) [ "$1" != "$line" ] || return 0 ;;
        esac
    done <"$guest_dir/expected-differences"
    return 1
}

cp "$tmp/native" "$export_dir/qidmapd/results.native"
summary() { # SERVER
    local results=$export_dir/qidmapd/results.$1
    [ -s "$results" ] || return 1
    printf '%-8s %5d passed %4d failed\n' "$1" "$(grep -c '^pass ' "$results")" "$(grep -c '^fail ' "$results")"
}
for name in native qidmapd virtfs diod; do
    ! line=$(summary "$name") || tap_diag "$line"
done

results=$export_dir/qidmapd/results.qidmapd
[ -s "$results" ] || bail_out "no results from the guest: $(cat "$guest_output")"
is "$(grep -c '^pass \|^fail ' "$results")" "$checks" "as many checks ran in the guest as on the host"
is "$(grep '^exit status\|^posix:' "$results")" "exit status 0" "they came to their end"
surprises= known=0
while IFS= read -r line; do
    name=${line#fail }
    name=${name%: *}
    if expected "$name"; then
        known=$((known + 1))
    else
        surprises="$surprises${line#fail }"$'\n'
    fi
done < <(grep '^fail ' "$results")
tap_diag "differences that are known: $known"
is "$surprises" "" "no difference but those that expected-differences explains"
if [ -z "$only" ]; then # a line that nothing needs any more hides the next fault
    gone=
    while IFS= read -r line; do
        case $line in
        '' | '#'*) ;;
        *'*')
            grep '^fail ' "$results" | cut -c6- | grep -qF "${line%'*'}" || gone="$gone$line"$'\n'
            ;;
        *) grep '^fail ' "$results" | cut -c6- | grep -qF "$line: " || gone="$gone$line"$'\n' ;;
        esac
    done <"$guest_dir/expected-differences"
    [ -z "$gone" ] || tap_diag "expected-differences names what passes now: $gone"
fi

if [ -n "${PJDFSTEST:-}" ]; then
    tap_diag "pjdfstest:"
    for name in native qidmapd virtfs diod; do
        file=$export_dir/qidmapd/pjdfstest.$name
        [ "$name" != native ] || file=$tmp/pjdfstest.native
        [ ! -s "$file" ] || tap_diag "$name: $(grep '^Files=\|^Failed\|^All tests' "$file" | tr '\n' ' ')"
        grep -h 'Failed tests\?:' -B 1 "$file" 2>/dev/null | grep -v '^--' >"$tmp/pjd.$name"
    done
    differences=$(diff <(sed 's|.*/tests/||; s/ .*Wstat.*//' "$tmp/pjd.native") \
        <(sed 's|.*/tests/||; s/ .*Wstat.*//' "$tmp/pjd.qidmapd"))
    is "$(grep -c '^Files=' "$export_dir/qidmapd/pjdfstest.qidmapd")" 1 "pjdfstest came to its end"
    # Two assertions of utimensat/08, nanoseconds, fail in Linux 6.1 with any server.
    is "$(grep '^>.*\.t' <<<"$differences" | grep -v 'utimensat/08')" "" \
        "pjdfstest fails in no other file than on the host, but for utimensat/08"
fi
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(tail -n 60 "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
keep=${QIDMAP_POSIX_KEEP:-} # a folder for all results
[ -z "$keep" ] || cp "$export_dir"/qidmapd/{results,pjdfstest}.* "$keep" 2>/dev/null
tap_done
