/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: the daemon listens where it is told and as it is told (mode and owner of a socket file,
 * IPv6, socket activation), serves connections that its parent made, takes away no socket file but
 * its own, and refuses with a word of explanation what it cannot use.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* A daemon with arguments of the test's own. */
struct place {
    char *tmp, *dir, *export, *sock, *listen, *log;
    pid_t pid;
    /* what the child has beyond the usual: descriptor `give` as number `as`, socket activation */
    int give, as;
    const char *listen_fds, *listen_names;
};

static void setup(struct place *p, gconstpointer data)
{
    (void)data;
    memset(p, 0, sizeof *p);
    p->tmp = g_dir_make_tmp("qidmap-transport-XXXXXX", NULL);
    p->dir = g_build_filename(p->tmp, "data", NULL);
    p->export = g_strdup_printf("data=%s", p->dir);
    p->sock = g_build_filename(p->tmp, "sock", NULL);
    p->listen = g_strdup_printf("unix:%s", p->sock);
    p->log = g_build_filename(p->tmp, "log", NULL);
    p->give = p->as = -1;
    g_assert_cmpint(g_mkdir(p->dir, 0755), ==, 0);
}

static int wait_end(pid_t pid)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    int status = -1;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (g_get_monotonic_time() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        poll(NULL, 0, 2);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void teardown(struct place *p, gconstpointer data)
{
    const char *rm[] = {"rm", "-rf", p->tmp, NULL};

    (void)data;
    if (p->pid > 0) {
        kill(p->pid, SIGTERM);
        g_assert_cmpint(wait_end(p->pid), ==, 0);
    }
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(p->tmp);
    g_free(p->dir);
    g_free(p->export);
    g_free(p->sock);
    g_free(p->listen);
    g_free(p->log);
}

static void run_child(const struct place *p, char **argv, int ready)
{
    int log = open(p->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, 2);
    fcntl(ready, F_SETFD, 0);
    if (p->give >= 0) {
        dup2(p->give, p->as);
        fcntl(p->as, F_SETFD, 0);
    }
    if (p->listen_fds != NULL) {
        g_autofree char *pid = g_strdup_printf("%d", (int)getpid());

        g_setenv("LISTEN_PID", pid, TRUE);
        g_setenv("LISTEN_FDS", p->listen_fds, TRUE);
        if (p->listen_names != NULL)
            g_setenv("LISTEN_FDNAMES", p->listen_names, TRUE);
    }
    execv(argv[0], argv);
    _exit(127);
}

/* Starts it; *ready gets the descriptor on which READY or the end comes. */
static pid_t spawn(const struct place *p, const char *const *args, int *ready)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    const char *program = g_getenv("QIDMAPD");
    int pipe_fds[2];
    pid_t pid;

    g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
    /* out of the way of the numbers that tests give away */
    pid = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, 50);
    close(pipe_fds[1]);
    pipe_fds[1] = pid;
    g_ptr_array_add(argv, g_strdup(program != NULL ? program : "src/qidmapd"));
    g_ptr_array_add(argv, g_strdup("--export"));
    g_ptr_array_add(argv, g_strdup(p->export));
    g_ptr_array_add(argv, g_strdup("--store"));
    g_ptr_array_add(argv, g_strdup("memory:"));
    g_ptr_array_add(argv, g_strdup("--ready-fd"));
    g_ptr_array_add(argv, g_strdup_printf("%d", pipe_fds[1]));
    for (; *args != NULL; args++)
        g_ptr_array_add(argv, g_strdup(*args));
    g_ptr_array_add(argv, NULL);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        run_child(p, (char **)argv->pdata, pipe_fds[1]);
    close(pipe_fds[1]);
    *ready = pipe_fds[0];
    return pid;
}

static gboolean is_ready(int ready)
{
    struct pollfd fd = {.fd = ready, .events = POLLIN};
    char text[8] = "";
    gboolean fine = poll(&fd, 1, 60000) == 1 && read(ready, text, sizeof text) == 6;

    close(ready);
    return fine && memcmp(text, "READY\n", 6) == 0;
}

static gboolean starts(struct place *p, const char *const *args)
{
    int ready;

    p->pid = spawn(p, args, &ready);
    if (is_ready(ready))
        return TRUE;
    wait_end(p->pid);
    p->pid = 0;
    return FALSE;
}
#define STARTS(p, ...) g_assert_true(starts(p, (const char *const[]){"--debug", __VA_ARGS__, NULL}))

static char *log_text(const struct place *p)
{
    char *text = NULL;

    g_file_get_contents(p->log, &text, NULL, NULL);
    return text != NULL ? text : g_strdup("");
}

/* Does not start, with this status and this word in the log. */
static void refuses(struct place *p, const char *const *args, int want, const char *word)
{
    g_autofree char *text = NULL;
    int ready, status;
    pid_t pid;

    g_unlink(p->log);
    pid = spawn(p, args, &ready);
    g_assert_false(is_ready(ready));
    status = wait_end(pid);
    text = log_text(p);
    g_test_message("status %d: %s", status, text);
    g_assert_cmpint(status, ==, want);
    g_assert_nonnull(strstr(text, word));
}
#define REFUSES(p, want, word, ...) refuses(p, (const char *const[]){__VA_ARGS__, NULL}, want, word)

/* Says hello and attaches; the client stays open. */
static struct client *attached(struct client *c)
{
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), "data", NULL), ==, 0);
    return c;
}

static void works(struct client *c)
{
    client_close(attached(c));
}

/* ---- socket files ---------------------------------------------------------------------------- */

static void mode_and_owner(struct place *p, gconstpointer data)
{
    g_autofree char *listen = NULL;
    struct stat st;

    (void)data;
    umask(022); /* which does not count */
    if (geteuid() == 0)
        listen = g_strdup_printf("unix:%s,mode=0662,owner=65534,group=65533", p->sock);
    else
        listen = g_strdup_printf("unix:%s,mode=0662", p->sock);
    STARTS(p, "--listen", listen);
    g_assert_cmpint(lstat(p->sock, &st), ==, 0);
    g_assert_true(S_ISSOCK(st.st_mode));
    g_assert_cmpint(st.st_mode & 07777, ==, 0662);
    if (geteuid() == 0) {
        g_assert_cmpint(st.st_uid, ==, 65534);
        g_assert_cmpint(st.st_gid, ==, 65533);
    }
    works(client_connect(p->listen));
}

static void mode_by_default(struct place *p, gconstpointer data)
{
    struct stat st;

    (void)data;
    STARTS(p, "--listen", p->listen);
    g_assert_cmpint(lstat(p->sock, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0600);
}

static void bad_addresses(struct place *p, gconstpointer data)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"unix:", "1 to 107"},
        {"unix:/tmp/x,mode=888", "octal"},
        {"unix:/tmp/x,mode=07777", "octal"},
        {"unix:/tmp/x,owner=no-such-user-here", "no such user"},
        {"unix:/tmp/x,group=no-such-group-here", "no such group"},
        {"unix:/tmp/x,allow=", "empty"},
        {"unix:/tmp/x,allow=nowhere", "nowhere"},
        {"tcp:127.0.0.1:1,mode=0600", "unix: alone"},
        {"tcp:::1:564", "brackets"},
        {"tcp:127.0.0.1:0", "1 to 65535"},
        {"tcp::564", "HOST"},
        {"vsock:", "vsock:"},
        {"vsock:x:5", "CID"},
        {"vsock:1:2:3", "vsock:"},
        {"vsock:4294967295", "vsock:"},
        {"rdma:host:1", "rdma"},
    };
    g_autofree char *conf = g_build_filename(p->tmp, "conf", NULL);

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text =
            g_strdup_printf("# a comment\n[daemon]\nstore=memory:\n\nlisten=%s\n", bad[i].text);
        g_autofree char *place = g_strdup_printf("%s:5: ", conf);

        REFUSES(p, 2, bad[i].word, "--listen", bad[i].text);
        /* and in the file: which one, and the line */
        g_assert_true(g_file_set_contents(conf, text, -1, NULL));
        REFUSES(p, 1, bad[i].word, "--config", conf);
        REFUSES(p, 1, place, "--config", conf);
    }
    REFUSES(p, 2, "fs-id", "--listen", p->listen, "--fs-id", "relative=x");
    REFUSES(p, 2, "allow", "--listen", p->listen, "--allow", "10.0.0.1/8");
    REFUSES(p, 2, "subdirs", "--listen", p->listen, "--subdirs", "maybe");
    g_assert_cmpint(g_access(p->sock, F_OK), !=, 0);
}

/* A mistake in the file: which file, which line, what. */
static void bad_lines(struct place *p, gconstpointer data)
{
    static const struct {
        const char *text;
        int line;
        const char *word;
    } bad[] = {
        {"[daemon]\nstore=memory:\nlisten unix:/x\n", 3, "KEY=VALUE"},
        {"# x\n\nstore=memory:\n[daemon]\n", 3, "before the first"},
        {"[daemon]\nstore=memory:\nstore=memory:\n", 3, "line 2"},
        {"[daemon]\n[export x]\ndir=/\n[daemon]\n", 4, "line 1"},
        {"[daemon\n", 1, "[GROUP]"},
        {"[daemon]\n\nno-such-key=1\n", 3, "no-such-key"},
        {"[daemon]\nstore=memory:\nthreads=many\n", 3, "threads"},
        {"[daemon]\nstore=memory:\nthreads=1\n", 3, "threads"},
        {"[daemon]\nstore=memory:\naccess=everyone\n", 3, "everyone"},
        {"[daemon]\nstore=memory:\nallow=10.0.0.1/8\n", 3, "10.0.0.1/8"},
        {"[daemon]\nstore=memory:\nfs-id=x\n", 3, "fs-id"},
        {"[daemon]\nstore=memory:\n[export x]\ndir=/\nsubdirs=maybe\n", 5, "maybe"},
        {"[daemon]\nstore=memory:\n[export x]\ndir=/\nallow=\n", 5, "empty"},
        {"[daemon]\nstore=memory:\n[export x]\ndir=/\nreadonly=x\n", 5, "readonly"},
        {"[daemon]\nstore=memory:\n[export x]\n", 3, "directory"},
        {"[daemon]\n\n[exprot x]\n", 3, "exprot"},
    };
    g_autofree char *conf = g_build_filename(p->tmp, "conf", NULL);

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *place = g_strdup_printf("%s:%d: ", conf, bad[i].line);

        g_assert_true(g_file_set_contents(conf, bad[i].text, -1, NULL));
        REFUSES(p, 1, place, "--config", conf);
        REFUSES(p, 1, bad[i].word, "--config", conf);
    }
}

/* A server ends after another one took its place: the other one's socket stays. */
static void foreign_socket_stays(struct place *p, gconstpointer data)
{
    g_autofree char *away = g_strdup_printf("%s.away", p->sock);
    g_autofree char *away_addr = g_strdup_printf("unix:%s", away);
    pid_t first;

    (void)data;
    STARTS(p, "--listen", p->listen);
    first = p->pid;
    g_assert_cmpint(g_rename(p->sock, away), ==, 0);
    STARTS(p, "--listen", p->listen);
    works(client_connect(away_addr));
    kill(first, SIGTERM);
    g_assert_cmpint(wait_end(first), ==, 0);
    works(client_connect(p->listen));
    kill(p->pid, SIGTERM);
    g_assert_cmpint(wait_end(p->pid), ==, 0);
    p->pid = 0;
    g_assert_cmpint(g_access(p->sock, F_OK), !=, 0); /* its own one is gone */
}

/* Several servers start at one stale socket: one of them gets it, and it stays with that one. */
static void stale_socket_once(struct place *p, gconstpointer data)
{
    enum { SERVERS = 4, ROUNDS = 4 };

    (void)data;
    for (int round = 0; round < ROUNDS; round++) {
        const char *args[] = {"--listen", p->listen, NULL};
        int ready[SERVERS], winners = 0;
        pid_t pids[SERVERS], winner = 0;

        STARTS(p, "--listen", p->listen);
        kill(p->pid, SIGKILL);
        wait_end(p->pid);
        p->pid = 0;
        g_assert_cmpint(g_access(p->sock, F_OK), ==, 0);
        for (int i = 0; i < SERVERS; i++)
            pids[i] = spawn(p, args, &ready[i]);
        for (int i = 0; i < SERVERS; i++)
            if (is_ready(ready[i])) {
                winner = pids[i];
                winners++;
            } else {
                g_assert_cmpint(wait_end(pids[i]), ==, 1);
            }
        g_assert_cmpint(winners, ==, 1);
        works(client_connect(p->listen));
        kill(winner, SIGTERM);
        g_assert_cmpint(wait_end(winner), ==, 0);
        g_assert_cmpint(g_access(p->sock, F_OK), !=, 0);
    }
}

/* ---- TCP ------------------------------------------------------------------------------------- */

/* Of ::1, and below what the kernel gives to who asks for any port; -1: there is no ::1. */
static int free_port6(void)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    for (int i = 0; i < 10000; i++) {
        int port = 12000 + (int)((unsigned)getpid() * 7 + (unsigned)i) % 18000, rc;
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
            return -1;
        in6.sin6_port = htons((guint16)port);
        rc = bind(fd, (struct sockaddr *)&in6, sizeof in6) == 0 ? 0 : errno;
        close(fd);
        if (rc == 0)
            return port;
        if (rc != EADDRINUSE)
            return -1;
    }
    return -1;
}

static void tcp6(struct place *p, gconstpointer data)
{
    int port = free_port6(), fd;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    g_autofree char *listen = g_strdup_printf("tcp:[::1]:%d", port);
    g_autofree char *text = NULL;

    (void)data;
    if (port < 0) {
        g_test_skip("this machine has no IPv6 loopback address");
        return;
    }
    STARTS(p, "--listen", listen);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in6.sin6_port = htons(port);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&in6, sizeof in6), ==, 0);
    works(client_of_fd(fd));
    text = log_text(p);
    g_assert_nonnull(strstr(text, "begins: tcp:[::1]:"));
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

/* The server's end of the connection whose other end has this port; -1: not to be had. */
static int stolen(pid_t pid, int port)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), found = -1;

    for (int n = 0; pidfd >= 0 && found < 0 && n < 200; n++) {
        struct sockaddr_in in;
        socklen_t size = sizeof in;
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, n, 0);

        if (fd < 0)
            continue;
        if (getpeername(fd, (struct sockaddr *)&in, &size) == 0 && in.sin_family == AF_INET &&
            ntohs(in.sin_port) == port)
            found = fd;
        else
            close(fd);
    }
    if (pidfd >= 0)
        close(pidfd);
    return found;
}

static void tcp_options(struct place *p, gconstpointer data)
{
    /* an address that only this process uses */
    guint32 host = 0x010000 + (guint32)getpid() % 0xfe0000;
    g_autofree char *listen =
        g_strdup_printf("tcp:127.%u.%u.%u:5640", host >> 16, host >> 8 & 255, host & 255);
    struct sockaddr_in in;
    socklen_t size = sizeof in;
    struct client *c;
    int fd;

    (void)data;
    STARTS(p, "--listen", listen);
    c = attached(client_connect(listen));
    g_assert_cmpint(getsockname(c->fd, (struct sockaddr *)&in, &size), ==, 0);
    fd = stolen(p->pid, ntohs(in.sin_port));
    if (fd < 0) {
        g_test_skip("pidfd_getfd() is not allowed here");
    } else {
        g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_NODELAY), ==, 1);
        g_assert_cmpint(option(fd, SOL_SOCKET, SO_KEEPALIVE), ==, 1);
        g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), ==, 300);
        g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), ==, 30);
        g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPCNT), ==, 10);
        close(fd);
    }
    client_close(c);
}

/* ---- vsock ----------------------------------------------------------------------------------- */

static void vsock(struct place *p, gconstpointer data)
{
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = 1 /* this machine */};
    g_autofree char *listen = NULL, *text = NULL;
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)data;
    if (fd < 0) {
        g_test_skip("the kernel has no vsock");
        return;
    }
    vm.svm_port = 700000 + (unsigned)getpid();
    listen = g_strdup_printf("vsock:%u", vm.svm_port);
    STARTS(p, "--listen", listen);
    if (connect(fd, (struct sockaddr *)&vm, sizeof vm) != 0) {
        g_test_skip("listens, but without the module vsock_loopback nobody here can connect");
        close(fd);
        return;
    }
    works(client_of_fd(fd));
    text = log_text(p);
    g_assert_nonnull(strstr(text, "begins: vsock:1:"));
}

/* ---- connections of the parent --------------------------------------------------------------- */

static void inherited_pair(struct place *p, gconstpointer data)
{
    g_autofree char *uid = g_strdup_printf("uid:%u", (unsigned)geteuid());
    g_autofree char *who =
        g_strdup_printf("begins: unix, pid %d, uid %u", (int)getpid(), (unsigned)geteuid());
    g_autofree char *text = NULL;
    struct client *c;
    int pair[2];

    (void)data;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    p->give = pair[1];
    p->as = 20;
    STARTS(p, "--connected-fd", "20", "--allow", uid);
    close(pair[1]);
    p->give = -1;
    c = attached(client_of_fd(pair[0]));
    g_assert_cmpint(client_mkdir(c, ROOT_FID, "made", 0755, NULL), ==, 0);
    client_close(c);
    /* nothing else can come: it ends by itself */
    g_assert_cmpint(wait_end(p->pid), ==, 0);
    p->pid = 0;
    text = log_text(p);
    g_assert_nonnull(strstr(text, who));
}

/* With an address, too, it goes on. */
static void inherited_and_listening(struct place *p, gconstpointer data)
{
    int pair[2];

    (void)data;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    p->give = pair[1];
    p->as = 20;
    STARTS(p, "--connected-fd", "20", "--listen", p->listen);
    close(pair[1]);
    works(client_of_fd(pair[0]));
    works(client_connect(p->listen));
}

/* Two pipes: what trans=fd and ssh have. The client has one descriptor, so two threads of ours join
 * the pipes to it. */
struct join {
    int from, to;
};

static gpointer join_main(gpointer data)
{
    struct join *join = data;
    char buffer[4096];
    ssize_t n;

    while ((n = read(join->from, buffer, sizeof buffer)) > 0)
        if (write(join->to, buffer, n) != n)
            break;
    shutdown(join->to, SHUT_WR);
    close(join->from);
    return NULL;
}

static void inherited_pipes(struct place *p, gconstpointer data)
{
    int down[2], up[2], pair[2];
    struct join in, out;
    GThread *threads[2];
    struct client *c;
    char *args;

    (void)data;
    g_assert_cmpint(pipe2(down, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(up, O_CLOEXEC), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    fcntl(down[0], F_SETFD, 0);
    fcntl(up[1], F_SETFD, 0);
    args = g_strdup_printf("%d,%d", down[0], up[1]);
    STARTS(p, "--connected-fd", args, "--allow", "inherited");
    g_free(args);
    close(down[0]);
    close(up[1]);
    in = (struct join){pair[1], down[1]};
    out = (struct join){up[0], dup(pair[1])};
    threads[0] = g_thread_new("in", join_main, &in);
    threads[1] = g_thread_new("out", join_main, &out);
    c = attached(client_of_fd(pair[0]));
    for (int i = 0; i < 100; i++) {
        struct client_attr attr;

        g_assert_cmpint(client_getattr(c, ROOT_FID, GETATTR_ALL, &attr), ==, 0);
    }
    shutdown(c->fd, SHUT_WR);
    g_thread_join(threads[0]);
    close(down[1]); /* the end, for the server */
    g_assert_cmpint(wait_end(p->pid), ==, 0);
    p->pid = 0;
    g_thread_join(threads[1]);
    close(out.to);
    client_close(c);
}

static void inherited_mistakes(struct place *p, gconstpointer data)
{
    int pair[2], fd;

    (void)data;
    REFUSES(p, 1, "descriptor 21 is not open", "--connected-fd", "21");
    REFUSES(p, 2, "expected the number", "--connected-fd", "x");
    REFUSES(p, 2, "expected the number", "--connected-fd", "1,3,4");
    REFUSES(p, 2, "expected the number", "--connected-fd", "2"); /* the log's */
    REFUSES(p, 2, "twice", "--connected-fd", "20", "--connected-fd", "20");
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    p->give = fd;
    p->as = 20;
    REFUSES(p, 1, "no connected stream socket", "--connected-fd", "20");
    close(fd);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    p->give = pair[1];
    REFUSES(p, 1, "allow list", "--connected-fd", "20", "--allow", "192.0.2.1");
    close(pair[0]);
    close(pair[1]);
}

/* ---- socket activation ----------------------------------------------------------------------- */

static int listener_at(const char *path, int type)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    g_strlcpy(un.sun_path, path, sizeof un.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&un, sizeof un), ==, 0);
    if (type == SOCK_STREAM)
        g_assert_cmpint(listen(fd, 8), ==, 0);
    return fd;
}

static void activation(struct place *p, gconstpointer data)
{
    (void)data;
#ifndef HAVE_SYSTEMD
    g_test_skip("built without libsystemd");
    return;
#endif
    p->give = listener_at(p->sock, SOCK_STREAM);
    p->as = 3;
    p->listen_fds = "1";
    p->listen_names = "qidmapd.socket";
    STARTS(p, "--debug");
    close(p->give);
    works(client_connect(p->listen));
    kill(p->pid, SIGTERM);
    g_assert_cmpint(wait_end(p->pid), ==, 0);
    p->pid = 0;
    g_assert_cmpint(g_access(p->sock, F_OK), ==, 0); /* it is systemd's */
}

static void activation_mistakes(struct place *p, gconstpointer data)
{
    g_autofree char *other = g_strdup_printf("%s.dgram", p->sock);
    int pair[2];

    (void)data;
#ifndef HAVE_SYSTEMD
    g_test_skip("built without libsystemd");
    return;
#endif
    p->as = 3;
    p->listen_fds = "1";
    p->listen_names = "connection";
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    p->give = pair[1];
    REFUSES(p, 1, "Accept=no", "--debug");
    close(pair[0]);
    close(pair[1]);
    p->give = listener_at(other, SOCK_DGRAM);
    REFUSES(p, 1, "ListenStream", "--debug");
    close(p->give);
    p->give = listener_at(p->sock, SOCK_STREAM);
    p->listen_names = "one:two";
    REFUSES(p, 1, "LISTEN_FDNAMES", "--debug");
    close(p->give);
    p->give = -1;
    p->listen_fds = "0";
    p->listen_names = NULL;
    REFUSES(p, 1, "LISTEN_FDS", "--debug");
}

int main(int argc, char **argv)
{
#define PLACE_TEST(path, fn) g_test_add(path, struct place, NULL, setup, fn, teardown)
    g_test_init(&argc, &argv, NULL);
    PLACE_TEST("/transport/mode-and-owner", mode_and_owner);
    PLACE_TEST("/transport/mode-by-default", mode_by_default);
    PLACE_TEST("/transport/bad-addresses", bad_addresses);
    PLACE_TEST("/transport/bad-lines", bad_lines);
    PLACE_TEST("/transport/foreign-socket-stays", foreign_socket_stays);
    PLACE_TEST("/transport/stale-socket-once", stale_socket_once);
    PLACE_TEST("/transport/tcp6", tcp6);
    PLACE_TEST("/transport/tcp-options", tcp_options);
    PLACE_TEST("/transport/vsock", vsock);
    PLACE_TEST("/transport/inherited-pair", inherited_pair);
    PLACE_TEST("/transport/inherited-and-listening", inherited_and_listening);
    PLACE_TEST("/transport/inherited-pipes", inherited_pipes);
    PLACE_TEST("/transport/inherited-mistakes", inherited_mistakes);
    PLACE_TEST("/transport/activation", activation);
    PLACE_TEST("/transport/activation-mistakes", activation_mistakes);
    return g_test_run();
}
