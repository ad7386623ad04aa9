/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Owners, modes and times: who may change them, which bits go when, what each call does to the
 * times of a file and of its folder.
 */
#define _GNU_SOURCE
#include "posix.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

static void cases_chmod(void)
{
    begin("chmod/types");
    for (const char *type = TYPES; *type; type++) {
        if (*type == 'l')
            continue;
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        for (int i = 0; i < 4; i++) {
            static const mode_t modes[] = {0111, 0753, 0000, 0666};

            TRY(0, chmod("n", modes[i]));
            IS(mode_of("n"), modes[i]);
        }
        TRY(0, chmod("n", 07777));
        IS(mode_of("n"), 07777);
        remember(0, "n");
        TRY(0, chmod("n", 0600));
        IS_TEXT(changed(0), "c");
        NEED(symlink("n", "way"));
        TRY(0, chmod("way", 0321));
        IS(mode_of("n"), 0321);
        NEED(take("way"));
        NEED(take("n"));
    }

    begin("chmod/owner");
    for (const char *type = "rdfcbs"; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        NEED(chown("n", BOB, BOB));
        as(BOB, BOB, 0);
        TRY(0, chmod("n", 0642));
        as(ALICE, ALICE, 0);
        remember(0, "n");
        TRY(EPERM, chmod("n", 0777));
        IS_TEXT(changed(0), "");
        as(ALICE, BOB, 0);
        TRY(EPERM, chmod("n", 0777));
        as_root();
        IS(mode_of("n"), 0642);
        TRY(0, chmod("n", 0640));
        IS(mode_of("n"), 0640);
        NEED(take("n"));
    }

    begin("chmod/setgid of a group that the owner is not in");
    for (const char *type = "rd"; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0755));
        NEED(chown("n", BOB, CLUB));
        as(BOB, BOB, 0);
        TRY(0, chmod("n", 02755));
        IS(mode_of("n"), 00755);
        as(BOB, CLUB, 0);
        TRY(0, chmod("n", 02755));
        IS(mode_of("n"), 02755);
        as_root();
        NEED(take("n"));
    }
    within("through a supplementary group:");
    NEED(make('r', "n", 0755));
    NEED(chown("n", BOB, CLUB));
    as(BOB, BOB, CLUB);
    TRY(0, chmod("n", 02755));
    IS(mode_of("n"), 02755);
    as_root();

    begin("fchmod");
    int fd = open("n", O_CREAT | O_RDWR, 0644);

    TRY(0, fchmod(fd, 0600));
    IS(mode_of("n"), 0600);
    NEED(fchown(fd, BOB, BOB));
    as(ALICE, ALICE, 0);
    TRY(EPERM, fchmod(fd, 0666));
    as_root();
    close(fd);
    TRY(EBADF, fchmod(fd, 0666));
}

static void cases_chown(void)
{
    begin("chown/types");
    for (const char *type = TYPES; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        TRY(0, lchown("n", 123, 456));
        IS_TEXT(owner_of("n"), "123:456");
        TRY(0, lchown("n", (uid_t)-1, 789));
        IS_TEXT(owner_of("n"), "123:789");
        TRY(0, lchown("n", 321, (gid_t)-1));
        IS_TEXT(owner_of("n"), "321:789");
        remember(0, "n");
        TRY(0, lchown("n", 0, 0));
        IS_TEXT(changed(0), "c");
        if (*type != 'l') {
            NEED(symlink("n", "way"));
            TRY(0, chown("way", 77, 88));
            IS_TEXT(owner_of("n"), "77:88");
            IS_TEXT(owner_of("way"), "0:0");
            TRY(0, lchown("way", 5, 6));
            IS_TEXT(owner_of("n"), "77:88");
            IS_TEXT(owner_of("way"), "5:6");
            NEED(take("way"));
        }
        NEED(take("n"));
    }
    within("large numbers:");
    NEED(make('r', "n", 0644));
    TRY(0, chown("n", 4294967294U, 4294967293U));
    IS_TEXT(owner_of("n"), "4294967294:4294967293");

    begin("chown/owner");
    for (const char *type = TYPES; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        NEED(lchown("n", BOB, BOB));
        as(BOB, BOB, CLUB);
        TRY(0, lchown("n", (uid_t)-1, CLUB));
        IS_TEXT(owner_of("n"), "65534:65532");
        TRY(0, lchown("n", BOB, BOB));
        IS_TEXT(owner_of("n"), "65534:65534");
        TRY(EPERM, lchown("n", ALICE, BOB));
        TRY(EPERM, lchown("n", ALICE, (gid_t)-1));
        TRY(EPERM, lchown("n", BOB, ALICE));
        as(ALICE, ALICE, CLUB);
        remember(0, "n");
        TRY(EPERM, lchown("n", ALICE, ALICE));
        TRY(EPERM, lchown("n", BOB, CLUB));
        TRY(EPERM, lchown("n", (uid_t)-1, ALICE));
        IS_TEXT(changed(0), "");
        as_root();
        IS_TEXT(owner_of("n"), "65534:65534");
        NEED(take("n"));
    }

    begin("chown/set-id bits");
    within("by root:");
    NEED(make('r', "n", 0644));
    NEED(chmod("n", 06755));
    TRY(0, chown("n", BOB, BOB));
    IS(mode_of("n"), 00755);
    within("by the owner, its group:");
    NEED(chmod("n", 06755));
    as(BOB, BOB, CLUB);
    TRY(0, chown("n", (uid_t)-1, CLUB));
    IS(mode_of("n"), 00755);
    as_root();
    within("mandatory locking's setgid:");
    NEED(chmod("n", 02644));
    TRY(0, chown("n", ALICE, ALICE));
    IS(mode_of("n"), 02644);
    within("directory:");
    NEED(make('d', "d", 0755));
    NEED(chmod("d", 06755));
    TRY(0, chown("d", BOB, BOB));
    IS(mode_of("d"), 06755);

    begin("fchown");
    int fd = open("n", O_CREAT | O_RDWR, 0644);

    TRY(0, fchown(fd, BOB, CLUB));
    IS_TEXT(owner_of("n"), "65534:65532");
    as(ALICE, ALICE, 0);
    TRY(EPERM, fchown(fd, ALICE, ALICE));
    as_root();
    close(fd);
}

static void cases_inherit(void)
{
    begin("umask");
    for (const char *type = "rdfcb"; *type; type++) {
        static const mode_t masks[] = {0000, 0022, 0077, 0345};

        for (int i = 0; i < 4; i++) {
            within("%s, umask %03o:", type_name(*type), masks[i]);
            umask(masks[i]);
            NEED(make(*type, "n", 0777));
            IS(mode_of("n") & ~masks[i], mode_of("n"));
            IS(mode_of("n"), 0777 & ~masks[i]);
            NEED(take("n"));
        }
        umask(0);
        within("%s:", type_name(*type));
        NEED(make(*type, "n", *type == 'r' ? 0000 : 0151));
        IS(mode_of("n"), *type == 'r' ? 0000 : 0151);
        NEED(take("n"));
    }

    begin("who owns what is made");
    NEED(chmod(".", 0777));
    for (const char *type = "rdfsl"; *type; type++) {
        within("%s:", type_name(*type));
        as(BOB, BOB, 0);
        NEED(make(*type, "n", 0755));
        IS_TEXT(owner_of("n"), "65534:65534");
        NEED(take("n"));
        as(BOB, CLUB, 0);
        NEED(make(*type, "n", 0755));
        IS_TEXT(owner_of("n"), "65534:65532");
        NEED(take("n"));
        as_root();
    }
    within("device node:");
    as(BOB, BOB, 0);
    TRY(EPERM, make('c', "n", 0644));
    TRY(EPERM, make('b', "n", 0644));
    as_root();

    begin("setgid folder");
    NEED(mkdir("g", 0777));
    NEED(chown("g", 0, CLUB));
    NEED(chmod("g", 02777));
    umask(0);
    for (const char *type = "rdfsl"; *type; type++) {
        within("%s:", type_name(*type));
        as(BOB, BOB, 0);
        NEED(make(*type, "g/n", 0755));
        IS_TEXT(owner_of("g/n"), "65534:65532");
        if (*type == 'd')
            IS(mode_of("g/n"), 02755);
        else if (*type != 'l')
            IS(mode_of("g/n"), 00755);
        NEED(take("g/n"));
        as_root();
    }
    within("an executable with setgid by one who is not of the group:");
    as(BOB, BOB, 0);
    NEED(make('r', "g/n", 02755));
    IS(mode_of("g/n"), 00755);
    NEED(take("g/n"));
    within("by one of the group:");
    as(BOB, CLUB, 0);
    NEED(make('r', "g/n", 02755));
    IS(mode_of("g/n"), 02755);
    NEED(take("g/n"));
    as_root();
}

static void cases_clearing(void)
{
    static const struct {
        const char *by;
        uid_t uid;
        int bits; /* of 06777 that stay of 06777 */
    } who[] = {{"a user", BOB, 00777}, {"root", 0, 06777}};

    for (int i = 0; i < 2; i++) {
        int fd;

        begin("set-id bits go");
        within("write by %s:", who[i].by);
        NEED(make('r', "n", 0666));
        NEED(chmod("n", 06777));
        fd = open("n", O_RDWR);
        as(who[i].uid, who[i].uid, 0);
        TRY(0, write(fd, "x", 1));
        as_root();
        close(fd);
        IS(mode_of("n"), who[i].bits);

        within("opened and written by %s:", who[i].by);
        NEED(chmod("n", 06777));
        as(who[i].uid, who[i].uid, 0);
        fd = open("n", O_RDWR);
        TRY(0, write(fd, "x", 1));
        close(fd);
        as_root();
        IS(mode_of("n"), who[i].bits);

        within("truncate by %s:", who[i].by);
        NEED(chmod("n", 06777));
        as(who[i].uid, who[i].uid, 0);
        TRY(0, truncate("n", 100));
        as_root();
        IS(mode_of("n"), who[i].bits);

        within("ftruncate by %s:", who[i].by);
        NEED(chmod("n", 06777));
        as(who[i].uid, who[i].uid, 0);
        fd = open("n", O_RDWR);
        TRY(0, ftruncate(fd, 50));
        close(fd);
        as_root();
        IS(mode_of("n"), who[i].bits);

        within("O_TRUNC by %s:", who[i].by);
        NEED(put("n", "text"));
        NEED(chmod("n", 06777));
        as(who[i].uid, who[i].uid, 0);
        TRY(0, opens("n", O_WRONLY | O_TRUNC, 0));
        as_root();
        IS(mode_of("n"), who[i].bits);
    }
}

static long long seconds(const char *path, int modification)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return -1;
    return modification ? st.st_mtim.tv_sec : st.st_atim.tv_sec;
}

static long long nanoseconds(const char *path, int modification)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return -1;
    return modification ? st.st_mtim.tv_nsec : st.st_atim.tv_nsec;
}

static int set_times(const char *path, long long a, long an, long long m, long mn, int flags)
{
    struct timespec times[2] = {{(time_t)a, an}, {(time_t)m, mn}};

    return utimensat(AT_FDCWD, path, times, flags);
}

static void cases_times(void)
{
    int fd;

    begin("utimensat/types");
    for (const char *type = TYPES; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        remember(0, "n");
        TRY(0, set_times("n", 1900000000, 0, 1950000000, 0, AT_SYMLINK_NOFOLLOW));
        IS(seconds("n", 0), 1900000000);
        IS(seconds("n", 1), 1950000000);
        IS_TEXT(changed(0), "mc");
        within("%s, one of them:", type_name(*type));
        TRY(0, set_times("n", 1000000000, 0, 0, UTIME_OMIT, AT_SYMLINK_NOFOLLOW));
        IS(seconds("n", 0), 1000000000);
        IS(seconds("n", 1), 1950000000);
        TRY(0, set_times("n", 0, UTIME_OMIT, 1100000000, 0, AT_SYMLINK_NOFOLLOW));
        IS(seconds("n", 0), 1000000000);
        IS(seconds("n", 1), 1100000000);
        within("%s, now:", type_name(*type));
        TRY(0, set_times("n", 0, UTIME_NOW, 0, UTIME_NOW, AT_SYMLINK_NOFOLLOW));
        IS(seconds("n", 0) > 1600000000, 1);
        IS(seconds("n", 1) > 1600000000, 1);
        IS(seconds("n", 1) < 1000000000000, 1);
        NEED(take("n"));
    }

    begin("utimensat/nanoseconds");
    NEED(make('r', "n", 0644));
    TRY(0, set_times("n", 1000000000, 100000001, 1000000002, 200000002, 0));
    IS(nanoseconds("n", 0), 100000001);
    IS(nanoseconds("n", 1), 200000002);
    TRY(EINVAL, set_times("n", 1, 1000000000, 1, 0, 0));
    TRY(EINVAL, set_times("n", 1, 0, 1, -1, 0));

    begin("utimensat/before 1970 and after 2038");
    NEED(make('r', "n", 0644));
    TRY(0, set_times("n", 4294967297, 0, 4294967298, 0, 0));
    IS(seconds("n", 0), 4294967297);
    IS(seconds("n", 1), 4294967298);
    TRY(0, set_times("n", -2, 0, -1, 0, 0));
    IS(seconds("n", 0), -2);
    IS(seconds("n", 1), -1);

    begin("utimensat/a link's own");
    NEED(make('r', "n", 0644));
    NEED(symlink("n", "way"));
    TRY(0, set_times("way", 1000000001, 0, 1000000002, 0, 0));
    IS(seconds("n", 1), 1000000002);
    TRY(0, set_times("way", 1000000003, 0, 1000000004, 0, AT_SYMLINK_NOFOLLOW));
    IS(seconds("n", 1), 1000000002);
    IS(seconds("way", 1), 1000000004);

    begin("utimensat/who");
    NEED(make('r', "n", 0644));
    NEED(chown("n", BOB, BOB));
    as(BOB, BOB, 0);
    TRY(0, set_times("n", 1, 0, 2, 0, 0));
    TRY(0, utimensat(AT_FDCWD, "n", NULL, 0));
    as(ALICE, ALICE, 0);
    within("another user:");
    TRY(EPERM, set_times("n", 1, 0, 2, 0, 0));
    TRY(EACCES, utimensat(AT_FDCWD, "n", NULL, 0));
    TRY(EACCES, set_times("n", 0, UTIME_NOW, 0, UTIME_NOW, 0));
    as_root();
    NEED(chmod("n", 0666));
    as(ALICE, ALICE, 0);
    within("one who may write:");
    TRY(EPERM, set_times("n", 1, 0, 2, 0, 0));
    TRY(EPERM, set_times("n", 0, UTIME_NOW, 0, UTIME_OMIT, 0));
    TRY(0, utimensat(AT_FDCWD, "n", NULL, 0));
    TRY(0, set_times("n", 0, UTIME_NOW, 0, UTIME_NOW, 0));
    TRY(0, set_times("n", 0, UTIME_OMIT, 0, UTIME_OMIT, 0));
    as_root();

    begin("futimens");
    fd = open("n", O_CREAT | O_RDWR, 0644);
    struct timespec times[2] = {{1000000005, 0}, {1000000006, 0}};
    TRY(0, futimens(fd, times));
    IS(seconds("n", 0), 1000000005);
    IS(seconds("n", 1), 1000000006);
    within("after unlink:");
    NEED(unlink("n"));
    times[1].tv_sec = 1000000007;
    TRY(0, futimens(fd, times));
    struct stat st;
    TRY(0, fstat(fd, &st));
    IS(st.st_mtim.tv_sec, 1000000007);
    close(fd);
}

/* What making, moving and removing a name do to the times of its folder and of the file. */
static void cases_stamps(void)
{
    for (const char *type = TYPES; *type; type++) {
        char name[64];

        snprintf(name, sizeof name, "times/%s", type_name(*type));
        begin(name);
        within("make:");
        remember(0, ".");
        TRY(0, make(*type, "n", 0644));
        IS_TEXT(changed(0), "mc");
        if (*type != 'd') {
            within("link:");
            remember(0, ".");
            remember(1, "n");
            TRY(0, link("n", "n2"));
            IS_TEXT(changed(0), "mc");
            IS_TEXT(changed(1), "c");
            within("unlink of one of two:");
            remember(0, ".");
            remember(1, "n");
            TRY(0, unlink("n2"));
            IS_TEXT(changed(0), "mc");
            IS_TEXT(changed(1), "c");
        }
        within("rename:");
        NEED(mkdir("d", 0755));
        remember(0, ".");
        remember(1, "d");
        TRY(0, rename("n", "d/n"));
        IS_TEXT(changed(0), "mc");
        IS_TEXT(changed(1), "mc");
        within("remove:");
        remember(1, "d");
        TRY(0, take("d/n"));
        IS_TEXT(changed(1), "mc");
        within("failing calls:");
        NEED(make(*type, "n", 0644));
        NEED(make('r', "r", 0644));
        remember(0, ".");
        remember(1, "n");
        as(ALICE, ALICE, 0);
        TRY(EACCES, take("n"));
        TRY(EACCES, rename("n", "other"));
        TRY(EACCES, make(*type == 'c' || *type == 'b' ? 'f' : *type, "new", 0644));
        as_root();
        IS_TEXT(changed(0), "");
        IS_TEXT(changed(1), "");
    }

    begin("times/contents");
    NEED(put("n", "text"));
    int fd = open("n", O_RDWR);
    within("write:");
    remember(0, "n");
    TRY(0, write(fd, "T", 1));
    IS_TEXT(changed(0), "mc");
    within("truncate:");
    remember(0, "n");
    TRY(0, truncate("n", 2));
    IS_TEXT(changed(0), "mc");
    within("ftruncate:");
    remember(0, "n");
    TRY(0, ftruncate(fd, 7));
    IS_TEXT(changed(0), "mc");
    within("O_TRUNC:");
    remember(0, "n");
    TRY(0, opens("n", O_WRONLY | O_TRUNC, 0));
    IS_TEXT(changed(0), "mc");
    within("O_CREAT of what exists:");
    remember(0, "n");
    remember(1, ".");
    TRY(0, opens("n", O_WRONLY | O_CREAT, 0644));
    IS_TEXT(changed(0), "");
    IS_TEXT(changed(1), "");
    within("read:");
    char byte;
    NEED(put("n", "text"));
    remember(0, "n");
    TRY(0, pread(fd, &byte, 1, 0));
    IS_TEXT(changed(0), "");
    close(fd);
}

void cases_modes(void)
{
    cases_chmod();
    cases_chown();
    cases_inherit();
    cases_clearing();
    cases_times();
    cases_stamps();
}
