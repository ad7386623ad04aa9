/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what clients hold is bounded, by number and by time: fids, connections, memory,
 * descriptors, silence, and messages and replies that stop halfway. Each gets the right errno, or
 * is cut off, and others are served. What is only slow, or large, is answered.
 */
#include "config.h"

#include "tests/lib/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void expect_end(struct client *c)
{
    GByteArray *frame = NULL;

    g_assert_cmpint(client_recv(c, &frame), ==, CLIENT_EOF);
}

static void fids_are_bounded(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    const guint32 room = 9; /* of ten, the root is one */

    (void)data;
    for (guint32 i = 0; i < room + 3; i++)
        g_assert_cmpint(client_walk_path(f->c, ROOT_FID, 100 + i, "", NULL), ==,
                        i < room ? 0 : EMFILE);
    /* all together have 15 */
    for (guint32 i = 0; i < 6; i++)
        g_assert_cmpint(client_walk_path(other, ROOT_FID, 100 + i, "", NULL), ==,
                        i < 4 ? 0 : ENFILE);
    g_assert_cmpint(client_clunk(f->c, 100), ==, 0);
    g_assert_cmpint(client_walk_path(other, ROOT_FID, 200, "", NULL), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "exceeds the limit fids=10"), ==, 1);
    g_assert_cmpuint(count_in_log(f->s, "exceeds the limit total-fids=15"), ==, 1);
    client_close(other);
}

static void connections_are_bounded(struct fixture *f, gconstpointer data)
{
    struct client *c[3];
    struct client_attr attr;

    (void)data;
    c[0] = server_client(f->s);
    c[1] = server_client(f->s); /* with the fixture's, three */
    for (guint i = 0; i < 5; i++) {
        c[2] = client_connect(f->s->addr);
        g_assert_nonnull(c[2]);
        expect_end(c[2]);
        client_close(c[2]);
    }
    g_assert_cmpint(client_getattr(c[1], ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "3 connections already"), ==, 1);
    client_close(c[0]);
    /* there is room again, once the daemon has seen it */
    for (guint i = 0; i < 6000; i++) {
        c[2] = client_connect(f->s->addr);
        g_assert_nonnull(c[2]);
        if (client_hello(c[2], 8192) == 0)
            break;
        client_close(c[2]);
        g_assert_cmpuint(i, <, 5999);
        g_usleep(10000);
    }
    client_close(c[1]);
    client_close(c[2]);
}

/* A message for which there is no memory is refused, and what comes behind it is answered. */
static void memory_is_bounded(struct fixture *f, gconstpointer data)
{
    struct client *c = client_connect(f->s->addr);
    g_autofree char *bytes = g_strnfill(BIG, 'b');
    guint32 fid = 2, n;
    struct client_attr attr;
    g_autoptr(GByteArray) got = NULL;

    (void)data;
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, BIG + 24), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, "", NULL), ==, 0);
    g_assert_cmpint(client_lcreate(c, fid, "file", L_RDWR, 0644, NULL), ==, 0);
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpint(client_write(c, fid, 0, BIG, bytes, &n), ==, ENOMEM);
        g_assert_cmpint(client_write(c, fid, 0, 60000, bytes, &n), ==, 0);
        g_assert_cmpint(client_read(c, fid, 0, BIG, &got), ==, ENOMEM);
        g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(attr.size, ==, 60000);
    }
    client_close(c);
}

/* Each open directory that was read holds a buffer. */
static void directories_are_bounded(struct fixture *f, gconstpointer data)
{
    guint good = 0, refused = 0;

    (void)data;
    for (guint i = 0; i < 40; i++) {
        g_autoptr(GPtrArray) entries =
            g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
        guint32 fid = walk_new(f->c, "");
        int rc;

        g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
        rc = client_readdir(f->c, fid, 0, 4000, entries);
        good += rc == 0;
        refused += rc == ENOMEM;
    }
    g_assert_cmpuint(good + refused, ==, 40);
    g_assert_cmpuint(good, >=, 4);
    g_assert_cmpuint(refused, >=, 20);
}

/* One that has said Tversion, and attached or not, in the second that it has: where this machine
 * was too busy for that, another one has. */
static struct client *in_time(struct server *s, gboolean attached)
{
    for (guint tries = 0; tries < 60; tries++) {
        struct client *c = client_connect(s->addr);

        g_assert_nonnull(c);
        if (client_hello(c, 8192) == 0 &&
            (!attached || client_attach(c, ROOT_FID, geteuid(), s->aname, NULL) == 0))
            return c;
        client_close(c);
    }
    g_error("60 clients were cut off before their second was over");
}

static void idle_ones_are_cut_off(void)
{
    static const char *const extra[] = {"--idle-timeout", "1", NULL};
    struct server *s = server_new("memory:", extra);
    struct client *stays, *silent, *said;
    struct client_attr attr;

    g_assert_true(server_start(s));
    stays = in_time(s, TRUE);
    silent = client_connect(s->addr);
    g_assert_nonnull(silent);
    said = in_time(s, FALSE);
    expect_end(silent);
    expect_end(said);
    g_assert_cmpint(client_getattr(stays, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    client_close(silent);
    client_close(said);
    client_close(stays);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static void stalled_ones_are_cut_off(struct fixture *f, gconstpointer data)
{
    struct client *half = server_client(f->s), *unread = ask_much(f->s, f->s->addr);
    g_autoptr(GByteArray) m = client_pack(TGETATTR, 1, "dq", ROOT_FID, GETATTR_BASIC);
    struct client_attr attr;
    struct pollfd p = {.fd = unread->fd, .events = POLLRDHUP};

    (void)data;
    g_assert_cmpint(client_send_raw(half, m->data, m->len - 1), ==, 0);
    g_assert_cmpint(poll(&p, 1, 60000), ==, 1);
    expect_end(half);
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpuint(count_in_log(f->s, "did not read its replies"), ==, 1);
    g_assert_cmpuint(count_in_log(f->s, "in the midst of a message"), ==, 1);
    client_close(half);
    client_close(unread);
}

/* One byte at a time is slow, but complete. */
static void byte_by_byte(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 20; i++) {
        g_autoptr(GByteArray) m = client_pack(TGETATTR, i, "dq", ROOT_FID, GETATTR_BASIC);

        for (guint j = 0; j < m->len; j++)
            g_assert_cmpint(client_send_raw(f->c, m->data + j, 1), ==, 0);
        expect(f->c, (guint16)i, TGETATTR + 1);
    }
}

static void large_messages(struct fixture *f, gconstpointer data)
{
    const guint32 msize = (16u << 20) + 24, count = 16u << 20;
    struct client *c = client_connect(f->s->addr);
    g_autofree guint8 *bytes = g_malloc(count);
    g_autoptr(GByteArray) got = NULL;
    guint32 n;

    (void)data;
    for (guint32 i = 0; i < count; i++)
        bytes[i] = (guint8)(i * 2654435761u >> 24);
    g_assert_cmpint(client_hello(c, msize), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, ROOT_FID, 2, "", NULL), ==, 0);
    g_assert_cmpint(client_lcreate(c, 2, "large", L_RDWR, 0644, NULL), ==, 0);
    g_assert_cmpint(client_write(c, 2, 0, count, bytes, &n), ==, 0);
    g_assert_cmpuint(n, ==, count);
    g_assert_cmpint(client_read(c, 2, 0, count, &got), ==, 0);
    g_assert_cmpmem(got->data, got->len, bytes, count);
    client_close(c);
}

/* The lowest number that is free, and the highest that is not; what the daemon was started with
 * from this process on has any, and stays. */
static void numbers(struct server *s, guint *free, guint *highest)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    *free = *highest = 0;
    while ((name = g_dir_read_name(dir)) != NULL) {
        guint n = (guint)g_ascii_strtoull(name, NULL, 10);
        int flags = fcntl((int)n, F_GETFD);

        g_hash_table_add(used, GUINT_TO_POINTER(n));
        if (flags < 0 || (flags & FD_CLOEXEC))
            *highest = MAX(*highest, n);
    }
    while (g_hash_table_contains(used, GUINT_TO_POINTER(*free)))
        ++*free;
}

/* All numbers below it are in use, and none above: what is closed makes room below it. Clients take
 * the numbers that are free in between, as that of the descriptor on which the daemon was ready. */
static guint without_gaps(struct server *s, GPtrArray *clients)
{
    guint free, highest;

    for (;;) {
        numbers(s, &free, &highest);
        if (free > highest)
            return free;
        g_assert_cmpuint(clients->len, <, 100);
        g_ptr_array_add(clients, server_client(s));
    }
}

static void without_descriptors(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func((GDestroyNotify)client_close);
    struct client *c, *clients[20];
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    struct rlimit old, less;
    guint refused = 0;
    int result;
    struct client_attr attr;

    (void)data;
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, NULL, &old), ==, 0);
    less = (struct rlimit){.rlim_cur = without_gaps(f->s, others), .rlim_max = old.rlim_max};
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, &less, NULL), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
        clients[i] = client_connect(f->s->addr);
        g_assert_nonnull(clients[i]);
        /* Served, by a descriptor that a fid could do without, or turned away; not left to wait. */
        result = client_hello(clients[i], 8192);
        g_assert_cmpint(result, !=, CLIENT_TIMEOUT);
        refused += result != 0;
    }
    g_assert_cmpuint(refused, >, 0);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        client_close(clients[i]);
    /* What they had comes back once the server has seen that they are gone. */
    while ((result = client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr)) != 0) {
        g_assert_cmpint(result, ==, EMFILE);
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        g_usleep(2000);
    }
    g_assert_cmpint(prlimit(f->s->pid, RLIMIT_NOFILE, &old, NULL), ==, 0);
    /* Who comes is served, once the server is no more about to turn somebody away. */
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        c = client_connect(f->s->addr);
        g_assert_nonnull(c);
        result = client_hello(c, 8192);
        client_close(c);
    } while (result == CLIENT_EOF);
    g_assert_cmpint(result, ==, 0);
}

int main(int argc, char **argv)
{
    static const char *const fids[] = {"--limit", "fids=10", "--limit", "total-fids=15", NULL};
    static const char *const connections[] = {"--limit", "connections=3", NULL};
    static const char *const memory[] = {"--limit", "memory=512K", NULL};
    static const char *const stall[] = {"--stall-timeout", "3", NULL};
    static const char *const large[] = {"--msize-max", "16777240", NULL};

    g_test_init(&argc, &argv, NULL);
    test("/flow/fids", fids, fids_are_bounded);
    test("/flow/connections", connections, connections_are_bounded);
    test("/flow/memory", memory, memory_is_bounded);
    test("/flow/directories", memory, directories_are_bounded);
    g_test_add_func("/flow/idle", idle_ones_are_cut_off);
    test("/flow/stall", stall, stalled_ones_are_cut_off);
    FIXTURE_TEST("/flow/bytes", byte_by_byte);
    test("/flow/large", large, large_messages);
    FIXTURE_TEST("/flow/descriptors", without_descriptors);
    return g_test_run();
}
