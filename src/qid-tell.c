/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is told to the operator about an export, once for each: that its store has little room,
 * fails or goes on, and, with multidevs=warn, that it shows more than one filesystem.
 *
 * Changes no answer.
 */
#include "config.h"

#include "src/qid-export.h"

#include <errno.h>

#include "src/log.h"

/* After what may have made new mappings: says once when a store with little room has less than a
 * tenth of it left, and once when there is none. */
void qid_watch_room(struct qid_export *exp)
{
    struct qidmap_stats stats = {.size = sizeof stats};
    int stage;

    if (!exp->little_room || g_atomic_int_get(&exp->room_told) == 2 ||
        qidmap_store_stats(exp->store, &stats, NULL) < 0 || stats.bytes_room == 0 ||
        stats.bytes_used < stats.bytes_room / 10 * 9)
        return;
    stage = stats.rows_room == 0 ? 2 : 1;
    if (g_atomic_int_get(&exp->room_told) >= stage)
        return;
    g_atomic_int_set(&exp->room_told, stage);
    if (stage == 1)
        log_warning("export %s: the store %s has less than a tenth of its room left, for about "
                    "%" G_GUINT64_FORMAT " affix entries; an lmdb: store has more",
                    exp->name, exp->store_uri, stats.rows_room);
    else
        log_warning("export %s: the store %s has no room left: new mappings fail; use an lmdb: "
                    "store",
                    exp->name, exp->store_uri);
}

/* After what made, or should have made, new mappings, with its result: tells when they begin to
 * fail, and when they go on. */
void qid_watch_store(struct qid_export *exp, int rc)
{
    int told = g_atomic_int_get(&exp->trouble);
    struct qidmap_error problem;

    if (rc == told || (rc != 0 && rc != -EIO && rc != -EUCLEAN && rc != -ENOSPC && rc != -ENFILE) ||
        !g_atomic_int_compare_and_exchange(&exp->trouble, told, rc))
        return;
    if (rc == 0)
        log_warning("export %s: the store %s takes new files again", exp->name, exp->store_uri);
    else if (qidmap_store_health(exp->store, &problem) < 0)
        log_error("export %s: %s", exp->name, problem.text);
    else
        log_error("export %s: the store %s takes no new files, known ones are served: %s",
                  exp->name, exp->store_uri, g_strerror(-rc));
}

/* multidevs=warn: once for each export, which two filesystems share the space of inode numbers. */
void qid_warn_once(struct qid_export *exp, const struct statx *stx)
{
    if ((stx->stx_dev_major == exp->root_stx.stx_dev_major &&
         stx->stx_dev_minor == exp->root_stx.stx_dev_minor) ||
        !g_atomic_int_compare_and_exchange(&exp->warned, 0, 1))
        return;
    g_autofree char *first = mount_describe(exp->mounts, &exp->root_stx);
    g_autofree char *second = mount_describe(exp->mounts, stx);
    log_warning("export %s: more than one filesystem (%s; %s), and multidevs=warn: guests may take "
                "a file of one for a file of the other",
                exp->name, first, second);
}
