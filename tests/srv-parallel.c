/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: pipelined requests are all answered, each under its tag, whatever their order; a slow
 * one holds up nobody; connections do not disturb each other.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void thousand_getattrs(struct fixture *f, gconstpointer data)
{
    enum { N = 1000 };
    struct client_attr root;
    int tags[N];

    (void)data;
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &root), ==, 0);
    for (guint i = 0; i < N; i++) {
        tags[i] = client_post(f->c, TGETATTR, "dq", ROOT_FID, GETATTR_BASIC);
        g_assert_cmpint(tags[i], >=, 0);
    }
    for (guint i = 0; i < N; i++) {
        g_autoptr(GByteArray) frame = NULL;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
        g_assert_cmpuint(client_frame_type(frame), ==, TGETATTR + 1);
        for (guint j = 0; j < N; j++) {
            if (tags[j] == client_frame_tag(frame)) {
                tags[j] = -1;
                break;
            }
            g_assert_cmpuint(j, <, N - 1); /* a tag that was not asked for, or twice */
        }
    }
}

/* Each reply belongs to its request: every read has an offset of its own. */
static void replies_match_requests(struct fixture *f, gconstpointer data)
{
    enum { N = 800 };
    g_autofree guint32 *words = g_new(guint32, 50000);
    g_autofree char *path = server_path(f->s, "words");
    int tags[N];
    guint32 fid;

    (void)data;
    for (guint i = 0; i < 50000; i++)
        words[i] = i;
    g_assert_true(g_file_set_contents(path, (char *)words, 200000, NULL));
    fid = walk_new(f->c, "words");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, 0);
    for (guint i = 0; i < N; i++)
        tags[i] = client_post(f->c, TREAD, "dqd", fid, (guint64)i * 4 * 60, 4u + i % 40 * 4);
    for (guint i = N; i-- > 0;) {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_wait(f->c, tags[i], TREAD + 1, "D", &bytes), ==, 0);
        g_assert_cmpmem(bytes->data, bytes->len, words + i * 60, 4 + i % 40 * 4);
    }
}

/* A write of much data with fsync behind it; getattrs sent after it are answered nevertheless, and
 * the fsync is answered, too. */
static void slow_requests_hold_up_nobody(struct fixture *f, gconstpointer data)
{
    enum { N = 1000, SYNCS = 8 };
    g_autofree char *text = g_strnfill(60000, 's');
    guint32 fid = walk_new(f->c, ""), n;
    int sync[SYNCS], tags[N];

    (void)data;
    g_assert_cmpint(client_lcreate(f->c, fid, "slow", L_RDWR, 0644, NULL), ==, 0);
    for (guint i = 0; i < 100; i++)
        g_assert_cmpint(client_write(f->c, fid, i * 60000ull, 60000, text, &n), ==, 0);
    for (guint i = 0; i < SYNCS; i++)
        sync[i] = client_post(f->c, TFSYNC, "dd", fid, 0u);
    for (guint i = 0; i < N; i++)
        tags[i] = client_post(f->c, TGETATTR, "dq", ROOT_FID, GETATTR_BASIC);
    for (guint i = 0; i < N; i++) {
        struct client_attr a;

        g_assert_cmpint(client_wait(f->c, tags[i], TGETATTR + 1, "qQdddqqqqqqqqqqqqqqq", &a.valid,
                                    &a.qid, &a.mode, &a.uid, &a.gid, &a.nlink, &a.rdev, &a.size,
                                    &a.blksize, &a.blocks, &a.atime, &a.atime_ns, &a.mtime,
                                    &a.mtime_ns, &a.ctime, &a.ctime_ns, &a.btime, &a.btime_ns,
                                    &a.gen, &a.data_version),
                        ==, 0);
    }
    for (guint i = 0; i < SYNCS; i++)
        g_assert_cmpint(client_wait(f->c, sync[i], TFSYNC + 1, ""), ==, 0);
}

/* Three requests in one piece, of which the second waits for somebody on the host (who has a lease
 * on the file): the answers to the first and the third come meanwhile, in any order. */
static void answered_ones_do_not_wait(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "leased");
    g_autoptr(GByteArray) all = g_byte_array_new(), one = NULL, two = NULL, three = NULL;
    guint16 other = 0;
    guint32 fid;
    int lease;

    (void)data;
    make_file(f->s, "leased", "text");
    fid = walk_new(f->c, "leased");
    signal(SIGIO, SIG_IGN);
    lease = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(lease, >=, 0);
    if (fcntl(lease, F_SETLEASE, F_WRLCK) != 0) {
        close(lease);
        g_test_skip("no leases here");
        return;
    }
    one = client_pack(TGETATTR, 901, "dq", ROOT_FID, GETATTR_BASIC);
    two = client_pack(TSETATTR, 902, "dddddqqqqq", fid, 0x8u /* size */, 0u, 0u, 0u, (guint64)2,
                      (guint64)0, (guint64)0, (guint64)0, (guint64)0);
    three = client_pack(TGETATTR, 903, "dq", ROOT_FID, GETATTR_BASIC);
    g_byte_array_append(all, one->data, one->len);
    g_byte_array_append(all, two->data, two->len);
    g_byte_array_append(all, three->data, three->len);
    f->c->timeout_ms = 40000; /* the lease would be broken in 45 s */
    g_assert_cmpint(client_send_raw(f->c, all->data, all->len), ==, 0);
    for (int i = 0; i < 2; i++) {
        g_autoptr(GByteArray) frame = NULL;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
        g_assert_true(client_frame_tag(frame) == 901 || client_frame_tag(frame) == 903);
        g_assert_cmpuint(client_frame_tag(frame), !=, other);
        other = client_frame_tag(frame);
        g_assert_cmpuint(client_frame_type(frame), ==, TGETATTR + 1);
    }
    close(lease);
    g_assert_cmpint(client_wait(f->c, 902, TSETATTR + 1, ""), ==, 0);
}

/* A client that asks without reading stops itself only. */
static void unread_replies_block_one_client(struct fixture *f, gconstpointer data)
{
    struct client *deaf = server_client(f->s);
    g_autofree char *big = g_strnfill(60000, 'b');
    struct client_attr attr;
    guint32 fid;

    (void)data;
    make_file(f->s, "big", big);
    fid = walk_new(deaf, "big");
    g_assert_cmpint(client_lopen(deaf, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(fcntl(deaf->fd, F_SETFL, O_NONBLOCK), ==, 0);
    for (guint i = 0; i < 2000; i++) {
        g_autoptr(GByteArray) m = client_pack(TREAD, i, "dqd", fid, (guint64)0, 60000u);

        if (send(deaf->fd, m->data, m->len, MSG_NOSIGNAL) != (ssize_t)m->len)
            break;
    }
    for (guint i = 0; i < 200; i++)
        g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    client_close(deaf);
    for (guint i = 0; i < 200; i++)
        g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
}

struct worker {
    struct server *s;
    guint number;
};

static gpointer work(gpointer data)
{
    struct worker *w = data;
    struct client *c = server_client(w->s);

    for (guint i = 0; i < 60; i++) {
        g_autofree char *name = g_strdup_printf("w%u-%u", w->number, i);
        g_autofree char *text = g_strdup_printf("text %u %u", w->number, i);
        g_autoptr(GByteArray) bytes = NULL;
        struct client_qid made, walked;
        guint32 fid = walk_new(c, ""), n;

        g_assert_cmpint(client_lcreate(c, fid, name, L_RDWR, 0644, &made), ==, 0);
        g_assert_cmpint(client_write(c, fid, 0, strlen(text), text, &n), ==, 0);
        g_assert_cmpint(client_clunk(c, fid), ==, 0);
        g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, name, &walked), ==, 0);
        g_assert_cmpuint(made.path, ==, walked.path);
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
        g_assert_cmpint(client_read(c, fid, 0, 100, &bytes), ==, 0);
        g_assert_cmpmem(bytes->data, bytes->len, text, strlen(text));
        g_assert_cmpint(client_clunk(c, fid), ==, 0);
        if (i % 3 == 0)
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, name, 0), ==, 0);
    }
    client_close(c);
    return NULL;
}

static void sixteen_connections(struct fixture *f, gconstpointer data)
{
    GThread *threads[16];
    struct worker workers[16];
    g_autoptr(GPtrArray) entries = NULL;

    (void)data;
    if (skip_for_peer(f->s, "no Tunlinkat"))
        return;
    for (guint i = 0; i < 16; i++) {
        workers[i] = (struct worker){f->s, i};
        threads[i] = g_thread_new("worker", work, &workers[i]);
    }
    for (guint i = 0; i < 16; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 8000, &entries), ==, 0);
    g_assert_cmpuint(entries->len, ==, 2 + 16 * 40);
}

/* One fid used by many requests at once: opened once, clunked in the middle. */
static void one_fid_many_requests(struct fixture *f, gconstpointer data)
{
    (void)data;
    if (skip_for_peer(f->s, "diod answers in any order"))
        return;
    make_file(f->s, "file", "text");
    for (guint round = 0; round < 30; round++) {
        guint32 fid = walk_new(f->c, "file");
        int clunk;
        gboolean clunked = FALSE;

        for (guint i = 0; i < 60; i++) {
            if (i % 3 == 0)
                client_post(f->c, TLOPEN, "dd", fid, 0u);
            else
                client_post(f->c, TGETATTR, "dq", fid, GETATTR_BASIC);
        }
        clunk = client_post(f->c, TCLUNK, "d", fid);
        for (guint i = 0; i < 61; i++) {
            g_autoptr(GByteArray) frame = NULL;

            g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
            if (client_frame_tag(frame) == clunk) {
                g_assert_cmpuint(client_frame_type(frame), ==, TCLUNK + 1);
                clunked = TRUE;
            }
        }
        g_assert_true(clunked);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/parallel/getattrs", thousand_getattrs);
    FIXTURE_TEST("/parallel/replies", replies_match_requests);
    FIXTURE_TEST("/parallel/slow", slow_requests_hold_up_nobody);
    FIXTURE_TEST("/parallel/answered", answered_ones_do_not_wait);
    FIXTURE_TEST("/parallel/unread", unread_replies_block_one_client);
    FIXTURE_TEST("/parallel/connections", sixteen_connections);
    FIXTURE_TEST("/parallel/one-fid", one_fid_many_requests);
    return g_test_run();
}
