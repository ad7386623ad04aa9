/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a whole store: every row, and every invariant of the map. Works on a backend and a
 * transaction, not on an open store, so that a store that qm_store_open() refuses can be looked at.
 * load.c uses it for what it has built.
 */
#ifndef QM_VERIFY_H
#define QM_VERIFY_H

#include <glib.h>

#include "store/backend.h"
#include "store/dump.h"
#include "store/qidmap.h"

struct qm_verify {
    void (*problem)(void *data, const struct qidmap_problem *problem); /* may be NULL */
    void *data;
    struct qm_progress progress;
    gboolean mend; /* the transaction writes: put right what other rows prove */

    /* Results. */
    struct qm_meta meta; /* where have_meta; with `mend` as it was written */
    gboolean have_meta;
    uint64_t rows[QM_TABLES];
    uint64_t problems, mendable, mended; /* all found; of these, those of each kind */
};

/*
 * Looks at all that `txn` (SNAPSHOT or WRITE) sees. 0 when it could look, whatever it found; else a
 * negative errno with `error` set: -ESTALE, -ECANCELED, QM_GROW (mending; `error` is not set).
 * Memory: some 16 bytes for each affix entry and 48 for each filesystem; nothing for each row of
 * the full map.
 */
int qm_verify_txn(struct qm_verify *v, struct qm_txn *txn, GError **error);

/* Tells of a problem that was found before there was a transaction. */
void qm_verify_structure(struct qm_verify *v, const char *text);

const char *qm_problem_name(uint32_t kind);

/* The store at `uri`, and an open backend. */
int qm_verify_uri(const char *uri, const struct qidmap_verify_options *options,
                  struct qidmap_verify_result *result, GError **error);
int qm_verify_backend(struct qm_backend *backend, const struct qidmap_verify_options *options,
                      struct qidmap_verify_result *result, GError **error);
/* repair.c: mends, after a backup to `path`. */
int qm_repair(struct qm_backend *backend, const char *path,
              const struct qidmap_verify_options *options, struct qidmap_verify_result *result,
              GError **error);

/* Objects and bytes in words, for the texts of problems. Freed by the caller. */
char *qm_object_text(const struct qidmap_object *object);
char *qm_bytes_text(struct qm_bytes bytes);

#endif
