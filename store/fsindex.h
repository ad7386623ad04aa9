/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which rows have an identity: a table in RAM, so that a new filesystem is compared with the few
 * rows that could be its own, however many there are. Owns no rows; the map's lock covers it.
 */
#ifndef QM_FSINDEX_H
#define QM_FSINDEX_H

#include <glib.h>

#include "store/qidmap.h"

struct qm_fs;

struct qm_fsindex {
    GHashTable *nodes; /* identity -> its rows */
    guint64 seed;      /* of the hash: whoever makes an image chooses its uuid */
};

void qm_fsindex_init(struct qm_fsindex *index, guint64 seed);
void qm_fsindex_clear(struct qm_fsindex *index);

/* Adds a row below all identities of the list, or takes it away. */
void qm_fsindex_add(struct qm_fsindex *index, struct qm_fs *fs, const struct qidmap_fsid *fsid,
                    guint32 count);
void qm_fsindex_remove(struct qm_fsindex *index, struct qm_fs *fs, const struct qidmap_fsid *fsid,
                       guint32 count);

/* The rows (struct qm_fs) that have this identity, in no order; NULL where there are none. */
const GPtrArray *qm_fsindex_find(const struct qm_fsindex *index, const struct qidmap_fsid *fsid);

gboolean qm_fsid_equal(const struct qidmap_fsid *a, const struct qidmap_fsid *b);
gboolean qm_fsid_listed(const struct qidmap_fsid *list, guint32 count,
                        const struct qidmap_fsid *fsid);

#endif
