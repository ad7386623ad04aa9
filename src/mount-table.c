/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table that every qid asks: open addressing for the mounts, binary search for the directories
 * that hold mount points. The keys come from the host, not from guests.
 */
#include "config.h"

#include "src/mount-table.h"

#include <stdlib.h>
#include <string.h>

struct mount_slot {
    guint64 id; /* 0: empty */
    guint64 dev;
    struct mount_entry entry;
};

guint64 mount_stx_dev(const struct statx *stx)
{
    return (guint64)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

guint64 mount_stx_key(const struct statx *stx)
{
    if (stx->stx_mask & STATX_MNT_ID_UNIQUE)
        return stx->stx_mnt_id | MOUNT_UNIQUE_KEY;
    return (stx->stx_mask & STATX_MNT_ID) ? stx->stx_mnt_id : 0;
}

gboolean mount_stx_is_unique(const struct statx *stx)
{
    return (stx->stx_mask & STATX_MNT_ID_UNIQUE) != 0;
}

static guint hash_key(guint64 id, guint64 dev)
{
    guint64 mixed = (id * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) ^
                    (dev * G_GUINT64_CONSTANT(0xc2b2ae3d27d4eb4f));
    return (guint)(mixed >> 32);
}

static int compare_dirs(const void *a, const void *b)
{
    const struct mount_dir *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

gboolean mount_table_find(const struct mount_table *table, const struct statx *stx,
                          struct mount_entry *entry)
{
    guint64 id = mount_stx_key(stx), dev = mount_stx_dev(stx);

    if (id == 0)
        return FALSE;
    for (guint i = hash_key(id, dev) & table->mask;; i = (i + 1) & table->mask) {
        const struct mount_slot *slot = &table->slots[i];
        if (slot->id == 0)
            return FALSE;
        if (slot->id == id && slot->dev == dev) {
            *entry = slot->entry;
            break;
        }
    }
    if (S_ISDIR(stx->stx_mode)) {
        struct mount_dir key = {id, dev, stx->stx_ino};
        entry->has_mounts =
            table->any_dir || (table->n_dirs > 0 && bsearch(&key, table->dirs, table->n_dirs,
                                                            sizeof key, compare_dirs) != NULL);
    }
    return TRUE;
}

void mount_table_free(struct mount_table *table)
{
    if (table == NULL)
        return;
    g_free(table->slots);
    g_free(table->dirs);
    g_free(table);
}

static guint8 trust_of(const char *type)
{
    static const char *const all[] = {"ext2", "ext3", "ext4", "xfs", "tmpfs"};

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        if (strcmp(type, all[i]) == 0)
            return MOUNT_TRUST_ALL;
    }
    return strcmp(type, "btrfs") == 0 ? MOUNT_TRUST_BTRFS : MOUNT_TRUST_NONE;
}

static void table_insert(struct mount_table *table, guint64 id, const struct mount_live *live)
{
    guint i = hash_key(id, live->dev) & table->mask;

    while (table->slots[i].id != 0) {
        if (table->slots[i].id == id && table->slots[i].dev == live->dev)
            return;
        i = (i + 1) & table->mask;
    }
    table->slots[i].id = id;
    table->slots[i].dev = live->dev;
    table->slots[i].entry.fs = live->fs;
    table->slots[i].entry.foreign = live->foreign;
    table->slots[i].entry.trust = trust_of(live->identity.hints.type);
    table->slots[i].entry.btrfs = strcmp(live->identity.hints.type, "btrfs") == 0;
}

struct mount_table *mount_table_new(const GPtrArray *lives, const GArray *dirs, gboolean any_dir)
{
    struct mount_table *table = g_new0(struct mount_table, 1);
    guint size = 8;

    while (size < lives->len * 4)
        size *= 2;
    table->any_dir = any_dir;
    table->mask = size - 1;
    table->slots = g_new0(struct mount_slot, size);
    for (guint i = 0; i < lives->len; i++) {
        const struct mount_live *live = g_ptr_array_index(lives, i);
        if (!live->served)
            continue;
        table_insert(table, live->id, live);
        if (live->unique != 0)
            table_insert(table, live->unique | MOUNT_UNIQUE_KEY, live);
    }
    table->n_dirs = dirs->len;
    table->dirs = g_new(struct mount_dir, table->n_dirs + 1);
    if (table->n_dirs > 0) {
        memcpy(table->dirs, dirs->data, table->n_dirs * sizeof(struct mount_dir));
        qsort(table->dirs, table->n_dirs, sizeof(struct mount_dir), compare_dirs);
    }
    return table;
}
