/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One filesystem in several rows: subvolumes of one btrfs, trees of one filesystem. Owns which rows
 * are parts of one, as they have its one marker together.
 *
 * Must not know when a marker is written or changed (register-marker.c, register-update.c).
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

#include "store/fsindex.h"

static const struct qidmap_fsid *btrfs_of(const struct qidmap_fs *row)
{
    uint32_t i;

    for (i = 0; i < row->fsid_count; i++) {
        if (row->fsid[i].kind == QIDMAP_FSID_BTRFS)
            return &row->fsid[i];
    }
    return NULL;
}

/* A row may take a new marker: it has none, or the one that was replaced, or waits for it. */
gboolean qm_takes_marker(const struct qidmap_fs *row, const uint8_t old[16])
{
    static const uint8_t zero[16];

    return row->marker_open || memcmp(row->hints.marker, zero, sizeof(zero)) == 0 ||
           memcmp(row->hints.marker, old, sizeof(zero)) == 0;
}

/* Subvolumes of one btrfs, or trees of one filesystem. */
static gboolean are_parts(const struct qidmap_fs *a, const struct qidmap_fs *b)
{
    const struct qidmap_fsid *x = btrfs_of(a), *y = btrfs_of(b);
    uint32_t i;

    if (x || y)
        return x && y && memcmp(x->bytes, y->bytes, 16) == 0;
    for (i = 0; strcmp(a->hints.tree, b->hints.tree) != 0 && i < a->fsid_count; i++) {
        if (a->fsid[i].kind != QIDMAP_FSID_WEAK &&
            qm_fsid_listed(b->fsid, b->fsid_count, &a->fsid[i]))
            return TRUE;
    }
    return FALSE;
}

static gboolean is_same_part(const struct qidmap_fs *a, const struct qidmap_fs *b)
{
    return a->fs != b->fs && !a->retired && strcmp(a->hints.tree, b->hints.tree) == 0 &&
           qm_same_device(&a->hints, &b->hints);
}

/* Another row could be meant as well: a copy was seen on this device once. `plans` may be NULL. */
static gboolean has_rival(struct qidmap_store *store, const struct qidmap_fs *row,
                          const GArray *plans)
{
    uint32_t i;
    guint k;

    for (i = 0; i < row->fsid_count; i++) {
        const GPtrArray *found = qm_fsindex_find(&store->map.index, &row->fsid[i]);

        for (k = 0; found && k < found->len; k++) {
            if (is_same_part(&((struct qm_fs *)g_ptr_array_index(found, k))->row, row))
                return TRUE;
        }
        for (k = 0; plans && k < plans->len; k++) {
            const struct qidmap_fs *other = &g_array_index(plans, struct qm_plan, k).row;

            if (qm_fsid_listed(other->fsid, other->fsid_count, &row->fsid[i]) &&
                is_same_part(other, row))
                return TRUE;
        }
    }
    return FALSE;
}

/* The rows of its other subvolumes and trees that were last seen on this device, mounted or not,
 * and that `old` or no marker is known of: those that are not `planned` yet, which they are then.
 */
GPtrArray *qm_find_parts(struct qidmap_store *store, const struct qidmap_fs *row,
                         const uint8_t old[16], const GArray *plans, GHashTable *planned)
{
    GPtrArray *parts = g_ptr_array_new();
    guint i;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if (!fs->row.retired && fs->row.fs != row->fs && qm_takes_marker(&fs->row, old) &&
            are_parts(&fs->row, row) && qm_same_device(&fs->row.hints, &row->hints) &&
            !has_rival(store, &fs->row, plans) && g_hash_table_add(planned, fs))
            g_ptr_array_add(parts, fs);
    }
    pthread_mutex_unlock(&store->map.lock);
    return parts;
}
