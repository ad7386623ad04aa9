/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon has done, and for whom: counters and latencies of each kind of message, for each
 * session and for all of them, and the list of sessions.
 *
 * Each session counts for itself, with relaxed atomics; a request costs two readings of the clock
 * and a handful of additions, and no lock. The sum over all sessions is made when somebody asks,
 * and a session that ends leaves its counters to the daemon's. Memory is bounded: a
 * session has at most STATS_SHARDS histograms of fixed size for each kind of message, made when
 * they are needed first.
 *
 * Knows nothing of connections and of what messages mean. Everything here may be called by any
 * thread, as long as the session has not been ended.
 */
#ifndef STATS_H
#define STATS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/limit.h"

/* Latencies in log-linear buckets: the first is below 1.024 us; then four for each power of two, so
 * that a bucket is at most 25 % wide; the last begins at 2^36 ns (69 s) and has no end. */
#define STATS_BUCKETS 106
#define STATS_KINDS   64 /* kind = type / 2 of a T message; 0: unknown types */
#define STATS_SHARDS  4
#define STATS_USERS   8  /* attaches of one session that are remembered, the latest */
#define STATS_WORD    64 /* bytes of a name that are remembered, with the NUL */

/* Of one kind of message. */
struct stats_kind {
    uint64_t count;               /* in snapshots: the sum of the buckets */
    uint64_t errors;              /* answered with Rlerror */
    uint64_t bytes_in, bytes_out; /* whole messages */
    uint64_t nanoseconds;         /* sum, from the message being decoded to the reply being ready */
    uint64_t slowest;             /* nanoseconds */
    uint64_t buckets[STATS_BUCKETS];
};

struct stats_user {
    uint32_t uid; /* n_uname of the Tattach */
    char name[STATS_WORD], export[STATS_WORD];
};

/* Threads count in different cache lines, as far as there are shards. */
struct stats_shard {
    _Alignas(64) int32_t in_flight;        /* atomic */
    struct stats_kind *kinds[STATS_KINDS]; /* atomic pointers; NULL: none came */
};

struct stats_session {
    uint64_t id;
    char *peer;
    int64_t since; /* seconds of the real-time clock */
    const struct limit_account *account;
    uint32_t traced;            /* atomic; trace.h's */
    struct stats_shard *shards; /* STATS_SHARDS */

    /* stats.c's, with its lock. */
    struct stats_session *next, *prev;
    struct stats_user users[STATS_USERS];
    unsigned user_count;
};

/* A session begins: `peer` says who it is (copied); the account is what limit_take() counts. Its
 * end gives the counters to the daemon's; nobody uses it any more then. */
struct stats_session *stats_begin(uint64_t id, const char *peer,
                                  const struct limit_account *account);
void stats_end(struct stats_session *session);

/* Somebody attached. */
void stats_attached(struct stats_session *session, uint32_t uid, const char *name,
                    const char *export);

/* Around each request: stats_start() tells the time, which stats_done() wants back; the answer is
 * what the request took, in nanoseconds. */
uint64_t stats_start(struct stats_session *session);
uint64_t stats_done(struct stats_session *session, uint64_t start, uint8_t type, uint64_t bytes_in,
                    uint64_t bytes_out, bool failed);

/* ---- asking ---------------------------------------------------------------------------------- */

/* One session, as it is now. Strings are owned by the snapshot. */
struct stats_snapshot_session {
    uint64_t id;
    char *peer;
    int64_t since;
    struct stats_user users[STATS_USERS]; /* the latest first */
    unsigned user_count;                  /* in users */
    uint64_t fids, files, locks, memory;  /* as limit.h counts them */
    uint32_t in_flight;
    bool traced;
    uint64_t count, errors, bytes_in, bytes_out;
    struct stats_kind *kinds[STATS_KINDS]; /* copies; NULL: none came */
};

struct stats_snapshot {
    int64_t since, now;      /* seconds of the real-time clock */
    uint64_t sessions_ended; /* before those that are listed */
    uint64_t count, errors, bytes_in, bytes_out;
    struct stats_kind *kinds[STATS_KINDS]; /* of all sessions, ended ones as well */
    GPtrArray *sessions;                   /* struct stats_snapshot_session, by id */
};

/* Each counter is right by itself; as requests go on, two of them may differ by what is in flight.
 * To be freed with stats_snapshot_free(). */
struct stats_snapshot *stats_snapshot(void);
void stats_snapshot_free(struct stats_snapshot *snapshot);

/* The name of a kind, as "Twalk"; "unknown" for 0. */
const char *stats_kind_name(unsigned kind);

/* Where a bucket begins, in nanoseconds, and the one that a latency falls into. */
uint64_t stats_bucket_floor(unsigned bucket);
unsigned stats_bucket(uint64_t nanoseconds);

/* An upper bound of the latency that `permille` of 1000 requests did not exceed: the end of its
 * bucket, at most the slowest; 0 where none came. */
uint64_t stats_quantile(const struct stats_kind *kind, unsigned permille);

/* Writes a snapshot to the log: what SIGUSR1 asks for. */
void stats_log(void);

/* Calls `visit` for each session with the list locked; it must not end or begin one. */
void stats_each(void (*visit)(struct stats_session *session, void *data), void *data);

#endif
