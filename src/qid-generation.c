/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tells a file from an earlier one with the same inode number: the generation that clients
 * compare (st_gen). Owns which filesystems have one.
 *
 * It is the file handle, folded to 32 bits, as Linux clients take no more. A guest that sees
 * another one builds a second inode for the file, so it must be the same for the file's whole life,
 * also in the next run of the daemon: the hash has no seed, and its algorithm never changes; and
 * only filesystems are asked whose handles are of what is on disk. Others make them from numbers in
 * memory, which change when the host drops the inode: FUSE (node ids), vfat (random).
 */
#include "config.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <xxhash.h>

#include "src/mount-table.h"
#include "src/qid-export.h"

#define HANDLE_BYTES 128
#define KNOWN        64 /* mounts */

/* An overlay's handle is that of the layer on which the file was born, and there is none without
 * nfs_export. A tmpfs draws a number when it makes the inode, which stays in memory. */
static const guint32 lasting[] = {
    0xef53,     /* ext2, ext3, ext4 */
    0x58465342, /* xfs */
    0x9123683e, /* btrfs */
    0xf2f52010, /* f2fs */
    0x01021994, /* tmpfs */
    0x794c7630, /* overlay */
    0x6969,     /* nfs */
    0x2fc12fc1, /* zfs */
    0xca451a4e, /* bcachefs */
    0x3153464a, /* jfs */
    0x52654973, /* reiserfs */
    0x3434,     /* nilfs2 */
    0x01161970, /* gfs2 */
    0x7461636f, /* ocfs2 */
    0xe0f5e1e2, /* erofs */
    0x73717368, /* squashfs */
    0x9660,     /* iso9660 */
};

static gboolean ask_kind(int fd, gboolean *lasts)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return FALSE;
    *lasts = FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(lasting); i++)
        if ((guint32)fs.f_type == lasting[i])
            *lasts = TRUE;
    return TRUE;
}

/* A mount shows one filesystem as long as it lives, and its unique id is never another's. */
static gboolean has_lasting_handles(int fd, const struct statx *stx)
{
    static guint64 known[KNOWN]; /* atomic: twice the mount's id, and 1 where they last */
    guint64 key = mount_stx_is_unique(stx) ? stx->stx_mnt_id : 0, got;
    gboolean lasts;

    got = __atomic_load_n(&known[key % KNOWN], __ATOMIC_RELAXED);
    if (key != 0 && got >> 1 == key)
        return (got & 1) != 0;
    if (!ask_kind(fd, &lasts))
        return FALSE;
    if (key != 0)
        __atomic_store_n(&known[key % KNOWN], key << 1 | (lasts ? 1 : 0), __ATOMIC_RELAXED);
    return lasts;
}

gboolean qid_generation(int fd, const struct statx *stx, uint32_t *generation)
{
    union {
        struct file_handle handle;
        uint8_t room[sizeof(struct file_handle) + HANDLE_BYTES];
    } u;
    int mount_id;

    u.handle.handle_bytes = HANDLE_BYTES;
    if (!has_lasting_handles(fd, stx) ||
        name_to_handle_at(fd, "", &u.handle, &mount_id, AT_EMPTY_PATH) < 0)
        return FALSE;
    *generation = (uint32_t)XXH3_64bits(u.handle.f_handle, u.handle.handle_bytes);
    return TRUE;
}
