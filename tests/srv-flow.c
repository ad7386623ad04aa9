/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a request that waits for its turn can be cancelled, and has no effect then; one that
 * runs is waited for; answers to Tflush come in order. Tversion in mid-session ends what is in
 * flight. What was asked for is answered also to a client that says that it sends no more, and when
 * the daemon ends. What clients hold is bounded, by number and by time, and each gets the right
 * errno. Who sends without a pause does not keep others from their answers.
 *
 * A slow request is made by a lease of this process: a truncation waits until it is given up.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS  64 /* of the daemon, at most */
#define SLOW_TAG 5000

/* ---- a request that runs until it is told -------------------------------------------------------
 */

static int take_lease(struct server *s, const char *name)
{
    g_autofree char *path = server_path(s, name);
    int fd;

    signal(SIGIO, SIG_IGN);
    make_file(s, name, "text");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
        return fd;
    g_test_skip("no leases on this filesystem");
    close(fd);
    return -1;
}

static void send_frame(struct client *c, GByteArray *frame)
{
    g_assert_cmpint(client_send_raw(c, frame->data, frame->len), ==, 0);
    g_byte_array_unref(frame);
}

static void send_slow(struct client *c, guint16 tag, guint32 fid)
{
    send_frame(c, client_pack(TSETATTR, tag, "dddddqqqqq", fid, SETATTR_SIZE, 0u, 0u, 0u,
                              (guint64)2, (guint64)0, (guint64)0, (guint64)0, (guint64)0));
}

static void send_flush(struct client *c, guint16 tag, guint16 oldtag)
{
    send_frame(c, client_pack(TFLUSH, tag, "w", oldtag));
}

static void send_open(struct client *c, guint16 tag, guint32 fid)
{
    send_frame(c, client_pack(TLOPEN, tag, "dd", fid, (guint32)L_RDONLY));
}

static void send_getattr(struct client *c, guint16 tag, guint32 fid)
{
    send_frame(c, client_pack(TGETATTR, tag, "dq", fid, GETATTR_BASIC));
}

/* The next reply is this one. */
static void expect(struct client *c, guint16 tag, guint8 type)
{
    g_autoptr(GByteArray) frame = NULL;

    g_assert_cmpint(client_recv(c, &frame), ==, 0);
    g_assert_cmpuint(client_frame_tag(frame), ==, tag);
    g_assert_cmpuint(client_frame_type(frame), ==, type);
}

static void expect_end(struct client *c)
{
    GByteArray *frame = NULL;

    g_assert_cmpint(client_recv(c, &frame), ==, CLIENT_EOF);
}

static void waiting_is_cancelled(struct fixture *f, gconstpointer data)
{
    guint32 slow, other = walk_new(f->c, ""), fresh = 900;
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    slow = walk_new(f->c, "slow");
    send_slow(f->c, SLOW_TAG, slow);
    send_open(f->c, 1, slow);                                          /* waits for that */
    send_frame(f->c, client_pack(TWALK, 2, "ddL", slow, fresh, NULL)); /* waits for the open */
    send_flush(f->c, 3, 2);
    expect(f->c, 3, TFLUSH + 1);
    send_frame(f->c, client_pack(TWALK, 2, "ddL", other, fresh, NULL)); /* number and tag again */
    expect(f->c, 2, TWALK + 1);
    send_flush(f->c, 4, 1);
    expect(f->c, 4, TFLUSH + 1);
    send_flush(f->c, 5, 1); /* it is gone */
    expect(f->c, 5, TFLUSH + 1);
    send_getattr(f->c, 1, other);
    expect(f->c, 1, TGETATTR + 1);
    close(lease);
    expect(f->c, SLOW_TAG, TSETATTR + 1);
    g_assert_cmpint(client_lopen(f->c, slow, L_RDONLY, NULL), ==, 0); /* it was not opened */
    g_assert_cmpuint(g_hash_table_size(f->c->parked), ==, 0);
}

static void running_is_waited_for(struct fixture *f, gconstpointer data)
{
    guint32 slow, other = walk_new(f->c, "");
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    slow = walk_new(f->c, "slow");
    send_slow(f->c, SLOW_TAG, slow);
    send_flush(f->c, 1, SLOW_TAG);
    send_flush(f->c, 2, 1); /* of a flush */
    send_flush(f->c, 3, SLOW_TAG);
    send_flush(f->c, 4, 2);
    send_getattr(f->c, 5, other);
    expect(f->c, 5, TGETATTR + 1); /* and none of the others */
    close(lease);
    expect(f->c, SLOW_TAG, TSETATTR + 1);
    for (guint16 tag = 1; tag <= 4; tag++)
        expect(f->c, tag, TFLUSH + 1);
}

static guint count_of(const char *text, const char *what)
{
    guint count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

/* One that waits, and one that does not, are counted and traced like every message. */
static void flush_is_told(struct fixture *f, gconstpointer data)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    g_autofree char *log = NULL;
    guint32 slow;
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    slow = walk_new(f->c, "slow");
    send_slow(f->c, SLOW_TAG, slow);
    send_flush(f->c, 1, SLOW_TAG);
    send_flush(f->c, 2, 4711);
    expect(f->c, 2, TFLUSH + 1);
    close(lease);
    expect(f->c, SLOW_TAG, TSETATTR + 1);
    expect(f->c, 1, TFLUSH + 1);
    g_assert_cmpint(kill(f->s->pid, SIGUSR1), ==, 0);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        g_free(log);
        g_assert_true(g_file_get_contents(f->s->log, &log, NULL, NULL));
    } while (strstr(log, "attached: ") == NULL);
    g_assert_nonnull(strstr(log, "Tflush: 2 messages, 0 errors, 18 bytes in, 14 out;"));
    g_assert_nonnull(strstr(log, " 0 in flight,"));
    g_assert_cmpuint(count_of(log, "Tflush oldtag"), ==, 2);
    g_assert_cmpuint(count_of(log, " Rflush"), ==, 2);
}

/* A Tflush of a Tflush is never answered before that one is, also where it comes while the answers
 * are sent. (With tracing, sending takes longer.) */
static void flush_of_flush_in_order(struct fixture *f, gconstpointer data)
{
    enum { N = 50, ROUNDS = 120 };
    guint32 slow = 0;

    (void)data;
    for (guint round = 0; round < ROUNDS; round++) {
        int lease = take_lease(f->s, "slow");
        g_autoptr(GByteArray) again = g_byte_array_new();
        gboolean seen[2 * N + 2] = {FALSE};

        if (lease < 0)
            return;
        if (round == 0)
            slow = walk_new(f->c, "slow");
        send_slow(f->c, SLOW_TAG, slow);
        for (guint i = 0; i < N; i++) {
            g_autoptr(GByteArray) frame =
                client_pack(TFLUSH, (guint16)(1 + N + i), "w", (guint16)(1 + i));

            send_flush(f->c, (guint16)(1 + i), SLOW_TAG);
            g_byte_array_append(again, frame->data, frame->len);
        }
        close(lease);
        expect(f->c, SLOW_TAG, TSETATTR + 1); /* and now the others are being sent */
        send_frame(f->c, g_steal_pointer(&again));
        for (guint i = 0; i < 2 * N; i++) {
            g_autoptr(GByteArray) frame = NULL;
            guint16 tag;

            g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
            tag = client_frame_tag(frame);
            g_assert_cmpuint(tag, >=, 1);
            g_assert_cmpuint(tag, <=, 2 * N);
            g_assert_false(seen[tag]);
            seen[tag] = TRUE;
            if (tag > N)
                g_assert_true(seen[tag - N]);
        }
    }
}

#define WINDOW (4u << 20) /* of the server, for one connection */

/* An open that waits, behind which all that is sent for its fid waits as well. */
static guint32 block(struct fixture *f)
{
    guint32 slow = walk_new(f->c, "slow");

    send_slow(f->c, SLOW_TAG, slow);
    send_open(f->c, 1, slow);
    return slow;
}

/* A client that sends while its requests wait is not read from for ever. */
static void window_of_input(struct fixture *f, gconstpointer data)
{
    enum { PART = 256 * 1024 };
    g_autoptr(GByteArray) frame = NULL;
    g_autofree guint8 *bytes = g_malloc0(PART);
    size_t sent = 0, at = 0;
    int lease = take_lease(f->s, "slow");
    struct pollfd p = {.fd = f->c->fd, .events = POLLOUT};
    guint32 slow;

    (void)data;
    if (lease < 0)
        return;
    g_assert_cmpint(client_hello(f->c, PART + 24), ==, 0);
    g_assert_cmpint(client_attach(f->c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    slow = block(f);
    for (guint16 tag = 2; tag < 100; tag++) {
        GByteArray *next = client_pack(TWRITE, tag, "dqd", slow, (guint64)0, (guint32)PART);
        guint32 size = next->len + PART;

        memcpy(next->data, &(guint32){GUINT32_TO_LE(size)}, 4);
        g_byte_array_append(next, bytes, PART);
        if (frame == NULL)
            frame = next;
        else {
            g_byte_array_append(frame, next->data, next->len);
            g_byte_array_unref(next);
        }
    }
    while (at < frame->len && poll(&p, 1, 500) > 0) {
        ssize_t n = send(f->c->fd, frame->data + at, MIN(frame->len - at, 65536), MSG_DONTWAIT);

        if (n > 0)
            sent = at += (size_t)n;
    }
    /* what the sockets hold comes on top */
    g_assert_cmpuint(sent, <, 2 * WINDOW);
    close(lease);
}

/* Nor does it get room for replies without bound. */
static void window_of_replies(struct fixture *f, gconstpointer data)
{
    enum { PART = 512 * 1024, N = 20 };
    guint32 slow, other;
    int lease = take_lease(f->s, "slow");
    struct pollfd p = {.fd = f->c->fd, .events = POLLIN};

    (void)data;
    if (lease < 0)
        return;
    g_assert_cmpint(client_hello(f->c, PART + 24), ==, 0);
    g_assert_cmpint(client_attach(f->c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    other = walk_new(f->c, "");
    slow = block(f);
    for (guint i = 0; i < N; i++)
        send_frame(f->c,
                   client_pack(TREAD, (guint16)(2 + i), "dqd", slow, (guint64)0, (guint32)PART));
    send_getattr(f->c, 4000, other); /* not taken before there is room for those */
    g_assert_cmpint(poll(&p, 1, 500), ==, 0);
    close(lease);
    for (guint i = 0; i < N + 3; i++) {
        g_autoptr(GByteArray) frame = NULL;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
    }
}

/* Its fid may mean another file by now: it is done. */
static void clunk_is_waited_for(struct fixture *f, gconstpointer data)
{
    guint32 slow, other = walk_new(f->c, "");
    int lease = take_lease(f->s, "slow");
    struct client_attr attr;
    gboolean clunked = FALSE;

    (void)data;
    if (lease < 0)
        return;
    slow = walk_new(f->c, "slow");
    send_slow(f->c, SLOW_TAG, slow);
    send_frame(f->c, client_pack(TCLUNK, 1, "d", slow));
    send_flush(f->c, 2, 1);
    send_getattr(f->c, 3, other);
    expect(f->c, 3, TGETATTR + 1);
    close(lease);
    /* The slow one has given its turn back before it is answered, so its answer may come late. */
    for (guint i = 0; i < 3; i++) {
        g_autoptr(GByteArray) frame = NULL;
        guint16 tag;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
        tag = client_frame_tag(frame);
        clunked |= tag == 1;
        g_assert_true(tag == SLOW_TAG || tag == 1 || (tag == 2 && clunked));
    }
    g_assert_cmpint(client_getattr(f->c, slow, GETATTR_BASIC, &attr), ==, EBADF);
}

static void version_ends_what_waits(struct fixture *f, gconstpointer data)
{
    gboolean slow_done = FALSE, flushed = FALSE;
    guint16 tag = 0;
    guint32 slow;
    struct client_attr attr;
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    slow = walk_new(f->c, "slow");
    send_slow(f->c, SLOW_TAG, slow);
    send_flush(f->c, 1, SLOW_TAG);
    send_open(f->c, 2, slow);
    send_frame(f->c, client_pack(TCLUNK, 3, "d", slow));
    send_frame(f->c, client_pack(TVERSION, NOTAG, "ds", 8192u, "9P2000.L"));
    close(lease);
    /* Whether the others are done or cancelled depends on what is seen first. */
    while (tag != NOTAG) {
        g_autoptr(GByteArray) frame = NULL;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
        tag = client_frame_tag(frame);
        slow_done |= tag == SLOW_TAG;
        flushed |= tag == 1;
        g_assert_true(!flushed || slow_done);
    }
    g_assert_true(flushed);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, EBADF);
    g_assert_cmpint(client_attach(f->c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
}

/* Four threads; the requests of one client that wait take none, and those that run take half. */
static void others_have_threads(struct fixture *f, gconstpointer data)
{
    enum { N = 60, SLOW = 6 };
    struct client *other = server_client(f->s);
    guint32 slow[SLOW], fid;
    struct client_attr attr;
    struct pollfd p;
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    for (guint i = 0; i < SLOW; i++)
        slow[i] = walk_new(f->c, "slow");
    for (guint i = 0; i < SLOW; i++)
        send_slow(f->c, SLOW_TAG + i, slow[i]);
    for (guint i = 0; i < N; i++)
        send_open(f->c, 1 + i, slow[0]);
    fid = walk_new(other, "slow");
    for (guint i = 0; i < 100; i++)
        g_assert_cmpint(client_getattr(other, fid, GETATTR_BASIC, &attr), ==, 0);
    /* The kernel does not wait for ever: that was while they were waiting. */
    p = (struct pollfd){.fd = f->c->fd, .events = POLLIN};
    g_assert_cmpint(poll(&p, 1, 0), ==, 0);
    close(lease);
    for (guint i = 0; i < N + SLOW; i++) {
        g_autoptr(GByteArray) frame = NULL;

        g_assert_cmpint(client_recv(f->c, &frame), ==, 0);
    }
    client_close(other);
}

/* As many clients as the daemon has threads to begin with, and some more, are all held up: there
 * are threads for the next one all the same. */
static void stuck_ones_get_company(struct fixture *f, gconstpointer data)
{
    struct client *stuck[THREADS - 8];
    guint count = MIN(G_N_ELEMENTS(stuck), g_get_num_processors() * 16);
    struct client_attr attr;
    int lease = take_lease(f->s, "slow");

    (void)data;
    if (lease < 0)
        return;
    for (guint i = 0; i < count; i++) {
        stuck[i] = server_client(f->s);
        g_assert_cmpint(client_walk_path(stuck[i], ROOT_FID, 1, "slow", NULL), ==, 0);
    }
    for (guint i = 0; i < count; i++)
        send_slow(stuck[i], SLOW_TAG, 1);
    for (guint i = 0; i < 100; i++)
        g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    for (guint i = 0; i < count; i++) {
        struct pollfd p = {.fd = stuck[i]->fd, .events = POLLIN};

        g_assert_cmpint(poll(&p, 1, 0), ==, 0); /* that was while they were held up */
    }
    close(lease);
    for (guint i = 0; i < count; i++) {
        expect(stuck[i], SLOW_TAG, TSETATTR + 1);
        client_close(stuck[i]);
    }
}

/* ---- replies that wait for the client -----------------------------------------------------------
 */

#define BIG   (1u << 20)
#define READS 20u

/* Asks for more than sockets hold, and waits until the first of it is there. */
static struct client *ask_much(struct server *s, const char *addr)
{
    struct client *c = client_connect(addr);
    g_autofree char *path = server_path(s, "big"), *bytes = g_strnfill(BIG, 'b');
    struct pollfd p;
    guint32 fid = 2;

    g_assert_nonnull(c);
    g_assert_true(g_file_set_contents(path, bytes, BIG, NULL));
    g_assert_cmpint(client_hello(c, BIG + 24), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, "big", NULL), ==, 0);
    g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
    for (guint i = 0; i < READS; i++)
        send_frame(c, client_pack(TREAD, 1 + i, "dqd", fid, (guint64)0, BIG));
    p = (struct pollfd){.fd = c->fd, .events = POLLIN};
    g_assert_cmpint(poll(&p, 1, 60000), ==, 1);
    return c;
}

/* How many replies come, whole, until the end. */
static guint read_replies(struct client *c)
{
    guint count = 0;
    int rc;

    for (;;) {
        g_autoptr(GByteArray) frame = NULL;

        rc = client_recv(c, &frame);
        if (rc != 0)
            break;
        g_assert_cmpuint(client_frame_type(frame), ==, TREAD + 1);
        g_assert_cmpuint(frame->len, ==, BIG + 11);
        count++;
    }
    g_assert_cmpint(rc, ==, CLIENT_EOF);
    return count;
}

static void half_closed_gets_all(struct fixture *f, gconstpointer data)
{
    const char *addrs[] = {f->s->addr, f->s->tcp};

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(addrs); i++) {
        struct client *c = ask_much(f->s, addrs[i]);

        g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
        g_assert_cmpuint(read_replies(c), ==, READS);
        client_close(c);
    }
}

/* What was read from the client before the signal is answered; how much that is, is not said, but
 * the first is. */
static void ending_sends_replies(struct fixture *f, gconstpointer data)
{
    struct client *c = ask_much(f->s, f->s->addr);

    (void)data;
    g_assert_cmpint(kill(f->s->pid, SIGTERM), ==, 0);
    g_usleep(50000); /* or else it may read on before it ends; either is fine */
    g_assert_cmpuint(read_replies(c), >=, 1);
    client_close(c);
    g_assert_cmpint(server_wait(f->s), ==, 0);
}

static void ending_waits_for_nobody_who_does_not_read(struct fixture *f, gconstpointer data)
{
    struct client *c = ask_much(f->s, f->s->addr);

    (void)data;
    g_assert_cmpint(server_terminate(f->s), ==, 0);
    client_close(c);
}

/* ---- bounds
 * -------------------------------------------------------------------------------------- */

static guint count_in_log(struct server *s, const char *what)
{
    g_autofree char *text = NULL;
    guint count = 0;

    g_assert_true(g_file_get_contents(s->log, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

static void fids_are_bounded(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    const guint32 room = 9; /* of ten, the root is one */

    (void)data;
    for (guint32 i = 0; i < room + 3; i++)
        g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 100 + i, "", NULL), ==,
                        i < room ? 0 : EMFILE);
    /* all together have 15 */
    for (guint32 i = 0; i < 6; i++)
        g_assert_cmpint(client_walk_path(other, ROOT_FID, 100 + i, "", NULL), ==,
                        i < 4 ? 0 : ENFILE);
    g_assert_cmpint(client_clunk(f->c, 100), ==, 0);
    g_assert_cmpint(client_walk_path(other, ROOT_FID, 200, "", NULL), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "exceeds the limit fids=10"), ==, 1);
    g_assert_cmpuint(count_in_log(f->s, "exceeds the limit total-fids=15"), ==, 1);
    client_close(other);
}

static void connections_are_bounded(struct fixture *f, gconstpointer data)
{
    struct client *c[3];
    struct client_attr attr;

    (void)data;
    c[0] = server_client(f->s);
    c[1] = server_client(f->s); /* with the fixture's, three */
    for (guint i = 0; i < 5; i++) {
        c[2] = client_connect(f->s->addr);
        g_assert_nonnull(c[2]);
        expect_end(c[2]);
        client_close(c[2]);
    }
    g_assert_cmpint(client_getattr(c[1], ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "3 connections already"), ==, 1);
    client_close(c[0]);
    /* there is room again, once the daemon has seen it */
    for (guint i = 0; i < 6000; i++) {
        c[2] = client_connect(f->s->addr);
        g_assert_nonnull(c[2]);
        if (client_hello(c[2], 8192) == 0)
            break;
        client_close(c[2]);
        g_assert_cmpuint(i, <, 5999);
        g_usleep(10000);
    }
    client_close(c[1]);
    client_close(c[2]);
}

/* A message for which there is no memory is refused, and what comes behind it is answered. */
static void memory_is_bounded(struct fixture *f, gconstpointer data)
{
    struct client *c = client_connect(f->s->addr);
    g_autofree char *bytes = g_strnfill(BIG, 'b');
    guint32 fid = 2, n;
    struct client_attr attr;
    g_autoptr(GByteArray) got = NULL;

    (void)data;
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, BIG + 24), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, "", NULL), ==, 0);
    g_assert_cmpint(client_lcreate(c, fid, "file", L_RDWR, 0644, NULL), ==, 0);
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpint(client_write(c, fid, 0, BIG, bytes, &n), ==, ENOMEM);
        g_assert_cmpint(client_write(c, fid, 0, 60000, bytes, &n), ==, 0);
        g_assert_cmpint(client_read(c, fid, 0, BIG, &got), ==, ENOMEM);
        g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(attr.size, ==, 60000);
    }
    client_close(c);
}

/* Each open directory that was read holds a buffer. */
static void directories_are_bounded(struct fixture *f, gconstpointer data)
{
    guint good = 0, refused = 0;

    (void)data;
    for (guint i = 0; i < 40; i++) {
        g_autoptr(GPtrArray) entries =
            g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
        guint32 fid = walk_new(f->c, "");
        int rc;

        g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
        rc = client_readdir(f->c, fid, 0, 4000, entries);
        good += rc == 0;
        refused += rc == ENOMEM;
    }
    g_assert_cmpuint(good + refused, ==, 40);
    g_assert_cmpuint(good, >=, 4);
    g_assert_cmpuint(refused, >=, 20);
}

/* One that has said Tversion, and attached or not, in the second that it has: where this machine
 * was too busy for that, another one has. */
static struct client *in_time(struct server *s, gboolean attached)
{
    for (guint tries = 0; tries < 60; tries++) {
        struct client *c = client_connect(s->addr);

        g_assert_nonnull(c);
        if (client_hello(c, 8192) == 0 &&
            (!attached || client_attach(c, ROOT_FID, geteuid(), s->aname, NULL) == 0))
            return c;
        client_close(c);
    }
    g_error("60 clients were cut off before their second was over");
}

static void idle_ones_are_cut_off(void)
{
    static const char *const extra[] = {"--idle-timeout", "1", NULL};
    struct server *s = server_new("memory:", extra);
    struct client *stays, *silent, *said;
    struct client_attr attr;

    g_assert_true(server_start(s));
    stays = in_time(s, TRUE);
    silent = client_connect(s->addr);
    g_assert_nonnull(silent);
    said = in_time(s, FALSE);
    expect_end(silent);
    expect_end(said);
    g_assert_cmpint(client_getattr(stays, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    client_close(silent);
    client_close(said);
    client_close(stays);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static void stalled_ones_are_cut_off(struct fixture *f, gconstpointer data)
{
    struct client *half = server_client(f->s), *unread = ask_much(f->s, f->s->addr);
    g_autoptr(GByteArray) m = client_pack(TGETATTR, 1, "dq", ROOT_FID, GETATTR_BASIC);
    struct client_attr attr;
    struct pollfd p = {.fd = unread->fd, .events = POLLRDHUP};

    (void)data;
    g_assert_cmpint(client_send_raw(half, m->data, m->len - 1), ==, 0);
    g_assert_cmpint(poll(&p, 1, 60000), ==, 1);
    expect_end(half);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "did not read its replies"), ==, 1);
    g_assert_cmpuint(count_in_log(f->s, "in the midst of a message"), ==, 1);
    client_close(half);
    client_close(unread);
}

/* One byte at a time is slow, but complete. */
static void byte_by_byte(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 20; i++) {
        g_autoptr(GByteArray) m = client_pack(TGETATTR, i, "dq", ROOT_FID, GETATTR_BASIC);

        for (guint j = 0; j < m->len; j++)
            g_assert_cmpint(client_send_raw(f->c, m->data + j, 1), ==, 0);
        expect(f->c, (guint16)i, TGETATTR + 1);
    }
}

static void large_messages(struct fixture *f, gconstpointer data)
{
    const guint32 msize = (16u << 20) + 24, count = 16u << 20;
    struct client *c = client_connect(f->s->addr);
    g_autofree guint8 *bytes = g_malloc(count);
    g_autoptr(GByteArray) got = NULL;
    guint32 n;

    (void)data;
    for (guint32 i = 0; i < count; i++)
        bytes[i] = (guint8)(i * 2654435761u >> 24);
    g_assert_cmpint(client_hello(c, msize), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, 2, "", NULL), ==, 0);
    g_assert_cmpint(client_lcreate(c, 2, "large", L_RDWR, 0644, NULL), ==, 0);
    g_assert_cmpint(client_write(c, 2, 0, count, bytes, &n), ==, 0);
    g_assert_cmpuint(n, ==, count);
    g_assert_cmpint(client_read(c, 2, 0, count, &got), ==, 0);
    g_assert_cmpmem(got->data, got->len, bytes, count);
    client_close(c);
}

static guint descriptors(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    GDir *dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir) != NULL)
        n++;
    g_dir_close(dir);
    return n;
}

/* The lowest number that is free, and the highest that is not; what the daemon was started with
 * from this process on has any, and stays. */
static void numbers(struct server *s, guint *free, guint *highest)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    *free = *highest = 0;
    while ((name = g_dir_read_name(dir)) != NULL) {
        guint n = (guint)g_ascii_strtoull(name, NULL, 10);
        int flags = fcntl((int)n, F_GETFD);

        g_hash_table_add(used, GUINT_TO_POINTER(n));
        if (flags < 0 || (flags & FD_CLOEXEC))
            *highest = MAX(*highest, n);
    }
    while (g_hash_table_contains(used, GUINT_TO_POINTER(*free)))
        ++*free;
}

/* All numbers below it are in use, and none above: what is closed makes room below it. Clients take
 * the numbers that are free in between, as that of the descriptor on which the daemon was ready. */
static guint without_gaps(struct server *s, GPtrArray *clients)
{
    guint free, highest;

    for (;;) {
        numbers(s, &free, &highest);
        if (free > highest)
            return free;
        g_assert_cmpuint(clients->len, <, 100);
        g_ptr_array_add(clients, server_client(s));
    }
}

static void without_descriptors(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func((GDestroyNotify)client_close);
    struct client *c, *clients[20];
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    struct rlimit old, less;
    guint refused = 0;
    int result;
    struct client_attr attr;

    (void)data;
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, NULL, &old), ==, 0);
    less = (struct rlimit){.rlim_cur = without_gaps(f->s, others), .rlim_max = old.rlim_max};
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, &less, NULL), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
        clients[i] = client_connect(f->s->addr);
        g_assert_nonnull(clients[i]);
        /* Served, by a descriptor that a fid could do without, or turned away; not left to wait. */
        result = client_hello(clients[i], 8192);
        g_assert_cmpint(result, !=, CLIENT_TIMEOUT);
        refused += result != 0;
    }
    g_assert_cmpuint(refused, >, 0);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        client_close(clients[i]);
    /* What they had comes back once the server has seen that they are gone. */
    while ((result = client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr)) != 0) {
        g_assert_cmpint(result, ==, EMFILE);
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        g_usleep(2000);
    }
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, &old, NULL), ==, 0);
    /* Who comes is served, once the server is no more about to turn somebody away. */
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        c = client_connect(f->s->addr);
        g_assert_nonnull(c);
        result = client_hello(c, 8192);
        client_close(c);
    } while (result == CLIENT_EOF);
    g_assert_cmpint(result, ==, 0);
}

/* ---- sessions at random -------------------------------------------------------------------------
 */

enum { FIDS = 6, TAGS = 40 };

/* What the protocol permits next, for each tag. */
struct pending {
    guint8 type;    /* 0: the tag is free */
    guint16 oldtag; /* of a Tflush */
    guint64 old;    /* serial of the request that it names; 0: none was in flight */
    guint64 serial;
    char *made; /* name that a Tmkdir makes */
};

struct model {
    struct server *s;
    struct client *c;
    GRand *rand;
    guint session;
    guint64 serial;
    struct pending tags[TAGS];
    guint count;
    GPtrArray *not_made; /* names that must not be there */
    GPtrArray *all_made; /* names that must be there */
};

static void forget(struct model *m, struct pending *p, gboolean cancelled, gboolean done)
{
    if (p->made != NULL && (done || cancelled))
        g_ptr_array_add(done ? m->all_made : m->not_made, g_steal_pointer(&p->made));
    g_clear_pointer(&p->made, g_free);
    p->type = 0;
    m->count--;
}

static struct pending *by_serial(struct model *m, guint64 serial)
{
    for (guint i = 0; serial != 0 && i < TAGS; i++)
        if (m->tags[i].type != 0 && m->tags[i].serial == serial)
            return &m->tags[i];
    return NULL;
}

/* Takes one reply; FALSE at the end of the connection. */
static gboolean take_reply(struct model *m)
{
    g_autoptr(GByteArray) frame = NULL;
    struct pending *p, *old;
    int rc = client_recv(m->c, &frame);
    guint16 tag;
    guint8 type;

    if (rc == CLIENT_EOF)
        return FALSE;
    g_assert_cmpint(rc, ==, 0);
    tag = client_frame_tag(frame);
    type = client_frame_type(frame);
    g_assert_cmpuint(tag, <, TAGS);
    p = &m->tags[tag];
    g_assert_cmpuint(p->type, !=, 0); /* not asked for, answered before, or flushed */
    if (type != RLERROR)
        g_assert_cmpuint(type, ==, p->type + 1);
    if (p->type == TFLUSH) {
        g_assert_cmpuint(type, ==, TFLUSH + 1);
        /* Those that name the same request, and were sent before, came before. */
        for (guint i = 0; i < TAGS; i++)
            if (m->tags[i].type == TFLUSH && m->tags[i].old == p->old && p->old != 0)
                g_assert_cmpuint(m->tags[i].serial, >=, p->serial);
        old = by_serial(m, p->old);
        if (old != NULL)
            forget(m, old, TRUE, FALSE); /* its tag is free; nothing more of it may come */
    }
    forget(m, p, FALSE, type == TMKDIR + 1);
    return TRUE;
}

static GByteArray *random_request(struct model *m, guint16 tag)
{
    struct pending *p = &m->tags[tag];
    guint32 fid = 10 + g_rand_int_range(m->rand, 0, FIDS);
    guint32 fid2 = 10 + g_rand_int_range(m->rand, 0, FIDS);
    const char *names[] = {"file", NULL};

    switch (g_rand_int_range(m->rand, 0, 14)) {
    case 0:
    case 1:
        p->type = TWALK;
        return client_pack(TWALK, tag, "ddL", ROOT_FID, fid, names);
    case 2:
        p->type = TWALK;
        return client_pack(TWALK, tag, "ddL", fid, fid2, NULL);
    case 3:
        p->type = TLOPEN;
        return client_pack(TLOPEN, tag, "dd", fid, (guint32)L_RDWR);
    case 4:
        p->type = TREAD;
        return client_pack(TREAD, tag, "dqd", fid, (guint64)0,
                           (guint32)g_rand_int_range(m->rand, 0, 100000));
    case 5:
        p->type = TWRITE;
        return client_pack(TWRITE, tag, "dqD", fid, (guint64)g_rand_int_range(m->rand, 0, 9000),
                           (gsize)5, "write");
    case 6:
        p->type = TFSYNC;
        return client_pack(TFSYNC, tag, "dd", fid, 1u);
    case 7:
        p->type = TCLUNK;
        return client_pack(TCLUNK, tag, "d", fid);
    case 8:
        p->type = TMKDIR;
        p->made = g_strdup_printf("d%u-%" G_GUINT64_FORMAT, m->session, p->serial);
        return client_pack(TMKDIR, tag, "dsdd", ROOT_FID, p->made, 0755u, (guint32)getegid());
    case 9:
        p->type = TGETATTR;
        return client_pack(TGETATTR, tag, "dq", fid, GETATTR_BASIC);
    default:
        p->type = TFLUSH;
        p->oldtag = (guint16)g_rand_int_range(m->rand, 0, TAGS);
        p->old = p->oldtag != tag && m->tags[p->oldtag].type != 0 ? m->tags[p->oldtag].serial : 0;
        return client_pack(TFLUSH, tag, "w", p->oldtag);
    }
}

/* Several requests in one piece, or in two. FALSE: the daemon ended the connection. */
static void send_some(struct model *m)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint n = (guint)g_rand_int_range(m->rand, 1, 20), cut;

    for (guint i = 0; i < n && m->count < TAGS; i++) {
        guint16 tag = (guint16)g_rand_int_range(m->rand, 0, TAGS);
        GByteArray *one;

        while (m->tags[tag].type != 0)
            tag = (tag + 1) % TAGS;
        m->tags[tag].serial = ++m->serial;
        m->tags[tag].made = NULL;
        one = random_request(m, tag);
        m->count++;
        g_byte_array_append(all, one->data, one->len);
        g_byte_array_unref(one);
    }
    cut = (guint)g_rand_int_range(m->rand, 0, (gint32)all->len + 1);
    g_assert_cmpint(client_send_raw(m->c, all->data, cut), ==, 0);
    g_assert_cmpint(client_send_raw(m->c, all->data + cut, all->len - cut), ==, 0);
}

static void check_names(struct model *m)
{
    for (guint i = 0; i < m->not_made->len; i++) {
        g_autofree char *path = server_path(m->s, g_ptr_array_index(m->not_made, i));

        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    }
    for (guint i = 0; i < m->all_made->len; i++) {
        g_autofree char *path = server_path(m->s, g_ptr_array_index(m->all_made, i));

        g_assert_true(g_file_test(path, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(rmdir(path), ==, 0);
    }
}

/* Requests that depend on one another, flushes among them, and one of the ways to end. */
static void one_session(struct model *m)
{
    guint steps = (guint)g_rand_int_range(m->rand, 1, 40);
    g_autoptr(GByteArray) half = client_pack(TGETATTR, 1, "dq", ROOT_FID, GETATTR_BASIC);

    m->c = server_client(m->s);
    m->count = 0;
    memset(m->tags, 0, sizeof m->tags);
    m->not_made = g_ptr_array_new_with_free_func(g_free);
    m->all_made = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < steps; i++)
        if (m->count == 0 || (m->count < TAGS && g_rand_boolean(m->rand)))
            send_some(m);
        else
            for (guint n = (guint)g_rand_int_range(m->rand, 1, (gint32)m->count + 1);
                 n > 0 && m->count > 0; n--)
                g_assert_true(take_reply(m));
    switch (g_rand_int_range(m->rand, 0, 5)) {
    case 0: /* gone */
        break;
    case 1: /* gone in mid-message */
        client_send_raw(m->c, half->data, (gsize)g_rand_int_range(m->rand, 1, (gint32)half->len));
        break;
    case 2: /* all that was asked is answered, and then nothing */
        g_assert_cmpint(shutdown(m->c->fd, SHUT_WR), ==, 0);
        while (take_reply(m))
            continue;
        g_assert_cmpuint(m->count, ==, 0);
        check_names(m);
        break;
    case 3: /* what the old session asked is answered before Rversion, or never */
        send_frame(m->c, client_pack(TVERSION, NOTAG, "ds", 8192u, "9P2000.L"));
        for (;;) {
            g_autoptr(GByteArray) frame = NULL;

            g_assert_cmpint(client_recv(m->c, &frame), ==, 0);
            if (client_frame_tag(frame) == NOTAG)
                break;
        }
        g_assert_cmpint(client_attach(m->c, ROOT_FID, geteuid(), m->s->aname, NULL), ==, 0);
        break;
    default:
        while (m->count > 0)
            g_assert_true(take_reply(m));
        check_names(m);
    }
    client_close(m->c);
    for (guint i = 0; i < TAGS; i++)
        g_free(m->tags[i].made);
    g_ptr_array_unref(m->not_made);
    g_ptr_array_unref(m->all_made);
}

static guint64 resident(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)s->pid), *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(strstr(text, "VmRSS:") + 6, NULL, 10);
}

static guint number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);

    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void sessions_at_random(struct fixture *f, gconstpointer data)
{
    guint seed = number("FLOW_SEED", g_random_int()), n = number("FLOW_SESSIONS", 300);
    struct model m = {.s = f->s, .rand = g_rand_new_with_seed(seed)};
    g_autofree char *bytes = g_strnfill(9000, 'b');
    guint before, now = 0;
    guint64 memory = 0;
    gint64 grown;

    (void)data;
    g_test_message("repeat with FLOW_SEED=%u FLOW_SESSIONS=%u", seed, n);
    make_file(f->s, "file", bytes);
    before = descriptors(f->s);
    for (m.session = 0; m.session < n; m.session++) {
        if (m.session == n / 4)
            memory = resident(f->s);
        one_session(&m);
        /* all that a session held is given back */
        for (guint tries = 0; (now = descriptors(f->s)) > before && tries < 30000; tries++)
            g_usleep(1000);
        g_assert_cmpuint(now, <=, before);
    }
    g_assert_cmpuint(count_in_log(f->s, "were not given back"), ==, 0);
    grown = (gint64)(resident(f->s) - memory);
    g_test_message("resident: %" G_GINT64_FORMAT " KiB more", grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* these keep what is freed */
    g_assert_cmpint(grown, <=, 16384);
#endif
    g_rand_free(m.rand);
}

/* ---- who never stops ------------------------------------------------------------------------- */

#define FLOODS      12
#define FLOOD_ROUND 1000u

/* Sends of `batch` what the socket takes, takes what has come; bytes that came. */
static gsize flood(struct client *c, const GByteArray *batch, gsize *sent, short events)
{
    static guint8 sink[256 * 1024];
    ssize_t n;

    if (events & POLLOUT) {
        n = send(c->fd, batch->data + *sent, batch->len - *sent, MSG_DONTWAIT);
        *sent = n > 0 ? (*sent + (gsize)n) % batch->len : *sent;
    }
    n = events & POLLIN ? recv(c->fd, sink, sizeof sink, MSG_DONTWAIT) : 0;
    return n > 0 ? (gsize)n : 0;
}

/* More connections than there are threads send without a pause; one more, which asks now and then,
 * gets its answers all the same: long before another 100 000 messages of theirs are answered. */
static void endless_ones_take_turns(struct fixture *f, gconstpointer data)
{
    const gsize reply = 7 + 153, most = 100000 * reply;
    g_autoptr(GByteArray) batch = g_byte_array_new();
    struct client *floods[FLOODS];
    struct pollfd polled[FLOODS + 1];
    gsize sent[FLOODS] = {0};

    (void)data;
    for (guint16 i = 0; i < FLOOD_ROUND; i++) {
        g_autoptr(GByteArray) one = client_pack(TGETATTR, i, "dq", ROOT_FID, GETATTR_BASIC);

        g_byte_array_append(batch, one->data, one->len);
    }
    for (guint i = 0; i < FLOODS; i++) {
        floods[i] = server_client(f->s);
        polled[i] = (struct pollfd){floods[i]->fd, POLLIN | POLLOUT, 0};
    }
    polled[FLOODS] = (struct pollfd){f->c->fd, POLLIN, 0};
    for (guint round = 0; round < 20; round++) {
        gsize got = 0;

        if (round > 0)
            send_getattr(f->c, (guint16)round, ROOT_FID);
        for (polled[FLOODS].revents = 0; round > 0 ? !polled[FLOODS].revents : got < most / 10;) {
            poll(polled, FLOODS + 1, -1);
            for (guint i = 0; i < FLOODS; i++)
                got += flood(floods[i], batch, &sent[i], polled[i].revents);
            g_assert_cmpuint(got, <, most);
        }
        if (round > 0)
            expect(f->c, (guint16)round, TGETATTR + 1);
    }
    for (guint i = 0; i < FLOODS; i++)
        client_close(floods[i]);
}

static void test(const char *path, const char *const *extra,
                 void (*fn)(struct fixture *f, gconstpointer data))
{
    g_test_add(path, struct fixture, extra, fixture_setup, fn, fixture_teardown);
}

int main(int argc, char **argv)
{
    static const char *const threads[] = {"--threads", "4", NULL};
    static const char *const traced[] = {"--trace", "all", NULL};
    static const char *const fids[] = {"--limit", "fids=10", "--limit", "total-fids=15", NULL};
    static const char *const connections[] = {"--limit", "connections=3", NULL};
    static const char *const memory[] = {"--limit", "memory=512K", NULL};
    static const char *const stall[] = {"--stall-timeout", "3", NULL};
    static const char *const large[] = {"--msize-max", "16777240", NULL};

    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/flow/flush-waiting", waiting_is_cancelled);
    FIXTURE_TEST("/flow/flush-running", running_is_waited_for);
    test("/flow/flush-told", traced, flush_is_told);
    test("/flow/flush-order", traced, flush_of_flush_in_order);
    FIXTURE_TEST("/flow/window-input", window_of_input);
    FIXTURE_TEST("/flow/window-replies", window_of_replies);
    FIXTURE_TEST("/flow/flush-clunk", clunk_is_waited_for);
    FIXTURE_TEST("/flow/version", version_ends_what_waits);
    test("/flow/threads", threads, others_have_threads);
    FIXTURE_TEST("/flow/stuck", stuck_ones_get_company);
    test("/flow/turns", threads, endless_ones_take_turns);
    FIXTURE_TEST("/flow/half-close", half_closed_gets_all);
    FIXTURE_TEST("/flow/end", ending_sends_replies);
    FIXTURE_TEST("/flow/end-unread", ending_waits_for_nobody_who_does_not_read);
    test("/flow/fids", fids, fids_are_bounded);
    test("/flow/connections", connections, connections_are_bounded);
    test("/flow/memory", memory, memory_is_bounded);
    test("/flow/directories", memory, directories_are_bounded);
    g_test_add_func("/flow/idle", idle_ones_are_cut_off);
    test("/flow/stall", stall, stalled_ones_are_cut_off);
    FIXTURE_TEST("/flow/bytes", byte_by_byte);
    test("/flow/large", large, large_messages);
    FIXTURE_TEST("/flow/descriptors", without_descriptors);
    FIXTURE_TEST("/flow/random", sessions_at_random);
    return g_test_run();
}
