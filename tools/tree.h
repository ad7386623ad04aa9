/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A walk over a tree in the order of paths: everything below a folder as a guest of an export would
 * see it, other mounts included, symlinks not followed. Memory does not grow with the number of
 * files, nor with that of the names in one directory.
 */
#ifndef TOOLS_TREE_H
#define TOOLS_TREE_H

#include <sys/stat.h>

#include <glib.h>

#include "tools/places.h"

/* One name that was met. */
struct tree_file {
    const char *path;       /* below the tree; "" for itself */
    const struct statx *st; /* NULL: it could not be looked at */
    struct place *place;    /* of the file; NULL with `st` */
    int fd;                 /* the file is `name` in this open directory, or itself where that is */
    const char *name;       /* "" */
    guint64 parent_ino;     /* inode number of its directory; 0: the tree itself */
    gboolean placeholder;   /* a directory that stands for a subvolume of btrfs; `place` is that of
                               its directory */
    gboolean unread;        /* a directory that could not be listed whole */
    int code;               /* why: errno, also where `st` is NULL */
};

/*
 * Walks through the tree that is open as `folder`, which stays the caller's, and calls `file` for
 * each name; what is not 0 ends the walk and comes back. What vanishes meanwhile is left out.
 * Paths longer than `path_max` are not gone down. Else 0, or the negative errno of the temporary
 * file for names.
 */
int tree_walk(int folder, places *places, gsize path_max,
              int (*file)(void *data, const struct tree_file *file), void *data);

#endif
