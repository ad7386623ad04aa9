#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the limits that qidmap-security(7) names are those that the daemon has without options, and
# those of its control socket; it has a line for each; and SECURITY.md refers to the page.

. "$(dirname "$0")/lib.sh"

page=$top_srcdir/man/qidmap-security.7.pod
program=$(find_program doc-limits) || bail_out "no tests/doc-limits: run make check first"
"$program" >"$tmp/code" 2>"$tmp/err" || bail_out "$(cat "$tmp/err")"
# what a module keeps to itself
sed -n 's/^#define \([A-Z]*_MS\) *\([0-9]*\).*/\1 \2/p' "$top_srcdir/src/control-line.c" >>"$tmp/code"

table() { # NAME: the lines of the indented block after "=for NAME"
    awk -v name="$1" '$0 == "=for " name { on = 1; next } on && /^[^ ]/ { exit } on && NF' "$page"
}

is "$(table limits | awk '$1 != "NAME" { print $1, $2, $3 }')" \
    "$(grep -E '^[a-z]+ ' "$tmp/code")" "what a session and all sessions may hold"
is "$(table options | awk '{ print $1, $2 }')" "$(grep '^--' "$tmp/code")" "the other options"
is "$(table control | awk '{ print $1, $2 }' | sort)" "$(grep -E '^[A-Z]' "$tmp/code" | sort)" \
    "the control socket"

# "files" are half of the descriptors, of which connections are half at most
is "$(sed -n 's/^connections-of-1000 //p' "$tmp/code")" 500 "connections: not more than half of those"
check "files: half of what the process may have" grep -qE '^ +limit_defaults\(&limits, share_of_descriptors\(settings\) \* 4\);' \
    "$top_srcdir/src/tuning.c"
check "of which there are eight parts" grep -qE 'return \(all - own\) / 8;' "$top_srcdir/src/tuning.c"

# ten capabilities
words=$(sed -n '/^=head1 THE SANDBOX/,/^=head1/p' "$page")
is "$(grep -cE '^ +CAP_[A-Z_]+,' "$top_srcdir/src/sandbox-caps.c")" 10 "ten capabilities are kept"
check "and the page says ten" grep -q 'all but ten capabilities' <<<"$words"

check "SECURITY.md refers to the page" grep -q 'qidmap-security(7)' "$top_srcdir/SECURITY.md"
check "so does qidmapd(8)" grep -q 'B<qidmap-security>(7)' "$top_srcdir/man/qidmapd.8.pod"
tap_done
