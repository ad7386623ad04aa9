/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lmdb: the tables as named databases of an LMDB environment. This file is the life of a store:
 * opening, publishing, replacing, closing; what happens in between is in lmdb-*.c, see
 * lmdb-backend.h. Only these files include lmdb.h.
 */
#include "config.h"

#include "store/lmdb-backend.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "store/error.h"
#include "store/lmdb-origin.h"

struct lmdb_backend *qm_lmdb_new(gboolean write)
{
    struct lmdb_backend *b = g_new0(struct lmdb_backend, 1);
    unsigned i;

    b->base.ops = &qm_backend_lmdb;
    b->writable = write;
    b->fd = -1;
    b->snapshots = g_ptr_array_new();
    pthread_mutex_init(&b->read_lock, NULL);
    pthread_mutex_init(&b->snapshots_lock, NULL);
    for (i = 0; i < QM_LMDB_SLOTS; i++) {
        pthread_mutex_init(&b->slot[i].lock, NULL);
        b->slot[i].txn.base.backend = &b->base;
        b->slot[i].txn.slot = &b->slot[i];
    }
    b->reader.base.backend = &b->base;
    return b;
}

void qm_lmdb_free(struct lmdb_backend *b)
{
    unsigned i;

    qm_lmdb_close_env(b);
    for (i = 0; i < QM_LMDB_SLOTS; i++)
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
    uint64_t number = stopped ? qm_lmdb_newest(b) : 0;

    if (b->replaces)
        stopped = FALSE;
    qm_lmdb_free(b);
    if (stopped)
        (void)qm_lmdb_origin_write(dir->gen_fd, TRUE, number); /* else the next open looks harder */
    qm_lmdb_dir_close(dir);
}

/* ---- opening --------------------------------------------------------------------------------- */

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
    return e == 0 ? qm_lmdb_open_env(b, b->next_path, TRUE, map_size, QM_LMDB_ALL, error) : e;
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
    b = qm_lmdb_new(config->write);
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
            e = qm_lmdb_open_env(b, dir->env_path, dir->fresh, config->map_size, extent, error);
    }
    if (e != 0) {
        lmdb_close(&b->base);
        return NULL;
    }
    /* Of a copy it is written with the first commit, which moves the counters on. */
    if (b->writable)
        b->origin_due = b->base.fresh || b->base.copied ||
                        qm_lmdb_origin_write(dir->gen_fd, FALSE, qm_lmdb_newest(b)) != 0;
    return &b->base;
}

/* ---- a new store, or one in place of another ------------------------------------------------- */

/* Writes `origin` beside an environment that is not current yet. */
int qm_lmdb_write_origin(const char *env_path, uint64_t number)
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
    int e = qm_lmdb_write_origin(b->replaces ? b->next_path : b->dir->env_path, qm_lmdb_newest(b));

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
    old = qm_lmdb_new(FALSE);
    old->dir = qm_lmdb_dir_view(b->dir);
    e = qm_lmdb_verify_heads(old->dir->env_path, &number, error);
    if (e == 0)
        old->base.copied = find_origin(b->dir, number) == QM_ORIGIN_COPIED;
    if (e == 0)
        e = qm_lmdb_open_env(old, old->dir->env_path, FALSE, 0, QM_LMDB_PAGES, error);
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

    qm_lmdb_free(b);
    if (dir->fresh)
        qm_lmdb_dir_discard(dir);
    else
        qm_lmdb_dir_drop(dir);
    qm_lmdb_dir_close(dir);
}

const struct qm_backend_ops qm_backend_lmdb = {
    .name = "lmdb",
    .has_full = TRUE,
    .open = lmdb_open,
    .publish = lmdb_publish,
    .replaced = lmdb_replaced,
    .discard = lmdb_discard,
    .close = lmdb_close,
    .begin = qm_lmdb_begin,
    .commit = qm_lmdb_commit,
    .abort = qm_lmdb_abort,
    .grow = qm_lmdb_grow,
    .recover = qm_lmdb_recover,
    .number = qm_lmdb_number,
    .get = qm_lmdb_get,
    .put = qm_lmdb_put,
    .del = qm_lmdb_del,
    .cursor_open = qm_lmdb_cursor_open,
    .cursor_seek = qm_lmdb_cursor_seek,
    .cursor_next = qm_lmdb_cursor_next,
    .cursor_prev = qm_lmdb_cursor_prev,
    .cursor_close = qm_lmdb_cursor_close,
    .room = qm_lmdb_room,
    .live = qm_lmdb_live,
};
