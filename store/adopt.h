/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of bindings, and their adoption by a store; see qidmap_adopt(). */
#ifndef QM_ADOPT_H
#define QM_ADOPT_H

#include <glib.h>

#include "store/qidmap.h"

#define QM_ADOPT_FS_MAX 65536u

int qm_bindings_write(int fd, const struct qidmap_bindings *bindings, GError **error);
int qm_adopt(const char *uri, int fd, const struct qidmap_adopt_options *options,
             struct qidmap_bind_result *result, GError **error);

#endif
