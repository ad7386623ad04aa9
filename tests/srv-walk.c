/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: Twalk gives one qid for each name, stops at the first name that is not there without
 * making the new fid, never goes above the export, and refuses names that are none.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <string.h>

static void tree(struct fixture *f)
{
    make_dir(f->s, "a");
    make_dir(f->s, "a/b");
    make_dir(f->s, "a/b/c");
    make_file(f->s, "a/b/c/file", "x");
    make_file(f->s, "file", "y");
}

static void whole_walk(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"a", "b", "c", "file", NULL};
    struct client_qid qids[16];
    struct client_attr attr;
    guint n = 0;

    (void)data;
    tree(f);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, names, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 4);
    g_assert_cmpuint(qids[0].type, ==, QTDIR);
    g_assert_cmpuint(qids[3].type, ==, QTFILE);
    for (guint i = 0; i < n; i++) {
        g_assert_true(f->s->peer || qids[i].version != 0);
        for (guint j = 0; j < i; j++)
            g_assert_cmpuint(qids[i].path, !=, qids[j].path);
    }
    g_assert_cmpint(client_getattr(f->c, 2, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, qids[3].path);
    g_assert_cmpuint(attr.size, ==, 1);
}

static void partial_walk(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"a", "b", "none", "file", NULL};
    struct client_qid qids[16];
    struct client_attr attr;
    guint n = 0;

    (void)data;
    tree(f);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, names, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(client_getattr(f->c, 2, GETATTR_BASIC, &attr), ==, EBADF);
    /* through a file */
    names[0] = "file";
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, names, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpint(client_getattr(f->c, 2, GETATTR_BASIC, &attr), ==, EBADF);
}

static void first_name_missing(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"none", "b", NULL};
    struct client_qid qids[16];
    guint n = 0;

    (void)data;
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, names, &n, qids), ==, ENOENT);
}

static void from_a_file(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"x", NULL};
    struct client_qid qids[16];
    guint32 fid;
    guint n;

    (void)data;
    tree(f);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_walk(f->c, fid, client_fid(f->c), names, &n, qids), ==, ENOTDIR);
}

static void clone_is_independent(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;
    guint32 fid = walk_new(f->c, "");

    (void)data;
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
}

static void dotdot_stops_at_the_root(struct fixture *f, gconstpointer data)
{
    const char *up[] = {"..", "..", "..", NULL};
    const char *down_up[] = {"a", "b", "..", "..", "..", "a", NULL};
    struct client_attr root;
    struct client_qid qids[16], a;
    guint n = 0;

    (void)data;
    tree(f);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &root), ==, 0);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, up, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 3);
    for (guint i = 0; i < n; i++)
        g_assert_cmpuint(qids[i].path, ==, root.qid.path);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 3, "a", &a), ==, 0);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 4, down_up, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 6);
    g_assert_cmpuint(qids[2].path, ==, a.path);
    g_assert_cmpuint(qids[3].path, ==, root.qid.path);
    g_assert_cmpuint(qids[4].path, ==, root.qid.path);
    g_assert_cmpuint(qids[5].path, ==, a.path);
}

static void dotdot_follows_a_move(struct fixture *f, gconstpointer data)
{
    struct client_qid qid, other;
    guint32 c;
    guint32 b, o;

    (void)data;
    tree(f);
    make_dir(f->s, "other");
    c = walk_new(f->c, "a/b/c");
    b = walk_new(f->c, "a/b");
    o = walk_new(f->c, "other");
    g_assert_cmpint(client_renameat(f->c, b, "c", o, "c2"), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, c, client_fid(f->c), "..", &qid), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, client_fid(f->c), "other", &other), ==, 0);
    g_assert_cmpuint(qid.path, ==, other.path);
}

static void bad_names(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *name;
        gsize len;
    } bad[] = {{"/", 1},    {"a/b", 3}, {"/etc", 4}, {"a/", 2}, {"../x", 4},
               {"a\0b", 3}, {"\0", 1},  {"", 0},     {".", 1},  {"./a", 3}};
    g_autofree char *longest = g_strnfill(256, 'n');

    (void)data;
    tree(f);
    if (skip_for_peer(f->s, "diod passes some names on"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        guint n = 0;
        struct client_qid qids[16];
        int rc = client_rpc(f->c, TWALK, "ddwS", ROOT_FID, 2u, 1, bad[i].len, bad[i].name, "A", &n,
                            qids);

        g_assert_cmpint(rc, >, 0);
        g_assert_cmpint(client_getattr(f->c, 2, GETATTR_BASIC, &(struct client_attr){0}), ==,
                        EBADF);
    }
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 2, longest, NULL), ==, ENAMETOOLONG);
}

static void too_many_names(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    struct client_qid qids[16];
    guint n;
    int rc;

    (void)data;
    for (guint i = 0; i < 16; i++)
        g_ptr_array_add(names, (gpointer) "..");
    g_ptr_array_add(names, NULL);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, 2, (const char *const *)names->pdata, &n, qids), ==,
                    0);
    g_assert_cmpuint(n, ==, 16);
    names->pdata[16] = (gpointer) "..";
    g_ptr_array_add(names, NULL);
    rc = client_walk(f->c, ROOT_FID, 3, (const char *const *)names->pdata, &n, qids);
    g_assert_true(rc > 0 || rc == CLIENT_EOF);
}

static void newfid_in_use(struct fixture *f, gconstpointer data)
{
    guint32 fid = walk_new(f->c, "");
    struct client_qid qids[16];
    struct client_attr attr;
    guint n;

    (void)data;
    tree(f);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, fid, NULL, &n, qids), >, 0);
    g_assert_cmpint(client_walk(f->c, ROOT_FID, NOFID, NULL, &n, qids), >, 0);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
}

static void newfid_same_moves(struct fixture *f, gconstpointer data)
{
    const char *good[] = {"a", "b", NULL}, *bad[] = {"c", "none", NULL};
    struct client_qid qids[16];
    struct client_attr attr;
    guint32 fid = walk_new(f->c, "");
    guint n;

    (void)data;
    tree(f);
    g_assert_cmpint(client_walk(f->c, fid, fid, good, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, qids[1].path);
    /* a walk that stops half way leaves it where it was */
    g_assert_cmpint(client_walk(f->c, fid, fid, bad, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 1);
    if (f->s->peer)
        return;
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_walk(f->c, fid, 7, bad, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 1);
}

/* Linux walks from an open fid of a directory where it has no other. */
static void walk_from_open_fid(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"b", "c", NULL}, *bad[] = {"b", "none", NULL};
    struct client_attr attr;
    struct client_qid qids[16];
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    guint32 fid, file;
    guint n;

    (void)data;
    tree(f);
    fid = walk_new(f->c, "a");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    g_assert_cmpint(client_walk(f->c, fid, 50, names, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(client_getattr(f->c, 50, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, qids[1].path);
    g_assert_cmpint(client_lopen(f->c, 50, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    g_assert_cmpint(client_walk(f->c, fid, 51, bad, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpint(client_getattr(f->c, 51, GETATTR_BASIC, &attr), ==, EBADF);
    /* it is still open, and where it was */
    g_assert_cmpint(client_readdir(f->c, fid, 0, 4000, entries), ==, 0);
    g_assert_cmpuint(entries->len, ==, 3);
    g_ptr_array_unref(entries);
    if (skip_for_peer(f->s, "diod takes walks of open fids elsewhere"))
        return;
    g_assert_cmpint(client_walk(f->c, fid, fid, names, &n, qids), >, 0);
    /* from an open file there is no way */
    file = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, file, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_walk(f->c, file, 52, names, &n, qids), ==, ENOTDIR);
}

/* A client may use the new fid in the next message without having seen Rwalk. */
static void walk_then_use_pipelined(struct fixture *f, gconstpointer data)
{
    enum { N = 300 };
    const char *names[] = {"a", "b", "c", "file", NULL};
    int walk[N], open[N], read[N], clunk[N];
    struct client_qid qids[16], qid;
    guint32 iounit;
    guint n;

    (void)data;
    tree(f);
    if (skip_for_peer(f->s, "diod answers in any order"))
        return;
    for (guint i = 0; i < N; i++) {
        guint32 fid = 5000 + i;

        walk[i] = client_post(f->c, TWALK, "ddL", ROOT_FID, fid, names);
        open[i] = client_post(f->c, TLOPEN, "dd", fid, 0u);
        read[i] = client_post(f->c, TREAD, "dqd", fid, (guint64)0, 10u);
        clunk[i] = client_post(f->c, TCLUNK, "d", fid);
    }
    for (guint i = 0; i < N; i++) {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_wait(f->c, walk[i], TWALK + 1, "A", &n, qids), ==, 0);
        g_assert_cmpuint(n, ==, 4);
        g_assert_cmpint(client_wait(f->c, open[i], TLOPEN + 1, "Qd", &qid, &iounit), ==, 0);
        g_assert_cmpuint(qid.path, ==, qids[3].path);
        g_assert_cmpint(client_wait(f->c, read[i], TREAD + 1, "D", &bytes), ==, 0);
        g_assert_cmpuint(bytes->len, ==, 1);
        g_assert_cmpint(client_wait(f->c, clunk[i], TCLUNK + 1, ""), ==, 0);
    }
}

static void many_fids(struct fixture *f, gconstpointer data)
{
    enum { N = 20000 };
    struct client_attr attr;

    (void)data;
    tree(f);
    if (skip_for_peer(f->s, "not our limit"))
        return;
    for (guint i = 0; i < N; i++) {
        int rc = client_walk_path(f->c, ROOT_FID, 10000 + i, "a/b", NULL);

        /* room may end, but then every further walk says so and what there is goes on working */
        if (rc != 0) {
            g_test_message("room for %u fids", i);
            g_assert_true(rc == EMFILE || rc == ENFILE);
            g_assert_cmpuint(i, >=, 500);
            break;
        }
    }
    g_assert_cmpint(client_getattr(f->c, 10000, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_clunk(f->c, 10000), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 10000, "a", NULL), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/walk/whole", whole_walk);
    FIXTURE_TEST("/walk/partial", partial_walk);
    FIXTURE_TEST("/walk/first-missing", first_name_missing);
    FIXTURE_TEST("/walk/from-file", from_a_file);
    FIXTURE_TEST("/walk/clone", clone_is_independent);
    FIXTURE_TEST("/walk/dotdot-root", dotdot_stops_at_the_root);
    FIXTURE_TEST("/walk/dotdot-moved", dotdot_follows_a_move);
    FIXTURE_TEST("/walk/bad-names", bad_names);
    FIXTURE_TEST("/walk/too-many-names", too_many_names);
    FIXTURE_TEST("/walk/newfid-in-use", newfid_in_use);
    FIXTURE_TEST("/walk/newfid-same", newfid_same_moves);
    FIXTURE_TEST("/walk/open-fid", walk_from_open_fid);
    FIXTURE_TEST("/walk/pipelined-use", walk_then_use_pipelined);
    FIXTURE_TEST("/walk/many-fids", many_fids);
    return g_test_run();
}
