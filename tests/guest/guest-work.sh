#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: programs work on a 9P mount as they are: git (commits, clone, gc, fsck), tar (hard links,
# symbolic links, xattrs, owners, sparse files), sqlite (two processes and their locks, WAL's shared
# memory left out), fio with verification, stress-ng's file stressors with verification. The guest has
# Debian's own packages on a disk (make-rootfs).
#
# QIDMAP_GUEST_LONG=1: more of each, with cache=mmap, loose and fscache, too, and stress-ng.
# QIDMAP_WORK=LIST: some of git tar sqlite fio stress.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need
guest_packages attr fio git sqlite3 stress-ng

root_note=1
have_root || root_note=
files=20 rows=10 seconds=4 size=512K modes=none work="git tar sqlite fio"
if [ -n "${QIDMAP_GUEST_LONG:-}" ]; then
    files=500 rows=200 seconds=20 size=16M modes="none mmap loose fscache"
    work="$work stress"
fi
mkdir -m 755 "$tmp/export"
chmod 755 "$tmp"
: >"$tmp/export/.xattr"
xattrs=1
setfattr -n user.try -v 1 "$tmp/export/.xattr" 2>/dev/null || xattrs=
rm "$tmp/export/.xattr"

cat >"$tmp/script" <<'GUEST'
enter_disk /root || exit 1
mkdir -p /root/mnt
in_root() { chroot /root /usr/bin/env HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
sh_root() { in_root /bin/bash -ec "$1"; }
started=$(cut -d. -f1 /proc/uptime)
took() { echo "$mode $1: $(($(cut -d. -f1 /proc/uptime) - started)) s"; started=$(cut -d. -f1 /proc/uptime); }
wants() { case " $WORK " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

work_git() {
    sh_root 'git config --global user.name T; git config --global user.email t@example.org
        git config --global --add safe.directory "*"; git config --global init.defaultBranch main'
    check "$mode: git init, add, commit" sh_root "cd /mnt/$mode && git init -q one && cd one
        for i in \$(seq $FILES); do mkdir -p d\$((i % 7)); echo line \$i >d\$((i % 7))/f\$i; done
        ln -s d2/f2 link; echo '#!/bin/sh' >run; chmod 755 run
        git add . && git commit -q -m first && test -z \"\$(git status --porcelain)\""
    check "$mode: git rename, branch, merge" sh_root "cd /mnt/$mode/one
        git checkout -q -b side && git mv d1 e1 && echo more >>d2/f2 && git commit -q -a -m side
        git checkout -q main && echo other >>d3/f3 && git commit -q -a -m other
        git merge -q -m both side && test -f e1/f1 && test ! -e d1 && grep -q more d2/f2"
    check "$mode: git clone" sh_root "cd /mnt/$mode && git clone -q --no-hardlinks one two &&
        diff -r --exclude=.git one two"
    check "$mode: git clone with hard links" sh_root "cd /mnt/$mode && git clone -q -l one three &&
        test \$(find three/.git/objects -type f -links +1 | wc -l) -gt 3"
    check "$mode: git gc" sh_root "cd /mnt/$mode/one && git gc -q --prune=now && ls .git/objects/pack/*.pack"
    check "$mode: git fsck" sh_root "cd /mnt/$mode/one && git fsck --full --strict"
    check "$mode: git fsck of the clones" sh_root "cd /mnt/$mode && git -C two fsck --full && git -C three fsck --full"
    check "$mode: nothing has changed for git" sh_root "cd /mnt/$mode/one && test -z \"\$(git status --porcelain)\""
}

work_tar() {
    # a tree of everything, made on the guest's own disk: what went over 9P is compared with that
    sh_root "rm -rf /var/tmp/tree && mkdir -p /var/tmp/tree/sub/deeper && cd /var/tmp/tree
        head -c 300000 /dev/urandom >random; ln random hard; ln -s sub/x soft; : >empty
        echo x >sub/x; chmod 4751 sub/x; mkfifo pipe; truncate -s 5M sparse; echo end >>sparse
        chmod 1777 sub/deeper
        name=\$(printf 'x%.0s' \$(seq 200)); echo long >\$name
        ${ROOT:+chown 123:456 random; chown -h 12:34 soft; mknod null c 1 3;}
        ${XATTRS:+setfattr -n user.color -v green random; setfattr -n user.color -v blue sub;}
        # whole seconds: this client sets no others
        find . -depth -exec touch -h -d 2001-02-03T04:05:06 {} +"
    check "$mode: tar extracts on 9P" sh_root \
        "cd /mnt/$mode && tar -C /var/tmp --xattrs -cf - tree | tar --xattrs --same-owner -xpf -"
    check "$mode: tar compares" sh_root "cd /mnt/$mode && tar -C /var/tmp --xattrs -cf - tree | tar --xattrs -df -"
    is "$(sh_root "stat -c %h /mnt/$mode/tree/hard")" 2 "$mode: hard links came through"
    is "$(sh_root "stat -c %a:%Y /mnt/$mode/tree/sub/x")" "$(sh_root "stat -c %a:%Y /var/tmp/tree/sub/x")" \
        "$mode: modes and times came through"
    [ -z "$XATTRS" ] || is "$(sh_root "getfattr --only-values -n user.color /mnt/$mode/tree/random")" green \
        "$mode: xattrs came through"
    check "$mode: tar creates from 9P, sparse, and compares with the first tree" sh_root \
        "cd /mnt/$mode && tar -S --xattrs -cf back.tar tree && tar -C /var/tmp --xattrs -df back.tar"
    check "$mode: rm -r" sh_root "rm -r /mnt/$mode/tree /mnt/$mode/back.tar && test ! -e /mnt/$mode/tree"
}

work_sqlite() {
    check "$mode: sqlite makes tables" sh_root "cd /mnt/$mode && sqlite3 db 'create table t(who, n integer, pad);
        create index i on t(who, n); create table c(n integer); insert into c values (0);'"
    check "$mode: two processes insert $ROWS transactions each" sh_root "cd /mnt/$mode
        work() { for i in \$(seq $ROWS); do echo \"begin immediate; insert into t values ('\$1', \$i, hex(randomblob(500)));
            update c set n = n + 1; commit;\"; done | sqlite3 -cmd '.timeout 60000' -bail db; }
        work a & first=\$!; work b & second=\$!; wait \$first; wait \$second"
    is "$(sh_root "cd /mnt/$mode && sqlite3 db 'pragma integrity_check; select n from c; select count(*) from t;'" |
        tr '\n' ' ')" "ok $((2 * ROWS)) $((2 * ROWS)) " "$mode: nothing is lost, the database is whole"
    check "$mode: rollback of one that is killed" sh_root "cd /mnt/$mode
        mkfifo /tmp/words; sqlite3 db </tmp/words >/tmp/told & exec 9>/tmp/words; rm /tmp/words
        echo \"pragma cache_size=2; begin; update t set pad = 'wrong'; delete from c; select 'there';\" >&9
        for i in \$(seq 500); do grep -q there /tmp/told && break; sleep 0.1; done; grep -q there /tmp/told
        kill -9 \$!; wait \$! || true; exec 9>&-
        test \"\$(sqlite3 -cmd '.timeout 20000' db 'pragma integrity_check; select n from c;' | tr '\n' ' ')\" = 'ok $((2 * ROWS)) '"
}

work_fio() {
    local engine
    for engine in psync ${LONG:+libaio}; do
        check "$mode: fio verifies random writes, $engine" in_root fio --name=v --directory=/mnt/$mode \
            --size="$SIZE" --bsrange=512-64k --bs_unaligned=1 --rw=randrw --norandommap=0 --ioengine=$engine \
            --iodepth=8 --numjobs=2 --thread --verify=crc32c --do_verify=1 --verify_fatal=1 --fallocate=none \
            --randrepeat=1 --overwrite=1 --verify_backlog=64 --output=/tmp/fio
    done
    case $mode in
    none) ;;
    *) check "$mode: fio verifies random writes, mmap" in_root fio --name=m --directory=/mnt/$mode \
        --size="$SIZE" --bs=4k --rw=randrw --ioengine=mmap --verify=crc32c --verify_fatal=1 --thread \
        --fallocate=none --output=/tmp/fio ;;
    esac
    rm -f /root/mnt/$mode/v.* /root/mnt/$mode/m.*
}

work_stress() {
    local stressor
    # not file-ioctl: it wants to know how much is allocated, which the client does not ask for
    stressors="access chdir chmod chown dentry dir dirdeep dirmany fcntl filename flock fstat getdent
        hdd io link lockf lockofd metamix open rename symlink sync-file touch unlink utime xattr"
    mkdir -p /root/mnt/$mode/stress
    available=$(in_root stress-ng --help 2>&1)
    set --
    for stressor in $stressors; do
        case $available in
        *"--$stressor N"*) set -- "$@" --$stressor 1 ;;
        esac
    done
    echo "$mode stress-ng runs$(echo " $*" | sed 's/ 1//g')"
    check "$mode: stress-ng's file stressors find no fault" in_root sh -c "stress-ng --temp-path /mnt/$mode/stress \
        --timeout $SECONDS_ --verify --hdd-bytes 1M --dentries 64 --dirdeep-inodes 200 --oomable --no-rand-seed \
        $* >/tmp/stress.out 2>&1; status=\$?; grep -i ' fail' /tmp/stress.out | head -n 20;
        test \$status = 0 -o \$status = 4 && ! grep -q 'fail:' /tmp/stress.out"
    rm -rf /root/mnt/$mode/stress
}

for mode in $MODES; do
    mount9p /root/mnt "$ACCESS,cache=$mode" || { fail "mounts with cache=$mode"; continue; }
    mkdir /root/mnt/$mode
    for work in git tar sqlite fio stress; do
        wants $work || continue
        work_$work
        took $work
    done
    check "$mode: unmounts" umount /root/mnt
done
GUEST

server_start "$tmp/export" "lmdb:$tmp/store" ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
[ -z "${QIDMAP_GUEST_LONG:-}" ] || QIDMAP_GUEST_TIMEOUT=3000
QIDMAP_GUEST_MEMORY=${QIDMAP_GUEST_MEMORY:-768}
guest_run "$tmp/script" "${guest_server[@]}" "ROOT=$root_note" "XATTRS=$xattrs" "ACCESS=access=client" \
    "FILES=$files" "ROWS=$rows" "SECONDS_=$seconds" "SIZE=$size" "MODES=$modes" \
    "WORK=${QIDMAP_WORK:-$work}" "LONG=${QIDMAP_GUEST_LONG:-}"
is "$?" 0 "the script ended well"
tap_diag "$(grep ' s$\|stress-ng runs' "$guest_output")"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(tail -n 150 "$guest_output")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
if [ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ]; then
    # What git and sqlite left is looked at by the host's own eyes.
    if command -v git >/dev/null && [ -d "$tmp/export/none/one" ]; then
        check "the host's git finds the repository whole" \
            git -c safe.directory='*' -C "$tmp/export/none/one" fsck --full --strict
    fi
    server_stop TERM
    is "$qidmapd_status" 0 "SIGTERM ends the server in order"
fi
tap_done
