/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One client: frames in, requests run, frames out.
 *
 * At any time at most one thread has the *reader role* of a connection: it alone touches the input
 * buffer, and takes messages out of it in order. It answers a message itself, and goes on reading:
 * two system calls, no other thread woken. Where more messages are buffered, small replies are
 * gathered until the last of them. Where a request will take long it passes the role on first
 * (worker.h); and the monitor takes the role from a thread whose request has run for too long, and
 * sends what was gathered. After that, messages that came together are run beside each other for a
 * while. Where the role rests with no thread, the connection is either
 *   parked     waiting in epoll for input,
 *   throttled  waiting until requests in flight have ended, or the client has read its replies, or
 *   queued     waiting for a worker.
 * A request whose turn at a fid has not come waits without a thread (inflight.h).
 *
 * The parts: conn.c its life; conn-serve.c the reader role; conn-in.c input buffers; conn-out.c
 * replies that wait for the client; inflight.c requests in flight and Tflush; conn-registry.c all
 * connections that there are, and time limits.
 *
 * (Locks are pthread's, not glib's, as thread sanitizers understand those.)
 * Lock order: out_lock, then the registry of connections, then lock. Nothing that can wait is done
 * with `lock` held.
 */
#ifndef CONN_H
#define CONN_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/fid.h"
#include "src/limit.h"
#include "src/peer.h"
#include "src/server.h"
#include "src/stats.h"
#include "src/wire.h"

#define CONN_FIRST_ID 65536u /* smaller numbers in epoll are listeners and the like */

/* Room for a reply that holds no data, or a page of it; what is larger is taken from the session's
 * account, and is not gathered. */
#define CONN_REPLY_SMALL 8192u

struct worker;
struct conn_chunk; /* of conn-out.c */

/* Input, shared by the messages in it. Each message's bytes are touched by its own request only. */
struct conn_buffer {
    int refs; /* atomic */
    size_t size;
    uint8_t bytes[];
};

/* A Tflush that is to be answered after the request that it hangs on. */
struct flush {
    struct flush *next;
    uint16_t tag, oldtag;
    bool counted;   /* in LIMIT_REQUESTS */
    uint64_t start; /* of stats_start() */
    uint64_t serial;
};

enum request_state {
    REQUEST_RUNNING,
    REQUEST_WAITING, /* for its turns, or for others of the connection to end */
    REQUEST_READY,   /* for a worker */
};

struct request {
    struct conn *conn;
    struct conn_buffer *buffer;
    struct wire_msg msg;
    int error;                /* of decoding or of taking turns: what the reply will be */
    struct fid_turn turns[2]; /* [0]: msg.fid, [1]: msg.fid2; fid is NULL where there is none */
    struct wire_out out;
    uint64_t took; /* nanoseconds, once it was answered */
    size_t reply_room;
    size_t reserved; /* of that, what was taken from the account */
    bool counted;    /* in LIMIT_REQUESTS */
    uint64_t start;  /* of a Tflush: of stats_start() */
    uint64_t serial; /* in the order of reading */
    bool on_heap;

    /* Guarded by conn->lock. */
    struct request *next, *prev; /* in flight */
    struct request *next_waiting;
    enum request_state state;
    bool cancelled; /* not to be run, and not to be answered */
    struct flush *flushes;
};

/* What the sweep compares, to see whether something moved. */
struct conn_watch {
    uint64_t mark;
    int64_t since; /* monotonic microseconds; 0: not watched */
};

struct conn {
    uint64_t id;
    int fd;
    const struct server *server;
    struct peer peer;
    struct limit_account account;
    struct stats_session *stats;

    /* The reader's. */
    struct conn_buffer *in;
    size_t in_start, in_end;
    bool drained;      /* the last recv took all that had come */
    uint64_t in_count; /* bytes received */
    uint32_t skip;     /* bytes left of a message for which there is no memory */
    uint16_t skip_tag;
    int skip_error;
    bool has_gathered; /* perhaps: conn_send_gathered() is due */
    unsigned apart;    /* so many requests are still run beside each other */

    size_t held; /* atomic: bytes of input buffers and of reserved replies */

    pthread_mutex_t lock;
    unsigned holders; /* the role, lookups, requests in flight, queued output: 0 ends it */
    unsigned inflight;
    unsigned running;
    struct request *requests; /* in flight, latest first */
    struct request *waiting;  /* oldest first */
    bool parked, throttled, closing;
    bool want_out; /* replies are waiting for room in the socket */
    uint32_t msize;
    bool versioned;
    GHashTable *fids;    /* number -> struct fid */
    GPtrArray *attached; /* struct path_export that were attached to, held; NULL: none */
    uint64_t messages;   /* taken out of the input */
    uint64_t out_count;  /* bytes sent from the queue */
    bool partial;        /* parked in mid-message; `parked_count` bytes had come by then */
    uint64_t parked_count;
    struct conn_watch quiet, half, unread; /* the sweep's */

    pthread_mutex_t out_lock;
    struct conn_chunk *out, *out_last; /* what the socket did not take yet */
    bool out_busy;                     /* a thread sends without the lock, waiting for room */
    bool out_dead;
    uint8_t *gathered; /* replies that go out with the next one; NULL: never were any */
    size_t gathered_size;
};

/* Takes a connected socket over, and what is known of who is there, and parks it; closes it where
 * there are too many. */
void conn_new(const struct server *server, int fd, const struct peer *peer);

/* Does the reader's work for as long as it has the role; `conn` may be gone afterwards. */
void conn_serve(struct conn *conn, struct worker *worker);

/* The monitor took the reader role from a worker whose request takes long: it is passed on. */
void conn_taken(struct conn *conn);

/* Runs a request that had to wait. */
void conn_run_ready(struct request *request, struct worker *worker);

/* An event of epoll for the connection `id`. */
void conn_event(uint64_t id, uint32_t events, struct worker *worker);

/* Ends the connection `id` in order: requests in flight are answered. False: there is none. */
bool conn_disconnect(uint64_t id);

/* Before a Tattach gives ids of the export: qid_attach(), which counts until conn_detach_all(), and
 * so does what export_find() held, in any case. */
int conn_attach(struct conn *conn, const struct path_export *exp);

/* All fids are gone. */
void conn_detach_all(struct conn *conn);

/* Cuts off who keeps the daemon waiting longer than server->idle_seconds or stall_seconds. */
void conn_sweep(void);

/* So that the daemon can be restarted without cutting anybody off: where there is no connection,
 * none is taken for so many seconds; who comes meanwhile waits. Returns how many connections there
 * are: where it is not 0, nothing has changed. With 0 seconds this ends. Any thread. */
unsigned conn_hold(unsigned seconds);

/* Around accepting one, until conn_new() came back: who is accepted before conn_hold() is counted
 * by it. False: none is to be taken just now. Any thread. */
bool conn_accept_begin(void);
void conn_accept_end(void);

/* Waits until there is no connection. */
void conn_wait_none(void);

/* Ends all connections in order: replies that were queued are sent for some seconds, and requests
 * in flight are waited for up to `seconds`. True: all ended. */
bool conn_close_all(unsigned seconds);

/* ---- for the parts of the connection --------------------------------------------------------- */

/* Gives up a hold, by which nobody frees the connection; the last one frees it. */
void conn_release(struct conn *conn);

/* The same where the count is 0 already. */
void conn_free(struct conn *conn);

/* Gives it an id, and lets others find it. False, which the log tells: there are `max` already. */
bool conn_register(struct conn *conn, unsigned max);

/* From here on it is not found any more. */
void conn_unregister(const struct conn *conn);

/* One was freed: wakes who waits for all of them. */
void conn_tell_empty(void);

/* With its lock held, and held for the caller: conn_release() must follow. NULL: there is none. */
struct conn *conn_find(uint64_t id);

/* With lock held: tells epoll what the connection waits for. */
void conn_arm(struct conn *conn);

/* With lock held: true where a throttled connection may go on; it must be queued then. */
bool conn_may_resume(struct conn *conn);

/* Makes whoever reads see the end; where nobody does, gives the role up in its place. The caller
 * holds the connection. */
void conn_hang_up(struct conn *conn, int how);

/* More bytes than these are not held for messages of one connection, but for a single message. */
size_t conn_window(const struct conn *conn);

/* 1: a whole message begins at in_start; 0: more bytes are needed; else a negative errno. */
int conn_next_message(const struct conn *conn, uint32_t *size);

/* Reads more of the message of `size` bytes at in_start. 1: something came; 0: nothing is there
 * now; -EBUSY: there is no room before requests in flight have ended; -ENOMEM and the like: none at
 * all; else the end or another negative errno. */
int conn_fill(struct conn *conn, uint32_t size);

/* Throws bytes of the message away for which there was no room. As conn_fill(); once conn->skip is
 * 0, it is over. */
int conn_skip(struct conn *conn);

/* Before the connection rests: gives back input buffers that are not needed meanwhile. */
void conn_shrink(struct conn *conn);

void conn_buffer_unref(struct conn *conn, struct conn_buffer *buffer);

/* Sends, or queues. The caller holds the connection by a request in flight or otherwise. */
void conn_send(struct conn *conn, const uint8_t *bytes, size_t size);

/* By who has the role: a small reply to go out with the next one, as more messages have come
 * already. Whoever has the role calls conn_send_gathered() before it reads, and when it gives the
 * role away. */
void conn_gather(struct conn *conn, const uint8_t *bytes, size_t size);

/* Sends what was gathered. The caller holds the connection, or has the role. */
void conn_send_gathered(struct conn *conn);

/* Before the connection rests: gives the room for it back. */
void conn_free_gathered(struct conn *conn);

/* Sends of the queue what the socket takes. */
void conn_flush_out(struct conn *conn);

/* Frees what was not sent. */
void conn_drop_out(struct conn *conn);

#endif
