/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ids that QEMU's 9pfs gives with multidevs=remap (QEMU 4.2 and later), to tell what an export
 * would suffer there. Knows nothing of stores.
 */
#ifndef TOOLS_QEMU_REMAP_H
#define TOOLS_QEMU_REMAP_H

#include <glib.h>

typedef struct qemu_remap qemu_remap;

qemu_remap *qemu_remap_new(void);
void qemu_remap_free(qemu_remap *remap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(qemu_remap, qemu_remap_free)

/* The qid path of a file that a guest meets now; files met earlier decide about later ones. FALSE
 * where QEMU answers ENFILE. */
gboolean qemu_remap_path(qemu_remap *remap, guint64 st_dev, guint64 st_ino, guint64 *path);

/* How many suffixes have been given. */
guint qemu_remap_suffixes(const qemu_remap *remap);

#endif
