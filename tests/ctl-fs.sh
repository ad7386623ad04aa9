#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl fs list and show say in words how each filesystem is identified and how sure that
# is; fs identify says what each rung found, without a store and with one; fs alias, fs policy and fs
# retire change the row they were told to and no other, ask first, leave the ids of others alone, and
# fail with the server's name and pid while a server has the store.

if [ "$(id -u)" = 0 ] && [ -z "${QIDMAP_TEST_NS:-}" ] && unshare -m true 2>/dev/null; then
    QIDMAP_TEST_NS=1 exec unshare -m --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"

run fs identify "$tree"
exits 0 "fs identify needs no store"
says '^  [a-z-]+ +wins ' "one rung wins"
says '^  [a-z-]+ +no answer ' "others have no answer"
says '^  certainty ' "and how sure that is"
is "$(grep -c ' wins ' <<<"$out")" 1 "only one wins"
run fs identify "$tree" --json
exits 0 "fs identify --json"
says '"verdict":"wins"' "has the rung that wins"
is "$(grep -c '"fs":' <<<"$out")" 0 "and no number without a store"
run fs identify "$tree/absent"
exits 1 "fs identify of what is not there"
complains "absent" "names it"
run fs identify
exits 2 "fs identify of nothing"
run fs identify "$tree/$newline"
exits 0 "fs identify of an odd name"
says 'new\\x0aline' "which is shown in one line"

serve_tree
meet_all
run fs list --store "$store"
exits 0 "fs list while the server runs"
says '^1 +[^ ]+ +[a-z]+ +(sure|weak|ephemeral)' "says how sure"
run fs show --store "$store" 1
says '^identified by +[a-z]' "fs show says how it is identified"
run fs list --store "$store" --json
says '"certainty":"(sure|weak|ephemeral)"' "fs list --json has the certainty"
says '"alias":0' "and the alias"
run fs identify --store "$store" "$tree"
exits 0 "fs identify with a store"
says '^  in store +filesystem 1$' "finds the number"
run fs identify --store "$store" --json "$tree"
is "$(member fs <<<"$out" | tail -n 1)" 1 "and as JSON"

hold one
for verb in "retire 1" "policy 1 deny --renumber"; do
    # shellcheck disable=SC2086 # words
    run fs $verb --yes --store "$store"
    exits 3 "fs ${verb%% *} while a client is attached"
    complains "1 session is attached" "names the session"
    complains "unmount" "and says what to do"
done
release
stop_qidmapd
cp -r "$tmp/store" "$tmp/kept"

# wrong usage
run fs retire --store "$store"
exits 2 "fs retire without a number"
run fs retire --store "$store" 1 2
exits 2 "fs retire of two"
run fs alias --store "$store" 1
exits 2 "fs alias of one"
run fs policy --store "$store" 1
exits 2 "fs policy without a policy"
run fs policy --store "$store" 1 nonsense
exits 2 "fs policy of a word that is none"
complains "affix, handle, ephemeral and deny" "names the words"
run fs retire --yes --store "$store" 7
exits 1 "fs retire of a filesystem that is not there"
run fs alias --yes --store "$store" 1 1
exits 1 "fs alias of a filesystem and itself"
run fs retire --yes --store "lmdb:$tmp/absent" 1
exits 3 "fs retire in a store that is not there"
[ ! -e "$tmp/absent" ] && ok "which is not made" || not_ok "which is not made"

# nothing is done without a word
run fs retire --store "$store" 1 </dev/null
exits 2 "fs retire without a terminal and without --yes"
complains "--yes" "says what is missing"
run fs policy --renumber --store "$store" 1 deny </dev/null
exits 2 "fs policy --renumber without a terminal and without --yes"
if command -v script >/dev/null; then
    echo n | script -qec "$ctl fs retire --store $store 1" /dev/null >"$tmp/dialogue" 2>&1
    is $? 1 "a no on the terminal"
    is "$(grep -c 'Retire it? \[y/N\]' "$tmp/dialogue")" 1 "which was asked for"
fi
run fs show --store "$store" 1
is "$(grep -c '^retired' <<<"$out")" 0 "nothing was changed"

# a policy that would change ids
run fs policy --store "$store" 1 deny
exits 1 "fs policy of a filesystem that has given ids"
complains "--renumber" "says how to do it all the same"
ids_before=$(cat "$tmp/ids")
run fs policy --store "$store" 1 affix
exits 0 "fs policy that it has already"
run dump --store "$store"
dump_before=$out

run fs retire --yes --store "$store" 1
exits 0 "fs retire"
run fs show --store "$store" 1
says '^retired ' "fs show says so"
run fs list --store "$store"
says '^1 .*,retired' "fs list says so"
is "$("$ctl" dump --store "$store" | grep -c '^affix')" "$(grep -c '^affix' <<<"$dump_before")" \
    "its rows are still there"

serve_tree
meet_all
stop_qidmapd
run fs list --store "$store"
is "$(grep -cE '^[0-9]+ .*,retired' <<<"$out") $(grep -cE '^[0-9]+ ' <<<"$out")" "1 2" "served again it has a new number"
is "$(comm -12 <(grep -oE '^[0-9]+ ' "$tmp/ids" | sort -u) \
    <(grep -oE '^[0-9]+ ' <<<"$ids_before" | sort -u) | wc -l)" 0 "and none of its files has an id of before"

# the same store, with a policy: retired, and another in its place
rm -rf "$tmp/store"
cp -r "$tmp/kept" "$tmp/store"
run fs policy --renumber --yes --store "$store" 1 deny --json
exits 0 "fs policy --renumber"
is "$(member policy <<<"$out")" deny "the new row has the policy"
[ "$(sed -nE 's/^\{"row":"fs","fs":([0-9]+).*/\1/p' <<<"$out")" -gt 1 ] && ok "and a number of its own" ||
    not_ok "number" "$out"
run fs show --store "$store" 1
says '^retired ' "the old one is retired"

# clones of which nothing but their names is known
make_dump=$(find_program make-dump) || bail_out "no make-dump: run make check first"
"$make_dump" 1 "lmdb:$tmp/clones" clone >/dev/null || bail_out "make-dump"
run fs list --store "lmdb:$tmp/clones"
is "$(grep -c ',duplicate-by-names ' <<<"$out")" 2 "fs list names clones that only names tell apart"
run fs show --store "lmdb:$tmp/clones" 2
says 'told apart by its device and mount path only' "and fs show says what that means"

if ! have_mounts; then
    skip "fs alias" "$(have_root && echo "no mounts allowed" || echo "no root")"
    tap_done
fi
# a split: a filesystem that comes back under another identity
rm -rf "$tmp/store"
mkdir "$tmp/t"
old=11111111-1111-1111-1111-111111111111
new=22222222-2222-2222-2222-222222222222
truncate -s 16M "$tmp/image"
mkfs.ext4 -q -U "$old" "$tmp/image" || bail_out "mkfs.ext4"
have_loop || { skip "fs alias" "no loop devices"; tap_done; }
tree=$tmp/t
on_exit 'mountpoint -q "$tmp/t" && umount "$tmp/t"'
mount -o loop "$tmp/image" "$tmp/t" || bail_out "mount"
touch "$tmp/t/a" "$tmp/t/b"
serve_tree
meet_all
stop_qidmapd
sort "$tmp/ids" >"$tmp/ids.old"
umount "$tmp/t"
# tune2fs takes it only if it was checked in the second of its last mount, or later
e2fsck -f -p "$tmp/image" >"$tmp/words" 2>&1 && tune2fs -f -U "$new" "$tmp/image" >>"$tmp/words" 2>&1 ||
    bail_out "tune2fs: $(cat "$tmp/words")"
mount -o loop "$tmp/image" "$tmp/t" || bail_out "mount again"
touch "$tmp/t/late"
serve_tree
meet_all
stop_qidmapd
run fs list --store "$store"
says '^2 ' "another uuid gives another filesystem"
[ -z "$(comm -12 "$tmp/ids.old" <(sort "$tmp/ids"))" ] && ok "and other ids" ||
    not_ok "the split changed no ids"
run fs alias --yes --store "$store" 1 2
exits 0 "fs alias"
run fs list --store "$store"
says '^2 .*alias-of-1' "fs list says so"
run fs show --store "$store" 2
says '^alias +the ids of filesystem 1 ' "fs show says so"
serve_tree
meet_all
stop_qidmapd
is "$(comm -12 "$tmp/ids.old" <(sort "$tmp/ids") | wc -l)" "$(wc -l <"$tmp/ids.old")" \
    "all old files have their old ids again"
is "$(awk '{ print $1 }' "$tmp/ids" | sort | uniq -d | wc -l)" 0 "and no id comes twice"
tap_done
