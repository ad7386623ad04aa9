/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verifying a store by its URI, and mending one: a look first, a backup, one transaction that mends
 * and is looked at again before it is committed, and a last look at what is stored then. What is
 * wrong, and what can be proven, is verify.c's to know.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/store.h"
#include "store/verify.h"

static void fill(struct qidmap_verify_result *result, const struct qm_verify *v)
{
    int i;

    result->rows = 0;
    for (i = 0; i < QM_TABLES; i++)
        result->rows += v->rows[i];
    result->problems = v->problems;
    result->mendable = v->mendable;
    result->fs_rows = v->rows[QM_TABLE_FS];
    result->affix_rows = v->rows[QM_TABLE_AFFIX];
    result->full_rows = v->rows[QM_TABLE_FULL];
}

static void init(struct qm_verify *v, const struct qidmap_verify_options *options, gboolean aloud)
{
    memset(v, 0, sizeof(*v));
    v->data = options ? options->data : NULL;
    v->problem = options && aloud ? options->problem : NULL;
    v->progress.call = options ? options->progress : NULL;
    v->progress.data = v->data;
}

static int look(struct qm_backend *backend, struct qm_verify *v, GError **error)
{
    struct qm_txn *txn;
    int e = backend->ops->begin(backend, QM_TXN_SNAPSHOT, 0, &txn);

    if (e != 0)
        return qm_set_error(error, e, "cannot read the store: %s", g_strerror(-e));
    e = qm_verify_txn(v, txn, error);
    backend->ops->abort(txn);
    return e;
}

int qm_verify_backend(struct qm_backend *backend, const struct qidmap_verify_options *options,
                      struct qidmap_verify_result *result, GError **error)
{
    struct qm_verify v;
    int e;

    init(&v, options, TRUE);
    e = look(backend, &v, error);
    if (e == 0)
        fill(result, &v);
    return e;
}

/* ---- mending -----------------------------------------------------------------------------------
 */

static int backup(struct qm_backend *backend, const char *path, struct qm_verify *v, GError **error)
{
    struct qm_txn *txn;
    int e = backend->ops->begin(backend, QM_TXN_SNAPSHOT, 0, &txn);

    if (e != 0)
        return qm_set_error(error, e, "cannot read the store: %s", g_strerror(-e));
    v->progress.done = 0;
    e = qm_dump_file(txn, TRUE, path, FALSE, &v->progress, error);
    backend->ops->abort(txn);
    return e;
}

/* One transaction: mends, looks again, commits. 0, QM_GROW, or an errno with `error`. */
static int mend_once(struct qm_backend *backend, struct qm_verify *v, uint64_t rows, GError **error)
{
    const struct qm_backend_ops *ops = backend->ops;
    struct qm_verify again;
    struct qm_record r;
    struct qm_meta meta;
    struct qm_txn *txn;
    int e = ops->begin(backend, QM_TXN_WRITE, (size_t)rows, &txn);

    if (e != 0)
        return qm_set_error(error, e, "cannot write: %s", g_strerror(-e));
    v->mend = TRUE;
    e = qm_verify_txn(v, txn, error);
    if (e == 0) {
        meta = v->meta;
        if (backend->copied) { /* what is written marks it as no copy any more */
            struct qm_floor floor;

            qm_floor_leap(&floor, &meta);
            meta.next_fs = floor.next_fs;
            meta.next_affix = floor.next_affix;
            meta.next_serial = floor.next_serial;
            meta.next_instance = floor.next_instance;
        }
        meta.epoch++;
        meta.last_clean_stop = 0;
        meta.transaction = ops->number(txn);
        qm_record_meta(&r, &meta);
        e = qm_txn_put(txn, QM_TABLE_META, &r);
        if (e != 0 && e != QM_GROW)
            qm_set_error(error, e, "cannot write: %s", g_strerror(-e));
    }
    if (e == 0) {
        memset(&again, 0, sizeof(again));
        e = qm_verify_txn(&again, txn, error);
        /* Every REMOVE_MAX rows need a pass of their own: these may be left. */
        if (e == 0 && again.problems > v->problems - v->mended)
            e = qm_set_error(error, EUCLEAN, "what was mended did not hold; nothing was changed");
    }
    if (e != 0) {
        ops->abort(txn);
        return e;
    }
    e = ops->commit(txn);
    if (e != 0 && e != QM_GROW)
        qm_set_error(error, e, "cannot write: %s", g_strerror(-e));
    return e;
}

static int mend(struct qm_backend *backend, struct qm_verify *v, uint64_t rows, GError **error)
{
    void (*problem)(void *, const struct qidmap_problem *) = v->problem;
    int e;

    for (;;) {
        v->problem = NULL; /* told when it is stored */
        e = mend_once(backend, v, rows, error);
        v->problem = problem;
        if (e != QM_GROW)
            return e;
        e = backend->ops->grow(backend);
        if (e != 0)
            return qm_set_error(error, e, "cannot write: %s", g_strerror(-e));
    }
}

int qm_repair(struct qm_backend *backend, const char *path,
              const struct qidmap_verify_options *options, struct qidmap_verify_result *result,
              GError **error)
{
    struct qm_verify v;
    uint64_t mended;
    int e;

    if (backend->failed)
        return qm_set_error(error, EIO, "its disk takes no writes: nothing can be mended");
    init(&v, options, TRUE);
    e = look(backend, &v, error); /* tells all that is wrong */
    if (e != 0)
        return e;
    fill(result, &v);
    if (v.mendable == 0 || !v.have_meta)
        return 0;
    e = backup(backend, path, &v, error);
    if (e != 0)
        return e;
    g_strlcpy(result->backup, path, sizeof(result->backup));
    e = mend(backend, &v, v.mendable + 8, error);
    if (e != 0)
        return e;
    mended = v.mended;
    init(&v, options, FALSE);
    e = look(backend, &v, error);
    if (e == 0) {
        fill(result, &v);
        result->mended = mended;
    }
    return e;
}

/* ---- by URI ------------------------------------------------------------------------------------
 */

int qm_verify_uri(const char *uri, const struct qidmap_verify_options *options,
                  struct qidmap_verify_result *result, GError **error)
{
    gboolean repair = options && (options->flags & QIDMAP_VERIFY_REPAIR);
    struct qm_backend_config config = {.write = repair, .lenient = TRUE};
    g_autofree char *path = NULL;
    const struct qm_backend_ops *ops;
    struct qm_backend *backend;
    GError *trouble = NULL;
    const char *place;
    struct qm_verify v;
    int e;

    ops = qm_backend_find(uri, &place, error);
    if (!ops)
        return -EINVAL;
    backend = ops->open(place, &config, &trouble);
    if (!backend) {
        if (!g_error_matches(trouble, QM_ERROR, EUCLEAN)) {
            e = -trouble->code;
            g_propagate_error(error, trouble);
            return e;
        }
        init(&v, options, TRUE);
        qm_verify_structure(&v, trouble->message);
        g_error_free(trouble);
        fill(result, &v);
        return 0;
    }
    path = options && options->backup ? g_strdup(options->backup)
                                      : qm_backup_name(place, "before-repair");
    e = repair ? qm_repair(backend, path, options, result, error)
               : qm_verify_backend(backend, options, result, error);
    ops->close(backend);
    return e;
}
