#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the installed header stands alone: it compiles as strict C99, C11 and C17, and as C++11 and
# later, with every warning an error and no other header before it.
. "$(dirname "$0")/lib.sh"

here=$top_srcdir/tests
cc=${CC:-cc}
cxx=${CXX:-c++}

for std in c99 c11 c17; do
    check "compile-header.c as $std" $cc -std=$std -pedantic-errors -Wall -Wextra -Werror \
        -I"$top_srcdir" -o "$tmp/c-$std" "$here/compile-header.c"
    check "and it runs" "$tmp/c-$std"
done
for std in c++11 c++17 c++20; do
    check "compile-header.cc as $std" $cxx -std=$std -pedantic-errors -Wall -Wextra -Werror \
        -I"$top_srcdir" -o "$tmp/cxx-$std" "$here/compile-header.cc"
    check "and it runs" "$tmp/cxx-$std"
done

# the header's own lines, alone in a translation unit
printf '#include "store/qidmap.h"\n#include "store/qidmap.h"\nextern int nothing;\n' >"$tmp/twice.c"
check "twice in one file" $cc -std=c99 -pedantic-errors -Wall -Wextra -Werror -I"$top_srcdir" \
    -c -o "$tmp/twice.o" "$tmp/twice.c"

# this test can fail: a header that needs glib
sed 's/#include <stdint.h>/typedef guint32 uint32_t;/' "$top_srcdir/store/qidmap.h" >"$tmp/bad.h"
printf '#include "bad.h"\nextern int nothing;\n' >"$tmp/bad.c"
check_fails "a header that leans on another one is noticed" $cc -std=c99 -pedantic-errors \
    -I"$tmp" -c -o "$tmp/bad.o" "$tmp/bad.c"
tap_done
