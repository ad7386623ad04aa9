/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replies: sent at once where the socket takes them, else queued until it does. See conn.h.
 *
 * The queue holds the connection, so that what was answered is sent also when the client says that
 * it sends no more. It is bounded, as the reader rests while anything is in it: what comes then are
 * the replies to the requests that are in flight, for which room was taken before.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "src/call.h"
#include "src/conn.h"
#include "src/worker.h"

#define LARGE       16384u /* beyond this a send may wait */
#define GATHER_ROOM 32768u

struct conn_chunk {
    struct conn_chunk *next;
    size_t size, sent;
    uint8_t bytes[];
};

/* Sends what it can: without waiting, or one call that may wait until the socket's time is over.
 * Bytes sent, or a negative errno. */
static ssize_t send_some(const struct conn *conn, const uint8_t *bytes, size_t size, bool wait)
{
    size_t sent = 0;

    while (sent < size) {
        ssize_t n = call_send(conn->fd, bytes + sent, size - sent,
                              (wait ? 0 : MSG_DONTWAIT) | MSG_NOSIGNAL);

        wait = false;
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else if (errno != EINTR)
            return -errno;
    }
    return (ssize_t)sent;
}

/* With out_lock held: to the end, or before what others added while this thread was sending. */
static void append(struct conn *conn, const uint8_t *bytes, size_t size, bool first)
{
    struct conn_chunk *chunk = g_malloc(sizeof *chunk + size);

    limit_force(&conn->account, LIMIT_MEMORY, size);
    chunk->next = first ? conn->out : NULL;
    chunk->size = size;
    chunk->sent = 0;
    memcpy(chunk->bytes, bytes, size);
    if (conn->out == NULL)
        conn->out_last = chunk;
    if (first || conn->out == NULL)
        conn->out = chunk;
    else {
        conn->out_last->next = chunk;
        conn->out_last = chunk;
    }
}

/* With out_lock held. */
static void drop_first(struct conn *conn)
{
    struct conn_chunk *chunk = conn->out;

    conn->out = chunk->next;
    limit_give(&conn->account, LIMIT_MEMORY, chunk->size);
    g_free(chunk);
}

void conn_drop_out(struct conn *conn)
{
    while (conn->out != NULL)
        drop_first(conn);
    if (conn->gathered != NULL)
        limit_give(&conn->account, LIMIT_MEMORY, GATHER_ROOM);
    g_free(conn->gathered);
    conn->gathered = NULL;
    conn->gathered_size = 0;
}

/* With out_lock held: the reader rests while anything is queued, and epoll tells when there is
 * room; not while a thread waits for that itself: it calls this at its end, with `again`. */
static void want_room(struct conn *conn, bool again)
{
    if (conn->out == NULL)
        return;
    pthread_mutex_lock(&conn->lock);
    if (!conn->want_out) {
        conn->want_out = again = true;
        conn->holders++;
    }
    if (again && !conn->out_busy)
        conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);
}

/* With out_lock held, which is released while it waits: what is larger than a socket takes at once
 * waits for the client in the call, rather than be copied, queued, and sent by another thread. */
static ssize_t send_large(struct conn *conn, const uint8_t *bytes, size_t size)
{
    bool wait = worker_block_begin();
    ssize_t sent;

    if (!wait)
        return send_some(conn, bytes, size, false);
    conn->out_busy = true;
    pthread_mutex_unlock(&conn->out_lock);
    sent = send_some(conn, bytes, size, true);
    worker_block_end();
    pthread_mutex_lock(&conn->out_lock);
    conn->out_busy = false;
    return sent;
}

/* With out_lock held. `may_wait`: `bytes` stay as they are also where others take the lock. False:
 * the connection is dead. */
static bool send_or_queue(struct conn *conn, const uint8_t *bytes, size_t size, bool may_wait)
{
    ssize_t sent = 0;

    if (conn->out_dead || size == 0)
        return true;
    if (conn->out == NULL && !conn->out_busy) {
        if (may_wait && size > LARGE)
            sent = send_large(conn, bytes, size);
        else
            sent = send_some(conn, bytes, size, false);
        if (sent < 0)
            conn->out_dead = true;
        else if ((size_t)sent < size)
            append(conn, bytes + sent, size - (size_t)sent, true);
        want_room(conn, true);
    } else {
        append(conn, bytes, size, false);
        want_room(conn, false);
    }
    return sent >= 0;
}

static bool send_all_gathered(struct conn *conn)
{
    size_t size = conn->gathered_size;

    conn->gathered_size = 0;
    return send_or_queue(conn, conn->gathered, size, false);
}

void conn_send(struct conn *conn, const uint8_t *bytes, size_t size)
{
    bool alive = true;

    pthread_mutex_lock(&conn->out_lock);
    if (conn->gathered_size > 0 && size <= LARGE && size <= GATHER_ROOM - conn->gathered_size) {
        memcpy(conn->gathered + conn->gathered_size, bytes, size);
        conn->gathered_size += size;
        size = 0;
    }
    if (conn->gathered_size > 0)
        alive = send_all_gathered(conn);
    alive = alive && send_or_queue(conn, bytes, size, true);
    pthread_mutex_unlock(&conn->out_lock);
    if (!alive)
        conn_hang_up(conn, SHUT_RDWR);
}

void conn_gather(struct conn *conn, const uint8_t *bytes, size_t size)
{
    bool alive = true;

    pthread_mutex_lock(&conn->out_lock);
    if (conn->gathered == NULL) { /* nothing that a client asks for; connections are limited */
        limit_force(&conn->account, LIMIT_MEMORY, GATHER_ROOM);
        conn->gathered = g_malloc(GATHER_ROOM);
    }
    if (size > GATHER_ROOM - conn->gathered_size)
        alive = send_all_gathered(conn);
    if (alive) {
        memcpy(conn->gathered + conn->gathered_size, bytes, size);
        conn->gathered_size += size;
    }
    pthread_mutex_unlock(&conn->out_lock);
    if (!alive)
        conn_hang_up(conn, SHUT_RDWR);
}

void conn_send_gathered(struct conn *conn)
{
    bool alive = true;

    pthread_mutex_lock(&conn->out_lock);
    if (conn->gathered_size > 0)
        alive = send_all_gathered(conn);
    pthread_mutex_unlock(&conn->out_lock);
    if (!alive)
        conn_hang_up(conn, SHUT_RDWR);
}

void conn_free_gathered(struct conn *conn)
{
    pthread_mutex_lock(&conn->out_lock);
    if (conn->gathered != NULL && conn->gathered_size == 0) {
        limit_give(&conn->account, LIMIT_MEMORY, GATHER_ROOM);
        g_clear_pointer(&conn->gathered, g_free);
    }
    pthread_mutex_unlock(&conn->out_lock);
}

void conn_flush_out(struct conn *conn)
{
    ssize_t sent = 0;
    uint64_t count = 0;
    bool resume = false;

    pthread_mutex_lock(&conn->out_lock);
    while (conn->out != NULL && !conn->out_dead && !conn->out_busy) {
        struct conn_chunk *chunk = conn->out;

        sent = send_some(conn, chunk->bytes + chunk->sent, chunk->size - chunk->sent, false);
        if (sent < 0) {
            conn->out_dead = true;
            break;
        }
        count += (uint64_t)sent;
        chunk->sent += (size_t)sent;
        if (chunk->sent < chunk->size)
            break;
        drop_first(conn);
    }
    if (conn->out_dead)
        conn_drop_out(conn);
    pthread_mutex_lock(&conn->lock);
    conn->out_count += count;
    if (conn->out != NULL)
        conn_arm(conn);
    else if (conn->want_out) {
        conn->want_out = false;
        conn->holders--; /* the caller holds it, too */
        resume = conn_may_resume(conn);
    }
    pthread_mutex_unlock(&conn->lock);
    pthread_mutex_unlock(&conn->out_lock);
    if (resume)
        worker_queue(conn);
    if (sent < 0)
        conn_hang_up(conn, SHUT_RDWR);
}
