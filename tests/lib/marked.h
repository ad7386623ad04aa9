/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tests of mounted filesystems share: how an identity shows a marker that is on the disk.
 */
#ifndef TESTS_LIB_MARKED_H
#define TESTS_LIB_MARKED_H

#include <glib.h>
#include <string.h>

#include "store/qidmap.h"
#include "store/resolve.h"

static inline void set_marker(struct qidmap_identity *id, const guint8 marker[16])
{
    gboolean weak = qm_identity_is_weak(id);

    memcpy(id->hints.marker, marker, 16);
    if (weak) {
        id->fsid[1] = id->fsid[0];
        id->count = 2;
    }
    if (weak || id->fsid[0].kind == QIDMAP_FSID_MARKER) {
        id->fsid[0].kind = QIDMAP_FSID_MARKER;
        id->fsid[0].size = 16;
        memcpy(id->fsid[0].bytes, marker, 16);
    }
}

#endif
