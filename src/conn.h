/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One client: frames in, requests run, frames out.
 *
 * At any time at most one thread has the *reader role* of a connection: it alone touches the input
 * buffer, and takes messages out of it in order. It answers a message that comes alone itself, and
 * goes on reading: two system calls, no other thread woken. Where more messages are buffered, or
 * its own will take long, it passes the role on first (worker.h); and the monitor takes the role
 * from a thread whose request has run for too long. Where the role rests with no thread, the
 * connection is either
 *   parked     waiting in epoll for input,
 *   throttled  waiting until requests in flight have ended, or the client has read its replies, or
 *   queued     waiting for a worker.
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
#include "src/server.h"
#include "src/wire.h"

#define CONN_INFLIGHT_MAX 32     /* fewer than there are threads */
#define CONN_FIRST_ID     65536u /* smaller numbers in epoll are listeners and the like */

struct worker;

/* Input, shared by the messages in it. Each message's bytes are touched by its own request only. */
struct conn_buffer {
    int refs; /* atomic */
    size_t size;
    uint8_t bytes[];
};

struct request {
    struct conn *conn;
    struct conn_buffer *buffer;
    struct wire_msg msg;
    int error;                /* of decoding or of taking turns: what the reply will be */
    struct fid_turn turns[2]; /* [0]: msg.fid, [1]: msg.fid2; fid is NULL where there is none */
    struct wire_out out;

    /* Guarded by conn->lock. */
    struct request *next, *prev; /* in flight */
    uint16_t flush_tags[CONN_INFLIGHT_MAX];
    unsigned flush_count; /* Tflush messages to be answered after this one */
};

struct conn {
    uint64_t id;
    int fd;
    const struct server *server;
    struct limit_account account;

    /* The reader's. */
    struct conn_buffer *in;
    size_t in_start, in_end;

    pthread_mutex_t lock;
    pthread_cond_t turn_came;
    unsigned turn_waiters;
    unsigned holders; /* the role, lookups and requests in flight: 0 ends the connection */
    unsigned inflight;
    struct request *requests; /* in flight, latest first */
    bool parked, throttled, closing;
    bool want_out; /* replies are waiting for room in the socket */
    uint32_t msize;
    bool versioned;
    GHashTable *fids; /* number -> struct fid */

    pthread_mutex_t out_lock;
    GByteArray *out; /* what the socket did not take yet */
    size_t out_sent;
    bool out_dead;
};

/* Takes a connected socket over, and parks it. */
void conn_new(const struct server *server, int fd);

/* Does the reader's work for as long as it has the role; `conn` may be gone afterwards. */
void conn_serve(struct conn *conn, struct worker *worker);

/* An event of epoll for the connection `id`. */
void conn_event(uint64_t id, uint32_t events, struct worker *worker);

/* Ends all connections in order; waits for requests in flight up to `seconds`. True: all ended. */
bool conn_close_all(unsigned seconds);

#endif
