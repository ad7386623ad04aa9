/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a session begins as the protocol says (version, then attach), an export is found by its
 * name or by an empty one where it is the only one, messages out of order are refused, Tflush is
 * always answered, and a second Tversion starts again from nothing.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct client *bare(struct fixture *f)
{
    struct client *c = client_connect(f->s->addr);

    g_assert_nonnull(c);
    return c;
}

static void version_gives_at_most_what_was_asked(struct fixture *f, gconstpointer data)
{
    struct client *c = bare(f);
    g_autofree char *version = NULL;
    guint32 msize = 0;

    (void)data;
    g_assert_cmpint(client_version(c, 8192, "9P2000.L", &msize, &version), ==, 0);
    g_assert_cmpuint(msize, ==, 8192);
    g_assert_cmpstr(version, ==, "9P2000.L");
    client_close(c);
}

static void version_limits_huge_msize(struct fixture *f, gconstpointer data)
{
    struct client *c = bare(f);
    g_autofree char *version = NULL;
    guint32 msize = 0;

    (void)data;
    if (skip_for_peer(f->s, "a foreign server has limits of its own"))
        return;
    g_assert_cmpint(client_version(c, 0xffffffffu, "9P2000.L", &msize, &version), ==, 0);
    g_assert_cmpuint(msize, >=, 8192);
    g_assert_cmpuint(msize, <=, 64 << 20);
    g_assert_cmpstr(version, ==, "9P2000.L");
    client_close(c);
}

static void version_refuses_tiny_msize(struct fixture *f, gconstpointer data)
{
    static const guint32 sizes[] = {0, 1, 7, 23, 24};

    (void)data;
    if (skip_for_peer(f->s, "a foreign server has limits of its own"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct client *c = bare(f);
        g_autofree char *version = NULL;
        guint32 msize = 0;
        int rc = client_version(c, sizes[i], "9P2000.L", &msize, &version);

        g_assert_true(rc != 0 || g_strcmp0(version, "9P2000.L") != 0);
        client_close(c);
    }
}

static void version_answers_unknown(struct fixture *f, gconstpointer data)
{
    static const char *const others[] = {"9P2000", "9P2000.u", "9P1999", "", "9P2000.Lx"};

    (void)data;
    if (skip_for_peer(f->s, "diod answers Rlerror"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        struct client *c = bare(f);
        g_autofree char *version = NULL;
        guint32 msize = 0;

        g_assert_cmpint(client_version(c, 8192, others[i], &msize, &version), ==, 0);
        g_assert_cmpstr(version, ==, "unknown");
        client_close(c);
    }
}

static void attach_by_name_and_empty(struct fixture *f, gconstpointer data)
{
    struct client *c = bare(f);
    struct client_qid a, b;

    (void)data;
    if (skip_for_peer(f->s, "names are ours"))
        return;
    g_assert_cmpint(client_hello(c, 8192), ==, 0);
    g_assert_cmpint(client_attach(c, 5, geteuid(), "data", &a), ==, 0);
    g_assert_cmpint(client_attach(c, 6, geteuid(), "", &b), ==, 0);
    g_assert_cmpuint(a.path, ==, b.path);
    g_assert_cmpuint(a.type, ==, QTDIR);
    g_assert_cmpuint(a.version, !=, 0);
    client_close(c);
}

static void attach_unknown_name(struct fixture *f, gconstpointer data)
{
    static const char *const names[] = {"dat", "datax", "/data", "..", "data/..", "/etc"};

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_cmpint(client_attach(f->c, 5, geteuid(), names[i], NULL), >, 0);
        g_assert_cmpint(client_getattr(f->c, 5, GETATTR_BASIC, &(struct client_attr){0}), ==,
                        EBADF);
    }
}

static void attach_empty_is_ambiguous_with_two(void)
{
    g_autofree char *tmp = g_dir_make_tmp("qidmap-two-XXXXXX", NULL);
    g_autofree char *other = g_strdup_printf("other=%s", tmp);
    const char *extra[] = {"--export", other, NULL};
    struct server *s = server_new("memory:", extra);
    struct client *c;
    struct client_qid a, b;

    if (!skip_for_peer(s, "names are ours")) {
        g_assert_true(server_start(s));
        c = client_connect(s->addr);
        g_assert_cmpint(client_hello(c, 8192), ==, 0);
        g_assert_cmpint(client_attach(c, 5, geteuid(), "", NULL), >, 0);
        g_assert_cmpint(client_attach(c, 5, geteuid(), "other", &a), ==, 0);
        g_assert_cmpint(client_attach(c, 6, geteuid(), "data", &b), ==, 0);
        g_assert_cmpuint(a.path, !=, b.path);
        client_close(c);
        g_assert_cmpint(server_terminate(s), ==, 0);
    }
    server_free(s);
    rmdir(tmp);
}

static void attach_twice_same_fid(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(client_attach(f->c, ROOT_FID, geteuid(), f->s->aname, NULL), >, 0);
    g_assert_cmpint(client_attach(f->c, NOFID, geteuid(), f->s->aname, NULL), >, 0);
    /* and the old one still stands */
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &(struct client_attr){0}), ==, 0);
}

static void auth_is_not_needed(struct fixture *f, gconstpointer data)
{
    struct client_qid qid;
    guint32 uid = geteuid();

    (void)data;
    g_assert_cmpint(client_rpc(f->c, TAUTH, "dssd", 9u, "", f->s->aname, uid, "Q", &qid), >, 0);
    g_assert_cmpint(client_getattr(f->c, 9, GETATTR_BASIC, &(struct client_attr){0}), >, 0);
}

static void attach_with_an_afid_is_refused(struct fixture *f, gconstpointer data)
{
    struct client_qid qid;
    guint32 uid = geteuid();

    (void)data;
    g_assert_cmpint(client_rpc(f->c, TATTACH, "ddssd", 9u, 77u, "", f->s->aname, uid, "Q", &qid), >,
                    0);
}

static void nothing_before_version(struct fixture *f, gconstpointer data)
{
    struct client *c = bare(f);
    int rc = client_attach(c, 5, geteuid(), f->s->aname, NULL);

    (void)data;
    if (!f->s->peer)
        g_assert_true(rc > 0 || rc == CLIENT_EOF);
    client_close(c);
}

static void nothing_before_attach(struct fixture *f, gconstpointer data)
{
    struct client *c = bare(f);
    struct client_attr attr;
    guint n;
    struct client_qid qids[16];

    (void)data;
    g_assert_cmpint(client_hello(c, 8192), ==, 0);
    g_assert_cmpint(client_getattr(c, ROOT_FID, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_cmpint(client_walk(c, ROOT_FID, 2, NULL, &n, qids), ==, EBADF);
    g_assert_cmpint(client_clunk(c, ROOT_FID), ==, EBADF);
    client_close(c);
}

static void unknown_type_is_answered(struct fixture *f, gconstpointer data)
{
    /* 0, replies, and numbers that no dialect uses */
    static const guint8 types[] = {0, 6, 7, 9, 33, 101, 106, 107, 125, 127, 200, 254};

    (void)data;
    if (skip_for_peer(f->s, "diod closes the connection"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        struct client *c = server_client(f->s);
        int rc = client_wait(c, client_post(c, types[i], "d", ROOT_FID), 0, "");

        g_assert_true(rc > 0 || rc == CLIENT_EOF);
        client_close(c);
    }
}

static void flush_of_nothing(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(client_rpc(f->c, TFLUSH, "w", 12345, ""), ==, 0);
    g_assert_cmpint(client_rpc(f->c, TFLUSH, "w", NOTAG, ""), ==, 0);
}

static void flush_of_pipelined(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 200; i++) {
        int tag = client_post(f->c, TGETATTR, "dq", ROOT_FID, GETATTR_ALL);
        int flush = client_post(f->c, TFLUSH, "w", tag);
        gboolean seen_flush = FALSE;

        /* the request's answer may or may not come, but only before Rflush */
        while (!seen_flush) {
            g_autoptr(GByteArray) frame = NULL;

            g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
            if (client_frame_tag(frame) == flush) {
                g_assert_cmpuint(client_frame_type(frame), ==, TFLUSH + 1);
                seen_flush = TRUE;
            } else {
                g_assert_cmpuint(client_frame_tag(frame), ==, tag);
            }
        }
    }
}

static void second_version_drops_fids(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;

    (void)data;
    g_assert_cmpint(client_hello(f->c, 16384), ==, 0);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_cmpint(client_attach(f->c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
}

static void clunk_ends_a_fid(struct fixture *f, gconstpointer data)
{
    struct client_attr attr;
    guint32 fid = walk_new(f->c, "");

    (void)data;
    g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    g_assert_cmpint(client_clunk(f->c, fid), ==, EBADF);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, EBADF);
}

static void same_over_tcp(struct fixture *f, gconstpointer data)
{
    struct client *c = client_connect(f->s->tcp);
    struct client_qid qid;
    struct client_attr attr;

    (void)data;
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, 5, geteuid(), f->s->aname, &qid), ==, 0);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, qid.path);
    client_close(c);
}

static void statfs_tells_sizes(struct fixture *f, gconstpointer data)
{
    guint32 type, bsize, namelen;
    guint64 blocks, bfree, bavail, files, ffree, fsid;

    (void)data;
    g_assert_cmpint(client_rpc(f->c, TSTATFS, "d", ROOT_FID, "ddqqqqqqd", &type, &bsize, &blocks,
                               &bfree, &bavail, &files, &ffree, &fsid, &namelen),
                    ==, 0);
    g_assert_cmpuint(bsize, >, 0);
    g_assert_cmpuint(blocks, >=, bfree);
    g_assert_cmpuint(bfree, >=, bavail);
    g_assert_cmpuint(namelen, ==, 255);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/session/version-msize", version_gives_at_most_what_was_asked);
    FIXTURE_TEST("/session/version-huge-msize", version_limits_huge_msize);
    FIXTURE_TEST("/session/version-tiny-msize", version_refuses_tiny_msize);
    FIXTURE_TEST("/session/version-unknown", version_answers_unknown);
    FIXTURE_TEST("/session/version-again", second_version_drops_fids);
    FIXTURE_TEST("/session/attach-name-and-empty", attach_by_name_and_empty);
    FIXTURE_TEST("/session/attach-unknown", attach_unknown_name);
    FIXTURE_TEST("/session/attach-twice", attach_twice_same_fid);
    FIXTURE_TEST("/session/attach-afid", attach_with_an_afid_is_refused);
    g_test_add_func("/session/attach-ambiguous", attach_empty_is_ambiguous_with_two);
    FIXTURE_TEST("/session/auth", auth_is_not_needed);
    FIXTURE_TEST("/session/before-version", nothing_before_version);
    FIXTURE_TEST("/session/before-attach", nothing_before_attach);
    FIXTURE_TEST("/session/unknown-type", unknown_type_is_answered);
    FIXTURE_TEST("/session/flush-nothing", flush_of_nothing);
    FIXTURE_TEST("/session/flush-pipelined", flush_of_pipelined);
    FIXTURE_TEST("/session/clunk", clunk_ends_a_fid);
    FIXTURE_TEST("/session/tcp", same_over_tcp);
    FIXTURE_TEST("/session/statfs", statfs_tells_sizes);
    return g_test_run();
}
