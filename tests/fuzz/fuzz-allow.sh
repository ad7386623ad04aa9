#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the parsers of addresses and allow lists survive their corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-allow" "${top_srcdir:-.}/tests/fuzz/corpus/allow"
