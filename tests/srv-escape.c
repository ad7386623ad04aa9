/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: no message reaches anything outside the export: not by symbolic links, not by names, not
 * by races of rename and symlink, not through devices; and the store is never inside.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char secret[] = "the secret outside";

struct outside {
    char *dir, *file;
};

/* a directory beside the export, with a file in it, and links to both inside the export */
static struct outside make_outside(struct fixture *f)
{
    struct outside o = {g_build_filename(f->s->tmp, "outside", NULL), NULL};
    g_autofree char *to_dir = server_path(f->s, "to-dir"), *to_file = server_path(f->s, "to-file");
    g_autofree char *relative = server_path(f->s, "relative");

    o.file = g_build_filename(o.dir, "file", NULL);
    g_assert_cmpint(g_mkdir(o.dir, 0777), ==, 0);
    g_assert_true(g_file_set_contents(o.file, secret, -1, NULL));
    g_assert_cmpint(symlink(o.dir, to_dir), ==, 0);
    g_assert_cmpint(symlink(o.file, to_file), ==, 0);
    g_assert_cmpint(symlink("../outside/file", relative), ==, 0);
    return o;
}

static void check_outside(struct outside *o)
{
    g_autofree char *text = NULL;
    struct stat st;

    g_assert_true(g_file_get_contents(o->file, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, secret);
    g_assert_cmpint(stat(o->dir, &st), ==, 0);
    g_assert_cmpuint(st.st_nlink, ==, 2);
    {
        g_autoptr(GDir) dir = g_dir_open(o->dir, 0, NULL);
        guint n = 0;

        while (g_dir_read_name(dir) != NULL)
            n++;
        g_assert_cmpuint(n, ==, 1);
    }
    g_free(o->dir);
    g_free(o->file);
}

static void walk_does_not_follow(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"to-dir", "file", NULL};
    struct outside o = make_outside(f);
    struct client_qid qids[16];
    guint n = 0;

    (void)data;
    if (!skip_for_peer(f->s, "diod follows")) {
        g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, names, &n, qids), ==, 0);
        g_assert_cmpuint(n, ==, 1);
        g_assert_cmpuint(qids[0].type, ==, QTSYMLINK);
        g_assert_cmpint(
            client_walk(f->c, walk_new(f->c, "to-dir"), client_fid(f->c), names + 1, &n, qids), ==,
            ENOTDIR);
    }
    check_outside(&o);
}

static void open_does_not_follow(struct fixture *f, gconstpointer data)
{
    static const guint32 flags[] = {L_RDONLY, L_WRONLY, L_RDWR | L_TRUNC, L_RDONLY | L_DIRECTORY};
    struct outside o = make_outside(f);

    (void)data;
    if (!skip_for_peer(f->s, "diod follows")) {
        for (guint i = 0; i < G_N_ELEMENTS(flags); i++) {
            g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "to-file"), flags[i], NULL), >, 0);
            g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "relative"), flags[i], NULL), >, 0);
            g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "to-dir"), flags[i], NULL), >, 0);
        }
    }
    check_outside(&o);
}

static void create_does_not_follow(struct fixture *f, gconstpointer data)
{
    struct outside o = make_outside(f);
    g_autofree char *dangling = server_path(f->s, "dangling"), *target = NULL;
    guint32 fid, n;

    (void)data;
    target = g_build_filename(f->s->tmp, "outside", "made", NULL);
    g_assert_cmpint(symlink(target, dangling), ==, 0);
    if (!skip_for_peer(f->s, "diod follows")) {
        g_assert_cmpint(client_lcreate(f->c, walk_new(f->c, ""), "dangling", L_RDWR, 0644, NULL), >,
                        0);
        fid = walk_new(f->c, "");
        if (client_lcreate(f->c, fid, "to-file", L_RDWR | L_TRUNC, 0644, NULL) == 0)
            client_write(f->c, fid, 0, 1, "X", &n);
        fid = walk_new(f->c, "to-dir");
        g_assert_cmpint(client_lcreate(f->c, fid, "made", L_RDWR, 0644, NULL), >, 0);
        g_assert_cmpint(client_mkdir(f->c, fid, "made", 0755, NULL), >, 0);
        g_assert_cmpint(client_mknod(f->c, fid, "made", S_IFIFO | 0644, 0, 0, NULL), >, 0);
        g_assert_cmpint(client_symlink(f->c, fid, "made", "x", NULL), >, 0);
        g_assert_cmpint(client_unlinkat(f->c, fid, "file", 0), >, 0);
        g_assert_cmpint(client_renameat(f->c, fid, "file", ROOT_FID, "stolen"), >, 0);
        make_file(f->s, "mine", "x");
        g_assert_cmpint(client_link(f->c, fid, walk_new(f->c, "mine"), "made"), >, 0);
        g_assert_cmpint(client_rename(f->c, walk_new(f->c, "mine"), fid, "made"), >, 0);
    }
    check_outside(&o);
}

static void attributes_do_not_follow(struct fixture *f, gconstpointer data)
{
    struct client_attr attr = {.mode = 0777, .size = 0, .uid = 1, .gid = 1, .mtime = 1};
    struct outside o = make_outside(f);
    struct stat before, after;
    guint32 fid = walk_new(f->c, "to-file");
    gboolean attributes = setxattr(o.file, "user.outside", "1", 1, 0) == 0;

    (void)data;
    g_assert_cmpint(stat(o.file, &before), ==, 0);
    if (!skip_for_peer(f->s, "diod follows")) {
        guint64 size;
        char raw[8];

        g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &attr), >, 0);
        client_setattr(f->c, fid, SETATTR_MODE, &attr);
        client_setattr(f->c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr);
        if (geteuid() == 0)
            client_setattr(f->c, fid, SETATTR_UID | SETATTR_GID, &attr);
        g_assert_cmpint(client_xattrwalk(f->c, fid, client_fid(f->c), "user.outside", &size), >, 0);
        g_assert_cmpint(client_setxattr(f->c, fid, "user.put", "1", 1, 0), >, 0);
        g_assert_cmpint(stat(o.file, &after), ==, 0);
        g_assert_cmpuint(after.st_mode, ==, before.st_mode);
        g_assert_cmpuint(after.st_uid, ==, before.st_uid);
        g_assert_cmpint(after.st_mtim.tv_sec, ==, before.st_mtim.tv_sec);
        g_assert_cmpint(after.st_mtim.tv_nsec, ==, before.st_mtim.tv_nsec);
        if (attributes)
            g_assert_cmpint(getxattr(o.file, "user.put", raw, sizeof raw), <, 0);
    }
    check_outside(&o);
}

/* A node that means a device of the host: the guest's kernel opens devices itself, never through
 * the server, and neither may a client that is no kernel. */
static void devices_are_not_opened(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "zero");
    g_autoptr(GByteArray) bytes = NULL;
    guint32 fid;

    (void)data;
    if (skip_unless_root() || skip_for_peer(f->s, "diod opens them"))
        return;
    g_assert_cmpint(mknod(path, S_IFCHR | 0666, makedev(1, 5)), ==, 0);
    fid = walk_new(f->c, "zero");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), >, 0);
    g_assert_cmpint(client_read(f->c, fid, 0, 10, &bytes), >, 0);
    g_assert_cmpint(client_lcreate(f->c, walk_new(f->c, ""), "zero", L_RDWR, 0666, NULL), >, 0);
}

/* `..` of a directory that was moved out of the export while a fid is on it. */
static void moved_out_does_not_lead_out(struct fixture *f, gconstpointer data)
{
    struct outside o = make_outside(f);
    g_autofree char *in = server_path(f->s, "dir"),
                    *out = g_build_filename(f->s->tmp, "moved", NULL);
    const char *up[] = {"..", "outside", "file", NULL};
    struct client_qid qids[16];
    guint32 fid, leaf;
    guint n = 0;
    int rc;

    (void)data;
    if (!skip_for_peer(f->s, "diod walks path strings")) {
        make_dir(f->s, "dir");
        make_dir(f->s, "dir/sub");
        fid = walk_new(f->c, "dir");
        leaf = walk_new(f->c, "dir/sub");
        g_assert_cmpint(g_rename(in, out), ==, 0);
        rc = client_walk(f->c, fid, client_fid(f->c), up, &n, qids);
        g_assert_true(rc > 0 || n <= 1);
        rc = client_walk(f->c, leaf, client_fid(f->c),
                         (const char *[]){"..", "..", "outside", NULL}, &n, qids);
        g_assert_true(rc > 0 || n <= 2);
    }
    check_outside(&o);
}

/* The root of the export is moved below a new directory of its old name: by the paths that the
 * kernel tells it is then a name below itself, and must still be where `..` ends. */
static void moved_root_is_the_end(struct fixture *f, gconstpointer data)
{
    g_autofree char *away = g_build_filename(f->s->tmp, "away", NULL),
                    *inner = g_build_filename(f->s->dir, "inner", NULL);
    const char *up[] = {"..", "..", "..", "..", "..", NULL};
    struct client_qid root, qids[16];
    guint32 fids[4];
    guint n = 0;

    (void)data;
    if (skip_for_peer(f->s, "diod walks path strings"))
        return;
    make_dir(f->s, "dir");
    make_dir(f->s, "dir/a");
    make_dir(f->s, "dir/a/b");
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, client_fid(f->c), "..", &root), ==, 0);
    fids[0] = walk_new(f->c, "");
    fids[1] = walk_new(f->c, "dir");
    fids[2] = walk_new(f->c, "dir/a");
    fids[3] = walk_new(f->c, "dir/a/b");
    g_assert_cmpint(g_rename(f->s->dir, away), ==, 0);
    g_assert_cmpint(g_mkdir(f->s->dir, 0777), ==, 0);
    g_assert_cmpint(g_rename(away, inner), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(fids); i++) {
        g_assert_cmpint(client_walk(f->c, fids[i], client_fid(f->c), up, &n, qids), ==, 0);
        g_assert_cmpuint(n, ==, 5);
        for (guint j = 0; j < n; j++)
            g_assert_true((qids[j].path == root.path) == (j + 1 >= i));
    }
    g_assert_cmpint(g_rename(inner, away), ==, 0);
    g_assert_cmpint(g_rmdir(f->s->dir), ==, 0);
    g_assert_cmpint(g_rename(away, f->s->dir), ==, 0);
}

/* ---- the race ---- */

struct swapper {
    char *name, *dir, *link;
    gint stop;
    gint rounds; /* atomic */
};

/* exchanges a directory with a symbolic link to the outside, as fast as it can */
static gpointer swap(gpointer data)
{
    struct swapper *w = data;

    while (!g_atomic_int_get(&w->stop)) {
        if (renameat2(AT_FDCWD, w->name, AT_FDCWD, w->link, RENAME_EXCHANGE) != 0)
            break;
        g_atomic_int_inc(&w->rounds);
    }
    return NULL;
}

static void races_do_not_lead_out(struct fixture *f, gconstpointer data)
{
    struct outside o = make_outside(f);
    struct swapper w = {.name = server_path(f->s, "dir"), .link = server_path(f->s, "swap")};
    gint64 end = g_get_monotonic_time() + 3 * G_TIME_SPAN_SECOND;
    gint64 deadline = end + 60 * G_TIME_SPAN_SECOND;
    guint inside = 0, tries = 0;
    GThread *thread;

    (void)data;
    if (skip_for_peer(f->s, "diod loses it"))
        goto out;
    make_dir(f->s, "dir");
    make_file(f->s, "dir/file", "inside");
    g_assert_cmpint(symlink(o.dir, w.link), ==, 0);
    thread = g_thread_new("swap", swap, &w);
    /* on a busy machine longer, until both have had their turns */
    while (g_get_monotonic_time() < end || ((inside == 0 || g_atomic_int_get(&w.rounds) <= 100) &&
                                            g_get_monotonic_time() < deadline)) {
        guint32 fid = client_fid(f->c), n;

        tries++;
        if (client_walk_path(f->c, ROOT_FID, fid, "dir/file", NULL) == 0) {
            if (client_lopen(f->c, fid, L_RDWR, NULL) == 0) {
                g_autoptr(GByteArray) bytes = NULL;

                g_assert_cmpint(client_read(f->c, fid, 0, 100, &bytes), ==, 0);
                g_assert_cmpmem(bytes->data, bytes->len, "inside", 6);
                client_write(f->c, fid, 0, 6, "inside", &n);
                inside++;
            }
            client_clunk(f->c, fid);
        }
        fid = client_fid(f->c);
        if (client_walk_path(f->c, ROOT_FID, fid, "dir", NULL) == 0) {
            client_mkdir(f->c, fid, "made", 0755, NULL);
            client_unlinkat(f->c, fid, "made", AT_REMOVEDIR);
            client_clunk(f->c, fid);
        }
    }
    g_atomic_int_set(&w.stop, 1);
    g_thread_join(thread);
    g_test_message("%u tries, %u opened inside, %d exchanges", tries, inside, w.rounds);
    g_assert_cmpint(w.rounds, >, 100);
    g_assert_cmpuint(inside, >, 0);
out:
    g_free(w.name);
    g_free(w.link);
    check_outside(&o);
}

/* The store's directory below the export: refused at the start, or at least not to be reached. */
static void store_is_not_served(void)
{
    struct server *s = server_new("memory:", NULL);
    struct client *c;

    if (!skip_for_peer(s, "stores are ours")) {
        g_free(s->store);
        s->store = g_strdup_printf("lmdb:%s/store", s->dir);
        if (server_start(s)) {
            c = server_client(s);
            g_assert_cmpint(client_walk_path(c, ROOT_FID, 2, "store", NULL), >, 0);
            client_close(c);
            g_assert_cmpint(server_terminate(s), ==, 0);
        } else {
            int status = server_wait(s);

            g_assert_cmpint(status, !=, 0);
        }
    }
    server_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/escape/walk", walk_does_not_follow);
    FIXTURE_TEST("/escape/open", open_does_not_follow);
    FIXTURE_TEST("/escape/create", create_does_not_follow);
    FIXTURE_TEST("/escape/attributes", attributes_do_not_follow);
    FIXTURE_TEST("/escape/devices", devices_are_not_opened);
    FIXTURE_TEST("/escape/moved-out", moved_out_does_not_lead_out);
    FIXTURE_TEST("/escape/moved-root", moved_root_is_the_end);
    FIXTURE_TEST("/escape/race", races_do_not_lead_out);
    g_test_add_func("/escape/store", store_is_not_served);
    return g_test_run();
}
