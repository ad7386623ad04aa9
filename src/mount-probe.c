/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The helpers. A job belongs to two: to its owner, and to the helper that is at it; whoever lets go
 * last frees it. A job whose time is over is disowned: its helper throws away what it finds, and
 * tells the owner that a new look will be answered.
 *
 * Paths are opened below the export's root without following anything, and count only when the
 * mount id is the one that mountinfo gave: a guest may rename things meanwhile.
 */
#include "config.h"

#include "src/mount-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "src/mount-table.h"

#define HELPERS_MAX 4
#define LIMIT_US    (2 * 1000 * 1000)
#define BTRFS_MAGIC 0x9123683e

enum { QUEUED, RUNNING, DONE, DISOWNED };

struct mount_prober {
    gint refs;
    int wake;
    pthread_mutex_t lock; /* all below, and the states and results of jobs */
    pthread_cond_t changed;
    GQueue queue;    /* struct mount_job, owned */
    GPtrArray *hung; /* struct mount_job, disowned; a reference of each is the helper's */
    guint helpers;   /* that are not stuck */
    gboolean late;
};

struct mount_job *mount_job_new(int fd)
{
    struct mount_job *job = g_new0(struct mount_job, 1);

    job->fd = fd;
    job->open_fd = -1;
    job->refs = 1;
    job->state = DONE;
    return job;
}

void mount_job_unref(struct mount_job *job)
{
    if (job == NULL || !g_atomic_int_dec_and_test(&job->refs))
        return;
    if (job->fd >= 0)
        close(job->fd);
    if (job->open_fd >= 0)
        close(job->open_fd);
    g_free(job->below);
    g_free(job->path);
    g_free(job->tree);
    g_free(job->key);
    g_free(job->identity);
    g_free(job);
}

static struct mount_prober *prober_ref(struct mount_prober *prober)
{
    g_atomic_int_inc(&prober->refs);
    return prober;
}

static void prober_unref(struct mount_prober *prober)
{
    if (!g_atomic_int_dec_and_test(&prober->refs))
        return;
    g_ptr_array_unref(prober->hung);
    close(prober->wake);
    pthread_mutex_destroy(&prober->lock);
    pthread_cond_destroy(&prober->changed);
    g_free(prober);
}

struct mount_prober *mount_prober_new(int wake)
{
    struct mount_prober *prober = g_new0(struct mount_prober, 1);
    pthread_condattr_t attr;

    prober->refs = 1;
    prober->wake = fcntl(wake, F_DUPFD_CLOEXEC, 0);
    prober->hung = g_ptr_array_new();
    g_queue_init(&prober->queue);
    pthread_mutex_init(&prober->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&prober->changed, &attr);
    pthread_condattr_destroy(&attr);
    return prober;
}

void mount_prober_free(struct mount_prober *prober)
{
    if (prober != NULL)
        prober_unref(prober);
}

/* ---- one look -------------------------------------------------------------------------------- */

static int open_below(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd;

    do
        fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    return fd;
}

/* What the keys of tables are made of, and the mount id of mountinfo. */
static gboolean look(int fd, struct statx *stx, guint64 *old_id)
{
    struct statx old;
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

    if (statx(fd, "", flags, STATX_TYPE | STATX_MNT_ID, &old) != 0 ||
        !(old.stx_mask & STATX_MNT_ID) ||
        statx(fd, "", flags, STATX_BASIC_STATS | STATX_MNT_ID | STATX_MNT_ID_UNIQUE | STATX_SUBVOL,
              stx) != 0)
        return FALSE;
    *old_id = old.stx_mnt_id;
    return TRUE;
}

/* The directory that has the mount point: found before the mount is touched. */
static void find_dir(struct mount_prober *prober, struct mount_job *job)
{
    g_autofree char *name = g_path_get_dirname(job->below);
    struct statx stx;
    guint64 id;
    int fd = open_below(job->fd, name);

    if (fd >= 0 && look(fd, &stx, &id) && id == job->holder) {
        pthread_mutex_lock(&prober->lock);
        job->dir = stx;
        job->has_dir = TRUE;
        pthread_mutex_unlock(&prober->lock);
    }
    if (fd >= 0)
        close(fd);
}

static void identify(struct mount_job *job, int fd)
{
    struct qidmap_identify_options options = {.size = sizeof options};
    struct statfs fs;

    if (job->has_override)
        options.override_uuid = job->override;
    options.tree = job->tree;
    job->identity = g_new0(struct qidmap_identity, 1);
    job->identity->size = sizeof *job->identity;
    job->result = qidmap_identify(fd, &options, job->identity, &job->error);
    if (job->result < 0)
        return;
    if (strcmp(job->identity->hints.type, "btrfs") != 0)
        return;
    job->subvol = mount_stx_subvol(&job->stx);
    if (job->subvol == 0 && fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_MAGIC) {
        job->subvol = mount_handle_subvol(fd, "");
        job->needs_subvol = job->subvol != 0;
    }
}

static void work(struct mount_prober *prober, struct mount_job *job)
{
    guint64 id;
    int fd;

    if (job->below != NULL) {
        if (job->holder != 0)
            find_dir(prober, job);
        fd = open_below(job->fd, job->below);
    } else {
        fd = fcntl(job->fd, F_DUPFD_CLOEXEC, 0);
    }
    if (fd < 0) {
        job->result = -errno;
        return;
    }
    job->open_fd = fd;
    if (!look(fd, &job->stx, &id))
        job->result = errno != 0 ? -errno : -ENODEV;
    else if (job->id != 0 && id != job->id)
        job->result = -EXDEV; /* covered by another mount, or moved */
    else {
        job->found = TRUE;
        identify(job, fd);
    }
}

/* ---- helpers --------------------------------------------------------------------------------- */

static gpointer helper_main(gpointer data)
{
    struct mount_prober *prober = data;

    pthread_mutex_lock(&prober->lock);
    for (;;) {
        struct mount_job *job = g_queue_pop_head(&prober->queue);
        if (job == NULL)
            break;
        job->state = RUNNING;
        job->started = g_get_monotonic_time();
        pthread_mutex_unlock(&prober->lock);
        work(prober, job);
        pthread_mutex_lock(&prober->lock);
        if (job->state == DISOWNED) {
            g_ptr_array_remove_fast(prober->hung, job);
            prober->late = TRUE;
            eventfd_write(prober->wake, 1);
            pthread_mutex_unlock(&prober->lock);
            mount_job_unref(job);
            prober_unref(prober);
            return NULL;
        }
        job->state = DONE;
        pthread_cond_broadcast(&prober->changed);
        mount_job_unref(job);
    }
    prober->helpers--;
    pthread_mutex_unlock(&prober->lock);
    prober_unref(prober);
    return NULL;
}

/* With the lock held. */
static void start_helpers(struct mount_prober *prober, guint jobs)
{
    while (prober->helpers < MIN(HELPERS_MAX, jobs)) {
        prober->helpers++;
        g_thread_unref(g_thread_new("mount-probe", helper_main, prober_ref(prober)));
    }
}

static const struct mount_job *find_hung(const struct mount_prober *prober, const char *key)
{
    for (guint i = 0; i < prober->hung->len; i++) {
        const struct mount_job *job = g_ptr_array_index(prober->hung, i);
        if (strcmp(job->key, key) == 0)
            return job;
    }
    return NULL;
}

/* Disowns what had its time; returns how many are still to come, and when to look again. */
static guint check_times(struct mount_prober *prober, GPtrArray *jobs, gint64 *next)
{
    gint64 now = g_get_monotonic_time();
    guint more = 0;

    *next = now + LIMIT_US;
    for (guint i = 0; i < jobs->len; i++) {
        struct mount_job *job = g_ptr_array_index(jobs, i);
        if (job->state == RUNNING && now - job->started >= LIMIT_US) {
            struct mount_job *told = mount_job_new(-1); /* what the owner keeps */
            told->path = g_strdup(job->path);
            told->below = g_strdup(job->below);
            told->id = job->id;
            told->result = -ETIMEDOUT;
            told->started = job->started;
            told->has_dir = job->has_dir;
            told->dir = job->dir;
            told->key = g_strdup(job->key);
            job->state = DISOWNED;
            g_ptr_array_add(prober->hung, job);
            prober->helpers--;
            jobs->pdata[i] = told;
            mount_job_unref(job);
        } else if (job->state == QUEUED || job->state == RUNNING) {
            more++;
            if (job->state == RUNNING)
                *next = MIN(*next, job->started + LIMIT_US);
        }
    }
    return more;
}

void mount_probe_run(struct mount_prober *prober, GPtrArray *jobs)
{
    gint64 next;
    guint more;

    pthread_mutex_lock(&prober->lock);
    for (guint i = 0; i < jobs->len; i++) {
        struct mount_job *job = g_ptr_array_index(jobs, i);
        const struct mount_job *hung = find_hung(prober, job->key);
        if (hung != NULL) {
            job->result = -ETIMEDOUT;
            job->has_dir = hung->has_dir;
            job->dir = hung->dir;
            continue;
        }
        job->state = QUEUED;
        g_atomic_int_inc(&job->refs);
        g_queue_push_tail(&prober->queue, job);
    }
    while ((more = check_times(prober, jobs, &next)) > 0) {
        struct timespec until = {.tv_sec = next / G_USEC_PER_SEC,
                                 .tv_nsec = next % G_USEC_PER_SEC * 1000};
        start_helpers(prober, more);
        pthread_cond_timedwait(&prober->changed, &prober->lock, &until);
    }
    pthread_mutex_unlock(&prober->lock);
}

gboolean mount_prober_has_late(struct mount_prober *prober)
{
    pthread_mutex_lock(&prober->lock);
    gboolean late = prober->late;
    prober->late = FALSE;
    pthread_mutex_unlock(&prober->lock);
    return late;
}
