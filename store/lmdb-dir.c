/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory of a store: opening and closing it, in order; the parts are in lmdb-dir-*.c.
 *
 *   gen.N/     an LMDB environment: data.mdb and lock.mdb
 *   current    names the generation that counts: "gen.N\n"; only ever replaced by rename
 *   lock       the writer's exclusive flock(2); holds "PID NAME\n" of the writer, and then
 *              "gen.N TRANSACTION\n" of its last commit
 *   dump.jsonl the portable dump of the last clean stop, for a machine or an LMDB that cannot read
 *              the rest; nothing here reads it
 *   creating   there while a store is being made
 *
 * Creation is atomic: `creating` is written and synced first, then gen.1 is built, then `current`
 * is put in place, then `creating` goes. A crash in between leaves `creating` without `current`:
 * such a store never gave out an id, and CREATE begins again. A gen.N with neither is a store whose
 * `current` got lost: damage, never taken for absence.
 */
#include "config.h"

#include "store/lmdb-dir-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"

/* Makes the directory itself, and its name lasting. */
static int make_dir(const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd, e = 0;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return qm_set_error(
            error, errno,
            "cannot make the directory: %s; the one above it must exist, and be writable",
            g_strerror(errno));
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        e = errno;
    if (fd >= 0)
        close(fd);
    return e ? qm_set_error(error, e, "cannot sync the directory above: %s", g_strerror(e)) : 0;
}

static int open_fd(struct qm_lmdb_dir *dir, gboolean create, GError **error)
{
    struct stat st;
    int tries;

    for (tries = 0; dir->fd < 0; tries++) {
        dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir->fd >= 0)
            break;
        if (errno != ENOENT || tries > 0)
            return qm_set_error(error, errno, "cannot open the directory: %s", g_strerror(errno));
        if (!create)
            return qm_set_error(error, ENOENT, "no such directory, and so no store");
        if (make_dir(dir->path, error) != 0)
            return -1;
    }
    if (fstat(dir->fd, &st) != 0)
        return qm_set_error(error, errno, "cannot look at the directory: %s", g_strerror(errno));
    dir->claim =
        g_strdup_printf("%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    if (!qm_lmdb_dir_claim(dir->claim)) {
        g_clear_pointer(&dir->claim, g_free);
        return qm_set_error(error, EBUSY, "this process has it open already");
    }
    return 0;
}

static int open_steps(struct qm_lmdb_dir *dir, gboolean write, gboolean create, GError **error)
{
    struct qm_lmdb_dir_content c;
    int e;

    if (open_fd(dir, create, error) != 0 || qm_lmdb_dir_check_place(dir, write, error) != 0 ||
        qm_lmdb_dir_check_parts(dir, error) != 0 || qm_lmdb_dir_scan(dir, &c, error) != 0)
        return -1;
    e = qm_lmdb_dir_judge(&c, error);
    if (e == -ENOENT && !create)
        return qm_set_error(error, ENOENT,
                            c.creating ? "the store was never finished; open it "
                                         "once with the right to create it"
                                       : "no store in this directory");
    if (e != 0 && e != -ENOENT)
        return e;
    if (write) {
        /* Look again under the lock: somebody may have made it meanwhile. */
        if (qm_lmdb_dir_take_lock(dir, error) != 0 || qm_lmdb_dir_scan(dir, &c, error) != 0)
            return -1;
        e = qm_lmdb_dir_judge(&c, error);
        if (e == -ENOENT)
            return qm_lmdb_dir_create(dir, error);
        if (e != 0)
            return e;
        if (c.creating)
            (void)unlinkat(dir->fd, "creating", 0);
        if (qm_lmdb_dir_enter(dir, error) != 0)
            return -1;
        qm_lmdb_dir_clean_at_open(dir);
        return 0;
    }
    if (qm_lmdb_dir_lock_out_writer(dir, error) != 0)
        return -1;
    return qm_lmdb_dir_enter(dir, error);
}

struct qm_lmdb_dir *qm_lmdb_dir_open(const char *path, gboolean write, gboolean create,
                                     GError **error)
{
    struct qm_lmdb_dir *dir;

    if (path[0] == '\0') {
        qm_set_error(error, EINVAL, "no directory after the colon: expected lmdb:DIR");
        return NULL;
    }
    dir = g_new0(struct qm_lmdb_dir, 1);
    dir->path = g_strdup(path);
    dir->dump = g_build_filename(path, "dump.jsonl", NULL);
    dir->fd = -1;
    dir->gen_fd = -1;
    dir->lock_fd = -1;
    dir->write = write;
    if (open_steps(dir, write, create, error) != 0) {
        qm_lmdb_dir_close(dir);
        return NULL;
    }
    return dir;
}

struct qm_lmdb_dir *qm_lmdb_dir_view(const struct qm_lmdb_dir *dir)
{
    struct qm_lmdb_dir *view = g_new0(struct qm_lmdb_dir, 1);

    view->path = g_strdup(dir->path);
    view->env_path = g_strdup(dir->env_path);
    view->fd = -1;
    view->gen_fd = -1;
    view->lock_fd = -1;
    return view;
}

void qm_lmdb_dir_discard(struct qm_lmdb_dir *dir)
{
    /* The lock file stays: somebody may wait for it. */
    if (qm_lmdb_dir_remove(dir, dir->name) == 0)
        (void)unlinkat(dir->fd, "creating", 0);
    (void)fsync(dir->fd);
}

void qm_lmdb_dir_close(struct qm_lmdb_dir *dir)
{
    if (!dir)
        return;
    qm_lmdb_dir_drop(dir);
    if (dir->lock_fd >= 0) {
        if (dir->write && dir->gen_fd >= 0 && !dir->noted[0])
            (void)!ftruncate(dir->lock_fd, 0);
        close(dir->lock_fd);
    }
    if (dir->gen_fd >= 0)
        close(dir->gen_fd);
    if (dir->fd >= 0)
        close(dir->fd);
    if (dir->claim)
        qm_lmdb_dir_unclaim(dir->claim);
    g_free(dir->claim);
    g_free(dir->dump);
    g_free(dir->name);
    g_free(dir->env_path);
    g_free(dir->path);
    g_free(dir);
}
