/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ladder: how a mounted filesystem is recognised. Each rung is in a file of its own
 * (identity-*.c), looks at a probe, and says what it finds, or why nothing.
 */
#ifndef QM_IDENTITY_H
#define QM_IDENTITY_H

#include <glib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "store/mountinfo.h"
#include "store/qidmap.h"

/*
 * What the kernel may be asked. All TRUE: whatever the running kernel does not have is found out by
 * asking. Unit tests set members to FALSE, which makes this code go the ways of an older kernel.
 */
struct qm_features {
    gboolean getfsuuid;   /* FS_IOC_GETFSUUID, Linux 6.9 */
    gboolean unique_id;   /* STATX_MNT_ID_UNIQUE, Linux 6.8 */
    gboolean bare_handle; /* AT_HANDLE_FID, Linux 6.5 */
};
extern struct qm_features qm_features;

/* How long a filesystem whose server is somebody else may take to answer. */
#define QM_PATIENCE_MS 20000

/* What is known about the file that is being asked about. */
struct qm_probe {
    int fd;            /* as given; O_PATH perhaps */
    struct statx stx;  /* of fd, STATX_MNT_ID included */
    struct statfs sfs; /* zero for filesystems whose answer could be waited for: is_remote */
    const GPtrArray *mounts;
    const struct qm_mount *mount;
    guint64 unique_id; /* of the mount, never used again in this boot; 0 before Linux 6.8 */
    gboolean is_fuse;
    gboolean is_remote; /* FUSE or network: a call may wait for a server, for ever even */
    guint depth;        /* > 0: a layer of an overlay is being asked about */
    int io_fd;          /* see qm_probe_io_fd() */
    gboolean io_tried;
    guint32 dev_major; /* block device below the filesystem; 0:0 where there is none */
    guint32 dev_minor;
    int dev_fd; /* see qm_probe_dev_fd() */
    gboolean dev_tried;

    /* Found out by qm_probe_nature(). */
    guint32 policy;           /* enum qidmap_policy: what fits the filesystem as it is mounted */
    char why[200];            /* for people */
    struct qm_layers *layers; /* of an overlay, else NULL */
    gboolean has_root;        /* what follows is of the root */
    struct statx root_stx;
    guint32 root_gen;
    guint8 marker[16]; /* of a valid marker on the root, else 0 */
    char marker_text[160];
};

/*
 * What the kinds of mounts need, and how a server knows:
 *
 * One overlay mount is one filesystem with one identity, whatever st_dev its files show: without
 * xino, files show made-up device numbers, one for each filesystem below. Its policy is HANDLE
 * then, its object key the file handle that AT_HANDLE_FID gives. With xino, or with all layers on
 * one filesystem, it is AFFIX, and a file whose st_dev still differs from that of the overlay
 * (major:minor of mountinfo, identity->superblock) has an inode that did not fit: it is known by
 * its handle, too. Where handles cannot be had (before Linux 6.5), or do not tell files apart
 * (layers that are clones of each other, layers on FUSE), it is EPHEMERAL, and each st_dev that its
 * files show is an instance with an identity of its own. The policy of the identity, not the type
 * of the mount, says which of these it is.
 */

/* Looks at `fd`; -ENODEV when its mount is not in the table. `mounts` must outlive the probe. Asks
 * nothing that a server must answer. */
int qm_probe_init(struct qm_probe *probe, int fd, const GPtrArray *mounts);
void qm_probe_clear(struct qm_probe *probe);

/* Finds out what kind of filesystem it is: policy, layers, marker. -ETIMEDOUT where a server does
 * not answer. */
int qm_probe_nature(struct qm_probe *probe);

/* A readable descriptor on the same filesystem (on btrfs: the same subvolume), for ioctls; opened
 * when first asked for; negative where that cannot be had, and on filesystems whose open(2) may
 * hang (FUSE, network). Belongs to the probe. */
int qm_probe_io_fd(struct qm_probe *probe);

/* The same for the block device, for reading. */
int qm_probe_dev_fd(struct qm_probe *probe);

/* An O_PATH descriptor on the root of the filesystem, by a mount that shows it; the caller's to
 * close. Negative errno, -ENODEV where no mount does. */
int qm_probe_root(const struct qm_probe *probe);

/* statx(2) without asking a server. */
int qm_statx(int fd, unsigned mask, struct statx *stx);

/* The object handle of an entry, by which filesystems name their inodes to the kernel. FALSE where
 * there is none. */
#define QM_HANDLE_BYTES 128
struct qm_handle {
    int type;
    guint size;
    guint8 bytes[QM_HANDLE_BYTES];
};
gboolean qm_handle_at(int dir, const char *name, struct qm_handle *handle);

/* ---- the rungs ------------------------------------------------------------------------------- */

/* What a rung says. */
struct qm_answer {
    struct qidmap_fsid fsid;
    guint32 flags; /* QIDMAP_IDENTITY_* that go with it */
    char text[256];
};

/* Decides the policy, and says why. */
void qm_settle(struct qm_probe *probe, guint32 policy, const char *why);

gboolean qm_is_zero(const guint8 *bytes, gsize size);

/* Fills answer->fsid; helpers for rungs. */
void qm_answer_set(struct qm_answer *answer, guint32 kind, const void *bytes, gsize size);
void qm_answer_digest(struct qm_answer *answer, guint32 kind, const char *const *parts);
void qm_say(struct qm_answer *answer, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* A rung: 0 and an answer, or -ENODATA where it has no say, or what went wrong; with a text. */
typedef int (*qm_rung_fn)(struct qm_probe *probe, const struct qidmap_identify_options *options,
                          struct qm_answer *answer);
int qm_rung_override(struct qm_probe *probe, const struct qidmap_identify_options *options,
                     struct qm_answer *answer);
int qm_rung_btrfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qm_answer *answer);
int qm_rung_zfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                struct qm_answer *answer);
int qm_rung_overlay_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                         struct qm_answer *answer);
int qm_rung_overlay_layers(struct qm_probe *probe, const struct qidmap_identify_options *options,
                           struct qm_answer *answer);
int qm_rung_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer);
int qm_rung_fs_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                    struct qm_answer *answer);
int qm_rung_blkid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qm_answer *answer);
int qm_rung_nfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                struct qm_answer *answer);
int qm_rung_ceph(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer);
int qm_rung_cifs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer);
int qm_rung_marker(struct qm_probe *probe, const struct qidmap_identify_options *options,
                   struct qm_answer *answer);
int qm_rung_weak(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer);
int qm_rung_ephemeral(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qm_answer *answer);

/* The parts of rungs that work on what the kernel writes, for tests. `volumes` is the content of
 * /proc/fs/nfsfs/volumes, or NULL. */
int qm_nfs_answer(const struct qm_mount *mount, const char *volumes, struct qm_answer *answer);
int qm_ceph_answer(const struct qm_mount *mount, struct qm_answer *answer);
int qm_cifs_answer(const struct qm_mount *mount, struct qm_answer *answer);
int qm_zfs_answer(guint64 f_fsid, struct qm_answer *answer);

/* TRUE for types that do not outlive the boot. */
gboolean qm_is_ephemeral_type(const char *type);
/* Decides the policy of an overlay, and finds its layers. */
void qm_overlay_nature(struct qm_probe *probe);
void qm_overlay_free(struct qm_layers *layers);

/* Uuid through FS_IOC_GETFSUUID; FALSE where there is none or it is zero. */
gboolean qm_generic_uuid(int fd, guint8 uuid[16]);

/* PARTUUID of the partition below, from libblkid; FALSE where there is none. */
gboolean qm_blkid_part_uuid(struct qm_probe *probe, char *text, gsize size);

/* Id of this boot as 16 bytes and as text (37 bytes with the NUL); FALSE where it cannot be read.
 */
gboolean qm_boot_id(guint8 bytes[16], char text[37]);

/* Parses the usual text form of a uuid, hyphens optional. */
gboolean qm_uuid_parse(const char *text, guint8 bytes[16]);

/* What qidmap_identify() does; and qidmap_explain(), where findings are asked for. */
int qm_identify(int fd, const struct qidmap_identify_options *options,
                struct qidmap_identity *identity, struct qidmap_error *error);
int qm_explain(int fd, const struct qidmap_identify_options *options,
               struct qidmap_finding *findings, size_t *count, struct qidmap_identity *identity,
               struct qidmap_error *error);

/* The identity of a layer of an overlay; without hints. */
int qm_identify_layer(int fd, const GPtrArray *mounts, guint depth,
                      struct qidmap_identity *identity);

const char *qm_fsid_kind_name(guint32 kind);
const char *qm_policy_name(guint32 policy);

#endif
