/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Statistics of a daemon as lines for people: what top shows. Knows nothing of terminals but how
 * wide a character is.
 */
#ifndef TOOLS_STATS_VIEW_H
#define TOOLS_STATS_VIEW_H

#include <json-glib/json-glib.h>

/* Lines without their ends, strings that g_free() frees: at most `rows` of at most `columns` (0: as
 * many as there are). With `then`, an earlier state of the same daemon, numbers are of the time
 * between, and rates; else of all the time. */
GPtrArray *stats_view(JsonObject *now, JsonObject *then, guint columns, guint rows);

/* A line cut to `columns`, for the caller to free; 0: as it is. Control characters are escaped. */
char *stats_fit(const char *text, guint columns);

#endif
