/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From an open file to the number of its filesystem in a store, with the identities that the
 * operator gave (--fs-id, fs-id=) taken into account as the daemon does.
 */
#ifndef TOOLS_SIGHT_H
#define TOOLS_SIGHT_H

#include <sys/stat.h>

#include <glib.h>

#include "store/qidmap.h"

typedef struct sight sight;

/* Takes the settings PATH=UUID of `fs_ids` (may be NULL). NULL after a wrong one, which it told.
 * Without a store (NULL) only sight_override() may be called. */
sight *sight_new(qidmap_store *store, char **fs_ids);
void sight_free(sight *sight);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sight, sight_free)

/* The 16 bytes that the operator gave to the filesystem that qidmap_identify() found to be
 * `identity`, or NULL. They belong to the sight. */
const guint8 *sight_override(const sight *sight, const struct qidmap_identity *identity);

/* The fs number of the filesystem of `fd` (0: the store has no row for it), and what it is.
 * Changes nothing. 0 or a negative errno. */
int sight_of(sight *sight, int fd, guint32 *fs, struct qidmap_identity *identity,
             struct qidmap_error *error);

/* The first half of that: what the filesystem of `fd` is. `tree`: as in struct
 * qidmap_identify_options. */
int sight_identify(const sight *sight, int fd, const char *tree, struct qidmap_identity *identity,
                   struct qidmap_error *error);

/* Whether a file that shows `st_dev` is known by its handle, under `policy`: by that itself, and
 * those files of an overlay that show the device of a layer. */
gboolean sight_wants_handle(guint32 policy, const struct qidmap_identity *identity, guint64 st_dev);

/* Where a btrfs snapshot shows a nested subvolume, an empty directory stands for it, which belongs
 * to its parent's filesystem and has no inode number of its own. If `fd` is one: fills the kind and
 * both inodes of `object`, and returns a descriptor of the parent; else -1. */
int sight_placeholder(int fd, const struct stat *st, struct qidmap_object *object);

/* The same for the entry `name` of the open directory `parent` on btrfs, whose inode number was
 * found to be that of such a directory. FALSE: its name is gone. */
gboolean sight_placeholder_at(int parent, const char *name, guint64 parent_ino,
                              struct qidmap_object *object);

/* st_ino of such directories. */
#define SIGHT_PLACEHOLDER 2

#endif
