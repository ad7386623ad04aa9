/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeps a row up to date with what was seen of its filesystem: identities, flags, hints. Owns which
 * change is worth a write.
 *
 * Must not know why the row is the filesystem's, nor how it is written (rows.c).
 */
#include "config.h"

#include "store/resolve.h"

#include <string.h>

#include "store/fsindex.h"
#include "store/hints.h"
#include "store/resolve-hints.h"

/* Takes a new value that is not empty; TRUE when it differed. */
static gboolean take_string(char *old, const char *now, gsize size)
{
    gboolean changed = now[0] != '\0' && !qm_hint_equal(old, now);

    if (now[0] != '\0')
        g_strlcpy(old, now, size); /* in full, where it was cut */
    return changed;
}
#define TAKE_STRING(old, now) take_string((old), (now), sizeof(old))

static gboolean take_hints(struct qidmap_hints *old, const struct qidmap_hints *now)
{
    gboolean changed = FALSE;

    /* The names of a device go together: a disk that has become an image has no wwid any more. */
    if (qm_has_device(now) &&
        (old->partition != now->partition || !qm_hint_equal(old->backing, now->backing) ||
         !qm_hint_equal(old->dm_uuid, now->dm_uuid) || !qm_hint_equal(old->wwid, now->wwid))) {
        g_strlcpy(old->backing, now->backing, sizeof old->backing);
        g_strlcpy(old->dm_uuid, now->dm_uuid, sizeof old->dm_uuid);
        g_strlcpy(old->wwid, now->wwid, sizeof old->wwid);
        old->partition = now->partition;
        changed = TRUE;
    }
    changed |= TAKE_STRING(old->type, now->type);
    changed |= TAKE_STRING(old->source, now->source);
    changed |= TAKE_STRING(old->part_uuid, now->part_uuid);
    changed |= TAKE_STRING(old->mount_path, now->mount_path);
    changed |= TAKE_STRING(old->boot_id, now->boot_id);
    changed |= TAKE_STRING(old->machine_id, now->machine_id);
    if (old->tree[0] == '\0') /* another tree is another row; without trees it keeps its own */
        changed |= TAKE_STRING(old->tree, now->tree);
    if (qm_has_marker(now) && memcmp(old->marker, now->marker, sizeof old->marker) != 0) {
        memcpy(old->marker, now->marker, sizeof old->marker);
        changed = TRUE;
    }
    if (now->root_ino != 0 && (old->root_ino != now->root_ino || old->root_gen != now->root_gen ||
                               old->root_btime_ns != now->root_btime_ns)) {
        old->root_ino = now->root_ino;
        old->root_gen = now->root_gen;
        old->root_btime_ns = now->root_btime_ns;
        changed = TRUE;
    }
    if (old->st_dev != now->st_dev) {
        old->st_dev = now->st_dev;
        changed = TRUE;
    }
    return changed;
}

gboolean qm_resolve_update(struct qidmap_fs *row, const struct qidmap_identity *identity,
                           gboolean fresh, gint64 now)
{
    gboolean changed = fresh;

    if (fresh) {
        row->policy = identity->policy;
        row->hints.first_seen = now;
    }
    for (guint32 i = 0; i < MIN(identity->count, QIDMAP_FSID_COUNT); i++) {
        if (row->fsid_count < QIDMAP_FSID_COUNT &&
            !qm_fsid_listed(row->fsid, row->fsid_count, &identity->fsid[i])) {
            row->fsid[row->fsid_count++] = identity->fsid[i];
            changed = TRUE;
        }
    }
    guint32 flags = (row->flags & QIDMAP_IDENTITY_DUPLICATE) | identity->flags;
    if (row->flags != flags) {
        row->flags = flags;
        changed = TRUE;
    }
    if (take_hints(&row->hints, &identity->hints))
        changed = TRUE;
    if (fresh || now - row->hints.last_seen >= 86400 || now < row->hints.last_seen)
        changed = TRUE;
    if (changed)
        row->hints.last_seen = now;
    return changed;
}
