#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes the golden store of this version in tests/data/format-N: a dump, and the files of an lmdb:
# store with the same rows, packed. Run it from the build folder once for each released format, and
# never again for that one: tests/golden.sh proves that what a release wrote is read for ever.
# Format 1 has not been released: it is made anew when its bytes change.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
format=${1:?usage: make-golden.sh FORMAT, from the build folder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests/unit-dump --golden >"$work/dump.json"
tools/qidmapctl load "$work/dump.json" --store "lmdb:$work/store" --latest
mkdir -p "$here/format-$format"
cp "$work/dump.json" "$here/format-$format/dump.json"
# a sparse file of a few pages in use: the used ones only, packed
rm -f "$work/store/lock" "$work"/store/gen.*/lock.mdb
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -czf \
    "$here/format-$format/lmdb.tar.gz" store
ls -l "$here/format-$format"
