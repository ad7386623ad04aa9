#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: each page in docs/ says whether it was tried; what it calls tried is run by the tests of guests, and
# nothing that it marks for that is left out there; options of qidmapd and words of its mode that
# pages name exist; and no link of the documents leads nowhere.

. "$(dirname "$0")/lib.sh"

daemon=$(qidmapd_program) || bail_out "no qidmapd: run make first"
scripts=("$top_srcdir/tests/guest/guest-recipes.sh" "$top_srcdir/tests/guest/guest-libvirt.sh"
    "$top_srcdir/tests/guest/guest-systemd.sh" "$top_srcdir/tests/guest/guest-backup.sh")
help=$("$daemon" --help | grep -oE -e '--[a-z][a-z-]+' | sort -u)

for page in "$top_srcdir"/docs/*.md; do
    name=$(basename "$page")
    marks=$(sed -n 's/^<!-- test \([a-z-]*\) -->$/\1/p' "$page")
    if [ "$name" = README.md ]; then
        :
    elif [ -n "$marks" ]; then
        check "$name says that it was tried" grep -qE '^Tried\b' "$page"
    else
        check "$name says that it was not tried" grep -qE '^Untried\b' "$page"
        check_fails "$name does not say that it was" grep -qE '^Tried\b' "$page"
    fi
    for mark in $marks; do
        check "$name: the commands $mark are run" \
            grep -qE "(page|block|for name in) (.* )?$mark( |\)|;|\$)" "${scripts[@]}"
    done
    [ "$name" = README.md ] ||
        check "the index has $name" grep -qF "]($name)" "$top_srcdir/docs/README.md"
    while read -r option; do
        check "$name: qidmapd knows $option" grep -qxF -e "$option" <<<"$help"
    done < <(grep -E '^    qidmapd ' "$page" | grep -oE -e '--[a-z][a-z-]+' | sort -u)
done

# links within the tree
for page in "$top_srcdir"/*.md "$top_srcdir"/docs/*.md "$top_srcdir/bench/README.md"; do
    while read -r link; do
        check "${page#"$top_srcdir"/}: $link is there" test -e "$(dirname "$page")/${link%%#*}"
    done < <(grep -oE '\]\([^)]*\)' "$page" | sed 's/^](\(.*\))$/\1/' | grep -vE '^(https?:|#)' | sort -u)
done
tap_done
