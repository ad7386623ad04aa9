/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies one state of a store into a new LMDB environment, row by row. */
#ifndef QM_LMDB_COPY_H
#define QM_LMDB_COPY_H

#include "store/backend.h"

/*
 * Makes an environment in the empty directory `env_path`, with all rows that the snapshot `from`
 * sees, but `meta` as the record of the store; its transaction is set. Each row is checked. All is
 * synced at the end. `size`: about how many bytes the rows take. 0, or a negative errno and
 * `error`.
 */
int qm_lmdb_copy(struct qm_txn *from, const char *env_path, uint64_t size, struct qm_meta *meta,
                 GError **error);

#endif
