/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One qid: the path comes from the store by (filesystem, inode), the type from the mode, and the
 * version is a constant, or made from mtime.
 *
 * The version is never 0, which tells Linux guests not to cache, and by default never made from
 * times or sizes: a guest that sees another version builds a second inode for the file. That an
 * inode number was given to another file is told by st_gen. With qid-version=mtime it is made from
 * mtime, as guests with cache=fscache compare it to find out whether what they have on disk is
 * still true.
 *
 * multidevs=warn shows raw inode numbers, as servers do that know of one filesystem only: it has no
 * store, and says once for each export which two filesystems may now be taken for each other.
 *
 * Owns what a qid is made of, for one file; must not know of directories' entries (qid-dir.c).
 */
#include "config.h"

#include "src/qid-export.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "src/privs.h"

uint8_t qid_type_of_mode(mode_t mode)
{
    return S_ISDIR(mode) ? QID_TYPE_DIR : S_ISLNK(mode) ? QID_TYPE_SYMLINK : QID_TYPE_FILE;
}

uint32_t qid_version_of(const struct qid_export *exp, const struct statx *stx)
{
    guint64 time;
    guint32 version;

    if (exp->versions == QID_VERSIONS_STABLE)
        return QID_VERSION_STABLE;
    time = (guint64)stx->stx_mtime.tv_sec * 1000000000u + stx->stx_mtime.tv_nsec;
    version = (guint32)(time ^ time >> 32);
    return version != 0 ? version : QID_VERSION_STABLE;
}

void qid_export_set_versions(struct qid_export *exp, enum qid_versions versions)
{
    exp->versions = versions;
}

static int map_inode(struct qid_export *exp, uint32_t fs, uint64_t ino, uint64_t *path)
{
    qid_count(1);
    int rc = qidmap_find(exp->store, fs, ino, path);

    if (rc != -ENOENT)
        return rc;
    struct privs_pause pause;
    privs_suspend(&pause); /* the store is the daemon's */
    rc = qidmap_map(exp->store, fs, ino, path);
    int error = privs_resume(&pause);
    if (error != 0)
        return error;
    qid_watch_room(exp);
    qid_watch_store(exp, rc);
    return rc;
}

int qid_map_object(struct qid_export *exp, const struct qidmap_object *object, uint64_t *path)
{
    qid_count(1);
    int rc = qidmap_find_object(exp->store, object, path);

    if (rc != -ENOENT)
        return rc;
    struct privs_pause pause;
    privs_suspend(&pause);
    rc = qidmap_map_object(exp->store, object, path);
    int error = privs_resume(&pause);
    if (error != 0)
        return error;
    qid_watch_store(exp, rc);
    return rc;
}

/* Whether ids on this filesystem are made from file handles: because its policy says so, or because
 * an overlay shows a file with the inode number of one of its layers, which may come twice. */
gboolean qid_wants_handle(const struct mount_entry *entry)
{
    return entry->policy == QIDMAP_POLICY_HANDLE ||
           (entry->other_dev && entry->policy == QIDMAP_POLICY_AFFIX);
}

static int map_file(struct qid_export *exp, const struct mount_entry *entry, int fd,
                    const struct statx *stx, uint64_t *path)
{
    struct qidmap_object object;

    if (entry->refused)
        return -ENODEV;
    if (!qid_wants_handle(entry))
        return map_inode(exp, entry->fs, stx->stx_ino, path);
    int rc = qidmap_object_by_handle(entry->fs, fd, "", S_ISDIR(stx->stx_mode) ? 0 : stx->stx_ino,
                                     &object);
    return rc < 0 ? rc : qid_map_object(exp, &object, path);
}

gboolean qid_without_asking(const struct qid_export *exp, mode_t mode, struct qid *qid)
{
    qid->type = qid_type_of_mode(mode);
    qid->version = QID_VERSION_STABLE;
    return exp->versions == QID_VERSIONS_STABLE;
}

int qid_from_stat(struct qid_export *exp, int fd, const struct statx *stx, struct qid *qid)
{
    struct mount_entry entry;
    const struct statx *latest = stx;
    struct statx now;
    uint64_t path = stx->stx_ino;
    int rc = 0;

    if (exp->multidevs == QID_MULTIDEVS_WARN) {
        qid_warn_once(exp, stx);
    } else if (qid_is_placeholder(exp, fd, stx)) {
        rc = qid_map_open_placeholder(exp, fd, stx, &path);
    } else {
        if (!mount_find(exp->mounts, fd, "", stx, &entry)) {
            rc = mount_lookup(exp->mounts, fd, stx, &entry);
            /* The root of a FUSE mount has its own number only once somebody has asked for it. */
            if (rc == 0 && statx(fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, &now) != 0)
                rc = -errno;
            latest = &now;
        }
        if (rc == 0)
            rc = map_file(exp, &entry, fd, latest, &path);
    }
    if (rc < 0)
        return rc;
    qid->type = qid_type_of_mode(stx->stx_mode);
    qid->version = qid_version_of(exp, stx);
    qid->path = path;
    return 0;
}
