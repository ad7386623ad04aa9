/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the names of an inode, by searching the mounted filesystem that it belongs to.
 */
#ifndef TOOLS_SCAN_H
#define TOOLS_SCAN_H

#include <glib.h>

#include "tools/sight.h"

struct scan {
    /* in */
    sight *sight;
    guint32 fs;
    const char *type;     /* of the filesystem, as mountinfo writes it */
    guint64 ino;          /* what to search; found from the handle where there is one */
    const guint8 *handle; /* NULL: search for `ino` */
    int handle_type;
    guint handle_size;
    /* out */
    GPtrArray *paths; /* names found: all of a file with hard links */
    guint mounts;     /* mounts that show this filesystem */
    guint64 unread;   /* directories that could not be read */
};

/* Fills the out-part. Tells its progress on stderr where that is a terminal. */
void scan_run(struct scan *scan);
void scan_clear(struct scan *scan);

#endif
