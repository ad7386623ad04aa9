/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tells results as TAP or as JSON. Knows cases by their table alone.
 */
#ifndef TESTS_CONFORM_REPORT_H
#define TESTS_CONFORM_REPORT_H

#include "tests/conform/conform.h"

struct result {
    const struct conform_case *c;
    enum { PASSED, FAILED, SKIPPED } outcome;
    char *text;         /* what was wrong, or why it was skipped; owned by the caller */
    const char *reason; /* why it is known to fail; NULL: it must pass */
    gint64 ms;
};

void report_begin(gboolean json);
/* FALSE: other than expected (a case that is known to fail and passes counts, too) */
gboolean report_result(const struct result *r);
void report_gone(void);    /* the server does not answer any more: the rest cannot be tried */
gboolean report_end(void); /* FALSE: nothing was run */

#endif
