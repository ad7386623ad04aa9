/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mounted below one export, found by looking. Not for several threads at once.
 */
#ifndef MOUNT_SCAN_H
#define MOUNT_SCAN_H

#include <glib.h>

#include "src/mount-table.h"
#include "src/mount.h"
#include "store/qidmap.h"

struct mount_scan {
    const char *name; /* of the export; borrowed, as root_fd, store and overrides are */
    int root_fd;
    enum mount_mode mode;
    qidmap_store *store;     /* NULL with MOUNT_LOOK_ONLY */
    const GArray *overrides; /* of mount_overrides_parse() */
    GPtrArray *lives;        /* struct mount_live; [0] is the root's */
    GArray *dirs;            /* struct mount_dir: those that hold mount points */
    gboolean any_dir;        /* a mount point could not be found: it may be in any directory */
};

void mount_scan_init(struct mount_scan *scan, const char *name, int root_fd, enum mount_mode mode,
                     const GArray *overrides);
void mount_scan_clear(struct mount_scan *scan);

/* Id, parent and path of every mount of this process, for mount_scan_all(). */
GPtrArray *mount_lines_read(void);

/* Fills lives and dirs anew. Fails where the root cannot be identified. */
int mount_scan_all(struct mount_scan *scan, const GPtrArray *mounts);

/* Adds what the file `fd` is on, where it is not among the lives; *live is borrowed. */
int mount_scan_one(struct mount_scan *scan, int fd, struct mount_live **live);

/* Gives numbers to the lives of all scans: those of one store in one call, where any is new. */
int mount_scan_register(const GPtrArray *scans);

/* Parses "PATH=UUID" strings; NULL and *error where one is not. */
GArray *mount_overrides_parse(char *const *texts, GError **error);

#endif
