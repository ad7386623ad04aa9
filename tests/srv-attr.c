/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: Tgetattr tells what lstat(2) tells and marks as valid only what is true; Tsetattr
 * changes just what its bits name, and never follows a symbolic link.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
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

/* ---- one file is one inode ------------------------------------------------------------------- */

/* What a Linux client compares before it takes a cached inode. */
struct identity {
    struct client_qid qid;
    guint64 gen, valid;
    guint32 type;
};

static void same_qid(const struct client_qid *a, const struct client_qid *b)
{
    g_assert_cmpuint(a->path, ==, b->path);
    g_assert_cmpuint(a->version, ==, b->version);
    g_assert_cmpuint(a->type, ==, b->type);
}

static void look(struct client *c, const char *path, const struct client_qid *made,
                 struct identity *first)
{
    g_autofree char *dir = g_path_get_dirname(path), *base = g_path_get_basename(path);
    struct client_attr attr;
    struct client_qid qid, opened;
    GPtrArray *entries;
    guint32 fid = client_fid(c), dfid = client_fid(c);
    guint listed = 0;

    g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, path, &qid), ==, 0);
    g_assert_cmpint(client_getattr(c, fid, GETATTR_ALL, &attr), ==, 0);
    if (first->type == 0) {
        *first = (struct identity){attr.qid, attr.gen, attr.valid & 0x1000, attr.mode & S_IFMT};
        if (made != NULL)
            same_qid(made, &first->qid);
    }
    g_assert_cmpuint(attr.mode & S_IFMT, ==, first->type);
    g_assert_cmpuint(attr.gen, ==, first->gen);
    g_assert_cmpuint(attr.valid & 0x1000, ==, first->valid);
    same_qid(&attr.qid, &first->qid);
    g_assert_cmpuint(attr.qid.version, !=, 0);
    same_qid(&qid, &first->qid);
    if (S_ISREG(attr.mode) || S_ISDIR(attr.mode)) {
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, &opened), ==, 0);
        same_qid(&opened, &first->qid);
        g_assert_cmpint(client_getattr(c, fid, GETATTR_ALL, &attr), ==, 0);
        g_assert_cmpuint(attr.gen, ==, first->gen);
        same_qid(&attr.qid, &first->qid);
    }
    g_assert_cmpint(client_walk_path(c, ROOT_FID, dfid, strcmp(dir, ".") == 0 ? "" : dir, NULL), ==,
                    0);
    g_assert_cmpint(client_readdir_all(c, dfid, 4096, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = g_ptr_array_index(entries, i);

        if (strcmp(e->name, base) != 0)
            continue;
        listed++;
        same_qid(&e->qid, &first->qid);
        g_assert_cmpuint(e->type, ==, first->type >> 12);
    }
    g_assert_cmpuint(listed, ==, 1);
    g_ptr_array_free(entries, TRUE);
    client_clunk(c, fid);
    client_clunk(c, dfid);
}

static void one_file_is_one_inode(gconstpointer security)
{
    const char *extra[] = {"--security", security, NULL};
    static const char *const names[] = {"file", "dir", "link", "fifo", "dev"};
    struct identity seen[G_N_ELEMENTS(names)] = {{{0}, 0, 0, 0}};
    struct server *s = server_new("lmdb:", extra);
    struct client_attr attr = {.mode = 0750, .size = 100, .mtime = 12345, .uid = 77, .gid = 78};
    gboolean mapped = strcmp(security, "mapped-xattr") == 0;
    struct client_qid made[G_N_ELEMENTS(names)];
    guint count = mapped || geteuid() == 0 ? 5 : 4;
    struct client *c;
    guint32 fid;

    g_assert_true(server_start(s));
    c = server_client(s);
    fid = walk_new(c, "");
    if (client_lcreate(c, fid, "file", L_RDWR, 0644, &made[0]) != 0 && mapped) {
        g_test_skip("the filesystem of the temporary directory has no user xattrs");
        client_close(c);
        server_free(s);
        return;
    }
    g_assert_cmpint(client_mkdir(c, ROOT_FID, "dir", 0755, &made[1]), ==, 0);
    g_assert_cmpint(client_symlink(c, ROOT_FID, "link", "to", &made[2]), ==, 0);
    g_assert_cmpint(client_mknod(c, ROOT_FID, "fifo", S_IFIFO | 0600, 0, 0, &made[3]), ==, 0);
    if (count > 4)
        g_assert_cmpint(client_mknod(c, ROOT_FID, "dev", S_IFCHR | 0600, 1, 3, &made[4]), ==, 0);
    for (guint i = 0; i < count; i++)
        look(c, names[i], &made[i], &seen[i]);
    g_assert_cmpint(client_write(c, fid, 0, 5, "hello", &(guint32){0}), ==, 0);
    for (guint i = 0; i < count; i++) {
        guint32 each = walk_new(c, names[i]);

        if (i != 2)
            g_assert_cmpint(client_setattr(c, each, SETATTR_MODE, &attr), ==, 0);
        if (i == 0)
            g_assert_cmpint(client_setattr(c, each, SETATTR_SIZE, &attr), ==, 0);
        g_assert_cmpint(client_setattr(c, each, SETATTR_MTIME | SETATTR_MTIME_SET, &attr), ==, 0);
        if (mapped || geteuid() == 0)
            g_assert_cmpint(client_setattr(c, each, SETATTR_UID | SETATTR_GID, &attr), ==, 0);
        if (i < 2)
            (void)client_setxattr(c, each, "user.x", "1", 1, 0);
        if (i == 0)
            g_assert_cmpint(client_link(c, walk_new(c, "dir"), each, "hard"), ==, 0);
        else if (i > 1)
            g_assert_cmpint(client_link(c, ROOT_FID, each, "other"), ==, 0);
        look(c, names[i], NULL, &seen[i]);
        if (i > 1)
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, "other", 0), ==, 0);
    }
    look(c, "dir/hard", NULL, &seen[0]);
    for (int again = 0; again < 2; again++) {
        g_assert_cmpint(client_renameat(c, ROOT_FID, "dir", ROOT_FID, "moved"), ==, 0);
        look(c, "moved/hard", NULL, &seen[0]);
        look(c, "moved", NULL, &seen[1]);
        g_assert_cmpint(client_renameat(c, ROOT_FID, "moved", ROOT_FID, "dir"), ==, 0);
        client_close(c);
        g_assert_cmpint(server_terminate(s), ==, 0);
        g_assert_true(server_start(s)); /* the numbers outlive it */
        c = server_client(s);
        for (guint i = 0; i < count; i++)
            look(c, names[i], NULL, &seen[i]);
    }
    client_close(c);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* An inode number that comes again shows another generation, where the filesystem has one. */
static void a_new_file_is_another_one(struct fixture *f, gconstpointer data)
{
    struct client_attr first, next;

    (void)data;
    make_file(f->s, "file", "1");
    g_assert_cmpint(client_getattr(f->c, walk_new(f->c, "file"), GETATTR_ALL, &first), ==, 0);
    if (!(first.valid & 0x1000)) {
        g_test_skip("the filesystem of the temporary directory has no generations");
        return;
    }
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "file", 0), ==, 0);
        make_file(f->s, "file", "2");
        g_assert_cmpint(client_getattr(f->c, walk_new(f->c, "file"), GETATTR_ALL, &next), ==, 0);
        g_assert_true(next.qid.path != first.qid.path || next.gen != first.gen);
    }
}

/* What can never be done is refused before anything is done. */
static void setattr_refused_changes_nothing(struct fixture *f, gconstpointer data)
{
    struct client_attr a = {.mode = 0700, .size = 1, .mtime = 1, .uid = 1, .gid = 1};
    static const struct {
        const char *name;
        guint32 valid;
        int error;
    } cases[] = {
        {"dir", SETATTR_MODE | SETATTR_SIZE | SETATTR_UID, EISDIR},
        {"fifo", SETATTR_MODE | SETATTR_SIZE | SETATTR_UID, EINVAL},
        {"link", SETATTR_MODE | SETATTR_UID, EOPNOTSUPP},
        {"link", SETATTR_SIZE | SETATTR_UID, EINVAL},
        {"file", SETATTR_MODE | SETATTR_MTIME | SETATTR_MTIME_SET | SETATTR_UID, EINVAL},
        {"file", SETATTR_MODE | 0x40000000u, EINVAL},
    };

    (void)data;
    if (skip_for_peer(f->s, "not ours"))
        return;
    make_dir(f->s, "dir");
    make_file(f->s, "file", "text");
    g_assert_cmpint(client_symlink(f->c, ROOT_FID, "link", "file", NULL), ==, 0);
    g_assert_cmpint(client_mknod(f->c, ROOT_FID, "fifo", S_IFIFO | 0640, 0, 0, NULL), ==, 0);
    a.mtime_ns = 1000000000;
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct stat before, after;

        host_stat(f, cases[i].name, &before);
        g_assert_cmpint(client_setattr(f->c, walk_new(f->c, cases[i].name), cases[i].valid, &a), ==,
                        cases[i].error);
        host_stat(f, cases[i].name, &after);
        g_assert_cmpmem(&before, sizeof before, &after, sizeof after);
    }
}

/* The handles of FUSE are numbers in memory, which change while a guest holds the file: they make
 * no generation. */
static void fuse_has_no_generation(void)
{
    const char *build = g_getenv("top_builddir");
    g_autofree char *inofs = g_build_filename(build != NULL ? build : ".", "tests/lib/inofs", NULL);
    struct client_attr attr;
    struct fixture f;

    if (skip_unless_root())
        return;
    if (!g_file_test(inofs, G_FILE_TEST_IS_EXECUTABLE) || access("/dev/fuse", R_OK) != 0 ||
        unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        g_test_skip("no FUSE here");
        return;
    }
    fixture_setup(&f, NULL);
    make_dir(f.s, "fuse");
    make_file(f.s, "list", "0x123\n");
    {
        g_autofree char *list = server_path(f.s, "list"), *dir = server_path(f.s, "fuse");
        const char *argv[] = {inofs, list, dir, NULL};

        if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                          NULL, NULL, NULL)) {
            g_test_skip("inofs does not start");
        } else {
            g_assert_cmpint(
                client_getattr(f.c, walk_new(f.c, "fuse/f-0000000000000123"), GETATTR_ALL, &attr),
                ==, 0);
            g_assert_cmphex(attr.valid & 0x1000, ==, 0);
            g_assert_cmpuint(attr.gen, ==, 0);
            g_assert_cmpint(umount2(dir, MNT_DETACH), ==, 0);
        }
    }
    fixture_teardown(&f, NULL);
}

/* Another filesystem below the export answers for itself. */
static void statfs_is_of_the_files_own(void)
{
    struct fixture f;
    struct statfs host[2];
    const char *const names[] = {"", "mnt"};

    if (skip_unless_root())
        return;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        g_test_skip("no mounts allowed");
        return;
    }
    fixture_setup(&f, NULL);
    make_dir(f.s, "mnt");
    {
        g_autofree char *path = server_path(f.s, "mnt");

        g_assert_cmpint(mount("none", path, "tmpfs", 0, "size=1234k,nr_inodes=321"), ==, 0);
        for (guint i = 0; i < 2; i++) {
            g_autofree char *dir = server_path(f.s, names[i]);
            guint64 blocks, bfree, bavail, files, ffree, fsid;
            guint32 type, bsize, namelen, fid = walk_new(f.c, names[i]);
            gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
            struct statfs before;

            /* the first is everybody's, and the size of some changes with what is free */
            do {
                g_assert_cmpint(statfs(dir, &before), ==, 0);
                g_assert_cmpint(client_rpc(f.c, TSTATFS, "d", fid, "ddqqqqqqd", &type, &bsize,
                                           &blocks, &bfree, &bavail, &files, &ffree, &fsid,
                                           &namelen),
                                ==, 0);
                g_assert_cmpint(statfs(dir, &host[i]), ==, 0);
            } while ((before.f_blocks != host[i].f_blocks || before.f_files != host[i].f_files) &&
                     g_get_monotonic_time() < deadline);
            g_assert_cmpuint(bsize, ==, host[i].f_bsize);
            g_assert_cmpuint(blocks, ==, host[i].f_blocks);
            g_assert_cmpuint(files, ==, host[i].f_files);
        }
        g_assert_cmpint(host[0].f_files != host[1].f_files, ==, TRUE);
        g_assert_cmpint(umount2(path, MNT_DETACH), ==, 0);
    }
    fixture_teardown(&f, NULL);
}

/* Linux sends with a new size what it makes of the times and of set-id bits. Who may only write the
 * file, and is not its owner, may cut it so; and nothing else. */
static void cut_by_one_who_may_write(struct fixture *f, gconstpointer data)
{
    static const guint32 now = SETATTR_MTIME | SETATTR_CTIME;
    struct client_attr a = {.size = 2, .mode = 0766, .mtime = 1};
    g_autofree char *path = server_path(f->s, "file");
    struct client *c;
    struct stat st;
    guint32 fid;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "not ours"))
        return;
    g_assert_cmpint(chmod(f->s->dir, 0755), ==, 0);
    make_file(f->s, "file", "text");
    g_assert_cmpint(chmod(path, 04766), ==, 0);
    c = client_connect(f->s->addr);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, 54321, f->s->aname, NULL), ==, 0);
    fid = walk_new(c, "file");
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MODE | now, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_size, ==, 2);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0766);
    a.size = 1;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | now, &a), ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_size, ==, 1);
    g_assert_cmpint(client_setattr(c, fid, now, &a), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_MODE, &a), ==, EPERM);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MTIME | SETATTR_MTIME_SET, &a),
                    ==, EPERM);
    a.mode = 0777;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MODE, &a), ==, EPERM);
    g_assert_cmpint(chmod(path, 0744), ==, 0);
    a.mode = 0744;
    a.size = 0;
    g_assert_cmpint(client_setattr(c, fid, SETATTR_SIZE | SETATTR_MODE | now, &a), ==, EACCES);
    host_stat(f, "file", &st);
    g_assert_cmpint(st.st_size, ==, 1);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0744);
    client_close(c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/attr/getattr", getattr_is_lstat);
    FIXTURE_TEST("/attr/device", device_numbers);
    FIXTURE_TEST("/attr/valid", valid_says_only_what_is_true);
    FIXTURE_TEST("/attr/generation", generation_is_stable);
    if (g_getenv("QIDMAP_TEST_PEER") == NULL) {
        g_test_add_data_func("/attr/one-inode/passthrough", "passthrough", one_file_is_one_inode);
        g_test_add_data_func("/attr/one-inode/mapped", "mapped-xattr", one_file_is_one_inode);
    }
    FIXTURE_TEST("/attr/new-file", a_new_file_is_another_one);
    FIXTURE_TEST("/attr/set-refused", setattr_refused_changes_nothing);
    if (g_getenv("QIDMAP_TEST_PEER") == NULL)
        g_test_add_func("/attr/fuse-generation", fuse_has_no_generation);
    g_test_add_func("/attr/statfs", statfs_is_of_the_files_own);
    FIXTURE_TEST("/attr/set-mode", setattr_mode);
    FIXTURE_TEST("/attr/set-size", setattr_size);
    FIXTURE_TEST("/attr/set-size/writer", cut_by_one_who_may_write);
    FIXTURE_TEST("/attr/set-times", setattr_times);
    FIXTURE_TEST("/attr/set-owner", setattr_owner);
    FIXTURE_TEST("/attr/set-nothing", setattr_nothing);
    FIXTURE_TEST("/attr/set-link", setattr_stays_on_the_link);
    FIXTURE_TEST("/attr/set-open", setattr_through_an_open_fid);
    FIXTURE_TEST("/attr/readlink", readlink_gives_the_target);
    return g_test_run();
}
