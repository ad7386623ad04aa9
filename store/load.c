/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dumps into stores. The rows go, in transactions of BATCH rows, into a backend that nobody else
 * sees yet: a store that is new, or a second one beside the store that it is to replace. When the
 * closing line has confirmed every byte, all of it is checked by the code that verifies stores, and
 * published in one step. Where a backend cannot build beside the old store, everything is one
 * transaction.
 *
 * Refused here, line by line: what is no line of a dump, is out of range, or does not ascend (rows
 * stand in a dump in the order of their keys, so that none can be there twice). Everything that
 * needs more than one row is verify.c's.
 */
#include "config.h"

#include "store/load.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/dump.h"
#include "store/dumpline.h"
#include "store/error.h"
#include "store/verify.h"

#define BATCH 50000u

struct loader {
    const struct qidmap_load_options *options;
    struct qm_progress progress;
    GError **error;
    gboolean over;       /* qm_load_over(): the dump is of the store itself, */
    uint64_t over_epoch; /* at this epoch */

    /* Lines. */
    struct qm_json json;
    GString *input; /* bytes read; `at` is where the next line begins */
    gsize at;
    gboolean ended;
    uint64_t line_number;
    XXH3_state_t *sum;
    struct qm_line line;
    struct qm_meta meta; /* of the first line */
    struct qm_meta seen; /* counts */
    enum qm_line_kind last_kind;
    struct qm_record last; /* key of the row before */
    gboolean budgeted;     /* an affix budget was kept where the dump comes from */
    uint32_t run_fs;       /* affix rows of this filesystem so far; they stand together */
    uint64_t run, run_most;

    /* The backend. */
    struct qm_backend *backend;
    gboolean one; /* everything is one transaction */
    struct qm_txn *txn;
    GByteArray *batch; /* of rows that wait: what put_batch() reads */
    guint rows;
};

/* ---- lines -------------------------------------------------------------------------------------
 */

static int refuse(struct loader *l, const char *text)
{
    return qm_set_error(l->error, EBADMSG,
                        "line %" G_GUINT64_FORMAT " of the dump: %s; nothing was changed",
                        l->line_number, text);
}

/* The next line without its newline, until the next call. 0 with *text NULL at the end. */
static int next_line(struct loader *l, const char **text, gsize *size)
{
    const char *end;
    gsize looked = l->at;

    for (;;) {
        end = l->input->len > looked ? memchr(l->input->str + looked, '\n', l->input->len - looked)
                                     : NULL;
        looked = l->input->len;
        if (end || l->ended || looked - l->at > QM_DUMP_LINE_MAX)
            break;
        if (l->at > 0) {
            g_string_erase(l->input, 0, (gssize)l->at);
            looked -= l->at;
            l->at = 0;
        }
        g_string_set_size(l->input, looked + 65536);
        long n = l->options->read(l->options->data, l->input->str + looked, 65536);

        g_string_set_size(l->input, looked + (n > 0 ? (gsize)MIN(n, 65536) : 0));
        if (n < 0)
            return qm_set_error(l->error, (int)-n, "cannot read the dump: %s", g_strerror((int)-n));
        l->ended = n == 0;
    }
    l->line_number++;
    *text = NULL;
    *size = end ? (gsize)(end - (l->input->str + l->at)) : l->input->len - l->at;
    if (*size >= QM_DUMP_LINE_MAX)
        return refuse(l, "too long");
    if (!end)
        return *size == 0 ? 0 : refuse(l, "it has no end: the dump is truncated");
    *text = l->input->str + l->at;
    l->at += *size + 1;
    return 0;
}

static int parse_line(struct loader *l, const char *text, gsize size)
{
    GError *trouble = NULL;
    int e = qm_line_parse(&l->json, text, size, &l->line, &trouble);

    if (e == 0)
        return 0;
    if (e == -EPROTO) {
        g_propagate_error(l->error, trouble);
        return e;
    }
    e = refuse(l, trouble->message);
    g_error_free(trouble);
    return e;
}

static int first_line(struct loader *l)
{
    const char *text;
    gsize size;
    int e = next_line(l, &text, &size);

    if (e == 0 && !text)
        e = refuse(l, "the dump is empty");
    if (e == 0)
        e = parse_line(l, text, size);
    if (e == 0 && l->line.kind != QM_LINE_STORE)
        e = refuse(l, "no dump begins like this");
    if (e != 0)
        return e;
    XXH3_128bits_update(l->sum, text, size + 1);
    l->meta = l->line.meta;
    l->progress.total = l->meta.fs_rows + l->meta.affix_rows + l->meta.full_rows;
    return 0;
}

/* The closing line must be the very one that a writer would have written. */
static int last_line(struct loader *l, const char *text, gsize size)
{
    g_autoptr(GString) expected = g_string_new(NULL);
    XXH128_canonical_t canonical;
    int e;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(l->sum));
    qm_line_end(expected, &l->seen, canonical.digest);
    if (size + 1 != expected->len || memcmp(text, expected->str, size) != 0)
        return refuse(l, "its counts or its checksum do not fit: the dump was altered, or lines of "
                         "it are missing");
    if (l->seen.fs_rows != l->meta.fs_rows || l->seen.affix_rows != l->meta.affix_rows ||
        l->seen.full_rows != l->meta.full_rows)
        return refuse(l, "rows are not as many as its first line says");
    e = next_line(l, &text, &size);
    if (e == 0 && text)
        e = refuse(l, "something stands behind the closing line");
    return e;
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static int write_trouble(struct loader *l, int e)
{
    if (e == -EOPNOTSUPP)
        return qm_set_error(l->error, e,
                            "the backend `%s` cannot hold these rows: load the dump into lmdb:",
                            l->backend->ops->name);
    return qm_set_error(l->error, e, "cannot write the store: %s; what was there is as it was",
                        g_strerror(-e));
}

/* Rows stand in the batch as table, sizes, key and value. */
struct row_head {
    uint16_t table, key_size, value_size;
};

static int put_rows(struct loader *l)
{
    const uint8_t *p = l->batch->data, *end = p + l->batch->len;
    struct row_head head;
    int e = 0;

    while (e == 0 && p < end) {
        memcpy(&head, p, sizeof(head));
        p += sizeof(head);
        e = l->backend->ops->put(l->txn, (enum qm_table)head.table,
                                 (struct qm_bytes){p, head.key_size},
                                 (struct qm_bytes){p + head.key_size, head.value_size});
        p += (size_t)head.key_size + head.value_size;
    }
    return e;
}

/* The record of the store goes into each transaction: a backend may look for it in any state. */
static int put_meta(struct loader *l)
{
    struct qm_record r;

    l->meta.transaction = l->backend->ops->number(l->txn);
    qm_record_meta(&r, &l->meta);
    return qm_txn_put(l->txn, QM_TABLE_META, &r);
}

/* Writes what waits, and commits it where the backend is fresh. */
static int flush(struct loader *l)
{
    const struct qm_backend_ops *ops = l->backend->ops;
    int e = 0;

    if (l->one) {
        e = put_rows(l);
    } else {
        while (l->rows > 0) {
            e = ops->begin(l->backend, QM_TXN_WRITE, l->rows, &l->txn);
            if (e != 0)
                break;
            e = put_rows(l);
            if (e == 0)
                e = put_meta(l);
            if (e == 0)
                e = ops->commit(l->txn);
            else
                ops->abort(l->txn);
            l->txn = NULL;
            if (e != QM_GROW)
                break;
            e = ops->grow(l->backend);
            if (e != 0)
                break;
        }
    }
    g_byte_array_set_size(l->batch, 0);
    l->rows = 0;
    return e == 0 ? 0 : write_trouble(l, e == QM_GROW ? -ENOSPC : e);
}

static void add(struct loader *l, enum qm_table table, const struct qm_record *r)
{
    struct row_head head = {(uint16_t)table, (uint16_t)r->key_size, (uint16_t)r->value_size};

    g_byte_array_append(l->batch, (const guint8 *)&head, sizeof(head));
    g_byte_array_append(l->batch, r->key, (guint)r->key_size);
    g_byte_array_append(l->batch, r->value, (guint)r->value_size);
    l->rows++;
}

/* Keys ascend within a table, and tables follow each other. */
static int in_order(struct loader *l, const struct qm_record *r)
{
    int order;

    if (l->line.kind == l->last_kind) {
        order = memcmp(r->key, l->last.key, MIN(r->key_size, l->last.key_size));
        if (order < 0 || (order == 0 && r->key_size <= l->last.key_size))
            return refuse(l, "the rows are not in their order, or one is there twice");
    } else if (l->line.kind < l->last_kind) {
        return refuse(l, "the rows are not in their order");
    }
    l->last_kind = l->line.kind;
    memcpy(l->last.key, r->key, r->key_size);
    l->last.key_size = r->key_size;
    return 0;
}

/* The row of the line, and those that are derived from it. */
static int take_row(struct loader *l)
{
    static const enum qm_table tables[] = {[QM_LINE_FS] = QM_TABLE_FS,
                                           [QM_LINE_AFFIX] = QM_TABLE_AFFIX,
                                           [QM_LINE_FULL] = QM_TABLE_FULL};
    struct qm_line *line = &l->line;
    enum qm_table table = tables[line->kind];
    struct qm_record r, second;
    uint32_t i;
    int e;

    if (line->kind == QM_LINE_FS) {
        qm_record_fs(&r, &line->fs, line->has_full);
        l->seen.fs_rows++;
        l->budgeted |= line->fs.left_budget || line->has_full;
    } else if (line->kind == QM_LINE_AFFIX) {
        qm_record_affix(&r, line->affix_fs, line->bits, line->top, line->n);
        qm_record_byaffix(&second, line->n, line->affix_fs, line->top);
        l->seen.affix_rows++;
        l->run = line->affix_fs == l->run_fs ? l->run + 1 : 1;
        l->run_fs = line->affix_fs;
        l->run_most = MAX(l->run_most, l->run);
    } else {
        qm_record_full(&r, &line->object, line->id);
        qm_record_byfull(&second, line->id, &line->object);
        l->seen.full_rows++;
    }
    /* What the codec does not read back is no row. */
    if (qm_parse_check(table, (struct qm_bytes){r.key, r.key_size},
                       (struct qm_bytes){r.value, r.value_size}) != 0)
        return refuse(l, "no store could hold this row");
    e = in_order(l, &r);
    if (e != 0)
        return e;
    add(l, table, &r);
    if (line->kind != QM_LINE_FS) {
        add(l, line->kind == QM_LINE_AFFIX ? QM_TABLE_BYAFFIX : QM_TABLE_BYFULL, &second);
    } else if (!line->fs.retired) {
        for (i = 0; i < line->fs.fsid_count; i++) {
            qm_record_fsid(&second, &line->fs.fsid[i], line->fs.fs);
            add(l, QM_TABLE_FSID, &second);
            l->seen.fsid_rows++;
        }
    }
    return l->rows >= BATCH ? flush(l) : 0;
}

static int all_lines(struct loader *l)
{
    const char *text;
    gsize size;
    int e;

    for (;;) {
        e = next_line(l, &text, &size);
        if (e == 0 && !text)
            e = refuse(l, "the closing line is missing: the dump is truncated");
        if (e == 0)
            e = parse_line(l, text, size);
        if (e != 0)
            return e;
        switch (l->line.kind) {
        case QM_LINE_STORE:
            return refuse(l, "a second first line");
        case QM_LINE_DAMAGED:
            return refuse(l, "a row that could not be read: this is the backup of a damaged store");
        case QM_LINE_END:
            e = last_line(l, text, size);
            return e == 0 ? flush(l) : e;
        default:
            XXH3_128bits_update(l->sum, text, size + 1);
            e = take_row(l);
        }
        if (e == 0 && qm_progress_step(&l->progress) != 0)
            e = qm_set_error(l->error, ECANCELED, "ended on request; nothing was changed");
        if (e != 0)
            return e;
    }
}

/* ---- counters ----------------------------------------------------------------------------------
 */

static void jump(struct qm_meta *m)
{
    struct qm_floor floor;

    qm_floor_leap(&floor, m);
    m->next_fs = floor.next_fs;
    m->next_affix = floor.next_affix;
    m->next_serial = floor.next_serial;
    m->next_instance = floor.next_instance;
}

static void take_larger(struct qm_meta *m, const struct qm_meta *present)
{
    m->next_fs = MAX(m->next_fs, present->next_fs);
    m->next_affix = MAX(m->next_affix, present->next_affix);
    m->next_serial = MAX(m->next_serial, present->next_serial);
    m->next_instance = MAX(m->next_instance, present->next_instance);
    m->epoch = MAX(m->epoch, present->epoch) + 1;
}

/* What is there now: dumps it, and takes its counters. *sure: they can be trusted. */
static int save_present(struct loader *l, struct qm_backend *present, const char *path,
                        gboolean *sure, struct qidmap_load_result *result)
{
    struct qm_verify v;
    struct qm_txn *txn;
    int e = present->ops->begin(present, QM_TXN_SNAPSHOT, 0, &txn);

    if (e != 0)
        return qm_set_error(l->error, e, "cannot read the store that is there: %s", g_strerror(-e));
    memset(&v, 0, sizeof(v));
    e = qm_verify_txn(&v, txn, l->error);
    if (e == 0 && l->over && v.problems > 0)
        e = qm_set_error(l->error, EUCLEAN,
                         "the store is damaged (%" G_GUINT64_FORMAT
                         " problems); nothing was changed: verify it first",
                         v.problems);
    if (e == 0 && l->over && (!v.have_meta || v.meta.epoch != l->over_epoch))
        e = qm_set_error(l->error, EBUSY,
                         "the store has changed meanwhile; nothing was changed: begin again");
    if (e == 0 && !l->over)
        e = qm_dump_file(txn, TRUE, path, FALSE, NULL, l->error);
    present->ops->abort(txn);
    if (e != 0)
        return e;
    g_strlcpy(result->backup, path, sizeof(result->backup));
    if (v.have_meta && !(l->options->flags & QM_LOAD_FORGET))
        take_larger(&l->meta, &v.meta);
    /* A copy does not know what was given since it was made. One that was put back knew that it was
     * one when it was opened first, and went on by the clock: as far as that is a guide. */
    *sure =
        v.problems == 0 && !present->copied && (l->over || !qm_beyond_clock(l->meta.next_serial));
    return 0;
}

/* ---- backends ----------------------------------------------------------------------------------
 */

static int delete_all(struct loader *l)
{
    const struct qm_backend_ops *ops = l->backend->ops;
    int table, e = 0;

    for (table = 0; e == 0 && table < QM_TABLES; table++) {
        while (e == 0) {
            struct qm_cursor *cursor;
            struct qm_bytes k, v;
            uint8_t key[QM_KEY_MAX];

            e = ops->cursor_open(l->txn, (enum qm_table)table, &cursor);
            if (e != 0)
                break;
            e = ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
            if (e == 0) {
                memcpy(key, k.data, MIN(k.size, sizeof(key)));
                k.data = key;
            }
            ops->cursor_close(cursor);
            if (e == 0)
                e = ops->del(l->txn, (enum qm_table)table, k);
        }
        e = e == -ENOENT ? 0 : e;
    }
    return e == 0 ? 0 : write_trouble(l, e);
}

static int open_backend(struct loader *l, const struct qm_backend_ops *ops, const char *place)
{
    gboolean replace = (l->options->flags & QIDMAP_LOAD_REPLACE) != 0;
    struct qm_backend_config config = {.write = TRUE, .create = TRUE, .replace = replace};
    GError *trouble = NULL;
    int e;

    l->backend = ops->open(place, &config, &trouble);
    if (!l->backend) {
        e = -trouble->code;
        if (e == -EUCLEAN && !replace)
            qm_set_error(l->error, EEXIST,
                         "there is a store already, and it is damaged: verify "
                         "it, or replace it (--replace)");
        else
            g_propagate_error(l->error, g_steal_pointer(&trouble));
        g_clear_error(&trouble);
        return e == -EUCLEAN && !replace ? -EEXIST : e;
    }
    if (!l->backend->fresh && !replace)
        return qm_set_error(l->error, EEXIST,
                            "there is a store already: name a new one, or replace it (--replace)");
    return 0;
}

static int prepare(struct loader *l, const char *place, struct qidmap_load_result *result)
{
    const struct qm_backend_ops *ops = l->backend->ops;
    g_autofree char *path =
        l->options->backup ? g_strdup(l->options->backup) : qm_backup_name(place, "before-load");
    struct qm_backend *present = NULL;
    gboolean sure = (l->options->flags & QIDMAP_LOAD_LATEST) != 0;
    gboolean forget = (l->options->flags & QM_LOAD_FORGET) != 0;
    int e = 0;

    if (!l->backend->fresh) {
        present = l->backend;
        e = save_present(l, present, path, &sure, result);
    } else if ((l->options->flags & QIDMAP_LOAD_REPLACE) && ops->replaced) {
        GError *trouble = NULL;

        present = ops->replaced(l->backend, &trouble);
        if (present) {
            e = save_present(l, present, path, &sure, result);
            ops->close(present);
        } else if (trouble) {
            sure = FALSE; /* damaged: its files are kept by publish() */
        }
        g_clear_error(&trouble);
    }
    if (e != 0)
        return e;
    if (!sure && !forget) {
        jump(&l->meta);
        result->jumped = 1;
    }
    if (l->backend->fresh)
        return 0;
    l->one = TRUE;
    e = ops->begin(l->backend, QM_TXN_WRITE,
                   (size_t)(8 + 9 * l->meta.fs_rows + 2 * (l->meta.affix_rows + l->meta.full_rows)),
                   &l->txn);
    return e == 0 ? delete_all(l) : write_trouble(l, e);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

struct first {
    char text[QIDMAP_ERROR_TEXT];
};

static void note_problem(void *data, const struct qidmap_problem *problem)
{
    struct first *first = data;

    if (!first->text[0])
        g_strlcpy(first->text, problem->text, sizeof(first->text));
}

/* Everything is in the backend: the record, the check, and out into the open. */
static int finish(struct loader *l)
{
    const struct qm_backend_ops *ops = l->backend->ops;
    struct first first = {""};
    struct qm_verify v;
    int e = 0;

    l->meta.fs_rows = l->seen.fs_rows;
    l->meta.fsid_rows = l->seen.fsid_rows;
    l->meta.affix_rows = l->seen.affix_rows;
    l->meta.full_rows = l->seen.full_rows;
    /* A backend without a full map keeps no budget. */
    if (l->backend->ops->has_full && !l->budgeted)
        l->meta.affix_budget = (uint32_t)MIN(MAX(l->meta.affix_budget, l->run_most), 65535);
    do {
        if (!l->one)
            e = ops->begin(l->backend, QM_TXN_WRITE, 1, &l->txn);
        if (e != 0)
            break;
        e = put_meta(l);
        if (l->one)
            break;
        if (e == 0)
            e = ops->commit(l->txn);
        else
            ops->abort(l->txn);
        l->txn = NULL;
        if (e == QM_GROW)
            e = ops->grow(l->backend) == 0 ? QM_GROW : -ENOSPC;
    } while (e == QM_GROW);
    if (e != 0)
        return write_trouble(l, e);
    if (!l->one) {
        e = ops->begin(l->backend, QM_TXN_SNAPSHOT, 0, &l->txn);
        if (e != 0)
            return write_trouble(l, e);
    }
    memset(&v, 0, sizeof(v));
    v.problem = note_problem;
    v.data = &first;
    e = qm_verify_txn(&v, l->txn, l->error);
    if (!l->one) {
        ops->abort(l->txn);
        l->txn = NULL;
    }
    if (e == 0 && v.problems)
        e = qm_set_error(l->error, EBADMSG,
                         "the dump contradicts itself (%s; %" G_GUINT64_FORMAT
                         " such problems); nothing was changed",
                         first.text, v.problems);
    if (e != 0)
        return e;
    if (l->one) {
        e = ops->commit(l->txn);
        l->txn = NULL;
        return e == 0 ? 0 : write_trouble(l, e == QM_GROW ? -ENOSPC : e);
    }
    return ops->publish(l->backend, l->error);
}

static int build(struct loader *l, const char *uri, struct qidmap_load_result *result)
{
    const struct qm_backend_ops *ops;
    const char *place;
    int e = 0;

    ops = qm_backend_find(uri, &place, l->error);
    if (!ops)
        return -EINVAL;
    e = first_line(l);
    if (e == 0)
        e = open_backend(l, ops, place);
    if (e == 0)
        e = prepare(l, place, result);
    if (e == 0)
        e = all_lines(l);
    if (e == 0)
        e = finish(l);
    if (e == 0)
        return 0;
    if (l->txn)
        ops->abort(l->txn);
    l->txn = NULL;
    if (l->backend && l->backend->fresh && ops->discard)
        ops->discard(l->backend);
    else if (l->backend)
        ops->close(l->backend);
    l->backend = NULL;
    return e;
}

static int load(const char *uri, const struct qidmap_load_options *options, const uint64_t *epoch,
                struct qidmap_load_result *result, struct qidmap_store **store, GError **error)
{
    struct loader *l = g_new0(struct loader, 1);
    int e;

    l->over = epoch != NULL;
    l->over_epoch = epoch ? *epoch : 0;

    l->options = options;
    l->error = error;
    l->progress.call = options->progress;
    l->progress.data = options->data;
    qm_json_init(&l->json);
    l->input = g_string_sized_new(2 * 65536);
    l->batch = g_byte_array_new();
    l->sum = XXH3_createState();
    XXH3_128bits_reset(l->sum);
    e = build(l, uri, result);
    if (e == 0) {
        result->fs_rows = l->seen.fs_rows;
        result->affix_rows = l->seen.affix_rows;
        result->full_rows = l->seen.full_rows;
        if (l->backend->kept)
            g_strlcpy(result->backup, l->backend->kept, sizeof(result->backup));
        if (!store) {
            l->backend->ops->close(l->backend);
        } else {
            *store = qm_store_of(uri, l->backend, error);
            e = *store ? 0 : -EIO;
        }
    }
    XXH3_freeState(l->sum);
    g_byte_array_free(l->batch, TRUE);
    g_string_free(l->input, TRUE);
    qm_json_clear(&l->json);
    g_free(l);
    return e;
}

int qm_load(const char *uri, const struct qidmap_load_options *options,
            struct qidmap_load_result *result, struct qidmap_store **store, GError **error)
{
    return load(uri, options, NULL, result, store, error);
}

int qm_load_over(const char *uri, const struct qidmap_load_options *options, const char *backup,
                 uint64_t epoch, struct qidmap_load_result *result, GError **error)
{
    struct qidmap_load_options over = *options;

    over.backup = backup;
    return load(uri, &over, &epoch, result, NULL, error);
}
