/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk goes down by descriptor, one name at a time, so that a guest that renames meanwhile
 * cannot lead it elsewhere, and no path is ever too long for the kernel. Only the innermost levels
 * keep their descriptors; the others are opened again as ".." of what is below them, and verified
 * to be the same directory. Where one is not, because it was moved meanwhile, its names that are
 * left are met as files that cannot be looked at.
 *
 * Nothing is opened but directories (and, to be identified, the first file of a filesystem that
 * comes without a directory of its own, with O_PATH).
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tools/names.h"
#include "tools/tree.h"

#define OPEN_LEVELS  64
#define NAMES_MEMORY (8 * 1024 * 1024)
#define NAME_ROOM    4096 /* no name is longer */

/* One directory on the way down. */
struct level {
    int fd; /* -1: closed for now */
    gsize path_size;
    names *below;
    struct place *place;
    guint64 ino, st_dev, mount_id;
    int lost; /* errno: it could not be opened again */
};

struct walk {
    places *places;
    gsize path_max;
    int (*file)(void *data, const struct tree_file *file);
    void *data;
    names_pool *pool;
    GArray *stack; /* struct level */
    GString *path;
};

static int stat_at(int fd, const char *name, struct statx *st)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] == '\0' ? AT_EMPTY_PATH : 0);
    return statx(fd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, st) < 0 ? -errno
                                                                                          : 0;
}

static struct level *level_at(const struct walk *walk, guint index)
{
    return &g_array_index(walk->stack, struct level, index);
}

/* ---- directories -----------------------------------------------------------------------------
 */

static int open_directory(int parent, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = openat(parent, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) {
        fd = openat(parent, name, flags);
    }
    return fd < 0 ? -errno : fd;
}

/* Reads all names. *code gets the errno where not all could be read; a negative errno is that of
 * the temporary file. */
static int list(int fd, names *below, int *code)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    int failed = 0;

    if (dir == NULL) {
        *code = errno;
        if (copy >= 0) {
            close(copy);
        }
        return names_sort(below);
    }
    while (failed == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            failed = names_add(below, entry->d_name);
        }
    }
    /* a directory that was removed meanwhile has no names left */
    *code = failed == 0 && errno != ENOENT ? errno : 0;
    closedir(dir);
    return failed < 0 ? failed : names_sort(below);
}

/* Closes the level that is the farthest away of those that are open, but never the first. */
static void close_far(struct walk *walk)
{
    if (walk->stack->len > OPEN_LEVELS + 1) {
        struct level *far = level_at(walk, walk->stack->len - 1 - OPEN_LEVELS);
        if (far->fd >= 0) {
            close(far->fd);
            far->fd = -1;
        }
    }
}

/* `fd`, which is taken, where it is the directory of the level; else a negative errno. */
static int verified(const struct level *level, int fd)
{
    struct statx st;

    if (fd < 0) {
        return fd;
    }
    int code = stat_at(fd, "", &st);
    if (code == 0 && st.stx_ino == level->ino && places_device(&st) == level->st_dev &&
        places_mount_id(&st) == level->mount_id) {
        return fd;
    }
    close(fd);
    return code < 0 ? code : -ESTALE;
}

/* Opens what walk->path names, from the first level on. */
static int open_path(const struct walk *walk)
{
    g_auto(GStrv) names = g_strsplit(walk->path->str, "/", -1);
    int fd = open_directory(level_at(walk, 0)->fd, ".");

    for (char **name = names; *name != NULL && fd >= 0; name++) {
        int next = open_directory(fd, *name);
        close(fd);
        fd = next;
    }
    return fd;
}

/* Opens the level above `child` again, whose path walk->path is now. */
static void reopen(const struct walk *walk, struct level *level, int child)
{
    level->fd = child >= 0 ? verified(level, open_directory(child, "..")) : -ESTALE;
    if (level->fd < 0) {
        level->fd = verified(level, open_path(walk));
    }
    level->lost = level->fd < 0 ? -level->fd : 0;
}

static void leave(struct walk *walk)
{
    struct level *level = level_at(walk, walk->stack->len - 1);

    if (walk->stack->len > 1) {
        struct level *above = level_at(walk, walk->stack->len - 2);
        g_string_truncate(walk->path, above->path_size);
        if (above->fd < 0) {
            reopen(walk, above, level->fd);
        }
    }
    if (level->fd >= 0) {
        close(level->fd);
    }
    names_free(level->below);
    g_array_set_size(walk->stack, walk->stack->len - 1);
}

/* ---- files -----------------------------------------------------------------------------------
 */

static int tell(struct walk *walk, struct tree_file *file)
{
    file->path = walk->path->str;
    return walk->file(walk->data, file);
}

/* A name that there is, and no more is known. */
static int tell_unknown(struct walk *walk, int code)
{
    struct tree_file file = {.fd = -1, .name = "", .code = code};
    return tell(walk, &file);
}

/* The place of what is `name` in the directory of `level`. */
static struct place *place_of(struct walk *walk, const struct level *level, const char *name,
                              const struct statx *st)
{
    if (places_mount_id(st) == level->mount_id && places_device(st) == level->st_dev) {
        return level->place;
    }
    struct place *place = places_known(walk->places, st);
    if (place == NULL) {
        int fd = openat(level->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        place = places_of(walk->places, fd, st, level->place);
        if (fd >= 0) {
            close(fd);
        }
    }
    return place;
}

static int meet_other(struct walk *walk, const struct level *level, const char *name,
                      const struct statx *st)
{
    struct tree_file file = {
        .st = st, .fd = level->fd, .name = name, .parent_ino = level->ino, .placeholder = FALSE};
    file.place = place_of(walk, level, name, st);
    return tell(walk, &file);
}

/* Tells of the directory `fd`, and goes down. Takes the descriptor. */
static int enter(struct walk *walk, int fd, const struct statx *st, const struct level *holder)
{
    struct place *place = places_of(walk->places, fd, st, holder != NULL ? holder->place : NULL);
    struct tree_file file = {.st = st, .place = place, .fd = fd, .name = ""};
    struct level level = {.fd = fd,
                          .path_size = walk->path->len,
                          .place = place,
                          .ino = st->stx_ino,
                          .st_dev = places_device(st),
                          .mount_id = places_mount_id(st)};
    file.parent_ino = holder != NULL ? holder->ino : 0;
    level.below = names_new(walk->pool);
    int code;
    if (walk->path->len + 1 + NAME_ROOM > walk->path_max) {
        file.code = ENAMETOOLONG;
        code = names_sort(level.below);
    } else {
        code = list(fd, level.below, &file.code);
    }
    file.unread = file.code != 0;
    g_array_append_val(walk->stack, level);
    close_far(walk);
    return code < 0 ? code : tell(walk, &file);
}

static gboolean is_placeholder(const struct level *level, const struct statx *st)
{
    return st->stx_ino == SIGHT_PLACEHOLDER && level->place->btrfs &&
           places_device(st) != level->st_dev && places_mount_id(st) == level->mount_id;
}

static int meet_directory(struct walk *walk, const struct level *level, const char *name,
                          struct statx *st)
{
    struct tree_file file = {
        .st = st, .fd = level->fd, .name = name, .parent_ino = level->ino, .placeholder = TRUE};

    if (is_placeholder(level, st)) {
        file.place = level->place;
        return tell(walk, &file);
    }
    int fd = open_directory(level->fd, name);
    struct statx now;
    int code = fd >= 0 ? stat_at(fd, "", &now) : fd;
    if (code == 0) {
        /* the opening may have triggered a mount, whose root is another file than the one met */
        struct level holder = *level; /* the stack may move */
        return enter(walk, fd, &now, &holder);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (code == -ENOTDIR || code == -ELOOP) { /* something else has its name now */
        code = stat_at(level->fd, name, st);
        if (code == 0 && !S_ISDIR(st->stx_mode)) {
            return meet_other(walk, level, name, st);
        }
    }
    if (code == -ENOENT) {
        return 0;
    }
    file.placeholder = FALSE;
    file.place = place_of(walk, level, name, st);
    file.unread = TRUE;
    file.code = -code;
    return tell(walk, &file);
}

static int meet(struct walk *walk, const struct level *level, const char *name)
{
    struct statx st;

    if (level->lost != 0) {
        return tell_unknown(walk, level->lost);
    }
    int code = stat_at(level->fd, name, &st);
    if (code == -ENOENT) {
        return 0;
    }
    if (code < 0) {
        return tell_unknown(walk, -code);
    }
    return S_ISDIR(st.stx_mode) ? meet_directory(walk, level, name, &st)
                                : meet_other(walk, level, name, &st);
}

/* ---- the walk --------------------------------------------------------------------------------
 */

static int step(struct walk *walk)
{
    struct level *level = level_at(walk, walk->stack->len - 1);
    const char *name;
    int more = names_next(level->below, &name);

    if (more <= 0) {
        leave(walk);
        return more;
    }
    g_string_truncate(walk->path, level->path_size);
    if (level->path_size > 0) {
        g_string_append_c(walk->path, '/');
    }
    g_string_append(walk->path, name);
    return meet(walk, level, name);
}

int tree_walk(int folder, places *places, gsize path_max,
              int (*file)(void *data, const struct tree_file *file), void *data)
{
    struct walk walk = {.places = places, .path_max = path_max, .file = file, .data = data};
    struct statx st;

    int top = open_directory(folder, ".");
    int code = top >= 0 ? stat_at(top, "", &st) : top;
    if (code < 0) {
        if (top >= 0) {
            close(top);
        }
        return code;
    }
    walk.pool = names_pool_new(NAMES_MEMORY);
    walk.path = g_string_new(NULL);
    walk.stack = g_array_new(FALSE, FALSE, sizeof(struct level));
    code = enter(&walk, top, &st, NULL);
    while (code == 0 && walk.stack->len > 0) {
        code = step(&walk);
    }
    while (walk.stack->len > 0) {
        leave(&walk);
    }
    g_array_unref(walk.stack);
    g_string_free(walk.path, TRUE);
    names_pool_free(walk.pool);
    return code;
}
