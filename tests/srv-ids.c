/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: with an lmdb: store every id is the same after a stop and after kill -9, whatever is
 * asked for first; ids of several filesystems below one export never meet.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 60

static void tree(struct server *s)
{
    for (guint i = 0; i < FILES; i++) {
        g_autofree char *dir = g_strdup_printf("d%u", i % 6), *path = server_path(s, dir);
        g_autofree char *file = g_strdup_printf("d%u/f%u", i % 6, i);

        g_mkdir(path, 0755);
        make_file(s, file, "x");
    }
}

/* the ids of all files, asked for from the first or from the last */
static void ids(struct server *s, guint64 *got, gboolean backwards)
{
    struct client *c = server_client(s);

    for (guint n = 0; n < FILES; n++) {
        guint i = backwards ? FILES - 1 - n : n;
        g_autofree char *file = g_strdup_printf("d%u/f%u", i % 6, i);
        struct client_qid qid;

        g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), file, &qid), ==, 0);
        got[i] = qid.path;
    }
    client_close(c);
}

static void all_different(const guint64 *got, guint n)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < n; i++)
        g_assert_true(g_hash_table_add(seen, (gpointer)&got[i]));
}

static struct server *start_lmdb(void)
{
    struct server *s = server_new("lmdb:", NULL);

    tree(s);
    g_assert_true(server_start(s));
    return s;
}

static void same_after_sigterm(void)
{
    struct server *s = start_lmdb();
    guint64 first[FILES], second[FILES];

    ids(s, first, FALSE);
    all_different(first, FILES);
    g_assert_cmpint(server_terminate(s), ==, 0);
    g_assert_true(server_start(s));
    ids(s, second, TRUE);
    g_assert_cmpmem(first, sizeof first, second, sizeof second);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static void same_after_kill(void)
{
    struct server *s = start_lmdb();
    guint64 first[FILES], second[FILES];

    ids(s, first, FALSE);
    for (guint round = 0; round < 5; round++) {
        struct client *c = server_client(s);

        /* dies with requests under way */
        for (guint i = 0; i < 50 * round; i++)
            client_post(c, TGETATTR, "dq", ROOT_FID, GETATTR_ALL);
        server_kill(s);
        client_close(c);
        g_assert_true(server_start(s));
        ids(s, second, round % 2 == 0);
        g_assert_cmpmem(first, sizeof first, second, sizeof second);
    }
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* A file that takes the place of another has another inode, hence another id; hard links share. */
static void id_follows_the_inode(struct fixture *f, gconstpointer data)
{
    g_autofree char *a = server_path(f->s, "a"), *b = server_path(f->s, "b");
    struct client_qid qa, qb;
    guint64 hold;

    (void)data;
    make_file(f->s, "a", "x");
    make_file(f->s, "other", "x");
    g_assert_cmpint(link(a, b), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 2, "a", &qa), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 3, "b", &qb), ==, 0);
    g_assert_cmpuint(qa.path, ==, qb.path);
    hold = qa.path;
    g_assert_cmpint(client_rpc(f->c, TRENAME, "dds", 2u, ROOT_FID, "c", ""), ==, 0);
    make_file(f->s, "a", "y");
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 4, "a", &qa), ==, 0);
    g_assert_cmpuint(qa.path, !=, hold);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 5, "c", &qb), ==, 0);
    g_assert_cmpuint(qb.path, ==, hold);
}

static void two_connections_agree(struct fixture *f, gconstpointer data)
{
    guint64 first[FILES], second[FILES];

    (void)data;
    tree(f->s);
    ids(f->s, first, FALSE);
    ids(f->s, second, TRUE);
    g_assert_cmpmem(first, sizeof first, second, sizeof second);
}

/* ---- several filesystems: tmpfs in a mount namespace of this test ---- */

static gboolean own_mounts(void)
{
    if (skip_unless_root())
        return FALSE;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        g_test_skip("no mounts allowed");
        return FALSE;
    }
    return TRUE;
}

static void mount_tmpfs(struct server *s, const char *name, guint files)
{
    g_autofree char *path = server_path(s, name);

    g_mkdir(path, 0755);
    g_assert_cmpint(mount("tmpfs", path, "tmpfs", 0, "size=1m"), ==, 0);
    for (guint i = 0; i < files; i++) {
        g_autofree char *file = g_strdup_printf("%s/f%u", name, i);
        make_file(s, file, "x");
    }
}

static void umount_tmpfs(struct server *s, const char *name)
{
    g_autofree char *path = server_path(s, name);

    umount2(path, MNT_DETACH);
}

/* readdir, walk and getattr of the whole export agree, and no id comes twice */
static guint collect(struct client *c, guint32 fid, GHashTable *seen)
{
    g_autoptr(GPtrArray) entries = NULL;
    guint n = 0;

    g_assert_cmpint(client_readdir_all(c, fid, 8000, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *e = entries->pdata[i];
        struct client_qid qid;
        struct client_attr attr;
        guint32 child = client_fid(c);
        guint64 *key;

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            continue;
        g_assert_cmpint(client_walk_path(c, fid, child, e->name, &qid), ==, 0);
        g_assert_cmpint(client_getattr(c, child, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(e->qid.path, ==, qid.path);
        g_assert_cmpuint(attr.qid.path, ==, qid.path);
        key = g_new(guint64, 1);
        *key = qid.path;
        g_assert_true(g_hash_table_add(seen, key));
        n++;
        if (qid.type & QTDIR)
            n += collect(c, child, seen);
        g_assert_cmpint(client_clunk(c, child), ==, 0);
    }
    return n;
}

static void filesystems_never_meet(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct server *s;
    struct client *c;

    if (!own_mounts())
        return;
    s = server_new("memory:", NULL);
    tree(s);
    mount_tmpfs(s, "m1", 50);
    mount_tmpfs(s, "m2", 50);
    mount_tmpfs(s, "m3", 50);
    g_assert_true(server_start(s));
    c = server_client(s);
    g_assert_cmpuint(collect(c, ROOT_FID, seen), ==, FILES + 6 + 3 + 150);
    client_close(c);
    umount_tmpfs(s, "m1");
    umount_tmpfs(s, "m2");
    umount_tmpfs(s, "m3");
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* Mounted while the server runs: seen, with ids of its own. */
static void late_mount(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct server *s;
    struct client *c;

    if (!own_mounts())
        return;
    s = server_new("memory:", NULL);
    mount_tmpfs(s, "m1", 10);
    g_assert_true(server_start(s));
    c = server_client(s);
    g_assert_cmpuint(collect(c, ROOT_FID, seen), ==, 11);
    client_close(c);
    mount_tmpfs(s, "m2", 10);
    g_hash_table_remove_all(seen);
    c = server_client(s);
    g_assert_cmpuint(collect(c, ROOT_FID, seen), ==, 22);
    client_close(c);
    umount_tmpfs(s, "m1");
    umount_tmpfs(s, "m2");
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* multidevs=forbid: what lies on another filesystem is refused, and not listed. */
static void forbid_hides_others(void)
{
    const char *extra[] = {"--multidevs", "forbid", NULL};
    g_autoptr(GPtrArray) entries = NULL;
    struct server *s;
    struct client *c;

    if (!own_mounts())
        return;
    s = server_new("memory:", extra);
    mount_tmpfs(s, "m1", 10);
    make_file(s, "file", "x");
    g_assert_true(server_start(s));
    c = server_client(s);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), "m1", NULL), >, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), "file", NULL), ==, 0);
    g_assert_cmpint(client_readdir_all(c, ROOT_FID, 8000, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++)
        g_assert_cmpstr(((struct client_dirent *)entries->pdata[i])->name, !=, "m1");
    client_close(c);
    umount_tmpfs(s, "m1");
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* multidevs=warn: the raw inode number, for comparison and for those who want just that. */
static void warn_gives_raw_inodes(void)
{
    const char *extra[] = {"--multidevs", "warn", NULL};
    struct server *s = server_new("memory:", extra);
    g_autofree char *path = server_path(s, "file");
    struct client_qid qid;
    struct client *c;
    struct stat st;

    if (!skip_for_peer(s, "options are ours")) {
        make_file(s, "file", "x");
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_true(server_start(s));
        c = server_client(s);
        g_assert_cmpint(client_walk_path(c, ROOT_FID, client_fid(c), "file", &qid), ==, 0);
        g_assert_cmpuint(qid.path, ==, st.st_ino);
        client_close(c);
        g_assert_cmpint(server_terminate(s), ==, 0);
    }
    server_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ids/sigterm", same_after_sigterm);
    g_test_add_func("/ids/kill", same_after_kill);
    FIXTURE_TEST("/ids/inode", id_follows_the_inode);
    FIXTURE_TEST("/ids/two-connections", two_connections_agree);
    g_test_add_func("/ids/warn", warn_gives_raw_inodes);
    g_test_add_func("/ids/filesystems", filesystems_never_meet);
    g_test_add_func("/ids/late-mount", late_mount);
    g_test_add_func("/ids/forbid", forbid_hides_others);
    return g_test_run();
}
