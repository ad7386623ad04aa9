/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filesystems of a store, each with its row, how many rows it has in the full map, and how much
 * of the id space its affix entries take. Reads every row of the store once.
 */
#ifndef TOOLS_FS_ROWS_H
#define TOOLS_FS_ROWS_H

#include <glib.h>

#include "store/qidmap.h"
#include "tools/progress.h"

struct fs_rows_one {
    struct qidmap_fs row;
    guint64 full;
    double share; /* of all 64-bit numbers, 0 ... 1 */
};

/* The filesystems ascending by number, struct fs_rows_one *; to be unref'ed. `line` may be NULL.
 * Returns an exit status; has told any error. */
int fs_rows_read(qidmap_store *store, progress *line, GPtrArray **rows);

/* That of a number, or NULL. */
const struct fs_rows_one *fs_rows_find(const GPtrArray *rows, guint32 fs);

/* As a table, for people (cmd-fs.c). */
void fs_rows_print(const GPtrArray *rows);

#endif
