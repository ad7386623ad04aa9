#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl status, dump and fs show what is in a store, while a daemon has it open and
# after that, by --store and by --export, as tables and as JSON whose counts agree; status draws how the
# ids are divided on a terminal, and tells the same in numbers elsewhere.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all

for when in "while the daemon runs" "after it"; do
    run status --store "$store"
    exits 0 "status, $when"
    says '^backend +lmdb, format 1' "status shows the backend, $when"
    says '^filesystems +1$' "status counts the filesystems, $when"

    run status --store "$store" --json
    exits 0 "status --json, $when"
    is "$(member fs_rows <<<"$out")" 1 "status --json counts the filesystems, $when"
    stop=$(member last_clean_stop <<<"$out")
    if [ "$when" = "after it" ]; then
        [ "$stop" -gt 0 ] 2>/dev/null
    else
        [ "$stop" = 0 ]
    fi && ok "the clean stop is noted only $when" ||
        not_ok "the clean stop is noted, $when" "last_clean_stop is $stop"

    run dump --store "$store"
    exits 0 "dump, $when"
    says '^fs +1 ' "dump shows the filesystem, $when"
    says '^end: 1 filesystems, [0-9]+ affix entries, [0-9]+ full map rows$' "dump has a closing line, $when"

    run dump --store "$store" --json
    exits 0 "dump --json, $when"
    end=$(tail -n 1 <<<"$out")
    for kind in fs affix full; do
        is "$(member "${kind}_rows" <<<"$end")" "$(grep -c "^{\"row\":\"$kind\"" <<<"$out")" \
            "the closing line counts the $kind rows, $when"
    done
    is "$(grep -cv '^{.*}$' <<<"$out")" 0 "every line of dump --json is one object, $when"

    run fs list --store "$store"
    exits 0 "fs list, $when"
    says '^1 ' "fs list shows the filesystem, $when"
    run fs list --store "$store" --json
    exits 0 "fs list --json, $when"
    is "$(member row <<<"$out")" fs "fs list --json prints objects of fs rows, $when"
    run fs show --store "$store" 1
    exits 0 "fs show, $when"
    says '^identity +[a-z]+ [0-9a-f]' "fs show shows the identity, $when"
    says '^certainty +(sure|weak)' "fs show tells how sure that is, $when"
    run fs show --store "$store" 7
    exits 1 "fs show of a filesystem that is not there, $when"

    [ "$when" = "after it" ] || stop_qidmapd
done

# the picture: the four parts are all of the numbers, and those of affix entries are divided
run status --store "$store"
says '^FS +TYPE' "status shows the filesystems"
says "^1 .* sure" "and how sure each is"
parts=$(sed -n '/^id space/,/^$/p' <<<"$out" | sed -n 's/.* \([0-9.]*\) %.*/\1/p')
is "$(awk '{ sum += $1 } END { print sum, NR }' <<<"$parts")" "100 4" "the parts of the id space are all of it"
is "$(sed -n '/^affix entries by/,/^$/p' <<<"$out" | sed -n 's/.* \([0-9.]*\) %.*/\1/p' |
    awk '{ sum += $1 } END { print sum, NR }')" "25 2" "the affix entries of filesystems, and what is left, are a quarter"
LC_ALL=C grep -q '[#|]\|[^ -~]' <<<"$out" && not_ok "no bars in a pipe" "$out" || ok "no bars in a pipe"
grep -q ' $' <<<"$out" && not_ok "no blanks at the end of lines" "$out" || ok "no blanks at the end of lines"
run status --store "$store" --json
entries=$(member affix_rows <<<"${out%%\"filesystems\"*}")
is "$(member id_share <<<"$out")" "$(awk -v n="$entries" 'BEGIN { print n / 32 }')" \
    "each of the first four affix entries has 1/32 of all numbers"
if command -v script >/dev/null; then
    script -qec "stty cols 100; LC_ALL=C '$ctl' status --store '$store'" /dev/null </dev/null | tr -d '\r' >"$tmp/drawn"
    full=$(grep '^  full map' "$tmp/drawn" | tr -cd '#' | wc -c)
    affix=$(grep '^  affix entries' "$tmp/drawn" | tr -cd '#' | wc -c)
    [ "$full" -ge 20 ] && [ "$affix" = $(((full + 1) / 2)) -o "$affix" = $((full / 2)) ] &&
        ok "bars on a terminal have the length of their shares" ||
        not_ok "bars on a terminal have the length of their shares" "$(cat "$tmp/drawn")"
    given=$(sed -n '/^affix entries by/,$p' "$tmp/drawn" | tr -cd '#' | wc -c)
    [ "$given" -ge $((2 * full - 3)) ] && ok "what filesystems have, and what is left, fill a whole bar" ||
        not_ok "what filesystems have, and what is left, fill a whole bar" "$(cat "$tmp/drawn")"
    is "$(awk 'length($0) > 100 && /%/' "$tmp/drawn")" "" "the picture fits the terminal"
else
    skip "bars on a terminal" "no script (util-linux)"
fi

# by the name of an export
cat >"$tmp/qidmapd.conf" <<END
[daemon]
store=$store
listen=unix:$tmp/socket

[export tree]
dir=$tree

[export none]
dir=$tree
store=memory:
END
run status --export tree --config "$tmp/qidmapd.conf"
exits 0 "--export finds the store of [daemon]"
says "^store +lmdb:" "and shows it"
run status --export none --config "$tmp/qidmapd.conf"
exits 3 "--export of a memory: store cannot be looked at"
complains "memory:" "and that is said"
run status --export other --config "$tmp/qidmapd.conf"
exits 3 "--export of a name that the file does not have"
complains "\[export other\]" "and the group is named"
run status --export tree --config "$tmp/absent.conf"
exits 3 "--config of a file that is not there"
complains "absent.conf" "and the file is named"

# if json-glib reads it, so do others; jq is the judge where it is there
run dump --store "$store" --json
if command -v jq >/dev/null; then
    check "jq reads dump --json" jq -e -s 'length > 0' <<<"$out"
fi
tap_done
