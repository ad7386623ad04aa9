/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of bench/speed hand to each other: who is measured (speed-peer.c), what is asked
 * (speed-case.c), and the loads (speed-load.c). speed.c has the rounds and the verdicts.
 */
#ifndef BENCH_SPEED_H
#define BENCH_SPEED_H

#include <glib.h>
#include <sys/types.h>

#include "tests/lib/client.h"

/* ---- speed-peer.c: processes ----------------------------------------------------------------- */

struct peer {
    const char *name;      /* "qidmapd", "diod", "floor" */
    const char *transport; /* "unix", "tcp" */
    char *addr, *aname;
    pid_t pid;
    gboolean floor; /* answers with as many bytes as it is told, and does nothing else */

    /* The connection that is measured: raw, as its tags and fids are the cases'. */
    struct client *client;
};

/* Of `floor`, one process for each transport. */
GPtrArray *peers_start(const char *tmp, const char *data, const char *qidmapd, const char *diod,
                       const char *store);
void peers_stop(void);

/* All threads of the process: onto this CPU; -1: onto all that there are. */
void peer_pin(pid_t pid, int cpu);

/* Nanoseconds that the process has run, its ended threads included. */
guint64 peer_cpu(pid_t pid);

/* Bytes of memory that the process has of its own. */
guint64 peer_memory(pid_t pid);

/* Has strace write what all threads of the process call. 0: there is none, or it may not. Its end
 * gives the number of calls. */
pid_t peer_trace(pid_t pid, const char *file);
guint64 peer_trace_end(pid_t tracer, const char *file);

/* A process at the lowest priority for each CPU, so that none is ever halted: waking a virtual CPU
 * up takes longer than all that is to be measured. */
void spinners_start(void);

/* Starts qidmapd alone, with this store: milliseconds until it answered a Tgetattr. */
double peer_start_time(const char *tmp, const char *data, const char *qidmapd, const char *store,
                       pid_t *pid);
void peer_end(pid_t pid);

/* ---- speed-case.c: what is asked ------------------------------------------------------------- */

#define SPEED_ROOT  1u
#define SPEED_FILE  2u /* d/file */
#define SPEED_OPEN  3u /* the same, open for reading and writing */
#define SPEED_DIR   4u /* d */
#define SPEED_NEW   100u
#define SPEED_MSIZE (1024u * 1024 + 24)

#define SPEED_FILE_SIZE (16u * 1024 * 1024)

struct speed_case {
    const char *name;
    double at_most; /* times the limit */
    void (*build)(GPtrArray *frames, guint32 msize);
    void (*naked)(void); /* the system calls that there must be, once */
};

extern const struct speed_case speed_cases[];
extern const guint speed_case_count;

/* Makes what is served, and opens what the naked calls need. */
void speed_data_make(const char *data, guint entries);

/* Removes what a case that failed has left behind. */
void speed_clean(void);

/* Connects, attaches and opens the fids above. */
void speed_attach(struct peer *peer);

/* Compares the ids in readdir, walk and getattr of all entries of the directory; exits where two
 * differ. How many were compared. */
guint speed_check_ids(struct peer *peer, const char *dir);

/* ---- speed-load.c: asking -------------------------------------------------------------------- */

struct speed_result {
    double p50;    /* microseconds for the whole case; 0: the peer cannot do it */
    double cpu;    /* of the server, for the whole case */
    guint64 count; /* of cases */
};

/* One after the other for `seconds`. `replies`: the sizes of the replies, which are noted where the
 * peer is a server, and asked for where it is the floor. */
struct speed_result speed_run(struct peer *peer, const GPtrArray *frames, GArray *replies,
                              double seconds);

/* The naked calls for `seconds`: the median of small groups, in microseconds. */
double speed_naked(const struct speed_case *one, double seconds);

/* `depth` requests in one send, all replies, and so on: server CPU for each request, microseconds.
 * walk: Twalk, then Tclunk, each counted. */
double speed_deep(struct peer *peer, gboolean walk, guint depth, double seconds);

/* Bytes in a second: reads or writes of `size` bytes, `depth` under way. 0: msize is too small. */
double speed_stream(struct peer *peer, gboolean write, guint32 size, guint depth, double seconds);

/* A directory: server CPU for each entry, microseconds; of getdents64 alone. */
double speed_readdir(struct peer *peer, const char *dir, double seconds);
double speed_getdents(const char *path, double seconds);

/* Tgetattr over so many connections at once, a thread of the client for each: answers in a second,
 * and microseconds of CPU for each answer. */
struct speed_many {
    double rate, cpu, client_cpu;
};
struct speed_many speed_connections(const struct peer *peer, guint connections, double seconds);

/* speed-store.c: makes a store with so many rows of the full map. */
void speed_store_make(const char *uri, guint64 rows);

double speed_now(void);
int speed_compare_doubles(const void *a, const void *b);
void speed_die(const char *what) G_GNUC_NORETURN;

#endif
