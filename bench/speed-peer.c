/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processes that are measured: qidmapd, diod, and two that do nothing but exchange messages,
 * without and with the naked system calls between (the floor). Starts and ends them, pins them,
 * reads their CPU time, has their system calls counted.
 *
 * A bare process takes as many messages as one recv gives, and answers them in one send, each with
 * as many bytes as the message says after its header: no server can do it with fewer system calls.
 * It must know nothing of 9P.
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

static gboolean floor_send(int fd, const guint8 *bytes, gsize size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n <= 0)
            return FALSE;
        bytes += n;
        size -= (gsize)n;
    }
    return TRUE;
}

static void floor_serve(int fd, guint8 *in, guint8 *out)
{
    gsize have = 0;

    for (;;) {
        ssize_t n = recv(fd, in + have, FLOOR_ROOM - have, 0);
        gsize from = 0, filled = 0;

        if (n <= 0)
            return;
        have += (gsize)n;
        while (have - from >= 11 && have - from >= get32(in + from)) {
            const guint8 *frame = in + from;
            guint32 reply = get32(frame + 7);
            guint naked = frame[5] | (guint)frame[6] << 8;

            if (filled + reply + SPEED_BLOCK + 64 > FLOOR_ROOM) {
                if (!floor_send(fd, out, filled))
                    return;
                filled = 0;
            }
            if (naked != 0)
                speed_floor_once(naked - 1, frame + 23, out + filled + 11);
            memcpy(out + filled, &reply, 4);
            out[filled + 4] = frame[4] + 1;
            filled += reply;
            from += get32(frame);
        }
        if (!floor_send(fd, out, filled))
            return;
        if (have > from)
            memmove(in, in + from, have - from);
        have -= from;
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
        for (;;) {
            int fd = accept(listener, NULL, NULL);

            if (fd < 0)
                _exit(1);
            g_thread_unref(g_thread_new("floor", floor_main, GINT_TO_POINTER(fd)));
        }
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

struct peer *peer_find(const GPtrArray *peers, const char *name, const char *transport)
{
    for (guint i = 0; i < peers->len; i++) {
        struct peer *peer = peers->pdata[i];

        if (strcmp(peer->name, name) == 0 && strcmp(peer->transport, transport) == 0)
            return peer;
    }
    return NULL;
}

static void bare_start(GPtrArray *peers, const char *tmp, const char *name, gboolean naked)
{
    g_autofree char *path = g_build_filename(tmp, name, NULL);
    struct peer *peer;
    guint16 port;
    pid_t pid;

    pid = floor_start(listen_unix(path));
    peer = peer_new(peers, name, "unix", g_strdup_printf("unix:%s", path), "", pid);
    peer->bare = TRUE;
    peer->floor = naked;
    pid = floor_start(listen_tcp(&port));
    peer = peer_new(peers, name, "tcp", g_strdup_printf("tcp:127.0.0.1:%u", port), "", pid);
    peer->bare = TRUE;
    peer->floor = naked;
}

/* Whether this diod can stay in the foreground, or knows nothing else, as newer ones. */
static gboolean diod_has_foreground(const char *file)
{
    const char *argv[] = {file, "--help", NULL};
    g_autofree char *out = NULL, *err = NULL;

    if (!g_spawn_sync(NULL, (char **)(void *)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err,
                      NULL, NULL))
        speed_die(file);
    return strstr(out, "--foreground") != NULL || strstr(err, "--foreground") != NULL;
}

static void server_start(GPtrArray *peers, const char *tmp, const char *data,
                         const struct peer_spec *spec)
{
    g_autofree char *log = g_build_filename(tmp, "log", NULL);
    g_autofree char *path = g_strdup_printf("%s/%s.sock", tmp, spec->name);
    g_autofree char *unix_addr = g_strdup_printf("unix:%s", path);
    g_autofree char *inet = g_strdup_printf("127.0.0.1:%u", free_port());
    g_autofree char *tcp_addr = g_strdup_printf("tcp:%s", inet);
    g_autofree char *export = g_strdup_printf("data=%s", data);
    g_autofree char *store = g_strdup_printf("lmdb:%s/store-%s", tmp, spec->name);
    g_autofree char *base = g_path_get_basename(spec->file);
    const char *aname = data;
    const char *argv[16] = {spec->file};
    struct peer *peer;
    guint n = 1;
    pid_t pid;

    if (g_str_has_prefix(base, "diod")) {
        const char *more[] = {"-n", "-N", "-c", "/dev/null", "-l", inet, "-l", path, "-e", data};

        if (diod_has_foreground(spec->file))
            argv[n++] = "-f";
        for (guint i = 0; i < G_N_ELEMENTS(more); i++)
            argv[n++] = more[i];
    } else if (strstr(base, "qidmapd") != NULL) {
        const char *more[] = {"--export", export,    "--store",  store,
                              "--listen", unix_addr, "--listen", tcp_addr};

        for (guint i = 0; i < G_N_ELEMENTS(more); i++)
            argv[n++] = more[i];
        aname = "data";
    } else {
        fprintf(stderr, "speed: %s is neither called diod... nor qidmapd\n", spec->file);
        exit(2);
    }
    pid = spawn(argv, log);
    peer = peer_new(peers, spec->name, "unix", g_strdup(unix_addr), aname, pid);
    peer->argv = g_strdupv((char **)(void *)argv);
    peer = peer_new(peers, spec->name, "tcp", g_strdup(tcp_addr), aname, pid);
}

GPtrArray *peers_start(const char *tmp, const char *data, const struct peer_spec *specs,
                       guint count)
{
    GPtrArray *peers = g_ptr_array_new();

    bare_start(peers, tmp, "exchange", FALSE);
    bare_start(peers, tmp, "floor", TRUE);
    for (guint i = 0; i < count; i++)
        server_start(peers, tmp, data, &specs[i]);
    return peers;
}

void peer_restart(GPtrArray *peers, const char *name, const char *tmp)
{
    g_autofree char *log = g_build_filename(tmp, "log", NULL);
    struct peer *first = peer_find(peers, name, "unix");
    struct peer *second = peer_find(peers, name, "tcp");

    g_clear_pointer(&first->client, client_close);
    g_clear_pointer(&second->client, client_close);
    peer_end(first->pid);
    first->pid = second->pid = spawn((const char *const *)(void *)first->argv, log);
    client_close(connect_soon(first->addr, 20));
    client_close(connect_soon(second->addr, 20));
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
            strstr(text, "TracerPid:\t0\n") == NULL) {
            g_usleep(30000); /* for the other threads */
            return tracer;
        }
        if (waitpid(tracer, NULL, WNOHANG) == tracer)
            break; /* it may not */
        g_usleep(10000);
    }
    peer_end(tracer);
    return 0;
}

/* From a line for each call: strace's own counting leaves out calls that are newer than it. */
guint64 peer_trace_end(pid_t tracer, const char *file, GHashTable *names)
{
    g_autofree char *text = NULL;
    guint64 calls = 0;
    char *line, *rest;

    peer_end(tracer);
    if (!g_file_get_contents(file, &text, NULL, NULL))
        return 0;
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        char *name = line + strspn(line, "0123456789 ");
        gsize len = strcspn(name, "(");
        gsize before;

        if (name[0] == '<' || name[0] == '-' || name[0] == '+' || name[len] != '(')
            continue; /* the end of a call, a signal, the end of a thread */
        name[len] = '\0';
        before = GPOINTER_TO_SIZE(g_hash_table_lookup(names, name));
        g_hash_table_insert(names, g_strdup(name), GSIZE_TO_POINTER(before + 1));
        calls++;
    }
    return calls;
}

gboolean spinners_start(void)
{
    const struct sched_param none = {0};
    gboolean idle = TRUE;

    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
        pid_t pid = fork();

        if (pid == 0) {
            child_begin();
            peer_pin(getpid(), (int)cpu);
            if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
                _exit(1);
            for (;;)
                __asm__ volatile("" ::: "memory");
        }
        if (sched_setscheduler(pid, SCHED_IDLE, &none) < 0)
            idle = FALSE;
        remember(pid);
    }
    return idle;
}
