/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 4, second half: the uuid that stands on the device, read by libblkid. Needs the right to
 * read the device. Asked even where the kernel has answered: after an online `tune2fs -U` the
 * kernel may tell the old uuid until the next mount, and both lead to the row.
 *
 * The only file that includes blkid.h.
 */
#include "config.h"

#include "store/identity.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <string.h>

#include <xxhash.h>

static void add_uuid(struct qm_answer *answer, const char *type, const char *text)
{
    guint8 bytes[16];

    qm_say(answer, "%s %s on the device, by libblkid", type, text);
    if (qm_uuid_parse(text, bytes)) {
        qm_answer_set(answer, QIDMAP_FSID_UUID, bytes, 16);
        return;
    }
    /* Serial numbers and dates of vfat, ntfs, iso9660 ...: their digest, with the type. */
    g_autofree char *key = g_strconcat(type, ":", text, NULL);
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(key, strlen(key)));
    qm_answer_set(answer, QIDMAP_FSID_UUID, digest.digest, 16);
}

int qm_rung_blkid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qm_answer *answer)
{
    const char *text = NULL, *type = NULL, *fs = probe->mount->type;
    int result = -ENODATA;

    (void)options;
    if (strcmp(fs, "btrfs") == 0 || strcmp(fs, "overlay") == 0) {
        qm_say(answer, "not asked: %s has a rung of its own", fs);
        return -ENODATA;
    }
    if (probe->dev_major == 0) {
        qm_say(answer, "no block device below");
        return -ENODATA;
    }
    int fd = qm_probe_dev_fd(probe);
    if (fd < 0) {
        qm_say(answer, "the block device %u:%u cannot be read", probe->dev_major, probe->dev_minor);
        return -EACCES;
    }
    blkid_probe pr = blkid_new_probe();
    if (pr == NULL)
        return -ENOMEM;
    qm_say(answer, "libblkid finds no uuid on the device");
    if (blkid_probe_set_device(pr, fd, 0, 0) == 0 && blkid_probe_enable_superblocks(pr, 1) == 0 &&
        blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE) == 0 &&
        blkid_do_safeprobe(pr) == 0 && blkid_probe_lookup_value(pr, "UUID", &text, NULL) == 0 &&
        blkid_probe_lookup_value(pr, "TYPE", &type, NULL) == 0 && text[0] != '\0') {
        add_uuid(answer, type, text);
        result = 0;
    }
    blkid_free_probe(pr);
    return result;
}

gboolean qm_blkid_part_uuid(struct qm_probe *probe, char *text, gsize size)
{
    const char *value = NULL;
    gboolean found = FALSE;
    int fd = qm_probe_dev_fd(probe);

    if (fd < 0)
        return FALSE;
    blkid_probe pr = blkid_new_probe();
    if (pr == NULL)
        return FALSE;
    if (blkid_probe_set_device(pr, fd, 0, 0) == 0 && blkid_probe_enable_superblocks(pr, 0) == 0 &&
        blkid_probe_enable_partitions(pr, 1) == 0 &&
        blkid_probe_set_partitions_flags(pr, BLKID_PARTS_ENTRY_DETAILS) == 0 &&
        blkid_do_safeprobe(pr) == 0 &&
        blkid_probe_lookup_value(pr, "PART_ENTRY_UUID", &value, NULL) == 0) {
        g_strlcpy(text, value, size);
        found = value[0] != '\0';
    }
    blkid_free_probe(pr);
    return found;
}
