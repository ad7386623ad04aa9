/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of a store, read and written below the library: a test makes with them what the library
 * never does. All of it belongs into a transaction of the backend.
 */
#ifndef RAW_ROWS_H
#define RAW_ROWS_H

#include <glib.h>
#include <string.h>

#include "store/store.h"
#include "store/verify.h"

static inline void put(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    g_assert_cmpint(qm_txn_put(txn, table, r), ==, 0);
}

static inline void del(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    g_assert_cmpint(txn->backend->ops->del(txn, table, (struct qm_bytes){r->key, r->key_size}), ==,
                    0);
}

static inline void get_meta(struct qm_txn *txn, struct qm_meta *meta)
{
    g_assert_cmpint(qm_read_meta(txn, meta), ==, 0);
}

static inline void put_meta(struct qm_txn *txn, const struct qm_meta *meta)
{
    struct qm_record r;

    qm_record_meta(&r, meta);
    put(txn, QM_TABLE_META, &r);
}

static inline void add_rows(struct qm_txn *txn, int affix, int full, int fs)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.affix_rows += (uint64_t)affix;
    meta.full_rows += (uint64_t)full;
    meta.fs_rows += (uint64_t)fs;
    put_meta(txn, &meta);
}

static inline gboolean get_fs(struct qm_txn *txn, uint32_t number, struct qidmap_fs *fs)
{
    struct qidmap_fs probe = {.fs = number};
    struct qm_bytes value;
    struct qm_record r;
    gboolean has_full;

    qm_record_fs(&r, &probe, FALSE);
    g_assert_cmpint(
        txn->backend->ops->get(txn, QM_TABLE_FS, (struct qm_bytes){r.key, r.key_size}, &value), ==,
        0);
    g_assert_cmpint(qm_parse_fs((struct qm_bytes){r.key, r.key_size}, value, fs, &has_full), ==, 0);
    return has_full;
}

static inline void put_fs(struct qm_txn *txn, const struct qidmap_fs *fs, gboolean has_full)
{
    struct qm_record r;

    qm_record_fs(&r, fs, has_full);
    put(txn, QM_TABLE_FS, &r);
}

/* Flips a bit of the last row of a table. */
static inline void flip(struct qm_txn *txn, enum qm_table table)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_record r;
    struct qm_bytes k, v;

    g_assert_cmpint(ops->cursor_open(txn, table, &cursor), ==, 0);
    g_assert_cmpint(ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v), ==, 0);
    do {
        r.key_size = k.size;
        r.value_size = v.size;
        memcpy(r.key, k.data, k.size);
        memcpy(r.value, v.data, v.size);
    } while (ops->cursor_next(cursor, &k, &v) == 0);
    ops->cursor_close(cursor);
    r.value[0] ^= 4;
    put(txn, table, &r);
}

/* The first entry of a fs. */
static inline uint32_t entry_of(struct qm_txn *txn, uint32_t fs, uint64_t *top)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    uint32_t number = 0, n = 0;
    unsigned bits;

    g_assert_cmpint(ops->cursor_open(txn, QM_TABLE_AFFIX, &cursor), ==, 0);
    g_assert_cmpint(ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v), ==, 0);
    do
        g_assert_cmpint(qm_parse_affix(k, v, &number, &bits, top, &n), ==, 0);
    while (number != fs && ops->cursor_next(cursor, &k, &v) == 0);
    ops->cursor_close(cursor);
    g_assert_cmpuint(number, ==, fs);
    return n;
}

static inline void put_full(struct qm_txn *txn, const struct qidmap_object *object, uint64_t id)
{
    struct qm_record r;

    qm_record_full(&r, object, id);
    put(txn, QM_TABLE_FULL, &r);
    qm_record_byfull(&r, id, object);
    put(txn, QM_TABLE_BYFULL, &r);
    add_rows(txn, 0, 1, 0);
}

static inline void put_entry(struct qm_txn *txn, uint32_t fs, uint32_t n, uint64_t top)
{
    struct qm_record r;

    qm_record_affix(&r, fs, qm_affix_bits(n), top, n);
    put(txn, QM_TABLE_AFFIX, &r);
    qm_record_byaffix(&r, n, fs, top);
    put(txn, QM_TABLE_BYAFFIX, &r);
    add_rows(txn, 1, 0, 0);
}

#endif
