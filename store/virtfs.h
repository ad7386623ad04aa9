/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reader of the xattr layout of 2019. It reads, and nothing else. */
#ifndef QM_VIRTFS_H
#define QM_VIRTFS_H

#include <glib.h>

#include "store/qidmap.h"

#define QM_VIRTFS_URI "virtfs:"
#define QM_VIRTFS_REFUSED                                                                          \
    "a table of 2019 cannot be taken over: its devices are st_dev numbers of one boot, which "     \
    "tell "                                                                                        \
    "nobody which filesystems they were; look at it with `qidmapctl dump`, and make a new store"

typedef int (*qm_virtfs_row)(const struct qidmap_virtfs_entry *entry, void *data);

int qm_virtfs_read(const char *dir, qm_virtfs_row row, void *data, GError **error);

/* The same for a table in memory: 0, -EUCLEAN, -EPROTO, or what `row` returned. */
int qm_virtfs_parse(const void *bytes, gsize size, qm_virtfs_row row, void *data);

#endif
