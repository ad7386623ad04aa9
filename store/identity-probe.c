/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The probe: what can be learnt about an open file without waiting for anybody, and the descriptors
 * that the rungs need: on the filesystem, on its block device, on its root.
 *
 * A FUSE or network filesystem may be dead, and then some calls never return. Only these are made
 * on the caller's thread: statx(2) with AT_STATX_DONT_SYNC, readlink(2) and open(2) with O_PATH of
 * a mount point. All else goes through patience.c.
 */
#include "config.h"

#include "store/identity.h"
#include "store/view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

struct qm_features qm_features = {TRUE, TRUE, TRUE};

int qm_statx(int fd, unsigned mask, struct statx *stx)
{
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    return statx(fd, "", flags, mask, stx) == 0 ? 0 : -errno;
}

gboolean qm_handle_at(int dir, const char *name, struct qm_handle *handle)
{
    union {
        struct file_handle head;
        guint8 room[sizeof(struct file_handle) + QM_HANDLE_BYTES];
    } out;
    int mount_id, flags = name[0] == '\0' ? AT_EMPTY_PATH : 0;

    memset(&out, 0, sizeof out);
    out.head.handle_bytes = QM_HANDLE_BYTES;
    if (!qm_features.bare_handle ||
        name_to_handle_at(dir, name, &out.head, &mount_id, flags | AT_HANDLE_FID) != 0) {
        out.head.handle_bytes = QM_HANDLE_BYTES;
        if (name_to_handle_at(dir, name, &out.head, &mount_id, flags) != 0)
            return FALSE;
    }
    if (out.head.handle_bytes > QM_HANDLE_BYTES)
        return FALSE;
    handle->type = out.head.handle_type;
    handle->size = out.head.handle_bytes;
    memcpy(handle->bytes, out.head.f_handle, handle->size);
    return TRUE;
}

/* The block device that `path` is, when it is one. */
static gboolean block_device_of(const char *path, guint32 *dev_major, guint32 *dev_minor)
{
    struct stat st;

    if (path[0] != '/' || stat(path, &st) != 0 || !S_ISBLK(st.st_mode))
        return FALSE;
    *dev_major = major(st.st_rdev);
    *dev_minor = minor(st.st_rdev);
    return TRUE;
}

static gboolean is_remote_type(const char *type)
{
    static const char *const types[] = {"nfs", "nfs4", "ceph",      "cifs",   "smb3", "smbfs",
                                        "9p",  "afs",  "glusterfs", "lustre", "coda", "orangefs"};

    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        if (strcmp(type, types[i]) == 0)
            return TRUE;
    }
    return FALSE;
}

int qm_probe_init(struct qm_probe *probe, int fd, const GPtrArray *mounts)
{
    struct statx unique;

    memset(probe, 0, sizeof *probe);
    probe->fd = fd;
    probe->io_fd = -1;
    probe->dev_fd = -1;
    probe->mounts = mounts;
    probe->policy = QIDMAP_POLICY_AFFIX;
    int rc = qm_statx(fd, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &probe->stx);
    if (rc < 0)
        return rc;
    if (!(probe->stx.stx_mask & STATX_MNT_ID))
        return -ENODEV;
    probe->mount = qm_mountinfo_find(mounts, probe->stx.stx_mnt_id);
    if (probe->mount == NULL)
        return -ENODEV;
    const char *type = probe->mount->type;
    probe->is_fuse = strcmp(type, "fuse") == 0 || strcmp(type, "fuseblk") == 0 ||
                     g_str_has_prefix(type, "fuse.") || g_str_has_prefix(type, "fuseblk.") ||
                     strcmp(type, "virtiofs") == 0;
    probe->is_remote = probe->is_fuse || is_remote_type(type);
    if (!probe->is_remote && fstatfs(fd, &probe->sfs) != 0)
        return -errno;
    if (qm_features.unique_id && qm_statx(fd, STATX_MNT_ID_UNIQUE, &unique) == 0 &&
        (unique.stx_mask & STATX_MNT_ID_UNIQUE))
        probe->unique_id = unique.stx_mnt_id;
    if (probe->mount->major != 0) {
        probe->dev_major = probe->mount->major;
        probe->dev_minor = probe->mount->minor;
    } else if (!probe->is_remote) {
        block_device_of(probe->mount->source, &probe->dev_major, &probe->dev_minor);
    }
    return 0;
}

void qm_probe_clear(struct qm_probe *probe)
{
    if (probe->io_fd >= 0)
        close(probe->io_fd);
    if (probe->dev_fd >= 0)
        close(probe->dev_fd);
    probe->io_fd = -1;
    probe->dev_fd = -1;
    qm_overlay_free(probe->layers);
    probe->layers = NULL;
}

/* Opens `path` for reading and keeps it when it is on the very mount and st_dev of the probe, which
 * makes it safe to come from a path that others may have changed. */
static int open_on_same(const struct qm_probe *probe, const char *path, int flags)
{
    struct statx stx;
    int how = O_RDONLY | O_NONBLOCK | O_NOCTTY | flags;
    /* The kernel's links to descriptors are of this process, and no path. */
    gboolean is_link = g_str_has_prefix(path, "/proc/self/fd/");
    int fd = is_link ? open(path, how | O_CLOEXEC) : qm_view_open(path, how);

    if (fd < 0)
        return -1;
    if (qm_statx(fd, STATX_TYPE | STATX_MNT_ID, &stx) == 0 &&
        stx.stx_mnt_id == probe->stx.stx_mnt_id && stx.stx_dev_major == probe->stx.stx_dev_major &&
        stx.stx_dev_minor == probe->stx.stx_dev_minor)
        return fd;
    close(fd);
    return -1;
}

int qm_probe_io_fd(struct qm_probe *probe)
{
    char link[64], path[4096];

    if (probe->io_tried || probe->is_remote)
        return probe->io_fd;
    probe->io_tried = TRUE;

    snprintf(link, sizeof link, "/proc/self/fd/%d", probe->fd);
    if (S_ISDIR(probe->stx.stx_mode))
        probe->io_fd = open_on_same(probe, link, O_DIRECTORY);
    else if (S_ISREG(probe->stx.stx_mode))
        probe->io_fd = open_on_same(probe, link, 0);
    if (probe->io_fd >= 0)
        return probe->io_fd;

    /* A file that cannot be opened (symlink, device, no permission): the root of its mount, or the
     * directory that it is in. */
    probe->io_fd = open_on_same(probe, probe->mount->path, O_DIRECTORY | O_NOFOLLOW);
    if (probe->io_fd >= 0)
        return probe->io_fd;
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size > 0 && path[0] == '/') {
        path[size] = '\0';
        char *slash = strrchr(path, '/');
        slash[slash == path ? 1 : 0] = '\0';
        probe->io_fd = open_on_same(probe, path, O_DIRECTORY | O_NOFOLLOW);
    }
    return probe->io_fd;
}

/* Opens `path` when it is the block device of the probe. */
static int open_device(const struct qm_probe *probe, const char *path)
{
    struct stat st;
    int fd = qm_view_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && major(st.st_rdev) == probe->dev_major &&
        minor(st.st_rdev) == probe->dev_minor)
        return fd;
    close(fd);
    return -1;
}

int qm_probe_dev_fd(struct qm_probe *probe)
{
    char path[128], target[4096];

    if (probe->dev_tried || probe->dev_major == 0)
        return probe->dev_fd;
    probe->dev_tried = TRUE;

    if (probe->mount->source[0] == '/' && !probe->is_remote)
        probe->dev_fd = open_device(probe, probe->mount->source);
    if (probe->dev_fd < 0) {
        snprintf(path, sizeof path, "/dev/block/%u:%u", probe->dev_major, probe->dev_minor);
        probe->dev_fd = open_device(probe, path);
    }
    if (probe->dev_fd < 0) { /* no udev: the kernel's own name of the device */
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u", probe->dev_major, probe->dev_minor);
        ssize_t size = readlink(path, target, sizeof target - 1);
        if (size > 0) {
            target[size] = '\0';
            g_autofree char *name = g_path_get_basename(target);
            g_autofree char *node = g_strconcat("/dev/", name, NULL);
            probe->dev_fd = open_device(probe, node);
        }
    }
    return probe->dev_fd;
}

int qm_probe_root(const struct qm_probe *probe)
{
    struct statx stx;

    for (int own = 1; own >= 0; own--) { /* the mount that was asked about, then its fellows */
        for (guint i = 0; i < probe->mounts->len; i++) {
            const struct qm_mount *m = g_ptr_array_index(probe->mounts, i);
            if ((m == probe->mount) != own || m->major != probe->mount->major ||
                m->minor != probe->mount->minor || strcmp(m->root, "/") != 0)
                continue;
            int fd = qm_view_open(m->path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
            if (fd < 0)
                continue;
            if (qm_statx(fd, STATX_TYPE | STATX_MNT_ID, &stx) == 0 && stx.stx_mnt_id == m->id)
                return fd;
            close(fd);
        }
    }
    return -ENODEV;
}
