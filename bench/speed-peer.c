/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processes that are measured: qidmapd, diod, and the floor, which is a socket and nothing
 * behind it. Starts and ends them, pins them, reads their CPU time.
 *
 * The floor reads a message whole, and answers with a header and as many bytes as the message says
 * after its own header: no server can answer with fewer system calls. It must know nothing of 9P.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/speed.h"

#define FLOOR_ROOM (2u * 1024 * 1024)

static GArray *children; /* pid_t */
static pid_t main_pid;

static void child_begin(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1)
        _exit(1);
}

static void remember(pid_t pid)
{
    if (children == NULL) {
        children = g_array_new(FALSE, FALSE, sizeof(pid_t));
        main_pid = getpid();
        atexit(peers_stop);
    }
    g_array_append_val(children, pid);
}

void peer_end(pid_t pid)
{
    for (guint i = 0; i < children->len; i++)
        if (g_array_index(children, pid_t, i) == pid) {
            kill(pid, SIGTERM);
            waitpid(pid, NULL, 0);
            g_array_remove_index_fast(children, i);
            return;
        }
}

void peers_stop(void)
{
    if (children == NULL || getpid() != main_pid)
        return;
    while (children->len > 0)
        peer_end(g_array_index(children, pid_t, children->len - 1));
}

/* ---- the floor ------------------------------------------------------------------------------- */

static guint32 get32(const guint8 *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (guint32)at[3] << 24;
}

static void floor_serve(int fd, guint8 *in, guint8 *out)
{
    gsize have = 0;

    for (;;) {
        guint32 size, reply;
        ssize_t n = recv(fd, in + have, FLOOR_ROOM - have, 0);

        if (n <= 0)
            return;
        have += (gsize)n;
        if (have < 11 || have < (size = get32(in)))
            continue;
        reply = get32(in + 7);
        memcpy(out, &reply, 4);
        for (gsize sent = 0; sent < reply; sent += (gsize)n) {
            n = send(fd, out + sent, reply - sent, MSG_NOSIGNAL);
            if (n <= 0)
                return;
        }
        memmove(in, in + size, have - size);
        have -= size;
    }
}

/* One connection, which it closes. */
static gpointer floor_main(gpointer data)
{
    g_autofree guint8 *in = g_malloc0(FLOOR_ROOM), *out = g_malloc0(FLOOR_ROOM);
    int one = 1, fd = GPOINTER_TO_INT(data);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    floor_serve(fd, in, out);
    close(fd);
    return NULL;
}

/* A thread for each connection: nothing between the socket and who answers. */
static pid_t floor_start(int listener)
{
    pid_t pid = fork();

    if (pid == 0) {
        child_begin();
        for (;;)
            g_thread_unref(
                g_thread_new("floor", floor_main, GINT_TO_POINTER(accept(listener, NULL, NULL))));
    }
    close(listener);
    remember(pid);
    return pid;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(sa.sun_path, path, sizeof sa.sun_path);
    if (fd < 0 || bind(fd, (void *)&sa, sizeof sa) < 0 || listen(fd, 128) < 0)
        speed_die(path);
    return fd;
}

static int listen_tcp(guint16 *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (void *)&sa, sizeof sa) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (void *)&sa, &size) < 0)
        speed_die("tcp socket");
    *port = ntohs(sa.sin_port);
    return fd;
}

/* A port that is free now; another may take it first, then the server says so. */
static guint16 free_port(void)
{
    guint16 port;

    close(listen_tcp(&port));
    return port;
}

/* ---- servers --------------------------------------------------------------------------------- */

static pid_t spawn(const char *const *argv, const char *log)
{
    pid_t pid;

    fflush(NULL); /* or the child would write it, too */
    pid = fork();

    if (pid == 0) {
        child_begin();
        if (freopen(log, "a", stdout) == NULL || freopen(log, "a", stderr) == NULL)
            _exit(126);
        execv(argv[0], (char **)(void *)argv);
        _exit(127);
    }
    remember(pid);
    return pid;
}

static struct client *connect_soon(const char *addr, double seconds)
{
    double end = speed_now() + seconds;
    struct client *client;

    while ((client = client_connect(addr)) == NULL && speed_now() < end)
        g_usleep(500);
    if (client == NULL)
        speed_die(addr);
    return client;
}

static struct peer *peer_new(GPtrArray *peers, const char *name, const char *transport, char *addr,
                             const char *aname, pid_t pid)
{
    struct peer *peer = g_new0(struct peer, 1);

    peer->name = name;
    peer->transport = transport;
    peer->addr = addr;
    peer->aname = g_strdup(aname);
    peer->pid = pid;
    g_ptr_array_add(peers, peer);
    client_close(connect_soon(addr, 20));
    return peer;
}

GPtrArray *peers_start(const char *tmp, const char *data, const char *qidmapd, const char *diod,
                       const char *store)
{
    GPtrArray *peers = g_ptr_array_new();
    g_autofree char *floor_path = g_build_filename(tmp, "floor", NULL);
    g_autofree char *log = g_build_filename(tmp, "log", NULL);
    g_autofree char *unix_addr = g_strdup_printf("unix:%s/sock", tmp);
    g_autofree char *tcp_addr = g_strdup_printf("tcp:127.0.0.1:%u", free_port());
    g_autofree char *export = g_strdup_printf("data=%s", data);
    guint16 port;
    pid_t pid;

    pid = floor_start(listen_unix(floor_path));
    peer_new(peers, "floor", "unix", g_strdup_printf("unix:%s", floor_path), "", pid)->floor = TRUE;
    pid = floor_start(listen_tcp(&port));
    peer_new(peers, "floor", "tcp", g_strdup_printf("tcp:127.0.0.1:%u", port), "", pid)->floor =
        TRUE;
    {
        const char *argv[] = {qidmapd,    "--export", export,     "--store", store,
                              "--listen", unix_addr,  "--listen", tcp_addr,  NULL};

        pid = spawn(argv, log);
    }
    peer_new(peers, "qidmapd", "unix", g_strdup(unix_addr), "data", pid);
    peer_new(peers, "qidmapd", "tcp", g_strdup(tcp_addr), "data", pid);
    if (diod != NULL) {
        g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", free_port());
        const char *argv[] = {diod, "-f",   "-n", "-N", "-c", "/dev/null",
                              "-l", listen, "-e", data, NULL};

        pid = spawn(argv, log);
        peer_new(peers, "diod", "tcp", g_strdup_printf("tcp:%s", listen), data, pid);
    }
    return peers;
}

double peer_start_time(const char *tmp, const char *data, const char *qidmapd, const char *store,
                       pid_t *pid)
{
    g_autofree char *log = g_build_filename(tmp, "log", NULL);
    g_autofree char *addr = g_strdup_printf("unix:%s/start", tmp);
    g_autofree char *export = g_strdup_printf("data=%s", data);
    const char *argv[] = {qidmapd, "--export", export, "--store", store, "--listen", addr, NULL};
    struct client_attr attr;
    struct client *client;
    double start = speed_now();

    *pid = spawn(argv, log);
    client = connect_soon(addr, 60);
    if (client_hello(client, 8192) != 0 ||
        client_attach(client, SPEED_ROOT, geteuid(), "data", NULL) != 0 ||
        client_getattr(client, SPEED_ROOT, GETATTR_BASIC, &attr) != 0)
        speed_die("qidmapd does not answer after its start");
    start = speed_now() - start;
    client_close(client);
    return start * 1e3;
}

void peer_pin(pid_t pid, int cpu)
{
    g_autofree char *dir = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) tasks = g_dir_open(dir, 0, NULL);
    const char *task;
    cpu_set_t set;

    CPU_ZERO(&set);
    for (long i = 0; i < sysconf(_SC_NPROCESSORS_CONF); i++)
        if (cpu < 0 || i == cpu)
            CPU_SET((size_t)i, &set);
    while (tasks != NULL && (task = g_dir_read_name(tasks)) != NULL)
        sched_setaffinity(atoi(task), sizeof set, &set);
}

guint64 peer_cpu(pid_t pid)
{
    struct timespec time;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        speed_die("the CPU time of a server");
    return (guint64)time.tv_sec * 1000000000 + (guint64)time.tv_nsec;
}

guint64 peer_memory(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", (int)pid);
    g_autofree char *text = NULL;
    guint64 bytes = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    for (const char *at = text; (at = strstr(at, "\nPrivate_")) != NULL; at++)
        bytes += g_ascii_strtoull(strchr(at, ':') + 1, NULL, 10) * 1024;
    return bytes;
}

pid_t peer_trace(pid_t pid, const char *file)
{
    g_autofree char *strace = g_find_program_in_path("strace");
    g_autofree char *number = g_strdup_printf("%d", (int)pid);
    g_autofree char *status = g_strdup_printf("/proc/%d/status", (int)pid);
    const char *argv[] = {strace, "-f", "-qq", "-s", "0", "-o", file, "-p", number, NULL};
    pid_t tracer;

    if (strace == NULL)
        return 0;
    tracer = spawn(argv, "/dev/null");
    for (int i = 0; i < 200; i++) {
        g_autofree char *text = NULL;

        if (g_file_get_contents(status, &text, NULL, NULL) &&
            strstr(text, "TracerPid:\t0\n") == NULL)
            break;
        g_usleep(10000);
    }
    g_usleep(100000); /* for the other threads */
    return tracer;
}

guint64 peer_trace_end(pid_t tracer, const char *file)
{
    g_autofree char *text = NULL;
    guint64 calls = 0;

    peer_end(tracer);
    if (!g_file_get_contents(file, &text, NULL, NULL))
        return 0;
    for (const char *line = text; *line != '\0'; line += line[0] != '\0') {
        gsize len = strcspn(line, "\n");

        calls += g_strstr_len(line, (gssize)len, "(") != NULL &&
                 g_strstr_len(line, (gssize)len, "<...") == NULL;
        line += len;
    }
    return calls;
}

void spinners_start(void)
{
    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct sched_param none = {0};

            child_begin();
            peer_pin(getpid(), (int)cpu);
            if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
                _exit(1);
            for (;;)
                __asm__ volatile("" ::: "memory");
        }
        remember(pid);
    }
}
