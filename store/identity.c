/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ladder of identities: runs the rungs in their order, gathers all that answer, and suggests a
 * policy.
 *
 * Every rung that answers is kept, so that a row is found again when a rung is added or lost (a
 * kernel upgrade, a daemon that may no longer read the device). Equal bytes of one kind are one
 * identity, whichever call gave them. The st_dev number is in no persistent identity: it changes
 * with the order of mounting.
 *
 * Knows nothing of stores: which row fits an identity is resolve.c's work.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <glib.h>

#include "store/hints.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

static const struct {
    guint32 kind;
    const char *name;
} kind_names[] = {
    {QIDMAP_FSID_OVERRIDE, "override"},   {QIDMAP_FSID_UUID, "uuid"},
    {QIDMAP_FSID_BTRFS, "btrfs"},         {QIDMAP_FSID_ZFS, "zfs"},
    {QIDMAP_FSID_OVERLAY, "overlay"},     {QIDMAP_FSID_NFS, "nfs"},
    {QIDMAP_FSID_CEPH, "ceph"},           {QIDMAP_FSID_CIFS, "cifs"},
    {QIDMAP_FSID_MARKER, "marker"},       {QIDMAP_FSID_WEAK, "weak"},
    {QIDMAP_FSID_EPHEMERAL, "ephemeral"},
};

const char *qm_fsid_kind_name(guint32 kind)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kind_names); i++) {
        if (kind_names[i].kind == kind)
            return kind_names[i].name;
    }
    return "unknown";
}

const char *qm_policy_name(guint32 policy)
{
    switch (policy) {
    case QIDMAP_POLICY_AFFIX:
        return "affix";
    case QIDMAP_POLICY_HANDLE:
        return "handle";
    case QIDMAP_POLICY_EPHEMERAL:
        return "ephemeral";
    case QIDMAP_POLICY_DENY:
        return "deny";
    default:
        return "unknown";
    }
}

gboolean qm_uuid_parse(const char *text, guint8 bytes[16])
{
    guint8 out[16];
    int digits = 0;

    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        int value = g_ascii_xdigit_value(*text);
        if (value < 0 || digits == 32)
            return FALSE;
        if (digits % 2 == 0)
            out[digits / 2] = (guint8)(value << 4);
        else
            out[digits / 2] |= (guint8)value;
        digits++;
    }
    if (digits != 32)
        return FALSE;
    memcpy(bytes, out, 16);
    return TRUE;
}

gboolean qm_boot_id(guint8 bytes[16], char text[37])
{
    g_autofree char *content = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &content, NULL, NULL))
        return FALSE;
    g_strchomp(content);
    if (!qm_uuid_parse(content, bytes))
        return FALSE;
    if (text != NULL)
        g_strlcpy(text, content, 37);
    return TRUE;
}

void qm_identity_add(struct qidmap_identity *identity, guint32 kind, const void *bytes, gsize size)
{
    if (size == 0 || size > QIDMAP_FSID_BYTES || identity->count >= QIDMAP_FSID_COUNT)
        return;
    for (guint32 i = 0; i < identity->count; i++) {
        const struct qidmap_fsid *have = &identity->fsid[i];
        if (have->kind == kind && have->size == size && memcmp(have->bytes, bytes, size) == 0)
            return;
    }
    struct qidmap_fsid *fsid = &identity->fsid[identity->count++];
    fsid->kind = kind;
    fsid->size = (guint32)size;
    memcpy(fsid->bytes, bytes, size);
}

/* ---- the probe ------------------------------------------------------------------------------- */

static int statx_fd(int fd, unsigned mask, struct statx *stx)
{
    return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, stx) == 0
               ? 0
               : -errno;
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

int qm_probe_init(struct qm_probe *probe, int fd, const GPtrArray *mounts)
{
    struct statx unique;

    memset(probe, 0, sizeof *probe);
    probe->fd = fd;
    probe->io_fd = -1;
    probe->dev_fd = -1;
    int rc = statx_fd(fd, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &probe->stx);
    if (rc < 0)
        return rc;
    if (!(probe->stx.stx_mask & STATX_MNT_ID))
        return -ENODEV;
    probe->mount = qm_mountinfo_find(mounts, probe->stx.stx_mnt_id);
    if (probe->mount == NULL)
        return -ENODEV;
    if (fstatfs(fd, &probe->sfs) != 0)
        return -errno;
    if (statx_fd(fd, STATX_MNT_ID_UNIQUE, &unique) == 0 && (unique.stx_mask & STATX_MNT_ID_UNIQUE))
        probe->unique_id = unique.stx_mnt_id;
    if (probe->mount->major != 0) {
        probe->dev_major = probe->mount->major;
        probe->dev_minor = probe->mount->minor;
    } else {
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
}

/* Opens `path` for reading and keeps it when it is on the very mount and st_dev of the probe, which
 * makes it safe to come from a path that others may have changed. */
static int open_on_same(const struct qm_probe *probe, const char *path, int flags)
{
    struct statx stx;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);

    if (fd < 0)
        return -1;
    if (statx_fd(fd, STATX_TYPE | STATX_MNT_ID, &stx) == 0 &&
        stx.stx_mnt_id == probe->stx.stx_mnt_id && stx.stx_dev_major == probe->stx.stx_dev_major &&
        stx.stx_dev_minor == probe->stx.stx_dev_minor)
        return fd;
    close(fd);
    return -1;
}

int qm_probe_io_fd(struct qm_probe *probe)
{
    char link[64], path[4096];

    if (probe->io_tried)
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
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

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

    if (probe->mount->source[0] == '/')
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

/* ---- the ladder ------------------------------------------------------------------------------ */

static int fail(struct qidmap_error *error, int code, const char *text)
{
    if (error != NULL) {
        error->code = code;
        snprintf(error->text, sizeof error->text, "%s: %s", text, g_strerror(-code));
    }
    return code;
}

/* TRUE when an identity of kind other than OVERRIDE was found. */
static gboolean is_found(const struct qidmap_identity *identity)
{
    for (guint32 i = 0; i < identity->count; i++) {
        if (identity->fsid[i].kind != QIDMAP_FSID_OVERRIDE)
            return TRUE;
    }
    return FALSE;
}

int qm_identify(int fd, const struct qidmap_identify_options *options,
                struct qidmap_identity *identity, struct qidmap_error *error)
{
    g_autoptr(GPtrArray) mounts = qm_mountinfo_read(NULL);
    struct qm_probe probe;

    if (mounts == NULL)
        return fail(error, -ENODEV, "cannot read /proc/self/mountinfo; is /proc mounted?");
    int rc = qm_probe_init(&probe, fd, mounts);
    if (rc < 0)
        return fail(error, rc, "cannot find the mount of the file");

    memset(identity, 0, sizeof *identity);
    identity->size = sizeof *identity;
    identity->superblock = (guint64)probe.mount->major << 32 | probe.mount->minor;
    if (probe.mount->readonly)
        identity->flags |= QIDMAP_IDENTITY_READONLY;

    /* Ephemeral filesystems first: what they say about themselves must not pass for persistent. */
    qm_rung_override(&probe, options, identity);
    qm_rung_ephemeral(&probe, options, identity);
    if (!is_found(identity))
        qm_rung_btrfs(&probe, options, identity);
    if (!is_found(identity)) { /* subvolumes share what these would say */
        qm_rung_uuid(&probe, options, identity);
        qm_rung_blkid(&probe, options, identity);
    }
    if (!is_found(identity))
        qm_rung_weak(&probe, options, identity);

    identity->policy = QIDMAP_POLICY_AFFIX;
    for (guint32 i = 0; i < identity->count; i++) {
        if (identity->fsid[i].kind == QIDMAP_FSID_EPHEMERAL)
            identity->policy = QIDMAP_POLICY_EPHEMERAL;
    }
    qm_hints_collect(&probe, options, &identity->hints);
    qm_probe_clear(&probe);
    return identity->count > 0 ? 0 : fail(error, -ENODEV, "nothing identifies the filesystem");
}
