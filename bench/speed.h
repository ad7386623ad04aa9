/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of bench/speed hand to each other: who is measured (speed-peer.c), what is asked
 * (speed-case.c), the loads (speed-load.c), one request at a time (speed-one.c), and what is told
 * of it (speed-report.c). speed.c has the other rounds.
 */
#ifndef BENCH_SPEED_H
#define BENCH_SPEED_H

#include <glib.h>
#include <sys/types.h>

#include "tests/lib/client.h"

/* ---- speed-peer.c: processes ----------------------------------------------------------------- */

struct peer {
    const char *name;      /* "qidmapd", "diod", what --peer says; "exchange", "floor" */
    const char *transport; /* "unix", "tcp" */
    char *addr, *aname;
    char **argv; /* what was started; NULL: a process of ours */
    pid_t pid;

    /* Answers with as many bytes as it is told; "exchange" does nothing else, "floor" makes the
     * naked system calls of the case, too. */
    gboolean bare, floor;

    /* The qid paths of d/file and d, as the first connection was told: 0 before that. */
    guint64 file_id, dir_id;

    /* The connection that is measured: raw, as its tags and fids are the cases'. */
    struct client *client;
};

/* A server that is to be measured: its name, and the program, which is told how to serve by what
 * the name of its file begins with, qidmapd or diod. */
struct peer_spec {
    const char *name, *file;
};

/* Exchange and floor first, one process for each transport; then the servers, the first of which is
 * the one whose targets are judged. */
#define PEERS_BARE        4u
#define SPEED_SERVERS_MAX 14u
GPtrArray *peers_start(const char *tmp, const char *data, const struct peer_spec *specs,
                       guint count);
void peers_stop(void);

/* Ends the server, and starts it anew; its connections are gone. */
void peer_restart(GPtrArray *peers, const char *name, const char *tmp);
struct peer *peer_find(const GPtrArray *peers, const char *name, const char *transport);

/* All threads of the process: onto this CPU; -1: onto all that there are. */
void peer_pin(pid_t pid, int cpu);

/* Nanoseconds that the process has run, its ended threads included. */
guint64 peer_cpu(pid_t pid);

/* Bytes of memory that the process has of its own. */
guint64 peer_memory(pid_t pid);

/* Has strace write what all threads of the process call. 0: there is none, or it may not. Its end
 * gives the number of calls, and adds to `names` how often each of them was called. */
pid_t peer_trace(pid_t pid, const char *file);
guint64 peer_trace_end(pid_t tracer, const char *file, GHashTable *names);

/* A process at the lowest priority for each CPU, so that none is ever halted: waking a virtual CPU
 * up takes longer than all that is to be measured. False: there is no such priority here. */
gboolean spinners_start(void);

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
    void (*floor)(void); /* what the floor calls instead; NULL: the same */
};

extern const struct speed_case speed_cases[];
extern const guint speed_case_count;

/* Its number. There must be one of that name. */
guint speed_case_number(const char *name);

/* Makes the floor's calls of a case, or SPEED_LOOKUP, once: what is written comes from `from`, what
 * is read goes to `to`, SPEED_BLOCK bytes at most. */
#define SPEED_LOOKUP (speed_case_count)
#define SPEED_BLOCK  (512u * 1024)
void speed_floor_once(guint which, const guint8 *from, guint8 *to);

/* Makes what is served, and opens what the naked calls need. */
void speed_data_make(const char *data, guint entries);

/* Removes what a case that failed has left behind. */
void speed_clean(void);

/* Connects, attaches and opens the fids above; their ids must be those of the first time. */
void speed_attach(struct peer *peer);

/* A server that gives wrong ids is not measured: all these exit where one is wrong.
 *
 * speed_id_right looks at the id in a reply about d/file. speed_check_ids compares those in readdir
 * with walk and getattr, each `step`th, among themselves, and with what any connection to a server
 * of this name was told before. speed_id_entry does so for one entry of a listing. How many were
 * compared. */
void speed_id_right(const struct peer *peer, const guint8 *reply);
guint speed_check_ids(struct peer *peer, const char *dir, guint step);
guint speed_check_made(struct peer *peer);
void speed_id_entry(const struct peer *peer, guint64 id, const guint8 *name, guint size);

/* ---- speed-load.c: asking -------------------------------------------------------------------- */

struct speed_result {
    double p50;    /* microseconds for the whole case; 0: the peer cannot do it */
    double cpu;    /* of the server, for the whole case */
    guint64 count; /* of cases */
};

/* One after the other for `seconds`. `replies`: the sizes of the replies, which are noted where the
 * peer is a server, and asked for where it is the floor. */
struct speed_result speed_run(struct peer *peer, const struct speed_case *one,
                              const GPtrArray *frames, GArray *replies, double seconds);

/* The naked calls for `seconds`: the median of small groups, in microseconds. */
double speed_naked(const struct speed_case *one, double seconds);

/* `depth` requests in one send, all replies, and so on: microseconds of server CPU for each. */
enum speed_deep {
    SPEED_DEEP_GETATTR,
    SPEED_DEEP_WALK, /* Twalk, then Tclunk, each counted */
    SPEED_DEEP_READ, /* of 4 KiB */
};
#define SPEED_DEEP_COUNT 3
double speed_deep(struct peer *peer, enum speed_deep deep, guint depth, double seconds);

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

/* ---- speed-one.c ------------------------------------------------------------------------------
 */

/* All cases whose name has `only` (NULL: all) in it, one request at a time; `calls`: their system
 * calls are counted before. */
void speed_one_run(GPtrArray *peers, const char *tmp, const char *only, int rounds, double slice,
                   gboolean calls);

/* ---- speed-report.c ---------------------------------------------------------------------------
 */

/* Of a case and a server; microseconds, and 0 for what there is not. */
struct report_figure {
    double p50, exchange, naked, to_limit, cpu, cpu_to_diod, cpu_to_floor, calls;
    const char *which; /* of `calls` */
};

/* Files for figures and targets; NULL: none. */
void report_open(const char *figures_path, const char *targets_path);
void report_figure(const char *name, const char *transport, const char *server,
                   const struct report_figure *f);

/* A target: `value` must be at most (or at least) `target`. `floor`: what the least that can be
 * done would reach; 0: unknown. The verdict: "PASS", "short", "not measured" for a value of 0. */
const char *report_target(const char *what, const char *transport, double value, const char *unit,
                          double target, gboolean at_least, double floor);
void report_close(void);

double speed_now(void);
int speed_compare_doubles(const void *a, const void *b);
void speed_die(const char *what) G_GNUC_NORETURN;

#endif
