/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handle of an lmdb: store, as the files of this backend share it. backend-lmdb.c opens,
 * publishes and closes stores, lmdb-env.c environments; lmdb-txn.c has transactions, lmdb-rows.c
 * what is read and written in them, lmdb-room.c the space that they need, lmdb-recover.c what is
 * done after a failed commit. Nobody else includes this.
 *
 * Locks: slot[i].lock (ascending) > snapshots_lock > snapshot.lock or read_lock.
 */
#ifndef QM_LMDB_BACKEND_H
#define QM_LMDB_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>

#include <lmdb.h>

#include "store/backend.h"
#include "store/lmdb-dir.h"
#include "store/lmdb-verify.h"

#define QM_LMDB_SLOTS    16u
#define QM_LMDB_MAP_LAST (sizeof(void *) > 4 ? UINT64_C(1) << 44 : UINT64_C(1) << 30)

/* A transaction of any kind. */
struct lmdb_txn {
    struct qm_txn base;
    MDB_txn *mdb;
    struct lmdb_slot *slot; /* READ on a handle that writes */
    gboolean owned;         /* free it at its end */
    pthread_mutex_t *guard; /* SNAPSHOT: of mdb and what its cursors read; else NULL */
    pthread_mutex_t lock;   /* ... which is this one, or read_lock on a handle for reading */
    gboolean shared;        /* SNAPSHOT: mdb is that of `reader` */
    gboolean stale;         /* SNAPSHOT: ended by growth, or by a new generation */
};

struct lmdb_slot {
    pthread_mutex_t lock; /* held while the transaction is in use */
    struct lmdb_txn txn;
    char apart[128]; /* no two slots in one cache line */
};

struct lmdb_backend {
    struct qm_backend base;
    struct qm_lmdb_dir *dir;
    MDB_env *env;
    MDB_dbi dbi[QM_TABLES];
    gboolean writable;
    gboolean replaces; /* fresh, at next_path, beside the store that is there ... */
    gboolean unread;   /* ... which could not be read: its files stay */
    char *next_path;
    unsigned psize;
    struct lmdb_slot slot[QM_LMDB_SLOTS];
    pthread_mutex_t read_lock; /* of `reader` */
    struct lmdb_txn reader; /* handle for reading: the one transaction; else the last good state */
    pthread_mutex_t snapshots_lock;
    GPtrArray *snapshots;    /* of struct lmdb_txn, those that are not stale */
    uint64_t map_size;       /* only the writer changes it */
    uint64_t allocated;      /* bytes of the file that have blocks, as far as known; writer only */
    int fd;                  /* LMDB's, of data.mdb */
    _Atomic uint64_t length; /* the file is as long as this, or longer */
    gboolean panicked;       /* a commit failed; writer only */
    gboolean origin_due;     /* `origin` must still be written; writer only */
};

static inline struct lmdb_backend *lmdb_of(struct qm_txn *txn)
{
    return (struct lmdb_backend *)txn->backend;
}

/* ---- backend-lmdb.c ---- */

/* A handle with nothing open yet. qm_lmdb_free() closes its environment; `dir` is the caller's. */
struct lmdb_backend *qm_lmdb_new(gboolean write);
void qm_lmdb_free(struct lmdb_backend *b);
/* Writes `origin` beside an environment that is not current yet. */
int qm_lmdb_write_origin(const char *env_path, uint64_t number);

/* ---- lmdb-env.c ---- */

/* What an MDB_* code is as a negative errno, or QM_GROW. */
int qm_lmdb_errno(int rc);
/* Opens the environment at `env_path`, or makes it, and begins what is there as long as it is open.
 * On failure qm_lmdb_close_env() is still due. */
int qm_lmdb_open_env(struct lmdb_backend *b, const char *env_path, gboolean fresh,
                     uint64_t map_size, enum qm_lmdb_extent extent, GError **error);
/* Aborts the read transactions of this handle and closes its environment. */
void qm_lmdb_close_env(struct lmdb_backend *b);
/* The number of the newest transaction. */
uint64_t qm_lmdb_newest(struct lmdb_backend *b);
/* Whether the file still has all that LMDB may follow. */
int qm_lmdb_check_length(struct lmdb_backend *b);
void qm_lmdb_note_length(struct lmdb_backend *b);

/* ---- lmdb-room.c ---- */

/* Bytes of the file that are in use in the newest state. */
uint64_t qm_lmdb_used(struct lmdb_backend *b);
/* Allocates blocks so that a transaction of `rows` rows fits behind what is in use. */
int qm_lmdb_make_room(struct lmdb_backend *b, size_t rows);
int qm_lmdb_grow(struct qm_backend *backend);
uint64_t qm_lmdb_live(struct qm_txn *txn);
void qm_lmdb_room(struct qm_backend *backend, uint64_t *used, uint64_t *limit);

/* ---- lmdb-txn.c ---- */

/* LMDB's own code comes back. */
int qm_lmdb_begin_mdb(struct lmdb_backend *b, unsigned flags, MDB_txn **txn);
/* Moves `reader` to the newest state. */
int qm_lmdb_renew_reader(struct lmdb_backend *b);
/* No transaction of this process is active between these two; snapshots end. */
void qm_lmdb_park(struct lmdb_backend *b);
void qm_lmdb_unpark(struct lmdb_backend *b);
int qm_lmdb_begin(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows,
                  struct qm_txn **txn);
int qm_lmdb_commit(struct qm_txn *txn);
void qm_lmdb_abort(struct qm_txn *txn);
uint64_t qm_lmdb_number(struct qm_txn *txn);

/* ---- lmdb-rows.c ---- */

int qm_lmdb_get(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                struct qm_bytes *value);
int qm_lmdb_put(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                struct qm_bytes value);
int qm_lmdb_del(struct qm_txn *txn, enum qm_table table, struct qm_bytes key);
int qm_lmdb_cursor_open(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor);
int qm_lmdb_cursor_seek(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                        struct qm_bytes *v);
int qm_lmdb_cursor_next(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v);
int qm_lmdb_cursor_prev(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v);
void qm_lmdb_cursor_close(struct qm_cursor *cursor);

/* ---- lmdb-recover.c ---- */

int qm_lmdb_recover(struct qm_backend *backend, struct qm_meta *meta, GError **error);

#endif
