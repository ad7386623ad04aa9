/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: each message of 9P2000.L is told in words, with every field but data; no byte of a name
 * gets out unescaped; whatever the bytes are, a line stays within its room.
 */
#include "config.h"

#include "src/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "tests/lib/client.h"

/* What does not fit the wire's table is a mistake of the test. */
#define REQUEST(expected, type, ...)                                                               \
    do {                                                                                           \
        g_autoptr(GByteArray) bytes_ = client_pack(type, 5, __VA_ARGS__);                          \
        struct wire_msg msg_;                                                                      \
        char text_[TRACE_LINE];                                                                    \
        g_assert_cmpint(wire_decode(bytes_->data, bytes_->len, &msg_), ==, 0);                     \
        trace_format_request(&msg_, text_, sizeof text_);                                          \
        g_assert_cmpstr(text_, ==, "tag 5 " expected);                                             \
        told[type] = TRUE;                                                                         \
    } while (0)

#define REPLY(expected, type, ...)                                                                 \
    do {                                                                                           \
        g_autoptr(GByteArray) bytes_ = client_pack(type, 5, __VA_ARGS__);                          \
        char text_[TRACE_LINE];                                                                    \
        trace_format_reply(bytes_->data, bytes_->len, text_, sizeof text_);                        \
        g_assert_cmpstr(text_, ==, "tag 5 " expected);                                             \
        told[type] = TRUE;                                                                         \
        cut(bytes_);                                                                               \
    } while (0)

static gboolean told[256];

/* Each shorter form of it is told without a read beyond its end (sanitizers see to that). */
static void cut(const GByteArray *whole)
{
    for (guint len = 0; len < whole->len; len++) {
        g_autofree guint8 *copy = g_malloc(len + 1);
        char text[TRACE_LINE];

        memcpy(copy + 1, whole->data, len); /* ends where the room ends */
        trace_format_reply(copy + 1, len, text, sizeof text);
    }
}

#define Q guint64
static void requests(void)
{
    static const char *const names[] = {"a", "b'c", NULL};
    static const char data[] = "secret";

    memset(told, 0, sizeof told);
    REQUEST("Tversion msize 8192 version '9P2000.L'", P9_TVERSION, "ds", 8192u, "9P2000.L");
    REQUEST("Tauth afid 3 uname 'u' aname 'a' uid none", P9_TAUTH, "dssd", 3u, "u", "a", NONUNAME);
    REQUEST("Tattach fid 1 afid none uname 'u' aname 'data' uid 1000", P9_TATTACH, "ddssd", 1u,
            NOFID, "u", "data", 1000u);
    REQUEST("Tflush oldtag 9", P9_TFLUSH, "w", 9);
    REQUEST("Twalk fid 1 newfid 2 names 'a' 'b\\x27c'", P9_TWALK, "ddL", 1u, 2u, names);
    REQUEST("Tread fid 1 offset 4294967296 count 77", P9_TREAD, "dqd", 1u, (Q)1 << 32, 77u);
    REQUEST("Twrite fid 1 offset 2 count 6", P9_TWRITE, "dqD", 1u, (Q)2, (gsize)6, data);
    REQUEST("Tclunk fid 1", P9_TCLUNK, "d", 1u);
    REQUEST("Tremove fid 1", P9_TREMOVE, "d", 1u);
    REQUEST("Tstatfs fid 1", P9_TSTATFS, "d", 1u);
    REQUEST("Tlopen fid 1 flags 01002", P9_TLOPEN, "dd", 1u, 01002u);
    REQUEST("Tlcreate fid 1 name 'f' flags 0102 mode 0644 gid 7", P9_TLCREATE, "dsddd", 1u, "f",
            0102u, 0644u, 7u);
    REQUEST("Tsymlink fid 1 name 'l' target '../t' gid 7", P9_TSYMLINK, "dssd", 1u, "l", "../t",
            7u);
    REQUEST("Tmknod dfid 1 name 'n' mode 020600 major 1 minor 3 gid 0", P9_TMKNOD, "dsdddd", 1u,
            "n", 020600u, 1u, 3u, 0u);
    REQUEST("Trename fid 1 dfid 2 name 'n'", P9_TRENAME, "dds", 1u, 2u, "n");
    REQUEST("Treadlink fid 1", P9_TREADLINK, "d", 1u);
    REQUEST("Tgetattr fid 1 mask 0x3fff", P9_TGETATTR, "dq", 1u, (Q)0x3fff);
    REQUEST("Tsetattr fid 1 valid 0x1ff mode 0600 uid 1 gid none size 9 atime 1.000000002 mtime "
            "3.000000004",
            P9_TSETATTR, "dddddqqqqq", 1u, 0x1ffu, 0600u, 1u, NONUNAME, (Q)9, (Q)1, (Q)2, (Q)3,
            (Q)4);
    REQUEST("Txattrwalk fid 1 newfid 2 name 'user.x'", P9_TXATTRWALK, "dds", 1u, 2u, "user.x");
    REQUEST("Txattrcreate fid 1 name 'user.x' size 9 flags 0x1", P9_TXATTRCREATE, "dsqd", 1u,
            "user.x", (Q)9, 1u);
    REQUEST("Treaddir fid 1 offset 2 count 3", P9_TREADDIR, "dqd", 1u, (Q)2, 3u);
    REQUEST("Tfsync fid 1 datasync 1", P9_TFSYNC, "dd", 1u, 1u);
    REQUEST("Tlock fid 1 type write flags 1 start 2 length 3 proc 4 client 'g'", P9_TLOCK,
            "dbdqqds", 1u, 1, 1u, (Q)2, (Q)3, 4u, "g");
    REQUEST("Tgetlock fid 1 type unlock start 2 length 3 proc 4 client 'g'", P9_TGETLOCK, "dbqqds",
            1u, 2, (Q)2, (Q)3, 4u, "g");
    REQUEST("Tlink dfid 1 fid 2 name 'n'", P9_TLINK, "dds", 1u, 2u, "n");
    REQUEST("Tmkdir dfid 1 name 'n' mode 0755 gid 7", P9_TMKDIR, "dsdd", 1u, "n", 0755u, 7u);
    REQUEST("Trenameat olddirfid 1 name 'n' newdirfid 2 newname 'm'", P9_TRENAMEAT, "dsds", 1u, "n",
            2u, "m");
    REQUEST("Tunlinkat dirfid 1 name 'n' flags 0x200", P9_TUNLINKAT, "dsd", 1u, "n", 0x200u);
    for (guint type = 0; type < 256; type++)
        if (wire_type_name((uint8_t)type)[0] == 'T' && !told[type])
            g_error("%s is not told", wire_type_name((uint8_t)type));
}

static void replies(void)
{
    static const char data[] = "secret";

    memset(told, 0, sizeof told);
    /* a qid is type[1] version[4] path[8] */
    REPLY("Rlerror ENOENT", P9_RLERROR, "d", (guint)ENOENT);
    REPLY("Rlerror errno 4000000000", P9_RLERROR, "d", 4000000000u);
    REPLY("Rversion msize 8192 version 'unknown'", P9_RVERSION, "ds", 8192u, "unknown");
    REPLY("Rauth qid file:0:0x1", P9_RAUTH, "bdq", 0, 0u, (Q)1);
    REPLY("Rattach qid dir:7:0x1234", P9_RATTACH, "bdq", QTDIR, 7u, (Q)0x1234);
    REPLY("Rflush", P9_RFLUSH, "");
    REPLY("Rwalk qids", P9_RWALK, "w", 0);
    REPLY("Rwalk qids dir:1:0x2 link:3:0x4", P9_RWALK, "wbdqbdq", 2, QTDIR, 1u, (Q)2, QTSYMLINK, 3u,
          (Q)4);
    REPLY("Rread count 6", P9_RREAD, "D", (gsize)6, data);
    REPLY("Rwrite count 6", P9_RWRITE, "d", 6u);
    REPLY("Rclunk", P9_RCLUNK, "");
    REPLY("Rremove", P9_RREMOVE, "");
    REPLY("Rstatfs type 0x1021997 bsize 4096 blocks 1 bfree 2 bavail 3 files 4 ffree 5 fsid 0x6 "
          "namelen 255",
          P9_RSTATFS, "ddqqqqqqd", 0x1021997u, 4096u, (Q)1, (Q)2, (Q)3, (Q)4, (Q)5, (Q)6, 255u);
    REPLY("Rlopen qid file:1:0x2 iounit 0", P9_RLOPEN, "bdqd", 0, 1u, (Q)2, 0u);
    REPLY("Rlcreate qid file:1:0x2 iounit 9", P9_RLCREATE, "bdqd", 0, 1u, (Q)2, 9u);
    REPLY("Rsymlink qid link:1:0x2", P9_RSYMLINK, "bdq", QTSYMLINK, 1u, (Q)2);
    REPLY("Rmknod qid file:1:0x2", P9_RMKNOD, "bdq", 0, 1u, (Q)2);
    REPLY("Rmkdir qid dir:1:0x2", P9_RMKDIR, "bdq", QTDIR, 1u, (Q)2);
    REPLY("Rrename", P9_RRENAME, "");
    REPLY("Rreadlink target '\\xc3\\xa4\\x0a'", P9_RREADLINK, "s", "\303\244\n");
    REPLY("Rgetattr valid 0x7ff qid dir:1:0x2 mode 040755 uid 3 gid 4 nlink 5 rdev 0x6 size 7 "
          "blksize 8 blocks 9 atime 10.11 mtime 12.13 ctime 14.15 btime 16.17 gen 18 "
          "data_version 19",
          P9_RGETATTR, "qbdqdddqqqqqqqqqqqqqqq", (Q)0x7ff, QTDIR, 1u, (Q)2, 040755u, 3u, 4u, (Q)5,
          (Q)6, (Q)7, (Q)8, (Q)9, (Q)10, (Q)11, (Q)12, (Q)13, (Q)14, (Q)15, (Q)16, (Q)17, (Q)18,
          (Q)19);
    REPLY("Rsetattr", P9_RSETATTR, "");
    REPLY("Rxattrwalk size 9", P9_RXATTRWALK, "q", (Q)9);
    REPLY("Rxattrcreate", P9_RXATTRCREATE, "");
    REPLY("Rreaddir count 6", P9_RREADDIR, "D", (gsize)6, data);
    REPLY("Rfsync", P9_RFSYNC, "");
    REPLY("Rlock blocked", P9_RLOCK, "b", 1);
    REPLY("Rgetlock type read start 1 length 2 proc 3 client 'g'", P9_RGETLOCK, "bqqds", 0, (Q)1,
          (Q)2, 3u, "g");
    REPLY("Rlink", P9_RLINK, "");
    REPLY("Rrenameat", P9_RRENAMEAT, "");
    REPLY("Runlinkat", P9_RUNLINKAT, "");
    for (guint type = 0; type < 255; type++)
        if (wire_type_name((uint8_t)type)[0] == 'T' && !told[type + 1])
            g_error("the reply to %s is not told", wire_type_name((uint8_t)type));
}

static void hostile(void)
{
    g_autofree char *name = g_malloc(60001);
    g_autoptr(GByteArray) bytes = NULL;
    struct wire_msg msg;
    char text[TRACE_LINE];

    for (guint i = 0; i < 60000; i++)
        name[i] = (char)(i % 255 + 1);
    name[60000] = '\0';
    bytes = client_pack(P9_TXATTRWALK, 5, "dds", 1u, 2u, name);
    g_assert_cmpint(wire_decode(bytes->data, bytes->len, &msg), ==, 0);
    for (gsize size = 8; size <= sizeof text; size++) {
        memset(text, 'X', sizeof text);
        trace_format_request(&msg, text, size);
        g_assert_cmpuint(strlen(text), <, size);
        g_assert_true(g_str_has_suffix(text, "..."));
        for (const char *at = text; *at != '\0'; at++)
            g_assert_true(*at >= 0x20 && *at < 0x7f);
        g_assert_true(size == sizeof text || text[size] == 'X');
    }
    for (guint i = 0; i < 20000; i++) {
        guint8 noise[64];

        for (guint at = 0; at < sizeof noise; at++)
            noise[at] = (guint8)g_test_rand_int_range(0, 256);
        trace_format_reply(noise, (gsize)g_test_rand_int_range(0, sizeof noise), text, sizeof text);
        for (const char *at = text; *at != '\0'; at++)
            g_assert_true(*at >= 0x20 && *at < 0x7f);
    }
    memset(&msg, 0, sizeof msg);
    msg.type = 251;
    msg.size = 19;
    trace_format_request(&msg, text, sizeof text);
    g_assert_cmpstr(text, ==, "tag 0 type 251, unknown; 19 bytes");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace/requests", requests);
    g_test_add_func("/trace/replies", replies);
    g_test_add_func("/trace/hostile", hostile);
    return g_test_run();
}
