#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl preflight tells whether a store knows the filesystem of an export, and if it does
# not, why: no row, retired, denied; with the exit status 0 where files keep their ids and 1 where
# not. It makes no row, takes no id, and works beside a daemon.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"
command -v jq >/dev/null || skip_all "no jq program"

field() { # JQ-EXPRESSION: of the last run's lines
    printf '%s\n' "$out" | jq -r "$1"
}
finds() { # DESCRIPTION: the last run found trouble, and had none itself
    is "$status $err" "1 " "$1"
}
first() { # JQ-EXPRESSION: of the line of the export itself
    field "select(.row == \"fs\" and .path == \"\") | $1"
}

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all
stored=$("$ctl" dump --store "$store" --json)
run preflight --json --store "$store" "$tree"
if [ "$(first .policy)" != affix ]; then
    skip_all "the temporary folder is on a filesystem of policy $(first .policy)"
fi
exits 0 "a store that knows the export, beside its daemon"
is "$(first '"\(.verdict) \(.fs) \(.reason)"')" "known 1 " "its filesystem is known"
is "$(first .certainty)" "$("$ctl" fs show --json --store "$store" 1 | member certainty)" "as surely as the row is"
is "$(field 'select(.row == "end") | "\(.known) \(.trouble)"')" "1 0" "and counted"
run preflight --store "$store" "$tree"
says 'known, filesystem 1$' "in words"
says '^Every file' "and no file gets another id"
printf '[daemon]\nstore=%s\n[export data]\npath=%s\n' "$store" "$tree" >"$tmp/conf"
run preflight --config "$tmp/conf" data
exits 0 "by the name of the export"

# a copy of the store, as for another host
"$ctl" copy "$store" "lmdb:$tmp/copy" >/dev/null || bail_out "no copy"
run preflight --json --store "lmdb:$tmp/copy" "$tree"
exits 0 "a copy of the store"
is "$(first .fs)" 1 "knows it as well"
is "$("$ctl" dump --store "$store" --json)" "$stored" "nothing has changed"
stop_qidmapd TERM

# policies, and rows that went
"$ctl" fs policy --yes --renumber --store "$store" 1 deny >/dev/null || bail_out "no policy"
denied=$("$ctl" dump --store "$store" --json)
run preflight --json --store "$store" "$tree"
finds "a filesystem that is denied"
is "$(first .verdict)" denied "is told"
is "$("$ctl" dump --store "$store" --json)" "$denied" "and nothing has changed"
"$ctl" fs retire --yes --store "lmdb:$tmp/copy" 1 >/dev/null || bail_out "not retired"
run preflight --json --store "lmdb:$tmp/copy" "$tree"
finds "a row that is retired"
is "$(first '"\(.verdict) \(.fs)"')" "new 0" "is as good as none"
is "$(first .reason | grep -c 'filesystem 1.*retired')" 1 "and the reason is told"

run preflight --store "$store" "$tmp/absent"
exits 3 "a folder that is not there"
run preflight --store "lmdb:$tmp/nostore" "$tree"
exits 3 "a store that is not there"
is "$(ls -d "$tmp/nostore" 2>/dev/null)" "" "and is not made"
run preflight "$tree"
exits 2 "no store"
run preflight --store "$store"
exits 2 "no export"
tap_done
