/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Space for an lmdb: store: blocks on the disk, and addresses for LMDB's map. Knows nothing of what
 * is written.
 *
 * Room: before a write transaction begins, the file is made as long as the transaction can need,
 * with blocks allocated. So a full disk shows as ENOSPC before anything is written, and not as EIO
 * in the middle of a commit, after which nobody knows what is on the disk.
 *
 * Growth: LMDB moves its map when it grows, and no transaction of this process may be active then.
 * The writer takes all slots' locks (that parks the readers), ends the snapshots (their owners get
 * -ESTALE and begin again) and grows. The map starts far above what nearly all stores need, so this
 * is rare; address space costs nothing.
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM_STEP      (UINT64_C(1) << 20)
#define ROOM_STEP_LAST (UINT64_C(1) << 26)

/* Bytes of the file that are in use in the newest state. */
uint64_t qm_lmdb_used(struct lmdb_backend *b)
{
    MDB_envinfo info;

    if (mdb_env_info(b->env, &info) != 0)
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * b->psize;
}

/* Allocates blocks so that a transaction of `rows` rows fits behind what is in use. A row copies
 * its leaf and may split it; pages above are shared. All rows together copy no more pages than
 * there are, and fill new ones by half, at a dozen rows each or more. */
int qm_lmdb_make_room(struct lmdb_backend *b, size_t rows)
{
    uint64_t used = qm_lmdb_used(b);
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

/* Pages of all tables; a copy has them, two meta pages and a few more. */
uint64_t qm_lmdb_live(struct qm_txn *txn)
{
    struct lmdb_txn *t = (struct lmdb_txn *)txn;
    struct lmdb_backend *b = lmdb_of(txn);
    uint64_t pages = 2 + QM_TABLES;
    MDB_stat stat;
    int i;

    pthread_mutex_lock(t->guard);
    for (i = 0; !t->stale && i < QM_TABLES; i++) {
        if (mdb_stat(t->mdb, b->dbi[i], &stat) == 0)
            pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    pthread_mutex_unlock(t->guard);
    return pages * b->psize;
}

void qm_lmdb_room(struct qm_backend *backend, uint64_t *used, uint64_t *limit)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;

    pthread_mutex_lock(&b->snapshots_lock); /* qm_lmdb_recover() changes the environment */
    *used = qm_lmdb_used(b);
    pthread_mutex_unlock(&b->snapshots_lock);
    *limit = QM_LMDB_MAP_LAST;
}

int qm_lmdb_grow(struct qm_backend *backend)
{
    void *probe;
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    int rc, again, dead;

    if (b->map_size > QM_LMDB_MAP_LAST / 2)
        return -ENOSPC;
    qm_lmdb_park(b);
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
    qm_lmdb_unpark(b);
    return qm_lmdb_errno(rc != 0 ? rc : again);
}
