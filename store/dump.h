/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A state of a store as a dump: JSON lines in the order of the tables, with a checksum. Streams:
 * memory does not grow with the store.
 */
#ifndef QM_DUMP_H
#define QM_DUMP_H

#include <glib.h>

#include "store/backend.h"
#include "store/qidmap.h"

/* Calls `progress` (may be NULL) every so many rows. */
struct qm_progress {
    qidmap_progress_func call;
    void *data;
    uint64_t done, total;
};
#define QM_PROGRESS_STEP 64u
/* 0 or -ECANCELED. */
int qm_progress_step(struct qm_progress *progress);

/*
 * Dumps what `txn` sees, a SNAPSHOT or WRITE one. `lenient`: for backups: rows that cannot be read
 * become lines of their own in place of an end to the work; such a dump cannot be loaded.
 */
int qm_dump(struct qm_txn *txn, gboolean lenient, qidmap_write_func write, void *data,
            struct qm_progress *progress, GError **error);

/* The same into a file: under another name first, which is synced and then renamed to `path`. With
 * `replace` FALSE a file that is there is an error, and stays. */
int qm_dump_file(struct qm_txn *txn, gboolean lenient, const char *path, gboolean replace,
                 struct qm_progress *progress, GError **error);

/* The record of the store, as `txn` sees it. 0, -ENOENT, -EUCLEAN, -EPROTO. */
int qm_read_meta(struct qm_txn *txn, struct qm_meta *meta);

/* A name for a backup of the store at `place`: beside it, of this second and process. */
char *qm_backup_name(const char *place, const char *what);

#endif
