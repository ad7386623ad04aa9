#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl verify calls a store right that is right, also while a daemon writes to it, tells
# in words what is wrong with one that is not, even where it cannot be opened, and never dies of it;
# its exit status says which it was.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
serve_tree
meet_all
run verify --store "$store"
exits 0 "verify while the daemon runs"
says '^clean: 1 filesystems, [0-9]+ affix entries, [0-9]+ full map rows, 0 problems$' "it is clean"
run verify --store "$store" --repair
exits 3 "--repair while the daemon runs"
complains "$qidmapd_pid" "and the daemon is named"

# while new files come
(for ((i = 0; i < 200; i++)); do
    mkdir -p "$tree/many/$i" && echo "$i" >"$tree/many/$i/file"
done
"$stat9p" "$address" tree -R >/dev/null) &
writer=$!
bad=
for ((i = 0; i < 20; i++)); do
    run verify --store "$store"
    [ "$status" = 0 ] || bad="$bad $status: $out $err"
done
wait "$writer"
is "$bad" "" "verify beside a daemon that writes, 20 times"
stop_qidmapd
run verify --store "$store" --json
exits 0 "verify --json after the daemon"
is "$(member problems <<<"$out")" 0 "and no problem is counted"
run verify --store "$store" --repair
exits 0 "--repair of a store that is right"
is "$(grep -c '^backup' <<<"$out")" 0 "needs no backup"

# damage
data=$tmp/store/gen.1/data.mdb
cp "$data" "$tmp/data"
size=$(wc -c <"$data")
truncate -s 5000 "$data"
run verify --store "$store"
is "$status" 1 "a truncated file is trouble"
says '^structure: ' "and it is said that the structure is damaged"
says '^damaged: ' "and that the store is"
run verify --store "$store" --json
is "$(head -n 1 <<<"$out" | member kind)" structure "--json names the kind"
cp "$tmp/data" "$data"
# A row of a filesystem, in the page in use and in older ones.
boot=$(cat /proc/sys/kernel/random/boot_id)
found=0
while IFS=: read -r at _; do
    printf 'x' | dd of="$data" bs=1 seek="$at" conv=notrunc 2>/dev/null
    found=$((found + 1))
done < <(grep -abo "$boot" "$data")
[ "$found" -gt 0 ] && ok "the rows hold the boot id" || not_ok "the rows hold the boot id"
run verify --store "$store"
is "$status" 1 "a changed byte of a row is trouble"
deaths=
for ((i = 0; i < 40; i++)); do
    at=$((4096 * (i % 12) + RANDOM % 4096))
    [ "$at" -lt "$size" ] || continue
    cp "$tmp/data" "$data"
    dd if=/dev/urandom of="$data" bs=1 seek="$at" count=16 conv=notrunc 2>/dev/null
    run verify --store "$store"
    case $status in
    0 | 1 | 3) ;; # most of the file may be free
    *) deaths="$deaths $at:$status" ;;
    esac
done
is "$deaths" "" "16 bytes changed anywhere: verify always comes back"
cp "$tmp/data" "$data"
rm "$tmp/store/current"
run verify --store "$store"
is "$status" 1 "a store without its file current is trouble"
says 'current' "and the file is named"
printf 'gen.1\n' >"$tmp/store/current"
run verify --store "$store"
exits 0 "and with it all is right again"

run verify --store "lmdb:$tmp/absent"
exits 3 "a store that is not there"
run verify
exits 2 "no store named"
run verify --store "$store" extra
exits 2 "an argument too many"
run verify --store memory:
exits 3 "memory: cannot be looked at"
tap_done
