/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * posix [-l] [-t PREFIX] [-r READONLY] DIRECTORY
 *
 * What POSIX (and Linux, where it is more exact) wants of file calls, tried in DIRECTORY as root
 * and as two other users. Prints for each check "pass NAME" or "fail NAME: WHY", and counts at the
 * end; the exit status is 0 however many failed, because whoever runs it compares runs on several
 * filesystems. READONLY is a read-only mount of DIRECTORY. -t leaves only the cases whose name
 * begins so. Statically linked, to run in a guest that has nothing else.
 *
 * This file owns the running of cases: users, working folders, names of checks. What is
 * expected of the calls stands in posix-*.c.
 */
#define _GNU_SOURCE
#include "posix.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

const char *readonly_folder;
const char *own_path;

static const char *top, *only = "";
static char case_name[64], context[128];
static int top_fd = -1;
static long passed, failed;

static const char *error_name(int error)
{
    return error == 0 ? "success" : strerrorname_np(error) ? strerrorname_np(error) : "?";
}

/* The same call may stand in a case twice: the second and later ones get a number. */
static const char *numbered(const char *text)
{
    static struct {
        char *name;
        int seen;
    } names[8192];
    static char line[512];
    int i;

    snprintf(line, sizeof line, "%s %s%s%s", case_name, context, *context ? " " : "", text);
    for (i = 0; i < 8191 && names[i].name; i++)
        if (!strcmp(names[i].name, line)) {
            size_t length = strlen(line);

            snprintf(line + length, sizeof line - length, " #%d", ++names[i].seen);
            return line;
        }
    names[i].name = strdup(line);
    names[i].seen = 1;
    return line;
}

static bool left_out(void)
{
    return strncmp(case_name, only, strlen(only)) != 0;
}

void check_call(int wanted, long result, int error, const char *text)
{
    int got = result < 0 ? error : 0;
    const char *name;

    if (left_out())
        return;
    name = numbered(text);
    if (got == wanted && (result >= 0) == (wanted == 0)) {
        passed++;
        printf("pass %s\n", name);
    } else {
        failed++;
        printf("fail %s: %s instead of %s\n", name, error_name(got), error_name(wanted));
    }
}

void check_number(long long actual, long long wanted, const char *text, const char *wanted_text)
{
    char both[256];
    const char *name;

    if (left_out())
        return;
    snprintf(both, sizeof both, "%s is %s", text, wanted_text);
    name = numbered(both);
    if (actual == wanted) {
        passed++;
        printf("pass %s\n", name);
    } else {
        failed++;
        printf("fail %s: %lld (0%llo) instead of %lld (0%llo)\n", name, actual,
               (unsigned long long)actual, wanted, (unsigned long long)wanted);
    }
}

void check_text(const char *actual, const char *wanted, const char *text)
{
    char both[256];
    const char *name;

    if (left_out())
        return;
    snprintf(both, sizeof both, "%s is \"%s\"", text, wanted);
    name = numbered(both);
    if (!strcmp(actual, wanted)) {
        passed++;
        printf("pass %s\n", name);
    } else {
        failed++;
        printf("fail %s: \"%s\"\n", name, actual);
    }
}

static void die(const char *what)
{
    fprintf(stderr, "posix: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- users ------------------------------------------------------------------------------------
 */

void as_root(void)
{
    if (seteuid(0) < 0 || setegid(0) < 0 || setgroups(0, NULL) < 0)
        die("becoming root again");
}

void as(uid_t uid, gid_t gid, gid_t extra)
{
    as_root();
    if (setgroups(extra ? 1 : 0, &extra) < 0 || setegid(gid) < 0 || seteuid(uid) < 0)
        die("change of user");
}

/* ---- files ------------------------------------------------------------------------------------
 */

const char *type_name(char type)
{
    switch (type) {
    case 'r':
        return "regular";
    case 'd':
        return "directory";
    case 'f':
        return "fifo";
    case 'c':
        return "char";
    case 'b':
        return "block";
    case 's':
        return "socket";
    default:
        return "symlink";
    }
}

static int make_socket(const char *path, mode_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), result;

    if (fd < 0)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    result = bind(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
    return result < 0 ? -1 : chmod(path, mode);
}

int make(char type, const char *path, mode_t mode)
{
    int fd;

    switch (type) {
    case 'r':
        fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
        return fd < 0 ? -1 : close(fd);
    case 'd':
        return mkdir(path, mode);
    case 'f':
        return mkfifo(path, mode);
    case 'c':
        return mknod(path, S_IFCHR | mode, makedev(1, 3));
    case 'b':
        return mknod(path, S_IFBLK | mode, makedev(7, 9));
    case 's':
        return make_socket(path, mode);
    default:
        return symlink("nowhere", path);
    }
}

int take(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return -1;
    return S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path);
}

long long mode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) < 0 ? -1 : (long long)(st.st_mode & 07777);
}

long long size_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) < 0 ? -1 : (long long)st.st_size;
}

long long links_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) < 0 ? -1 : (long long)st.st_nlink;
}

long long inode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) < 0 ? -1 : (long long)st.st_ino;
}

const char *owner_of(const char *path)
{
    static char text[64];
    struct stat st;

    if (lstat(path, &st) < 0)
        return "none";
    snprintf(text, sizeof text, "%u:%u", (unsigned)st.st_uid, (unsigned)st.st_gid);
    return text;
}

int opens(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags, mode);

    return fd < 0 ? -1 : close(fd);
}

int put(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = write(fd, text, strlen(text));
    return close(fd) < 0 || n != (ssize_t)strlen(text) ? -1 : 0;
}

static struct {
    char path[256];
    struct stat st;
} kept[2];

void remember(int slot, const char *path)
{
    struct timespec pause = {.tv_nsec = 25000000};

    if (left_out())
        return;
    snprintf(kept[slot].path, sizeof kept[slot].path, "%s", path);
    if (lstat(path, &kept[slot].st) < 0)
        memset(&kept[slot].st, 0, sizeof kept[slot].st);
    /* The clock of file times advances every few milliseconds only. */
    nanosleep(&pause, NULL);
}

const char *changed(int slot)
{
    static char text[4];
    const struct stat *a = &kept[slot].st;
    struct stat b;

    if (left_out())
        return "";
    if (lstat(kept[slot].path, &b) < 0)
        return "gone";
    snprintf(text, sizeof text, "%s%s",
             a->st_mtim.tv_sec != b.st_mtim.tv_sec || a->st_mtim.tv_nsec != b.st_mtim.tv_nsec ? "m"
                                                                                              : "",
             a->st_ctim.tv_sec != b.st_ctim.tv_sec || a->st_ctim.tv_nsec != b.st_ctim.tv_nsec ? "c"
                                                                                              : "");
    return text;
}

/* ---- cases ------------------------------------------------------------------------------------
 */

static void remove_below(int fd)
{
    DIR *d = fdopendir(fd);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) < 0 && (errno == EISDIR || errno == EPERM)) {
            int below = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

            if (below >= 0)
                remove_below(below);
            unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
        }
    }
    if (d)
        closedir(d);
}

static void leave(void)
{
    int fd;

    as_root();
    if (fchdir(top_fd) < 0)
        die(top);
    fd = open("work", O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        remove_below(fd);
        rmdir("work");
    }
}

void begin(const char *name)
{
    leave();
    fflush(stdout);
    snprintf(case_name, sizeof case_name, "%s", name);
    *context = '\0';
    umask(022);
    if (mkdir("work", 0755) < 0 || chdir("work") < 0)
        die("a folder for a case");
}

void within(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
}

int main(int argc, char **argv)
{
    static char self[4096];
    int option;
    ssize_t length;

    if (argc == 2 && !strcmp(argv[1], "pause")) /* the program that a case runs and writes to */
        return read(0, self, 1) < 0;
    while ((option = getopt(argc, argv, "t:r:")) != -1)
        switch (option) {
        case 't':
            only = optarg;
            break;
        case 'r':
            readonly_folder = optarg;
            break;
        default:
            return 2;
        }
    if (optind + 1 != argc || geteuid() != 0) {
        fprintf(stderr, "usage (as root): posix [-t PREFIX] [-r READONLY] DIRECTORY\n");
        return 2;
    }
    length = readlink("/proc/self/exe", self, sizeof self - 1);
    own_path = length > 0 ? self : argv[0];
    top = argv[optind];
    top_fd = open(top, O_RDONLY | O_DIRECTORY);
    if (top_fd < 0)
        die(top);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    cases_paths();
    cases_modes();
    cases_names();
    cases_data();
    leave();
    printf("total %ld passed %ld failed\n", passed, failed);
    return 0;
}
