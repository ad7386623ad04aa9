/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 4, first half: the uuid of the superblock as the kernel tells it. FS_IOC_GETFSUUID (Linux
 * 6.9) serves most filesystems, but may give zeros with success; ext4 and xfs have calls of their
 * own that older kernels know, too. f2fs, vfat and others have none: before Linux 6.9 they are left
 * to libblkid.
 *
 * After an online `tune2fs -U` the first call tells the old uuid until the next mount, the second
 * the new one. Both are noted, so that the row is found by the one that remains.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
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

gboolean qm_generic_uuid(int fd, guint8 uuid[16])
{
    struct generic_uuid answer;

    if (!qm_features.getfsuuid) {
        errno = ENOTTY;
        return FALSE;
    }
    memset(&answer, 0, sizeof answer);
    if (ioctl(fd, GENERIC_GETFSUUID, &answer) != 0 || answer.size != 16 ||
        qm_is_zero(answer.uuid, 16))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

static gboolean ext4_uuid(int fd, guint8 uuid[16])
{
    struct ext4_uuid answer;

    memset(&answer, 0, sizeof answer);
    answer.head.size = 16;
    if (ioctl(fd, EXT4_GETFSUUID, &answer) != 0 || answer.head.size != 16 ||
        qm_is_zero(answer.uuid, 16))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

static gboolean xfs_uuid(int fd, guint8 uuid[16])
{
    struct xfs_geometry_v1 answer;

    memset(&answer, 0, sizeof answer);
    if (ioctl(fd, XFS_FSGEOMETRY_V1, &answer) != 0 || qm_is_zero(answer.uuid, 16))
        return FALSE;
    memcpy(uuid, answer.uuid, 16);
    return TRUE;
}

/* Filesystems that are asked: those on a block device of this machine, whose open(2) cannot wait
 * for somebody else. */
static int local_fd(struct qm_probe *probe, struct qm_answer *answer)
{
    const char *type = probe->mount->type;

    if (strcmp(type, "btrfs") == 0)
        qm_say(answer, "not asked: subvolumes of btrfs share the uuid");
    else if (strcmp(type, "overlay") == 0)
        qm_say(answer, "not asked: overlays have a rung of their own");
    else if (probe->is_remote)
        qm_say(answer, "not asked: its server might not answer");
    else if (probe->dev_major == 0 && strcmp(type, "bcachefs") != 0 && strcmp(type, "ubifs") != 0)
        qm_say(answer, "not asked: no block device below");
    else if (qm_probe_io_fd(probe) >= 0)
        return probe->io_fd;
    else {
        qm_say(answer, "nothing on this filesystem can be opened");
        return -EACCES;
    }
    return -ENODATA;
}

int qm_rung_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer)
{
    guint8 uuid[16];
    int fd = local_fd(probe, answer);

    (void)options;
    if (fd < 0)
        return fd;
    errno = 0;
    if (!qm_generic_uuid(fd, uuid)) {
        int code = errno != 0 ? -errno : -ENODATA;
        qm_say(answer, "FS_IOC_GETFSUUID: %s",
               code == -ENODATA ? "16 zero bytes" : g_strerror(-code));
        return code == -ENOTTY || code == -EOPNOTSUPP ? -ENODATA : code;
    }
    qm_answer_set(answer, QIDMAP_FSID_UUID, uuid, 16);
    qm_say(answer, "FS_IOC_GETFSUUID");
    return 0;
}

int qm_rung_fs_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                    struct qm_answer *answer)
{
    const char *type = probe->mount->type, *call;
    gboolean found;
    guint8 uuid[16];
    int fd = local_fd(probe, answer);

    (void)options;
    if (fd < 0)
        return fd;
    errno = 0;
    if (g_str_has_prefix(type, "ext")) {
        call = "EXT4_IOC_GETFSUUID";
        found = ext4_uuid(fd, uuid);
    } else if (strcmp(type, "xfs") == 0) {
        call = "XFS_IOC_FSGEOMETRY_V1";
        found = xfs_uuid(fd, uuid);
    } else {
        qm_say(answer, "%s has no call of its own for its uuid", type);
        return -ENODATA;
    }
    if (!found) {
        int code = errno != 0 ? -errno : -ENODATA;
        qm_say(answer, "%s: %s", call, code == -ENODATA ? "zero bytes" : g_strerror(-code));
        return code == -ENOTTY || code == -EOPNOTSUPP ? -ENODATA : code;
    }
    qm_answer_set(answer, QIDMAP_FSID_UUID, uuid, 16);
    qm_say(answer, "%s", call);
    return 0;
}
