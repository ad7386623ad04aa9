/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a request that waits for its turn can be cancelled, and has no effect then; one that
 * runs is waited for; answers to Tflush come in order. Tversion in mid-session ends what is in
 * flight. What was asked for is answered also to a client that says that it sends no more, and when
 * the daemon ends. What waits for one client is bounded, and does not keep others from their
 * answers; nor does who sends without a pause.
 *
 * A slow request is made by a lease of this process: a truncation waits until it is given up.
 */
#include "config.h"

#include "tests/lib/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS  64 /* of the daemon, at most */
#define SLOW_TAG 5000

/* ---- a request that runs until it is told ---------------------------------------------------- */

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

/* ---- replies that wait for the client -------------------------------------------------------- */

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

int main(int argc, char **argv)
{
    static const char *const threads[] = {"--threads", "4", NULL};
    static const char *const traced[] = {"--trace", "all", NULL};

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
    return g_test_run();
}
