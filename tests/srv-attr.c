/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: Tgetattr tells what lstat(2) tells and marks as valid only what is true; Tsetattr
 * changes just what its bits name, and never follows a symbolic link.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void host_stat(struct fixture *f, const char *name, struct stat *st)
{
    g_autofree char *path = server_path(f->s, name);

    g_assert_cmpint(lstat(path, st), ==, 0);
}

static void check_same(struct fixture *f, const char *name)
{
    guint32 fid = walk_new(f->c, name);
    struct client_attr a;
    struct stat st;

    host_stat(f, name, &st);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &a), ==, 0);
    g_assert_cmphex(a.valid & GETATTR_BASIC, ==, GETATTR_BASIC);
    g_assert_cmpuint(a.mode, ==, st.st_mode);
    g_assert_cmpuint(a.uid, ==, st.st_uid);
    g_assert_cmpuint(a.gid, ==, st.st_gid);
    g_assert_cmpuint(a.nlink, ==, st.st_nlink);
    g_assert_cmpuint(a.size, ==, st.st_size);
    g_assert_cmpuint(a.blocks, ==, st.st_blocks);
    g_assert_cmpuint(a.blksize, >, 0);
    g_assert_cmpuint(a.mtime, ==, st.st_mtim.tv_sec);
    g_assert_cmpuint(a.mtime_ns, ==, st.st_mtim.tv_nsec);
    g_assert_cmpuint(a.ctime, ==, st.st_ctim.tv_sec);
    g_assert_cmpuint(a.ctime_ns, ==, st.st_ctim.tv_nsec);
    g_assert_cmpuint(a.qid.type & QTDIR, ==, S_ISDIR(st.st_mode) ? QTDIR : 0);
    if (!f->s->peer)
        g_assert_cmpuint(a.qid.type & QTSYMLINK, ==, S_ISLNK(st.st_mode) ? QTSYMLINK : 0);
}

static void getattr_is_lstat(struct fixture *f, gconstpointer data)
{
    g_autofree char *link = server_path(f->s, "link"), *fifo = server_path(f->s, "fifo");

    (void)data;
    make_file(f->s, "file", "some text");
    make_dir(f->s, "dir");
    g_assert_cmpint(symlink("file", link), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    check_same(f, "file");
    check_same(f, "dir");
    check_same(f, "link");
    check_same(f, "fifo");
}

static void device_numbers(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "null");
    struct client_attr a;

    (void)data;
    if (skip_unless_root())
        return;
    g_assert_cmpint(mknod(path, S_IFCHR | 0600, makedev(300, 70000)), ==, 0);
    g_assert_cmpint(client_getattr(f->c, walk_new(f->c, "null"), GETATTR_BASIC, &a), ==, 0);
    g_assert_cmpuint(a.rdev, ==, makedev(300, 70000));
}

static void valid_says_only_what_is_true(struct fixture *f, gconstpointer data)
{
    struct client_attr a;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    if (skip_for_peer(f->s, "diod returns the request's mask"))
        return;
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_ALL, &a), ==, 0);
    g_assert_cmphex(a.valid & ~GETATTR_ALL, ==, 0);
    g_assert_cmphex(a.valid & GETATTR_BASIC, ==, GETATTR_BASIC);
    if (a.valid & 0x800)
        g_assert_cmpuint(a.btime, >, 0);
    else
        g_assert_cmpuint(a.btime, ==, 0);
    if (a.valid & 0x1000)
        g_assert_cmpuint(a.gen, <=, G_MAXUINT32); /* what a Linux client can compare */
    else
        g_assert_cmpuint(a.gen, ==, 0);
    /* bits that nobody knows are no error and come back clear */
    g_assert_cmpint(client_getattr(f->c, fid, G_MAXUINT64, &a), ==, 0);
    g_assert_cmphex(a.valid & ~GETATTR_ALL, ==, 0);
    g_assert_cmpint(client_getattr(f->c, fid, 0, &a), ==, 0);
}

static void generation_is_stable(struct fixture *f, gconstpointer data)
{
    struct client_attr a, b;

    (void)data;
    make_file(f->s, "file", "text");
    g_assert_cmpint(client_getattr(f->c, walk_new(f->c, "file"), GETATTR_ALL, &a), ==, 0);
    make_file(f->s, "other", "");
    g_assert_cmpint(client_getattr(f->c, walk_new(f->c, "file"), GETATTR_ALL, &b), ==, 0);
    g_assert_cmpuint(a.gen, ==, b.gen);
    g_assert_cmpuint(a.qid.version, ==, b.qid.version);
    g_assert_cmpuint(a.qid.path, ==, b.qid.path);
}

static void setattr_mode(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.mode = 0741};
    struct stat st;

    (void)data;
    make_file(f->s, "file", "text");
    g_assert_cmpint(client_setattr(f->c, walk_new(f->c, "file"), SETATTR_MODE, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0741);
    g_assert_cmpint(st.st_size, ==, 4);
}

static void setattr_size(struct fixture *f, gconstpointer data)
{
    static const guint64 sizes[] = {2, 0, 70000};
    struct stat st;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct client_attr a = {.size = sizes[i]};

        g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &a), ==, 0);
        host_stat(f, "file", &st);
        g_assert_cmpuint(st.st_size, ==, sizes[i]);
    }
    {
        struct client_attr a = {.size = G_MAXUINT64};

        g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &a), >, 0);
    }
    g_assert_cmpint(client_setattr(f->c, ROOT_FID, SETATTR_SIZE, &(struct client_attr){0}), >, 0);
}

static void setattr_times(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {
        .atime = 1000000001, .atime_ns = 5, .mtime = 1500000000, .mtime_ns = 999999999};
    struct stat st;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(
        client_setattr(f->c, fid,
                       SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_MTIME | SETATTR_MTIME_SET, &a),
        ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_atim.tv_sec, ==, 1000000001);
    g_assert_cmpint(st.st_atim.tv_nsec, ==, 5);
    g_assert_cmpint(st.st_mtim.tv_sec, ==, 1500000000);
    g_assert_cmpint(st.st_mtim.tv_nsec, ==, 999999999);
    /* only mtime, to now */
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_MTIME, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_atim.tv_sec, ==, 1000000001);
    g_assert_cmpint(st.st_mtim.tv_sec, >, 1600000000);
    a.mtime_ns = 1000000000;
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &a), >, 0);
}

static void setattr_owner(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.uid = 1234, .gid = 4321};
    struct stat st;
    guint32 fid;

    (void)data;
    if (skip_unless_root())
        return;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_UID, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpuint(st.st_uid, ==, 1234);
    g_assert_cmpuint(st.st_gid, ==, 0);
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_GID, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpuint(st.st_uid, ==, 1234);
    g_assert_cmpuint(st.st_gid, ==, 4321);
}

static void setattr_nothing(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.mode = 0, .size = 0};
    struct stat st;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setattr(f->c, fid, 0, &a), ==, 0);
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_CTIME, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_size, ==, 4);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0644);
}

static void setattr_stays_on_the_link(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.mode = 0777, .uid = 1234, .gid = 1234, .mtime = 1234567};
    g_autofree char *link = server_path(f->s, "link");
    struct stat before, after, st;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    g_assert_cmpint(symlink("file", link), ==, 0);
    host_stat(f, "file", &before);
    fid = walk_new(f->c, "link");
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &(struct client_attr){0}), >, 0);
    client_setattr(f->c, fid, SETATTR_MODE, &a); /* Linux has no mode on links: any answer */
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &a), ==, 0);
    if (geteuid() == 0)
        g_assert_cmpint(client_setattr(f->c, fid, SETATTR_UID | SETATTR_GID, &a), ==, 0);
    host_stat(f, "file", &after);
    g_assert_cmpuint(after.st_mode, ==, before.st_mode);
    g_assert_cmpuint(after.st_uid, ==, before.st_uid);
    g_assert_cmpint(after.st_mtim.tv_sec, ==, before.st_mtim.tv_sec);
    g_assert_cmpint(after.st_size, ==, before.st_size);
    host_stat(f, "link", &st);
    g_assert_cmpint(st.st_mtim.tv_sec, ==, 1234567);
}

static void setattr_through_an_open_fid(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.size = 1, .mode = 0600};
    struct stat st;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDWR, NULL), ==, 0);
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE | SETATTR_MODE, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_size, ==, 1);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
}

static void readlink_gives_the_target(struct fixture *f, gconstpointer data)
{
    g_autofree char *longest = g_strnfill(4095, 't');
    const char *const targets[] = {"file", "../../etc/passwd", "/etc/passwd", longest};

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(targets); i++) {
        g_autofree char *name = g_strdup_printf("link-%u", i);
        g_autofree char *path = server_path(f->s, name), *target = NULL;

        g_assert_cmpint(symlink(targets[i], path), ==, 0);
        g_assert_cmpint(client_readlink(f->c, walk_new(f->c, name), &target), ==, 0);
        g_assert_cmpstr(target, ==, targets[i]);
    }
    {
        g_autofree char *target = NULL;

        g_assert_cmpint(client_readlink(f->c, ROOT_FID, &target), ==, EINVAL);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/attr/getattr", getattr_is_lstat);
    FIXTURE_TEST("/attr/device", device_numbers);
    FIXTURE_TEST("/attr/valid", valid_says_only_what_is_true);
    FIXTURE_TEST("/attr/generation", generation_is_stable);
    FIXTURE_TEST("/attr/set-mode", setattr_mode);
    FIXTURE_TEST("/attr/set-size", setattr_size);
    FIXTURE_TEST("/attr/set-times", setattr_times);
    FIXTURE_TEST("/attr/set-owner", setattr_owner);
    FIXTURE_TEST("/attr/set-nothing", setattr_nothing);
    FIXTURE_TEST("/attr/set-link", setattr_stays_on_the_link);
    FIXTURE_TEST("/attr/set-open", setattr_through_an_open_fid);
    FIXTURE_TEST("/attr/readlink", readlink_gives_the_target);
    return g_test_run();
}
