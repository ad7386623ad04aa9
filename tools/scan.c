/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The search goes down each directory by descriptor, one name at a time, and follows no symlink, so
 * that a guest that renames meanwhile cannot lead it elsewhere. It stays within the mount where it
 * began; only on btrfs it goes on into nested subvolumes, which no mount shows, and asks anew which
 * filesystem each is. Where d_ino is known to be st_ino only directories are stat'ed.
 *
 * The cost is one getdents for each directory of the filesystem: minutes on a large one.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/mounts.h"
#include "tools/progress.h"
#include "tools/scan.h"

#define BTRFS_SUBVOLUME_ROOT 256
#define DEPTH_LIMIT          4000 /* one descriptor and one stack frame for each level */

/* A mount that shows the filesystem, or on btrfs may show it further down. */
struct place {
    char *path;
    guint64 mount_id;
    guint32 fs;
    gboolean whole; /* begins at the root of the filesystem */
};

struct walk {
    struct scan *scan;
    const struct place *place;
    GString *path;
    gboolean d_ino_holds;
    gboolean btrfs;
    guint depth_limit;
    guint64 names, expected; /* met so far, and on the whole mount; 0: not known */
    guint64 links;           /* names that the file has; 0 until it is met */
    progress *line;
};

static void place_free(gpointer data)
{
    struct place *place = data;
    g_free(place->path);
    g_free(place);
}

static int stat_at(int fd, const char *name, struct statx *st)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] == '\0' ? AT_EMPTY_PATH : 0);
    return statx(fd, name, flags, STATX_BASIC_STATS | STATX_MNT_ID, st);
}

static guint64 device(const struct statx *st)
{
    return makedev(st->stx_dev_major, st->stx_dev_minor);
}

/* Looks at one mount; NULL where it cannot show the filesystem. */
static struct place *place_of(struct scan *scan, const struct mount_line *line)
{
    gboolean btrfs = strcmp(scan->type, "btrfs") == 0;
    struct qidmap_identity identity;
    struct statx st;
    guint32 fs = 0;

    if (strcmp(line->type, scan->type) != 0) {
        return NULL;
    }
    int fd = mounts_open(line, &st);
    if (fd < 0) {
        return NULL;
    }
    if (sight_of(scan->sight, fd, &fs, &identity, NULL) < 0 || (fs != scan->fs && !btrfs)) {
        close(fd);
        return NULL;
    }
    close(fd);
    struct place *place = g_new0(struct place, 1);
    place->path = g_strdup(line->path);
    place->mount_id = line->id;
    place->fs = fs;
    place->whole = fs == scan->fs &&
                   (btrfs ? st.stx_ino == BTRFS_SUBVOLUME_ROOT : strcmp(line->root, "/") == 0);
    return place;
}

static GPtrArray *find_places(struct scan *scan)
{
    GPtrArray *places = g_ptr_array_new_with_free_func(place_free);
    g_autoptr(GPtrArray) lines = mounts_read();

    for (guint i = 0; i < lines->len; i++) {
        struct place *place = place_of(scan, lines->pdata[i]);
        if (place != NULL) {
            g_ptr_array_add(places, place);
            scan->mounts += place->fs == scan->fs ? 1 : 0;
        }
    }
    return places;
}

static gboolean done(const struct walk *walk)
{
    return walk->links != 0 && walk->scan->paths->len >= walk->links;
}

static void found(struct walk *walk, const struct statx *st)
{
    g_ptr_array_add(walk->scan->paths, g_strdup(walk->path->str));
    walk->links = S_ISDIR(st->stx_mode) ? 1 : MAX(st->stx_nlink, 1);
}

static void walk_directory(struct walk *walk, int fd, guint64 dev, guint32 fs, guint depth);

/* Goes down into the directory `name`, unless another mount or filesystem begins there. */
static void enter(struct walk *walk, int parent, const char *name, const struct statx *seen,
                  guint64 dev, guint32 fs, guint depth)
{
    struct qidmap_identity identity;
    struct statx st;

    if (depth >= walk->depth_limit) {
        walk->scan->unread++;
        return;
    }
    if (device(seen) != dev && !walk->btrfs) {
        return;
    }
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = openat(parent, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) {
        fd = openat(parent, name, flags);
    }
    if (fd < 0 || stat_at(fd, "", &st) < 0) {
        walk->scan->unread++;
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    if ((st.stx_mask & STATX_MNT_ID) != 0 && st.stx_mnt_id != walk->place->mount_id) {
        close(fd);
        return;
    }
    if (device(&st) != dev && sight_of(walk->scan->sight, fd, &fs, &identity, NULL) < 0) {
        fs = 0;
    }
    if (fs == walk->scan->fs && st.stx_ino == walk->scan->ino) {
        found(walk, &st);
    }
    if (done(walk)) {
        close(fd);
        return;
    }
    walk_directory(walk, fd, device(&st), fs, depth);
}

/* Takes `fd`. */
static void walk_directory(struct walk *walk, int fd, guint64 dev, guint32 fs, guint depth)
{
    gsize length = walk->path->len;
    struct dirent *entry = NULL; /* nothing may be wanted any more */
    struct statx st;
    DIR *dir = fdopendir(fd);

    if (dir == NULL) {
        close(fd);
        walk->scan->unread++;
        return;
    }
    while (errno = 0, !done(walk) && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        gboolean directory = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            continue;
        }
        progress_tell(walk->line, ++walk->names, walk->expected);
        if (walk->d_ino_holds && !directory && entry->d_ino != walk->scan->ino) {
            continue;
        }
        if (stat_at(fd, name, &st) < 0 ||
            ((st.stx_mask & STATX_MNT_ID) != 0 && st.stx_mnt_id != walk->place->mount_id)) {
            continue;
        }
        if (length == 0 || walk->path->str[length - 1] != '/') {
            g_string_append_c(walk->path, '/');
        }
        g_string_append(walk->path, name);
        if (S_ISDIR(st.stx_mode)) {
            enter(walk, fd, name, &st, dev, fs, depth + 1);
        } else if (fs == walk->scan->fs && st.stx_ino == walk->scan->ino && device(&st) == dev) {
            found(walk, &st);
        }
        g_string_truncate(walk->path, length);
    }
    if (entry == NULL && errno != 0) {
        walk->scan->unread++;
    }
    closedir(dir);
}

/* A handle says which inode is meant; the names are then searched like those of any inode. */
static gboolean open_handle(struct scan *scan, int fd)
{
    g_autofree struct file_handle *handle =
        g_malloc0(sizeof(struct file_handle) + scan->handle_size);
    struct statx st;

    handle->handle_bytes = scan->handle_size;
    handle->handle_type = scan->handle_type;
    memcpy(handle->f_handle, scan->handle, scan->handle_size);
    int object = open_by_handle_at(fd, handle, O_PATH | O_CLOEXEC);
    if (object < 0) {
        return FALSE;
    }
    gboolean good = stat_at(object, "", &st) == 0;
    if (good) {
        scan->ino = st.stx_ino;
    }
    close(object);
    return good;
}

/* 0 where the filesystem does not count them. */
static guint64 inodes_in_use(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && fs.f_files > fs.f_ffree ? fs.f_files - fs.f_ffree : 0;
}

/* TRUE when the search is over. */
static gboolean walk_place(struct walk *walk, const struct place *place)
{
    static const char *const holds[] = {"ext2", "ext3",  "ext4",  "xfs",
                                        "f2fs", "btrfs", "tmpfs", NULL};
    struct scan *scan = walk->scan;
    struct statx st;
    int fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || stat_at(fd, "", &st) < 0) {
        /* a bind-mounted file, or no permission */
        if (stat(place->path, &(struct stat){0}) == 0) {
            scan->unread++;
        }
        if (fd >= 0) {
            close(fd);
        }
        return FALSE;
    }
    walk->place = place;
    walk->names = 0;
    walk->expected = place->whole ? inodes_in_use(fd) : 0;
    progress_begin(walk->line, "searching", "names");
    walk->d_ino_holds = g_strv_contains(holds, scan->type);
    walk->btrfs = strcmp(scan->type, "btrfs") == 0;
    g_string_assign(walk->path, place->path);
    if (scan->handle != NULL && !open_handle(scan, fd)) {
        close(fd);
        return FALSE;
    }
    if (place->fs == scan->fs && st.stx_ino == scan->ino) {
        found(walk, &st);
    }
    if (done(walk)) {
        close(fd);
        return TRUE;
    }
    walk_directory(walk, fd, device(&st), place->fs, 0);
    /* the whole filesystem has been seen, or enough of it; btrfs and xfs hold no other names */
    return scan->paths->len > 0 || place->whole;
}

static guint raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 200;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 300) {
        return 200;
    }
    return (guint)MIN(limit.rlim_cur - 64, DEPTH_LIMIT);
}

void scan_run(struct scan *scan)
{
    g_autoptr(progress) line = progress_new();
    struct walk walk = {.scan = scan, .line = line};
    gboolean over = FALSE;

    scan->paths = g_ptr_array_new_with_free_func(g_free);
    walk.path = g_string_new(NULL);
    walk.depth_limit = raise_limit();
    g_autoptr(GPtrArray) places = find_places(scan);
    /* whole mounts, then partial ones, then on btrfs those that may hold it as a subvolume */
    for (int pass = 0; pass < 3 && !over; pass++) {
        for (guint i = 0; i < places->len && !over; i++) {
            const struct place *place = places->pdata[i];
            int its = place->whole ? 0 : place->fs == scan->fs ? 1 : 2;
            if (its == pass) {
                over = walk_place(&walk, place);
            }
        }
    }
    g_string_free(walk.path, TRUE);
}

void scan_clear(struct scan *scan)
{
    g_clear_pointer(&scan->paths, g_ptr_array_unref);
}
