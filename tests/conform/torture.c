/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many connections, many fids, clients that do not read, and seeded mutations of a valid session.
 */
#include "config.h"

#include "tests/conform/conform.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void more_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* resident kilobytes of the server */
static guint64 resident(void)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)env.pid), *text = NULL;
    const char *at;

    if (!g_file_get_contents(path, &text, NULL, NULL) || (at = strstr(text, "VmRSS:")) == NULL)
        fail("cannot read %s", path);
    return g_ascii_strtoull(at + 6, NULL, 10);
}

static guint descriptors(void)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)env.pid);
    DIR *dir = opendir(path);
    guint n = 0;

    if (dir == NULL)
        skip("cannot read %s", path);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void connections(guint n)
{
    struct client **list = g_new0(struct client *, n);

    more_descriptors();
    for (guint i = 0; i < n; i++) {
        list[i] = session_or_null();
        if (list[i] == NULL)
            fail("connection %u of %u: no session", i + 1, n);
    }
    for (guint i = 0; i < n; i++)
        attr_of(list[i], ROOT);
    for (guint i = n; i-- > 0;)
        attr_of(list[i], ROOT);
    for (guint i = 0; i < n; i++)
        client_close(list[i]);
    still_serves();
}

static void fids(guint n)
{
    struct client *c = session();
    const guint batch = 100;
    guint32 first = 100000;
    struct client_qid want[10], qids[16];
    GRand *rand = g_rand_new_with_seed(env.seed);
    guint got;

    for (guint i = 0; i < 10; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i), *text = g_strdup_printf("text %u", i);

        want[i] = qid_of(c, make_file(c, name, text));
    }
    for (guint i = 0; i < n; i += batch) {
        int tags[100];

        for (guint j = 0; j < batch; j++) {
            g_autofree char *name = g_strdup_printf("f%u", (i + j) % 10);
            const char *names[] = {name, NULL};

            tags[j] = client_post(c, TWALK, "ddL", WORK, first + i + j, names);
        }
        for (guint j = 0; j < batch; j++) {
            int rc = client_wait(c, tags[j], TWALK + 1, "A", &got, qids);

            if (rc != 0)
                fail("the walk for fid %u of %u: %s", i + j + 1, n, rc_name(rc));
        }
    }
    for (guint i = 0; i < 2000; i++) {
        guint k = g_rand_int_range(rand, 0, n);
        struct client_qid qid = qid_of(c, first + k);

        if (!same_qid(&qid, &want[k % 10]))
            fail("fid %u stands for another file than it did", k);
    }
    for (guint i = 0; i < 100; i++) {
        guint k = g_rand_int_range(rand, 0, n - 100) / 100 * 100 + i;
        g_autofree char *text = g_strdup_printf("text %u", k % 10);

        OK(client_lopen(c, first + k, L_RDONLY, NULL));
        expect_text(c, first + k, text);
    }
    still_serves(); /* others get their share */
    client_close(c);
    still_serves();
}

/* Sends as long as the server takes it, to a limit, and reads nothing. Bytes sent. */
static guint64 send_unread(struct client *c, const GByteArray *msg, guint64 limit)
{
    guint64 sent = 0;
    gsize at = 0;

    while (sent < limit) {
        ssize_t n = send(c->fd, msg->data + at, msg->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            sent += n;
            at = (at + n) % msg->len;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = c->fd, .events = POLLOUT};

            if (poll(&p, 1, 1000) == 0)
                break; /* it takes no more */
        } else if (errno != EINTR)
            break; /* it closed the connection */
    }
    return sent;
}

/* N clients that ask for the most, and read nothing: others are served, and with --pid the
 * server's memory is looked at. */
static void unread(guint n)
{
    struct client *c = session_msize((1 << 20) + 24), *other = session();
    guint32 fid = make_open(c, "file", "");
    struct client_attr attr = {.size = 1 << 20};
    guint64 before = env.pid != 0 ? resident() : 0, after = 0;

    OK(client_setattr(c, fid, SETATTR_SIZE, &attr));
    for (guint i = 0; i < n; i++) {
        struct client *greedy = session_msize((1 << 20) + 24);
        GByteArray *many = g_byte_array_new();
        int small = 4096;

        setsockopt(greedy->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        fid = open_path(greedy, "file", L_RDONLY);
        for (guint j = 0; j < 100; j++) {
            GByteArray *msg = client_pack(TREAD, 1 + j, "dqd", fid, (guint64)0, 1u << 20);

            g_byte_array_append(many, msg->data, msg->len);
        }
        send_unread(greedy, many, 4 << 20);
        attr_of(other, WORK);
    }
    still_serves();
    if (env.pid != 0) {
        /* each has a few messages of the largest size under way, and no more */
        after = resident();
        if (after > before + (16 + 8 * n) * 1024)
            fail("the server grew by %" G_GUINT64_FORMAT " MiB for %u clients that do not read",
                 (after - before) / 1024, n);
    }
}

static void half_messages(guint n)
{
    struct client *c = session();
    GByteArray *msg = client_pack(TATTACH, 1, "ddssd", ROOT, NOFID, "", env.aname, env.uid);

    more_descriptors();
    for (guint i = 0; i < n; i++) {
        struct client *idle = dial();

        if (i % 2)
            OK(client_hello(idle, 65536));
        client_send_raw(idle, msg->data, 1 + i % (msg->len - 1));
    }
    attr_of(c, ROOT);
    still_serves();
}

static void given_back(guint n)
{
    guint before, now;
    gint64 deadline;

    still_serves();
    before = descriptors();
    for (guint i = 0; i < n; i++) {
        struct client *c = session();
        g_autofree char *name = g_strdup_printf("file%u", i);
        guint32 fid = make_open(c, name, "text");
        guint8 status;

        OK(client_lock(c, fid, LOCK_TYPE_WRLCK, 0, 0, 1, "x", &status));
        OK(client_lopen(c, clone_fid(c, WORK), L_RDONLY | L_DIRECTORY, NULL));
        for (guint j = 0; j < 10; j++)
            clone_fid(c, fid);
        client_close(c);
    }
    deadline = g_get_monotonic_time() + env.timeout_ms * (gint64)1000;
    while ((now = descriptors()) > before + 8 && g_get_monotonic_time() < deadline)
        g_usleep(10000);
    if (now > before + 8)
        fail("%u descriptors before, %u after %u sessions that ended", before, now, n);
}

static void no_growth(guint rounds)
{
    struct client *c = session();
    guint64 first = 0, last;

    for (guint i = 0; i < rounds; i++) {
        guint32 fid;
        GPtrArray *entries = NULL;
        GByteArray *list = NULL;

        if (i == rounds / 4)
            first = resident();
        fid = make_open(c, "file", "text");
        expect_text(c, fid, "text");
        OK(client_readdir_all(c, WORK, 4000, &entries));
        g_ptr_array_unref(entries);
        if (client_getxattr(c, fid, "", &list) == 0)
            g_byte_array_unref(list);
        OK(move_name(c, WORK, "file", WORK, "other"));
        OK(remove_name(c, WORK, "other", 0));
        OK(client_clunk(c, fid));
        if (i % 50 == 0) {
            client_close(c);
            c = session();
        }
    }
    last = resident();
    /* each file that is made takes some bytes in a server's tables of numbers */
    if (last > first + 16 * 1024)
        fail("the server grew by %" G_GUINT64_FORMAT " KiB in %u rounds", last - first,
             rounds - rounds / 4);
}

/* ---- mutations ------------------------------------------------------------------------------- */

static void add(GPtrArray *frames, GByteArray *frame)
{
    g_ptr_array_add(frames, frame);
}

/* A valid session, from Tversion on; its only way to the root is closed at its second message. */
static GPtrArray *script(guint round)
{
    GPtrArray *f = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    g_autofree char *name = g_strdup_printf("m%u", round);
    const char *path[] = {env.work, env.at, NULL}, *file[] = {name, NULL};
    const guint64 zero = 0;
    guint16 tag = 1;

    add(f, client_pack(TVERSION, NOTAG, "ds", 16384u, "9P2000.L"));
    add(f, client_pack(TATTACH, tag++, "ddssd", 2u, NOFID, "", env.aname, env.uid));
    add(f, client_pack(TWALK, tag++, "ddL", 2u, 2u, path));
    add(f, client_pack(TWALK, tag++, "ddL", 2u, 3u, NULL));
    add(f, client_pack(TLCREATE, tag++, "dsddd", 3u, name, (guint32)(L_RDWR | L_CREAT), 0644u, 0u));
    add(f, client_pack(TWRITE, tag++, "dqD", 3u, zero, (gsize)16, "sixteen bytes..."));
    add(f, client_pack(TREAD, tag++, "dqd", 3u, zero, 100u));
    add(f, client_pack(TLOCK, tag++, "dbdqqds", 3u, LOCK_TYPE_WRLCK, 0u, zero, zero, 1u, "me"));
    add(f, client_pack(TGETLOCK, tag++, "dbqqds", 3u, LOCK_TYPE_WRLCK, zero, zero, 1u, "me"));
    add(f, client_pack(TFSYNC, tag++, "dd", 3u, 0u));
    add(f, client_pack(TWALK, tag++, "ddL", 2u, 4u, file));
    add(f, client_pack(TGETATTR, tag++, "dq", 4u, (guint64)GETATTR_ALL));
    add(f, client_pack(TSETATTR, tag++, "dddddqqqqq", 4u, 0x1ffu, 0644u, env.uid,
                       (guint32)getegid(), (guint64)20, zero, zero, zero, zero));
    add(f, client_pack(TXATTRWALK, tag++, "dds", 4u, 5u, ""));
    add(f, client_pack(TREAD, tag++, "dqd", 5u, zero, 100u));
    add(f, client_pack(TWALK, tag++, "ddL", 4u, 6u, NULL));
    add(f, client_pack(TXATTRCREATE, tag++, "dsqd", 6u, "user.m", (guint64)4, 0u));
    add(f, client_pack(TWRITE, tag++, "dqD", 6u, zero, (gsize)4, "four"));
    add(f, client_pack(TCLUNK, tag++, "d", 6u));
    add(f, client_pack(TMKDIR, tag++, "dsdd", 2u, "d", 0755u, 0u));
    add(f, client_pack(TSYMLINK, tag++, "dssd", 2u, "l", "target", 0u));
    add(f, client_pack(TMKNOD, tag++, "dsdddd", 2u, "p", (guint32)(S_IFIFO | 0600), 0u, 0u, 0u));
    add(f, client_pack(TLINK, tag++, "dds", 2u, 4u, "linked"));
    add(f, client_pack(TWALK, tag++, "ddL", 2u, 7u, NULL));
    add(f, client_pack(TLOPEN, tag++, "dd", 7u, (guint32)(L_RDONLY | L_DIRECTORY)));
    add(f, client_pack(TREADDIR, tag++, "dqd", 7u, zero, 4000u));
    add(f, client_pack(TSTATFS, tag++, "d", 2u));
    add(f, client_pack(TRENAME, tag++, "dds", 4u, 2u, "renamed"));
    add(f, client_pack(TRENAMEAT, tag++, "dsds", 2u, "renamed", 2u, name));
    add(f, client_pack(TFLUSH, tag++, "w", 5));
    add(f, client_pack(TUNLINKAT, tag++, "dsd", 2u, "linked", 0u));
    add(f, client_pack(TREMOVE, tag++, "d", 4u));
    add(f, client_pack(TCLUNK, tag++, "d", 3u));
    return f;
}

static void mutate(GPtrArray *frames, GRand *rand)
{
    static const guint32 odd[] = {0,      1,       0xffffffff, 0x7fffffff, 0x80000000,
                                  0xffff, 0x10000, 7,          4096};
    guint times = g_rand_int_range(rand, 1, 6);

    while (times-- > 0 && frames->len > 0) {
        /* the first three often stay as they are, or else few get beyond them */
        guint k = g_rand_int_range(rand, g_rand_int_range(rand, 0, 4) && frames->len > 4 ? 3 : 0,
                                   frames->len);
        GByteArray *f = frames->pdata[k];
        guint at = f->len > 0 ? (guint)g_rand_int_range(rand, 0, f->len) : 0;

        switch (g_rand_int_range(rand, 0, 9)) {
        case 0:
            if (f->len > 0)
                f->data[at] ^= 1u << g_rand_int_range(rand, 0, 8);
            break;
        case 1:
            if (f->len > 0)
                f->data[at] = (guint8)g_rand_int(rand);
            break;
        case 2: /* the size stays */
            g_byte_array_set_size(f, at);
            break;
        case 3: /* the size is right */
            if (at >= 7) {
                g_byte_array_set_size(f, at);
                memcpy(f->data, (guint8[]){at & 0xff, at >> 8, 0, 0}, 4);
            }
            break;
        case 4:
            if (at + 4 <= f->len)
                for (guint i = 0, v = odd[g_rand_int_range(rand, 0, G_N_ELEMENTS(odd))]; i < 4; i++)
                    f->data[at + i] = v >> (8 * i);
            break;
        case 5:
            g_ptr_array_insert(frames, g_rand_int_range(rand, 0, frames->len), g_byte_array_ref(f));
            break;
        case 6: {
            guint other = g_rand_int_range(rand, 0, frames->len);

            frames->pdata[k] = frames->pdata[other];
            frames->pdata[other] = f;
            break;
        }
        case 7:
            g_ptr_array_remove_index(frames, k);
            break;
        default: /* another type of message with these fields */
            if (f->len > 4)
                f->data[4] = sample_types[g_rand_int_range(rand, 0, 28)];
        }
    }
}

/* The session as it is, step by step: or else the mutations show little. */
static void unchanged(void)
{
    GPtrArray *frames = script(0);
    struct client *c = dial();
    guint errors = 0;

    c->msize = 16384;

    for (guint i = 0; i < frames->len; i++) {
        const GByteArray *f = frames->pdata[i];
        GByteArray *frame = NULL;
        int rc;

        OK(client_send_raw(c, f->data, f->len));
        rc = client_recv(c, &frame);
        if (rc != 0)
            fail("message %u of the unchanged session: %s", i, rc_name(rc));
        errors += client_frame_type(frame) == RLERROR;
    }
    /* some servers have no Trenameat, no Tunlinkat, no xattrs */
    if (errors > 8)
        fail("%u of the %u messages of the unchanged session failed", errors, frames->len);
}

/* Replies are well formed, and come to an end. */
static void read_all(struct client *c, guint32 seed)
{
    GByteArray *frame = NULL;
    int rc;

    do {
        rc = client_recv(c, &frame);
        if (rc == 0) {
            if (client_frame_type(frame) % 2 == 0)
                fail("a reply of type %u (repeat with --seed %u --rounds 1)",
                     client_frame_type(frame), seed);
            g_byte_array_unref(frame);
        }
    } while (rc == 0);
    if (rc != CLIENT_EOF)
        fail("%s, expected the end (repeat with --seed %u --rounds 1)", rc_name(rc), seed);
}

static void mutation(guint arg)
{
    (void)arg;
    /* `mutate` counts on this many */
    YES(strlen((const char *)sample_types) == 28);
    unchanged();
    for (guint round = 0; round < env.rounds; round++) {
        GRand *rand = g_rand_new_with_seed(env.seed + round);
        GPtrArray *frames = script(round + 1);
        struct client *c = client_connect(env.addr);

        if (c == NULL)
            fail("the server is gone after seed %u (repeat with --seed %u --rounds 1)",
                 env.seed + round - 1, env.seed + round - 1);
        c->timeout_ms = env.timeout_ms;
        c->msize = 1 << 24; /* Tversion may be another now, too */
        mutate(frames, rand);
        for (guint i = 0; i < frames->len; i++) {
            const GByteArray *f = frames->pdata[i];

            if (client_send_raw(c, f->data, f->len) != 0)
                break; /* the server ended it */
        }
        shutdown(c->fd, SHUT_WR);
        read_all(c, env.seed + round);
        client_close(c);
        g_ptr_array_unref(frames);
        g_rand_free(rand);
        if (round % 16 == 0)
            still_serves();
    }
    still_serves();
}

#define L "the server's limits"
const struct conform_case torture_cases[] = {
    {"torture/connections", "100 connections at once are served", L, 0, connections, 100},
    {"torture/connections-1000", "1,000 connections at once are served", L, CASE_LONG, connections,
     1000},
    {"torture/fids", "5,000 fids of one session work", L, CASE_WRITES, fids, 5000},
    {"torture/fids-100000", "100,000 fids of one session work", L, CASE_WRITES | CASE_LONG, fids,
     100000},
    {"torture/unread", "a client that sends and never reads takes no memory without bound (--pid)",
     L, CASE_WRITES, unread, 1},
    {"torture/unread-many", "20 clients that send and never read take no memory without bound", L,
     CASE_WRITES | CASE_LONG | CASE_PID, unread, 20},
    {"torture/half-messages", "100 clients that stop in mid-message hold up nobody", L, 0,
     half_messages, 100},
    {"torture/descriptors", "descriptors of sessions that ended are given back", L,
     CASE_WRITES | CASE_PID, given_back, 30},
    {"torture/growth", "the server does not grow with the operations it has done", L,
     CASE_WRITES | CASE_LONG | CASE_PID, no_growth, 4000},
    {"torture/mutation", "seeded mutations of a valid session do no harm (--seed, --rounds)",
     "intro(5)", CASE_WRITES, mutation, 0},
    CASES_END,
};
