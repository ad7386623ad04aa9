/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the check of a store reads and mends rows: walks over a table, lookups beside them, and rows
 * that are written or taken away. Knows nothing of what a row means.
 *
 * Rows are read through cursors only: get() of a snapshot is not safe beside a map that grows.
 */
#include "config.h"

#include "store/verify-check.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"

#define REMOVE_MAX 65536u /* rows taken away in one pass; the next repair takes more */

/* The row with just that key: 0, -ENOENT or an errno. */
int qm_check_look(struct qm_check *c, enum qm_table table, struct qm_bytes key,
                  struct qm_bytes *value)
{
    struct qm_bytes k;
    int e = 0;

    if (!c->at[table])
        e = c->ops->cursor_open(c->txn, table, &c->at[table]);
    if (e == 0)
        e = c->ops->cursor_seek(c->at[table], key, &k, value);
    if (e == 0 && (k.size != key.size || memcmp(k.data, key.data, key.size) != 0))
        e = -ENOENT;
    return e;
}

/* Whether this very row is there: 0, -ENOENT (no such key), -EUCLEAN (another value; it goes to
 * *value), or an errno. */
int qm_check_has_row(struct qm_check *c, enum qm_table table, const struct qm_record *r,
                     struct qm_bytes *value)
{
    int e = qm_check_look(c, table, (struct qm_bytes){r->key, r->key_size}, value);

    if (e == 0 && (value->size != r->value_size || memcmp(value->data, r->value, value->size) != 0))
        e = -EUCLEAN;
    return e;
}

int qm_check_put(struct qm_check *c, enum qm_table table, const struct qm_record *r)
{
    return c->ops->put(c->txn, table, (struct qm_bytes){r->key, r->key_size},
                       (struct qm_bytes){r->value, r->value_size});
}

/* Notes that a row of the table that is walked is to go. Returns the flag for qm_check_tell(). */
uint32_t qm_check_take_away(struct qm_check *c, struct qm_bytes key)
{
    if (!c->v->mend)
        return QIDMAP_PROBLEM_MENDABLE;
    if (c->remove->len == REMOVE_MAX)
        return 0;
    g_ptr_array_add(c->remove, g_bytes_new(key.data, key.size));
    return QIDMAP_PROBLEM_MENDED;
}

/* All rows of the table that another one is derived from are there and can be read. */
gboolean qm_check_is_whole(struct qm_check *c, enum qm_table table, uint64_t noted)
{
    return c->v->have_meta && c->bad[table] == 0 && c->v->rows[table] == noted;
}

int qm_check_rows(struct qm_check *c, enum qm_table table, qm_check_row_func row)
{
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    guint i;
    int e = c->ops->cursor_open(c->txn, table, &cursor);

    if (e != 0)
        return qm_check_cannot(c, e);
    c->v->rows[table] = 0;
    e = c->ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
    while (e == 0) {
        c->v->rows[table]++;
        e = row(c, k, v);
        if (e == 0)
            e = qm_progress_step(&c->v->progress);
        if (e == 0)
            e = c->ops->cursor_next(cursor, &k, &v);
    }
    c->ops->cursor_close(cursor);
    for (i = 0; e == -ENOENT && i < c->remove->len; i++) {
        gsize size;
        const void *key = g_bytes_get_data(g_ptr_array_index(c->remove, i), &size);
        int r = c->ops->del(c->txn, table, (struct qm_bytes){key, size});

        if (r != 0)
            e = r == -ENOENT ? -EIO : r;
        else
            c->v->rows[table]--;
    }
    g_ptr_array_set_size(c->remove, 0);
    if (e == -ECANCELED)
        return qm_set_error(c->error, e, "ended on request");
    return e == -ENOENT ? 0 : qm_check_cannot(c, e);
}
