/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory of a store:
 *
 *   gen.N/     an LMDB environment: data.mdb and lock.mdb
 *   current    names the generation that counts: "gen.N\n"; only ever replaced by rename
 *   lock       the writer's exclusive flock(2); holds "PID NAME\n" of the last writer
 *   creating   there while a store is being made
 *
 * Creation is atomic: `creating` is written and synced first, then gen.1 is built, then `current`
 * is put in place, then `creating` goes. A crash in between leaves `creating` without `current`:
 * such a store never gave out an id, and CREATE begins again. A gen.N with neither is a store whose
 * `current` got lost: damage, never taken for absence.
 *
 * This file owns the one hidden global of the library: the table of directories that this process
 * has open. LMDB must not open one environment twice in a process (closing one of them would drop
 * the locks of both).
 */
#include "config.h"

#include "store/lmdb-dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"
#include "store/place.h"

#define FIRST_GENERATION "gen.1"

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *open_dirs; /* set of "dev:ino" strings, which the table owns; under open_lock */

static gboolean claim(const char *key)
{
    gboolean mine;

    pthread_mutex_lock(&open_lock);
    if (!open_dirs)
        open_dirs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    mine = g_hash_table_add(open_dirs, g_strdup(key));
    pthread_mutex_unlock(&open_lock);
    return mine;
}

static void unclaim(const char *key)
{
    pthread_mutex_lock(&open_lock);
    g_hash_table_remove(open_dirs, key);
    if (g_hash_table_size(open_dirs) == 0)
        g_clear_pointer(&open_dirs, g_hash_table_destroy);
    pthread_mutex_unlock(&open_lock);
}

/* ---- is the place fit? ----------------------------------------------------------------------- */

static int check_place(const struct qm_lmdb_dir *dir, gboolean write, GError **error)
{
    const char *unfit = qm_place_unfit(dir->fd);
    struct stat st;

    if (fstat(dir->fd, &st) != 0)
        return qm_set_error(error, errno, "cannot look at the directory: %s", g_strerror(errno));
    if (unfit)
        return qm_set_error(error, EREMOTE,
                            "the directory is on a %s filesystem, which cannot hold a store: "
                            "choose one on a local disk",
                            unfit);
    if (st.st_mode & S_IWOTH)
        return qm_set_error(error, EPERM,
                            "everybody may write to the directory: take that right "
                            "away (chmod o-w), or choose another one");
    if (write && st.st_uid != geteuid())
        return qm_set_error(error, EPERM,
                            "the directory belongs to uid %lu and not to uid %lu, "
                            "which wants to write there",
                            (unsigned long)st.st_uid, (unsigned long)geteuid());
    return 0;
}

/* What stands in the directory. */
struct content {
    gboolean current, creating, generation, foreign;
};

static int scan(const struct qm_lmdb_dir *dir, struct content *c, GError **error)
{
    const struct dirent *entry;
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;

    memset(c, 0, sizeof(*c));
    if (!stream) {
        int e = errno;

        if (fd >= 0)
            close(fd);
        return qm_set_error(error, e, "cannot list the directory: %s", g_strerror(e));
    }
    while ((entry = readdir(stream))) {
        const char *name = entry->d_name;

        if (strcmp(name, "current") == 0)
            c->current = TRUE;
        else if (strcmp(name, "creating") == 0)
            c->creating = TRUE;
        else if (strncmp(name, "gen.", 4) == 0)
            c->generation = TRUE;
        else if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "lock") != 0 &&
                 strcmp(name, "current.new") != 0 && strcmp(name, "lost+found") != 0)
            c->foreign = TRUE;
    }
    closedir(stream);
    return 0;
}

/* 0 when there is a store, -ENOENT when there is none and one may be made. */
static int judge(const struct content *c, GError **error)
{
    if (c->current)
        return 0;
    if (c->generation && !c->creating)
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged: its file `current` is missing; "
                            "nothing was changed: restore it from a backup");
    if (c->foreign)
        return qm_set_error(error, ENOTEMPTY,
                            "the directory holds something else than a store: "
                            "name an empty or a new one");
    return -ENOENT;
}

/* ---- small files ----------------------------------------------------------------------------- */

/* Writes a small file and syncs it; fails with errno. */
static int write_file(int dir_fd, const char *name, const char *text)
{
    size_t size = strlen(text);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int e = 0;

    if (fd < 0)
        return -errno;
    if (write(fd, text, size) != (ssize_t)size)
        e = errno ? -errno : -ENOSPC;
    else if (fsync(fd) != 0)
        e = -errno;
    if (close(fd) != 0 && e == 0)
        e = -errno;
    return e;
}

static ssize_t read_file(int dir_fd, const char *name, char *text, size_t room)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t size;

    if (fd < 0)
        return -errno;
    size = read(fd, text, room - 1);
    if (size < 0)
        size = -errno;
    else
        text[size] = '\0';
    close(fd);
    return size;
}

/* The generation that `current` names. */
static int read_current(struct qm_lmdb_dir *dir, GError **error)
{
    char text[32];
    ssize_t size = read_file(dir->fd, "current", text, sizeof(text));
    char *end;

    if (size < 0)
        return qm_set_error(error, (int)size, "cannot read its file `current`: %s",
                            g_strerror((int)-size));
    if (strncmp(text, "gen.", 4) != 0 || !g_ascii_isdigit(text[4]) ||
        (strtoul(text + 4, &end, 10), *end != '\n') || end[1] != '\0' ||
        strlen(text) != (size_t)size || size > 20)
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged: its file `current` does not name "
                            "a generation; nothing was changed");
    *end = '\0';
    dir->env_path = g_build_filename(dir->path, text, NULL);
    if (faccessat(dir->fd, text, F_OK, 0) != 0)
        return qm_set_error(error, EUCLEAN,
                            "the store is damaged: %s, which its file `current` "
                            "names, is missing; nothing was changed",
                            text);
    return 0;
}

/* ---- the writer's lock ----------------------------------------------------------------------- */

static int take_lock(struct qm_lmdb_dir *dir, GError **error)
{
    g_autofree char *text = NULL;
    char owner[128];
    ssize_t size;

    dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock_fd < 0)
        return qm_set_error(error, errno, "cannot open its lock file: %s", g_strerror(errno));
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return qm_set_error(error, errno, "cannot lock it: %s", g_strerror(errno));
        size = pread(dir->lock_fd, owner, sizeof(owner) - 1, 0);
        owner[MAX(size, 0)] = '\0';
        g_strcanon(g_strchomp(owner),
                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-", '?');
        return qm_set_error(error, EBUSY,
                            "another process has it open for writing (pid and name: "
                            "%s); stop it, or name another store",
                            owner[0] ? owner : "not known yet");
    }
    text = g_strdup_printf("%ld %s\n", (long)getpid(), program_invocation_short_name);
    size = (ssize_t)strlen(text);
    /* Only for people: what cannot be written (a full disk) does not matter. */
    if (ftruncate(dir->lock_fd, 0) == 0)
        (void)!pwrite(dir->lock_fd, text, (size_t)size, 0);
    return 0;
}

/* ---- creation -------------------------------------------------------------------------------- */

/* Removes what a creation that did not end left behind: only files of ours. */
static int clear_leftovers(const struct qm_lmdb_dir *dir)
{
    static const char *const files[] = {FIRST_GENERATION "/data.mdb", FIRST_GENERATION "/lock.mdb",
                                        "current.new"};
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(files); i++) {
        if (unlinkat(dir->fd, files[i], 0) != 0 && errno != ENOENT && errno != ENOTDIR)
            return -errno;
    }
    if (unlinkat(dir->fd, FIRST_GENERATION, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return -errno;
    return 0;
}

static int begin_creation(struct qm_lmdb_dir *dir, GError **error)
{
    int e = write_file(dir->fd, "creating", "");

    if (e == 0 && fsync(dir->fd) != 0)
        e = -errno;
    if (e == 0)
        e = clear_leftovers(dir);
    if (e == 0 && mkdirat(dir->fd, FIRST_GENERATION, 0700) != 0)
        e = -errno;
    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    dir->env_path = g_build_filename(dir->path, FIRST_GENERATION, NULL);
    dir->fresh = TRUE;
    return 0;
}

int qm_lmdb_dir_publish(struct qm_lmdb_dir *dir, GError **error)
{
    int fd = openat(dir->fd, FIRST_GENERATION, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    if (e == 0)
        e = write_file(dir->fd, "current.new", FIRST_GENERATION "\n");
    if (e == 0 && fsync(dir->fd) != 0)
        e = -errno;
    if (e == 0 && renameat(dir->fd, "current.new", dir->fd, "current") != 0)
        e = -errno;
    if (e == 0 && fsync(dir->fd) != 0)
        e = -errno;
    if (e == 0 && (unlinkat(dir->fd, "creating", 0) != 0 || fsync(dir->fd) != 0))
        e = -errno;
    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    dir->fresh = FALSE;
    return 0;
}

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

/* ---- opening --------------------------------------------------------------------------------- */

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
    if (!claim(dir->claim)) {
        g_clear_pointer(&dir->claim, g_free);
        return qm_set_error(error, EBUSY, "this process has it open already");
    }
    return 0;
}

static int open_steps(struct qm_lmdb_dir *dir, gboolean write, gboolean create, GError **error)
{
    struct content c;
    int e;

    if (open_fd(dir, create, error) != 0 || check_place(dir, write, error) != 0 ||
        scan(dir, &c, error) != 0)
        return -1;
    e = judge(&c, error);
    if (e == -ENOENT && !create)
        return qm_set_error(error, ENOENT,
                            c.creating ? "the store was never finished; open it "
                                         "once with the right to create it"
                                       : "no store in this directory");
    if (e != 0 && e != -ENOENT)
        return e;
    if (write) {
        /* Look again under the lock: somebody may have made it meanwhile. */
        if (take_lock(dir, error) != 0 || scan(dir, &c, error) != 0)
            return -1;
        e = judge(&c, error);
        if (e == -ENOENT)
            return begin_creation(dir, error);
        if (e != 0)
            return e;
        if (c.creating)
            (void)unlinkat(dir->fd, "creating", 0);
    }
    return read_current(dir, error);
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
    dir->fd = -1;
    dir->lock_fd = -1;
    if (open_steps(dir, write, create, error) != 0) {
        qm_lmdb_dir_close(dir);
        return NULL;
    }
    return dir;
}

void qm_lmdb_dir_close(struct qm_lmdb_dir *dir)
{
    if (!dir)
        return;
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    if (dir->fd >= 0)
        close(dir->fd);
    if (dir->claim)
        unclaim(dir->claim);
    g_free(dir->claim);
    g_free(dir->env_path);
    g_free(dir->path);
    g_free(dir);
}
