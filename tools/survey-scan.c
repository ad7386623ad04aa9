/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk over the tree: everything below a directory, as a guest of an export would see it; other
 * mounts are entered, symlinks are not followed. A directory is listed as a whole before the walk
 * goes down: a guest's `find` or `ls -R` meets the files in about this order.
 *
 * Nothing is opened but directories (and, to be identified, the first file of a filesystem that
 * comes without a directory of its own, with O_PATH).
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/sight.h"
#include "tools/survey.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

#define DEPTH_LIMIT 100000
#define FILES_LIMIT 0x7ffffffe
/* Inodes from here on are likely to be hashes, which need rows in the full map. */
#define HASHED_FROM (G_GUINT64_CONSTANT(1) << 40)

/* What tells filesystems apart while they are mounted. */
struct place {
    guint64 mount_id;
    guint64 st_dev;
};

struct walk {
    struct survey *survey;
    GHashTable *places;       /* struct place -> index of a filesystem + 1 */
    GHashTable *placeholders; /* texts of their keys */
    struct place last;        /* the one that was asked for last: nearly always the next, too */
    guint32 last_fs;
    guint depth_limit;
    guint64 expected; /* files in use on the filesystems met, for the bar */
    gboolean partial; /* not all filesystems are surveyed whole, or say how many files they have */
};

/* One directory on the way down. */
struct level {
    int fd;
    guint32 dir;
    guint32 fs;
    GPtrArray *below; /* names of its directories; NULL: not listed yet */
    guint next;
};

/* A file that is met: `name` in the open directory `fd`, or "": that directory itself. */
struct met {
    int fd;
    const char *name;
    guint32 dir;       /* the directory `fd` */
    guint32 holder;    /* the directory that has its name; SURVEY_NONE: the tree itself */
    guint32 parent_fs; /* of the directory it is in; SURVEY_NONE: not known */
    struct statx st;
};

static guint place_hash(gconstpointer key)
{
    const struct place *place = key;
    return g_int64_hash(&place->mount_id) * 31 + g_int64_hash(&place->st_dev);
}

static gboolean place_equal(gconstpointer a, gconstpointer b)
{
    const struct place *x = a, *y = b;
    return x->mount_id == y->mount_id && x->st_dev == y->st_dev;
}

static int stat_at(int fd, const char *name, struct statx *st)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] == '\0' ? AT_EMPTY_PATH : 0);
    return statx(fd, name, flags, STATX_TYPE | STATX_INO | STATX_NLINK | STATX_MNT_ID, st);
}

static guint64 device(const struct statx *st)
{
    return makedev(st->stx_dev_major, st->stx_dev_minor);
}

/* Something could not be looked at. What vanished meanwhile is no loss. */
static void unread(struct walk *walk, guint32 dir, const char *name, int code)
{
    if (code == ENOENT) {
        return;
    }
    if (walk->survey->unread++ == 0) {
        g_autofree char *path = survey_dir_path(walk->survey, dir);
        walk->survey->first_unread =
            name != NULL ? g_strconcat(path, "/", name, NULL) : g_strdup(path);
        walk->survey->first_errno = code;
    }
}

/* ---- filesystems ----------------------------------------------------------------------------- */

static gboolean same_fs(const struct survey_fs *a, const struct survey_fs *b)
{
    return a->identity != NULL && b->identity != NULL && a->identity->count > 0 &&
           b->identity->count > 0 && a->identity->superblock == b->identity->superblock &&
           memcmp(&a->identity->fsid[0], &b->identity->fsid[0], sizeof(struct qidmap_fsid)) == 0;
}

static gboolean is_whole(int fd)
{
    struct statx st;
    return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE, &st) == 0 &&
           (st.stx_attributes_mask & st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* A filesystem met for the first time, as `fd` shows it. Gives its index. */
static guint32 meet_fs(struct walk *walk, int fd, guint64 st_dev, char *path)
{
    struct survey *survey = walk->survey;
    struct survey_fs *fs = g_new0(struct survey_fs, 1);
    struct qidmap_error error;
    struct statfs sfs;

    fs->st_dev = st_dev;
    fs->path = path;
    fs->first = TRUE;
    fs->identity = g_new0(struct qidmap_identity, 1);
    fs->identity->size = sizeof *fs->identity;
    if (fd < 0 || qidmap_identify(fd, NULL, fs->identity, &error) < 0) {
        fs->problem = g_strdup(fd < 0 ? "it cannot be opened" : error.text);
        g_clear_pointer(&fs->identity, g_free);
    }
    for (guint i = 0; i < survey->fs->len; i++) {
        const struct survey_fs *other = survey->fs->pdata[i];
        if (!same_fs(fs, other)) {
            continue;
        }
        if (other->st_dev == st_dev) {
            /* one filesystem at two places */
            g_free(fs->identity);
            g_free(fs->path);
            g_free(fs);
            return i;
        }
        fs->first = FALSE;
    }
    if (fd >= 0 && is_whole(fd) && fstatfs(fd, &sfs) == 0 && sfs.f_files > sfs.f_ffree) {
        walk->expected += sfs.f_files - sfs.f_ffree;
    } else {
        walk->partial = TRUE;
    }
    g_ptr_array_add(survey->fs, fs);
    return survey->fs->len - 1;
}

static gboolean is_btrfs(const struct walk *walk, guint32 fs)
{
    const struct survey_fs *where = fs != SURVEY_NONE ? walk->survey->fs->pdata[fs] : NULL;
    return where != NULL && where->identity != NULL &&
           strcmp(where->identity->hints.type, "btrfs") == 0;
}

/* TRUE where the file may stand for a subvolume that a snapshot does not show. */
static gboolean may_be_placeholder(const struct walk *walk, const struct met *met)
{
    return met->st.stx_ino == SIGHT_PLACEHOLDER && S_ISDIR(met->st.stx_mode) &&
           is_btrfs(walk, met->parent_fs);
}

static int open_met(const struct met *met)
{
    return met->name[0] == '\0' ? fcntl(met->fd, F_DUPFD_CLOEXEC, 0)
                                : openat(met->fd, met->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/* Placeholders have a device number of their own, which is no filesystem. */
static guint32 meet_placeholders(struct walk *walk, guint64 st_dev)
{
    struct survey_fs *fs = g_new0(struct survey_fs, 1);
    fs->st_dev = st_dev;
    fs->placeholders = TRUE;
    g_ptr_array_add(walk->survey->fs, fs);
    return walk->survey->fs->len - 1;
}

/* The filesystem of a file. */
static guint32 fs_of(struct walk *walk, const struct met *met)
{
    const struct statx *st = &met->st;
    struct place place = {(st->stx_mask & STATX_MNT_ID) != 0 ? st->stx_mnt_id : 0, device(st)};
    gpointer found;
    guint32 fs;

    if (place_equal(&place, &walk->last)) {
        return walk->last_fs;
    }
    found = g_hash_table_lookup(walk->places, &place);
    if (found == NULL && may_be_placeholder(walk, met)) {
        fs = meet_placeholders(walk, place.st_dev);
    } else if (found == NULL) {
        g_autofree char *path = survey_dir_path(walk->survey, met->dir);
        int object = open_met(met);
        fs = meet_fs(walk, object, place.st_dev,
                     met->name[0] == '\0' ? g_strdup(path)
                                          : g_build_filename(path, met->name, NULL));
        if (object >= 0) {
            close(object);
        }
    } else {
        fs = GPOINTER_TO_UINT(found) - 1;
    }
    if (found == NULL) {
        g_hash_table_insert(walk->places, g_memdup(&place, sizeof place), GUINT_TO_POINTER(fs + 1));
    }
    walk->last = place;
    walk->last_fs = fs;
    return fs;
}

/* ---- files ----------------------------------------------------------------------------------- */

static gboolean has_handle_keys(const struct survey_fs *fs)
{
    return fs->identity != NULL &&
           sight_wants_handle(fs->identity->policy, fs->identity, fs->st_dev);
}

/* The file handle, where the ids of the filesystem are made from it. */
static gboolean read_handle(const struct met *met, struct survey_special *special,
                            guint8 bytes[QIDMAP_HANDLE_BYTES])
{
    struct qidmap_object object;
    guint64 ino = S_ISDIR(met->st.stx_mode) ? 0 : met->st.stx_ino;

    if (qidmap_object_by_handle(0, met->fd, met->name, ino, &object) != 0) {
        return FALSE;
    }
    special->kind = QIDMAP_OBJECT_HANDLE;
    special->handle_type = object.handle_type;
    special->handle_size = object.handle_size;
    memcpy(bytes, object.handle, object.handle_size);
    return TRUE;
}

static gboolean read_placeholder(const struct walk *walk, const struct met *met,
                                 struct survey_special *special)
{
    struct qidmap_object object = {.kind = QIDMAP_OBJECT_INODE};
    struct stat plain;

    if (!may_be_placeholder(walk, met)) {
        return FALSE;
    }
    int own = open_met(met);
    if (own < 0) {
        return FALSE;
    }
    int parent = fstat(own, &plain) == 0 ? sight_placeholder(own, &plain, &object) : -1;
    close(own);
    if (parent < 0) {
        return FALSE;
    }
    close(parent);
    special->kind = QIDMAP_OBJECT_PLACEHOLDER;
    special->owner = met->parent_fs;
    special->ino = object.ino;
    special->ino2 = object.ino2;
    return TRUE;
}

/* Notes one file, and gives its filesystem. */
static guint32 meet_file(struct walk *walk, const struct met *met)
{
    struct survey *survey = walk->survey;
    guint32 fs = fs_of(walk, met), owner = fs;
    const struct survey_fs *where = survey->fs->pdata[fs];
    const struct statx *st = &met->st;
    struct survey_special special = {.owner = fs};
    guint8 handle[QIDMAP_HANDLE_BYTES];
    gboolean added;

    survey->n_names++;
    if (has_handle_keys(where) && read_handle(met, &special, handle)) {
        added = survey_add(survey, fs, st->stx_ino, met->holder, &special, handle);
        survey->n_full_likely += added;
    } else if (read_placeholder(walk, met, &special)) {
        char *key = g_strdup_printf("%u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, special.owner,
                                    special.ino, special.ino2);
        added = g_hash_table_add(walk->placeholders, key) &&
                survey_add(survey, fs, st->stx_ino, met->holder, &special, handle);
        owner = special.owner;
    } else {
        added = survey_add(survey, fs, st->stx_ino, met->holder, NULL, NULL);
        survey->n_full_likely += added && st->stx_ino >= HASHED_FROM;
    }
    ((struct survey_fs *)survey->fs->pdata[owner])->files += added;
    survey->n_directories += added && S_ISDIR(st->stx_mode);
    progress_tell(survey->progress, survey->n_names, walk->partial ? 0 : walk->expected);
    return fs;
}

/* ---- directories ----------------------------------------------------------------------------- */

/* Notes all files of a directory, and which of them are directories. */
static void list(struct walk *walk, struct level *level)
{
    struct dirent *entry;
    struct met met = {.dir = level->dir, .holder = level->dir, .parent_fs = level->fs};
    int fd = openat(level->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
    if (fd < 0 && errno == EPERM) {
        fd = openat(level->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    level->below = g_ptr_array_new_with_free_func(g_free);
    if (dir == NULL) {
        unread(walk, level->dir, NULL, errno);
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            continue;
        }
        if (walk->survey->n_files >= FILES_LIMIT) {
            unread(walk, level->dir, name, EOVERFLOW);
            break;
        }
        met.fd = fd;
        met.name = name;
        if (stat_at(fd, name, &met.st) < 0) {
            unread(walk, level->dir, name, errno);
            continue;
        }
        meet_file(walk, &met);
        if (S_ISDIR(met.st.stx_mode)) {
            g_ptr_array_add(level->below, g_strdup(name));
        }
    }
    if (entry == NULL && errno != 0) {
        unread(walk, level->dir, NULL, errno);
    }
    closedir(dir);
}

static void leave(GArray *stack)
{
    struct level *level = &g_array_index(stack, struct level, stack->len - 1);
    close(level->fd);
    g_ptr_array_unref(level->below);
    g_array_set_size(stack, stack->len - 1);
}

/* Goes down into the next directory of the innermost level, if it can be opened. */
static void go_down(struct walk *walk, GArray *stack)
{
    struct level *level = &g_array_index(stack, struct level, stack->len - 1);
    const char *name = level->below->pdata[level->next++];
    struct level below = {.fs = SURVEY_NONE};
    struct met met = {.name = "", .holder = level->dir, .parent_fs = level->fs};

    if (stack->len >= walk->depth_limit) {
        unread(walk, level->dir, name, EMFILE);
        return;
    }
    below.fd = openat(level->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below.fd < 0) {
        unread(walk, level->dir, name, errno);
        return;
    }
    below.dir = survey_add_dir(walk->survey, level->dir, name);
    met.fd = below.fd;
    met.dir = below.dir;
    /* the opening may have triggered a mount, whose root is another file than the one met above */
    if (stat_at(below.fd, "", &met.st) == 0) {
        guint64 names = walk->survey->n_names;
        below.fs = meet_file(walk, &met);
        walk->survey->n_names = names;
    }
    g_array_append_val(stack, below);
}

static void go(struct walk *walk, int root, guint32 fs)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(struct level));
    struct level top = {.fd = root, .fs = fs};

    g_array_append_val(stack, top);
    while (stack->len > 0) {
        struct level *level = &g_array_index(stack, struct level, stack->len - 1);
        if (level->below == NULL) {
            list(walk, level);
        } else if (level->next < level->below->len) {
            go_down(walk, stack);
        } else {
            leave(stack);
        }
    }
}

/* One descriptor for each level, and some for the rest. */
static guint depth_limit(void)
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

gboolean survey_scan(struct survey *survey)
{
    const char *root = survey->root;
    g_autofree char *shown = cmd_escape(root, TRUE);
    struct walk walk = {.survey = survey, .last = {G_MAXUINT64, G_MAXUINT64}};
    struct met met = {.name = "", .holder = SURVEY_NONE, .parent_fs = SURVEY_NONE};

    survey->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int top = survey->root_fd >= 0 ? fcntl(survey->root_fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (top < 0 || stat_at(top, "", &met.st) < 0) {
        cmd_error("cannot read %s: %s", shown, g_strerror(errno));
        return FALSE;
    }
    walk.places = g_hash_table_new_full(place_hash, place_equal, g_free, NULL);
    walk.placeholders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    walk.depth_limit = depth_limit();

    progress_begin(survey->progress, "reading", "names");
    survey_add_dir(survey, SURVEY_NONE, root);
    met.fd = top;
    go(&walk, top, meet_file(&walk, &met));
    progress_hide(survey->progress);
    survey_forget_slots(survey);
    g_hash_table_unref(walk.places);
    g_hash_table_unref(walk.placeholders);
    return TRUE;
}
