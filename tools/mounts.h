/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mount table of this process, for the verbs that look for filesystems.
 */
#ifndef TOOLS_MOUNTS_H
#define TOOLS_MOUNTS_H

#include <sys/stat.h>

#include <glib.h>

/* One line of it; strings are bytes, their escapes undone. */
struct mount_line {
    guint64 id;
    char *root; /* of the mount within its filesystem */
    char *path; /* where it is mounted */
    char *type;
};

/* All lines that can be read, in their order. */
GPtrArray *mounts_read(void);

/* Opens the root of the mount with O_PATH and fills `st`; -1 where it cannot be, or where another
 * mount lies over it. */
int mounts_open(const struct mount_line *line, struct statx *st);

/* TRUE where `path` is `folder` or below it; `*below` gets the rest, without a leading '/'. */
gboolean mounts_is_below(const char *path, const char *folder, const char **below);

#endif
