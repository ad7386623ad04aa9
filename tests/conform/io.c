/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tlopen, Tread, Twrite, Tfsync. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <sys/stat.h>

#define L_NOCTTY    0400u
#define L_DSYNC     010000u
#define L_FASYNC    020000u
#define L_DIRECT    040000u
#define L_LARGEFILE 0100000u
#define L_NOATIME   01000000u
#define L_CLOEXEC   02000000u
#define L_SYNC      04000000u

static void read_write(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "0123456789");
    GByteArray *data = NULL;

    (void)arg;
    put_text(c, fid, 3, "abc");
    expect_text(c, fid, "012abc6789");
    OK(client_read(c, fid, 8, 100, &data));
    YES(data->len == 2 && memcmp(data->data, "89", 2) == 0);
    OK(client_read(c, fid, 10, 100, &data));
    IS(data->len, 0);
    OK(client_read(c, fid, 1 << 20, 100, &data));
    IS(data->len, 0);
    put_text(c, fid, 20, "end");
    OK(client_read(c, fid, 0, 100, &data));
    IS(data->len, 23);
    YES(memcmp(data->data + 10, "\0\0\0\0\0\0\0\0\0\0end", 13) == 0);
    OK(client_clunk(c, fid));
    fid = open_path(c, "file", L_RDONLY);
    OK(client_read(c, fid, 0, 3, &data));
    YES(data->len == 3 && memcmp(data->data, "012", 3) == 0);
}

static void count_zero(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text"), written = 99;
    GByteArray *data = NULL;

    (void)arg;
    OK(client_read(c, fid, 0, 0, &data));
    IS(data->len, 0);
    OK(client_write(c, fid, 2, 0, "", &written));
    IS(written, 0);
    OK(client_write(c, fid, 1000, 0, "", &written));
    IS(attr_of(c, fid).size, 4);
}

static void sparse(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");
    GByteArray *data = NULL;
    guint64 far = ((guint64)5 << 32) + 7;

    (void)arg;
    put_text(c, fid, far, "end");
    OK(client_read(c, fid, far, 100, &data));
    YES(data->len == 3 && memcmp(data->data, "end", 3) == 0);
    IS(attr_of(c, fid).size, far + 3);
    OK(client_read(c, fid, far - 2, 3, &data));
    YES(data->len == 3 && memcmp(data->data, "\0\0e", 3) == 0);
}

static void offset_huge(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text"), written = 0;
    GByteArray *data = NULL;
    static const guint64 offsets[] = {(guint64)1 << 63, ~(guint64)0, ~(guint64)0 - 2};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
        int rc = client_read(c, fid, offsets[i], 10, &data);

        if (rc == 0)
            IS(data->len, 0);
        else
            ERR(rc, EINVAL, EOVERFLOW, EFBIG);
        ERR(client_write(c, fid, offsets[i], 4, "text", &written), EINVAL, EFBIG, EOVERFLOW);
    }
    IS(attr_of(c, fid).size, 4);
}

static void access_mode(guint arg)
{
    struct client *c = session();
    guint32 fid, written;
    GByteArray *data;

    (void)arg;
    make_file(c, "file", "text");
    fid = open_path(c, "file", L_RDONLY);
    ERR(client_write(c, fid, 0, 1, "x", &written), EBADF);
    fid = open_path(c, "file", L_WRONLY);
    ERR(client_read(c, fid, 0, 1, &data), EBADF);
    put_text(c, fid, 0, "T");
    expect_content(c, "file", "Text");
}

static void not_open(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text"), written;
    GPtrArray *entries = g_ptr_array_new();
    GByteArray *data;

    (void)arg;
    ERROR(client_read(c, fid, 0, 1, &data));
    ERROR(client_write(c, fid, 0, 1, "x", &written));
    ERROR(client_readdir(c, WORK, 0, 4000, entries));
    OK(client_lopen(c, fid, L_RDONLY, NULL));
    expect_text(c, fid, "text");
}

static void open_twice(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text");

    (void)arg;
    ERROR(client_lopen(c, fid, L_RDONLY, NULL));
    ERROR(client_lopen(c, fid, L_RDWR | L_TRUNC, NULL));
    expect_text(c, fid, "text");
    put_text(c, fid, 0, "T");
}

static void open_trunc(guint arg)
{
    struct client *c = session();
    guint32 fid;

    (void)arg;
    make_file(c, "file", "text");
    fid = open_path(c, "file", L_RDWR | L_TRUNC);
    expect_text(c, fid, "");
    IS(attr_of(c, fid).size, 0);
}

static void open_append(guint arg)
{
    struct client *c = session();
    guint32 a, b;

    (void)arg;
    make_file(c, "file", "text");
    a = open_path(c, "file", L_WRONLY | L_APPEND);
    b = open_path(c, "file", L_WRONLY | L_APPEND);
    put_text(c, a, 4, "1");
    put_text(c, b, 4, "2"); /* a client that does not know of the other's write */
    put_text(c, a, 5, "3");
    expect_content(c, "file", "text123");
}

static void open_direct(guint arg)
{
    struct client *c = session();
    guint32 fid, written = 0;
    GByteArray *data = NULL;
    char *bytes = g_strnfill(8192 + 5, 'd');

    (void)arg;
    make_file(c, "file", "");
    fid = walk_to(c, WORK, "file");
    OK(client_lopen(c, fid, L_RDWR | L_DIRECT, NULL));
    OK(client_write(c, fid, 0, 8192, bytes, &written));
    IS(written, 8192);
    OK(client_write(c, fid, 8192, 5, bytes, &written)); /* what no block device takes */
    IS(written, 5);
    OK(client_read(c, fid, 3, 100, &data));
    YES(data->len == 100 && data->data[0] == 'd');
    OK(client_read(c, fid, 4096, 8192, &data));
    IS(data->len, 4101);
}

static void open_flags(guint arg)
{
    static const guint32 flags[] = {L_NOCTTY,  L_NONBLOCK, L_DSYNC,         L_FASYNC,
                                    L_DIRECT,  L_NOATIME,  L_LARGEFILE,     L_NOFOLLOW,
                                    L_CLOEXEC, L_SYNC,     L_SYNC | L_DSYNC};
    struct client *c = session();

    (void)arg;
    make_file(c, "file", "text");
    for (guint i = 0; i < G_N_ELEMENTS(flags); i++) {
        guint32 fid = walk_to(c, WORK, "file");
        int rc = client_lopen(c, fid, L_RDWR | flags[i], NULL);

        if (rc != 0)
            fail("Tlopen with flags 0%o: %s", L_RDWR | flags[i], rc_name(rc));
        expect_text(c, fid, "text");
        OK(client_clunk(c, fid));
    }
    {
        guint32 fid = walk_to(c, WORK, "file");

        OK(client_lopen(c, fid, L_RDONLY | L_CREAT, NULL)); /* the file is there */
        expect_text(c, fid, "text");
    }
}

static void open_types(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), file = make_file(c, "file", "text");

    (void)arg;
    ERR(client_lopen(c, file, L_RDONLY | L_DIRECTORY, NULL), ENOTDIR);
    OK(client_lopen(c, file, L_RDONLY, NULL));
    ERR(client_lopen(c, dir, L_RDWR, NULL), EISDIR);
    ERR(client_lopen(c, dir, L_WRONLY, NULL), EISDIR);
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
}

static void dir_io(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), file = make_open(c, "file", "text"), written;
    GPtrArray *entries = g_ptr_array_new();
    GByteArray *data;

    (void)arg;
    OK(client_lopen(c, dir, L_RDONLY, NULL));
    ERR(client_read(c, dir, 0, 100, &data), EISDIR, EBADF, EINVAL);
    ERR(client_write(c, dir, 0, 1, "x", &written), EISDIR, EBADF, EINVAL);
    ERR(client_readdir(c, file, 0, 4000, entries), ENOTDIR, EBADF, EINVAL);
}

static void open_symlink(guint arg)
{
    struct client *c = session();
    guint32 link;

    (void)arg;
    make_file(c, "file", "text");
    link = make_link(c, "link", "file");
    ERROR(client_lopen(c, link, L_RDONLY, NULL));
    ERROR(client_lopen(c, link, L_RDWR | L_TRUNC, NULL));
    expect_content(c, "file", "text");
}

static void iounit(guint arg)
{
    struct client *c = session_msize(8192);
    guint32 fid = make_file(c, "file", "text"), unit = 1;
    struct client_qid qid, want = qid_of(c, fid);

    (void)arg;
    OK(client_rpc(c, TLOPEN, "dd", fid, (guint32)L_RDWR, "Qd", &qid, &unit));
    YES(same_qid(&qid, &want));
    YES(unit <= 8192 - 24);
}

static void fsync_all(guint arg)
{
    struct client *c = session();
    guint32 file = make_open(c, "file", "text"), dir = make_dir(c, "d");

    (void)arg;
    OK(client_rpc(c, TFSYNC, "dd", file, 0u, ""));
    OK(client_rpc(c, TFSYNC, "dd", file, 1u, ""));
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
    OK(client_rpc(c, TFSYNC, "dd", dir, 0u, ""));
    OK(client_rpc(c, TFSYNC, "dd", dir, 1u, ""));
    OK(client_clunk(c, file));
    make_file(c, "other", "text");
    file = open_path(c, "other", L_RDONLY);
    OK(client_fsync(c, file));
}

static void two_fids(guint arg)
{
    struct client *c = session(), *other = session();
    guint32 a = make_open(c, "file", "text"), b = open_path(other, "file", L_RDWR);

    (void)arg;
    put_text(c, a, 0, "T");
    expect_text(other, b, "Text");
    put_text(other, b, 4, "!");
    expect_text(c, a, "Text!");
}

static void mode_at_create(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);

    (void)arg;
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_EXCL, 0, NULL));
    put_text(c, fid, 0, "text"); /* open(2): the mode is for later opens */
    expect_text(c, fid, "text");
    IS(attr_of(c, fid).mode & 07777, 0);
}

static void fifo(guint arg)
{
    struct client *c = session(), *other = session();
    GByteArray *data = NULL;

    (void)arg;
    OK(client_mknod(c, WORK, "fifo", S_IFIFO | 0644, 0, 0, NULL));
    make_file(c, "file", "text");
    /* more than any server has threads, each of which an open of a FIFO could hold for ever */
    for (guint i = 0; i < 100; i++) {
        guint32 fid = walk_to(c, WORK, "fifo");

        YES(client_post(c, TLOPEN, "dd", fid, (guint32)(i % 2 ? L_RDONLY : L_WRONLY)) >= 0);
        if (i % 2)
            YES(client_post(c, TREAD, "dqd", fid, (guint64)0, 10u) >= 0);
    }
    expect_content(other, "file", "text");
    expect_content(c, "file", "text");
    OK(client_read(c, open_path(c, "file", L_RDONLY), 0, 10, &data));
    still_serves();
}

static void device(guint arg)
{
    struct client *c = session(), *other = session();
    guint32 fid;
    int rc = client_mknod(c, WORK, "tty", S_IFCHR | 0666, 5, 0, NULL);

    (void)arg;
    if (rc == EPERM)
        skip("the server may not make device nodes");
    OK(rc);
    OK(client_mknod(c, WORK, "none", S_IFCHR | 0666, 239, 77, NULL));
    fid = walk_to(c, WORK, "none");
    ERROR(client_lopen(c, fid, L_RDONLY, NULL));
    for (guint i = 0; i < 20; i++)
        YES(client_post(c, TLOPEN, "dd", walk_to(c, WORK, "tty"), (guint32)L_RDWR) >= 0);
    still_serves();
    attr_of(other, WORK);
}

#define O "Tlopen; open(2)"
const struct conform_case io_cases[] = {
    {"io/read-write",
     "data written at any offset is read again; holes are zero; the end is 0 bytes",
     "read(5), Tread, Twrite", CASE_WRITES, read_write, 0},
    {"io/count-zero", "a count of 0 reads and writes nothing", "read(5)", CASE_WRITES, count_zero,
     0},
    {"io/sparse", "offsets beyond 4 GiB work", "Tread, Twrite: offset[8]", CASE_WRITES, sparse, 0},
    {"io/offset-huge", "offsets from 2^63 on are refused", "pread(2), pwrite(2)", CASE_WRITES,
     offset_huge, 0},
    {"io/access-mode", "what was opened for reading is not written, nor the reverse: EBADF", O,
     CASE_WRITES, access_mode, 0},
    {"io/not-open", "nothing is read from or written to a fid that is not open", "open(5)",
     CASE_WRITES, not_open, 0},
    {"io/open-twice", "an open fid cannot be opened again, and stays as it is", "open(5)",
     CASE_WRITES, open_twice, 0},
    {"io/open-trunc", "O_TRUNC empties the file", O, CASE_WRITES, open_trunc, 0},
    {"io/open-append", "two clients that append overwrite nothing of each other",
     "Linux: v9fs_open_to_dotl_flags", CASE_WRITES, open_append, 0},
    {"io/open-direct", "O_DIRECT opens, and takes any size and offset",
     "Linux: v9fs_open_to_dotl_flags", CASE_WRITES, open_direct, 0},
    {"io/open-flags", "every flag that Linux sends opens a file", "Linux: v9fs_open_to_dotl_flags",
     CASE_WRITES, open_flags, 0},
    {"io/open-types", "O_DIRECTORY refuses files, and directories are not opened for writing", O,
     CASE_WRITES, open_types, 0},
    {"io/dir-io", "directories are not read with Tread, nor files with Treaddir",
     "Tread, Treaddir; read(2)", CASE_WRITES, dir_io, 0},
    {"io/open-symlink", "Tlopen of a symlink's fid never opens the target", O, CASE_WRITES,
     open_symlink, 0},
    {"io/iounit", "iounit is 0 or fits into msize; the qid is the file's", "Rlopen", CASE_WRITES,
     iounit, 0},
    {"io/fsync", "files and directories can be synced, data alone, too", "Tfsync; fsync(2)",
     CASE_WRITES, fsync_all, 0},
    {"io/two-fids", "what one client writes the other reads at once", "read(5)", CASE_WRITES,
     two_fids, 0},
    {"io/mode-at-create", "a file made with mode 0 is open all the same", "Tlcreate; open(2)",
     CASE_WRITES, mode_at_create, 0},
    {"io/fifo", "opens of a FIFO hold up neither their own session nor another", "Tlopen; fifo(7)",
     CASE_WRITES, fifo, 0},
    {"io/device", "opens of device nodes hold up nobody", "Tlopen; open(2)",
     CASE_WRITES | CASE_ROOT, device, 0},
    CASES_END,
};
