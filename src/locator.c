/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a file is found again. See locator.h. */
#include "config.h"

#include "src/locator.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/log.h"
#include "src/name-tree.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/proto.h"
#include "src/qid.h"

#define HANDLE_MAX  128
#define SEARCH_MAX  65536 /* entries of a directory that are looked through */
#define TRIES       3
#define ANCHORS_MAX 4096

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

/* fs/overlayfs: type of a handle, and where it has the flag of the upper layer. */
#define OVERLAY_HANDLE 0xf8
#define OVERLAY_FLAGS  6
#define OVERLAY_UPPER  0x4

enum kind {
    KIND_LOCAL, /* its handles hold a generation, and btime never changes */
    KIND_OVERLAY /* a file that is copied up changes both */,
    KIND_OTHER /* handles may change while nobody looks */
};

/* A mount, with a descriptor on it for open_by_handle_at(2). */
struct anchor {
    uint64_t key;   /* of id and device, as an id is used again */
    uint64_t mount; /* stx_mnt_id */
    uint64_t dev;
    uint64_t refs; /* guarded by anchors_lock */
    enum kind kind;
    bool usable;
    char *path; /* its mount point */

    pthread_rwlock_t lock;
    int fd; /* -1: let go */
};

struct locator {
    struct anchor *anchor;
    struct name_node *node; /* NULL: not known */
    uint64_t ino;
    uint16_t type;
    bool many;           /* was seen with several names */
    bool nameless;       /* the fid's own name was removed; others may be there */
    bool given;          /* the descriptor came by another of its names, maybe */
    bool has_times;      /* after the handle */
    uint8_t handle_type; /* no filesystem has larger ones */
    uint8_t handle_size; /* 0: none */
    uint8_t handle[];    /* and then struct times, not aligned */
};

/* Where a handle says too little. */
struct times {
    bool has_btime;
    struct statx_timestamp btime, ctime;
};

union handle_room {
    struct file_handle handle;
    uint8_t bytes[sizeof(struct file_handle) + HANDLE_MAX];
};

static pthread_mutex_t anchors_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *anchors; /* &key -> anchor */

/* ---- mounts ---------------------------------------------------------------------------------- */

static uint64_t dev_of(const struct statx *stx)
{
    return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

static uint64_t anchor_key(const struct statx *stx)
{
    return stx->stx_mnt_id ^ dev_of(stx) * 0x9e3779b97f4a7c15u;
}

static bool get_handle(int fd, union handle_room *room, int *mount_id)
{
    room->handle.handle_bytes = HANDLE_MAX;
    return name_to_handle_at(fd, "", &room->handle, mount_id, AT_EMPTY_PATH) == 0;
}

/* The same; where handles cannot be opened, one that merely names the file (since Linux 6.6). */
static bool get_name(int fd, union handle_room *room)
{
    int mount_id;

    if (get_handle(fd, room, &mount_id))
        return true;
    room->handle.handle_bytes = HANDLE_MAX;
    return name_to_handle_at(fd, "", &room->handle, &mount_id, AT_EMPTY_PATH | AT_HANDLE_FID) == 0;
}

/* Whether an overlay's handle names a file in its upper layer, where it stays until it is removed;
 * others are copied up, and have another handle then. */
static bool is_upper(const struct locator *locator)
{
    return locator->handle_type == OVERLAY_HANDLE && locator->handle_size > OVERLAY_FLAGS &&
           (locator->handle[OVERLAY_FLAGS] & OVERLAY_UPPER);
}

/* Whether a handle of that size tells a file from each other one, or from each of a layer. */
static bool says_all(const struct anchor *anchor, unsigned size)
{
    return anchor->kind == KIND_OVERLAY || (anchor->kind == KIND_LOCAL && size > 0);
}

static bool read_file(const char *path, char **content)
{
    g_autoptr(GError) error = NULL;

    while (!g_file_get_contents(path, content, NULL, &error)) {
        bool again = (error->code == G_FILE_ERROR_MFILE && path_relieved(-EMFILE)) ||
                     (error->code == G_FILE_ERROR_NFILE && path_relieved(-ENFILE));

        if (!again)
            return false;
        g_clear_error(&error);
    }
    return true;
}

/* The type and the mount point of the mount of `fd`, from mountinfo: nobody is asked who may not
 * answer. */
static bool read_mount(int fd, char **type, char **path)
{
    g_autofree char *info_path = g_strdup_printf("/proc/self/fdinfo/%d", fd), *info = NULL;
    g_autofree char *content = NULL;
    const char *line;
    bool found = false;
    int mount_id;

    if (!read_file(info_path, &info))
        return false;
    line = strstr(info, "mnt_id:");
    if (line == NULL)
        return false;
    mount_id = atoi(line + strlen("mnt_id:"));
    if (!read_file("/proc/self/mountinfo", &content))
        return false;
    for (char *at = content, *end; *at != '\0' && !found; at = end) {
        end = strchrnul(at, '\n');
        if (*end == '\n')
            *end++ = '\0';
        if (atoi(at) != mount_id)
            continue;
        char *dash = strstr(at, " - ");
        g_auto(GStrv) fields = g_strsplit(at, " ", 6);
        g_auto(GStrv) after = dash != NULL ? g_strsplit(dash + 3, " ", 2) : NULL;
        if (after == NULL || g_strv_length(fields) < 6 || g_strv_length(after) < 1)
            continue;
        *path = g_strcompress(fields[4]);
        *type = g_strdup(after[0]);
        found = true;
    }
    return found;
}

static enum kind kind_of(const char *type)
{
    static const char *const local[] = {"ext2",  "ext3", "ext4", "xfs",     "btrfs",
                                        "tmpfs", "f2fs", "zfs",  "bcachefs"};

    for (size_t i = 0; i < G_N_ELEMENTS(local); i++)
        if (strcmp(type, local[i]) == 0)
            return KIND_LOCAL;
    return strcmp(type, "overlay") == 0 ? KIND_OVERLAY : KIND_OTHER;
}

/* A descriptor on the mount at `path`, if that is still the one meant; else -1. */
static int open_mount(const struct anchor *anchor)
{
    struct statx stx;
    int fd;

    do
        fd = open(anchor->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    while (fd < 0 && path_relieved(-errno));
    if (fd >= 0 && (path_look(fd, &stx) != 0 || stx.stx_mnt_id != anchor->mount ||
                    anchor_key(&stx) != anchor->key)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Whether the mount gives files by handle: tried with the one that is at hand. */
static int open_anchor(const struct anchor *anchor, int fd, const struct statx *stx,
                       union handle_room *room)
{
    int got = open_mount(anchor), file;

    if (got < 0 && S_ISDIR(stx->stx_mode)) /* something else is mounted there */
        got = path_reopen(fd, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (got < 0)
        return -1;
    do
        file = open_by_handle_at(got, &room->handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    while (file < 0 && path_relieved(-errno));
    if (file < 0) {
        close(got);
        return -1;
    }
    close(file);
    return got;
}

static struct anchor *anchor_new(int fd, const struct statx *stx)
{
    struct anchor *anchor = g_new0(struct anchor, 1);
    g_autofree char *type = NULL;
    union handle_room room;
    struct privs_pause pause;
    int mount_id;

    anchor->key = anchor_key(stx);
    anchor->mount = stx->stx_mnt_id;
    anchor->dev = dev_of(stx);
    anchor->fd = -1;
    anchor->kind = KIND_OTHER;
    pthread_rwlock_init(&anchor->lock, NULL);
    if (!read_mount(fd, &type, &anchor->path))
        return anchor;
    anchor->kind = kind_of(type);
    if (anchor->kind != KIND_LOCAL || !get_handle(fd, &room, &mount_id))
        return anchor;
    privs_suspend(&pause);
    anchor->fd = open_anchor(anchor, fd, stx, &room);
    (void)privs_resume(&pause); /* who goes on from here acts for a user by privs_become() */
    anchor->usable = anchor->fd >= 0;
    log_debug("files on %s are found again by %s", anchor->path,
              anchor->usable ? "handle" : "name");
    return anchor;
}

static void anchor_free(gpointer data)
{
    struct anchor *anchor = data;

    if (anchor->fd >= 0)
        close(anchor->fd);
    g_free(anchor->path);
    pthread_rwlock_destroy(&anchor->lock);
    g_free(anchor);
}

static struct anchor *anchor_find(uint64_t key)
{
    struct anchor *anchor = anchors != NULL ? g_hash_table_lookup(anchors, &key) : NULL;

    if (anchor != NULL)
        anchor->refs++;
    return anchor;
}

static gboolean is_unused(gpointer key, gpointer value, gpointer data)
{
    (void)key;
    (void)data;
    return ((const struct anchor *)value)->refs == 0;
}

static struct anchor *anchor_get(int fd, const struct statx *stx)
{
    struct anchor *anchor, *made;

    pthread_mutex_lock(&anchors_lock);
    anchor = anchor_find(anchor_key(stx));
    pthread_mutex_unlock(&anchors_lock);
    if (anchor != NULL)
        return anchor;
    made = anchor_new(fd, stx);
    pthread_mutex_lock(&anchors_lock);
    if (anchors == NULL)
        anchors = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, anchor_free);
    anchor = anchor_find(made->key);
    if (anchor == NULL) {
        if (g_hash_table_size(anchors) >= ANCHORS_MAX)
            g_hash_table_foreach_remove(anchors, is_unused, NULL);
        made->refs = 1;
        g_hash_table_insert(anchors, &made->key, made);
        anchor = made;
        made = NULL;
    }
    pthread_mutex_unlock(&anchors_lock);
    if (made != NULL)
        anchor_free(made);
    return anchor;
}

/* The last one closes the descriptor, so that the mount can go. */
static void anchor_unref(struct anchor *anchor)
{
    pthread_mutex_lock(&anchors_lock);
    if (--anchor->refs == 0)
        g_hash_table_remove(anchors, &anchor->key);
    pthread_mutex_unlock(&anchors_lock);
}

void locator_let_go(const char *path)
{
    size_t len = strlen(path);
    GHashTableIter iter;
    gpointer value;

    pthread_mutex_lock(&anchors_lock);
    if (anchors != NULL) {
        g_hash_table_iter_init(&iter, anchors);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            struct anchor *anchor = value;

            if (anchor->path == NULL || strncmp(anchor->path, path, len) != 0 ||
                (anchor->path[len] != '/' && anchor->path[len] != '\0'))
                continue;
            /* Who looks for a file just now opens it again. */
            if (pthread_rwlock_trywrlock(&anchor->lock) != 0)
                continue;
            if (anchor->fd >= 0)
                close(anchor->fd);
            anchor->fd = -1;
            pthread_rwlock_unlock(&anchor->lock);
        }
    }
    pthread_mutex_unlock(&anchors_lock);
}

/* ---- notes ----------------------------------------------------------------------------------- */

static void get_times(const struct locator *locator, struct times *times)
{
    memcpy(times, locator->handle + locator->handle_size, sizeof *times);
}

static void set_times(struct locator *locator, const struct times *times)
{
    memcpy(locator->handle + locator->handle_size, times, sizeof *times);
}

static struct locator *locator_new(int fd, const struct statx *stx)
{
    struct anchor *anchor = anchor_get(fd, stx);
    union handle_room room;
    struct locator *locator;
    uint8_t size = 0;
    bool has_times;

    if (get_name(fd, &room) && room.handle.handle_type >= 0 &&
        room.handle.handle_type <= UINT8_MAX && room.handle.handle_bytes <= HANDLE_MAX)
        size = (uint8_t)room.handle.handle_bytes;
    has_times = !says_all(anchor, size);
    locator =
        g_malloc0(offsetof(struct locator, handle) + size + (has_times ? sizeof(struct times) : 0));
    locator->anchor = anchor;
    locator->type = stx->stx_mode & S_IFMT;
    locator->handle_size = size;
    if (size > 0) {
        locator->handle_type = (uint8_t)room.handle.handle_type;
        memcpy(locator->handle, room.handle.f_handle, size);
    }
    locator->has_times = has_times;
    if (has_times) {
        struct times times = {.has_btime = (stx->stx_mask & STATX_BTIME) != 0,
                              .btime = stx->stx_btime};

        set_times(locator, &times);
    }
    name_tree_matters();
    return locator;
}

/* What may change from one note to the next. */
static void note_stat(struct locator *locator, int fd, const struct statx *stx)
{
    if (locator->anchor->key != anchor_key(stx)) { /* copied up, or by way of another mount */
        struct anchor *old = locator->anchor;

        locator->anchor = anchor_get(fd, stx);
        anchor_unref(old);
    }
    locator->ino = stx->stx_ino;
    if (locator->has_times) {
        struct times times;

        get_times(locator, &times);
        times.ctime = stx->stx_ctime;
        set_times(locator, &times);
    }
    locator->many |= stx->stx_nlink > 1 && !S_ISDIR(locator->type);
}

/* The tree of names is that of the whole export, so that who changes names of it by another
 * subdirectory is seen. */
static const struct path_export *whole_of(const struct path_export *export)
{
    return export->whole != NULL ? export->whole : export;
}

bool locator_is_nameless(const struct path_export *export, const struct locator *locator, int fd)
{
    char path[PATH_MAX];
    g_autofree char *known = NULL;

    if (locator->nameless || path_was_below(whole_of(export), fd, path) != 0)
        return locator->nameless;
    if (locator->node == NULL)
        return true;
    known = name_node_path(locator->node);
    return strcmp(known, path) == 0;
}

int locator_note(const struct path_export *export, int fd, uint64_t *qid_path,
                 struct locator **locator)
{
    struct locator *made = *locator;
    struct name_node *node;
    struct statx stx;
    struct qid qid;
    bool remembered;
    int error = path_look(fd, &stx);

    if (error != 0)
        return error;
    if (stx.stx_nlink == 0)
        return -ENOENT;
    if (made == NULL) {
        if (*qid_path == 0) {
            error = qid_from_stat(export->qids, fd, &stx, &qid);
            if (error != 0)
                return error;
            *qid_path = qid.path;
        }
        made = locator_new(fd, &stx);
        *locator = made;
    }
    note_stat(made, fd, &stx);
    /* The descriptor may be of any of its names: the fid's is the one remembered. */
    remembered = made->many && locator_knows_better(made);
    if (!made->nameless && !remembered) {
        node = name_node_of(whole_of(export), fd);
        if (node != NULL) {
            name_node_unref(made->node);
            made->node = node;
            return 0;
        }
    }
    made->nameless = locator_is_nameless(export, made, fd);
    if (!made->nameless && remembered)
        return 0;
    /* A directory that has no name has no use either; and no handle helps where it was removed. */
    return made->anchor->usable && !S_ISDIR(made->type) ? 0 : -ENOENT;
}

static uint64_t key_of(uint64_t dev, uint64_t ino)
{
    return ino ^ dev * 0x9e3779b97f4a7c15u;
}

uint64_t locator_key(const struct locator *locator)
{
    return key_of(locator->anchor->dev, locator->ino);
}

uint64_t locator_key_of(const struct statx *stx)
{
    return key_of(dev_of(stx), stx->stx_ino);
}

void locator_is_given(struct locator *locator)
{
    locator->given = true;
}

bool locator_has_many(const struct locator *locator)
{
    return locator->many;
}

bool locator_may_be(const struct locator *locator, const struct statx *stx)
{
    return locator->anchor->dev == dev_of(stx) && locator->ino == stx->stx_ino &&
           locator->type == (stx->stx_mode & S_IFMT);
}

void locator_free(struct locator *locator)
{
    if (locator == NULL)
        return;
    name_node_unref(locator->node);
    anchor_unref(locator->anchor);
    g_free(locator);
}

/* ---- finding --------------------------------------------------------------------------------- */

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_handle(const struct locator *locator, int fd)
{
    union handle_room room;

    return get_name(fd, &room) && room.handle.handle_type == locator->handle_type &&
           room.handle.handle_bytes == locator->handle_size &&
           memcmp(room.handle.f_handle, locator->handle, locator->handle_size) == 0;
}

/* 0 where `fd` is the file; -ESTALE where it is another one. */
static int verify(const struct path_export *export, struct locator *locator, uint64_t qid_path,
                  int fd)
{
    struct times times;
    struct statx stx;
    struct qid qid;
    int error = path_statx(fd, &stx);

    if (error == 0 && (stx.stx_mode & S_IFMT) != locator->type)
        error = -ESTALE;
    if (error == 0)
        error = qid_from_stat(export->qids, fd, &stx, &qid);
    if (error != 0)
        return error;
    if (qid.path != qid_path)
        return -ESTALE;
    locator->many |= stx.stx_nlink > 1 && !S_ISDIR(locator->type);
    if (locator->handle_size > 0 && same_handle(locator, fd))
        return 0;
    if (locator->anchor->kind == KIND_OVERLAY)
        return is_upper(locator) ? -ESTALE : 0;
    if (!locator->has_times)
        return -ESTALE;
    /* Its handles are those of what is in memory now: a file that was forgotten meanwhile has
     * another one. Its birth tells; or else that nothing was changed. */
    get_times(locator, &times);
    if (times.has_btime && (stx.stx_mask & STATX_BTIME))
        return same_time(&times.btime, &stx.stx_btime) ? 0 : -ESTALE;
    return same_time(&times.ctime, &stx.stx_ctime) ? 0 : -ESTALE;
}

/* Takes `fd`. The descriptor, or a negative errno. */
static int verified(const struct path_export *export, struct locator *locator, uint64_t qid_path,
                    int fd)
{
    int error = fd < 0 ? fd : verify(export, locator, qid_path, fd);

    if (fd >= 0 && error != 0)
        close(fd);
    return error != 0 ? error : fd;
}

/* With the lock for reading: the descriptor is there. */
static void anchor_hold(struct anchor *anchor)
{
    pthread_rwlock_rdlock(&anchor->lock);
    while (anchor->fd < 0) {
        int fd;

        pthread_rwlock_unlock(&anchor->lock);
        pthread_rwlock_wrlock(&anchor->lock);
        fd = anchor->fd < 0 ? open_mount(anchor) : anchor->fd;
        anchor->fd = fd;
        pthread_rwlock_unlock(&anchor->lock);
        pthread_rwlock_rdlock(&anchor->lock);
        if (fd < 0)
            return;
    }
}

static int open_by_handle(struct locator *locator)
{
    union handle_room room = {.handle.handle_bytes = locator->handle_size,
                              .handle.handle_type = locator->handle_type};
    int fd;

    memcpy(room.handle.f_handle, locator->handle, locator->handle_size);
    anchor_hold(locator->anchor);
    do {
        fd = locator->anchor->fd < 0 ? -ESTALE
                                     : open_by_handle_at(locator->anchor->fd, &room.handle,
                                                         O_PATH | O_NOFOLLOW | O_CLOEXEC);
        fd = fd == -1 ? -errno : fd;
    } while (fd < 0 && path_relieved(fd));
    pthread_rwlock_unlock(&locator->anchor->lock);
    return fd;
}

/* The directory where the file should be, and its name there. */
static int open_parent(const struct path_export *export, struct locator *locator, char *name)
{
    g_autofree char *path = name_node_path(locator->node);
    char *base = strrchr(path, '/');

    if (base != NULL)
        *base++ = '\0';
    else
        base = path;
    if (strlen(base) == 0 || strlen(base) > P9_NAME_MAX)
        return -ESTALE;
    memcpy(name, base, strlen(base) + 1);
    if (base == path)
        path[0] = '\0';
    return path_descend(whole_of(export), path);
}

static int open_by_name(const struct path_export *export, struct locator *locator,
                        uint64_t qid_path)
{
    g_autofree char *path = name_node_path(locator->node);

    return verified(export, locator, qid_path, path_descend(whole_of(export), path));
}

/* Looks through the directory `dir_fd` for the file, whatever its name. Its descriptor, and the
 * name; else a negative errno. */
static int search(const struct path_export *export, struct locator *locator, uint64_t qid_path,
                  int dir_fd, char *name)
{
    int fd = path_reopen(dir_fd, O_RDONLY | O_DIRECTORY | O_NONBLOCK), found = -ESTALE;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return fd < 0 ? fd : -ESTALE;
    }
    for (unsigned n = 0; n < SEARCH_MAX && found < 0 && (entry = readdir(dir)) != NULL; n++) {
        if ((locator->anchor->kind != KIND_OVERLAY && entry->d_ino != locator->ino) ||
            strlen(entry->d_name) > P9_NAME_MAX || strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        found = verified(export, locator, qid_path, path_lookup(dir_fd, entry->d_name));
        if (found >= 0)
            memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(dir);
    return found;
}

/* The host may have renamed the file within its directory. */
static int open_renamed(const struct path_export *export, struct locator *locator,
                        uint64_t qid_path)
{
    char name[P9_NAME_MAX + 1];
    int dir_fd = open_parent(export, locator, name), fd;

    if (dir_fd < 0)
        return dir_fd;
    fd = search(export, locator, qid_path, dir_fd, name);
    close(dir_fd);
    if (fd >= 0) {
        struct name_node *node = name_node_of(whole_of(export), fd);

        if (node != NULL) {
            name_node_unref(locator->node);
            locator->node = node;
        }
    }
    return fd;
}

static bool is_elsewhere(int error)
{
    return error == -ENOENT || error == -ENOTDIR || error == -ESTALE || error == -ELOOP ||
           error == -ENAMETOOLONG;
}

int locator_open(const struct path_export *export, struct locator *locator, uint64_t qid_path)
{
    struct name_rename rename;
    int fd = -ESTALE;

    if (locator->anchor->usable) {
        fd = verified(export, locator, qid_path, open_by_handle(locator));
        if (fd >= 0 || !is_elsewhere(fd))
            return fd;
        return -ESTALE;
    }
    if (locator->node == NULL)
        return -ESTALE;
    fd = open_by_name(export, locator, qid_path);
    locator->given &= fd < 0;
    if (fd >= 0 || !is_elsewhere(fd))
        return fd;
    /* A rename through this server may be at work: after it the place is right again. */
    name_rename_begin(&rename, locator->anchor->dev);
    fd = open_by_name(export, locator, qid_path);
    if (fd < 0 && is_elsewhere(fd))
        fd = open_renamed(export, locator, qid_path);
    name_rename_end(&rename);
    locator->given &= fd < 0;
    return fd < 0 && is_elsewhere(fd) ? -ESTALE : fd;
}

bool locator_knows_better(const struct locator *locator)
{
    return locator != NULL && locator->node != NULL && !S_ISDIR(locator->type) &&
           (locator->anchor->usable || locator->given);
}

/* The directory `dir_fd` (taken) by way of the export's root: names outside are not to be changed,
 * even if the fid's file is there by now. */
static int enter(const struct path_export *export, int dir_fd)
{
    char path[PATH_MAX];
    int error = path_below(export, dir_fd, path);

    close(dir_fd);
    return error != 0 ? error : path_descend(export, path);
}

int locator_whereabouts(const struct path_export *export, struct locator *locator,
                        uint64_t qid_path, char *name)
{
    int dir_fd, fd;

    if (locator == NULL || locator->node == NULL)
        return -ENOENT;
    dir_fd = open_parent(export, locator, name);
    if (dir_fd >= 0 && export->is_subdir)
        dir_fd = enter(export, dir_fd);
    if (dir_fd < 0)
        return is_elsewhere(dir_fd) ? -ENOENT : dir_fd;
    fd = verified(export, locator, qid_path, path_lookup(dir_fd, name));
    if (fd < 0 && !locator->many) /* another name of it would do for nothing */
        fd = search(export, locator, qid_path, dir_fd, name);
    if (fd < 0) {
        close(dir_fd);
        return is_elsewhere(fd) ? -ENOENT : fd;
    }
    close(fd);
    return dir_fd;
}
