/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tlock, Tgetlock. */
#include "config.h"

#include "tests/conform/conform.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RD LOCK_TYPE_RDLCK
#define WR LOCK_TYPE_WRLCK
#define UN LOCK_TYPE_UNLCK

static guint8 lock(struct client *c, guint32 fid, guint8 type, guint64 start, guint64 length,
                   guint32 proc, const char *id)
{
    guint8 status = 99;
    int rc = client_lock(c, fid, type, start, length, proc, id, &status);

    if (rc == EAGAIN || rc == EACCES) /* said in another way */
        return LOCK_BLOCKED;
    if (rc != 0)
        fail("Tlock: %s", rc_name(rc));
    return status;
}

struct held {
    guint8 type;
    guint64 start, length;
    guint32 proc;
    char *id;
};

static struct held getlock(struct client *c, guint32 fid, guint8 type, guint64 start,
                           guint64 length, guint32 proc, const char *id)
{
    struct held h = {0};

    OK(client_rpc(c, TGETLOCK, "dbqqds", fid, type, start, length, proc, id, "bqqds", &h.type,
                  &h.start, &h.length, &h.proc, &h.id));
    return h;
}

/* Two sessions with the file open. */
static void two(struct client **a, guint32 *fa, struct client **b, guint32 *fb)
{
    *a = session();
    *fa = make_open(*a, "file", "0123456789");
    *b = session();
    *fb = open_path(*b, "file", L_RDWR);
}

static void exclusive(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, RD, 3, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(a, fa, UN, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_BLOCKED);
}

static void same_words(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    /* guests are cloned, too: the same names and numbers in two sessions are two owners */
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 77, "guest"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 77, "guest"), LOCK_BLOCKED);
}

static void shared(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, RD, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, RD, 0, 0, 1, "b"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_BLOCKED);
    IS(lock(a, fa, UN, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_SUCCESS);
}

static void ranges(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 10, 10, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 10, 1, "b"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 20, 0, 1, "b"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 19, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, 10, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, RD, 5, 6, 1, "b"), LOCK_BLOCKED);
    IS(lock(a, fa, UN, 12, 2, 1, "a"), LOCK_SUCCESS); /* a hole in the middle */
    IS(lock(b, fb, WR, 12, 2, 1, "b"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 11, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, 14, 1, 1, "b"), LOCK_BLOCKED);
    /* beyond the end of the file, beyond 4 GiB */
    IS(lock(b, fb, UN, 20, 0, 1, "b"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, (guint64)1 << 40, 5, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, ((guint64)1 << 40) + 4, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, ((guint64)1 << 40) + 5, 1, 1, "b"), LOCK_SUCCESS);
}

static void upgrade(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, RD, 0, 10, 1, "a"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, 0, 10, 1, "a"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, 5, 10, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, RD, 0, 1, 1, "b"), LOCK_BLOCKED);
    IS(lock(a, fa, RD, 0, 15, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, RD, 0, 1, 1, "b"), LOCK_SUCCESS);
    IS(lock(b, fb, UN, 100, 5, 1, "b"), LOCK_SUCCESS); /* nothing there: no error */
}

/* Two processes of one guest, each with an open of its own. */
static void processes(guint arg)
{
    struct client *c = session();
    guint32 one = make_open(c, "file", "text"), two_fid = open_path(c, "file", L_RDWR);

    (void)arg;
    IS(lock(c, one, WR, 0, 0, 100, "guest"), LOCK_SUCCESS);
    IS(lock(c, two_fid, WR, 0, 0, 200, "guest"), LOCK_BLOCKED);
    IS(lock(c, one, UN, 0, 0, 100, "guest"), LOCK_SUCCESS);
    IS(lock(c, two_fid, WR, 0, 0, 200, "guest"), LOCK_SUCCESS);
}

/* One process, two opens: flock(2), and OFD locks of the guest. */
static void opens(guint arg)
{
    struct client *c = session();
    guint32 one = make_open(c, "file", "text"), two_fid = open_path(c, "file", L_RDWR);

    (void)arg;
    IS(lock(c, one, WR, 0, 0, 100, "guest"), LOCK_SUCCESS);
    /* what one open let go does not take the other's lock along */
    IS(lock(c, two_fid, UN, 0, 0, 100, "guest"), LOCK_SUCCESS);
    OK(client_clunk(c, two_fid));
    {
        struct client *b = session();

        IS(lock(b, open_path(b, "file", L_RDWR), WR, 0, 0, 1, "b"), LOCK_BLOCKED);
    }
}

/* POSIX locks belong to a process, whatever descriptor it uses. */
static void two_opens(guint arg)
{
    struct client *a = session(), *b = session();
    guint32 one = make_open(a, "file", "text"), two_fid = open_path(a, "file", L_RDWR);
    guint32 fb = open_path(b, "file", L_RDWR);

    (void)arg;
    IS(lock(a, one, WR, 0, 0, 100, "guest"), LOCK_SUCCESS);
    IS(lock(a, two_fid, WR, 2, 3, 100, "guest"), LOCK_SUCCESS);
    IS(getlock(a, two_fid, WR, 0, 0, 100, "guest").type, UN);
    IS(lock(b, fb, WR, 0, 1, 100, "guest"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, 3, 1, 100, "guest"), LOCK_BLOCKED);
    OK(client_clunk(a, one));
    OK(client_clunk(a, two_fid));
    IS(lock(b, fb, WR, 0, 0, 100, "guest"), LOCK_SUCCESS);
}

static void last_byte(guint arg)
{
    struct client *a, *b;
    struct held h;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, G_MAXINT64, 1, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, G_MAXINT64, 0, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, 5, 0, 1, "b"), LOCK_BLOCKED);
    IS(lock(b, fb, WR, 5, G_MAXINT64 - 5, 1, "b"), LOCK_SUCCESS);
    h = getlock(b, fb, WR, 0, 0, 1, "b");
    IS(h.type, WR);
    IS(h.start, G_MAXINT64);
    YES(h.length == 0 || h.length == 1);
    IS(lock(a, fa, UN, G_MAXINT64, 1, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_SUCCESS);
}

static void reclaim(guint arg)
{
    struct client *a, *b;
    guint8 status = 99;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 5, 1, "a"), LOCK_SUCCESS);
    /* whatever a server makes of it: it takes nothing from others */
    OK(client_rpc(b, TLOCK, "dbdqqds", fb, WR, 2u, (guint64)0, (guint64)0, 1u, "b", "b", &status));
    YES(status != LOCK_SUCCESS);
    IS(getlock(b, fb, WR, 0, 0, 1, "b").proc, 1);
    IS(lock(a, fa, WR, 0, 5, 1, "a"), LOCK_SUCCESS);
}

static void get_merged(guint arg)
{
    struct client *a, *b;
    struct held h;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 10, 5, 1, "a"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, 20, 5, 1, "a"), LOCK_SUCCESS);
    IS(lock(a, fa, WR, 15, 5, 1, "a"), LOCK_SUCCESS);
    h = getlock(b, fb, RD, 17, 1, 1, "b");
    IS(h.start, 10);
    IS(h.length, 15);
    IS(lock(a, fa, RD, 12, 2, 1, "a"), LOCK_SUCCESS);
    h = getlock(b, fb, RD, 12, 4, 1, "b"); /* a read lock is not in a reader's way */
    IS(h.type, WR);
    IS(h.start, 14);
    IS(h.length, 11);
}

static void get_free(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(getlock(b, fb, WR, 0, 0, 1, "b").type, UN);
    IS(lock(a, fa, WR, 0, 5, 1, "a"), LOCK_SUCCESS);
    IS(getlock(b, fb, WR, 5, 5, 1, "b").type, UN);
    IS(getlock(a, fa, WR, 0, 0, 1, "a").type, UN); /* one's own is not in the way */
    IS(lock(a, fa, RD, 0, 5, 1, "a"), LOCK_SUCCESS);
    IS(getlock(b, fb, RD, 0, 0, 1, "b").type, UN);
}

static void get_range(guint arg)
{
    struct client *a, *b;
    struct held h;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 3, 4, 1, "a"), LOCK_SUCCESS);
    h = getlock(b, fb, WR, 0, 0, 2, "b");
    IS(h.type, WR);
    IS(h.start, 3);
    IS(h.length, 4);
    IS(lock(a, fa, UN, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(a, fa, RD, 100, 0, 1, "a"), LOCK_SUCCESS);
    h = getlock(b, fb, WR, 0, 0, 2, "b");
    IS(h.type, RD);
    IS(h.start, 100);
    IS(h.length, 0); /* to the end */
}

static void get_owner(guint other)
{
    struct client *a, *b;
    struct held h;
    guint32 fa, fb;

    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 3, 4, 4711, "holder"), LOCK_SUCCESS);
    if (!other) {
        b = a;
        fb = open_path(a, "file", L_RDWR);
    }
    h = getlock(b, fb, WR, 0, 0, 2, other ? "b" : "holder");
    IS(h.type, WR);
    IS(h.proc, 4711);
    if (strcmp(h.id, "holder") != 0)
        fail("the holder is told to be '%s'", h.id);
}

static void clunked(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_BLOCKED);
    OK(client_clunk(a, fa));
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_SUCCESS);
}

/* Tries until it is granted: the server may need a moment to see that the client has gone. */
static void soon_free(struct client *b, guint32 fb)
{
    gint64 deadline = g_get_monotonic_time() + env.timeout_ms * (gint64)1000;

    while (lock(b, fb, WR, 0, 0, 1, "b") != LOCK_SUCCESS) {
        if (g_get_monotonic_time() > deadline)
            fail("the lock of a client that has gone is still held");
        g_usleep(2000);
    }
}

static void disconnect(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    IS(lock(b, fb, WR, 0, 0, 1, "b"), LOCK_BLOCKED);
    client_close(a);
    soon_free(b, fb);
}

static void version_frees(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    OK(client_hello(a, 65536));
    soon_free(b, fb);
}

/* With the flag BLOCK a server may answer "blocked", or wait with its answer: but neither this
 * session nor another may wait along. */
static void blocking(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;
    guint8 status = 99;
    int tags[100];

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    for (guint i = 0; i < G_N_ELEMENTS(tags); i++) /* more than a server has threads */
        tags[i] = client_post(b, TLOCK, "dbdqqds", fb, WR, 1u, (guint64)0, (guint64)0, 10u, "b");
    attr_of(b, WORK);
    expect_text(b, fb, "0123456789");
    still_serves();
    IS(lock(a, fa, UN, 0, 0, 1, "a"), LOCK_SUCCESS);
    OK(client_wait(b, tags[0], TLOCK + 1, "b", &status));
    YES(status == LOCK_SUCCESS || status == LOCK_BLOCKED);
    if (status == LOCK_BLOCKED)
        IS(lock(b, fb, WR, 0, 0, 10, "b"), LOCK_SUCCESS);
}

static void blocking_flush(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;
    int tag;

    (void)arg;
    two(&a, &fa, &b, &fb);
    IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
    tag = client_post(b, TLOCK, "dbdqqds", fb, WR, 1u, (guint64)0, (guint64)0, 10u, "b");
    OK(client_rpc(b, TFLUSH, "w", tag, ""));
    IS(lock(a, fa, UN, 0, 0, 1, "a"), LOCK_SUCCESS);
    if (g_hash_table_size(b->parked) == 0) /* it was cancelled: nothing is locked */
        IS(lock(a, fa, WR, 0, 0, 1, "a"), LOCK_SUCCESS);
}

static void refused(guint arg)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "text"), walked = walk_to(c, WORK, "file"), dir, ro;
    guint8 status = 0;

    (void)arg;
    /* an error, or Rlock with the status ERROR */
#define NO(call)                                                                                   \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ < 0 || (rc_ == 0 && status != LOCK_ERROR))                                         \
            fail("%s: %s, status %u", #call, rc_name(rc_), status);                                \
    } while (0)
    NO(client_lock(c, fid, 9, 0, 0, 1, "a", &status));
    NO(client_lock(c, walked, WR, 0, 0, 1, "a", &status));
    NO(client_lock(c, fid, WR, (guint64)1 << 63, 1, 1, "a", &status));
    NO(client_lock(c, fid, WR, G_MAXINT64, G_MAXINT64, 1, "a", &status));
    NO(client_lock(c, fid, WR, 10, ~(guint64)0, 1, "a", &status));
    ro = open_path(c, "file", L_RDONLY);
    NO(client_lock(c, ro, WR, 0, 0, 1, "a", &status));
    OK(client_lock(c, ro, RD, 0, 0, 1, "a", &status));
    IS(status, LOCK_SUCCESS);
    dir = make_dir(c, "d");
    NO(client_lock(c, dir, WR, 0, 0, 1, "a", &status));
    /* all of them left nothing behind */
    OK(client_clunk(c, ro));
    IS(getlock(c, fid, WR, 0, 0, 5, "b").type, UN);
}

static int host_lock(int fd, int cmd, short type, struct flock *fl)
{
    *fl = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
    return fcntl(fd, cmd, fl);
}

static void with_host(guint ofd)
{
    struct client *c = session();
    guint32 fid = make_open(c, "file", "0123456789");
    int set = ofd ? F_OFD_SETLK : F_SETLK, fd = open(host_path("file"), O_RDWR | O_CLOEXEC);
    struct flock fl;
    struct held h;

    if (fd < 0)
        fail("open on the host: %s", g_strerror(errno));
    IS(lock(c, fid, WR, 4, 1, 1, "c"), LOCK_SUCCESS);
    if (host_lock(fd, set, F_WRLCK, &fl) == 0)
        fail("a host process got a lock that a client holds");
    IS(lock(c, fid, UN, 0, 0, 1, "c"), LOCK_SUCCESS);
    if (host_lock(fd, set, F_WRLCK, &fl) != 0)
        fail("lock on the host: %s", g_strerror(errno));
    IS(lock(c, fid, WR, 0, 0, 1, "c"), LOCK_BLOCKED);
    IS(lock(c, fid, WR, 0, 2, 1, "c"), LOCK_SUCCESS);
    h = getlock(c, fid, WR, 2, 0, 1, "c");
    IS(h.type, WR);
    IS(h.start, 2);
    IS(h.length, 3);
    host_lock(fd, set, F_UNLCK, &fl);
    IS(lock(c, fid, WR, 0, 0, 1, "c"), LOCK_SUCCESS);
}

static void many(guint arg)
{
    struct client *a, *b;
    guint32 fa, fb;

    (void)arg;
    two(&a, &fa, &b, &fb);
    for (guint i = 0; i < 500; i++)
        IS(lock(a, fa, WR, i * 10, 5, i % 50, "a"), LOCK_SUCCESS);
    for (guint i = 0; i < 500; i++) {
        IS(lock(b, fb, WR, i * 10 + 5, 5, 1, "b"), LOCK_SUCCESS);
        IS(lock(b, fb, WR, i * 10 + 4, 1, 1, "b"), LOCK_BLOCKED);
    }
}

#define K  "Tlock; fcntl(2), F_SETLK"
#define GK "Tgetlock; fcntl(2), F_GETLK"
const struct conform_case lock_cases[] = {
    {"lock/exclusive", "a write lock of one session keeps another out, until it is given back", K,
     CASE_WRITES, exclusive, 0},
    {"lock/same-words", "two sessions that call themselves alike are two owners", K, CASE_WRITES,
     same_words, 0},
    {"lock/shared", "read locks live together, and keep writers out", K, CASE_WRITES, shared, 0},
    {"lock/ranges", "locks are for ranges: to the byte, to the end, with holes, beyond 4 GiB", K,
     CASE_WRITES, ranges, 0},
    {"lock/upgrade", "an owner's own locks are never in its way", K, CASE_WRITES, upgrade, 0},
    {"lock/processes", "two processes of one guest exclude each other", "Tlock: proc_id[4]",
     CASE_WRITES, processes, 0},
    {"lock/opens", "an unlock and the clunk of one open leave the lock of another",
     "flock(2); fcntl(2), F_OFD_SETLK", CASE_WRITES, opens, 0},
    {"lock/two-opens", "a process with two opens of a file is not in its own way",
     "fcntl(2): advisory record locking", CASE_WRITES, two_opens, 0},
    {"lock/last-byte", "the last byte that a file can have is locked like any", K, CASE_WRITES,
     last_byte, 0},
    {"lock/reclaim", "a reclaim takes no lock from anybody", "Tlock: P9_LOCK_FLAGS_RECLAIM",
     CASE_WRITES, reclaim, 0},
    {"lock/getlock-merged", "locks side by side are one, and tell as one", GK, CASE_WRITES,
     get_merged, 0},
    {"lock/getlock-free", "Tgetlock says UNLCK where nothing is in the way", GK, CASE_WRITES,
     get_free, 0},
    {"lock/getlock-range", "Tgetlock tells the type and the range of what is in the way", GK,
     CASE_WRITES, get_range, 0},
    {"lock/getlock-process", "Tgetlock names another process of the same session",
     "Rgetlock: proc_id[4] client_id[s]", CASE_WRITES, get_owner, FALSE},
    {"lock/getlock-session", "Tgetlock names the holder in another session",
     "Rgetlock: proc_id[4] client_id[s]", CASE_WRITES, get_owner, TRUE},
    {"lock/clunk", "a clunk gives the locks of the fid back", "fcntl(2): close", CASE_WRITES,
     clunked, 0},
    {"lock/disconnect", "the end of a connection gives its locks back", K, CASE_WRITES, disconnect,
     0},
    {"lock/version", "Tversion in mid-session gives all locks back", "version(5)", CASE_WRITES,
     version_frees, 0},
    {"lock/blocking", "requests that wait for a lock hold up nobody",
     "Tlock: P9_LOCK_FLAGS_BLOCK; Linux: v9fs_file_do_lock", CASE_WRITES, blocking, 0},
    {"lock/blocking-flush", "a request that waits for a lock can be flushed", "flush(5)",
     CASE_WRITES, blocking_flush, 0},
    {"lock/refused", "unknown types, bad ranges, fids not open for it: errors", K, CASE_WRITES,
     refused, 0},
    {"lock/host-posix", "a client and a host process (fcntl) exclude each other", K,
     CASE_WRITES | CASE_HOST, with_host, FALSE},
    {"lock/host-ofd", "a client and a host process (OFD locks) exclude each other", K,
     CASE_WRITES | CASE_HOST, with_host, TRUE},
    {"lock/many", "hundreds of locks of many owners are kept apart", K, CASE_WRITES, many, 0},
    CASES_END,
};
