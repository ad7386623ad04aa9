/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the mount options of an overlay say: the folders that it is made of. Pure; looks at nothing.
 */
#ifndef QM_OVERLAY_H
#define QM_OVERLAY_H

#include <glib.h>

struct qm_overlay_options {
    char *upper; /* NULL for a read-only overlay */
    GPtrArray
        *lowers;   /* char *, the uppermost first; without data-only ones, which show no inodes */
    gboolean xino; /* on, or auto: inode numbers of all layers in one space, where they fit */
    gboolean no_uuid; /* uuid=off: handles do not tell the filesystems of the layers apart */
};

/* `options` as in mountinfo, with its escapes. */
void qm_overlay_parse(const char *options, struct qm_overlay_options *out);
void qm_overlay_options_clear(struct qm_overlay_options *options);

#endif
