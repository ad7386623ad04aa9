/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sockets in the filesystem: who may connect is told by mode and owner of the file.
 *
 * A file that a killed server left is replaced; one at which somebody answers is not; and at the
 * end only that is removed which was made here. Two servers that start at the same time take turns
 * by a lock on the directory, as else each could take the other's new file for a stale one.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/fail.h"
#include "src/listen-spec.h"
#include "src/listen.h"

#define BACKLOG 128

/* Somebody else may hold the lock for purposes of his own: after this the turn is taken anyway. */
#define TURN_TRIES 100
#define TURN_PAUSE 20000 /* us */

static gboolean complain(GError **error, const struct listen_spec *spec, const char *what)
{
    return fail_start(error, "listen: %s: %s", spec->text, what);
}

static void take_turn(int dir_fd)
{
    for (int i = 0; i < TURN_TRIES && flock(dir_fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return;
        g_usleep(TURN_PAUSE);
    }
}

/* True when somebody answers on the socket file. */
static gboolean is_answered(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    gboolean answered = TRUE;

    if (fd < 0)
        return TRUE;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
        (errno == ECONNREFUSED || errno == ENOENT))
        answered = FALSE;
    close(fd);
    return answered;
}

bool listen_unix_is_answered(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    return g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path ||
           is_answered(&address);
}

static gboolean clear_way(const struct listen_spec *spec, const struct sockaddr_un *address,
                          GError **error)
{
    struct stat st;

    if (lstat(spec->path, &st) < 0)
        return TRUE; /* bind() will tell more */
    if (!S_ISSOCK(st.st_mode))
        return complain(error, spec, "is there already, and is no socket; choose another path");
    if (is_answered(address))
        return complain(error, spec,
                        "another server answers there; stop it, or choose another path");
    unlink(spec->path);
    return TRUE;
}

/* The file gets the mode of the socket, less the umask, and so has never another one. */
static gboolean bind_file(int fd, const struct listen_spec *spec, const struct sockaddr_un *address,
                          GError **error)
{
    mode_t mask = umask(0);
    int result = fchmod(fd, spec->mode);

    if (result == 0)
        result = bind(fd, (const struct sockaddr *)address, sizeof *address);
    umask(mask);
    if (result == 0)
        return TRUE;
    return fail_start(error,
                      "listen: %s: %s; does its directory exist, and may the daemon write there?",
                      spec->text, g_strerror(errno));
}

/* Before listen(2) nobody can connect: owner and mode are there in time. */
static gboolean open_file(struct listener *listener, const struct listen_spec *spec, GError **error)
{
    struct stat st;

    if (fstatat(listener->dir_fd, listener->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return complain(error, spec, "vanished while it was made; did somebody remove it?");
    listener->dev = st.st_dev;
    listener->ino = st.st_ino;
    if ((spec->owner != (uid_t)-1 || spec->group != (gid_t)-1) &&
        fchownat(listener->dir_fd, listener->base, spec->owner, spec->group, AT_SYMLINK_NOFOLLOW) <
            0)
        return fail_start(error, "listen: %s: cannot give it its owner= and group=: %s", spec->text,
                          g_strerror(errno));
    if (listen(listener->fd, BACKLOG) < 0)
        return complain(error, spec, g_strerror(errno));
    return TRUE;
}

static gboolean make(struct listener *listener, const struct listen_spec *spec, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *dir = g_path_get_dirname(spec->path);
    gboolean fine;

    memcpy(address.sun_path, spec->path, strlen(spec->path) + 1);
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0)
        return complain(error, spec, g_strerror(errno));
    /* Held, as the path may lead elsewhere at the end: other mounts, another working directory. */
    listener->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listener->dir_fd >= 0)
        take_turn(listener->dir_fd);
    else
        listener->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    fine = clear_way(spec, &address, error) && bind_file(listener->fd, spec, &address, error);
    if (fine && !open_file(listener, spec, error)) {
        listen_unix_remove(listener);
        fine = FALSE;
    }
    flock(listener->dir_fd, LOCK_UN);
    return fine;
}

struct listener *listen_unix_open(const struct listen_spec *spec, GError **error)
{
    struct listener *listener = g_new0(struct listener, 1);

    listener->fd = listener->dir_fd = -1;
    listener->name = g_strdup(spec->text);
    listener->base = g_path_get_basename(spec->path);
    if (!make(listener, spec, error)) {
        listener_free(listener);
        return NULL;
    }
    return listener;
}

void listen_unix_remove(struct listener *listener)
{
    struct stat st;

    if (listener->dir_fd < 0)
        return;
    take_turn(listener->dir_fd);
    if (fstatat(listener->dir_fd, listener->base, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == listener->dev && st.st_ino == listener->ino)
        unlinkat(listener->dir_fd, listener->base, 0);
    flock(listener->dir_fd, LOCK_UN);
}
