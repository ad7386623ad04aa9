/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests in flight and Tflush. See inflight.h. */
#include "config.h"

#include "src/inflight.h"

#include "src/dispatch.h"
#include "src/worker.h"

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

/* One session keeps half of the threads at most, whatever its requests wait for in the kernel. */
static bool may_run(const struct conn *conn)
{
    return conn->running < MAX(1, conn->server->threads / 2);
}

static bool turns_came(const struct request *request)
{
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL && !fid_turn_came(&request->turns[i]))
            return false;
    return true;
}

bool inflight_add(struct conn *conn, struct request *request)
{
    struct request **at = &conn->waiting, *copy;

    if (may_run(conn) && turns_came(request)) {
        request->state = REQUEST_RUNNING;
        conn->running++;
        link_request(conn, request);
        return true;
    }
    copy = g_new(struct request, 1);
    *copy = *request;
    request = copy;
    request->on_heap = true;
    request->state = REQUEST_WAITING;
    link_request(conn, request);
    while (*at != NULL)
        at = &(*at)->next_waiting;
    *at = request;
    return false;
}

/* ---- Tflush ---------------------------------------------------------------------------------- */

/* A fid that is clunked is gone from the table, and its number may mean another one by now. */
static bool can_cancel(const struct request *request)
{
    if (request->state == REQUEST_RUNNING || request->cancelled || request->flushes != NULL)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL && request->turns[i].mode == FID_REMOVE)
            return false;
    return true;
}

static void cancel(struct conn *conn, struct request *request)
{
    request->cancelled = true;
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL)
            fid_cancel(conn, &request->turns[i]);
}

static void add_flush(struct request *request, const struct request *from)
{
    struct flush **at = &request->flushes, *flush = g_new(struct flush, 1);

    while (*at != NULL)
        at = &(*at)->next;
    flush->next = NULL;
    flush->tag = from->msg.tag;
    flush->oldtag = from->msg.oldtag;
    flush->counted = from->counted;
    flush->start = from->start;
    flush->serial = from->serial;
    *at = flush;
}

bool inflight_flush(struct conn *conn, const struct request *from)
{
    uint16_t oldtag = from->msg.oldtag;
    struct request *found = NULL, *before = NULL;
    uint64_t serial = 0, latest = 0;
    bool is_flush = false;

    if (from->msg.tag == oldtag)
        return false;
    /* The latest that has the tag, be it a Tflush itself: the tag of an older one, which was
     * answered and did not end yet, may be free again already. */
    for (struct request *request = conn->requests; request != NULL; request = request->next) {
        if (!request->cancelled && request->msg.tag == oldtag && request->serial >= serial) {
            serial = request->serial;
            found = request;
            is_flush = false;
        }
        for (const struct flush *flush = request->flushes; flush != NULL; flush = flush->next) {
            if (flush->tag == oldtag && flush->serial >= serial) {
                serial = flush->serial;
                found = request;
                is_flush = true;
            }
            if (flush->oldtag == oldtag && flush->serial >= latest) {
                latest = flush->serial;
                before = request;
            }
        }
    }
    /* What it names was answered, and an older Tflush for the same is being answered: first that.
     */
    if (found == NULL && before != NULL) {
        add_flush(before, from);
        return true;
    }
    if (found == NULL)
        return false;
    if (!is_flush && can_cancel(found)) {
        cancel(conn, found);
        return false;
    }
    add_flush(found, from);
    return true;
}

void inflight_cancel_all(struct conn *conn)
{
    for (struct request *request = conn->requests; request != NULL; request = request->next)
        if (request->state != REQUEST_RUNNING && !request->cancelled)
            cancel(conn, request);
}

/* ---- running --------------------------------------------------------------------------------- */

bool inflight_begin(struct request *request)
{
    struct conn *conn = request->conn;
    bool cancelled;

    pthread_mutex_lock(&conn->lock);
    request->state = REQUEST_RUNNING;
    cancelled = request->cancelled;
    pthread_mutex_unlock(&conn->lock);
    return !cancelled;
}

/* With lock held: takes those that can go on now out of the waiting ones, oldest first. */
static struct request *take_ready(struct conn *conn)
{
    struct request *ready = NULL, **end = &ready, **at = &conn->waiting;

    while (*at != NULL && may_run(conn)) {
        struct request *request = *at;

        if (!turns_came(request)) {
            at = &request->next_waiting;
            continue;
        }
        *at = request->next_waiting;
        request->next_waiting = NULL;
        request->state = REQUEST_READY;
        conn->running++;
        *end = request;
        end = &request->next_waiting;
    }
    return ready;
}

/* Sends the answers one by one. Each stays in the list until it was sent, so that a Tflush for it,
 * or one more for the request, comes after it. */
static unsigned answer_flushes(struct conn *conn, struct request *request)
{
    unsigned count = 0;

    while (request->flushes != NULL) {
        struct flush *flush = request->flushes;

        pthread_mutex_unlock(&conn->lock);
        dispatch_flushed(conn, flush->tag, flush->start);
        pthread_mutex_lock(&conn->lock);
        request->flushes = flush->next;
        if (flush->counted)
            limit_give(&conn->account, LIMIT_REQUESTS, 1);
        g_free(flush);
        count++;
    }
    return count;
}

/* With lock held, which is given up where the fid is freed: that may take long, and needs the
 * session, which the request still holds. */
static void finish_turn(struct conn *conn, struct fid_turn *turn)
{
    struct fid *gone = fid_finish(turn);

    if (gone == NULL)
        return;
    pthread_mutex_unlock(&conn->lock);
    fid_free(gone);
    pthread_mutex_lock(&conn->lock);
}

struct request *inflight_end(struct conn *conn, struct request *request, bool *last)
{
    struct request *ready = NULL, *others = NULL;
    unsigned flushes = 0;
    bool resume;

    conn_buffer_unref(conn, request->buffer);
    if (request->reserved > 0) {
        __atomic_fetch_sub(&conn->held, request->reserved, __ATOMIC_RELAXED);
        limit_give(&conn->account, LIMIT_MEMORY, request->reserved);
    }
    if (request->counted)
        limit_give(&conn->account, LIMIT_REQUESTS, 1);
    pthread_mutex_lock(&conn->lock);
    if (request->flushes != NULL)
        flushes = answer_flushes(conn, request);
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL)
            finish_turn(conn, &request->turns[i]);
    unlink_request(conn, request);
    conn->running--;
    conn->inflight -= 1 + flushes;
    conn->holders -= 1 + flushes;
    if (conn->waiting != NULL)
        ready = take_ready(conn);
    if (ready != NULL) {
        others = ready->next_waiting;
        ready->next_waiting = NULL;
    }
    resume = conn_may_resume(conn);
    *last = conn->holders == 0;
    pthread_mutex_unlock(&conn->lock);
    if (request->on_heap)
        g_free(request);
    while (others != NULL) {
        struct request *next = others->next_waiting;

        worker_queue_request(others);
        others = next;
    }
    if (resume)
        worker_queue(conn);
    return ready;
}
