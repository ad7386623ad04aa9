/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A state of a store, copied into a new environment by rows and not by pages: each row is checked
 * on its way, pages that nobody uses stay behind, and nothing of a transaction that failed comes
 * along. Owns the new environment while it is made; must not know what becomes of it.
 *
 * Nobody sees the copy before it is done, so it is synced once, at its end. It is written in
 * several transactions, so that the memory which LMDB needs does not grow with the store; each
 * writes the record, which must name its transaction in both of LMDB's meta pages.
 */
#include "config.h"

#include "store/lmdb-copy.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"

#define BATCH 50000u /* rows of one transaction */

struct copy {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi[QM_TABLES];
    struct qm_meta *meta;
    unsigned rows; /* of this transaction */
    GError **error;
};

static int fail(struct copy *c, int rc)
{
    int e = rc == MDB_MAP_FULL ? ENOSPC : rc > 0 ? rc : EIO;

    return qm_set_error(c->error, e, "cannot write a new generation: %s", mdb_strerror(rc));
}

static int put(struct copy *c, enum qm_table table, struct qm_bytes key, struct qm_bytes value,
               unsigned flags)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size, (void *)(uintptr_t)value.data};
    int rc = mdb_put(c->txn, c->dbi[table], &k, &v, flags);

    return rc == 0 ? 0 : fail(c, rc);
}

/* Ends the transaction, with the record that names it. */
static int end_batch(struct copy *c)
{
    struct qm_record r;
    int e, rc;

    c->meta->transaction = mdb_txn_id(c->txn);
    qm_record_meta(&r, c->meta);
    e = put(c, QM_TABLE_META, (struct qm_bytes){r.key, r.key_size},
            (struct qm_bytes){r.value, r.value_size}, 0);
    if (e != 0)
        return e;
    rc = mdb_txn_commit(c->txn);
    c->txn = NULL;
    c->rows = 0;
    return rc == 0 ? 0 : fail(c, rc);
}

static int begin_batch(struct copy *c)
{
    int rc = mdb_txn_begin(c->env, NULL, 0, &c->txn);

    return rc == 0 ? 0 : fail(c, rc);
}

static int copy_row(struct copy *c, enum qm_table table, struct qm_bytes k, struct qm_bytes v)
{
    int e = qm_parse_check(table, k, v);

    if (e != 0)
        return qm_set_error(c->error, EUCLEAN,
                            "the store is damaged (a row of table %s): restore it from a backup",
                            qm_table_name(table));
    e = put(c, table, k, v, MDB_APPEND);
    if (e == 0 && ++c->rows == BATCH) {
        e = end_batch(c);
        if (e == 0)
            e = begin_batch(c);
    }
    return e;
}

static int copy_table(struct copy *c, struct qm_txn *from, enum qm_table table)
{
    const struct qm_backend_ops *ops = from->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    int r = ops->cursor_open(from, table, &cursor), e = 0;

    if (r != 0)
        return qm_set_error(c->error, r, "cannot read: %s", g_strerror(-r));
    r = ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
    while (r == 0 && e == 0) {
        e = copy_row(c, table, k, v);
        if (e == 0)
            r = ops->cursor_next(cursor, &k, &v);
    }
    ops->cursor_close(cursor);
    if (e == 0 && r != -ENOENT)
        e = qm_set_error(c->error, r, "cannot read: %s", g_strerror(-r));
    return e;
}

/* Pages that a transaction took and did not need are never written: the file must be as long as
 * what it counts all the same. Then all of it to the disk. */
static int finish(struct copy *c)
{
    MDB_envinfo info;
    MDB_stat ms;
    struct stat st;
    off_t size;
    int fd, rc = mdb_env_info(c->env, &info);

    if (rc == 0)
        rc = mdb_env_stat(c->env, &ms);
    if (rc == 0)
        rc = mdb_env_get_fd(c->env, &fd);
    if (rc != 0)
        return fail(c, rc);
    size = (off_t)(info.me_last_pgno + 1) * (off_t)ms.ms_psize;
    if (fstat(fd, &st) != 0 || (st.st_size < size && ftruncate(fd, size) != 0))
        return fail(c, errno);
    rc = mdb_env_sync(c->env, 1);
    if (rc == 0 && fsync(fd) != 0)
        rc = errno;
    return rc == 0 ? 0 : fail(c, rc);
}

static int copy_all(struct copy *c, struct qm_txn *from)
{
    int i, rc = 0, e = begin_batch(c);

    for (i = 0; e == 0 && rc == 0 && i < QM_TABLES; i++)
        rc = mdb_dbi_open(c->txn, qm_table_name((enum qm_table)i), MDB_CREATE, &c->dbi[i]);
    if (e == 0 && rc == 0) {
        rc = mdb_txn_commit(c->txn);
        c->txn = NULL;
    }
    if (e == 0)
        e = rc == 0 ? begin_batch(c) : fail(c, rc);
    for (i = 0; e == 0 && i < QM_TABLES; i++) {
        if (i != QM_TABLE_META)
            e = copy_table(c, from, (enum qm_table)i);
    }
    if (e == 0)
        e = end_batch(c);
    return e == 0 ? finish(c) : e;
}

/* A full disk shows before anything is written. */
static int reserve(struct copy *c, uint64_t size)
{
    int fd, r = 0;

    if (mdb_env_get_fd(c->env, &fd) != 0)
        return fail(c, EIO);
    do {
        r = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0 ? 0 : errno;
    } while (r == EINTR);
    return r == 0 || r == EOPNOTSUPP || r == ENOSYS ? 0 : fail(c, r);
}

int qm_lmdb_copy(struct qm_txn *from, const char *env_path, uint64_t size, struct qm_meta *meta,
                 GError **error)
{
    struct copy c = {.meta = meta, .error = error};
    size_t room = (size_t)MAX(4 * size, (uint64_t)64 << 20);
    int e, rc = mdb_env_create(&c.env);

    if (rc == 0)
        rc = mdb_env_set_maxdbs(c.env, QM_TABLES + 1);
    if (rc == 0)
        rc = mdb_env_set_mapsize(c.env, room);
    if (rc == 0)
        rc = mdb_env_open(c.env, env_path, MDB_NOSYNC | MDB_NOTLS, 0600);
    e = rc == 0 ? reserve(&c, size) : fail(&c, rc);
    if (e == 0)
        e = copy_all(&c, from);
    if (c.txn)
        mdb_txn_abort(c.txn);
    if (c.env)
        mdb_env_close(c.env);
    return e;
}
