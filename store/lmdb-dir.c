/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory of a store:
 *
 *   gen.N/     an LMDB environment: data.mdb and lock.mdb
 *   current    names the generation that counts: "gen.N\n"; only ever replaced by rename
 *   lock       the writer's exclusive flock(2); holds "PID NAME\n" of the writer, and then
 *              "gen.N TRANSACTION\n" of its last commit
 *   dump.jsonl the portable dump of the last clean stop, for a machine or an LMDB that cannot read
 *              the rest; nothing here reads it
 *   creating   there while a store is being made
 *
 * A reader holds a shared flock on the directory of the generation that it reads; the writer takes
 * away old ones on which it gets an exclusive one. `current` is asked again after the flock was
 * taken, so nobody begins to read what is being taken away.
 *
 * A generation left over from a switch that did not end is one that `current` does not name. The
 * next writer takes it away, after it has put `current` in place once more: a rename that failed to
 * reach the disk may be undone by a power cut, and then the other generation counts.
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
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/error.h"
#include "store/place.h"

#define FIRST_GENERATION "gen.1"
#define LOCK_FILE_SIZE   16384 /* 64 bytes for each of 254 readers, and two more */
#define GENERATION_LAST  999999999ul

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

/* Others could change what is stored; then nothing in it can be trusted. `owner`: of the directory.
 */
static int check_owner(const struct stat *st, const char *name, uid_t owner, gboolean write,
                       GError **error)
{
    const char *what = name ? name : "the directory";

    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return qm_set_error(error, EPERM,
                            "%s may be written to by %s: take that right away (chmod go-w), and "
                            "look who used it",
                            what, st->st_mode & S_IWOTH ? "everybody" : "its group");
    if (st->st_uid != owner)
        return qm_set_error(error, EPERM,
                            "%s belongs to uid %lu, and the directory of the store to uid %lu: "
                            "give both to the user who runs the daemon (chown -R)",
                            what, (unsigned long)st->st_uid, (unsigned long)owner);
    if (write && st->st_uid != geteuid())
        return qm_set_error(error, EPERM,
                            "%s belongs to uid %lu and not to uid %lu, which wants to write there: "
                            "run as that user, or give it away (chown -R)",
                            what, (unsigned long)st->st_uid, (unsigned long)geteuid());
    return 0;
}

/* A part of the store: a plain file or directory of the same owner, and no link to elsewhere. One
 * that is absent passes. */
static int check_part(const struct qm_lmdb_dir *dir, int at, const char *name, mode_t type,
                      GError **error)
{
    struct stat st, top;

    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0
                               : qm_set_error(error, errno, "cannot look at its %s: %s", name,
                                              g_strerror(errno));
    if (fstat(dir->fd, &top) != 0)
        return qm_set_error(error, errno, "cannot look at the directory: %s", g_strerror(errno));
    if ((st.st_mode & S_IFMT) != type || (type == S_IFREG && st.st_nlink != 1))
        return qm_set_error(error, EPERM,
                            "its %s is a link, or no plain %s: a store must be the only name of "
                            "its files; put the right one there",
                            name, type == S_IFDIR ? "directory" : "file");
    if (st.st_dev != top.st_dev)
        return qm_set_error(error, EPERM,
                            "its %s lies on another filesystem: a store must lie on one", name);
    return check_owner(&st, name, top.st_uid, dir->write, error);
}

static int check_parts(const struct qm_lmdb_dir *dir, GError **error)
{
    static const char *const top[] = {"current", "lock", "creating"};
    static const char *const gen[] = {"data.mdb", "lock.mdb", "origin"};
    size_t i;
    int e = 0;

    for (i = 0; e == 0 && i < G_N_ELEMENTS(top); i++)
        e = check_part(dir, dir->fd, top[i], S_IFREG, error);
    for (i = 0; e == 0 && dir->gen_fd >= 0 && i < G_N_ELEMENTS(gen); i++)
        e = check_part(dir, dir->gen_fd, gen[i], S_IFREG, error);
    return e;
}

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
    return check_owner(&st, NULL, st.st_uid, write, error);
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
                 strcmp(name, "current.new") != 0 && strcmp(name, "lost+found") != 0 &&
                 strcmp(name, "dump.jsonl") != 0)
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

/* The name of the generation that `current` names, for the caller to free, or NULL. */
static char *read_current(const struct qm_lmdb_dir *dir, GError **error)
{
    char text[32];
    ssize_t size = read_file(dir->fd, "current", text, sizeof(text));
    char *end;

    if (size < 0) {
        qm_set_error(error, (int)size, "cannot read its file `current`: %s",
                     g_strerror((int)-size));
        return NULL;
    }
    if (strncmp(text, "gen.", 4) != 0 || text[4] < '1' || text[4] > '9' ||
        (strtoul(text + 4, &end, 10), *end != '\n') || end[1] != '\0' ||
        strlen(text) != (size_t)size || size > 14) {
        qm_set_error(error, EUCLEAN,
                     "the store is damaged: its file `current` does not name "
                     "a generation; nothing was changed");
        return NULL;
    }
    *end = '\0';
    return g_strdup(text);
}

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

/* Opens the current generation. A writer may switch, and take the old one away, meanwhile. */
static int enter(struct qm_lmdb_dir *dir, GError **error)
{
    int tries, fd, e;

    for (tries = 0; tries < 100; tries++) {
        g_autofree char *name = read_current(dir, error), *again = NULL;

        if (!name || check_part(dir, dir->fd, name, S_IFDIR, error) != 0)
            return -1;
        fd = open_generation(dir, name);
        e = fd < 0 ? fd : dir->write ? 0 : flock(fd, LOCK_SH | LOCK_NB) == 0 ? 0 : -errno;
        again = read_current(dir, error);
        if (again && strcmp(name, again) == 0 && e != -EWOULDBLOCK && e != -EINTR) {
            if (e == 0) {
                dir->gen_fd = fd;
                take_name(dir, name);
                e = check_parts(dir, error);
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

/* ---- the lock ----------------------------------------------------------------------------------
 */

/* Others hold it for an instant when they only look whether there is a writer. */
static int take_flock(int fd, int how)
{
    int tries;

    for (tries = 0; tries < 20; tries++) {
        if (flock(fd, how | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        g_usleep(5000);
    }
    return -EWOULDBLOCK;
}

static int busy(struct qm_lmdb_dir *dir, GError **error)
{
    char owner[128];
    ssize_t size = pread(dir->lock_fd, owner, sizeof(owner) - 1, 0);

    owner[MAX(size, 0)] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    g_strcanon(g_strchomp(owner),
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-", '?');
    return qm_set_error(error, EBUSY,
                        "another process has it open for writing (pid and name: %s); stop it, or "
                        "name another store",
                        owner[0] ? owner : "none is known; or it reads on a read-only mount");
}

static char *owner_line(void)
{
    return g_strdup_printf("%ld %s\n", (long)getpid(), program_invocation_short_name);
}

/* What the last writer left behind its own line. */
static void read_note(struct qm_lmdb_dir *dir)
{
    char text[256];
    ssize_t size = pread(dir->lock_fd, text, sizeof(text) - 1, 0);
    const char *line;

    text[MAX(size, 0)] = '\0';
    line = strchr(text, '\n');
    g_strlcpy(dir->noted, line ? line + 1 : "", sizeof(dir->noted));
}

void qm_lmdb_dir_note(struct qm_lmdb_dir *dir, guint64 transaction)
{
    g_autofree char *owner = owner_line();
    g_autofree char *text =
        g_strdup_printf("%s%s %" G_GUINT64_FORMAT "\n", owner, dir->name, transaction);

    (void)!pwrite(dir->lock_fd, text, strlen(text), 0);
    dir->noted[0] = '\0';
    if (dir->newer)
        qm_lmdb_dir_clean(dir);
    dir->newer = FALSE;
}

gboolean qm_lmdb_dir_is_older(const struct qm_lmdb_dir *dir, guint64 transaction)
{
    size_t size = strlen(dir->name);
    char *end;

    if (strncmp(dir->noted, dir->name, size) != 0 || dir->noted[size] != ' ' ||
        !g_ascii_isdigit(dir->noted[size + 1]))
        return FALSE;
    return g_ascii_strtoull(dir->noted + size + 1, &end, 10) > transaction && *end == '\n';
}

static int take_lock(struct qm_lmdb_dir *dir, GError **error)
{
    g_autofree char *text = owner_line();
    ssize_t size;
    int e;

    dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock_fd < 0)
        return qm_set_error(error, errno, "cannot open its lock file: %s", g_strerror(errno));
    e = take_flock(dir->lock_fd, LOCK_EX);
    if (e == -EWOULDBLOCK)
        return busy(dir, error);
    if (e != 0)
        return qm_set_error(error, e, "cannot lock it: %s", g_strerror(-e));
    read_note(dir);
    /* Mostly for people: what cannot be written (a full disk) does not matter. The note stays until
     * it is known what it means. */
    (void)!ftruncate(dir->lock_fd, 0);
    size = pwrite(dir->lock_fd, text, strlen(text), 0);
    if (dir->noted[0] && size > 0)
        (void)!pwrite(dir->lock_fd, dir->noted, strlen(dir->noted), size);
    return 0;
}

/* Where the filesystem is read-only LMDB keeps no table of readers, and a writer who has it mounted
 * elsewhere would overwrite what is being read: there must be none. */
static int lock_out_writer(struct qm_lmdb_dir *dir, GError **error)
{
    struct statvfs vfs;
    int e;

    if (fstatvfs(dir->fd, &vfs) != 0)
        return qm_set_error(error, errno, "cannot look at the directory: %s", g_strerror(errno));
    if (!(vfs.f_flag & ST_RDONLY))
        return 0;
    dir->lock_fd = openat(dir->fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (dir->lock_fd < 0)
        return errno == ENOENT
                   ? 0
                   : qm_set_error(error, errno, "cannot open its lock file: %s", g_strerror(errno));
    e = take_flock(dir->lock_fd, LOCK_SH);
    return e == 0 ? 0 : busy(dir, error);
}

gboolean qm_lmdb_dir_has_writer(const struct qm_lmdb_dir *dir)
{
    int fd = openat(dir->fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gboolean held;

    if (fd < 0)
        return FALSE;
    held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

/* ---- creation -------------------------------------------------------------------------------- */

/* Removes a generation: only files of ours. */
static int remove_generation(const struct qm_lmdb_dir *dir, const char *name)
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
    int e = remove_generation(dir, name);

    if (e == 0 && mkdirat(dir->fd, name, 0700) != 0)
        e = -errno;
    if (e == 0) {
        int fd = open_generation(dir, name);

        e = fd < 0 ? fd : make_lock_file(dir, fd);
        if (fd >= 0)
            close(fd);
        if (e != 0)
            (void)remove_generation(dir, name);
    }
    return e;
}

static int begin_creation(struct qm_lmdb_dir *dir, GError **error)
{
    int e = write_file(dir->fd, "creating", "");

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

/* Makes `current` name a generation, lastingly. *renamed: it does now, though perhaps not
 * lastingly. */
static int set_current(const struct qm_lmdb_dir *dir, const char *name, int gen_fd,
                       gboolean *renamed)
{
    g_autofree char *text = g_strconcat(name, "\n", NULL);
    int e = fsync(gen_fd) == 0 ? 0 : -errno;

    *renamed = FALSE;
    if (e == 0)
        e = write_file(dir->fd, "current.new", text);
    if (e == 0 && fsync(dir->fd) != 0)
        e = -errno;
    if (e == 0 && renameat(dir->fd, "current.new", dir->fd, "current") != 0)
        e = -errno;
    if (e != 0) {
        (void)unlinkat(dir->fd, "current.new", 0);
        return e;
    }
    *renamed = TRUE;
    return fsync(dir->fd) == 0 ? 0 : -errno;
}

int qm_lmdb_dir_publish(struct qm_lmdb_dir *dir, GError **error)
{
    gboolean renamed;
    int e = set_current(dir, dir->name, dir->gen_fd, &renamed);

    if (e == 0 && (unlinkat(dir->fd, "creating", 0) != 0 || fsync(dir->fd) != 0))
        e = -errno;
    if (e != 0)
        return qm_set_error(error, e, "cannot make the store: %s", g_strerror(-e));
    dir->fresh = FALSE;
    return 0;
}

/* ---- generations -------------------------------------------------------------------------------
 */

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
        (void)remove_generation(dir, dir->next);
    g_clear_pointer(&dir->next, g_free);
}

int qm_lmdb_dir_switch(struct qm_lmdb_dir *dir, GError **error)
{
    int fd = open_generation(dir, dir->next);
    gboolean renamed = FALSE;
    int e = fd < 0 ? fd : set_current(dir, dir->next, fd, &renamed);

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

void qm_lmdb_dir_clean(struct qm_lmdb_dir *dir)
{
    g_autoptr(GPtrArray) names = generations(dir);
    guint i;

    for (i = 0; !dir->unsure && i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);

        if (strcmp(name, dir->name) != 0)
            (void)remove_generation(dir, name);
    }
}

/* What a switch that did not end left behind. */
static void clean_at_open(struct qm_lmdb_dir *dir)
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
    if (set_current(dir, dir->name, dir->gen_fd, &renamed) != 0)
        dir->unsure = TRUE;
    else if (!dir->newer) /* else after a commit, which moves the counters on */
        qm_lmdb_dir_clean(dir);
}

/* ---- the directory itself ----------------------------------------------------------------------
 */

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
        check_parts(dir, error) != 0 || scan(dir, &c, error) != 0)
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
        if (enter(dir, error) != 0)
            return -1;
        clean_at_open(dir);
        return 0;
    }
    if (lock_out_writer(dir, error) != 0)
        return -1;
    return enter(dir, error);
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

void qm_lmdb_dir_discard(struct qm_lmdb_dir *dir)
{
    /* The lock file stays: somebody may wait for it. */
    if (remove_generation(dir, dir->name) == 0)
        (void)unlinkat(dir->fd, "creating", 0);
    (void)fsync(dir->fd);
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
        unclaim(dir->claim);
    g_free(dir->claim);
    g_free(dir->dump);
    g_free(dir->name);
    g_free(dir->env_path);
    g_free(dir->path);
    g_free(dir);
}
