/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What two lists of identities have in common, and which of them stand for one filesystem. Owns the
 * order of identities, which makes decisions the same in any order of the input.
 *
 * Must not know of claims and candidates (resolve-group.h): it compares two things and decides
 * nothing.
 */
#include "config.h"

#include "store/resolve-identity.h"

#include <string.h>

#include <xxhash.h>

#include "store/fsindex.h"
#include "store/hints.h"
#include "store/resolve.h"

static int compare_fsid(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return memcmp(a->bytes, b->bytes, MIN(a->size, QIDMAP_FSID_BYTES));
}

/* The first identity of a kind, or NULL. */
const struct qidmap_fsid *qm_fsid_of_kind(const struct qidmap_fsid *list, guint32 count,
                                          guint32 kind)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        if (list[i].kind == kind)
            return &list[i];
    }
    return NULL;
}

/* Both lists have identities of this kind, and none in common. */
gboolean qm_fsid_kind_differs(const struct qidmap_fsid *a, guint32 a_count,
                              const struct qidmap_fsid *b, guint32 b_count, guint32 kind)
{
    if (qm_fsid_of_kind(a, a_count, kind) == NULL || qm_fsid_of_kind(b, b_count, kind) == NULL)
        return FALSE;
    for (guint32 i = 0; i < MIN(a_count, QIDMAP_FSID_COUNT); i++) {
        if (a[i].kind == kind && qm_fsid_listed(b, b_count, &a[i]))
            return FALSE;
    }
    return TRUE;
}

enum shared qm_fsid_shares(const struct qidmap_fsid *a, guint32 a_count,
                           const struct qidmap_fsid *b, guint32 b_count)
{
    enum shared result = SHARED_NOTHING;

    for (guint32 i = 0; i < MIN(a_count, QIDMAP_FSID_COUNT); i++) {
        if (!qm_fsid_listed(b, b_count, &a[i]))
            continue;
        if (a[i].kind != QIDMAP_FSID_WEAK)
            return SHARED_MORE;
        result = SHARED_NAMES;
    }
    return result;
}

gboolean qm_identity_is_weak(const struct qidmap_identity *identity)
{
    for (guint32 i = 0; i < MIN(identity->count, QIDMAP_FSID_COUNT); i++) {
        if (identity->fsid[i].kind != QIDMAP_FSID_WEAK)
            return FALSE;
    }
    return TRUE;
}

gboolean qm_trees_differ(const char *a, const char *b)
{
    return a[0] != '\0' && b[0] != '\0' && !qm_hint_equal(a, b);
}

/* What divides a superblock into filesystems. */
static const guint32 dividing[] = {QIDMAP_FSID_BTRFS, QIDMAP_FSID_EPHEMERAL};

/* One filesystem? An equivalence: superblocks are equal, and so is what divides one. */
gboolean qm_filesystem_equal(gconstpointer x, gconstpointer y)
{
    const struct qidmap_identity *a = x, *b = y;

    if (a->superblock != b->superblock || strcmp(a->hints.tree, b->hints.tree) != 0)
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *p = qm_fsid_of_kind(a->fsid, a->count, dividing[i]);
        const struct qidmap_fsid *q = qm_fsid_of_kind(b->fsid, b->count, dividing[i]);
        if ((p == NULL) != (q == NULL) || (p != NULL && compare_fsid(p, q) != 0))
            return FALSE;
    }
    return TRUE;
}

guint qm_filesystem_hash(gconstpointer x)
{
    const struct qidmap_identity *id = x;
    guint64 hash = XXH3_64bits_withSeed(id->hints.tree, strlen(id->hints.tree), id->superblock);

    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *f = qm_fsid_of_kind(id->fsid, id->count, dividing[i]);
        if (f != NULL)
            hash = XXH3_64bits_withSeed(f->bytes, MIN(f->size, QIDMAP_FSID_BYTES), hash);
    }
    return (guint)hash;
}

/* The filesystem is that of a live row with its superblock. */
gboolean qm_is_live_row(const struct qidmap_identity *id, const struct qidmap_fs *row)
{
    if (id->hints.tree[0] != '\0' && !qm_hint_equal(id->hints.tree, row->hints.tree))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *f = qm_fsid_of_kind(id->fsid, id->count, dividing[i]);
        if ((f == NULL) != (qm_fsid_of_kind(row->fsid, row->fsid_count, dividing[i]) == NULL) ||
            (f != NULL && !qm_fsid_listed(row->fsid, row->fsid_count, f)))
            return FALSE;
    }
    if (qm_fsid_shares(id->fsid, id->count, row->fsid, row->fsid_count) != SHARED_NOTHING)
        return TRUE;
    /* The mount path is part of a name; the superblock says more. */
    return qm_identity_is_weak(id) &&
           qm_fsid_of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_WEAK) != NULL &&
           strcmp(id->hints.type, row->hints.type) == 0 &&
           qm_hint_equal(id->hints.source, row->hints.source);
}

/* A total order over identities by what is stable from boot to boot. */
int qm_identity_compare(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    const struct qidmap_hints *x = &a->hints, *y = &b->hints;
    int c;

    for (guint32 i = 0; i < MIN(MIN(a->count, b->count), QIDMAP_FSID_COUNT); i++) {
        if ((c = compare_fsid(&a->fsid[i], &b->fsid[i])) != 0)
            return c;
    }
    if (a->count != b->count)
        return a->count < b->count ? -1 : 1;
    if ((c = memcmp(x->marker, y->marker, sizeof x->marker)) != 0 ||
        (c = strcmp(x->backing, y->backing)) != 0 || (c = strcmp(x->dm_uuid, y->dm_uuid)) != 0 ||
        (c = strcmp(x->wwid, y->wwid)) != 0)
        return c;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    if ((c = strcmp(x->part_uuid, y->part_uuid)) != 0 || (c = strcmp(x->tree, y->tree)) != 0 ||
        (c = strcmp(x->mount_path, y->mount_path)) != 0)
        return c;
    if (x->backing[0] == '\0' && (c = strcmp(x->source, y->source)) != 0)
        return c;
    /* Alike in all that lasts; the superblock makes the order total within this call. */
    return a->superblock < b->superblock ? -1 : a->superblock > b->superblock;
}
