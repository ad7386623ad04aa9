/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lines of a manifest, as text and back; no I/O. Only manifest-read.c and manifest-write.c
 * include it.
 */
#ifndef TOOLS_MANIFEST_LINE_H
#define TOOLS_MANIFEST_LINE_H

#include "tools/manifest.h"

/* Longest line: each byte of a path may take 6, and there are the other members. */
#define MANIFEST_LINE_MAX (6 * MANIFEST_PATH_MAX + 4096)

/* Each appends one line with its newline. */
void manifest_line_header(GString *out, const struct manifest_header *header);
void manifest_line_fs(GString *out, const struct manifest_fs *fs);
void manifest_line_file(GString *out, const struct manifest_file *file);
void manifest_line_end(GString *out, const struct manifest_end *end, const guint8 sum[16]);

enum manifest_row { MANIFEST_ROW_HEADER, MANIFEST_ROW_FS, MANIFEST_ROW_FILE, MANIFEST_ROW_END };

/* What a line says; `row` tells which members are filled. Their strings are in `text`. */
struct manifest_line {
    enum manifest_row row;
    gint64 version; /* HEADER: other members are filled where it is known */
    struct manifest_header header;
    struct manifest_fs fs;
    struct manifest_file file;
    struct manifest_end end;
    guint8 sum[16];
    GString *text; /* in: the caller's; its content is replaced */
};

/*
 * Reads one line, without its newline. NULL, or what is wrong with it: static storage. Only what
 * the functions above would write is right, byte by byte; `again` is for that comparison.
 */
const char *manifest_line_parse(const char *bytes, gsize size, struct manifest_line *line,
                                GString *again);

#endif
