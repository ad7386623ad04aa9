/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which filesystem a served file is on: a table from (mount id, st_dev) to fs number for each
 * export, kept true by a watch on mountinfo. Knows nothing of qids.
 */
#ifndef MOUNT_H
#define MOUNT_H

#include <glib.h>
#include <sys/stat.h>

#include "store/qidmap.h"

/* What is done about the filesystems below an export. */
enum mount_mode {
    MOUNT_REGISTER,  /* every one gets a number */
    MOUNT_ROOT_ONLY, /* that of the root alone; the others are foreign */
    MOUNT_LOOK_ONLY  /* none: there is no store */
};

/* Where the d_ino of a directory entry equals the st_ino of the file. */
enum mount_trust {
    MOUNT_TRUST_NONE,
    MOUNT_TRUST_ALL,  /* everywhere but at mount points */
    MOUNT_TRUST_BTRFS /* there, and not for directories either: they may be subvolumes */
};

/* What the table says about one file. */
struct mount_entry {
    guint32 fs;       /* 0 where foreign, and with MOUNT_LOOK_ONLY */
    guint8 trust;     /* enum mount_trust */
    gboolean foreign; /* MOUNT_ROOT_ONLY: not on the root's filesystem */
    gboolean btrfs;
    gboolean has_mounts; /* the file is a directory that holds, or may hold, a mount point */
};

struct mount_watch;
struct mount_export;

/* `overrides`: "PATH=UUID" strings, NULL-terminated, may be NULL. */
struct mount_watch *mount_watch_new(char *const *overrides, GError **error);

/* Before mount_watch_start(). `name` and `root_fd` are borrowed until mount_watch_free(). */
struct mount_export *mount_watch_add(struct mount_watch *watch, const char *name, int root_fd,
                                     enum mount_mode mode);

/* Before mount_watch_start(): the store of an export, borrowed. */
void mount_export_set_store(struct mount_export *exp, qidmap_store *store);

/* Resolves all mounts below all exports and begins to watch. */
gboolean mount_watch_start(struct mount_watch *watch, GError **error);

/* Ends the watch. NULL is allowed. Exports are freed with it. */
void mount_watch_free(struct mount_watch *watch);

/* Looks up the file that `stx` (STATX_MNT_ID included) describes. FALSE where it is not in the
 * table, or the table is being renewed. Never waits.
 * Meant for whoever holds the file open, or asks mount_lookup() again with it open. */
gboolean mount_find(struct mount_export *exp, const struct statx *stx, struct mount_entry *entry);

/* The same with the file open as `fd`: what is not in the table is identified and added. Returns 0
 * or a negative errno. */
int mount_lookup(struct mount_export *exp, int fd, const struct statx *stx,
                 struct mount_entry *entry);

/* The same for a directory that is to be listed: entry->has_mounts is true of this moment. */
int mount_lookup_dir(struct mount_export *exp, int fd, const struct statx *stx,
                     struct mount_entry *entry);

/* Name of the filesystem of `stx` for people, for example "ext4 /dev/sdb1 on /srv/b". To be freed.
 */
char *mount_describe(struct mount_export *exp, const struct statx *stx);

#endif
