/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the 64-bit numbers are divided: between the ways to make ids, and among the filesystems of a
 * store. As tables, with bars on a terminal, and as JSON.
 */
#ifndef TOOLS_ID_SPACE_H
#define TOOLS_ID_SPACE_H

#include <json-glib/json-glib.h>

#include "store/qidmap.h"
#include "tools/fs-rows.h"

/* `columns`: of the terminal; 0: no bars. */
void id_space_print(const struct qidmap_stats *stats, const GPtrArray *rows, guint columns);

JsonObject *id_space_json(const GPtrArray *rows);

#endif
