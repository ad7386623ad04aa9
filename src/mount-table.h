/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of an export: (mount, st_dev, subvolume) -> filesystem, and the names that are mount
 * points. Entries are added while others read; nothing is ever changed or taken out: for that there
 * is a new table. Who owns and swaps tables is mount.c's business.
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
#ifndef STATX_SUBVOL
#define STATX_SUBVOL 0x00008000U /* Linux 6.10 */
#endif

#define MOUNT_UNIQUE_KEY (G_GUINT64_CONSTANT(1) << 63) /* marks keys made of unique mount ids */
#define MOUNT_ANY_DEV    G_MAXUINT64                   /* overlay: the mount decides, not st_dev */

/* A filesystem (or subvolume) that is mounted now. */
struct mount_live {
    guint64 key;    /* of its mount: mount_stx_key() */
    guint64 dev;    /* or MOUNT_ANY_DEV */
    guint64 subvol; /* 0: none, or not btrfs */
    guint64 root_dev;
    guint64 superblock;
    guint32 fs; /* 0: not registered */
    guint8 policy;
    guint8 trust;
    gboolean btrfs;
    gboolean needs_subvol; /* statx does not tell it: a second slot says so */
    gboolean refused;
    gboolean served; /* is to be in the table */
    gboolean kept;   /* while mounts are found anew: taken over from before */
    char *label;     /* "ext4 /dev/sdb1 on /srv/b" */

    struct qidmap_identity *identity; /* until it is registered; without unique ids always */
    int fd;                           /* until it is registered, else -1 */
};

/* A name that is a mount point, in the directory (key, dev, ino). */
struct mount_point_name {
    guint64 key;
    guint64 dev;
    guint64 ino;
    const char *name;
    enum mount_name state;
    struct statx root; /* where KNOWN */
};

struct mount_table {
    guint generation; /* of the watch, when this was true */
    gboolean unsure;  /* every directory may hold a mount point: one could not be found */
    guint mask;
    guint used;
    struct mount_slot *slots;
    GHashTable *names; /* struct mount_point_name, as key and value; read-only */
};

guint64 mount_stx_dev(const struct statx *stx);

/* The id of the mount as a key; 0 where the kernel gave none. */
guint64 mount_stx_key(const struct statx *stx);
gboolean mount_stx_is_unique(const struct statx *stx);

/* The subvolume, where statx tells it, else 0. */
guint64 mount_stx_subvol(const struct statx *stx);

/* The subvolume of a file on btrfs, from its handle; 0 where there is none. */
guint64 mount_handle_subvol(int fd, const char *name);

/* An empty table with room for `count` filesystems. */
struct mount_table *mount_table_new(gsize count);
void mount_table_free(struct mount_table *table);

/* For one writer. FALSE: no room, make a new table. */
gboolean mount_table_add(struct mount_table *table, const struct mount_live *live);

/* Before the table is shared. */
void mount_table_add_name(struct mount_table *table, const struct mount_point_name *name);

/* `subvol`: 0 where it is not known otherwise. *needs_subvol: it is wanted, ask again. */
gboolean mount_table_find(const struct mount_table *table, const struct statx *stx, guint64 subvol,
                          struct mount_entry *entry, gboolean *needs_subvol);
/* Whether mount_table_find_name() may say anything but PLAIN about names in the directory. */
gboolean mount_table_has_names(const struct mount_table *table, const struct statx *dir);
enum mount_name mount_table_find_name(const struct mount_table *table, const struct statx *dir,
                                      const char *name, struct statx *root);

#endif
