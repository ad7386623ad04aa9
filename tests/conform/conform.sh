#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Promise: qidmapd keeps 9P2000.L, case by case; `conform --list` tells what each case proves. What
# does not hold yet stands in expected-failures, each with its reason; a case that stands there and
# passes is an error.
# CONFORM_FLAGS adds options, as --torture or --seed N.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"

conform=$builddir/tests/conform/conform
[ -x "$conform" ] || bail_out "no $conform: run make first"
mkdir "$tmp/export"
# where the server is built with a sanitizer: what it has freed is not to count as its memory
export ASAN_OPTIONS=quarantine_size_mb=8${ASAN_OPTIONS:+:$ASAN_OPTIONS}
start_qidmapd --export "data=$tmp/export" --store memory: --listen "unix:$tmp/sock" \
    --subdirs yes ||
    bail_out "qidmapd did not start: $(cat "$qidmapd_log")"
# shellcheck disable=SC2086 # several options
"$conform" "unix:$tmp/sock" --aname data --dir "$tmp/export" --timeout 60 --writable --pid "$qidmapd_pid" \
    --expected "$top_srcdir/tests/conform/expected-failures" ${CONFORM_FLAGS:-}
status=$?
stop_qidmapd TERM
if [ "$qidmapd_status" != 0 ]; then
    tap_diag "qidmapd ended with status $qidmapd_status: $(tail -40 "$qidmapd_log")"
    echo "Bail out! qidmapd did not end well"
    exit 1
fi
exit "$status"
