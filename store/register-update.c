/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * After markers were written: takes them over into the rows that waited for them, and into those of
 * the other parts of their filesystems, in one transaction.
 *
 * Must not know why a marker was wanted (register-marker.c), nor how it was written (mounted.c).
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

/* One filesystem has one marker, on its root. The rows of its parts take the new one, too: with the
 * old one, or without, they would not be known any more once devices were exchanged. */
static void plan_parts(struct qidmap_store *store, GArray *plans, const struct qidmap_fs *row,
                       const uint8_t old[16], GHashTable *planned)
{
    g_autoptr(GPtrArray) parts = qm_find_parts(store, row, old, NULL, planned);
    guint i;

    for (i = 0; i < parts->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(parts, i);
        struct qm_plan *plan;

        if (!fs->row.marker_open && memcmp(fs->row.hints.marker, row->hints.marker, 16) == 0)
            continue;
        plan = qm_plan_change(store, plans, fs);
        memcpy(plan->row.hints.marker, row->hints.marker, sizeof(row->hints.marker));
        plan->row.marker_open = 0;
    }
}

/* A marker that was written, and the one that was there before, or zero. */
struct replaced {
    const uint8_t *now;
    uint8_t old[16];
    gboolean spread; /* to the other parts */
};

static struct replaced *find_replaced(GArray *list, const uint8_t now[16])
{
    guint i;

    for (i = 0; i < list->len; i++) {
        struct replaced *r = &g_array_index(list, struct replaced, i);

        if (memcmp(r->now, now, 16) == 0)
            return r;
    }
    return NULL;
}

int qm_store_update(struct qidmap_store *store, const struct qidmap_identity *identities,
                    const uint32_t *numbers, size_t count, GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct replaced));
    g_autoptr(GHashTable) planned = g_hash_table_new(NULL, NULL); /* struct qm_fs */
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    size_t i;
    int e;

    qm_store_lead(store);
    for (i = 0; i < count; i++) { /* where a marker was waited for */
        struct qm_fs *fs = qm_map_fs(&store->map, numbers[i]);
        struct replaced r = {.now = identities[i].hints.marker};

        if (!fs || fs->row.retired || !fs->row.marker_open || find_replaced(list, r.now))
            continue; /* retired meanwhile, or somebody else was faster */
        memcpy(r.old, fs->row.hints.marker, sizeof(r.old));
        g_array_append_val(list, r);
    }
    for (i = 0; i < count; i++) {
        struct qm_fs *fs = qm_map_fs(&store->map, numbers[i]);
        const struct replaced *r = find_replaced(list, identities[i].hints.marker);
        struct qm_plan *plan;

        if (!fs || fs->row.retired || !r || !qm_takes_marker(&fs->row, r->old) ||
            !g_hash_table_add(planned, fs))
            continue;
        plan = qm_plan_change(store, plans, fs);
        plan->row.marker_open = 0;
        (void)qm_resolve_update(&plan->row, &identities[i], FALSE, now);
    }
    for (i = 0; i < count; i++) {
        struct qm_fs *fs = qm_map_fs(&store->map, numbers[i]);
        struct replaced *r = find_replaced(list, identities[i].hints.marker);
        struct qidmap_fs row;

        if (!fs || !r || r->spread || !g_hash_table_contains(planned, fs))
            continue;
        r->spread = TRUE;
        row = fs->row;
        memcpy(row.hints.marker, r->now, sizeof(row.hints.marker));
        plan_parts(store, plans, &row, r->old, planned);
    }
    e = qm_plans_commit(store, plans, &store->meta, error);
    qm_store_unlead(store);
    return e;
}
