/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Tgetattr tag fid[4] request_mask[8]
 *   Rgetattr tag valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8]
 * blocks[8] atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8] ctime_sec[8] ctime_nsec[8]
 *            btime_sec[8] btime_nsec[8] gen[8] data_version[8]
 *   Tsetattr tag fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8]
 *            mtime_sec[8] mtime_nsec[8]                             Rsetattr tag
 *   Tstatfs  tag fid[4]
 *   Rstatfs  tag type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4]
 *   Treadlink tag fid[4]                                            Rreadlink tag target[s]
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "src/op.h"
#include "src/security.h"

#define GETATTR_SIZE (8 + P9_QID_SIZE + 3 * 4 + 15 * 8) /* of Rgetattr, after the header */

#define TOLD_ALL (STATX_BASIC_STATS | STATX_BTIME)
#define VALID_ALL                                                                                  \
    (P9_GETATTR_MODE | P9_GETATTR_RDEV | P9_GETATTR_NLINK | P9_GETATTR_UID | P9_GETATTR_GID |      \
     P9_GETATTR_ATIME | P9_GETATTR_MTIME | P9_GETATTR_CTIME | P9_GETATTR_INO | P9_GETATTR_SIZE |   \
     P9_GETATTR_BLOCKS | P9_GETATTR_BTIME)

/* What the filesystem told: it may not know all. */
static uint64_t valid_of(const struct statx *stx)
{
    static const struct {
        uint32_t told;
        uint64_t valid;
    } table[] = {
        {STATX_TYPE | STATX_MODE, P9_GETATTR_MODE | P9_GETATTR_RDEV},
        {STATX_NLINK, P9_GETATTR_NLINK},
        {STATX_UID, P9_GETATTR_UID},
        {STATX_GID, P9_GETATTR_GID},
        {STATX_ATIME, P9_GETATTR_ATIME},
        {STATX_MTIME, P9_GETATTR_MTIME},
        {STATX_CTIME, P9_GETATTR_CTIME},
        {STATX_INO, P9_GETATTR_INO},
        {STATX_SIZE, P9_GETATTR_SIZE},
        {STATX_BLOCKS, P9_GETATTR_BLOCKS},
        {STATX_BTIME, P9_GETATTR_BTIME},
    };
    uint64_t valid = 0;

    if ((stx->stx_mask & TOLD_ALL) == TOLD_ALL) /* as nearly all do */
        return VALID_ALL;
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if ((stx->stx_mask & table[i].told) == table[i].told)
            valid |= table[i].valid;
    return valid;
}

/* As the client's kernel packs device numbers: 12 bits of major, 20 of minor (new_encode_dev). */
static uint64_t wire_rdev(uint32_t major, uint32_t minor)
{
    return (minor & 0xff) | ((uint64_t)major << 8) | ((uint64_t)(minor & ~0xffu) << 12);
}

int op_getattr(struct request *request)
{
    struct wire_out *out = &request->out;
    struct fid *fid = op_fid(request);
    uint64_t valid, change;
    uint8_t *at;
    struct statx stx;
    struct qid qid;
    uint32_t gen = 0;
    int error = op_check_file(fid);

    if (error == 0)
        error = fid_qid(fid, &stx, &qid);
    if (error != 0)
        return error;
    valid = valid_of(&stx);
    if ((request->msg.mask & P9_GETATTR_GEN) && qid_generation(fid->fd, &stx, &gen))
        valid |= P9_GETATTR_GEN;
    /* Every change of data or attributes moves ctime, at its granularity. */
    change = (uint64_t)stx.stx_ctime.tv_sec * 1000000000u + stx.stx_ctime.tv_nsec;
    if (request->msg.mask & P9_GETATTR_DATA_VERSION)
        valid |= P9_GETATTR_DATA_VERSION;
    at = wire_room(out, GETATTR_SIZE);
    if (at == NULL)
        return -EMSGSIZE;
    at = wire_at64(at, valid);
    at = wire_at_qid(at, &qid);
    at = wire_at32(at, stx.stx_mode);
    at = wire_at32(at, stx.stx_uid);
    at = wire_at32(at, stx.stx_gid);
    at = wire_at64(at, stx.stx_nlink);
    at = wire_at64(at, wire_rdev(stx.stx_rdev_major, stx.stx_rdev_minor));
    at = wire_at64(at, stx.stx_size);
    at = wire_at64(at, stx.stx_blksize);
    at = wire_at64(at, stx.stx_blocks);
    at = wire_at64(at, (uint64_t)stx.stx_atime.tv_sec);
    at = wire_at64(at, stx.stx_atime.tv_nsec);
    at = wire_at64(at, (uint64_t)stx.stx_mtime.tv_sec);
    at = wire_at64(at, stx.stx_mtime.tv_nsec);
    at = wire_at64(at, (uint64_t)stx.stx_ctime.tv_sec);
    at = wire_at64(at, stx.stx_ctime.tv_nsec);
    at = wire_at64(at, valid & P9_GETATTR_BTIME ? (uint64_t)stx.stx_btime.tv_sec : 0);
    at = wire_at64(at, valid & P9_GETATTR_BTIME ? stx.stx_btime.tv_nsec : 0);
    at = wire_at64(at, gen);
    wire_at64(at, valid & P9_GETATTR_DATA_VERSION ? change : 0);
    return 0;
}

static int set_size(const struct fid *fid, const struct wire_msg *msg)
{
    char path[PATH_PROC_SIZE];
    bool writable = fid->open && (fid->more->open_flags & O_ACCMODE) != O_RDONLY;

    /* An open file may be cut even where its mode would not let us open it now. */
    if (writable)
        return ftruncate(fid->fd, (off_t)msg->length) < 0 ? -errno : 0;
    return truncate(path_proc(fid->fd, path), (off_t)msg->length) < 0 ? -errno : 0;
}

static int one_time(bool wanted, bool given, uint64_t sec, uint64_t nsec, struct timespec *time)
{
    time->tv_sec = 0;
    time->tv_nsec = UTIME_OMIT;
    if (!wanted)
        return 0;
    if (!given) {
        time->tv_nsec = UTIME_NOW;
        return 0;
    }
    if (nsec >= 1000000000)
        return -EINVAL;
    time->tv_sec = (time_t)sec;
    time->tv_nsec = (long)nsec;
    return 0;
}

static int get_times(const struct wire_msg *msg, struct timespec times[2])
{
    int error = one_time(msg->valid & P9_SETATTR_ATIME, msg->valid & P9_SETATTR_ATIME_SET,
                         msg->atime_sec, msg->atime_nsec, &times[0]);

    if (error == 0)
        error = one_time(msg->valid & P9_SETATTR_MTIME, msg->valid & P9_SETATTR_MTIME_SET,
                         msg->mtime_sec, msg->mtime_nsec, &times[1]);
    return error;
}

/* What can never be done is refused before anything is. */
static int check_setattr(const struct fid *fid, const struct wire_msg *msg)
{
    int error = op_check_file(fid);

    if (error != 0)
        return error;
    if (msg->valid & ~P9_SETATTR_ALL)
        return -EINVAL;
    if (fid->export->readonly)
        return -EROFS;
    if ((msg->valid & P9_SETATTR_MODE) && fid->type == S_IFLNK)
        return -EOPNOTSUPP; /* as Linux does */
    if ((msg->valid & P9_SETATTR_SIZE) && fid->type != S_IFREG)
        return fid->type == S_IFDIR ? -EISDIR : -EINVAL;
    if ((msg->valid & P9_SETATTR_SIZE) && msg->length > INT64_MAX)
        return -EFBIG;
    return 0;
}

/* Whether the file was cut just now, and has the mode that is asked for. A client that cuts a file
 * says with it what that does to the mode and the times; cutting does so by itself, and needs no
 * more than to be allowed to write, where chmod(2) is for the owner. */
static bool has_mode(const struct fid *fid, const struct wire_msg *msg)
{
    struct statx stx;

    return (msg->valid & P9_SETATTR_SIZE) && path_statx(fid->fd, &stx) == 0 &&
           fid->export->security->ops->look(fid->fd, &stx, false) == 0 &&
           (stx.stx_mode & 07777) == (msg->mode & 07777);
}

static int set_mode(const struct fid *fid, const struct wire_msg *msg)
{
    int error = fid->export->security->ops->chmod(fid->fd, msg->mode & 07777);

    return error == -EPERM && has_mode(fid, msg) ? 0 : error;
}

static int set_times(const struct fid *fid, const struct wire_msg *msg,
                     const struct timespec times[2])
{
    int error = path_set_times(fid->fd, times);

    if (error == 0)
        return 0;
    /* "now", for one of them alone, is for the owner; see has_mode(). */
    if (error == -EPERM && (msg->valid & P9_SETATTR_SIZE) &&
        !(msg->valid & (P9_SETATTR_ATIME_SET | P9_SETATTR_MTIME_SET)))
        return 0;
    return error;
}

/* There is no one system call for all of it. The parts are done in this order, and what was done
 * before one fails, stays: the owner first, since a change of it clears set-uid bits that the mode
 * may set, and since who may change the owner may change the rest; the times last, as the others
 * move them. */
int op_setattr(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    const struct security_owner owner = {.user = fid->user, .gid = P9_NONUNAME};
    struct timespec times[2];
    int error = check_setattr(fid, msg);

    if (error == 0)
        error = get_times(msg, times);
    if (error != 0)
        return error;
    if (msg->valid & (P9_SETATTR_UID | P9_SETATTR_GID)) {
        error = fid->export->security->ops->chown(
            &owner, fid->fd, msg->valid & P9_SETATTR_UID ? msg->uid : (uid_t)-1,
            msg->valid & P9_SETATTR_GID ? msg->gid : (gid_t)-1);
        if (error == 0)
            error = privs_become(fid->user);
    }
    if (error == 0 && (msg->valid & P9_SETATTR_SIZE))
        error = set_size(fid, msg);
    if (error == 0 && (msg->valid & P9_SETATTR_MODE))
        error = set_mode(fid, msg);
    if (error == 0 && (msg->valid & (P9_SETATTR_ATIME | P9_SETATTR_MTIME)))
        error = set_times(fid, msg, times);
    /* ctime alone: any change moves it; "no owner" is a change that leaves all else alone. */
    if (error == 0 && (msg->valid & P9_SETATTR_ALL) == P9_SETATTR_CTIME)
        error = fchownat(fid->fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH) < 0 ? -errno : 0;
    return error;
}

int op_statfs(struct request *request)
{
    struct wire_out *out = &request->out;
    struct fid *fid = op_fid(request);
    struct statfs fs;
    int error = op_check_file(fid);

    if (error != 0)
        return error;
    if (fstatfs(fid->fd, &fs) < 0)
        return -errno;
    wire_put32(out, P9_STATFS_TYPE);
    wire_put32(out, (uint32_t)fs.f_bsize);
    wire_put64(out, (uint64_t)fs.f_blocks);
    wire_put64(out, (uint64_t)fs.f_bfree);
    wire_put64(out, (uint64_t)fs.f_bavail);
    wire_put64(out, (uint64_t)fs.f_files);
    wire_put64(out, (uint64_t)fs.f_ffree);
    wire_put64(out, (uint64_t)(uint32_t)fs.f_fsid.__val[0] | (uint64_t)(uint32_t)fs.f_fsid.__val[1]
                                                                 << 32);
    wire_put32(out, (uint32_t)MIN(fs.f_namelen, P9_NAME_MAX));
    return 0;
}

int op_readlink(struct request *request)
{
    struct fid *fid = op_fid(request);
    char target[PATH_MAX];
    int error = op_check_file(fid);
    ssize_t n;

    if (error != 0)
        return error;
    if (fid->type != S_IFLNK)
        return -EINVAL;
    n = fid->export->security->ops->readlink(fid->fd, target, sizeof target);
    if (n < 0)
        return (int)n;
    if (n == sizeof target)
        return -ENAMETOOLONG;
    wire_put_str(&request->out, target, (size_t)n);
    return 0;
}
