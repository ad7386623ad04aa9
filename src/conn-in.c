/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Input: bytes of the socket, cut into messages. See conn.h.
 *
 * Buffers are taken from the session's account. While a connection rests it keeps only what is
 * needed for the part of a message that has come; and it takes no new buffer while its messages in
 * flight hold more than a window's worth, so that a client which only sends stops itself.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "src/call.h"
#include "src/conn.h"
#include "src/worker.h"

#define BUFFER_SIZE 65536u
#define BUFFER_MIN  512u
#define WINDOW      (4u * 1024 * 1024)

size_t conn_window(const struct conn *conn)
{
    return MAX(WINDOW, 2 * (size_t)conn->msize);
}

/* Where there is no memory left, a small buffer is had all the same: connections are limited, too.
 */
static struct conn_buffer *buffer_new(struct conn *conn, size_t size, uint32_t needed, int *error)
{
    struct conn_buffer *buffer;

    *error = limit_take(&conn->account, LIMIT_MEMORY, size, NULL);
    if (*error != 0) {
        if (needed > BUFFER_MIN)
            return NULL;
        *error = 0;
        size = BUFFER_MIN;
        limit_force(&conn->account, LIMIT_MEMORY, size);
    }
    buffer = g_malloc(sizeof *buffer + size);
    buffer->refs = 1;
    buffer->size = size;
    __atomic_fetch_add(&conn->held, size, __ATOMIC_RELAXED);
    return buffer;
}

void conn_buffer_unref(struct conn *conn, struct conn_buffer *buffer)
{
    if (buffer == NULL || __atomic_sub_fetch(&buffer->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    __atomic_fetch_sub(&conn->held, buffer->size, __ATOMIC_RELAXED);
    limit_give(&conn->account, LIMIT_MEMORY, buffer->size);
    g_free(buffer);
}

static bool buffer_is_ours(const struct conn_buffer *buffer)
{
    return __atomic_load_n(&buffer->refs, __ATOMIC_ACQUIRE) == 1;
}

int conn_next_message(const struct conn *conn, uint32_t *size)
{
    size_t have = conn->in_end - conn->in_start;

    *size = P9_HEADER;
    if (have < P9_HEADER)
        return 0;
    *size = wire_peek_size(conn->in->bytes + conn->in_start);
    if (*size < P9_HEADER || *size > conn->msize)
        return -EMSGSIZE;
    return have >= *size;
}

/* Goes on in `buffer`, with the bytes that have come. */
static void replace(struct conn *conn, struct conn_buffer *buffer)
{
    size_t have = conn->in_end - conn->in_start;

    if (have > 0)
        memcpy(buffer->bytes, conn->in->bytes + conn->in_start, have);
    conn_buffer_unref(conn, conn->in);
    conn->in = buffer;
    conn->in_start = 0;
    conn->in_end = have;
}

/* Makes room for a message of `size` bytes at in_start, and some bytes after in_end at least.
 * 0, -EBUSY, or the negative errno of the account. */
static int make_room(struct conn *conn, uint32_t size)
{
    size_t have = conn->in_end - conn->in_start;
    struct conn_buffer *buffer = conn->in;
    size_t wanted = MAX(size, BUFFER_SIZE);
    int error;

    if (buffer != NULL && buffer_is_ours(buffer)) {
        if (have == 0)
            conn->in_start = conn->in_end = 0;
        if (conn->in_start + size > buffer->size && size <= buffer->size) {
            memmove(buffer->bytes, buffer->bytes + conn->in_start, have);
            conn->in_start = 0;
            conn->in_end = have;
        }
    }
    if (buffer != NULL && conn->in_start + size <= buffer->size && conn->in_end < buffer->size)
        return 0;
    if (__atomic_load_n(&conn->held, __ATOMIC_RELAXED) + wanted > conn_window(conn)) {
        bool busy;

        pthread_mutex_lock(&conn->lock);
        busy = conn->inflight > 0;
        if (busy)
            conn->throttled = true; /* from here on another thread may have it */
        pthread_mutex_unlock(&conn->lock);
        if (busy)
            return -EBUSY;
    }
    buffer = buffer_new(conn, wanted, size, &error);
    if (buffer != NULL)
        replace(conn, buffer);
    return error;
}

/* Receives into `bytes`; as conn_fill(). */
static ssize_t receive(struct conn *conn, uint8_t *bytes, size_t size)
{
    bool blocking = worker_block_begin();
    ssize_t n;

    /* There was no more a moment ago: epoll tells when there is, and is to be told anyway. */
    if (!blocking && conn->drained) {
        conn->drained = false;
        return 0;
    }
    do
        n = call_recv(conn->fd, bytes, size, blocking ? 0 : MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (blocking)
        worker_block_end();
    conn->drained = n > 0 && (size_t)n < size;
    if (n > 0) {
        conn->in_count += (uint64_t)n;
        return n;
    }
    if (n == 0)
        return -EPIPE;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

int conn_fill(struct conn *conn, uint32_t size)
{
    int error = make_room(conn, size);
    ssize_t n;

    if (error != 0)
        return error;
    n = receive(conn, conn->in->bytes + conn->in_end, conn->in->size - conn->in_end);
    if (n <= 0)
        return (int)n;
    conn->in_end += (size_t)n;
    return 1;
}

int conn_skip(struct conn *conn)
{
    uint8_t scratch[16384];
    size_t have = conn->in_end - conn->in_start;
    ssize_t n = (ssize_t)MIN(have, (size_t)conn->skip);

    if (n > 0)
        conn->in_start += (size_t)n;
    else
        n = receive(conn, scratch, MIN(sizeof scratch, (size_t)conn->skip));
    if (n <= 0)
        return (int)n;
    conn->skip -= (uint32_t)n;
    return 1;
}

void conn_shrink(struct conn *conn)
{
    size_t have = conn->in_end - conn->in_start;
    struct conn_buffer *small;
    int error;

    if (conn->in == NULL)
        return;
    if (have == 0) {
        conn_buffer_unref(conn, conn->in);
        conn->in = NULL;
        conn->in_start = conn->in_end = 0;
        return;
    }
    if (conn->in->size <= BUFFER_MIN || have > conn->in->size / 2)
        return;
    small = buffer_new(conn, MAX(have, BUFFER_MIN), (uint32_t)have, &error);
    if (small != NULL)
        replace(conn, small);
}
