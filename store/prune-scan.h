/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at a mounted filesystem for the objects that it has, and marks the rows of those. Knows
 * nothing of stores.
 */
#ifndef QM_PRUNE_SCAN_H
#define QM_PRUNE_SCAN_H

#include "store/dump.h"
#include "store/prune-marks.h"

/* A filesystem that is looked at. */
struct qm_scan {
    int root;      /* its root directory */
    gboolean bare; /* nothing is mounted on what is seen through `root` */
    struct qm_marks *marks;
    qidmap_progress_func progress; /* may be NULL; names looked at, and a total of 0 */
    void *data;
};

/* The root directory of the filesystem that is mounted at `mounted`, without what is mounted upon
 * it where that can be had (*bare); for the caller to close. -EXDEV: that mount shows a part of it
 * only. */
int qm_scan_open(int mounted, gboolean *bare, GError **error);

/* Asks for each object of kind HANDLE whether it can be opened, and marks those that can. */
void qm_scan_handles(struct qm_scan *scan, const struct qidmap_object *objects, size_t count);

/*
 * Marks every object that has a name, and those that this process has open. 0: what has no mark
 * now, and was not asked for meanwhile, does not exist, or has no name and is open elsewhere. Else
 * it is not known what exists: -EBUSY what is under a mount cannot be seen, or the filesystem
 * changes all the time; -EACCES and others: something cannot be read; -ECANCELED.
 */
int qm_scan_names(struct qm_scan *scan, GError **error);

#endif
