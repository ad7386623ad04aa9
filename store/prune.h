/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deletes rows of the full map whose objects are gone; see qidmap_prune(). */
#ifndef QM_PRUNE_H
#define QM_PRUNE_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

int qm_prune(struct qidmap_store *store, const struct qidmap_prune_options *options,
             struct qidmap_prune_result *result, GError **error);

/* prune-missing.c */
int qm_prune_missing(struct qidmap_store *store, const struct qidmap_missing_options *options,
                     struct qidmap_prune_result *result, GError **error);

/* prune-fs.c */
int qm_store_seen(struct qidmap_store *store, const struct qidmap_live *live, size_t n_live,
                  GError **error);
int qm_prune_fs(struct qidmap_store *store, const struct qidmap_prune_fs_options *options,
                struct qidmap_prune_result *result, GError **error);

#endif
