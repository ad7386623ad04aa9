/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 6: the marker on the root, for filesystems that nothing else identifies: 16 bytes, its uuid.
 * On others the marker is a hint, which tells clones apart.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <string.h>

int qm_rung_marker(struct qm_probe *probe, const struct qidmap_identify_options *options,
                   struct qm_answer *answer)
{
    static const guint8 zero[16];

    (void)options;
    if (memcmp(probe->marker, zero, 16) == 0) {
        qm_say(answer, "%s", probe->marker_text);
        return -ENODATA;
    }
    if (strcmp(probe->mount->type, "btrfs") == 0) {
        qm_say(answer, "a marker is there, but subvolumes of btrfs share it: a hint only");
        return -ENODATA;
    }
    qm_answer_set(answer, QIDMAP_FSID_MARKER, probe->marker, 16);
    qm_say(answer, "%s", probe->marker_text);
    return 0;
}
