#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the readers of xattrs survive every input of their corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-xattr" "${top_srcdir:-.}/tests/fuzz/corpus/xattr"
