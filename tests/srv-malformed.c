/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever bytes a client sends, it gets Rlerror or its own connection ends; the server
 * lives, other connections go on, and at SIGTERM it ends with status 0 (under AddressSanitizer: no
 * leak either).
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void still_fine(struct fixture *f)
{
    struct client_attr attr;
    struct client *c;

    g_assert_true(server_alive(f->s));
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    c = server_client(f->s);
    g_assert_cmpint(client_getattr(c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    client_close(c);
}

/* sends the bytes on a connection of their own, then says that no more will come, and reads all
 * that comes back */
static void throw_at(struct fixture *f, const void *bytes, gsize len, gboolean attached)
{
    struct client *c = attached ? server_client(f->s) : client_connect(f->s->addr);
    int rc;

    g_assert_nonnull(c);
    client_send_raw(c, bytes, len);
    shutdown(c->fd, SHUT_WR);
    do {
        g_autoptr(GByteArray) frame = NULL;

        rc = client_recv(c, &frame);
    } while (rc == 0);
    g_assert_cmpint(rc, ==, CLIENT_EOF);
    client_close(c);
}

static void size_below_header(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (guint size = 0; size < 7; size++) {
        guint8 raw[16] = {size, 0, 0, 0, TCLUNK, 1, 0, 1, 0, 0, 0};

        throw_at(f, raw, sizeof raw, TRUE);
        throw_at(f, raw, sizeof raw, FALSE);
    }
    still_fine(f);
}

static void size_beyond_msize(struct fixture *f, gconstpointer data)
{
    static const guint32 sizes[] = {65537, 1u << 24, 0x7fffffff, 0xffffffffu};

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        guint8 raw[64] = {sizes[i], sizes[i] >> 8, sizes[i] >> 16, sizes[i] >> 24, TWRITE, 1};

        throw_at(f, raw, sizeof raw, TRUE);
        throw_at(f, raw, sizeof raw, FALSE);
    }
    still_fine(f);
}

/* The message cut off at each byte, with the size field telling so. */
static void truncated_bodies(struct fixture *f, gconstpointer data)
{
    const char *names[] = {"a", "b", NULL};
    GByteArray *whole[] = {
        client_pack(TVERSION, NOTAG, "ds", 8192u, "9P2000.L"),
        client_pack(TATTACH, 1, "ddssd", 2u, NOFID, "u", "data", 0u),
        client_pack(TWALK, 1, "ddL", ROOT_FID, 2u, names),
        client_pack(TGETATTR, 1, "dq", ROOT_FID, GETATTR_ALL),
        client_pack(TSETATTR, 1, "dddddqqqqq", ROOT_FID, 0u, 0u, 0u, 0u, (guint64)0, (guint64)0,
                    (guint64)0, (guint64)0, (guint64)0),
        client_pack(TLCREATE, 1, "dsddd", ROOT_FID, "name", 2u, 0644u, 0u),
        client_pack(TWRITE, 1, "dqD", ROOT_FID, (guint64)0, (gsize)9, "some data"),
        client_pack(TREADDIR, 1, "dqd", ROOT_FID, (guint64)0, 100u),
        client_pack(TSYMLINK, 1, "dssd", ROOT_FID, "name", "target", 0u),
        client_pack(TMKNOD, 1, "dsdddd", ROOT_FID, "name", 0100644u, 0u, 0u, 0u),
        client_pack(TRENAMEAT, 1, "dsds", ROOT_FID, "x", ROOT_FID, "y"),
        client_pack(TLOCK, 1, "dbdqqds", ROOT_FID, 1, 0u, (guint64)0, (guint64)0, 1u, "host"),
        client_pack(TGETLOCK, 1, "dbqqds", ROOT_FID, 1, (guint64)0, (guint64)0, 1u, "host"),
        client_pack(TXATTRCREATE, 1, "dsqd", ROOT_FID, "user.x", (guint64)4, 0u),
        client_pack(TFLUSH, 1, "w", 3),
    };

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(whole); i++) {
        for (guint len = 7; len < whole[i]->len; len++) {
            struct client *c = server_client(f->s);
            g_autoptr(GByteArray) cut = g_byte_array_new();
            g_autoptr(GByteArray) reply = NULL;
            int rc;

            g_byte_array_append(cut, whole[i]->data, len);
            cut->data[0] = len;
            client_send_raw(c, cut->data, cut->len);
            rc = client_recv(c, &reply);
            /* an older form of Tfsync apart, a short message is never carried out */
            g_assert_true(rc == CLIENT_EOF || (rc == 0 && client_frame_type(reply) == RLERROR));
            client_close(c);
        }
        g_byte_array_unref(whole[i]);
    }
    still_fine(f);
}

static void trailing_junk(struct fixture *f, gconstpointer data)
{
    struct client *c = server_client(f->s);
    g_autoptr(GByteArray) reply = NULL;
    int rc;

    (void)data;
    g_assert_cmpint(
        client_wait(c, client_post(c, TGETATTR, "dqb", ROOT_FID, GETATTR_ALL, 7), TGETATTR + 1, ""),
        !=, 0);
    client_close(c);
    c = server_client(f->s);
    client_post(c, TCLUNK, "dqqq", ROOT_FID, (guint64)1, (guint64)2, (guint64)3);
    rc = client_recv(c, &reply);
    g_assert_true(rc == CLIENT_EOF || (rc == 0 && client_frame_type(reply) == RLERROR));
    client_close(c);
    still_fine(f);
}

static void lying_inner_lengths(struct fixture *f, gconstpointer data)
{
    GByteArray *bad[] = {
        /* string length, write count and name count beyond the message */
        client_pack(TMKDIR, 1, "dwbdd", ROOT_FID, 65535, 'x', 0755u, 0u),
        client_pack(TWRITE, 1, "dqdb", ROOT_FID, (guint64)0, 0xffffffffu, 'x'),
        client_pack(TWRITE, 1, "dqdb", ROOT_FID, (guint64)0, 2u, 'x'),
        client_pack(TWALK, 1, "ddw", ROOT_FID, 2u, 65535),
        client_pack(TWALK, 1, "ddws", ROOT_FID, 2u, 2, "a"),
        client_pack(TVERSION, NOTAG, "dw", 8192u, 500),
    };

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        throw_at(f, bad[i]->data, bad[i]->len, TRUE);
        g_byte_array_unref(bad[i]);
    }
    still_fine(f);
}

static void byte_at_a_time(struct fixture *f, gconstpointer data)
{
    struct client *slow = server_client(f->s);
    g_autoptr(GByteArray) frame = client_pack(TGETATTR, 77, "dq", ROOT_FID, GETATTR_ALL);
    struct client_attr attr;
    g_autoptr(GByteArray) reply = NULL;

    (void)data;
    for (guint i = 0; i < frame->len; i++) {
        g_assert_cmpint(client_send_raw(slow, frame->data + i, 1), ==, 0);
        /* nobody waits for the slow one */
        g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    }
    g_assert_cmpint(client_recv(slow, &reply), ==, 0);
    g_assert_cmpuint(client_frame_type(reply), ==, TGETATTR + 1);
    client_close(slow);
}

static void disconnect_in_mid_message(struct fixture *f, gconstpointer data)
{
    g_autofree char *text = g_strnfill(20000, 'w');
    g_autoptr(GByteArray) frame = NULL;

    (void)data;
    for (guint i = 0; i < 100; i++) {
        struct client *c = server_client(f->s);
        guint32 fid = walk_new(c, "");
        g_autofree char *name = g_strdup_printf("file-%u", i);

        g_assert_cmpint(client_lcreate(c, fid, name, L_RDWR, 0644, NULL), ==, 0);
        g_clear_pointer(&frame, g_byte_array_unref);
        frame = client_pack(TWRITE, 1, "dqD", fid, (guint64)0, (gsize)20000, text);
        client_send_raw(c, frame->data, 5 + i * 199);
        client_close(c);
    }
    still_fine(f);
}

/* Asks for much, reads nothing, goes away: the server must neither hang nor grow without end. */
static void disconnect_with_answers_pending(struct fixture *f, gconstpointer data)
{
    g_autofree char *big = g_strnfill(60000, 'b');

    (void)data;
    make_file(f->s, "big", big);
    for (guint i = 0; i < 10; i++) {
        struct client *c = server_client(f->s);
        guint32 fid = walk_new(c, "big");

        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
        for (guint j = 0; j < 100; j++)
            client_post(c, TREAD, "dqd", fid, (guint64)0, 60000u);
        client_close(c);
    }
    still_fine(f);
}

static void same_tag_twice(struct fixture *f, gconstpointer data)
{
    struct client *c = server_client(f->s);
    g_autoptr(GByteArray) frame = client_pack(TGETATTR, 9, "dq", ROOT_FID, GETATTR_ALL);
    int rc;

    (void)data;
    for (guint i = 0; i < 50; i++)
        client_send_raw(c, frame->data, frame->len);
    shutdown(c->fd, SHUT_WR);
    do {
        g_autoptr(GByteArray) reply = NULL;

        rc = client_recv(c, &reply);
    } while (rc == 0);
    g_assert_cmpint(rc, ==, CLIENT_EOF);
    client_close(c);
    still_fine(f);
}

/* A message of a random type with random fields, bytes changed, and sometimes a size that lies.  No
 * Tmknod: this may run as root, and nobody wants random device nodes. */
static GByteArray *mutant(GRand *rand)
{
    static const guint8 types[] = {
        6,      TSTATFS,  TLOPEN,   TLCREATE, TSYMLINK,   TRENAME,      TREADLINK,
        TREAD,  TGETATTR, TSETATTR, TLOCK,    TXATTRWALK, TXATTRCREATE, TREADDIR,
        TFSYNC, TGETLOCK, TLINK,    TMKDIR,   TRENAMEAT,  TUNLINKAT,    TVERSION,
        TAUTH,  TATTACH,  TFLUSH,   TWALK,    TWRITE,     TCLUNK,       TREMOVE};
    static const char *const words[] = {"a",    "b",        "..",     "",   ".",
                                        "file", "9P2000.L", "user.x", "x/y"};
    guint8 type = types[g_rand_int_range(rand, 0, G_N_ELEMENTS(types))];
    GByteArray *b = client_pack(type, g_rand_int_range(rand, 0, 20), "d",
                                (guint32)g_rand_int_range(rand, 0, 6));
    guint fields = g_rand_int_range(rand, 0, 8);
    guint size;

    for (guint i = 0; i < fields; i++) {
        guint8 raw[8];
        const char *word = words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))];

        memset(raw, 0, sizeof raw);
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            raw[0] = g_rand_int_range(rand, 0, 8);
            g_byte_array_append(b, raw, 4);
            break;
        case 1:
            raw[0] = strlen(word);
            g_byte_array_append(b, raw, 2);
            g_byte_array_append(b, (const guint8 *)word, raw[0]);
            break;
        case 2:
            raw[0] = g_rand_int_range(rand, 0, 256);
            g_byte_array_append(b, raw, 8);
            break;
        case 3:
            for (guint j = 0; j < 8; j++)
                raw[j] = g_rand_int(rand);
            g_byte_array_append(b, raw, g_rand_int_range(rand, 1, 9));
            break;
        default:
            memset(raw, 0xff, sizeof raw);
            g_byte_array_append(b, raw, 1 << g_rand_int_range(rand, 0, 4));
        }
    }
    if (g_rand_int_range(rand, 0, 4) == 0)
        b->data[g_rand_int_range(rand, 4, b->len)] = g_rand_int(rand);
    size = b->len;
    if (g_rand_int_range(rand, 0, 50) == 0)
        size = g_rand_int(rand);
    for (guint i = 0; i < 4; i++)
        b->data[i] = size >> (8 * i);
    return b;
}

static void random_messages(struct fixture *f, gconstpointer data)
{
    enum { MESSAGES = 20000, BURST = 40 };
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240229);
    struct client_attr attr;

    (void)data;
    make_dir(f->s, "a");
    make_file(f->s, "a/b", "text");
    make_file(f->s, "file", "text");
    for (guint i = 0; i < MESSAGES / BURST; i++) {
        struct client *c = server_client(f->s);
        int rc;

        client_walk_path(c, ROOT_FID, 2, "a", NULL);
        client_walk_path(c, ROOT_FID, 3, "a/b", NULL);
        client_walk_path(c, ROOT_FID, 4, "a", NULL);
        client_lopen(c, 3, L_RDWR, NULL);
        client_lopen(c, 4, L_RDONLY, NULL);
        for (guint j = 0; j < BURST; j++) {
            g_autoptr(GByteArray) m = mutant(rand);

            if (client_send_raw(c, m->data, m->len) != 0)
                break;
        }
        shutdown(c->fd, SHUT_WR);
        do {
            g_autoptr(GByteArray) reply = NULL;

            rc = client_recv(c, &reply);
        } while (rc == 0);
        /* frames stay whole to the end; a changed msize may make a reply larger than we take */
        g_assert_true(rc == CLIENT_EOF || rc == CLIENT_BAD);
        client_close(c);
        if (i % 20 == 0) {
            g_assert_true(server_alive(f->s));
            g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
        }
    }
    still_fine(f);
}

static void random_bytes(struct fixture *f, gconstpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);

    (void)data;
    for (guint i = 0; i < 300; i++) {
        guint8 raw[512];

        for (guint j = 0; j < sizeof raw; j++)
            raw[j] = g_rand_int(rand);
        throw_at(f, raw, g_rand_int_range(rand, 1, sizeof raw), i % 2);
    }
    still_fine(f);
}

static void many_connections_that_say_nothing(struct fixture *f, gconstpointer data)
{
    struct client *idle[200];

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(idle); i++) {
        idle[i] = client_connect(f->s->addr);
        g_assert_nonnull(idle[i]);
    }
    still_fine(f);
    for (guint i = 0; i < G_N_ELEMENTS(idle); i++)
        client_close(idle[i]);
    still_fine(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/malformed/size-below-header", size_below_header);
    FIXTURE_TEST("/malformed/size-beyond-msize", size_beyond_msize);
    FIXTURE_TEST("/malformed/truncated", truncated_bodies);
    FIXTURE_TEST("/malformed/trailing-junk", trailing_junk);
    FIXTURE_TEST("/malformed/inner-lengths", lying_inner_lengths);
    FIXTURE_TEST("/malformed/byte-at-a-time", byte_at_a_time);
    FIXTURE_TEST("/malformed/disconnect-mid-message", disconnect_in_mid_message);
    FIXTURE_TEST("/malformed/disconnect-pending", disconnect_with_answers_pending);
    FIXTURE_TEST("/malformed/same-tag", same_tag_twice);
    FIXTURE_TEST("/malformed/random-messages", random_messages);
    FIXTURE_TEST("/malformed/random-bytes", random_bytes);
    FIXTURE_TEST("/malformed/idle-connections", many_connections_that_say_nothing);
    return g_test_run();
}
