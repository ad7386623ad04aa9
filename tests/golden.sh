#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what any version wrote is read by this one: the golden stores in tests/data open, are
# right, and give the ids that are noted in their dumps, which load, too.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

rows() { sed '1d;$d' "$1"; }

for golden in "$top_srcdir"/tests/data/format-*; do
    [ -d "$golden" ] || skip_all "no golden store"
    name=$(basename "$golden")
    mkdir "$tmp/$name"
    tar -C "$tmp/$name" -xzf "$golden/lmdb.tar.gz" || bail_out "cannot unpack $golden"
    chmod -R go-w "$tmp/$name"
    run verify --store "lmdb:$tmp/$name/store"
    exits 0 "$name: the store is right"
    run dump --store "lmdb:$tmp/$name/store" --json
    exits 0 "$name: the store is read"
    printf '%s\n' "$out" >"$tmp/now"
    is "$(rows "$tmp/now")" "$(rows "$golden/dump.json")" "$name: its rows are those that were written"
    run load "$golden/dump.json" --store "lmdb:$tmp/$name/loaded" --latest
    exits 0 "$name: the dump loads"
    run dump --store "lmdb:$tmp/$name/loaded" --json
    printf '%s\n' "$out" >"$tmp/now"
    is "$(rows "$tmp/now")" "$(rows "$golden/dump.json")" "$name: and has its rows"
    run lookup --store "lmdb:$tmp/$name/store" --no-scan --json 292
    exits 0 "$name: a known id is known"
    is "$(member inode <<<"$out")" 9 "$name: and means the inode that it always meant"
done
tap_done
