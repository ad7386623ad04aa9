/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Filesystems that were not seen for long. Long is counted in seconds that the store was served, so
 * that neither a clock that jumps nor a year in a drawer makes a filesystem old. Owns who goes; how
 * that is done is admin.c's.
 *
 * Whether a row is that of something mounted is not asked of the resolver, which wants proof: what
 * has anything in common with a mount stays.
 */
#include "config.h"

#include "store/prune.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/rows.h"

int qm_store_seen(struct qidmap_store *store, const struct qidmap_live *live, size_t n_live,
                  GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();
    uint64_t served;
    size_t i;
    int e;

    if (!store->writable)
        return qm_set_error(error, EROFS, "it is open for reading only");
    qm_store_lead(store);
    served = qm_store_served(store);
    for (i = 0; i < n_live; i++) {
        struct qm_fs *fs = qm_map_fs(&store->map, live[i].fs);

        if (fs && !fs->row.retired && fs->row.seen + QM_SEEN_FRESH <= served)
            qm_plan_change(store, plans, fs)->row.seen = served;
    }
    e = qm_plans_commit(store, plans, &store->meta, error);
    qm_store_unlead(store);
    return e;
}

/* One uuid of a btrfs is that of all its subvolumes, which no mount need show. */
static gboolean related(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    gsize size = a->kind == QIDMAP_FSID_BTRFS ? 16 : a->size;

    return a->kind == b->kind && a->size == b->size && size <= a->size &&
           memcmp(a->bytes, b->bytes, size) == 0;
}

static gboolean may_be_mounted(const struct qidmap_fs *row,
                               const struct qidmap_prune_fs_options *options)
{
    size_t i;
    uint32_t k, m;

    for (i = 0; i < options->n_live; i++) {
        if (options->live[i].fs == row->fs)
            return TRUE;
    }
    for (i = 0; i < options->n_mounted; i++) {
        const struct qidmap_identity *id = &options->mounted[i];

        if (id->count == 0 && strcmp(id->hints.type, row->hints.type) == 0)
            return TRUE;
        for (k = 0; k < id->count && k < QIDMAP_FSID_COUNT; k++) {
            for (m = 0; m < row->fsid_count; m++) {
                if (related(&id->fsid[k], &row->fsid[m]))
                    return TRUE;
            }
        }
    }
    return FALSE;
}

static GArray *all_numbers(struct qidmap_store *store)
{
    GArray *numbers = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    guint i;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++)
        g_array_append_val(numbers, ((const struct qm_fs *)store->map.list->pdata[i])->number);
    pthread_mutex_unlock(&store->map.lock);
    return numbers;
}

int qm_prune_fs(struct qidmap_store *store, const struct qidmap_prune_fs_options *options,
                struct qidmap_prune_result *result, GError **error)
{
    g_autoptr(GArray) numbers = NULL;
    uint64_t served;
    guint i;
    int e = 0;

    if (!store->writable && !(options->flags & QIDMAP_DRY_RUN))
        return qm_set_error(error, EROFS, "it is open for reading only");
    numbers = all_numbers(store);
    served = qm_store_served(store);
    for (i = 0; e == 0 && i < numbers->len; i++) {
        struct qidmap_fs row = {.size = sizeof(row)};
        uint32_t fs = g_array_index(numbers, uint32_t, i);
        gboolean done = TRUE;

        if ((options->fs != 0 && fs != options->fs) || qm_store_fs_get(store, fs, &row) != 0 ||
            row.retired)
            continue;
        result->rows++;
        /* What claims to have been seen in the future was seen now. */
        if (row.chosen || row.superseded || row.seen > served ||
            served - row.seen < options->unseen_for || may_be_mounted(&row, options))
            continue;
        if (!(options->flags & QIDMAP_DRY_RUN))
            e = qm_store_retire_unseen(store, fs, row.seen, &done, error);
        if (e != 0)
            break;
        if (!done)
            continue; /* it was mounted this moment */
        result->missing++;
        if (options->retired)
            options->retired(options->data, fs, served - row.seen);
    }
    return e;
}
