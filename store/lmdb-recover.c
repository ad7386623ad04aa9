/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A new generation: the last good state, which `reader` still sees after a failed commit, or the
 * newest one, is copied there without the pages that nobody uses, and the handle goes on with it.
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <string.h>

#include "store/error.h"
#include "store/lmdb-copy.h"

/* A whole environment at `env_path`, made of the last good state, open. */
static int make_next(struct lmdb_backend *b, const char *env_path, struct qm_meta *meta,
                     struct lmdb_backend *next, GError **error)
{
    struct lmdb_txn from = b->reader;
    int e;

    from.base.kind = QM_TXN_SNAPSHOT;
    from.guard = &b->read_lock;
    e = qm_lmdb_copy(&from.base, env_path, qm_lmdb_used(b), meta, error);
    if (e == 0)
        e = qm_lmdb_verify(env_path, 0, QM_LMDB_ALL, error);
    if (e != 0)
        return e;
    e = qm_lmdb_write_origin(env_path, meta->transaction);
    if (e != 0)
        return qm_set_error(error, e, "cannot write a new generation: %s", g_strerror(-e));
    return qm_lmdb_open_env(next, env_path, FALSE, b->map_size, QM_LMDB_ALL, error);
}

int qm_lmdb_recover(struct qm_backend *backend, struct qm_meta *meta, GError **error)
{
    struct lmdb_backend *b = (struct lmdb_backend *)backend;
    struct lmdb_backend *next;
    g_autofree char *env_path = NULL;
    int e = qm_lmdb_check_length(b);

    b->base.doubtful = FALSE;
    if (e != 0)
        return qm_set_error(error, e, "its file data.mdb became shorter: restore it from a backup");
    if (!b->panicked) /* nothing failed, then: the newest state is as good */
        e = qm_lmdb_renew_reader(b);
    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    e = qm_lmdb_dir_begin(b->dir, &env_path, error);
    if (e != 0)
        return e;
    next = qm_lmdb_new(TRUE);
    next->base.dump = b->base.dump;
    e = make_next(b, env_path, meta, next, error);
    if (e != 0)
        qm_lmdb_dir_drop(b->dir);
    else
        e = qm_lmdb_dir_switch(b->dir, error);
    b->base.doubtful = e != 0 && b->dir->unsure;
    if (e == 0) {
        qm_lmdb_park(b);
        qm_lmdb_close_env(b);
        b->env = next->env;
        b->reader.mdb = next->reader.mdb;
        memcpy(b->dbi, next->dbi, sizeof(b->dbi));
        b->psize = next->psize;
        b->map_size = next->map_size;
        b->fd = next->fd;
        b->allocated = 0;
        b->panicked = FALSE;
        b->origin_due = FALSE;
        qm_lmdb_note_length(b);
        qm_lmdb_unpark(b);
        next->env = NULL;
        next->reader.mdb = NULL;
    }
    qm_lmdb_free(next);
    if (e == 0) {
        qm_lmdb_dir_note(b->dir, meta->transaction);
        qm_lmdb_dir_clean(b->dir);
    }
    return e;
}
