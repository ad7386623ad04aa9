/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file `current`, which names the generation that counts: reading it, and putting another in
 * its place, lastingly. Knows nothing of what a generation is.
 */
#include "config.h"

#include "store/lmdb-dir-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/error.h"

/* Writes a small file and syncs it; fails with errno. */
int qm_lmdb_dir_write_file(int dir_fd, const char *name, const char *text)
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
char *qm_lmdb_dir_read_current(const struct qm_lmdb_dir *dir, GError **error)
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

/* Makes `current` name a generation, lastingly. *renamed: it does now, though perhaps not
 * lastingly. */
int qm_lmdb_dir_set_current(const struct qm_lmdb_dir *dir, const char *name, int gen_fd,
                            gboolean *renamed)
{
    g_autofree char *text = g_strconcat(name, "\n", NULL);
    int e = fsync(gen_fd) == 0 ? 0 : -errno;

    *renamed = FALSE;
    if (e == 0)
        e = qm_lmdb_dir_write_file(dir->fd, "current.new", text);
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
