/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The image of an xattr: store: all its rows in as few bytes as possible. Pure: no I/O. The bytes
 * are defined in xattr-record.c.
 */
#ifndef QM_XATTR_RECORD_H
#define QM_XATTR_RECORD_H

#include <glib.h>

#include "store/codec.h"

/* An image that is being written. */
struct qm_image_writer;

/* `home`: digest of what tells the directory from a copy, or 0. `brief`: strings of more than 8
 * bytes become digests. meta->fs_rows and affix_rows are the rows that will follow. */
struct qm_image_writer *qm_image_writer_new(const struct qm_meta *meta, uint64_t home,
                                            gboolean brief);
void qm_image_put_fs(struct qm_image_writer *w, const struct qidmap_fs *fs); /* ascending */
void qm_image_put_affix(struct qm_image_writer *w, uint32_t n, uint32_t fs, uint64_t top);
/* Frees the writer; the bytes are the caller's. */
GByteArray *qm_image_writer_end(struct qm_image_writer *w);

/* What a reader calls for each row; what is not 0 ends the reading. */
struct qm_image_sink {
    int (*meta)(const struct qm_meta *meta, uint64_t home, void *data);
    int (*fs)(const struct qidmap_fs *fs, void *data);
    int (*affix)(uint32_t n, uint32_t fs, uint64_t top, void *data);
    void *data;
};

/* Any bytes at all: 0, -EUCLEAN, -EPROTO for a newer version, or what the sink returned. The
 * transaction of the meta row comes as 0. */
int qm_image_read(struct qm_bytes bytes, const struct qm_image_sink *sink);

#endif
