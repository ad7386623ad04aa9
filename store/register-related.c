/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The few rows that the resolver must see: those that could be of the filesystems to be registered.
 * Owns which these are; a row that is left out here cannot be found again.
 *
 * Must not know which of them fits (resolve.c).
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

static int compare_rows(gconstpointer a, gconstpointer b)
{
    const struct qidmap_fs *x = *(const struct qidmap_fs *const *)a;
    const struct qidmap_fs *y = *(const struct qidmap_fs *const *)b;

    return x->fs < y->fs ? -1 : x->fs > y->fs;
}

static void add_row(GHashTable *seen, GPtrArray *rows, struct qm_fs *fs)
{
    struct qidmap_fs *row;

    if (!g_hash_table_add(seen, fs))
        return;
    row = g_new(struct qidmap_fs, 1);
    qm_map_row(fs, row);
    g_ptr_array_add(rows, row);
}

static void add_sharing(struct qm_map *map, GHashTable *seen, GPtrArray *rows,
                        const struct qidmap_fsid *fsid, uint32_t count)
{
    uint32_t i;
    guint k;

    for (i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        const GPtrArray *found = qm_fsindex_find(&map->index, &fsid[i]);

        for (k = 0; found && k < found->len; k++)
            add_row(seen, rows, g_ptr_array_index(found, k));
    }
}

/* A subvolume of btrfs with a marker: a live row of another superblock with that marker. */
static void add_copied(struct qm_map *map, GHashTable *seen, GPtrArray *rows,
                       const struct qidmap_identity *id, const struct qidmap_live *live,
                       size_t n_live)
{
    static const uint8_t zero[16];
    size_t i;

    if (id->count == 0 || memcmp(id->hints.marker, zero, sizeof(zero)) == 0)
        return;
    for (i = 0; i < MIN(id->count, QIDMAP_FSID_COUNT); i++) {
        if (id->fsid[i].kind == QIDMAP_FSID_BTRFS)
            break;
    }
    if (i == MIN(id->count, QIDMAP_FSID_COUNT))
        return;
    for (i = 0; i < n_live; i++) {
        struct qm_fs *fs = live[i].superblock != id->superblock ? qm_map_fs(map, live[i].fs) : NULL;

        if (fs && memcmp(fs->row.hints.marker, id->hints.marker, sizeof(zero)) == 0) {
            add_row(seen, rows, fs);
            return; /* one is enough */
        }
    }
}

/* Rows that share an identity with what is to be registered, and those that share one with these,
 * by number: copies. A live row is added where only the superblock can tell that it is meant, and
 * where it shows the marker of a subvolume. */
GPtrArray *qm_related_rows(struct qidmap_store *store, const struct qidmap_identity *identities,
                           size_t count, const struct qidmap_live *live, size_t n_live)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) named = g_hash_table_new(g_int64_hash, g_int64_equal);
    guint first;
    size_t i;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < count; i++) {
        add_sharing(&store->map, seen, rows, identities[i].fsid, identities[i].count);
        if (qm_identity_is_weak(&identities[i]))
            g_hash_table_add(named, (gpointer)&identities[i].superblock);
    }
    for (i = 0; g_hash_table_size(named) > 0 && i < n_live; i++) {
        struct qm_fs *fs = g_hash_table_contains(named, &live[i].superblock)
                               ? qm_map_fs(&store->map, live[i].fs)
                               : NULL;

        if (fs)
            add_row(seen, rows, fs);
    }
    for (i = 0; i < count; i++)
        add_copied(&store->map, seen, rows, &identities[i], live, n_live);
    first = rows->len;
    for (i = 0; i < first; i++) {
        const struct qidmap_fs *row = g_ptr_array_index(rows, i);

        add_sharing(&store->map, seen, rows, row->fsid, row->fsid_count);
    }
    pthread_mutex_unlock(&store->map.lock);
    g_ptr_array_sort(rows, compare_rows);
    return rows;
}

struct qidmap_fs *qm_related_row(GPtrArray *rows, uint32_t fs)
{
    guint low = 0, high = rows->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        struct qidmap_fs *row = g_ptr_array_index(rows, middle);

        if (row->fs == fs)
            return row;
        if (row->fs < fs)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
