/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: names are made, moved and removed as on a local filesystem, with the same errors, and
 * never by a name that is not one component.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static gboolean exists(struct fixture *f, const char *name)
{
    g_autofree char *path = server_path(f->s, name);
    struct stat st;

    return lstat(path, &st) == 0;
}

static guint64 ino_of(struct fixture *f, const char *name)
{
    g_autofree char *path = server_path(f->s, name);
    struct stat st;

    g_assert_cmpint(lstat(path, &st), ==, 0);
    return st.st_ino;
}

static guint64 id_of(struct fixture *f, const char *name)
{
    struct client_qid qid;

    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, client_fid(f->c), name, &qid), ==, 0);
    return qid.path;
}

static void mkdir_makes(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "dir");
    struct client_qid qid;
    struct stat st;

    (void)data;
    g_assert_cmpint(client_mkdir(f->c, ROOT_FID, "dir", 0750, &qid), ==, 0);
    g_assert_cmpuint(qid.type, ==, QTDIR);
    g_assert_cmpuint(qid.path, ==, id_of(f, "dir"));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode, ==, S_IFDIR | 0750);
    g_assert_cmpint(client_mkdir(f->c, ROOT_FID, "dir", 0750, NULL), ==, EEXIST);
    make_file(f->s, "file", "");
    g_assert_cmpint(client_mkdir(f->c, walk_new(f->c, "file"), "x", 0750, NULL), ==, ENOTDIR);
    g_assert_cmpint(client_mkdir(f->c, 4242, "x", 0750, NULL), ==, EBADF);
}

static void mknod_makes(struct fixture *f, gconstpointer data)
{
    g_autofree char *fifo = server_path(f->s, "fifo"), *file = server_path(f->s, "plain");
    struct client_qid qid;
    struct stat st;

    (void)data;
    g_assert_cmpint(client_mknod(f->c, ROOT_FID, "fifo", S_IFIFO | 0640, 0, 0, &qid), ==, 0);
    g_assert_cmpint(lstat(fifo, &st), ==, 0);
    g_assert_cmpuint(st.st_mode, ==, S_IFIFO | 0640);
    g_assert_cmpuint(qid.path, ==, id_of(f, "fifo"));
    g_assert_cmpint(client_mknod(f->c, ROOT_FID, "plain", S_IFREG | 0600, 0, 0, NULL), ==, 0);
    g_assert_cmpint(lstat(file, &st), ==, 0);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
    g_assert_cmpint(client_mknod(f->c, ROOT_FID, "fifo", S_IFIFO | 0640, 0, 0, NULL), ==, EEXIST);
}

static void symlink_makes(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "link"), *target = NULL;
    struct client_qid qid;

    (void)data;
    g_assert_cmpint(client_symlink(f->c, ROOT_FID, "link", "../any where", &qid), ==, 0);
    g_assert_cmpuint(qid.path, ==, id_of(f, "link"));
    g_assert_true(f->s->peer || qid.type == QTSYMLINK);
    target = g_file_read_link(path, NULL);
    g_assert_cmpstr(target, ==, "../any where");
    g_assert_cmpint(client_symlink(f->c, ROOT_FID, "link", "x", NULL), ==, EEXIST);
    g_assert_cmpint(client_symlink(f->c, ROOT_FID, "empty", "", NULL), >, 0);
}

static void link_makes(struct fixture *f, gconstpointer data)
{
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "x");
    make_dir(f->s, "dir");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_link(f->c, walk_new(f->c, "dir"), fid, "second"), ==, 0);
    g_assert_cmpuint(ino_of(f, "dir/second"), ==, ino_of(f, "file"));
    g_assert_cmpuint(id_of(f, "dir/second"), ==, id_of(f, "file"));
    g_assert_cmpint(client_link(f->c, ROOT_FID, fid, "file"), ==, EEXIST);
    g_assert_cmpint(client_link(f->c, ROOT_FID, walk_new(f->c, "dir"), "d2"), >, 0);
}

static void link_of_a_symlink(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "link");

    (void)data;
    make_file(f->s, "file", "x");
    g_assert_cmpint(symlink("file", path), ==, 0);
    g_assert_cmpint(client_link(f->c, ROOT_FID, walk_new(f->c, "link"), "link2"), ==, 0);
    g_assert_cmpuint(ino_of(f, "link2"), ==, ino_of(f, "link"));
}

static void renameat_moves(struct fixture *f, gconstpointer data)
{
    guint32 a, b;
    guint64 id;

    (void)data;
    make_dir(f->s, "a");
    make_dir(f->s, "b");
    make_file(f->s, "a/file", "x");
    make_file(f->s, "b/old", "y");
    a = walk_new(f->c, "a");
    b = walk_new(f->c, "b");
    id = id_of(f, "a/file");
    g_assert_cmpint(client_renameat(f->c, a, "file", b, "old"), ==, 0);
    g_assert_false(exists(f, "a/file"));
    g_assert_cmpuint(id_of(f, "b/old"), ==, id);
    g_assert_cmpint(client_renameat(f->c, a, "none", b, "x"), ==, ENOENT);
    g_assert_cmpint(client_renameat(f->c, ROOT_FID, "a", a, "below-itself"), ==, EINVAL);
    g_assert_cmpint(client_renameat(f->c, ROOT_FID, "a", ROOT_FID, "b"), ==, ENOTEMPTY);
}

static void rename_moves_the_fid(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;
    guint64 id;
    guint32 fid;

    (void)data;
    make_dir(f->s, "dir");
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    id = id_of(f, "file");
    g_assert_cmpint(client_rename(f->c, fid, walk_new(f->c, "dir"), "moved"), ==, 0);
    g_assert_false(exists(f, "file"));
    g_assert_cmpuint(id_of(f, "dir/moved"), ==, id);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, id);
    /* again through the same fid: it knows its new name */
    g_assert_cmpint(client_rename(f->c, fid, ROOT_FID, "back"), ==, 0);
    g_assert_true(exists(f, "back"));
    g_assert_cmpint(client_rename(f->c, ROOT_FID, walk_new(f->c, "dir"), "root"), >, 0);
}

static void unlinkat_removes(struct fixture *f, gconstpointer data)
{
    (void)data;
    make_dir(f->s, "dir");
    make_file(f->s, "dir/file", "x");
    make_file(f->s, "file", "x");
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "file", 0), ==, 0);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "file", 0), ==, ENOENT);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "dir", 0), ==, EISDIR);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "dir", AT_REMOVEDIR), ==, ENOTEMPTY);
    g_assert_cmpint(client_unlinkat(f->c, walk_new(f->c, "dir"), "file", AT_REMOVEDIR), ==,
                    ENOTDIR);
    g_assert_cmpint(client_unlinkat(f->c, walk_new(f->c, "dir"), "file", 0), ==, 0);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "dir", AT_REMOVEDIR), ==, 0);
    g_assert_false(exists(f, "dir"));
    make_file(f->s, "file", "x");
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "file", 0xffffffffu), >, 0);
}

static void remove_takes_the_fid(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;
    guint32 file, dir, full;

    (void)data;
    make_file(f->s, "file", "x");
    make_dir(f->s, "dir");
    make_dir(f->s, "full");
    make_file(f->s, "full/file", "x");
    file = walk_new(f->c, "file");
    dir = walk_new(f->c, "dir");
    full = walk_new(f->c, "full");
    g_assert_cmpint(client_remove(f->c, file), ==, 0);
    g_assert_false(exists(f, "file"));
    g_assert_cmpint(client_getattr(f->c, file, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_cmpint(client_remove(f->c, dir), ==, 0);
    g_assert_false(exists(f, "dir"));
    /* the fid is gone even where the removal failed */
    g_assert_cmpint(client_remove(f->c, full), ==, ENOTEMPTY);
    g_assert_cmpint(client_getattr(f->c, full, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_true(exists(f, "full/file"));
}

/* Tremove of a fid whose name now belongs to another file must not remove that one. */
static void remove_of_a_replaced_name(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "mine");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(g_unlink(path), ==, 0);
    make_file(f->s, "keep", "theirs");
    g_assert_cmpint(client_renameat(f->c, ROOT_FID, "keep", ROOT_FID, "file"), ==, 0);
    if (skip_for_peer(f->s, "diod removes by path"))
        return;
    g_assert_cmpint(client_remove(f->c, fid), >, 0);
    g_assert_true(exists(f, "file"));
}

enum made {
    MADE_HERE,
    MADE_MOVED,
    MADE_REPLACED,
    MADE_LINKED,
    MADE_CROSSED,
    MADE_DIR_GONE,
    MADE_DIR_MOVED
};

static void remove_made(struct fixture *f, enum made what)
{
    g_autofree char *at = g_strdup_printf("d%u", what), *made = g_strdup_printf("%s/made", at);
    g_autofree char *other = g_strdup_printf("%s/other", at), *away = g_strdup_printf("e%u", what);
    g_autofree char *gone = g_strdup_printf("%s/made", away);
    g_autofree char *made_path = server_path(f->s, made), *other_path = server_path(f->s, other);
    guint32 dir, fid = client_fid(f->c);

    make_dir(f->s, at);
    dir = walk_new(f->c, at);
    g_assert_cmpint(client_walk_path(f->c, dir, fid, "", NULL), ==, 0);
    if (what == MADE_DIR_GONE) /* who makes it is the only one who has the directory */
        g_assert_cmpint(client_clunk(f->c, dir), ==, 0);
    g_assert_cmpint(client_lcreate(f->c, fid, "made", L_RDWR, 0644, NULL), ==, 0);
    if (what == MADE_MOVED || what == MADE_REPLACED)
        g_assert_cmpint(g_rename(made_path, other_path), ==, 0);
    if (what == MADE_LINKED)
        g_assert_cmpint(link(made_path, other_path), ==, 0);
    if (what == MADE_CROSSED) { /* the fid's name is another, and its first one a link's */
        g_autofree char *third = server_path(f->s, "third");

        g_assert_cmpint(link(made_path, third), ==, 0);
        g_assert_cmpint(g_rename(made_path, other_path), ==, 0);
        g_assert_cmpint(g_rename(third, made_path), ==, 0);
    }
    if (what == MADE_DIR_MOVED) {
        g_assert_cmpint(client_renameat(f->c, ROOT_FID, at, ROOT_FID, away), ==, 0);
        make_dir(f->s, at);
    }
    if (what == MADE_REPLACED || what == MADE_DIR_MOVED)
        make_file(f->s, made, "theirs");
    g_assert_cmpint(client_remove(f->c, fid), ==, 0);
    g_assert_cmpint(exists(f, made), ==,
                    what == MADE_REPLACED || what == MADE_CROSSED || what == MADE_DIR_MOVED);
    g_assert_cmpint(exists(f, other), ==, what == MADE_LINKED);
    g_assert_false(exists(f, gone));
}

/* Tremove by the fid that made the file: that file, wherever it is now, and nothing else. */
static void remove_of_what_was_made(struct fixture *f, gconstpointer data)
{
    (void)data;
    if (skip_for_peer(f->s, "diod removes by path"))
        return;
    for (enum made what = MADE_HERE; what <= MADE_DIR_MOVED; what++)
        remove_made(f, what);
}

static void root_cannot_be_removed(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(client_remove(f->c, walk_new(f->c, "")), >, 0);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, ".", AT_REMOVEDIR), >, 0);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "..", AT_REMOVEDIR), >, 0);
    g_assert_true(g_file_test(f->s->dir, G_FILE_TEST_IS_DIR));
}

static void bad_names_everywhere(struct fixture *f, gconstpointer data)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/abs", "dir/../x", "x/"};
    guint32 fid;

    (void)data;
    make_dir(f->s, "dir");
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    if (skip_for_peer(f->s, "diod passes some names on"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(client_mkdir(f->c, ROOT_FID, bad[i], 0755, NULL), >, 0);
        g_assert_cmpint(client_mknod(f->c, ROOT_FID, bad[i], S_IFIFO, 0, 0, NULL), >, 0);
        g_assert_cmpint(client_symlink(f->c, ROOT_FID, bad[i], "t", NULL), >, 0);
        g_assert_cmpint(client_link(f->c, ROOT_FID, fid, bad[i]), >, 0);
        g_assert_cmpint(client_rename(f->c, fid, ROOT_FID, bad[i]), >, 0);
        g_assert_cmpint(client_renameat(f->c, ROOT_FID, "file", ROOT_FID, bad[i]), >, 0);
        g_assert_cmpint(client_renameat(f->c, ROOT_FID, bad[i], ROOT_FID, "n"), >, 0);
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, bad[i], 0), >, 0);
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, bad[i], AT_REMOVEDIR), >, 0);
    }
    g_assert_true(exists(f, "file"));
    g_assert_true(exists(f, "dir"));
}

static void names_are_bytes(struct fixture *f, gconstpointer data)
{
    static const char *const names[] = {"\xff\xfe", "sp ace", "new\nline",
                                        "-rf",      "a\\b",   "\xc3\xa4"};

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_cmpint(client_mkdir(f->c, ROOT_FID, names[i], 0755, NULL), ==, 0);
        g_assert_true(exists(f, names[i]));
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, names[i], AT_REMOVEDIR), ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/name/mkdir", mkdir_makes);
    FIXTURE_TEST("/name/mknod", mknod_makes);
    FIXTURE_TEST("/name/symlink", symlink_makes);
    FIXTURE_TEST("/name/link", link_makes);
    FIXTURE_TEST("/name/link-of-symlink", link_of_a_symlink);
    FIXTURE_TEST("/name/renameat", renameat_moves);
    FIXTURE_TEST("/name/rename", rename_moves_the_fid);
    FIXTURE_TEST("/name/unlinkat", unlinkat_removes);
    FIXTURE_TEST("/name/remove", remove_takes_the_fid);
    FIXTURE_TEST("/name/remove-replaced", remove_of_a_replaced_name);
    FIXTURE_TEST("/name/remove-made", remove_of_what_was_made);
    FIXTURE_TEST("/name/root", root_cannot_be_removed);
    FIXTURE_TEST("/name/bad-names", bad_names_everywhere);
    FIXTURE_TEST("/name/bytes", names_are_bytes);
    return g_test_run();
}
