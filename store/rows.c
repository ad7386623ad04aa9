/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plans: what a registration or an administrator's verb changes in rows of filesystems. One
 * transaction holds all plans of a call; tables in RAM change after it. What rows are to hold is
 * decided elsewhere.
 *
 * Rows of the full map of one filesystem may be millions. At most STEP of them are deleted in one
 * transaction, so that its size is bounded; the rest goes in further ones. Meanwhile nobody asks
 * for them: their filesystem is retired and has no heir, or is of a past boot.
 */
#include "config.h"

#include "store/rows.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"

#define STEP 8192u

GArray *qm_plans_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct qm_plan));
}

struct qm_plan *qm_plan_change(struct qidmap_store *store, GArray *plans, struct qm_fs *fs)
{
    struct qm_plan plan = {.fs = fs};

    pthread_mutex_lock(&store->map.lock);
    qm_map_row(fs, &plan.row);
    pthread_mutex_unlock(&store->map.lock);
    g_array_append_val(plans, plan);
    return &g_array_index(plans, struct qm_plan, plans->len - 1);
}

struct qm_plan *qm_plan_new_row(GArray *plans, const struct qidmap_fs *row)
{
    struct qm_plan plan = {.row = *row};

    g_array_append_val(plans, plan);
    return &g_array_index(plans, struct qm_plan, plans->len - 1);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int del(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    int e = txn->backend->ops->del(txn, table, (struct qm_bytes){r->key, r->key_size});

    return e == -ENOENT ? -EUCLEAN : e;
}

/* Deletes up to STEP rows of the full map that belong to fs; their ids are never given again.
 * *all: none is left. */
static int drop_full(struct qm_txn *txn, uint32_t fs, struct qm_meta *meta, gboolean *all)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    uint8_t first[4] = {(uint8_t)(fs >> 24), (uint8_t)(fs >> 16), (uint8_t)(fs >> 8), (uint8_t)fs};
    struct qidmap_object object;
    struct qm_record r;
    unsigned step;
    int e;

    *all = FALSE;
    for (step = 0; step <= STEP; step++) {
        struct qm_cursor *cursor;
        struct qm_bytes k, v;
        uint64_t id;

        e = ops->cursor_open(txn, QM_TABLE_FULL, &cursor);
        if (e != 0)
            return e;
        e = ops->cursor_seek(cursor, (struct qm_bytes){first, sizeof(first)}, &k, &v);
        if (e == 0)
            e = qm_parse_full(k, v, &object, &id);
        ops->cursor_close(cursor);
        if (e == -ENOENT || (e == 0 && object.fs != fs)) {
            *all = TRUE;
            return 0;
        }
        if (e != 0 || step == STEP)
            return e;
        qm_record_full(&r, &object, id);
        e = del(txn, QM_TABLE_FULL, &r);
        if (e == 0) {
            qm_record_byfull(&r, id, &object);
            e = del(txn, QM_TABLE_BYFULL, &r);
        }
        if (e != 0)
            return e;
        if (meta->full_rows-- == 0)
            return -EUCLEAN;
    }
    return 0;
}

static gboolean has_full(const struct qm_plan *plan)
{
    return plan->fs && (atomic_load(&plan->fs->state) & QM_STATE_HAS_FULL);
}

/* The identities that have rows in the table fsid: not those of retired rows. */
static uint32_t indexed(const struct qidmap_fs *row)
{
    return row->retired ? 0 : row->fsid_count;
}

static int write_fsids(struct qm_txn *txn, const struct qm_plan *plan, struct qm_meta *meta)
{
    const struct qidmap_fs *before = plan->fs ? &plan->fs->row : NULL, *after = &plan->row;
    uint32_t had = before ? indexed(before) : 0, has = plan->drop ? 0 : indexed(after), i;
    struct qm_record r;
    int e = 0;

    for (i = 0; e == 0 && i < had; i++) {
        if (qm_fsid_listed(after->fsid, has, &before->fsid[i]))
            continue;
        qm_record_fsid(&r, &before->fsid[i], after->fs);
        e = del(txn, QM_TABLE_FSID, &r);
        meta->fsid_rows--;
    }
    for (i = 0; e == 0 && i < has; i++) {
        if (before && qm_fsid_listed(before->fsid, had, &after->fsid[i]))
            continue;
        qm_record_fsid(&r, &after->fsid[i], after->fs);
        e = qm_txn_put(txn, QM_TABLE_FSID, &r);
        meta->fsid_rows++;
    }
    return e;
}

/* *full: the row still has rows in the full map. */
static int write_plan(struct qm_txn *txn, const struct qm_plan *plan, struct qm_meta *meta,
                      gboolean *full)
{
    gboolean all = TRUE;
    struct qm_record r;
    int e = write_fsids(txn, plan, meta);

    *full = has_full(plan);
    if (e == 0 && *full && (plan->drop || plan->drop_full)) {
        e = drop_full(txn, plan->row.fs, meta, &all);
        *full = !all;
        if (e == 0 && plan->drop && !all)
            e = -EUCLEAN; /* it was shrunk before */
    }
    if (e != 0)
        return e;
    qm_record_fs(&r, &plan->row, *full);
    if (plan->drop) {
        meta->fs_rows--;
        return del(txn, QM_TABLE_FS, &r);
    }
    if (!plan->fs)
        meta->fs_rows++;
    return qm_txn_put(txn, QM_TABLE_FS, &r);
}

static size_t rows_needed(const GArray *plans, const struct qm_meta *meta)
{
    size_t rows = 1;
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct qm_plan *plan = &g_array_index(plans, struct qm_plan, i);

        rows += 1 + (plan->fs ? indexed(&plan->fs->row) : 0) + indexed(&plan->row);
        if ((plan->drop || plan->drop_full) && has_full(plan))
            rows += 2 * (size_t)MIN(meta->full_rows, STEP);
    }
    return rows;
}

static int write_plans(struct qidmap_store *store, GArray *plans, const struct qm_meta *planned,
                       gboolean *full)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;
    guint i;
    int e;

    do {
        meta = *planned;
        meta.last_clean_stop = 0;
        e = ops->begin(store->backend, QM_TXN_WRITE, rows_needed(plans, planned), &txn);
        if (e != 0)
            return e;
        e = qm_store_check_meta(store, txn);
        for (i = 0; e == 0 && i < plans->len; i++)
            e = write_plan(txn, &g_array_index(plans, struct qm_plan, i), &meta, &full[i]);
        if (e == 0)
            e = qm_store_commit(store, txn, &meta);
        else
            ops->abort(txn);
        if (e == QM_GROW) {
            e = ops->grow(store->backend);
            if (e == 0)
                e = QM_GROW;
        }
    } while (e == QM_GROW);
    return e;
}

static void apply(struct qidmap_store *store, const GArray *plans, const gboolean *full)
{
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct qm_plan *plan = &g_array_index(plans, struct qm_plan, i);

        if (plan->drop)
            qm_map_drop(&store->map, plan->fs);
        else if (plan->fs)
            qm_map_set(&store->map, plan->fs, &plan->row, full[i]);
        else
            qm_map_add(&store->map, &plan->row, full[i]);
    }
    for (i = 0; i < plans->len; i++) { /* an alias that is new */
        const struct qm_plan *plan = &g_array_index(plans, struct qm_plan, i);
        struct qm_fs *fs = plan->drop ? NULL : qm_map_fs(&store->map, plan->row.fs);
        struct qm_fs *older =
            fs && plan->row.alias ? qm_map_fs(&store->map, plan->row.alias) : NULL;

        if (older && !atomic_load(&fs->older))
            qm_map_link(fs, older);
    }
}

/* Nothing but hints and further identities of rows that are there. They are noted the next time. */
static gboolean are_notes(const GArray *plans)
{
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct qm_plan *plan = &g_array_index(plans, struct qm_plan, i);
        const struct qidmap_fs *row = &plan->row;

        if (!plan->fs || plan->drop || plan->drop_full || plan->fs->policy != row->policy ||
            plan->fs->row.retired != row->retired || plan->fs->row.alias != row->alias ||
            plan->fs->row.chosen != row->chosen || plan->fs->row.superseded != row->superseded)
            return FALSE;
    }
    return TRUE;
}

/* A backend without a full map has no place for ids by file handle. */
static int check_kept(const struct qidmap_store *store, const GArray *plans, GError **error)
{
    guint i;

    for (i = 0; i < plans->len && !store->backend->ops->has_full; i++) {
        const struct qm_plan *plan = &g_array_index(plans, struct qm_plan, i);

        if (!plan->drop && plan->row.policy == QIDMAP_POLICY_HANDLE)
            return qm_set_error(error, EOPNOTSUPP,
                                "the %s filesystem at %s would get ids by file handle, which an "
                                "%s: store cannot keep: use an lmdb: store",
                                plan->row.hints.type, plan->row.hints.mount_path,
                                store->backend->ops->name);
    }
    return 0;
}

int qm_plans_commit(struct qidmap_store *store, GArray *plans, const struct qm_meta *planned,
                    GError **error)
{
    g_autofree gboolean *full = g_new0(gboolean, plans->len + 1);
    int e;

    if (plans->len == 0)
        return 0;
    e = qm_store_blocked(store, error);
    if (e != 0)
        return e;
    e = check_kept(store, plans, error);
    if (e != 0)
        return e;
    e = write_plans(store, plans, planned, full);
    if (e == -EUCLEAN)
        qm_store_damaged(store);
    if (e == -ENOSPC && are_notes(plans))
        return 0; /* known filesystems are served without room, too */
    if (e != 0)
        return qm_set_error(
            error, e, "cannot store the rows of %u filesystems: %s%s", plans->len, g_strerror(-e),
            e == -ENOSPC && !store->backend->ops->has_full ? "; an lmdb: store has more room" : "");
    apply(store, plans, full);
    return 0;
}

/* ---- what is left of the full map ------------------------------------------------------------ */

/* One transaction: up to STEP rows of the full map less, and all else as it was. */
static int drop_step(struct qidmap_store *store, struct qm_fs *fs, GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();

    qm_plan_change(store, plans, fs)->drop_full = TRUE;
    return qm_plans_commit(store, plans, &store->meta, error);
}

int qm_rows_sweep(struct qidmap_store *store, GError **error)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new();
    guint i;
    int e = 0;

    if (store->swept)
        return 0;
    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if ((atomic_load(&fs->state) & QM_STATE_HAS_FULL) &&
            (atomic_load(&qm_map_head(fs)->state) & QM_STATE_RETIRED))
            g_ptr_array_add(left, fs);
    }
    pthread_mutex_unlock(&store->map.lock);
    for (i = 0; e == 0 && i < left->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(left, i);

        while (e == 0 && (atomic_load(&fs->state) & QM_STATE_HAS_FULL))
            e = drop_step(store, fs, error);
    }
    store->swept = e == 0;
    return e;
}

int qm_rows_shrink(struct qidmap_store *store, struct qm_fs *fs, GError **error)
{
    int e = 0;

    /* Few rows in all are few rows of this one. */
    while (e == 0 && store->meta.full_rows > STEP && (atomic_load(&fs->state) & QM_STATE_HAS_FULL))
        e = drop_step(store, fs, error);
    return e;
}
