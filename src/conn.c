/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One client: its life, the reader role, and time limits. See conn.h. */
#include "config.h"

#include "src/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "src/dispatch.h"
#include "src/export.h"
#include "src/inflight.h"
#include "src/log.h"
#include "src/trace.h"
#include "src/worker.h"

#define MSIZE_BEFORE_VERSION 8192u
#define DISCARD_MAX          (1024u * 1024)
#define DRAIN_SECONDS        5    /* for queued replies when the daemon ends */
#define PROGRESS             4096 /* bytes: what moves slower stands still */
#define ACCEPT_MS            1000 /* at most: for who is being accepted */

/* Messages that came together are answered by one thread, one after the other, while they are
 * quick. After one that was not, so many are run beside each other. */
#define SLOW_NS 100000u /* more than what is in memory takes */
#define APART   16u

/* Where all threads are at work, others get a turn after so many messages of one connection. */
#define TURN 64u

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_empty = PTHREAD_COND_INITIALIZER;
static GHashTable *registry; /* &conn->id -> conn */
static uint64_t next_id = CONN_FIRST_ID;
static bool ending;        /* no more connections; registry_lock */
static bool told_too_many; /* since there was room; registry_lock */
static int64_t held_until; /* monotonic microseconds: none is accepted before; registry_lock */
static unsigned accepting; /* threads that do so just now; registry_lock */

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

static void conn_free(struct conn *conn)
{
    pthread_mutex_lock(&registry_lock);
    g_hash_table_remove(registry, &conn->id);
    pthread_mutex_unlock(&registry_lock);
    fid_drop_all(conn);
    stats_end(conn->stats);
    conn_buffer_unref(conn, conn->in);
    conn_drop_out(conn);
    g_hash_table_unref(conn->fids);
    check_account(conn);
    close_socket(conn->fd);
    peer_clear(&conn->peer);
    pthread_mutex_destroy(&conn->lock);
    pthread_mutex_destroy(&conn->out_lock);
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

bool conn_accept_begin(void)
{
    bool may;

    pthread_mutex_lock(&registry_lock);
    may = held_until == 0 || g_get_monotonic_time() >= held_until;
    accepting += may;
    pthread_mutex_unlock(&registry_lock);
    return may;
}

void conn_accept_end(void)
{
    pthread_mutex_lock(&registry_lock);
    accepting--;
    pthread_mutex_unlock(&registry_lock);
}

/* With the registry locked. */
static unsigned count_all(void)
{
    return registry != NULL ? g_hash_table_size(registry) : 0;
}

unsigned conn_hold(unsigned seconds)
{
    unsigned count;

    pthread_mutex_lock(&registry_lock);
    count = count_all();
    if (seconds == 0)
        held_until = 0;
    else if (count == 0) {
        held_until = g_get_monotonic_time() + seconds * (int64_t)G_USEC_PER_SEC;
        for (int i = 0; accepting > 0 && i < ACCEPT_MS; i++) {
            pthread_mutex_unlock(&registry_lock);
            g_usleep(1000);
            pthread_mutex_lock(&registry_lock);
        }
        count = count_all() + accepting;
        if (count > 0)
            held_until = 0;
    }
    pthread_mutex_unlock(&registry_lock);
    return count;
}

/* False: there are too many. */
static bool register_conn(struct conn *conn, unsigned max)
{
    bool tell = false, fits;

    pthread_mutex_lock(&registry_lock);
    if (registry == NULL)
        registry = g_hash_table_new(g_int64_hash, g_int64_equal);
    fits = g_hash_table_size(registry) < max;
    if (fits) {
        conn->id = conn->account.id = next_id++;
        g_hash_table_insert(registry, &conn->id, conn);
        if (g_hash_table_size(registry) < max / 2 + 1)
            told_too_many = false;
        if (ending) /* accepted while the others were told to end: nobody else tells this one */
            shutdown(conn->fd, SHUT_RDWR);
    } else {
        tell = !told_too_many;
        told_too_many = true;
    }
    pthread_mutex_unlock(&registry_lock);
    if (tell)
        log_warning("there are %u connections already, and more are refused; raise the limit "
                    "connections if all of them are wanted",
                    max);
    return fits;
}

void conn_new(const struct server *server, int fd, const struct peer *peer)
{
    struct conn *conn = g_new0(struct conn, 1);
    struct epoll_event event = {.events = EPOLLONESHOT | EPOLLIN | EPOLLRDHUP};

    conn->fd = fd;
    conn->server = server;
    conn->peer = *peer;
    conn->msize = MSIZE_BEFORE_VERSION;
    conn->holders = 1;
    conn->parked = true;
    if (!register_conn(conn, __atomic_load_n(&server->connections_max, __ATOMIC_RELAXED))) {
        peer_clear(&conn->peer);
        close(fd);
        g_free(conn);
        return;
    }
    conn->fids = g_hash_table_new(NULL, NULL);
    pthread_mutex_init(&conn->lock, NULL);
    pthread_mutex_init(&conn->out_lock, NULL);
    log_debug("connection %" G_GUINT64_FORMAT " begins: %s", conn->id, conn->peer.name);
    conn->stats = stats_begin(conn->id, conn->peer.name, &conn->account);
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
        release(conn);
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

/* ---- requests -------------------------------------------------------------------------------- */

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
        release(conn);
}

/* By who has the role. */
static void send_gathered(struct conn *conn)
{
    if (!conn->has_gathered)
        return;
    conn->has_gathered = false;
    conn_send_gathered(conn);
}

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
        conn->holders += gathered;
        conn->throttled = true; /* from here on another thread may have it */
        pthread_mutex_unlock(&conn->lock);
        if (gathered) {
            conn_send_gathered(conn);
            release(conn);
        }
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
    if (more && size <= CONN_GATHER_SMALL) {
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
    release(conn);
}

void conn_wait_none(void)
{
    pthread_mutex_lock(&registry_lock);
    while (registry != NULL && g_hash_table_size(registry) > 0)
        pthread_cond_wait(&registry_empty, &registry_lock);
    pthread_mutex_unlock(&registry_lock);
}

/* With the registry locked: connections for which `wanted` says so, held for the caller. */
static GPtrArray *collect(bool (*wanted)(struct conn *conn, int64_t now), int64_t now)
{
    GPtrArray *held = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    if (registry == NULL)
        return held;
    g_hash_table_iter_init(&iter, registry);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct conn *conn = value;

        pthread_mutex_lock(&conn->lock);
        if (conn->holders > 0 && wanted(conn, now)) {
            conn->holders++;
            g_ptr_array_add(held, conn);
        }
        pthread_mutex_unlock(&conn->lock);
    }
    return held;
}

/* The registry must not be locked. */
static void hang_up_all(GPtrArray *held, int how)
{
    for (guint i = 0; i < held->len; i++) {
        conn_hang_up(g_ptr_array_index(held, i), how);
        release(g_ptr_array_index(held, i));
    }
    g_ptr_array_free(held, TRUE);
}

bool conn_disconnect(uint64_t id)
{
    GPtrArray *held = g_ptr_array_new();
    struct conn *conn;
    bool found;

    pthread_mutex_lock(&registry_lock);
    conn = registry != NULL ? g_hash_table_lookup(registry, &id) : NULL;
    if (conn != NULL) {
        pthread_mutex_lock(&conn->lock);
        if (conn->holders > 0) {
            conn->holders++;
            g_ptr_array_add(held, conn);
        }
        pthread_mutex_unlock(&conn->lock);
    }
    pthread_mutex_unlock(&registry_lock);
    found = held->len > 0;
    hang_up_all(held, SHUT_RD);
    return found;
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

/* ---- who keeps us waiting -------------------------------------------------------------------- */

/* Whether what is watched did not move by `step` for `seconds`. */
static bool stands_still(struct conn_watch *watch, bool watched, uint64_t value, uint64_t step,
                         unsigned seconds, int64_t now)
{
    if (!watched || seconds == 0) {
        watch->since = 0;
        return false;
    }
    if (watch->since == 0 || value - watch->mark >= step) {
        watch->since = now;
        watch->mark = value;
        return false;
    }
    return now - watch->since >= (int64_t)seconds * G_USEC_PER_SEC;
}

static bool is_late(struct conn *conn, int64_t now)
{
    unsigned idle = __atomic_load_n(&conn->server->idle_seconds, __ATOMIC_RELAXED);
    unsigned stall = __atomic_load_n(&conn->server->stall_seconds, __ATOMIC_RELAXED);
    bool attached = __atomic_load_n(&conn->account.used[LIMIT_FIDS], __ATOMIC_RELAXED) > 0;
    const char *why = NULL;

    /* Each whole message counts as a step of its own. */
    if (stands_still(&conn->quiet, !attached && conn->inflight == 0, conn->messages, 1, idle, now))
        why = "attached nothing";
    if (stands_still(&conn->half, conn->parked && conn->partial,
                     conn->messages * PROGRESS + conn->parked_count, PROGRESS, stall, now))
        why = "stopped in the midst of a message";
    if (stands_still(&conn->unread, conn->want_out, conn->out_count, PROGRESS, stall, now))
        why = "did not read its replies";
    if (why != NULL)
        log_warning("connection %" G_GUINT64_FORMAT ": the client %s for too long; it is cut off",
                    conn->id, why);
    return why != NULL;
}

void conn_sweep(void)
{
    GPtrArray *late;

    pthread_mutex_lock(&registry_lock);
    late = collect(is_late, g_get_monotonic_time());
    pthread_mutex_unlock(&registry_lock);
    hang_up_all(late, SHUT_RDWR);
}

/* ---- the end --------------------------------------------------------------------------------- */

static bool is_any(struct conn *conn, int64_t now)
{
    (void)conn;
    (void)now;
    return true;
}

static bool is_unread(struct conn *conn, int64_t now)
{
    (void)now;
    return conn->want_out;
}

/* Waits until all are gone. */
static bool wait_for_all(unsigned seconds)
{
    struct timespec deadline;
    bool all = true;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += seconds;
    pthread_mutex_lock(&registry_lock);
    while (registry != NULL && g_hash_table_size(registry) > 0 && all)
        all = pthread_cond_timedwait(&registry_empty, &registry_lock, &deadline) == 0;
    pthread_mutex_unlock(&registry_lock);
    return all;
}

bool conn_close_all(unsigned seconds)
{
    GPtrArray *held;

    pthread_mutex_lock(&registry_lock);
    ending = true;
    held = collect(is_any, 0);
    pthread_mutex_unlock(&registry_lock);
    hang_up_all(held, SHUT_RD);
    while (seconds > 0) {
        unsigned step = MIN(seconds, DRAIN_SECONDS);

        if (wait_for_all(step))
            return true;
        seconds -= step;
        pthread_mutex_lock(&registry_lock);
        held = collect(is_unread, 0);
        pthread_mutex_unlock(&registry_lock);
        hang_up_all(held, SHUT_RDWR);
    }
    return wait_for_all(1);
}
