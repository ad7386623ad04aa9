/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of filesystems: hands what was identified to the resolver, with the few rows that could be
 * its own, makes the rows that it asks for, and keeps aliases and hints up to date. All of one call
 * is one transaction. Which row fits which filesystem is decided in resolve.c, how rows are written
 * in rows.c; what else goes into the transaction, and what comes after it, is in register-*.c.
 */
#include "config.h"

#include "store/register.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"

gboolean qm_work_is_refused(const struct work *w, size_t i)
{
    return w->reg->refuse && w->decisions[i].fs == 0 && w->decisions[i].duplicate &&
           !w->decisions[i].conflict;
}

static void fill_row(const struct work *w, size_t i, gboolean fresh, struct qidmap_fs *row,
                     gboolean *changed)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    uint64_t served = qm_store_served(w->store);
    const struct qidmap_identity *id = &w->reg->identities[i];
    size_t by = 0;
    gboolean wants = qm_work_wants_marker(w, i, &by);
    gboolean wanted = wants || qm_work_gets_marker(w, i);

    if (w->decisions[i].duplicate && !(row->flags & QIDMAP_IDENTITY_DUPLICATE)) {
        row->flags |= QIDMAP_IDENTITY_DUPLICATE;
        *changed = TRUE;
    }
    if (qm_resolve_update(row, id, fresh, now))
        *changed = TRUE;
    if (row->last_session != w->store->session || row->seen + QM_SEEN_FRESH <= served) {
        row->last_session = w->store->session;
        row->seen = served;
        *changed = TRUE;
    }
    /* A marker that is going to be replaced no longer speaks against its filesystem. It stays: as
     * long as it is there it must not speak for the one that it was copied from, either. */
    if (wants)
        w->marks[by] = TRUE;
    if (wanted != (row->marker_open != 0) ||
        (wanted && memcmp(row->hints.marker, id->hints.marker, sizeof(id->hints.marker)) != 0)) {
        memcpy(row->hints.marker, id->hints.marker, sizeof(row->hints.marker));
        row->marker_open = wanted;
        *changed = TRUE;
    }
}

static int new_row(struct work *w, size_t i, GError **error)
{
    const struct qidmap_identity *id = &w->reg->identities[i];
    struct qidmap_fs row;
    gboolean changed = TRUE;

    if (w->meta.next_fs > QM_FS_LAST ||
        (id->policy == QIDMAP_POLICY_EPHEMERAL && w->meta.next_instance > QM_INSTANCE_LAST))
        return qm_set_error(error, ENFILE,
                            "no further filesystem can be registered: the "
                            "counters of the store are used up");
    memset(&row, 0, sizeof(row));
    row.size = sizeof(row);
    row.fs = (uint32_t)w->meta.next_fs++;
    row.first_session = w->store->session;
    fill_row(w, i, TRUE, &row, &changed);
    if (row.policy == QIDMAP_POLICY_EPHEMERAL)
        row.instance = (uint32_t)w->meta.next_instance++;
    w->numbers[i] = row.fs;
    qm_plan_new_row(w->plans, &row);
    return 0;
}

struct ranked {
    uint32_t rank;
    size_t i;
};

static int compare_ranks(gconstpointer a, gconstpointer b)
{
    const struct ranked *x = a, *y = b;

    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Turns decisions into plans and numbers. */
static int make_plans(struct work *w, GError **error)
{
    g_autoptr(GArray) fresh = g_array_new(FALSE, FALSE, sizeof(struct ranked));
    struct company company = {.count = 0};
    guint first = w->plans->len, k;
    size_t i;
    int e = 0;

    for (i = 0; i < w->reg->count; i++) {
        const struct qm_decision *d = &w->decisions[i];
        const struct qidmap_fs *row = d->fs ? qm_related_row(w->rows, d->fs) : NULL;

        if (d->same_as != i || qm_work_is_refused(w, i))
            continue;
        if (!row) {
            struct ranked ranked = {d->rank, i};

            g_array_append_val(fresh, ranked);
            continue;
        }
        w->numbers[i] = d->fs;
    }
    g_array_sort(fresh, compare_ranks);
    for (k = 0; e == 0 && k < fresh->len; k++)
        e = new_row(w, g_array_index(fresh, struct ranked, k).i, error);
    if (e != 0)
        return e;
    for (i = 0; i < w->reg->count; i++) {
        if (w->decisions[i].same_as != i)
            w->numbers[i] = w->numbers[w->decisions[i].same_as];
        qm_company_add(&company, w->numbers[i]);
    }
    for (i = 0; i < w->reg->n_live && !company.many; i++)
        qm_company_add(&company, w->reg->live[i].fs);
    for (k = first; k < w->plans->len; k++)
        (void)qm_company_note(&g_array_index(w->plans, struct qm_plan, k).row, &company);
    for (i = 0; i < w->reg->count; i++) {
        struct qidmap_fs *row;
        gboolean changed = FALSE;

        if (w->decisions[i].same_as != i || w->decisions[i].fs == 0)
            continue;
        row = qm_related_row(w->rows, w->decisions[i].fs);
        fill_row(w, i, FALSE, row, &changed);
        if (qm_company_note(row, &company))
            changed = TRUE;
        if (changed)
            qm_plan_change(w->store, w->plans, qm_map_fs(&w->store->map, row->fs))->row = *row;
    }
    return 0;
}

static void tell(const struct work *w)
{
    size_t i;

    for (i = 0; i < w->reg->count; i++) {
        const struct qm_decision *d = &w->decisions[w->decisions[i].same_as];

        if (w->reg->flags)
            w->reg->flags[i] = (d->fs == 0 && w->numbers[i] != 0 ? QIDMAP_MOUNTED_NEW : 0) |
                               (d->duplicate ? QIDMAP_MOUNTED_DUPLICATE : 0) |
                               (d->policy ? QIDMAP_MOUNTED_POLICY : 0) |
                               (d->conflict ? QIDMAP_MOUNTED_CONFLICT : 0);
        if (w->reg->others)
            w->reg->others[i] = d->other;
        if (w->reg->marks)
            w->reg->marks[i] = w->marks[i];
        w->reg->numbers[i] = w->numbers[i];
    }
}

static int register_leading(struct qidmap_store *store, const struct qm_registration *reg,
                            GError **error)
{
    g_autofree struct qm_decision *decisions = g_new0(struct qm_decision, reg->count + 1);
    g_autofree uint32_t *numbers = g_new0(uint32_t, reg->count + 1);
    g_autofree gboolean *marks = g_new0(gboolean, reg->count + 1);
    g_autoptr(GArray) plans = qm_plans_new();
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GHashTable) marked = g_hash_table_new(g_int64_hash, g_int64_equal);
    const uint8_t *boot = qm_present_boot(reg->identities, reg->count);
    struct work w = {.store = store,
                     .reg = reg,
                     .decisions = decisions,
                     .numbers = numbers,
                     .marks = marks,
                     .plans = plans,
                     .marked = marked};
    struct qm_scene scene;
    int e = qm_rows_sweep(store, error);

    if (e == 0)
        e = qm_plan_past(store, boot, plans, error);
    if (e != 0)
        return e;
    w.meta = store->meta; /* sweeping advances it */
    w.rows = rows = qm_related_rows(store, reg->identities, reg->count, reg->live, reg->n_live);
    scene = (struct qm_scene){.rows = (const struct qidmap_fs *const *)rows->pdata,
                              .n_rows = rows->len,
                              .identities = reg->identities,
                              .count = reg->count,
                              .live = reg->live,
                              .n_live = reg->n_live,
                              .split_weak = reg->split_weak,
                              .present = reg->present};
    qm_resolve(&scene, decisions);
    qm_work_find_marked(&w);
    e = make_plans(&w, error);
    if (e == 0) {
        qm_work_open_parts(&w);
        e = qm_plans_commit(store, plans, &w.meta, error);
    }
    if (e != 0)
        return e;
    if (boot) {
        memcpy(store->boot, boot, BOOT_ID_SIZE);
        store->boot_known = TRUE;
    }
    tell(&w);
    return 0;
}

int qm_store_register(struct qidmap_store *store, const struct qm_registration *registration,
                      GError **error)
{
    int e;

    qm_store_lead(store);
    e = register_leading(store, registration, error);
    qm_store_unlead(store);
    return e;
}

int qm_store_recognise(struct qidmap_store *store, const struct qidmap_identity *identities,
                       size_t count, uint32_t *numbers)
{
    g_autoptr(GPtrArray) rows = qm_related_rows(store, identities, count, NULL, 0);
    g_autofree struct qm_decision *decisions = g_new0(struct qm_decision, count + 1);
    struct qm_scene scene = {.rows = (const struct qidmap_fs *const *)rows->pdata,
                             .n_rows = rows->len,
                             .identities = identities,
                             .count = count};
    size_t i;

    qm_resolve(&scene, decisions);
    for (i = 0; i < count; i++)
        numbers[i] = decisions[i].fs;
    return 0;
}
