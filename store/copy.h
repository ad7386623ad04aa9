/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies a store to another place; see qidmap_store_copy(). */
#ifndef QM_COPY_H
#define QM_COPY_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

int qm_copy(struct qidmap_store *store, const char *uri, const struct qidmap_copy_options *options,
            struct qidmap_load_result *result, GError **error);

#endif
