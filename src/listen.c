/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets to listen on. See listen.h. */
#include "config.h"

#include "src/listen.h"

#include <errno.h>
#include <glib-unix.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "src/fail.h"
#include "src/listen-spec.h"
#include "src/log.h"
#include "src/worker.h"

#define BACKLOG 128

/* A peer that is gone without a word is noticed after about ten minutes; one that sleeps for less,
 * as a paused guest, keeps its session. */
#define KEEPALIVE_IDLE     300 /* s */
#define KEEPALIVE_INTERVAL 30  /* s */
#define KEEPALIVE_COUNT    10

void listener_free(struct listener *listener)
{
    if (listener->fd >= 0)
        close(listener->fd);
    if (listener->dir_fd >= 0)
        close(listener->dir_fd);
    g_free(listener->base);
    g_free(listener->name);
    g_free(listener->door);
    g_free(listener);
}

static void add(struct listen_set *set, struct listener *listener)
{
    g_array_append_val(set->fds, listener->fd);
    g_ptr_array_add(set->listeners, listener);
}

/* Returns it: borrowed from the set. */
static struct listener *add_fd(struct listen_set *set, int fd, const char *name,
                               const struct allow *allow)
{
    struct listener *listener = g_new0(struct listener, 1);

    listener->fd = fd;
    listener->name = g_strdup(name);
    listener->allow = allow;
    listener->dir_fd = -1;
    add(set, listener);
    return listener;
}

static gboolean open_unix(const struct listen_spec *spec, struct listen_set *set, GError **error)
{
    struct listener *listener = listen_unix_open(spec, error);

    if (listener == NULL)
        return FALSE;
    listener->allow = spec->allow;
    add(set, listener);
    if ((spec->mode & 0006) != 0 && spec->allow == NULL)
        listener->door = g_strdup("any user of this host may connect, and is trusted to say which "
                                  "user acts; give it an allow= list");
    return TRUE;
}

static gboolean is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;

        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;

        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return FALSE;
}

static int open_tcp_one(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int error = -errno;

        close(fd);
        return error;
    }
    return fd;
}

/* 0: all that this machine has of `list` were opened, *opened of them; else the negative errno of
 * one that was not. The first that is no loopback address stands for all. */
static int open_tcp_list(const struct listen_spec *spec, const struct addrinfo *list,
                         struct listen_set *set, unsigned *opened)
{
    bool told = false;

    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        int fd = open_tcp_one(info);
        struct listener *listener;

        if (fd < 0) {
            if (fd == -EAFNOSUPPORT || (fd == -EADDRNOTAVAIL && info->ai_next != NULL))
                continue;
            return fd;
        }
        (*opened)++;
        listener = add_fd(set, fd, spec->text, spec->allow);
        if (told || is_loopback(info->ai_addr) || spec->allow != NULL)
            continue;
        listener->door = g_strdup("is no loopback address; whoever reaches it is trusted to say "
                                  "which user acts");
        told = true;
    }
    return 0;
}

static gboolean open_tcp(const struct listen_spec *spec, struct listen_set *set, GError **error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    unsigned opened = 0;
    int result = getaddrinfo(spec->host, spec->port, &hints, &list);

    if (result != 0)
        return fail_start(error, "listen: %s: %s; use a host name or address, and a port",
                          spec->text, gai_strerror(result));
    result = open_tcp_list(spec, list, set, &opened);
    freeaddrinfo(list);
    if (result == 0 && opened == 0)
        result = -EADDRNOTAVAIL;
    if (result != 0)
        return fail_start(error, "listen: %s: %s%s", spec->text, g_strerror(-result),
                          result == -EADDRINUSE
                              ? "; another server listens there: stop it, or choose another port"
                              : "; choose an address of this machine");
    return TRUE;
}

static gboolean open_vsock(const struct listen_spec *spec, struct listen_set *set, GError **error)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = spec->cid, .svm_port = spec->vsock_port};
    struct listener *listener;
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failed;

    if (fd < 0)
        return fail_start(error, "listen: %s: %s; load the module vhost_vsock", spec->text,
                          g_strerror(errno));
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0) {
        failed = errno;
        close(fd);
        return fail_start(error, "listen: %s: %s%s", spec->text, g_strerror(failed),
                          failed == EADDRINUSE
                              ? "; another server listens there: stop it, or choose another port"
                              : "; choose a context id of this machine, or leave it away");
    }
    listener = add_fd(set, fd, spec->text, spec->allow);
    if (spec->allow == NULL)
        listener->door = g_strdup("every guest of this machine may connect, and is trusted to say "
                                  "which user acts; give it an allow= list");
    return TRUE;
}

#ifdef HAVE_SYSTEMD
static gboolean take_one(int fd, const char *name, struct listen_set *set, GError **error)
{
    g_autofree char *text = NULL;

    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 0) > 0)
        return fail_start(
            error,
            "descriptor %d (%s) passed by systemd is a connection; the socket unit needs "
            "Accept=no",
            fd, name);
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
        return fail_start(error,
                          "descriptor %d (%s) passed by systemd is no listening stream socket; the "
                          "socket unit needs ListenStream=",
                          fd, name);
    g_unix_set_fd_nonblocking(fd, TRUE, NULL); /* several threads may see one event */
    text = g_strdup_printf("descriptor %d (%s)", fd, name);
    add_fd(set, fd, text, NULL);
    return TRUE;
}

static gboolean take_passed(struct listen_set *set, GError **error)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    gboolean fine = TRUE;

    if (count < 0)
        fine = fail_start(error,
                          "LISTEN_FDS and LISTEN_FDNAMES: %s; start the daemon by systemd, or "
                          "without them",
                          g_strerror(-count));
    for (int i = 0; fine && i < count; i++)
        fine = take_one(SD_LISTEN_FDS_START + i, names[i], set, error);
    for (char **name = names; name != NULL && *name != NULL; name++)
        free(*name);
    free(names);
    return fine;
}
#else
static gboolean take_passed(struct listen_set *set, GError **error)
{
    (void)set;
    if (g_getenv("LISTEN_FDS") != NULL)
        return fail_start(error, "LISTEN_FDS: this qidmapd was built without libsystemd");
    return TRUE;
}
#endif

gboolean listen_open(const GPtrArray *specs, struct listen_set *set, GError **error)
{
    gboolean fine;

    set->fds = g_array_new(FALSE, FALSE, sizeof(int));
    set->listeners = g_ptr_array_new_with_free_func((GDestroyNotify)listener_free);
    fine = take_passed(set, error);
    for (guint i = 0; fine && i < specs->len; i++) {
        const struct listen_spec *spec = g_ptr_array_index(specs, i);

        switch (spec->kind) {
        case LISTEN_UNIX:
            fine = open_unix(spec, set, error);
            break;
        case LISTEN_TCP:
            fine = open_tcp(spec, set, error);
            break;
        case LISTEN_VSOCK:
            fine = open_vsock(spec, set, error);
            break;
        }
    }
    if (!fine)
        listen_close(set);
    return fine;
}

void listen_tell_doors(const struct listen_set *set)
{
    for (guint i = 0; i < set->listeners->len; i++) {
        const struct listener *listener = g_ptr_array_index(set->listeners, i);

        if (listener->door != NULL)
            log_warning("listen: %s: %s", listener->name, listener->door);
    }
}

void listen_close(struct listen_set *set)
{
    if (set->fds == NULL)
        return;
    for (guint i = 0; i < set->listeners->len; i++)
        listen_unix_remove(g_ptr_array_index(set->listeners, i));
    g_ptr_array_free(set->listeners, TRUE);
    g_array_free(set->fds, TRUE);
    set->fds = NULL;
    set->listeners = NULL;
}

void listen_prepare(int fd)
{
    struct timeval timeout = {.tv_usec = WORKER_BLOCK_MS * 1000};
    int one = 1, idle = KEEPALIVE_IDLE, interval = KEEPALIVE_INTERVAL, count = KEEPALIVE_COUNT;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    /* These fail on what is no TCP, and need not be there. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

int listen_accept(int fd)
{
    int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    if (got < 0)
        return -errno;
    listen_prepare(got);
    return got;
}
