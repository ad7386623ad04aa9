/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The subvolumes of btrfs below a folder, found without a walk over the tree.
 */
#ifndef TOOLS_SUBVOLUMES_H
#define TOOLS_SUBVOLUMES_H

#include <glib.h>

/* Calls `found` for each subvolume below the open folder `fd`, with the path below it and an open
 * descriptor that stays ours; what is not 0 ends the search and comes back. Where the folder is on
 * no btrfs, or the kernel (before 4.18) does not tell, there are none. */
int subvolumes_find(int fd, int (*found)(void *data, const char *path, int fd), void *data);

#endif
