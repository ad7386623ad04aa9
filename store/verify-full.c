/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of the full map: the tables full and byfull, and that no object has two ids and no id
 * two objects, by whatever way they are given.
 *
 * Whether its two directions agree is first asked of two sums over all pairs of object and id,
 * hashed with a seed that nobody knows: ten million lookups fewer. Only where the sums differ, or
 * something is to be mended, each row is looked up in the other table.
 */
#include "config.h"

#include "store/verify-check.h"

#include <errno.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/affix.h"
#include "store/map.h"
#include "store/store.h"

static uint64_t pair_hash(struct qm_check *c, struct qm_bytes object, uint64_t id)
{
    return XXH3_64bits_withSeed(object.data, object.size,
                                c->seed ^ id * UINT64_C(0x9e3779b97f4a7c15));
}

/* An even id: it was bound by migration, and must be nobody else's. */
static int check_bound(struct qm_check *c, const struct qm_check_fs *info,
                       const struct qidmap_object *object, uint64_t id, const char *text)
{
    uint32_t n = qm_affix_index(id), instance, seen, number;
    const struct qm_check_fs *other = NULL;
    struct qm_bytes key, value;
    struct qm_record r;
    uint64_t ino = 0, top;
    guint i;
    int e;

    if (!info->has_bound)
        qm_check_tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0,
                      "filesystem %u has a bound row (%s has id %" G_GUINT64_FORMAT
                      "), and does not say so",
                      info->number, text, id);
    if (n == 0 || n == QM_AFFIX_RESERVED || n > QM_AFFIX_LAST) {
        qm_check_tell(c->v, QIDMAP_PROBLEM_ROW, QM_TABLE_FULL, 0,
                      "%s has id %" G_GUINT64_FORMAT ", which is given to nobody", text, id);
        return 0;
    }
    if (n == QM_AFFIX_EPHEMERAL) {
        if (!qm_ephemeral_inode(id, &instance, &ino))
            return 0;
        c->max_instance = MAX(c->max_instance, instance);
        for (i = 0; i < c->fs->len && !other; i++) {
            const struct qm_check_fs *f = &g_array_index(c->fs, struct qm_check_fs, i);

            if (f->instance == instance && !f->retired)
                other = f;
        }
    } else {
        c->max_n = MAX(c->max_n, n);
        qm_record_byaffix(&r, n, 0, 0);
        key = (struct qm_bytes){r.key, r.key_size};
        e = qm_check_look(c, QM_TABLE_BYAFFIX, key, &value);
        if (e != 0)
            return e == -ENOENT ? 0 : e;
        if (qm_parse_byaffix(key, value, &seen, &number, &top) == 0 &&
            qm_entry_inode(n, top, id, &ino)) {
            other = qm_check_head(c, qm_check_find_fs(c, number));
            /* One that is superseded, or retired and nobody's alias, gives no ids any more. */
            if (other && (other->retired || other->superseded))
                other = NULL;
        }
    }
    if (other && (other != qm_check_head(c, info) || object->kind != QIDMAP_OBJECT_INODE ||
                  object->ino != ino))
        qm_check_tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
                      "id %" G_GUINT64_FORMAT
                      " is given twice: to %s, and to inode %" G_GUINT64_FORMAT " of filesystem %u",
                      id, text, ino, other->number);
    return 0;
}

/* An inode in the full map: has it another id by its affix entry or instance? */
static void check_inode(struct qm_check *c, struct qm_check_fs *info,
                        const struct qidmap_object *object, uint64_t id)
{
    const struct qm_check_entry *entry;
    uint64_t path = 0;
    gboolean second = FALSE;

    if (info->policy == QIDMAP_POLICY_EPHEMERAL) {
        second = qm_ephemeral_path(info->instance, object->ino, &path);
    } else if (info->policy == QIDMAP_POLICY_AFFIX && object->ino != 0) {
        entry = qm_check_covering(c, info, object->ino);
        if (entry)
            second = qm_entry_path(entry->n, entry->bits, object->ino, &path);
        else if (!info->has_bound)
            info->seen_uncovered = 1;
    }
    if (second && path != id && !info->has_bound)
        qm_check_tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
                      "inode %" G_GUINT64_FORMAT " of filesystem %u has two ids: %" G_GUINT64_FORMAT
                      " by its %s, and %" G_GUINT64_FORMAT " in the full map",
                      object->ino, object->fs, path,
                      info->policy == QIDMAP_POLICY_AFFIX ? "affix entry" : "instance", id);
}

static int full_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object;
    struct qm_check_fs *info;
    uint64_t id;
    int e = qm_parse_full(k, v, &object, &id);

    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_FULL, k, 0);
        return 0;
    }
    c->sum_full += pair_hash(c, k, id);
    if (id & 1)
        c->max_serial = MAX(c->max_serial, id >> 1);
    if (id < QM_PATH_FIRST || id > QM_PATH_LAST) {
        g_autofree char *text = qm_object_text(&object);

        qm_check_tell(c->v, QIDMAP_PROBLEM_ROW, QM_TABLE_FULL, 0,
                      "%s has id %" G_GUINT64_FORMAT ", which is given to nobody", text, id);
        return 0;
    }
    info = qm_check_find_fs(c, object.fs);
    if (!info) {
        g_autofree char *text = qm_object_text(&object);

        qm_check_tell(c->v, QIDMAP_PROBLEM_ORPHAN, QM_TABLE_FULL, 0,
                      "%s has id %" G_GUINT64_FORMAT ", and the filesystem is not there", text, id);
        return 0;
    }
    if (!info->whole)
        return 0;
    info->seen_full = 1;
    if (!qm_policy_takes(info->policy, object.kind)) {
        g_autofree char *text = qm_object_text(&object);

        qm_check_tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FULL, 0,
                      "%s has id %" G_GUINT64_FORMAT
                      ", and under the policy %s of its filesystem it is known by another key",
                      text, id, qidmap_policy_name(info->policy));
    }
    if (object.kind == QIDMAP_OBJECT_INODE)
        check_inode(c, info, &object, id);
    if (!(id & 1)) {
        g_autofree char *text = qm_object_text(&object);

        return check_bound(c, info, &object, id, text);
    }
    return 0;
}

static int byfull_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object;
    uint64_t id;

    if (qm_parse_byfull(k, v, &id, &object) != 0) {
        /* Told below, once the other table is known. */
        c->bad[QM_TABLE_BYFULL]++;
        return 0;
    }
    c->sum_byfull += pair_hash(c, (struct qm_bytes){v.data, v.size - 4}, id);
    return 0;
}

/* Each row of the full map has its reverse row. */
static int full_lookup(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object, other;
    struct qm_record r, forward;
    struct qm_bytes value;
    uint32_t mend = QIDMAP_PROBLEM_MENDABLE;
    uint64_t id, back;
    g_autofree char *text = NULL, *second = NULL;
    int e;

    if (qm_parse_full(k, v, &object, &id) != 0)
        return 0;
    qm_record_byfull(&r, id, &object);
    e = qm_check_has_row(c, QM_TABLE_BYFULL, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    text = qm_object_text(&object);
    if (e == -EUCLEAN &&
        qm_parse_byfull((struct qm_bytes){r.key, r.key_size}, value, &back, &other) == 0) {
        qm_record_full(&forward, &other, id);
        second = qm_object_text(&other);
        e = qm_check_has_row(c, QM_TABLE_FULL, &forward, &value);
        if (e == 0) {
            qm_check_tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
                          "id %" G_GUINT64_FORMAT " is given twice: to %s, and to %s", id, text,
                          second);
            return 0;
        }
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        e = -EUCLEAN;
    }
    if (c->v->mend) {
        int r2 = qm_check_put(c, QM_TABLE_BYFULL, &r);

        if (r2 != 0)
            return r2;
        mend = QIDMAP_PROBLEM_MENDED;
    }
    qm_check_tell(c->v, QIDMAP_PROBLEM_FULL, QM_TABLE_BYFULL, mend,
                  "table byfull: the row of id %" G_GUINT64_FORMAT " (%s) is %s", id, text,
                  e == -ENOENT ? "missing" : "not what the full map says");
    return 0;
}

/* Each reverse row leads to a row of the full map. */
static int byfull_lookup(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = qm_check_is_whole(c, QM_TABLE_FULL, c->v->meta.full_rows);
    struct qidmap_object object;
    struct qm_record r;
    struct qm_bytes value;
    uint64_t id;
    g_autofree char *text = NULL;
    int e = qm_parse_byfull(k, v, &id, &object);

    if (e != 0) {
        qm_check_bad_row(c, QM_TABLE_BYFULL, k, whole ? qm_check_take_away(c, k) : 0);
        return 0;
    }
    if (id & 1)
        c->max_serial = MAX(c->max_serial, id >> 1);
    qm_record_full(&r, &object, id);
    e = qm_check_has_row(c, QM_TABLE_FULL, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    text = qm_object_text(&object);
    qm_check_tell(c->v, QIDMAP_PROBLEM_FULL, QM_TABLE_BYFULL, whole ? qm_check_take_away(c, k) : 0,
                  "table byfull: id %" G_GUINT64_FORMAT " leads to %s, which %s", id, text,
                  e == -ENOENT ? "is not in the full map" : "has another id there");
    return 0;
}

int qm_check_full(struct qm_check *c)
{
    int e = qm_check_rows(c, QM_TABLE_FULL, full_row);

    if (e == 0)
        e = qm_check_rows(c, QM_TABLE_BYFULL, byfull_row);
    if (e != 0 ||
        (!c->v->mend && c->sum_full == c->sum_byfull && c->bad[QM_TABLE_FULL] == 0 &&
         c->bad[QM_TABLE_BYFULL] == 0 && c->v->rows[QM_TABLE_FULL] == c->v->rows[QM_TABLE_BYFULL]))
        return e;
    c->bad[QM_TABLE_BYFULL] = 0;
    e = qm_check_rows(c, QM_TABLE_FULL, full_lookup);
    return e == 0 ? qm_check_rows(c, QM_TABLE_BYFULL, byfull_lookup) : e;
}
