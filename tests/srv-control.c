/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever comes over the control socket, the daemon serves on, answers each request with
 * one line, and keeps no descriptor; who sends half a line, or does not read, holds up nobody, and
 * there is an end to how many may. Verbs that come while clients walk, attach and go change no id
 * that a client has seen; clients never see an error by them but EAGAIN of an attach.
 *
 * QIDMAP_CONTROL_SEED and QIDMAP_CONTROL_COUNT (lines of the fuzzer) may be set.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 60000

static char *socket_path; /* of the control socket of the test that runs */

static struct server *start(const char *store)
{
    struct server *s;
    g_autofree char *dir = g_dir_make_tmp("qidmap-control-XXXXXX", NULL);
    const char *extra[] = {"--control", NULL, "--threads", "8", NULL};

    g_free(socket_path);
    socket_path = g_build_filename(dir, "c", NULL);
    extra[1] = socket_path;
    s = server_new(store, extra);
    g_assert_true(server_start(s));
    return s;
}

static void stop(struct server *s)
{
    g_autofree char *dir = g_path_get_dirname(socket_path);

    g_assert_cmpint(server_terminate(s), ==, 0);
    g_assert_false(g_file_test(socket_path, G_FILE_TEST_EXISTS));
    rmdir(dir);
    server_free(s);
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, socket_path, sizeof address.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    return fd;
}

/* With descriptors. False: the daemon has closed it. */
static gboolean post(int fd, const void *bytes, gsize size, const int *fds, guint count)
{
    char space[CMSG_SPACE(sizeof(int) * 16)] = {0};
    struct iovec iov = {(void *)bytes, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (count > 0) {
        struct cmsghdr *c;

        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)size;
}

/* The next line that is no progress; NULL: the daemon has closed it. */
static char *take(int fd)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char c;

    for (;;) {
        struct pollfd one = {.fd = fd, .events = POLLIN};

        g_assert_cmpint(poll(&one, 1, WAIT_MS), ==, 1);
        if (recv(fd, &c, 1, 0) != 1)
            return NULL;
        if (c != '\n') {
            g_string_append_c(line, c);
            continue;
        }
        if (!g_str_has_prefix(line->str, "{\"progress\""))
            return g_strdup(line->str);
        g_string_truncate(line, 0);
    }
}

static char *ask_with(const char *request, const int *fds, guint count)
{
    g_autofree char *line = g_strconcat(request, "\n", NULL);
    int fd = dial();
    char *reply;

    g_assert_true(post(fd, line, strlen(line), fds, count));
    reply = take(fd);
    close(fd);
    g_assert_nonnull(reply);
    return reply;
}

static char *ask(const char *request)
{
    return ask_with(request, NULL, 0);
}

static void expect(const char *request, const char *what)
{
    g_autofree char *reply = ask(request);

    if (strstr(reply, what) == NULL)
        g_error("%s: %s, and not %s", request, reply, what);
}

static guint descriptors(const struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir) != NULL)
        count++;
    return count;
}

/* Clients that ended are gone a little later. */
static void settle(const struct server *s, guint before)
{
    for (int i = 0; i < 3000 && descriptors(s) > before; i++)
        g_usleep(20000);
    g_assert_cmpuint(descriptors(s), <=, before);
}

/* ---- hostile --------------------------------------------------------------------------------- */

static void test_many(void)
{
    struct server *s = start("memory:");
    guint before = descriptors(s);
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    int fds[64];
    gboolean told[G_N_ELEMENTS(fds)] = {FALSE};
    guint refused = 0;

    /* Half a line each, and nobody reads. */
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = dial();
        post(fds[i], "{\"verb\":", 8, NULL, 0);
    }
    while (refused < 32 && g_get_monotonic_time() < deadline) {
        for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
            struct pollfd one = {.fd = fds[i], .events = POLLIN};

            if (!told[i] && poll(&one, 1, 0) > 0) {
                g_autofree char *line = take(fds[i]);

                g_assert_nonnull(line);
                g_assert_nonnull(strstr(line, "EAGAIN"));
                told[i] = TRUE;
                refused++;
            }
        }
        poll(NULL, 0, 5);
    }
    g_assert_cmpuint(refused, >=, 32);
    struct client *c = server_client(s); /* 9P goes on */
    client_close(c);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
    settle(s, before);
    expect("{\"verb\":\"sessions\"}", "\"result\"");
    stop(s);
}

static void test_long(void)
{
    struct server *s = start("memory:");
    g_autofree char *bytes = g_malloc(1 << 20);
    g_autofree char *reply = NULL;
    int fd = dial();

    memset(bytes, ' ', 1 << 20);
    for (int i = 0; i < 20 && post(fd, bytes, 65536, NULL, 0); i++)
        ;
    reply = take(fd);
    g_assert_true(reply == NULL || strstr(reply, "EMSGSIZE") != NULL);
    close(fd);
    expect("{\"verb\":\"sessions\"}", "\"result\"");
    stop(s);
}

/* One that never reads its replies is dropped; others are answered meanwhile. */
static void test_unread(void)
{
    struct server *s = start("memory:");
    guint before = descriptors(s);
    static const char line[] = "{\"verb\":\"stats\"}\n";
    int fd = dial(), small = 4096;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 5000; i++)
        if (!post(fd, line, sizeof line - 1, NULL, 0))
            break;
    expect("{\"verb\":\"sessions\"}", "\"result\"");
    struct client *c = server_client(s);
    client_close(c);
    settle(s, before); /* though this end is open still */
    close(fd);
    stop(s);
}

static void test_descriptors(void)
{
    struct server *s = start("lmdb:");
    guint before = descriptors(s);
    int pipes[2], fds[16], fd;
    g_autofree char *reply = NULL;

    g_assert_cmpint(pipe(pipes), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = pipes[0];
    /* One that would be waited for for ever, a directory, what cannot be read, too many. */
    for (guint count = 1; count <= 16; count++) {
        fd = dial();
        post(fd, "{\"verb\":\"load\"}\n", 16, fds, count);
        reply = take(fd);
        g_assert_true(reply == NULL || strstr(reply, "\"error\"") != NULL);
        g_clear_pointer(&reply, g_free);
        close(fd);
    }
    fds[0] = open("/", O_PATH | O_DIRECTORY);
    reply = ask_with("{\"verb\":\"backup\"}", fds, 1);
    g_assert_nonnull(strstr(reply, "EBADF"));
    g_clear_pointer(&reply, g_free);
    reply = ask_with("{\"verb\":\"reset\",\"backup\":\"../x\"}", fds, 1);
    g_assert_nonnull(strstr(reply, "EINVAL"));
    close(fds[0]);
    close(pipes[0]);
    close(pipes[1]);
    settle(s, before);
    stop(s);
}

/* Requests that are nearly right. */
static void test_fuzz(void)
{
    static const char *const seeds[] = {
        "{\"verb\":\"stats\",\"sessions\":true}",
        "{\"verb\":\"sessions\"}",
        "{\"verb\":\"disconnect\",\"session\":\"70000\"}",
        "{\"verb\":\"log-level\",\"level\":\"info\"}",
        "{\"verb\":\"trace\",\"session\":\"1\",\"on\":false}",
        "{\"verb\":\"compact\",\"store\":\"lmdb:/x\",\"dry_run\":true}",
        "{\"verb\":\"verify\"}",
        "{\"verb\":\"fs-alias\",\"old\":1,\"new\":2}",
        "{\"verb\":\"fs-retire\",\"fs\":\"99\"}",
        "{\"verb\":\"fs-policy\",\"fs\":1,\"policy\":\"affix\",\"renumber\":false}",
        "{\"verb\":\"reset\",\"fs\":3,\"from_scratch\":true,\"backup\":\"x\\u0000\"}",
        "{\"verb\":\"drain\",\"path\":\"/\\\\x41\\\\\\\\\"}",
        "{\"verb\":\"load\",\"latest\":[[[{\"a\":1e999}]]]}",
    };
    static const char pieces[] = "{}[]\",:\\x0019eE-+.tfn\x01\xff\xc3 \t/u";
    const char *seed = g_getenv("QIDMAP_CONTROL_SEED"), *want = g_getenv("QIDMAP_CONTROL_COUNT");
    guint32 number = seed != NULL ? (guint32)atoi(seed) : g_random_int();
    int count = want != NULL ? atoi(want) : 3000;
    g_autoptr(GRand) rand = g_rand_new_with_seed(number);
    struct server *s;
    guint before;
    int fd;

    /* json-glib 1.6 forgets the object in which it meets an error. */
    g_setenv("LSAN_OPTIONS", "detect_leaks=0", TRUE);
    s = start("lmdb:");
    g_unsetenv("LSAN_OPTIONS");
    before = descriptors(s);
    fd = dial();
    g_test_message("QIDMAP_CONTROL_SEED=%u", number);
    for (int i = 0; i < count; i++) {
        GString *line = g_string_new(seeds[g_rand_int_range(rand, 0, G_N_ELEMENTS(seeds))]);
        int edits = g_rand_int_range(rand, 0, 6);

        for (int k = 0; k < edits && line->len > 0; k++) {
            gsize at = (gsize)g_rand_int_range(rand, 0, (gint32)line->len);
            char c = pieces[g_rand_int_range(rand, 0, sizeof pieces - 1)];

            switch (g_rand_int_range(rand, 0, 4)) {
            case 0:
                line->str[at] = c;
                break;
            case 1:
                g_string_insert_c(line, (gssize)at, c);
                break;
            case 2:
                g_string_erase(line, (gssize)at,
                               g_rand_int_range(rand, 0, 5) % (int)(line->len - at));
                break;
            default:
                g_string_insert_len(line, (gssize)at, line->str + at / 2, (gssize)(at - at / 2));
            }
        }
        g_string_append_c(line, '\n');
        /* One newline, one answer. */
        guint lines = 0;
        for (gsize k = 0; k < line->len; k++)
            lines += line->str[k] == '\n';
        g_assert_true(post(fd, line->str, line->len, NULL, 0));
        for (; lines > 0; lines--) {
            g_autofree char *reply = take(fd);
            g_autoptr(JsonParser) parser = json_parser_new();

            if (reply == NULL)
                g_error("seed %u, line %d: the daemon closed: %s", number, i, line->str);
            if (!g_str_has_prefix(reply, "{\"result\"") && !g_str_has_prefix(reply, "{\"error\""))
                g_error("seed %u, line %d: %s -> %s", number, i, line->str, reply);
            g_assert_true(json_parser_load_from_data(parser, reply, -1, NULL));
        }
        g_string_free(line, TRUE);
    }
    close(fd);
    settle(s, before);
    struct client *c = server_client(s);
    client_close(c);
    stop(s);
}

/* ---- beside clients at work ------------------------------------------------------------------ */

struct load {
    struct server *s;
    int stop;      /* atomic */
    int pause;     /* atomic: let the store be without clients */
    guint64 walks; /* atomic */
    guint held;    /* atomic: attaches that were told to come again */
};

/* Attaches, sees the same ids as long as it stays, and goes. */
static gpointer work(gpointer data)
{
    struct load *load = data;

    while (!g_atomic_int_get(&load->stop)) {
        struct client_qid root, first[8], again;
        struct client *c;
        int rc;

        if (g_atomic_int_get(&load->pause)) {
            g_usleep(1000);
            continue;
        }
        c = client_connect(load->s->addr);
        g_assert_nonnull(c);
        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        rc = client_attach(c, ROOT_FID, geteuid(), load->s->aname, &root);
        if (rc == EAGAIN) {
            g_atomic_int_inc(&load->held);
            client_close(c);
            continue;
        }
        g_assert_cmpint(rc, ==, 0);
        for (int round = 0; round < 4; round++)
            for (int i = 0; i < 8; i++) {
                g_autofree char *name = g_strdup_printf("f%d", i);

                g_assert_cmpint(client_walk_path(c, ROOT_FID, 100, name, &again), ==, 0);
                if (round == 0)
                    first[i] = again;
                g_assert_cmpuint(again.path, ==, first[i].path);
                for (int k = 0; k < i; k++)
                    g_assert_cmpuint(again.path, !=, first[k].path);
                g_assert_cmpint(client_clunk(c, 100), ==, 0);
                __atomic_fetch_add(&load->walks, 1, __ATOMIC_RELAXED);
            }
        client_close(c);
        g_usleep((gulong)g_random_int_range(0, 30000));
    }
    return NULL;
}

static guint count_of(const char *request, const char *what)
{
    g_autofree char *reply = ask(request);

    if (strstr(reply, "\"result\"") == NULL && strstr(reply, "EBUSY") == NULL &&
        strstr(reply, "EINVAL") == NULL && strstr(reply, "ENOENT") == NULL)
        g_error("%s: %s", request, reply);
    return strstr(reply, what) != NULL;
}

static void test_beside_work(void)
{
    struct server *s = start("lmdb:");
    struct load load = {.s = s};
    GThread *threads[2];
    guint resets = 0, retires = 0, refused = 0;
    gint64 end = g_get_monotonic_time() + 3 * G_TIME_SPAN_SECOND;
    gint64 deadline = end + 60 * G_TIME_SPAN_SECOND;

    for (int i = 0; i < 8; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(s, name, "x");
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("work", work, &load);
    /* on a busy machine longer, until each has happened: if need be while no client comes, or while
     * one stays */
    while (g_get_monotonic_time() < end ||
           (g_get_monotonic_time() < deadline &&
            (refused == 0 || resets + retires == 0 ||
             __atomic_load_n(&load.walks, __ATOMIC_RELAXED) == 0))) {
        g_autofree char *retire =
            g_strdup_printf("{\"verb\":\"fs-retire\",\"fs\":%d}", g_random_int_range(1, 12));
        gboolean late = g_get_monotonic_time() >= end;
        struct client *stays = NULL;

        for (int i = 0; i < 10; i++)
            resets += count_of("{\"verb\":\"reset\"}", "\"backup\"");
        retires += count_of(retire, "\"result\"");
        if (late && refused == 0)
            stays = server_client(s);
        refused += count_of("{\"verb\":\"reset\"}", "attached");
        if (stays != NULL)
            client_close(stays);
        count_of("{\"verb\":\"compact\"}", "");
        count_of("{\"verb\":\"verify\"}", "");
        count_of("{\"verb\":\"stats\"}", "");
        g_atomic_int_set(&load.pause, late && resets + retires == 0);
        g_usleep(2000);
    }
    g_atomic_int_set(&load.stop, 1);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_test_message("%u resets, %u retires, %u refused, %u held, %" G_GUINT64_FORMAT " walks",
                   resets, retires, refused, load.held, load.walks);
    g_assert_cmpuint(load.walks, >, 0);
    g_assert_cmpuint(resets + retires, >, 0);
    g_assert_cmpuint(refused, >, 0);
    expect("{\"verb\":\"verify\"}", "\"problems\":\"0\"");
    stop(s);
}

/* A store that went away while it was closed: attaches are refused, verbs say so, and nothing uses
 * what was closed, up to the end of the daemon; once it is back, so are the ids. */
static void test_lost(void)
{
    struct server *s = start("lmdb:");
    const char *dir = strchr(s->store, ':') + 1;
    g_autofree char *away = g_strconcat(dir, ".away", NULL);
    struct client_qid before, qid;

    for (int round = 0; round < 2; round++) {
        struct client *c = client_connect(s->addr);

        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), s->aname, &before), ==, 0);
        g_assert_true(round == 0 || before.path == qid.path);
        qid = before;
        client_close(c);
        for (int i = 0; i < 6000 && count_of("{\"verb\":\"sessions\"}", "\"session\":"); i++)
            g_usleep(10000);
        g_assert_cmpint(rename(dir, away), ==, 0);
        expect("{\"verb\":\"reset\"}", "\"error\"");
        expect("{\"verb\":\"verify\"}", "EIO");
        expect("{\"verb\":\"stats\"}", "\"result\"");
        expect("{\"verb\":\"fs-retire\",\"fs\":1}", "EIO");
        c = client_connect(s->addr);
        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), s->aname, &before), ==, EIO);
        client_close(c);
        if (round == 0)
            g_assert_cmpint(rename(away, dir), ==, 0);
    }
    stop(s);
}

/* ---- drain ----------------------------------------------------------------------------------- */

static void test_drain(void)
{
    struct server *s = start("memory:");
    struct client *c;
    struct client_qid qid;
    g_autofree char *below = NULL, *reply = NULL, *request = NULL, *file = NULL;
    guint32 idle, open;

    make_dir(s, "d");
    make_file(s, "d/idle", "1");
    make_file(s, "d/open", "2");
    make_file(s, "outside", "3");
    c = server_client(s);
    idle = walk_new(c, "d/idle");
    open = walk_new(c, "d/open");
    g_assert_cmpint(client_lopen(c, open, O_RDONLY, &qid), ==, 0);
    below = server_path(s, "d");
    request = g_strdup_printf("{\"verb\":\"drain\",\"path\":\"%s\"}", below);
    reply = ask(request);
    file = server_path(s, "d/open");
    g_assert_nonnull(strstr(reply, file));
    g_assert_nonnull(strstr(reply, "\"session\":\""));
    g_assert_nonnull(strstr(reply, "\"peer\":\"unix"));
    g_assert_null(strstr(reply, "idle"));
    g_assert_null(strstr(reply, "\"closed\":\"0\""));
    struct client_attr attr;
    g_assert_cmpint(client_getattr(c, idle, GETATTR_BASIC, &attr), ==, 0); /* found again */
    client_close(c);
    stop(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/many", test_many);
    g_test_add_func("/control/long", test_long);
    g_test_add_func("/control/unread", test_unread);
    g_test_add_func("/control/descriptors", test_descriptors);
    g_test_add_func("/control/fuzz", test_fuzz);
    g_test_add_func("/control/beside-work", test_beside_work);
    g_test_add_func("/control/lost", test_lost);
    g_test_add_func("/control/drain", test_drain);
    return g_test_run();
}
