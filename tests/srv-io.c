/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what a client writes is what the file holds and what is read again, at any offset and
 * size; open flags mean what they mean on Linux; an open fid lives on after its name is gone.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static void assert_host_file(struct fixture *f, const char *name, const void *want, gsize want_len)
{
    g_autofree char *path = server_path(f->s, name), *text = NULL;
    gsize len = 0;

    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    g_assert_cmpmem(text, len, want, want_len);
}

static guint32 open_new(struct fixture *f, const char *path, guint32 flags)
{
    guint32 fid = walk_new(f->c, path);

    g_assert_cmpint(client_lopen(f->c, fid, flags, NULL), ==, 0);
    return fid;
}

static void create_write_read(struct fixture *f, gconstpointer data)
{
    guint32 fid = walk_new(f->c, ""), n = 0;
    struct client_qid qid, again;
    struct stat st;
    g_autofree char *path = server_path(f->s, "new");
    g_autoptr(GByteArray) bytes = NULL;

    (void)data;
    g_assert_cmpint(client_lcreate(f->c, fid, "new", L_RDWR, 0640, &qid), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 5, "hello", &n), ==, 0);
    g_assert_cmpuint(n, ==, 5);
    g_assert_cmpint(client_read(f->c, fid, 1, 100, &bytes), ==, 0);
    g_assert_cmpmem(bytes->data, bytes->len, "ello", 4);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, client_fid(f->c), "new", &again), ==, 0);
    g_assert_cmpuint(qid.path, ==, again.path);
    g_assert_cmpuint(qid.type, ==, QTFILE);
    g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    assert_host_file(f, "new", "hello", 5);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0640);
}

static void create_exclusive(struct fixture *f, gconstpointer data)
{
    guint32 fid = walk_new(f->c, "");

    (void)data;
    make_file(f->s, "there", "old");
    g_assert_cmpint(client_lcreate(f->c, fid, "there", L_RDWR | L_CREAT | L_EXCL, 0644, NULL), ==,
                    EEXIST);
    assert_host_file(f, "there", "old", 3);
    /* the fid is still the directory */
    g_assert_cmpint(client_lcreate(f->c, fid, "fresh", L_WRONLY | L_CREAT | L_EXCL, 0644, NULL), ==,
                    0);
}

static void create_bad_names(struct fixture *f, gconstpointer data)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/x"};

    (void)data;
    if (skip_for_peer(f->s, "diod passes some names on"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        guint32 fid = walk_new(f->c, "");

        g_assert_cmpint(client_lcreate(f->c, fid, bad[i], L_RDWR, 0644, NULL), >, 0);
    }
}

static void read_needs_an_open_fid(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = NULL;
    guint32 fid, n;

    (void)data;
    make_file(f->s, "file", "text");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_read(f->c, fid, 0, 10, &bytes), >, 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 1, "x", &n), >, 0);
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 1, "x", &n), ==, EBADF);
    g_assert_cmpint(client_lopen(f->c, fid, L_RDWR, NULL), >, 0);
    assert_host_file(f, "file", "text", 4);
}

static void write_only_does_not_read(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = NULL;
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = open_new(f, "file", L_WRONLY);
    g_assert_cmpint(client_read(f->c, fid, 0, 10, &bytes), ==, EBADF);
}

static void read_at_and_after_the_end(struct fixture *f, gconstpointer data)
{
    static const guint64 offsets[] = {4, 5, 1ull << 40};
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = open_new(f, "file", L_RDONLY);
    for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_read(f->c, fid, offsets[i], 10, &bytes), ==, 0);
        g_assert_cmpuint(bytes->len, ==, 0);
    }
    for (guint64 o = 1ull << 63; o != 0; o = o == G_MAXUINT64 ? 0 : G_MAXUINT64) {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_read(f->c, fid, o, 10, &bytes), >, 0);
    }
    {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_read(f->c, fid, 0, 0, &bytes), ==, 0);
        g_assert_cmpuint(bytes->len, ==, 0);
    }
}

/* A count beyond msize gives at most what fits into one reply. */
static void read_more_than_msize(struct fixture *f, gconstpointer data)
{
    g_autofree char *big = g_strnfill(200000, 'q');
    g_autoptr(GByteArray) bytes = NULL;
    guint32 fid;
    int rc;

    (void)data;
    make_file(f->s, "big", big);
    fid = open_new(f, "big", L_RDONLY);
    rc = client_read(f->c, fid, 0, 0xffffffffu, &bytes);
    if (rc == 0)
        g_assert_cmpuint(bytes->len, <=, f->c->msize - 11);
    else
        g_assert_cmpint(rc, >, 0);
}

static void large_file(struct fixture *f, gconstpointer data)
{
    enum { SIZE = 3 << 20, STEP = 60001 };
    g_autofree guint8 *want = g_malloc(SIZE);
    g_autoptr(GByteArray) got = g_byte_array_new();
    g_autoptr(GArray) tags = g_array_new(FALSE, FALSE, sizeof(int));
    guint32 fid = walk_new(f->c, ""), n;

    (void)data;
    for (guint i = 0; i < SIZE; i++)
        want[i] = (i * 2654435761u) >> 13;
    g_assert_cmpint(client_lcreate(f->c, fid, "large", L_RDWR, 0644, NULL), ==, 0);
    for (gsize at = 0; at < SIZE; at += STEP) {
        gsize len = MIN(SIZE - at, STEP);

        g_assert_cmpint(client_write(f->c, fid, at, len, want + at, &n), ==, 0);
        g_assert_cmpuint(n, ==, len);
    }
    assert_host_file(f, "large", want, SIZE);
    for (gsize at = 0; at < SIZE; at += STEP) {
        int tag = client_post(f->c, TREAD, "dqd", fid, (guint64)at, (guint32)STEP);
        g_array_append_val(tags, tag);
    }
    for (guint i = 0; i < tags->len; i++) {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_wait(f->c, g_array_index(tags, int, i), TREAD + 1, "D", &bytes), ==,
                        0);
        g_byte_array_append(got, bytes->data, bytes->len);
    }
    g_assert_cmpmem(got->data, got->len, want, SIZE);
}

/* Writes that arrive in pieces: the data comes in a later segment than the header. */
static void write_in_pieces(struct fixture *f, gconstpointer data)
{
    enum { SIZE = 50000 };
    g_autofree guint8 *want = g_malloc(SIZE);
    g_autoptr(GByteArray) frame = NULL;
    guint32 fid = walk_new(f->c, ""), n = 0;

    (void)data;
    for (guint i = 0; i < SIZE; i++)
        want[i] = i % 251;
    g_assert_cmpint(client_lcreate(f->c, fid, "pieces", L_RDWR, 0644, NULL), ==, 0);
    frame = client_pack(TWRITE, 4444, "dqD", fid, (guint64)3, (gsize)SIZE, want);
    for (gsize at = 0; at < frame->len; at += 977)
        g_assert_cmpint(client_send_raw(f->c, frame->data + at, MIN(977, frame->len - at)), ==, 0);
    g_assert_cmpint(client_wait(f->c, 4444, TWRITE + 1, "d", &n), ==, 0);
    g_assert_cmpuint(n, ==, SIZE);
    {
        g_autoptr(GByteArray) bytes = NULL;

        g_assert_cmpint(client_read(f->c, fid, 3, SIZE, &bytes), ==, 0);
        g_assert_cmpmem(bytes->data, bytes->len, want, SIZE);
    }
}

static void append_ignores_nothing(struct fixture *f, gconstpointer data)
{
    guint32 fid, n;

    (void)data;
    make_file(f->s, "log", "one");
    fid = open_new(f, "log", L_WRONLY | L_APPEND);
    g_assert_cmpint(client_write(f->c, fid, 3, 3, "two", &n), ==, 0);
    assert_host_file(f, "log", "onetwo", 6);
}

static void open_truncates(struct fixture *f, gconstpointer data)
{
    guint32 fid, n;

    (void)data;
    make_file(f->s, "file", "long text");
    fid = open_new(f, "file", L_WRONLY | L_TRUNC);
    assert_host_file(f, "file", "", 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 1, "x", &n), ==, 0);
    assert_host_file(f, "file", "x", 1);
}

static void fsync_answers(struct fixture *f, gconstpointer data)
{
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    fid = open_new(f, "file", L_RDWR);
    g_assert_cmpint(client_fsync(f->c, fid), ==, 0);
    g_assert_cmpint(client_rpc(f->c, TFSYNC, "dd", fid, 1u, ""), ==, 0);
    g_assert_cmpint(client_fsync(f->c, 99999), ==, EBADF);
}

static void use_after_unlink(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = NULL;
    struct client_attr attr;
    guint32 fid, n;

    (void)data;
    make_file(f->s, "file", "text");
    fid = open_new(f, "file", L_RDWR);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "file", 0), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 4, 1, "!", &n), ==, 0);
    g_assert_cmpint(client_read(f->c, fid, 0, 10, &bytes), ==, 0);
    g_assert_cmpmem(bytes->data, bytes->len, "text!", 5);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(attr.nlink, ==, 0);
    g_assert_cmpuint(attr.size, ==, 5);
    attr.size = 2;
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &attr), ==, 0);
    g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
}

static void use_after_rename(struct fixture *f, gconstpointer data)
{
    guint32 fid, n;

    (void)data;
    make_file(f->s, "old", "text");
    make_file(f->s, "other", "other");
    fid = walk_new(f->c, "old");
    g_assert_cmpint(client_renameat(f->c, ROOT_FID, "old", ROOT_FID, "new"), ==, 0);
    g_assert_cmpint(client_renameat(f->c, ROOT_FID, "other", ROOT_FID, "old"), ==, 0);
    g_assert_cmpint(client_lopen(f->c, fid, L_RDWR, NULL), ==, 0);
    g_assert_cmpint(client_write(f->c, fid, 0, 1, "T", &n), ==, 0);
    assert_host_file(f, "new", "Text", 4);
    assert_host_file(f, "old", "other", 5);
}

static void directories_do_not_read(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = NULL;
    guint32 fid = walk_new(f->c, "");

    (void)data;
    g_assert_cmpint(client_lopen(f->c, walk_new(f->c, ""), L_RDWR, NULL), ==, EISDIR);
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    g_assert_cmpint(client_read(f->c, fid, 0, 10, &bytes), >, 0);
}

static void open_directory_flag_on_a_file(struct fixture *f, gconstpointer data)
{
    (void)data;
    make_file(f->s, "file", "text");
    g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "file"), L_RDONLY | L_DIRECTORY, NULL), ==,
                    ENOTDIR);
}

/* Opening a FIFO for reading must not hang a server; what it answers is its own matter. */
static void fifo_does_not_hang(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "fifo");
    struct client_attr attr;
    int tag;

    (void)data;
    if (skip_for_peer(f->s, "it does"))
        return;
    g_assert_cmpint(mkfifo(path, 0644), ==, 0);
    tag = client_post(f->c, TLOPEN, "dd", walk_new(f->c, "fifo"), 0u);
    g_assert_cmpint(tag, >=, 0);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_rpc(f->c, TFLUSH, "w", tag, ""), ==, 0);
}

/* Segments with data that have come over TCP: each send of the server takes one at least. */
static guint segments(const struct client *c)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;

    g_assert_cmpint(getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size), ==, 0);
    g_assert_cmpuint(info.tcpi_data_segs_in, >, 0); /* replies have come before */
    return info.tcpi_data_segs_in;
}

/* Sends `n` reads of a page in one piece, and takes the replies: in how many segments they came. */
static guint read_pages(struct client *c, guint32 fid, guint n, const char *right)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint before = segments(c);

    for (guint i = 0; i < n; i++) {
        g_autoptr(GByteArray) frame =
            client_pack(TREAD, (guint16)(1000 + i), "dqd", fid, (guint64)i * 4096, (guint32)4096);

        g_byte_array_append(all, frame->data, frame->len);
    }
    g_assert_cmpint(client_send_raw(c, all->data, all->len), ==, 0);
    for (guint i = 0; i < n; i++) {
        g_autoptr(GByteArray) reply = NULL;

        g_assert_cmpint(client_recv(c, &reply), ==, 0);
        g_assert_cmpuint(client_frame_type(reply), ==, TREAD + 1);
        g_assert_cmpmem(reply->data + 11, reply->len - 11,
                        right + (client_frame_tag(reply) - 1000) * 4096, 4096);
    }
    return segments(c) - before;
}

/* Replies to messages that came together leave together, pages of a file among them. A thread that
 * the machine stops in between sends each of what follows alone: once in a hundred rounds it must
 * be left in peace. */
static void pages_leave_together(struct fixture *f, gconstpointer data)
{
    enum { PAGES = 14 };
    g_autofree char *text = g_malloc(PAGES * 4096 + 1);
    struct client *c;
    guint32 fid;
    guint least = G_MAXUINT;

    (void)data;
    if (skip_for_peer(f->s, "how it sends is its own affair"))
        return;
    for (guint i = 0; i < PAGES * 4096; i++)
        text[i] = (char)('a' + i / 4096);
    text[PAGES * 4096] = '\0';
    make_file(f->s, "pages", text);
    c = client_connect(f->s->tcp);
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    fid = walk_new(c, "pages");
    g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
    for (guint i = 0; i < 100 && least > PAGES / 2; i++)
        least = MIN(least, read_pages(c, fid, PAGES, text));
    g_test_message("%u segments for %u replies", least, PAGES);
    g_assert_cmpuint(least, <=, PAGES / 2);
    client_close(c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/io/create-write-read", create_write_read);
    FIXTURE_TEST("/io/create-exclusive", create_exclusive);
    FIXTURE_TEST("/io/create-bad-names", create_bad_names);
    FIXTURE_TEST("/io/read-unopened", read_needs_an_open_fid);
    FIXTURE_TEST("/io/write-only", write_only_does_not_read);
    FIXTURE_TEST("/io/read-end", read_at_and_after_the_end);
    FIXTURE_TEST("/io/read-beyond-msize", read_more_than_msize);
    FIXTURE_TEST("/io/large", large_file);
    FIXTURE_TEST("/io/pieces", write_in_pieces);
    FIXTURE_TEST("/io/pages-together", pages_leave_together);
    FIXTURE_TEST("/io/append", append_ignores_nothing);
    FIXTURE_TEST("/io/truncate", open_truncates);
    FIXTURE_TEST("/io/fsync", fsync_answers);
    FIXTURE_TEST("/io/after-unlink", use_after_unlink);
    FIXTURE_TEST("/io/after-rename", use_after_rename);
    FIXTURE_TEST("/io/directory", directories_do_not_read);
    FIXTURE_TEST("/io/directory-flag", open_directory_flag_on_a_file);
    FIXTURE_TEST("/io/fifo", fifo_does_not_hang);
    return g_test_run();
}
