/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rung of filesystems that do not outlive the boot, or whose inode numbers do not outlive the
 * mount: tmpfs, proc and their like, FUSE that counts, and what shows inode numbers under a device
 * number that is not its own.
 *
 *     bytes  0 ... 15   boot id
 *     bytes 16 ... 31   the instance, a digest of
 *                         tmpfs: f_fsid, made of its random uuid (Linux 5.16); before, the random
 *                           generation in the handle of its root, with st_dev
 *                         others: id of the mount, and st_dev
 *
 * st_dev may stand here, and only here: within a boot, and beside the id of a mount, it is a name
 * of the instance. It is no more than that: where Linux gives ids of mounts that are never used
 * again (6.8) they are taken; before, an instance that comes and goes may leave its ids to the next
 * one. Of several mounts of one superblock the lowest id counts, so that a bind mount shows the
 * instance that it is of.
 */
#include "config.h"

#include "store/identity.h"
#include "store/view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

static const char *const ephemeral_types[] = {
    "tmpfs",   "ramfs",      "devtmpfs",  "proc",       "sysfs",       "devpts",  "cgroup",
    "cgroup2", "debugfs",    "tracefs",   "securityfs", "configfs",    "mqueue",  "hugetlbfs",
    "pstore",  "bpf",        "efivarfs",  "fusectl",    "binfmt_misc", "autofs",  "rootfs",
    "nsfs",    "rpc_pipefs", "selinuxfs", "smackfs",    "nfsd",        "resctrl", "functionfs",
};

gboolean qm_is_ephemeral_type(const char *type)
{
    for (gsize i = 0; i < G_N_ELEMENTS(ephemeral_types); i++) {
        if (strcmp(type, ephemeral_types[i]) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The lowest id of the mounts of this superblock. */
static guint64 mount_key(const struct qm_probe *probe)
{
    guint64 key = probe->unique_id != 0 ? probe->unique_id : probe->stx.stx_mnt_id;
    struct statx stx;

    for (guint i = 0; i < probe->mounts->len; i++) {
        const struct qm_mount *m = g_ptr_array_index(probe->mounts, i);
        if (m == probe->mount || m->major != probe->mount->major || m->minor != probe->mount->minor)
            continue;
        if (probe->unique_id == 0) {
            key = MIN(key, m->id);
            continue;
        }
        int fd = qm_view_open(m->path, O_PATH | O_NOFOLLOW);
        if (fd < 0)
            continue;
        /* The reused id first: it tells whether the path still leads to this mount. */
        if (qm_statx(fd, STATX_MNT_ID, &stx) == 0 && stx.stx_mnt_id == m->id &&
            qm_statx(fd, STATX_MNT_ID_UNIQUE, &stx) == 0 && (stx.stx_mask & STATX_MNT_ID_UNIQUE))
            key = MIN(key, stx.stx_mnt_id);
        close(fd);
    }
    return key;
}

/* The handle of the root of a tmpfs begins with its generation, a random number. */
static guint32 root_generation(const struct qm_probe *probe)
{
    struct qm_handle handle;
    guint32 generation = 0;
    int root = qm_probe_root(probe);

    if (root < 0)
        return 0;
    if (qm_handle_at(root, "", &handle) && handle.size >= sizeof generation)
        memcpy(&generation, handle.bytes, sizeof generation);
    close(root);
    return generation;
}

int qm_rung_ephemeral(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qm_answer *answer)
{
    guint64 device = (guint64)probe->stx.stx_dev_major << 32 | probe->stx.stx_dev_minor;
    gboolean is_tmpfs = strcmp(probe->mount->type, "tmpfs") == 0;
    XXH128_canonical_t digest;
    guint64 key[4] = {0};
    guint8 bytes[32];

    (void)options;
    if (probe->policy != QIDMAP_POLICY_EPHEMERAL) {
        qm_say(answer, "not needed: %s", probe->why);
        return -ENODATA;
    }
    if (!qm_boot_id(bytes, NULL)) {
        qm_say(answer, "/proc/sys/kernel/random/boot_id cannot be read");
        return -ENODEV;
    }
    if (is_tmpfs)
        memcpy(&key[0], &probe->sfs.f_fsid, MIN(sizeof key[0], sizeof probe->sfs.f_fsid));
    if (is_tmpfs && key[0] != 0) {
        qm_say(answer, "%s; instance by its uuid (f_fsid)", probe->why);
    } else if (is_tmpfs && (key[0] = root_generation(probe)) != 0) {
        key[3] = device;
        qm_say(answer, "%s; instance by the generation of its root", probe->why);
    } else {
        key[1] = mount_key(probe);
        key[2] = probe->unique_id != 0;
        key[3] = device;
        qm_say(answer, "%s; instance by the id of its mount", probe->why);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(key); i++)
        key[i] = GUINT64_TO_LE(key[i]);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(key, sizeof key));
    memcpy(bytes + 16, digest.digest, 16);
    qm_answer_set(answer, QIDMAP_FSID_EPHEMERAL, bytes, sizeof bytes);
    return 0;
}
