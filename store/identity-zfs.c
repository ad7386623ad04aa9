/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 2: ZFS. Each dataset and snapshot is a filesystem with inode numbers of its own.
 *
 *     8 bytes   f_fsid of statfs(2), little-endian
 *
 * What is known of it, from the sources of OpenZFS, not from a running one: f_fsid is the
 * `fsid_guid` of the dataset, a random number of 56 bits that is stored with it. It is not the
 * dataset's `guid`: that is 64 bits, never changes, and cannot be asked for without libzfs. OpenZFS
 * may replace an fsid_guid when another dataset that is open at the time has the same one; the
 * filesystem then counts as another, which renumbers it but mixes nothing up. `zfs receive` and
 * `zfs clone` make new ones. For these reasons: flagged untested.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <string.h>

#define ZFS_MAGIC 0x2fc12fc1

int qm_zfs_answer(guint64 f_fsid, struct qm_answer *answer)
{
    guint64 bytes = GUINT64_TO_LE(f_fsid);

    if (f_fsid == 0) {
        qm_say(answer, "statfs gives no f_fsid");
        return -ENODATA;
    }
    qm_answer_set(answer, QIDMAP_FSID_ZFS, &bytes, sizeof bytes);
    answer->flags = QIDMAP_IDENTITY_UNTESTED;
    qm_say(answer, "fsid_guid of the dataset, from statfs");
    return 0;
}

int qm_rung_zfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                struct qm_answer *answer)
{
    guint32 half[2];

    (void)options;
    if (strcmp(probe->mount->type, "zfs") != 0 || probe->sfs.f_type != ZFS_MAGIC) {
        qm_say(answer, "not ZFS");
        return -ENODATA;
    }
    memcpy(half, &probe->sfs.f_fsid, sizeof half);
    return qm_zfs_answer((guint64)half[1] << 32 | half[0], answer);
}
