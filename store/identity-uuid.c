/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 4, first half: the uuid of the superblock as the kernel tells it. FS_IOC_GETFSUUID (Linux
 * 6.9) serves most filesystems, but may give zeros with success; ext4 and xfs have calls of their
 * own that older kernels know, too.
 */
#include "config.h"

#include "store/identity.h"

#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>

/* Answers of the three calls. The numbers are the kernel's interface; headers of older systems lack
 * some of them. */
struct generic_uuid {
    __u8 size;
    __u8 uuid[16];
};
#define GENERIC_GETFSUUID _IOR(0x15, 0, struct generic_uuid)

struct ext4_uuid_head {
    __u32 size;
    __u32 flags;
};
struct ext4_uuid {
    struct ext4_uuid_head head;
    __u8 uuid[16];
};
#define EXT4_GETFSUUID _IOR('f', 44, struct ext4_uuid_head)

struct xfs_geometry_v1 {
    __u32 sizes[8];
    __u64 blocks[4];
    __u8 uuid[16];
    __u32 stripes[2];
    __s32 version;
    __u32 flags;
    __u32 sectors[2];
    __u32 dirblocksize;
};
#define XFS_FSGEOMETRY_V1 _IOR('X', 100, struct xfs_geometry_v1)
G_STATIC_ASSERT(sizeof(struct xfs_geometry_v1) == 112);

static gboolean is_zero(const guint8 uuid[16])
{
    static const guint8 zero[16];
    return memcmp(uuid, zero, 16) == 0;
}

gboolean qm_generic_uuid(int fd, guint8 uuid[16])
{
    struct generic_uuid answer;

    memset(&answer, 0, sizeof answer);
    if (ioctl(fd, GENERIC_GETFSUUID, &answer) != 0 || answer.size != 16 || is_zero(answer.uuid))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

static gboolean ext4_uuid(int fd, guint8 uuid[16])
{
    struct ext4_uuid answer;

    memset(&answer, 0, sizeof answer);
    answer.head.size = 16;
    if (ioctl(fd, EXT4_GETFSUUID, &answer) != 0 || answer.head.size != 16 || is_zero(answer.uuid))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

static gboolean xfs_uuid(int fd, guint8 uuid[16])
{
    struct xfs_geometry_v1 answer;

    memset(&answer, 0, sizeof answer);
    if (ioctl(fd, XFS_FSGEOMETRY_V1, &answer) != 0 || is_zero(answer.uuid))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

/* Filesystems that are asked: those on a block device of this machine, whose open(2) cannot wait
 * for somebody else. btrfs is not among them: its subvolumes share the uuid. */
static gboolean is_local(const struct qm_probe *probe)
{
    const char *type = probe->mount->type;

    if (strcmp(type, "btrfs") == 0 || g_str_has_prefix(type, "fuse"))
        return FALSE;
    return probe->dev_major != 0 || strcmp(type, "bcachefs") == 0 || strcmp(type, "ubifs") == 0;
}

void qm_rung_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qidmap_identity *identity)
{
    const char *type = probe->mount->type;
    guint8 uuid[16];

    (void)options;
    if (!is_local(probe))
        return;
    int fd = qm_probe_io_fd(probe);
    if (fd < 0)
        return;
    if (qm_generic_uuid(fd, uuid))
        qm_identity_add(identity, QIDMAP_FSID_UUID, uuid, 16);
    if (g_str_has_prefix(type, "ext") && ext4_uuid(fd, uuid))
        qm_identity_add(identity, QIDMAP_FSID_UUID, uuid, 16);
    if (strcmp(type, "xfs") == 0 && xfs_uuid(fd, uuid))
        qm_identity_add(identity, QIDMAP_FSID_UUID, uuid, 16);
}
