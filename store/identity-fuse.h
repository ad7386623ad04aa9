/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the inode numbers of a FUSE filesystem are its own, or a counter of its library. */
#ifndef QM_IDENTITY_FUSE_H
#define QM_IDENTITY_FUSE_H

#include <glib.h>

/* What one entry shows. */
struct qm_fuse_entry {
    guint64 st_ino;
    guint64 d_ino;   /* from readdir */
    guint64 node_id; /* from the file handle; 0: none */
};

enum qm_fuse_inodes {
    QM_FUSE_UNKNOWN, /* nothing that tells */
    QM_FUSE_COUNTED,
    QM_FUSE_OWN
};

/* Judges. A root of inode 1 says nothing; another inode of the root is the filesystem's own. */
enum qm_fuse_inodes qm_fuse_judge(guint64 root_ino, const struct qm_fuse_entry *entries,
                                  guint count);

/* Looks at the filesystem with root `root` (O_PATH) and judges. May wait for ever. A negative errno
 * where the root cannot be read: its server has died, or lets nobody else in. */
int qm_fuse_look(int root, enum qm_fuse_inodes *inodes);

#endif
