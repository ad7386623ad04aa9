#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what the manual shows works: the example of libqidmap(3) compiles and runs, the example of
# qidmapd.conf(5) and the one that is installed are accepted, and the offsets in qidmap-format(5)
# are those of store/format.h.

. "$(dirname "$0")/lib.sh"

man=$top_srcdir/man
verbatim() { # FILE PATTERN: the indented block that begins at the first line like it
    awk -v p="$2" '$0 ~ "^    " && ($0 ~ p || on) { on = 1 } on && /^[^ ]/ { exit }
        on { sub(/^    /, ""); print }' "$1"
}

# the program of libqidmap(3)
mkdir "$tmp/work"
cp "$top_srcdir/store/qidmap.h" "$tmp/work/qidmap.h"
verbatim "$man/libqidmap.3.pod" '#include <fcntl.h>' >"$tmp/work/example.c"
library=$builddir/store/.libs
if [ -e "$library/libqidmap.so" ]; then
    # the library may have been built with a sanitizer, which the program then needs as well
    sanitizer=$(sed -n 's/^SANITIZER_CFLAGS = //p' "$builddir/Makefile")
    # shellcheck disable=SC2086 # a list of flags
    if check "the example of libqidmap(3) compiles" ${CC:-cc} -Wall -Wextra -Werror $sanitizer \
        -I"$tmp/work" "$tmp/work/example.c" -o "$tmp/work/example" -L"$library" -lqidmap \
        -Wl,-rpath,"$library" && [ -x "$tmp/work/example" ]; then
        first=$(cd "$tmp/work" && ./example example.c qidmap.h 2>&1)
        is "$(grep -cE '^[0-9]+ (example.c|qidmap.h)$' <<<"$first")" 2 "and maps two files"
        is "$(cd "$tmp/work" && ./example example.c qidmap.h 2>&1)" "$first" "to the same numbers again"
    else
        not_ok "and maps two files" "there is no program"
    fi
else
    not_ok "the example of libqidmap(3) compiles" "no $library/libqidmap.so: run make first"
fi

# The configuration files, with their places moved below ours. The files are good when the daemon
# gets as far as the directory, which is not there.
daemon=$(qidmapd_program) || bail_out "no qidmapd: run make first"
verbatim "$man/qidmapd.conf.5.pod" '\\[daemon\\]' >"$tmp/page.conf"
cp "$top_srcdir/dist/qidmapd.conf.example" "$tmp/example.conf"
for file in page example; do
    sed -i "s,/run/qidmapd,$tmp,; s,/var/lib/qidmap,$tmp,; s,/srv,$tmp/absent,; s,;tcp:[^;]*,," "$tmp/$file.conf"
    "$daemon" --config "$tmp/$file.conf" >"$tmp/log" 2>&1 </dev/null
    is "$?" 1 "qidmapd reads the $file and looks for its directory"
    check "which it names" grep -q "$tmp/absent/data" "$tmp/log"
    is "$(wc -l <"$tmp/log")" 1 "in one line"
done

# qidmap-migration(7): each message that it explains is in one of the programs; each block of commands says
# whether tests/guest/guest-migrate.sh runs it
programs=("$builddir"/tools/.libs/qidmapctl "$library"/libqidmap.so "$builddir"/tools/qidmapctl "$builddir"/src/qidmapd)
strange=
while IFS= read -r message; do
    grep -qaF -e "$message" "${programs[@]}" 2>/dev/null || strange="$strange$message; "
done < <(sed -n '/^=head1 ERRORS/,/^=head1 SEE/s/^=item C<\(.*\)>$/\1/p' "$man/qidmap-migration.7.pod")
is "$strange" "" "the messages that qidmap-migration(7) explains are those of the programs"
is "$(awk '/^    / && !on { on = 1; if (last !~ /^=for (test [a-z-]+|untested)$/) print }
    /^[^ ]/ { on = 0; last = $0 }' "$man/qidmap-migration.7.pod")" "" \
    "each block of commands in qidmap-migration(7) is marked"

# qidmap-format(5): every "offset type name" of store/format.h is in the page
missing=
while read -r offset type name; do
    grep -qE "^ +$offset +$(sed 's/[][]/\\&/g' <<<"$type") +.*$name" "$man/qidmap-format.5.pod" ||
        missing="$missing $offset:$type:$name"
done < <(sed -n '/^ \* Record of/,/lists:$\|^ \*   epoch/p' "$top_srcdir/store/format.h" |
    grep -oE '[0-9]+ (u8\[[0-9]+\]|u32|u64|i64) ("[A-Z]+"|[a-z_]+|0)' )
is "$missing" "" "qidmap-format(5) has every field of store/format.h"
for table in meta fs fsid affix byaffix full byfull; do
    line=$(sed -n "s/^ \*   \($table .*\)/\1/p" "$top_srcdir/store/format.h" | head -n 1 | tr -s ' ')
    is "$(sed -n "s/^    \($table .*\)/\1/p" "$man/qidmap-format.5.pod" | head -n 1 | tr -s ' ')" "$line" \
        "qidmap-format(5) has the table $table of store/format.h"
done
tap_done
