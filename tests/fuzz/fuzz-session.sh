#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the daemon survives every session of the corpus, also cut at any place, answers each
# request once, and lets nothing out of the export.
exec "${top_builddir:-.}/tests/fuzz/fuzz-session" "${top_srcdir:-.}/tests/fuzz/corpus/session" 2>&1
