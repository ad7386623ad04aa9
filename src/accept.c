/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New connections. See accept.h. */
#include "config.h"

#include "src/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/allow.h"
#include "src/conn.h"
#include "src/export.h"
#include "src/fail.h"
#include "src/fd-cache.h"
#include "src/listen.h"
#include "src/log.h"
#include "src/peer.h"
#include "src/quit.h"
#include "src/refusal.h"
#include "src/relay.h"
#include "src/server.h"
#include "src/spare.h"

static const struct server *server;
static const struct listen_set *listeners;

void accept_init(const struct server *the_server, const struct listen_set *the_listeners)
{
    server = the_server;
    listeners = the_listeners;
}

static const struct listener *find_listener(int fd)
{
    for (guint i = 0; i < listeners->listeners->len; i++) {
        const struct listener *listener = g_ptr_array_index(listeners->listeners, i);

        if (listener->fd == fd)
            return listener;
    }
    return NULL;
}

static bool is_welcome(const struct listener *listener, const struct peer *peer)
{
    if (listener != NULL && !allow_permits(listener->allow, peer)) {
        refusal_tell(peer, listener->name,
                     "may not connect to %s: its allow list has no entry that "
                     "fits",
                     listener->name);
        return false;
    }
    if (!export_any(server, peer)) {
        refusal_tell(peer, "no export at all",
                     "may not connect: no export has an allow list with an entry that fits");
        return false;
    }
    return true;
}

/* 0: one came, and has a session or was turned away; or a negative errno. */
static int accept_one(int fd, const struct listener *listener)
{
    /* The last descriptors are for the sessions that there are. */
    int got = spare_refill() ? listen_accept(fd) : -EMFILE;
    struct peer peer;

    if (got < 0)
        return got;
    peer_of(got, false, &peer);
    if (is_welcome(listener, &peer)) {
        conn_new(server, got, &peer);
    } else {
        peer_clear(&peer);
        close(got);
    }
    return 0;
}

void accept_all(int fd)
{
    const struct listener *listener = find_listener(fd);

    for (;;) {
        int got;

        if (!conn_accept_begin()) {
            g_usleep(100 * 1000); /* the client waits; do not spin */
            return;
        }
        got = accept_one(fd, listener);
        conn_accept_end();
        if (got == 0 || got == -EINTR || got == -ECONNABORTED)
            continue;
        if ((got == -EMFILE || got == -ENFILE) && fd_cache_relieve())
            continue;
        if (got == -EMFILE) {
            int refused = spare_refuse(fd);

            if (refused > 0)
                continue;
            if (refused == 0)
                return;
        }
        if (got != -EAGAIN) {
            log_error("cannot accept a connection: %s", g_strerror(-got));
            g_usleep(100 * 1000); /* the client waits; do not spin */
        }
        return;
    }
}

/* ---- connections that the daemon was started with -------------------------------------------- */

/* 1: a connected stream socket; 0: no socket; -1: a socket of another kind. */
static int socket_kind(int fd)
{
    int type = 0, listening = 0;
    socklen_t size = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return errno == ENOTSOCK ? 0 : -1;
    size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
        listening = 0;
    return type == SOCK_STREAM && !listening ? 1 : -1;
}

static gboolean check_fd(int fd, GError **error)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
        return fail_start(error,
                          "connected-fd: descriptor %d is not open; whoever starts the daemon must "
                          "hand it over",
                          fd);
    return TRUE;
}

gboolean accept_check(const GArray *pairs, GError **error)
{
    for (guint i = 0; i < pairs->len; i++) {
        const struct accept_pair *pair = &g_array_index(pairs, struct accept_pair, i);

        if (!check_fd(pair->in, error) || !check_fd(pair->out, error))
            return FALSE;
        if (pair->in == pair->out && socket_kind(pair->in) < 0)
            return fail_start(error, "connected-fd: descriptor %d is no connected stream socket",
                              pair->in);
    }
    return TRUE;
}

static gboolean begin(const struct accept_pair *pair, GError **error)
{
    int kind = pair->in == pair->out ? socket_kind(pair->in) : 0, fd = pair->in;
    struct peer peer;

    if (kind == 0) {
        fd = relay_start(pair->in, pair->out);
        if (fd < 0)
            return fail_start(error, "connected-fd: descriptors %d and %d: %s", pair->in, pair->out,
                              g_strerror(-fd));
        memset(&peer, 0, sizeof peer);
        peer.inherited = true;
        g_snprintf(peer.name, sizeof peer.name, "descriptors %d and %d", pair->in, pair->out);
    } else
        peer_of(fd, true, &peer);
    listen_prepare(fd);
    if (is_welcome(NULL, &peer)) {
        conn_new(server, fd, &peer);
        return TRUE;
    }
    peer_clear(&peer);
    close(fd);
    return fail_start(error,
                      "connected-fd: no export is for descriptor %d; add 'inherited' to an "
                      "allow list",
                      pair->in);
}

gboolean accept_inherited(const GArray *pairs, GError **error)
{
    for (guint i = 0; i < pairs->len; i++)
        if (!begin(&g_array_index(pairs, struct accept_pair, i), error))
            return FALSE;
    return TRUE;
}

static void *wait_for_last(void *data)
{
    (void)data;
    conn_wait_none();
    quit_now();
    return NULL;
}

gboolean accept_end_with_last(GError **error)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, wait_for_last, NULL);

    if (failed != 0)
        return fail_start(error, "cannot start threads: %s", g_strerror(failed));
    pthread_detach(thread);
    return TRUE;
}
