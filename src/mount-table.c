/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table that every qid asks: open addressing for the filesystems, a hash table for the names of
 * mount points. The keys come from the host, not from guests.
 *
 * A slot is filled first and then published by its id, so that readers need no lock; ten thousand
 * subvolumes that are met one after the other cost ten thousand insertions and a few new tables.
 */
#include "config.h"

#include "src/mount-table.h"

#include <fcntl.h>
#include <string.h>

struct mount_slot {
    guint64 key; /* 0: empty; published last */
    guint64 dev;
    guint64 subvol;
    guint64 root_dev;
    gboolean needs_subvol;
    struct mount_entry entry;
};

/* Where stx_subvol stands in struct statx: headers of 6.10 name it. */
#define SUBVOL_OFFSET 0xa0
G_STATIC_ASSERT(sizeof(struct statx) >= SUBVOL_OFFSET + sizeof(guint64));

/* The handle of a file on btrfs: objectid, then the number of the subvolume. */
#define BTRFS_HANDLE_FIRST 0x4d
#define BTRFS_HANDLE_LAST  0x4f
#define BTRFS_HANDLE_ROOT  8
#define BTRFS_HANDLE_SIZE  20

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

guint64 mount_stx_subvol(const struct statx *stx)
{
    guint64 subvol;

    if (!(stx->stx_mask & STATX_SUBVOL))
        return 0;
    memcpy(&subvol, (const guint8 *)stx + SUBVOL_OFFSET, sizeof subvol);
    return subvol;
}

guint64 mount_handle_subvol(int fd, const char *name)
{
    union {
        struct file_handle handle;
        guint8 room[sizeof(struct file_handle) + 128];
    } u;
    guint64 subvol;
    int mount_id;

    u.handle.handle_bytes = 128;
    if (name_to_handle_at(fd, name, &u.handle, &mount_id, name[0] == '\0' ? AT_EMPTY_PATH : 0) !=
            0 ||
        u.handle.handle_type < BTRFS_HANDLE_FIRST || u.handle.handle_type > BTRFS_HANDLE_LAST ||
        u.handle.handle_bytes < BTRFS_HANDLE_SIZE)
        return 0;
    memcpy(&subvol, u.handle.f_handle + BTRFS_HANDLE_ROOT, sizeof subvol);
    return subvol;
}

static guint hash_key(guint64 key, guint64 dev, guint64 subvol)
{
    guint64 mixed = (key * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) ^
                    (dev * G_GUINT64_CONSTANT(0xc2b2ae3d27d4eb4f)) ^
                    (subvol * G_GUINT64_CONSTANT(0x165667b19e3779f9));
    return (guint)(mixed >> 32);
}

static const struct mount_slot *slot_find(const struct mount_table *table, guint64 key, guint64 dev,
                                          guint64 subvol)
{
    for (guint i = hash_key(key, dev, subvol) & table->mask;; i = (i + 1) & table->mask) {
        const struct mount_slot *slot = &table->slots[i];
        guint64 at = __atomic_load_n(&slot->key, __ATOMIC_ACQUIRE);

        if (at == 0)
            return NULL;
        if (at == key && slot->dev == dev && slot->subvol == subvol)
            return slot;
    }
}

gboolean mount_table_find(const struct mount_table *table, const struct statx *stx, guint64 subvol,
                          struct mount_entry *entry, gboolean *needs_subvol)
{
    guint64 key = mount_stx_key(stx), dev = mount_stx_dev(stx);

    *needs_subvol = FALSE;
    if (key == 0)
        return FALSE;
    if (subvol == 0)
        subvol = mount_stx_subvol(stx);
    const struct mount_slot *slot = slot_find(table, key, dev, subvol);
    if (slot == NULL)
        slot = slot_find(table, key, MOUNT_ANY_DEV, 0);
    if (slot == NULL)
        return FALSE;
    if (slot->needs_subvol) {
        *needs_subvol = TRUE;
        return FALSE;
    }
    *entry = slot->entry;
    entry->overlay = slot->dev == MOUNT_ANY_DEV;
    entry->other_dev = entry->overlay && slot->root_dev != dev;
    return TRUE;
}

static gboolean insert(struct mount_table *table, const struct mount_live *live, guint64 subvol,
                       gboolean needs_subvol)
{
    guint i = hash_key(live->key, live->dev, subvol) & table->mask;

    if (table->used * 2 > table->mask)
        return FALSE;
    while (table->slots[i].key != 0) {
        if (table->slots[i].key == live->key && table->slots[i].dev == live->dev &&
            table->slots[i].subvol == subvol)
            return TRUE;
        i = (i + 1) & table->mask;
    }
    struct mount_slot *slot = &table->slots[i];
    slot->dev = live->dev;
    slot->subvol = subvol;
    slot->root_dev = live->root_dev;
    slot->needs_subvol = needs_subvol;
    slot->entry.fs = live->fs;
    slot->entry.policy = live->policy;
    slot->entry.trust = live->trust;
    slot->entry.refused = live->refused;
    slot->entry.btrfs = live->btrfs;
    table->used++;
    __atomic_store_n(&slot->key, live->key, __ATOMIC_RELEASE);
    return TRUE;
}

gboolean mount_table_add(struct mount_table *table, const struct mount_live *live)
{
    if (!live->served)
        return TRUE;
    return insert(table, live, live->subvol, FALSE) &&
           (!live->needs_subvol || insert(table, live, 0, TRUE));
}

/* ---- names ----------------------------------------------------------------------------------- */

static guint name_hash(gconstpointer data)
{
    const struct mount_point_name *n = data;

    return hash_key(n->key, n->dev, n->ino) ^ g_str_hash(n->name);
}

static gboolean name_equal(gconstpointer a, gconstpointer b)
{
    const struct mount_point_name *x = a, *y = b;

    return x->key == y->key && x->dev == y->dev && x->ino == y->ino &&
           strcmp(x->name, y->name) == 0;
}

static void name_free(gpointer data)
{
    struct mount_point_name *n = data;

    g_free((char *)n->name);
    g_free(n);
}

void mount_table_add_name(struct mount_table *table, const struct mount_point_name *name)
{
    struct mount_point_name *copy = g_new(struct mount_point_name, 1);

    *copy = *name;
    copy->name = g_strdup(name->name);
    g_hash_table_add(table->names, copy);
    /* The directory itself, under no name: it has some. */
    copy = g_new(struct mount_point_name, 1);
    *copy = *name;
    copy->name = g_strdup("");
    g_hash_table_add(table->names, copy);
}

gboolean mount_table_has_names(const struct mount_table *table, const struct statx *dir)
{
    struct mount_point_name key = {
        .key = mount_stx_key(dir), .dev = mount_stx_dev(dir), .ino = dir->stx_ino, .name = ""};

    return table->unsure || g_hash_table_contains(table->names, &key);
}

enum mount_name mount_table_find_name(const struct mount_table *table, const struct statx *dir,
                                      const char *name, struct statx *root)
{
    struct mount_point_name key = {
        .key = mount_stx_key(dir), .dev = mount_stx_dev(dir), .ino = dir->stx_ino, .name = name};
    const struct mount_point_name *found = g_hash_table_lookup(table->names, &key);

    if (found == NULL)
        return table->unsure ? MOUNT_NAME_LOOK : MOUNT_NAME_PLAIN;
    if (found->state == MOUNT_NAME_KNOWN)
        *root = found->root;
    return found->state;
}

struct mount_table *mount_table_new(gsize count)
{
    struct mount_table *table = g_new0(struct mount_table, 1);
    guint size = 16;

    while (size < count * 4)
        size *= 2;
    table->mask = size - 1;
    table->slots = g_new0(struct mount_slot, size);
    table->names = g_hash_table_new_full(name_hash, name_equal, name_free, NULL);
    return table;
}

void mount_table_free(struct mount_table *table)
{
    if (table == NULL)
        return;
    g_hash_table_unref(table->names);
    g_free(table->slots);
    g_free(table);
}
