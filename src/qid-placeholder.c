/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Placeholders of btrfs. A snapshot shows a nested subvolume as an empty directory with inode
 * number 2, and so all of them: the key of such an object is the inode of the directory it is in,
 * and its d_ino there. Owns how one is known, and how its key is found.
 *
 * Must not know of any other file.
 */
#include "config.h"

#include "src/qid-export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BTRFS_PLACEHOLDER_INO 2
#define BTRFS_MAGIC           0x9123683e

int qid_map_placeholder(struct qid_export *exp, uint32_t fs, uint64_t parent_ino, uint64_t d_ino,
                        uint64_t *path)
{
    struct qidmap_object object;

    memset(&object, 0, sizeof object);
    object.fs = fs;
    object.kind = QIDMAP_OBJECT_PLACEHOLDER;
    object.ino = parent_ino;
    object.ino2 = d_ino;
    return qid_map_object(exp, &object, path);
}

/* Finds parent and d_ino of a placeholder that is open as `fd`: from its name there, since nothing
 * else leads to them. The placeholder has a device number of its own, but the mount of its parent,
 * and its filesystem is that one's. -ENODEV: it is none; -ESTALE: its name is gone. */
int qid_map_open_placeholder(struct qid_export *exp, int fd, const struct statx *stx,
                             uint64_t *path)
{
    char link[64];
    struct mount_entry entry;
    struct statx parent_stx;
    int rc = -ESTALE;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(link, NULL);
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target == NULL || parent < 0) {
        if (parent >= 0)
            close(parent);
        return -ESTALE;
    }
    if (statx(parent, "", AT_EMPTY_PATH, QID_STATX_MASK, &parent_stx) != 0 ||
        parent_stx.stx_mnt_id != stx->stx_mnt_id ||
        mount_lookup(exp->mounts, parent, &parent_stx, &entry) < 0 || !entry.btrfs) {
        close(parent);
        return -ENODEV;
    }
    DIR *dir = fdopendir(parent);
    if (dir == NULL) {
        close(parent);
        return -ESTALE;
    }
    const char *name = strrchr(target, '/');
    const struct dirent *dirent;
    while (name != NULL && (dirent = readdir(dir)) != NULL) {
        if (strcmp(dirent->d_name, name + 1) == 0) {
            rc = qid_map_placeholder(exp, entry.fs, parent_stx.stx_ino, dirent->d_ino, path);
            break;
        }
    }
    closedir(dir);
    return rc;
}

/* Inode numbers of btrfs begin at 256: nothing else has this one there. */
gboolean qid_may_be_placeholder(const struct statx *stx)
{
    return stx->stx_ino == BTRFS_PLACEHOLDER_INO && S_ISDIR(stx->stx_mode);
}

/* All placeholders below one subvolume may share a device number, which is given again when that is
 * deleted: the table is not asked about them. */
gboolean qid_is_placeholder(struct qid_export *exp, int fd, const struct statx *stx)
{
    struct mount_entry entry;
    struct statfs fs;

    if (!qid_may_be_placeholder(stx))
        return FALSE;
    if (mount_find(exp->mounts, fd, "", stx, &entry))
        return entry.btrfs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_MAGIC;
}
