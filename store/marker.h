/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The marker: an xattr of ours on the root of a filesystem, which tells it from its clones and, on
 * FUSE, identifies it.
 *
 *     offset  type
 *       0     u8[4]   "QIDK"
 *       4     u32     version: 1
 *       8     u8[16]  uuid, random
 *      24     u64     inode of the root that it was written to
 *      32     u32     its generation, 0 where the filesystem tells none
 *      36     u32     CRC32C of the 36 bytes before
 *
 * Little-endian. One whose inode or generation are not those of the root that it is found on was
 * copied there, and counts as absent, as one that is damaged or of another version does.
 */
#ifndef QM_MARKER_H
#define QM_MARKER_H

#include <glib.h>
#include <sys/stat.h>

#include "store/qidmap.h"

#define QM_MARKER_SIZE    40
#define QM_MARKER_TRUSTED "trusted.qidmap.marker"
#define QM_MARKER_USER    "user.virtfs.system.qidmap.marker" /* where trusted is not allowed */
/* On FUSE: it may show the root of another filesystem, whose marker must not be overwritten. */
#define QM_MARKER_FUSE_TRUSTED "trusted.qidmap.fuse"
#define QM_MARKER_FUSE_USER    "user.virtfs.system.qidmap.fuse"

struct qm_marker {
    guint8 uuid[16];
    guint64 ino;
    guint32 gen;
};

void qm_marker_encode(const struct qm_marker *marker, guint8 bytes[QM_MARKER_SIZE]);

/* Reads what stands in an xattr; NULL when it is a marker of this root, else why it is none. */
const char *qm_marker_decode(const guint8 *bytes, gsize size, guint64 ino, guint32 gen,
                             struct qm_marker *marker);

/* Attributes and generation (0 where there is none) of the root `root`. */
int qm_marker_root(int root, gboolean is_fuse, struct statx *stx, guint32 *gen);

/* Reads the marker of the root `root` (O_PATH will do). 0; -ENODATA where none is valid, with the
 * reason in *why (static storage); or a negative errno. `is_fuse`: no generation is asked for. */
int qm_marker_read(int root, gboolean is_fuse, struct qm_marker *marker, const char **why);

/* What qidmap_mark() does. */
int qm_mark(int fd, struct qidmap_identity *identity, struct qidmap_error *error);

#endif
