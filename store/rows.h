/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changes of rows of filesystems: written in one transaction, and done in RAM after its commit.
 * register.c and admin.c make the plans. All by the leader.
 */
#ifndef QM_ROWS_H
#define QM_ROWS_H

#include <glib.h>

#include "store/store.h"

/* One row's change. */
struct qm_plan {
    struct qm_fs *fs; /* NULL: a new row */
    struct qidmap_fs row;
    gboolean drop;      /* the row goes, and its rows of the full map with it */
    gboolean drop_full; /* its rows of the full map go */
};

GArray *qm_plans_new(void);
/* A plan that changes nothing yet: the row of `fs` as it stands. It stays the array's, and valid
 * until the next one is added. A row that has a plan already gets no second one. */
struct qm_plan *qm_plan_change(struct qidmap_store *store, GArray *plans, struct qm_fs *fs);
struct qm_plan *qm_plan_new_row(GArray *plans, const struct qidmap_fs *row);

/* Writes and does all plans. `planned`: the store's record with the counters advanced; rows are
 * counted here. */
int qm_plans_commit(struct qidmap_store *store, GArray *plans, const struct qm_meta *planned,
                    GError **error);

/* Deletes what is left of the rows of the full map of retired filesystems that nobody is the heir
 * of, in transactions of bounded size. A plan with drop_full leaves what is beyond that size; so
 * does a crash. */
int qm_rows_sweep(struct qidmap_store *store, GError **error);

/* Deletes rows of the full map of one fs until a plan can drop the rest. */
int qm_rows_shrink(struct qidmap_store *store, struct qm_fs *fs, GError **error);

#endif
