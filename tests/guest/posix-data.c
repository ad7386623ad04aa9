/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contents: open with its flags and permissions, truncate, ftruncate, posix_fallocate, programs
 * that are running, large offsets, xattrs on an open file.
 */
#define _GNU_SOURCE
#include "posix.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static void cases_open(void)
{
    begin("open/permissions");
    for (int bits = 0; bits < 8; bits++) {
        static const struct {
            const char *who;
            uid_t uid;
            gid_t gid, extra;
            int shift;
        } users[] = {{"owner", BOB, BOB, 0, 6},
                     {"group", ALICE, CLUB, 0, 3},
                     {"supplementary group", ALICE, ALICE, CLUB, 3},
                     {"others", ALICE, ALICE, 0, 0}};

        for (size_t i = 0; i < 4; i++) {
            mode_t mode = (mode_t)bits << users[i].shift;

            within("%s of %03o:", users[i].who, mode);
            NEED(make('r', "n", 0));
            NEED(chown("n", BOB, CLUB));
            NEED(chmod("n", mode));
            as(users[i].uid, users[i].gid, users[i].extra);
            TRY(bits & 4 ? 0 : EACCES, opens("n", O_RDONLY, 0));
            TRY(bits & 2 ? 0 : EACCES, opens("n", O_WRONLY, 0));
            TRY((bits & 6) == 6 ? 0 : EACCES, opens("n", O_RDWR, 0));
            TRY(bits & 2 ? 0 : EACCES, opens("n", O_WRONLY | O_TRUNC, 0));
            TRY(bits & 4 ? 0 : EACCES, opens("n", O_RDONLY | O_CREAT, 0644));
            TRY(bits & 2 ? 0 : EACCES, truncate("n", 0));
            as_root();
            TRY(0, opens("n", O_RDWR, 0));
            NEED(unlink("n"));
        }
    }

    begin("open/without permission for what it makes");
    NEED(chmod(".", 0777));
    as(BOB, BOB, 0);
    int fd = open("n", O_CREAT | O_RDWR | O_EXCL, 0000);
    IS(fd >= 0, 1);
    TRY(0, write(fd, "text", 4));
    TRY(EACCES, opens("n", O_RDONLY, 0));
    close(fd);
    fd = open("n2", O_CREAT | O_RDWR, 0444);
    TRY(0, write(fd, "text", 4));
    TRY(EACCES, opens("n2", O_RDWR, 0));
    close(fd);
    as_root();

    begin("open/flags");
    NEED(put("n", "text"));
    NEED(mkdir("d", 0755));
    NEED(symlink("n", "way"));
    NEED(symlink("target", "dangling"));
    TRY(EEXIST, opens("n", O_CREAT | O_EXCL | O_RDWR, 0644));
    TRY(EEXIST, opens("d", O_CREAT | O_EXCL | O_RDWR, 0644));
    TRY(EEXIST, opens("way", O_CREAT | O_EXCL | O_RDWR, 0644));
    TRY(EEXIST, opens("dangling", O_CREAT | O_EXCL | O_RDWR, 0644));
    TRY(EISDIR, opens("d", O_WRONLY, 0));
    TRY(EISDIR, opens("d", O_RDWR, 0));
    TRY(EISDIR, opens("d", O_RDONLY | O_CREAT, 0644));
    TRY(EISDIR, opens("d", O_RDONLY | O_TRUNC, 0));
    TRY(ENOTDIR, opens("n", O_RDONLY | O_DIRECTORY, 0));
    TRY(ELOOP, opens("way", O_RDONLY | O_NOFOLLOW, 0));
    TRY(ENOTDIR, opens("n/", O_RDONLY, 0));
    TRY(0, opens("dangling", O_CREAT | O_RDWR, 0644));
    IS(size_of("target"), 0);
    IS(size_of("n"), 4);
    TRY(0, opens("n", O_WRONLY | O_TRUNC, 0));
    IS(size_of("n"), 0);
    fd = open("n", O_WRONLY | O_APPEND);
    TRY(0, pwrite(fd, "abc", 3, 0));
    TRY(0, pwrite(fd, "def", 3, 0));
    IS(size_of("n"), 6);
    close(fd);
    fd = open("n", O_RDONLY);
    TRY(EBADF, write(fd, "x", 1));
    TRY(EINVAL, ftruncate(fd, 0));
    close(fd);
    fd = open("n", O_WRONLY);
    char byte;
    TRY(EBADF, read(fd, &byte, 1));
    close(fd);
    fd = open("n", O_RDWR | O_SYNC);
    TRY(0, write(fd, "x", 1));
    close(fd);
    fd = open("d", O_RDONLY);
    TRY(EISDIR, read(fd, &byte, 1));
    TRY(0, fsync(fd));
    close(fd);
    fd = open("n", O_RDWR | O_TRUNC);
    within("reading:");
    IS(read(fd, &byte, 1), 0);
    TRY(0, pwrite(fd, "end", 3, 100000));
    IS(pread(fd, &byte, 1, 50000), 1);
    IS(byte, 0);
    IS(pread(fd, &byte, 1, 100003), 0);
    TRY(EINVAL, pread(fd, &byte, 1, -1));
    close(fd);

    begin("open/a fifo, a socket, a device");
    NEED(mkfifo("f", 0666));
    NEED(make('s', "s", 0666));
    TRY(ENXIO, opens("f", O_WRONLY | O_NONBLOCK, 0));
    TRY(0, opens("f", O_RDONLY | O_NONBLOCK, 0));
    TRY(ENXIO, opens("s", O_RDONLY, 0));
    fd = open("f", O_RDWR);
    TRY(0, write(fd, "x", 1));
    IS(read(fd, &byte, 1), 1);
    close(fd);
    NEED(make('c', "null", 0666)); /* 1:3 */
    fd = open("null", O_RDWR);
    IS(read(fd, &byte, 1), 0);
    TRY(0, write(fd, "x", 1));
    close(fd);
}

static void cases_truncate(void)
{
    static const long long sizes[] = {1234567, 567, 0, 4095, 4096, 4097, 1048577};

    begin("truncate/sizes");
    NEED(put("n", "0123456789"));
    int fd = open("n", O_RDWR);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        within("%lld:", sizes[i]);
        TRY(0, truncate("n", sizes[i]));
        IS(size_of("n") == sizes[i], 1);
        TRY(0, ftruncate(fd, sizes[i] / 2));
        IS(size_of("n") == sizes[i] / 2, 1);
    }
    within("zeros appear where it grows:");
    NEED(put("n", "0123456789"));
    TRY(0, truncate("n", 5));
    TRY(0, truncate("n", 10));
    char text[16];
    IS(pread(fd, text, 16, 0), 10);
    IS(memcmp(text, "01234\0\0\0\0\0", 10), 0);
    close(fd);

    begin("truncate/errors");
    NEED(put("n", "text"));
    NEED(mkdir("d", 0755));
    NEED(mkfifo("f", 0644));
    TRY(EISDIR, truncate("d", 0));
    TRY(EINVAL, truncate("f", 0));
    TRY(EINVAL, truncate("n", -1));
    fd = open("n", O_RDWR);
    TRY(EINVAL, ftruncate(fd, -1));
    within("more than any file may have:");
    TRY(EFBIG, truncate("n", 0x7fffffffffffffff));
    close(fd);
    NEED(chown("n", BOB, BOB));
    NEED(chmod("n", 0644));
    as(ALICE, ALICE, 0);
    within("another user:");
    TRY(EACCES, truncate("n", 1));
    as_root();
    IS(size_of("n"), 4);
    within("through a descriptor opened before:");
    fd = open("n", O_RDWR);
    as(ALICE, ALICE, 0);
    TRY(0, ftruncate(fd, 1));
    as_root();
    IS(size_of("n"), 1);
    close(fd);

    begin("large offsets");
    fd = open("n", O_CREAT | O_RDWR, 0644);
    char byte = 0;
    TRY(0, pwrite(fd, "x", 1, 0x123456789LL));
    IS(size_of("n"), 0x12345678aLL);
    IS(pread(fd, &byte, 1, 0x123456789LL), 1);
    IS(byte, 'x');
    TRY(0, ftruncate(fd, 0x2345678901LL));
    IS(size_of("n"), 0x2345678901LL);
    close(fd);
}

static void cases_fallocate(void)
{
    begin("posix_fallocate");
    int fd = open("n", O_CREAT | O_RDWR, 0644);
    /* It returns the error. glibc writes zeros where the filesystem cannot. */
    IS(posix_fallocate(fd, 0, 567), 0);
    IS(size_of("n"), 567);
    IS(posix_fallocate(fd, 20000, 10345), 0);
    IS(size_of("n"), 30345);
    IS(posix_fallocate(fd, 10, 10), 0);
    IS(size_of("n"), 30345);
    TRY(0, pwrite(fd, "kept", 4, 20000));
    IS(posix_fallocate(fd, 0, 30345), 0);
    char text[8] = "";
    IS(pread(fd, text, 4, 20000), 4);
    IS_TEXT(text, "kept");
    IS(posix_fallocate(fd, 0, 0), EINVAL);
    IS(posix_fallocate(fd, -1, 10), EINVAL);
    IS(posix_fallocate(fd, 0, -1), EINVAL);
    close(fd);
    fd = open("n", O_RDONLY);
    IS(posix_fallocate(fd, 0, 10), EBADF);
    close(fd);
    remember(0, "n");
    fd = open("n", O_RDWR);
    IS(posix_fallocate(fd, 0, 50000), 0);
    IS_TEXT(changed(0), "mc");
    close(fd);
}

static int copy(const char *from, const char *to)
{
    static char buffer[65536];
    int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755);
    ssize_t n;

    if (in < 0 || out < 0)
        return -1;
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, (size_t)n) != n)
            return -1;
    close(in);
    return close(out) < 0 || n < 0 ? -1 : 0;
}

static void cases_running(void)
{
    int to[2], status;
    pid_t child;

    begin("ETXTBSY");
    NEED(copy(own_path, "program"));
    NEED(pipe(to));
    child = fork();
    if (child == 0) {
        dup2(to[0], 0);
        close(to[1]);
        execl("./program", "program", "pause", (char *)NULL);
        _exit(9);
    }
    close(to[0]);
    /* It runs when its image is that file. */
    for (int i = 0; i < 200; i++) {
        char link[64], path[4096] = "";
        struct timespec pause = {.tv_nsec = 20000000};

        snprintf(link, sizeof link, "/proc/%d/exe", (int)child);
        if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/program"))
            break;
        nanosleep(&pause, NULL);
    }
    TRY(ETXTBSY, opens("program", O_WRONLY, 0));
    TRY(ETXTBSY, opens("program", O_RDWR, 0));
    TRY(ETXTBSY, truncate("program", 0));
    TRY(0, opens("program", O_RDONLY, 0));
    TRY(0, rename("program", "renamed"));
    TRY(0, unlink("renamed"));
    close(to[1]);
    IS(waitpid(child, &status, 0) == child, 1);
    IS(status, 0);

    within("a program that is open for writing:");
    NEED(copy(own_path, "program"));
    int fd = open("program", O_WRONLY | O_APPEND);
    child = fork();
    if (child == 0) {
        execl("./program", "program", "pause", (char *)NULL);
        _exit(errno == ETXTBSY ? 7 : 8);
    }
    IS(waitpid(child, &status, 0) == child && WIFEXITED(status), 1);
    IS(WEXITSTATUS(status), 7);
    close(fd);

    begin("exec permission");
    NEED(copy(own_path, "program"));
    NEED(chmod("program", 0744));
    child = fork();
    if (child == 0) {
        as(BOB, BOB, 0);
        execl("./program", "program", "pause", (char *)NULL);
        _exit(errno == EACCES ? 7 : 8);
    }
    IS(waitpid(child, &status, 0) == child && WIFEXITED(status), 1);
    IS(WEXITSTATUS(status), 7);
}

static void cases_xattr(void)
{
    static char value[4000], back[65536];

    begin("xattr");
    NEED(make('r', "n", 0644));
    NEED(mkdir("d", 0755));
    NEED(symlink("n", "way"));
    memset(value, 'v', sizeof value);
    for (int i = 0; i < 2; i++) {
        const char *path = i ? "d" : "n";

        within("%s", i ? "directory:" : "regular:");
        TRY(ENODATA, getxattr(path, "user.a", back, sizeof back));
        TRY(ENODATA, setxattr(path, "user.a", "1", 1, XATTR_REPLACE));
        TRY(0, setxattr(path, "user.a", "1", 1, XATTR_CREATE));
        TRY(EEXIST, setxattr(path, "user.a", "2", 1, XATTR_CREATE));
        TRY(0, setxattr(path, "user.a", "23", 2, XATTR_REPLACE));
        IS(getxattr(path, "user.a", NULL, 0), 2);
        IS(getxattr(path, "user.a", back, sizeof back), 2);
        TRY(ERANGE, getxattr(path, "user.a", back, 1));
        TRY(0, setxattr(path, "user.empty", "", 0, 0));
        IS(getxattr(path, "user.empty", back, sizeof back), 0);
        TRY(0, setxattr(path, "user.long", value, 1800, 0));
        IS(getxattr(path, "user.long", back, sizeof back), 1800);
        IS(memcmp(back, value, 1800), 0);
        IS(listxattr(path, back, sizeof back) >= 28, 1);
        TRY(0, removexattr(path, "user.a"));
        TRY(ENODATA, removexattr(path, "user.a"));
    }
    within("others:");
    TRY(EPERM, lsetxattr("way", "user.a", "1", 1, 0));
    TRY(EOPNOTSUPP, setxattr("n", "nonsense.a", "1", 1, 0));
    NEED(chown("n", BOB, BOB));
    NEED(chmod("n", 0644));
    as(ALICE, ALICE, 0);
    TRY(EACCES, setxattr("n", "user.a", "1", 1, 0));
    TRY(EPERM, setxattr("n", "trusted.a", "1", 1, 0));
    IS(getxattr("n", "user.long", back, sizeof back), 1800);
    as_root();
    within("after unlink:");
    int fd = open("n", O_RDWR);
    NEED(unlink("n"));
    TRY(0, fsetxattr(fd, "user.a", "1", 1, 0));
    IS(fgetxattr(fd, "user.a", back, sizeof back), 1);
    close(fd);
}

void cases_data(void)
{
    cases_open();
    cases_truncate();
    cases_fallocate();
    cases_running();
    cases_xattr();
}
