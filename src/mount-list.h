/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is mounted in this process's namespace, as the kernel lists it: mountinfo, with the unique
 * ids of listmount(2) and statmount(2) where there are any. Touches no filesystem.
 */
#ifndef MOUNT_LIST_H
#define MOUNT_LIST_H

#include <glib.h>

struct mount_line {
    guint64 id;
    guint64 unique; /* 0: the kernel does not tell (before 6.8) */
    guint64 parent;
    guint64 holder; /* the mount of the directory that has the mount point as a name: the parent, or
                       what lies under the undermost of those mounted over each other there */
    char *path;
    gboolean covered; /* another is mounted over its very root */
};

/* All mounts, struct mount_line, in the order of mountinfo. */
GPtrArray *mount_list_read(void);

#endif
