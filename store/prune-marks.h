/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Marks on rows of the full map: what was seen to exist while rows are looked for that nobody
 * needs. One set for a store at a time. Knows nothing of filesystems, nor why a row is marked.
 *
 * While a set is raised (qm_marks_raise()) every answer from the full map marks its row before it
 * is given (qm_marks_touch()): what somebody asked for stays. Rows have their place by a digest of
 * the object key without the number of the filesystem, so that a row and the alias that is asked
 * first are one. Two keys with one digest share a mark: then a row too many stays, never one too
 * few.
 */
#ifndef QM_PRUNE_MARKS_H
#define QM_PRUNE_MARKS_H

#include <stdatomic.h>

#include "store/store.h"

struct qm_marks {
    uint64_t seed;
    GArray *digests;         /* uint64_t; ascending and each once after qm_marks_sort() */
    _Atomic uint8_t *marked; /* one for each */
    unsigned kinds;          /* 1 << kind of the objects in it */
};

struct qm_marks *qm_marks_new(void);
void qm_marks_free(struct qm_marks *marks);

/* Takes a row in; before qm_marks_sort(), which ends that. */
void qm_marks_add(struct qm_marks *marks, const struct qidmap_object *object);
void qm_marks_sort(struct qm_marks *marks);

/* Any thread. A key that is in no row is no error. */
void qm_marks_set(struct qm_marks *marks, const struct qidmap_object *object);
/* TRUE also for a key that is in no row. */
gboolean qm_marks_get(struct qm_marks *marks, const struct qidmap_object *object);
/* Rows without a mark, about. */
uint64_t qm_marks_left(struct qm_marks *marks);

/* From now on answers leave marks in the set. -EBUSY: another one is raised. */
int qm_marks_raise(struct qidmap_store *store, struct qm_marks *marks);
void qm_marks_lower(struct qidmap_store *store);
/* By whoever answers, after the row was found, and before the flag `pruning` is looked at. */
void qm_marks_touch(struct qidmap_store *store, const struct qidmap_object *object);

#endif
