/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets to listen on. See listen.h. */
#include "config.h"

#include "src/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "src/log.h"
#include "src/sandbox.h"
#include "src/worker.h"

#define BACKLOG 128

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error != NULL)
        *error = g_error_new_valist(G_FILE_ERROR, G_FILE_ERROR_FAILED, format, args);
    va_end(args);
    return FALSE;
}

/* True when somebody answers on the socket file. */
static gboolean is_answered(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    gboolean answered = TRUE;

    if (fd < 0)
        return TRUE;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
        (errno == ECONNREFUSED || errno == ENOENT))
        answered = FALSE;
    close(fd);
    return answered;
}

static gboolean open_unix(const char *path, struct listen_set *set, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    mode_t mask;
    int fd, result;

    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return fail(error, "unix:%s: the path must have 1 to %zu bytes", path,
                    sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return fail(error, "unix:%s: is there already, and is no socket; choose another path",
                        path);
        if (is_answered(&address))
            return fail(error,
                        "unix:%s: another server answers there; stop it, or choose another path",
                        path);
        unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(error, "unix:%s: %s", path, g_strerror(errno));
    mask = umask(0177); /* who may connect may act as any user: the owner alone */
    result = bind(fd, (struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (result < 0 || listen(fd, BACKLOG) < 0) {
        fail(error, "unix:%s: %s; does its directory exist, and may the daemon write there?", path,
             g_strerror(errno));
        close(fd);
        return FALSE;
    }
    g_array_append_val(set->fds, fd);
    g_ptr_array_add(set->paths, g_strdup(path));
    sandbox_keep(path);
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

static gboolean open_tcp(const char *text, struct listen_set *set, GError **error)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    gboolean warned = FALSE;
    int result, opened = 0, last = 0;

    if (colon == NULL || colon == text || colon[1] == '\0')
        return fail(error, "tcp:%s: expected tcp:HOST:PORT", text);
    if (text[0] == '[' && colon[-1] == ']')
        host = g_strndup(text + 1, (gsize)(colon - text - 2));
    else
        host = g_strndup(text, (gsize)(colon - text));
    /* getaddrinfo() takes larger numbers modulo 65536. */
    if (g_ascii_isdigit(colon[1]) &&
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, NULL, NULL))
        return fail(error, "tcp:%s: the port must be 1 to 65535", text);
    result = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, colon + 1, &hints, &list);
    if (result != 0)
        return fail(error, "tcp:%s: %s; use a host name or address, and a port", text,
                    gai_strerror(result));
    for (struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        int fd = open_tcp_one(info);

        if (fd < 0) {
            if (fd == -EAFNOSUPPORT || (fd == -EADDRNOTAVAIL && info->ai_next != NULL))
                continue;
            last = fd;
            break;
        }
        opened++;
        g_array_append_val(set->fds, fd);
        if (!is_loopback(info->ai_addr) && !warned) {
            log_warning("tcp:%s: is no loopback address; whoever reaches it is trusted to say "
                        "which user acts",
                        text);
            warned = TRUE;
        }
    }
    freeaddrinfo(list);
    if (last != 0 || opened == 0) {
        if (last == 0)
            last = -EADDRNOTAVAIL;
        return fail(error, "tcp:%s: %s%s", text, g_strerror(-last),
                    last == -EADDRINUSE
                        ? "; another server listens there: stop it, or choose another port"
                        : "; choose an address of this machine");
    }
    return TRUE;
}

static gboolean take_passed(struct listen_set *set, GError **error)
{
#ifdef HAVE_SYSTEMD
    int count = sd_listen_fds(1);

    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
            return fail(error, "descriptor %d passed by systemd is no listening stream socket", fd);
        /* Several threads may see one event. */
        g_unix_set_fd_nonblocking(fd, TRUE, NULL);
        g_array_append_val(set->fds, fd);
    }
#else
    (void)set;
    (void)error;
#endif
    return TRUE;
}

gboolean listen_open(char *const *addresses, struct listen_set *set, GError **error)
{
    gboolean fine;

    set->fds = g_array_new(FALSE, FALSE, sizeof(int));
    set->paths = g_ptr_array_new_with_free_func(g_free);
    fine = take_passed(set, error);
    for (; fine && addresses != NULL && *addresses != NULL; addresses++) {
        const char *address = *addresses;

        if (g_str_has_prefix(address, "unix:"))
            fine = open_unix(address + strlen("unix:"), set, error);
        else if (g_str_has_prefix(address, "tcp:"))
            fine = open_tcp(address + strlen("tcp:"), set, error);
        else
            fine = fail(error, "%s: expected unix:PATH or tcp:HOST:PORT", address);
    }
    if (fine && set->fds->len == 0)
        fine = fail(error, "no address to listen on: give --listen ADDR");
    if (!fine)
        listen_close(set);
    return fine;
}

void listen_close(struct listen_set *set)
{
    if (set->fds == NULL)
        return;
    for (guint i = 0; i < set->paths->len; i++)
        sandbox_unlink(g_ptr_array_index(set->paths, i));
    for (guint i = 0; i < set->fds->len; i++)
        close(g_array_index(set->fds, int, i));
    g_array_free(set->fds, TRUE);
    g_ptr_array_free(set->paths, TRUE);
    set->fds = NULL;
    set->paths = NULL;
}

int listen_accept(int fd)
{
    struct timeval timeout = {.tv_usec = WORKER_BLOCK_MS * 1000};
    int one = 1, got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    if (got < 0)
        return -errno;
    setsockopt(got, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(got, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(got, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on unix sockets */
    return got;
}
