/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names to descriptors, without ever leaving the export.
 *
 * A name is one component, looked up relative to a held descriptor and never followed when it is a
 * symlink; so a rename or a symlink that races with us leads nowhere else. `..` is the only way up,
 * and path_parent() stops it at the root.
 */
#ifndef PATH_H
#define PATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "src/qid.h"

struct security; /* src/security.h */
struct allow;

struct path_export {
    const char *name;
    const char *dir; /* absolute */
    int root_fd;     /* O_PATH */
    bool readonly;
    bool subdirs;                    /* clients may attach to directories below it */
    bool is_subdir;                  /* is one of these: see export.h */
    const struct path_export *whole; /* then: the export that it is a part of */
    const struct allow *allow;       /* who may attach; NULL: everybody */
    struct qid_export *qids;
    struct security *security;
};

/* Opens /proc/self/fd, through which O_PATH descriptors are opened again. 0 or a negative errno. */
int path_init(void);

/* 0, or what a name from the wire deserves: -ENOENT (empty), -EINVAL (`/` in it), -ENAMETOOLONG;
 * -EINVAL for `.` and `..` where `create`, as nothing can be made or removed under these names. */
int path_check_name(const char *name, size_t len, bool create);

/* O_PATH descriptor of the entry `name` of `dir_fd`, or a negative errno. `.`: -EINVAL. For `..`
 * see path_parent(). */
int path_lookup(int dir_fd, const char *name);

/* O_PATH descriptor of the parent of the directory `fd`; of the root itself at the root of the
 * export, and where the directory was moved out of it: -ENOENT. */
int path_parent(const struct path_export *exp, int fd);

/* Opens what an O_PATH descriptor means, with `flags` of open(2). A descriptor or a negative errno.
 */
int path_reopen(int fd, int flags);

/* The name by which system calls without a descriptor reach `fd` itself, symlinks included. */
#define PATH_PROC_SIZE 32
const char *path_proc(int fd, char buffer[PATH_PROC_SIZE]);

/* As getxattr(2), of what an O_PATH descriptor means: a size or a negative errno. */
ssize_t path_getxattr(int fd, const char *name, void *value, size_t size);

/* As fchmod(2) and futimens(2), of what an O_PATH descriptor means. 0 or a negative errno. */
int path_chmod(int fd, mode_t mode);
int path_set_times(int fd, const struct timespec times[2]);

/* The statx of `fd` with all that a qid needs. 0 or a negative errno. */
int path_statx(int fd, struct statx *stx);

/* The same from what the kernel knows already: type, inode number and mount are right, times and
 * sizes may be old. Does not wait for a server. */
int path_look(int fd, struct statx *stx);

/* The path of `fd`, relative to the root of the export, as the kernel tells it now, in a buffer of
 * PATH_MAX; "" for the root. It may be old already. -ENOENT where there is none below the export,
 * or the name was removed. Asks no filesystem. */
int path_below(const struct path_export *exp, int fd, char *path);

/* The same for what had a name below the export that was removed; -ENOENT otherwise. A file whose
 * name ends with " (deleted)" looks like that. */
int path_was_below(const struct path_export *exp, int fd, char *path);

/* The absolute path of `fd`, as the kernel tells it, in a buffer of PATH_MAX; with " (deleted)"
 * after it where the name was removed. 0 or a negative errno. */
int path_absolute(int fd, char *path);

/* Goes down `path`, relative to the root, name by name: an O_PATH descriptor or a negative errno.
 * Writes to `path`. */
int path_descend(const struct path_export *exp, char *path);

/* What is called where the process has no descriptor left; true: try again. Before any thread. */
void path_on_shortage(bool (*relieve)(void));

/* Whether `error` (negative) is a want of descriptors, and there are some again now: of fids, or of
 * the reserve (spare.h). */
bool path_relieved(int error);

/* A second descriptor of the same. */
int path_dup(int fd);

/* The directory and the name under which `fd` stands now: an O_PATH descriptor, and the name (at
 * most P9_NAME_MAX bytes and NUL). -ENOENT where it stands nowhere below the export any more. */
int path_whereabouts(const struct path_export *exp, int fd, char *name);

#endif
