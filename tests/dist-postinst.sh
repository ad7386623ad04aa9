#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: an upgrade that restarts a daemon without sessions has it take no connection until then; where
# systemd refuses the restart, or it fails, the daemon that goes on serves who comes at once. (deb-chroot.sh
# tries real packages.)
#
# The script is the package's own, with the daemon's process and program of this test in place of all of the
# system's; systemctl is one of ours, which says that it failed or that it did it. Daemon and qidmapctl are real.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
command -v timeout >/dev/null || skip_all "no timeout"

control="$tmp/control socket"
make_tree
serve_tree --control "$control"
program=$(readlink "/proc/$qidmapd_pid/exe")
mkdir "$tmp/bin"
ln -s "$ctl" "$tmp/bin/qidmapctl"
cat >"$tmp/bin/systemctl" <<END
#!/bin/sh
echo "\$*" >>"$tmp/asked"
case "\$*" in
show*) printf 'MainPID=$qidmapd_pid\nId=qidmapd@test.service\n' ;;
restart*) exit \$(cat "$tmp/verdict") ;;
esac
END
chmod +x "$tmp/bin/systemctl"
sed -e '/confmodule/d; /^db_/d; /^#DEBHELPER#/d' -e "s,/proc/\[0-9\]\*/exe,/proc/$qidmapd_pid/exe," \
    -e "s,/usr/sbin/qidmapd,$program,g" -e "s,/run/systemd/system,$tmp/bin,g" \
    "$top_srcdir/debian/qidmap.postinst" >"$tmp/postinst"

upgrade() { # STATUS: of systemctl restart
    echo "$1" >"$tmp/verdict"
    : >"$tmp/asked"
    : >"$qidmapd_log"
    PATH=$tmp/bin:$PATH sh "$tmp/postinst" configure 0.0 >"$tmp/said" 2>&1
    is "$?" 0 "the package is configured, restart: $1"
    is "$(grep restart "$tmp/asked")" "restart qidmapd@test.service" "the restart was asked for"
    is "$(grep -c 'for 60 s no connection is taken' "$qidmapd_log")" 1 "with the daemon held before it"
}
upgrade 0
is "$(cat "$tmp/said")" "" "one that works needs no word"
check_fails "and connections wait for the new daemon" grep -q "connections are taken again" "$qidmapd_log"
upgrade 1
check "one that failed is told of" grep -q "qidmapd@test.service could not be restarted" "$tmp/said"
check "the daemon takes connections again" grep -q "connections are taken again" "$qidmapd_log"
check "and serves who comes" timeout 30 "$stat9p" "$address" tree one
tap_done
