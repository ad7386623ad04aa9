/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Registration of what a server has mounted: rows, then markers, then rows again.
 *
 * The order makes it safe to be cut short anywhere. First all rows are committed; where a marker is
 * to be written, the row says so: its filesystem has the marker that the row knows (or none), or
 * one that no row knows. Then markers are written to the filesystems and synced (qidmap_mark() does
 * both), outside the leader's role, since a filesystem may be slow. Then the rows take them over.
 * Cut short before that, the next registration finds the filesystem by the other discriminators,
 * and takes its marker over or writes one. A row that insists on a marker which its filesystem does
 * not have cannot come about.
 *
 * Must not know which row fits (resolve.c) nor what a marker is (marker.c).
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"
#include "store/store.h"

/* The filesystem said no, and is as it was. After other errors its marker may be either. */
static gboolean was_refused(int e)
{
    return e == -EROFS || e == -EOPNOTSUPP || e == -EPERM || e == -EACCES || e == -ENOSPC ||
           e == -EDQUOT || e == -ENODEV;
}

/* One filesystem, in parts or trees that have rows of their own, has one marker. */
static void take_marker(struct qidmap_identity *identity, const struct qidmap_identity *written)
{
    const struct qidmap_fsid *marker = NULL;
    uint32_t i, n = 0;

    memcpy(identity->hints.marker, written->hints.marker, sizeof(written->hints.marker));
    for (i = 0; i < written->count; i++) {
        if (written->fsid[i].kind == QIDMAP_FSID_MARKER)
            marker = &written->fsid[i];
    }
    if (!marker)
        return;
    while (n < identity->count && identity->fsid[n].kind == QIDMAP_FSID_OVERRIDE)
        n++;
    if (n < identity->count && identity->fsid[n].kind != QIDMAP_FSID_MARKER) {
        if (identity->count == QIDMAP_FSID_COUNT)
            identity->count--;
        memmove(&identity->fsid[n + 1], &identity->fsid[n],
                (identity->count - n) * sizeof(identity->fsid[0]));
        identity->count++;
    }
    identity->fsid[n] = *marker;
    identity->flags = (identity->flags & ~(uint32_t)QIDMAP_IDENTITY_WEAK) |
                      (written->flags & QIDMAP_IDENTITY_WEAK);
}

/* Writes markers where they are wanted, one to each superblock. What cannot be written is no error:
 * the filesystem is told apart by what else is known of it, and keeps in its row the marker that it
 * came with, so that this one no longer passes for proof. The number of identities that rows are to
 * take over comes back; they stand first in `identities` and `fs`. */
static size_t write_markers(struct qidmap_mounted *mounted, size_t count, const gboolean *marks,
                            const uint32_t *numbers, const struct qm_outside *outside,
                            struct qidmap_identity *identities, uint32_t *fs)
{
    g_autofree gboolean *done = g_new0(gboolean, count + 1);
    g_autoptr(GHashTable) noted = g_hash_table_new(NULL, NULL); /* rows */
    size_t n = 0, i, k;

    for (i = 0; i < count; i++) {
        struct qidmap_identity written = mounted[i].identity;
        struct qidmap_error error;
        int e;

        if (!marks[i] || numbers[i] == 0 || done[i])
            continue;
        e = outside->mark(mounted[i].fd, &written, &error);
        if (e != 0 && !was_refused(e))
            continue;
        for (k = 0; k < count; k++) { /* every mount of it shows the same */
            if (mounted[k].identity.superblock != mounted[i].identity.superblock ||
                numbers[k] == 0 || mounted[k].identity.policy == QIDMAP_POLICY_EPHEMERAL)
                continue;
            if (e != 0)
                ; /* what it came with */
            else if (k == i)
                mounted[k].identity = written;
            else if (numbers[k] == numbers[i])
                memcpy(mounted[k].identity.hints.marker, written.hints.marker,
                       sizeof(written.hints.marker));
            else
                take_marker(&mounted[k].identity, &written);
            done[k] = TRUE;
            if ((k == i || numbers[k] != numbers[i]) &&
                g_hash_table_add(noted, GUINT_TO_POINTER(numbers[k]))) {
                identities[n] = mounted[k].identity;
                fs[n++] = numbers[k];
            }
        }
    }
    return n;
}

int qm_store_register_mounted(struct qidmap_store *store, struct qidmap_mounted *mounted,
                              size_t count, const struct qidmap_register_options *options,
                              const struct qm_outside *outside, GError **error)
{
    g_autofree struct qidmap_identity *identities = g_new(struct qidmap_identity, count + 1);
    g_autofree gboolean *can_mark = g_new0(gboolean, count + 1);
    g_autofree gboolean *marks = g_new0(gboolean, count + 1);
    g_autofree uint32_t *numbers = g_new0(uint32_t, count + 1);
    g_autofree uint32_t *flags = g_new0(uint32_t, count + 1);
    g_autofree uint32_t *others = g_new0(uint32_t, count + 1);
    g_autofree uint32_t *marked = g_new0(uint32_t, count + 1);
    struct qm_registration reg = {
        .identities = identities,
        .count = count,
        .live = options->live,
        .n_live = options->n_live,
        .refuse = options->on_duplicate == QIDMAP_REFUSE,
        .split_weak = options->split_weak != 0,
        .can_mark = options->markers && outside->mark ? can_mark : NULL,
        .present = outside->present,
        .numbers = numbers,
        .flags = flags,
        .others = others,
        .marks = marks,
    };
    size_t i, n;
    int e;

    for (i = 0; i < count; i++) {
        identities[i] = mounted[i].identity;
        can_mark[i] = mounted[i].fd >= 0 && !(identities[i].flags & QIDMAP_IDENTITY_READONLY);
    }
    e = qm_store_register(store, &reg, error);
    if (e != 0)
        return e;
    n = write_markers(mounted, count, marks, numbers, outside, identities, marked);
    if (n > 0) {
        /* Rows and numbers are committed: without the markers they hold as well. What failed shows
         * at the next new mapping. */
        e = qm_store_update(store, identities, marked, n, NULL);
        (void)e;
    }
    for (i = 0; i < count; i++) {
        mounted[i].fs = numbers[i];
        mounted[i].result = numbers[i] ? 0 : -EEXIST;
        mounted[i].flags = flags[i];
        mounted[i].other = others[i];
    }
    return 0;
}
