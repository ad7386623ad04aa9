/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of affix entries: the tables affix and byaffix, which say the same, and the ranges of
 * inodes that entries cover.
 */
#include "config.h"

#include "store/verify-check.h"

#include <errno.h>
#include <stdlib.h>

#include "store/affix.h"
#include "store/map.h"

/* First inode that an entry covers. */
static uint64_t start_of(const struct qm_check_entry *entry)
{
    return entry->top << (64 - entry->bits);
}

static int mend_byaffix(struct qm_check *c, uint32_t fs, const struct qm_check_entry *entry)
{
    struct qm_bytes value;
    struct qm_record r, forward;
    uint32_t n, other, mend = QIDMAP_PROBLEM_MENDABLE;
    uint64_t top;
    int e;

    qm_record_byaffix(&r, entry->n, fs, entry->top);
    e = qm_check_has_row(c, QM_TABLE_BYAFFIX, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    if (e == -EUCLEAN &&
        qm_parse_byaffix((struct qm_bytes){r.key, r.key_size}, value, &n, &other, &top) == 0) {
        /* Another entry's: does that one claim the same index? */
        qm_record_affix(&forward, other, qm_affix_bits(n), top, n);
        e = qm_check_has_row(c, QM_TABLE_AFFIX, &forward, &value);
        if (e == 0) {
            qm_check_tell(
                c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_AFFIX, 0,
                "index %u belongs to two affix entries, of filesystem %u and of filesystem %u: "
                "their files share ids",
                entry->n, fs, other);
            return 0;
        }
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        e = -EUCLEAN;
    }
    if (c->v->mend) {
        int r2 = qm_check_put(c, QM_TABLE_BYAFFIX, &r);

        if (r2 != 0)
            return r2;
        mend = QIDMAP_PROBLEM_MENDED;
    }
    qm_check_tell(c->v, QIDMAP_PROBLEM_AFFIX, QM_TABLE_BYAFFIX, mend,
                  "table byaffix: the row of index %u (filesystem %u) is %s", entry->n, fs,
                  e == -ENOENT ? "missing" : "not what its affix entry says");
    return 0;
}

static int affix_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qm_check_fs *info;
    struct qm_bytes value;
    struct qm_record r;
    struct qm_check_entry entry;
    uint32_t fs;
    unsigned bits;
    int e = qm_parse_affix(k, v, &fs, &bits, &entry.top, &entry.n);

    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_AFFIX, k, 0);
        return 0;
    }
    entry.bits = bits;
    c->max_n = MAX(c->max_n, entry.n);
    info = qm_check_find_fs(c, fs);
    if (!info) {
        qm_check_tell(c->v, QIDMAP_PROBLEM_ORPHAN, QM_TABLE_AFFIX, 0,
                      "the affix entry with index %u belongs to filesystem %u, which is not there",
                      entry.n, fs);
    } else {
        if (info->whole && info->policy != QIDMAP_POLICY_AFFIX)
            qm_check_tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_AFFIX, 0,
                          "filesystem %u has an affix entry (index %u), and its policy is %s", fs,
                          entry.n, qidmap_policy_name(info->policy));
        if (info->entries++ == 0)
            info->first = c->entries->len;
        g_array_append_val(c->entries, entry);
    }
    qm_record_byaffix(&r, entry.n, fs, entry.top);
    e = qm_check_has_row(c, QM_TABLE_BYAFFIX, &r, &value);
    return e == -ENOENT || e == -EUCLEAN ? mend_byaffix(c, fs, &entry) : e;
}

static int by_range(const void *a, const void *b)
{
    const struct qm_check_entry *x = a, *y = b;
    uint64_t p = start_of(x), q = start_of(y);

    if (p != q)
        return p < q ? -1 : 1;
    return (x->bits > y->bits) - (x->bits < y->bits); /* the larger range first */
}

static void check_ranges(struct qm_check *c)
{
    guint i;
    uint32_t j;

    for (i = 0; i < c->fs->len; i++) {
        const struct qm_check_fs *info = &g_array_index(c->fs, struct qm_check_fs, i);
        struct qm_check_entry *slice =
            (struct qm_check_entry *)(void *)c->entries->data + info->first;
        const struct qm_check_entry *wide = slice;

        if (info->entries == 0)
            continue;
        qsort(slice, info->entries, sizeof(*slice), by_range);
        for (j = 1; j < info->entries; j++) {
            /* Two ranges are apart, or one lies in the other. */
            if (start_of(&slice[j]) >> (64 - wide->bits) == wide->top)
                qm_check_tell(
                    c->v, QIDMAP_PROBLEM_OVERLAP, QM_TABLE_AFFIX, 0,
                    "filesystem %u: the affix entries with index %u and %u cover the same inodes, "
                    "which so have two ids",
                    info->number, wide->n, slice[j].n);
            else
                wide = &slice[j];
        }
        if (c->v->have_meta && c->ops->has_full && info->entries > c->v->meta.affix_budget)
            qm_check_tell(c->v, QIDMAP_PROBLEM_BUDGET, QM_TABLE_AFFIX, 0,
                          "filesystem %u has %u affix entries, and the budget of the store is %u",
                          info->number, info->entries, c->v->meta.affix_budget);
    }
}

const struct qm_check_entry *qm_check_covering(struct qm_check *c, const struct qm_check_fs *info,
                                               uint64_t ino)
{
    const struct qm_check_entry *slice =
        (const struct qm_check_entry *)(const void *)c->entries->data + info->first;
    uint32_t low = 0, high = info->entries;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (start_of(&slice[mid]) <= ino)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0 || ino >> (64 - slice[low - 1].bits) != slice[low - 1].top)
        return NULL;
    return &slice[low - 1];
}

static int byaffix_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = qm_check_is_whole(c, QM_TABLE_AFFIX, c->v->meta.affix_rows);
    struct qm_bytes value;
    struct qm_record r;
    uint32_t n, fs;
    uint64_t top;
    int e = qm_parse_byaffix(k, v, &n, &fs, &top);

    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_BYAFFIX, k, whole ? qm_check_take_away(c, k) : 0);
        return 0;
    }
    c->max_n = MAX(c->max_n, n);
    qm_record_affix(&r, fs, qm_affix_bits(n), top, n);
    e = qm_check_has_row(c, QM_TABLE_AFFIX, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    qm_check_tell(c->v, QIDMAP_PROBLEM_AFFIX, QM_TABLE_BYAFFIX,
                  whole ? qm_check_take_away(c, k) : 0,
                  "table byaffix: index %u leads to an affix entry of filesystem %u that is %s", n,
                  fs, e == -ENOENT ? "not there" : "another one");
    return 0;
}

int qm_check_affix(struct qm_check *c)
{
    int e = qm_check_rows(c, QM_TABLE_AFFIX, affix_row);

    if (e != 0)
        return e;
    check_ranges(c);
    return qm_check_rows(c, QM_TABLE_BYAFFIX, byaffix_row);
}
