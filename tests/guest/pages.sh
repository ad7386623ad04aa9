# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The blocks of docs/ that "<!-- test NAME -->" stands before, for the tests that run them. Sourced after
# tests/lib.sh.

block() { # NAME
    awk -v mark="<!-- test $1 -->" '$0 == mark { on = 1; next } on && /^[^ ]/ { exit }
        on && NF { sub(/^    /, ""); print }' "$top_srcdir"/docs/*.md
}
page() { # NAME: its commands, one by one
    local line count=0 status
    while IFS= read -r line <&7; do
        count=$((count + 1))
        eval "$line" >"$tmp/page.out" 2>&1 7<&- </dev/null
        status=$?
        is "$status" 0 "$1: $line"
        [ "$status" = 0 ] || tap_diag "$(tail -n 20 "$tmp/page.out")"
    done 7< <(block "$1")
    [ "$count" -gt 0 ] || not_ok "$1 has commands"
}
