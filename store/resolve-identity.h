/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Comparisons of identities, for the resolver alone.
 */
#ifndef QM_RESOLVE_IDENTITY_H
#define QM_RESOLVE_IDENTITY_H

#include <glib.h>

#include "store/qidmap.h"

enum shared { SHARED_NOTHING, SHARED_NAMES, SHARED_MORE };

/* The first identity of a kind, or NULL. */
const struct qidmap_fsid *qm_fsid_of_kind(const struct qidmap_fsid *list, guint32 count,
                                          guint32 kind);

/* Both lists have identities of this kind, and none in common. */
gboolean qm_fsid_kind_differs(const struct qidmap_fsid *a, guint32 a_count,
                              const struct qidmap_fsid *b, guint32 b_count, guint32 kind);

enum shared qm_fsid_shares(const struct qidmap_fsid *a, guint32 a_count,
                           const struct qidmap_fsid *b, guint32 b_count);

/* Both are trees, and not the same. */
gboolean qm_trees_differ(const char *a, const char *b);

/* One filesystem? For a table of struct qidmap_identity. */
gboolean qm_filesystem_equal(gconstpointer x, gconstpointer y);
guint qm_filesystem_hash(gconstpointer x);

/* The filesystem is that of a live row with its superblock. */
gboolean qm_is_live_row(const struct qidmap_identity *id, const struct qidmap_fs *row);

/* A total order over identities by what is stable from boot to boot. */
int qm_identity_compare(const struct qidmap_identity *a, const struct qidmap_identity *b);

#endif
