/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: with access=client a server that runs as root acts with the uid and the groups of the
 * attached user, and with nobody else's rights; requests of several users do not mix.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER  54321u
#define OTHER 54322u

static struct client *client_as(struct fixture *f, guint32 uid)
{
    struct client *c = client_connect(f->s->addr);

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, uid, f->s->aname, NULL), ==, 0);
    return c;
}

static void open_dir(struct fixture *f, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    g_autofree char *path = server_path(f->s, name);

    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    g_assert_cmpint(chown(path, uid, gid), ==, 0);
    g_assert_cmpint(g_chmod(path, mode), ==, 0);
}

static void host_stat(struct fixture *f, const char *name, struct stat *st)
{
    g_autofree char *path = server_path(f->s, name);

    g_assert_cmpint(lstat(path, st), ==, 0);
}

static void owner_is_the_user(struct fixture *f, gconstpointer data)
{
    struct client *c;
    struct stat st;
    guint32 fid;

    (void)data;
    if (skip_unless_root())
        return;
    open_dir(f, "pub", 0777, 0, 0);
    c = client_as(f, USER);
    fid = walk_new(c, "pub");
    g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", fid, "file", (guint32)L_RDWR, 0644u, USER,
                               "Qd", &(struct client_qid){0}, &(guint32){0}),
                    ==, 0);
    fid = walk_new(c, "pub");
    g_assert_cmpint(
        client_rpc(c, TMKDIR, "dsdd", fid, "dir", 0755u, USER, "Q", &(struct client_qid){0}), ==,
        0);
    g_assert_cmpint(
        client_rpc(c, TSYMLINK, "dssd", fid, "link", "t", USER, "Q", &(struct client_qid){0}), ==,
        0);
    g_assert_cmpint(client_rpc(c, TMKNOD, "dsdddd", fid, "fifo", (guint32)(S_IFIFO | 0600), 0u, 0u,
                               USER, "Q", &(struct client_qid){0}),
                    ==, 0);
    for (const char *const *n =
             (const char *const[]){"pub/file", "pub/dir", "pub/link", "pub/fifo", NULL};
         *n != NULL; n++) {
        host_stat(f, *n, &st);
        g_assert_cmpuint(st.st_uid, ==, USER);
    }
    client_close(c);
}

static void private_files_stay_private(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "private");
    struct client_attr attr = {.mode = 0666, .uid = USER};
    struct client *c;
    struct stat st;
    guint32 fid;
    guint64 size;

    (void)data;
    if (skip_unless_root())
        return;
    make_file(f->s, "private", "secret");
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    g_assert_cmpint(chown(path, OTHER, OTHER), ==, 0);
    setxattr(path, "user.secret", "1", 1, 0);
    c = client_as(f, USER);
    fid = walk_new(c, "private");
    g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, EACCES);
    g_assert_cmpint(client_lopen(c, fid, L_RDWR, NULL), ==, EACCES);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_MODE, &attr), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_UID, &attr), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE, &attr), ==, EACCES);
    g_assert_cmpint(client_setxattr(c, fid, "user.mine", "1", 1, 0), >, 0);
    g_assert_cmpint(client_xattrwalk(c, fid, client_fid(c), "user.secret", &size), >, 0);
    g_assert_cmpint(client_setxattr(c, fid, "trusted.mine", "1", 1, 0), >, 0);
    g_assert_cmpint(client_setxattr(c, fid, "security.mine", "1", 1, 0), >, 0);
    /* the directory is root's, 0755 */
    g_assert_cmpint(client_unlinkat(c, ROOT_FID, "private", 0), ==, EACCES);
    g_assert_cmpint(client_renameat(c, ROOT_FID, "private", ROOT_FID, "x"), ==, EACCES);
    g_assert_cmpint(client_mkdir(c, ROOT_FID, "d", 0755, NULL), ==, EACCES);
    g_assert_cmpint(client_symlink(c, ROOT_FID, "l", "t", NULL), ==, EACCES);
    host_stat(f, "private", &st);
    g_assert_cmpuint(st.st_uid, ==, OTHER);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
    g_assert_cmpint(st.st_size, ==, 6);
    client_close(c);
    /* its owner may */
    c = client_as(f, OTHER);
    g_assert_cmpint(client_lopen(c, walk_new(c, "private"), L_RDWR, NULL), ==, 0);
    client_close(c);
}

/* With the new size Linux sends what a cut does besides; who may only write has the right to cut.
 */
static void writers_may_cut(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "shared");
    struct client_attr attr = {.mode = 0606, .size = 3};
    struct client *c;
    struct stat st;
    guint32 fid;

    (void)data;
    if (skip_unless_root())
        return;
    make_file(f->s, "shared", "secret");
    g_assert_cmpint(chown(path, OTHER, OTHER), ==, 0);
    g_assert_cmpint(g_chmod(path, 04606), ==, 0);
    c = client_as(f, USER);
    fid = walk_new(c, "shared");
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MTIME | SETATTR_MODE, &attr), ==,
                    0);
    host_stat(f, "shared", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0606);
    g_assert_cmpint(st.st_size, ==, 3);
    attr.size = 0;
    g_assert_cmpint(client_lopen(c, fid, L_WRONLY | L_TRUNC, NULL), ==, 0);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MTIME | SETATTR_CTIME, &attr), ==,
                    0);
    /* but nothing else with it */
    g_assert_cmpint(client_setattr(c, fid, SETATTR_MODE, &attr), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_MTIME, &attr), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MTIME | SETATTR_ATIME, &attr), ==,
                    0); /* both "now": as utimes() has it */
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MTIME | SETATTR_MTIME_SET, &attr),
                    ==, EPERM);
    attr.mode = 04606;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MODE, &attr), ==, EPERM);
    attr.mode = 0666;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MODE, &attr), ==, EPERM);
    host_stat(f, "shared", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0606);
    g_assert_cmpint(st.st_size, ==, 0);
    client_close(c);
}

static void private_directories_are_not_searched(struct fixture *f, gconstpointer data)
{
    struct client *c;

    (void)data;
    if (skip_unless_root())
        return;
    open_dir(f, "closed", 0700, OTHER, OTHER);
    make_file(f->s, "closed/file", "secret");
    c = client_as(f, USER);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), "closed/file", NULL), >, 0);
    g_assert_cmpint(client_lopen(c, walk_new(c, "closed"), L_RDONLY | L_DIRECTORY, NULL), ==,
                    EACCES);
    client_close(c);
    c = client_as(f, OTHER);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), "closed/file", NULL), ==, 0);
    client_close(c);
}

/* Puts LINE behind what the file says, in the mount namespace of this test and its server only. */
static gboolean shadow(const char *dir, const char *file, const char *line)
{
    g_autofree char *copy = g_build_filename(dir, strrchr(file, '/') + 1, NULL), *text = NULL;
    g_autofree char *all = NULL;

    if (!g_file_get_contents(file, &text, NULL, NULL))
        text = g_strdup("");
    all = g_strconcat(text, line, NULL);
    g_assert_true(g_file_set_contents(copy, all, -1, NULL));
    g_assert_cmpint(g_chmod(copy, 0644), ==, 0);
    return mount(copy, file, NULL, MS_BIND, NULL) == 0;
}

/* A user whom the host knows, with a supplementary group: files of that group are open to them. */
static void groups_count(void)
{
    g_autofree char *tmp = NULL;
    struct fixture f;
    struct client *c;

    if (skip_unless_root())
        return;
    tmp = g_dir_make_tmp("qidmap-etc-XXXXXX", NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !shadow(tmp, "/etc/passwd", "qidmapuser:x:54323:54323::/:/bin/false\n") ||
        !shadow(tmp, "/etc/group", "qidmapgroup:x:54399:qidmapuser\n")) {
        g_test_skip("no mounts allowed");
        return;
    }
    fixture_setup(&f, NULL);
    if (!skip_for_peer(f.s, "diod is told not to ask")) {
        g_autofree char *path = server_path(f.s, "group-file");

        make_file(f.s, "group-file", "for the group");
        g_assert_cmpint(chown(path, 0, 54399), ==, 0);
        g_assert_cmpint(g_chmod(path, 0640), ==, 0);
        c = client_as(&f, 54323);
        g_assert_cmpint(client_lopen(c, walk_new(c, "group-file"), L_RDONLY, NULL), ==, 0);
        client_close(c);
        c = client_as(&f, USER);
        g_assert_cmpint(client_lopen(c, walk_new(c, "group-file"), L_RDONLY, NULL), ==, EACCES);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
    umount2("/etc/passwd", MNT_DETACH);
    umount2("/etc/group", MNT_DETACH);
    for (const char *const *n = (const char *const[]){"passwd", "group", NULL}; *n != NULL; n++) {
        g_autofree char *copy = g_build_filename(tmp, *n, NULL);

        g_unlink(copy);
    }
    g_rmdir(tmp);
}

/* What `text` says is FILE, for this test and its server only. */
static gboolean replace(const char *dir, const char *file, const char *text)
{
    g_autofree char *copy = g_build_filename(dir, strrchr(file, '/') + 1, NULL);

    g_assert_true(g_file_set_contents(copy, text, -1, NULL));
    g_assert_cmpint(g_chmod(copy, 0644), ==, 0);
    return mount(copy, file, NULL, MS_BIND, NULL) == 0;
}

static void uncover(const char *dir)
{
    static const char *const names[] = {"passwd", "group", "nsswitch.conf"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *file = g_build_filename("/etc", names[i], NULL);
        g_autofree char *copy = g_build_filename(dir, names[i], NULL);

        umount2(file, MNT_DETACH);
        g_unlink(copy);
    }
    g_rmdir(dir);
}

/* A user database that cannot be read says nothing about a user: the attach fails, and succeeds
 * when it is read again. */
static void failing_database_is_no_unknown_user(void)
{
    g_autofree char *tmp = NULL;
    struct fixture f;
    struct client *c;

    if (skip_unless_root())
        return;
    tmp = g_dir_make_tmp("qidmap-etc-XXXXXX", NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !replace(tmp, "/etc/nsswitch.conf", "passwd: files\ngroup: files\n") ||
        mount("/proc/self/mem", "/etc/passwd", NULL, MS_BIND, NULL) != 0) { /* reading it: EIO */
        g_test_skip("no mounts allowed");
        uncover(tmp);
        return;
    }
    fixture_setup(&f, (const char *[]){"--squash-user", "0:0", "--security", "squash", "--squash",
                                       "root", NULL}); /* whose own client needs no database */
    if (!skip_for_peer(f.s, "not ours")) {
        c = client_connect(f.s->addr);
        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        g_assert_cmpint(client_attach(c, 5, USER, f.s->aname, NULL), ==, EIO);
        g_assert_cmpint(umount2("/etc/passwd", MNT_DETACH), ==, 0);
        g_assert_cmpint(client_attach(c, 5, USER, f.s->aname, NULL), ==, 0);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
    uncover(tmp);
}

/* Groups that cannot be read are not the same as none. */
static void failing_groups_are_not_none(void)
{
    g_autofree char *tmp = NULL;
    struct fixture f;
    struct client *c;

    if (skip_unless_root())
        return;
    tmp = g_dir_make_tmp("qidmap-etc-XXXXXX", NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !replace(tmp, "/etc/nsswitch.conf", "passwd: files\ngroup: files\n") ||
        !replace(tmp, "/etc/passwd", "known:x:54323:54323::/:/bin/false\n") ||
        mount("/proc/self/mem", "/etc/group", NULL, MS_BIND, NULL) != 0) { /* reading it: EIO */
        g_test_skip("no mounts allowed");
        uncover(tmp);
        return;
    }
    fixture_setup(&f, (const char *[]){"--squash-user", "0:0", "--security", "squash", "--squash",
                                       "root", NULL}); /* whose own client needs no database */
    if (!skip_for_peer(f.s, "not ours")) {
        c = client_connect(f.s->addr);
        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        g_assert_cmpint(client_attach(c, 5, 54323, f.s->aname, NULL), ==, EIO);
        g_assert_cmpint(client_attach(c, 5, USER, f.s->aname, NULL), ==, EIO);
        g_assert_cmpint(umount2("/etc/group", MNT_DETACH), ==, 0);
        g_assert_cmpint(client_attach(c, 5, 54323, f.s->aname, NULL), ==, 0);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
    uncover(tmp);
}

/* A user whom the host does not know has no part in a group of the host that happens to have the
 * number: neither new files of it, nor its files that are there. */
static void groups_of_the_host_are_not_private(void)
{
    struct client_attr attr = {.gid = USER};
    g_autofree char *tmp = NULL;
    struct fixture f;

    if (skip_unless_root())
        return;
    tmp = g_dir_make_tmp("qidmap-etc-XXXXXX", NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !replace(tmp, "/etc/nsswitch.conf", "passwd: files\ngroup: files\n") ||
        !replace(tmp, "/etc/group", "secrets:x:54321:\n")) {
        g_test_skip("no mounts allowed");
        uncover(tmp);
        return;
    }
    fixture_setup(&f, NULL);
    if (!skip_for_peer(f.s, "not ours")) {
        g_autofree char *path = server_path(f.s, "pub/secret");
        struct client *c = client_as(&f, USER);
        guint32 fid;
        struct stat st;

        open_dir(&f, "pub", 0777, 0, 0);
        make_file(f.s, "pub/secret", "of a group");
        g_assert_cmpint(chown(path, 0, USER), ==, 0);
        g_assert_cmpint(g_chmod(path, 0640), ==, 0);
        g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", walk_new(c, "pub"), "secret",
                                   (guint32)L_RDONLY, 0644u, USER, "Qd", &(struct client_qid){0},
                                   &(guint32){0}),
                        ==, EACCES);
        fid = walk_new(c, "pub");
        g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", fid, "new", (guint32)L_RDWR, 02755u, USER,
                                   "Qd", &(struct client_qid){0}, &(guint32){0}),
                        ==, 0);
        host_stat(&f, "pub/new", &st);
        g_assert_cmpuint(st.st_gid, ==, 65534);
        g_assert_cmpint(client_setattr(c, fid, SETATTR_GID, &attr), ==, EPERM);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
    uncover(tmp);
}

/* A user database that hangs, asked by more clients than there are threads, holds up nobody who is
 * attached. */
static void hanging_database_holds_up_nobody(void)
{
    enum { CLIENTS = 24 };
    const char *extra[] = {"--threads", "8", NULL};
    struct client *clients[CLIENTS];
    int tags[CLIENTS], told = 0;
    g_autofree char *tmp = NULL, *fifo = NULL;
    struct client_attr attr;
    struct client_qid qid;
    struct fixture f;

    if (skip_unless_root())
        return;
    tmp = g_dir_make_tmp("qidmap-etc-XXXXXX", NULL);
    fifo = g_build_filename(tmp, "passwd", NULL);
    g_assert_cmpint(mkfifo(fifo, 0644), ==, 0);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !replace(tmp, "/etc/nsswitch.conf", "passwd: files\ngroup: files\n")) {
        g_test_skip("no mounts allowed");
        uncover(tmp);
        return;
    }
    fixture_setup(&f, extra); /* which attaches */
    if (!skip_for_peer(f.s, "not ours")) {
        g_assert_cmpint(mount(fifo, "/etc/passwd", NULL, MS_BIND, NULL), ==, 0);
        for (guint i = 0; i < CLIENTS; i++) {
            clients[i] = client_connect(f.s->addr);
            g_assert_cmpint(client_hello(clients[i], 65536), ==, 0);
            tags[i] = client_post(clients[i], TATTACH, "ddssd", (guint32)ROOT_FID, NOFID, "",
                                  f.s->aname, USER + i);
        }
        for (guint i = 0; i < 3 * CLIENTS; i++)
            g_assert_cmpint(client_getattr(f.c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
        for (guint i = 0; i < CLIENTS; i++) {
            int rc = CLIENT_TIMEOUT;

            /* a writer that leaves at once lets one question end */
            clients[i]->timeout_ms = 200;
            for (int tries = 0; rc == CLIENT_TIMEOUT && tries < 300; tries++) {
                int fd = open(fifo, O_WRONLY | O_NONBLOCK);

                if (fd >= 0)
                    close(fd);
                rc = client_wait(clients[i], tags[i], TATTACH + 1, "Q", &qid);
            }
            g_assert_true(rc == 0 || rc == EAGAIN ||
                          rc == EIO); /* a FIFO cannot be read as a file */
            told += rc == EAGAIN;
            client_close(clients[i]);
        }
        g_test_message("%d of %d were told to come again", told, CLIENTS);
        g_assert_cmpint(told, >, 0);
        umount2("/etc/passwd", MNT_DETACH);
    }
    fixture_teardown(&f, NULL);
    uncover(tmp);
}

#define MOMENT_US G_USEC_PER_SEC /* of src/privs-user.c: without an answer for so long it hangs */

/* A user database that answers has an answer for each of many users who come at one moment. */
static void many_users_come_at_once(void)
{
    enum { CLIENTS = 8, ROUNDS = 40 };
    static const char *const extra[] = {"--threads", "4", NULL};
    struct client *clients[CLIENTS];
    int tags[CLIENTS];
    struct client_qid qid;
    struct fixture f;

    if (skip_unless_root())
        return;
    fixture_setup(&f, extra);
    for (guint i = 0; i < CLIENTS; i++) {
        clients[i] = client_connect(f.s->addr);
        g_assert_cmpint(client_hello(clients[i], 65536), ==, 0);
    }
    for (guint round = 0; round < ROUNDS; round++) {
        gint64 begin = g_get_monotonic_time();

        for (guint i = 0; i < CLIENTS; i++)
            tags[i] = client_post(clients[i], TATTACH, "ddssd", ROOT_FID + round, NOFID, "",
                                  f.s->aname, USER + round * CLIENTS + i);
        for (guint i = 0; i < CLIENTS; i++) {
            int rc = client_wait(clients[i], tags[i], TATTACH + 1, "Q", &qid);

            /* where this machine stood still for so long that the database seems to hang */
            while (rc == EAGAIN && g_get_monotonic_time() - begin >= MOMENT_US) {
                g_assert_cmpint(g_get_monotonic_time(), <, begin + 60 * G_TIME_SPAN_SECOND);
                rc = client_attach(clients[i], ROOT_FID + round, USER + round * CLIENTS + i,
                                   f.s->aname, &qid);
            }
            g_assert_cmpint(rc, ==, 0);
        }
    }
    for (guint i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    fixture_teardown(&f, NULL);
}

/* An unknown user must not keep root's groups. */
static void roots_groups_are_dropped(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "root-group");
    struct client *c;

    (void)data;
    if (skip_unless_root())
        return;
    make_file(f->s, "root-group", "for group 0");
    g_assert_cmpint(g_chmod(path, 0060), ==, 0);
    c = client_as(f, USER);
    g_assert_cmpint(client_lopen(c, walk_new(c, "root-group"), L_RDONLY, NULL), ==, EACCES);
    client_close(c);
}

/* A create with a group that the user is not in does not give the file to that group. */
static void foreign_group_is_not_given(struct fixture *f, gconstpointer data)
{
    struct client *c;
    struct stat st;
    guint32 fid;
    int rc;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "diod gives it"))
        return;
    open_dir(f, "pub", 0777, 0, 0);
    c = client_as(f, USER);
    fid = walk_new(c, "pub");
    rc = client_rpc(c, TLCREATE, "dsddd", fid, "sgid", (guint32)L_RDWR, 02755u, 0u, "Qd",
                    &(struct client_qid){0}, &(guint32){0});
    if (rc == 0) {
        host_stat(f, "pub/sgid", &st);
        g_assert_false(st.st_gid == 0 && (st.st_mode & S_ISGID));
    }
    client_close(c);
}

static void setgid_directories_pass_their_group_on(struct fixture *f, gconstpointer data)
{
    struct client *c;
    struct stat st;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "not ours"))
        return;
    open_dir(f, "sg", 02777, 0, OTHER);
    c = client_as(f, USER);
    g_assert_cmpint(client_rpc(c, TMKDIR, "dsdd", walk_new(c, "sg"), "dir", 0755u, OTHER, "Q",
                               &(struct client_qid){0}),
                    ==, 0);
    host_stat(f, "sg/dir", &st);
    g_assert_cmpuint(st.st_gid, ==, OTHER);
    g_assert_cmpuint(st.st_uid, ==, USER);
    client_close(c);
}

/* Two users on one connection (access=user of the client), requests mixed and pipelined. */
static void users_do_not_mix(struct fixture *f, gconstpointer data)
{
    enum { N = 200 };
    struct client *c;
    struct stat st;
    guint32 fids[N];
    int tags[N];

    (void)data;
    if (skip_unless_root())
        return;
    open_dir(f, "pub", 01777, 0, 0);
    c = client_as(f, USER);
    g_assert_cmpint(client_attach(c, 2, OTHER, f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_attach(c, 3, 0, f->s->aname, NULL), ==, 0);
    for (guint i = 0; i < N; i++) {
        fids[i] = client_fid(c);
        g_assert_cmpint(client_walk_path(c, 1 + i % 3, fids[i], "pub", NULL), ==, 0);
    }
    for (guint i = 0; i < N; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);

        tags[i] = client_post(c, TLCREATE, "dsddd", fids[i], name, (guint32)L_RDWR, 0600u, 0u);
    }
    for (guint i = 0; i < N; i++) {
        g_autofree char *name = g_strdup_printf("pub/f%u", i);
        static const guint32 uids[] = {USER, OTHER, 0};
        struct client_qid qid;
        guint32 iounit;
        int rc = client_wait(c, tags[i], TLCREATE + 1, "Qd", &qid, &iounit);

        g_assert_cmpint(rc, ==, 0);
        host_stat(f, name, &st);
        g_assert_cmpuint(st.st_uid, ==, uids[i % 3]);
    }
    client_close(c);
}

static int attach_as(struct client *c, guint32 fid, const char *name, const char *aname)
{
    struct client_qid qid;

    return client_rpc(c, TATTACH, "ddssd", fid, NOFID, name, aname, NONUNAME, "Q", &qid);
}

/* Linux attaches so with access=any, and for the mount itself: by a name, without a number. */
static void names_are_users(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *name;
        guint32 uid;
    } users[] = {{"nobody", 65534}, {"root", 0}, {"no-such-user-here", 65534}, {"", 65534}};
    struct stat st;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "diod is told not to ask"))
        return;
    g_assert_cmpint(g_chmod(f->s->dir, 01777), ==, 0);
    for (guint32 i = 0; i < G_N_ELEMENTS(users); i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);
        guint32 fid = 100 + i;

        g_assert_cmpint(attach_as(f->c, fid, users[i].name, f->s->aname), ==, 0);
        g_assert_cmpint(client_lcreate(f->c, fid, name, L_RDWR, 0600, NULL), ==, 0);
        host_stat(f, name, &st);
        g_assert_cmpuint(st.st_uid, ==, users[i].uid);
    }
}

/* A user whom the host does not know has a private group of the same number: files are made with
 * it and given to it, and to no other group. */
static void private_groups_are_theirs(struct fixture *f, gconstpointer data)
{
    struct client_attr attr = {.gid = USER};
    struct client *c;
    struct stat st;
    guint32 fid;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "not ours"))
        return;
    open_dir(f, "pub", 0777, 0, 0);
    c = client_as(f, USER);
    fid = walk_new(c, "pub");
    g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", fid, "file", (guint32)L_RDWR, 0644u, OTHER,
                               "Qd", &(struct client_qid){0}, &(guint32){0}),
                    ==, 0);
    host_stat(f, "pub/file", &st);
    g_assert_cmpuint(st.st_gid, ==, 65534);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_GID, &attr), ==, 0);
    host_stat(f, "pub/file", &st);
    g_assert_cmpuint(st.st_gid, ==, USER);
    attr.gid = OTHER;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_GID, &attr), ==, EPERM);
    attr.gid = 0;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_GID, &attr), ==, EPERM);
    client_close(c);
}

static void trusted_acts_as_the_server(void)
{
    const char *extra[] = {"--access", "trusted", NULL};
    struct fixture f;
    struct client_qid qid;
    struct client *c;

    if (skip_unless_root())
        return;
    fixture_setup(&f, extra);
    if (!skip_for_peer(f.s, "options are ours")) {
        c = client_as(&f, USER);
        make_file(f.s, "private", "x");
        {
            g_autofree char *path = server_path(f.s, "private");
            g_assert_cmpint(g_chmod(path, 0600), ==, 0);
        }
        g_assert_cmpint(client_lopen(c, walk_new(c, "private"), L_RDWR, &qid), ==, 0);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/users/owner", owner_is_the_user);
    FIXTURE_TEST("/users/private-file", private_files_stay_private);
    FIXTURE_TEST("/users/writers-cut", writers_may_cut);
    FIXTURE_TEST("/users/private-directory", private_directories_are_not_searched);
    g_test_add_func("/users/groups", groups_count);
    g_test_add_func("/users/database-fails", failing_database_is_no_unknown_user);
    g_test_add_func("/users/groups-fail", failing_groups_are_not_none);
    g_test_add_func("/users/groups-of-host", groups_of_the_host_are_not_private);
    g_test_add_func("/users/database-hangs", hanging_database_holds_up_nobody);
    g_test_add_func("/users/many-at-once", many_users_come_at_once);
    FIXTURE_TEST("/users/root-groups", roots_groups_are_dropped);
    FIXTURE_TEST("/users/foreign-group", foreign_group_is_not_given);
    FIXTURE_TEST("/users/names", names_are_users);
    FIXTURE_TEST("/users/private-groups", private_groups_are_theirs);
    FIXTURE_TEST("/users/setgid", setgid_directories_pass_their_group_on);
    FIXTURE_TEST("/users/mixed", users_do_not_mix);
    g_test_add_func("/users/trusted", trusted_acts_as_the_server);
    return g_test_run();
}
