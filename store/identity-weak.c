/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last rung: nothing but names tells what this is (FUSE, network filesystems, overlay, and
 * whatever has no uuid): a digest of type, source and mount path. Flagged weak, since another
 * filesystem could come under the same names.
 *
 * Not for btrfs: it has subvolumes, which share all of these names. Where its ioctls do not answer,
 * it stays unidentified and is refused.
 */
#include "config.h"

#include "store/identity.h"

#include <string.h>

#include <xxhash.h>

#include "store/hints.h"

void qm_rung_weak(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qidmap_identity *identity)
{
    const struct qm_mount *mount = probe->mount;
    struct qidmap_hints hints = {0};
    XXH128_canonical_t digest;

    if (strcmp(mount->type, "btrfs") == 0)
        return;

    /* The number of a loop device says nothing; its file does. */
    qm_hints_collect(probe, options, &hints);
    const char *source = hints.backing[0] != '\0' ? hints.backing : mount->source;
    GString *key = g_string_new(NULL);
    const char *parts[] = {mount->type, source, mount->root, mount->path};
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++)
        g_string_append_len(key, parts[i], (gssize)strlen(parts[i]) + 1);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(key->str, key->len));
    g_string_free(key, TRUE);
    qm_identity_add(identity, QIDMAP_FSID_WEAK, digest.digest, 16);
    identity->flags |= QIDMAP_IDENTITY_WEAK;
}
