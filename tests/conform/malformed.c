/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes that are no valid message: an error or the end of the connection, and all others go on. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <sys/socket.h>

static void set_size(GByteArray *msg, guint32 size)
{
    for (guint i = 0; i < 4; i++)
        msg->data[i] = size >> (8 * i);
}

static struct client *prepared(void)
{
    struct client *c = session();

    samples_prepare(c);
    return c;
}

/* Sends it; gives the type of the reply, or 0 where the connection ended. A session that ended is
 * replaced by a new one. */
static guint8 throw(struct client * *c, const GByteArray *msg, const char *what)
{
    GByteArray *frame = NULL;
    guint16 tag = msg->data[5] | msg->data[6] << 8;
    int rc = client_send_raw(*c, msg->data, msg->len);
    guint8 type = 0;

    if (rc == 0)
        rc = reply_of(*c, tag, &frame);
    if (rc == 0)
        type = client_frame_type(frame);
    else if (rc == CLIENT_EOF) {
        client_close(*c);
        *c = prepared();
    } else
        fail("%s: %s", what, rc_name(rc));
    return type;
}

static void cut(guint type)
{
    struct client *c = prepared();
    GByteArray *whole =
        sample((guint8)type, type == TVERSION ? NOTAG : 700, sample_fid((guint8)type));

    for (guint len = 7; len < whole->len; len++) {
        GByteArray *msg = g_byte_array_new();
        g_autofree char *what =
            g_strdup_printf("%s cut to %u of %u bytes", type_name((guint8)type), len, whole->len);
        guint8 got;

        if (type == TFSYNC && len == 11)
            continue; /* datasync came later to the protocol */
        g_byte_array_append(msg, whole->data, len);
        set_size(msg, len);
        got = throw(&c, msg, what);
        if (got != 0 && got != RLERROR)
            fail("%s: answered with success", what);
        if (type == TVERSION && got != 0) {
            client_close(c);
            c = prepared();
        }
    }
    /* and the whole is understood, or else this shows nothing */
    {
        guint8 got = throw(&c, whole, type_name((guint8)type));

        if (got == 0)
            fail("%s, whole: the end of the connection", type_name((guint8)type));
    }
    still_serves();
}

static void longer(guint arg)
{
    struct client *c = prepared();

    (void)arg;
    for (const guint8 *t = sample_types; *t != 0; t++) {
        GByteArray *msg = sample(*t, *t == TVERSION ? NOTAG : 700, sample_fid(*t));

        g_byte_array_append(msg, (const guint8 *)"extra", 5);
        set_size(msg, msg->len);
        throw(&c, msg, type_name(*t));
        client_close(c);
        c = prepared();
    }
    still_serves();
}

static void size_small(guint arg)
{
    (void)arg;
    for (guint32 size = 0; size < 7; size++) {
        struct client *c = session();
        GByteArray *msg = client_pack(TGETATTR, 700, "dq", ROOT, (guint64)GETATTR_BASIC);
        GByteArray *frame = NULL;
        int rc;

        set_size(msg, size);
        client_send_raw(c, msg->data, msg->len);
        shutdown(c->fd, SHUT_WR);
        do {
            rc = client_recv(c, &frame);
            if (rc == 0 && client_frame_type(frame) != RLERROR)
                fail("a message with size %u was answered with success", size);
        } while (rc == 0);
        if (rc != CLIENT_EOF)
            fail("a message with size %u: %s", size, rc_name(rc));
    }
    still_serves();
}

static void size_large(guint arg)
{
    static const guint32 sizes[] = {65537,      65536 + 4096, 1 << 24,
                                    0x7fffffff, 0x80000000,   0xffffffff};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct client *c = session();
        GByteArray *msg = client_pack(TGETATTR, 700, "dq", ROOT, (guint64)GETATTR_BASIC);
        GByteArray *frame = NULL;
        int rc;

        set_size(msg, sizes[i]);
        client_send_raw(c, msg->data, msg->len);
        shutdown(c->fd, SHUT_WR);
        do {
            rc = client_recv(c, &frame);
            if (rc == 0 && client_frame_type(frame) != RLERROR)
                fail("a message with size %u was answered with success", sizes[i]);
        } while (rc == 0);
        if (rc != CLIENT_EOF)
            fail("a message with size %u: %s", sizes[i], rc_name(rc));
    }
    still_serves();
}

/* The end comes when the size is read: not after as many bytes as a liar cares to send. */
static void size_beyond_msize(guint arg)
{
    struct client *c = session_msize(8192);
    guint32 size = 1 << 20;
    GByteArray *msg = client_pack(TGETATTR, 700, "dq", ROOT, (guint64)GETATTR_BASIC), *frame = NULL;
    int rc;

    (void)arg;
    set_size(msg, size);
    OK(client_send_raw(c, msg->data, msg->len));
    rc = client_recv(c, &frame);
    if (rc == 0)
        IS(client_frame_type(frame), RLERROR);
    else if (rc != CLIENT_EOF)
        fail(
            "a message announced with 1 MiB where msize is 8 KiB: %s, expected the end or an error",
            rc_name(rc));
    still_serves();
}

static void types(guint arg)
{
    struct client *c = prepared();

    (void)arg;
    for (guint type = 0; type < 256; type++) {
        GByteArray *msg = client_pack((guint8)type, 700, "ddqqqq", ROOT, 0u, (guint64)0, (guint64)0,
                                      (guint64)0, (guint64)0);
        g_autofree char *what = g_strdup_printf("a message of type %u", type);
        guint8 got;

        if (type != 0 && strchr((const char *)sample_types, (int)type) != NULL)
            continue;
        got = throw(&c, msg, what);
        if (got != 0 && got != RLERROR)
            fail("%s, which 9P2000.L does not have, was answered with type %u", what, got);
    }
    still_serves();
}

static void strings(guint arg)
{
    /* lengths within messages that say more than there is */
    struct client *c = prepared();
    GByteArray *msg;

    (void)arg;
    msg = client_pack(TWALK, 700, "ddw", WORK, 90u, 16); /* 16 names, and none follows */
    YES(throw(&c, msg, "Twalk of names that are not there") != TWALK + 1);
    msg = client_pack(TWALK, 700, "ddw", WORK, 90u, 65535);
    YES(throw(&c, msg, "Twalk of 65535 names") != TWALK + 1);
    msg = client_pack(TMKDIR, 700, "dwdd", WORK, 65535, 0u, 0u);
    YES(throw(&c, msg, "Tmkdir with a name of 65535 bytes") != TMKDIR + 1);
    msg = client_pack(TWRITE, 700, "dqd", 31u, (guint64)0, 0xffffffffu);
    YES(throw(&c, msg, "Twrite of 4 GiB without data") != TWRITE + 1);
    msg = client_pack(TWRITE, 700, "dqd", 31u, (guint64)0, 0x7fffffffu);
    YES(throw(&c, msg, "Twrite of 2 GiB without data") != TWRITE + 1);
    msg = client_pack(TWRITE, 700, "dqdd", 31u, (guint64)0, 5u, 0u);
    YES(throw(&c, msg, "Twrite of 5 bytes with 4") != TWRITE + 1);
    still_serves();
}

static void same_tag(guint arg)
{
    struct client *c = session();

    (void)arg;
    for (guint round = 0; round < 50; round++) {
        GByteArray *all = g_byte_array_new(), *frame = NULL;
        int rc = 0;

        for (guint i = 0; i < 20; i++) {
            GByteArray *msg = client_pack(TGETATTR, 700, "dq", ROOT, (guint64)GETATTR_BASIC);

            g_byte_array_append(all, msg->data, msg->len);
        }
        OK(client_send_raw(c, all->data, all->len));
        for (guint i = 0; i < 20 && rc == 0; i++)
            rc = client_recv(c, &frame);
        if (rc == CLIENT_EOF)
            c = session();
        else if (rc != 0)
            fail("20 requests with one tag: %s", rc_name(rc));
    }
    still_serves();
}

static void notag(guint arg)
{
    struct client *c = session();
    GByteArray *msg = client_pack(TGETATTR, NOTAG, "dq", ROOT, (guint64)GETATTR_BASIC), *frame;
    int rc;

    (void)arg;
    OK(client_send_raw(c, msg->data, msg->len));
    rc = client_recv(c, &frame);
    if (rc != 0 && rc != CLIENT_EOF)
        fail("Tgetattr with NOTAG: %s", rc_name(rc));
    still_serves();
}

/* The connection ends anywhere in a message. */
static void broken_off(guint arg)
{
    struct client *c = session();
    GByteArray *msg = client_pack(TWRITE, 700, "dqD", 50u, (guint64)0, (gsize)24,
                                  "twenty-four bytes of data"),
               *mkdir;

    (void)arg;
    make_file(c, "file", "text");
    mkdir = client_pack(TMKDIR, 701, "dsdd", WORK, "half", 0755u, 0u);
    for (guint len = 1; len < msg->len; len++) {
        struct client *other = session();

        OK(client_walk_path(other, WORK, 50, "file", NULL));
        OK(client_lopen(other, 50, L_RDWR, NULL));
        client_send_raw(other, msg->data, len);
        client_close(other);
    }
    for (guint len = 1; len < mkdir->len; len++) {
        struct client *other = session();

        client_send_raw(other, mkdir->data, len);
        client_close(other);
    }
    attr_of(c, WORK);
    still_serves();
    expect_content(c, "file", "text");
    YES(!exists(c, "half"));
}

static void garbage(guint arg)
{
    GRand *rand = g_rand_new_with_seed(env.seed);

    (void)arg;
    for (guint round = 0; round < 100; round++) {
        struct client *c = round % 2 ? session() : dial();
        guint8 bytes[512];
        GByteArray *frame = NULL;
        int rc;

        for (guint i = 0; i < sizeof bytes; i++)
            bytes[i] = (guint8)g_rand_int(rand);
        client_send_raw(c, bytes, g_rand_int_range(rand, 1, sizeof bytes));
        shutdown(c->fd, SHUT_WR);
        do
            rc = client_recv(c, &frame);
        while (rc == 0);
        if (rc != CLIENT_EOF)
            fail("round %u of random bytes: %s", round, rc_name(rc));
        client_close(c);
    }
    still_serves();
}

static void foreign(guint arg)
{
    static const char *const words[] = {"GET / HTTP/1.0\r\n\r\n", "SSH-2.0-x\r\n",
                                        "\r\n\r\n\r\n\r\n"};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        struct client *c = dial();
        GByteArray *frame = NULL;
        int rc;

        client_send_raw(c, words[i], strlen(words[i]));
        shutdown(c->fd, SHUT_WR);
        do
            rc = client_recv(c, &frame);
        while (rc == 0);
        if (rc != CLIENT_EOF)
            fail("'%s': %s", words[i], rc_name(rc));
    }
    still_serves();
}

#define M "intro(5): size[4] Ttag tag[2]"
#define CUT(name, type)                                                                            \
    {                                                                                              \
        "malformed/cut-" name, name " cut short at any byte is never answered with success", M,    \
            CASE_WRITES, cut, type                                                                 \
    }
const struct conform_case malformed_cases[] = {
    CUT("Tversion", TVERSION),
    CUT("Tauth", TAUTH),
    CUT("Tattach", TATTACH),
    CUT("Tflush", TFLUSH),
    CUT("Twalk", TWALK),
    CUT("Tread", TREAD),
    CUT("Twrite", TWRITE),
    CUT("Tclunk", TCLUNK),
    CUT("Tremove", TREMOVE),
    CUT("Tstatfs", TSTATFS),
    CUT("Tlopen", TLOPEN),
    CUT("Tlcreate", TLCREATE),
    CUT("Tsymlink", TSYMLINK),
    CUT("Tmknod", TMKNOD),
    CUT("Trename", TRENAME),
    CUT("Treadlink", TREADLINK),
    CUT("Tgetattr", TGETATTR),
    CUT("Tsetattr", TSETATTR),
    CUT("Txattrwalk", TXATTRWALK),
    CUT("Txattrcreate", TXATTRCREATE),
    CUT("Treaddir", TREADDIR),
    CUT("Tfsync", TFSYNC),
    CUT("Tlock", TLOCK),
    CUT("Tgetlock", TGETLOCK),
    CUT("Tlink", TLINK),
    CUT("Tmkdir", TMKDIR),
    CUT("Trenameat", TRENAMEAT),
    CUT("Tunlinkat", TUNLINKAT),
    {"malformed/longer", "bytes behind a message's last field do no harm", M, CASE_WRITES, longer,
     0},
    {"malformed/size-small", "sizes below 7 end the connection", M, 0, size_small, 0},
    {"malformed/size-large", "sizes up to 4 GiB do no harm", M, 0, size_large, 0},
    {"malformed/size-beyond-msize", "a size beyond msize ends the connection before its data come",
     "version(5): msize", 0, size_beyond_msize, 0},
    {"malformed/types", "messages that 9P2000.L does not have are refused", M, CASE_WRITES, types,
     0},
    {"malformed/counts", "strings, lists and data that say to be longer than they are, are refused",
     "intro(5): s[2]", CASE_WRITES, strings, 0},
    {"malformed/same-tag", "requests in flight with one tag do no harm", "intro(5): tags", 0,
     same_tag, 0},
    {"malformed/notag", "NOTAG for another request than Tversion does no harm", "intro(5): NOTAG",
     0, notag, 0},
    {"malformed/broken-off", "a connection that ends in the middle of a message does nothing of it",
     M, CASE_WRITES, broken_off, 0},
    {"malformed/garbage", "random bytes do no harm (--seed)", M, 0, garbage, 0},
    {"malformed/foreign", "clients of other protocols do no harm", M, 0, foreign, 0},
    CASES_END,
};
