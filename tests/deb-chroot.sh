#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the packages of `./quickstart deb` install in a clean Debian, upgrade, and go away without a
# trace but stores and configuration. An upgrade never restarts a daemon with a live session, nor one that does not
# answer; one without is restarted, wherever its control socket is; and one that no unit of ours has started is
# told of. Purging asks before it deletes a store, and keeps it where nobody answers; packages that are
# installed again go on with it. A program builds with what libqidmap-dev brings, and nothing else.
#
# By hand and in `quickstart check --long`: bash tests/deb-chroot.sh [FOLDER-OF-PACKAGES]. The chroot is made by
# debootstrap once, and kept in $QIDMAP_DEB_CACHE (otherwise qidmap/deb below ~/.cache). systemctl is one of
# ours there, which notes what it is asked; daemon, session and qidmapctl are real.

. "$(dirname "$0")/lib.sh"

debs=${1:-$top_srcdir/build/deb}
release=${QIDMAP_DEB_RELEASE:-bookworm}
cache=${QIDMAP_DEB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/qidmap/deb}
[ "$(id -u)" = 0 ] || skip_all "no root"
for program in debootstrap socat script; do
    command -v "$program" >/dev/null || skip_all "no $program"
done
[ -n "$(ls "$debs"/qidmap_*.deb 2>/dev/null)" ] || skip_all "no packages in $debs: run ./quickstart deb first"

# ---- a clean Debian
mkdir -p "$cache"
if [ ! -s "$cache/$release-3.tar" ]; then
    case $release in
    bullseye | bookworm) glib=libglib2.0-0 ;;
    *) glib=libglib2.0-0t64 ;;
    esac
    libraries=$glib,libjson-glib-1.0-0,liblmdb0,libxxhash0,libisal2,libsystemd0,libseccomp2
    # gcc and the like are for the test of libqidmap-dev
    if ! debootstrap --variant=minbase "--include=$libraries,kmod,systemd,gcc,libc6-dev,pkg-config" \
        "$release" "$tmp/base" >"$tmp/debootstrap.log" 2>&1; then
        tap_diag "$(tail -n 5 "$tmp/debootstrap.log")"
        skip_all "no Debian $release: debootstrap failed"
    fi
    tar -C "$tmp/base" -cf "$cache/$release-3.tar.new" . && mv "$cache/$release-3.tar.new" "$cache/$release-3.tar"
    rm -rf --one-file-system "$tmp/base"
fi
root=$tmp/root
mkdir "$root"
tar -C "$root" -xf "$cache/$release-3.tar" || bail_out "cannot unpack $cache/$release-3.tar"
mkdir -p "$root/run/systemd/system" "$root/debs" "$root/srv/x"
: >"$root/asked"
cat >"$root/usr/local/sbin/systemctl" <<'END'
#!/bin/sh
echo "$*" >>/asked
case "$*" in
'show --property=Id,MainPID *.service')
    printf 'Id=dbus.service\nMainPID=0\n'
    while read -r unit pid; do printf '\nMainPID=%s\nId=%s\n' "$pid" "$unit"; done </units
    ;;
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

declare -A daemon session writer
# shellcheck disable=SC2016 # at the end
on_exit 'kill -KILL "${daemon[@]}" "${session[@]}" 2>/dev/null; unmount_below "$root"; umount -l "$root"'
# A mount of its own: the daemon looks for its exports in the table of mounts, as the chroot shows it.
# Shared, so that a daemon enters a namespace of its own.
mount --bind "$root" "$root" && mount --make-private "$root" && mount --make-shared "$root" || skip_all "no mounts: cannot bind"
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
check "needrestart would leave daemons alone" test -s "$root/etc/needrestart/conf.d/qidmap.conf"

# ---- the tests of the packages themselves
mkdir -p "$root/src/debian" "$root/src/man"
cp -R "$top_srcdir/debian/tests" "$root/src/debian/"
cp "$top_srcdir/man/libqidmap.3.pod" "$root/src/man/"
check "a program of libqidmap-dev" inside sh -c 'cd /src && debian/tests/library'
check "the server, and its store by the tool" inside sh -c 'cd /src && debian/tests/server'
rm -r "$root/src"

# ---- upgrade with a session, without one, and with a daemon that does not answer
# data: as it is, isolated, with a small process beside it; other: control= in its configuration; loose: of
# no unit of ours
echo 1 >"$root/srv/x/file"
cat >"$root/etc/qidmap/other.conf" <<'END'
[daemon]
listen=unix:/run/other
store=lmdb:/var/lib/qidmap/other
control = /run/other control
isolate=no
[export x]
dir=/srv/x
END
start() { # NAME OPTION...
    local name=$1
    shift
    chroot "$root" qidmapd "$@" >"$tmp/$name.log" 2>&1 &
    daemon[$name]=$!
    wait_until 60 test -S "$root/run/$name" || bail_out "$name does not start: $(cat "$tmp/$name.log")"
}
start_data() {
    start data --export x=/srv/x --store lmdb:/var/lib/qidmap/all --listen unix:/run/data --isolate=yes
}
start_data
start other --config /etc/qidmap/other.conf
start loose --export x=/srv/x --store memory: --listen unix:/run/loose --isolate=no --control=/run/loose-control
printf '%s\n' "qidmapd@data.service ${daemon[data]}" "qidmapd@other.service ${daemon[other]}" \
    "mine.service ${daemon[loose]}" >"$root/units"
control() { # NAME
    case $1 in
    data) echo "/run/qidmap/control-${daemon[data]}" ;;
    *) echo "/run/$1 control" ;;
    esac
}
sessions() { # NAME: of that daemon, as it says itself
    inside qidmapctl top --once --json --control "$(control "$1")" 2>&1 | tr -d ' \n\t' |
        grep -o '"sessions":\[.\?' || echo none
}
has_store() { [ -n "$(find "$root/var/lib/qidmap/all" -type f -size +0 2>/dev/null)" ]; }
has_session() { [ "$(sessions "$1")" = '"sessions":[{' ]; }
has_none() { [ "$(sessions "$1")" = '"sessions":[]' ]; }
attach() { # NAME: Tversion and Tattach
    rm -f "$tmp/to-$1"
    mkfifo "$tmp/to-$1"
    socat -t 1000 - "UNIX-CONNECT:$root/run/$1" <"$tmp/to-$1" >"$tmp/replies-$1" &
    session[$1]=$!
    exec {to}>"$tmp/to-$1"
    writer[$1]=$to
    printf '\25\0\0\0\144\377\377\0\40\0\0\10\09P2000.L' >&"$to"
    printf '\30\0\0\0\150\0\0\0\0\0\0\377\377\377\377\0\0\1\0x\0\0\0\0' >&"$to"
    wait_until 60 has_session "$1" || bail_out "no session: $(sessions "$1")"
}
beside=$(cat "/proc/${daemon[data]}/task/${daemon[data]}/children")
is "$(cat "/proc/${beside% }/comm")" qidmapd-host "the isolated daemon has a process beside it"
attach data
attach other
replies() { stat -c %s "$tmp/replies-$1"; }
more() { [ "$(replies "$1")" -gt "$2" ]; }
answers() { # NAME: the client that was attached before is answered
    local before
    before=$(replies "$1")
    printf '\13\0\0\0\10\1\0\0\0\0\0' >&"${writer[$1]}" # Tstatfs
    wait_until 60 more "$1" "$before"
}

upgrade() { # SUFFIX
    newer "$1"
    : >"$root/asked"
    install || { not_ok "upgrade to $1" "$(cat "$tmp/dpkg.log")"; return; }
    is "$(inside dpkg-query -W -f '${Version}' qidmap | grep -o '+.*')" "$1" "upgraded to $1"
}
restarted() { grep -E '^(stop|restart|try-restart|reload-or|kill)' "$root/asked" | tr '\n' ';'; }
upgrade +1
is "$(restarted)" "" "with sessions no daemon is restarted"
for name in data other; do
    check "the admin is told of $name" grep -q "qidmapd@$name.service has sessions.*goes on" "$tmp/dpkg.log"
    check_fails "$name lives" process_gone "${daemon[$name]}"
    check "and answers the client that was there before" answers "$name"
done
check "of one that no unit of ours has started, too" \
    grep -q "pid ${daemon[loose]} (mine.service) goes on" "$tmp/dpkg.log"
check_fails "and of nothing else" grep -q "pid ${beside% } " "$tmp/dpkg.log"
check "systemd reads the units again" grep -q '^daemon-reload\|^--system daemon-reload' "$root/asked"
kill "${session[other]}"
wait_until 60 has_none other || not_ok "the session of other ends" "$(sessions other)"
kill -STOP "${daemon[other]}"
upgrade +2
kill -CONT "${daemon[other]}"
is "$(restarted)" "" "one that does not answer is not restarted"
check "and the admin is told" grep -q "qidmapd@other.service.*cannot be asked" "$tmp/dpkg.log"
upgrade +3
is "$(restarted)" "restart qidmapd@other.service;" "one without a session is, its control socket being elsewhere"
check_fails "the other one lives" process_gone "${daemon[data]}"
# Somebody else's answer is not taken for this daemon's: idle at the same path, and this one has a session.
# (It was held for the restart, which is only noted here.)
check "it can be let go" inside qidmapctl hold --seconds 0 --control "$(control other)"
attach other
kill "${session[data]}"
wait_until 60 has_none data || not_ok "the session of data ends" "$(sessions data)"
mv "$root/run/other control" "$root/run/other control.kept"
ln -s "$(control data)" "$root/run/other control"
upgrade +4
is "$(restarted)" "restart qidmapd@data.service;" "an answer of another daemon counts for nothing"
rm "$root/run/other control"
mv "$root/run/other control.kept" "$root/run/other control"
kill "${session[other]}"

# ---- remove, purge
stop_all() {
    kill "${daemon[@]}"
    wait "${daemon[@]}"
    : >"$root/units"
    daemon=()
}
known() { # what the store says of a file, and its own name
    inside qidmapctl lookup --store lmdb:/var/lib/qidmap/all /srv/x/file 2>&1
    inside qidmapctl status --json --store lmdb:/var/lib/qidmap/all 2>&1 | grep -o '"uuid" *: *"[^"]*"' | head -n 1
}
stop_all
before_removal=$(known)
: >"$root/asked"
echo '[export x]' >"$root/etc/qidmap/data.conf"
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -s /usr/lib/systemd/system/qidmapd@.service "$wants/qidmapd@data.service"
ln -s /usr/lib/systemd/system/mine.service "$wants/mine.service"
check "remove" inside dpkg -r qidmap
check "it stops what runs" grep -q '^stop .*qidmapd.service' "$root/asked"
check "and has systemd forget the units" grep -q '^daemon-reload' "$root/asked"
check "the store is kept" has_store
check "install again, after a removal" install
is "$(known)" "$before_removal" "the store is known, with the same ids"
check "purge, nobody answers" inside dpkg -P qidmap
check "the store is kept" has_store
check_fails "what enabled a daemon is gone" test -h "$wants/qidmapd@data.service"
check "what enables others is not" test -h "$wants/mine.service"
rm "$wants/mine.service"
check "install again" install
start_data
stop_all
is "$(known)" "$before_removal" "a daemon goes on with the store, with the same ids"
inside sh -c 'echo "qidmap qidmap/delete-stores boolean false" | debconf-set-selections'
check "purge, the answer is no" inside dpkg -P qidmap
check "the store is kept" has_store
check "install again" install
# On a terminal the question is put; what is typed first is no.
script -qec "chroot '$root' env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TERM=dumb DEBIAN_FRONTEND=readline dpkg -P qidmap" \
    /dev/null < <(echo n; sleep 30) >"$tmp/asked" 2>&1
check "purge on a terminal asks" grep -q 'Delete the stores' "$tmp/asked"
check "the answer was no: the store is kept" has_store
check "install again" install
inside sh -c 'echo "qidmap qidmap/delete-stores boolean true" | debconf-set-selections'
check "purge, the answer is yes" inside dpkg -P qidmap
check_fails "the store is gone" test -e "$root/var/lib/qidmap"
# Stores that the admin has put elsewhere, by a link or by a mount, are no reason to fail.
check "install again" install
rmdir "$root/var/lib/qidmap"
mkdir -p "$root/srv/stores/all"
echo 1 >"$root/srv/stores/all/row"
ln -s ../../srv/stores "$root/var/lib/qidmap"
check "purge, with a link to the stores" inside dpkg -P qidmap
check "they are kept" test -s "$root/srv/stores/all/row"
rm "$root/var/lib/qidmap"
check "install again" install
mount --bind "$root/srv/stores" "$root/var/lib/qidmap"
check "purge, with the stores mounted, nobody answers" inside dpkg -P qidmap
check "they are kept" test -s "$root/srv/stores/all/row"
check "install again" install
inside sh -c 'echo "qidmap qidmap/delete-stores boolean true" | debconf-set-selections'
check "purge, with the stores mounted, the answer is yes" inside dpkg -P qidmap
check_fails "they are gone" test -e "$root/srv/stores/all"
umount "$root/var/lib/qidmap"
rmdir "$root/var/lib/qidmap"
check "what the admin wrote is kept" test -s "$root/etc/qidmap/data.conf"
rm -r "$root/etc/qidmap"
check "purge the others" inside dpkg -P qidmap-guest libqidmap-dev libqidmap0
is "$(diff <(echo "$before") <(files))" "" "no file is left"
tap_done
