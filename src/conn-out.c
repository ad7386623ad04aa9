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

#include "src/conn.h"
#include "src/worker.h"

struct conn_chunk {
    struct conn_chunk *next;
    size_t size, sent;
    uint8_t bytes[];
};

/* With out_lock held: sends what it can without waiting. Bytes sent, or a negative errno. */
static ssize_t send_now(struct conn *conn, const uint8_t *bytes, size_t size)
{
    size_t sent = 0;

    while (sent < size) {
        ssize_t n = send(conn->fd, bytes + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else if (errno != EINTR)
            return -errno;
    }
    return (ssize_t)sent;
}

/* With out_lock held. */
static void append(struct conn *conn, const uint8_t *bytes, size_t size)
{
    struct conn_chunk *chunk = g_malloc(sizeof *chunk + size);

    limit_force(&conn->account, LIMIT_MEMORY, size);
    chunk->next = NULL;
    chunk->size = size;
    chunk->sent = 0;
    memcpy(chunk->bytes, bytes, size);
    if (conn->out != NULL)
        conn->out_last->next = chunk;
    else
        conn->out = chunk;
    conn->out_last = chunk;
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
}

void conn_send(struct conn *conn, const uint8_t *bytes, size_t size)
{
    ssize_t sent = 0;
    bool dead;

    pthread_mutex_lock(&conn->out_lock);
    if (!conn->out_dead && conn->out == NULL)
        sent = send_now(conn, bytes, size);
    dead = sent < 0;
    if (dead)
        conn->out_dead = true;
    if (!conn->out_dead && (size_t)sent < size) {
        append(conn, bytes + sent, size - (size_t)sent);
        pthread_mutex_lock(&conn->lock);
        if (!conn->want_out) {
            conn->want_out = true;
            conn->holders++;
            conn_arm(conn);
        }
        pthread_mutex_unlock(&conn->lock);
    }
    pthread_mutex_unlock(&conn->out_lock);
    if (dead)
        conn_hang_up(conn, SHUT_RDWR);
}

void conn_flush_out(struct conn *conn)
{
    ssize_t sent = 0;
    uint64_t count = 0;
    bool resume = false;

    pthread_mutex_lock(&conn->out_lock);
    while (conn->out != NULL && !conn->out_dead) {
        struct conn_chunk *chunk = conn->out;

        sent = send_now(conn, chunk->bytes + chunk->sent, chunk->size - chunk->sent);
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
