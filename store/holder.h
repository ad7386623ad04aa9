/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who has a store open for writing, and where that process is reached. Owns what this process says
 * of itself. Opens no store.
 */
#ifndef QM_HOLDER_H
#define QM_HOLDER_H

#include <glib.h>

#include "store/qidmap.h"

/* What others are told; "" where nothing is. */
const char *qm_contact(void);
int qm_set_contact(const char *contact, GError **error);

int qm_store_holder(const char *uri, struct qidmap_holder *holder, GError **error);

/* Of backend-xattr.c: pid and name of who has the flock on `fd`, a directory, as /proc tells; FALSE
 * where it does not. */
gboolean qm_flock_holder(int fd, long *pid, char **name);

#endif
