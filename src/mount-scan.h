/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mounted below one export, found by looking. Not for several threads at once.
 */
#ifndef MOUNT_SCAN_H
#define MOUNT_SCAN_H

#include <glib.h>

#include "src/mount-list.h"
#include "src/mount-probe.h"
#include "src/mount-table.h"
#include "src/mount.h"
#include "store/qidmap.h"

/* A mount below the export, its root's among them. */
struct mount_point {
    guint64 id, unique, holder; /* as in struct mount_line */
    char *path;
    char *tree;     /* with bind=distinct, else NULL */
    gboolean found; /* `root` is filled, and its filesystem is among the lives */
    gboolean silent;
    struct statx root;
    gboolean has_dir; /* and so is `dir`: the directory that has the mount point */
    struct statx dir;
};

struct mount_scan {
    const char *name; /* of the export; borrowed, as root_fd, store and overrides are */
    int root_fd;
    enum mount_mode mode;
    struct mount_settings settings;
    qidmap_store *store;     /* NULL with MOUNT_LOOK_ONLY */
    const GArray *overrides; /* of mount_overrides_parse() */
    GPtrArray *points;       /* struct mount_point; [0] is the root's */
    GPtrArray *lives;        /* struct mount_live; [0] is the root's */
    GHashTable *by_key;      /* the lives */
    GPtrArray *fresh;        /* those that wait for their number; borrowed from lives */
    GHashTable *previous;    /* the lives of before, while mount_scan_all() runs */
    struct qidmap_identity *root_identity;
    guint silent;    /* points that do not answer */
    gboolean unsure; /* a mount point could not be found: it may be in any directory */
};

void mount_scan_init(struct mount_scan *scan, const char *name, int root_fd, enum mount_mode mode,
                     const struct mount_settings *settings, const GArray *overrides);
void mount_scan_clear(struct mount_scan *scan);

/* Fills points and lives anew; what the kernel vouches for by unique ids is kept as it is. Fails
 * where the root cannot be identified. */
int mount_scan_all(struct mount_scan *scan, const GPtrArray *lines, struct mount_prober *prober);

/* A job that finds out what the file `fd` with `stx` is on; NULL where no descriptor is left. */
struct mount_job *mount_scan_job(const struct mount_scan *scan, int fd, const struct statx *stx);

/* Forgets the lives with the number `fs`, and those that were refused; 0: all. Their mounts are
 * looked at anew by the next mount_scan_all(). */
void mount_scan_forget(struct mount_scan *scan, guint32 fs);

/* Whether the mount of the file is one that did not answer. */
gboolean mount_scan_is_silent(const struct mount_scan *scan, const struct statx *stx);

/* Adds what such a job found to the lives. 0 or a negative errno. */
int mount_scan_take(struct mount_scan *scan, struct mount_job *job);

/* Jobs that look once more at the mounts of a superblock, and whose each is: `lives` gets borrowed
 * struct mount_live, as many as `jobs` gets. */
void mount_scan_again(const struct mount_scan *scan, guint64 superblock, GPtrArray *jobs,
                      GPtrArray *lives);

/* A table of all that is served, and names. */
struct mount_table *mount_scan_table(const struct mount_scan *scan, guint generation);

struct mount_live *mount_scan_find(const struct mount_scan *scan, const struct statx *stx);

#endif
