/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of filesystems: hands what was identified to the resolver, with the few rows that could be
 * its own, makes the rows that it asks for, keeps aliases and hints up to date, notes which rows
 * were live together, and drops the rows of ephemeral filesystems of past boots. All of one call is
 * one transaction. Which row fits which filesystem is decided in resolve.c, how rows are written in
 * rows.c.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/resolve.h"
#include "store/rows.h"
#include "store/store.h"

#define BOOT_ID_SIZE 16u

/* ---- the rows that could be meant ------------------------------------------------------------ */

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
static GPtrArray *related_rows(struct qidmap_store *store, const struct qidmap_identity *identities,
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

static struct qidmap_fs *row_of(GPtrArray *rows, uint32_t fs)
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

/* ---- past boots ------------------------------------------------------------------------------ */

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

    if (row->instance == 0 || row->fsid_count == 0)
        return FALSE;
    for (i = 0; i < row->fsid_count; i++) {
        if (row->fsid[i].kind != QIDMAP_FSID_EPHEMERAL || row->fsid[i].size < BOOT_ID_SIZE ||
            memcmp(row->fsid[i].bytes, boot, BOOT_ID_SIZE) == 0)
            return FALSE;
    }
    return TRUE;
}

/* Plans to drop rows of past boots. Looks at all rows, once for each boot. */
static int plan_past(struct qidmap_store *store, const uint8_t *boot, GArray *plans, GError **error)
{
    g_autoptr(GPtrArray) past = g_ptr_array_new();
    guint i;
    int e = 0;

    if (!boot || (store->boot_known && memcmp(store->boot, boot, BOOT_ID_SIZE) == 0))
        return 0;
    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if (is_past(&fs->row, boot))
            g_ptr_array_add(past, fs);
    }
    pthread_mutex_unlock(&store->map.lock);
    for (i = 0; e == 0 && i < past->len; i++) {
        e = qm_rows_shrink(store, g_ptr_array_index(past, i), error);
        if (e == 0)
            qm_plan_change(store, plans, g_ptr_array_index(past, i))->drop = TRUE;
    }
    return e;
}

/* ---- rows that were live together ------------------------------------------------------------ */

/* Everything that is live when the call is over, as far as it can be listed. */
struct company {
    uint32_t fs[QIDMAP_FS_MET + 1];
    uint32_t count;
    gboolean many; /* more than these */
};

static void company_add(struct company *company, uint32_t fs)
{
    uint32_t at = 0;

    while (at < company->count && company->fs[at] < fs)
        at++;
    if (fs == 0 || company->many || (at < company->count && company->fs[at] == fs))
        return;
    if (company->count == G_N_ELEMENTS(company->fs)) {
        company->many = TRUE;
        return;
    }
    memmove(company->fs + at + 1, company->fs + at, (company->count - at) * sizeof(company->fs[0]));
    company->fs[at] = fs;
    company->count++;
}

/* TRUE when the row changed. */
static gboolean note_company(struct qidmap_fs *row, const struct company *company)
{
    struct company met = {.count = 0};
    uint32_t i;

    if (row->met_many)
        return FALSE;
    for (i = 0; i < row->met_count; i++)
        company_add(&met, row->met[i]);
    for (i = 0; i < company->count; i++) {
        if (company->fs[i] != row->fs)
            company_add(&met, company->fs[i]);
    }
    row->met_many = company->many || met.many || met.count > QIDMAP_FS_MET;
    if (!row->met_many && met.count == row->met_count)
        return FALSE;
    row->met_count = MIN(met.count, QIDMAP_FS_MET);
    memcpy(row->met, met.fs, row->met_count * sizeof(row->met[0]));
    return TRUE;
}

/* ---- one filesystem in several rows -----------------------------------------------------------
 */

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
static gboolean takes_marker(const struct qidmap_fs *row, const uint8_t old[16])
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
static GPtrArray *find_parts(struct qidmap_store *store, const struct qidmap_fs *row,
                             const uint8_t old[16], const GArray *plans, GHashTable *planned)
{
    GPtrArray *parts = g_ptr_array_new();
    guint i;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if (!fs->row.retired && fs->row.fs != row->fs && takes_marker(&fs->row, old) &&
            are_parts(&fs->row, row) && qm_same_device(&fs->row.hints, &row->hints) &&
            !has_rival(store, &fs->row, plans) && g_hash_table_add(planned, fs))
            g_ptr_array_add(parts, fs);
    }
    pthread_mutex_unlock(&store->map.lock);
    return parts;
}

/* ---- decisions into plans -------------------------------------------------------------------- */

struct work {
    struct qidmap_store *store;
    const struct qm_registration *reg;
    struct qm_decision *decisions;
    uint32_t *numbers;
    gboolean *marks;
    GPtrArray *rows;
    GArray *plans;
    GHashTable *marked; /* superblocks that get a marker */
    struct qm_meta meta;
};

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
static gboolean wants_marker(const struct work *w, size_t i, size_t *by)
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

static gboolean is_refused(const struct work *w, size_t i)
{
    return w->reg->refuse && w->decisions[i].fs == 0 && w->decisions[i].duplicate &&
           !w->decisions[i].conflict;
}

/* Another part of its superblock gets a marker, which then is its own. */
static gboolean gets_marker(const struct work *w, size_t i)
{
    const struct qidmap_identity *id = &w->reg->identities[i];

    return id->policy != QIDMAP_POLICY_EPHEMERAL && id->policy != QIDMAP_POLICY_DENY &&
           g_hash_table_contains(w->marked, &id->superblock);
}

static void find_marked(struct work *w)
{
    size_t i, by;

    for (i = 0; i < w->reg->count; i++) {
        if (w->decisions[i].same_as == i && !is_refused(w, i) && wants_marker(w, i, &by))
            g_hash_table_add(w->marked, (gpointer)&w->reg->identities[i].superblock);
    }
}

/* The rows of parts that are not mounted wait for the marker, too. */
static void open_parts(struct work *w)
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

        if (w->decisions[i].same_as != i || !gets_marker(w, i))
            continue;
        for (k = 0; k < w->plans->len && !row; k++) {
            if (g_array_index(w->plans, struct qm_plan, k).row.fs == w->numbers[i])
                row = &g_array_index(w->plans, struct qm_plan, k).row;
        }
        if (!row || !g_hash_table_add(done, (gpointer)&id->superblock))
            continue;
        copy = *row; /* the plans move */
        parts = find_parts(w->store, &copy, id->hints.marker, w->plans, planned);
        for (k = 0; k < parts->len; k++)
            qm_plan_change(w->store, w->plans, g_ptr_array_index(parts, k))->row.marker_open = 1;
    }
}

static void fill_row(const struct work *w, size_t i, gboolean fresh, struct qidmap_fs *row,
                     gboolean *changed)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    const struct qidmap_identity *id = &w->reg->identities[i];
    size_t by = 0;
    gboolean wants = wants_marker(w, i, &by);
    gboolean wanted = wants || gets_marker(w, i);

    if (w->decisions[i].duplicate && !(row->flags & QIDMAP_IDENTITY_DUPLICATE)) {
        row->flags |= QIDMAP_IDENTITY_DUPLICATE;
        *changed = TRUE;
    }
    if (qm_resolve_update(row, id, fresh, now))
        *changed = TRUE;
    if (row->last_session != w->store->session) {
        row->last_session = w->store->session;
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
        const struct qidmap_fs *row = d->fs ? row_of(w->rows, d->fs) : NULL;

        if (d->same_as != i || is_refused(w, i))
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
        company_add(&company, w->numbers[i]);
    }
    for (i = 0; i < w->reg->n_live && !company.many; i++)
        company_add(&company, w->reg->live[i].fs);
    for (k = first; k < w->plans->len; k++)
        (void)note_company(&g_array_index(w->plans, struct qm_plan, k).row, &company);
    for (i = 0; i < w->reg->count; i++) {
        struct qidmap_fs *row;
        gboolean changed = FALSE;

        if (w->decisions[i].same_as != i || w->decisions[i].fs == 0)
            continue;
        row = row_of(w->rows, w->decisions[i].fs);
        fill_row(w, i, FALSE, row, &changed);
        if (note_company(row, &company))
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
    const uint8_t *boot = present_boot(reg->identities, reg->count);
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
        e = plan_past(store, boot, plans, error);
    if (e != 0)
        return e;
    w.meta = store->meta; /* sweeping advances it */
    w.rows = rows = related_rows(store, reg->identities, reg->count, reg->live, reg->n_live);
    scene = (struct qm_scene){.rows = (const struct qidmap_fs *const *)rows->pdata,
                              .n_rows = rows->len,
                              .identities = reg->identities,
                              .count = reg->count,
                              .live = reg->live,
                              .n_live = reg->n_live,
                              .split_weak = reg->split_weak,
                              .present = reg->present};
    qm_resolve(&scene, decisions);
    find_marked(&w);
    e = make_plans(&w, error);
    if (e == 0) {
        open_parts(&w);
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

/* One filesystem has one marker, on its root. The rows of its parts take the new one, too: with the
 * old one, or without, they would not be known any more once devices were exchanged. */
static void plan_parts(struct qidmap_store *store, GArray *plans, const struct qidmap_fs *row,
                       const uint8_t old[16], GHashTable *planned)
{
    g_autoptr(GPtrArray) parts = find_parts(store, row, old, NULL, planned);
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

        if (!fs || fs->row.retired || !r || !takes_marker(&fs->row, r->old) ||
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

int qm_store_recognise(struct qidmap_store *store, const struct qidmap_identity *identities,
                       size_t count, uint32_t *numbers)
{
    g_autoptr(GPtrArray) rows = related_rows(store, identities, count, NULL, 0);
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
