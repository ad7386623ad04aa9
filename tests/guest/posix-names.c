/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names: link, rename, unlink, rmdir, mkdir, symlink, and who may remove or replace what in a
 * sticky folder.
 */
#define _GNU_SOURCE
#include "posix.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void cases_link(void)
{
    for (const char *type = "rfcbsl"; *type; type++) {
        begin("link/types");
        within("%s:", type_name(*type));
        NEED(make(*type, "a", 0644));
        IS(links_of("a"), 1);
        TRY(0, link("a", "b"));
        IS(links_of("a"), 2);
        IS(inode_of("a") == inode_of("b"), 1);
        TRY(0, link("b", "c"));
        IS(links_of("a"), 3);
        if (*type != 'l')
            TRY(0, chmod("a", 0201));
        TRY(0, lchown("b", BOB, CLUB));
        IS(mode_of("c") == mode_of("a"), 1);
        IS_TEXT(owner_of("c"), "65534:65532");
        TRY(0, unlink("a"));
        TRY(ENOENT, unlink("a"));
        IS(links_of("b"), 2);
        TRY(0, unlink("b"));
        IS(links_of("c"), 1);
        TRY(0, unlink("c"));
        IS(links_of("c"), -1);
    }

    begin("link/errors");
    NEED(make('r', "n", 0644));
    NEED(make('d', "d", 0755));
    TRY(EPERM, link("d", "new"));
    as(BOB, BOB, 0);
    TRY(EPERM, link("d", "new"));
    as_root();
    TRY(EEXIST, link("n", "d"));
    TRY(EEXIST, link("n", "n"));
    TRY(ENOENT, link("missing", "new"));
    NEED(symlink("n", "way"));
    within("a link to a link:");
    TRY(0, link("way", "way2"));
    IS(inode_of("way") == inode_of("way2"), 1);
    within("followed:");
    TRY(0, linkat(AT_FDCWD, "way", AT_FDCWD, "n2", AT_SYMLINK_FOLLOW));
    IS(inode_of("n") == inode_of("n2"), 1);
    within("back after unlink:");
    int fd = open("n3", O_CREAT | O_RDWR, 0644);
    char path[64];
    NEED(unlink("n3"));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    TRY(ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "n4", AT_SYMLINK_FOLLOW));
    close(fd);
}

static void cases_unlink(void)
{
    begin("unlink/types");
    for (const char *type = TYPES; *type; type++) {
        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        if (*type == 'd') {
            TRY(EISDIR, unlink("n"));
            TRY(0, rmdir("n"));
        } else {
            TRY(ENOTDIR, rmdir("n"));
            TRY(0, unlink("n"));
        }
        IS(links_of("n"), -1);
        TRY(ENOENT, unlink("n"));
    }

    begin("unlink/while open");
    NEED(put("n", "text"));
    int fd = open("n", O_RDWR);
    struct stat st;
    char buffer[16] = "";
    TRY(0, unlink("n"));
    TRY(0, fstat(fd, &st));
    IS(st.st_nlink, 0);
    IS(st.st_size, 4);
    TRY(0, pwrite(fd, "more", 4, 4));
    IS(pread(fd, buffer, sizeof buffer, 0), 8);
    IS_TEXT(buffer, "textmore");
    TRY(0, ftruncate(fd, 3));
    TRY(0, fstat(fd, &st));
    IS(st.st_size, 3);
    TRY(0, fchmod(fd, 0604));
    TRY(0, fchown(fd, BOB, CLUB));
    TRY(0, fstat(fd, &st));
    IS(st.st_mode & 07777, 0604);
    IS(st.st_uid, BOB);
    within("a new file of that name is another one:");
    NEED(put("n", "other"));
    TRY(0, pwrite(fd, "XXX", 3, 0));
    IS(size_of("n"), 5);
    NEED(close(open("n", O_RDONLY)));
    TRY(0, fsync(fd));
    close(fd);

    begin("unlink/a folder that is open");
    NEED(mkdir("d", 0755));
    int d = open("d", O_RDONLY | O_DIRECTORY);
    TRY(0, rmdir("d"));
    TRY(0, fstat(d, &st));
    IS(st.st_nlink, 0);
    TRY(ENOENT, openat(d, "new", O_CREAT | O_WRONLY, 0644));
    TRY(ENOENT, mkdirat(d, "new", 0755));
    close(d);
}

static void cases_rmdir(void)
{
    begin("rmdir/errors");
    for (const char *type = TYPES; *type; type++) {
        within("holding a %s:", type_name(*type));
        NEED(mkdir("d", 0755));
        NEED(make(*type, "d/n", 0755));
        TRY(ENOTEMPTY, rmdir("d"));
        NEED(take("d/n"));
        TRY(0, rmdir("d"));
    }
    within("dots:");
    NEED(mkdir("d", 0755));
    NEED(mkdir("d/e", 0755));
    TRY(EINVAL, rmdir("d/e/."));
    TRY(ENOTEMPTY, rmdir("d/e/.."));
    TRY(EINVAL, rmdir("."));
    within("through a link:");
    NEED(symlink("d/e", "way"));
    TRY(ENOTDIR, rmdir("way"));
    within("the link count of a folder:");
    IS(links_of("d"), 3);
    TRY(0, rmdir("d/e"));
    IS(links_of("d"), 2);
    TRY(0, mkdir("d/f", 0755));
    IS(links_of("d"), 3);
}

static void cases_symlink(void)
{
    static char target[4097], back[4100];

    begin("symlink/targets");
    memset(target, 't', 4095);
    static const int lengths[] = {1, 59, 60, 61, 255, 1023, 4094, 4095};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        within("%d bytes:", lengths[i]);
        target[lengths[i]] = '\0';
        TRY(0, symlink(target, "way"));
        IS(readlink("way", back, sizeof back), lengths[i]);
        IS(memcmp(back, target, (size_t)lengths[i]), 0);
        IS(size_of("way"), lengths[i]);
        NEED(unlink("way"));
        target[lengths[i]] = 't';
    }
    within("4096 bytes:");
    target[4095] = 't';
    target[4096] = '\0';
    TRY(ENAMETOOLONG, symlink(target, "way"));
    within("empty:");
    TRY(ENOENT, symlink("", "way"));
    within("odd ones:");
    TRY(0, symlink("../../..//./\377\n", "way"));
    IS(readlink("way", back, sizeof back), 14);
    IS(mode_of("way"), 0777);
    TRY(EINVAL, readlink(".", back, sizeof back));
    within("cut short:");
    IS(readlink("way", back, 3), 3);
}

static void cases_mkdir(void)
{
    begin("mkdir/names");
    static const char *names[] = {"a b",      "\377\376", "new\nline", "-rf", "\\",
                                  "\xc3\xa4", "...",      "a:b",       "*?",  "\x01"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        within("%zu:", i);
        TRY(0, mkdir(names[i], 0755));
        TRY(EEXIST, mkdir(names[i], 0755));
        IS(links_of(names[i]), 2);
        TRY(0, rmdir(names[i]));
    }
    within("dots:");
    TRY(EEXIST, mkdir(".", 0755));
    TRY(EEXIST, mkdir("..", 0755));
    TRY(0, mkdir("slash///", 0755));
    TRY(EEXIST, mkdir("slash/", 0755));
    TRY(EISDIR, opens("slash2/", O_CREAT | O_WRONLY, 0644));
    within("capital and small letters are different:");
    TRY(0, mkdir("CASE", 0755));
    TRY(0, mkdir("case", 0755));
    within("sticky:");
    TRY(0, mkdir("sticky", 01755));
    IS(mode_of("sticky"), 01755);

    begin("mknod/types");
    static const dev_t numbers[] = {0x0103, 0x0801, 0xfff00, 0xff};
    for (size_t i = 0; i < 4; i++) {
        struct stat st;

        within("number %zu:", i);
        TRY(0, mknod("n", S_IFCHR | 0640, numbers[i]));
        NEED(lstat("n", &st));
        IS(st.st_rdev == numbers[i] && S_ISCHR(st.st_mode), 1);
        NEED(unlink("n"));
        TRY(0, mknod("n", S_IFBLK | 0640, numbers[i]));
        NEED(lstat("n", &st));
        IS(st.st_rdev == numbers[i] && S_ISBLK(st.st_mode), 1);
        NEED(unlink("n"));
    }
    within("a socket's inode:");
    struct stat st;
    TRY(0, mknod("n", S_IFSOCK | 0644, 0));
    NEED(lstat("n", &st));
    IS(S_ISSOCK(st.st_mode), 1);
}

static void cases_rename(void)
{
    begin("rename/types");
    for (const char *type = TYPES; *type; type++) {
        long long inode;

        within("%s:", type_name(*type));
        NEED(make(*type, "n", 0644));
        NEED(mkdir("d", 0755));
        inode = inode_of("n");
        TRY(0, rename("n", "m"));
        IS(links_of("n"), -1);
        IS(inode_of("m") == inode, 1);
        TRY(0, rename("m", "d/m"));
        IS(inode_of("d/m") == inode, 1);
        TRY(0, rename("d/m", "d/m"));
        IS(inode_of("d/m") == inode, 1);
        NEED(take("d/m"));
        NEED(rmdir("d"));
        for (const char *over = TYPES; *over; over++) {
            within("%s over %s:", type_name(*type), type_name(*over));
            NEED(make(*type, "n", 0644));
            NEED(make(*over, "m", 0644));
            inode = inode_of("n");
            TRY((*type == 'd') == (*over == 'd') ? 0
                : *type == 'd'                   ? ENOTDIR
                                                 : EISDIR,
                rename("n", "m"));
            if ((*type == 'd') == (*over == 'd')) {
                IS(inode_of("m") == inode, 1);
                IS(links_of("n"), -1);
            } else {
                IS(inode_of("n") == inode, 1);
            }
            take("n");
            take("m");
        }
    }

    begin("rename/errors");
    NEED(mkdir("d", 0755));
    NEED(mkdir("d/e", 0755));
    NEED(mkdir("full", 0755));
    NEED(make('r', "full/n", 0644));
    NEED(make('r', "n", 0644));
    TRY(EINVAL, rename("d", "d/e/new"));
    TRY(EINVAL, rename("d", "d/new"));
    TRY(ENOTEMPTY, rename("d/e", "full"));
    TRY(ENOTEMPTY, rename("d/e", "d"));
    TRY(ENOENT, rename("missing", "n"));
    TRY(EBUSY, rename("d/.", "new"));
    TRY(EBUSY, rename("d/..", "new"));
    TRY(EBUSY, rename("n", "d/.."));
    TRY(ENOTDIR, rename("n", "new/"));
    TRY(0, rename("d/e", "new/"));
    within("link counts:");
    IS(links_of("d"), 2);
    TRY(0, rename("new", "d/e"));
    IS(links_of("d"), 3);
    within("two names of one file:");
    NEED(link("n", "n2"));
    TRY(0, rename("n", "n2"));
    IS(links_of("n"), 2);
    IS(links_of("n2"), 2);

    begin("rename/flags");
    NEED(put("a", "a"));
    NEED(put("b", "bb"));
    TRY(EEXIST, rename2("a", "b", RENAME_NOREPLACE));
    IS(size_of("b"), 2);
    TRY(EINVAL, rename2("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));

    begin("rename/while open");
    NEED(put("a", "old"));
    NEED(put("b", "gone"));
    int a = open("a", O_RDWR), b = open("b", O_RDWR);
    struct stat st;
    TRY(0, rename("a", "b"));
    TRY(0, pwrite(a, "NEW", 3, 0));
    TRY(0, fstat(b, &st));
    IS(st.st_nlink, 0);
    IS(st.st_size, 4);
    TRY(0, fstat(a, &st));
    IS(st.st_nlink, 1);
    IS(st.st_ino == (ino_t)inode_of("b"), 1);
    char text[8] = "";
    IS(pread(b, text, 4, 0), 4);
    IS_TEXT(text, "gone");
    close(a);
    close(b);
    within("an open folder:");
    NEED(mkdir("d", 0755));
    int d = open("d", O_RDONLY | O_DIRECTORY);
    TRY(0, rename("d", "e"));
    TRY(0, mkdirat(d, "in", 0755));
    IS(links_of("e/in"), 2);
    close(d);

    begin("rename/another user's folder");
    NEED(mkdir("d", 0755));
    NEED(mkdir("to", 0777));
    NEED(chmod("to", 0777));
    NEED(chown("d", BOB, BOB));
    NEED(mkdir("d/theirs", 0755));
    NEED(chown("d/theirs", ALICE, ALICE));
    as(BOB, BOB, 0);
    within("in one folder:");
    TRY(0, rename("d/theirs", "d/moved"));
    within("to another folder, which changes its ..:");
    TRY(EACCES, rename("d/moved", "to/moved"));
    as_root();
    NEED(chmod("d/moved", 0777));
    as(BOB, BOB, 0);
    within("writable:");
    TRY(0, rename("d/moved", "to/moved"));
    as_root();
}

static void cases_sticky(void)
{
    static const struct {
        const char *name;
        uid_t folder, file;
        bool may;
    } who[] = {
        {"own file", 0, BOB, true},
        {"own folder", BOB, ALICE, true},
        {"nothing of it", 0, ALICE, false},
    };

    for (size_t i = 0; i < sizeof who / sizeof *who; i++)
        for (const char *type = TYPES; *type; type++) {
            int refusal = who[i].may ? 0 : EPERM;

            begin("sticky");
            NEED(mkdir("s", 0777));
            NEED(mkdir("free", 0777));
            NEED(chmod("free", 0777));
            NEED(chown("s", who[i].folder, who[i].folder));
            NEED(chmod("s", 01777));
            NEED(make(*type, "s/n", 0666));
            NEED(lchown("s/n", who[i].file, who[i].file));
            if (*type == 'd')
                NEED(chmod("s/n", 0777));
            within("%s, a %s:", who[i].name, type_name(*type));
            as(BOB, BOB, 0);
            TRY(refusal, rename("s/n", "s/m"));
            TRY(refusal, rename(who[i].may ? "s/m" : "s/n", "free/n"));
            as_root();
            if (!who[i].may)
                NEED(rename("s/n", "free/n"));
            /* and over it */
            NEED(rename("free/n", "s/n"));
            NEED(make(*type, "free/mine", 0644));
            NEED(lchown("free/mine", BOB, BOB));
            as(BOB, BOB, 0);
            TRY(refusal, rename("free/mine", "s/n"));
            TRY(refusal, take("s/n"));
            as_root();
        }
}

void cases_names(void)
{
    cases_link();
    cases_unlink();
    cases_rmdir();
    cases_symlink();
    cases_mkdir();
    cases_rename();
    cases_sticky();
}
