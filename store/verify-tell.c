/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the check of a store tells of what it found, and says objects and bytes in words. Owns the
 * names of problems; knows nothing of how they are found.
 */
#include "config.h"

#include "store/verify-check.h"

#include <stdarg.h>

#include "store/error.h"

static const char *const problem_names[] = {
    "unknown", "structure", "record", "row",  "count", "counter", "identity", "affix",
    "overlap", "full",      "twice",  "flag", "alias", "orphan",  "budget",
};

const char *qm_problem_name(uint32_t kind)
{
    return problem_names[kind < G_N_ELEMENTS(problem_names) ? kind : 0];
}

void qm_check_tell(struct qm_verify *v, uint32_t kind, int table, uint32_t mend, const char *format,
                   ...)
{
    struct qidmap_problem p = {.size = sizeof(p), .kind = kind, .flags = mend};
    va_list args;

    v->problems++;
    v->mendable += mend == QIDMAP_PROBLEM_MENDABLE;
    v->mended += mend == QIDMAP_PROBLEM_MENDED;
    if (!v->problem)
        return;
    p.table = table < QM_TABLES ? qm_table_name((enum qm_table)table) : "";
    va_start(args, format);
    g_vsnprintf(p.text, sizeof(p.text), format, args);
    va_end(args);
    v->problem(v->data, &p);
}

void qm_verify_structure(struct qm_verify *v, const char *text)
{
    qm_check_tell(v, QIDMAP_PROBLEM_STRUCTURE, QM_TABLES, 0, "%s", text);
}

char *qm_bytes_text(struct qm_bytes bytes)
{
    GString *out = g_string_new(NULL);
    const uint8_t *p = bytes.data;
    size_t i;

    for (i = 0; i < bytes.size && i < 48; i++)
        g_string_append_printf(out, "%02x", p[i]);
    if (i < bytes.size)
        g_string_append(out, "...");
    return g_string_free(out, FALSE);
}

char *qm_object_text(const struct qidmap_object *o)
{
    g_autofree char *handle = NULL;

    switch (o->kind) {
    case QIDMAP_OBJECT_HANDLE:
        handle = qm_bytes_text((struct qm_bytes){o->handle, o->handle_size});
        return g_strdup_printf("handle %d:%s of filesystem %u", o->handle_type, handle, o->fs);
    case QIDMAP_OBJECT_PLACEHOLDER:
        return g_strdup_printf("placeholder %" G_GUINT64_FORMAT " in directory %" G_GUINT64_FORMAT
                               " of filesystem %u",
                               o->ino2, o->ino, o->fs);
    default:
        return g_strdup_printf("inode %" G_GUINT64_FORMAT " of filesystem %u", o->ino, o->fs);
    }
}

/* A row that cannot be read; `mend` as for qm_check_tell(). */
void qm_check_bad_row(struct qm_check *c, enum qm_table table, struct qm_bytes k, uint32_t mend)
{
    g_autofree char *key = qm_bytes_text(k);

    c->bad[table]++;
    qm_check_tell(c->v, QIDMAP_PROBLEM_ROW, (int)table, mend,
                  "table %s: the row with key %s (row %" G_GUINT64_FORMAT
                  ") has a wrong checksum, or bytes that no row has",
                  qm_table_name(table), key, c->v->rows[table]);
}

int qm_check_cannot(struct qm_check *c, int e)
{
    if (e == QM_GROW || e == -ECANCELED)
        return e;
    return qm_set_error(c->error, e,
                        e == -ESTALE ? "the store grew while it was being read: begin again"
                                     : "cannot read the store: %s",
                        g_strerror(-e));
}
