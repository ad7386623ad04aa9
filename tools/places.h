/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filesystems below a folder: those that are mounted are recognised together, as a server does
 * at its start; others (subvolumes of btrfs, mounts that come later) when a file of them is met.
 * Changes nothing, in the store or elsewhere.
 */
#ifndef TOOLS_PLACES_H
#define TOOLS_PLACES_H

#include <sys/stat.h>

#include <glib.h>

#include "tools/sight.h"

/* Files of one mount that show one device number. */
struct place {
    guint32 fs;     /* in the store; 0: it has no row there */
    guint32 policy; /* of that row */
    gboolean btrfs;
    gboolean handles; /* its files are known by their handles */
    struct qidmap_fsid fsid;
    char type[32];
    guint32 n;                        /* the caller's, 0 at first */
    struct qidmap_identity *identity; /* NULL: could not be identified. Of `places` */
};

/* A mount, or subvolume, with what was found out about it. */
struct place_mount {
    char *path;       /* below the folder; "" for itself */
    char *tree;       /* with `distinct`; else NULL */
    guint64 mount_id; /* and the device number: what tells places apart */
    guint64 st_dev;
    gboolean whole;                   /* it shows its filesystem from the root on */
    struct qidmap_identity *identity; /* NULL: could not be identified */
    char *problem;                    /* then: why */
    guint32 fs;
};

typedef struct places places;

/*
 * Looks at the folder that is open as `folder`, and all that is mounted below it. `distinct`: as
 * bind=distinct of the daemon. `store` stays the caller's. NULL after an error.
 */
places *places_new(qidmap_store *store, sight *sight, int folder, gboolean distinct,
                   struct qidmap_error *error);
void places_free(places *places);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(places, places_free)

/* Adds the subvolumes of btrfs below the folder and the mounts, and recognises all anew. 0 or a
 * negative errno. */
int places_add_subvolumes(places *places, int folder, struct qidmap_error *error);

/* The mounts, that of the folder first; of struct place_mount. */
const GPtrArray *places_mounts(const places *places);

/*
 * The place of a file that was met: the open file `fd` with `st` (type, inode number and mount id
 * among it), which had better be a directory. `holder`: the place of its directory, or NULL. The
 * result is valid as long as `places` is.
 */
struct place *places_of(places *places, int fd, const struct statx *st, const struct place *holder);

/* The place with that mount id and device number, where it was met already; else NULL. */
struct place *places_known(const places *places, const struct statx *st);

/* Goes on with another handle of the same store. */
void places_set_store(places *places, qidmap_store *store);

guint64 places_device(const struct statx *st);
guint64 places_mount_id(const struct statx *st);

#endif
