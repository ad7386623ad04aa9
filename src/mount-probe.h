/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at filesystems in helper threads, within a limited time each: a mount that answers nobody
 * costs a thread, and holds up none of ours. What is known of it by then is told; when it answers
 * at last, the owner is woken up to ask again.
 *
 * For one thread at a time, the watcher.
 */
#ifndef MOUNT_PROBE_H
#define MOUNT_PROBE_H

#include <glib.h>
#include <sys/stat.h>

#include "store/qidmap.h"

struct mount_prober;

/* One look. Filled by its owner, and not touched by him while mount_probe_run() runs. */
struct mount_job {
    /* in; owned by the job */
    int fd;         /* the export's root, or without `below` the file itself */
    char *below;    /* path from there, NULL: `fd` itself */
    char *path;     /* for people and overrides, may be NULL */
    guint64 id;     /* of the mount that must be found there, 0: any */
    guint64 holder; /* of the directory that has the mount point, 0: not wanted */
    char *tree;     /* with bind=distinct */
    char *key;      /* what is being looked at: one look at a time at each */
    gboolean has_override;
    guint8 override[16];

    /* out */
    int result;       /* 0, -ETIMEDOUT: no answer, or what went wrong */
    gboolean found;   /* the mount is where it should be */
    gboolean has_dir; /* dir is filled: the directory that has the mount point */
    struct statx dir;
    struct statx stx; /* of what was looked at */
    guint64 subvol;   /* btrfs */
    gboolean needs_subvol;
    gboolean handles;                 /* it has file handles */
    int open_fd;                      /* of it; taken over by the owner, -1 then */
    struct qidmap_identity *identity; /* taken over by the owner, NULL then */
    struct qidmap_error error;

    /* of the prober */
    gint refs;
    gint state;
    gint64 started;
};

/* `wake`: an eventfd that is written to when a filesystem answers that did not; a copy is made. */
struct mount_prober *mount_prober_new(int wake);

/* Helpers that wait for a filesystem still are left behind. NULL is allowed. */
void mount_prober_free(struct mount_prober *prober);

struct mount_job *mount_job_new(int fd);
void mount_job_unref(struct mount_job *job);

/* Does all jobs, and returns when each is done or its time is over. */
void mount_probe_run(struct mount_prober *prober, GPtrArray *jobs);

/* Whether something answered that had not, since the last call. */
gboolean mount_prober_has_late(struct mount_prober *prober);

#endif
