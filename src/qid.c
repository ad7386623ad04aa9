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
#include <sys/vfs.h>
#include <unistd.h>

#include "src/log.h"
#include "src/mount.h"
#include "src/privs.h"
#include "store/qidmap.h"

#define QID_VERSION           1
#define BTRFS_PLACEHOLDER_INO 2
#define BTRFS_MAGIC           0x9123683e
#define QUESTIONS_MAX         256 /* descriptors that a listing holds open at a time */

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID AT_REMOVEDIR /* Linux 6.5 */
#endif

/* A qid is made of what never changes: a server that does not answer need not be asked. */
#define LOOK_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC)

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
    int trouble;          /* atomic: the error of new mappings that was told last; 0: they go on */
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
                                      enum qid_multidevs multidevs,
                                      const struct mount_settings *settings, GError **error)
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
    exp->mounts = mount_watch_add(map->watch, exp->name, root_fd, modes[multidevs], settings);
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

/* After what made, or should have made, new mappings, with its result: tells when they begin to
 * fail, and when they go on. */
static void watch_store(struct qid_export *exp, int rc)
{
    int told = g_atomic_int_get(&exp->trouble);
    struct qidmap_error problem;

    if (rc == told || (rc != 0 && rc != -EIO && rc != -EUCLEAN && rc != -ENOSPC && rc != -ENFILE) ||
        !g_atomic_int_compare_and_exchange(&exp->trouble, told, rc))
        return;
    if (rc == 0)
        log_warning("export %s: the store %s takes new files again", exp->name, exp->store_uri);
    else if (qidmap_store_health(exp->store, &problem) < 0)
        log_error("export %s: %s", exp->name, problem.text);
    else
        log_error("export %s: the store %s takes no new files, known ones are served: %s",
                  exp->name, exp->store_uri, g_strerror(-rc));
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

static int map_object(struct qid_export *exp, const struct qidmap_object *object, uint64_t *path)
{
    struct privs_pause pause;
    int rc = qidmap_find_object(exp->store, object, path);

    if (rc != -ENOENT)
        return rc;
    privs_suspend(&pause);
    rc = qidmap_map_object(exp->store, object, path);
    int error = privs_resume(&pause);
    if (error != 0)
        return error;
    watch_store(exp, rc);
    return rc;
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
    return map_object(exp, &object, path);
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
    struct privs_pause pause;
    privs_suspend(&pause); /* the store is the daemon's */
    rc = qidmap_map(exp->store, fs, ino, path);
    int error = privs_resume(&pause);
    if (error != 0)
        return error;
    watch_room(exp);
    watch_store(exp, rc);
    return rc;
}

/* All placeholders below one subvolume may share a device number, which is given again when that is
 * deleted: the table is not asked about them. */
static gboolean is_placeholder(struct qid_export *exp, int fd, const struct statx *stx)
{
    struct mount_entry entry;
    struct statfs fs;

    if (!may_be_placeholder(stx))
        return FALSE;
    if (mount_find(exp->mounts, fd, "", stx, &entry))
        return entry.btrfs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_MAGIC;
}

/* ---- objects of other kinds ------------------------------------------------------------------ */

/* Whether ids on this filesystem are made from file handles: because its policy says so, or because
 * an overlay shows a file with the inode number of one of its layers, which may come twice. */
static gboolean wants_handle(const struct mount_entry *entry)
{
    return entry->policy == QIDMAP_POLICY_HANDLE ||
           (entry->other_dev && entry->policy == QIDMAP_POLICY_AFFIX);
}

static int map_file(struct qid_export *exp, const struct mount_entry *entry, int fd,
                    const struct statx *stx, uint64_t *path)
{
    struct qidmap_object object;

    if (entry->refused)
        return -ENODEV;
    if (!wants_handle(entry))
        return map_inode(exp, entry->fs, stx->stx_ino, path);
    int rc = qidmap_object_by_handle(entry->fs, fd, "", S_ISDIR(stx->stx_mode) ? 0 : stx->stx_ino,
                                     &object);
    return rc < 0 ? rc : map_object(exp, &object, path);
}

int qid_from_stat(struct qid_export *exp, int fd, const struct statx *stx, struct qid *qid)
{
    struct mount_entry entry;
    struct statx now = *stx;
    uint64_t path = stx->stx_ino;
    int rc = 0;

    if (exp->multidevs == QID_MULTIDEVS_WARN) {
        warn_once(exp, stx);
    } else if (is_placeholder(exp, fd, stx)) {
        rc = map_open_placeholder(exp, fd, stx, &path);
    } else {
        if (!mount_find(exp->mounts, fd, "", stx, &entry)) {
            rc = mount_lookup(exp->mounts, fd, stx, &entry);
            /* The root of a FUSE mount has its own number only once somebody has asked for it. */
            if (rc == 0 && statx(fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, &now) != 0)
                rc = -errno;
        }
        if (rc == 0)
            rc = map_file(exp, &entry, fd, &now, &path);
    }
    if (rc < 0)
        return rc;
    qid->type = type_of_mode(stx->stx_mode);
    qid->version = QID_VERSION;
    qid->path = path;
    return 0;
}

/* ---- a directory of them --------------------------------------------------------------------- */

/* A listing that is being made. */
struct listing {
    struct qid_export *exp;
    int fd;
    const struct statx *stx;
    int parent_fd;
    struct mount_entry dir;
    struct qid_dirent *entries;
    GArray *items;      /* struct qidmap_item */
    GArray *item_owner; /* size_t: whose they are */
    GArray *objects;    /* struct qidmap_object */
    GArray *object_owner;
    GArray *questions; /* struct mount_question: about files that are open for them */
    GArray *question_owner;
};

static gboolean is_dotdot(const char *name)
{
    return name[0] == '.' && name[1] == '.' && name[2] == '\0';
}

static gboolean is_dot(const char *name)
{
    return name[0] == '.' && name[1] == '\0';
}

static uint8_t d_type_of_mode(mode_t mode)
{
    return (uint8_t)((mode & S_IFMT) >> 12);
}

/* Whether d_ino can be taken as it stands, at a name that is no mount point. */
static gboolean is_trusted(const struct mount_entry *dir, const struct qid_dirent *e)
{
    if (e->d_type == DT_UNKNOWN)
        return FALSE;
    return dir->trust == MOUNT_TRUST_ALL ||
           (dir->trust == MOUNT_TRUST_BTRFS && e->d_type != DT_DIR);
}

static void set_types(struct qid_dirent *e, mode_t mode)
{
    e->d_type = d_type_of_mode(mode);
    e->qid.type = type_of_mode(mode);
}

static void add_item(struct listing *l, size_t owner, uint32_t fs, uint64_t ino)
{
    const struct qidmap_item item = {.fs = fs, .ino = ino};

    g_array_append_val(l->items, item);
    g_array_append_val(l->item_owner, owner);
}

/* The entry is `name` in `fd`, or `fd`, on the filesystem of `at`. */
static void add_file(struct listing *l, size_t owner, const struct mount_entry *at, int fd,
                     const char *name, uint64_t ino)
{
    struct qid_dirent *e = &l->entries[owner];
    struct qidmap_object object;

    if (at->refused) {
        e->result = -ENODEV;
    } else if (!wants_handle(at)) {
        add_item(l, owner, at->fs, ino);
    } else {
        e->result = qidmap_object_by_handle(at->fs, fd, name, e->qid.type == QID_TYPE_DIR ? 0 : ino,
                                            &object);
        if (e->result == 0) {
            g_array_append_val(l->objects, object);
            g_array_append_val(l->object_owner, owner);
        }
    }
}

/* What keeps an entry out of a listing, and what the whole listing must not hide. */
static int of_entry(int error)
{
    return error == -ENFILE || error == -EMFILE || error == -ENOMEM || error == -ENOSPC ||
                   error == -EUCLEAN || error == -ENODEV || error == 0
               ? error
               : -ENOENT;
}

static void answer_questions(struct listing *l)
{
    struct mount_question *questions = (struct mount_question *)(void *)l->questions->data;
    guint count = l->questions->len;

    if (count > 0)
        mount_lookup_many(l->exp->mounts, questions, count);
    for (guint i = 0; i < count; i++) {
        struct mount_question *q = &questions[i];
        size_t owner = g_array_index(l->question_owner, size_t, i);
        struct qid_dirent *e = &l->entries[owner];
        struct statx stx;

        if (q->result == 0 && /* see qid_from_stat() */
            statx(q->fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, &stx) != 0)
            q->result = -errno;
        e->result = of_entry(q->result);
        if (e->result == 0) {
            set_types(e, stx.stx_mode);
            add_file(l, owner, &q->entry, q->fd, "", stx.stx_ino);
        }
        close(q->fd);
        g_free((struct statx *)q->stx);
    }
    g_array_set_size(l->questions, 0);
    g_array_set_size(l->question_owner, 0);
}

/* An entry of a filesystem not met before: what is to be identified must be held open. */
static void add_question(struct listing *l, size_t owner, int fd, const char *name)
{
    struct mount_question q = {.fd = -1};
    struct statx *stx = g_new(struct statx, 1);

    q.stx = stx;
    q.fd = name[0] == '\0' ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
                           : openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (q.fd < 0 || statx(q.fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, stx) != 0) {
        l->entries[owner].result = of_entry(-errno);
        if (q.fd >= 0)
            close(q.fd);
        g_free(stx);
        return;
    }
    g_array_append_val(l->questions, q);
    g_array_append_val(l->question_owner, owner);
    if (l->questions->len >= QUESTIONS_MAX)
        answer_questions(l);
}

/* Looks at an entry: `name` in `fd`, or `fd` itself. */
static void look_at(struct listing *l, size_t owner, int fd, const char *name)
{
    struct qid_dirent *e = &l->entries[owner];
    struct qid_export *exp = l->exp;
    struct mount_entry at;
    struct statx stx;

    if (statx(fd, name, LOOK_FLAGS | (name[0] == '\0' ? AT_EMPTY_PATH : 0), QID_STATX_MASK, &stx) !=
        0) {
        e->result = of_entry(-errno); /* a dead mount point, say: the other names are shown */
        return;
    }
    set_types(e, stx.stx_mode);
    if (exp->multidevs == QID_MULTIDEVS_WARN) {
        warn_once(exp, &stx);
        e->qid.path = stx.stx_ino;
    } else if (may_be_placeholder(&stx) && name[0] != '\0' && l->dir.btrfs &&
               stx.stx_mnt_id == l->stx->stx_mnt_id) {
        e->result = map_placeholder(exp, l->dir.fs, l->stx->stx_ino, e->d_ino, &e->qid.path);
    } else if (may_be_placeholder(&stx) && name[0] == '\0' && is_placeholder(exp, fd, &stx)) {
        e->result = map_open_placeholder(exp, fd, &stx, &e->qid.path);
    } else if (mount_find(exp->mounts, fd, name, &stx, &at)) {
        add_file(l, owner, &at, fd, name, stx.stx_ino);
    } else {
        add_question(l, owner, fd, name);
    }
}

/* A name at which something is mounted, whose root is known: it is not touched. */
static void show_mount(struct listing *l, size_t owner, const struct statx *root)
{
    struct qid_dirent *e = &l->entries[owner];
    struct mount_entry at;

    set_types(e, root->stx_mode);
    if (l->exp->multidevs == QID_MULTIDEVS_WARN) {
        warn_once(l->exp, root);
        e->qid.path = root->stx_ino;
    } else if (!mount_find(l->exp->mounts, -1, "", root, &at) || wants_handle(&at)) {
        look_at(l, owner, l->fd, e->name);
    } else {
        add_file(l, owner, &at, -1, "", root->stx_ino);
    }
}

/* Finds out about one entry what its qid is made of. */
static void prepare(struct listing *l, size_t owner)
{
    gboolean warn = l->exp->multidevs == QID_MULTIDEVS_WARN;
    struct qid_dirent *e = &l->entries[owner];
    struct statx root;

    e->result = 0;
    e->qid.version = QID_VERSION;
    if (is_dot(e->name)) {
        set_types(e, S_IFDIR);
        if (warn)
            e->qid.path = l->stx->stx_ino;
        else if (is_placeholder(l->exp, l->fd, l->stx))
            e->result = map_open_placeholder(l->exp, l->fd, l->stx, &e->qid.path);
        else
            add_file(l, owner, &l->dir, l->fd, "", l->stx->stx_ino);
        return;
    }
    if (is_dotdot(e->name)) {
        look_at(l, owner, l->parent_fd, "");
        return;
    }
    switch (mount_name_find(l->exp->mounts, l->stx, e->name, &root)) {
    case MOUNT_NAME_KNOWN:
        show_mount(l, owner, &root);
        return;
    case MOUNT_NAME_SILENT:
        e->result = -ENODEV;
        return;
    case MOUNT_NAME_LOOK:
        look_at(l, owner, l->fd, e->name);
        return;
    case MOUNT_NAME_PLAIN:
        break;
    }
    if (e->d_type != DT_UNKNOWN && !warn && !l->dir.overlay &&
        l->dir.policy == QIDMAP_POLICY_HANDLE) {
        e->qid.type = type_of_d_type(e->d_type);
        add_file(l, owner, &l->dir, l->fd, e->name, 0);
    } else if (is_trusted(&l->dir, e)) {
        e->qid.type = type_of_d_type(e->d_type);
        if (warn)
            e->qid.path = e->d_ino;
        else
            add_item(l, owner, l->dir.fs, e->d_ino);
    } else {
        look_at(l, owner, l->fd, e->name);
    }
}

static void map_all(struct listing *l)
{
    struct qidmap_item *items = (struct qidmap_item *)(void *)l->items->data;

    int rc = 0;
    if (l->items->len > 0)
        rc = qidmap_map_batch(l->exp->store, items, l->items->len);
    if (rc < 0)
        watch_store(l->exp, rc);
    for (guint i = 0; i < l->items->len; i++) {
        struct qid_dirent *e = &l->entries[g_array_index(l->item_owner, size_t, i)];
        e->result = items[i].result;
        e->qid.path = items[i].path;
    }
    if (l->objects->len == 0)
        return;
    g_autofree uint64_t *paths = g_new0(uint64_t, l->objects->len);
    g_autofree int32_t *results = g_new0(int32_t, l->objects->len);
    rc = qidmap_map_objects(l->exp->store,
                            (const struct qidmap_object *)(const void *)l->objects->data,
                            l->objects->len, paths, results);
    if (rc < 0)
        watch_store(l->exp, rc);
    for (guint i = 0; i < l->objects->len; i++) {
        struct qid_dirent *e = &l->entries[g_array_index(l->object_owner, size_t, i)];
        e->result = rc == -ENOMEM ? rc : results[i];
        e->qid.path = paths[i];
    }
}

/* What the directory itself is on. */
static int find_dir(struct listing *l)
{
    struct statx parent;
    int rc;

    if (l->exp->multidevs != QID_MULTIDEVS_WARN && is_placeholder(l->exp, l->fd, l->stx)) {
        /* it lists nothing but itself and its parent */
        rc = statx(l->parent_fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &parent) == 0
                 ? mount_lookup_dir(l->exp->mounts, l->parent_fd, &parent, &l->dir)
                 : -errno;
    } else {
        rc = mount_lookup_dir(l->exp->mounts, l->fd, l->stx, &l->dir);
    }
    if (rc < 0 && l->exp->multidevs == QID_MULTIDEVS_WARN) {
        memset(&l->dir, 0, sizeof l->dir); /* no d_ino is trusted */
        rc = 0;
    }
    return rc < 0 ? rc : l->dir.refused ? -ENODEV : 0;
}

int qid_from_dirents(struct qid_export *exp, int dir_fd, const struct statx *dir_stx, int parent_fd,
                     struct qid_dirent *entries, size_t count)
{
    struct listing l = {
        .exp = exp, .fd = dir_fd, .stx = dir_stx, .parent_fd = parent_fd, .entries = entries};

    int rc = find_dir(&l);
    if (rc < 0)
        return rc;
    g_autoptr(GArray) items =
        g_array_sized_new(FALSE, FALSE, sizeof(struct qidmap_item), (guint)count);
    g_autoptr(GArray) item_owner = g_array_sized_new(FALSE, FALSE, sizeof(size_t), (guint)count);
    g_autoptr(GArray) objects = g_array_new(FALSE, FALSE, sizeof(struct qidmap_object));
    g_autoptr(GArray) object_owner = g_array_new(FALSE, FALSE, sizeof(size_t));
    g_autoptr(GArray) questions = g_array_new(FALSE, FALSE, sizeof(struct mount_question));
    g_autoptr(GArray) question_owner = g_array_new(FALSE, FALSE, sizeof(size_t));
    l.items = items;
    l.item_owner = item_owner;
    l.objects = objects;
    l.object_owner = object_owner;
    l.questions = questions;
    l.question_owner = question_owner;
    for (size_t i = 0; i < count; i++)
        prepare(&l, i);
    answer_questions(&l);
    if (exp->multidevs == QID_MULTIDEVS_WARN)
        return 0;
    struct privs_pause pause;
    privs_suspend(&pause);
    map_all(&l);
    rc = privs_resume(&pause);
    watch_room(exp);
    return rc;
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
