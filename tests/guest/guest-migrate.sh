#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the commands of qidmap-migration(7), run as they stand there, let a guest see the inode numbers
# that it saw before: when the storage moves to another host; when the files are copied to other filesystems,
# by rsync (two filesystems into one) and by tar, with hard links, and after changes during the first
# copy; and after that was rolled back and done once more. The old filesystem, mounted again, is refused. A
# clone that is taken while a guest works gets numbers of its own, visibly, and both keep theirs; alone, with
# another store, it has the original's numbers where that is not on the host, and else none of them.
#
# The page marks its blocks of commands with "=for test NAME"; each is run here. QIDMAP_MIGRATE_WIRE=1
# looks at the ids over the wire in place of a guest, for a quick turn while the page is written.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
need_loop
[ "${QIDMAP_OWN_MOUNTS:-}" = 1 ] || skip_all "no mounts allowed"
need_fs ext4
need_fs xfs
command -v mkfs.xfs >/dev/null || skip_all "no mkfs.xfs"
command -v rsync >/dev/null || skip_all "no rsync"
[ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
[ -n "${QIDMAP_MIGRATE_WIRE:-}" ] || guest_need
. "$(dirname "$0")/exports.sh"

page=$top_srcdir/man/qidmap-migration.7.pod
ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
stat9p=$(find_program 9pstat) || bail_out "no 9pstat below $builddir: run make check first"

# ---- a host like that of the page ----------------------------------------------------------------
# Its folders are ours in this mount namespace; what would act on the whole machine is a function.

on_exit leave_host
leave_host() {
    cd /
    unmount_below /srv
}
enter_host() { # NAME: another machine, with a /var/lib/qidmap of its own
    mkdir -p "$tmp/$1"/{lib,root}
    umount /var/lib/qidmap 2>/dev/null
    mount --bind "$tmp/$1/lib" /var/lib/qidmap || bail_out "cannot bind a folder"
    if [ -f /etc/machine-id ]; then
        [ "$1" = old-host ] || umount /etc/machine-id
        printf '%s' "$1" | md5sum | cut -c1-32 >"$tmp/$1/machine-id"
        mount --bind "$tmp/$1/machine-id" /etc/machine-id || bail_out "cannot bind a file"
    fi
    cd "$tmp/$1/root" || exit 1
}
mkdir -p "$tmp/srv/data" "$tmp/srv/new" "$tmp/srv/clone" "$tmp/bin"
mount --bind "$tmp/srv" /srv && mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/qidmap ||
    bail_out "cannot mount"
ln -s "$ctl" "$tmp/bin/qidmapctl"
PATH=$tmp/bin:$PATH
server_port=$(free_port)
clone_export=()

systemctl() { # start|stop|restart qidmapd
    case $1 in
    restart) systemctl stop && systemctl start ;;
    stop) server_stop TERM ;;
    start)
        start_qidmapd --export data=/srv/data "${clone_export[@]}" --store lmdb:/var/lib/qidmap/data \
            --listen "tcp:127.0.0.1:$server_port" || return 1
        server_pid=$qidmapd_pid
        ;;
    esac
}
scp() { # FILE new-host:
    mkdir -p "$tmp/${2%:}/root" && cp "$1" "$tmp/${2%:}/root/"
}

declare -A device
attach() { # DISK: its image becomes /dev/vg0/DISK, by another loop device than before
    decoy_loop
    loop_attach "$images/$1"
    device[$1]=$loop_device
}
detach() { # DISK
    loop_detach "${device[$1]}"
}
make_disk() { # DISK SIZE TYPE
    truncate -s "$2" "$images/$1"
    "mkfs.$3" -q "$images/$1" >"$tmp/mkfs.log" 2>&1 || bail_out "mkfs.$3: $(cat "$tmp/mkfs.log")"
    attach "$1"
}

# ---- the commands of the page ----------------------------------------------------------------------

places() { # of stdin: disks of the page, which are loop devices here
    local disk expressions=()
    for disk in "${!device[@]}"; do
        expressions+=(-e "s,/dev/vg0/$disk\>,${device[$disk]},g")
    done
    sed "${expressions[@]}"
}
block() { # NAME
    awk -v name="$1" '$0 == "=for test " name { on = 1; next } on && /^[^ ]/ { exit }
        on && NF { sub(/^    /, ""); print }' "$page"
}
ran=()
page() { # NAME: its commands, one by one
    local line command='' count=0 status
    ran+=("$1")
    while IFS= read -r line <&7; do
        command=$command$line
        if [ "${command%\\}" != "$command" ]; then
            command=${command%\\}
            continue
        fi
        count=$((count + 1))
        printf '$ %s\n' "$command" >>"$tmp/page.log"
        eval "$(places <<<"$command")" >"$tmp/out" 2>"$tmp/err" 7<&- </dev/null
        status=$?
        cat "$tmp/out" "$tmp/err" >>"$tmp/page.log"
        is "$status" 0 "$1: $command"
        [ "$status" = 0 ] || tap_diag "$(head -n 20 "$tmp/out" "$tmp/err")"
        command=
    done 7< <(block "$1")
    [ "$count" -gt 0 ] || not_ok "$1: the page has such commands"
}
says() { # PATTERN DESCRIPTION: the last command
    if grep -qE -e "$1" "$tmp/out" "$tmp/err"; then ok "$2"; else not_ok "$2" "$(cat "$tmp/out" "$tmp/err")"; fi
}

# ---- what the guest sees of it ---------------------------------------------------------------------

cat >"$tmp/look" <<'GUEST'
look() { # EXPORT: number, type and name of every file
    mount9p /mnt "" "$1" || { fail "mounts $1"; return 1; }
    probe tree /mnt | awk '{ i = $1; t = $3; sub(/^[^\/]*\/mnt/, ""); print i, t, $0 }' | sort
    umount /mnt
}
alter() { # while the first copy is there already
    mount9p /mnt "" data || { fail "mounts it to alter it"; return 1; }
    cd /mnt || return 1
    mv one renamed
    ln renamed again 2>/dev/null
    echo late >sub/late
    rm sub/f7
    echo longer than before >>sub/f8
    echo replaced >sub/.f9 && mv sub/.f9 sub/f9
    check "adopt --commit is refused while a guest works" host_step refused
    cd / && umount /mnt
}
work() { # writes until the server goes
    mount9p /tmp/work "" data || { fail "mounts it to work there"; return 1; }
    (while echo work >>/tmp/work/sub/f1; do usleep 20000; done) 2>/dev/null &
    worker=$!
}
work_end() {
    kill $worker 2>/dev/null
    wait $worker 2>/dev/null
    umount -l /tmp/work
}
later() { # a new file, and its number
    mount9p /mnt "" "$1" || { fail "mounts $1"; return 1; }
    echo "$2" >"/mnt/$2" && stat -c %i "/mnt/$2"
    umount /mnt
}
GUEST
cat >"$tmp/look-wire" <<'WIRE'
look() {
    "$stat9p" -R "tcp:127.0.0.1:$server_port" "$1" | awk '{ i = $2; t = $3; sub(/^[^\/]*/, ""); print i, t, $0 }' | sort
}
alter() {
    mv /srv/data/one /srv/data/renamed && ln /srv/data/renamed /srv/data/again
    echo late >/srv/data/sub/late
    rm /srv/data/sub/f7
    echo longer than before >>/srv/data/sub/f8
    echo replaced >/srv/data/sub/.f9 && mv /srv/data/sub/.f9 /srv/data/sub/f9
}
later() {
    echo "$2" >"/srv/$1/$2"
    "$stat9p" "tcp:127.0.0.1:$server_port" "$1" "/$2" | awk '{ print $2 }'
}
work() {
    (while echo work; do sleep 0.02; done) >>/srv/data/sub/f1 2>/dev/null &
    worker=$!
}
work_end() { :; }
host_step() { "step_$1" "${@:2}"; }
WIRE
cat >"$tmp/script" <<'GUEST'
d=$(mktemp -d)
same() { # A B DESCRIPTION
    if cmp -s "$1" "$2"; then pass "$3 ($(wc -l <"$1") names)"; else fail "$3"; diff "$1" "$2"; fi
}
step() { host_step "$@" || fail "the host: $1"; }

look data >"$d/before"
check "it has files" test "$(wc -l <"$d/before")" -gt 50

step move
look data >"$d/moved"
same "$d/before" "$d/moved" "moved storage: every inode number is what it was"

step copy_first
alter
look data >"$d/before"
step copy_last
look data >"$d/copied"
same "$d/before" "$d/copied" "rsync: every inode number is what it was"
number=$(later data after-rsync)
check "a new file has a number" test -n "$number"
check_fails "which no file had before" grep -q "^$number " "$d/before"
step old_again
look data >"$d/now"
check_fails "nothing of the old filesystem is to be seen" grep -q returned/ "$d/now"
step old_gone

step back
look data >"$d/back"
same "$d/before" "$d/back" "rolled back: every inode number is what it was"
second=$(later data after-roll-back)
check_fails "a new file has a number that no file had, nor the one after the copy" \
    sh -c "{ cat '$d/before'; echo '$number '; } | grep -q '^$second '"
look data >"$d/before"
step copy_again
look data >"$d/again"
same "$d/before" "$d/again" "and copied again: every inode number is what it was"

step tar
look data >"$d/tar"
same "$d/before" "$d/tar" "tar: every inode number is what it was"

work
step clone
work_end
look data >"$d/original"
same "$d/before" "$d/original" "cloned: every inode number of the original is what it was"
look clone >"$d/clone"
check "the clone has the same names" sh -c \
    "cut -d' ' -f2- '$d/clone' | sort >'$d/a'; cut -d' ' -f2- '$d/before' | sort | cmp - '$d/a'"
is "$(cat "$d/original" "$d/clone" | awk '{ print $1 }' | sort -u | wc -l)" \
    "$(for f in original clone; do awk '{ print $1 }' "$d/$f" | sort -u | wc -l; done |
        awk '{ n += $1 } END { print n }')" "and no number of the original"
later data on-original >"$d/n1"
later clone on-clone >"$d/n2"
look data | grep -v on-original >"$d/o2"
look clone | grep -v on-clone >"$d/c2"
same "$d/original" "$d/o2" "both written to: the original's numbers are what they were"
same "$d/clone" "$d/c2" "and so are the clone's"
step swap
look data | grep -v on-original >"$d/o2"
look clone | grep -v on-clone >"$d/c2"
same "$d/original" "$d/o2" "other devices, other order: the original's numbers are what they were"
same "$d/clone" "$d/c2" "and so are the clone's"
true
GUEST

# ---- moved storage -----------------------------------------------------------------------------------

step_move() {
    local before
    before=$(stat -c %d /srv/data /srv/data/disk)
    page move-old
    detach data && detach disk
    enter_host new-host
    attach disk && attach data
    page move-mount
    [ "$before" != "$(stat -c %d /srv/data /srv/data/disk)" ] &&
        ok "the device numbers are others" || not_ok "the device numbers are others" "$before"
    page move-new
}

# ---- copied data -------------------------------------------------------------------------------------

step_copy_first() {
    make_disk new 320M xfs
    page copy-mount
    touch /srv/new/{1..9} && rm /srv/new/[1-8] # other inode numbers than on the old one; 9 is in the way
    page copy-first
    page copy-check
}
step_refused() {
    qidmapctl adopt --store lmdb:/var/lib/qidmap/data --commit --yes >"$tmp/out" 2>"$tmp/err"
    [ $? = 3 ] && grep -q 'export data' "$tmp/err" || { tap_diag "$(cat "$tmp/err")"; return 1; }
}
copy_last() {
    page copy-stop
    page copy-last
    page copy-commit
    page copy-switch
    page copy-serve
}
step_copy_last() {
    copy_last
    is "$(findmnt -no FSTYPE /srv/data)" xfs "the new filesystem is served"
}
step_old_again() {
    detach data && attach data
    mkdir /srv/data/returned && mount "${device[data]}" /srv/data/returned || return 1
    qidmapctl preflight --store lmdb:/var/lib/qidmap/data /srv/data >"$tmp/out" 2>"$tmp/err"
    is $? 1 "preflight sees the old filesystem"
    says superseded "and says what it is"
    "$stat9p" "tcp:127.0.0.1:$server_port" data /returned >"$tmp/out" 2>"$tmp/err" &&
        { not_ok "its files are refused" "$(cat "$tmp/out")"; return 1; }
    ok "its files are refused"
    check "and the log says why" grep -q 'returned.*moved' "$qidmapd_log"
}
step_old_gone() {
    unmount /srv/data/returned && rmdir /srv/data/returned
}
step_back() {
    page copy-back
}
step_copy_again() {
    page copy-mount
    page copy-first
    copy_last
}
step_tar() {
    make_disk tar 64M ext4
    # what was /dev/vg0/new is /dev/vg0/data from here on
    device[data]=${device[new]} device[new]=${device[tar]}
    page copy-mount
    touch /srv/new/{1..9} && rm /srv/new/*[0-9]
    page copy-stop
    page copy-tar
    page copy-manifest
    page copy-commit
    page copy-switch
    page copy-serve
    is "$(findmnt -no FSTYPE /srv/data)" ext4 "another filesystem is served"
}

# ---- a clone -----------------------------------------------------------------------------------------

# A copy of the store as it is, and the clone alone served with it: on a host that has the original, too,
# and on one that has not.
elsewhere() {
    local uri=lmdb:$tmp/third here there
    here=$("$stat9p" -R "tcp:127.0.0.1:$server_port" data | awk '{ print $1, $4 }' | sort)
    qidmapctl backup --store lmdb:/var/lib/qidmap/data third.qidmap >/dev/null &&
        qidmapctl load --store "$uri" third.qidmap >/dev/null &&
        qidmapctl load --store "$uri-2" third.qidmap >/dev/null &&
        mount "${device[clone]}" /srv/clone || { not_ok "a clone elsewhere" "it cannot be made"; return; }
    qidmapctl preflight --store "$uri" /srv/clone >"$tmp/out" 2>"$tmp/err"
    is $? 1 "the clone alone, while the original is on the host, is not taken for it by preflight"
    start_qidmapd --export data=/srv/clone --store "$uri" --listen "unix:$tmp/third.socket"
    there=$("$stat9p" -R "unix:$tmp/third.socket" data | awk '{ print $1, $4 }' | sort)
    [ -n "$there" ] && [ "$there" != "$here" ] && ok "nor by a server" || not_ok "nor by a server" "$there"
    stop_qidmapd TERM
    [ -z "$(getfattr -d -m trusted.qidmap /srv/clone 2>/dev/null)" ] ||
        setfattr -x trusted.qidmap.marker /srv/clone
    mv "$images/tar" "$images/not-here"
    qidmapctl preflight --store "$uri-2" /srv/clone >"$tmp/out" 2>"$tmp/err"
    is $? 0 "on a host without the original it is known"
    start_qidmapd --export data=/srv/clone --store "$uri-2" --listen "unix:$tmp/third.socket"
    there=$("$stat9p" -R "unix:$tmp/third.socket" data | awk '{ print $1, $4 }' | sort)
    is "$there" "$here" "and has the same numbers"
    echo there >/srv/clone/there && echo here >/srv/data/here
    is "$({
        "$stat9p" "unix:$tmp/third.socket" data /there
        "$stat9p" "tcp:127.0.0.1:$server_port" data /here
    } | awk '{ print $1 }' | sort -u | wc -l)" 2 "but no number for two new files, as these need new rows"
    rm /srv/clone/there /srv/data/here
    stop_qidmapd TERM
    mv "$images/not-here" "$images/tar"
    umount /srv/clone
}

step_clone() {
    on_exit 'fsfreeze -u /srv/data 2>/dev/null'
    truncate -s 64M "$images/clone"
    device[data]=${device[new]}
    attach clone
    page clone-take
    [ -z "${worker:-}" ] || { kill "$worker" && wait "$worker"; } 2>/dev/null # without a guest
    elsewhere
    page clone-mount
    clone_export=(--export clone=/srv/clone)
    page clone-serve
    qidmapctl fs list --store lmdb:/var/lib/qidmap/data >"$tmp/out"
    is "$(grep -c duplicate "$tmp/out")" 2 "fs list shows two of one identity"
    qidmapctl status --store lmdb:/var/lib/qidmap/data >"$tmp/out"
    qidmapctl preflight --store lmdb:/var/lib/qidmap/data /srv >"$tmp/out"
    says 'a copy of it is mounted at' "preflight shows that they are copies"
    qidmapctl survey /srv >"$tmp/out"
    says '^ *[^ ]*raw.*[1-9]' "survey shows that raw inode numbers would collide"
}
step_swap() {
    systemctl stop
    umount /srv/clone && umount /srv/data || return 1
    loop_detach "${device[data]}" "${device[clone]}"
    attach clone && attach tar
    mount "${device[clone]}" /srv/clone && mount "${device[tar]}" /srv/data && systemctl start
}

# ---- before all that ---------------------------------------------------------------------------------

enter_host old-host
make_disk data 64M ext4
make_disk disk 32M ext4
mount "${device[data]}" /srv/data && mkdir /srv/data/disk && mount "${device[disk]}" /srv/data/disk ||
    bail_out "cannot mount"
chmod 755 "$tmp"
cd /srv/data && mkdir -p sub/deep || exit 1
for i in {1..20}; do echo "$i" >"sub/f$i"; done
for i in {1..20}; do echo "$i" >"disk/f$i"; done
touch $'bytes-\xff\xfe' 'back\slash' 'a space' .hidden a.b && mkdir a && touch a/z
echo linked >one && ln one sub/two && ln one sub/deep/three && ln -s one sym && mkfifo fifo
echo linked >disk/one && ln disk/one disk/two
mknod null c 1 3
setfattr -n user.note -v kept a/z 2>/dev/null
cd "$tmp/old-host/root" || exit 1
systemctl start || bail_out "the server does not start: $(tail "$qidmapd_log")"

if [ -n "${QIDMAP_MIGRATE_WIRE:-}" ]; then
    pass() { ok "$@"; }
    fail() { not_ok "$@"; }
    . "$tmp/look-wire"
    . "$tmp/script"
else
    cat "$tmp/look" "$tmp/script" >"$tmp/whole"
    guest_run "$tmp/whole" "PORT=$server_port" "ANAME=data"
    is "$?" 0 "the guest's script ended well"
fi

marked=$(sed -n 's/^=for test //p' "$page" | sort -u)
is "$(printf '%s\n' "${ran[@]}" | sort -u)" "$marked" "every block of commands of the page was run"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "guest: $(tail -n 60 "${guest_output:-/dev/null}")"
    tap_diag "commands: $(tail -n 200 "$tmp/page.log")"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi
tap_done
