/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mount table of this process, as /proc/self/mountinfo gives it. The parser works on a buffer
 * and believes nothing: a line that it cannot read is left out.
 */
#ifndef QM_MOUNTINFO_H
#define QM_MOUNTINFO_H

#include <glib.h>

/* One line. Strings have their octal escapes undone and are bytes, not UTF-8. */
struct qm_mount {
    guint64 id;
    guint64 parent;
    guint32 major; /* of the superblock; not what st_dev shows on btrfs and overlay */
    guint32 minor;
    gboolean readonly; /* this mount, or its superblock */
    char *root;        /* of the mount within its filesystem */
    char *path;        /* of the mount point, as this process sees it */
    char *type;        /* "ext4", "fuse.sshfs" */
    char *source;      /* "" where none is given */
    char *options;     /* of the superblock, comma-separated, escapes as they stand: a comma within
                          a value is \\054 */
};

void qm_mount_free(struct qm_mount *mount);

/* All readable lines of the buffer, in their order; elements are struct qm_mount. */
GPtrArray *qm_mountinfo_parse(const char *buffer, gsize size);

/* Undoes \\ooo. */
char *qm_mountinfo_unescape(const char *field, gsize size);

/* The value of the first option of this name, unescaped; "" for one without a value; NULL where it
 * is not there. */
char *qm_mount_option(const char *options, const char *name);

/* The same for this process now; NULL and *error when the file cannot be read. */
GPtrArray *qm_mountinfo_read(GError **error);

/* The mount with this id, or NULL. Borrowed from `mounts`. */
const struct qm_mount *qm_mountinfo_find(const GPtrArray *mounts, guint64 id);

/* The mounts whose mount point is `path` or below it, in the order of the table. The array borrows
 * its elements from `mounts`. */
GPtrArray *qm_mountinfo_below(const GPtrArray *mounts, const char *path);

#endif
