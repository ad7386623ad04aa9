/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The generations of a store, each a directory with an LMDB environment: entering the current one,
 * making a new one, switching to it, and taking old ones away. Knows nothing of what is inside an
 * environment.
 *
 * A reader holds a shared flock on the directory of the generation that it reads; the writer takes
 * away old ones on which it gets an exclusive one. `current` is asked again after the flock was
 * taken, so nobody begins to read what is being taken away.
 *
 * A generation left over from a switch that did not end is one that `current` does not name. The
 * next writer takes it away, after it has put `current` in place once more: a rename that failed to
 * reach the disk may be undone by a power cut, and then the other generation counts.
 */
#include "config.h"

#include "store/lmdb-dir-parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"

#define FIRST_GENERATION "gen.1"
#define LOCK_FILE_SIZE   16384 /* 64 bytes for each of 254 readers, and two more */
#define GENERATION_LAST  999999999ul

/* Opens the directory of a generation: -ENOENT where it is absent. */
static int open_generation(const struct qm_lmdb_dir *dir, const char *name)
{
    int fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 ? fd : -errno;
}

static void take_name(struct qm_lmdb_dir *dir, const char *name)
{
    g_free(dir->name);
    g_free(dir->env_path);
    dir->name = g_strdup(name);
    dir->env_path = g_build_filename(dir->path, name, NULL);
}

/* LMDB's lock file, where it is not there yet. LMDB writes to it through a map, and makes it with a
 * hole: a disk without room is a signal then, and on btrfs again at each change of a page that was
 * written out. So it gets its blocks now, and changes them in place. */
static int make_lock_file(const struct qm_lmdb_dir *dir, int gen_fd)
{
    struct stat st;
    int fd, e, flags = 0;

    fd = openat(gen_fd, "lock.mdb", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) /* where it cannot be made, LMDB says what is wrong */
        return errno == ENOSPC || errno == EDQUOT ? -errno : 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags); /* btrfs knows it */
    }
    do {
        e = fallocate(fd, 0, 0, LOCK_FILE_SIZE) == 0 ? 0 : -errno;
    } while (e == -EINTR);
    if (e == -EOPNOTSUPP || e == -ENOSYS)
        e = 0;
    if (e != 0)
        (void)unlinkat(gen_fd, "lock.mdb", 0);
    /* Where root only reads, it must belong to the user whose store it is. */
    if (e == 0 && !dir->write && geteuid() == 0 && fstat(gen_fd, &st) == 0 && st.st_uid != 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
    close(fd);
    return e;
}

/* ---- the current one ---------------------------------------------------------------------------
 */

/* Opens the current generation. A writer may switch, and take the old one away, meanwhile. */
int qm_lmdb_dir_enter(struct qm_lmdb_dir *dir, GError **error)
{
    int tries, fd, e;

    for (tries = 0; tries < 100; tries++) {
        g_autofree char *name = qm_lmdb_dir_read_current(dir, error), *again = NULL;

        if (!name || qm_lmdb_dir_check_part(dir, dir->fd, name, S_IFDIR, error) != 0)
            return -1;
        fd = open_generation(dir, name);
        e = fd < 0 ? fd : dir->write ? 0 : flock(fd, LOCK_SH | LOCK_NB) == 0 ? 0 : -errno;
        again = qm_lmdb_dir_read_current(dir, error);
        if (again && strcmp(name, again) == 0 && e != -EWOULDBLOCK && e != -EINTR) {
            if (e == 0) {
                dir->gen_fd = fd;
                take_name(dir, name);
                e = qm_lmdb_dir_check_parts(dir, error);
                if (e == 0 && make_lock_file(dir, fd) != 0)
                    e = qm_set_error(error, ENOSPC,
                                     "no room for the file lock.mdb, which readers need, too");
                return e;
            }
            if (fd >= 0)
                close(fd);
            if (e == -ENOENT)
                return qm_set_error(error, EUCLEAN,
                                    "the store is damaged: %s, which its file `current` "
                                    "names, is missing; nothing was changed",
                                    name);
            return qm_set_error(error, e, "cannot open %s: %s", name, g_strerror(-e));
        }
        if (fd >= 0)
            close(fd);
        if (!again)
            return -1;
        g_usleep(1000);
    }
    return qm_set_error(error, EAGAIN, "its generations change faster than one can be opened");
}

int qm_lmdb_dir_check(const struct qm_lmdb_dir *dir, int fd)
{
    struct stat open_one, there;

    if (fstat(fd, &open_one) != 0)
        return -EUCLEAN;
    /* A thread that acts for another user may not be allowed to look: that says nothing. */
    if (fstatat(dir->gen_fd, "data.mdb", &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == EACCES || errno == EPERM ? 0 : -EUCLEAN;
    return open_one.st_ino == there.st_ino && open_one.st_dev == there.st_dev ? 0 : -EUCLEAN;
}

/* ---- making and removing --------------------------------------------------------------------- */

/* Removes a generation: only files of ours. */
int qm_lmdb_dir_remove(const struct qm_lmdb_dir *dir, const char *name)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "origin", "origin.new"};
    int fd = open_generation(dir, name);
    size_t i;
    int e = 0;

    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        e = -errno; /* somebody reads it */
    for (i = 0; e == 0 && i < G_N_ELEMENTS(files); i++) {
        if (unlinkat(fd, files[i], 0) != 0 && errno != ENOENT)
            e = -errno;
    }
    if (e == 0 && unlinkat(dir->fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        e = -errno;
    close(fd);
    return e;
}

static int make_generation(struct qm_lmdb_dir *dir, const char *name)
{
    int e = qm_lmdb_dir_remove(dir, name);

    if (e == 0 && mkdirat(dir->fd, name, 0700) != 0)
        e = -errno;
    if (e == 0) {
        int fd = open_generation(dir, name);

        e = fd < 0 ? fd : make_lock_file(dir, fd);
        if (fd >= 0)
            close(fd);
        if (e != 0)
            (void)qm_lmdb_dir_remove(dir, name);
    }
    return e;
}

/* ---- the first one --------------------------------------------------------------------------- */

int qm_lmdb_dir_create(struct qm_lmdb_dir *dir, GError **error)
{
    int e = qm_lmdb_dir_write_file(dir->fd, "creating", "");

    if (e == 0 && fsync(dir->fd) != 0)
        e = -errno;
    if (e == 0)
        e = make_generation(dir, FIRST_GENERATION);
    if (e == 0) {
        dir->gen_fd = open_generation(dir, FIRST_GENERATION);
        e = MIN(dir->gen_fd, 0);
    }
    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    take_name(dir, FIRST_GENERATION);
    dir->fresh = TRUE;
    return 0;
}

int qm_lmdb_dir_publish(struct qm_lmdb_dir *dir, GError **error)
{
    gboolean renamed;
    int e = qm_lmdb_dir_set_current(dir, dir->name, dir->gen_fd, &renamed);

    if (e == 0 && (unlinkat(dir->fd, "creating", 0) != 0 || fsync(dir->fd) != 0))
        e = -errno;
    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    dir->fresh = FALSE;
    return 0;
}

/* ---- a new one beside it --------------------------------------------------------------------- */

/* The names of all generations, for the caller to free. */
static GPtrArray *generations(const struct qm_lmdb_dir *dir)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const struct dirent *entry;
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;

    if (!stream && fd >= 0)
        close(fd);
    while (stream && (entry = readdir(stream))) {
        if (strncmp(entry->d_name, "gen.", 4) == 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    }
    if (stream)
        closedir(stream);
    return names;
}

int qm_lmdb_dir_begin(struct qm_lmdb_dir *dir, char **env_path, GError **error)
{
    g_autoptr(GPtrArray) names = generations(dir);
    unsigned long last = strtoul(dir->name + 4, NULL, 10);
    guint i;
    int e;

    for (i = 0; i < names->len; i++)
        last = MAX(last, MIN(strtoul((const char *)g_ptr_array_index(names, i) + 4, NULL, 10),
                             GENERATION_LAST));
    if (last >= GENERATION_LAST)
        return qm_set_error(error, ENFILE, "the numbers of its generations are used up");
    dir->next = g_strdup_printf("gen.%lu", last + 1);
    e = make_generation(dir, dir->next);
    if (e != 0) {
        qm_set_error(error, e, "cannot make %s: %s", dir->next, g_strerror(-e));
        g_clear_pointer(&dir->next, g_free);
        return e;
    }
    *env_path = g_build_filename(dir->path, dir->next, NULL);
    return 0;
}

void qm_lmdb_dir_drop(struct qm_lmdb_dir *dir)
{
    if (dir->next)
        (void)qm_lmdb_dir_remove(dir, dir->next);
    g_clear_pointer(&dir->next, g_free);
}

int qm_lmdb_dir_switch(struct qm_lmdb_dir *dir, GError **error)
{
    int fd = open_generation(dir, dir->next);
    gboolean renamed = FALSE;
    int e = fd < 0 ? fd : qm_lmdb_dir_set_current(dir, dir->next, fd, &renamed);

    if (e != 0) {
        qm_set_error(error, e, "cannot switch to %s: %s", dir->next, g_strerror(-e));
        if (fd >= 0)
            close(fd);
        if (renamed) {
            dir->unsure = TRUE;
            g_clear_pointer(&dir->next, g_free);
        } else {
            qm_lmdb_dir_drop(dir);
        }
        return e;
    }
    dir->unsure = FALSE;
    close(dir->gen_fd);
    dir->gen_fd = fd;
    take_name(dir, dir->next);
    g_clear_pointer(&dir->next, g_free);
    return 0;
}

char *qm_lmdb_dir_keep(struct qm_lmdb_dir *dir, const char *name)
{
    g_autofree char *kept =
        g_strdup_printf("damaged-%s-%" G_GINT64_FORMAT, name, g_get_real_time() / G_USEC_PER_SEC);

    if (renameat(dir->fd, name, dir->fd, kept) != 0) {
        dir->unsure = TRUE; /* what is to be kept is not cleaned away */
        return g_build_filename(dir->path, name, NULL);
    }
    (void)fsync(dir->fd);
    return g_build_filename(dir->path, kept, NULL);
}

void qm_lmdb_dir_clean(struct qm_lmdb_dir *dir)
{
    g_autoptr(GPtrArray) names = generations(dir);
    guint i;

    for (i = 0; !dir->unsure && i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);

        if (strcmp(name, dir->name) != 0)
            (void)qm_lmdb_dir_remove(dir, name);
    }
}

/* What a switch that did not end left behind. */
void qm_lmdb_dir_clean_at_open(struct qm_lmdb_dir *dir)
{
    g_autoptr(GPtrArray) names = generations(dir);
    gboolean renamed;
    guint i;

    if (names->len <= 1)
        return;
    for (i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autofree char *origin = g_build_filename(name, "origin", NULL);

        if (strtoul(name + 4, NULL, 10) > strtoul(dir->name + 4, NULL, 10) &&
            faccessat(dir->fd, origin, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            dir->newer = TRUE;
    }
    if (qm_lmdb_dir_set_current(dir, dir->name, dir->gen_fd, &renamed) != 0)
        dir->unsure = TRUE;
    else if (!dir->newer) /* else after a commit, which moves the counters on */
        qm_lmdb_dir_clean(dir);
}
