/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of ephemeral filesystems of past boots: nothing can come back to them, so they are dropped
 * when another boot is met. Owns what a past boot is.
 *
 * Must not know of rows that last longer than a boot.
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

/* The boot id that all ephemeral identities agree on, or NULL: then nothing is known to be past. */
const uint8_t *qm_present_boot(const struct qidmap_identity *identities, size_t count)
{
    const uint8_t *boot = NULL;
    uint32_t j;
    size_t i;

    for (i = 0; i < count; i++) {
        for (j = 0; j < identities[i].count; j++) {
            const struct qidmap_fsid *f = &identities[i].fsid[j];

            if (f->kind != QIDMAP_FSID_EPHEMERAL || f->size < BOOT_ID_SIZE)
                continue;
            if (boot && memcmp(boot, f->bytes, BOOT_ID_SIZE) != 0)
                return NULL;
            boot = f->bytes;
        }
    }
    return boot;
}

static gboolean is_past(const struct qidmap_fs *row, const uint8_t *boot)
{
    uint32_t i;

    if (row->instance == 0 || row->fsid_count == 0)
        return FALSE;
    for (i = 0; i < row->fsid_count; i++) {
        if (row->fsid[i].kind != QIDMAP_FSID_EPHEMERAL || row->fsid[i].size < BOOT_ID_SIZE ||
            memcmp(row->fsid[i].bytes, boot, BOOT_ID_SIZE) == 0)
            return FALSE;
    }
    return TRUE;
}

/* Plans to drop rows of past boots. Looks at all rows, once for each boot. */
int qm_plan_past(struct qidmap_store *store, const uint8_t *boot, GArray *plans, GError **error)
{
    g_autoptr(GPtrArray) past = g_ptr_array_new();
    guint i;
    int e = 0;

    if (!boot || (store->boot_known && memcmp(store->boot, boot, BOOT_ID_SIZE) == 0))
        return 0;
    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if (is_past(&fs->row, boot))
            g_ptr_array_add(past, fs);
    }
    pthread_mutex_unlock(&store->map.lock);
    for (i = 0; e == 0 && i < past->len; i++) {
        e = qm_rows_shrink(store, g_ptr_array_index(past, i), error);
        if (e == 0)
            qm_plan_change(store, plans, g_ptr_array_index(past, i))->drop = TRUE;
    }
    return e;
}
