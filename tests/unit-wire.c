/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: the wire codec reads each message as the protocol lays it out, refuses those that are
 * truncated, have bytes left over, a NUL in a string or too many names, and never writes a reply
 * that does not fit.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "src/wire.h"

/* Literal bytes of a message into memory of just that size; sizes are filled in. */
static uint8_t *message(const char *bytes, size_t size)
{
    uint8_t *copy = memcpy(g_malloc(size), bytes, size);

    copy[0] = (uint8_t)size;
    copy[1] = (uint8_t)(size >> 8);
    copy[2] = copy[3] = 0;
    return copy;
}

#define MESSAGE(literal) message(literal, sizeof literal - 1), sizeof literal - 1

static int decode(uint8_t *bytes, size_t size, struct wire_msg *msg, uint8_t **keep)
{
    *keep = bytes;
    return wire_decode(bytes, size, msg);
}

static void test_walk(void)
{
    g_autofree uint8_t *keep = NULL;
    struct wire_msg msg;

    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x6e\x05\x00\x01\x00\x00\x00\x02\x00\x00\x00\x02\x00"
                                   "\x01\x00"
                                   "a"
                                   "\x03\x00"
                                   "bcd"),
                           &msg, &keep),
                    ==, 0);
    g_assert_cmpuint(msg.tag, ==, 5);
    g_assert_cmpuint(msg.fid, ==, 1);
    g_assert_cmpuint(msg.fid2, ==, 2);
    g_assert_cmpuint(msg.nwname, ==, 2);
    g_assert_cmpstr(msg.wname[0], ==, "a");
    g_assert_cmpstr(msg.wname[1], ==, "bcd");
    g_assert_cmpuint(msg.wname_len[1], ==, 3);
}

static void test_attach_order(void)
{
    g_autofree uint8_t *keep = NULL;
    struct wire_msg msg;

    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x68\x01\x00\x07\x00\x00\x00\xff\xff\xff\xff"
                                   "\x04\x00"
                                   "user"
                                   "\x02\x00"
                                   "ex"
                                   "\xe8\x03\x00\x00"),
                           &msg, &keep),
                    ==, 0);
    g_assert_cmpuint(msg.fid, ==, 7);
    g_assert_cmpuint(msg.fid2, ==, P9_NOFID);
    g_assert_cmpstr(msg.name2, ==, "user");
    g_assert_cmpstr(msg.name, ==, "ex");
    g_assert_cmpuint(msg.uid, ==, 1000);
}

static void test_link_order(void)
{
    g_autofree uint8_t *keep = NULL;
    struct wire_msg msg;

    /* Tlink dfid fid name: the directory comes first. */
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x46\x01\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00"
                                   "n"),
                           &msg, &keep),
                    ==, 0);
    g_assert_cmpuint(msg.fid2, ==, 1);
    g_assert_cmpuint(msg.fid, ==, 2);
}

static void test_write(void)
{
    g_autofree uint8_t *keep = NULL;
    struct wire_msg msg;

    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x76\x01\x00\x01\x00\x00\x00"
                                   "\x00\x10\x00\x00\x00\x00\x00\x80\x03\x00\x00\x00"
                                   "xyz"),
                           &msg, &keep),
                    ==, 0);
    g_assert_cmpuint(msg.offset, ==, G_GUINT64_CONSTANT(0x8000000000001000));
    g_assert_cmpuint(msg.count, ==, 3);
    g_assert_cmpmem(msg.data, msg.count, "xyz", 3);
}

static void test_refused(void)
{
    struct wire_msg msg;
    uint8_t *keep;

    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x78\x01\x00\x01\x00\x00"), &msg, &keep), ==, -EPROTO);
    g_free(keep);
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x78\x09\x00\x01\x00\x00\x00\x00"), &msg, &keep), ==,
                    -EPROTO);
    g_assert_cmpuint(msg.tag, ==, 9);
    g_free(keep);
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\xc8\x09\x00"), &msg, &keep), ==, -EOPNOTSUPP);
    g_free(keep);
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x4c\x01\x00\x01\x00\x00\x00\x03\x00"
                                   "a\0b"
                                   "\0\0\0\0"),
                           &msg, &keep),
                    ==, -EINVAL);
    g_free(keep);
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x4c\x01\x00\x01\x00\x00\x00\xff\xff"
                                   "ab"
                                   "\0\0\0\0"),
                           &msg, &keep),
                    ==, -EPROTO);
    g_free(keep);
    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x6e\x01\x00\x01\x00\x00\x00\x02\x00\x00\x00\x11\x00"),
                           &msg, &keep),
                    ==, -EINVAL);
    g_free(keep);
}

/* Some clients send Tfsync without datasync. */
static void test_fsync_short(void)
{
    g_autofree uint8_t *keep = NULL, *keep2 = NULL;
    struct wire_msg msg;

    g_assert_cmpint(decode(MESSAGE("\0\0\0\0\x32\x01\x00\x01\x00\x00\x00"), &msg, &keep), ==, 0);
    g_assert_cmpuint(msg.flags, ==, 0);
    g_assert_cmpint(
        decode(MESSAGE("\0\0\0\0\x32\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00"), &msg, &keep2), ==,
        0);
    g_assert_cmpuint(msg.flags, ==, 1);
}

static void test_reply(void)
{
    uint8_t bytes[64];
    struct qid qid = {0x80, 0x01020304, G_GUINT64_CONSTANT(0x1122334455667788)};
    struct wire_out out;

    wire_begin(&out, bytes, sizeof bytes, P9_RATTACH, 3);
    wire_put_qid(&out, &qid);
    g_assert_cmpuint(wire_finish(&out), ==, 20);
    g_assert_cmpmem(bytes, 20,
                    "\x14\0\0\0\x69\x03\0\x80\x04\x03\x02\x01\x88\x77\x66\x55\x44\x33\x22\x11", 20);
    wire_error(&out, 4, EBADF);
    g_assert_cmpuint(wire_finish(&out), ==, 11);
    g_assert_cmpmem(bytes, 11, "\x0b\0\0\0\x07\x04\0\x09\0\0\0", 11);
}

static void test_reply_overflow(void)
{
    uint8_t bytes[16];
    struct wire_out out;

    memset(bytes, 0xaa, sizeof bytes);
    wire_begin(&out, bytes, 12, P9_RREADLINK, 3);
    wire_put_str(&out, "abcdef", 6);
    g_assert_true(out.overflow);
    g_assert_cmpuint(wire_finish(&out), ==, 0);
    g_assert_cmpuint(bytes[12], ==, 0xaa);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/walk", test_walk);
    g_test_add_func("/wire/attach-order", test_attach_order);
    g_test_add_func("/wire/link-order", test_link_order);
    g_test_add_func("/wire/write", test_write);
    g_test_add_func("/wire/refused", test_refused);
    g_test_add_func("/wire/fsync-short", test_fsync_short);
    g_test_add_func("/wire/reply", test_reply);
    g_test_add_func("/wire/reply-overflow", test_reply_overflow);
    return g_test_run();
}
