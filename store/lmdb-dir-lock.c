/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who has a store open: in this process, and, by the file `lock`, in others; and what the last
 * writer noted there.
 *
 * This file owns the one hidden global of the library: the table of directories that this process
 * has open. LMDB must not open one environment twice in a process (closing one of them would drop
 * the locks of both).
 */
#include "config.h"

#include "store/lmdb-dir-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/error.h"
#include "store/holder.h"

/* ---- in this process ------------------------------------------------------------------------- */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *open_dirs; /* set of "dev:ino" strings, which the table owns; under open_lock */

gboolean qm_lmdb_dir_claim(const char *key)
{
    gboolean mine;

    pthread_mutex_lock(&open_lock);
    if (!open_dirs)
        open_dirs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    mine = g_hash_table_add(open_dirs, g_strdup(key));
    pthread_mutex_unlock(&open_lock);
    return mine;
}

void qm_lmdb_dir_unclaim(const char *key)
{
    pthread_mutex_lock(&open_lock);
    g_hash_table_remove(open_dirs, key);
    if (g_hash_table_size(open_dirs) == 0)
        g_clear_pointer(&open_dirs, g_hash_table_destroy);
    pthread_mutex_unlock(&open_lock);
}

/* ---- in others ------------------------------------------------------------------------------- */

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
    char owner[512];
    ssize_t size = pread(dir->lock_fd, owner, sizeof(owner) - 1, 0);

    owner[MAX(size, 0)] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    g_strcanon(g_strchomp(owner),
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-/", '?');
    return qm_set_error(error, EBUSY,
                        "another process has it open for writing (pid and name: %s); stop it, or "
                        "name another store",
                        owner[0] ? owner : "none is known; or it reads on a read-only mount");
}

static char *owner_line(void)
{
    const char *contact = qm_contact();

    return g_strdup_printf("%ld %s%s%s\n", (long)getpid(), program_invocation_short_name,
                           contact[0] ? " " : "", contact);
}

/* What the last writer left behind its own line. */
static void read_note(struct qm_lmdb_dir *dir)
{
    char text[512];
    ssize_t size = pread(dir->lock_fd, text, sizeof(text) - 1, 0);
    const char *line;

    text[MAX(size, 0)] = '\0';
    line = strchr(text, '\n');
    g_strlcpy(dir->noted, line ? line + 1 : "", sizeof(dir->noted));
}

int qm_lmdb_dir_take_lock(struct qm_lmdb_dir *dir, GError **error)
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
int qm_lmdb_dir_lock_out_writer(struct qm_lmdb_dir *dir, GError **error)
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

/* ---- the note of the last commit ------------------------------------------------------------- */

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
