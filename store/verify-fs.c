/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of filesystems: the tables fs and fsid, which say the same; aliases, instances, and
 * the flags that rows in other tables prove.
 */
#include "config.h"

#include "store/verify-check.h"

#include <errno.h>
#include <string.h>

#include "store/map.h"

static gint by_number(gconstpointer key, gconstpointer element)
{
    uint32_t a = GPOINTER_TO_UINT(key), b = ((const struct qm_check_fs *)element)->number;

    return (a > b) - (a < b);
}

struct qm_check_fs *qm_check_find_fs(struct qm_check *c, uint32_t number)
{
    guint low = 0, high = c->fs->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;
        struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, mid);
        int order = by_number(GUINT_TO_POINTER(number), info);

        if (order == 0)
            return info;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* ---- rows and identities ----------------------------------------------------------------------
 */

static gboolean fsid_equal(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static int check_fsids(struct qm_check *c, const struct qidmap_fs *fs)
{
    struct qm_bytes value;
    struct qm_record r;
    uint32_t i, j, mend;
    int e;

    for (i = 0; i < fs->fsid_count; i++) {
        for (j = 0; j < i && !fsid_equal(&fs->fsid[i], &fs->fsid[j]); j++)
            ;
        if (j < i || fs->fsid[i].kind == 0) {
            qm_check_tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FS, 0,
                          "filesystem %u has an identity twice, or one of no kind", fs->fs);
            continue;
        }
        qm_record_fsid(&r, &fs->fsid[i], fs->fs);
        e = qm_check_has_row(c, QM_TABLE_FSID, &r, &value);
        if (e == 0)
            continue;
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        mend = QIDMAP_PROBLEM_MENDABLE;
        if (c->v->mend) {
            int r2 = qm_check_put(c, QM_TABLE_FSID, &r);

            if (r2 != 0)
                return r2;
            mend = QIDMAP_PROBLEM_MENDED;
        }
        qm_check_tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FSID, mend,
                      "table fsid: the row of identity %u (%s) of filesystem %u is %s", i + 1,
                      qidmap_fsid_kind_name(fs->fsid[i].kind), fs->fs,
                      e == -ENOENT ? "missing" : "not what the filesystem says");
    }
    return 0;
}

static int fs_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qm_check_fs info;
    struct qidmap_fs fs;
    gboolean has_full;
    int e = qm_parse_fs(k, v, &fs, &has_full);

    memset(&info, 0, sizeof(info));
    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_FS, k, 0);
        if (k.size == 4) { /* so that its rows are not taken for orphans */
            const uint8_t *p = k.data;

            info.number = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
            g_array_append_val(c->fs, info);
        }
        return 0;
    }
    info.number = fs.fs;
    info.policy = fs.policy;
    info.alias = fs.alias;
    info.instance = fs.instance;
    info.fsids = fs.fsid_count;
    info.whole = 1;
    info.retired = fs.retired != 0;
    info.left_budget = fs.left_budget != 0;
    info.has_bound = fs.has_bound != 0;
    info.superseded = fs.superseded != 0;
    info.has_full = has_full != 0;
    g_array_append_val(c->fs, info);
    if (!fs.retired)
        c->fsids += fs.fsid_count;
    c->max_fs = MAX(c->max_fs, fs.fs);
    c->max_instance = MAX(c->max_instance, fs.instance);
    if ((fs.policy == QIDMAP_POLICY_EPHEMERAL) != (fs.instance != 0))
        qm_check_tell(
            c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0,
            "filesystem %u has policy %s and instance %u: ephemeral filesystems, and only they, "
            "have an instance",
            fs.fs, qidmap_policy_name(fs.policy), fs.instance);
    if (fs.flags &
        ~(uint32_t)(QIDMAP_IDENTITY_WEAK | QIDMAP_IDENTITY_READONLY | QIDMAP_IDENTITY_DUPLICATE))
        qm_check_tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0,
                      "filesystem %u has flags that are unknown", fs.fs);
    return fs.retired ? 0 : check_fsids(c, &fs); /* a retired one is found by its number only */
}

static int fsid_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = qm_check_is_whole(c, QM_TABLE_FS, c->v->meta.fs_rows), has_full, found = FALSE;
    struct qidmap_fsid fsid;
    struct qm_record r;
    struct qidmap_fs fs;
    struct qm_bytes key, value;
    uint32_t number, i;
    int e = qm_parse_fsid(k, v, &fsid, &number);

    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_FSID, k, whole ? qm_check_take_away(c, k) : 0);
        return 0;
    }
    memset(&fs, 0, sizeof(fs));
    fs.fs = number;
    qm_record_fs(&r, &fs, FALSE); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = qm_check_look(c, QM_TABLE_FS, key, &value);
    if (e == 0) {
        e = qm_parse_fs(key, value, &fs, &has_full);
        if (e != 0)
            return 0; /* told already; it proves nothing */
        for (i = 0; i < fs.fsid_count && !found && !fs.retired; i++)
            found = fsid_equal(&fs.fsid[i], &fsid);
    } else if (e != -ENOENT) {
        return e;
    }
    if (!found)
        qm_check_tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FSID,
                      whole ? qm_check_take_away(c, k) : 0,
                      "table fsid: an identity (%s) leads to filesystem %u, which %s",
                      qidmap_fsid_kind_name(fsid.kind), number,
                      e == -ENOENT ? "is not there"
                      : fs.retired ? "is retired"
                                   : "does not have it");
    return 0;
}

static void note_heirs(struct qm_check *c)
{
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        const struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, i);
        struct qm_check_fs *older = info->alias ? qm_check_find_fs(c, info->alias) : NULL;

        if (older)
            older->heir = info->number;
    }
}

const struct qm_check_fs *qm_check_head(struct qm_check *c, const struct qm_check_fs *info)
{
    unsigned n;

    for (n = 0; info && info->heir && n < QM_ALIASES; n++)
        info = qm_check_find_fs(c, info->heir);
    return info;
}

int qm_check_filesystems(struct qm_check *c)
{
    /* The table of identities is mended from the filesystems, and looked at after that. */
    int e = qm_check_rows(c, QM_TABLE_FS, fs_row);

    if (e == 0)
        note_heirs(c);
    return e == 0 ? qm_check_rows(c, QM_TABLE_FSID, fsid_row) : e;
}

/* ---- what they say of each other, and of other tables -----------------------------------------
 */

static gint by_instance(gconstpointer a, gconstpointer b)
{
    const struct qm_check_fs *x = *(const struct qm_check_fs *const *)a;
    const struct qm_check_fs *y = *(const struct qm_check_fs *const *)b;

    return (x->instance > y->instance) - (x->instance < y->instance);
}

static void check_instances(struct qm_check *c)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, i);

        if (info->instance)
            g_ptr_array_add(list, info);
    }
    g_ptr_array_sort(list, by_instance);
    for (i = 1; i < list->len; i++) {
        const struct qm_check_fs *a = g_ptr_array_index(list, i - 1),
                                 *b = g_ptr_array_index(list, i);

        if (a->instance == b->instance)
            qm_check_tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FS, 0,
                          "filesystems %u and %u have the same instance %u: their files share ids",
                          a->number, b->number, a->instance);
    }
}

/* Colours: 0 not seen, 1 on the way, 2 known to end. */
static void check_aliases(struct qm_check *c)
{
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, i);
        struct qm_check_fs *at = info;

        while (at && at->colour == 0) {
            struct qm_check_fs *next = at->alias ? qm_check_find_fs(c, at->alias) : NULL;

            at->colour = 1;
            if (at->alias && !next)
                qm_check_tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                              "filesystem %u is an alias for filesystem %u, which is not there",
                              at->number, at->alias);
            if (next && at->whole && next->whole && (next->policy != at->policy || !next->retired))
                qm_check_tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                              "filesystem %u is an alias for filesystem %u, which %s", at->number,
                              at->alias,
                              next->retired ? "has another policy" : "has its own identity still");
            if (next && next->aliased)
                qm_check_tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                              "filesystem %u has more than one alias: their files share ids",
                              next->number);
            if (next)
                next->aliased = 1;
            at = next;
        }
        if (at && at->colour == 1)
            qm_check_tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                          "filesystem %u is an alias in a ring", at->number);
        for (at = info; at && at->colour == 1;
             at = at->alias ? qm_check_find_fs(c, at->alias) : NULL)
            at->colour = 2;
    }
}

/* Flags of a filesystem that its rows prove. */
static int check_flags(struct qm_check *c)
{
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, i);
        gboolean full = info->whole && info->seen_full && !info->has_full;
        gboolean left = info->whole && info->seen_uncovered && !info->left_budget &&
                        c->v->have_meta && c->v->meta.next_affix <= QM_AFFIX_LAST;
        uint32_t mend = QIDMAP_PROBLEM_MENDABLE;

        if (!full && !left)
            continue;
        if (c->v->mend) {
            struct qidmap_fs fs = {.fs = info->number};
            struct qm_bytes key, value;
            struct qm_record r;
            gboolean has_full;
            int e;

            qm_record_fs(&r, &fs, FALSE); /* for its key alone */
            key = (struct qm_bytes){r.key, r.key_size};
            e = qm_check_look(c, QM_TABLE_FS, key, &value);
            if (e == 0)
                e = qm_parse_fs(key, value, &fs, &has_full);
            if (e != 0)
                return qm_check_cannot(c, e);
            if (left)
                fs.left_budget = 1;
            qm_record_fs(&r, &fs, has_full || full);
            e = qm_check_put(c, QM_TABLE_FS, &r);
            if (e != 0)
                return qm_check_cannot(c, e);
            mend = QIDMAP_PROBLEM_MENDED;
        }
        if (full)
            qm_check_tell(
                c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, mend,
                "filesystem %u has rows in the full map, and does not say so: they would not be "
                "found",
                info->number);
        if (left)
            qm_check_tell(
                c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, mend,
                "filesystem %u has inodes in the full map that no affix entry covers, and does not "
                "say that it left its budget: a later entry could give them second ids",
                info->number);
    }
    return 0;
}

int qm_check_relations(struct qm_check *c)
{
    check_instances(c);
    check_aliases(c);
    return check_flags(c);
}
