/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fids and their life. See fid.h for the order of turns. */
#include "config.h"

#include "src/fid.h"

#include <errno.h>
#include <unistd.h>

#include "src/conn.h"
#include "src/export.h"
#include "src/proto.h"
#include "src/security.h"

/* With 8 bytes of malloc's own this fills a whole number of its 16-byte units. */
_Static_assert(
    sizeof(void *) != 8 || sizeof(struct fid) <= 120,
    "a client may have many fids: 200 bytes for each are promised, with all that it has");

static struct fid *fid_new(struct conn *conn, uint32_t number)
{
    struct fid *fid = g_new0(struct fid, 1);

    fid->account = &conn->account;
    fid->number = number;
    fd_cache_begin(fid);
    return fid;
}

struct fid_more *fid_more(struct fid *fid)
{
    if (fid->more == NULL) {
        fid->more = g_new0(struct fid_more, 1);
        pthread_mutex_init(&fid->more->mutex, NULL);
    }
    return fid->more;
}

static void more_free(struct fid *fid)
{
    struct fid_more *more = fid->more;

    if (more == NULL)
        return;
    lock_release(fid);
    fid_dir_free(more->dir);
    fid_xattr_free(more->xattr);
    if (more->made != NULL)
        fd_cache_forget(more->made->dir);
    g_free(more->made);
    pthread_mutex_destroy(&more->mutex);
    g_free(more);
    fid->more = NULL;
}

void fid_xattr_free(struct fid_xattr *xattr)
{
    if (xattr == NULL)
        return;
    g_free(xattr->name);
    g_free(xattr->bytes);
    if (xattr->taken > 0)
        limit_give(xattr->account, LIMIT_MEMORY, xattr->taken);
    g_free(xattr);
}

void fid_free(struct fid *fid)
{
    more_free(fid);
    fd_cache_end(fid);
    if (fid->open)
        limit_give(fid->account, LIMIT_FILES, 1);
    privs_user_unref(fid->user);
    export_unref(fid->export);
    limit_give(fid->account, LIMIT_FIDS, 1);
    g_free(fid);
}

static bool is_exclusive(enum fid_mode mode)
{
    return mode == FID_EXCLUSIVE || mode == FID_NEW || mode == FID_REMOVE;
}

int fid_take(struct conn *conn, uint32_t number, enum fid_mode mode, struct fid_turn *turn)
{
    struct fid *fid = g_hash_table_lookup(conn->fids, GUINT_TO_POINTER(number));

    turn->fid = NULL;
    if (number == P9_NOFID)
        return -EBADF;
    if (mode == FID_NEW) {
        if (fid != NULL)
            return -EBADF;
        int error = limit_take(&conn->account, LIMIT_FIDS, 1, NULL);

        if (error != 0)
            return error;
        fid = fid_new(conn, number);
        fid->in_table = true;
        g_hash_table_insert(conn->fids, GUINT_TO_POINTER(number), fid);
    } else if (fid == NULL)
        return -EBADF;
    turn->fid = fid;
    turn->mode = mode;
    turn->number = fid->prepared++;
    if (is_exclusive(mode))
        fid->behind = 0;
    else { /* a shared turn waits for the last exclusive one only */
        fid->behind = MIN(fid->behind, fid->pending);
        turn->number -= fid->behind++;
    }
    fid->pending++;
    if (mode == FID_REMOVE) {
        g_hash_table_remove(conn->fids, GUINT_TO_POINTER(number));
        fid->in_table = false;
    }
    return 0;
}

bool fid_turn_came(const struct fid_turn *turn)
{
    return turn->fid->prepared - turn->fid->pending >= turn->number;
}

void fid_cancel(struct conn *conn, struct fid_turn *turn)
{
    struct fid *fid = turn->fid;

    if (turn->mode != FID_NEW)
        return;
    fid->dead = true;
    if (fid->in_table) {
        g_hash_table_remove(conn->fids, GUINT_TO_POINTER(fid->number));
        fid->in_table = false;
    }
}

struct fid *fid_finish(struct fid_turn *turn)
{
    struct fid *fid = turn->fid;

    turn->fid = NULL;
    return --fid->pending == 0 && !fid->in_table ? fid : NULL;
}

void fid_give_back(struct conn *conn, struct fid_turn *turn, bool failed)
{
    struct fid *last;

    pthread_mutex_lock(&conn->lock);
    if (failed)
        fid_cancel(conn, turn);
    last = fid_finish(turn);
    pthread_mutex_unlock(&conn->lock);
    if (last != NULL)
        fid_free(last);
}

void fid_drop_all(struct conn *conn)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, conn->fids);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_hash_table_iter_remove(&iter);
        fid_free(value);
    }
    conn_detach_all(conn);
}

static void take_over(struct fid *to, const struct fid *from)
{
    struct privs_user *old = to->user;
    const struct path_export *old_export = to->export;

    to->export = export_ref(from->export);
    export_unref(old_export);
    to->user = privs_user_ref(from->user);
    privs_user_unref(old);
}

int fid_clone(struct fid *to, struct fid *from)
{
    if (!fd_cache_share(to, from)) {
        int fd = path_dup(from->fd);

        if (fd < 0)
            return fd;
        fd_cache_replace(to, fd);
    }
    take_over(to, from);
    to->type = from->type;
    to->kind = FID_FILE;
    to->qid_path = from->qid_path;
    return 0;
}

void fid_set(struct fid *to, const struct fid *from, int fd, mode_t type)
{
    if (to != from)
        take_over(to, from);
    fd_cache_replace(to, fd);
    to->type = type & S_IFMT;
    to->kind = FID_FILE;
    to->qid_path = 0;
}

void fid_set_open(struct fid *fid, int fd, int flags)
{
    uint64_t qid_path = fid->qid_path;

    fd_cache_replace(fid, fd);
    fid->qid_path = qid_path;
    fid->open = true;
    fid_more(fid)->open_flags = flags;
}

/* The list of mounts, a store or a handle may need a descriptor for a moment. */
static int qid_of(const struct path_export *export, int fd, const struct statx *stx,
                  struct qid *qid)
{
    int error;

    do
        error = qid_from_stat(export->qids, fd, stx, qid);
    while (error == -EMFILE && path_relieved(error));
    return error;
}

int fid_qid_of(const struct fid *fid, int fd, struct statx *stx, struct qid *qid)
{
    int error = path_look(fd, stx);

    if (error == 0)
        error = fid->export->security->ops->look(fd, stx, false);
    return error != 0 ? error : qid_of(fid->export, fd, stx, qid);
}

bool fid_known_qid(const struct fid *fid, struct qid *qid)
{
    qid->path = fid->qid_path;
    return fid->qid_path != 0 && qid_without_asking(fid->export->qids, fid->type, qid);
}

int fid_qid(const struct fid *fid, struct statx *stx, struct qid *qid)
{
    int error = path_statx(fid->fd, stx);

    if (error == 0)
        error = fid->export->security->ops->look(fid->fd, stx, true);
    return error != 0 ? error : qid_of(fid->export, fid->fd, stx, qid);
}
