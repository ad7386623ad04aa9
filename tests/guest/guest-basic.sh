#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: a Linux guest that mounts an export over TCP can use it as a
# filesystem: files, directories, links, attributes, locks, files without a
# name, several users. What the guest did is then looked at on the host.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need

root_note=1
have_root || root_note=
mkdir "$tmp/export"
chmod 755 "$tmp" "$tmp/export"
: >"$tmp/export/.xattr"
xattrs=1
setfattr -n user.try -v 1 "$tmp/export/.xattr" 2>/dev/null || xattrs=
rm "$tmp/export/.xattr"

touch -d @1234567890.123456789 "$tmp/export/stamped"

cat >"$tmp/script" <<'GUEST'
check "mounts over TCP" mount9p /mnt "$ACCESS" || exit 1
mkdir /mnt/d && cd /mnt/d || { fail "makes a directory"; exit 1; }

# files
echo hello >file
is "$(cat file)" hello "creates, writes and reads a file"
is "$(stat -c %s file)" 6 "shows its size"
dd if=/dev/urandom of=/tmp/big bs=100003 count=21 2>/dev/null
check "writes 2 MiB, more than one message" cp /tmp/big big
is "$(sha256sum <big)" "$(sha256sum </tmp/big)" "reads the same bytes back"
is "$(dd if=big bs=1000 skip=777 count=3 2>/dev/null | sha256sum)" \
    "$(dd if=/tmp/big bs=1000 skip=777 count=3 2>/dev/null | sha256sum)" "reads at an odd place"
probe append file world && probe append file '!'
is "$(cat file | tr -d '\n')" 'helloworld!' "appends"
check "cuts a file short" truncate -s 5 file
is "$(cat file)" hello "keeps what stands before the cut"
check "makes a file longer" truncate -s 70000 file
is "$(tail -c +6 file | tr -d '\000' | wc -c)" 0 "fills with zeros"
is "$(stat -c %s file)" 70000 "shows the new size"
: >file
is "$(stat -c %s file)" 0 "empties a file on open"
check "fsync and fdatasync" probe fsync big
check "uses a file after its name is gone" probe unlinked gone
check "reads through a private mapping" sh -c 'echo mapped >m; probe mmap-read m mapped'

# names
echo one >a
check "renames" mv a b
is "$(cat b; ls a 2>/dev/null)" one "the old name is gone, the new one shows the file"
echo two >c
check "renames over a file" mv b c
is "$(cat c)" one "the new file has replaced the old one"
mkdir sub
check "renames into another directory" mv c sub/c
check "hard link" ln sub/c c2
is "$(stat -c '%h %i' sub/c)" "2 $(stat -c %i c2)" "both names are one file"
check "symbolic link" ln -s sub/c link
is "$(readlink link)" sub/c "reads a symbolic link"
is "$(cat link)" one "follows it"
check "a dangling link, long" ln -s "/nowhere/$(printf '%0900d' 7)" dangling
is "$(readlink dangling | wc -c)" 910 "reads it back whole"
check "unlink" rm c2
is "$(stat -c %h sub/c)" 1 "the link count goes down"
check_fails "removing a full directory fails" rmdir sub
check "mkdir" mkdir sub/deep
check "rmdir" rmdir sub/deep
check_fails "a removed directory is gone" ls sub/deep
check_fails "mkdir where there is something fails" mkdir sub
name=$(printf '%0255d' 1)
check "a name of 255 bytes" sh -c "echo x >$name && test -s $name && rm $name"
check "a name that is not UTF-8" sh -c 'n=$(printf "a\377b c"); echo x >"$n" && test -s "$n" && rm "$n"'

# directories
mkdir many
i=0
while [ $i -lt 1000 ]; do : >many/entry-$i; i=$((i + 1)); done
check "a directory of 1,000 entries, twice and from the middle" probe readdir many 1000
is "$(ls many | sort -u | wc -l)" 1000 "each entry once"
check "removes them all" rm -r many
check_fails "they are gone" ls many

# attributes
check "chmod" chmod 640 file
is "$(stat -c %a file)" 640 "shows the mode"
# This client cuts the times that it sets to seconds, but shows those it gets in full.
check "sets times" probe utimens file
check "shows times to the nanosecond" probe mtime /mnt/stamped 1234567890 123456789
if [ -n "$ROOT" ]; then
    check "times of a symbolic link" probe utimens link
    check "chown" chown 1234:5678 file
    is "$(stat -c %u:%g file)" 1234:5678 "shows the owner"
    check "chown of a symbolic link" chown -h 11:12 link
    is "$(stat -c %u:%g link)" 11:12 "shows its owner"
    check "device node" mknod device c 1 7
    is "$(stat -c '%F %t %T' device)" "character special file 1 7" "shows its numbers"
else
    skip "chown" "no root"
    skip "device node" "no root"
fi
check "fifo" mkfifo fifo
is "$(stat -c %F fifo)" fifo "shows a fifo"
check "the fifo passes bytes" sh -c 'echo through >fifo & test "$(cat fifo)" = through'
is "$(stat -f -c %t /mnt)" 1021997 "statfs"
check "statfs has free blocks" test "$(stat -f -c %a /mnt)" -gt 0
check "statfs has long names" test "$(stat -f -c %l /mnt)" -ge 255

# extended attributes
if [ -n "$XATTRS" ]; then
    echo x >xattr
    check "setxattr" setfattr -n user.color -v green xattr
    is "$(getfattr --only-values -n user.color xattr)" green "getxattr"
    check "a second one" setfattr -n user.size -v 7 xattr
    is "$(getfattr xattr 2>/dev/null | grep -c '^user\.')" 2 "listxattr"
    check "a value of 2,000 bytes" setfattr -n user.long -v "$(printf '%02000d' 1)" xattr
    is "$(getfattr --only-values -n user.long xattr | wc -c)" 2000 "reads it whole"
    check "removexattr" setfattr -x user.color xattr
    check_fails "it is gone" getfattr -n user.color xattr
    rm xattr
else
    skip "extended attributes" "no user xattrs on the test's filesystem"
fi

# locks, seen through a second mount: another client of the same server
check "mounts a second time" mount9p /mnt2 "$ACCESS"
echo locked >lock
check "record locks keep another client out" probe lock /mnt/d/lock /mnt2/d/lock
check "flock keeps another client out" probe flock /mnt/d/lock /mnt2/d/lock
echo changed >file
is "$(cat /mnt2/d/file)" changed "one client sees what another one wrote"
umount /mnt2

# caches of the client
for mode in none loose fscache mmap; do
    if ! mount9p /mnt3 "cache=$mode,$ACCESS"; then
        fail "mounts with cache=$mode"
        continue
    fi
    check "cache=$mode: writes 2 MiB" cp /tmp/big /mnt3/d/cached
    is "$(sha256sum </mnt3/d/cached)" "$(sha256sum </tmp/big)" "cache=$mode: reads them back"
    case $mode in
    none) ;;
    *) check "cache=$mode: writes through a shared mapping" \
        probe mmap-write /mnt3/d/cached "by mapping: $mode" ;;
    esac
    check "cache=$mode: unmounts" umount /mnt3
    [ $mode = none ] ||
        is "$(head -c 11 /mnt/d/cached)" "by mapping:" "cache=$mode: the mapping reached the server"
done
rm cached

# users
if [ -n "$ROOT" ]; then
    mkdir -m 1777 users
    check "uid 1000 makes a file" probe as 1000 1000 sh -c 'umask 077; echo mine >users/of-1000'
    is "$(stat -c %u:%g:%a users/of-1000)" 1000:1000:600 "it belongs to uid 1000"
    check "uid 1000 reads it" probe as 1000 1000 cat users/of-1000
    check "uid 1001 may not" probe as 1001 1001 probe denied users/of-1000
    check_fails "uid 1001 may not remove it" probe as 1001 1001 rm -f users/of-1000
    check "uid 1001 makes its own" probe as 1001 1001 sh -c 'echo >users/of-1001'
    is "$(stat -c %u users/of-1001)" 1001 "it belongs to uid 1001"
    check_fails "uid 1000 may not chmod it" probe as 1000 1000 chmod 666 users/of-1001
    check "a setgid directory hands down its group" sh -c 'mkdir g && chgrp 777 g && chmod 2777 g'
    probe as 1000 1000 sh -c 'echo >g/f'
    is "$(stat -c %u:%g g/f)" 1000:777 "its group reaches the file"
else
    skip "several users" "no root"
fi

check "inode numbers of readdir and stat agree" probe tree /mnt
echo "from the guest" >last
cd /
check "unmounts" umount /mnt
GUEST

server_start "$tmp/export" "lmdb:$tmp/store" ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
guest_run "$tmp/script" "${guest_server[@]}" "ROOT=$root_note" \
    "XATTRS=$xattrs" "ACCESS=access=client"
is "$?" 0 "the script ended well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi

d=$tmp/export/d
is "$(cat "$d/last" 2>&1)" "from the guest" "the host sees the guest's last file"
is "$(cat "$d/file" 2>&1)" changed "and the last words of an older one"
is "$(readlink "$d/link")" sub/c "symbolic links are true links"
check "fifos are true fifos" test -p "$d/fifo"
if have_root; then
    is "$(stat -c '%u:%g' "$d/file")" 1234:5678 "owners are true owners"
    is "$(stat -c '%u:%a' "$d/users/of-1000")" 1000:600 "files belong to the user who made them"
fi
if [ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ]; then
    server_stop TERM
    is "$qidmapd_status" 0 "SIGTERM ends the server in order"
fi
tap_done
