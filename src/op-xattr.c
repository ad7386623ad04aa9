/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Txattrwalk   tag fid[4] newfid[4] name[s]              Rxattrwalk tag size[8]
 *   Txattrcreate tag fid[4] name[s] attr_size[8] flags[4]  Rxattrcreate tag
 *
 * Txattrwalk makes newfid stand for the value of an xattr (name empty: the list of names), to be
 * read with Tread. Txattrcreate turns fid into one that collects a value from Twrite; the clunk
 * sets it, and reports what came of that. attr_size 0 with the flag REPLACE removes the xattr: so
 * Linux sends removexattr(2), and without the flag an empty value.
 *
 * Names that are the stores' or the markers', and classes that the operator does not allow, are as
 * absent to clients; what a name is on the host depends on the security mode (security.h). The
 * system calls go through /proc/self/fd, as those with a descriptor refuse O_PATH; on a symlink
 * they act on the link itself.
 */
#include "config.h"

#include <limits.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "src/export.h"
#include "src/limit.h"
#include "src/op.h"
#include "src/security.h"

#define TRIES 8
#define SMALL 4096 /* what most values fit into: one call */

static int check_name(size_t len)
{
    if (len == 0)
        return -EINVAL;
    return len > XATTR_NAME_MAX ? -ERANGE : 0;
}

/* Leaves of a list of the host's names those for clients, which are parts of them. */
static size_t filter(const struct security *security, uint8_t *list, size_t size)
{
    size_t kept = 0;

    for (size_t at = 0; at < size;) {
        size_t len = strnlen((char *)list + at, size - at);
        const char *shown;

        if (at + len == size)
            break; /* not terminated: the kernel does not do this */
        shown = security_xattr_shown(security, (char *)list + at);
        if (shown != NULL) {
            size_t shown_size = strlen(shown) + 1;

            memmove(list + kept, shown, shown_size);
            kept += shown_size;
        }
        at += len + 1;
    }
    return kept;
}

static struct fid_xattr *value_new(const struct fid *fid)
{
    struct fid_xattr *value = g_new0(struct fid_xattr, 1);

    value->account = fid->account;
    return value;
}

/* Makes room for `size` bytes in place of what there was. 0 or -ENOMEM. */
static int make_room(struct fid_xattr *value, size_t size)
{
    size_t need = size + 1 + sizeof *value;
    int error;

    if (value->taken > 0)
        limit_give(value->account, LIMIT_MEMORY, value->taken);
    value->taken = 0;
    g_clear_pointer(&value->bytes, g_free);
    error = limit_take(value->account, LIMIT_MEMORY, need, NULL);
    if (error != 0)
        return error;
    value->taken = need;
    value->bytes = g_malloc0(size + 1);
    return 0;
}

/* One call of the kernel: of the value, or with an empty name of the list. */
static ssize_t ask(const struct fid *fid, const char *name, void *bytes, size_t size)
{
    char path[PATH_PROC_SIZE];
    ssize_t n;

    if (name[0] != '\0' && !fid->open)
        return path_getxattr(fid->fd, name, bytes, size);
    if (name[0] != '\0')
        n = fgetxattr(fid->fd, name, bytes, size);
    else
        n = fid->open ? flistxattr(fid->fd, bytes, size)
                      : listxattr(path_proc(fid->fd, path), bytes, size);
    return n < 0 ? -errno : n;
}

/* Reads the value, or with an empty name the list. 0 or a negative errno. */
static int read_value(const struct fid *fid, const char *name, struct fid_xattr *value)
{
    uint8_t small[SMALL];
    int error;

    for (int tries = 0; tries < TRIES; tries++) {
        ssize_t n = ask(fid, name, small, sizeof small);
        bool whole = n >= 0;

        if (n == -ERANGE)
            n = ask(fid, name, NULL, 0);
        if (n < 0)
            return (int)n;
        if (n > XATTR_SIZE_MAX && n > XATTR_LIST_MAX)
            return -E2BIG;
        value->size = 0;
        error = make_room(value, (size_t)n);
        if (error != 0)
            return error;
        if (n == 0)
            return 0;
        if (whole)
            memcpy(value->bytes, small, (size_t)n);
        else
            n = ask(fid, name, value->bytes, (size_t)n);
        if (n >= 0) {
            value->size = name[0] != '\0' ? (size_t)n
                                          : filter(fid->export->security, value->bytes, (size_t)n);
            return 0;
        }
        if (n != -ERANGE) /* it grew meanwhile */
            return (int)n;
    }
    return -EAGAIN;
}

int op_xattrwalk(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request), *newfid = op_fid2(request);
    char buffer[SECURITY_XATTR_NAME_SIZE];
    const char *host = "";
    struct fid_xattr *value;
    int error = op_check_file(fid);

    if (error == 0 && msg->name_len > 0)
        error = check_name(msg->name_len);
    if (error == 0 && msg->name_len > 0)
        error = security_xattr(fid->export->security, msg->name, &host, buffer);
    if (error != 0)
        return error;
    value = value_new(newfid);
    error = read_value(fid, host, value);
    if (error != 0) {
        fid_xattr_free(value);
        return error;
    }
    newfid->kind = FID_XATTR_READ;
    newfid->export = export_ref(fid->export);
    newfid->user = privs_user_ref(fid->user);
    fid_more(newfid)->xattr = value;
    wire_put64(&request->out, value->size);
    return 0;
}

int op_xattrcreate(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    char buffer[SECURITY_XATTR_NAME_SIZE];
    const char *host = NULL;
    struct fid_xattr *value;
    int error = op_check_file(fid);

    if (error == 0 && fid->open)
        error = -EBUSY;
    if (error == 0)
        error = check_name(msg->name_len);
    if (error == 0 && fid->export->readonly)
        error = -EROFS;
    if (error == 0)
        error = security_xattr(fid->export->security, msg->name, &host, buffer);
    if (error == -ENODATA) /* hidden */
        error = -EPERM;
    if (error == 0 && (msg->flags & ~(P9_XATTR_CREATE | P9_XATTR_REPLACE)))
        error = -EINVAL;
    if (error == 0 && msg->length > XATTR_SIZE_MAX)
        error = -E2BIG;
    if (error != 0)
        return error;
    value = value_new(fid);
    error = make_room(value, (size_t)msg->length);
    if (error != 0) {
        fid_xattr_free(value);
        return error;
    }
    value->name = g_strdup(host);
    value->size = (size_t)msg->length;
    value->flags = (msg->flags & P9_XATTR_CREATE ? XATTR_CREATE : 0) |
                   (msg->flags & P9_XATTR_REPLACE ? XATTR_REPLACE : 0);
    fid->kind = FID_XATTR_WRITE;
    fid_more(fid)->xattr = value;
    return 0;
}

int op_xattr_read(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    const struct fid_xattr *value = op_fid(request)->more->xattr;
    struct wire_out *out = &request->out;
    size_t room = out->size - P9_READ_HEADER, left = 0;

    if (value == NULL)
        return -EBADF;
    if (msg->offset < value->size)
        left = value->size - (size_t)msg->offset;
    left = MIN(left, MIN(room, (size_t)msg->count));
    wire_put32(out, (uint32_t)left);
    if (left > 0)
        memcpy(out->bytes + out->used, value->bytes + msg->offset, left);
    out->used += left;
    return 0;
}

int op_xattr_write(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    struct fid_xattr *value = fid->more->xattr;
    int error = 0;

    if (value == NULL)
        return -EBADF;
    pthread_mutex_lock(&fid->more->mutex);
    if (msg->offset > value->size || msg->count > value->size - msg->offset)
        error = -ENOSPC;
    else if (msg->offset > value->written)
        error = -EINVAL; /* clients write it from the beginning; a gap would become zeros */
    else if (msg->count > 0) {
        memcpy(value->bytes + msg->offset, msg->data, msg->count);
        value->written = MAX(value->written, (size_t)msg->offset + msg->count);
    }
    pthread_mutex_unlock(&fid->more->mutex);
    if (error == 0)
        wire_put32(&request->out, msg->count);
    return error;
}

int op_xattr_commit(struct fid *fid)
{
    struct fid_xattr *value = fid->more->xattr;
    char path[PATH_PROC_SIZE];

    if (value == NULL)
        return 0;
    path_proc(fid->fd, path);
    if (value->size == 0 && fid->export->security->ops->empty_removes(value->name))
        return removexattr(path, value->name) < 0 && errno != ENODATA ? -errno : 0;
    if (value->size == 0 && value->flags == XATTR_REPLACE)
        return removexattr(path, value->name) < 0 ? -errno : 0;
    if (value->written < value->size)
        return -EIO; /* the client left before it had sent all: nothing is changed */
    return setxattr(path, value->name, value->bytes, value->size, value->flags) < 0 ? -errno : 0;
}
