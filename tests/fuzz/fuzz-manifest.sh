#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: the reader of manifests survives every one of its corpus, also cut at any place.
exec "${top_builddir:-.}/tests/fuzz/fuzz-manifest" "${top_srcdir:-.}/tests/fuzz/corpus/manifest"
