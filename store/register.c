/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of filesystems: hands what was identified to the resolver, makes the rows that it asks for,
 * keeps aliases and hints up to date, and drops the rows of ephemeral filesystems of past boots.
 * All of one call is one transaction. Which row fits which filesystem is decided in resolve.c, not
 * here.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/resolve.h"
#include "store/store.h"

#define BOOT_ID_SIZE 16u

/* A change of one row, applied in RAM after the commit. */
struct plan {
    struct qm_fs *fs; /* NULL: new */
    struct qidmap_fs row;
    gboolean drop;
};

static gboolean fsid_equal(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static gboolean has_fsid(const struct qidmap_fs *row, const struct qidmap_fsid *fsid)
{
    uint32_t i;

    for (i = 0; i < row->fsid_count; i++) {
        if (fsid_equal(&row->fsid[i], fsid))
            return TRUE;
    }
    return FALSE;
}

/* All rows as they stand; the caller frees with g_ptr_array_free(). */
static GPtrArray *all_rows(struct qidmap_store *store)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(g_free);
    guint i;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qidmap_fs *row = g_new(struct qidmap_fs, 1);

        qm_map_row(g_ptr_array_index(store->map.list, i), row);
        g_ptr_array_add(rows, row);
    }
    pthread_mutex_unlock(&store->map.lock);
    return rows;
}

/* The boot id that all ephemeral identities agree on, or NULL: then nothing is known to be past. */
static const uint8_t *present_boot(const struct qidmap_identity *identities, size_t count)
{
    const uint8_t *boot = NULL;
    uint32_t j;
    size_t i;

    for (i = 0; i < count; i++) {
        for (j = 0; j < identities[i].count; j++) {
            const struct qidmap_fsid *f = &identities[i].fsid[j];

            if (f->kind != QIDMAP_FSID_EPHEMERAL || f->size < BOOT_ID_SIZE)
                continue;
            if (boot && memcmp(boot, f->bytes, BOOT_ID_SIZE) != 0)
                return NULL;
            boot = f->bytes;
        }
    }
    return boot;
}

static gboolean is_past(const struct qidmap_fs *row, const uint8_t *boot)
{
    uint32_t i;

    if (!boot || row->policy != QIDMAP_POLICY_EPHEMERAL || row->fsid_count == 0)
        return FALSE;
    for (i = 0; i < row->fsid_count; i++) {
        if (row->fsid[i].kind != QIDMAP_FSID_EPHEMERAL || row->fsid[i].size < BOOT_ID_SIZE ||
            memcmp(row->fsid[i].bytes, boot, BOOT_ID_SIZE) == 0)
            return FALSE;
    }
    return TRUE;
}

static struct plan *plan_add(GArray *plans, struct qm_fs *fs, const struct qidmap_fs *row)
{
    struct plan plan = {.fs = fs, .row = *row};

    g_array_append_val(plans, plan);
    return &g_array_index(plans, struct plan, plans->len - 1);
}

/* Turns decisions into plans and numbers. `meta` is advanced. */
static int make_plans(const struct qidmap_identity *identities, size_t count,
                      const struct qm_decision *decisions, GPtrArray *rows, struct qm_meta *meta,
                      GArray *plans, struct qm_map *map, uint32_t *numbers, GError **error)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree size_t *order = g_new(size_t, count + 1);
    size_t n_new = 0, i, j;
    guint k;

    for (i = 0; i < count; i++) {
        const struct qm_decision *d = &decisions[i];

        if (d->same_as != i)
            continue;
        if (d->fs == 0) { /* insert by rank */
            for (j = n_new++; j > 0 && decisions[order[j - 1]].rank > d->rank; j--)
                order[j] = order[j - 1];
            order[j] = i;
            continue;
        }
        for (k = 0; k < rows->len; k++) {
            struct qidmap_fs row = *(const struct qidmap_fs *)g_ptr_array_index(rows, k);
            uint32_t flags = row.flags;

            if (row.fs != d->fs)
                continue;
            numbers[i] = d->fs;
            if (d->duplicate)
                row.flags |= QIDMAP_IDENTITY_DUPLICATE;
            if (qm_resolve_update(&row, &identities[i], FALSE, now) || row.flags != flags)
                plan_add(plans, qm_map_fs(map, row.fs), &row);
        }
    }
    for (j = 0; j < n_new; j++) {
        struct qidmap_fs row;

        i = order[j];
        if (meta->next_fs > QM_FS_LAST || (identities[i].policy == QIDMAP_POLICY_EPHEMERAL &&
                                           meta->next_instance > QM_INSTANCE_LAST))
            return qm_set_error(error, ENFILE,
                                "no further filesystem can be registered: the "
                                "counters of the store are used up");
        memset(&row, 0, sizeof(row));
        row.size = sizeof(row);
        row.fs = (uint32_t)meta->next_fs++;
        if (decisions[i].duplicate)
            row.flags |= QIDMAP_IDENTITY_DUPLICATE;
        (void)qm_resolve_update(&row, &identities[i], TRUE, now);
        if (row.policy == QIDMAP_POLICY_EPHEMERAL)
            row.instance = (uint32_t)meta->next_instance++;
        numbers[i] = row.fs;
        plan_add(plans, NULL, &row);
    }
    for (i = 0; i < count; i++) {
        if (decisions[i].same_as != i && decisions[i].same_as < count)
            numbers[i] = numbers[decisions[i].same_as];
    }
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int del(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    int e = txn->backend->ops->del(txn, table, (struct qm_bytes){r->key, r->key_size});

    return e == -ENOENT ? -EUCLEAN : e;
}

/* The rows of the full map that belong to fs: their ids are never given again. */
static int drop_full(struct qm_txn *txn, uint32_t fs, struct qm_meta *meta)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    uint8_t first[4] = {(uint8_t)(fs >> 24), (uint8_t)(fs >> 16), (uint8_t)(fs >> 8), (uint8_t)fs};
    struct qidmap_object object;
    struct qm_record r;
    int e;

    for (;;) {
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
        if (e == -ENOENT || (e == 0 && object.fs != fs))
            return 0;
        if (e != 0)
            return e;
        qm_record_full(&r, &object, id);
        e = del(txn, QM_TABLE_FULL, &r);
        if (e == 0) {
            qm_record_byfull(&r, id, &object);
            e = del(txn, QM_TABLE_BYFULL, &r);
        }
        if (e != 0)
            return e;
        meta->full_rows--;
    }
}

static int write_plan(struct qm_txn *txn, const struct plan *plan, struct qm_meta *meta)
{
    struct qidmap_fs none = {.fsid_count = 0};
    const struct qidmap_fs *before = plan->fs ? &plan->fs->row : &none;
    gboolean has_full = plan->fs && (atomic_load(&plan->fs->state) & QM_STATE_HAS_FULL);
    struct qm_record r;
    uint32_t i;
    int e = 0;

    for (i = 0; e == 0 && i < before->fsid_count; i++) {
        if (!plan->drop && has_fsid(&plan->row, &before->fsid[i]))
            continue;
        qm_record_fsid(&r, &before->fsid[i], plan->row.fs);
        e = del(txn, QM_TABLE_FSID, &r);
        meta->fsid_rows--;
    }
    for (i = 0; e == 0 && !plan->drop && i < plan->row.fsid_count; i++) {
        if (has_fsid(before, &plan->row.fsid[i]))
            continue;
        qm_record_fsid(&r, &plan->row.fsid[i], plan->row.fs);
        e = qm_txn_put(txn, QM_TABLE_FSID, &r);
        meta->fsid_rows++;
    }
    if (e != 0)
        return e;
    qm_record_fs(&r, &plan->row, has_full);
    if (!plan->drop) {
        if (!plan->fs)
            meta->fs_rows++;
        return qm_txn_put(txn, QM_TABLE_FS, &r);
    }
    meta->fs_rows--;
    e = del(txn, QM_TABLE_FS, &r);
    return e == 0 && has_full ? drop_full(txn, plan->row.fs, meta) : e;
}

static int write_plans(struct qidmap_store *store, GArray *plans, const struct qm_meta *planned)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;
    guint i;
    int e;

    do {
        meta = *planned;
        meta.last_clean_stop = 0;
        e = ops->begin(store->backend, QM_TXN_WRITE, 8 * (size_t)plans->len + 1, &txn);
        if (e != 0)
            return e;
        for (i = 0; e == 0 && i < plans->len; i++)
            e = write_plan(txn, &g_array_index(plans, struct plan, i), &meta);
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

static void apply(struct qidmap_store *store, const GArray *plans)
{
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct plan *plan = &g_array_index(plans, struct plan, i);

        if (plan->drop) {
            qm_map_drop(&store->map, plan->fs);
        } else if (plan->fs) {
            pthread_mutex_lock(&store->map.lock);
            plan->fs->row = plan->row;
            pthread_mutex_unlock(&store->map.lock);
        } else {
            qm_map_add(&store->map, &plan->row, FALSE);
        }
    }
}

/* Nothing but hints and further identities of rows that are there. They are noted the next time. */
static gboolean are_notes(const GArray *plans)
{
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct plan *plan = &g_array_index(plans, struct plan, i);

        if (!plan->fs || plan->drop || plan->fs->policy != plan->row.policy)
            return FALSE;
    }
    return TRUE;
}

/* A backend without a full map has no place for ids by file handle. */
static int check_kept(const struct qidmap_store *store, const GArray *plans, GError **error)
{
    guint i;

    for (i = 0; i < plans->len; i++) {
        const struct plan *plan = &g_array_index(plans, struct plan, i);

        if (!plan->drop && plan->row.policy == QIDMAP_POLICY_HANDLE &&
            !store->backend->ops->has_full)
            return qm_set_error(error, EOPNOTSUPP,
                                "the %s filesystem at %s needs ids by file handle, which an %s: "
                                "store cannot keep: use an lmdb: store",
                                plan->row.hints.type, plan->row.hints.mount_path,
                                store->backend->ops->name);
    }
    return 0;
}

static int register_leading(struct qidmap_store *store, const struct qidmap_identity *identities,
                            size_t count, uint32_t *numbers, GError **error)
{
    g_autoptr(GPtrArray) rows = all_rows(store);
    g_autoptr(GArray) plans = g_array_new(FALSE, FALSE, sizeof(struct plan));
    g_autofree struct qm_decision *decisions = g_new0(struct qm_decision, count + 1);
    const uint8_t *boot = present_boot(identities, count);
    struct qm_meta meta = store->meta;
    guint i = 0;
    int e;

    while (i < rows->len) {
        const struct qidmap_fs *row = g_ptr_array_index(rows, i);

        if (is_past(row, boot)) {
            plan_add(plans, qm_map_fs(&store->map, row->fs), row)->drop = TRUE;
            g_ptr_array_remove_index(rows, i);
        } else {
            i++;
        }
    }
    qm_resolve((const struct qidmap_fs *const *)rows->pdata, rows->len, identities, count,
               decisions);
    e = make_plans(identities, count, decisions, rows, &meta, plans, &store->map, numbers, error);
    if (e == 0)
        e = check_kept(store, plans, error);
    if (e != 0 || plans->len == 0)
        return e;
    if (atomic_load(&store->broken))
        return qm_set_error(error, EIO, "a write to the store failed: close it and open it again");
    e = write_plans(store, plans, &meta);
    if (e == -EUCLEAN)
        atomic_store(&store->broken, e); /* damage: nothing new is mapped any more */
    if (e == -ENOSPC && are_notes(plans))
        return 0; /* known filesystems are served without room, too */
    if (e != 0)
        return qm_set_error(
            error, e, "cannot store the rows of %u filesystems: %s%s", plans->len, g_strerror(-e),
            e == -ENOSPC && !store->backend->ops->has_full ? "; an lmdb: store has more room" : "");
    apply(store, plans);
    return 0;
}

int qm_store_register(struct qidmap_store *store, const struct qidmap_identity *identities,
                      size_t count, uint32_t *numbers, GError **error)
{
    g_autofree uint32_t *found = g_new0(uint32_t, count + 1);
    int e;

    qm_store_lead(store);
    e = register_leading(store, identities, count, found, error);
    qm_store_unlead(store);
    if (e == 0 && count)
        memcpy(numbers, found, count * sizeof(*found));
    return e;
}

int qm_store_recognise(struct qidmap_store *store, const struct qidmap_identity *identities,
                       size_t count, uint32_t *numbers)
{
    g_autoptr(GPtrArray) rows = all_rows(store);
    g_autofree struct qm_decision *decisions = g_new0(struct qm_decision, count + 1);
    size_t i;

    qm_resolve((const struct qidmap_fs *const *)rows->pdata, rows->len, identities, count,
               decisions);
    for (i = 0; i < count; i++)
        numbers[i] = decisions[decisions[i].same_as < count ? decisions[i].same_as : i].fs;
    return 0;
}
