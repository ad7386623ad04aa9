/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Transactions of an lmdb: store, and who may use which. Knows nothing of rows.
 *
 * Readers of a handle that writes: a fixed set of slots, each with a read transaction that is reset
 * and renewed and a lock of its own. A reader takes the first slot that is free, beginning at one
 * that its thread's address picks: as long as there are fewer readers than slots, no two share a
 * cache line that is written to. Snapshots have a transaction of their own.
 *
 * A handle for reading sees the state at its opening, through one transaction for its whole life.
 * A handle that writes has such a transaction, too, `reader`: it is moved to the newest state
 * before each write transaction begins. When a commit fails at LMDB's meta page, LMDB gives no
 * further transaction, and nobody knows which state the disk has: what is read again comes from
 * memory. Then readers use `reader`, and lmdb-recover.c copies what it sees to a new generation.
 *
 * Before each write transaction it is asked whether the file is still at its place: rows that go
 * into a file that somebody removed would be lost.
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <errno.h>
#include <unistd.h>

#include "store/lmdb-origin.h"

/* ---- beginning ------------------------------------------------------------------------------- */

/* LMDB's own code comes back. */
int qm_lmdb_begin_mdb(struct lmdb_backend *b, unsigned flags, MDB_txn **txn)
{
    int tries, rc = 0, dead;

    for (tries = 0; tries < 3; tries++) {
        rc = mdb_txn_begin(b->env, NULL, flags, txn);
        if (rc == MDB_READERS_FULL)
            (void)mdb_reader_check(b->env, &dead);
        else if (rc == MDB_MAP_RESIZED && !b->writable) /* its one transaction: nothing is mapped */
            (void)mdb_env_set_mapsize(b->env, 0);
        else
            break;
    }
    return rc;
}

/* Moves `reader` to the newest state. */
int qm_lmdb_renew_reader(struct lmdb_backend *b)
{
    int rc;

    pthread_mutex_lock(&b->read_lock);
    mdb_txn_reset(b->reader.mdb);
    rc = mdb_txn_renew(b->reader.mdb);
    pthread_mutex_unlock(&b->read_lock);
    return qm_lmdb_errno(rc);
}

/* The slot that this thread tries first: threads have different stacks and thread storage. */
static unsigned first_slot(void)
{
    static _Thread_local char here;

    return (unsigned)(((uintptr_t)&here >> 12) * 2654435761u >> 16);
}

/* Gives out `reader`, to one at a time. */
static int lend_reader(struct lmdb_backend *b, struct qm_txn **txn)
{
    int e;

    pthread_mutex_lock(&b->read_lock);
    e = qm_lmdb_check_length(b);
    if (e == 0)
        *txn = &b->reader.base;
    else
        pthread_mutex_unlock(&b->read_lock);
    return e;
}

static int begin_read(struct lmdb_backend *b, struct qm_txn **txn)
{
    unsigned first = first_slot(), i;
    struct lmdb_slot *s = NULL;
    int rc;

    for (i = 0; i < QM_LMDB_SLOTS && !s; i++) {
        if (pthread_mutex_trylock(&b->slot[(first + i) % QM_LMDB_SLOTS].lock) == 0)
            s = &b->slot[(first + i) % QM_LMDB_SLOTS];
    }
    if (!s) {
        s = &b->slot[first % QM_LMDB_SLOTS];
        pthread_mutex_lock(&s->lock);
    }
    rc = qm_lmdb_check_length(b);
    if (rc != 0) {
        pthread_mutex_unlock(&s->lock);
        return rc;
    }
    rc = s->txn.mdb ? mdb_txn_renew(s->txn.mdb) : qm_lmdb_begin_mdb(b, MDB_RDONLY, &s->txn.mdb);
    if (rc == 0) {
        *txn = &s->txn.base;
        return 0;
    }
    pthread_mutex_unlock(&s->lock);
    return rc == MDB_PANIC ? lend_reader(b, txn) : qm_lmdb_errno(rc);
}

static int begin_snapshot(struct lmdb_backend *b, struct lmdb_txn *t)
{
    int rc;

    if (!b->writable) {
        t->mdb = b->reader.mdb;
        t->guard = &b->read_lock;
        t->shared = TRUE;
        return qm_lmdb_check_length(b);
    }
    /* Growth must not run between the beginning and the note of it. */
    pthread_mutex_lock(&b->snapshots_lock);
    rc = qm_lmdb_check_length(b);
    if (rc != 0) {
        pthread_mutex_unlock(&b->snapshots_lock);
        return rc;
    }
    rc = qm_lmdb_begin_mdb(b, MDB_RDONLY, &t->mdb);
    t->guard = rc == MDB_PANIC ? &b->read_lock : &t->lock;
    if (rc == MDB_PANIC) {
        t->mdb = b->reader.mdb;
        t->shared = TRUE;
        rc = 0;
    }
    if (rc == 0)
        g_ptr_array_add(b->snapshots, t);
    pthread_mutex_unlock(&b->snapshots_lock);
    return qm_lmdb_errno(rc);
}

static int begin_write(struct lmdb_backend *b, size_t rows, struct lmdb_txn *t)
{
    int e = b->panicked ? -EIO : b->replaces ? 0 : qm_lmdb_dir_check(b->dir, b->fd);

    if (e == 0)
        e = qm_lmdb_check_length(b);
    if (e == 0)
        e = qm_lmdb_make_room(b, rows);
    if (e == 0)
        e = qm_lmdb_renew_reader(b);
    return e == 0 ? qm_lmdb_errno(qm_lmdb_begin_mdb(b, 0, &t->mdb)) : e;
}

static int begin_owned(struct lmdb_backend *b, enum qm_txn_kind kind, size_t rows,
                       struct qm_txn **txn)
{
    struct lmdb_txn *t = g_new0(struct lmdb_txn, 1);
    int e;

    t->base.backend = &b->base;
    t->base.kind = kind;
    t->owned = TRUE;
    pthread_mutex_init(&t->lock, NULL);
    e = kind == QM_TXN_WRITE ? begin_write(b, rows, t) : begin_snapshot(b, t);
    if (e != 0) {
        g_free(t);
        return e;
    }
    *txn = &t->base;
    return 0;
}

int qm_lmdb_begin(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows,
                  struct qm_txn **txn)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;

    if (kind != QM_TXN_READ)
        return begin_owned(b, kind, rows, txn);
    return b->writable ? begin_read(b, txn) : lend_reader(b, txn);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void end_snapshot(struct lmdb_backend *b, struct lmdb_txn *t)
{
    if (b->writable) {
        pthread_mutex_lock(&b->snapshots_lock);
        g_ptr_array_remove_fast(b->snapshots, t);
        pthread_mutex_unlock(&b->snapshots_lock);
    }
    if (t->mdb && !t->shared)
        mdb_txn_abort(t->mdb);
    pthread_mutex_destroy(&t->lock);
}

/* Ends all snapshots of this process. Under snapshots_lock. */
static void end_snapshots(struct lmdb_backend *b)
{
    guint i;

    for (i = 0; i < b->snapshots->len; i++) {
        struct lmdb_txn *t = g_ptr_array_index(b->snapshots, i);

        pthread_mutex_lock(t->guard);
        if (!t->shared)
            mdb_txn_abort(t->mdb);
        t->mdb = NULL;
        t->stale = TRUE;
        pthread_mutex_unlock(t->guard);
    }
    g_ptr_array_set_size(b->snapshots, 0);
}

/* No transaction of this process is active between these two. */
void qm_lmdb_park(struct lmdb_backend *b)
{
    unsigned i;

    for (i = 0; i < QM_LMDB_SLOTS; i++)
        pthread_mutex_lock(&b->slot[i].lock);
    pthread_mutex_lock(&b->snapshots_lock);
    end_snapshots(b);
    pthread_mutex_lock(&b->read_lock);
}

void qm_lmdb_unpark(struct lmdb_backend *b)
{
    unsigned i;

    pthread_mutex_unlock(&b->read_lock);
    pthread_mutex_unlock(&b->snapshots_lock);
    for (i = QM_LMDB_SLOTS; i > 0; i--)
        pthread_mutex_unlock(&b->slot[i - 1].lock);
}

void qm_lmdb_abort(struct qm_txn *txn)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct lmdb_backend *b = lmdb_of(txn);

    if (txn->kind == QM_TXN_SNAPSHOT) {
        end_snapshot(b, t);
    } else if (txn->kind == QM_TXN_WRITE) {
        mdb_txn_abort(t->mdb);
    } else if (t->slot) {
        mdb_txn_reset(t->mdb);
        pthread_mutex_unlock(&t->slot->lock);
    } else {
        pthread_mutex_unlock(&b->read_lock);
    }
    if (t->owned)
        g_free(t);
}

/* Whether LMDB's meta page may be half written: it gives no transaction any more. */
static gboolean is_panicked(struct lmdb_backend *b)
{
    MDB_txn *txn;
    int rc = qm_lmdb_begin_mdb(b, MDB_RDONLY, &txn);

    if (rc == 0)
        mdb_txn_abort(txn);
    return rc == MDB_PANIC;
}

int qm_lmdb_commit(struct qm_txn *txn)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct qm_backend *backend = txn->backend;
    struct lmdb_backend *b = lmdb_of(txn);
    g_autofree uint8_t *slot = NULL;
    uint64_t number;
    gboolean saved;
    int rc;

    if (txn->kind != QM_TXN_WRITE) {
        qm_lmdb_abort(txn);
        return 0;
    }
    slot = g_malloc(b->psize);
    number = mdb_txn_id(t->mdb);
    saved = pread(b->fd, slot, b->psize, (off_t)(number & 1) * b->psize) == (ssize_t)b->psize;
    rc = mdb_txn_commit(t->mdb);
    g_free(t);
    if (rc == 0) {
        qm_lmdb_note_length(b);
        if (!backend->fresh)
            qm_lmdb_dir_note(b->dir, number);
        if (b->origin_due && !backend->fresh)
            b->origin_due = qm_lmdb_origin_write(b->dir->gen_fd, FALSE, number) != 0;
        return 0;
    }
    if (rc == MDB_MAP_FULL)
        return QM_GROW;
    /* No room for pages that no state refers to: the state before is whole, and LMDB goes on. */
    if ((rc == ENOSPC || rc == EDQUOT) && !is_panicked(b))
        return -ENOSPC;
    b->panicked = TRUE;
    /* LMDB puts back only a part of the meta page that it could not write: what is left names the
     * trees of the failed transaction under the number of an older one. */
    if (saved && pwrite(b->fd, slot, b->psize, (off_t)(number & 1) * b->psize) > 0)
        (void)fdatasync(b->fd);
    rc = qm_lmdb_errno(rc);
    return rc == -ENOSPC || rc == -EDQUOT ? -EIO : rc;
}

uint64_t qm_lmdb_number(struct qm_txn *txn)
{
    return mdb_txn_id(((struct lmdb_txn *)txn)->mdb);
}
