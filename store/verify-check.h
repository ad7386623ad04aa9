/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a store, as the files verify*.c share it: what it knows so far, how it tells of
 * problems, and how it reads and mends rows. Nobody else includes this.
 */
#ifndef QM_VERIFY_CHECK_H
#define QM_VERIFY_CHECK_H

#include "store/verify.h"

/* A filesystem, as far as the check needs it. */
struct qm_check_fs {
    uint32_t number, policy, alias, heir, instance, fsids; /* heir: whose alias it is, or 0 */
    uint32_t first, entries;                               /* slice of `entries` below */
    unsigned whole : 1;                                    /* its row can be read */
    unsigned retired : 1, left_budget : 1, has_bound : 1, has_full : 1, superseded : 1;
    unsigned seen_full : 1, seen_uncovered : 1;
    unsigned colour : 2, aliased : 1;
};

struct qm_check_entry {
    uint64_t top;
    uint32_t n;
    uint32_t bits;
};

struct qm_check {
    struct qm_verify *v;
    struct qm_txn *txn;
    const struct qm_backend_ops *ops;
    GError **error;
    GArray *fs;      /* of struct qm_check_fs, ascending */
    GArray *entries; /* of struct qm_check_entry; each filesystem's slice ascending by range */
    struct qm_cursor *at[QM_TABLES]; /* for lookups */
    uint64_t bad[QM_TABLES];         /* rows that cannot be read */
    uint64_t fsids;                  /* that the filesystems should have */
    uint64_t max_serial, max_n, max_instance;
    uint32_t max_fs;
    uint64_t seed, sum_full, sum_byfull;
    GPtrArray *remove; /* of GBytes: keys of the table that is walked */
};

/* ---- verify-tell.c ---- */

/* `table` QM_TABLES: none. `mend`: 0, QIDMAP_PROBLEM_MENDABLE or _MENDED. */
void qm_check_tell(struct qm_verify *v, uint32_t kind, int table, uint32_t mend, const char *format,
                   ...) G_GNUC_PRINTF(5, 6);
/* A row that cannot be read; `mend` as for qm_check_tell(). */
void qm_check_bad_row(struct qm_check *c, enum qm_table table, struct qm_bytes k, uint32_t mend);
/* Sets the error of the check; returns `e`. */
int qm_check_cannot(struct qm_check *c, int e);

/* ---- verify-rows.c ---- */

/* The row with just that key: 0, -ENOENT or an errno. */
int qm_check_look(struct qm_check *c, enum qm_table table, struct qm_bytes key,
                  struct qm_bytes *value);
/* Whether this very row is there: 0, -ENOENT (no such key), -EUCLEAN (another value; it goes to
 * *value), or an errno. */
int qm_check_has_row(struct qm_check *c, enum qm_table table, const struct qm_record *r,
                     struct qm_bytes *value);
int qm_check_put(struct qm_check *c, enum qm_table table, const struct qm_record *r);
/* Notes that a row of the table that is walked is to go. Returns the flag for qm_check_tell(). */
uint32_t qm_check_take_away(struct qm_check *c, struct qm_bytes key);
/* All rows of the table that another one is derived from are there and can be read. */
gboolean qm_check_is_whole(struct qm_check *c, enum qm_table table, uint64_t noted);
/* Calls `row` for all rows of a table. 0, or a negative errno with the error set, or QM_GROW. */
typedef int (*qm_check_row_func)(struct qm_check *c, struct qm_bytes k, struct qm_bytes v);
int qm_check_rows(struct qm_check *c, enum qm_table table, qm_check_row_func row);

/* ---- the parts, in the order in which qm_verify_txn() asks for them: 0, or as qm_check_rows() */

/* verify-record.c */
int qm_check_record(struct qm_check *c);
/* verify-fs.c: their rows and identities */
int qm_check_filesystems(struct qm_check *c);
/* verify-affix.c */
int qm_check_affix(struct qm_check *c);
/* verify-full.c */
int qm_check_full(struct qm_check *c);
/* verify-fs.c: what they say of each other, and of rows in other tables */
int qm_check_relations(struct qm_check *c);
/* verify-record.c: counts and counters, once all is known */
void qm_check_numbers(struct qm_check *c);

/* verify-fs.c: NULL where it is not there. */
struct qm_check_fs *qm_check_find_fs(struct qm_check *c, uint32_t number);
/* verify-fs.c: the one that is asked for the ids of `info`: its heir's heir and so on, or itself.
 */
const struct qm_check_fs *qm_check_head(struct qm_check *c, const struct qm_check_fs *info);
/* verify-affix.c: the affix entry that covers an inode, or NULL; once qm_check_affix() is done. */
const struct qm_check_entry *qm_check_covering(struct qm_check *c, const struct qm_check_fs *info,
                                               uint64_t ino);

#endif
