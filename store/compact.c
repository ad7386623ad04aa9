/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rewriting a store without the pages that nobody uses. What is stored stays row for row; the
 * backend makes the copy, and puts it in place in one step.
 */
#include "config.h"

#include "store/compact.h"

#include <errno.h>

#include "store/error.h"

static uint64_t used(struct qidmap_store *store)
{
    uint64_t bytes, limit;

    store->backend->ops->room(store->backend, &bytes, &limit);
    return bytes;
}

/* Bytes after a rewrite, about. */
static int estimate(struct qidmap_store *store, uint64_t *bytes, GError **error)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_txn *txn;
    int e;

    if (!ops->live || !ops->recover)
        return 0;
    e = ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn);
    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    *bytes = MIN(*bytes, ops->live(txn));
    ops->abort(txn);
    return 0;
}

static int rewrite(struct qidmap_store *store, GError **error)
{
    int e;

    qm_store_lead(store);
    e = qm_store_blocked(store, error);
    if (e == 0)
        e = qm_store_renew(store, error);
    qm_store_unlead(store);
    return e;
}

int qm_compact(struct qidmap_store *store, gboolean dry_run, struct qidmap_compact_result *result,
               GError **error)
{
    int e = 0;

    result->bytes_before = result->bytes_after = used(store);
    if (dry_run)
        return estimate(store, &result->bytes_after, error);
    if (!store->writable)
        return qm_set_error(error, EROFS, "it is open for reading only");
    if (store->backend->ops->recover)
        e = rewrite(store, error);
    result->bytes_after = used(store);
    return e;
}
