/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes a store smaller; see qidmap_compact(). */
#ifndef QM_COMPACT_H
#define QM_COMPACT_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

int qm_compact(struct qidmap_store *store, gboolean dry_run, struct qidmap_compact_result *result,
               GError **error);

#endif
