/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a directory is fit for a store, and what stands in it: on a local filesystem, of the
 * user who runs the daemon, nobody else's to write to, and no links to elsewhere. Only looks; knows
 * nothing of locks, nor which generation counts.
 */
#include "config.h"

#include "store/lmdb-dir-parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"
#include "store/place.h"

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
int qm_lmdb_dir_check_part(const struct qm_lmdb_dir *dir, int at, const char *name, mode_t type,
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

int qm_lmdb_dir_check_parts(const struct qm_lmdb_dir *dir, GError **error)
{
    static const char *const top[] = {"current", "lock", "creating"};
    static const char *const gen[] = {"data.mdb", "lock.mdb", "origin"};
    size_t i;
    int e = 0;

    for (i = 0; e == 0 && i < G_N_ELEMENTS(top); i++)
        e = qm_lmdb_dir_check_part(dir, dir->fd, top[i], S_IFREG, error);
    for (i = 0; e == 0 && dir->gen_fd >= 0 && i < G_N_ELEMENTS(gen); i++)
        e = qm_lmdb_dir_check_part(dir, dir->gen_fd, gen[i], S_IFREG, error);
    return e;
}

int qm_lmdb_dir_check_place(const struct qm_lmdb_dir *dir, gboolean write, GError **error)
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

int qm_lmdb_dir_scan(const struct qm_lmdb_dir *dir, struct qm_lmdb_dir_content *c, GError **error)
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
int qm_lmdb_dir_judge(const struct qm_lmdb_dir_content *c, GError **error)
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
