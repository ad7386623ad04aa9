/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lmdb: the tables as named databases of an LMDB environment. The only file that includes lmdb.h;
 * every MDB_* code is translated by translate().
 *
 * Flags: full sync, always. MDB_NOTLS, so that a read transaction belongs to whoever holds it.
 *
 * Readers of a handle that writes: a fixed set of slots, each with a read transaction that is reset
 * and renewed and a lock of its own. A reader takes the first slot that is free, beginning at one
 * that its thread's address picks: as long as there are fewer readers than slots, no two share a
 * cache line that is written to. Snapshots have a transaction of their own.
 *
 * Growth: LMDB moves its map when it grows, and no transaction of this process may be active then.
 * The writer takes all slots' locks (that parks the readers), ends the snapshots (their owners get
 * -ESTALE and begin again) and grows. The map starts at MAP_FIRST, far above what nearly all stores
 * need, so this is rare; address space costs nothing.
 *
 * A handle for reading sees the state at its opening, through one transaction for its whole life.
 * A handle that writes has such a transaction, too, `reader`: it is moved to the newest state
 * before each write transaction begins. When a commit fails at LMDB's meta page, LMDB gives no
 * further transaction, and nobody knows which state the disk has: what is read again comes from
 * memory. Then readers use `reader`, and recover() copies what it sees to a new generation.
 *
 * The file below a running process: LMDB reads it through a map, where a file that somebody cut off
 * is a signal and not an error. So its length is asked before each use (which leaves the instants
 * between), and before each write transaction whether it is still at its place: rows that go into a
 * file that somebody removed would be lost.
 *
 * Room: before a write transaction begins, the file is made as long as the transaction can need,
 * with blocks allocated. So a full disk shows as ENOSPC before anything is written, and not as EIO
 * in the middle of a commit, after which nobody knows what is on the disk.
 *
 * Locks: slot[i].lock (ascending) > snapshots_lock > snapshot.lock or read_lock.
 */
#include "config.h"

#include "store/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"
#include "store/lmdb-copy.h"
#include "store/lmdb-dir.h"
#include "store/lmdb-origin.h"
#include "store/lmdb-verify.h"

#define SLOTS          16u
#define MAX_READERS    254u
#define MAP_FIRST      (sizeof(void *) > 4 ? UINT64_C(1) << 30 : UINT64_C(1) << 26)
#define MAP_LAST       (sizeof(void *) > 4 ? UINT64_C(1) << 44 : UINT64_C(1) << 30)
#define ROOM_STEP      (UINT64_C(1) << 20)
#define ROOM_STEP_LAST (UINT64_C(1) << 26)

struct lmdb_backend;

/* A transaction of any kind. */
struct lmdb_txn {
    struct qm_txn base;
    MDB_txn *mdb;
    struct slot *slot;      /* READ on a handle that writes */
    gboolean owned;         /* free it at its end */
    pthread_mutex_t *guard; /* SNAPSHOT: of mdb and what its cursors read; else NULL */
    pthread_mutex_t lock;   /* ... which is this one, or read_lock on a handle for reading */
    gboolean shared;        /* SNAPSHOT: mdb is that of `reader` */
    gboolean stale;         /* SNAPSHOT: ended by growth, or by a new generation */
};

struct slot {
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
    struct slot slot[SLOTS];
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

struct lmdb_cursor {
    struct qm_cursor base;
    MDB_cursor *mdb;
    uint8_t copy[QM_KEY_MAX + QM_VALUE_MAX]; /* SNAPSHOT: the row, out of the map's reach */
};

static int translate(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_MAP_FULL:
        return QM_GROW;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_DBI:
        return -EUCLEAN;
    case MDB_VERSION_MISMATCH:
        return -EPROTO;
    case MDB_READERS_FULL:
    case MDB_MAP_RESIZED:
        return -EAGAIN;
    case MDB_TXN_FULL:
        return -E2BIG;
    case MDB_BAD_VALSIZE:
        return -EINVAL;
    default:
        return rc > 0 ? -rc : -EIO;
    }
}

static struct lmdb_backend *lmdb_of(struct qm_txn *txn)
{
    return (struct lmdb_backend *)txn->backend;
}

/* ---- room ------------------------------------------------------------------------------------ */

/* Bytes of the file that are in use in the newest state. */
static uint64_t used_bytes(struct lmdb_backend *b)
{
    MDB_envinfo info;

    if (mdb_env_info(b->env, &info) != 0)
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * b->psize;
}

/* Allocates blocks so that a transaction of `rows` rows fits behind what is in use. A row copies
 * its leaf and may split it; pages above are shared. All rows together copy no more pages than
 * there are, and fill new ones by half, at a dozen rows each or more. */
static int make_room(struct lmdb_backend *b, size_t rows)
{
    uint64_t used = used_bytes(b);
    uint64_t pages = 64 + MIN(2 * (uint64_t)rows, 2 * used / b->psize + rows / 6);
    uint64_t need = used + pages * b->psize;
    uint64_t step = CLAMP(used / 16, ROOM_STEP, ROOM_STEP_LAST);
    uint64_t want = (need + step - 1) / step * step;
    int rc, dead;

    if (need <= b->allocated)
        return 0;
    /* The slot of a reader that was killed keeps every page that was freed since. */
    (void)mdb_reader_check(b->env, &dead);
    do {
        rc = fallocate(b->fd, 0, 0, (off_t)want) == 0 ? 0 : errno;
    } while (rc == EINTR);
    if (rc == ENOSPC || rc == EDQUOT) { /* not so far ahead, then */
        want = need;
        do {
            rc = fallocate(b->fd, 0, 0, (off_t)want) == 0 ? 0 : errno;
        } while (rc == EINTR);
    }
    if (rc == EOPNOTSUPP || rc == ENOSYS) {
        struct stat st;

        /* Pages that a transaction took and did not need are never written: the file must be as
         * long as what it counts all the same. */
        rc = fstat(b->fd, &st) != 0 ||
                     (st.st_size < (off_t)want && ftruncate(b->fd, (off_t)want) != 0)
                 ? errno
                 : 0;
    }
    if (rc == 0) {
        b->allocated = want;
        return 0;
    }
    return -rc;
}

static void lmdb_room(struct qm_backend *backend, uint64_t *used, uint64_t *limit)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;

    pthread_mutex_lock(&b->snapshots_lock); /* recover() changes the environment */
    *used = used_bytes(b);
    pthread_mutex_unlock(&b->snapshots_lock);
    *limit = MAP_LAST;
}

/* ---- transactions ---------------------------------------------------------------------------- */

/* LMDB's own code comes back. */
static int begin_mdb(struct lmdb_backend *b, unsigned flags, MDB_txn **txn)
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

/* Whether the file still has all that LMDB may follow. It grows meanwhile: the length that it must
 * have is asked first. */
static int check_length(struct lmdb_backend *b)
{
    uint64_t length = atomic_load_explicit(&b->length, memory_order_acquire);
    struct stat st;

    if (fstat(b->fd, &st) != 0)
        return -errno;
    return (uint64_t)st.st_size < length ? -EUCLEAN : 0;
}

static void note_length(struct lmdb_backend *b)
{
    atomic_store_explicit(&b->length, used_bytes(b), memory_order_release);
}

/* Moves `reader` to the newest state. */
static int renew_reader(struct lmdb_backend *b)
{
    int rc;

    pthread_mutex_lock(&b->read_lock);
    mdb_txn_reset(b->reader.mdb);
    rc = mdb_txn_renew(b->reader.mdb);
    pthread_mutex_unlock(&b->read_lock);
    return translate(rc);
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
    e = check_length(b);
    if (e == 0)
        *txn = &b->reader.base;
    else
        pthread_mutex_unlock(&b->read_lock);
    return e;
}

static int begin_read(struct lmdb_backend *b, struct qm_txn **txn)
{
    unsigned first = first_slot(), i;
    struct slot *s = NULL;
    int rc;

    for (i = 0; i < SLOTS && !s; i++) {
        if (pthread_mutex_trylock(&b->slot[(first + i) % SLOTS].lock) == 0)
            s = &b->slot[(first + i) % SLOTS];
    }
    if (!s) {
        s = &b->slot[first % SLOTS];
        pthread_mutex_lock(&s->lock);
    }
    rc = check_length(b);
    if (rc != 0) {
        pthread_mutex_unlock(&s->lock);
        return rc;
    }
    rc = s->txn.mdb ? mdb_txn_renew(s->txn.mdb) : begin_mdb(b, MDB_RDONLY, &s->txn.mdb);
    if (rc == 0) {
        *txn = &s->txn.base;
        return 0;
    }
    pthread_mutex_unlock(&s->lock);
    return rc == MDB_PANIC ? lend_reader(b, txn) : translate(rc);
}

static int begin_snapshot(struct lmdb_backend *b, struct lmdb_txn *t)
{
    int rc;

    if (!b->writable) {
        t->mdb = b->reader.mdb;
        t->guard = &b->read_lock;
        t->shared = TRUE;
        return check_length(b);
    }
    /* Growth must not run between the beginning and the note of it. */
    pthread_mutex_lock(&b->snapshots_lock);
    rc = check_length(b);
    if (rc != 0) {
        pthread_mutex_unlock(&b->snapshots_lock);
        return rc;
    }
    rc = begin_mdb(b, MDB_RDONLY, &t->mdb);
    t->guard = rc == MDB_PANIC ? &b->read_lock : &t->lock;
    if (rc == MDB_PANIC) {
        t->mdb = b->reader.mdb;
        t->shared = TRUE;
        rc = 0;
    }
    if (rc == 0)
        g_ptr_array_add(b->snapshots, t);
    pthread_mutex_unlock(&b->snapshots_lock);
    return translate(rc);
}

static int begin_write(struct lmdb_backend *b, size_t rows, struct lmdb_txn *t)
{
    int e = b->panicked ? -EIO : b->replaces ? 0 : qm_lmdb_dir_check(b->dir, b->fd);

    if (e == 0)
        e = check_length(b);
    if (e == 0)
        e = make_room(b, rows);
    if (e == 0)
        e = renew_reader(b);
    return e == 0 ? translate(begin_mdb(b, 0, &t->mdb)) : e;
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

static int lmdb_begin(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows,
                      struct qm_txn **txn)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;

    if (kind != QM_TXN_READ)
        return begin_owned(b, kind, rows, txn);
    return b->writable ? begin_read(b, txn) : lend_reader(b, txn);
}

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
static void park(struct lmdb_backend *b)
{
    unsigned i;

    for (i = 0; i < SLOTS; i++)
        pthread_mutex_lock(&b->slot[i].lock);
    pthread_mutex_lock(&b->snapshots_lock);
    end_snapshots(b);
    pthread_mutex_lock(&b->read_lock);
}

static void unpark(struct lmdb_backend *b)
{
    unsigned i;

    pthread_mutex_unlock(&b->read_lock);
    pthread_mutex_unlock(&b->snapshots_lock);
    for (i = SLOTS; i > 0; i--)
        pthread_mutex_unlock(&b->slot[i - 1].lock);
}

static void lmdb_abort(struct qm_txn *txn)
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
    int rc = begin_mdb(b, MDB_RDONLY, &txn);

    if (rc == 0)
        mdb_txn_abort(txn);
    return rc == MDB_PANIC;
}

static int lmdb_commit(struct qm_txn *txn)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct qm_backend *backend = txn->backend;
    struct lmdb_backend *b = lmdb_of(txn);
    g_autofree uint8_t *slot = NULL;
    uint64_t number;
    gboolean saved;
    int rc;

    if (txn->kind != QM_TXN_WRITE) {
        lmdb_abort(txn);
        return 0;
    }
    slot = g_malloc(b->psize);
    number = mdb_txn_id(t->mdb);
    saved = pread(b->fd, slot, b->psize, (off_t)(number & 1) * b->psize) == (ssize_t)b->psize;
    rc = mdb_txn_commit(t->mdb);
    g_free(t);
    if (rc == 0) {
        note_length(b);
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
    rc = translate(rc);
    return rc == -ENOSPC || rc == -EDQUOT ? -EIO : rc;
}

static int lmdb_grow(struct qm_backend *backend)
{
    void *probe;
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    int rc, again, dead;

    if (b->map_size > MAP_LAST / 2)
        return -ENOSPC;
    park(b);
    mdb_txn_reset(b->reader.mdb);
    /* LMDB gives the old map back before it asks for the new one, and is left without any where
     * that fails: whether there is address space must be known before. */
    probe =
        mmap(NULL, b->map_size * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) {
        rc = ENOMEM;
    } else {
        munmap(probe, b->map_size * 2);
        rc = mdb_env_set_mapsize(b->env, b->map_size * 2);
    }
    if (rc == 0)
        b->map_size *= 2;
    (void)mdb_reader_check(b->env, &dead);
    again = mdb_txn_renew(b->reader.mdb);
    unpark(b);
    return translate(rc != 0 ? rc : again);
}

static uint64_t lmdb_number(struct qm_txn *txn)
{
    return mdb_txn_id(((struct lmdb_txn *)txn)->mdb);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static MDB_val val_of(struct qm_bytes bytes)
{
    MDB_val v = {bytes.size, (void *)(uintptr_t)bytes.data};

    return v;
}

static struct qm_bytes bytes_of(MDB_val v)
{
    return (struct qm_bytes){v.mv_data, v.mv_size};
}

static int lmdb_get(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                    struct qm_bytes *value)
{
    MDB_val k = val_of(key), v;
    int rc = mdb_get(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, &v);

    if (rc == 0)
        *value = bytes_of(v);
    return translate(rc);
}

static int lmdb_put(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                    struct qm_bytes value)
{
    MDB_val k = val_of(key), v = val_of(value);

    return translate(mdb_put(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, &v, 0));
}

static int lmdb_del(struct qm_txn *txn, enum qm_table table, struct qm_bytes key)
{
    MDB_val k = val_of(key);

    return translate(mdb_del(((struct lmdb_txn *)txn)->mdb, lmdb_of(txn)->dbi[table], &k, NULL));
}

static int lmdb_cursor_open(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct lmdb_cursor *c = g_new0(struct lmdb_cursor, 1);
    int e = -ESTALE;

    c->base.txn = txn;
    c->base.table = table;
    if (t->guard)
        pthread_mutex_lock(t->guard);
    if (!t->stale)
        e = translate(mdb_cursor_open(t->mdb, lmdb_of(txn)->dbi[table], &c->mdb));
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
        e = translate(mdb_cursor_get(c->mdb, &mk, &mv, op));
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

static int lmdb_cursor_seek(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                            struct qm_bytes *v)
{
    return move(cursor, key.size ? MDB_SET_RANGE : MDB_FIRST, key, k, v);
}

static int lmdb_cursor_next(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return move(cursor, MDB_NEXT, (struct qm_bytes){NULL, 0}, k, v);
}

static int lmdb_cursor_prev(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return move(cursor, MDB_PREV, (struct qm_bytes){NULL, 0}, k, v);
}

static void lmdb_cursor_close(struct qm_cursor *cursor)
{
    mdb_cursor_close(((struct lmdb_cursor *)cursor)->mdb);
    g_free(cursor);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_tables(struct lmdb_backend *b, MDB_txn *txn, unsigned flags)
{
    int i, rc = 0;

    for (i = 0; rc == 0 && i < QM_TABLES; i++)
        rc = mdb_dbi_open(txn, qm_table_name((enum qm_table)i), flags, &b->dbi[i]);
    return rc == MDB_NOTFOUND ? -EUCLEAN : translate(rc);
}

/* The transaction that a handle for reading keeps. The state that it sees must be looked at before
 * it is used; while a writer commits, its meta page may be gone before that. */
static int begin_reader(struct lmdb_backend *b, enum qm_lmdb_extent extent, MDB_txn **txn,
                        GError **error)
{
    int tries, rc, e = 0;

    for (tries = 0; tries < 10; tries++) {
        g_clear_error(error);
        rc = begin_mdb(b, MDB_RDONLY, txn);
        if (rc == MDB_READERS_FULL)
            return qm_set_error(error, EAGAIN,
                                "too many processes and threads read it at once (%u): try again",
                                MAX_READERS);
        if (rc != 0)
            return qm_set_error(error, MAX(-translate(rc), 1), "cannot read: %s", mdb_strerror(rc));
        e = qm_lmdb_verify(b->dir->env_path, mdb_txn_id(*txn), extent, error);
        if (e == 0)
            return 0;
        mdb_txn_abort(*txn);
        *txn = NULL;
        if (e != -ESTALE)
            break;
    }
    return e;
}

/* Table handles are made in a transaction that commits; a reader keeps its transaction. */
static int open_writer(struct lmdb_backend *b, gboolean fresh)
{
    MDB_txn *txn = NULL;
    int e = fresh ? make_room(b, 1) : 0;

    if (e == 0)
        e = translate(begin_mdb(b, fresh ? 0 : MDB_RDONLY, &txn));
    if (e == 0) {
        e = open_tables(b, txn, fresh ? MDB_CREATE : 0);
        if (e == 0)
            e = translate(mdb_txn_commit(txn));
        else
            mdb_txn_abort(txn);
    }
    return e == 0 ? translate(begin_mdb(b, MDB_RDONLY, &b->reader.mdb)) : e;
}

static int first_txn(struct lmdb_backend *b, gboolean fresh, enum qm_lmdb_extent extent,
                     GError **error)
{
    int e;

    if (b->writable) {
        e = open_writer(b, fresh);
    } else {
        e = begin_reader(b, extent, &b->reader.mdb, error);
        if (e != 0)
            return e;
        e = open_tables(b, b->reader.mdb, 0);
    }
    if (e == -EUCLEAN)
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged (a table is missing); nothing was "
                            "changed: restore it from a backup");
    if (e != 0)
        return qm_set_error(error, e, "cannot open its tables: %s", g_strerror(-e));
    note_length(b);
    return 0;
}

static int open_env(struct lmdb_backend *b, const char *env_path, gboolean fresh, uint64_t map_size,
                    enum qm_lmdb_extent extent, GError **error)
{
    g_autofree char *data = g_build_filename(env_path, "data.mdb", NULL);
    unsigned flags = MDB_NOTLS | (b->writable ? 0 : MDB_RDONLY);
    struct stat st = {.st_size = 0};
    MDB_stat ms;
    int rc, dead;

    if (!fresh && (stat(data, &st) != 0 || st.st_size == 0))
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged: %s is missing or empty; nothing "
                            "was changed: restore a backup",
                            data);
    b->map_size = map_size ? map_size : MAP_FIRST;
    while (b->map_size < (uint64_t)st.st_size * 2 && b->map_size < MAP_LAST)
        b->map_size *= 2;
    rc = mdb_env_create(&b->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(b->env, QM_TABLES + 1);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(b->env, MAX_READERS);
    if (rc == 0)
        rc = mdb_env_set_mapsize(b->env, b->map_size);
    if (rc == 0)
        rc = mdb_env_open(b->env, env_path, flags, 0600);
    if (rc == 0)
        rc = mdb_env_stat(b->env, &ms);
    if (rc == 0)
        rc = mdb_env_get_fd(b->env, &b->fd);
    if (rc == MDB_VERSION_MISMATCH)
        return qm_set_error(error, EPROTO,
                            "made by another version of LMDB (%s): load the dump of its last "
                            "clean stop, %s, into a new store",
                            mdb_strerror(rc), b->base.dump);
    if ((rc == EACCES || rc == EPERM) && !b->writable)
        return qm_set_error(error, rc,
                            "cannot open it: a reader must be allowed to write to %s/"
                            "lock.mdb: run as the user whose store it is, or as root",
                            env_path);
    if (rc == MDB_INVALID || rc == MDB_CORRUPTED)
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged (%s); nothing was changed: restore "
                            "a backup",
                            mdb_strerror(rc));
    if (rc != 0)
        return qm_set_error(error, MAX(-translate(rc), 1), "cannot open its environment: %s",
                            mdb_strerror(rc));
    b->psize = ms.ms_psize;
    if (b->writable)
        (void)mdb_reader_check(b->env, &dead);
    return first_txn(b, fresh, extent, error);
}

/* Aborts the read transactions of this handle and closes its environment. */
static void close_env(struct lmdb_backend *b)
{
    unsigned i;

    for (i = 0; i < SLOTS; i++) {
        if (b->slot[i].txn.mdb)
            mdb_txn_abort(b->slot[i].txn.mdb);
        b->slot[i].txn.mdb = NULL;
    }
    if (b->reader.mdb)
        mdb_txn_abort(b->reader.mdb);
    b->reader.mdb = NULL;
    if (b->env)
        mdb_env_close(b->env);
    b->env = NULL;
}

static uint64_t newest(struct lmdb_backend *b)
{
    MDB_envinfo info;

    return mdb_env_info(b->env, &info) == 0 ? info.me_last_txnid : 0;
}

static void free_backend(struct lmdb_backend *b)
{
    unsigned i;

    close_env(b);
    for (i = 0; i < SLOTS; i++)
        pthread_mutex_destroy(&b->slot[i].lock);
    g_ptr_array_free(b->snapshots, TRUE);
    pthread_mutex_destroy(&b->snapshots_lock);
    pthread_mutex_destroy(&b->read_lock);
    g_free(b->next_path);
    g_free(b->base.kept);
    g_free(b);
}

static void lmdb_close(struct qm_backend *backend)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    struct qm_lmdb_dir *dir = b->dir;
    /* The times of the file must be on the disk before they are noted. */
    gboolean stopped = b->writable && backend->clean && !b->panicked && !b->origin_due && b->env &&
                       fsync(b->fd) == 0;
    uint64_t number = stopped ? newest(b) : 0;

    if (b->replaces)
        stopped = FALSE;
    free_backend(b);
    if (stopped)
        (void)qm_lmdb_origin_write(dir->gen_fd, TRUE, number); /* else the next open looks harder */
    qm_lmdb_dir_close(dir);
}

static struct lmdb_backend *new_backend(gboolean write)
{
    struct lmdb_backend *b = g_new0(struct lmdb_backend, 1);
    unsigned i;

    b->base.ops = &qm_backend_lmdb;
    b->writable = write;
    b->fd = -1;
    b->snapshots = g_ptr_array_new();
    pthread_mutex_init(&b->read_lock, NULL);
    pthread_mutex_init(&b->snapshots_lock, NULL);
    for (i = 0; i < SLOTS; i++) {
        pthread_mutex_init(&b->slot[i].lock, NULL);
        b->slot[i].txn.base.backend = &b->base;
        b->slot[i].txn.slot = &b->slot[i];
    }
    b->reader.base.backend = &b->base;
    return b;
}

/* Which file data.mdb of the current generation is. */
static enum qm_origin find_origin(const struct qm_lmdb_dir *dir, guint64 number)
{
    enum qm_origin origin = qm_lmdb_origin_read(dir->gen_fd, number);

    /* Where a later generation was whole, ids may have come out of it. */
    return dir->newer || (origin == QM_ORIGIN_OPEN && qm_lmdb_dir_is_older(dir, number))
               ? QM_ORIGIN_COPIED
               : origin;
}

/* Looks at the pages before LMDB follows them. Where a clean stop left the very file as it is, or a
 * writer who looked has it open now, the tables that may be large are trusted. */
static int look(struct lmdb_backend *b, gboolean lenient, enum qm_lmdb_extent *extent,
                GError **error)
{
    const struct qm_lmdb_dir *dir = b->dir;
    enum qm_origin origin;
    guint64 number;
    int e = qm_lmdb_verify_heads(dir->env_path, &number, error);

    if (e != 0)
        return e;
    origin = find_origin(dir, number);
    *extent = origin == QM_ORIGIN_STOPPED ||
                      (origin == QM_ORIGIN_OPEN && !b->writable && qm_lmdb_dir_has_writer(dir))
                  ? QM_LMDB_SMALL
                  : QM_LMDB_ALL;
    if (lenient)
        *extent = QM_LMDB_PAGES;
    if (!b->writable)
        return 0; /* begin_reader() goes on */
    b->base.copied = origin == QM_ORIGIN_COPIED;
    e = qm_lmdb_verify(dir->env_path, 0, *extent, error);
    /* Where the disk cannot be written to, what is known is served all the same. */
    if (e == 0 && origin != QM_ORIGIN_STOPPED && qm_lmdb_settle(dir->env_path, NULL) != 0) {
        b->panicked = TRUE;
        b->base.failed = TRUE;
    }
    return e;
}

/* An environment beside the one that is there, which publish() puts in its place. */
static int open_next(struct lmdb_backend *b, uint64_t map_size, GError **error)
{
    int e = qm_lmdb_dir_begin(b->dir, &b->next_path, error);

    b->base.fresh = TRUE;
    b->replaces = TRUE;
    return e == 0 ? open_env(b, b->next_path, TRUE, map_size, QM_LMDB_ALL, error) : e;
}

static struct qm_backend *lmdb_open(const char *place, const struct qm_backend_config *config,
                                    GError **error)
{
    struct qm_lmdb_dir *dir = qm_lmdb_dir_open(place, config->write, config->create, error);
    enum qm_lmdb_extent extent = QM_LMDB_ALL;
    struct lmdb_backend *b;
    int e = 0;

    if (!dir)
        return NULL;
    b = new_backend(config->write);
    b->dir = dir;
    b->base.fresh = dir->fresh;
    b->base.dump = dir->dump;
    if (config->replace && !dir->fresh) {
        e = open_next(b, config->map_size, error);
    } else {
        if (!dir->fresh)
            e = look(b, config->lenient, &extent, error);
        if (e == -EPROTO && g_file_test(dir->dump, G_FILE_TEST_EXISTS))
            g_prefix_error(error, "the dump of its last clean stop is %s: ", dir->dump);
        if (e == 0)
            e = open_env(b, dir->env_path, dir->fresh, config->map_size, extent, error);
    }
    if (e != 0) {
        lmdb_close(&b->base);
        return NULL;
    }
    /* Of a copy it is written with the first commit, which moves the counters on. */
    if (b->writable)
        b->origin_due = b->base.fresh || b->base.copied ||
                        qm_lmdb_origin_write(dir->gen_fd, FALSE, newest(b)) != 0;
    return &b->base;
}

/* Writes `origin` beside an environment that is not current yet. */
static int write_origin(const char *env_path, uint64_t number)
{
    int fd = open(env_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int e = fd < 0 ? -errno : qm_lmdb_origin_write(fd, FALSE, number);

    if (fd >= 0)
        close(fd);
    return e;
}

static int lmdb_publish(struct qm_backend *backend, GError **error)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    g_autofree char *old = g_strdup(b->dir->name);
    int e = write_origin(b->replaces ? b->next_path : b->dir->env_path, newest(b));

    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    b->origin_due = FALSE;
    e = b->replaces ? qm_lmdb_dir_switch(b->dir, error) : qm_lmdb_dir_publish(b->dir, error);
    if (e != 0)
        return e;
    if (b->replaces && b->unread)
        backend->kept = qm_lmdb_dir_keep(b->dir, old);
    if (b->replaces)
        qm_lmdb_dir_clean(b->dir);
    b->replaces = FALSE;
    backend->fresh = FALSE;
    return 0;
}

/* The environment that is to be replaced. Its handle has nothing of the directory's but its path.
 */
static struct qm_backend *lmdb_replaced(struct qm_backend *fresh, GError **error)
{
    struct lmdb_backend *b = (struct lmdb_backend *)fresh, *old;
    guint64 number;
    int e;

    if (!b->replaces)
        return NULL;
    old = new_backend(FALSE);
    old->dir = qm_lmdb_dir_view(b->dir);
    e = qm_lmdb_verify_heads(old->dir->env_path, &number, error);
    if (e == 0)
        old->base.copied = find_origin(b->dir, number) == QM_ORIGIN_COPIED;
    if (e == 0)
        e = open_env(old, old->dir->env_path, FALSE, 0, QM_LMDB_PAGES, error);
    if (e == 0)
        return &old->base;
    lmdb_close(&old->base);
    b->unread = TRUE;
    return NULL;
}

static void lmdb_discard(struct qm_backend *backend)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    struct qm_lmdb_dir *dir = b->dir;

    free_backend(b);
    if (dir->fresh)
        qm_lmdb_dir_discard(dir);
    else
        qm_lmdb_dir_drop(dir);
    qm_lmdb_dir_close(dir);
}

/* ---- a new generation ------------------------------------------------------------------------ */

/* A whole environment at `env_path`, made of the last good state, open. */
static int make_next(struct lmdb_backend *b, const char *env_path, struct qm_meta *meta,
                     struct lmdb_backend *next, GError **error)
{
    struct lmdb_txn from = b->reader;
    int e;

    from.base.kind = QM_TXN_SNAPSHOT;
    from.guard = &b->read_lock;
    e = qm_lmdb_copy(&from.base, env_path, used_bytes(b), meta, error);
    if (e == 0)
        e = qm_lmdb_verify(env_path, 0, QM_LMDB_ALL, error);
    if (e != 0)
        return e;
    e = write_origin(env_path, meta->transaction);
    if (e != 0)
        return qm_set_error(error, e, "cannot write a new generation: %s", g_strerror(-e));
    return open_env(next, env_path, FALSE, b->map_size, QM_LMDB_ALL, error);
}

static int lmdb_recover(struct qm_backend *backend, struct qm_meta *meta, GError **error)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    struct lmdb_backend *next;
    g_autofree char *env_path = NULL;
    int e = check_length(b);

    if (e != 0)
        return qm_set_error(error, e, "its file data.mdb became shorter: restore it from a backup");
    if (!b->panicked) /* nothing failed, then: the newest state is as good */
        e = renew_reader(b);
    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    e = qm_lmdb_dir_begin(b->dir, &env_path, error);
    if (e != 0)
        return e;
    next = new_backend(TRUE);
    next->base.dump = b->base.dump;
    e = make_next(b, env_path, meta, next, error);
    if (e != 0)
        qm_lmdb_dir_drop(b->dir);
    else
        e = qm_lmdb_dir_switch(b->dir, error);
    if (e == 0) {
        park(b);
        close_env(b);
        b->env = next->env;
        b->reader.mdb = next->reader.mdb;
        memcpy(b->dbi, next->dbi, sizeof(b->dbi));
        b->psize = next->psize;
        b->map_size = next->map_size;
        b->fd = next->fd;
        b->allocated = 0;
        b->panicked = FALSE;
        b->origin_due = FALSE;
        note_length(b);
        unpark(b);
        next->env = NULL;
        next->reader.mdb = NULL;
    }
    free_backend(next);
    if (e == 0) {
        qm_lmdb_dir_note(b->dir, meta->transaction);
        qm_lmdb_dir_clean(b->dir);
    }
    return e;
}

const struct qm_backend_ops qm_backend_lmdb = {
    .name = "lmdb",
    .has_full = TRUE,
    .open = lmdb_open,
    .publish = lmdb_publish,
    .replaced = lmdb_replaced,
    .discard = lmdb_discard,
    .close = lmdb_close,
    .begin = lmdb_begin,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .grow = lmdb_grow,
    .recover = lmdb_recover,
    .number = lmdb_number,
    .get = lmdb_get,
    .put = lmdb_put,
    .del = lmdb_del,
    .cursor_open = lmdb_cursor_open,
    .cursor_seek = lmdb_cursor_seek,
    .cursor_next = lmdb_cursor_next,
    .cursor_prev = lmdb_cursor_prev,
    .cursor_close = lmdb_cursor_close,
    .room = lmdb_room,
};
