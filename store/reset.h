/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Empties a store; see qidmap_reset(). */
#ifndef QM_RESET_H
#define QM_RESET_H

#include <glib.h>

#include "store/qidmap.h"

int qm_reset(const char *uri, const struct qidmap_reset_options *options,
             struct qidmap_load_result *result, GError **error);

#endif
