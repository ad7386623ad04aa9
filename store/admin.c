/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The administrator's verbs on rows of filesystems: alias, retire, policy. Each is checked first,
 * then one transaction, then a change in RAM; rows of a full map beyond what fits one transaction
 * go afterwards (rows.c). Why an alias gives no two files one id: map.c, number 8.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/rows.h"
#include "store/store.h"

static struct qm_fs *find(struct qidmap_store *store, uint32_t number, GError **error)
{
    struct qm_fs *fs = qm_map_fs(&store->map, number);

    if (!fs)
        qm_set_error(error, ENOENT, "there is no filesystem %u: see `qidmapctl fs list`", number);
    return fs;
}

static gboolean is_retired(const struct qm_fs *fs)
{
    return (atomic_load(&fs->state) & QM_STATE_RETIRED) != 0;
}

/* It has given ids, as far as anybody can know. */
static gboolean has_given(const struct qm_fs *fs)
{
    return fs->policy == QIDMAP_POLICY_EPHEMERAL || qm_map_entries(fs) > 0 ||
           (atomic_load(&fs->state) & (QM_STATE_HAS_FULL | QM_STATE_HAS_BOUND)) ||
           atomic_load(&fs->older);
}

/* ---- alias ----------------------------------------------------------------------------------- */

static gboolean is_listed(const struct qidmap_fs *row, uint32_t fs)
{
    uint32_t i;

    for (i = 0; i < row->met_count; i++) {
        if (row->met[i] == fs)
            return TRUE;
    }
    return FALSE;
}

/* Whether two rows were live together, or may have been: their sessions meet, and one of them lists
 * the other, or has met more than it lists. */
static gboolean may_have_met(const struct qm_fs *a, const struct qm_fs *b)
{
    const struct qidmap_fs *x = &a->row, *y = &b->row;

    if (x->last_session < y->first_session || y->last_session < x->first_session)
        return FALSE;
    return x->met_many || y->met_many || is_listed(x, y->fs) || is_listed(y, x->fs);
}

/* `fs` and all that are asked before it. */
static guint line_of(struct qm_fs *fs, struct qm_fs *line[QM_ALIASES + 1])
{
    guint n = 0;

    for (; fs && n <= QM_ALIASES; fs = atomic_load(&fs->older))
        line[n++] = fs;
    return n;
}

static int check_alias(struct qm_fs *older, struct qm_fs *newer, GError **error)
{
    struct qm_fs *mine[QM_ALIASES + 1], *theirs[QM_ALIASES + 1];
    guint n = line_of(newer, mine), m = line_of(older, theirs), i, k;

    if (older == newer)
        return qm_set_error(error, EINVAL, "filesystem %u cannot be the alias of itself",
                            older->number);
    if (atomic_load(&older->heir))
        return qm_set_error(error, EINVAL, "filesystem %u is the alias of %u already",
                            older->number, atomic_load(&older->heir)->number);
    if (is_retired(newer))
        return qm_set_error(error, EINVAL, "filesystem %u is retired: name the row that it has now",
                            newer->number);
    for (i = 0; i < m; i++) {
        if (theirs[i] == newer)
            return qm_set_error(error, EINVAL,
                                "filesystem %u is asked before %u already: that would be a ring",
                                newer->number, older->number);
    }
    if (older->policy != newer->policy)
        return qm_set_error(error, EINVAL,
                            "filesystems %u and %u have different policies: their ids do not mean "
                            "the same",
                            older->number, newer->number);
    if (older->policy != QIDMAP_POLICY_AFFIX && older->policy != QIDMAP_POLICY_HANDLE)
        return qm_set_error(error, EINVAL, "filesystem %u has no ids that last", older->number);
    if ((atomic_load(&older->state) | atomic_load(&newer->state)) & QM_STATE_SUPERSEDED)
        return qm_set_error(
            error, EINVAL, "filesystem %u is superseded: its ids may be those of files elsewhere",
            atomic_load(&older->state) & QM_STATE_SUPERSEDED ? older->number : newer->number);
    if (n + m > QM_ALIASES)
        return qm_set_error(error, EINVAL, "filesystem %u has too many aliases", newer->number);
    for (i = 0; i < n; i++) {
        for (k = 0; k < m; k++) {
            if (may_have_met(mine[i], theirs[k]))
                return qm_set_error(error, EEXIST,
                                    "filesystems %u and %u were live together, or may have been: "
                                    "they are two filesystems, and cannot have the same ids",
                                    theirs[k]->number, mine[i]->number);
        }
    }
    return 0;
}

/* Other rows, not retired, have an identity of this row: one of the `but` does not count. */
static gboolean has_double(struct qidmap_store *store, const struct qidmap_fs *row,
                           const struct qm_fs *a, const struct qm_fs *b)
{
    gboolean found = FALSE;
    uint32_t i;
    guint k;

    pthread_mutex_lock(&store->map.lock);
    for (i = 0; !found && i < row->fsid_count; i++) {
        const GPtrArray *rows = qm_fsindex_find(&store->map.index, &row->fsid[i]);

        for (k = 0; rows && !found && k < rows->len; k++)
            found = g_ptr_array_index(rows, k) != a && g_ptr_array_index(rows, k) != b;
    }
    pthread_mutex_unlock(&store->map.lock);
    return found;
}

static void inherit_fsids(struct qidmap_fs *heir, const struct qidmap_fs *older)
{
    uint32_t i;

    for (i = 0; i < older->fsid_count && heir->fsid_count < QIDMAP_FSID_COUNT; i++) {
        if (!qm_fsid_listed(heir->fsid, heir->fsid_count, &older->fsid[i]))
            heir->fsid[heir->fsid_count++] = older->fsid[i];
    }
}

static int alias_leading(struct qidmap_store *store, uint32_t old_fs, uint32_t new_fs,
                         GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();
    struct qm_fs *older, *newer, *tail, *next;
    struct qm_plan *plan;
    int e = qm_rows_sweep(store, error);

    if (e != 0)
        return e;
    older = find(store, old_fs, error);
    if (!older)
        return -ENOENT;
    newer = find(store, new_fs, error);
    if (!newer)
        return -ENOENT;
    e = check_alias(older, newer, error);
    if (e != 0)
        return e;
    for (tail = newer; (next = atomic_load(&tail->older));)
        tail = next;
    qm_plan_change(store, plans, older)->row.retired = 1;
    if (tail != newer)
        qm_plan_change(store, plans, tail)->row.alias = older->number;
    plan = qm_plan_change(store, plans, newer);
    if (tail == newer)
        plan->row.alias = older->number;
    if (!is_retired(older)) /* what was retired for good gives no identities */
        inherit_fsids(&plan->row, &older->row);
    if (!has_double(store, &plan->row, older, newer))
        plan->row.flags &= ~(uint32_t)QIDMAP_IDENTITY_DUPLICATE;
    plan->row.first_session = MIN(plan->row.first_session, older->row.first_session);
    return qm_plans_commit(store, plans, &store->meta, error);
}

int qm_store_alias(struct qidmap_store *store, uint32_t old_fs, uint32_t new_fs, GError **error)
{
    int e;

    qm_store_lead(store);
    e = alias_leading(store, old_fs, new_fs, error);
    qm_store_unlead(store);
    return e;
}

/* ---- retire ---------------------------------------------------------------------------------- */

/* Plans to retire a row, with those that are asked before it: these are retired already, and lose
 * their rows of the full map. */
static void plan_retire(struct qidmap_store *store, GArray *plans, struct qm_fs *fs)
{
    struct qm_fs *line[QM_ALIASES + 1];
    guint n = line_of(fs, line), i;

    for (i = 0; i < n; i++) {
        struct qm_plan *plan;

        if (i > 0 && !(atomic_load(&line[i]->state) & QM_STATE_HAS_FULL))
            continue;
        plan = qm_plan_change(store, plans, line[i]);
        plan->row.retired = 1;
        plan->drop_full = TRUE;
    }
    store->swept = FALSE; /* where that is more than fits one transaction */
}

static int retire_leading(struct qidmap_store *store, struct qm_fs *fs, GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();
    int e;

    if (is_retired(fs))
        return qm_set_error(error, EINVAL, "filesystem %u is retired already", fs->number);
    plan_retire(store, plans, fs);
    e = qm_plans_commit(store, plans, &store->meta, error);
    return e == 0 ? qm_rows_sweep(store, error) : e;
}

int qm_store_retire(struct qidmap_store *store, uint32_t fs, GError **error)
{
    struct qm_fs *found;
    int e = -ENOENT;

    qm_store_lead(store);
    found = find(store, fs, error);
    if (found)
        e = retire_leading(store, found, error);
    qm_store_unlead(store);
    return e;
}

int qm_store_retire_unseen(struct qidmap_store *store, uint32_t fs, uint64_t seen, gboolean *done,
                           GError **error)
{
    struct qm_fs *found;
    int e = 0;

    qm_store_lead(store);
    found = qm_map_fs(&store->map, fs);
    *done = found && !is_retired(found) && found->row.seen == seen;
    if (*done)
        e = retire_leading(store, found, error);
    qm_store_unlead(store);
    return e;
}

/* ---- policy ---------------------------------------------------------------------------------- */

static int check_policy(const struct qm_fs *fs, uint32_t policy, GError **error)
{
    gboolean ephemeral = FALSE;
    uint32_t i;

    if (is_retired(fs))
        return qm_set_error(error, EINVAL, "filesystem %u is retired", fs->number);
    for (i = 0; i < fs->row.fsid_count; i++)
        ephemeral = ephemeral || fs->row.fsid[i].kind == QIDMAP_FSID_EPHEMERAL;
    if (policy == QIDMAP_POLICY_EPHEMERAL && !ephemeral)
        return qm_set_error(error, EINVAL,
                            "filesystem %u outlives the boot: its ids cannot be ephemeral",
                            fs->number);
    if (policy != QIDMAP_POLICY_EPHEMERAL && policy != QIDMAP_POLICY_DENY && ephemeral)
        return qm_set_error(error, EINVAL,
                            "filesystem %u does not outlive the boot: its policy can only be "
                            "ephemeral or deny",
                            fs->number);
    return 0;
}

static int set_instance(struct qidmap_fs *row, struct qm_meta *meta, GError **error)
{
    row->instance = 0;
    if (row->policy != QIDMAP_POLICY_EPHEMERAL)
        return 0;
    if (meta->next_instance > QM_INSTANCE_LAST)
        return qm_set_error(error, ENFILE, "the instances of the store are used up");
    row->instance = (uint32_t)meta->next_instance++;
    return 0;
}

static int policy_leading(struct qidmap_store *store, uint32_t number, uint32_t policy,
                          gboolean renumber, uint32_t *new_fs, GError **error)
{
    g_autoptr(GArray) plans = qm_plans_new();
    struct qm_fs *fs = find(store, number, error);
    struct qm_meta meta = store->meta;
    struct qidmap_fs row;
    int e;

    if (!fs)
        return -ENOENT;
    e = check_policy(fs, policy, error);
    if (e != 0)
        return e;
    *new_fs = number;
    if (fs->policy == policy || !has_given(fs)) {
        struct qm_plan *plan = qm_plan_change(store, plans, fs);

        plan->row.policy = policy;
        plan->row.chosen = 1;
        if (fs->policy != policy)
            e = set_instance(&plan->row, &meta, error);
        return e == 0 ? qm_plans_commit(store, plans, &meta, error) : e;
    }
    if (!renumber)
        return qm_set_error(error, ENOTEMPTY,
                            "filesystem %u has given ids by its policy %s: another policy gives "
                            "all its files new ids; ask for that with --renumber",
                            number, qidmap_policy_name(fs->policy));
    if (meta.next_fs > QM_FS_LAST)
        return qm_set_error(error, ENFILE, "the numbers for filesystems are used up");
    plan_retire(store, plans, fs);
    row = fs->row;
    row.fs = (uint32_t)meta.next_fs++;
    row.policy = policy;
    row.chosen = 1;
    row.alias = row.retired = row.left_budget = row.has_bound = row.affix_rows = 0;
    row.first_session = row.last_session = store->session;
    row.seen = qm_store_served(store);
    row.hints.first_seen = row.hints.last_seen = g_get_real_time() / G_USEC_PER_SEC;
    e = set_instance(&row, &meta, error);
    if (e != 0)
        return e;
    *new_fs = row.fs;
    qm_plan_new_row(plans, &row);
    e = qm_plans_commit(store, plans, &meta, error);
    return e == 0 ? qm_rows_sweep(store, error) : e;
}

int qm_store_set_policy(struct qidmap_store *store, uint32_t fs, uint32_t policy, gboolean renumber,
                        uint32_t *new_fs, GError **error)
{
    uint32_t number;
    int e;

    qm_store_lead(store);
    e = policy_leading(store, fs, policy, renumber, &number, error);
    qm_store_unlead(store);
    if (e == 0 && new_fs)
        *new_fs = number;
    return e;
}
