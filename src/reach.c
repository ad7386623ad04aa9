/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread for each look. One that hangs is left to itself, and frees what it has when it comes
 * back; while it does not, its path is not tried again, so that there is one such thread for each,
 * and a few where a file is to be opened.
 * See reach.h.
 */
#include "config.h"

#include "src/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OPENS_MAX 8 /* that hang at one path */

struct look {
    char *path;
    bool opens;  /* a file, by its path; `fd` is then the result, or a negative errno */
    int fd;      /* or else a file that is open; -1: a directory, by its path; or handed back */
    GArray *fds; /* others that came while it hangs; NULL: none */
    bool done, left;
    struct look *next; /* of those that are left */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all below, and done, left, next */
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT; /* of `changed` */
static struct look *hung;
static bool stopping;

static void init(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    pthread_condattr_destroy(&attr);
}

static void look_free(struct look *look)
{
    if (look->fd >= 0)
        close(look->fd);
    for (guint i = 0; look->fds != NULL && i < look->fds->len; i++)
        close(g_array_index(look->fds, int, i));
    if (look->fds != NULL)
        g_array_free(look->fds, TRUE);
    g_free(look->path);
    g_free(look);
}

/* Asks its server for each of its parts, for its attributes, and for its content. */
static void look_at_dir(const char *path)
{
    char *real = realpath(path, NULL);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    free(real);
    if (fd < 0)
        return;
    if (fstat(fd, &st) != 0) {
        /* Who opens it will say so. */
    }
    close(fd);
}

static void look_at_file(int fd)
{
    struct stat st;
    char byte;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && pread(fd, &byte, 1, 0) < 0) {
        /* Who reads it will say so. */
    }
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    return fd >= 0 ? fd : -errno;
}

static void *look_main(void *data)
{
    struct look *look = data;
    bool left;

    if (look->opens)
        look->fd = open_file(look->path);
    else if (look->fd < 0)
        look_at_dir(look->path);
    if (look->fd >= 0)
        look_at_file(look->fd);
    pthread_mutex_lock(&lock);
    left = look->left;
    look->done = true;
    for (struct look **at = &hung; left && *at != NULL; at = &(*at)->next)
        if (*at == look) {
            *at = look->next;
            break;
        }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (left)
        look_free(look);
    return NULL;
}

/* With the lock held. NULL: none. */
static struct look *find_hung(const char *path)
{
    struct look *look = hung;

    while (look != NULL && strcmp(look->path, path) != 0)
        look = look->next;
    return look;
}

/* With the lock held. A link to a dead filesystem may lead elsewhere by now, so that a file is
 * tried again; but not without end. */
static bool may_try_again(const char *path, bool opens)
{
    unsigned count = 0;

    for (const struct look *look = hung; look != NULL; look = look->next)
        count += strcmp(look->path, path) == 0;
    return count == 0 || (opens && count < OPENS_MAX);
}

/* With the lock held. */
static void leave_fd(struct look *look, int fd)
{
    if (look->fds == NULL)
        look->fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_val(look->fds, fd);
}

static int begin(struct look *look)
{
    pthread_attr_t attr;
    pthread_t thread;
    int failed;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&thread, &attr, look_main, look);
    pthread_attr_destroy(&attr);
    return -failed;
}

/* With the lock held. Lets go of the look, and frees it where it is done. 0, or what was opened. */
static int wait_for(struct look *look)
{
    struct timespec end;
    int error = 0, result;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += REACH_SECONDS;
    while (!look->done && !stopping && error == 0)
        error = -pthread_cond_timedwait(&changed, &lock, &end);
    if (look->done) {
        result = look->opens ? look->fd : 0;
        look->fd = -1;
        look_free(look);
        return result;
    }
    look->left = true;
    look->next = hung;
    hung = look;
    return stopping ? -ECANCELED : -ETIMEDOUT;
}

static int reach(const char *path, bool opens, int fd)
{
    struct look *look, *before;
    int result;

    pthread_once(&once, init);
    look = g_new0(struct look, 1);
    look->path = g_strdup(path);
    look->opens = opens;
    look->fd = fd;
    pthread_mutex_lock(&lock);
    before = find_hung(path);
    if (before != NULL && fd >= 0) {
        leave_fd(before, fd);
        look->fd = -1;
    }
    result = stopping ? -ECANCELED : may_try_again(path, opens) ? begin(look) : -ETIMEDOUT;
    if (result != 0)
        look_free(look);
    else
        result = wait_for(look);
    pthread_mutex_unlock(&lock);
    return result;
}

int reach_dir(const char *path)
{
    return reach(path, false, -1);
}

int reach_file(const char *path, int fd)
{
    return reach(path, false, fd);
}

int reach_open(const char *path)
{
    return reach(path, true, -1);
}

void reach_stop(void)
{
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}
