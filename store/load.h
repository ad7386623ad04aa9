/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes a store of a dump; see qidmap_load(). */
#ifndef QM_LOAD_H
#define QM_LOAD_H

#include <glib.h>

#include "store/qidmap.h"
#include "store/store.h"

/* Beside the public flags: what is there does not raise the counters. */
#define QM_LOAD_FORGET (1u << 31)

/* For what was made of a dump of the store itself: with QIDMAP_LOAD_REPLACE, refused with -EBUSY
 * where the store is no longer at `epoch`. No second dump is made: `backup` has what was there. */
int qm_load_over(const char *uri, const struct qidmap_load_options *options, const char *backup,
                 uint64_t epoch, struct qidmap_load_result *result, GError **error);

/* `backup`: where the store that is replaced is dumped; NULL: a name of ours beside it. */
int qm_load(const char *uri, const struct qidmap_load_options *options,
            struct qidmap_load_result *result, struct qidmap_store **store, GError **error);

#endif
