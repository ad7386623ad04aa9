/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The folder of control sockets. See run-dir.h.
 *
 * Between the look at a lock and the removal of its entry nobody else may begin to use the name: so
 * both happen within a turn, by flock(2) on the folder as in listen-unix.c, which each daemon takes
 * after its lock and before its entry. A turn is short, as others wait for it only so long.
 */
#include "config.h"

#include "src/run-dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/listen.h"

#define NAME       "qidmap"
#define MODE       0711   /* others may connect, and not open it, as who can might lock it */
#define SWEEP_US   200000 /* what is not looked at in this time is left to the next who starts */
#define TURN_TRIES 50
#define TURN_PAUSE 20000 /* us */

struct run_dir {
    int fd;
    char *path, *link; /* `link`: its name; NULL: none */
};

static const struct kind {
    const char *prefix;
    mode_t type;
} kinds[] = {{"control-", S_IFSOCK}, {"at-", S_IFLNK}};

static char *name_of(const struct kind *kind, pid_t pid)
{
    return g_strdup_printf("%s%ld", kind->prefix, (long)pid);
}

static bool lock_pid(int fd, pid_t pid)
{
    struct flock lock = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = pid, .l_len = 1}; /* all a folder has */

    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* By another than us; in doubt true. */
static bool is_locked(int fd, pid_t pid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = pid, .l_len = 1};

    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* ---- what is left ---------------------------------------------------------------------------- */

/* Within a turn. One that was put there by hand has the name of another, or somebody answers. */
static void remove_left(const struct run_dir *dir, const struct kind *kind, pid_t pid)
{
    g_autofree char *name = name_of(kind, pid), *path = g_build_filename(dir->path, name, NULL);
    struct stat st;

    if (is_locked(dir->fd, pid) || fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        (st.st_mode & S_IFMT) != kind->type)
        return;
    if (kind->type == S_IFSOCK && listen_unix_is_answered(path))
        return;
    unlinkat(dir->fd, name, 0);
}

/* 0: the name is none of ours. */
static pid_t pid_of(const char *name, const struct kind **kind)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        gsize size = strlen(kinds[i].prefix);
        guint64 number;

        if (strncmp(name, kinds[i].prefix, size) != 0 || name[size] == '0' ||
            !g_ascii_string_to_unsigned(name + size, 10, 1, G_MAXINT32, &number, NULL))
            continue;
        *kind = &kinds[i];
        return (pid_t)number;
    }
    return 0;
}

/* Where a process has the number, its entry waits for a later start: nothing is lost by that. */
static void sweep(const struct run_dir *dir)
{
    gint64 end = g_get_monotonic_time() + SWEEP_US;
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    const struct kind *kind;
    struct dirent *entry;

    if (stream == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(stream)) != NULL && g_get_monotonic_time() < end) {
        pid_t pid = pid_of(entry->d_name, &kind);

        if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH)
            remove_left(dir, kind, pid);
    }
    closedir(stream);
}

static bool take_turn(int fd)
{
    for (int i = 0; i < TURN_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        g_usleep(TURN_PAUSE);
    }
    return false;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* NULL: there is none. */
static char *find(void)
{
    const char *runtime = geteuid() == 0 ? "/run" : g_getenv("XDG_RUNTIME_DIR");
    char *path;

    if (runtime == NULL || runtime[0] != '/')
        return NULL;
    path = g_build_filename(runtime, NAME, NULL);
    if (mkdir(path, MODE) < 0 && errno != EEXIST)
        g_clear_pointer(&path, g_free);
    return path;
}

/* Whoever may write there could put a socket of his own in the place of ours. */
static bool is_ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

struct run_dir *run_dir_open(void)
{
    g_autofree char *path = find();
    int fd = path != NULL ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    struct run_dir *dir;
    bool locked;

    if (fd < 0)
        return NULL;
    if (!is_ours(fd)) {
        close(fd);
        return NULL;
    }
    (void)fchmod(fd, MODE); /* systemd may have made it for a socket */
    dir = g_new0(struct run_dir, 1);
    dir->fd = fd;
    dir->path = g_steal_pointer(&path);
    locked = lock_pid(fd, getpid());
    if (locked && take_turn(fd)) {
        for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) /* of an earlier process with our number */
            remove_left(dir, &kinds[i], getpid());
        sweep(dir);
        flock(fd, LOCK_UN);
    }
    return dir;
}

char *run_dir_socket(const struct run_dir *dir)
{
    g_autofree char *name = name_of(&kinds[0], getpid());

    return g_build_filename(dir->path, name, NULL);
}

void run_dir_link(struct run_dir *dir, const char *path)
{
    g_autofree char *name = name_of(&kinds[1], getpid());

    if (symlinkat(path, dir->fd, name) == 0)
        dir->link = g_steal_pointer(&name);
}

void run_dir_close(struct run_dir *dir)
{
    if (dir == NULL)
        return;
    if (dir->link != NULL)
        unlinkat(dir->fd, dir->link, 0);
    close(dir->fd);
    g_free(dir->path);
    g_free(dir->link);
    g_free(dir);
}
