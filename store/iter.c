/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk over all rows: one snapshot of the backend, one cursor at a time, tables in the order
 * fs, affix, full. It reads the stored rows, not the tables in RAM, and checks each.
 */
#include "config.h"

#include "store/iter.h"

#include <errno.h>
#include <string.h>

struct qidmap_iter {
    struct qidmap_store *store;
    struct qm_txn *txn;
    struct qm_cursor *cursor; /* NULL: `table` is still to be opened */
    unsigned table;           /* index in tables[] */
};

static const enum qm_table tables[] = {QM_TABLE_FS, QM_TABLE_AFFIX, QM_TABLE_FULL};

int qm_iter_open(struct qidmap_store *store, struct qidmap_iter **iter)
{
    struct qm_txn *txn;
    int e = store->backend->ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn);

    if (e != 0)
        return e;
    *iter = g_new0(struct qidmap_iter, 1);
    (*iter)->store = store;
    (*iter)->txn = txn;
    return 0;
}

static int decode(enum qm_table table, struct qm_bytes k, struct qm_bytes v, struct qidmap_row *row)
{
    struct qidmap_fs fs;
    gboolean has_full;
    unsigned bits;
    int e;

    memset(row, 0, sizeof(*row));
    if (table == QM_TABLE_FS) {
        e = qm_parse_fs(k, v, &fs, &has_full);
        row->kind = QIDMAP_ROW_FS;
        row->fs = e == 0 ? fs.fs : 0;
    } else if (table == QM_TABLE_AFFIX) {
        e = qm_parse_affix(k, v, &row->fs, &bits, &row->top, &row->index);
        row->kind = QIDMAP_ROW_AFFIX;
        if (e == 0) {
            row->bits = bits;
            row->path = qm_affix_suffix(row->index);
        }
    } else {
        e = qm_parse_full(k, v, &row->object, &row->path);
        row->kind = QIDMAP_ROW_FULL;
        row->fs = row->object.fs;
    }
    return e == 0 ? 1 : e;
}

int qm_iter_next(struct qidmap_iter *iter, struct qidmap_row *row)
{
    const struct qm_backend_ops *ops = iter->store->backend->ops;
    struct qm_bytes k, v;
    int e;

    while (iter->table < G_N_ELEMENTS(tables)) {
        enum qm_table table = tables[iter->table];

        if (iter->cursor) {
            e = ops->cursor_next(iter->cursor, &k, &v);
        } else {
            e = ops->cursor_open(iter->txn, table, &iter->cursor);
            if (e == 0)
                e = ops->cursor_seek(iter->cursor, (struct qm_bytes){NULL, 0}, &k, &v);
        }
        if (e == 0)
            return decode(table, k, v, row);
        if (e != -ENOENT)
            return e;
        ops->cursor_close(iter->cursor);
        iter->cursor = NULL;
        iter->table++;
    }
    return 0;
}

const char *qm_iter_uri(const struct qidmap_iter *iter)
{
    return iter->store->uri;
}

void qm_iter_close(struct qidmap_iter *iter)
{
    const struct qm_backend_ops *ops;

    if (!iter)
        return;
    ops = iter->store->backend->ops;
    if (iter->cursor)
        ops->cursor_close(iter->cursor);
    ops->abort(iter->txn);
    g_free(iter);
}
