/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Binds objects to ids that were given elsewhere; see qidmap_bind(). */
#ifndef QM_BIND_H
#define QM_BIND_H

#include <glib.h>

#include "store/qidmap.h"

/* `coming`: for QIDMAP_DRY_RUN, filesystems that have no row yet and would get one before: number
 * -> policy; or NULL. */
int qm_bind(const char *uri, const struct qidmap_bind_options *options, GHashTable *coming,
            struct qidmap_bind_result *result, GError **error);

/* Order of object keys. */
int qm_object_compare(const struct qidmap_object *a, const struct qidmap_object *b);

#endif
