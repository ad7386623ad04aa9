/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reader role: messages are taken out of the input, admitted, run and answered; who has the
 * role keeps it, passes it on, or lets it rest. See conn.h.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "src/conn.h"
#include "src/dispatch.h"
#include "src/inflight.h"
#include "src/trace.h"
#include "src/worker.h"

/* Messages that came together are answered by one thread, one after the other, while they are
 * quick. After one that was not, so many are run beside each other. */
#define SLOW_NS 100000u /* more than what is in memory takes */
#define APART   16u

/* Where all threads are at work, others get a turn after so many messages of one connection. */
#define TURN 64u

/* ---- letting the role go --------------------------------------------------------------------- */

/* The reader gives its role up for good. What is in flight still gets its replies. */
static void end_reading(struct conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    conn->closing = true;
    pthread_mutex_unlock(&conn->lock);
    conn_release(conn);
}

static void park(struct conn *conn)
{
    bool closing;

    conn_shrink(conn);
    conn_free_gathered(conn);
    pthread_mutex_lock(&conn->lock);
    closing = conn->closing;
    if (!closing) {
        conn->partial = conn->in != NULL || conn->skip > 0;
        conn->parked_count = conn->in_count;
        conn->parked = true;
        conn_arm(conn); /* from here on another thread may have it */
    }
    pthread_mutex_unlock(&conn->lock);
    if (closing)
        conn_release(conn);
}

/* By who has the role. */
static void send_gathered(struct conn *conn)
{
    if (!conn->has_gathered)
        return;
    conn->has_gathered = false;
    conn_send_gathered(conn);
}

/* ---- admitting ------------------------------------------------------------------------------- */

/* With lock held: takes from the accounts what the request will hold. False: not before others in
 * flight have ended. A request that is alone gets an error instead. */
static bool take_room(struct conn *conn, struct request *request)
{
    size_t room = dispatch_room(&request->msg, conn->msize);
    bool alone = conn->inflight == 0;
    int error;

    request->reply_room = room;
    if (room > CONN_REPLY_SMALL) {
        if (!alone && __atomic_load_n(&conn->held, __ATOMIC_RELAXED) + room > conn_window(conn))
            return false;
        error = limit_take(&conn->account, LIMIT_MEMORY, room, NULL);
        if (error != 0 && !alone)
            return false;
        if (error == 0) {
            request->reserved = room;
            __atomic_fetch_add(&conn->held, room, __ATOMIC_RELAXED);
        } else {
            request->reply_room = CONN_REPLY_SMALL;
            request->error = error;
        }
    }
    if (!alone) {
        if (limit_take(&conn->account, LIMIT_REQUESTS, 1, NULL) != 0)
            return false; /* what is reserved is given back by the caller */
        request->counted = true;
    }
    return true;
}

static void give_room(struct conn *conn, struct request *request)
{
    if (request->reserved > 0) {
        __atomic_fetch_sub(&conn->held, request->reserved, __ATOMIC_RELAXED);
        limit_give(&conn->account, LIMIT_MEMORY, request->reserved);
        request->reserved = 0;
    }
}

/* With lock held: what a header says is enough for what is to be reserved. The message is decoded
 * only when it is taken, as that can be done once. */
static void peek(const uint8_t *bytes, uint32_t size, struct request *request)
{
    request->msg.type = bytes[4];
    request->msg.count = 0;
    if ((bytes[4] == P9_TREAD || bytes[4] == P9_TREADDIR) && size >= P9_HEADER + 16)
        request->msg.count = wire_peek_size(bytes + P9_HEADER + 12);
}

/* All but the message, which wire_decode() sets, and the reply: a worker's request is used again
 * and again, and to clear all of it would cost more than to admit it. */
static void begin(struct request *request, struct conn *conn)
{
    request->conn = conn;
    request->buffer = NULL;
    request->error = 0;
    request->turns[0] = request->turns[1] = (struct fid_turn){.mode = FID_NONE};
    request->took = request->start = request->serial = 0;
    request->reply_room = request->reserved = 0;
    request->counted = request->on_heap = request->cancelled = false;
    request->next = request->prev = request->next_waiting = NULL;
    request->state = REQUEST_RUNNING;
    request->flushes = NULL;
}

enum admitted {
    ADMIT_RUN,   /* run the request */
    ADMIT_WAITS, /* it waits, or was a Tflush that waits; go on */
    ADMIT_FLUSH, /* answer the Tflush; go on */
    ADMIT_REST,  /* the role rests, and the message stays in the input */
    ADMIT_END,
};

/* A Tflush never runs, and what it hangs on may be answered as soon as it is taken; so it is told
 * before. Where there is no room for it yet, it is told again. */
static void trace_flush(const struct conn *conn, const uint8_t *bytes, uint32_t size)
{
    struct wire_msg msg;
    uint8_t copy[P9_HEADER + 2];

    if (size != sizeof copy)
        return; /* malformed: it is told like other requests */
    memcpy(copy, bytes, size);
    if (wire_decode(copy, size, &msg) == 0)
        trace_request(conn->stats, &msg);
}

/* Takes the message of `size` bytes into `request`. */
static enum admitted admit(struct conn *conn, struct request *request, uint32_t size)
{
    uint8_t *bytes = conn->in->bytes + conn->in_start;
    bool is_version = bytes[4] == P9_TVERSION, gathered;
    enum admitted result = ADMIT_WAITS;

    begin(request, conn);
    peek(bytes, size, request);
    if (bytes[4] == P9_TFLUSH && trace_is_on(conn->stats))
        trace_flush(conn, bytes, size);
    pthread_mutex_lock(&conn->lock);
    if (conn->closing || (!conn->versioned && !is_version)) {
        pthread_mutex_unlock(&conn->lock);
        return ADMIT_END;
    }
    if (is_version && conn->inflight > 0)
        inflight_cancel_all(conn);
    if (conn->want_out || (is_version && conn->inflight > 0) || !take_room(conn, request)) {
        give_room(conn, request);
        gathered = conn->has_gathered;
        conn->has_gathered = false;
        conn->holders++;
        conn->throttled = true; /* from here on another thread may have it */
        pthread_mutex_unlock(&conn->lock);
        if (gathered)
            conn_send_gathered(conn);
        conn_free_gathered(conn);
        conn_release(conn);
        return ADMIT_REST;
    }
    conn->in_start += size;
    request->serial = ++conn->messages;
    if (request->error == 0) /* or else the tag is enough */
        request->error = wire_decode(bytes, size, &request->msg);
    else
        wire_head(bytes, size, &request->msg);
    conn->inflight++;
    conn->holders++;
    if (request->msg.type == P9_TFLUSH && request->error == 0) {
        request->start = stats_start(conn->stats);
        if (!inflight_flush(conn, request)) {
            if (request->counted)
                limit_give(&conn->account, LIMIT_REQUESTS, 1);
            conn->inflight--;
            conn->holders--;
            result = ADMIT_FLUSH;
        }
    } else {
        if (request->error == 0)
            request->error = dispatch_take(request);
        request->buffer = conn->in;
        __atomic_fetch_add(&conn->in->refs, 1, __ATOMIC_RELAXED);
        if (inflight_add(conn, request))
            result = ADMIT_RUN;
    }
    pthread_mutex_unlock(&conn->lock);
    return result;
}

/* ---- running --------------------------------------------------------------------------------- */

/* Makes the reply. Its size, or 0. */
static size_t make_reply(struct request *request, struct worker *worker)
{
    request->out.bytes = worker_out(worker, request->reply_room);
    request->out.size = request->reply_room;
    return dispatch_run(request);
}

static void run(struct conn *conn, struct request *request, struct worker *worker)
{
    size_t size = make_reply(request, worker);

    if (size > 0)
        conn_send(conn, request->out.bytes, size);
    worker_out_end(worker);
}

/* Runs a request with the role in hand. `more`: another message has come, and its reply can go out
 * together with this one. True: the role is still here. */
static bool run_in_hand(struct conn *conn, struct request *request, struct worker *worker,
                        bool more)
{
    bool kept;
    size_t size;

    worker_hold(worker, conn);
    size = make_reply(request, worker);
    if (more && size <= CONN_REPLY_SMALL) {
        kept = worker_let_go(worker);
        if (kept) {
            conn_gather(conn, request->out.bytes, size);
            conn->has_gathered = true;
        } else
            conn_send(conn, request->out.bytes, size);
    } else {
        conn_send(conn, request->out.bytes, size);
        kept = worker_let_go(worker);
    }
    worker_out_end(worker);
    if (kept && request->took > SLOW_NS)
        conn->apart = APART;
    return kept;
}

/* Ends the request. Where another can go on now, it comes back. */
static struct request *finish(struct conn *conn, struct request *request)
{
    bool last;
    struct request *ready = inflight_end(conn, request, &last);

    if (last)
        conn_free(conn);
    return ready;
}

void conn_run_ready(struct request *request, struct worker *worker)
{
    for (unsigned done = 0; request != NULL; done++) {
        struct conn *conn = request->conn;

        if (done >= TURN && worker_is_wanted()) {
            worker_queue_request(request);
            return;
        }
        if (inflight_begin(request))
            run(conn, request, worker);
        else
            dispatch_drop(request);
        request = finish(conn, request);
    }
}

/* Runs the request that was admitted. True: the role is still here. */
static bool serve_request(struct conn *conn, struct request *request, struct worker *worker)
{
    struct request *ready;
    uint32_t next;
    bool kept = true, more;

    if (request->msg.type == P9_TVERSION && request->error == 0) {
        /* What follows depends on the new msize: the role stays here. */
        run(conn, request, worker);
    } else {
        more = conn_next_message(conn, &next) != 0;
        if (dispatch_is_slow(&request->msg) || (more && conn->apart > 0)) {
            if (conn->apart > 0)
                conn->apart--;
            send_gathered(conn);
            worker_queue_first(conn);
            kept = false;
            run(conn, request, worker);
        } else
            kept = run_in_hand(conn, request, worker, more);
    }
    ready = finish(conn, request);
    if (ready == NULL)
        return kept;
    if (kept) {
        send_gathered(conn);
        worker_queue(conn);
    }
    conn_run_ready(ready, worker);
    return false;
}

/* ---- reading --------------------------------------------------------------------------------- */

void conn_taken(struct conn *conn)
{
    send_gathered(conn);
    conn->apart = APART;
    worker_queue(conn);
}

/* To a message that was thrown away. */
static void answer(struct conn *conn, uint16_t tag, int error)
{
    uint8_t bytes[P9_HEADER + 4];
    struct wire_out out;

    wire_begin(&out, bytes, sizeof bytes, P9_RFLUSH, tag);
    wire_error(&out, tag, -error);
    conn_send(conn, bytes, wire_finish(&out));
}

/* Reads on. 1: look again; 0: the role rests, or was given up. */
static int read_on(struct conn *conn, uint32_t size)
{
    int got = conn_fill(conn, size);

    if (got == 0)
        park(conn);
    if (got >= 0)
        return got;
    if (got == -EBUSY)
        return 0;
    if (got == -ENOMEM && size > P9_HEADER) { /* the header is here */
        const uint8_t *bytes = conn->in->bytes + conn->in_start;

        conn->skip = size;
        conn->skip_tag = (uint16_t)(bytes[5] | bytes[6] << 8);
        conn->skip_error = got;
        return 1;
    }
    end_reading(conn);
    return 0;
}

static int skip_on(struct conn *conn)
{
    int got = conn_skip(conn);

    if (got == 0)
        park(conn);
    else if (got < 0) {
        end_reading(conn);
        return 0;
    } else if (conn->skip == 0)
        answer(conn, conn->skip_tag, conn->skip_error);
    return got;
}

void conn_serve(struct conn *conn, struct worker *worker)
{
    struct request *request = worker_request(worker);

    for (unsigned done = 0;; done++) {
        uint32_t size;
        int got;

        if (done >= TURN && worker_is_wanted()) {
            send_gathered(conn);
            worker_queue(conn);
            return;
        }
        if (conn->skip > 0) {
            send_gathered(conn);
            if (skip_on(conn) == 0)
                return;
            continue;
        }
        got = conn_next_message(conn, &size);
        if (got == 0) {
            send_gathered(conn);
            if (read_on(conn, size) == 0)
                return;
            continue;
        }
        switch (got > 0 ? admit(conn, request, size) : ADMIT_END) {
        case ADMIT_RUN:
            if (!serve_request(conn, request, worker))
                return;
            break;
        case ADMIT_WAITS:
            break;
        case ADMIT_FLUSH:
            dispatch_flushed(conn, request->msg.tag, request->start);
            break;
        case ADMIT_REST:
            return;
        case ADMIT_END:
            send_gathered(conn);
            end_reading(conn);
            return;
        }
    }
}

void conn_event(uint64_t id, uint32_t events, struct worker *worker)
{
    struct conn *conn = conn_find(id);
    bool read = false, write = false;

    if (conn == NULL)
        return;
    read = conn->parked && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    write = conn->want_out && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
    if (read)
        conn->parked = false;
    if ((conn->parked || conn->want_out) && !write)
        conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);
    if (write) {
        conn_flush_out(conn);
        if (!read) { /* the one-shot was used up; perhaps input is waited for, too */
            pthread_mutex_lock(&conn->lock);
            if (conn->parked)
                conn_arm(conn);
            pthread_mutex_unlock(&conn->lock);
        }
    }
    if (read)
        conn_serve(conn, worker);
    conn_release(conn);
}
