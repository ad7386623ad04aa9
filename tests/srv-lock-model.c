/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever clients, processes of them, fids and host processes lock, unlock, clunk and
 * leave, in any order: no two owners ever hold what conflicts, nothing that was given back is still
 * held, the host's kernel holds exactly what was granted, and Tgetlock tells the truth.
 *
 * A book of bytes, kept here in the simplest way, says what each answer must be. LOCK_MODEL_SEED
 * and LOCK_MODEL_STEPS choose another run.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SESSIONS 3
#define PROCS    3
#define FIDS     3
#define BYTES    48 /* the last one stands for all up to the end */
#define HOSTS    2  /* OFD locks, classic locks */

struct session {
    struct client *c;
    guint generation;
    char id[32];
    guint32 fid[FIDS];
};

struct model {
    struct server *s;
    struct session session[SESSIONS];
    guint8 held[SESSIONS][PROCS][FIDS][BYTES]; /* 0, 1: read, 2: write */
    guint8 host_held[HOSTS][BYTES];
    int host_fd[HOSTS], probe_fd;
    GRand *rand;
    guint step;
    guint granted, blocked, told;
};

static guint8 owner_at(const struct model *m, guint s, guint p, guint at)
{
    guint8 type = 0;

    for (guint f = 0; f < FIDS; f++)
        type = MAX(type, m->held[s][p][f][at]);
    return type;
}

static gboolean conflicts(guint8 held, guint8 wanted)
{
    return wanted != 0 && (held == 2 || (held == 1 && wanted == 2));
}

/* s, p: who asks; SESSIONS + h for a host owner. */
static gboolean free_for(const struct model *m, guint who, guint p, guint8 type, guint from,
                         guint to)
{
    for (guint at = from; at <= to; at++) {
        for (guint s = 0; s < SESSIONS; s++)
            for (guint q = 0; q < PROCS; q++)
                if ((s != who || q != p) && conflicts(owner_at(m, s, q, at), type))
                    return FALSE;
        for (guint h = 0; h < HOSTS; h++)
            if (SESSIONS + h != who && conflicts(m->host_held[h][at], type))
                return FALSE;
    }
    return TRUE;
}

static void open_fid(struct model *m, guint s, guint f)
{
    m->session[s].fid[f] = walk_new(m->session[s].c, "file");
    g_assert_cmpint(client_lopen(m->session[s].c, m->session[s].fid[f], L_RDWR, NULL), ==, 0);
}

static void connect_session(struct model *m, guint s)
{
    struct session *session = &m->session[s];

    session->c = server_client(m->s);
    /* Two of them call themselves alike, as clones do. */
    g_snprintf(session->id, sizeof session->id, "guest%u.%u", s / 2,
               s / 2 ? session->generation : 0);
    session->generation++;
    for (guint f = 0; f < FIDS; f++)
        open_fid(m, s, f);
}

static guint64 length_of(guint from, guint to)
{
    return to == BYTES - 1 ? 0 : to - from + 1;
}

static const guint8 wire_types[] = {LOCK_TYPE_UNLCK, LOCK_TYPE_RDLCK, LOCK_TYPE_WRLCK};

static void do_lock(struct model *m, guint s, guint p, guint f, guint8 type, guint from, guint to)
{
    gboolean expected = free_for(m, s, p, type, from, to);
    guint8 status = 99;

    g_assert_cmpint(client_lock(m->session[s].c, m->session[s].fid[f], wire_types[type], from,
                                length_of(from, to), 100 + p, m->session[s].id, &status),
                    ==, 0);
    g_assert_cmpuint(status, ==, expected ? LOCK_SUCCESS : LOCK_BLOCKED);
    if (!expected) {
        m->blocked++;
        return;
    }
    m->granted++;
    for (guint at = from; at <= to; at++) {
        /* a process unlocks by any fid what it locked by others, where this one has nothing */
        for (guint g = 0; type == 0 && m->held[s][p][f][at] == 0 && g < FIDS; g++)
            m->held[s][p][g][at] = 0;
        m->held[s][p][f][at] = type;
        for (guint g = 0; type != 0 && g < FIDS; g++)
            if (g != f && conflicts(m->held[s][p][g][at], type))
                m->held[s][p][g][at] = 0;
    }
}

/* The range of one owner around `at`. */
static void run_around(const guint8 *types, guint at, guint *from, guint *to)
{
    for (*from = at; *from > 0 && types[*from - 1] == types[at];)
        (*from)--;
    for (*to = at; *to < BYTES - 1 && types[*to + 1] == types[at];)
        (*to)++;
}

static gboolean tells(const guint8 *types, guint8 wanted, guint from, guint to, guint8 type,
                      guint64 start, guint64 length)
{
    guint first = 0, last = 0;

    for (guint at = from; at <= to; at++)
        if (conflicts(types[at], wanted)) {
            run_around(types, at, &first, &last);
            if (wire_types[types[at]] == type && start == first && length == length_of(first, last))
                return TRUE;
            at = last;
        }
    return FALSE;
}

static void do_getlock(struct model *m, guint s, guint p, guint f, guint8 wanted, guint from,
                       guint to)
{
    guint8 type = 99, types[BYTES];
    guint64 start = 0, length = 0;
    guint32 proc = 0;
    g_autofree char *id = NULL;
    gboolean found = FALSE;

    g_assert_cmpint(client_rpc(m->session[s].c, TGETLOCK, "dbqqds", m->session[s].fid[f],
                               wire_types[wanted], (guint64)from, length_of(from, to), 100 + p,
                               m->session[s].id, "bqqds", &type, &start, &length, &proc, &id),
                    ==, 0);
    if (free_for(m, s, p, wanted, from, to)) {
        g_assert_cmpuint(type, ==, LOCK_TYPE_UNLCK);
        return;
    }
    m->told++;
    g_assert_cmpuint(type, !=, LOCK_TYPE_UNLCK);
    for (guint t = 0; t < SESSIONS && !found; t++)
        for (guint q = 0; q < PROCS && !found; q++) {
            if ((t == s && q == p) || proc != 100 + q || strcmp(id, m->session[t].id) != 0)
                continue;
            for (guint at = 0; at < BYTES; at++)
                types[at] = owner_at(m, t, q, at);
            found = tells(types, wanted, from, to, type, start, length);
        }
    for (guint h = 0; h < HOSTS && !found; h++)
        if (id[0] == '\0' && proc == (h == 0 ? 0 : (guint32)getpid()))
            found = tells(m->host_held[h], wanted, from, to, type, start, length);
    if (!found)
        g_error("step %u: Tgetlock tells type %u, %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                " of process %u of '%s': nobody holds that",
                m->step, type, start, length, proc, id);
}

static int host_call(int fd, int cmd, guint8 type, guint from, guint to, struct flock *fl)
{
    *fl = (struct flock){.l_type = type == 0   ? F_UNLCK
                                   : type == 1 ? F_RDLCK
                                               : F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = from,
                         .l_len = (off_t)length_of(from, to)};
    return fcntl(fd, cmd, fl);
}

static void do_host(struct model *m, guint h, guint8 type, guint from, guint to)
{
    gboolean expected = type == 0 || free_for(m, SESSIONS + h, 0, type, from, to);
    struct flock fl;
    int rc = host_call(m->host_fd[h], h == 0 ? F_OFD_SETLK : F_SETLK, type, from, to, &fl);

    g_assert_cmpint(rc, ==, expected ? 0 : -1);
    if (expected)
        memset(m->host_held[h] + from, type, to - from + 1);
}

static guint count_runs(const guint8 *types)
{
    guint runs = 0;

    for (guint at = 0; at < BYTES; at++)
        runs += types[at] != 0 && (at == 0 || types[at - 1] != types[at]);
    return runs;
}

/*
 * How many locks the kernel shows, and how many there must be. The list is that of the whole
 * machine and comes a page at a time: when others lock between two pages, a lock can be shown twice
 * or left out, so that only a difference that stays is one.
 */
static guint locks_shown(const struct model *m)
{
    g_autofree char *text = NULL, *inode = NULL;
    g_auto(GStrv) lines = NULL;
    struct stat st;
    guint count = 0;

    g_assert_cmpint(fstat(m->probe_fd, &st), ==, 0);
    inode = g_strdup_printf(" %02x:%02x:%" G_GUINT64_FORMAT " ", major(st.st_dev), minor(st.st_dev),
                            (guint64)st.st_ino);
    g_assert_true(g_file_get_contents("/proc/locks", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++)
        count += strstr(*line, inode) != NULL;
    return count;
}

static guint locks_expected(const struct model *m)
{
    guint count = 0;

    for (guint s = 0; s < SESSIONS; s++)
        for (guint p = 0; p < PROCS; p++) {
            guint8 types[BYTES];

            for (guint at = 0; at < BYTES; at++)
                types[at] = owner_at(m, s, p, at);
            count += count_runs(types);
        }
    for (guint h = 0; h < HOSTS; h++)
        count += count_runs(m->host_held[h]);
    return count;
}

static void check_count(const struct model *m)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    while (locks_shown(m) != locks_expected(m)) {
        if (g_get_monotonic_time() > deadline)
            g_error("step %u: the kernel shows %u locks, not %u", m->step, locks_shown(m),
                    locks_expected(m));
        poll(NULL, 0, 2);
    }
}

/* What the kernel holds, byte by byte, and lock by lock, against the book. */
static void check_kernel(struct model *m)
{
    for (guint at = 0; at < BYTES; at++)
        for (guint8 type = 1; type <= 2; type++) {
            struct flock fl;

            g_assert_cmpint(host_call(m->probe_fd, F_OFD_GETLK, type, at, at, &fl), ==, 0);
            if ((fl.l_type == F_UNLCK) != free_for(m, G_MAXUINT, 0, type, at, at))
                g_error("step %u: byte %u is %s in the kernel", m->step, at,
                        fl.l_type == F_UNLCK ? "free" : "locked");
        }
    check_count(m);
}

static void do_clunk(struct model *m, guint s, guint f)
{
    g_assert_cmpint(client_clunk(m->session[s].c, m->session[s].fid[f]), ==, 0);
    for (guint p = 0; p < PROCS; p++)
        memset(m->held[s][p][f], 0, BYTES);
    open_fid(m, s, f);
}

static void do_leave(struct model *m, guint s, gboolean in_order)
{
    memset(m->held[s], 0, sizeof m->held[s]);
    if (in_order) { /* a Tversion gives all back before it is answered */
        g_assert_cmpint(client_hello(m->session[s].c, 65536), ==, 0);
        check_kernel(m);
    }
    client_close(m->session[s].c);
    check_count(m);
    connect_session(m, s);
}

static guint env_number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);

    return text != NULL ? (guint)strtoul(text, NULL, 10) : otherwise;
}

static void model(gconstpointer data)
{
    guint steps = env_number("LOCK_MODEL_STEPS", 4000);
    guint seed = env_number("LOCK_MODEL_SEED", (guint)g_test_rand_int_range(1, G_MAXINT));
    g_autofree struct model *m = g_new0(struct model, 1);
    g_autofree char *path = NULL;

    (void)data;
    g_test_message("LOCK_MODEL_SEED=%u", seed);
    m->rand = g_rand_new_with_seed(seed);
    m->s = server_new("memory:", NULL);
    g_assert_true(server_start(m->s));
    make_file(m->s, "file", "text");
    path = server_path(m->s, "file");
    m->probe_fd = open(path, O_RDWR | O_CLOEXEC);
    for (guint h = 0; h < HOSTS; h++)
        m->host_fd[h] = open(path, O_RDWR | O_CLOEXEC);
    for (guint s = 0; s < SESSIONS; s++)
        connect_session(m, s);
    for (m->step = 0; m->step < steps; m->step++) {
        guint what = (guint)g_rand_int_range(m->rand, 0, 1000);
        guint s = (guint)g_rand_int_range(m->rand, 0, SESSIONS);
        guint p = (guint)g_rand_int_range(m->rand, 0, PROCS);
        guint f = (guint)g_rand_int_range(m->rand, 0, FIDS);
        guint from = (guint)g_rand_int_range(m->rand, 0, BYTES);
        guint to = from + (guint)g_rand_int_range(m->rand, 0, (gint32)MIN(BYTES - from, 12));

        if (what < 50)
            to = BYTES - 1;
        if (what < 350)
            do_lock(m, s, p, f, (guint8)g_rand_int_range(m->rand, 1, 3), from, to);
        else if (what < 550)
            do_lock(m, s, p, f, 0, from, to);
        else if (what < 850)
            do_getlock(m, s, p, f, (guint8)g_rand_int_range(m->rand, 1, 3), from, to);
        else if (what < 920)
            do_host(m, what % HOSTS, (guint8)g_rand_int_range(m->rand, 0, 3), from, to);
        else if (what < 990)
            do_clunk(m, s, f);
        else
            do_leave(m, s, what % 2);
        if (m->step % 10 == 0)
            check_kernel(m);
    }
    g_test_message("%u granted, %u blocked, %u told", m->granted, m->blocked, m->told);
    g_assert_cmpuint(MIN(m->granted, MIN(m->blocked, m->told)), >, steps / 40);
    for (guint s = 0; s < SESSIONS; s++)
        client_close(m->session[s].c);
    for (guint h = 0; h < HOSTS; h++)
        close(m->host_fd[h]);
    close(m->probe_fd);
    g_rand_free(m->rand);
    g_assert_cmpint(server_terminate(m->s), ==, 0);
    server_free(m->s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("QIDMAP_TEST_PEER") == NULL)
        g_test_add_data_func("/lock-model/random", NULL, model);
    return g_test_run();
}
