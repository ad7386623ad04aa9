/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See flow.h. */
#include "config.h"

#include "tests/lib/flow.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

void send_frame(struct client *c, GByteArray *frame)
{
    g_assert_cmpint(client_send_raw(c, frame->data, frame->len), ==, 0);
    g_byte_array_unref(frame);
}

/* The next reply is this one. */
void expect(struct client *c, guint16 tag, guint8 type)
{
    g_autoptr(GByteArray) frame = NULL;

    g_assert_cmpint(client_recv(c, &frame), ==, 0);
    g_assert_cmpuint(client_frame_tag(frame), ==, tag);
    g_assert_cmpuint(client_frame_type(frame), ==, type);
}

/* Asks for more than sockets hold, and waits until the first of it is there. */
struct client *ask_much(struct server *s, const char *addr)
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

guint count_in_log(struct server *s, const char *what)
{
    g_autofree char *text = NULL;
    guint count = 0;

    g_assert_true(g_file_get_contents(s->log, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

void test(const char *path, const char *const *extra,
          void (*fn)(struct fixture *f, gconstpointer data))
{
    g_test_add(path, struct fixture, extra, fixture_setup, fn, fixture_teardown);
}
