/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which filesystem a served file is on: a table from (mount, st_dev, subvolume) to fs number for
 * each export, kept true by a watch on mountinfo. Knows nothing of qids.
 */
#ifndef MOUNT_H
#define MOUNT_H

#include <glib.h>
#include <sys/stat.h>

#include "store/qidmap.h"

/* What is done about the filesystems below an export. */
enum mount_mode {
    MOUNT_REGISTER,  /* every one gets a number */
    MOUNT_ROOT_ONLY, /* that of the root alone; the others are refused */
    MOUNT_LOOK_ONLY  /* none: there is no store */
};

/* What the operator chose for an export. */
struct mount_settings {
    gboolean distinct;    /* bind=distinct: each mount is a tree of its own */
    guint32 on_duplicate; /* enum qidmap_on_duplicate */
    gboolean markers;
    gboolean split_weak;
};

/* Where the d_ino of a directory entry equals the st_ino of the file. */
enum mount_trust {
    MOUNT_TRUST_NONE,
    MOUNT_TRUST_ALL,  /* everywhere but at mount points */
    MOUNT_TRUST_BTRFS /* there, and not for directories either: they may be subvolumes */
};

/* What the table says about one file. */
struct mount_entry {
    guint32 fs;       /* 0 where refused, and with MOUNT_LOOK_ONLY */
    guint8 policy;    /* enum qidmap_policy; 0 where fs is 0 */
    guint8 trust;     /* enum mount_trust */
    gboolean refused; /* not on the root's filesystem with MOUNT_ROOT_ONLY, or a duplicate */
    gboolean btrfs;
    gboolean overlay;
    gboolean other_dev; /* overlay: st_dev is not that of the mount, st_ino that of a layer */
};

/* What a name in a directory is. */
enum mount_name {
    MOUNT_NAME_PLAIN, /* no mount point */
    MOUNT_NAME_KNOWN, /* a mount point; its root is known */
    MOUNT_NAME_LOOK,  /* a mount point that must be looked at */
    MOUNT_NAME_SILENT /* a mount point of a filesystem that does not answer */
};

/* One file of a batch. */
struct mount_question {
    int fd;                   /* the file, open; -1 where `name` is given */
    const struct statx *stx;  /* with STATX_MNT_ID */
    struct mount_entry entry; /* out, where result is 0 */
    int result;               /* out: 0 or a negative errno */
};

struct mount_watch;
struct mount_export;

/* `overrides`: "PATH=UUID" strings, NULL-terminated, may be NULL. */
struct mount_watch *mount_watch_new(char *const *overrides, GError **error);

/* Before mount_watch_start(), or while held. `name` and `root_fd` are borrowed until
 * mount_watch_remove() or mount_watch_free(); `settings` is copied. */
struct mount_export *mount_watch_add(struct mount_watch *watch, const char *name, int root_fd,
                                     enum mount_mode mode, const struct mount_settings *settings);

/* Before mount_watch_start(), or while held, for what was just added: the store of an export,
 * borrowed. */
void mount_export_set_store(struct mount_export *exp, qidmap_store *store);

/* Resolves all mounts below all exports and begins to watch. */
gboolean mount_watch_start(struct mount_watch *watch, GError **error);

/* While held: resolves all mounts below exports that were added after the start, of which there are
 * `count`, the last ones. Where that fails they are to be removed. */
gboolean mount_watch_admit(struct mount_watch *watch, guint count, GError **error);

/* While held: ends an export that nobody asks about, and frees it. */
void mount_watch_remove(struct mount_watch *watch, struct mount_export *exp);

/* While held: forgets stores that no export has any more. */
void mount_watch_forget_stores(struct mount_watch *watch);

/* For an administrator's verb, any thread: between the two nothing is registered, and what is met
 * on mounts that are not in the table waits. */
void mount_watch_hold(struct mount_watch *watch);
void mount_watch_resume(struct mount_watch *watch);

/* While held: whether files of the filesystem `fs` can be met below the export. */
gboolean mount_export_serves(const struct mount_export *exp, guint32 fs);

/* While held: forgets which number the filesystem `fs` has below the export (0: all of them). It is
 * found out anew by mount_watch_renew(). */
void mount_export_forget(struct mount_export *exp, guint32 fs);

/* While held: the export has another store, of which nothing is known yet; NULL: none. */
void mount_export_change_store(struct mount_export *exp, qidmap_store *store);

/* While held: looks at all mounts, and registers what has no number. 0 or a negative errno: the
 * watch tries again. */
int mount_watch_renew(struct mount_watch *watch);

/* Ends the watch. NULL is allowed. Exports are freed with it. */
void mount_watch_free(struct mount_watch *watch);

/* What is served from `store` now: struct qidmap_live, to be freed. With the watch held. */
GArray *mount_watch_live(struct mount_watch *watch, qidmap_store *store);

/* Looks up the file that `stx` (STATX_MNT_ID included) describes: `name` in the directory `fd`, or
 * `fd` itself where it is "". FALSE where it is not in the table, or the table is being renewed.
 * Never waits. What is found is true as long as the caller holds the file open; else the caller
 * asks again with it open when something matters. */
gboolean mount_find(struct mount_export *exp, int fd, const char *name, const struct statx *stx,
                    struct mount_entry *entry);

/* The same with the file open as `fd`: what is not in the table is identified and added, within a
 * limited time. 0 or a negative errno: -EIO where its filesystem does not answer. */
int mount_lookup(struct mount_export *exp, int fd, const struct statx *stx,
                 struct mount_entry *entry);

/* Many of them, registered together. */
void mount_lookup_many(struct mount_export *exp, struct mount_question *questions, gsize count);

/* As mount_lookup(), for a directory that is to be listed: what it and mount_name() say is true of
 * this moment. */
int mount_lookup_dir(struct mount_export *exp, int fd, const struct statx *stx,
                     struct mount_entry *entry);

/* Whether `name` in the directory that `dir` describes is a mount point; *root gets the statx of
 * what is mounted there where that is known. Touches nothing. */
/* Whether that may be anything but PLAIN for any name in the directory. */
gboolean mount_names_in(struct mount_export *exp, const struct statx *dir);
enum mount_name mount_name_find(struct mount_export *exp, const struct statx *dir, const char *name,
                                struct statx *root);

/* Name of the filesystem of `stx` for people, for example "ext4 /dev/sdb1 on /srv/b". To be freed.
 */
char *mount_describe(struct mount_export *exp, const struct statx *stx);

#endif
