/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mounts by which filesystems are identified: those of this process, or, once
 * qidmap_keep_mounts() was called, those that it had then, for ever.
 *
 * A server that shuts itself into a mount namespace with nothing but its exports has other mounts:
 * with new ids at each start, narrower ones, and without those that show the root of a filesystem,
 * or the layers of an overlay. What identifies a filesystem must not change by that, so the host's
 * table is kept, open, together with the host's root directory; and what is asked about is looked
 * up there by its path, which is the same in both.
 */
#ifndef QM_VIEW_H
#define QM_VIEW_H

#include <glib.h>

/* struct qm_mount of each mount; NULL: cannot be read. */
GPtrArray *qm_view_mounts(void);

/* As open(2) with O_CLOEXEC, for an absolute path. */
int qm_view_open(const char *path, int flags);

/* An O_PATH descriptor of the file `fd`, by a mount of `mounts`, the caller's to close. -EAGAIN
 * where the kept mounts have another file, or none, in its place: it is just being mounted, moved
 * or removed. */
int qm_view_find(const GPtrArray *mounts, int fd);

/* What qidmap_keep_mounts() does. */
int qm_view_keep(void);

#endif
