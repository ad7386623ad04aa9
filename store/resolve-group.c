/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Step 1 of resolve.c: claims of the identities of a scene, and groups of the claims and rows that
 * identities connect. Owns the making and freeing of both, and the list of copied markers.
 *
 * Must not know which row fits: it sorts what can have to do with each other.
 */
#include "config.h"

#include "store/resolve-group.h"

#include <string.h>

#include <xxhash.h>

#include "store/fsindex.h"

static void claim_free(gpointer data)
{
    struct claim *claim = data;

    g_array_unref(claim->members);
    g_array_unref(claim->rows);
    g_free(claim);
}

/* Step 1. The least member speaks, so that the order of the input does not show. */
GPtrArray *qm_make_claims(const struct qm_scene *scene)
{
    GPtrArray *claims = g_ptr_array_new_with_free_func(claim_free);
    g_autoptr(GHashTable) homes = g_hash_table_new(qm_filesystem_hash, qm_filesystem_equal);

    for (guint i = 0; i < scene->count; i++) {
        struct claim *claim = g_hash_table_lookup(homes, &scene->identities[i]);
        if (claim == NULL) {
            claim = g_new0(struct claim, 1);
            claim->first = i;
            claim->row = -1;
            claim->members = g_array_new(FALSE, FALSE, sizeof(guint));
            claim->rows = g_array_new(FALSE, FALSE, sizeof(guint));
            g_hash_table_insert(homes, (gpointer)&scene->identities[i], claim);
            g_ptr_array_add(claims, claim);
        }
        g_array_append_val(claim->members, i);
        if (qm_identity_compare(&scene->identities[i], &scene->identities[claim->first]) < 0)
            claim->first = i;
    }
    return claims;
}

/* Sets of filesystems and rows: each points to another of its set, its root to itself. */
static guint root_of(guint *parent, guint i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

static guint hash_fsid(gconstpointer key)
{
    const struct qidmap_fsid *f = key;
    return (guint)XXH3_64bits_withSeed(f->bytes, MIN(f->size, QIDMAP_FSID_BYTES), f->kind);
}

static gboolean equal_fsid(gconstpointer a, gconstpointer b)
{
    return qm_fsid_equal(a, b);
}

static void connect_fsids(GHashTable *seen, guint *parent, const struct qidmap_fsid *list,
                          guint32 count, guint node)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        gpointer other;
        if (g_hash_table_lookup_extended(seen, &list[i], NULL, &other))
            parent[root_of(parent, node)] = root_of(parent, GPOINTER_TO_UINT(other));
        else
            g_hash_table_insert(seen, (gpointer)&list[i], GUINT_TO_POINTER(node));
    }
}

static void group_free(gpointer data)
{
    struct context *ctx = data;

    g_ptr_array_unref(ctx->claims);
    g_array_unref(ctx->mine);
    g_free(ctx);
}

/* Index of the row of that number, or -1. */
gint qm_scene_find_row(const struct qm_scene *scene, guint32 fs)
{
    gsize low = 0, high = scene->n_rows;

    while (low < high) {
        gsize middle = low + (high - low) / 2;
        if (scene->rows[middle]->fs == fs)
            return (gint)middle;
        if (scene->rows[middle]->fs < fs)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static guint hash_marker(gconstpointer key)
{
    return (guint)XXH3_64bits(key, sizeof(((struct qidmap_hints *)0)->marker));
}

static gboolean equal_marker(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(((struct qidmap_hints *)0)->marker)) == 0;
}

/* `superblock` shows a marker; `shown` has who showed it first. */
static void note_marker(GHashTable *shown, GHashTable *copied, const guint8 *marker,
                        const guint64 *superblock)
{
    const guint64 *first = g_hash_table_lookup(shown, marker);

    if (first == NULL)
        g_hash_table_insert(shown, (gpointer)marker, (gpointer)superblock);
    else if (*first != *superblock)
        g_hash_table_add(copied, (gpointer)marker);
}

/* Markers of btrfs that more than one superblock shows. */
GHashTable *qm_find_copied(const struct qm_scene *scene)
{
    g_autoptr(GHashTable) shown = g_hash_table_new(hash_marker, equal_marker);
    GHashTable *copied = g_hash_table_new(hash_marker, equal_marker);

    for (gsize i = 0; i < scene->count; i++) {
        const struct qidmap_identity *id = &scene->identities[i];
        if (qm_fsid_of_kind(id->fsid, id->count, QIDMAP_FSID_BTRFS) != NULL &&
            qm_has_marker(&id->hints))
            note_marker(shown, copied, id->hints.marker, &id->superblock);
    }
    for (gsize l = 0; g_hash_table_size(shown) > 0 && l < scene->n_live; l++) {
        gint r = qm_scene_find_row(scene, scene->live[l].fs);
        const struct qidmap_fs *row = r >= 0 ? scene->rows[r] : NULL;
        if (row != NULL && !row->marker_open && qm_has_marker(&row->hints) &&
            qm_fsid_of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_BTRFS) != NULL)
            note_marker(shown, copied, row->hints.marker, &scene->live[l].superblock);
    }
    return copied;
}

static struct context *group_at(GPtrArray *groups, struct context **by_root, guint root,
                                const struct qm_scene *scene, const gboolean *held,
                                GHashTable *copied)
{
    if (by_root[root] == NULL) {
        struct context *ctx = g_new0(struct context, 1);
        *ctx = (struct context){.scene = scene,
                                .identities = scene->identities,
                                .rows = scene->rows,
                                .mine = g_array_new(FALSE, FALSE, sizeof(guint)),
                                .claims = g_ptr_array_new(),
                                .held = held,
                                .copied = copied};
        by_root[root] = ctx;
        g_ptr_array_add(groups, ctx);
    }
    return by_root[root];
}

GPtrArray *qm_make_groups(const struct qm_scene *scene, GPtrArray *claims, const gboolean *held,
                          GHashTable *copied)
{
    GPtrArray *groups = g_ptr_array_new_with_free_func(group_free);
    gsize nodes = claims->len + scene->n_rows;
    g_autofree guint *parent = g_new(guint, nodes + 1);
    g_autofree struct context **by_root = g_new0(struct context *, nodes + 1);
    g_autoptr(GHashTable) seen = g_hash_table_new(hash_fsid, equal_fsid);
    g_autoptr(GHashTable) live = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < nodes; i++)
        parent[i] = i;
    for (guint c = 0; c < claims->len; c++) {
        const struct claim *claim = g_ptr_array_index(claims, c);
        for (guint m = 0; m < claim->members->len; m++) {
            const struct qidmap_identity *id =
                &scene->identities[g_array_index(claim->members, guint, m)];
            connect_fsids(seen, parent, id->fsid, id->count, c);
            if (qm_identity_is_weak(id)) /* the superblock of a live one may say more */
                g_hash_table_insert(live, (gpointer)&id->superblock, GUINT_TO_POINTER(c + 1));
        }
    }
    for (guint r = 0; r < scene->n_rows; r++)
        connect_fsids(seen, parent, scene->rows[r]->fsid, scene->rows[r]->fsid_count,
                      claims->len + r);
    for (gsize l = 0; l < scene->n_live && scene->n_rows > 0; l++) {
        guint c = GPOINTER_TO_UINT(g_hash_table_lookup(live, &scene->live[l].superblock));
        gint r = c != 0 ? qm_scene_find_row(scene, scene->live[l].fs) : -1;
        if (r >= 0)
            parent[root_of(parent, c - 1)] = root_of(parent, claims->len + (guint)r);
    }
    for (guint c = 0; c < claims->len; c++)
        g_ptr_array_add(group_at(groups, by_root, root_of(parent, c), scene, held, copied)->claims,
                        g_ptr_array_index(claims, c));
    for (guint r = 0; r < scene->n_rows; r++) {
        struct context *ctx = by_root[root_of(parent, claims->len + r)];
        if (ctx != NULL)
            g_array_append_val(ctx->mine, r);
    }
    return groups;
}
