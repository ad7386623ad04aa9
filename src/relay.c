/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies between descriptors and a socket. See relay.h. */
#include "config.h"

#include "src/relay.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE 65536

/* Freed, and the descriptors closed, by the thread that ends last. */
struct relay {
    int refs; /* atomic */
    int in, out, sock;
};

static void relay_unref(struct relay *relay)
{
    if (__atomic_sub_fetch(&relay->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (relay->out >= 0 && relay->out != relay->in)
        close(relay->out);
    close(relay->in);
    close(relay->sock);
    g_free(relay);
}

/* The other side of a descriptor may have made it non-blocking. */
static void wait_for(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};

    poll(&poll_fd, 1, -1);
}

/* Until the end of `from`, or until `to` takes no more. */
static void copy(int from, int to)
{
    g_autofree char *buffer = g_malloc(BUFFER_SIZE);

    for (;;) {
        ssize_t got = read(from, buffer, BUFFER_SIZE), put = 0;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN) {
            wait_for(from, POLLIN);
            continue;
        }
        if (got <= 0)
            return;
        while (put < got) {
            ssize_t n = write(to, buffer + put, (size_t)(got - put)); /* SIGPIPE is ignored */

            if (n >= 0)
                put += n;
            else if (errno == EAGAIN)
                wait_for(to, POLLOUT);
            else if (errno != EINTR)
                return;
        }
    }
}

static void *copy_in(void *data)
{
    struct relay *relay = data;

    copy(relay->in, relay->sock);
    shutdown(relay->sock, SHUT_WR); /* what was asked is still answered */
    relay_unref(relay);
    return NULL;
}

static void *copy_out(void *data)
{
    struct relay *relay = data;

    copy(relay->sock, relay->out);
    shutdown(relay->sock, SHUT_RDWR); /* copy_in() ends with the next bytes that come */
    if (relay->out != relay->in) {    /* the client shall see the end now */
        close(relay->out);
        relay->out = -1;
    }
    relay_unref(relay);
    return NULL;
}

int relay_start(int in, int out)
{
    pthread_attr_t attr;
    pthread_t thread;
    struct relay *relay;
    int pair[2], failed;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    relay = g_new0(struct relay, 1);
    relay->refs = 2;
    relay->in = in;
    relay->out = out;
    relay->sock = pair[0];
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&thread, &attr, copy_out, relay);
    if (failed == 0) {
        failed = pthread_create(&thread, &attr, copy_in, relay);
        if (failed != 0) { /* the daemon does not start; copy_out() ends with the socket */
            close(pair[1]);
            relay_unref(relay);
        }
    } else {
        close(pair[0]);
        close(pair[1]);
        g_free(relay);
    }
    pthread_attr_destroy(&attr);
    return failed != 0 ? -failed : pair[1];
}
