/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places are kept by (mount id, st_dev), which hold as long as the mount is there. On btrfs the
 * device number of a subvolume that was deleted may come again: whoever meets a subvolume's root
 * asks anew.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tools/mounts.h"
#include "tools/places.h"
#include "tools/subvolumes.h"

#define BTRFS_SUBVOLUME_ROOT 256

struct key {
    guint64 mount_id, st_dev;
};

struct known {
    struct key key;
    struct place *place;
};

struct places {
    qidmap_store *store;
    sight *sight;
    GPtrArray *mounts; /* struct place_mount */
    GHashTable *known; /* struct known, by its key */
    GPtrArray *all;    /* struct place */
};

static guint key_hash(gconstpointer data)
{
    const struct key *key = data;
    return g_int64_hash(&key->mount_id) * 31 + g_int64_hash(&key->st_dev);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    const struct key *x = a, *y = b;
    return x->mount_id == y->mount_id && x->st_dev == y->st_dev;
}

static void mount_free(gpointer data)
{
    struct place_mount *mount = data;
    g_free(mount->path);
    g_free(mount->tree);
    g_free(mount->identity);
    g_free(mount->problem);
    g_free(mount);
}

static void place_free(gpointer data)
{
    struct place *place = data;
    g_free(place->identity);
    g_free(place);
}

guint64 places_device(const struct statx *st)
{
    return makedev(st->stx_dev_major, st->stx_dev_minor);
}

guint64 places_mount_id(const struct statx *st)
{
    return (st->stx_mask & STATX_MNT_ID) != 0 ? st->stx_mnt_id : 0;
}

static struct key key_of(const struct statx *st)
{
    return (struct key){places_mount_id(st), places_device(st)};
}

struct place *places_known(const places *p, const struct statx *st)
{
    struct key key = key_of(st);
    const struct known *known = g_hash_table_lookup(p->known, &key);
    return known != NULL ? known->place : NULL;
}

/* ---- mounts ----------------------------------------------------------------------------------
 */

static void add_mount(places *p, int fd, const struct statx *st, const char *path, gboolean whole,
                      const char *tree)
{
    struct place_mount *mount = g_new0(struct place_mount, 1);
    struct qidmap_error error = {0};

    mount->path = g_strdup(path);
    mount->tree = g_strdup(tree);
    mount->mount_id = places_mount_id(st);
    mount->st_dev = places_device(st);
    mount->whole = whole;
    mount->identity = g_new0(struct qidmap_identity, 1);
    if (sight_identify(p->sight, fd, mount->tree, mount->identity, &error) < 0 ||
        mount->identity->count == 0) {
        mount->problem = g_strdup(error.code != 0 ? error.text : "nothing identifies it");
        g_clear_pointer(&mount->identity, g_free);
    }
    g_ptr_array_add(p->mounts, mount);
}

static int recognise_mounts(places *p, struct qidmap_error *error)
{
    g_autofree struct qidmap_identity *identities = g_new0(struct qidmap_identity, p->mounts->len);
    g_autofree guint32 *numbers = g_new0(guint32, p->mounts->len);
    gsize count = 0;

    for (guint i = 0; i < p->mounts->len; i++) {
        const struct place_mount *mount = p->mounts->pdata[i];
        if (mount->identity != NULL) {
            identities[count++] = *mount->identity;
        }
    }
    int code = count > 0 ? qidmap_recognise(p->store, identities, count, numbers, error) : 0;
    for (guint i = 0, at = 0; i < p->mounts->len && code == 0; i++) {
        struct place_mount *mount = p->mounts->pdata[i];
        mount->fs = mount->identity != NULL ? numbers[at++] : 0;
    }
    return code;
}

static gboolean shows_root(const GPtrArray *lines, guint64 mount_id, const char *below)
{
    for (guint i = 0; i < lines->len; i++) {
        const struct mount_line *line = lines->pdata[i];
        if (line->id == mount_id) {
            return below[0] == '\0' && strcmp(line->root, "/") == 0;
        }
    }
    return FALSE;
}

static int find_mounts(places *p, int folder, gboolean distinct, struct qidmap_error *error)
{
    g_autoptr(GPtrArray) lines = mounts_read();
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", folder);
    g_autofree char *top = g_file_read_link(link, NULL);
    struct statx st;

    if (top == NULL || statx(folder, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT,
                             STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
        error->code = -errno;
        g_snprintf(error->text, sizeof error->text, "the folder cannot be looked at: %s",
                   g_strerror(errno));
        return error->code;
    }
    guint64 own = places_mount_id(&st);
    const char *below = "";
    for (guint i = 0; i < lines->len; i++) {
        const struct mount_line *line = lines->pdata[i];
        if (line->id == own && !mounts_is_below(top, line->path, &below)) {
            below = "?";
        }
    }
    add_mount(p, folder, &st, "", shows_root(lines, own, below), distinct ? "/" : NULL);
    for (guint i = 0; i < lines->len; i++) {
        const struct mount_line *line = lines->pdata[i];
        if (line->id == own || !mounts_is_below(line->path, top, &below) || below[0] == '\0') {
            continue;
        }
        int fd = mounts_open(line, &st);
        if (fd >= 0) {
            g_autofree char *tree = distinct ? g_strconcat("/", below, NULL) : NULL;
            add_mount(p, fd, &st, below, strcmp(line->root, "/") == 0, tree);
            close(fd);
        }
    }
    return recognise_mounts(p, error);
}

struct parent {
    places *places;
    char *path, *tree;
};

static int add_subvolume(void *data, const char *path, int fd)
{
    const struct parent *parent = data;
    g_autofree char *whole =
        g_strconcat(parent->path, parent->path[0] != '\0' ? "/" : "", path, NULL);
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) == 0) {
        add_mount(parent->places, fd, &st, whole, TRUE, parent->tree);
    }
    return 0;
}

int places_add_subvolumes(places *p, int folder, struct qidmap_error *error)
{
    for (guint i = 0, count = p->mounts->len; i < count; i++) {
        const struct place_mount *mount = p->mounts->pdata[i];
        struct parent parent = {p, mount->path, mount->tree};
        int fd = mount->path[0] == '\0'
                     ? openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                     : openat(folder, mount->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
            subvolumes_find(fd, add_subvolume, &parent);
            close(fd);
        }
    }
    return recognise_mounts(p, error);
}

/* ---- places ----------------------------------------------------------------------------------
 */

static struct place *add_place(places *p, struct key key, const struct qidmap_identity *identity,
                               guint32 fs)
{
    struct place *place = g_new0(struct place, 1);
    struct qidmap_fs row = {.size = sizeof row};
    struct known *known = g_new(struct known, 1);

    place->fs = fs;
    if (identity != NULL) {
        place->identity = g_new(struct qidmap_identity, 1);
        *place->identity = *identity;
        place->policy = identity->policy;
        if (fs != 0 && qidmap_fs_get(p->store, fs, &row, NULL) == 0) {
            place->policy = row.policy;
        }
        place->fsid = identity->fsid[0];
        place->btrfs = strcmp(identity->hints.type, "btrfs") == 0;
        place->handles = sight_wants_handle(place->policy, identity, key.st_dev);
        g_strlcpy(place->type, identity->hints.type, sizeof place->type);
    }
    known->key = key;
    known->place = place;
    g_ptr_array_add(p->all, place);
    g_hash_table_replace(p->known, &known->key, known);
    return place;
}

static const struct place_mount *mount_with(const places *p, guint64 mount_id)
{
    for (guint i = 0; i < p->mounts->len; i++) {
        const struct place_mount *mount = p->mounts->pdata[i];
        if (mount->mount_id == mount_id) {
            return mount;
        }
    }
    return NULL;
}

/* Recognised beside the mounts of the same type, which may have an identity with it in common. */
static guint32 recognise_one(places *p, const struct qidmap_identity *identity)
{
    g_autofree struct qidmap_identity *all = g_new0(struct qidmap_identity, p->mounts->len + 1);
    g_autofree guint32 *numbers = g_new0(guint32, p->mounts->len + 1);
    gsize count = 0;

    all[count++] = *identity;
    for (guint i = 0; i < p->mounts->len; i++) {
        const struct place_mount *mount = p->mounts->pdata[i];
        if (mount->identity != NULL &&
            strcmp(mount->identity->hints.type, identity->hints.type) == 0) {
            all[count++] = *mount->identity;
        }
    }
    return qidmap_recognise(p->store, all, count, numbers, NULL) == 0 ? numbers[0] : 0;
}

static struct place *meet(places *p, int fd, struct key key)
{
    const struct place_mount *mount = mount_with(p, key.mount_id);
    struct qidmap_identity identity;

    if (mount != NULL && mount->st_dev == key.st_dev) {
        return add_place(p, key, mount->identity, mount->fs);
    }
    if (sight_identify(p->sight, fd, mount != NULL ? mount->tree : NULL, &identity, NULL) < 0 ||
        identity.count == 0) {
        return add_place(p, key, NULL, 0);
    }
    return add_place(p, key, &identity, recognise_one(p, &identity));
}

struct place *places_of(places *p, int fd, const struct statx *st, const struct place *holder)
{
    struct place *place = places_known(p, st);

    if (place == NULL) {
        return meet(p, fd, key_of(st));
    }
    if (place->btrfs && S_ISDIR(st->stx_mode) && st->stx_ino == BTRFS_SUBVOLUME_ROOT &&
        place != holder) {
        struct qidmap_identity identity;
        if (sight_identify(p->sight, fd, NULL, &identity, NULL) < 0 || identity.count == 0 ||
            memcmp(&identity.fsid[0], &place->fsid, sizeof place->fsid) != 0) {
            return meet(p, fd, key_of(st));
        }
    }
    return place;
}

/* ---- all of it -------------------------------------------------------------------------------
 */

places *places_new(qidmap_store *store, sight *sight, int folder, gboolean distinct,
                   struct qidmap_error *error)
{
    g_autoptr(places) p = g_new0(places, 1);

    p->store = store;
    p->sight = sight;
    p->mounts = g_ptr_array_new_with_free_func(mount_free);
    p->known = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
    p->all = g_ptr_array_new_with_free_func(place_free);
    return find_mounts(p, folder, distinct, error) < 0 ? NULL : g_steal_pointer(&p);
}

const GPtrArray *places_mounts(const places *p)
{
    return p->mounts;
}

void places_set_store(places *p, qidmap_store *store)
{
    p->store = store;
}

void places_free(places *p)
{
    g_ptr_array_unref(p->mounts);
    g_hash_table_unref(p->known);
    g_ptr_array_unref(p->all);
    g_free(p);
}
