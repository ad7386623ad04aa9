/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a client reads, lists, sets and removes extended attributes as on a local filesystem,
 * and can neither see nor touch those that belong to the server.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

/* file names that no xattr message may name, whatever the server runs as */
static const char *const hidden[] = {"user.virtfs.uid",
                                     "user.virtfs.gid",
                                     "user.virtfs.mode",
                                     "user.virtfs.rdev",
                                     "user.virtfs.system.x",
                                     "user.virtfs.system.qidmap.a",
                                     "user.virtfs.system.qidp.0",
                                     "trusted.qidmap.a.0",
                                     "trusted.qidmap.marker",
                                     "trusted.qidmap.a",
                                     "user.virtfs.system.qidmap.b0",
                                     "Trusted.Qidmap.a",
                                     "USER.VIRTFS.SYSTEM.QIDMAP.a"};

static const char *const below[] = {"--subdirs", "yes", NULL};
static const char *const memory[] = {"--limit", "memory=2000000", NULL};

static gboolean contains(const GByteArray *bytes, const char *text)
{
    return bytes->len > 0 && memmem(bytes->data, bytes->len, text, strlen(text)) != NULL;
}

static gboolean no_xattrs(struct fixture *f)
{
    if (setxattr(f->s->dir, "user.try", "x", 1, 0) == 0) {
        removexattr(f->s->dir, "user.try");
        return FALSE;
    }
    g_test_skip("the filesystem of the temporary directory has no user xattrs");
    return TRUE;
}

static void set_and_get(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    g_autoptr(GByteArray) value = NULL;
    char raw[64];
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "v\0w", 3, 0), ==, 0);
    g_assert_cmpint(getxattr(path, "user.a", raw, sizeof raw), ==, 3);
    g_assert_cmpmem(raw, 3, "v\0w", 3);
    g_assert_cmpint(client_getxattr(f->c, fid, "user.a", &value), ==, 0);
    g_assert_cmpmem(value->data, value->len, "v\0w", 3);
}

static void get_missing(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;
    guint64 size;

    (void)data;
    if (no_xattrs(f))
        return;
    g_assert_cmpint(client_xattrwalk(f->c, ROOT_FID, 9, "user.none", &size), ==, ENODATA);
    g_assert_cmpint(client_getattr(f->c, 9, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_cmpint(client_xattrwalk(f->c, 4242, 9, "user.none", &size), ==, EBADF);
}

static void list_names(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    g_autoptr(GByteArray) value = NULL;
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(setxattr(path, "user.one", "1", 1, 0), ==, 0);
    g_assert_cmpint(setxattr(path, "user.two", "2", 1, 0), ==, 0);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_getxattr(f->c, fid, "", &value), ==, 0);
    g_assert_true(contains(value, "user.one"));
    g_assert_true(contains(value, "user.two"));
    g_assert_cmpuint(value->data[value->len - 1], ==, 0);
}

static void list_of_none(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) value = NULL;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(client_getxattr(f->c, walk_new(f->c, "file"), "", &value), ==, 0);
    g_assert_false(contains(value, "user."));
}

static void remove_one(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    char raw[8];
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(setxattr(path, "user.one", "1", 1, 0), ==, 0);
    fid = walk_new(f->c, "file");
    /* the Linux client removes by a size of 0 and XATTR_REPLACE */
    g_assert_cmpint(client_setxattr(f->c, fid, "user.one", "", 0, XATTR_REPLACE), ==, 0);
    g_assert_cmpint(getxattr(path, "user.one", raw, sizeof raw), <, 0);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.one", "", 0, XATTR_REPLACE), ==, ENODATA);
}

static void flags_are_kept(struct fixture *f, gconstpointer data)
{
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "1", 1, XATTR_REPLACE), ==, ENODATA);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "1", 1, XATTR_CREATE), ==, 0);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "2", 1, XATTR_CREATE), ==, EEXIST);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "2", 1, XATTR_REPLACE), ==, 0);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.a", "2", 1, 0xff), >, 0);
}

static void sizes_are_limited(struct fixture *f, gconstpointer data)
{
    static const guint64 sizes[] = {65537, 1ull << 31, 1ull << 40, G_MAXUINT64};

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        guint32 fid = walk_new(f->c, "file");

        g_assert_cmpint(client_xattrcreate(f->c, fid, "user.big", sizes[i], 0), >, 0);
        g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    }
}

static void large_value(struct fixture *f, gconstpointer data)
{
    g_autofree char *text = g_strnfill(3000, 'v');
    g_autoptr(GByteArray) value = NULL;
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setxattr(f->c, fid, "user.large", text, 3000, 0), ==, 0);
    g_assert_cmpint(client_getxattr(f->c, fid, "user.large", &value), ==, 0);
    g_assert_cmpmem(value->data, value->len, text, 3000);
}

/* Fewer bytes than announced, more than announced, a hole: the attribute is not set. */
static void incomplete_values(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    char raw[64];
    guint32 fid, n;

    (void)data;
    if (no_xattrs(f))
        return;
    if (skip_for_peer(f->s, "diod crashes or sets it"))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_xattrcreate(f->c, fid, "user.part", 10, 0), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 4, "abcd", &n), ==, 0);
    g_assert_cmpint(client_clunk(f->c, fid), >, 0);
    g_assert_cmpint(getxattr(path, "user.part", raw, sizeof raw), <, 0);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_xattrcreate(f->c, fid, "user.part", 4, 0), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 2, 4, "abcd", &n), >, 0);
    g_assert_cmpint(client_write(f->c, fid, G_MAXUINT64 - 1, 4, "abcd", &n), >, 0);
    client_clunk(f->c, fid);
    g_assert_cmpint(getxattr(path, "user.part", raw, sizeof raw), <, 0);
}

static void hidden_names(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    g_autoptr(GByteArray) names = NULL;
    guint32 fid;

    (void)data;
    if (no_xattrs(f) || skip_for_peer(f->s, "they are ours"))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    for (guint i = 0; i < G_N_ELEMENTS(hidden); i++) {
        guint64 size;
        char raw[8];
        gboolean there = setxattr(path, hidden[i], "secret", 6, 0) == 0;

        g_assert_cmpint(client_xattrwalk(f->c, fid, client_fid(f->c), hidden[i], &size), >, 0);
        g_assert_cmpint(client_setxattr(f->c, fid, hidden[i], "new", 3, 0), >, 0);
        g_assert_cmpint(client_setxattr(f->c, fid, hidden[i], "", 0, XATTR_REPLACE), >, 0);
        if (there) {
            g_assert_cmpint(getxattr(path, hidden[i], raw, sizeof raw), ==, 6);
            g_assert_cmpmem(raw, 6, "secret", 6);
        } else {
            g_assert_cmpint(getxattr(path, hidden[i], raw, sizeof raw), <, 0);
        }
    }
    g_assert_cmpint(client_getxattr(f->c, fid, "", &names), ==, 0);
    g_assert_false(contains(names, "virtfs"));
    g_assert_false(contains(names, "qidmap"));
}

static guint32 another_fid(struct client *c, guint32 fid)
{
    struct client_qid qids[16];
    guint32 copy = client_fid(c);
    guint n;

    g_assert_cmpint(client_walk(c, fid, copy, NULL, &n, qids), ==, 0);
    return copy;
}

/* In sub-directories, on directories and links, and on the root of an export inside another, where
 * a store is: by every message. */
static void hidden_everywhere(struct fixture *f, gconstpointer data)
{
    static const char *const places[] = {"", "sub", "sub/deep", "sub/deep/file"};
    g_autofree char *inner = NULL;
    char raw[64];
    ssize_t size;

    (void)data;
    if (no_xattrs(f) || skip_for_peer(f->s, "they are ours"))
        return;
    make_dir(f->s, "sub");
    make_dir(f->s, "sub/deep");
    make_file(f->s, "sub/deep/file", "x");

    /* Another server, whose export's root lies inside the first one's, keeps its store there. */
    struct server *other = server_new("memory:", NULL);
    inner = server_path(f->s, "sub/deep");
    g_free(other->dir);
    other->dir = g_strdup(inner);
    g_free(other->store);
    other->store = g_strconcat("xattr:", inner, NULL);
    if (!server_start(other)) {
        g_test_skip("no user xattrs in the temporary directory");
        server_free(other);
        return;
    }
    client_close(server_client(other));
    size = getxattr(inner, "trusted.qidmap.a", raw, sizeof raw);
    if (size < 0)
        size = getxattr(inner, "user.virtfs.system.qidmap.a", raw, sizeof raw);
    g_assert_cmpint(size, ==, 32);

    for (guint p = 0; p < G_N_ELEMENTS(places); p++) {
        g_autofree char *path = server_path(f->s, places[p]);
        g_autoptr(GByteArray) names = NULL;
        guint32 fid = places[p][0] ? walk_new(f->c, places[p]) : ROOT_FID;

        setxattr(path, "user.virtfs.system.other", "secret", 6, 0);
        setxattr(path, "trusted.qidmap.other", "secret", 6, 0);
        for (guint i = 0; i < G_N_ELEMENTS(hidden); i++) {
            guint64 bytes;
            guint32 xfid = another_fid(f->c, fid);

            g_assert_cmpint(client_xattrwalk(f->c, fid, client_fid(f->c), hidden[i], &bytes), ==,
                            ENODATA);
            g_assert_cmpint(client_xattrcreate(f->c, xfid, hidden[i], 3, 0), ==, EPERM);
            g_assert_cmpint(client_xattrcreate(f->c, xfid, hidden[i], 0, XATTR_REPLACE), ==, EPERM);
        }
        g_assert_cmpint(client_getxattr(f->c, fid, "", &names), ==, 0);
        g_assert_false(contains(names, "virtfs"));
        g_assert_false(contains(names, "qidmap"));
    }
    g_assert_cmpint(server_terminate(other), ==, 0);
    server_free(other);
}

static void bad_attribute_names(struct fixture *f, gconstpointer data)
{
    g_autofree char *longest = g_strnfill(256, 'u');
    const char *const bad[] = {"nonamespace", longest, "user."};
    guint64 size;
    guint32 n;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(client_xattrwalk(f->c, ROOT_FID, client_fid(f->c), bad[i], &size), >, 0);
        g_assert_cmpint(client_setxattr(f->c, walk_new(f->c, "file"), bad[i], "x", 1, 0), >, 0);
    }
    /* a NUL inside must not cut the name short */
    (void)n;
    g_assert_cmpint(client_rpc(f->c, TXATTRWALK, "ddS", ROOT_FID, client_fid(f->c), (gsize)8,
                               "user.a\0b", "q", &size),
                    >, 0);
}

static void on_an_open_fid(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) value = NULL;
    g_autofree char *path = server_path(f->s, "file");
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(setxattr(path, "user.one", "1", 1, 0), ==, 0);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_getxattr(f->c, fid, "user.one", &value), ==, 0);
    g_assert_cmpmem(value->data, value->len, "1", 1);
}

static void xattr_fid_is_nothing_else(struct fixture *f, gconstpointer data)
{
    struct client_attr attr = {0};
    struct client_qid qids[16];
    g_autofree char *path = server_path(f->s, "file");
    guint64 size;
    guint n;
    guint32 fid, xfid = client_fid(f->c), written;

    (void)data;
    if (no_xattrs(f) || skip_for_peer(f->s, "diod is laxer"))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(setxattr(path, "user.one", "1", 1, 0), ==, 0);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_xattrwalk(f->c, fid, xfid, "user.one", &size), ==, 0);
    g_assert_cmpint(client_lopen(f->c, xfid, L_RDWR, NULL), >, 0);
    g_assert_cmpint(client_write(f->c, xfid, 0, 1, "z", &written), >, 0);
    g_assert_cmpint(client_walk(f->c, xfid, client_fid(f->c), NULL, &n, qids), >, 0);
    g_assert_cmpint(client_setattr(f->c, xfid, SETATTR_SIZE, &attr), >, 0);
    g_assert_cmpint(client_clunk(f->c, xfid), ==, 0);
}

/* The fid of a value holds the root that was attached to, a folder of the export, as others do. */
static void below_an_export(struct fixture *f, gconstpointer data)
{
    g_autofree char *aname = NULL, *path = server_path(f->s, "sub");
    struct client_attr attr;
    guint32 root = client_fid(f->c), fid = client_fid(f->c);
    guint64 size;

    (void)data;
    if (no_xattrs(f) || skip_for_peer(f->s, "not ours"))
        return;
    aname = g_build_filename(f->s->aname, "sub", NULL);
    make_dir(f->s, "sub");
    make_file(f->s, "sub/file", "x");
    g_assert_cmpint(setxattr(path, "user.one", "1", 1, 0), ==, 0);
    g_assert_cmpint(client_attach(f->c, root, geteuid(), aname, NULL), ==, 0);
    for (guint i = 0; i < 100; i++) {
        guint32 xfid = client_fid(f->c);

        g_assert_cmpint(client_xattrwalk(f->c, root, xfid, "user.one", &size), ==, 0);
        g_assert_cmpint(client_clunk(f->c, xfid), ==, 0);
    }
    g_assert_cmpint(client_walk_path(f->c, root, fid, "../file", NULL), ==, 0);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    g_assert_cmpint(client_clunk(f->c, root), ==, 0);
}

/* Values that are being written or read count as memory of the session, and are given back. */
static void values_are_counted(struct fixture *f, gconstpointer data)
{
    enum { COUNT = 64, SIZE = 65536 };
    g_autofree char *path = server_path(f->s, "file"), *value = g_malloc0(1024);
    guint32 fids[COUNT], xfid = 0;
    int rc = 0;

    (void)data;
    if (no_xattrs(f) || skip_for_peer(f->s, "not ours"))
        return;
    make_file(f->s, "file", "x");
    g_assert_cmpint(setxattr(path, "user.one", value, 1024, 0), ==, 0);
    for (guint round = 0; round < 3; round++) {
        guint n = 0, m = 0;
        guint64 size;

        for (; n < COUNT; n++) {
            fids[n] = walk_new(f->c, "file");
            rc = client_xattrcreate(f->c, fids[n], "user.new", SIZE, 0);
            if (rc != 0)
                break;
        }
        g_assert_cmpint(rc, ==, ENOMEM);
        g_assert_cmpuint(n, >, 4);
        g_assert_cmpuint(n, <, 32); /* of 2 MB, and something is the connection's own */
        for (rc = 0; rc == 0 && m < SIZE / 1024 + 16; m++) {
            xfid = client_fid(f->c);
            rc = client_xattrwalk(f->c, fids[n], xfid, "user.one", &size);
        }
        g_assert_cmpint(rc, ==, ENOMEM);
        client_close(f->c);
        f->c = server_client(f->s);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/xattr/below", struct fixture, below, fixture_setup, below_an_export,
               fixture_teardown);
    g_test_add("/xattr/memory", struct fixture, memory, fixture_setup, values_are_counted,
               fixture_teardown);
    FIXTURE_TEST("/xattr/set-get", set_and_get);
    FIXTURE_TEST("/xattr/missing", get_missing);
    FIXTURE_TEST("/xattr/list", list_names);
    FIXTURE_TEST("/xattr/list-none", list_of_none);
    FIXTURE_TEST("/xattr/remove", remove_one);
    FIXTURE_TEST("/xattr/flags", flags_are_kept);
    FIXTURE_TEST("/xattr/too-large", sizes_are_limited);
    FIXTURE_TEST("/xattr/large", large_value);
    FIXTURE_TEST("/xattr/incomplete", incomplete_values);
    FIXTURE_TEST("/xattr/hidden", hidden_names);
    FIXTURE_TEST("/xattr/hidden-everywhere", hidden_everywhere);
    FIXTURE_TEST("/xattr/bad-names", bad_attribute_names);
    FIXTURE_TEST("/xattr/open-fid", on_an_open_fid);
    FIXTURE_TEST("/xattr/only-xattr", xattr_fid_is_nothing_else);
    return g_test_run();
}
