/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names of files whose descriptor was closed: a tree of path components below each export.
 *
 * A node stands for a place, not for a file: whoever goes there verifies what he finds. Renames
 * through this server move nodes, with all that is below, in one step. Only what is needed is kept:
 * a node goes with the last who refers to it or to one below it.
 *
 * Thread-safe; one lock, which is never held while a filesystem is asked.
 */
#ifndef NAME_TREE_H
#define NAME_TREE_H

#include <stdbool.h>
#include <stdint.h>

struct path_export;
struct name_node;

/* The node of the place where the file open as `fd` is now, as the kernel tells it; to be given
 * back with name_node_unref(). NULL where it has no name, or none below the export. */
struct name_node *name_node_of(const struct path_export *export, int fd);

/* The node of a path relative to the export's root ("": the root itself). */
struct name_node *name_node_at(const struct path_export *export, const char *path);

void name_node_unref(struct name_node *node);

/* The path relative to the export's root, to be freed. */
char *name_node_path(struct name_node *node);

/* A rename is about to happen on the filesystem `dev`, and has happened. Where places matter
 * (name_tree_matters), renames of one filesystem come one after the other. */
struct name_rename {
    void *lock;
};
void name_rename_begin(struct name_rename *rename, uint64_t dev);
void name_rename_begin_at(struct name_rename *rename, int dir_fd);
/* Another lock, to be taken first: from looking what a name means to removing or replacing it. */
void name_removal_begin_at(struct name_rename *removal, int dir_fd);
void name_rename_end(struct name_rename *rename);

/* Between the two, where it succeeded: what was at `old_name` of the directory open as `old_fd` is
 * at `new_name` of `new_fd`, in each export that has both. */
void name_tree_moved(int old_fd, const char *old_name, int new_fd, const char *new_name);

/* From now on files are found by name alone. */
void name_tree_matters(void);

/* Nodes there are. */
uint64_t name_tree_size(void);

#endif
