/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lines of a dump: rows as text and back. What each member means is in qidmap-format(5). Both
 * directions stand beside each other here; dump.c and load.c know no member.
 */
#ifndef QM_DUMPLINE_H
#define QM_DUMPLINE_H

#include <glib.h>

#include "store/codec.h"
#include "store/json.h"

#define QM_DUMP_VERSION 1
/* Longest line, its newline included: the longest row of a filesystem has less than half of it. */
#define QM_DUMP_LINE_MAX 32768u

enum qm_line_kind {
    QM_LINE_STORE, /* the first one */
    QM_LINE_FS,
    QM_LINE_AFFIX,
    QM_LINE_FULL,
    QM_LINE_DAMAGED, /* only in backups: a row that could not be read */
    QM_LINE_END
};

struct qm_line {
    enum qm_line_kind kind;
    struct qm_meta meta;  /* STORE */
    struct qidmap_fs fs;  /* FS */
    gboolean has_full;    /* FS */
    uint32_t affix_fs, n; /* AFFIX */
    unsigned bits;
    uint64_t top;
    struct qidmap_object object; /* FULL */
    uint64_t id;
};

/* Each replaces what `out` holds. */
void qm_line_store(GString *out, const struct qm_meta *meta);
void qm_line_fs(GString *out, const struct qidmap_fs *fs, gboolean has_full);
void qm_line_affix(GString *out, uint32_t fs, unsigned bits, uint64_t top, uint32_t n);
void qm_line_full(GString *out, const struct qidmap_object *object, uint64_t id);
void qm_line_damaged(GString *out, enum qm_table table, struct qm_bytes key, struct qm_bytes value);
/* `sum`: 16 bytes, XXH3_128 of all lines before, in its canonical form. */
void qm_line_end(GString *out, const struct qm_meta *counts, const uint8_t *sum);

/*
 * Reads a line without its newline: 0; -EBADMSG with `error` set; -EPROTO for the first line of a
 * newer version. An END line is recognised only: it is right when it is the very line that
 * qm_line_end() writes. Ranges are checked as the codec checks them.
 */
int qm_line_parse(struct qm_json *json, const char *text, gsize size, struct qm_line *line,
                  GError **error);

#endif
