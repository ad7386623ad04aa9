#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the units are such that systemd takes them without a word, the daemon's own and those of the
# template; they are no less sandboxed than HACKING.md says; and systemd's own tools make the group, the
# user and the folders that the units and qidmapd(8) count on, once and again.

. "$(dirname "$0")/lib.sh"
command -v systemd-analyze >/dev/null || skip_all "no systemd-analyze"

units=$tmp/root/etc/systemd/system
mkdir -p "$units" "$tmp/root/etc/qidmap" "$tmp/root/usr/sbin" "$tmp/root/usr/lib"
for unit in qidmapd.service qidmapd@.service qidmapd@.socket; do
    [ -e "$top_builddir/dist/$unit" ] || bail_out "no dist/$unit: run make first"
    # the folder of an installation is not there: a program of the same kind stands for the daemon
    sed 's,^\(Exec[A-Z][a-z]*\)=[^ ]*,\1=/bin/true,' "$top_builddir/dist/$unit" >"$units/$unit"
done
cp "$units/qidmapd@.service" "$units/qidmapd@data.service"
cp "$units/qidmapd@.socket" "$units/qidmapd@data.socket"

verify() { # UNIT...: what systemd says about them, nothing being best
    (cd "$units" && SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$@") 2>&1 |
        grep -F "$units"
}
is "$(verify ./qidmapd.service)" "" "qidmapd.service"
is "$(verify ./qidmapd@data.service)" "" "qidmapd@data.service"
is "$(verify ./qidmapd@data.socket)" "" "qidmapd@data.socket"
sed 's/^Type=notify/Type=notify\nProtectEverything=yes/' "$units/qidmapd.service" >"$units/broken.service"
[ -n "$(verify ./broken.service)" ] && ok "a unit with a misspelt line is found" ||
    not_ok "a unit with a misspelt line is found"

# What the two have of the template is told apart by name.
for line in 'ConditionPathExists=.*/qidmap/%i.conf' 'RuntimeDirectory=qidmapd-%i' \
    'ExecStart=.*--config .*/qidmap/%i.conf' 'ExecReload=.*/qidmapctl reload --pid $MAINPID'; do
    check "qidmapd@.service has $line" grep -q "^$line\$" "$top_builddir/dist/qidmapd@.service"
done
check_fails "qidmapd.service has no %i" grep -q '%i' "$top_builddir/dist/qidmapd.service"

for unit in qidmapd.service qidmapd@.service; do
    is "$(grep -c -e '^Type=notify$' -e '^ExecReload=' "$top_builddir/dist/$unit")" 2 \
        "$unit: no reload before the daemon is ready"
    check "$unit: calls that systemd does not know are as with an older kernel" \
        grep -q '^SystemCallErrorNumber=ENOSYS$' "$top_builddir/dist/$unit"
done

# ---- the figure
exposure() {
    systemd-analyze security --offline=true "$@" "$units/qidmapd.service" 2>&1
}
said=$(sed -n 's/.*`systemd-analyze security`.*is \([0-9]\{1,2\}\.[0-9]\).*/\1/p' "$top_srcdir/HACKING.md")
limit=$(tr -d . <<<"$said")
case $(exposure) in
*[Uu]nknown*option* | *unrecognized\ option*) skip "the exposure of the unit" "systemd is older than 250" ;;
*)
    found=$(exposure | sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p')
    if [ -n "$said" ] && [ -n "$found" ] && [ "$(tr -d . <<<"$found")" -le "$limit" ]; then
        ok "exposure at most $said, as HACKING.md says"
    else
        not_ok "exposure at most $said, as HACKING.md says" "found: $found"
    fi
    ;;
esac

# ---- users and folders
if command -v systemd-sysusers >/dev/null; then
    mkdir -p "$tmp/root/usr/lib/sysusers.d"
    cp "$top_srcdir/dist/qidmap.sysusers" "$tmp/root/usr/lib/sysusers.d/qidmap.conf"
    if [ "$(id -u)" = 0 ]; then
        for times in once again; do
            check "systemd-sysusers $times" systemd-sysusers --root="$tmp/root" qidmap.conf
        done
        is "$(cut -d: -f1 "$tmp/root/etc/group" | grep -cx qidmap)" 1 "the group of the sockets"
        check "a user for files, who cannot log in" grep -q '^qidmap-files:.*nologin$' "$tmp/root/etc/passwd"
    else
        skip "systemd-sysusers" "needs root"
    fi
else
    skip "systemd-sysusers" "no systemd-sysusers"
fi
if command -v systemd-tmpfiles >/dev/null && [ "$(id -u)" = 0 ]; then
    mkdir -p "$tmp/root/usr/lib/tmpfiles.d"
    cp "$top_srcdir/dist/qidmap.tmpfiles" "$tmp/root/usr/lib/tmpfiles.d/qidmap.conf"
    for times in once again; do
        check "systemd-tmpfiles $times" systemd-tmpfiles --root="$tmp/root" --create qidmap.conf
    done
    is "$(stat -c %a%u "$tmp/root/var/lib/qidmap")" 7000 "the place for stores is root's alone"
    is "$(stat -c %a%u "$tmp/root/run/qidmap")" 7110 "the place for sockets can be entered"
else
    skip "systemd-tmpfiles" "needs root"
fi
tap_done
