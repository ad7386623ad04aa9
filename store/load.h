/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes a store of a dump; see qidmap_load(). */
#ifndef QM_LOAD_H
#define QM_LOAD_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

/* Beside the public flags: what is there does not raise the counters. */
#define QM_LOAD_FORGET (1u << 31)

/* `backup`: where the store that is replaced is dumped; NULL: a name of ours beside it. */
int qm_load(const char *uri, const struct qidmap_load_options *options,
            struct qidmap_load_result *result, struct qidmap_store **store, GError **error);

#endif
