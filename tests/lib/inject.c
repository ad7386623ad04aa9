/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The injector of faults; inject.h says how it is used. Knows nothing of stores: it sees calls and
 * paths. Calls that the C library makes to itself are not seen.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#define _LARGEFILE64_SOURCE 1
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "tests/lib/inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* C forbids to make a function of a pointer to data; POSIX has dlsym() do just that. */
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char calls[256], in_path[256], log_file[512], begin_file[512];
static unsigned long nth, count, seen, failed;
static long torn;
static int fault, after, armed, begun;

#define KILL  (-1)
#define PAUSE (-2)

static const struct {
    const char *name;
    int value;
} errors[] = {{"EIO", EIO},     {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
              {"EROFS", EROFS}, {"KILL", KILL},     {"PAUSE", PAUSE}};

static int error_of(const char *text)
{
    size_t i;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (strcmp(text, errors[i].name) == 0)
            return errors[i].value;
    }
    return atoi(text);
}

static void take(const char *name, const char *value)
{
    if (strcmp(name, "calls") == 0)
        snprintf(calls, sizeof(calls), ",%s,", value);
    else if (strcmp(name, "path") == 0)
        snprintf(in_path, sizeof(in_path), "%s", value);
    else if (strcmp(name, "nth") == 0)
        nth = strtoul(value, NULL, 10);
    else if (strcmp(name, "count") == 0)
        count = strtoul(value, NULL, 10);
    else if (strcmp(name, "error") == 0)
        fault = error_of(value);
    else if (strcmp(name, "torn") == 0)
        torn = atol(value);
    else if (strcmp(name, "after") == 0)
        after = atoi(value);
    else if (strcmp(name, "log") == 0)
        snprintf(log_file, sizeof(log_file), "%s", value);
    else if (strcmp(name, "begin") == 0)
        snprintf(begin_file, sizeof(begin_file), "%s", value);
    else
        fprintf(stderr, "inject: %s is not known\n", name);
}

static void arm(const char *spec)
{
    char copy[2048], *word, *rest = copy;

    begun = 1;
    armed = spec != NULL;
    snprintf(calls, sizeof(calls), ",all,");
    in_path[0] = log_file[0] = begin_file[0] = '\0';
    nth = seen = failed = 0;
    count = 1;
    torn = -1;
    fault = EIO;
    after = 0;
    snprintf(copy, sizeof(copy), "%s", spec ? spec : "");
    while ((word = strsep(&rest, " "))) {
        char *value = strchr(word, '=');

        if (!value)
            continue;
        *value++ = '\0';
        take(word, value);
    }
}

void inject_arm(const char *spec)
{
    pthread_mutex_lock(&lock);
    arm(spec);
    pthread_mutex_unlock(&lock);
}

unsigned long inject_seen(void)
{
    return seen;
}

unsigned long inject_failed(void)
{
    return failed;
}

static void note(const char *call, const char *path)
{
    char line[1024];
    int size = snprintf(line, sizeof(line), "%lu %s %s\n", seen, call, path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                          0600);

    if (fd < 0)
        return;
    (void)!syscall(SYS_write, fd, line, (size_t)size);
    (void)syscall(SYS_close, fd);
}

static int is_meant(const char *call, const char *path)
{
    char word[32];

    if (begin_file[0] && access(begin_file, F_OK) != 0)
        return 0;
    snprintf(word, sizeof(word), ",%s,", call);
    return (strstr(calls, ",all,") || strstr(calls, word)) &&
           (in_path[0] == '\0' || strstr(path, in_path));
}

/* The path behind an open descriptor. */
static const char *path_of(int fd, char *room, size_t size)
{
    char link[64];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, room, size - 1);
    room[n > 0 ? n : 0] = '\0';
    return room;
}

/* PATH:NAME, of an extended attribute. */
static const char *attribute(int fd, const char *path, const char *name, char room[4096])
{
    char file[2048];
    int saved = errno;

    snprintf(room, 4096, "%s:%s", fd >= 0 ? path_of(fd, file, sizeof(file)) : path, name);
    errno = saved;
    return room;
}

static void wait_for_end(void)
{
    const struct timespec moment = {0, 5000000};

    while (begin_file[0] && access(begin_file, F_OK) == 0)
        (void)nanosleep(&moment, NULL);
}

/* Counts a call: 0, or the errno with which it is to fail. */
static int judge(const char *call, int fd, const char *path)
{
    char room[4096];
    int e = 0, saved = errno;

    pthread_mutex_lock(&lock);
    if (!begun)
        arm(getenv("QIDMAP_INJECT"));
    if (armed) {
        if (fd >= 0)
            path = path_of(fd, room, sizeof(room));
        if (path && is_meant(call, path)) {
            seen++;
            if (log_file[0])
                note(call, path);
            if (nth != 0 && seen >= nth && (count == 0 || seen - nth < count)) {
                failed++;
                e = fault;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    if (e == KILL) {
        (void)kill(getpid(), SIGKILL);
        _exit(128 + SIGKILL); /* the daemon's filter of system calls knows no kill */
    }
    if (e == PAUSE) {
        wait_for_end();
        e = 0;
    }
    errno = saved;
    return e;
}

/* The same for a call that changes no file: it counts only where it is named. */
static int judge_named(const char *call, int fd, const char *path)
{
    char word[32];

    pthread_mutex_lock(&lock);
    if (!begun)
        arm(getenv("QIDMAP_INJECT"));
    pthread_mutex_unlock(&lock);
    snprintf(word, sizeof(word), ",%s,", call);
    return armed && strstr(calls, word) ? judge(call, fd, path) : 0;
}

#define FAIL(e)                                                                                    \
    do {                                                                                           \
        errno = (e);                                                                               \
        return -1;                                                                                 \
    } while (0)

/* A call on a descriptor that returns 0 or -1. */
#define PLAIN(call, fd, path, ...)                                                                 \
    do {                                                                                           \
        int e_ = judge(call, fd, path);                                                            \
                                                                                                   \
        if (e_ == 0)                                                                               \
            return real(__VA_ARGS__);                                                              \
        if (after)                                                                                 \
            (void)!real(__VA_ARGS__);                                                              \
        FAIL(e_);                                                                                  \
    } while (0)

/* What a write that fails leaves behind: all of it, or the beginning. */
static size_t left_behind(size_t size)
{
    if (after)
        return size;
    return torn > 0 && (size_t)torn < size ? (size_t)torn : 0;
}

/* Seen from other libraries, whatever the build says of other files. */
#pragma GCC visibility push(default)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    int e = judge("write", fd, NULL);

    if (e == 0)
        return real(fd, data, size);
    if (left_behind(size))
        (void)!real(fd, data, left_behind(size));
    FAIL(e);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    REAL(pwrite);
    int e = judge("pwrite", fd, NULL);

    if (e == 0)
        return real(fd, data, size, offset);
    if (left_behind(size))
        (void)!real(fd, data, left_behind(size), offset);
    FAIL(e);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(pwrite64);
    int e = judge("pwrite", fd, NULL);

    if (e == 0)
        return real(fd, data, size, offset);
    if (left_behind(size))
        (void)!real(fd, data, left_behind(size), offset);
    FAIL(e);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    REAL(writev);
    int e = judge("writev", fd, NULL);

    if (e == 0)
        return real(fd, parts, n);
    if (after)
        (void)!real(fd, parts, n);
    else if (n > 0 && left_behind(parts[0].iov_len))
        (void)!syscall(SYS_write, fd, parts[0].iov_base, left_behind(parts[0].iov_len));
    FAIL(e);
}

ssize_t read(int fd, void *data, size_t size)
{
    REAL(read);
    int e = judge_named("read", fd, NULL);

    if (e == 0)
        return real(fd, data, size);
    FAIL(e);
}

/* It is made in any case; its path is that of the listening socket. */
int accept4(int fd, struct sockaddr *address, socklen_t *address_size, int flags)
{
    struct sockaddr_un own = {.sun_family = AF_UNSPEC};
    socklen_t size = sizeof(own) - 1;
    REAL(accept4);
    int got = real(fd, address, address_size, flags), e;

    if (got < 0)
        return got;
    if (getsockname(got, (struct sockaddr *)&own, &size) < 0 || own.sun_family != AF_UNIX)
        own.sun_path[0] = '\0';
    e = judge_named("accept", -1, own.sun_path);
    if (e == 0)
        return got;
    (void)close(got);
    FAIL(e);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    PLAIN("fdatasync", fd, NULL, fd);
}

int fsync(int fd)
{
    REAL(fsync);
    PLAIN("fsync", fd, NULL, fd);
}

int msync(void *address, size_t size, int flags)
{
    REAL(msync);
    PLAIN("msync", -1, "", address, size, flags);
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    PLAIN("ftruncate", fd, NULL, fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    PLAIN("ftruncate", fd, NULL, fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    REAL(fallocate);
    PLAIN("fallocate", fd, NULL, fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    REAL(fallocate64);
    PLAIN("fallocate", fd, NULL, fd, mode, offset, size);
}

/* Opening: what does not create a file is not counted. */
#define OPEN_MODE(flags, last)                                                                     \
    mode_t mode = 0;                                                                               \
    int e = 0;                                                                                     \
                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                       \
        va_list args;                                                                              \
                                                                                                   \
        va_start(args, last);                                                                      \
        mode = (mode_t)va_arg(args, int);                                                          \
        va_end(args);                                                                              \
    }                                                                                              \
    if ((flags)&O_CREAT)                                                                           \
        e = judge("open", -1, path);                                                               \
    if (e != 0)                                                                                    \
    FAIL(e)

int open(const char *path, int flags, ...)
{
    REAL(open);
    OPEN_MODE(flags, flags);
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    OPEN_MODE(flags, flags);
    return real(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    REAL(openat);
    OPEN_MODE(flags, flags);
    return real(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    OPEN_MODE(flags, flags);
    return real(dir, path, flags, mode);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    PLAIN("rename", -1, to, from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    REAL(renameat);
    PLAIN("rename", -1, to, from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    REAL(renameat2);
    PLAIN("rename", -1, to, from_dir, from, to_dir, to, flags);
}

int unlink(const char *path)
{
    REAL(unlink);
    PLAIN("unlink", -1, path, path);
}

int unlinkat(int dir, const char *path, int flags)
{
    REAL(unlinkat);
    PLAIN("unlink", -1, path, dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    PLAIN("mkdir", -1, path, path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    REAL(mkdirat);
    PLAIN("mkdir", -1, path, dir, path, mode);
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    char room[4096];
    REAL(setxattr);
    int e = judge("setxattr", -1, attribute(-1, path, name, room));

    if (e == 0)
        return real(path, name, value, size, flags);
    if (left_behind(size))
        (void)!real(path, name, value, left_behind(size), flags);
    FAIL(e);
}

int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    char room[4096];
    REAL(lsetxattr);
    int e = judge("setxattr", -1, attribute(-1, path, name, room));

    if (e == 0)
        return real(path, name, value, size, flags);
    if (left_behind(size))
        (void)!real(path, name, value, left_behind(size), flags);
    FAIL(e);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    char room[4096];
    REAL(fsetxattr);
    int e = judge("setxattr", -1, attribute(fd, NULL, name, room));

    if (e == 0)
        return real(fd, name, value, size, flags);
    if (left_behind(size))
        (void)!real(fd, name, value, left_behind(size), flags);
    FAIL(e);
}

int removexattr(const char *path, const char *name)
{
    char room[4096];
    REAL(removexattr);
    PLAIN("removexattr", -1, attribute(-1, path, name, room), path, name);
}

int lremovexattr(const char *path, const char *name)
{
    char room[4096];
    REAL(lremovexattr);
    PLAIN("removexattr", -1, attribute(-1, path, name, room), path, name);
}

int fremovexattr(int fd, const char *name)
{
    char room[4096];
    REAL(fremovexattr);
    PLAIN("removexattr", -1, attribute(fd, NULL, name, room), fd, name);
}

#pragma GCC visibility pop
