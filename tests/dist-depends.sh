#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: configure.ac, debian/control and quickstart want the same libraries, in the same versions, so
# that a machine that has what one of them names can build; and needrestart takes the line that keeps it
# from restarting a daemon.

. "$(dirname "$0")/lib.sh"

# Debian's name of what configure.ac asks pkg-config for. A new library needs its line here.
package_of() { # PKG-CONFIG-NAME
    case $1 in
    glib-2.0) echo libglib2.0-dev ;;
    json-glib-1.0) echo libjson-glib-dev ;;
    libxxhash) echo libxxhash-dev ;;
    blkid) echo libblkid-dev ;;
    lmdb) echo liblmdb-dev ;;
    libisal) echo libisal-dev ;;
    mount) echo libmount-dev ;;
    libsystemd) echo libsystemd-dev ;;
    libseccomp) echo libseccomp-dev ;;
    *) echo "unknown-$1" ;;
    esac
}

# lines NAME [VERSION]; fuse3 is for one test alone, and a package has no use for it.
grep -o 'PKG_CHECK_MODULES(\[[A-Z0-9_]*\], \[[^]]*\]' "$top_srcdir/configure.ac" |
    sed 's/.*\[//; s/\]$//; s/ >=//' | grep -v '^fuse3' |
    while read -r name least; do echo "$(package_of "$name")${least:+ $least}"; done | sort >"$tmp/configure"
awk '/^Build-Depends:/ { on = 1; sub(/^[^:]*:/, "") } /^[A-Z][A-Za-z-]*:/ { on = 0 } on' \
    "$top_srcdir/debian/control" | tr ',' '\n' | sed 's/^ *//; s/ *$//; s/(>= \(.*\))/\1/; /^$/d' |
    sort >"$tmp/control"
sed -n '/^build_packages="/,/"$/p' "$top_srcdir/quickstart" | tr ' "' '\n\n' | sed '/^$/d; /=$/d' |
    sort >"$tmp/quickstart"

[ "$(wc -l <"$tmp/configure")" -ge 5 ] && [ "$(wc -l <"$tmp/quickstart")" -ge 5 ] ||
    bail_out "the lists are not found: $(cat "$tmp/configure" "$tmp/quickstart")"
is "$(grep '^unknown-' "$tmp/configure")" "" "the package of each library is known here"
is "$(diff "$tmp/configure" <(grep '^lib.*-dev' "$tmp/control"))" "" \
    "configure.ac and debian/control have the same libraries and versions"
is "$(diff <(cut -d' ' -f1 "$tmp/configure") <(grep '^lib.*-dev' "$tmp/quickstart"))" "" \
    "configure.ac and quickstart have the same libraries"
# debhelper brings autoconf, automake, libtool; a compiler and make are on each machine that builds packages.
is "$(comm -13 "$tmp/quickstart" <(grep -v -e '^lib.*-dev' -e '^debhelper-compat' "$tmp/control"))" "" \
    "quickstart has the tools that debian/control names"

if command -v perl >/dev/null; then
    wanted() { # UNIT: what needrestart would find for it: 0, not by itself; nothing: as it likes
        perl -e 'our %nrconf; defined(do $ARGV[0]) or die $@ || $!;
            for (keys %{$nrconf{override_rc}}) { print $nrconf{override_rc}{$_} if $ARGV[1] =~ /$_/ }' \
            "$top_srcdir/debian/needrestart/qidmap.conf" "$1" 2>&1
    }
    is "$(wanted qidmapd.service) $(wanted qidmapd@data.service) $(wanted ssh.service)" "0 0 " \
        "needrestart leaves our daemons alone, and no others"
else
    skip "needrestart" "no perl"
fi
tap_done
