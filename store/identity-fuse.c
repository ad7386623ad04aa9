/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * FUSE. A filesystem that gives no inode numbers of its own shows the numbers by which its library
 * and the kernel name nodes: a counter, in order of first access, which begins again at each mount
 * and forgets. Then inode numbers tell nothing: policy ephemeral. It shows in two ways:
 *
 *   - st_ino is the node id, which the file handle contains (u32 high, u32 low, u32 generation). A
 *     single entry may be so by chance; that all of them are, is no chance.
 *   - d_ino of readdir is another number than st_ino (mergerfs without use_ino). 0xffffffff stands
 *     for "not known" there.
 *
 * The root is always node 1, so that its inode 1 tells nothing.
 *
 * Where nothing tells, as in an empty filesystem, it is taken for counted: a wrong guess that way
 * renumbers at the next mount, one the other way would give the id of one file to another.
 */
#include "config.h"

#include "store/identity-fuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/identity.h"

#define ENTRIES_MAX 64
#define DIRS_MAX    8
#define HANDLE_FUSE 0x81

enum qm_fuse_inodes qm_fuse_judge(guint64 root_ino, const struct qm_fuse_entry *entries,
                                  guint count)
{
    guint nodes = 0, equal = 0, known = 0, differ = 0;

    for (guint i = 0; i < count; i++) {
        const struct qm_fuse_entry *e = &entries[i];
        if (e->node_id > 1) {
            nodes++;
            equal += e->node_id == e->st_ino;
        }
        if (e->d_ino != 0 && e->d_ino != 0xffffffff) {
            known++;
            differ += e->d_ino != e->st_ino;
        }
    }
    if (nodes > 0 && equal == nodes)
        return QM_FUSE_COUNTED;
    if (known > 0 && 2 * differ > known)
        return QM_FUSE_COUNTED;
    if (nodes > 0 || known > 0 || root_ino > 1)
        return QM_FUSE_OWN;
    return QM_FUSE_UNKNOWN;
}

/* Entries of one folder; those of other mounts are not of interest. */
static guint look_into(int fd, guint64 mount_id, struct qm_fuse_entry *entries, guint room,
                       GPtrArray *folders)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    guint count = 0;

    if (dir == NULL) {
        close(fd);
        return 0;
    }
    while (count < room && (entry = readdir(dir)) != NULL) {
        struct qm_handle handle;
        struct statx stx;
        guint32 half[2];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (statx(fd, entry->d_name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                  STATX_TYPE | STATX_INO | STATX_MNT_ID, &stx) != 0 ||
            stx.stx_mnt_id != mount_id)
            continue;
        struct qm_fuse_entry *e = &entries[count++];
        e->st_ino = stx.stx_ino;
        e->d_ino = entry->d_ino;
        e->node_id = 0;
        if (qm_handle_at(fd, entry->d_name, &handle) && handle.type == HANDLE_FUSE &&
            handle.size >= sizeof half) {
            memcpy(half, handle.bytes, sizeof half);
            e->node_id = (guint64)half[0] << 32 | half[1];
        }
        if (S_ISDIR(stx.stx_mode) && folders != NULL && folders->len < DIRS_MAX)
            g_ptr_array_add(folders, g_strdup(entry->d_name));
    }
    closedir(dir);
    return count;
}

int qm_fuse_look(int root, enum qm_fuse_inodes *inodes)
{
    g_autoptr(GPtrArray) folders = g_ptr_array_new_with_free_func(g_free);
    struct qm_fuse_entry entries[ENTRIES_MAX] = {0};
    struct statx stx;
    char link[64];
    guint count = 0;
    int rc = 0;

    snprintf(link, sizeof link, "/proc/self/fd/%d", root);
    int top = open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return -errno;
    if (statx(top, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &stx) != 0) {
        rc = -errno;
    } else {
        int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            count = look_into(fd, stx.stx_mnt_id, entries, ENTRIES_MAX, folders);
        for (guint i = 0; i < folders->len && count < ENTRIES_MAX; i++) {
            fd = openat(top, g_ptr_array_index(folders, i),
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (fd >= 0)
                count += look_into(fd, stx.stx_mnt_id, entries + count, ENTRIES_MAX - count, NULL);
        }
    }
    close(top);
    if (rc == 0)
        *inodes = qm_fuse_judge(stx.stx_ino, entries, count);
    return rc;
}
