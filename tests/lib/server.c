/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of one server under test: arguments, readiness, signals, exit status, clean-up.
 * It must not know anything of the protocol.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S 60

static const char *program(void)
{
    const char *path = g_getenv("QIDMAPD");

    return path != NULL ? path : "src/qidmapd";
}

/*
 * An address whose port nobody takes before the server does: 127.x.y.z of this process alone, where
 * other tests and outgoing connections (127.0.0.1) have no ports. diod is given 127.0.0.1.
 */
static char *free_address(gboolean peer)
{
    guint32 host = peer ? 1 : 0x010000 + (guint32)getpid() % 0xfe0000;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 | host)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&sa, sizeof sa), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&sa, &len), ==, 0);
    close(fd);
    return g_strdup_printf("tcp:127.%u.%u.%u:%d", host >> 16, host >> 8 & 255, host & 255,
                           ntohs(sa.sin_port));
}

/* A failed assertion aborts: take the temporary directory along. */
static char *to_remove;

static void on_abort(int sig)
{
    pid_t pid = fork();

    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--one-file-system", to_remove, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    signal(sig, SIG_DFL);
    raise(sig);
}

struct server *server_new(const char *store, const char *const *extra)
{
    struct server *s = g_new0(struct server, 1);

    s->peer = g_strcmp0(g_getenv("QIDMAP_TEST_PEER"), "diod") == 0;
    s->tmp = g_dir_make_tmp("qidmap-srv-XXXXXX", NULL);
    g_assert_nonnull(s->tmp);
    g_free(to_remove);
    to_remove = g_strdup(s->tmp);
    signal(SIGABRT, on_abort);
    g_assert_cmpint(g_chmod(s->tmp, 0755), ==, 0);
    s->dir = g_build_filename(s->tmp, "export", NULL);
    g_assert_cmpint(g_mkdir(s->dir, 0755), ==, 0);
    g_assert_cmpint(g_chmod(s->dir, 0755), ==, 0);
    s->log = g_build_filename(s->tmp, "log", NULL);
    s->store =
        strcmp(store, "lmdb:") == 0 ? g_strdup_printf("lmdb:%s/store", s->tmp) : g_strdup(store);
    s->tcp = free_address(s->peer);
    s->addr = s->peer ? g_strdup(s->tcp) : g_strdup_printf("unix:%s/sock", s->tmp);
    s->aname = g_strdup(s->peer ? s->dir : "data");
    s->extra = g_strdupv((char **)extra);
    return s;
}

/* runs in the child */
static void run_child(char **argv, const char *log)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    if (fd >= 0)
        dup2(fd, 2);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static pid_t spawn(GPtrArray *argv, const char *log, int ready)
{
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        if (ready >= 0)
            fcntl(ready, F_SETFD, 0);
        run_child((char **)argv->pdata, log);
    }
    return pid;
}

/* diod has no descriptor to tell that it is ready: ask its port */
static gboolean wait_for_port(struct server *s)
{
    gint64 deadline = g_get_monotonic_time() + DEADLINE_S * G_TIME_SPAN_SECOND;

    while (g_get_monotonic_time() < deadline && server_alive(s)) {
        struct client *c = client_connect(s->addr);

        if (c != NULL) {
            client_close(c);
            return TRUE;
        }
        poll(NULL, 0, 5);
    }
    return FALSE;
}

static gboolean wait_for_ready(int fd)
{
    gint64 deadline = g_get_monotonic_time() + DEADLINE_S * G_TIME_SPAN_SECOND;
    char text[16] = "";
    gsize len = 0;

    while (len < 6) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        ssize_t n;

        if (left <= 0 || poll(&p, 1, left) <= 0)
            return FALSE;
        n = read(fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            return FALSE;
        len += n;
    }
    return strcmp(text, "READY\n") == 0;
}

gboolean server_start(struct server *s)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    int ready[2] = {-1, -1};
    gboolean ok;

    if (s->peer) {
        g_ptr_array_add(argv, g_strdup("diod"));
        g_ptr_array_add(argv, g_strdup("-f"));
        g_ptr_array_add(argv, g_strdup("-n"));
        g_ptr_array_add(argv, g_strdup("-N"));
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup("/dev/null"));
        g_ptr_array_add(argv, g_strdup("-l"));
        g_ptr_array_add(argv, g_strdup(s->tcp + 4));
        g_ptr_array_add(argv, g_strdup("-e"));
        g_ptr_array_add(argv, g_strdup(s->dir));
    } else {
        g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
        g_ptr_array_add(argv, g_strdup(program()));
        g_ptr_array_add(argv, g_strdup("--export"));
        g_ptr_array_add(argv, g_strdup_printf("%s=%s", s->aname, s->dir));
        g_ptr_array_add(argv, g_strdup("--store"));
        g_ptr_array_add(argv, g_strdup(s->store));
        g_ptr_array_add(argv, g_strdup("--listen"));
        g_ptr_array_add(argv, g_strdup(s->addr));
        g_ptr_array_add(argv, g_strdup("--listen"));
        g_ptr_array_add(argv, g_strdup(s->tcp));
        g_ptr_array_add(argv, g_strdup("--ready-fd"));
        g_ptr_array_add(argv, g_strdup_printf("%d", ready[1]));
        for (char **e = s->extra; e != NULL && *e != NULL; e++)
            g_ptr_array_add(argv, g_strdup(*e));
    }
    g_ptr_array_add(argv, NULL);
    s->pid = spawn(argv, s->log, ready[1]);
    if (s->peer)
        return wait_for_port(s);
    close(ready[1]);
    ok = wait_for_ready(ready[0]);
    close(ready[0]);
    return ok;
}

static int wait_for_end(pid_t pid)
{
    gint64 deadline = g_get_monotonic_time() + DEADLINE_S * G_TIME_SPAN_SECOND;
    int status = -1;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (g_get_monotonic_time() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
        poll(NULL, 0, 2);
    }
    return status;
}

int server_wait(struct server *s)
{
    int status = wait_for_end(s->pid);

    s->pid = 0;
    return status;
}

static void show_log(struct server *s)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(s->log, &text, NULL, NULL))
        return;
    lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l != NULL; l++)
        g_test_message("server: %s", *l);
}

int server_terminate(struct server *s)
{
    int status;

    kill(s->pid, SIGTERM);
    status = server_wait(s);
    if (status != 0)
        show_log(s);
    return status;
}

void server_kill(struct server *s)
{
    kill(s->pid, SIGKILL);
    server_wait(s);
}

gboolean server_alive(struct server *s)
{
    siginfo_t info = {0};

    return s->pid > 0 && waitid(P_PID, s->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

void server_free(struct server *s)
{
    const char *rm[] = {"sh", "-c",   "chmod -R u+rwX \"$1\"; exec rm -rf --one-file-system \"$1\"",
                        "sh", s->tmp, NULL};

    if (s->pid > 0)
        server_kill(s);
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                 NULL, NULL, NULL, NULL, NULL);
    g_free(s->tmp);
    g_free(s->dir);
    g_free(s->store);
    g_free(s->addr);
    g_free(s->tcp);
    g_free(s->aname);
    g_free(s->log);
    g_strfreev(s->extra);
    g_free(s);
}

char *server_path(struct server *s, const char *name)
{
    return g_build_filename(s->dir, name, NULL);
}

struct client *server_client(struct server *s)
{
    struct client *c = client_connect(s->addr);

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), s->aname, NULL), ==, 0);
    return c;
}

int server_run(const char *const *args, char **err)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *log = NULL;
    int fd = g_file_open_tmp("qidmap-run-XXXXXX", &log, NULL);
    int status;

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_ptr_array_add(argv, (char *)program());
    for (; *args != NULL; args++)
        g_ptr_array_add(argv, (char *)*args);
    g_ptr_array_add(argv, NULL);
    status = wait_for_end(spawn(argv, log, -1));
    g_file_get_contents(log, err, NULL, NULL);
    g_unlink(log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void fixture_setup(struct fixture *f, gconstpointer data)
{
    f->s = server_new("memory:", data);
    if (!server_start(f->s)) {
        show_log(f->s);
        g_error("the server did not start");
    }
    f->c = server_client(f->s);
}

void fixture_teardown(struct fixture *f, gconstpointer data)
{
    (void)data;
    client_close(f->c);
    if (f->s->pid > 0 && !f->s->peer)
        g_assert_cmpint(server_terminate(f->s), ==, 0);
    server_free(f->s);
}

void make_file(struct server *s, const char *name, const char *text)
{
    g_autofree char *path = server_path(s, name);

    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fchmod(fd, 0644), ==, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, strlen(text));
    close(fd);
}

void make_dir(struct server *s, const char *name)
{
    g_autofree char *path = server_path(s, name);

    g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
}

guint32 walk_new(struct client *c, const char *path)
{
    guint32 fid = client_fid(c);

    g_assert_cmpint(client_walk_path(c, ROOT_FID, fid, path, NULL), ==, 0);
    return fid;
}

gboolean skip_unless_root(void)
{
    if (geteuid() == 0)
        return FALSE;
    g_test_skip("needs root");
    return TRUE;
}

gboolean skip_for_peer(struct server *s, const char *why)
{
    if (s->peer)
        g_test_skip(why);
    return s->peer;
}
