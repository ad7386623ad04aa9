#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: filesystems are recognised on the guest's kernel, too (Debian 12's 6.1: without
# FS_IOC_GETFSUUID and without ids of mounts that are never used again).
#
# The guest mounts the host's root read-only through the server and runs the very tests of identities
# that `make check-root` runs, as built on the host, with loop devices and mounts of its own.
# QIDMAP_GUEST_LONG=1: those of overlays, listings and stores in xattrs, too.

. "$(dirname "$0")/../own-mounts.sh"
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root: the guest runs the host's programs"
guest_need

# Programs of libtool are scripts that may link again when they first run: not in the guest.
for program in root-identity unit-identity; do
    "$builddir/tests/$program" -l >/dev/null 2>&1 || bail_out "$builddir/tests/$program does not run"
done
"$builddir/tests/lib/identify" / >/dev/null 2>&1 || bail_out "$builddir/tests/lib/identify does not run"
"$builddir/src/qidmapd" --version >/dev/null || bail_out "no qidmapd"
"$builddir/tools/qidmapctl" --version >/dev/null || bail_out "no qidmapctl"

cat >"$tmp/script" <<'GUEST'
load_filesystems
enter_host /host || { echo "cannot mount the host's root"; exit 1; }
echo "kernel: $(uname -r)"

# TAP of a test becomes results of this one.
run_tap() { # NAME COMMAND...
    local name=$1 line status begin
    shift
    begin=$(cut -d. -f1 /proc/uptime)
    chroot /host /usr/bin/env TMPDIR=/mnt PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt \
        top_srcdir="$SRCDIR" srcdir="$SRCDIR" top_builddir="$BUILDDIR" \
        QIDMAPD="$BUILDDIR/src/qidmapd" QIDMAPCTL="$BUILDDIR/tools/qidmapctl" "$@" \
        >/tmp/tap 2>/tmp/err
    status=$?
    while IFS= read -r line; do
        case $line in
        "ok "*"# SKIP "*)
            line=${line#ok }
            skip "$name: ${line%% # SKIP *}" "${line#* # SKIP }"
            ;;
        "ok "*) pass "$name: ${line#ok }" ;;
        "not ok "*) fail "$name: ${line#not ok }" ;;
        *) echo "$name: $line" ;;
        esac
    done </tmp/tap
    [ "$status" = 0 ] || { fail "$name ends well"; cat /tmp/err; dmesg | tail -n 20; }
    echo "$name: took $(($(cut -d. -f1 /proc/uptime) - begin)) s"
}
run_tap unit-identity "$BUILDDIR/tests/unit-identity" --tap
run_tap root-identity "$BUILDDIR/tests/root-identity" --tap
for test in $SCRIPTS; do
    run_tap "$test" /bin/bash "$SRCDIR/tests/$test"
done
GUEST

scripts=
for name in ${QIDMAP_GUEST_SCRIPTS:-root-btrfs root-clones root-fuse \
    ${QIDMAP_GUEST_LONG:+root-overlay root-readdir root-xattr}}; do
    scripts="$scripts $name.sh"
done

server_start / memory: || bail_out "the server does not start: $(tail "$qidmapd_log")"
QIDMAP_GUEST_MEMORY=${QIDMAP_GUEST_MEMORY:-1536}
guest_show=1 # what the tests say beside their results
guest_run "$tmp/script" "${guest_server[@]}" "SRCDIR=$top_srcdir" "BUILDDIR=$top_builddir" \
    "SCRIPTS=$scripts"
is "$?" 0 "the script ended well"
check "the guest's kernel is another one than the host's" \
    sh -c "! grep -qx 'kernel: $(uname -r)' '$guest_output'"
server_stop
tap_done
