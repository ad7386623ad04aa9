/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handle of a store, as the files of this folder share it. store.c opens and closes,
 * store-load.c loads, lookup.c looks up; commit.c makes new mappings, recovery.c is for what goes
 * wrong there; register.c makes rows of filesystems; iter.c walks.
 *
 * Locks, in the order in which they may be taken:
 *   the leader's role (`leading`; not a mutex: one thread has it, and only that one writes to the
 *   backend and changes the tables in RAM) > lock > map.lock > locks inside the backend.
 * Nobody waits for the role while holding a lock. Locks are those of pthread, not of glib: thread
 * sanitizer does not see into glib's.
 */
#ifndef QM_STORE_H
#define QM_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include <glib.h>

#include "store/backend.h"
#include "store/hits.h"
#include "store/map.h"
#include "store/qidmap.h"

struct qm_work;
struct qm_marks;

/* What the counters must at least be before anything new is mapped: ids below may have been seen by
 * somebody. */
struct qm_floor {
    uint64_t next_fs, next_affix, next_serial, next_instance;
};
/* Where nobody knows what was given after `meta`: over more than can have been. */
void qm_floor_leap(struct qm_floor *floor, const struct qm_meta *meta);

/* Serials like this are given where ids from elsewhere were bound, or a clock was wrong: that a
 * store which was put back and went on by the clock has passed them is not sure. */
gboolean qm_beyond_clock(uint64_t next_serial);
/* Where the counters go on, of a store with `m`, after ids from elsewhere were bound that end where
 * they stand. Ids that no leap of this store would have passed, beyond the clock and beyond the
 * first indices, are passed by a leap: the same may be bound again after older files were put
 * back, and what was given behind them the first time is not known then. */
void qm_pass_bound(const struct qm_meta *m, uint64_t *next_serial, uint64_t *next_affix);

struct qidmap_store {
    struct qm_backend *backend;
    char *uri;
    gboolean writable;
    struct qm_map map;

    pthread_mutex_t lock;   /* of all below but `broken` */
    pthread_cond_t changed; /* work was done, or the role is free */
    gboolean leading;       /* somebody has the role */
    struct qm_work *queue;  /* new mappings that nobody has taken yet */
    struct qm_work **queue_end;
    struct qm_meta meta; /* as on stable storage; written by the leader */
    uint64_t commits, commit_nanoseconds, commit_slowest; /* as in struct qidmap_stats */
    char *trouble; /* why nothing new is mapped, or NULL; written by the leader */

    /* Of the leader alone. */
    uint64_t session; /* number of this time of writing */
    uint8_t boot[16]; /* the boot whose predecessors' rows were dropped */
    gboolean boot_known;
    gboolean swept;  /* rows of the full map that a crash left behind are gone */
    uint64_t opened; /* epoch at the opening */
    int blocked;     /* what qm_store_ready() gave when the role was taken */
    struct qm_floor floor;
    uint64_t served_before;    /* seconds, at the opening */
    gint64 opened_at;          /* monotonic time, us; constant, as the former */
    gint64 retry_at;           /* monotonic time, us: nothing is tried again before */
    gint64 pause, pause_first; /* us */

    pthread_mutex_t marks_lock; /* of `marks`; the last of all locks */
    struct qm_marks *marks;     /* or NULL */

    _Atomic int broken;       /* 0, or the errno that ended all writing, or interrupted it */
    _Atomic unsigned pruning; /* odd: the leader is deleting rows of the full map of a live
                                 filesystem; larger by one at each beginning and end of that */
    _Atomic int marking;      /* answers from the full map leave marks: see prune-marks.h */
    _Atomic uint64_t made;    /* as in struct qidmap_stats */
    struct qm_hits hits;      /* rows of the full map that readers found */
    /* How often rows that were there may have changed or gone, after each time: the generation of
     * what `hits` knows. */
    _Atomic uint64_t rewrites;
    _Atomic uint64_t given; /* next_serial of `meta`, for readers after `broken` */
};

/* The backend that `uri` names; *place gets what stands behind the colon. NULL with -EINVAL. */
const struct qm_backend_ops *qm_backend_find(const char *uri, const char **place, GError **error);

/* How a store is opened, beyond the public flags; tests use it. */
struct qm_open_config {
    uint64_t map_size;   /* 0: the backend's choice */
    int64_t retry_pause; /* us until recovery is tried; 0: the usual second */
};

struct qidmap_store *qm_store_open(const char *uri, unsigned flags,
                                   const struct qidmap_params *params,
                                   const struct qm_open_config *config, GError **error);
/* Of a backend that is open for writing and has its rows; it is the store's from now on. */
struct qidmap_store *qm_store_of(const char *uri, struct qm_backend *backend, GError **error);
/* store-load.c: fills the tables in RAM of a new handle, and checks them. */
int qm_store_load(struct qidmap_store *store, GError **error);
void qm_store_close(struct qidmap_store *store);
void qm_store_stats(struct qidmap_store *store, struct qidmap_stats *stats);

/* lookup.c: 0, -ENOENT or another errno. Make nothing. */
int qm_store_find(struct qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t *path);
int qm_store_find_object(struct qidmap_store *store, const struct qidmap_object *object,
                         uint64_t *path);
int qm_store_reverse(struct qidmap_store *store, uint64_t path, struct qidmap_object *object);
int qm_store_fs_get(struct qidmap_store *store, uint32_t number, struct qidmap_fs *row);

/* The id of an object in the full map, as the transaction sees it; the row behind it is checked.
 * `given`: serials from here on do not count. */
int qm_full_get(struct qm_txn *txn, const struct qidmap_object *object, uint64_t given,
                uint64_t *path);

/* The id that an alias of `fs` has for an object of it, or -ENOENT. `txn` may be NULL: then one is
 * begun where the full map is to be asked. */
int qm_store_ask_aliases(struct qidmap_store *store, struct qm_txn *txn, const struct qm_fs *fs,
                         const struct qidmap_object *object, uint64_t *path);

/* Whether objects of this kind are mapped under this policy: no file may have two keys. */
gboolean qm_policy_takes(uint32_t policy, uint8_t kind);

/* One object that is to be mapped. */
struct qm_want {
    struct qidmap_object object;
    int result;
    uint64_t path;
};

/* commit.c: maps all, in one commit with whatever else waits. */
void qm_store_map(struct qidmap_store *store, struct qm_want *wants, size_t count);

/* recovery.c */

/* Before something new is written: recovers from a failed commit, at most once in a while, and
 * raises the counters where that is due. 0, or why nothing can be written. By the leader. */
int qm_store_ready(struct qidmap_store *store);
/* A write failed with `e`, and perhaps not wholly: `meta` has the counters that it may have stored.
 * Nothing is written before qm_store_ready() has brought what is stored to a new place. By the
 * leader. */
void qm_store_failed(struct qidmap_store *store, const struct qm_meta *meta, int e);
/* Brings what is stored to a new place, without what nobody uses. 0, or an errno with `error` set:
 * then it is where it was, and where that is doubtful, nothing is written before it has been
 * brought to yet another. By the leader, of a backend that can. */
int qm_store_renew(struct qidmap_store *store, GError **error);
/* 0, or the errno and text of what keeps new mappings from being made. */
int qm_store_health(struct qidmap_store *store, GError **error);
/* For the leader, before it writes: 0, or what qm_store_ready() gave when the role was taken, or
 * has gone wrong since. */
int qm_store_blocked(struct qidmap_store *store, GError **error);
/* Damage was met: nothing new is mapped any more. Any thread. */
void qm_store_damaged(struct qidmap_store *store);

/* Takes and gives back the leader's role; taking it calls qm_store_ready(), which may raise
 * counters in `meta`. The queue goes on with the next waiting thread. */
void qm_store_lead(struct qidmap_store *store);
void qm_store_unlead(struct qidmap_store *store);
/* Waits until rows are no longer being deleted. Not by the leader. */
void qm_store_wait(struct qidmap_store *store);
/* Writes `meta` with its epoch and transaction, commits, and takes it over. Ends `txn` in every
 * case. 0; QM_GROW or -ENOSPC: nothing was changed; or another errno, which is then remembered in
 * `broken`. */
int qm_store_commit(struct qidmap_store *store, struct qm_txn *txn, struct qm_meta *meta);
/* The same for a transaction that adds rows and changes none of the full map: what readers found
 * there stays true. */
int qm_store_commit_added(struct qidmap_store *store, struct qm_txn *txn, struct qm_meta *meta);
/* A row that was noted as seen so many seconds ago is not written again for that alone. */
#define QM_SEEN_FRESH 60u
/* Seconds of time served, with those of now. */
uint64_t qm_store_served(const struct qidmap_store *store);
int qm_txn_put(struct qm_txn *txn, enum qm_table table, const struct qm_record *record);
/* -EUCLEAN where the counters that `txn` sees are not those in RAM. */
int qm_store_check_meta(struct qidmap_store *store, struct qm_txn *txn);

/* register.c: what qidmap_register() and qidmap_register_mounted() decide and store. */
struct qm_registration {
    const struct qidmap_identity *identities;
    size_t count;
    const struct qidmap_live *live;
    size_t n_live;
    gboolean refuse;
    gboolean split_weak;
    const gboolean *can_mark; /* count; NULL: none */
    gboolean (*present)(const struct qidmap_hints *old, const struct qidmap_hints *now);
    uint32_t *numbers; /* out, count: 0 where it was refused */
    uint32_t *flags;   /* out, count: QIDMAP_MOUNTED_*; or NULL */
    uint32_t *others;  /* out, count; or NULL */
    gboolean *marks;   /* out, count: to be given a marker; one of each filesystem; or NULL */
};
int qm_store_register(struct qidmap_store *store, const struct qm_registration *registration,
                      GError **error);
int qm_store_recognise(struct qidmap_store *store, const struct qidmap_identity *identities,
                       size_t count, uint32_t *numbers);
/* Takes what was seen of filesystems into their rows. */
int qm_store_update(struct qidmap_store *store, const struct qidmap_identity *identities,
                    const uint32_t *numbers, size_t count, GError **error);

/* mounted.c, with what it does to the world outside: qidmap_mark(), and the question whether a
 * device is still there; or what a test has in their place. */
struct qm_outside {
    int (*mark)(int fd, struct qidmap_identity *identity, struct qidmap_error *error);
    gboolean (*present)(const struct qidmap_hints *old, const struct qidmap_hints *now);
};
int qm_store_register_mounted(struct qidmap_store *store, struct qidmap_mounted *mounted,
                              size_t count, const struct qidmap_register_options *options,
                              const struct qm_outside *outside, GError **error);

/* admin.c */
int qm_store_alias(struct qidmap_store *store, uint32_t old_fs, uint32_t new_fs, GError **error);
int qm_store_retire(struct qidmap_store *store, uint32_t fs, GError **error);
/* The same where it was last seen at `seen`; else nothing is done, and *done is FALSE. */
int qm_store_retire_unseen(struct qidmap_store *store, uint32_t fs, uint64_t seen, gboolean *done,
                           GError **error);
int qm_store_set_policy(struct qidmap_store *store, uint32_t fs, uint32_t policy, gboolean renumber,
                        uint32_t *new_fs, GError **error);

#endif
