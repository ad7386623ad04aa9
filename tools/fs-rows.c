/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See fs-rows.h. An affix entry whose suffix has L bits owns one number in 2^L; no two suffixes end
 * in each other, so that shares add up.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fs-rows.h"

#define TRIES 5 /* a writer may let the store grow meanwhile */

static struct fs_rows_one *find(const GPtrArray *rows, guint32 fs)
{
    guint low = 0, high = rows->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        struct fs_rows_one *one = g_ptr_array_index(rows, middle);
        if (one->row.fs == fs) {
            return one;
        }
        if (one->row.fs < fs) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const struct fs_rows_one *fs_rows_find(const GPtrArray *rows, guint32 fs)
{
    return find(rows, fs);
}

static int add(qidmap_store *store, GPtrArray *rows, guint32 fs, struct qidmap_error *error)
{
    struct fs_rows_one *one = g_new0(struct fs_rows_one, 1);

    one->row.size = sizeof one->row;
    g_ptr_array_add(rows, one);
    return qidmap_fs_get(store, fs, &one->row, error);
}

static int read_all(qidmap_store *store, progress *line, GPtrArray *rows,
                    struct qidmap_error *error)
{
    g_autoptr(qidmap_iter) iter = NULL;
    struct qidmap_stats stats = {.size = sizeof stats};
    struct fs_rows_one *one = NULL;
    struct qidmap_row row;
    guint64 done = 0;
    int code = qidmap_store_stats(store, &stats, error);

    if (code == 0) {
        code = qidmap_iter_open(store, &iter, error);
    }
    while (code == 0 && (code = qidmap_iter_next(iter, &row, error)) > 0) {
        code = 0;
        progress_tell(line, ++done, stats.fs_rows + stats.affix_rows + stats.full_rows);
        if (row.kind == QIDMAP_ROW_FS) {
            code = add(store, rows, row.fs, error);
            continue;
        }
        if (one == NULL || one->row.fs != row.fs) {
            one = find(rows, row.fs);
        }
        if (one != NULL && row.kind == QIDMAP_ROW_AFFIX) {
            one->share += 1.0 / (double)(G_GUINT64_CONSTANT(1) << MIN(row.bits, 63));
        } else if (one != NULL) {
            one->full++;
        }
    }
    return code;
}

int fs_rows_read(qidmap_store *store, progress *line, GPtrArray **rows)
{
    struct qidmap_error error;
    int code = -ESTALE;

    progress_begin(line, "counting", "rows");
    for (guint i = 0; code == -ESTALE && i < TRIES; i++) {
        g_autoptr(GPtrArray) seen = g_ptr_array_new_with_free_func(g_free);
        code = read_all(store, line, seen, &error);
        if (code == 0) {
            *rows = g_steal_pointer(&seen);
        }
    }
    progress_hide(line);
    return code < 0 ? cmd_fail(&error) : CMD_OK;
}
