/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads, checks and writes markers; marker.h has the bytes. Which filesystem gets one is not its
 * business.
 */
#include "config.h"

#include "store/marker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/error.h"
#include "store/identity.h"
#include "store/mountinfo.h"
#include "store/patience.h"
#include "store/view.h"

static const char magic[4] = {'Q', 'I', 'D', 'K'};

static void put_le(guint8 *at, guint64 value, guint size)
{
    for (guint i = 0; i < size; i++)
        at[i] = (guint8)(value >> 8 * i);
}

static guint64 get_le(const guint8 *at, guint size)
{
    guint64 value = 0;

    for (guint i = 0; i < size; i++)
        value |= (guint64)at[i] << 8 * i;
    return value;
}

void qm_marker_encode(const struct qm_marker *marker, guint8 bytes[QM_MARKER_SIZE])
{
    memcpy(bytes, magic, 4);
    put_le(bytes + 4, 1, 4);
    memcpy(bytes + 8, marker->uuid, 16);
    put_le(bytes + 24, marker->ino, 8);
    put_le(bytes + 32, marker->gen, 4);
    put_le(bytes + 36, qm_crc32c(0, bytes, 36), 4);
}

const char *qm_marker_decode(const guint8 *bytes, gsize size, guint64 ino, guint32 gen,
                             struct qm_marker *marker)
{
    static const guint8 zero[16];

    if (size != QM_MARKER_SIZE || memcmp(bytes, magic, 4) != 0)
        return "the xattr is no marker";
    if (get_le(bytes + 4, 4) != 1)
        return "a marker of another version";
    if (get_le(bytes + 36, 4) != qm_crc32c(0, bytes, 36))
        return "a damaged marker";
    if (memcmp(bytes + 8, zero, 16) == 0)
        return "a marker without uuid";
    if (get_le(bytes + 24, 8) != ino || get_le(bytes + 32, 4) != gen)
        return "a marker that was copied from another root";
    memcpy(marker->uuid, bytes + 8, 16);
    marker->ino = ino;
    marker->gen = gen;
    return NULL;
}

int qm_marker_root(int root, gboolean is_fuse, struct statx *stx, guint32 *gen)
{
    char link[64];
    int generation = 0;

    if (statx(root, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, stx) != 0)
        return -errno;
    *gen = 0;
    if (is_fuse) /* an ioctl would be answered by whoever wrote the server */
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", root);
    int fd = open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (ioctl(fd, FS_IOC_GETVERSION, &generation) == 0)
        *gen = (guint32)generation;
    close(fd);
    return 0;
}

static int read_self(int root, gboolean is_fuse, struct qm_marker *self)
{
    struct statx stx;

    memset(self, 0, sizeof *self);
    int rc = qm_marker_root(root, is_fuse, &stx, &self->gen);
    self->ino = rc == 0 ? stx.stx_ino : 0;
    return rc;
}

int qm_marker_read(int root, gboolean is_fuse, struct qm_marker *marker, const char **why)
{
    const char *const names[] = {is_fuse ? QM_MARKER_FUSE_TRUSTED : QM_MARKER_TRUSTED,
                                 is_fuse ? QM_MARKER_FUSE_USER : QM_MARKER_USER};
    guint8 bytes[QM_MARKER_SIZE + 1];
    struct qm_marker self;
    gboolean have_self = FALSE;
    char link[64];

    *why = "no marker";
    snprintf(link, sizeof link, "/proc/self/fd/%d", root);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        ssize_t size = getxattr(link, names[i], bytes, sizeof bytes);
        if (size < 0 && errno == ERANGE) {
            *why = "the xattr is no marker";
            continue;
        }
        if (size < 0)
            continue;
        if (!have_self) { /* asked for only where there is a marker */
            int rc = read_self(root, is_fuse, &self);
            if (rc < 0)
                return rc;
            have_self = TRUE;
        }
        *why = qm_marker_decode(bytes, (gsize)size, self.ino, self.gen, marker);
        if (*why == NULL)
            return 0;
    }
    return -ENODATA;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What the writing thread needs and finds. */
struct job {
    int root;
    gboolean is_fuse;
    gboolean keep; /* one that has come since takes its place */
    int result;
    struct qm_marker marker;
};

static void job_free(void *data)
{
    struct job *job = data;
    close(job->root);
    g_free(job);
}

static int write_marker(struct job *job)
{
    struct qm_marker back;
    guint8 bytes[QM_MARKER_SIZE];
    const char *why;
    char link[64];
    const char *trusted = job->is_fuse ? QM_MARKER_FUSE_TRUSTED : QM_MARKER_TRUSTED;
    const char *user = job->is_fuse ? QM_MARKER_FUSE_USER : QM_MARKER_USER;
    int rc;

    if (job->keep && qm_marker_read(job->root, job->is_fuse, &job->marker, &why) == 0)
        return 0;
    rc = read_self(job->root, job->is_fuse, &job->marker);
    if (rc < 0)
        return rc;
    if (getrandom(job->marker.uuid, sizeof job->marker.uuid, 0) != sizeof job->marker.uuid)
        return errno != 0 ? -errno : -EIO;
    qm_marker_encode(&job->marker, bytes);
    snprintf(link, sizeof link, "/proc/self/fd/%d", job->root);
    if (setxattr(link, trusted, bytes, sizeof bytes, 0) == 0) {
        removexattr(link, user);
    } else {
        if (errno != EPERM && errno != EACCES && errno != EOPNOTSUPP)
            return -errno;
        if (setxattr(link, user, bytes, sizeof bytes, 0) != 0)
            return -errno;
    }
    int fd = open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) { /* a row that counts on it may be on the disk soon */
        rc = fsync(fd) != 0 && errno != EINVAL && errno != ENOSYS ? -errno : 0;
        close(fd);
        if (rc < 0)
            return rc;
    }
    /* Some filesystems accept an xattr and keep nothing; another marker may stand before ours. */
    if (qm_marker_read(job->root, job->is_fuse, &back, &why) < 0 ||
        memcmp(back.uuid, job->marker.uuid, 16) != 0)
        return -EOPNOTSUPP;
    return 0;
}

static void job_run(void *data)
{
    struct job *job = data;
    job->result = write_marker(job);
}

static int fail(struct qidmap_error *error, int code, const char *path)
{
    const char *hint = "";

    if (code == -ENODEV)
        hint = "; no mount shows the root of the filesystem";
    else if (code == -EOPNOTSUPP)
        hint = "; it keeps no extended attributes";
    if (error != NULL) {
        error->code = code;
        snprintf(error->text, sizeof error->text, "%s: cannot write a marker: %s%s", path,
                 g_strerror(-code), hint);
    }
    return code;
}

/* A marker identifies what nothing but names did. */
static void note(struct qidmap_identity *identity, const guint8 uuid[16])
{
    struct qidmap_fsid marker = {.kind = QIDMAP_FSID_MARKER, .size = 16};
    struct qidmap_fsid old[QIDMAP_FSID_COUNT];
    guint32 count = MIN(identity->count, QIDMAP_FSID_COUNT), n = 0;
    gboolean needed = TRUE;

    memcpy(identity->hints.marker, uuid, 16);
    for (guint32 i = 0; i < count; i++) {
        guint32 kind = identity->fsid[i].kind;
        if (kind == QIDMAP_FSID_MARKER)
            continue;
        old[n++] = identity->fsid[i];
        needed = needed && (kind == QIDMAP_FSID_WEAK || kind == QIDMAP_FSID_OVERRIDE);
    }
    if (!needed)
        return;
    memcpy(marker.bytes, uuid, 16);
    identity->count = 0;
    for (guint32 i = 0; i < n && old[i].kind == QIDMAP_FSID_OVERRIDE; i++)
        identity->fsid[identity->count++] = old[i];
    identity->fsid[identity->count++] = marker;
    for (guint32 i = 0; i < n && identity->count < QIDMAP_FSID_COUNT; i++) {
        if (old[i].kind != QIDMAP_FSID_OVERRIDE)
            identity->fsid[identity->count++] = old[i];
    }
    identity->flags &= ~(guint32)QIDMAP_IDENTITY_WEAK;
}

int qm_mark(int fd, struct qidmap_identity *identity, struct qidmap_error *error)
{
    static const guint8 zero[16];
    g_autoptr(GPtrArray) mounts = qm_view_mounts();
    struct qm_probe probe;
    int seen, rc;

    if (mounts == NULL)
        return fail(error, -ENODEV, "/proc/self/mountinfo");
    seen = qm_view_find(mounts, fd);
    if (seen < 0)
        return fail(error, seen, "the file");
    rc = qm_probe_init(&probe, seen, mounts);
    if (rc < 0) {
        close(seen);
        return fail(error, rc, "the file");
    }
    const char *path = probe.mount->path;
    int root = -ENODEV;
    if (probe.mount->readonly)
        rc = -EROFS;
    else if ((root = qm_probe_root(&probe)) < 0)
        rc = root;
    else {
        struct job *job = g_new0(struct job, 1);
        job->root = root;
        job->is_fuse = probe.is_fuse;
        job->keep = probe.is_fuse && memcmp(identity->hints.marker, zero, sizeof zero) == 0;
        rc = qm_patiently(job_run, job, job_free, QM_PATIENCE_MS);
        if (rc == 0) {
            rc = job->result;
            if (rc == 0)
                note(identity, job->marker.uuid);
            job_free(job);
        }
    }
    qm_probe_clear(&probe);
    close(seen);
    return rc < 0 ? fail(error, rc, path) : 0;
}
