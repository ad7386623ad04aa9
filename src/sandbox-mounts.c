/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A mount namespace that holds what it is told to, at the same absolute paths, and nothing else.
 *
 * The new mounts are slaves of the host's: what the host mounts or unmounts below an export later
 * happens here, too, and what happens here stays here. Where the host's mounts tell nobody of
 * changes (no shared mounts, as in most containers) a namespace of our own would never see later
 * mounts, and would keep filesystems busy that the host has unmounted; there it is refused.
 *
 * Copies of all that is wanted are taken first, as descriptors; then a small tmpfs becomes the
 * root, and they are put into it. So it does not matter which directory the tmpfs covers on its
 * way. Must not know what an export is, nor why something is wanted.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/sandbox.h"

/* Older headers of the C library do not have these. */
#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1u
#endif
#define TREE_CLOEXEC    ((unsigned)O_CLOEXEC)
#define TREE_RECURSIVE  0x8000u /* AT_RECURSIVE */
#define MOVE_EMPTY_PATH 0x00000004u
#define STAGING         "/proc" /* always there, as the daemon needs it */

/* ---- the table of mounts --------------------------------------------------------------------- */

/* Whether what happens to this mount is told to a copy of it: its line has "shared:" or "master:".
 */
static gboolean line_propagates(char **fields)
{
    for (guint i = 6; fields[i] != NULL && strcmp(fields[i], "-") != 0; i++)
        if (g_str_has_prefix(fields[i], "shared:") || g_str_has_prefix(fields[i], "master:"))
            return TRUE;
    return FALSE;
}

static gboolean is_below(const char *path, const char *dir)
{
    gsize size = strlen(dir);

    while (size > 0 && dir[size - 1] == '/')
        size--;
    return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

static char *refuse_dir(const char *dir, char **lines)
{
    struct statx stx;
    gboolean found = FALSE;

    if (strcmp(dir, "/") == 0)
        return g_strdup("an export is the whole tree of the host");
    if (statx(AT_FDCWD, dir, AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &stx) != 0 ||
        !(stx.stx_mask & STATX_MNT_ID))
        return g_strdup_printf("the mount of %s is not known", dir);
    for (; *lines != NULL; lines++) {
        g_auto(GStrv) fields = g_strsplit(*lines, " ", -1);
        gboolean is_own;

        if (g_strv_length(fields) < 7)
            continue;
        g_autofree char *path = g_strcompress(fields[4]);
        is_own = g_ascii_strtoull(fields[0], NULL, 10) == stx.stx_mnt_id;
        found = found || is_own;
        if ((is_own || is_below(path, dir)) && !line_propagates(fields))
            return g_strdup_printf("the mount on %s is private, so that later changes of mounts "
                                   "would not be seen",
                                   path);
    }
    return found ? NULL : g_strdup_printf("the mount of %s is not known", dir);
}

char *sandbox_mounts_refuse(char *const *dirs)
{
    g_autofree char *content = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &content, NULL, NULL))
        return g_strdup("/proc/self/mountinfo cannot be read");
    g_auto(GStrv) lines = g_strsplit(content, "\n", -1);
    for (; *dirs != NULL; dirs++) {
        char *why = refuse_dir(*dirs, lines);

        if (why != NULL)
            return why;
    }
    return NULL;
}

/* ---- making it ------------------------------------------------------------------------------- */

struct copy {
    const struct sandbox_mount *from;
    int fd;       /* of the detached copy; -1: none */
    char *target; /* of a symbolic link */
    gboolean is_dir;
};

static void copy_clear(gpointer data)
{
    struct copy *copy = data;

    if (copy->fd >= 0)
        close(copy->fd);
    free(copy->target);
}

/* What is not there is left out. */
static int take_copy(const struct sandbox_mount *from, GArray *copies)
{
    struct copy copy = {.from = from, .fd = -1};
    unsigned flags = OPEN_TREE_CLONE | TREE_CLOEXEC | (from->tree ? TREE_RECURSIVE : 0);
    struct stat st;

    if (lstat(from->path, &st) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    copy.is_dir = S_ISDIR(st.st_mode);
    if (S_ISLNK(st.st_mode)) {
        copy.target = g_file_read_link(from->path, NULL);
        if (copy.target == NULL)
            return 0;
    } else {
        copy.fd = (int)syscall(SYS_open_tree, AT_FDCWD, from->path, flags | AT_SYMLINK_NOFOLLOW);
        if (copy.fd < 0)
            return -errno;
    }
    g_array_append_val(copies, copy);
    return 0;
}

/* Whoever starts the daemon may have any umask; the directories here are for all to pass. */
static int make_place(const char *path, gboolean is_dir)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd;

    if (g_mkdir_with_parents(is_dir ? path : parent, 0755) != 0)
        return -errno;
    if (is_dir)
        return 0;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int restrict_mount(const char *path, const struct sandbox_mount *from)
{
    unsigned long flags = MS_REMOUNT | MS_BIND;
    struct statvfs fs;

    if (!from->readonly && !from->plain)
        return 0;
    if (statvfs(path, &fs) != 0)
        return -errno;
    /* What is not said again would be lost. */
    flags |= (fs.f_flag & ST_RDONLY ? MS_RDONLY : 0) | (fs.f_flag & ST_NOATIME ? MS_NOATIME : 0) |
             (fs.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0) |
             (fs.f_flag & ST_RELATIME ? MS_RELATIME : 0) | (fs.f_flag & ST_NODEV ? MS_NODEV : 0) |
             (fs.f_flag & ST_NOEXEC ? MS_NOEXEC : 0) | MS_NOSUID;
    if (from->readonly)
        flags |= MS_RDONLY;
    if (from->plain)
        flags |= MS_NODEV | MS_NOEXEC;
    return mount(NULL, path, NULL, flags, NULL) < 0 ? -errno : 0;
}

/* With the new root as working directory. */
static int put(const struct copy *copy)
{
    g_autofree char *path = g_build_filename(STAGING, copy->from->path, NULL);
    struct stat st;
    int error;

    if (copy->target != NULL) {
        g_autofree char *parent = g_path_get_dirname(path);

        if (lstat(path, &st) == 0)
            return 0;
        if (g_mkdir_with_parents(parent, 0755) != 0 || symlink(copy->target, path) != 0)
            return -errno;
        return 0;
    }
    error = make_place(path, copy->is_dir);
    /* Below another thing that was put there before: it is there already, or cannot be. */
    if (error == -EROFS || error == -EACCES)
        return 0;
    if (error != 0)
        return error;
    if (syscall(SYS_move_mount, copy->fd, "", AT_FDCWD, path, MOVE_EMPTY_PATH) < 0)
        return -errno;
    return restrict_mount(path, copy->from);
}

static gint by_length(gconstpointer a, gconstpointer b)
{
    const struct sandbox_mount *const *x = a, *const *y = b;
    gsize n = strlen((*x)->path), m = strlen((*y)->path);

    return n != m ? (n > m) - (n < m) : (*y)->tree - (*x)->tree;
}

/* Whether one before `index` shows it already. A second mount there would be a border that the
 * host does not have, across which nothing can be renamed. */
static gboolean is_shown(const GPtrArray *mounts, guint index)
{
    const struct sandbox_mount *m = g_ptr_array_index(mounts, index);

    for (guint i = 0; i < index; i++) {
        const struct sandbox_mount *before = g_ptr_array_index(mounts, i);

        if (strcmp(before->path, m->path) == 0 || (before->tree && is_below(m->path, before->path)))
            return TRUE;
    }
    return FALSE;
}

static int change_root(void)
{
    if (chdir(STAGING) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
        umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        return -errno;
    /* Another mount of it, for places of later ones; -1: those will need a restart. */
    sandbox_set_root((int)syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | TREE_CLOEXEC));
    return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0
               ? -errno
               : 0;
}

int sandbox_mounts_enter(GPtrArray *mounts, const char **step)
{
    g_autoptr(GArray) copies = g_array_new(FALSE, FALSE, sizeof(struct copy));
    mode_t mask;
    int error = 0;

    g_array_set_clear_func(copies, copy_clear);
    *step = "unshare";
    if (unshare(CLONE_NEWNS) != 0)
        return -errno;
    *step = "making mounts slaves";
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return -errno;
    g_ptr_array_sort(mounts, by_length); /* what is above comes first */
    for (guint i = 0; i < mounts->len; i++) {
        const struct sandbox_mount *m = g_ptr_array_index(mounts, i);

        *step = m->path;
        error = is_shown(mounts, i) ? 0 : take_copy(m, copies);
        if (error != 0)
            return error;
    }
    *step = "a tmpfs";
    mask = umask(0022);
    if (mount("qidmapd", STAGING, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755") != 0)
        error = -errno;
    for (guint i = 0; error == 0 && i < copies->len; i++) {
        const struct copy *copy = &g_array_index(copies, struct copy, i);

        *step = copy->from->path;
        error = put(copy);
    }
    umask(mask);
    if (error == 0) {
        *step = "pivot_root";
        error = change_root();
    }
    return error;
}
