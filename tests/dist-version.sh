#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the version is one: what configure.ac says is what the programs, the library, its .pc file, the
# Debian package, the first heading of NEWS.md and the symbols say, too.

. "$(dirname "$0")/lib.sh"

version=$(sed -n 's/^AC_INIT(\[qidmap\], \[\([^]]*\)\])$/\1/p' "$top_srcdir/configure.ac")
case $version in
[0-9]*.[0-9]*.[0-9]*) ok "configure.ac has version $version" ;;
*) bail_out "configure.ac: no version is found" ;;
esac

for program in src/qidmapd tools/qidmapctl tools/mount.qidmap; do
    if [ ! -x "$top_builddir/$program" ]; then
        skip "${program#*/} --version" "this build has no $program"
        continue
    fi
    is "$("$top_builddir/$program" --version | head -n 1 | awk '{ print $NF }')" "$version" \
        "${program#*/} --version"
done
is "$(sed -n 's/^Version: //p' "$top_builddir/store/qidmap.pc")" "$version" "qidmap.pc"
is "$(sed -n '1s/^qidmap (\(.*\)-[^-]*) .*/\1/p' "$top_srcdir/debian/changelog")" "$version" \
    "debian/changelog"
is "$(sed -n 's/^## \([^ ]*\).*/\1/p' "$top_srcdir/NEWS.md" | head -n 1)" "$version" "NEWS.md"

# A node of the symbols is named after the release that added it: none is of a release to come.
newest=$(sed -n 's/^QIDMAP_\([0-9.]*\) *{.*/\1/p' "$top_srcdir/store/libqidmap.sym" | sort -V | tail -n 1)
is "$(printf '%s\n' "$newest" "$version" | sort -V | tail -n 1)" "$version" "no symbol is newer than $version"

# What dpkg-gensymbols takes for the library's: the same names, in the same nodes.
nodes() { # lines NAME@NODE
    awk '/^QIDMAP_[0-9.]+ *\{/ { node = $1; print node "@" node }
        $1 ~ /^qidmap_[a-z_]+;$/ { print substr($1, 1, length($1) - 1) "@" node }' "$1"
}
is "$(diff <(nodes "$top_srcdir/store/libqidmap.sym" | sort) \
    <(sed -n 's/^ \([^ ]*@QIDMAP_[0-9.]*\) .*/\1/p' "$top_srcdir/debian/libqidmap0.symbols" | sort))" "" \
    "debian/libqidmap0.symbols lists what libqidmap.sym does"
tap_done
