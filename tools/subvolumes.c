/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BTRFS_IOC_GET_SUBVOL_ROOTREF lists the subvolumes right below one, and BTRFS_IOC_INO_LOOKUP_USER
 * the way to each, as far as the folder leads there. Both need no privilege. What is found is
 * opened name by name, so that a mount over it, or a symlink in its place, is not taken for it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tools/subvolumes.h"

#define SUBVOLUME_ROOT 256
#define DEPTH          1000

struct search {
    int (*found)(void *data, const char *path, int fd);
    void *data;
};

static int open_below(int fd, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    int at = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    for (char **name = names; *name != NULL && at >= 0; name++) {
        if (**name == '\0') {
            continue;
        }
        int next = openat(at, *name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(at);
        at = next;
    }
    return at;
}

static gboolean is_subvolume(int fd, guint64 mount_id)
{
    struct statx st;
    struct statfs sfs;
    return statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) == 0 &&
           st.stx_ino == SUBVOLUME_ROOT &&
           ((st.stx_mask & STATX_MNT_ID) == 0 || st.stx_mnt_id == mount_id) &&
           fstatfs(fd, &sfs) == 0 && sfs.f_type == BTRFS_SUPER_MAGIC;
}

static int search(const struct search *how, int fd, const char *path, guint64 mount_id, int depth);

/* One subvolume, whose name stands in the directory `dirid`. */
static int look(const struct search *how, int fd, const char *path, guint64 mount_id,
                guint64 treeid, guint64 dirid, int depth)
{
    struct btrfs_ioctl_ino_lookup_user_args way = {.dirid = dirid, .treeid = treeid};

    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP_USER, &way) < 0) {
        return 0; /* not below the folder, or gone, or not to be read */
    }
    way.path[sizeof way.path - 1] = '\0';
    way.name[sizeof way.name - 1] = '\0';
    g_autofree char *below = g_strconcat(way.path, way.name, NULL);
    int child = open_below(fd, below);
    if (child < 0) {
        return 0;
    }
    int result = 0;
    if (is_subvolume(child, mount_id)) {
        g_autofree char *whole = g_strconcat(path, path[0] != '\0' ? "/" : "", below, NULL);
        result = how->found(how->data, whole, child);
        if (result == 0) {
            result = search(how, child, whole, mount_id, depth + 1);
        }
    }
    close(child);
    return result;
}

static int search(const struct search *how, int fd, const char *path, guint64 mount_id, int depth)
{
    struct btrfs_ioctl_get_subvol_rootref_args refs = {0};
    int result = 0, more = depth < DEPTH;

    while (more && result == 0) {
        int code = ioctl(fd, BTRFS_IOC_GET_SUBVOL_ROOTREF, &refs);
        if (code < 0 && errno != EOVERFLOW) {
            return 0;
        }
        more = code < 0; /* EOVERFLOW: there are more; min_treeid was moved on */
        for (guint i = 0; i < refs.num_items && result == 0; i++) {
            result =
                look(how, fd, path, mount_id, refs.rootref[i].treeid, refs.rootref[i].dirid, depth);
        }
    }
    return result;
}

int subvolumes_find(int fd, int (*found)(void *data, const char *path, int fd), void *data)
{
    struct search how = {found, data};
    struct statfs sfs;
    struct statx st;

    if (fstatfs(fd, &sfs) < 0 || sfs.f_type != BTRFS_SUPER_MAGIC ||
        statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0) {
        return 0;
    }
    return search(&how, fd, "", st.stx_mnt_id, 0);
}
