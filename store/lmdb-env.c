/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One LMDB environment: opening it with its tables and the transaction that stays, and closing it.
 * Every MDB_* code is translated by qm_lmdb_errno(). Knows nothing of generations.
 *
 * Flags: full sync, always. MDB_NOTLS, so that a read transaction belongs to whoever holds it.
 *
 * The file below a running process: LMDB reads it through a map, where a file that somebody cut off
 * is a signal and not an error. So its length is asked before each use (which leaves the instants
 * between).
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <errno.h>
#include <sys/stat.h>

#include "store/error.h"

#define MAX_READERS 254u
#define MAP_FIRST   (sizeof(void *) > 4 ? UINT64_C(1) << 30 : UINT64_C(1) << 26)

int qm_lmdb_errno(int rc)
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

/* Whether the file still has all that LMDB may follow. It grows meanwhile: the length that it must
 * have is asked first. */
int qm_lmdb_check_length(struct lmdb_backend *b)
{
    uint64_t length = atomic_load_explicit(&b->length, memory_order_acquire);
    struct stat st;

    if (fstat(b->fd, &st) != 0)
        return -errno;
    return (uint64_t)st.st_size < length ? -EUCLEAN : 0;
}

void qm_lmdb_note_length(struct lmdb_backend *b)
{
    atomic_store_explicit(&b->length, qm_lmdb_used(b), memory_order_release);
}

uint64_t qm_lmdb_newest(struct lmdb_backend *b)
{
    MDB_envinfo info;

    return mdb_env_info(b->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_tables(struct lmdb_backend *b, MDB_txn *txn, unsigned flags)
{
    int i, rc = 0;

    for (i = 0; rc == 0 && i < QM_TABLES; i++)
        rc = mdb_dbi_open(txn, qm_table_name((enum qm_table)i), flags, &b->dbi[i]);
    return rc == MDB_NOTFOUND ? -EUCLEAN : qm_lmdb_errno(rc);
}

/* The transaction that a handle for reading keeps. The state that it sees must be looked at before
 * it is used; while a writer commits, its meta page may be gone before that. */
static int begin_reader(struct lmdb_backend *b, enum qm_lmdb_extent extent, MDB_txn **txn,
                        GError **error)
{
    int tries, rc, e = 0;

    for (tries = 0; tries < 10; tries++) {
        g_clear_error(error);
        rc = qm_lmdb_begin_mdb(b, MDB_RDONLY, txn);
        if (rc == MDB_READERS_FULL)
            return qm_set_error(error, EAGAIN,
                                "too many processes and threads read it at once (%u): try again",
                                MAX_READERS);
        if (rc != 0)
            return qm_set_error(error, MAX(-qm_lmdb_errno(rc), 1), "cannot read: %s",
                                mdb_strerror(rc));
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
    int e = fresh ? qm_lmdb_make_room(b, 1) : 0;

    if (e == 0)
        e = qm_lmdb_errno(qm_lmdb_begin_mdb(b, fresh ? 0 : MDB_RDONLY, &txn));
    if (e == 0) {
        e = open_tables(b, txn, fresh ? MDB_CREATE : 0);
        if (e == 0)
            e = qm_lmdb_errno(mdb_txn_commit(txn));
        else
            mdb_txn_abort(txn);
    }
    return e == 0 ? qm_lmdb_errno(qm_lmdb_begin_mdb(b, MDB_RDONLY, &b->reader.mdb)) : e;
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
    qm_lmdb_note_length(b);
    return 0;
}

int qm_lmdb_open_env(struct lmdb_backend *b, const char *env_path, gboolean fresh,
                     uint64_t map_size, enum qm_lmdb_extent extent, GError **error)
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
    while (b->map_size < (uint64_t)st.st_size * 2 && b->map_size < QM_LMDB_MAP_LAST)
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
        return qm_set_error(error, MAX(-qm_lmdb_errno(rc), 1), "cannot open its environment: %s",
                            mdb_strerror(rc));
    b->psize = ms.ms_psize;
    if (b->writable)
        (void)mdb_reader_check(b->env, &dead);
    return first_txn(b, fresh, extent, error);
}

/* Aborts the read transactions of this handle and closes its environment. */
void qm_lmdb_close_env(struct lmdb_backend *b)
{
    unsigned i;

    for (i = 0; i < QM_LMDB_SLOTS; i++) {
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
