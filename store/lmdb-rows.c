/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of an lmdb: store, inside a transaction: one by one, and by cursors. Knows nothing of what
 * a row means, nor where transactions come from.
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <errno.h>
#include <string.h>

struct lmdb_cursor {
    struct qm_cursor base;
    MDB_cursor *mdb;
    uint8_t copy[QM_KEY_MAX + QM_VALUE_MAX]; /* SNAPSHOT: the row, out of the map's reach */
};

static MDB_val val_of(struct qm_bytes bytes)
{
    MDB_val v = {bytes.size, (void *)(uintptr_t)bytes.data};

    return v;
}

static struct qm_bytes bytes_of(MDB_val v)
{
    return (struct qm_bytes){v.mv_data, v.mv_size};
}

int qm_lmdb_get(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                struct qm_bytes *value)
{
    MDB_val k = val_of(key), v;
    int rc = mdb_get(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, &v);

    if (rc == 0)
        *value = bytes_of(v);
    return qm_lmdb_errno(rc);
}

int qm_lmdb_put(struct qm_txn *txn, enum qm_table table, struct qm_bytes key, struct qm_bytes value)
{
    MDB_val k = val_of(key), v = val_of(value);

    return qm_lmdb_errno(
        mdb_put(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, &v, 0));
}

int qm_lmdb_del(struct qm_txn *txn, enum qm_table table, struct qm_bytes key)
{
    MDB_val k = val_of(key);

    return qm_lmdb_errno(
        mdb_del(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, NULL));
}

int qm_lmdb_cursor_open(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct lmdb_cursor *c = g_new(struct lmdb_cursor, 1); /* `copy` is large, and seldom used */
    int e = -ESTALE;

    memset(&c->base, 0, sizeof(c->base));
    c->base.txn = txn;
    c->base.table = table;
    c->mdb = NULL;
    if (t->guard)
        pthread_mutex_lock(t->guard);
    if (!t->stale)
        e = qm_lmdb_errno(mdb_cursor_open(t->mdb, lmdb_of(txn)->dbi[table], &c->mdb));
    if (t->guard)
        pthread_mutex_unlock(t->guard);
    if (e != 0) {
        g_free(c);
        return e;
    }
    *cursor = &c->base;
    return 0;
}

static int move(struct qm_cursor *cursor, MDB_cursor_op op, struct qm_bytes key, struct qm_bytes *k,
                struct qm_bytes *v)
{
    struct lmdb_cursor *c = (struct lmdb_cursor *)cursor;
    struct lmdb_txn *t = (struct lmdb_txn *)cursor->txn;
    MDB_val mk = val_of(key), mv;
    int e = -ESTALE;

    if (t->guard)
        pthread_mutex_lock(t->guard);
    if (!t->stale)
        e = qm_lmdb_errno(mdb_cursor_get(c->mdb, &mk, &mv, op));
    if (e == 0 && t->guard) {
        if (mk.mv_size > QM_KEY_MAX || mv.mv_size > QM_VALUE_MAX) {
            e = -EUCLEAN;
        } else {
            memcpy(c->copy, mk.mv_data, mk.mv_size);
            memcpy(c->copy + QM_KEY_MAX, mv.mv_data, mv.mv_size);
            mk.mv_data = c->copy;
            mv.mv_data = c->copy + QM_KEY_MAX;
        }
    }
    if (t->guard)
        pthread_mutex_unlock(t->guard);
    if (e == 0) {
        *k = bytes_of(mk);
        *v = bytes_of(mv);
    }
    return e;
}

int qm_lmdb_cursor_seek(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                        struct qm_bytes *v)
{
    return move(cursor, key.size ? MDB_SET_RANGE : MDB_FIRST, key, k, v);
}

int qm_lmdb_cursor_next(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return move(cursor, MDB_NEXT, (struct qm_bytes){NULL, 0}, k, v);
}

int qm_lmdb_cursor_prev(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return move(cursor, MDB_PREV, (struct qm_bytes){NULL, 0}, k, v);
}

void qm_lmdb_cursor_close(struct qm_cursor *cursor)
{
    mdb_cursor_close(((struct lmdb_cursor *)cursor)->mdb);
    g_free(cursor);
}
