/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deletes rows of the full map whose objects are gone; see qidmap_prune(). */
#ifndef QM_PRUNE_H
#define QM_PRUNE_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

int qm_prune(struct qidmap_store *store, const struct qidmap_prune_options *options,
             struct qidmap_prune_result *result, GError **error);

#endif
