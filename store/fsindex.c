/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Identity -> rows. A hash table of small arrays: nearly all identities have one row, those of
 * copied images a few.
 */
#include "config.h"

#include "store/fsindex.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct node {
    guint64 seed;
    struct qidmap_fsid fsid;
    GPtrArray *rows;
};

gboolean qm_fsid_equal(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size &&
           memcmp(a->bytes, b->bytes, MIN(a->size, QIDMAP_FSID_BYTES)) == 0;
}

gboolean qm_fsid_listed(const struct qidmap_fsid *list, guint32 count,
                        const struct qidmap_fsid *fsid)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        if (qm_fsid_equal(&list[i], fsid))
            return TRUE;
    }
    return FALSE;
}

static guint node_hash(gconstpointer key)
{
    const struct node *node = key;

    return (guint)XXH3_64bits_withSeed(node->fsid.bytes, MIN(node->fsid.size, QIDMAP_FSID_BYTES),
                                       node->seed + node->fsid.kind);
}

static gboolean node_equal(gconstpointer a, gconstpointer b)
{
    return qm_fsid_equal(&((const struct node *)a)->fsid, &((const struct node *)b)->fsid);
}

static void node_free(gpointer data)
{
    struct node *node = data;

    g_ptr_array_free(node->rows, TRUE);
    g_free(node);
}

void qm_fsindex_init(struct qm_fsindex *index, guint64 seed)
{
    index->nodes = g_hash_table_new_full(node_hash, node_equal, node_free, NULL);
    index->seed = seed;
}

void qm_fsindex_clear(struct qm_fsindex *index)
{
    g_hash_table_destroy(index->nodes);
}

static struct node *find(const struct qm_fsindex *index, const struct qidmap_fsid *fsid)
{
    struct node key = {.seed = index->seed, .fsid = *fsid};

    return g_hash_table_lookup(index->nodes, &key);
}

void qm_fsindex_add(struct qm_fsindex *index, struct qm_fs *fs, const struct qidmap_fsid *fsid,
                    guint32 count)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        struct node *node = find(index, &fsid[i]);

        if (node == NULL) {
            node = g_new0(struct node, 1);
            node->seed = index->seed;
            node->fsid = fsid[i];
            node->rows = g_ptr_array_new();
            g_hash_table_add(index->nodes, node);
        }
        if (!g_ptr_array_find(node->rows, fs, NULL))
            g_ptr_array_add(node->rows, fs);
    }
}

void qm_fsindex_remove(struct qm_fsindex *index, struct qm_fs *fs, const struct qidmap_fsid *fsid,
                       guint32 count)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        struct node *node = find(index, &fsid[i]);

        if (node == NULL)
            continue;
        g_ptr_array_remove_fast(node->rows, fs);
        if (node->rows->len == 0)
            g_hash_table_remove(index->nodes, node);
    }
}

const GPtrArray *qm_fsindex_find(const struct qm_fsindex *index, const struct qidmap_fsid *fsid)
{
    const struct node *node = find(index, fsid);

    return node != NULL ? node->rows : NULL;
}
