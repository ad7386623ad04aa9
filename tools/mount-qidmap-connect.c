/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection that the kernel gets: one try to make it, and a look whether a 9P server is at its
 * other end, so that a mount neither hangs in the kernel nor fails without a reason. Owns the
 * socket until it is handed out. Knows nothing of mounts.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "tools/mount-qidmap.h"

#define VERSION_TEXT    "9P2000.L"
#define KEEPALIVE_S     60 /* seconds of silence before the host is asked, and between questions */
#define KEEPALIVE_COUNT 15 /* questions without an answer */

static gint64 now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

/* Errors that a host which is starting, or a network that is not up, gives. */
static gboolean passes(int code)
{
    switch (code) {
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case ENOENT: /* the file of a unix socket */
    case ENODEV: /* no transport of vsock yet */
    case EAGAIN:
    case EINTR:
        return TRUE;
    default:
        return FALSE;
    }
}

static gboolean fail_errno(const char *what, int code, gboolean *again, GError **error)
{
    *again = passes(code);
    g_set_error(error, MOUNT_ERROR, code, "%s: %s", what, g_strerror(code));
    return FALSE;
}

static gboolean fail_text(const char *text, gboolean later, gboolean *again, GError **error)
{
    *again = later;
    g_set_error_literal(error, MOUNT_ERROR, 0, text);
    return FALSE;
}

/* Waits for `events` until `deadline`: 0, or an errno. */
static int wait_for(int fd, short events, gint64 deadline)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        gint64 left = deadline - now_ms();
        int n = poll(&p, 1, left > 0 ? (int)left : 0);

        if (n > 0) {
            return 0;
        }
        if (n == 0) {
            return ETIMEDOUT;
        }
        if (errno != EINTR) {
            return errno;
        }
    }
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* A connected socket, or -1 with errno. */
static int connect_to(int family, const struct sockaddr *address, socklen_t size, gint64 deadline)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code = 0;

    if (fd < 0) {
        return -1;
    }
    if (connect(fd, address, size) < 0) {
        code = errno;
        if (code == EINPROGRESS) {
            socklen_t code_size = sizeof(code);

            code = wait_for(fd, POLLOUT, deadline);
            if (code == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &code_size) < 0) {
                code = errno;
            }
        }
    }
    if (code != 0) {
        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

static int connect_vsock(const struct mount_source *source, gint64 deadline, gboolean *again,
                         GError **error)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = source->cid, .svm_port = source->port};
    int fd = connect_to(AF_VSOCK, (struct sockaddr *)&address, sizeof(address), deadline);

    if (fd < 0) {
        g_autofree char *what =
            g_strdup_printf("vsock port %u of CID %u", source->port, source->cid);
        int code = errno;

        fail_errno(what, code, again, error);
        if (code == ENODEV || code == EAFNOSUPPORT) {
            g_prefix_error(error,
                           "this machine has no vsock device (vhost-vsock-pci in QEMU) or no "
                           "module for it: ");
            *again = code == ENODEV;
        }
        /* This is how a host without a listener answers, too. */
        *again = *again || code == ECONNRESET;
    }
    return fd;
}

static int connect_unix(const struct mount_source *source, gint64 deadline, gboolean *again,
                        GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    g_strlcpy(address.sun_path, source->path, sizeof(address.sun_path));
    fd = connect_to(AF_UNIX, (struct sockaddr *)&address, sizeof(address), deadline);
    if (fd < 0) {
        fail_errno(source->path, errno, again, error);
    }
    return fd;
}

/* Of the time that is left, each address of a name has the same part: the first may be one from
 * which nothing comes, such as one of IPv6 in a network that has none. */
static gint64 share_of(gint64 deadline, const struct addrinfo *address)
{
    gint64 now = now_ms(), addresses = 0;

    for (; address != NULL; address = address->ai_next) {
        addresses++;
    }
    return now + (deadline - now) / MAX(addresses, 1);
}

/*
 * Small requests go out at once. A host that is gone without a word is asked each minute: one that
 * has started again says that it knows nothing of the connection, and calls fail instead of waiting
 * for ever; one that sleeps is waited for, as long as a request that it never got would be.
 */
static void set_tcp(int fd)
{
    int on = 1, seconds = KEEPALIVE_S, count = KEEPALIVE_COUNT;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int connect_tcp(const struct mount_source *source, gint64 deadline, gboolean *again,
                       GError **error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    g_autofree char *port = g_strdup_printf("%u", source->port);
    g_autofree char *what = g_strdup_printf("port %u of %s", source->port, source->host);
    int code = getaddrinfo(source->host, port, &hints, &list), fd = -1;

    if (code != 0) {
        /* Before the network is up, a resolver says that there is no such name. */
        *again = code == EAI_AGAIN || code == EAI_NONAME || code == EAI_SYSTEM || code == EAI_FAIL;
        g_set_error(error, MOUNT_ERROR, 0, "host %s: %s", source->host, gai_strerror(code));
        return -1;
    }
    errno = ENOENT;
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen, share_of(deadline, a));
    }
    code = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        fail_errno(what, code, again, error);
        return -1;
    }
    set_tcp(fd);
    return fd;
}

/* ---- is it a 9P server? ---------------------------------------------------------------------- */

/* size[4] type[1] tag[2] msize[4] version[s] */
#define HEAD        7
#define VERSION_LEN (sizeof(VERSION_TEXT) - 1)
#define TVERSION    100
#define RVERSION    101
#define REPLY_MAX   256 /* whoever answers more is none */

static gboolean send_version(int fd, uint32_t msize, gboolean *again, GError **error)
{
    guint8 message[HEAD + 4 + 2 + VERSION_LEN];
    guint32 size = GUINT32_TO_LE(sizeof(message));
    guint32 wanted = GUINT32_TO_LE(msize);
    guint16 length = GUINT16_TO_LE(VERSION_LEN);

    memcpy(message, &size, 4);
    message[4] = TVERSION;
    memset(message + 5, 0xff, 2); /* NOTAG */
    memcpy(message + HEAD, &wanted, 4);
    memcpy(message + HEAD + 4, &length, 2);
    memcpy(message + HEAD + 6, VERSION_TEXT, VERSION_LEN);
    /* The first bytes of a connection always find room. */
    if (send(fd, message, sizeof(message), MSG_NOSIGNAL) != (ssize_t)sizeof(message)) {
        return fail_errno("the first message", errno, again, error);
    }
    return TRUE;
}

/* Reads exactly `size` bytes: what follows belongs to the kernel. */
static gboolean receive(int fd, guint8 *bytes, gsize size, gint64 deadline, gboolean *again,
                        GError **error)
{
    for (gsize done = 0; done < size;) {
        int code = wait_for(fd, POLLIN, deadline);
        ssize_t n;

        if (code == ETIMEDOUT) {
            return fail_text("it takes the connection, and does not answer", TRUE, again, error);
        }
        if (code != 0) {
            return fail_errno("the first reply", code, again, error);
        }
        n = recv(fd, bytes + done, size - done, 0);
        if (n == 0) {
            return fail_text(
                "it takes the connection and closes it again: nobody serves there yet, "
                "or this machine is not on the list of those that may connect",
                TRUE, again, error);
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return fail_errno("the first reply", errno, again, error);
        }
        done += n > 0 ? (gsize)n : 0;
    }
    return TRUE;
}

static gboolean ask_version(int fd, uint32_t msize, gint64 deadline, gboolean *again,
                            GError **error)
{
    guint8 reply[REPLY_MAX];
    guint32 size, granted;
    guint16 length;

    if (!send_version(fd, msize, again, error) ||
        !receive(fd, reply, HEAD, deadline, again, error)) {
        return FALSE;
    }
    memcpy(&size, reply, 4);
    size = GUINT32_FROM_LE(size);
    if (size < HEAD + 4 + 2 || size > sizeof(reply) || reply[4] != RVERSION) {
        return fail_text("what answers there is no 9P server", FALSE, again, error);
    }
    if (!receive(fd, reply + HEAD, size - HEAD, deadline, again, error)) {
        return FALSE;
    }
    memcpy(&length, reply + HEAD + 4, 2);
    length = GUINT16_FROM_LE(length);
    if (length != size - HEAD - 6) {
        return fail_text("what answers there is no 9P server", FALSE, again, error);
    }
    if (length != VERSION_LEN || memcmp(reply + HEAD + 6, VERSION_TEXT, VERSION_LEN) != 0) {
        return fail_text("the 9P server there does not speak 9P2000.L", FALSE, again, error);
    }
    memcpy(&granted, reply + HEAD, 4);
    granted = GUINT32_FROM_LE(granted);
    if (granted > msize) {
        return fail_text("the 9P server there grants larger messages than it was asked for", FALSE,
                         again, error);
    }
    if (granted < MOUNT_MSIZE_MIN) {
        return fail_text("the 9P server there takes messages of less than 4096 bytes alone, which "
                         "Linux does not speak with (its option --msize-max)",
                         FALSE, again, error);
    }
    return TRUE;
}

int mount_connect(const struct mount_source *source, uint32_t msize, int timeout, gboolean *again,
                  GError **error)
{
    gint64 deadline = now_ms() + timeout;
    int fd = -1;

    *again = FALSE;
    switch (source->transport) {
    case MOUNT_VSOCK:
        fd = connect_vsock(source, deadline, again, error);
        break;
    case MOUNT_TCP:
        fd = connect_tcp(source, deadline, again, error);
        break;
    case MOUNT_UNIX:
        fd = connect_unix(source, deadline, again, error);
        break;
    }
    if (fd >= 0 && !ask_version(fd, msize, deadline, again, error)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

gboolean mount_is_cut(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}
