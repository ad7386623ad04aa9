/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last rung: nothing but names tells what this is (FUSE without a marker, and whatever
 * has no uuid): a digest of type, source and mount path. Flagged weak, since another
 * filesystem could come under the same names.
 *
 * Not for btrfs: it has subvolumes, which share all of these names. Where its ioctls do not answer,
 * it stays unidentified and is refused.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <string.h>

#include "store/hints.h"

int qm_rung_weak(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer)
{
    const struct qm_mount *mount = probe->mount;
    struct qidmap_hints hints = {0};

    if (strcmp(mount->type, "btrfs") == 0) {
        qm_say(answer, "not for btrfs, whose subvolumes share their names");
        return -ENODATA;
    }
    /* The number of a loop device says nothing; its file does. */
    qm_hints_collect(probe, options, &hints);
    const char *source = hints.backing[0] != '\0' ? hints.backing : mount->source;
    const char *const parts[] = {mount->type, source, mount->root, mount->path, NULL};
    qm_answer_digest(answer, QIDMAP_FSID_WEAK, parts);
    answer->flags = QIDMAP_IDENTITY_WEAK;
    qm_say(answer, "names alone: type %s, source %s, mount path %s", mount->type, source,
           mount->path);
    return 0;
}
