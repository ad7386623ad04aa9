/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Qids: the path comes from the store by (filesystem, inode), the type from the mode, and the
 * version is a constant.
 *
 * The version is never 0, which tells Linux guests not to cache, and never made from times or
 * sizes: a guest that sees another version drops the inode it holds open. That an inode number was
 * given to another file is told by st_gen.
 *
 * multidevs=warn shows raw inode numbers, as servers do that know of one filesystem only: it has no
 * store, and says once for each export which two filesystems may now be taken for each other.
 */
#include "config.h"

#include "src/qid.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/log.h"
#include "src/mount.h"
#include "store/qidmap.h"

#define QID_VERSION           1
#define BTRFS_PLACEHOLDER_INO 2

struct qid_export {
    char *name;
    char *root_path;
    int root_fd;
    char *store_uri; /* NULL with multidevs=warn */
    enum qid_multidevs multidevs;
    struct mount_export *mounts;
    qidmap_store *store; /* borrowed from the map */
    struct statx root_stx;
    int warned;           /* atomic */
    gboolean little_room; /* the store is one whose room is watched */
    int room_told;        /* atomic: 1: a tenth is left, 2: nothing */
};

struct open_store {
    char *uri;
    qidmap_store *store;
};

struct qid_map {
    struct mount_watch *watch;
    GPtrArray *exports; /* struct qid_export */
    GPtrArray *stores;  /* struct open_store */
};

/* ---- life ------------------------------------------------------------------------------------ */

static void export_free(gpointer data)
{
    struct qid_export *exp = data;

    g_free(exp->name);
    g_free(exp->root_path);
    g_free(exp->store_uri);
    g_free(exp);
}

static void open_store_free(gpointer data)
{
    struct open_store *store = data;

    qidmap_store_close(store->store);
    g_free(store->uri);
    g_free(store);
}

struct qid_map *qid_map_new(char *const *overrides, GError **error)
{
    struct mount_watch *watch = mount_watch_new(overrides, error);

    if (watch == NULL)
        return NULL;
    struct qid_map *map = g_new0(struct qid_map, 1);
    map->watch = watch;
    map->exports = g_ptr_array_new_with_free_func(export_free);
    map->stores = g_ptr_array_new_with_free_func(open_store_free);
    return map;
}

/* The real path of `path`, of which the last components may not exist yet. */
static char *real_path(const char *path)
{
    g_autofree char *here = g_get_current_dir();
    g_autofree char *head = g_canonicalize_filename(path, here);
    g_autofree char *tail = g_strdup("");

    for (;;) {
        char *real = realpath(head, NULL);
        if (real != NULL) {
            char *whole = g_build_filename(real, tail, NULL);
            free(real);
            return whole;
        }
        g_autofree char *base = g_path_get_basename(head);
        g_autofree char *dir = g_path_get_dirname(head);
        if (strcmp(dir, head) == 0)
            return g_build_filename(head, tail, NULL);
        char *longer = tail[0] != '\0' ? g_build_filename(base, tail, NULL) : g_strdup(base);
        g_free(tail);
        tail = longer;
        g_free(head);
        head = g_steal_pointer(&dir);
    }
}

/* The directory that a URI names, or NULL. */
static const char *store_dir(const char *uri)
{
    static const char *const schemes[] = {"lmdb:", "xattr:"};

    for (gsize i = 0; i < G_N_ELEMENTS(schemes); i++)
        if (g_str_has_prefix(uri, schemes[i]))
            return uri + strlen(schemes[i]);
    return NULL;
}

/* A guest that could reach the store could renumber everything. The xattrs of the export's root are
 * out of its reach, and so is the root itself; a directory below it could be removed. */
static gboolean check_store_outside(const char *root_path, const char *uri, GError **error)
{
    gboolean xattr = g_str_has_prefix(uri, "xattr:");

    if (store_dir(uri) == NULL)
        return TRUE;
    g_autofree char *store = real_path(store_dir(uri));
    g_autofree char *root = real_path(root_path);
    gsize size = strlen(root);

    while (size > 0 && root[size - 1] == '/')
        size--;
    if (strncmp(store, root, size) != 0 || (store[size] != '/' && store[size] != '\0') ||
        (xattr && (store[size] == '\0' || strcmp(store + size, "/") == 0)))
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "the store %s is inside the export %s, where guests could change it; "
                "give %s",
                store, root,
                xattr ? "the export's root itself, or a directory outside of it"
                      : "a directory outside of it");
    return FALSE;
}

struct qid_export *qid_map_add_export(struct qid_map *map, const char *name, const char *root_path,
                                      int root_fd, const char *store_uri,
                                      enum qid_multidevs multidevs, GError **error)
{
    static const enum mount_mode modes[] = {
        [QID_MULTIDEVS_REMAP] = MOUNT_REGISTER,
        [QID_MULTIDEVS_FORBID] = MOUNT_ROOT_ONLY,
        [QID_MULTIDEVS_WARN] = MOUNT_LOOK_ONLY,
    };
    struct statx stx;

    if (statx(root_fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, QID_STATX_MASK, &stx) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "export %s: %s: %s", name,
                    root_path, g_strerror(errno));
        return NULL;
    }
    if (!S_ISDIR(stx.stx_mode)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOTDIR, "export %s: %s is not a directory",
                    name, root_path);
        return NULL;
    }
    if (!(stx.stx_mask & STATX_MNT_ID)
#ifdef STATX_MNT_ID_UNIQUE
        && !(stx.stx_mask & STATX_MNT_ID_UNIQUE)
#endif
    ) {
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
            "export %s: the kernel does not tell ids of mounts; Linux 5.8 or later is needed",
            name);
        return NULL;
    }
    if (multidevs != QID_MULTIDEVS_WARN && store_uri == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "export %s: no store is given", name);
        return NULL;
    }
    if (multidevs != QID_MULTIDEVS_WARN) {
        if (!check_store_outside(root_path, store_uri, error))
            return NULL;
    }

    struct qid_export *exp = g_new0(struct qid_export, 1);
    exp->name = g_strdup(name);
    exp->root_path = g_strdup(root_path);
    exp->root_fd = root_fd;
    exp->multidevs = multidevs;
    exp->root_stx = stx;
    if (multidevs != QID_MULTIDEVS_WARN)
        exp->store_uri = g_strdup(store_uri);
    exp->mounts = mount_watch_add(map->watch, exp->name, root_fd, modes[multidevs]);
    g_ptr_array_add(map->exports, exp);
    return exp;
}

/* The store of this URI, opened once however many exports share it. */
static qidmap_store *open_once(struct qid_map *map, const char *uri, GError **error)
{
    struct qidmap_error problem;
    qidmap_store *opened;
    g_autofree char *key = g_strdup(uri);

    if (store_dir(uri) != NULL) {
        g_autofree char *real = real_path(store_dir(uri));
        key[store_dir(uri) - uri] = '\0';
        char *whole = g_strconcat(key, real, NULL);
        g_free(key);
        key = whole;
    }
    for (guint i = 0; i < map->stores->len; i++) {
        struct open_store *store = g_ptr_array_index(map->stores, i);
        if (strcmp(store->uri, key) == 0)
            return store->store;
    }
    int rc =
        qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &opened, &problem);
    if (rc < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc), "%s", problem.text);
        return NULL;
    }
    struct open_store *store = g_new(struct open_store, 1);
    store->uri = g_steal_pointer(&key);
    store->store = opened;
    g_ptr_array_add(map->stores, store);
    return opened;
}

/* After what may have made new mappings: says once when a store with little room has less than a
 * tenth of it left, and once when there is none. */
static void watch_room(struct qid_export *exp)
{
    struct qidmap_stats stats = {.size = sizeof stats};
    int stage;

    if (!exp->little_room || g_atomic_int_get(&exp->room_told) == 2 ||
        qidmap_store_stats(exp->store, &stats, NULL) < 0 || stats.bytes_room == 0 ||
        stats.bytes_used < stats.bytes_room / 10 * 9)
        return;
    stage = stats.rows_room == 0 ? 2 : 1;
    if (g_atomic_int_get(&exp->room_told) >= stage)
        return;
    g_atomic_int_set(&exp->room_told, stage);
    if (stage == 1)
        log_warning("export %s: the store %s has less than a tenth of its room left, for about "
                    "%" G_GUINT64_FORMAT " affix entries; an lmdb: store has more",
                    exp->name, exp->store_uri, stats.rows_room);
    else
        log_warning("export %s: the store %s has no room left: new mappings fail; use an lmdb: "
                    "store",
                    exp->name, exp->store_uri);
}

gboolean qid_map_start(struct qid_map *map, GError **error)
{
    for (guint i = 0; i < map->exports->len; i++) {
        struct qid_export *exp = g_ptr_array_index(map->exports, i);
        if (exp->store_uri == NULL)
            continue;
        exp->store = open_once(map, exp->store_uri, error);
        if (exp->store == NULL)
            return FALSE;
        mount_export_set_store(exp->mounts, exp->store);
        exp->little_room = g_str_has_prefix(exp->store_uri, "xattr:");
    }
    if (!mount_watch_start(map->watch, error))
        return FALSE;
    for (guint i = 0; i < map->exports->len; i++)
        watch_room(g_ptr_array_index(map->exports, i));
    return TRUE;
}

void qid_map_free(struct qid_map *map)
{
    if (map == NULL)
        return;
    mount_watch_free(map->watch);
    g_ptr_array_unref(map->stores);
    g_ptr_array_unref(map->exports);
    g_free(map);
}

/* ---- one qid --------------------------------------------------------------------------------- */

static uint8_t type_of_mode(mode_t mode)
{
    return S_ISDIR(mode) ? QID_TYPE_DIR : S_ISLNK(mode) ? QID_TYPE_SYMLINK : QID_TYPE_FILE;
}

static uint8_t type_of_d_type(uint8_t d_type)
{
    return d_type == DT_DIR ? QID_TYPE_DIR : d_type == DT_LNK ? QID_TYPE_SYMLINK : QID_TYPE_FILE;
}

/* multidevs=warn: once for each export, which two filesystems share the space of inode numbers. */
static void warn_once(struct qid_export *exp, const struct statx *stx)
{
    if ((stx->stx_dev_major == exp->root_stx.stx_dev_major &&
         stx->stx_dev_minor == exp->root_stx.stx_dev_minor) ||
        !g_atomic_int_compare_and_exchange(&exp->warned, 0, 1))
        return;
    g_autofree char *first = mount_describe(exp->mounts, &exp->root_stx);
    g_autofree char *second = mount_describe(exp->mounts, stx);
    log_warning("export %s: more than one filesystem (%s; %s), and multidevs=warn: guests may take "
                "a file of one for a file of the other",
                exp->name, first, second);
}

/*
 * A btrfs snapshot shows a nested subvolume as an empty directory with inode number 2, and so all
 * of them: the key is the inode of the directory it is in, and its d_ino there.
 */
static int map_placeholder(struct qid_export *exp, uint32_t fs, uint64_t parent_ino, uint64_t d_ino,
                           uint64_t *path)
{
    struct qidmap_object object;

    memset(&object, 0, sizeof object);
    object.fs = fs;
    object.kind = QIDMAP_OBJECT_PLACEHOLDER;
    object.ino = parent_ino;
    object.ino2 = d_ino;
    return qidmap_map_object(exp->store, &object, path);
}

/* Finds parent and d_ino of a placeholder that is open as `fd`: from its name there, since nothing
 * else leads to them. The placeholder has a device number of its own, but the mount of its parent,
 * and its filesystem is that one's. -ENODEV: it is none; -ESTALE: its name is gone. */
static int map_open_placeholder(struct qid_export *exp, int fd, const struct statx *stx,
                                uint64_t *path)
{
    char link[64];
    struct mount_entry entry;
    struct statx parent_stx;
    int rc = -ESTALE;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(link, NULL);
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target == NULL || parent < 0) {
        if (parent >= 0)
            close(parent);
        return -ESTALE;
    }
    if (statx(parent, "", AT_EMPTY_PATH, QID_STATX_MASK, &parent_stx) != 0 ||
        parent_stx.stx_mnt_id != stx->stx_mnt_id ||
        mount_lookup(exp->mounts, parent, &parent_stx, &entry) < 0 || !entry.btrfs) {
        close(parent);
        return -ENODEV;
    }
    DIR *dir = fdopendir(parent);
    if (dir == NULL) {
        close(parent);
        return -ESTALE;
    }
    const char *name = strrchr(target, '/');
    const struct dirent *dirent;
    while (name != NULL && (dirent = readdir(dir)) != NULL) {
        if (strcmp(dirent->d_name, name + 1) == 0) {
            rc = map_placeholder(exp, entry.fs, parent_stx.stx_ino, dirent->d_ino, path);
            break;
        }
    }
    closedir(dir);
    return rc;
}

/* Inode numbers of btrfs begin at 256: nothing else has this one there. */
static gboolean may_be_placeholder(const struct statx *stx)
{
    return stx->stx_ino == BTRFS_PLACEHOLDER_INO && S_ISDIR(stx->stx_mode);
}

static int map_inode(struct qid_export *exp, uint32_t fs, uint64_t ino, uint64_t *path)
{
    int rc = qidmap_find(exp->store, fs, ino, path);

    if (rc != -ENOENT)
        return rc;
    rc = qidmap_map(exp->store, fs, ino, path);
    watch_room(exp);
    return rc;
}

int qid_from_stat(struct qid_export *exp, int fd, const struct statx *stx, struct qid *qid)
{
    struct mount_entry entry;
    uint64_t path = stx->stx_ino;

    if (exp->multidevs == QID_MULTIDEVS_WARN) {
        warn_once(exp, stx);
    } else {
        int rc = mount_lookup(exp->mounts, fd, stx, &entry);
        if (may_be_placeholder(stx) && (rc == -ENODEV || (rc == 0 && entry.btrfs)))
            rc = map_open_placeholder(exp, fd, stx, &path);
        else if (rc == 0)
            rc = entry.foreign ? -EXDEV : map_inode(exp, entry.fs, stx->stx_ino, &path);
        if (rc < 0)
            return rc;
    }
    qid->type = type_of_mode(stx->stx_mode);
    qid->version = QID_VERSION;
    qid->path = path;
    return 0;
}

/* ---- a directory of them --------------------------------------------------------------------- */

static gboolean is_dotdot(const char *name)
{
    return name[0] == '.' && name[1] == '.' && name[2] == '\0';
}

static uint8_t d_type_of_mode(mode_t mode)
{
    return (uint8_t)((mode & S_IFMT) >> 12);
}

/* Whether d_ino can be taken as it stands. */
static gboolean is_trusted(const struct mount_entry *dir, const struct qid_dirent *e)
{
    if (dir->has_mounts || e->d_type == DT_UNKNOWN || is_dotdot(e->name))
        return FALSE;
    return dir->trust == MOUNT_TRUST_ALL ||
           (dir->trust == MOUNT_TRUST_BTRFS && e->d_type != DT_DIR);
}

/* Looks at one entry: fills type and inode number, and the filesystem it is on. */
static int look_at(struct qid_export *exp, int dir_fd, const char *name, struct statx *stx,
                   struct mount_entry *entry)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

    if (name[0] == '\0')
        flags |= AT_EMPTY_PATH;
    if (statx(dir_fd, name, flags, QID_STATX_MASK, stx) != 0)
        return -errno;
    if (exp->multidevs == QID_MULTIDEVS_WARN || mount_find(exp->mounts, stx, entry))
        return 0;

    /* Not met before: what is to be identified must be held open. */
    if (name[0] == '\0')
        return mount_lookup(exp->mounts, dir_fd, stx, entry);
    int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, QID_STATX_MASK, stx) == 0
                 ? mount_lookup(exp->mounts, fd, stx, entry)
                 : -errno;
    close(fd);
    return rc;
}

/* Finds out about entry `e` what its qid is made of; 1: the path is to be had from the batch with
 * fs and inode number in *item; 0: all is done; or a negative errno. */
static int prepare(struct qid_export *exp, int dir_fd, const struct statx *dir_stx, int parent_fd,
                   const struct mount_entry *dir, struct qid_dirent *e, struct qidmap_item *item)
{
    gboolean warn = exp->multidevs == QID_MULTIDEVS_WARN;
    gboolean dot = e->name[0] == '.' && e->name[1] == '\0';
    struct mount_entry at = *dir;
    uint64_t ino = e->d_ino;
    int rc;

    if (dot) {
        ino = dir_stx->stx_ino;
        e->d_type = DT_DIR;
        e->qid.type = QID_TYPE_DIR;
        if (!warn && dir->btrfs && may_be_placeholder(dir_stx))
            return map_open_placeholder(exp, dir_fd, dir_stx, &e->qid.path);
    } else if (is_trusted(dir, e)) {
        e->qid.type = type_of_d_type(e->d_type);
    } else {
        struct statx stx = {.stx_ino = 0};
        gboolean dotdot = is_dotdot(e->name);
        rc = look_at(exp, dotdot ? parent_fd : dir_fd, dotdot ? "" : e->name, &stx, &at);
        gboolean placeholder =
            !warn && may_be_placeholder(&stx) && (rc == -ENODEV || (rc == 0 && at.btrfs));
        if (rc < 0 && !placeholder) /* a dead mount point, say: the other names are shown */
            return rc == -ENFILE || rc == -EMFILE || rc == -ENOMEM || rc == -ENOSPC ||
                           rc == -EUCLEAN
                       ? rc
                       : -ENOENT;
        ino = stx.stx_ino;
        e->d_type = d_type_of_mode(stx.stx_mode);
        e->qid.type = type_of_mode(stx.stx_mode);
        if (warn)
            warn_once(exp, &stx);
        else if (!placeholder && at.foreign)
            return -EXDEV;
        else if (placeholder)
            return dotdot ? map_open_placeholder(exp, parent_fd, &stx, &e->qid.path)
                          : map_placeholder(exp, dir->fs, dir_stx->stx_ino, e->d_ino, &e->qid.path);
    }
    if (warn) {
        e->qid.path = ino;
        return 0;
    }
    item->fs = at.fs;
    item->ino = ino;
    return 1;
}

static void batch(struct qid_export *exp, struct qidmap_item *items, size_t n)
{
    qidmap_map_batch(exp->store, items, n);
    watch_room(exp);
}

int qid_from_dirents(struct qid_export *exp, int dir_fd, const struct statx *dir_stx, int parent_fd,
                     struct qid_dirent *entries, size_t count)
{
    struct mount_entry dir;

    int rc = mount_lookup_dir(exp->mounts, dir_fd, dir_stx, &dir);
    if (rc == -ENODEV && may_be_placeholder(dir_stx) && exp->multidevs != QID_MULTIDEVS_WARN) {
        struct statx parent_stx; /* it lists nothing but itself and its parent */
        rc = statx(parent_fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &parent_stx) == 0
                 ? mount_lookup(exp->mounts, parent_fd, &parent_stx, &dir)
                 : -errno;
    }
    if (rc < 0 && exp->multidevs == QID_MULTIDEVS_WARN)
        memset(&dir, 0, sizeof dir); /* no d_ino is trusted */
    else if (rc < 0)
        return rc;
    if (dir.foreign)
        return -EXDEV;

    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, count + 1);
    g_autofree size_t *owner = g_new(size_t, count + 1);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        struct qid_dirent *e = &entries[i];
        rc = prepare(exp, dir_fd, dir_stx, parent_fd, &dir, e, &items[n]);
        e->qid.version = QID_VERSION;
        e->result = MIN(rc, 0);
        if (rc == 1)
            owner[n++] = i;
    }
    if (n > 0)
        batch(exp, items, n);
    for (size_t k = 0; k < n; k++) {
        entries[owner[k]].result = items[k].result;
        entries[owner[k]].qid.path = items[k].path;
    }
    return 0;
}

/* ---- names that guests do not see ------------------------------------------------------------ */

/* In any case: some filesystems do not tell upper from lower case in these names. */
gboolean qid_xattr_is_hidden(const char *name)
{
    static const char *const prefixes[] = {
        "trusted.qidmap.",
        "user.qidmap.",
        "user.virtfs.",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        gsize size = strlen(prefixes[i]) - 1;
        if (g_ascii_strncasecmp(name, prefixes[i], size) == 0 &&
            (name[size] == '.' || name[size] == '\0'))
            return TRUE;
    }
    return FALSE;
}
