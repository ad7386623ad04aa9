/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a whole store; see verify.h. Here is its order; the parts are in verify-*.c.
 *
 * Order: record, fs, fsid, affix, byaffix, full, byfull, then what needs all of them: counts,
 * counters, flags, aliases. Filesystems and affix entries are kept in memory, as an open store
 * does; the full map is not.
 *
 * Mending changes the tables that say again what another one says (fsid, byaffix, byfull), and the
 * flags, counts and counters that follow from rows. The rows that it is derived from must have a
 * right checksum. A row of such a table that nothing confirms is taken away only where all rows of
 * the other table are there and whole; otherwise it may be the last witness of an id.
 */
#include "config.h"

#include "store/verify-check.h"

#include <string.h>

static int run(struct qm_check *c)
{
    int e = qm_check_record(c);

    if (e == 0)
        e = qm_check_filesystems(c);
    if (e == 0)
        e = qm_check_affix(c);
    if (e == 0)
        e = qm_check_full(c);
    if (e == 0)
        e = qm_check_relations(c);
    if (e == 0)
        qm_check_numbers(c);
    return e;
}

int qm_verify_txn(struct qm_verify *v, struct qm_txn *txn, GError **error)
{
    struct qm_check c = {.v = v, .txn = txn, .ops = txn->backend->ops, .error = error};
    int e, i;

    v->have_meta = FALSE;
    v->problems = v->mendable = v->mended = 0;
    v->progress.done = 0;
    memset(v->rows, 0, sizeof(v->rows));
    c.seed = (uint64_t)g_random_int() << 32 | g_random_int();
    c.fs = g_array_new(FALSE, FALSE, sizeof(struct qm_check_fs));
    c.entries = g_array_new(FALSE, FALSE, sizeof(struct qm_check_entry));
    c.remove = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    e = run(&c);
    for (i = 0; i < QM_TABLES; i++) {
        if (c.at[i])
            c.ops->cursor_close(c.at[i]);
    }
    g_ptr_array_free(c.remove, TRUE);
    g_array_free(c.entries, TRUE);
    g_array_free(c.fs, TRUE);
    return e;
}
