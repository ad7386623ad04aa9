/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: --trace shows the messages of the sessions that it names, those alone, with hostile
 * names escaped and no data; SIGUSR1 tells what was done.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

/* The log, once it has `text`. */
static char *wait_for(struct server *s, const char *text)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    for (;;) {
        char *log = NULL;

        g_assert_true(g_file_get_contents(s->log, &log, NULL, NULL));
        if (strstr(log, text) != NULL)
            return log;
        if (g_get_monotonic_time() > deadline)
            g_error("no '%s' in the log: %s", text, log);
        g_free(log);
        poll(NULL, 0, 5);
    }
}

static struct server *start(const char *which)
{
    const char *const extra[] = {"--trace", which, NULL};
    struct server *s = server_new("memory:", which != NULL ? extra : NULL);

    g_assert_true(server_start(s));
    make_file(s, "file", "secret");
    return s;
}

static void end(struct server *s)
{
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static void use(struct client *c)
{
    guint32 fid = walk_new(c, "file");
    const char *const names[] = {"no\nlog '", NULL};
    struct client_qid qids[16];
    GByteArray *data = NULL;
    guint n = 0;

    g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_rpc(c, TREAD, "dqd", fid, (guint64)0, 100u, "D", &data), ==, 0);
    g_assert_cmpuint(data->len, ==, 6);
    g_byte_array_unref(data);
    g_assert_cmpint(client_rpc(c, TWALK, "ddL", ROOT_FID, client_fid(c), names, "A", &n, qids), ==,
                    ENOENT);
}

static void traced(gconstpointer data)
{
    const char *which = data;
    struct server *s = start(which);
    struct client *a = server_client(s), *b = server_client(s);
    gboolean all = which != NULL && strcmp(which, "all") == 0;
    g_autofree char *log = NULL;

    use(a);
    use(b);
    client_close(a);
    client_close(b);
    if (which != NULL) {
        log = wait_for(s, "65536 < tag");
        g_assert_nonnull(strstr(log, "Tlopen fid"));
        g_assert_nonnull(strstr(log, " Rread count 6;"));
        g_assert_nonnull(strstr(log, "names 'no\\x0alog \\x27'\n"));
        g_assert_nonnull(strstr(log, "Rlerror ENOENT;"));
    } else
        g_assert_true(g_file_get_contents(s->log, &log, NULL, NULL));
    g_assert_null(strstr(log, "secret"));
    g_assert_cmpint(strstr(log, " > tag") != NULL, ==, which != NULL);
    g_assert_cmpint(strstr(log, "65537 > tag") != NULL, ==, all);
    end(s);
}

/* By where they come from: one client by TCP, one by a unix socket. */
static void by_peer(gconstpointer data)
{
    const char *which = data;
    struct server *s = start(which);
    gboolean unix_too = strcmp(which, "peer=unix") == 0;
    gboolean tcp_too = strcmp(which, "peer=tcp:127.0.0.1") == 0;
    struct client *a = client_connect(s->tcp), *b;
    g_autofree char *log = NULL;

    g_assert_nonnull(a);
    g_assert_cmpint(client_hello(a, 8192), ==, 0);
    b = server_client(s);
    client_close(a);
    client_close(b);
    g_assert_cmpint(server_terminate(s), ==, 0);
    g_assert_true(g_file_get_contents(s->log, &log, NULL, NULL));
    g_assert_cmpint(strstr(log, "65536 > tag") != NULL, ==, tcp_too);
    g_assert_cmpint(strstr(log, "65537 > tag") != NULL, ==, unix_too);
    server_free(s);
}

static void asked(void)
{
    struct server *s = start(NULL);
    struct client *c = server_client(s), *gone = server_client(s);
    g_autofree char *log = NULL;

    use(c);
    use(gone);
    client_close(gone);
    g_assert_cmpint(kill(s->pid, SIGUSR1), ==, 0);
    log = wait_for(s, "attached: ");
    g_assert_nonnull(strstr(log, "Tread: 2 messages, 0 errors, 46 bytes in, 34 out;"));
    g_assert_nonnull(strstr(log, "Twalk: 4 messages, 2 errors,"));
    g_assert_nonnull(strstr(log, "on 'data'"));
    g_assert_cmpint(kill(s->pid, SIGUSR1), ==, 0); /* again, and it goes on */
    use(c);
    client_close(c);
    end(s);
}

static void refused(void)
{
    const char *const args[] = {"--trace", "peer=",    "--export",           "x=/", "--store",
                                "memory:", "--listen", "unix:/nowhere/sock", NULL};
    g_autofree char *err = NULL;

    g_assert_cmpint(server_run(args, &err), ==, 2);
    g_assert_nonnull(strstr(err, "trace: 'peer=' is none of all, peer=ADDR"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("QIDMAP_TEST_PEER") == NULL) {
        g_test_add_data_func("/trace/off", NULL, traced);
        g_test_add_data_func("/trace/all", "all", traced);
        g_test_add_data_func("/trace/one", "65536", traced);
        g_test_add_data_func("/trace/peer-unix", "peer=unix", by_peer);
        g_test_add_data_func("/trace/peer-tcp", "peer=tcp:127.0.0.1", by_peer);
        g_test_add_data_func("/trace/peer-other", "peer=tcp:127.0.0.10", by_peer);
        g_test_add_func("/trace/refused", refused);
        g_test_add_func("/stats/signal", asked);
    }
    return g_test_run();
}
