/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One client. See conn.h for the reader role and the locks. */
#include "config.h"

#include "src/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "src/dispatch.h"
#include "src/log.h"
#include "src/trace.h"
#include "src/worker.h"

#define BUFFER_SIZE          65536u
#define MSIZE_BEFORE_VERSION 8192u

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_empty = PTHREAD_COND_INITIALIZER;
static GHashTable *registry; /* &conn->id -> conn */
static uint64_t next_id = CONN_FIRST_ID;
static bool ending; /* no more connections; registry_lock */

/* ---- life ------------------------------------------------------------------------------------ */

static struct conn_buffer *buffer_new(size_t size)
{
    struct conn_buffer *buffer = g_malloc(sizeof *buffer + size);

    buffer->refs = 1;
    buffer->size = size;
    return buffer;
}

static void buffer_unref(struct conn_buffer *buffer)
{
    if (buffer != NULL && __atomic_sub_fetch(&buffer->refs, 1, __ATOMIC_ACQ_REL) == 0)
        g_free(buffer);
}

static bool buffer_is_ours(const struct conn_buffer *buffer)
{
    return __atomic_load_n(&buffer->refs, __ATOMIC_ACQUIRE) == 1;
}

static void conn_free(struct conn *conn)
{
    pthread_mutex_lock(&registry_lock);
    g_hash_table_remove(registry, &conn->id);
    pthread_mutex_unlock(&registry_lock);
    fid_drop_all(conn);
    stats_end(conn->stats);
    close(conn->fd);
    buffer_unref(conn->in);
    g_hash_table_unref(conn->fids);
    g_byte_array_unref(conn->out);
    pthread_mutex_destroy(&conn->lock);
    pthread_mutex_destroy(&conn->out_lock);
    pthread_cond_destroy(&conn->turn_came);
    log_debug("connection %" G_GUINT64_FORMAT " ended", conn->id);
    g_free(conn);
    /* Told only now, as the daemon ends once all are gone. */
    pthread_mutex_lock(&registry_lock);
    if (g_hash_table_size(registry) == 0)
        pthread_cond_broadcast(&registry_empty);
    pthread_mutex_unlock(&registry_lock);
}

static void release(struct conn *conn)
{
    bool last;

    pthread_mutex_lock(&conn->lock);
    last = --conn->holders == 0;
    pthread_mutex_unlock(&conn->lock);
    if (last)
        conn_free(conn);
}

/* With lock held: tells epoll what the connection waits for. */
static void arm(struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLONESHOT, .data.u64 = conn->id};

    if (conn->parked)
        event.events |= EPOLLIN | EPOLLRDHUP;
    if (conn->want_out)
        event.events |= EPOLLOUT;
    if (epoll_ctl(worker_epoll(), EPOLL_CTL_MOD, conn->fd, &event) < 0)
        log_error("epoll_ctl: %s", g_strerror(errno));
}

void conn_new(const struct server *server, int fd)
{
    struct conn *conn = g_new0(struct conn, 1);
    struct epoll_event event = {.events = EPOLLONESHOT | EPOLLIN | EPOLLRDHUP};

    conn->fd = fd;
    conn->server = server;
    conn->msize = MSIZE_BEFORE_VERSION;
    conn->holders = 1;
    conn->parked = true;
    conn->fids = g_hash_table_new(NULL, NULL);
    conn->out = g_byte_array_new();
    pthread_mutex_init(&conn->lock, NULL);
    pthread_mutex_init(&conn->out_lock, NULL);
    pthread_cond_init(&conn->turn_came, NULL);
    pthread_mutex_lock(&registry_lock);
    if (registry == NULL)
        registry = g_hash_table_new(g_int64_hash, g_int64_equal);
    conn->id = next_id++;
    g_hash_table_insert(registry, &conn->id, conn);
    if (ending) /* accepted while the others were told to end: nobody else will tell this one */
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&registry_lock);
    log_debug("connection %" G_GUINT64_FORMAT " begins", conn->id);
    conn->stats = stats_begin(conn->id, "unknown", &conn->account);
    trace_begin(conn->stats);
    pthread_mutex_lock(&conn->lock);
    event.data.u64 = conn->id;
    if (epoll_ctl(worker_epoll(), EPOLL_CTL_ADD, fd, &event) < 0) {
        log_error("epoll_ctl: %s", g_strerror(errno));
        pthread_mutex_unlock(&conn->lock);
        release(conn);
        return;
    }
    pthread_mutex_unlock(&conn->lock);
}

/* The reader gives its role up for good. What is in flight still gets its replies. */
static void end_reading(struct conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    conn->closing = true;
    pthread_mutex_unlock(&conn->lock);
    release(conn);
}

/* Makes whoever reads see the end; where nobody does, gives the role up in its place. */
static void hang_up(struct conn *conn, int how)
{
    bool resting;

    pthread_mutex_lock(&conn->lock);
    conn->closing = true;
    shutdown(conn->fd, how);
    resting = conn->parked || conn->throttled;
    conn->parked = conn->throttled = false;
    pthread_mutex_unlock(&conn->lock);
    if (resting)
        release(conn);
}

/* ---- out ------------------------------------------------------------------------------------- */

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

/* The caller holds the connection by a request in flight or otherwise. */
static void conn_send(struct conn *conn, const uint8_t *bytes, size_t size)
{
    ssize_t sent = 0;
    bool dead;

    pthread_mutex_lock(&conn->out_lock);
    if (!conn->out_dead && conn->out->len == 0)
        sent = send_now(conn, bytes, size);
    if (sent < 0)
        conn->out_dead = true;
    dead = sent < 0;
    if (!conn->out_dead && (size_t)sent < size) {
        bool first = conn->out->len == 0;

        /* Bounded: the reader rests while anything is here, so no more can come than the replies
         * to the requests that are in flight now. */
        g_byte_array_append(conn->out, bytes + sent, (guint)(size - (size_t)sent));
        if (first) {
            pthread_mutex_lock(&conn->lock);
            conn->want_out = true;
            arm(conn);
            pthread_mutex_unlock(&conn->lock);
        }
    }
    pthread_mutex_unlock(&conn->out_lock);
    if (dead)
        hang_up(conn, SHUT_RDWR);
}

/* With lock held: true where a throttled connection may go on; it must be queued then. */
static bool may_resume(struct conn *conn)
{
    if (!conn->throttled || conn->want_out || conn->inflight > CONN_INFLIGHT_MAX / 2)
        return false;
    conn->throttled = false;
    return true;
}

static void flush_out(struct conn *conn)
{
    ssize_t sent = 0;
    bool resume = false;

    pthread_mutex_lock(&conn->out_lock);
    if (!conn->out_dead && conn->out->len > conn->out_sent)
        sent = send_now(conn, conn->out->data + conn->out_sent, conn->out->len - conn->out_sent);
    if (sent < 0)
        conn->out_dead = true;
    else
        conn->out_sent += (size_t)sent;
    if (conn->out_dead || conn->out_sent == conn->out->len) {
        /* The room is given back, too. */
        g_byte_array_unref(conn->out);
        conn->out = g_byte_array_new();
        conn->out_sent = 0;
    }
    pthread_mutex_lock(&conn->lock);
    conn->want_out = conn->out->len > 0;
    if (conn->want_out)
        arm(conn);
    else
        resume = may_resume(conn);
    pthread_mutex_unlock(&conn->lock);
    pthread_mutex_unlock(&conn->out_lock);
    if (resume)
        worker_queue(conn);
    if (sent < 0)
        hang_up(conn, SHUT_RDWR);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void answer_flush(struct conn *conn, uint16_t tag)
{
    uint8_t bytes[P9_HEADER];
    struct wire_out out;

    wire_begin(&out, bytes, sizeof bytes, P9_RFLUSH, tag);
    conn_send(conn, bytes, wire_finish(&out));
}

/* With lock held: the request that a Tflush waits for gets its tag. False: none is in flight. */
static bool attach_flush(struct conn *conn, struct request *flush)
{
    for (struct request *request = conn->requests; request != NULL; request = request->next)
        if (request != flush && request->msg.tag == flush->msg.oldtag &&
            request->flush_count < CONN_INFLIGHT_MAX) {
            request->flush_tags[request->flush_count++] = flush->msg.tag;
            return true;
        }
    return false;
}

/* With lock held. */
static void link_request(struct conn *conn, struct request *request)
{
    request->prev = NULL;
    request->next = conn->requests;
    if (conn->requests != NULL)
        conn->requests->prev = request;
    conn->requests = request;
}

static void unlink_request(struct conn *conn, struct request *request)
{
    if (request->next != NULL)
        request->next->prev = request->prev;
    if (request->prev != NULL)
        request->prev->next = request->next;
    else
        conn->requests = request->next;
}

/* The reply was sent. The request's hold on the connection is given back. */
static void finish_request(struct conn *conn, struct request *request)
{
    bool resume, last;
    unsigned flushes;

    buffer_unref(request->buffer);
    pthread_mutex_lock(&conn->lock);
    unlink_request(conn, request);
    flushes = request->flush_count;
    pthread_mutex_unlock(&conn->lock);
    for (unsigned i = 0; i < flushes; i++)
        answer_flush(conn, request->flush_tags[i]);
    pthread_mutex_lock(&conn->lock);
    conn->inflight -= 1 + flushes;
    conn->holders -= 1 + flushes;
    resume = may_resume(conn);
    last = conn->holders == 0;
    pthread_mutex_unlock(&conn->lock);
    if (resume)
        worker_queue(conn);
    if (last)
        conn_free(conn);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* 1: a whole message begins at in_start; 0: more bytes are needed; else a negative errno. */
static int next_message(const struct conn *conn, uint32_t *size)
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

/* Makes room for a message of `size` bytes at in_start, and some bytes after in_end at least. */
static void make_room(struct conn *conn, uint32_t size)
{
    size_t have = conn->in_end - conn->in_start;
    struct conn_buffer *buffer = conn->in;

    if (buffer != NULL && buffer_is_ours(buffer)) {
        if (have == 0)
            conn->in_start = conn->in_end = 0;
        if (conn->in_start + size > buffer->size && size <= buffer->size) {
            memmove(buffer->bytes, buffer->bytes + conn->in_start, have);
            conn->in_start = 0;
            conn->in_end = have;
        }
    }
    if (buffer != NULL && conn->in_start + size <= buffer->size)
        return;
    conn->in = buffer_new(size > BUFFER_SIZE ? size : BUFFER_SIZE);
    if (have > 0 && buffer != NULL)
        memcpy(conn->in->bytes, buffer->bytes + conn->in_start, have);
    conn->in_start = 0;
    conn->in_end = have;
    buffer_unref(buffer);
}

/* Reads more. 1: something came; 0: nothing is there now; else the end or a negative errno. */
static int fill(struct conn *conn, uint32_t size)
{
    ssize_t n;
    bool blocking;

    make_room(conn, size);
    blocking = worker_block_begin();
    do
        n = recv(conn->fd, conn->in->bytes + conn->in_end, conn->in->size - conn->in_end,
                 blocking ? 0 : MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (blocking)
        worker_block_end();
    if (n > 0) {
        conn->in_end += (size_t)n;
        return 1;
    }
    if (n == 0)
        return -EPIPE;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

static void park(struct conn *conn)
{
    bool closing;

    /* An idle connection keeps no buffer. */
    if (conn->in != NULL && conn->in_start == conn->in_end) {
        buffer_unref(conn->in);
        conn->in = NULL;
        conn->in_start = conn->in_end = 0;
    }
    pthread_mutex_lock(&conn->lock);
    closing = conn->closing;
    if (!closing) {
        conn->parked = true;
        arm(conn); /* from here on another thread may have it */
    }
    pthread_mutex_unlock(&conn->lock);
    if (closing)
        release(conn);
}

/* Takes the message of `size` bytes into `request`. 1: run it; 0: the role rests for now, or the
 * message was a Tflush and is being taken care of (*rest tells); else close. */
static int admit(struct conn *conn, struct request *request, uint32_t size, bool *rest)
{
    uint8_t *bytes = conn->in->bytes + conn->in_start;
    bool is_version = bytes[4] == P9_TVERSION, waits = false;

    *rest = false;
    memset(request, 0, offsetof(struct request, next));
    pthread_mutex_lock(&conn->lock);
    if (conn->closing || (!conn->versioned && !is_version)) {
        pthread_mutex_unlock(&conn->lock);
        return -EPROTO;
    }
    if (conn->inflight >= CONN_INFLIGHT_MAX || conn->want_out ||
        (is_version && conn->inflight > 0)) {
        conn->throttled = true;
        *rest = true;
        pthread_mutex_unlock(&conn->lock);
        return 0;
    }
    conn->in_start += size;
    request->conn = conn;
    request->flush_count = 0;
    request->error = wire_decode(bytes, size, &request->msg);
    if (request->error == 0)
        request->error = dispatch_take(request);
    conn->inflight++;
    conn->holders++;
    if (request->msg.type == P9_TFLUSH && request->error == 0)
        waits = attach_flush(conn, request);
    if (!waits) {
        link_request(conn, request);
        request->buffer = conn->in;
        __atomic_fetch_add(&conn->in->refs, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&conn->lock);
    return waits ? 0 : 1;
}

static void run(struct conn *conn, struct request *request, struct worker *worker)
{
    size_t room = conn->msize > P9_MSIZE_MIN ? conn->msize : P9_MSIZE_MIN, size;

    request->out.bytes = worker_out(worker, room);
    request->out.size = room;
    size = dispatch_run(request);
    if (size > 0)
        conn_send(conn, request->out.bytes, size);
}

void conn_serve(struct conn *conn, struct worker *worker)
{
    struct request *request = worker_request(worker);

    for (;;) {
        uint32_t size, next;
        bool rest, kept;
        int got = next_message(conn, &size);

        if (got == 0) {
            got = fill(conn, size);
            if (got > 0)
                continue;
            if (got == 0) {
                park(conn);
                return;
            }
        } else if (got > 0) {
            got = admit(conn, request, size, &rest);
            if (rest)
                return;
            if (got == 0)
                continue;
        }
        if (got < 0) {
            end_reading(conn);
            return;
        }
        if (request->msg.type == P9_TVERSION && request->error == 0) {
            /* What follows depends on the new msize: the role stays here. */
            run(conn, request, worker);
            finish_request(conn, request);
            continue;
        }
        if (dispatch_is_slow(&request->msg) || next_message(conn, &next) != 0) {
            worker_queue(conn);
            run(conn, request, worker);
            finish_request(conn, request);
            return;
        }
        worker_hold(worker, conn);
        run(conn, request, worker);
        kept = worker_let_go(worker);
        finish_request(conn, request);
        if (!kept)
            return;
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

void conn_event(uint64_t id, uint32_t events, struct worker *worker)
{
    struct conn *conn;
    bool read = false, write = false;

    pthread_mutex_lock(&registry_lock);
    conn = registry != NULL ? g_hash_table_lookup(registry, &id) : NULL;
    if (conn != NULL) {
        pthread_mutex_lock(&conn->lock);
        if (conn->holders == 0) { /* being freed */
            pthread_mutex_unlock(&conn->lock);
            conn = NULL;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    if (conn == NULL)
        return;
    conn->holders++;
    read = conn->parked && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    write = conn->want_out && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
    if (read)
        conn->parked = false;
    if ((conn->parked || conn->want_out) && !write)
        arm(conn);
    pthread_mutex_unlock(&conn->lock);
    if (write) {
        flush_out(conn);
        if (!read) { /* the one-shot was used up; perhaps input is waited for, too */
            pthread_mutex_lock(&conn->lock);
            if (conn->parked)
                arm(conn);
            pthread_mutex_unlock(&conn->lock);
        }
    }
    if (read)
        conn_serve(conn, worker);
    release(conn);
}

bool conn_close_all(unsigned seconds)
{
    struct timespec deadline;
    g_autoptr(GPtrArray) held = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;
    bool all = true;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += seconds;
    pthread_mutex_lock(&registry_lock);
    ending = true;
    if (registry == NULL) {
        pthread_mutex_unlock(&registry_lock);
        return true;
    }
    g_hash_table_iter_init(&iter, registry);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct conn *conn = value;

        pthread_mutex_lock(&conn->lock);
        if (conn->holders > 0) {
            conn->holders++;
            g_ptr_array_add(held, conn);
        }
        pthread_mutex_unlock(&conn->lock);
    }
    pthread_mutex_unlock(&registry_lock);
    for (guint i = 0; i < held->len; i++) {
        hang_up(g_ptr_array_index(held, i), SHUT_RD);
        release(g_ptr_array_index(held, i));
    }
    pthread_mutex_lock(&registry_lock);
    while (g_hash_table_size(registry) > 0 && all)
        all = pthread_cond_timedwait(&registry_empty, &registry_lock, &deadline) == 0;
    pthread_mutex_unlock(&registry_lock);
    return all;
}
