/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of the record of a store: the row itself, and its counts and counters against what
 * the tables hold.
 */
#include "config.h"

#include "store/verify-check.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/map.h"

static int check_meta_row(struct qm_check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qm_verify *vf = c->v;
    struct qm_meta m;
    uint32_t format = 0;
    int e;

    if (k.size != strlen(QM_META_KEY) || memcmp(k.data, QM_META_KEY, k.size) != 0) {
        qm_check_bad_row(c, QM_TABLE_META, k, 0);
        return 0;
    }
    e = qm_parse_meta(k, v, &m, &format);
    if (e == -EPROTO) {
        qm_set_error(c->error, EPROTO,
                     "the store has format version %u; this library knows version %u: use a newer "
                     "qidmap",
                     format, QM_FORMAT_VERSION);
        return e;
    }
    if (e != 0) {
        qm_check_tell(vf, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
                      "the record of the store has a wrong checksum, or bytes that no record has");
        return 0;
    }
    vf->meta = m;
    vf->have_meta = TRUE;
    vf->progress.total =
        m.fs_rows + m.fsid_rows + 2 * m.affix_rows + 2 * m.full_rows; /* an estimate, for people */
    return 0;
}

static void check_meta(struct qm_check *c)
{
    struct qm_meta *m = &c->v->meta;
    uint64_t number = c->ops->number(c->txn);

    if (!c->v->have_meta) {
        if (c->v->rows[QM_TABLE_META] == 0)
            qm_check_tell(c->v, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
                          "the record of the store is missing");
        return;
    }
    if (c->txn->kind != QM_TXN_WRITE && m->transaction != number)
        qm_check_tell(c->v, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
                      "the record of the store is of transaction %" G_GUINT64_FORMAT
                      ", and the store is at %" G_GUINT64_FORMAT ": an older state came back",
                      m->transaction, number);
    if (m->next_fs < 1 || m->next_fs > (uint64_t)QM_FS_LAST + 1 || m->next_affix < QM_AFFIX_FIRST ||
        m->next_affix > (uint64_t)QM_AFFIX_LAST + 1 || m->next_serial < QM_SERIAL_FIRST ||
        m->next_serial > QM_SERIAL_LAST + 1 || m->next_instance < 1 ||
        m->next_instance > (uint64_t)QM_INSTANCE_LAST + 1)
        qm_check_tell(c->v, QIDMAP_PROBLEM_COUNTER, QM_TABLE_META, 0,
                      "a counter of the store is outside of its range");
}

int qm_check_record(struct qm_check *c)
{
    int e = qm_check_rows(c, QM_TABLE_META, check_meta_row);

    if (e == 0)
        check_meta(c);
    return e;
}

/* A count: mended where both directions hold the same rows. */
static void check_count(struct qm_check *c, enum qm_table table, uint64_t *noted, gboolean sure)
{
    uint64_t rows = c->v->rows[table];
    uint32_t mend = !sure ? 0 : c->v->mend ? QIDMAP_PROBLEM_MENDED : QIDMAP_PROBLEM_MENDABLE;

    if (rows == *noted)
        return;
    qm_check_tell(c->v, QIDMAP_PROBLEM_COUNT, (int)table, mend,
                  "table %s has %" G_GUINT64_FORMAT
                  " rows, and the record of the store says %" G_GUINT64_FORMAT,
                  qm_table_name(table), rows, *noted);
    if (mend == QIDMAP_PROBLEM_MENDED)
        *noted = rows;
}

static void check_counter(struct qm_check *c, const char *name, uint64_t *next, uint64_t used)
{
    uint32_t mend = c->v->mend ? QIDMAP_PROBLEM_MENDED : QIDMAP_PROBLEM_MENDABLE;

    if (used == 0 || *next > used)
        return;
    qm_check_tell(c->v, QIDMAP_PROBLEM_COUNTER, QM_TABLE_META, mend,
                  "the counter %s is at %" G_GUINT64_FORMAT ", and %" G_GUINT64_FORMAT
                  " was given: it would be given again",
                  name, *next, used);
    if (c->v->mend)
        *next = used + 1;
}

void qm_check_numbers(struct qm_check *c)
{
    struct qm_meta *m = &c->v->meta;
    uint64_t *rows = c->v->rows, *bad = c->bad;

    if (!c->v->have_meta)
        return;
    check_count(c, QM_TABLE_FS, &m->fs_rows,
                !bad[QM_TABLE_FS] && !bad[QM_TABLE_FSID] && c->fsids == rows[QM_TABLE_FSID]);
    check_count(c, QM_TABLE_FSID, &m->fsid_rows,
                !bad[QM_TABLE_FS] && c->fsids == rows[QM_TABLE_FSID]);
    check_count(c, QM_TABLE_AFFIX, &m->affix_rows,
                !bad[QM_TABLE_AFFIX] && !bad[QM_TABLE_BYAFFIX] &&
                    rows[QM_TABLE_AFFIX] == rows[QM_TABLE_BYAFFIX]);
    check_count(c, QM_TABLE_FULL, &m->full_rows,
                !bad[QM_TABLE_FULL] && !bad[QM_TABLE_BYFULL] &&
                    rows[QM_TABLE_FULL] == rows[QM_TABLE_BYFULL]);
    check_counter(c, "next_fs", &m->next_fs, c->max_fs);
    check_counter(c, "next_affix", &m->next_affix, c->max_n);
    check_counter(c, "next_serial", &m->next_serial, c->max_serial);
    check_counter(c, "next_instance", &m->next_instance, c->max_instance);
}
