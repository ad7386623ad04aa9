/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a file to its object key, where that is a file handle.
 */
#ifndef QM_OBJECT_H
#define QM_OBJECT_H

#include "store/qidmap.h"

/* What qidmap_object_by_handle() does. */
int qm_object_by_handle(uint32_t fs, int fd, const char *name, uint64_t ino,
                        struct qidmap_object *object);

#endif
