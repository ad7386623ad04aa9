#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the store codec survives every row of its corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-codec" "${top_srcdir:-.}/tests/fuzz/corpus/codec"
