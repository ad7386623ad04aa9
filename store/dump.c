/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes dumps; see dump.h. The members of a line are dumpline.c's. */
#include "config.h"

#include "store/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/dumpline.h"
#include "store/error.h"

#define BLOCK 65536u

struct dumper {
    struct qm_txn *txn;
    gboolean lenient;
    qidmap_write_func write;
    void *data;
    struct qm_progress *progress;
    struct qm_meta seen; /* counts of the rows written */
    GString *line, *block;
    XXH3_state_t *sum;
};

int qm_progress_step(struct qm_progress *progress)
{
    if (!progress || ++progress->done % QM_PROGRESS_STEP != 0 || !progress->call)
        return 0;
    return progress->call(progress->data, progress->done, MAX(progress->total, progress->done))
               ? -ECANCELED
               : 0;
}

int qm_read_meta(struct qm_txn *txn, struct qm_meta *meta)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_bytes key = {QM_META_KEY, strlen(QM_META_KEY)}, k, v;
    struct qm_cursor *cursor;
    uint32_t format;
    int e = ops->cursor_open(txn, QM_TABLE_META, &cursor);

    if (e != 0)
        return e;
    e = ops->cursor_seek(cursor, key, &k, &v);
    if (e == 0)
        e = qm_parse_meta(k, v, meta, &format);
    ops->cursor_close(cursor);
    return e;
}

static int flush(struct dumper *d)
{
    int e = d->block->len ? d->write(d->data, d->block->str, d->block->len) : 0;

    g_string_truncate(d->block, 0);
    return e;
}

/* Hands on `line`. */
static int put(struct dumper *d)
{
    g_string_append_len(d->block, d->line->str, (gssize)d->line->len);
    XXH3_128bits_update(d->sum, d->line->str, d->line->len);
    return d->block->len >= BLOCK ? flush(d) : 0;
}

/* The line of a row; -EUCLEAN where it cannot be read. */
static int row_line(struct dumper *d, enum qm_table table, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object;
    struct qidmap_fs fs;
    gboolean has_full;
    uint32_t number, n;
    unsigned bits;
    uint64_t value;
    int e;

    switch (table) {
    case QM_TABLE_FS:
        e = qm_parse_fs(k, v, &fs, &has_full);
        if (e == 0) {
            qm_line_fs(d->line, &fs, has_full);
            d->seen.fs_rows++;
        }
        return e;
    case QM_TABLE_AFFIX:
        e = qm_parse_affix(k, v, &number, &bits, &value, &n);
        if (e == 0) {
            qm_line_affix(d->line, number, bits, value, n);
            d->seen.affix_rows++;
        }
        return e;
    case QM_TABLE_FULL:
        e = qm_parse_full(k, v, &object, &value);
        if (e == 0) {
            qm_line_full(d->line, &object, value);
            d->seen.full_rows++;
        }
        return e;
    default: /* derived from the others: only what cannot be read is of interest */
        e = qm_parse_check(table, k, v);
        g_string_truncate(d->line, 0);
        return e == -EPROTO ? -EUCLEAN : e;
    }
}

static int dump_table(struct dumper *d, enum qm_table table, GError **error)
{
    const struct qm_backend_ops *ops = d->txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    uint64_t count = 0;
    int e = ops->cursor_open(d->txn, table, &cursor);

    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    e = ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
    while (e == 0) {
        count++;
        e = row_line(d, table, k, v);
        if (e == -EUCLEAN && d->lenient) {
            qm_line_damaged(d->line, table, k, v);
            e = 0;
        }
        if (e == -EUCLEAN) {
            qm_set_error(error, EUCLEAN,
                         "the store is damaged (table %s, row %" G_GUINT64_FORMAT
                         "): let it be verified",
                         qm_table_name(table), count);
            break;
        }
        if (e == 0 && d->line->len)
            e = put(d);
        if (e != 0) {
            qm_set_error(error, e, "cannot write the dump: %s", g_strerror(-e));
            break;
        }
        e = qm_progress_step(d->progress);
        if (e != 0) {
            qm_set_error(error, e, "ended on request");
            break;
        }
        e = ops->cursor_next(cursor, &k, &v);
        if (e != 0 && e != -ENOENT)
            qm_set_error(error, e,
                         e == -ESTALE ? "the store grew while it was being read: begin again"
                                      : "cannot read: %s",
                         g_strerror(-e));
    }
    ops->cursor_close(cursor);
    return e == -ENOENT ? 0 : e;
}

static int dump_rows(struct dumper *d, GError **error)
{
    static const enum qm_table tables[] = {QM_TABLE_FS,   QM_TABLE_AFFIX,   QM_TABLE_FULL,
                                           QM_TABLE_FSID, QM_TABLE_BYAFFIX, QM_TABLE_BYFULL};
    size_t count = d->lenient ? G_N_ELEMENTS(tables) : 3, i;
    XXH128_canonical_t canonical;
    int e = 0;

    for (i = 0; e == 0 && i < count; i++)
        e = dump_table(d, tables[i], error);
    if (e != 0)
        return e;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->sum));
    qm_line_end(d->line, &d->seen, canonical.digest);
    e = put(d);
    if (e == 0)
        e = flush(d);
    return e == 0 ? 0 : qm_set_error(error, e, "cannot write the dump: %s", g_strerror(-e));
}

int qm_dump(struct qm_txn *txn, gboolean lenient, qidmap_write_func write, void *data,
            struct qm_progress *progress, GError **error)
{
    struct dumper d = {
        .txn = txn, .lenient = lenient, .write = write, .data = data, .progress = progress};
    struct qm_meta meta;
    int e = qm_read_meta(txn, &meta);

    memset(&d.seen, 0, sizeof(d.seen));
    if (e != 0 && lenient && (e == -EUCLEAN || e == -ENOENT)) {
        memset(&meta, 0, sizeof(meta));
        e = 0;
    }
    if (e != 0)
        return qm_set_error(error, e,
                            "the store is damaged (its first record): let it be verified");
    if (progress)
        progress->total = meta.fs_rows + meta.affix_rows + meta.full_rows;
    d.line = g_string_sized_new(1024);
    d.block = g_string_sized_new(BLOCK + QM_DUMP_LINE_MAX);
    d.sum = XXH3_createState();
    XXH3_128bits_reset(d.sum);
    qm_line_store(d.line, &meta);
    e = put(&d);
    e = e == 0 ? dump_rows(&d, error)
               : qm_set_error(error, e, "cannot write the dump: %s", g_strerror(-e));
    XXH3_freeState(d.sum);
    g_string_free(d.line, TRUE);
    g_string_free(d.block, TRUE);
    return e;
}

/* ---- files -------------------------------------------------------------------------------------
 */

static int write_fd(void *data, const void *bytes, size_t size)
{
    const char *p = bytes;

    while (size > 0) {
        ssize_t n = write(*(const int *)data, p, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOSPC;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int sync_parent(const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return e;
}

int qm_dump_file(struct qm_txn *txn, gboolean lenient, const char *path, gboolean replace,
                 struct qm_progress *progress, GError **error)
{
    g_autofree char *new = g_strconcat(path, ".new", NULL);
    int fd, e;

    if (unlink(new) != 0 && errno != ENOENT)
        return qm_set_error(error, errno, "cannot remove %s: %s", new, g_strerror(errno));
    fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return qm_set_error(error, errno, "cannot write the dump %s: %s", new, g_strerror(errno));
    e = qm_dump(txn, lenient, write_fd, &fd, progress, error);
    if (e == 0 && fsync(fd) != 0)
        e = qm_set_error(error, errno, "cannot write the dump %s: %s", new, g_strerror(errno));
    if (close(fd) != 0 && e == 0)
        e = qm_set_error(error, errno, "cannot write the dump %s: %s", new, g_strerror(errno));
    /* link(2) does not replace */
    if (e == 0 && (replace ? rename(new, path) : link(new, path)) != 0)
        e = qm_set_error(error, errno, "cannot put the dump at %s: %s", path, g_strerror(errno));
    if (e != 0 || !replace)
        (void)unlink(new);
    if (e == 0) {
        e = sync_parent(path);
        if (e != 0)
            e = qm_set_error(error, e, "cannot sync the directory of %s: %s", path, g_strerror(-e));
    }
    return e;
}

char *qm_backup_name(const char *place, const char *what)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%SZ");
    g_autofree char *plain = g_strdup(place);
    gsize size = strlen(plain);
    static int calls; /* several in one second */
    int call = g_atomic_int_add(&calls, 1);

    while (size > 1 && plain[size - 1] == '/')
        plain[--size] = '\0';
    if (call > 0)
        return g_strdup_printf("%s.%s-%s-%ld-%d.json", plain, what, time, (long)getpid(), call);
    return g_strdup_printf("%s.%s-%s-%ld.json", plain, what, time, (long)getpid());
}
