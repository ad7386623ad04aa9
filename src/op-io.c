/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Tlopen   tag fid[4] flags[4]                                 Rlopen   tag qid[13] iounit[4]
 *   Tlcreate tag fid[4] name[s] flags[4] mode[4] gid[4]          Rlcreate tag qid[13] iounit[4]
 *   Tread    tag fid[4] offset[8] count[4]                       Rread    tag count[4] data
 *   Twrite   tag fid[4] offset[8] count[4] data                  Rwrite   tag count[4]
 *   Tfsync   tag fid[4] datasync[4]                              Rfsync   tag
 *
 * Only regular files and directories are opened: a client handles devices, FIFOs and sockets
 * itself, and for the server to open one could hang it, or act on the host's hardware.
 */
#include "config.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "src/call.h"
#include "src/log.h"
#include "src/op.h"
#include "src/security.h"

#define CREATE_TRIES 16

/* Flags of the wire to those of this machine; O_CREAT and O_EXCL are the callers'. */
static int host_flags(uint32_t flags)
{
    static const struct {
        uint32_t wire;
        int host;
    } table[] = {{P9_DOTL_TRUNC, O_TRUNC},     {P9_DOTL_APPEND, O_APPEND},
                 {P9_DOTL_DSYNC, O_DSYNC},     {P9_DOTL_DIRECTORY, O_DIRECTORY},
                 {P9_DOTL_NOATIME, O_NOATIME}, {P9_DOTL_SYNC, O_SYNC}};
    int host = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

    /* O_DIRECT is left to the client's cache: the buffers here are not aligned. The others of the
     * client's flags say nothing to a server. */
    switch (flags & P9_DOTL_ACCMODE) {
    case P9_DOTL_WRONLY:
        host |= O_WRONLY;
        break;
    case P9_DOTL_RDWR:
        host |= O_RDWR;
        break;
    default:
        host |= O_RDONLY;
        break;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (flags & table[i].wire)
            host |= table[i].host;
    return host;
}

static int check_type(mode_t type)
{
    if (type == S_IFREG || type == S_IFDIR)
        return 0;
    return type == S_IFLNK ? -ELOOP : -ENXIO;
}

static bool wants_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* Opens again what `fd` is. As O_NOATIME is for owners only, it is tried without it, too. */
static int open_again(int fd, int flags)
{
    int got = path_reopen(fd, flags);

    if (got == -EPERM && (flags & O_NOATIME))
        got = path_reopen(fd, flags & ~O_NOATIME);
    return got;
}

/* Reading from a read-only export leaves no trace in the file's times. The user, who may read it
 * (`fd`), may ask for that with files of his own only; the daemon may for all, where it is root. */
static int without_atime(int fd, int flags)
{
    struct privs_pause pause;
    int got, error;

    privs_suspend(&pause);
    got = path_reopen(fd, flags | O_NOATIME);
    error = privs_resume(&pause);
    if (error != 0 && got >= 0)
        close(got);
    if (error != 0 || got >= 0)
        close(fd);
    return error != 0 ? error : got >= 0 ? got : fd;
}

/* An open file cannot be closed for a while, as its descriptor has a state: so it counts. */
static int take_file(struct request *request)
{
    struct fid *fid = op_fid(request);
    bool first = false;
    int error = limit_take(fid->account, LIMIT_FILES, 1, &first);

    if (error != 0 && first)
        log_warning("connection %" G_GUINT64_FORMAT " has opened as many files as the limit '%s' "
                    "allows; raise the limit of descriptors (LimitNOFILE=) or close files",
                    request->conn->id, limit_name(LIMIT_FILES));
    return error;
}

static void put_open(struct request *request, const struct qid *qid)
{
    wire_put_qid(&request->out, qid);
    wire_put32(&request->out, 0); /* iounit: as msize allows */
}

int op_lopen(struct request *request)
{
    struct fid *fid = op_fid(request);
    int flags = host_flags(request->msg.flags), error, got;
    struct statx stx;
    struct qid qid;

    error = op_check_file(fid);
    if (error == 0 && fid->open)
        error = -EBUSY;
    if (error == 0)
        error = check_type(fid->type);
    if (error == 0 && fid->export->readonly && wants_write(flags))
        error = -EROFS;
    if (error == 0 && !fid_known_qid(fid, &qid))
        error = fid_qid(fid, &stx, &qid);
    if (error != 0)
        return error;
    error = take_file(request);
    if (error != 0)
        return error;
    got = open_again(fid->fd, flags);
    if (got >= 0 && fid->export->readonly)
        got = without_atime(got, flags & ~O_NOATIME);
    if (got < 0) {
        limit_give(fid->account, LIMIT_FILES, 1);
        return got;
    }
    fid_set_open(fid, got, flags); /* it does all that the other descriptor did */
    put_open(request, &qid);
    return 0;
}

/* Opens or makes the regular file. A descriptor or a negative errno. */
static int create(const struct fid *dir, const struct wire_msg *msg, int flags)
{
    const struct security_owner owner = {.user = dir->user, .gid = msg->gid};
    mode_t mode = msg->mode & 07777;

    for (int tries = 0; tries < CREATE_TRIES; tries++) {
        struct statx stx;
        int fd, got;

        fd = dir->export->security->ops->create(&owner, dir->fd, msg->name, flags & ~O_TRUNC, mode);
        if (fd >= 0)
            return fd;
        if (fd == -EPERM && (flags & O_NOATIME)) {
            flags &= ~O_NOATIME;
            continue;
        }
        if (fd != -EEXIST || (msg->flags & P9_DOTL_EXCL))
            return fd;
        fd = path_lookup(dir->fd, msg->name);
        if (fd == -ENOENT)
            continue;
        if (fd < 0)
            return fd;
        got = path_look(fd, &stx);
        if (got == 0)
            got = dir->export->security->ops->look(fd, &stx, false);
        if (got == 0)
            got = S_ISDIR(stx.stx_mode) ? -EISDIR : check_type(stx.stx_mode & S_IFMT);
        if (got == 0) /* the group was for a new file */
            got = privs_become(dir->user);
        if (got == 0)
            got = open_again(fd, flags);
        close(fd);
        return got;
    }
    return -EAGAIN;
}

/* Of a fid that is still the directory's. NULL: no other fid has it. */
static struct fid_made *note_made(const struct fid *dir, const struct wire_msg *msg,
                                  const struct statx *stx)
{
    struct fd_shared *shared = fd_cache_remember(dir);
    struct fid_made *made;

    if (shared == NULL)
        return NULL;
    made = g_malloc(sizeof *made + msg->name_len + 1);
    made->dir = shared;
    made->ino = stx->stx_ino;
    made->dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    memcpy(made->name, msg->name, msg->name_len + 1);
    return made;
}

int op_lcreate(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    int flags = host_flags(msg->flags & ~P9_DOTL_DIRECTORY), error, fd;
    struct fid_made *made;
    struct statx stx;
    struct qid qid;

    error = op_check_change(fid, msg->name, msg->name_len);
    if (error == 0 && fid->open)
        error = -EBUSY;
    if (error != 0)
        return error;
    error = take_file(request);
    if (error != 0)
        return error;
    fd = create(fid, msg, flags);
    error = fd < 0 ? fd : fid_qid_of(fid, fd, &stx, &qid);
    if (error != 0) {
        if (fd >= 0)
            close(fd);
        limit_give(fid->account, LIMIT_FILES, 1);
        return error;
    }
    made = note_made(fid, msg, &stx);
    fid_set(fid, fid, fd, S_IFREG);
    fid_set_qid(fid, &qid);
    fid->open = true;
    fid_more(fid)->open_flags = flags;
    fid_more(fid)->made = made;
    put_open(request, &qid);
    return 0;
}

int op_read(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct wire_out *out = &request->out;
    struct fid *fid = op_fid(request);
    size_t room = out->size - P9_READ_HEADER, used = 0;

    if (fid->kind == FID_XATTR_READ)
        return op_xattr_read(request);
    if (op_check_file(fid) != 0 || !fid->open)
        return -EBADF;
    if (fid->type != S_IFREG)
        return -EISDIR;
    if (msg->offset > INT64_MAX)
        return -EINVAL;
    if (room > msg->count)
        room = msg->count;
    while (used < room) {
        ssize_t n = call_pread(fid->fd, out->bytes + P9_READ_HEADER + used, room - used,
                               (off_t)(msg->offset + used));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && used == 0)
            return -errno;
        if (n <= 0)
            break;
        used += (size_t)n;
        break; /* a file gives all that it has at once */
    }
    wire_put32(out, (uint32_t)used);
    out->used += used;
    return 0;
}

int op_write(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    size_t used = 0;

    if (fid->kind == FID_XATTR_WRITE)
        return op_xattr_write(request);
    if (op_check_file(fid) != 0 || !fid->open)
        return -EBADF;
    if (fid->type != S_IFREG)
        return -EISDIR;
    if (msg->offset > INT64_MAX || msg->offset + msg->count > INT64_MAX)
        return -EFBIG;
    while (used < msg->count) {
        ssize_t n =
            call_pwrite(fid->fd, msg->data + used, msg->count - used, (off_t)(msg->offset + used));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && used == 0)
            return -errno;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    wire_put32(&request->out, (uint32_t)used);
    return 0;
}

int op_fsync(struct request *request)
{
    struct fid *fid = op_fid(request);
    int fd = fid->fd, error = op_check_file(fid), result;

    if (error != 0)
        return error;
    if (!fid->open) {
        error = check_type(fid->type);
        if (error != 0)
            return -EINVAL;
        fd = path_reopen(fid->fd, O_RDONLY | O_NONBLOCK);
        if (fd < 0)
            return fd;
    }
    result = request->msg.flags != 0 ? fdatasync(fd) : fsync(fd);
    error = result < 0 ? -errno : 0;
    if (fd != fid->fd)
        close(fd);
    return error;
}
