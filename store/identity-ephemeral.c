/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rung of filesystems that do not outlive the boot: tmpfs, proc and their like, and what shows
 * inode numbers under a device number that is not its own.
 *
 *     bytes  0 ... 15   boot id
 *     bytes 16 ... 31   the instance: digest of the random f_fsid of a tmpfs (from its uuid, Linux
 *                       5.16); else of the id of the mount and st_dev
 *
 * st_dev may stand here, and only here: within a boot, and beside the id of a mount, it is a name
 * of the instance. It is no more than that: where Linux gives ids of mounts that are never used
 * again (6.8) they are taken; before, an instance that comes and goes may leave its ids to the next
 * one.
 */
#include "config.h"

#include "store/identity.h"

#include <string.h>

#include <xxhash.h>

static const char *const ephemeral_types[] = {
    "tmpfs",   "ramfs",      "devtmpfs",  "proc",       "sysfs",       "devpts",  "cgroup",
    "cgroup2", "debugfs",    "tracefs",   "securityfs", "configfs",    "mqueue",  "hugetlbfs",
    "pstore",  "bpf",        "efivarfs",  "fusectl",    "binfmt_misc", "autofs",  "rootfs",
    "nsfs",    "rpc_pipefs", "selinuxfs", "smackfs",    "nfsd",        "resctrl", "functionfs",
};

static gboolean is_ephemeral(const struct qm_probe *probe)
{
    const char *type = probe->mount->type;

    for (gsize i = 0; i < G_N_ELEMENTS(ephemeral_types); i++) {
        if (strcmp(type, ephemeral_types[i]) == 0)
            return TRUE;
    }
    /* An overlay over several filesystems without xino shows files of its layers with their own
     * inode numbers and made-up device numbers: two layers may use one number, so each device
     * number is an instance. On btrfs that is a subvolume, which has a rung of its own. */
    return strcmp(type, "btrfs") != 0 && (probe->stx.stx_dev_major != probe->mount->major ||
                                          probe->stx.stx_dev_minor != probe->mount->minor);
}

void qm_rung_ephemeral(struct qm_probe *probe, const struct qidmap_identify_options *options,
                       struct qidmap_identity *identity)
{
    guint8 bytes[32];
    guint64 key[4] = {0};
    XXH128_canonical_t digest;

    (void)options;
    if (!is_ephemeral(probe) || !qm_boot_id(bytes, NULL))
        return;
    memcpy(&key[0], &probe->sfs.f_fsid, MIN(sizeof key[0], sizeof probe->sfs.f_fsid));
    if (strcmp(probe->mount->type, "tmpfs") != 0 || key[0] == 0) {
        key[0] = 0;
        key[1] = probe->unique_id != 0 ? probe->unique_id : probe->stx.stx_mnt_id;
        key[2] = probe->unique_id != 0;
        key[3] = (guint64)probe->stx.stx_dev_major << 32 | probe->stx.stx_dev_minor;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(key); i++)
        key[i] = GUINT64_TO_LE(key[i]);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(key, sizeof key));
    memcpy(bytes + 16, digest.digest, 16);
    qm_identity_add(identity, QIDMAP_FSID_EPHEMERAL, bytes, sizeof bytes);
}
