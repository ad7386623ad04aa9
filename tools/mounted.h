/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mounted on this host, as far as the filesystems of a store are concerned: each mount with
 * what it is, and which row of the store that is. Knows nothing of files.
 */
#ifndef TOOLS_MOUNTED_H
#define TOOLS_MOUNTED_H

#include <glib.h>

#include "tools/sight.h"

struct mounted {
    GPtrArray *paths; /* of the mount points */
    GArray *fds;      /* int, O_PATH; -1 where it cannot be opened */
    GArray *identity; /* struct qidmap_identity; count 0: it cannot be told, the type is in hints */
    GArray *fs;       /* guint32; 0: none of the store */
};

/* NULL where the mounts cannot be read; has told it. */
struct mounted *mounted_look(sight *sight, qidmap_store *store);
void mounted_free(struct mounted *mounts);
typedef struct mounted mounted;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(mounted, mounted_free)

/* Why the filesystem of `row` cannot be trusted to be the one that is mounted here, for people;
 * NULL where it can. Static storage. */
const char *mounted_doubt(const struct mounted *mounts, const struct qidmap_fs *row);

#endif
