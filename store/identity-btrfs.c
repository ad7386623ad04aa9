/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 1: btrfs. Each subvolume has inode numbers of its own, so the identity is that of the
 * superblock and of the subvolume:
 *
 *     bytes  0 ... 15   metadata uuid (does not change when `btrfstune -m` changes the visible one)
 *     bytes 16 ... 31   uuid of the subvolume; where that is zero (the top level of filesystems
 * made by old mkfs): eight bytes of zero and the tree id, little-endian
 *
 * A clone that is mounted beside its original (Linux 6.7) shows a temporary uuid (temp_fsid), but
 * the metadata uuid of both: they have one identity, as clones of other filesystems have, and are
 * told apart by marker and device. So each is found again when it is mounted alone.
 *
 * A uuid with eight leading zero bytes is none that anybody generates, so the two forms cannot
 * meet. Without the subvolume's half there is no answer at all: half an identity would merge
 * subvolumes.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef BTRFS_FS_INFO_FLAG_METADATA_UUID
#define BTRFS_FS_INFO_FLAG_METADATA_UUID (1 << 2)
#endif

/* The caller's own view of the answer: older headers end before the metadata uuid. */
struct fs_info {
    guint64 max_id;
    guint64 num_devices;
    guint8 fsid[16];
    guint32 nodesize;
    guint32 sectorsize;
    guint32 clone_alignment;
    guint16 csum_type;
    guint16 csum_size;
    guint64 flags;
    guint64 generation;
    guint8 metadata_uuid[16];
    guint8 reserved[944];
};
G_STATIC_ASSERT(sizeof(struct fs_info) == sizeof(struct btrfs_ioctl_fs_info_args));

#define DEVICES_MAX 1024

/* The block device that stands for the filesystem in the hints: of the lowest device id. Mountinfo
 * names whichever was scanned last. */
static void find_device(struct qm_probe *probe, int fd, const struct fs_info *info)
{
    for (guint64 id = 1; id <= info->max_id && id <= DEVICES_MAX; id++) {
        struct btrfs_ioctl_dev_info_args args;
        struct stat st;

        memset(&args, 0, sizeof args);
        args.devid = id;
        if (ioctl(fd, BTRFS_IOC_DEV_INFO, &args) != 0)
            continue;
        args.path[sizeof args.path - 1] = '\0';
        if (stat((const char *)args.path, &st) == 0 && S_ISBLK(st.st_mode)) {
            probe->dev_major = major(st.st_rdev);
            probe->dev_minor = minor(st.st_rdev);
            return;
        }
    }
}

int qm_rung_btrfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qm_answer *answer)
{
    struct btrfs_ioctl_get_subvol_info_args subvol;
    struct fs_info info;
    guint8 bytes[32] = {0};

    (void)options;
    if (strcmp(probe->mount->type, "btrfs") != 0) {
        qm_say(answer, "not btrfs");
        return -ENODATA;
    }
    int fd = qm_probe_io_fd(probe);
    if (fd < 0) {
        qm_say(answer, "nothing on this subvolume can be opened");
        return -EACCES;
    }
    memset(&info, 0, sizeof info);
    info.flags = BTRFS_FS_INFO_FLAG_METADATA_UUID;
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) != 0) {
        int code = -errno;
        qm_say(answer, "BTRFS_IOC_FS_INFO: %s", g_strerror(-code));
        return code;
    }
    gboolean has_metadata =
        (info.flags & BTRFS_FS_INFO_FLAG_METADATA_UUID) && !qm_is_zero(info.metadata_uuid, 16);
    memcpy(bytes, has_metadata ? info.metadata_uuid : info.fsid, 16);
    find_device(probe, fd, &info);

    memset(&subvol, 0, sizeof subvol);
    if (ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, &subvol) < 0) {
        int code = -errno;
        qm_say(answer, "BTRFS_IOC_GET_SUBVOL_INFO: %s", g_strerror(-code));
        return code;
    }
    if (!qm_is_zero((const guint8 *)subvol.uuid, 16)) {
        memcpy(bytes + 16, subvol.uuid, 16);
    } else {
        guint64 tree = GUINT64_TO_LE(subvol.treeid);
        memcpy(bytes + 24, &tree, 8);
    }
    qm_answer_set(answer, QIDMAP_FSID_BTRFS, bytes, sizeof bytes);
    qm_say(answer, "BTRFS_IOC_FS_INFO and GET_SUBVOL_INFO, subvolume %" G_GUINT64_FORMAT "%s",
           (guint64)subvol.treeid,
           has_metadata && memcmp(info.metadata_uuid, info.fsid, 16) != 0
               ? "; the visible uuid is another (temp_fsid of a clone, or btrfstune -m)"
               : "");
    return 0;
}
