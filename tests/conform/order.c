/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many requests in flight: those that depend on one another, and Tflush. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void chain(guint arg)
{
    struct client *c = session();
    const char *names[] = {"file", NULL};
    struct client_qid qid, qids[16];
    guint32 unit;
    guint n;

    (void)arg;
    make_file(c, "file", "text");
    for (guint i = 0; i < 200; i++) {
        guint32 fid = client_fid(c);
        GByteArray *data = NULL;
        int walk = client_post(c, TWALK, "ddL", WORK, fid, names);
        int lopen = client_post(c, TLOPEN, "dd", fid, (guint32)L_RDONLY);
        int read = client_post(c, TREAD, "dqd", fid, (guint64)0, 100u);
        int clunk = client_post(c, TCLUNK, "d", fid);

        OK(client_wait(c, walk, TWALK + 1, "A", &n, qids));
        OK(client_wait(c, lopen, TLOPEN + 1, "Qd", &qid, &unit));
        OK(client_wait(c, read, TREAD + 1, "D", &data));
        YES(data->len == 4 && memcmp(data->data, "text", 4) == 0);
        OK(client_wait(c, clunk, TCLUNK + 1, ""));
    }
}

static void create_chain(guint arg)
{
    struct client *c = session();
    struct client_qid qid, qids[16];
    guint32 unit, written;
    guint n;

    (void)arg;
    for (guint i = 0; i < 50; i++) {
        g_autofree char *name = g_strdup_printf("file%u", i);
        guint32 fid = client_fid(c);
        GByteArray *data = NULL;
        int walk = client_post(c, TWALK, "ddL", WORK, fid, NULL);
        int create = client_post(c, TLCREATE, "dsddd", fid, name, (guint32)(L_RDWR | L_CREAT),
                                 0644u, (guint32)getegid());
        int write = client_post(c, TWRITE, "dqD", fid, (guint64)0, (gsize)4, "text");
        int read;

        OK(client_wait(c, walk, TWALK + 1, "A", &n, qids));
        OK(client_wait(c, create, TLCREATE + 1, "Qd", &qid, &unit));
        OK(client_wait(c, write, TWRITE + 1, "d", &written));
        read = client_post(c, TREAD, "dqd", fid, (guint64)0, 100u);
        OK(client_wait(c, read, TREAD + 1, "D", &data));
        IS(data->len, 4);
        OK(client_clunk(c, fid));
    }
}

static void attach_chain(guint arg)
{
    struct client *c = dial();
    struct client_qid qid;
    GByteArray *frame = NULL;
    int attach, getattr;

    (void)arg;
    OK(client_hello(c, 65536));
    attach = client_post(c, TATTACH, "ddssd", 60u, NOFID, "", env.aname, env.uid);
    getattr = client_post(c, TGETATTR, "dq", 60u, (guint64)GETATTR_BASIC);
    OK(client_wait(c, attach, TATTACH + 1, "Q", &qid));
    OK(reply_of(c, (guint16)getattr, &frame));
    IS(client_frame_type(frame), TGETATTR + 1);
}

static void number_again(guint arg)
{
    struct client *c = session();
    const char *a[] = {"a", NULL}, *b[] = {"b", NULL};
    struct client_qid want[2], got[16];

    (void)arg;
    want[0] = qid_of(c, make_dir(c, "a"));
    want[1] = qid_of(c, make_dir(c, "b"));
    for (guint i = 0; i < 100; i++) {
        int tags[4];
        guint n;

        tags[0] = client_post(c, TWALK, "ddL", WORK, 70u, a);
        tags[1] = client_post(c, TCLUNK, "d", 70u);
        tags[2] = client_post(c, TWALK, "ddL", WORK, 70u, b);
        tags[3] = client_post(c, TCLUNK, "d", 70u);
        OK(client_wait(c, tags[0], TWALK + 1, "A", &n, got));
        YES(same_qid(&got[0], &want[0]));
        OK(client_wait(c, tags[1], TCLUNK + 1, ""));
        OK(client_wait(c, tags[2], TWALK + 1, "A", &n, got));
        YES(same_qid(&got[0], &want[1]));
        OK(client_wait(c, tags[3], TCLUNK + 1, ""));
    }
}

static void failing_chain(guint arg)
{
    struct client *c = session();
    const char *names[] = {"missing", NULL};
    struct client_qid qid, qids[16];
    guint32 unit;
    guint n;

    (void)arg;
    for (guint i = 0; i < 100; i++) {
        int walk = client_post(c, TWALK, "ddL", WORK, 70u, names);
        int lopen = client_post(c, TLOPEN, "dd", 70u, (guint32)L_RDONLY);
        int clunk = client_post(c, TCLUNK, "d", 70u);

        ERR(client_wait(c, walk, TWALK + 1, "A", &n, qids), ENOENT);
        ERROR(client_wait(c, lopen, TLOPEN + 1, "Qd", &qid, &unit));
        ERROR(client_wait(c, clunk, TCLUNK + 1, ""));
    }
}

static void same_newfid(guint arg)
{
    struct client *c = session();
    struct client_qid qids[16];
    guint n;

    (void)arg;
    for (guint i = 0; i < 100; i++) {
        int one = client_post(c, TWALK, "ddL", WORK, 70u, NULL);
        int two = client_post(c, TWALK, "ddL", WORK, 70u, NULL);
        int rc1 = client_wait(c, one, TWALK + 1, "A", &n, qids);
        int rc2 = client_wait(c, two, TWALK + 1, "A", &n, qids);

        if ((rc1 == 0) == (rc2 == 0) || rc1 < 0 || rc2 < 0)
            fail("two walks to one new fid: %s and %s", rc_name(rc1), rc_name(rc2));
        OK(client_clunk(c, 70));
    }
}

static void many(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "0123456789");
    int tags[1000];

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(tags); i++)
        tags[i] = client_post(c, TREAD, "dqd", fid, (guint64)(i % 10), 1u);
    for (guint i = 0; i < G_N_ELEMENTS(tags); i++) {
        GByteArray *data = NULL;

        OK(client_wait(c, tags[i], TREAD + 1, "D", &data));
        YES(data->len == 1 && data->data[0] == '0' + i % 10);
    }
    if (g_hash_table_size(c->parked) != 0)
        fail("%u replies more than requests", g_hash_table_size(c->parked));
}

static void read_clunk(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_file(c, "file", "text");
    for (guint i = 0; i < 50; i++) {
        guint32 fid = open_path(c, "file", L_RDONLY);
        int tags[20], clunk, after;
        GByteArray *data = NULL;

        for (guint j = 0; j < 20; j++)
            tags[j] = client_post(c, TREAD, "dqd", fid, (guint64)0, 10u);
        clunk = client_post(c, TCLUNK, "d", fid);
        after = client_post(c, TREAD, "dqd", fid, (guint64)0, 10u);
        for (guint j = 0; j < 20; j++) {
            OK(client_wait(c, tags[j], TREAD + 1, "D", &data));
            IS(data->len, 4);
        }
        OK(client_wait(c, clunk, TCLUNK + 1, ""));
        ERROR(client_wait(c, after, TREAD + 1, "D", &data));
    }
}

/* ---- Tflush ---------------------------------------------------------------------------------- */

static void flush_unknown(guint arg)
{
    struct client *c = session();
    struct client_attr attr;

    (void)arg;
    OK(client_rpc(c, TFLUSH, "w", 54321, ""));
    OK(client_rpc(c, TFLUSH, "w", NOTAG, ""));
    OK(client_getattr(c, WORK, GETATTR_BASIC, &attr));
    OK(client_rpc(c, TFLUSH, "w", c->next_tag - 1, "")); /* that was answered long ago */
}

static void flush_self(guint arg)
{
    struct client *c = session();
    GByteArray *msg = client_pack(TFLUSH, 700, "w", 700), *frame = NULL;

    (void)arg;
    OK(client_send_raw(c, msg->data, msg->len));
    OK(reply_of(c, 700, &frame));
    attr_of(c, ROOT);
}

/* Whatever the server does with the old request, it says nothing of it after Rflush. */
static void flush_order(guint arg)
{
    struct client *c = session_msize(65536 + 24);
    guint32 fid = make_open(c, "file", ""), count = c->msize - 24, written;
    char *bytes = g_strnfill(count, 'b');

    (void)arg;
    OK(client_write(c, fid, 0, count, bytes, &written));
    for (guint round = 0; round < 50; round++) {
        GHashTable *flushed = g_hash_table_new(NULL, NULL);
        guint flushes = 0, reads = 0;

        for (guint i = 0; i < 20; i++) {
            GByteArray *read = client_pack(TREAD, 1000 + i, "dqd", fid, (guint64)0, count);
            GByteArray *flush = client_pack(TFLUSH, 2000 + i, "w", 1000 + i);

            OK(client_send_raw(c, read->data, read->len));
            OK(client_send_raw(c, flush->data, flush->len));
        }
        while (flushes < 20) {
            GByteArray *frame = NULL;
            guint tag;

            OK(client_recv(c, &frame));
            tag = client_frame_tag(frame);
            if (tag >= 2000) {
                IS(client_frame_type(frame), TFLUSH + 1);
                YES(g_hash_table_add(flushed, GUINT_TO_POINTER(tag - 1000)));
                flushes++;
            } else {
                if (g_hash_table_contains(flushed, GUINT_TO_POINTER(tag)))
                    fail("a reply came after the Rflush of its request");
                reads++;
            }
            g_byte_array_unref(frame);
        }
        YES(reads <= 20);
        attr_of(c, fid); /* and nothing is left over */
        IS(g_hash_table_size(c->parked), 0);
    }
}

/* Linux waits for the answer to each Tflush that it sends. */
static void flush_twice(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");

    (void)arg;
    for (guint round = 0; round < 500; round++) {
        GByteArray *all = client_pack(TREAD, 1000, "dqd", fid, (guint64)0, 10u);
        guint expected = 1001;

        for (guint i = 1001; i <= 1004; i++) {
            GByteArray *flush = client_pack(TFLUSH, i, "w", 1000);

            g_byte_array_append(all, flush->data, flush->len);
            g_byte_array_unref(flush);
        }
        OK(client_send_raw(c, all->data, all->len));
        while (expected <= 1004) {
            GByteArray *frame = NULL;
            guint tag;

            OK(client_recv(c, &frame));
            tag = client_frame_tag(frame);
            g_byte_array_unref(frame);
            if (tag == 1000 && expected == 1001)
                continue;
            if (tag != expected)
                fail("of four Tflush for one request, the answer to %u came before that to %u",
                     tag - 1000, expected - 1000);
            expected++;
        }
        g_byte_array_unref(all);
    }
}

static void flush_flush(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");

    (void)arg;
    for (guint round = 0; round < 100; round++) {
        GByteArray *all = client_pack(TREAD, 1000, "dqd", fid, (guint64)0, 10u);
        GByteArray *a = client_pack(TFLUSH, 1001, "w", 1000);
        GByteArray *b = client_pack(TFLUSH, 1002, "w", 1001), *frame = NULL;

        g_byte_array_append(all, a->data, a->len);
        g_byte_array_append(all, b->data, b->len);
        OK(client_send_raw(c, all->data, all->len));
        OK(reply_of(c, 1002, &frame));
        IS(client_frame_type(frame), TFLUSH + 1);
        attr_of(c, fid);
        if (g_hash_table_contains(c->parked, GUINT_TO_POINTER(1001)))
            fail("a Tflush was answered after the Rflush for it");
        g_hash_table_remove_all(c->parked);
    }
}

static void flush_reuse(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");

    (void)arg;
    for (guint i = 0; i < 100; i++) {
        GByteArray *read = client_pack(TREAD, 1000, "dqd", fid, (guint64)0, 10u);
        GByteArray *flush = client_pack(TFLUSH, 1001, "w", 1000);
        GByteArray *getattr = client_pack(TGETATTR, 1000, "dq", fid, (guint64)GETATTR_BASIC);
        GByteArray *frame = NULL;

        OK(client_send_raw(c, read->data, read->len));
        OK(client_send_raw(c, flush->data, flush->len));
        OK(reply_of(c, 1001, &frame));
        OK(client_send_raw(c, getattr->data, getattr->len));
        OK(client_recv(c, &frame));
        IS(client_frame_tag(frame), 1000);
        IS(client_frame_type(frame), TGETATTR + 1);
    }
}

/* A flushed request was either done, and answered, or not done, and not answered. */
static void flush_honest(guint arg)
{
    struct client *c = session();

    (void)arg;
    for (guint i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("d%u", i);
        GByteArray *mkdir =
            client_pack(TMKDIR, 1000, "dsdd", WORK, name, 0755u, (guint32)getegid());
        GByteArray *flush = client_pack(TFLUSH, 1001, "w", 1000);
        gboolean answered = FALSE;

        g_byte_array_append(mkdir, flush->data, flush->len);
        OK(client_send_raw(c, mkdir->data, mkdir->len));
        for (;;) {
            GByteArray *frame = NULL;

            OK(client_recv(c, &frame));
            if (client_frame_tag(frame) == 1001)
                break;
            answered = client_frame_type(frame) == TMKDIR + 1;
        }
        if (exists(c, name) != answered)
            fail("a flushed Tmkdir was %sanswered and %sdone", answered ? "" : "not ",
                 answered ? "not " : "");
    }
}

/* A flushed walk that was not answered has made no fid, and its number is free. */
static void flush_walk(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");

    (void)arg;
    for (guint round = 0; round < 200; round++) {
        GByteArray *all = g_byte_array_new(), *frame = NULL;
        gboolean answered = FALSE;
        GByteArray *parts[] = {
            client_pack(TFSYNC, 999, "dd", fid, 0u),
            client_pack(TLOPEN, 1000, "dd", fid, (guint32)L_RDONLY), /* waits for that; refused */
            client_pack(TWALK, 1001, "ddL", fid, 80u, NULL),         /* waits for both */
            client_pack(TFLUSH, 1002, "w", 1001),
        };
        struct client_attr attr;

        for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
            g_byte_array_append(all, parts[i]->data, parts[i]->len);
        OK(client_send_raw(c, all->data, all->len));
        for (;;) {
            OK(client_recv(c, &frame));
            if (client_frame_tag(frame) == 1002)
                break;
            if (client_frame_tag(frame) == 1001)
                answered = client_frame_type(frame) == TWALK + 1;
        }
        if (answered)
            OK(client_getattr(c, 80, GETATTR_BASIC, &attr));
        else
            ERROR(client_getattr(c, 80, GETATTR_BASIC, &attr));
        if (!answered)
            OK(client_walk_path(c, WORK, 80, "", NULL));
        OK(client_clunk(c, 80));
        g_hash_table_remove_all(c->parked);
    }
}

/* Each waits for the one before it, and none is left out. */
static void long_chain(guint arg)
{
    enum { N = 300 };
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    int tags[N], last;
    struct client_qid qids[16];
    struct client_attr attr;
    guint n;

    (void)arg;
    make_file(c, "file", "text");
    for (guint i = 0; i < N; i++) /* a walk of a fid to itself takes it for itself */
        tags[i] = client_post(c, TWALK, "ddL", fid, fid, NULL);
    last = client_post(c, TGETATTR, "dq", fid, (guint64)GETATTR_BASIC);
    for (guint i = 0; i < N; i++)
        OK(client_wait(c, tags[i], TWALK + 1, "A", &n, qids));
    OK(client_wait(c, last, TGETATTR + 1, "qQdddqqqqqqqqqqqqqqq", &attr.valid, &attr.qid,
                   &attr.mode, &attr.uid, &attr.gid, &attr.nlink, &attr.rdev, &attr.size,
                   &attr.blksize, &attr.blocks, &attr.atime, &attr.atime_ns, &attr.mtime,
                   &attr.mtime_ns, &attr.ctime, &attr.ctime_ns, &attr.btime, &attr.btime_ns,
                   &attr.gen, &attr.data_version));
    OK(client_clunk(c, fid));
}

/* What was asked is answered also where the client says that it asks no more. */
static void half_close(guint arg)
{
    enum { N = 40 };
    struct client *c = session_msize(65536 + 24);
    guint32 fid = make_open(c, "file", ""), count = 65536, written;
    g_autofree char *bytes = g_strnfill(count, 'b');
    GHashTable *seen = g_hash_table_new(NULL, NULL);

    (void)arg;
    OK(client_write(c, fid, 0, count, bytes, &written));
    for (guint i = 0; i < N; i++) {
        GByteArray *read = client_pack(TREAD, 1000 + i, "dqd", fid, (guint64)0, count);

        OK(client_send_raw(c, read->data, read->len));
    }
    YES(shutdown(c->fd, SHUT_WR) == 0);
    for (guint i = 0; i < N; i++) {
        GByteArray *frame = NULL;

        OK(client_recv(c, &frame));
        IS(client_frame_type(frame), TREAD + 1);
        IS(frame->len, count + 11);
        YES(g_hash_table_add(seen, GUINT_TO_POINTER((guint)client_frame_tag(frame))));
    }
}

#define P "intro(5): several outstanding requests"
#define F "flush(5), Tflush"
const struct conform_case order_cases[] = {
    {"order/walk-use", "a fid may be used before the reply to the walk that makes it has come",
     P "; the server takes requests in their order", CASE_WRITES, chain, 0},
    {"order/create-use", "the same with a file that is made and written", P, CASE_WRITES,
     create_chain, 0},
    {"order/attach-use", "the same with an attach", P, 0, attach_chain, 0},
    {"order/clunk-reuse", "a fid's number may be given again right behind its Tclunk", P,
     CASE_WRITES, number_again, 0},
    {"order/failed-use", "what uses the fid of a walk that fails gets errors", P, CASE_WRITES,
     failing_chain, 0},
    {"order/same-newfid", "of two walks to one new fid in flight just one succeeds", P, CASE_WRITES,
     same_newfid, 0},
    {"order/many", "a thousand requests in flight are each answered once", P, CASE_WRITES, many, 0},
    {"order/read-clunk", "reads sent before a clunk are answered, those behind it refused", P,
     CASE_WRITES, read_clunk, 0},
    {"order/flush-unknown", "Tflush of a tag that is not in flight is answered", F, CASE_WRITES,
     flush_unknown, 0},
    {"order/flush-self", "Tflush of its own tag is answered", F, 0, flush_self, 0},
    {"order/flush-order", "no reply to a request comes after the Rflush for it", F, CASE_WRITES,
     flush_order, 0},
    {"order/flush-twice", "several Tflush for one request are answered in their order", F,
     CASE_WRITES, flush_twice, 0},
    {"order/flush-flush", "Tflush of a Tflush is answered, and the other not afterwards", F,
     CASE_WRITES, flush_flush, 0},
    {"order/flush-reuse", "the tag is free after Rflush", F, CASE_WRITES, flush_reuse, 0},
    {"order/flush-honest", "a flushed request without an answer was not done", F, CASE_WRITES,
     flush_honest, 0},
    {"order/flush-walk", "a flushed walk without an answer made no fid, and its number is free", F,
     CASE_WRITES, flush_walk, 0},
    {"order/long-chain", "300 requests that wait for one another are each answered", P, CASE_WRITES,
     long_chain, 0},
    {"order/half-close", "a client that shuts its side down still gets its answers", P, CASE_WRITES,
     half_close, 0},
    CASES_END,
};
