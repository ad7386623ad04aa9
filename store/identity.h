/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ladder: how a mounted filesystem is recognised. Each rung is in a file of its own
 * (identity-*.c), looks at a probe, and adds the identities that it finds.
 */
#ifndef QM_IDENTITY_H
#define QM_IDENTITY_H

#include <glib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "store/mountinfo.h"
#include "store/qidmap.h"

/* What is known about the file that is being asked about. */
struct qm_probe {
    int fd;           /* as given; O_PATH perhaps */
    struct statx stx; /* of fd, STATX_MNT_ID included */
    struct statfs sfs;
    const struct qm_mount *mount;
    guint64 unique_id; /* of the mount, never used again in this boot; 0 before Linux 6.8 */
    int io_fd;         /* see qm_probe_io_fd() */
    gboolean io_tried;
    guint32 dev_major; /* block device below the filesystem; 0:0 where there is none */
    guint32 dev_minor;
    int dev_fd; /* see qm_probe_dev_fd() */
    gboolean dev_tried;
};

/* Looks at `fd`; -ENODEV when its mount is not in the table. `mounts` must outlive the probe. */
int qm_probe_init(struct qm_probe *probe, int fd, const GPtrArray *mounts);
void qm_probe_clear(struct qm_probe *probe);

/* A readable descriptor on the same filesystem (on btrfs: the same subvolume), for ioctls; opened
 * when first asked for; negative where that cannot be had. Belongs to the probe. Not to be asked
 * for on filesystems whose open(2) may hang (FUSE, network). */
int qm_probe_io_fd(struct qm_probe *probe);

/* The same for the block device, for reading. */
int qm_probe_dev_fd(struct qm_probe *probe);

/* Adds an identity; one that is there already, or a ninth, is left out. */
void qm_identity_add(struct qidmap_identity *identity, guint32 kind, const void *bytes, gsize size);

/* A rung. Adds nothing where it has no answer. */
void qm_rung_override(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qidmap_identity *identity);
void qm_rung_btrfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                   struct qidmap_identity *identity);
void qm_rung_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qidmap_identity *identity);
void qm_rung_blkid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                   struct qidmap_identity *identity);
void qm_rung_ephemeral(struct qm_probe *probe, const struct qidmap_identify_options *options,
                       struct qidmap_identity *identity);
void qm_rung_weak(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qidmap_identity *identity);

/* Uuid through FS_IOC_GETFSUUID; FALSE where there is none or it is zero. */
gboolean qm_generic_uuid(int fd, guint8 uuid[16]);

/* PARTUUID of the partition below, from libblkid; FALSE where there is none. */
gboolean qm_blkid_part_uuid(struct qm_probe *probe, char *text, gsize size);

/* Id of this boot as 16 bytes and as text (37 bytes with the NUL); FALSE where it cannot be read.
 */
gboolean qm_boot_id(guint8 bytes[16], char text[37]);

/* Parses the usual text form of a uuid, hyphens optional. */
gboolean qm_uuid_parse(const char *text, guint8 bytes[16]);

/* What qidmap_identify() does. */
int qm_identify(int fd, const struct qidmap_identify_options *options,
                struct qidmap_identity *identity, struct qidmap_error *error);

const char *qm_fsid_kind_name(guint32 kind);
const char *qm_policy_name(guint32 policy);

#endif
