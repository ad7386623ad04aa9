/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The look at a filesystem, while others change it.
 *
 * A walk that reads each directory once misses a file that is moved from a directory that it has
 * not read to one that it has. So the whole tree is walked until two walks, one after the other,
 * met the same directories, each with the same inode number, ctime and mtime (a sum of digests says
 * so, in constant memory). Whatever gives a name to an object or takes one away changes those times
 * of the directory: hence at the moment between both walks every directory was as both have read
 * it, and so was, from the root down, the whole tree; every object that had a name at that moment
 * has its mark. A directory that changed within the last tick of the clock when the first of both
 * read it might change again in that tick, unseen: then that walk does not count. Marks of all
 * walks stay: what was seen in any is kept.
 *
 * An object that was born later is known to nobody before its id is asked for, which marks its row
 * (prune-marks.h). One without a name lives as long as somebody has it open: what this process has
 * open, for its clients, is marked after the walks.
 *
 * That a handle cannot be opened is no proof: the kernel says ESTALE for a disk that cannot be
 * read, too, and for handles that cannot be opened at all. So it proves life only, at the price of
 * one call for each row and none for each file; what is left is looked for by the walks.
 */
#include "config.h"

#include "store/prune-scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/error.h"
#include "store/mountinfo.h"
#include "store/object.h"

#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif
#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

#define WALKS          8             /* then it is given up */
#define LOOKS          8             /* at what is open */
#define DEPTH          4000          /* a descriptor for each level */
#define BTRFS_ROOT     256           /* st_ino of the root of each subvolume */
#define TICK_LOCAL     (50 * 1000)   /* us; the kernel's clock for files ticks faster */
#define TICK_ELSEWHERE (2100 * 1000) /* servers may keep seconds, or two */
#define MASK           (STATX_BASIC_STATS | STATX_MNT_ID)

struct walk {
    struct qm_scan *scan;
    GString *path; /* below the root, for errors */
    GError **error;
    struct statx root;
    struct qm_progress progress;
    int64_t tick;
    gboolean btrfs;
    gboolean d_ino_holds; /* d_ino is st_ino */
    gboolean one_device;  /* st_dev of all that is in it is the root's */
    /* of this walk */
    uint64_t digest, directories;
    gboolean unsteady; /* it does not count as the first of two */
    int64_t pause;     /* us; then the clock has gone on */
    gboolean vanished; /* what was listed was gone: as above, and for the second, too */
};

/* ---- the root -------------------------------------------------------------------------------- */

static uint64_t device(const struct statx *stx)
{
    return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

/* -EXDEV where the mount of `fd` shows a part of the filesystem, or `fd` a part of the mount. */
static int check_whole(int fd, GError **error)
{
    g_autoptr(GPtrArray) mounts = NULL;
    const struct qm_mount *mount;
    struct statx stx;
    struct statfs sfs;

    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, MASK, &stx) != 0 || fstatfs(fd, &sfs) != 0)
        return qm_set_error(error, errno, "cannot look at the root: %s", g_strerror(errno));
    if (!S_ISDIR(stx.stx_mode))
        return qm_set_error(error, ENOTDIR, "what is mounted is not a directory");
    if ((unsigned long)(unsigned int)sfs.f_type == BTRFS_SUPER_MAGIC) {
        if (stx.stx_ino == BTRFS_ROOT)
            return 0; /* of the subvolume, wherever that is mounted */
        return qm_set_error(error, EXDEV, "it is not the root of its subvolume");
    }
    mounts = qm_mountinfo_read(error);
    if (!mounts)
        return -EIO;
    mount = qm_mountinfo_find(mounts, stx.stx_mnt_id);
    if (!mount || !(stx.stx_mask & STATX_MNT_ID))
        return qm_set_error(error, ENODEV, "its mount is not in /proc/self/mountinfo");
    if (strcmp(mount->root, "/") != 0 || !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return qm_set_error(error, EXDEV,
                            "%s shows a part of the filesystem only: mount the whole of it",
                            mount->path);
    return 0;
}

int qm_scan_open(int mounted, gboolean *bare, GError **error)
{
    int e = check_whole(mounted, error), fd;

    if (e != 0)
        return e;
    fd = (int)syscall(SYS_open_tree, mounted, "",
                      (unsigned)(OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH));
    *bare = fd >= 0;
    if (fd < 0)
        fd = openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : qm_set_error(error, errno, "cannot open it: %s", g_strerror(errno));
}

/* ---- handles --------------------------------------------------------------------------------- */

static gboolean opens(int root, const struct qidmap_object *object, size_t size)
{
    union {
        struct file_handle handle;
        uint8_t room[sizeof(struct file_handle) + QIDMAP_HANDLE_BYTES];
    } u;
    int fd;

    memset(&u, 0, sizeof(u));
    u.handle.handle_bytes = (unsigned)size;
    u.handle.handle_type = object->handle_type;
    memcpy(u.handle.f_handle, object->handle, size);
    fd = open_by_handle_at(root, &u.handle, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return FALSE;
    close(fd);
    return TRUE;
}

void qm_scan_handles(struct qm_scan *scan, const struct qidmap_object *objects, size_t count)
{
    /* open_by_handle_at() does not take an O_PATH descriptor. */
    int root = openat(scan->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t i;

    for (i = 0; root >= 0 && i < count; i++) {
        const struct qidmap_object *o = &objects[i];

        if (o->kind == QIDMAP_OBJECT_HANDLE && opens(root, o, o->handle_size))
            qm_marks_set(scan->marks, o);
    }
    if (root >= 0)
        close(root);
}

/* ---- names ----------------------------------------------------------------------------------- */

static int trouble(struct walk *w, const char *name, int e)
{
    g_autofree char *path = g_build_filename("/", w->path->str, name, NULL);
    g_autofree char *shown = g_strescape(path, NULL);

    return qm_set_error(w->error, e,
                        "%s in it cannot be read (%s), so nobody knows what exists: nothing was "
                        "deleted",
                        shown, g_strerror(e < 0 ? -e : e));
}

/* What is mounted on a name hides what the filesystem has there. */
static int hidden(struct walk *w, const char *name)
{
    g_autofree char *path = g_build_filename("/", w->path->str, name, NULL);
    g_autofree char *shown = g_strescape(path, NULL);

    return qm_set_error(w->error, EBUSY,
                        "another mount is on %s in it and hides what is below: nothing was "
                        "deleted; that can be seen through by root (CAP_SYS_ADMIN) alone",
                        shown);
}

static gboolean crosses(const struct walk *w, const struct statx *stx)
{
    return (stx->stx_mask & STATX_MNT_ID) && stx->stx_mnt_id != w->root.stx_mnt_id;
}

static void mark(struct walk *w, uint8_t kind, uint64_t ino, uint64_t ino2)
{
    struct qidmap_object object;

    memset(&object, 0, sizeof(object));
    object.kind = kind;
    object.ino = ino;
    object.ino2 = ino2;
    if (w->scan->marks->kinds & 1u << kind)
        qm_marks_set(w->scan->marks, &object);
}

/* Marks what `name` in `fd` is, or `fd` itself. 0, or a negative errno. */
static int mark_file(struct walk *w, int fd, const char *name, const struct statx *stx)
{
    struct qidmap_object object;
    int e;

    mark(w, QIDMAP_OBJECT_INODE, stx->stx_ino, 0);
    if (!(w->scan->marks->kinds & 1u << QIDMAP_OBJECT_HANDLE))
        return 0;
    e = qm_object_by_handle(1, fd, name, S_ISDIR(stx->stx_mode) ? 0 : stx->stx_ino, &object);
    if (e == 0)
        qm_marks_set(w->scan->marks, &object);
    return e;
}

static int enter(struct walk *w, int parent, const char *name, unsigned depth);

/* One entry of the directory `fd`, whose inode number is `parent`. */
static int see(struct walk *w, int fd, uint64_t parent, const struct dirent *entry, unsigned depth)
{
    const char *name = entry->d_name;
    gboolean may_be_dir = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
    struct statx stx;
    int e = 0;

    mark(w, QIDMAP_OBJECT_INODE, entry->d_ino, 0);
    if (may_be_dir && w->btrfs)
        mark(w, QIDMAP_OBJECT_PLACEHOLDER, parent, entry->d_ino);
    if (!may_be_dir && w->d_ino_holds && !(w->scan->marks->kinds & 1u << QIDMAP_OBJECT_HANDLE))
        return 0;
    if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, MASK, &stx) != 0) {
        w->vanished = w->vanished || errno == ENOENT;
        return errno == ENOENT ? 0 : trouble(w, name, errno);
    }
    if (crosses(w, &stx))
        return hidden(w, name);
    if (w->btrfs && stx.stx_ino == BTRFS_ROOT && device(&stx) != device(&w->root))
        return 0; /* another subvolume, which is another filesystem */
    e = mark_file(w, fd, name, &stx);
    if (e == -ENOENT || e == -ESTALE) {
        w->vanished = TRUE;
        return 0;
    }
    if (e != 0)
        return trouble(w, name, e);
    return S_ISDIR(stx.stx_mode) ? enter(w, fd, name, depth + 1) : 0;
}

/* A directory as it is before it is read. */
static int note(struct walk *w, int fd, struct statx *stx)
{
    uint64_t of[8];
    int64_t now = g_get_real_time(), tick, changed;

    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, MASK, stx) != 0)
        return -errno;
    of[0] = device(stx);
    of[1] = stx->stx_ino;
    of[2] = (uint64_t)stx->stx_ctime.tv_sec;
    of[3] = stx->stx_ctime.tv_nsec;
    of[4] = (uint64_t)stx->stx_mtime.tv_sec;
    of[5] = stx->stx_mtime.tv_nsec;
    of[6] = stx->stx_nlink;
    of[7] = stx->stx_size;
    w->digest += XXH3_64bits(of, sizeof(of));
    w->directories++;
    changed = stx->stx_ctime.tv_sec * G_USEC_PER_SEC + stx->stx_ctime.tv_nsec / 1000;
    /* ext4 with inodes of 128 bytes keeps seconds, as does what lies upon it. */
    tick = stx->stx_ctime.tv_nsec == 0 ? TICK_ELSEWHERE : w->tick;
    if (changed > now - tick && changed < now + tick) {
        w->unsteady = TRUE;
        w->pause = MAX(w->pause, tick);
    }
    return 0;
}

/* Takes `fd`. */
static int walk_directory(struct walk *w, int fd, unsigned depth)
{
    const struct dirent *entry;
    struct statx stx;
    DIR *dir;
    int e = note(w, fd, &stx);

    if (e != 0 || !(dir = fdopendir(fd))) {
        e = e != 0 ? e : -errno;
        close(fd);
        return trouble(w, "", e);
    }
    while (e == 0 && (errno = 0, entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        e = qm_progress_step(&w->progress);
        if (e != 0)
            qm_set_error(w->error, e, "ended on request: nothing was deleted");
        else
            e = see(w, fd, stx.stx_ino, entry, depth);
        errno = 0;
    }
    if (e == 0 && errno != 0)
        e = trouble(w, "", errno);
    closedir(dir);
    return e;
}

static int enter(struct walk *w, int parent, const char *name, unsigned depth)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    gsize length = w->path->len;
    struct statx stx;
    int fd, e;

    if (depth >= DEPTH)
        return trouble(w, name, ELOOP);
    fd = openat(parent, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(parent, name, flags);
    if (fd < 0) { /* gone, or something else now: its directory has changed */
        w->vanished = w->vanished || errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : trouble(w, name, errno);
    }
    if (statx(fd, "", AT_EMPTY_PATH, MASK, &stx) != 0 || crosses(w, &stx)) {
        e = crosses(w, &stx) ? hidden(w, name) : trouble(w, name, errno);
        close(fd);
        return e;
    }
    g_string_append_c(w->path, '/');
    g_string_append(w->path, name);
    e = walk_directory(w, fd, depth);
    g_string_truncate(w->path, length);
    return e;
}

static int walk_once(struct walk *w)
{
    int fd = openat(w->scan->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), e;

    w->digest = w->directories = 0;
    w->unsteady = w->vanished = FALSE;
    w->pause = w->tick;
    if (fd < 0)
        return trouble(w, "", errno);
    e = mark_file(w, fd, "", &w->root);
    if (e != 0) {
        close(fd);
        return trouble(w, "", e);
    }
    return walk_directory(w, fd, 0);
}

static int mark_open_once(struct walk *w)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    struct statx stx;
    int e;

    if (!dir)
        return -errno;
    while ((errno = 0, entry = readdir(dir))) {
        int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);

        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, MASK, &stx) != 0)
            continue;
        if (!w->one_device || device(&stx) == device(&w->root)) /* a clone has the same inodes */
            (void)mark_file(w, fd, "", &stx);                   /* pipes have no handle */
    }
    e = -errno;
    closedir(dir);
    return e;
}

/* What this process has open, with a name or without. A descriptor that another thread copies to a
 * lower number, as for a clone of a fid, and closes, is passed over when that happens at the wrong
 * moment: so several looks. */
static int mark_open(struct walk *w)
{
    int e = 0, i;

    for (i = 0; e == 0 && i < LOOKS; i++)
        e = mark_open_once(w);
    return e == 0 ? 0
                  : qm_set_error(
                        w->error, e,
                        "/proc/self/fd cannot be read (%s), so nobody knows which files without "
                        "a name are open: nothing was deleted",
                        g_strerror(-e));
}

static int prepare(struct walk *w)
{
    struct statfs sfs;

    if (statx(w->scan->root, "", AT_EMPTY_PATH, MASK, &w->root) != 0 ||
        fstatfs(w->scan->root, &sfs) != 0)
        return trouble(w, "", errno);
    switch ((unsigned long)(unsigned int)sfs.f_type) {
    case BTRFS_SUPER_MAGIC:
        w->btrfs = TRUE;
        /* fall through */
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case F2FS_SUPER_MAGIC:
        w->d_ino_holds = TRUE;
        w->one_device = TRUE;
        w->tick = TICK_LOCAL;
        break;
    case OVERLAYFS_SUPER_MAGIC:
        w->tick = TICK_LOCAL;
        break;
    default:
        w->tick = TICK_ELSEWHERE;
    }
    return 0;
}

int qm_scan_names(struct qm_scan *scan, GError **error)
{
    g_autoptr(GString) path = g_string_new(NULL);
    struct walk w = {.scan = scan, .path = path, .error = error};
    gboolean counts = FALSE; /* the walk before may be the first of two */
    uint64_t digest = 0, directories = 0;
    int e, i;

    w.progress.call = scan->progress;
    w.progress.data = scan->data;
    e = prepare(&w);
    for (i = 0; e == 0 && i < WALKS; i++) {
        e = walk_once(&w);
        if (e != 0)
            break;
        if (counts && !w.vanished && w.digest == digest && w.directories == directories)
            return mark_open(&w);
        counts = !w.unsteady && !w.vanished;
        digest = w.digest;
        directories = w.directories;
        if (!counts)
            g_usleep((gulong)w.pause);
    }
    if (e == 0)
        e = qm_set_error(error, EBUSY,
                         "directories in it change all the time, so files may be moved while they "
                         "are looked for: nothing was deleted; try again when it is quieter");
    return e;
}
