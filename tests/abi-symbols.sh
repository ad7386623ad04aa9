#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: libqidmap.so exports the functions that qidmap.h declares, each with a version, and nothing
# else; store/libqidmap.sym says the same.
. "$(dirname "$0")/lib.sh"

so=$(find "$builddir/store" -name 'libqidmap.so' | head -1)
if [ -z "$so" ]; then
    skip_all "no shared library in this build"
fi
nm -D --defined-only "$so" >"$tmp/nm" || bail_out "nm does not read $so"

# "qidmap_open@@QIDMAP_0.1"; the nodes themselves are absolute symbols; what sanitizers add is theirs
awk '$2 != "A" { print $3 }' "$tmp/nm" | grep -vE '^(__(asan|ubsan|lsan|tsan|sanitizer|odr_asan|llvm|gcov)|_(init|fini|edata|end|_bss_start)|__bss_start)' |
    sort >"$tmp/exported"
is "$(grep -vE '^qidmap_[a-z_]+@@?QIDMAP_[0-9.]+$' "$tmp/exported")" "" \
    "only versioned qidmap_* symbols are exported"
sed 's/@.*//' "$tmp/exported" | sort -u >"$tmp/names"

sed -n 's/^[[:space:]]*\(qidmap_[a-z_]*\);.*/\1/p' "$top_srcdir/store/libqidmap.sym" | sort -u >"$tmp/sym"
is "$(diff "$tmp/sym" "$tmp/names")" "" "exported and listed in libqidmap.sym are the same"

# what the compiler takes for function declarations
{ printf '#include "store/qidmap.h"\n'; } >"$tmp/all.c"
${CC:-cc} -E -P -I"$top_srcdir" "$tmp/all.c" | tr '\n' ' ' | grep -oE 'qidmap_[a-z_]+ *\(' |
    tr -d ' (' | sort -u >"$tmp/declared"
is "$(diff "$tmp/declared" "$tmp/names")" "" "exported and declared in qidmap.h are the same"

is "$(sort "$tmp/sym" | uniq -d)" "" "no symbol is in two nodes"

# the check can fail: one more symbol
printf '0000000000001000 T qm_leaked\n' | awk '{ print $3 }' >"$tmp/leak"
is "$(grep -cvE '^qidmap_[a-z_]+@@?QIDMAP_[0-9.]+$' "$tmp/leak")" 1 "a leaked symbol would be noticed"
tap_done
