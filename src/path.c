/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names to descriptors, without ever leaving the export. See path.h. */
#include "config.h"

#include "src/path.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "src/call.h"
#include "src/proto.h"
#include "src/spare.h"

/* Deeper than any path that a kernel lets us build in reasonable time; ends loops of ours. */
#define DEPTH_MAX 8192

/* So many steps up are taken at once. */
#define UP_MAX 256

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* the same on all machines that came after it */
#endif
#ifndef SYS_getxattrat
#define SYS_getxattrat 464 /* the same on all machines that came after it */
#endif

static int proc_fd = -1;
static int no_openat2; /* set once, atomically, when the kernel lacks the call */

static bool (*on_shortage)(void);

void path_on_shortage(bool (*relieve)(void))
{
    on_shortage = relieve;
}

bool path_relieved(int error)
{
    if (error != -EMFILE && error != -ENFILE)
        return false;
    return (on_shortage != NULL && on_shortage()) || spare_lend();
}

int path_dup(int fd)
{
    int got;

    do {
        got = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        got = got < 0 ? -errno : got;
    } while (got < 0 && path_relieved(got));
    return got;
}

int path_init(void)
{
    if (proc_fd < 0)
        proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return proc_fd < 0 ? -errno : 0;
}

int path_check_name(const char *name, size_t len, bool create)
{
    if (len == 0)
        return -ENOENT;
    if (len > P9_NAME_MAX)
        return -ENAMETOOLONG;
    if (memchr(name, '/', len) != NULL)
        return -EINVAL;
    if (create && name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
        return -EINVAL;
    return 0;
}

static int lookup(int dir_fd, const char *name)
{
    int fd;

#ifdef SYS_openat2
    if (!__atomic_load_n(&no_openat2, __ATOMIC_RELAXED)) {
        /* RESOLVE_NO_SYMLINKS would refuse a symlink as last component even with O_NOFOLLOW; the
         * name is a single component, so BENEATH and NO_MAGICLINKS are all that is needed. */
        struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                               .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

        do
            fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof how);
        while (fd < 0 && (errno == EAGAIN || errno == EINTR));
        if (fd >= 0)
            return fd;
        if (errno != ENOSYS && errno != EPERM)
            return -errno;
        __atomic_store_n(&no_openat2, 1, __ATOMIC_RELAXED);
    }
#endif
    fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int path_lookup(int dir_fd, const char *name)
{
    int fd;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    do
        fd = lookup(dir_fd, name);
    while (fd < 0 && path_relieved(fd));
    return fd;
}

static int lookup_parent(int fd)
{
    int up;

    do {
        up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        up = up < 0 ? -errno : up;
    } while (up < 0 && path_relieved(up));
    return up;
}

static bool same_file(const struct statx *a, const struct statx *b)
{
    return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
           a->stx_dev_minor == b->stx_dev_minor;
}

static bool same_place(const struct statx *a, const struct statx *b)
{
    return same_file(a, b) &&
           (!(a->stx_mask & b->stx_mask & STATX_MNT_ID) || a->stx_mnt_id == b->stx_mnt_id);
}

static int statx_of(int fd, struct statx *stx)
{
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;

    return statx(fd, "", flags, STATX_INO | STATX_TYPE | STATX_MNT_ID, stx) < 0 ? -errno : 0;
}

/* 0 when the directory `fd` is the root or below it. Takes `fd`. */
static int check_beneath(const struct statx *root, int fd)
{
    struct statx here, last;
    int error = 0;

    memset(&last, 0, sizeof last);
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        int up;

        error = statx_of(fd, &here);
        if (error != 0 || same_place(&here, root))
            break;
        if (depth > 0 && same_place(&here, &last)) { /* `/`: the export is not above us */
            error = -ENOENT;
            break;
        }
        last = here;
        up = lookup_parent(fd);
        if (up < 0) {
            error = up;
            break;
        }
        close(fd);
        fd = up;
        if (depth == DEPTH_MAX - 1)
            error = -ENOENT;
    }
    close(fd);
    return error;
}

#define NUMBER_SIZE 16

/* The name of a descriptor below proc_fd: at each open, so not by printf. */
static const char *number(int fd, char room[NUMBER_SIZE])
{
    char *at = room + NUMBER_SIZE - 1;
    unsigned left = (unsigned)fd;

    *at = '\0';
    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    return at;
}

int path_reopen(int fd, int flags)
{
    char room[NUMBER_SIZE];
    const char *name = number(fd, room);
    int got;

    do {
        got = call_openat(proc_fd, name, flags | O_CLOEXEC);
        got = got < 0 ? -errno : got;
    } while (got < 0 && path_relieved(got));
    return got;
}

const char *path_proc(int fd, char buffer[PATH_PROC_SIZE])
{
    snprintf(buffer, PATH_PROC_SIZE, "/proc/self/fd/%d", fd);
    return buffer;
}

/* Whether a new system call may not be there: filters that are older than it, of a service or a
 * container, say EPERM. Then the older way is asked, whose EPERM is the file's. */
static bool may_lack(int error)
{
    return error == ENOSYS || error == EPERM;
}

ssize_t path_getxattr(int fd, const char *name, void *value, size_t size)
{
    static int no_call; /* atomic: before Linux 6.13 */
    char path[PATH_PROC_SIZE], room[NUMBER_SIZE];
    bool lacking = __atomic_load_n(&no_call, __ATOMIC_RELAXED);
    ssize_t n;

    if (!lacking) {
        struct {
            uint64_t value;
            uint32_t size, flags;
        } args = {.value = (uintptr_t)value, .size = (uint32_t)size};

        /* The name of the descriptor alone: the way from the root through /proc/self costs more
         * than the rest of the call. */
        n = syscall(SYS_getxattrat, proc_fd, number(fd, room), 0, name, &args, sizeof args);
        if (n >= 0 || !may_lack(errno))
            return n < 0 ? -errno : n;
    }
    n = getxattr(path_proc(fd, path), name, value, size);
    if (!lacking && (n >= 0 || errno != EPERM))
        __atomic_store_n(&no_call, 1, __ATOMIC_RELAXED);
    return n < 0 ? -errno : n;
}

int path_chmod(int fd, mode_t mode)
{
    static int no_call; /* atomic: before Linux 6.6 */
    bool lacking = __atomic_load_n(&no_call, __ATOMIC_RELAXED);
    char room[NUMBER_SIZE];
    int result;

    if (!lacking) {
        if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
            return 0;
        if (!may_lack(errno))
            return -errno;
    }
    result = fchmodat(proc_fd, number(fd, room), mode, 0) < 0 ? -errno : 0;
    if (!lacking && result != -EPERM)
        __atomic_store_n(&no_call, 1, __ATOMIC_RELAXED);
    return result;
}

int path_set_times(int fd, const struct timespec times[2])
{
    static int no_flag; /* atomic: before Linux 5.8 */
    char room[NUMBER_SIZE];

    if (!__atomic_load_n(&no_flag, __ATOMIC_RELAXED)) {
        if (utimensat(fd, "", times, AT_EMPTY_PATH) == 0)
            return 0;
        if (errno != EINVAL)
            return -errno;
    }
    /* EINVAL may be for the times, too. */
    if (utimensat(proc_fd, number(fd, room), times, 0) < 0)
        return -errno;
    __atomic_store_n(&no_flag, 1, __ATOMIC_RELAXED);
    return 0;
}

int path_statx(int fd, struct statx *stx)
{
    return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, QID_STATX_MASK, stx) < 0 ? -errno : 0;
}

int path_look(int fd, struct statx *stx)
{
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;

    return statx(fd, "", flags, QID_STATX_MASK, stx) < 0 ? -errno : 0;
}

/* All of it in one call, where no name on the way is a symlink. */
static int descend_at_once(int root_fd, const char *path)
{
#ifdef SYS_openat2
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS};

    if (!__atomic_load_n(&no_openat2, __ATOMIC_RELAXED))
        return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
#endif
    return -1;
}

int path_descend(const struct path_export *exp, char *path)
{
    int fd = *path != '\0' ? descend_at_once(exp->root_fd, path) : -1;

    if (fd >= 0)
        return fd;
    fd = path_dup(exp->root_fd); /* name by name, which also tells what is wrong */

    while (fd >= 0 && *path != '\0') {
        char *slash = strchr(path, '/');
        int next;

        if (slash != NULL)
            *slash = '\0';
        next = path_lookup(fd, path);
        close(fd);
        fd = next;
        path = slash != NULL ? slash + 1 : path + strlen(path);
    }
    return fd;
}

int path_absolute(int fd, char *path)
{
    char room[NUMBER_SIZE];
    ssize_t len = readlinkat(proc_fd, number(fd, room), path, PATH_MAX);

    if (len < 0)
        return -errno;
    if (len == PATH_MAX)
        return -ENAMETOOLONG;
    path[len] = '\0';
    return 0;
}

static const char deleted[] = " (deleted)";

/* `any`: also what may be no path but a path and what the kernel says about it. */
static int below(const struct path_export *exp, int fd, char *path, bool any)
{
    char root[PATH_MAX];
    size_t root_len, len;
    int error = path_absolute(exp->root_fd, root);

    if (error == 0)
        error = path_absolute(fd, path);
    if (error != 0)
        return error;
    root_len = strlen(root);
    len = strlen(path);
    if (root_len == 1)
        root_len = 0;
    /* A file whose name ends like this is as one that has none: it is looked for otherwise. */
    if (!any && g_str_has_suffix(path, deleted))
        return -ENOENT;
    if (len < root_len || memcmp(root, path, root_len) != 0)
        return -ENOENT;
    if (len == root_len || (len == 1 && root_len == 0)) {
        path[0] = '\0';
        return 0;
    }
    if (path[root_len] != '/')
        return -ENOENT;
    memmove(path, path + root_len + 1, len - root_len);
    return 0;
}

int path_below(const struct path_export *exp, int fd, char *path)
{
    return below(exp, fd, path, false);
}

int path_was_below(const struct path_export *exp, int fd, char *path)
{
    int error = below(exp, fd, path, true);

    if (error != 0 || !g_str_has_suffix(path, deleted))
        return error != 0 ? error : -ENOENT;
    path[strlen(path) - strlen(deleted)] = '\0';
    return 0;
}

/* What of the absolute `path` follows the root `dir`; NULL: nothing. */
static char *below_root(char *path, const char *dir)
{
    size_t len = dir != NULL ? strlen(dir) : 0;

    if (len <= 1) /* `/`, or not known */
        return NULL;
    return strncmp(path, dir, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

/* How many names below the root `fd` stands, as far as its path tells. 0: none, or not known. */
static unsigned depth_of(const struct path_export *exp, int fd)
{
    char path[PATH_MAX];
    const char *rest = NULL;
    unsigned depth = 0;

    if (path_absolute(fd, path) != 0)
        return 0;
    if (!exp->is_subdir)
        rest = below_root(path, exp->dir);
    if (rest == NULL && below(exp, fd, path, true) == 0)
        rest = path;
    for (; rest != NULL && *rest != '\0'; rest = strchr(rest, '/')) {
        rest += *rest == '/';
        depth++;
    }
    return depth;
}

/* Whether so many steps up from the directory `fd` is the root. */
static bool is_above(const struct statx *root, int fd, unsigned steps)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    char way[UP_MAX * 3 + 1];
    struct statx there;

    for (unsigned i = 0; i < steps; i++)
        memcpy(way + i * 3, "../", 3);
    way[steps * 3] = '\0';
    return statx(fd, way, steps == 0 ? flags | AT_EMPTY_PATH : flags,
                 STATX_INO | STATX_TYPE | STATX_MNT_ID, &there) == 0 &&
           same_place(&there, root);
}

/* At the root, or where the path of `fd` says nothing. */
static int parent_by_steps(const struct path_export *exp, const struct statx *root, int fd)
{
    struct statx here;
    int up, again, error;

    error = statx_of(fd, &here);
    if (error != 0)
        return error;
    up = same_place(&here, root) ? path_dup(exp->root_fd) : lookup_parent(fd);
    if (up < 0)
        return up;
    again = path_dup(up);
    error = again < 0 ? again : check_beneath(root, again);
    if (error != 0) {
        close(up);
        return error;
    }
    return up;
}

int path_parent(const struct path_export *exp, int fd)
{
    struct statx root;
    unsigned depth;
    int up, error;

    error = statx_of(exp->root_fd, &root);
    if (error != 0)
        return error;
    /* The path is a guess, as names may change; that the root is where it says is the proof. */
    depth = depth_of(exp, fd);
    if (depth > 0 && depth <= UP_MAX) {
        up = lookup_parent(fd);
        if (up >= 0 && is_above(&root, up, depth - 1))
            return up;
        if (up >= 0)
            close(up);
    }
    return parent_by_steps(exp, &root, fd);
}

/* The directory of `path`, which is changed, and the name there, where that is what `fd` means.
 * `guessed`: the path may be that of another name of the file. */
static int stands_at(const struct path_export *exp, int fd, char *path, char *name, bool guessed)
{
    struct statx want, got;
    char *base = strrchr(path, '/');
    int dir_fd, error;

    if (base != NULL)
        *base++ = '\0';
    else
        base = path;
    if (strlen(base) == 0 || strlen(base) > P9_NAME_MAX)
        return -ENOENT;
    memcpy(name, base, strlen(base) + 1);
    if (base == path)
        path[0] = '\0';
    dir_fd = path_descend(exp, path);
    if (dir_fd < 0)
        return dir_fd;
    /* What the kernel prints may be old already, or be a strange name: only the inode proves it. */
    error = statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
                  STATX_INO | STATX_TYPE | STATX_NLINK | STATX_MNT_ID, &got) < 0
                ? -errno
                : statx_of(fd, &want);
    if (error == 0 &&
        (!same_file(&want, &got) || (guessed && !S_ISDIR(got.stx_mode) && got.stx_nlink > 1)))
        error = -ENOENT;
    if (error != 0) {
        close(dir_fd);
        return error;
    }
    return dir_fd;
}

int path_whereabouts(const struct path_export *exp, int fd, char *name)
{
    char path[PATH_MAX], *rest;
    int dir_fd, error;

    /* The root is nearly always where it was. If not, then what is looked up here is not the file:
     * as the way goes down from the root's descriptor, a wrong guess finds nothing, or another name
     * of the file. */
    error = path_absolute(fd, path);
    if (error != 0)
        return error;
    rest = exp->is_subdir ? NULL : below_root(path, exp->dir); /* that is not a subdirectory's */
    if (rest != NULL) {
        dir_fd = stands_at(exp, fd, rest, name, true);
        if (dir_fd >= 0)
            return dir_fd;
    }
    error = below(exp, fd, path, true);
    return error != 0 ? error : stands_at(exp, fd, path, name, false);
}
