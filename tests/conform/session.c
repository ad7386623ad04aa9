/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tversion, Tauth, Tattach, Tclunk: how sessions and fids begin and end. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>

static void version(guint arg)
{
    struct client *c = dial();
    char *text = NULL;
    guint32 msize = 0;

    (void)arg;
    OK(client_version(c, 100000, "9P2000.L", &msize, &text));
    if (strcmp(text, "9P2000.L") != 0)
        fail("Rversion says '%s'", text);
    YES(msize >= 4096 && msize <= 100000);
}

static void version_unknown(guint arg)
{
    struct client *c = dial();
    char *text = NULL;
    guint32 msize = 0;

    (void)arg;
    OK(client_version(c, 65536, "9X9999", &msize, &text));
    if (strcmp(text, "unknown") != 0)
        fail("Rversion says '%s', expected 'unknown'", text);
    OK(client_hello(c, 65536)); /* and the client may try another */
    OK(client_attach(c, ROOT, env.uid, env.aname, NULL));
}

static void before_version(guint arg)
{
    struct client *c = dial();
    int rc = client_attach(c, ROOT, env.uid, env.aname, NULL);

    (void)arg;
    if (rc != CLIENT_EOF && rc <= 0)
        fail("Tattach before Tversion: %s, expected an error or the end", rc_name(rc));
    still_serves();
}

/* One file of some blocks, written and read in pieces as large as the msize allows. */
static void msize_is(guint32 msize, guint32 at_least)
{
    struct client *c = session_msize(msize);
    gsize payload, size;
    guint32 fid, written = 0;
    GByteArray *data = NULL;
    guint8 *bytes;

    if (c->msize < at_least)
        fail("asked for msize %u, got %u", msize, c->msize);
    payload = c->msize - 24;
    size = payload * 2 + 100;
    bytes = g_malloc(size);
    for (gsize i = 0; i < size; i++)
        bytes[i] = (guint8)(i * 2654435761u >> 13);
    fid = make_open(c, "file", "");
    for (gsize done = 0; done < size; done += written) {
        OK(client_write(c, fid, done, MIN(payload, size - done), bytes + done, &written));
        YES(written > 0);
    }
    for (gsize done = 0; done < size; done += data->len) {
        OK(client_read(c, fid, done, payload, &data));
        YES(data->len > 0 && data->len <= size - done);
        YES(memcmp(data->data, bytes + done, data->len) == 0);
    }
}

static void msize_4k(guint arg)
{
    (void)arg;
    msize_is(4096, 4096);
}

static void msize_64k(guint arg)
{
    (void)arg;
    msize_is(65536 + 24, 65536);
}

static void msize_1m(guint arg)
{
    (void)arg;
    msize_is((1 << 20) + 24, 1 << 20);
}

static void msize_kept(guint arg)
{
    struct client *c = session_msize(4096);
    guint32 fid = make_open(c, "file", ""), written;
    GByteArray *data = NULL;
    char text[3000] = "";

    (void)arg;
    for (guint i = 0; i < 10; i++)
        OK(client_write(c, fid, i * sizeof text, sizeof text, text, &written));
    /* client_recv refuses frames beyond 8 KiB; 4 KiB is for us to look at */
    for (guint32 count = 4000; count != 0; count = count == 4000    ? 30000
                                                   : count == 30000 ? ~0u
                                                                    : 0) {
        int rc = client_read(c, fid, 0, count, &data);

        if (rc == 0)
            YES(data->len > 0 && data->len + 11 <= 4096);
        else
            expect_error(rc, "Tread with a count beyond msize", __FILE__, __LINE__);
    }
    for (guint i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("a name of some length, number %u", i);

        OK(client_mkdir(c, WORK, name, 0755, NULL));
    }
    fid = clone_fid(c, WORK);
    OK(client_lopen(c, fid, L_RDONLY | L_DIRECTORY, NULL));
    OK(client_rpc(c, TREADDIR, "dqd", fid, (guint64)0, 60000u, "D", &data));
    YES(data->len > 0 && data->len + 11 <= 4096);
}

static void msize_tiny(guint arg)
{
    struct client *c = dial();
    char *text = NULL;
    guint32 msize = 0;
    int rc = client_version(c, 10, "9P2000.L", &msize, &text);

    (void)arg;
    if (rc == 0)
        YES(msize <= 10);
    still_serves();
}

static void version_again(guint arg)
{
    struct client *c = session();
    guint32 open = make_open(c, "file", "text"), walked = walk_to(c, WORK, "file");
    struct client_attr attr;
    GByteArray *data;

    (void)arg;
    OK(client_hello(c, 32768));
    ERROR(client_getattr(c, ROOT, GETATTR_BASIC, &attr));
    ERROR(client_getattr(c, WORK, GETATTR_BASIC, &attr));
    ERROR(client_getattr(c, walked, GETATTR_BASIC, &attr));
    ERROR(client_read(c, open, 0, 10, &data));
    ERROR(client_clunk(c, open));
    OK(client_attach(c, ROOT, env.uid, env.aname, NULL));
    OK(client_getattr(c, ROOT, GETATTR_BASIC, &attr));
}

static void version_pipelined(guint arg)
{
    struct client *c = session();
    GByteArray *frame = NULL;
    gboolean seen = FALSE;
    guint8 end[] = {0};

    (void)arg;
    (void)end;
    for (guint i = 0; i < 200; i++)
        YES(client_post(c, TGETATTR, "dq", ROOT, (guint64)GETATTR_BASIC) >= 0);
    YES(client_post(c, TVERSION, "ds", 65536u, "9P2000.L") >= 0);
    while (!seen) {
        int rc = client_recv(c, &frame);

        if (rc != 0)
            fail("before Rversion came: %s", rc_name(rc));
        seen = client_frame_type(frame) == TVERSION + 1;
    }
    /* whatever comes now belongs to the new session: the reply to this */
    OK(client_attach(c, ROOT, env.uid, env.aname, NULL));
    if (g_hash_table_size(c->parked) != 0)
        fail("%u replies of the old session came after Rversion", g_hash_table_size(c->parked));
}

static void auth(guint arg)
{
    struct client *c = dial();
    struct client_qid qid;

    (void)arg;
    OK(client_hello(c, 65536));
    ERROR(client_rpc(c, TAUTH, "dssd", 50u, "", env.aname, env.uid, "Q", &qid));
    OK(client_attach(c, ROOT, env.uid, env.aname, NULL));
}

static void attach(guint arg)
{
    struct client *c = dial();
    struct client_qid one, two;

    (void)arg;
    OK(client_hello(c, 65536));
    OK(client_attach(c, 10, env.uid, env.aname, &one));
    OK(client_attach(c, 11, env.uid, env.aname, &two));
    YES(one.type & QTDIR);
    YES(same_qid(&one, &two));
    YES((attr_of(c, 11).mode & 0170000) == 0040000);
}

static void attach_in_use(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");

    (void)arg;
    ERROR(client_attach(c, fid, env.uid, env.aname, NULL));
    YES((attr_of(c, fid).mode & 0170000) == 0100000);
}

static void attach_unknown(guint arg)
{
    struct client *c = session();
    struct client_attr attr;

    (void)arg;
    ERROR(client_attach(c, 77, env.uid, "no such export, surely", NULL));
    ERROR(client_getattr(c, 77, GETATTR_BASIC, &attr));
    ERROR(client_attach(c, 77, env.uid, "../..", NULL));
}

/* The root of an attach is a root: nothing above it, whatever the names. */
static void attach_below(guint arg)
{
    static const char *const up[] = {"..", NULL}, *const climb[] = {"deep", "..", "..", NULL};
    struct client *c = session();
    g_autofree char *sub = g_strdup_printf("%s/%s/%s/sub", env.aname, env.work, env.at);
    g_autofree char *dots = g_strdup_printf("%s/deep/../..", sub);
    g_autofree char *link = g_strdup_printf("%s/%s/%s/link", env.aname, env.work, env.at);
    struct client_qid root, walked, qids[16];
    guint32 fid = client_fid(c), other = client_fid(c);
    guint n;
    int rc;

    (void)arg;
    OK(client_mkdir(c, make_dir(c, "sub"), "deep", 0755, NULL));
    make_link(c, "link", "/");
    rc = client_attach(c, fid, env.uid, sub, &root);
    if (rc == ENOENT)
        skip("the server has no attaches below its export");
    OK(rc);
    walked = qid_of(c, walk_to(c, WORK, "sub"));
    YES(same_qid(&root, &walked));
    OK(client_walk(c, fid, client_fid(c), up, &n, qids));
    YES(same_qid(&qids[0], &root));
    OK(client_walk(c, fid, client_fid(c), climb, &n, qids));
    YES(n == 3 && same_qid(&qids[1], &root) && same_qid(&qids[2], &root));
    /* by no name further up than the export's own root; and not where a symlink leads */
    rc = client_attach(c, other, env.uid, dots, &walked);
    if (rc == 0) {
        YES(same_qid(&walked, &root));
        OK(client_clunk(c, other));
    }
    ERROR(client_attach(c, other, env.uid, link, NULL));
}

static void attach_afid(guint arg)
{
    struct client *c = session();
    struct client_qid qid;

    (void)arg;
    ERROR(client_rpc(c, TATTACH, "ddssd", 77u, 78u, "", env.aname, env.uid, "Q", &qid));
    ERROR(client_rpc(c, TATTACH, "ddssd", 77u, ROOT, "", env.aname, env.uid, "Q", &qid));
}

static void nofid(guint arg)
{
    struct client *c = session();
    struct client_attr attr;
    struct client_qid qids[16];
    guint n;

    (void)arg;
    ERROR(client_attach(c, NOFID, env.uid, env.aname, NULL));
    ERROR(client_walk(c, ROOT, NOFID, NULL, &n, qids));
    ERROR(client_getattr(c, NOFID, GETATTR_BASIC, &attr));
}

static void clunk(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, ROOT);
    struct client_attr attr;
    struct client_qid qids[16];
    guint n;

    (void)arg;
    OK(client_clunk(c, fid));
    ERROR(client_getattr(c, fid, GETATTR_BASIC, &attr));
    ERROR(client_clunk(c, fid));
    OK(client_walk(c, ROOT, fid, NULL, &n, qids));
    OK(client_getattr(c, fid, GETATTR_BASIC, &attr));
}

static void clunk_open(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");
    GByteArray *data;

    (void)arg;
    OK(client_clunk(c, fid));
    ERROR(client_read(c, fid, 0, 10, &data));
    expect_content(c, "file", "text");
}

static void unknown_fid(guint arg)
{
    struct client *c = session();
    GString *wrong = g_string_new("");

    (void)arg;
    samples_prepare(c);
    for (const guint8 *t = sample_types; *t != 0; t++) {
        GByteArray *frame = NULL, *msg = sample(*t, 600, 99999);
        guint32 ecode = 0;
        int rc;

        if (*t == TVERSION || *t == TAUTH || *t == TATTACH || *t == TFLUSH)
            continue;
        OK(client_send_raw(c, msg->data, msg->len));
        rc = reply_of(c, 600, &frame);
        if (rc != 0)
            fail("%s with an unknown fid: %s", type_name(*t), rc_name(rc));
        if (client_frame_type(frame) != RLERROR)
            g_string_append_printf(wrong, " %s (success)", type_name(*t));
        else if (client_unpack(frame, "d", &ecode) && ecode != EBADF && ecode != EIO &&
                 ecode != EINVAL && ecode != ENOENT)
            g_string_append_printf(wrong, " %s (%s)", type_name(*t), rc_name((int)ecode));
    }
    if (wrong->len > 0)
        fail("with an unknown fid, expected EBADF:%s", wrong->str);
}

static void two_sessions(guint arg)
{
    struct client *a = session(), *b = session();
    guint32 fid = make_file(a, "file", "text");
    struct client_attr attr;

    (void)arg;
    ERROR(client_getattr(b, fid, GETATTR_BASIC, &attr));
    client_close(a);
    OK(client_getattr(b, WORK, GETATTR_BASIC, &attr));
    expect_content(b, "file", "text");
}

static void slow_sender(guint arg)
{
    struct client *c = dial();
    GByteArray *all = client_pack(TVERSION, NOTAG, "ds", 65536u, "9P2000.L"), *frame = NULL;

    (void)arg;
    for (guint i = 0; i < all->len; i++)
        OK(client_send_raw(c, all->data + i, 1));
    OK(client_recv(c, &frame));
    IS(client_frame_type(frame), TVERSION + 1);
    all = client_pack(TATTACH, 5, "ddssd", ROOT, NOFID, "", env.aname, env.uid);
    for (guint i = 0; i < all->len; i++)
        OK(client_send_raw(c, all->data + i, 1));
    OK(client_recv(c, &frame));
    IS(client_frame_type(frame), TATTACH + 1);
    IS(client_frame_tag(frame), 5);
    all = client_pack(TGETATTR, 6, "dq", ROOT, (guint64)GETATTR_BASIC);
    for (guint i = 0; i < all->len; i++)
        OK(client_send_raw(c, all->data + i, 1));
    OK(client_recv(c, &frame));
    IS(client_frame_type(frame), TGETATTR + 1);
}

static void tags(guint arg)
{
    static const guint16 numbers[] = {0, 1, 32767, 32768, 65534, 77};
    struct client *c = session();

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        GByteArray *msg = client_pack(TGETATTR, numbers[i], "dq", ROOT, (guint64)GETATTR_BASIC);
        GByteArray *frame = NULL;

        OK(client_send_raw(c, msg->data, msg->len));
        OK(client_recv(c, &frame));
        IS(client_frame_tag(frame), numbers[i]);
        IS(client_frame_type(frame), TGETATTR + 1);
    }
}

#define V "version(5), Tversion"
const struct conform_case session_cases[] = {
    {"session/version", "9P2000.L is agreed, with no larger msize than asked for", V, 0, version,
     0},
    {"session/version-unknown",
     "an unknown version is answered with 'unknown', and another may be "
     "asked for",
     V, 0, version_unknown, 0},
    {"session/before-version", "nothing works before Tversion", V, 0, before_version, 0},
    {"session/msize-4k", "a session with an msize of 4 KiB reads and writes",
     "Linux: msize=4096 is the least", CASE_WRITES, msize_4k, 0},
    {"session/msize-64k", "64 KiB for each read and write are granted and used",
     "Linux: msize, 128 KiB by default since 5.15", CASE_WRITES, msize_64k, 0},
    {"session/msize-1m", "1 MiB for each read and write is granted and used",
     "Linux: msize up to 1 MiB over TCP and more", CASE_WRITES, msize_1m, 0},
    {"session/msize-kept", "no reply is larger than msize, whatever count is asked for",
     "read(5), Tread; Treaddir", CASE_WRITES, msize_kept, 0},
    {"session/msize-tiny", "an msize too small for any message is refused", V, 0, msize_tiny, 0},
    {"session/version-again", "Tversion in mid-session ends every fid, and a new session begins", V,
     CASE_WRITES, version_again, 0},
    {"session/version-pipelined", "no reply of the old session comes after Rversion", V, 0,
     version_pipelined, 0},
    {"session/auth", "Tauth is refused where no authentication is needed, and attach works",
     "attach(5), Tauth", 0, auth, 0},
    {"session/attach", "the root is a directory, with the same qid at each attach",
     "attach(5), Tattach", 0, attach, 0},
    {"session/attach-in-use", "an attach to a fid in use fails, and leaves that as it was",
     "attach(5), Tattach", CASE_WRITES, attach_in_use, 0},
    {"session/attach-unknown", "an unknown aname is refused, and makes no fid",
     "attach(5), Tattach", 0, attach_unknown, 0},
    {"session/attach-below",
     "a directory below an export, attached by aname, has the qid that it has there, and is the "
     "root: "
     "nothing above it is reached",
     "attach(5), walk(5): ..; Linux: mount option aname", CASE_WRITES, attach_below, 0},
    {"session/attach-afid", "an afid that is none is refused", "attach(5), Tattach", 0, attach_afid,
     0},
    {"session/nofid", "NOFID is no number for a fid", "attach(5); Linux: P9_NOFID", 0, nofid, 0},
    {"session/clunk", "a clunked fid is gone, and its number free", "clunk(5), Tclunk", 0, clunk,
     0},
    {"session/clunk-open", "a clunk closes an open file", "clunk(5), Tclunk", CASE_WRITES,
     clunk_open, 0},
    {"session/unknown-fid",
     "every message with an unknown fid is refused with EBADF (or EIO, "
     "EINVAL, ENOENT), and the session goes on",
     "intro(5): fids", CASE_WRITES, unknown_fid, 0},
    {"session/two", "fids belong to one connection, and its end disturbs no other",
     "intro(5): connections", CASE_WRITES, two_sessions, 0},
    {"session/byte-at-a-time", "messages that come byte by byte are answered",
     "intro(5): a byte stream", 0, slow_sender, 0},
    {"session/tags", "replies carry the tag of the request, whatever number", "intro(5): tags", 0,
     tags, 0},
    CASES_END,
};
