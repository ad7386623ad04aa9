/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of the full map whose objects are gone are deleted, while the store is in use.
 *
 * An object that is missing when it is looked for may be back a moment later, with the same key,
 * and somebody may ask for its id and get that of the row. Deleting the row then would give a
 * living object a second id. So a step (1) collects rows and asks `look` which of them are missing,
 * with no lock; (2) takes the leader's role and makes the number `pruning` odd; (3) asks again
 * about the missing ones; (4) deletes those that are missing still, commits, and makes the number
 * even. A reader looks at the number before it looks for a row, and after it found one. Where it is
 * the same even one, the reader had its answer before (3), for an object that existed then: either
 * (3) sees it, or it has died since. Else the reader waits for the end of the step and asks again.
 *
 * An even id was bound by migration, and its row stays: it keeps the id from being bound again.
 *
 * A retired row that is asked first by its heir (an alias) is looked at together with the heir.
 */
#include "config.h"

#include "store/prune.h"

#include <errno.h>
#include <string.h>

#include "store/dump.h"
#include "store/error.h"

#define STEP 4096u /* rows looked at in a step */

struct row {
    struct qidmap_object object; /* as stored */
    uint64_t id;
};

struct pruner {
    struct qidmap_store *store;
    const struct qidmap_prune_options *options;
    struct qidmap_prune_result *result;
    struct qm_progress progress;
    GError **error;
    GArray *rows;                  /* struct row, of this step */
    struct qidmap_object *objects; /* STEP; what look() sees: fs is that of the head */
    uint8_t exists[STEP];
    uint8_t after[QM_KEY_MAX + 1]; /* the first key that was not looked at */
    size_t after_size;
    unsigned passed; /* rows of this step that stay anyway */
};

/* Reads up to STEP rows of `fs` from p->after on. *end: these were the last ones. */
static int collect(struct pruner *p, uint32_t fs, gboolean *end)
{
    const struct qm_backend_ops *ops = p->store->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    struct qm_txn *txn;
    int e = ops->begin(p->store->backend, QM_TXN_SNAPSHOT, 0, &txn);

    g_array_set_size(p->rows, 0);
    p->passed = 0;
    *end = FALSE;
    if (e != 0)
        return e;
    e = ops->cursor_open(txn, QM_TABLE_FULL, &cursor);
    if (e == 0) {
        e = ops->cursor_seek(cursor, (struct qm_bytes){p->after, p->after_size}, &k, &v);
        while (e == 0 && p->rows->len + p->passed < STEP) {
            struct row row;

            e = qm_parse_full(k, v, &row.object, &row.id);
            if (e != 0 || row.object.fs != fs)
                break;
            if (row.id & 1)
                g_array_append_val(p->rows, row);
            else
                p->passed++;
            memcpy(p->after, k.data, k.size); /* the next key is this one and a byte, or more */
            p->after[k.size] = 0;
            p->after_size = k.size + 1;
            e = ops->cursor_next(cursor, &k, &v);
        }
        ops->cursor_close(cursor);
    }
    ops->abort(txn);
    *end = e == -ENOENT || (e == 0 && p->rows->len + p->passed < STEP);
    return e == -ENOENT ? 0 : e;
}

/* Asks about all rows of the step, and keeps those that are missing. */
static int keep_missing(struct pruner *p)
{
    guint i, kept = 0;
    int r;

    for (i = 0; i < p->rows->len; i++) {
        p->objects[i] = g_array_index(p->rows, struct row, i).object;
        p->objects[i].fs = p->options->fs;
        p->exists[i] = 1;
    }
    r = p->rows->len ? p->options->look(p->options->data, p->objects, p->rows->len, p->exists) : 0;
    if (r != 0)
        return qm_set_error(p->error, r, "the objects of filesystem %u cannot be looked at: %s",
                            p->options->fs, g_strerror(r < 0 ? -r : r));
    for (i = 0; i < p->rows->len; i++) {
        if (!p->exists[i])
            g_array_index(p->rows, struct row, kept++) = g_array_index(p->rows, struct row, i);
    }
    g_array_set_size(p->rows, kept);
    return 0;
}

static int del(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    return txn->backend->ops->del(txn, table, (struct qm_bytes){r->key, r->key_size});
}

/* Deletes the rows of the step that still are what they were. */
static int delete_rows(struct pruner *p, struct qm_txn *txn, struct qm_meta *meta)
{
    guint i;
    int e = 0;

    for (i = 0; e == 0 && i < p->rows->len; i++) {
        const struct row *row = &g_array_index(p->rows, struct row, i);
        struct qm_record r;
        uint64_t id;

        e = qm_full_get(txn, &row->object, UINT64_MAX, &id);
        if (e == -ENOENT || (e == 0 && id != row->id)) {
            e = 0;
            continue;
        }
        if (e == 0) {
            qm_record_full(&r, &row->object, id);
            e = del(txn, QM_TABLE_FULL, &r);
        }
        if (e == 0) {
            qm_record_byfull(&r, id, &row->object);
            e = del(txn, QM_TABLE_BYFULL, &r);
        }
        if (e == 0 && meta->full_rows-- == 0)
            e = -EUCLEAN;
        e = e == -ENOENT ? -EUCLEAN : e;
    }
    return e;
}

static int write_step(struct pruner *p)
{
    const struct qm_backend_ops *ops = p->store->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;
    int e;

    do {
        meta = p->store->meta;
        meta.last_clean_stop = 0;
        e = ops->begin(p->store->backend, QM_TXN_WRITE, 2 * p->rows->len + 1, &txn);
        if (e != 0)
            return e;
        e = qm_store_check_meta(p->store, txn);
        if (e == 0)
            e = delete_rows(p, txn, &meta);
        if (e == 0)
            e = qm_store_commit(p->store, txn, &meta);
        else
            ops->abort(txn);
        if (e == QM_GROW) {
            e = ops->grow(p->store->backend);
            e = e == 0 ? QM_GROW : e;
        }
    } while (e == QM_GROW);
    if (e == -EUCLEAN)
        qm_store_damaged(p->store);
    return e;
}

static int delete_step(struct pruner *p)
{
    int e;

    qm_store_lead(p->store);
    e = qm_store_blocked(p->store, p->error);
    if (e == 0) {
        atomic_fetch_add(&p->store->pruning, 1);
        e = keep_missing(p);
        if (e == 0 && p->rows->len > 0) {
            e = write_step(p);
            if (e != 0)
                qm_set_error(p->error, e, "cannot delete rows: %s", g_strerror(-e));
        }
        atomic_fetch_add(&p->store->pruning, 1);
    }
    qm_store_unlead(p->store);
    return e;
}

static int prune_row(struct pruner *p, uint32_t fs)
{
    gboolean end = FALSE;
    int e = 0;
    guint i, looked;

    p->after[0] = (uint8_t)(fs >> 24);
    p->after[1] = (uint8_t)(fs >> 16);
    p->after[2] = (uint8_t)(fs >> 8);
    p->after[3] = (uint8_t)fs;
    p->after_size = 4;
    while (e == 0 && !end) {
        e = collect(p, fs, &end);
        if (e != 0)
            return qm_set_error(p->error, e, "cannot read: %s", g_strerror(-e));
        looked = p->rows->len + p->passed;
        e = keep_missing(p);
        if (e == 0 && p->rows->len > 0 && !(p->options->flags & QIDMAP_DRY_RUN))
            e = delete_step(p);
        if (e != 0)
            return e;
        p->result->rows += looked;
        p->result->missing += p->rows->len;
        for (i = 0; e == 0 && i < looked; i++)
            e = qm_progress_step(&p->progress);
        if (e != 0)
            qm_set_error(p->error, e, "ended on request; %" G_GUINT64_FORMAT " rows are deleted",
                         p->result->missing);
    }
    return e;
}

int qm_prune(struct qidmap_store *store, const struct qidmap_prune_options *options,
             struct qidmap_prune_result *result, GError **error)
{
    struct qm_fs *fs = qm_map_fs(&store->map, options->fs), *aliases[QM_ALIASES];
    struct pruner *p;
    uint32_t n, i;
    int e;

    if (!fs)
        return qm_set_error(error, ENOENT, "there is no filesystem %u: see `qidmapctl fs list`",
                            options->fs);
    if (!store->writable && !(options->flags & QIDMAP_DRY_RUN))
        return qm_set_error(error, EROFS, "it is open for reading only");
    p = g_new0(struct pruner, 1);
    p->store = store;
    p->options = options;
    p->result = result;
    p->error = error;
    p->progress.call = options->progress;
    p->progress.data = options->data;
    pthread_mutex_lock(&store->lock);
    p->progress.total = store->meta.full_rows;
    pthread_mutex_unlock(&store->lock);
    p->rows = g_array_new(FALSE, FALSE, sizeof(struct row));
    p->objects = g_new(struct qidmap_object, STEP);
    e = prune_row(p, fs->number);
    n = qm_map_aliases(fs, aliases);
    for (i = 0; e == 0 && i < n; i++)
        e = prune_row(p, aliases[i]->number);
    g_array_free(p->rows, TRUE);
    g_free(p->objects);
    g_free(p);
    return e;
}
