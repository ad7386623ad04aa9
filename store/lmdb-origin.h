/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file `origin` beside an environment: which file data.mdb was when we last had it, and how we
 * left it. It tells a store that was stopped in order from one that crashed, and from one that
 * somebody copied or put back from a backup. Knows nothing of what is inside data.mdb.
 */
#ifndef QM_LMDB_ORIGIN_H
#define QM_LMDB_ORIGIN_H

#include <glib.h>

enum qm_origin {
    QM_ORIGIN_STOPPED, /* the very file, as it was left by a clean stop: nothing wrote to it since
                        */
    QM_ORIGIN_OPEN,    /* the very file; in use, or its writer died */
    QM_ORIGIN_COPIED   /* another file, or an older state of it, or nobody knows */
};

/* What the file says of data.mdb in the open directory `gen_fd`, whose newest transaction is
 * `transaction`. */
enum qm_origin qm_lmdb_origin_read(int gen_fd, guint64 transaction);

/* Writes it anew and syncs it. 0 or a negative errno: then the old one is gone or still there. */
int qm_lmdb_origin_write(int gen_fd, gboolean stopped, guint64 transaction);

#endif
