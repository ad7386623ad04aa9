/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The recorder: stands in front of the C library's calls that change files (LD_PRELOAD), makes
 * each call, and writes those below $CRASH_ROOT to the log $CRASH_LOG (record.h). The program under
 * it finds the position of the log as crash_record_position(), the number of operations so far.
 *
 * One lock is held over call and record, so that the log has the order of things. Writes through a
 * shared mapping are not seen: LMDB makes them in its lock file alone, which means nothing after a
 * crash.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#define _LARGEFILE64_SOURCE 1
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "tests/crash/record.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* C forbids to make a function of a pointer to data; POSIX has dlsym() do just that. */
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

#define FDS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static uint64_t operations;
static unsigned char tracked[FDS]; /* descriptors of files and directories below the root */

uint64_t crash_record_position(void);
/* What fortified programs call. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

EXPORT uint64_t crash_record_position(void)
{
    uint64_t n;

    pthread_mutex_lock(&lock);
    n = operations;
    pthread_mutex_unlock(&lock);
    return n;
}

static void fail(const char *what)
{
    static const char text[] = "record: cannot go on: ";

    (void)!syscall(SYS_write, 2, text, sizeof(text) - 1);
    perror(what);
    abort();
}

/* The log is written with the real calls, beside all that is recorded. */
static void put(const void *bytes, size_t size)
{
    REAL(write);

    if (size > 0 && real(log_fd, bytes, size) != (ssize_t)size)
        fail("the log");
}

static void end(void)
{
    int e = errno;

    pthread_mutex_unlock(&lock);
    errno = e;
}

static void record(uint32_t op, uint32_t flags, uint64_t ino, uint64_t offset, const char *path,
                   const char *path2, const void *data, size_t size)
{
    struct record_head h = {op, flags, ino, offset, 0, 0, size};
    int e = errno;

    h.path = path ? (uint32_t)strlen(path) : 0;
    h.path2 = path2 ? (uint32_t)strlen(path2) : 0;
    put(&h, sizeof(h));
    put(path, h.path);
    put(path2, h.path2);
    put(data, size);
    operations++;
    errno = e;
}

/* The path below the root, or NULL: not ours. */
static const char *below(int dir, const char *path, char *room)
{
    char whole[2 * PATH_MAX], *slash;
    const char *name = path;
    size_t n = strlen(root);

    if (log_fd < 0)
        return NULL;
    if (path[0] != '/') {
        char link[64];
        ssize_t size;

        snprintf(link, sizeof(link), dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        size = readlink(link, whole, PATH_MAX);
        if (size < 0)
            return NULL;
        snprintf(whole + size, sizeof(whole) - (size_t)size, "/%s", path);
    } else {
        snprintf(whole, sizeof(whole), "%s", path);
    }
    /* The directory may be named by links; the last part is what the call is about. */
    for (slash = whole + strlen(whole); slash > whole && slash[-1] == '/';)
        *--slash = '\0';
    slash = strrchr(whole, '/');
    if (slash && slash > whole) {
        char dir_name[PATH_MAX];

        *slash = '\0';
        name = slash + 1;
        if (!realpath(whole, dir_name))
            return NULL;
        if (strcmp(name, ".") == 0)
            snprintf(room, PATH_MAX, "%s", dir_name);
        else
            snprintf(room, PATH_MAX, "%.2000s/%.2000s", dir_name, name);
    } else {
        snprintf(room, PATH_MAX, "%.4000s", whole);
    }
    if (strncmp(room, root, n) != 0 || (room[n] != '/' && room[n] != '\0'))
        return NULL;
    return room[n] ? room + n + 1 : room + n;
}

static uint64_t inode_at(const char *path)
{
    char whole[2 * PATH_MAX];
    struct stat st;

    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    return lstat(whole, &st) == 0 ? st.st_ino : 0;
}

static uint64_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static int ours(int fd)
{
    return log_fd >= 0 && fd >= 0 && fd < FDS && tracked[fd];
}

static void begin(void)
{
    pthread_mutex_lock(&lock);
    if (log_fd < 0 && getenv("CRASH_LOG") && getenv("CRASH_ROOT")) {
        REAL(open);

        log_fd = real(getenv("CRASH_LOG"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (log_fd < 0 || !realpath(getenv("CRASH_ROOT"), root))
            fail("CRASH_LOG, CRASH_ROOT");
        record(RECORD_MKDIR, 0, inode_at(""), 0, "", NULL, NULL, 0);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static int opened(int fd, const char *rel, int flags, int was_there)
{
    if (fd < 0 || !rel)
        return fd;
    if (fd >= FDS)
        fail("too many descriptors");
    tracked[fd] = 1;
    if (!was_there)
        record(RECORD_CREATE, 0, inode_of(fd), 0, rel, NULL, NULL, 0);
    else if (flags & O_TRUNC)
        record(RECORD_TRUNCATE, 0, inode_of(fd), 0, NULL, NULL, NULL, 0);
    return fd;
}

#define OPEN_BODY(dir, call)                                                                       \
    char room[PATH_MAX];                                                                           \
    const char *rel;                                                                               \
    int fd, there;                                                                                 \
    mode_t mode = 0;                                                                               \
    va_list args;                                                                                  \
                                                                                                   \
    va_start(args, flags);                                                                         \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)                                     \
        mode = va_arg(args, mode_t);                                                               \
    va_end(args);                                                                                  \
    begin();                                                                                       \
    rel = below(dir, path, room);                                                                  \
    there = !rel || inode_at(rel) != 0;                                                            \
    fd = opened(call, rel, flags, there);                                                          \
    end();                                                                                         \
    return fd

EXPORT int open(const char *path, int flags, ...)
{
    REAL(open);
    OPEN_BODY(AT_FDCWD, real(path, flags, mode));
}

EXPORT int open64(const char *path, int flags, ...)
{
    REAL(open64);
    OPEN_BODY(AT_FDCWD, real(path, flags, mode));
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
    REAL(openat);
    OPEN_BODY(dir, real(dir, path, flags, mode));
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    OPEN_BODY(dir, real(dir, path, flags, mode));
}

EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}

EXPORT int __openat_2(int dir, const char *path, int flags)
{
    return openat(dir, path, flags);
}

EXPORT int __openat64_2(int dir, const char *path, int flags)
{
    return openat64(dir, path, flags);
}

EXPORT int close(int fd)
{
    int r;
    REAL(close);

    begin();
    if (fd >= 0 && fd < FDS)
        tracked[fd] = 0;
    r = real(fd);
    end();
    return r;
}

/* ---- data ------------------------------------------------------------------------------------ */

static void wrote(int fd, off64_t offset, const void *data, ssize_t size)
{
    if (size > 0 && ours(fd))
        record(RECORD_WRITE, fcntl(fd, F_GETFL) & O_DSYNC ? RECORD_DSYNC : 0, inode_of(fd),
               (uint64_t)offset, NULL, NULL, data, (size_t)size);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    off64_t at;
    ssize_t n;
    REAL(write);

    begin();
    at = ours(fd) ? lseek64(fd, 0, SEEK_CUR) : 0;
    n = real(fd, data, size);
    wrote(fd, at, data, n);
    end();
    return n;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    ssize_t n;
    REAL(pwrite);

    begin();
    n = real(fd, data, size, offset);
    wrote(fd, offset, data, n);
    end();
    return n;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    ssize_t n;
    REAL(pwrite64);

    begin();
    n = real(fd, data, size, offset);
    wrote(fd, offset, data, n);
    end();
    return n;
}

static void wrote_parts(int fd, off64_t offset, const struct iovec *iov, int parts, ssize_t n)
{
    int i;

    for (i = 0; i < parts && n > 0; i++) {
        ssize_t part = (ssize_t)iov[i].iov_len < n ? (ssize_t)iov[i].iov_len : n;

        wrote(fd, offset, iov[i].iov_base, part);
        offset += part;
        n -= part;
    }
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int parts)
{
    off64_t at;
    ssize_t n;
    REAL(writev);

    begin();
    at = ours(fd) ? lseek64(fd, 0, SEEK_CUR) : 0;
    n = real(fd, iov, parts);
    wrote_parts(fd, at, iov, parts, n);
    end();
    return n;
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int parts, off_t offset)
{
    ssize_t n;
    REAL(pwritev);

    begin();
    n = real(fd, iov, parts, offset);
    wrote_parts(fd, offset, iov, parts, n);
    end();
    return n;
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int parts, off64_t offset)
{
    ssize_t n;
    REAL(pwritev64);

    begin();
    n = real(fd, iov, parts, offset);
    wrote_parts(fd, offset, iov, parts, n);
    end();
    return n;
}

static void sized(uint32_t op, int fd, int r, uint64_t size)
{
    if (r == 0 && ours(fd))
        record(op, 0, inode_of(fd), size, NULL, NULL, NULL, 0);
}

EXPORT int ftruncate(int fd, off_t size)
{
    int r;
    REAL(ftruncate);

    begin();
    r = real(fd, size);
    sized(RECORD_TRUNCATE, fd, r, (uint64_t)size);
    end();
    return r;
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    int r;
    REAL(ftruncate64);

    begin();
    r = real(fd, size);
    sized(RECORD_TRUNCATE, fd, r, (uint64_t)size);
    end();
    return r;
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
    int r;
    REAL(fallocate);

    begin();
    if (mode != 0 && ours(fd))
        fail("fallocate with a mode is not recorded");
    r = real(fd, mode, offset, size);
    sized(RECORD_ALLOCATE, fd, r, (uint64_t)(offset + size));
    end();
    return r;
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    int r;
    REAL(fallocate64);

    begin();
    if (mode != 0 && ours(fd))
        fail("fallocate with a mode is not recorded");
    r = real(fd, mode, offset, size);
    sized(RECORD_ALLOCATE, fd, r, (uint64_t)(offset + size));
    end();
    return r;
}

/* ---- syncs ----------------------------------------------------------------------------------- */

EXPORT int fsync(int fd)
{
    int r;
    REAL(fsync);

    begin();
    r = real(fd);
    sized(RECORD_SYNC, fd, r, 0);
    end();
    return r;
}

EXPORT int fdatasync(int fd)
{
    int r;
    REAL(fdatasync);

    begin();
    r = real(fd);
    sized(RECORD_SYNC, fd, r, 0);
    end();
    return r;
}

EXPORT int syncfs(int fd)
{
    int r;
    REAL(syncfs);

    begin();
    r = real(fd);
    if (r == 0 && ours(fd))
        record(RECORD_SYNC, 0, 0, 0, NULL, NULL, NULL, 0);
    end();
    return r;
}

/* ---- names ----------------------------------------------------------------------------------- */

static int renamed(int r, const char *from, const char *to)
{
    if (r == 0 && from && to)
        record(RECORD_RENAME, 0, inode_at(to), 0, from, to, NULL, 0);
    else if (r == 0 && (from || to))
        fail("rename across the edge of what is recorded");
    return r;
}

EXPORT int renameat(int dir, const char *path, int dir2, const char *path2)
{
    char room[PATH_MAX], room2[PATH_MAX];
    const char *from, *to;
    int r;
    REAL(renameat);

    begin();
    from = below(dir, path, room);
    to = below(dir2, path2, room2);
    r = renamed(real(dir, path, dir2, path2), from, to);
    end();
    return r;
}

EXPORT int rename(const char *path, const char *path2)
{
    return renameat(AT_FDCWD, path, AT_FDCWD, path2);
}

EXPORT int renameat2(int dir, const char *path, int dir2, const char *path2, unsigned flags)
{
    char room[PATH_MAX], room2[PATH_MAX];
    const char *from, *to;
    int r;
    REAL(renameat2);

    begin();
    from = below(dir, path, room);
    to = below(dir2, path2, room2);
    if (from && (flags & RENAME_EXCHANGE))
        fail("RENAME_EXCHANGE is not recorded");
    r = renamed(real(dir, path, dir2, path2, flags), from, to);
    end();
    return r;
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
    char room[PATH_MAX];
    const char *rel;
    int r;
    REAL(unlinkat);

    begin();
    rel = below(dir, path, room);
    r = real(dir, path, flags);
    if (r == 0 && rel)
        record(RECORD_UNLINK, 0, 0, 0, rel, NULL, NULL, 0);
    end();
    return r;
}

EXPORT int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int mkdirat(int dir, const char *path, mode_t mode)
{
    char room[PATH_MAX];
    const char *rel;
    int r;
    REAL(mkdirat);

    begin();
    rel = below(dir, path, room);
    r = real(dir, path, mode);
    if (r == 0 && rel)
        record(RECORD_MKDIR, 0, inode_at(rel), 0, rel, NULL, NULL, 0);
    end();
    return r;
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- xattrs ---------------------------------------------------------------------------------- */

/* An inode of ours by its path: also through /proc/self/fd, as xattrs of O_PATH descriptors go. */
static uint64_t named(const char *path)
{
    char whole[PATH_MAX];
    struct stat st;
    size_t n = strlen(root);

    if (log_fd < 0 || !realpath(path, whole) || strncmp(whole, root, n) != 0 ||
        (whole[n] != '/' && whole[n] != '\0') || stat(whole, &st) != 0)
        return 0;
    return st.st_ino;
}

static void attribute(int r, uint32_t op, uint64_t ino, const char *name, const void *value,
                      size_t size)
{
    if (r == 0 && ino)
        record(op, 0, ino, 0, NULL, name, value, size);
}

EXPORT int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    int r;
    REAL(setxattr);

    begin();
    r = real(path, name, value, size, flags);
    attribute(r, RECORD_SETXATTR, named(path), name, value, size);
    end();
    return r;
}

EXPORT int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    return setxattr(path, name, value, size, flags);
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    int r;
    REAL(fsetxattr);

    begin();
    r = real(fd, name, value, size, flags);
    attribute(r, RECORD_SETXATTR, ours(fd) ? inode_of(fd) : 0, name, value, size);
    end();
    return r;
}

EXPORT int removexattr(const char *path, const char *name)
{
    int r;
    REAL(removexattr);

    begin();
    r = real(path, name);
    attribute(r, RECORD_DELXATTR, named(path), name, NULL, 0);
    end();
    return r;
}

EXPORT int lremovexattr(const char *path, const char *name)
{
    return removexattr(path, name);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    int r;
    REAL(fremovexattr);

    begin();
    r = real(fd, name);
    attribute(r, RECORD_DELXATTR, ours(fd) ? inode_of(fd) : 0, name, NULL, 0);
    end();
    return r;
}
