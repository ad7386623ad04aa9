/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The immutable table of an export: (mount id, st_dev) -> filesystem, and the directories that hold
 * mount points. Who owns and swaps tables is mount.c's business.
 */
#ifndef MOUNT_TABLE_H
#define MOUNT_TABLE_H

#include <glib.h>
#include <sys/stat.h>

#include "src/mount.h"
#include "store/qidmap.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

#define MOUNT_UNIQUE_KEY (G_GUINT64_CONSTANT(1) << 63) /* marks keys made of unique mount ids */

/* A filesystem (or subvolume) that is mounted now. */
struct mount_live {
    guint64 id;
    guint64 unique; /* 0: not known */
    guint64 dev;
    guint32 fs; /* 0: not registered */
    gboolean foreign;
    gboolean served; /* is to be in the table */
    struct qidmap_identity identity;
};

/* A directory; `id` is a key. */
struct mount_dir {
    guint64 id;
    guint64 dev;
    guint64 ino;
};

struct mount_table {
    guint generation; /* of the watch, when this was true */
    gboolean any_dir; /* every directory may hold a mount point: one could not be found */
    guint mask;
    guint n_dirs;
    struct mount_slot *slots;
    struct mount_dir *dirs; /* ascending */
};

guint64 mount_stx_dev(const struct statx *stx);

/* The id of the mount as a key; 0 where the kernel gave none. */
guint64 mount_stx_key(const struct statx *stx);
gboolean mount_stx_is_unique(const struct statx *stx);

/* `lives`: struct mount_live; `dirs`: struct mount_dir. */
struct mount_table *mount_table_new(const GPtrArray *lives, const GArray *dirs, gboolean any_dir);
void mount_table_free(struct mount_table *table);
gboolean mount_table_find(const struct mount_table *table, const struct statx *stx,
                          struct mount_entry *entry);

#endif
