/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ways to break a store, for unit-verify.c: a store with some of everything, and for each way a
 * function that writes to the tables of that store below the library.
 */
#ifndef VERIFY_WAYS_H
#define VERIFY_WAYS_H

#include <glib.h>

#include "store/store.h"

void fill(qidmap_store *store); /* an empty one, with a budget of 2 */

struct way {
    const char *name;
    void (*break_it)(struct qm_txn *txn);
    uint32_t kind; /* of the problem that is found, enum qidmap_problem_kind */
    gboolean mendable;
    const char *words; /* of its text */
};

extern const struct way ways[];
extern const size_t n_ways;

/* Nothing wrong: filesystem 4 is retired, and the alias of 1. */
void alias_right(struct qm_txn *txn);

#endif
