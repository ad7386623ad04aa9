/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which filesystems of one registration want a marker of their own, and which rows wait for it.
 * Owns that choice.
 *
 * Must not know how a marker is written (mounted.c, marker.c), nor do it.
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

static gboolean is_known_by_marker(const struct qidmap_identity *id)
{
    uint32_t i;

    for (i = 0; i < MIN(id->count, QIDMAP_FSID_COUNT); i++) {
        if (id->fsid[i].kind == QIDMAP_FSID_MARKER)
            return TRUE;
    }
    return FALSE;
}

/* Whether the filesystem that identity i stands for wants a marker of its own; the identity by
 * which it can get one, else NULL. */
gboolean qm_work_wants_marker(const struct work *w, size_t i, size_t *by)
{
    static const uint8_t zero[16];
    const struct qm_decision *d = &w->decisions[i];
    const struct qidmap_identity *id = &w->reg->identities[i];
    gboolean has = memcmp(id->hints.marker, zero, sizeof(zero)) != 0;
    size_t k;

    if (!w->reg->can_mark || id->policy == QIDMAP_POLICY_EPHEMERAL ||
        id->policy == QIDMAP_POLICY_DENY)
        return FALSE;
    /* Several FUSE filesystems may show one folder, and have one marker for ever: a new one for one
     * of them is one for all. Their names tell them apart. */
    if (has && is_known_by_marker(id))
        return FALSE;
    if (!d->copied && (has || (!d->duplicate && !qm_identity_is_weak(id))))
        return FALSE;
    for (k = 0; k < w->reg->count; k++) {
        if (w->decisions[k].same_as == i && w->reg->can_mark[k]) {
            *by = k;
            return TRUE;
        }
    }
    return FALSE;
}

/* Another part of its superblock gets a marker, which then is its own. */
gboolean qm_work_gets_marker(const struct work *w, size_t i)
{
    const struct qidmap_identity *id = &w->reg->identities[i];

    return id->policy != QIDMAP_POLICY_EPHEMERAL && id->policy != QIDMAP_POLICY_DENY &&
           g_hash_table_contains(w->marked, &id->superblock);
}

void qm_work_find_marked(struct work *w)
{
    size_t i, by;

    for (i = 0; i < w->reg->count; i++) {
        if (w->decisions[i].same_as == i && !qm_work_is_refused(w, i) &&
            qm_work_wants_marker(w, i, &by))
            g_hash_table_add(w->marked, (gpointer)&w->reg->identities[i].superblock);
    }
}

/* The rows of parts that are not mounted wait for the marker, too. */
void qm_work_open_parts(struct work *w)
{
    g_autoptr(GHashTable) planned = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) done = g_hash_table_new(g_int64_hash, g_int64_equal);
    size_t i;
    guint k;

    if (g_hash_table_size(w->marked) == 0)
        return;
    for (k = 0; k < w->plans->len; k++)
        g_hash_table_add(planned, g_array_index(w->plans, struct qm_plan, k).fs);
    for (i = 0; i < w->reg->count; i++) {
        const struct qidmap_identity *id = &w->reg->identities[i];
        const struct qidmap_fs *row = NULL;
        g_autoptr(GPtrArray) parts = NULL;
        struct qidmap_fs copy;

        if (w->decisions[i].same_as != i || !qm_work_gets_marker(w, i))
            continue;
        for (k = 0; k < w->plans->len && !row; k++) {
            if (g_array_index(w->plans, struct qm_plan, k).row.fs == w->numbers[i])
                row = &g_array_index(w->plans, struct qm_plan, k).row;
        }
        if (!row || !g_hash_table_add(done, (gpointer)&id->superblock))
            continue;
        copy = *row; /* the plans move */
        parts = qm_find_parts(w->store, &copy, id->hints.marker, w->plans, planned);
        for (k = 0; k < parts->len; k++)
            qm_plan_change(w->store, w->plans, g_ptr_array_index(parts, k))->row.marker_open = 1;
    }
}
