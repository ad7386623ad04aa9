#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: load survives every dump of its corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-load" "${top_srcdir:-.}/tests/fuzz/corpus/load"
