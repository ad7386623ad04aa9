/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One client: its life, what epoll waits for, and the exports that it attached to. See conn.h. */
#include "config.h"

#include "src/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/export.h"
#include "src/log.h"
#include "src/trace.h"
#include "src/worker.h"

#define MSIZE_BEFORE_VERSION 8192u
#define DISCARD_MAX          (1024u * 1024)

/* ---- life ------------------------------------------------------------------------------------ */

/* All that was taken from the account is given back by now. */
static void check_account(const struct conn *conn)
{
    for (int i = 0; i < LIMIT_COUNT; i++)
        if (conn->account.used[i] != 0)
            log_error("connection %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT
                      " of the limit '%s' were not given back: this is a bug of qidmapd",
                      conn->id, conn->account.used[i], limit_name((enum limit)i));
}

/* Input that nobody reads any more makes the kernel break the connection off, and what the client
 * has not received yet would be lost. */
static void close_socket(int fd)
{
    uint8_t scratch[4096];
    size_t total = 0;
    ssize_t n;

    shutdown(fd, SHUT_WR);
    while (total < DISCARD_MAX && (n = recv(fd, scratch, sizeof scratch, MSG_DONTWAIT)) > 0)
        total += (size_t)n;
    close(fd);
}

static void discard(struct conn *conn)
{
    g_hash_table_unref(conn->fids);
    close_socket(conn->fd);
    peer_clear(&conn->peer);
    pthread_mutex_destroy(&conn->lock);
    pthread_mutex_destroy(&conn->out_lock);
    g_free(conn);
}

void conn_free(struct conn *conn)
{
    conn_unregister(conn);
    fid_drop_all(conn);
    stats_end(conn->stats);
    conn_buffer_unref(conn, conn->in);
    conn_drop_out(conn);
    check_account(conn);
    log_debug("connection %" G_GUINT64_FORMAT " ended", conn->id);
    discard(conn);
    conn_tell_empty(); /* only now, as the daemon ends once all are gone */
}

void conn_release(struct conn *conn)
{
    bool last;

    pthread_mutex_lock(&conn->lock);
    last = --conn->holders == 0;
    pthread_mutex_unlock(&conn->lock);
    if (last)
        conn_free(conn);
}

void conn_arm(struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLONESHOT, .data.u64 = conn->id};

    if (conn->parked)
        event.events |= EPOLLIN | EPOLLRDHUP;
    if (conn->want_out)
        event.events |= EPOLLOUT;
    if (epoll_ctl(worker_epoll(), EPOLL_CTL_MOD, conn->fd, &event) < 0)
        log_error("epoll_ctl: %s", g_strerror(errno));
}

void conn_new(const struct server *server, int fd, const struct peer *peer)
{
    struct conn *conn = g_new0(struct conn, 1);
    struct epoll_event event = {.events = EPOLLONESHOT | EPOLLIN | EPOLLRDHUP};
    bool works;

    conn->fd = fd;
    conn->server = server;
    conn->peer = *peer;
    conn->msize = MSIZE_BEFORE_VERSION;
    conn->holders = 2; /* the role, which rests, and this function: others may hang up meanwhile */
    conn->parked = true;
    conn->fids = g_hash_table_new(NULL, NULL);
    pthread_mutex_init(&conn->lock, NULL);
    pthread_mutex_init(&conn->out_lock, NULL);
    if (!conn_register(conn, __atomic_load_n(&server->connections_max, __ATOMIC_RELAXED))) {
        discard(conn);
        return;
    }
    log_debug("connection %" G_GUINT64_FORMAT " begins: %s", conn->id, conn->peer.name);
    conn->stats = stats_begin(conn->id, conn->peer.name, &conn->account);
    trace_begin(conn->stats);
    pthread_mutex_lock(&conn->lock);
    event.data.u64 = conn->id;
    works = epoll_ctl(worker_epoll(), EPOLL_CTL_ADD, fd, &event) == 0;
    if (!works)
        log_error("epoll_ctl: %s", g_strerror(errno));
    pthread_mutex_unlock(&conn->lock);
    if (!works)
        conn_hang_up(conn, SHUT_RDWR);
    conn_release(conn);
}

void conn_hang_up(struct conn *conn, int how)
{
    bool resting;

    pthread_mutex_lock(&conn->lock);
    conn->closing = true;
    shutdown(conn->fd, how);
    resting = conn->parked || conn->throttled;
    conn->parked = conn->throttled = false;
    pthread_mutex_unlock(&conn->lock);
    if (resting)
        conn_release(conn);
}

bool conn_may_resume(struct conn *conn)
{
    if (!conn->throttled || conn->want_out)
        return false;
    if (conn->inflight > 0 &&
        (conn->inflight > limit_bound(LIMIT_REQUESTS) / 2 ||
         __atomic_load_n(&conn->held, __ATOMIC_RELAXED) > conn_window(conn) / 2))
        return false;
    conn->throttled = false;
    return true;
}

/* ---- exports that it attached to ------------------------------------------------------------- */

int conn_attach(struct conn *conn, const struct path_export *exp)
{
    bool known;
    int error;

    /* A client may attach as often as it likes. */
    pthread_mutex_lock(&conn->lock);
    known = conn->attached != NULL && g_ptr_array_find(conn->attached, exp, NULL);
    pthread_mutex_unlock(&conn->lock);
    error = known ? 0 : qid_attach(exp->qids, conn->id);
    if (known || error != 0) {
        export_drop(exp);
        return error;
    }
    pthread_mutex_lock(&conn->lock);
    if (conn->attached == NULL)
        conn->attached = g_ptr_array_new();
    g_ptr_array_add(conn->attached, (void *)exp);
    pthread_mutex_unlock(&conn->lock);
    return 0;
}

void conn_detach_all(struct conn *conn)
{
    GPtrArray *attached;

    pthread_mutex_lock(&conn->lock);
    attached = conn->attached;
    conn->attached = NULL;
    pthread_mutex_unlock(&conn->lock);
    for (guint i = 0; attached != NULL && i < attached->len; i++) {
        const struct path_export *exp = g_ptr_array_index(attached, i);

        qid_detach(exp->qids, conn->id);
        export_drop(exp);
    }
    if (attached != NULL)
        g_ptr_array_unref(attached);
}
