#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the packages of `./quickstart deb` install in a clean Debian, upgrade, and go away without a
# trace but stores and configuration. An upgrade never restarts a daemon with a live session, nor one that does not
# answer; one without is restarted. Purging asks before it deletes a store, and keeps it where nobody
# answers.
#
# By hand and in `quickstart check --long`: bash tests/deb-chroot.sh [FOLDER-OF-PACKAGES]. The chroot is made by
# debootstrap once, and kept in $QIDMAP_DEB_CACHE (otherwise qidmap/deb below ~/.cache). systemctl is one of
# ours there, which notes what it is asked; daemon, session and qidmapctl are real.

. "$(dirname "$0")/lib.sh"

debs=${1:-$top_srcdir/build/deb}
release=${QIDMAP_DEB_RELEASE:-bookworm}
cache=${QIDMAP_DEB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/qidmap/deb}
[ "$(id -u)" = 0 ] || skip_all "no root"
for program in debootstrap socat; do
    command -v "$program" >/dev/null || skip_all "no $program"
done
[ -n "$(ls "$debs"/qidmap_*.deb 2>/dev/null)" ] || skip_all "no packages in $debs: run ./quickstart deb first"

# ---- a clean Debian
mkdir -p "$cache"
if [ ! -s "$cache/$release-2.tar" ]; then
    if ! debootstrap --variant=minbase --include=libglib2.0-0,libjson-glib-1.0-0,liblmdb0,libxxhash0,libisal2,libsystemd0,libseccomp2,kmod,systemd \
        "$release" "$tmp/base" >"$tmp/debootstrap.log" 2>&1; then
        tap_diag "$(tail -n 5 "$tmp/debootstrap.log")"
        skip_all "no Debian $release: debootstrap failed"
    fi
    tar -C "$tmp/base" -cf "$cache/$release-2.tar.new" . && mv "$cache/$release-2.tar.new" "$cache/$release-2.tar"
    rm -rf --one-file-system "$tmp/base"
fi
root=$tmp/root
mkdir "$root"
tar -C "$root" -xf "$cache/$release-2.tar" || bail_out "cannot unpack $cache/$release-2.tar"
mkdir -p "$root/run/systemd/system" "$root/debs" "$root/srv/x"
: >"$root/asked"
cat >"$root/usr/local/sbin/systemctl" <<'END'
#!/bin/sh
echo "$*" >>/asked
case "$*" in
list-units*) [ ! -s /pid ] || echo "qidmapd@data.service loaded active running x" ;;
'show -p MainPID'*) cat /pid ;;
esac
END
chmod 755 "$root/usr/local/sbin/systemctl"

inside() {
    chroot "$root" env -i PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
        DEBIAN_FRONTEND=noninteractive "$@"
}
files() { # all that a package may have brought
    (cd "$root" && find bin/ sbin/ lib/ etc usr -path usr/share/doc -prune -o -print) | sort |
        grep -v -e ld.so.cache -e '^etc/\(passwd\|group\|shadow\|gshadow\)' -e '^usr/share/man' -e '/__pycache__'
}
newer() { # VERSION-SUFFIX: packages of the next version in /debs
    local deb name
    rm -f "$root"/debs/*
    for deb in "$debs"/*.deb; do
        case $deb in *-dbgsym_*) continue ;; esac
        name=$(basename "$deb" .deb)
        dpkg-deb -R "$deb" "$tmp/$name"
        sed -i "s/^Version: .*/&$1/; s/\(libqidmap0 (= [^)]*\))/\1$1)/" "$tmp/$name/DEBIAN/control"
        dpkg-deb --root-owner-group -b "$tmp/$name" "$root/debs/$name.deb" >/dev/null
        rm -rf "${tmp:?}/$name"
    done
}
install() { inside sh -c 'dpkg -i /debs/*.deb' >"$tmp/dpkg.log" 2>&1; }
before=$(files)

daemon=
session=
# shellcheck disable=SC2016 # at the end
on_exit 'kill -KILL $daemon $session 2>/dev/null; unmount_below "$root"; umount -l "$root"'
# A mount of its own: the daemon looks for its exports in the table of mounts, as the chroot shows it.
mount --bind "$root" "$root" && mount --make-private "$root" || skip_all "no mounts: cannot bind"
mount -t proc proc "$root/proc" || skip_all "no mounts: cannot mount proc"

# ---- install
newer ''
check "dpkg installs all four" install
is "$(inside dpkg --audit)" "" "nothing is left half done"
check "qidmapd runs" inside qidmapd --version
check "qidmapctl runs" inside qidmapctl --version
check "mount.qidmap is where mount(8) looks" inside /sbin/mount.qidmap --version
is "$(stat -c %a%u "$root/var/lib/qidmap")" 7000 "the place for stores is root's alone"
check "the group of the sockets" inside getent group qidmap
check "the units are there" test -e "$root/lib/systemd/system/qidmapd@.socket"
check_fails "no daemon is started or enabled" grep -E '^(start|restart|enable)' "$root/asked"
check "the manual of the tool" test -e "$root/usr/share/man/man8/qidmapctl.8.gz"

# ---- upgrade with a session, without one, and with a daemon that does not answer
chroot "$root" qidmapd --export x=/srv/x --store lmdb:/var/lib/qidmap/all --listen unix:/run/s \
    --isolate=no >"$tmp/daemon.log" 2>&1 &
daemon=$!
wait_until 30 test -S "$root/run/s" || bail_out "the daemon does not start: $(cat "$tmp/daemon.log")"
echo "$daemon" >"$root/pid"
sessions() { # of the daemon, as it says itself
    inside qidmapctl top --once --json --control "/run/qidmap/control-$daemon" | tr -d ' \n\t' |
        grep -o '"sessions":\[.\?' || echo none
}
has_store() { [ -n "$(find "$root/var/lib/qidmap/all" -type f -size +0 2>/dev/null)" ]; }
has_session() { [ "$(sessions)" = '"sessions":[{' ]; }
has_none() { [ "$(sessions)" = '"sessions":[]' ]; }
# Tversion and Tattach, and then nothing
{
    printf '\25\0\0\0\144\377\377\0\40\0\0\10\09P2000.L'
    printf '\30\0\0\0\150\0\0\0\0\0\0\377\377\377\377\0\0\1\0x\0\0\0\0'
    exec sleep 1000
} | socat -t 1000 - "UNIX-CONNECT:$root/run/s" >"$tmp/replies" &
session=$!
wait_until 30 has_session || bail_out "no session: $(sessions)"

upgrade() { # SUFFIX
    newer "$1"
    : >"$root/asked"
    install || { not_ok "upgrade to $1" "$(cat "$tmp/dpkg.log")"; return; }
    is "$(inside dpkg-query -W -f '${Version}' qidmap | grep -o '+.*')" "$1" "upgraded to $1"
}
upgrade +1
check_fails "with a session the daemon is not restarted" grep -E '^(stop|restart|try-restart|reload-or)' "$root/asked"
check "and the admin is told" grep -q 'has sessions.*goes on' "$tmp/dpkg.log"
check_fails "it lives" process_gone "$daemon"
check "systemd reads the units again" grep -q '^daemon-reload\|^--system daemon-reload' "$root/asked"
kill -STOP "$daemon"
upgrade +2
kill -CONT "$daemon"
check_fails "one that does not answer is not restarted" grep -E '^(stop|restart|try-restart)' "$root/asked"
kill "$session"
wait_until 30 has_none || not_ok "the session ends" "$(sessions)"
upgrade +3
check "without a session it is restarted" grep -qx 'restart qidmapd@data.service' "$root/asked"

# ---- remove, purge
kill "$daemon"
wait "$daemon"
: >"$root/pid"
: >"$root/asked"
echo '[export x]' >"$root/etc/qidmap/data.conf"
check "remove" inside dpkg -r qidmap
check "it stops what runs" grep -q '^stop .*qidmapd.service' "$root/asked"
check "the store is kept" has_store
check "purge, nobody answers" inside dpkg -P qidmap
check "the store is kept" has_store
check "install again" install
inside sh -c 'echo "qidmap qidmap/delete-stores boolean false" | debconf-set-selections'
check "purge, the answer is no" inside dpkg -P qidmap
check "the store is kept" has_store
check "install again" install
inside sh -c 'echo "qidmap qidmap/delete-stores boolean true" | debconf-set-selections'
check "purge, the answer is yes" inside dpkg -P qidmap
check_fails "the store is gone" test -e "$root/var/lib/qidmap"
check "what the admin wrote is kept" test -s "$root/etc/qidmap/data.conf"
rm -r "$root/etc/qidmap"
check "purge the others" inside dpkg -P qidmap-guest libqidmap-dev libqidmap0
is "$(diff <(echo "$before") <(files))" "" "no file is left"
tap_done
