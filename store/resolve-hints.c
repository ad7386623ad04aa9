/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Discriminators: what tells two filesystems with one identity apart. Owns which hints are
 * compared, and how; which of them counts for more in a case is said in resolve-evidence.c.
 *
 * Must not know of claims and candidates (resolve-group.h).
 */
#include "config.h"

#include "store/resolve-hints.h"

#include <string.h>

#include "store/hints.h"
#include "store/resolve.h"

gboolean qm_has_marker(const struct qidmap_hints *hints)
{
    static const guint8 zero[sizeof hints->marker];
    return memcmp(hints->marker, zero, sizeof zero) != 0;
}

gboolean qm_same_marker(const struct qidmap_hints *a, const struct qidmap_hints *b)
{
    return qm_has_marker(a) && memcmp(a->marker, b->marker, sizeof a->marker) == 0;
}

gboolean qm_has_device(const struct qidmap_hints *hints)
{
    return hints->backing[0] != '\0' || hints->dm_uuid[0] != '\0' || hints->wwid[0] != '\0';
}

static enum match match_if(gboolean fits)
{
    return fits ? MATCH_FITS : MATCH_DIFFERS;
}

enum match qm_hints_compare(const struct qidmap_hints *a, const struct qidmap_hints *b,
                            enum level level)
{
    switch (level) {
    case LEVEL_MARKER:
        if (!qm_has_marker(a) || !qm_has_marker(b))
            return MATCH_UNKNOWN;
        return match_if(qm_same_marker(a, b));
    case LEVEL_DEVICE:
        if (!qm_has_device(a) || !qm_has_device(b))
            return MATCH_UNKNOWN;
        if (a->partition != b->partition)
            return MATCH_DIFFERS;
        /* Of the three names of a device the first that one side has counts. */
        if (a->backing[0] != '\0' || b->backing[0] != '\0')
            return match_if(qm_hint_equal(a->backing, b->backing));
        if (a->dm_uuid[0] != '\0' || b->dm_uuid[0] != '\0')
            return match_if(qm_hint_equal(a->dm_uuid, b->dm_uuid));
        return match_if(qm_hint_equal(a->wwid, b->wwid));
    case LEVEL_PARTITION:
        if (a->part_uuid[0] == '\0' || b->part_uuid[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(qm_hint_equal(a->part_uuid, b->part_uuid));
    case LEVEL_NAMES:
    default:
        if (a->mount_path[0] == '\0' || b->mount_path[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(qm_hint_equal(a->source, b->source) &&
                        qm_hint_equal(a->mount_path, b->mount_path));
    }
}

gboolean qm_same_device(const struct qidmap_hints *a, const struct qidmap_hints *b)
{
    return qm_hints_compare(a, b, LEVEL_DEVICE) == MATCH_FITS;
}
