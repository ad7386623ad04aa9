/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The walk over all rows of one state of a store. */
#ifndef QM_ITER_H
#define QM_ITER_H

#include "store/store.h"

int qm_iter_open(struct qidmap_store *store, struct qidmap_iter **iter);
int qm_iter_next(struct qidmap_iter *iter, struct qidmap_row *row);
const char *qm_iter_uri(const struct qidmap_iter *iter);
void qm_iter_close(struct qidmap_iter *iter);

#endif
