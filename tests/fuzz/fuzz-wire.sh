#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the wire codec survives every message of its corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-wire" "${top_srcdir:-.}/tests/fuzz/corpus/wire"
