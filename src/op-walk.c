/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Twalk tag fid[4] newfid[4] nwname[2] nwname*(wname[s])    Rwalk tag nwqid[2] nwqid*(qid[13])
 *
 * When the first name fails the answer is an error; when a later one does, the answer holds the
 * qids up to it, and newfid is not made.
 */
#include "config.h"

#include <fcntl.h>
#include <unistd.h>

#include "src/op.h"

/* A descriptor for one step from `fd`, or a negative errno. */
static int step(const struct fid *fid, int fd, mode_t type, const char *name, size_t len)
{
    int error = path_check_name(name, len, false);

    if (error != 0)
        return error;
    if (type != S_IFDIR)
        return -ENOTDIR;
    if (len == 2 && name[0] == '.' && name[1] == '.')
        return path_parent(fid->export, fd);
    return path_lookup(fd, name);
}

/* Walks as far as it gets. *done: how many names were walked; *fd: where that led (-1: no name was
 * walked); *type, *last: what it is. 0, or the negative errno of the name that failed. */
static int walk(struct request *request, const struct fid *fid, mode_t *type, struct qid *last,
                uint16_t *done, int *fd)
{
    const struct wire_msg *msg = &request->msg;

    *done = 0;
    *fd = -1;
    *type = fid->type;
    for (uint16_t i = 0; i < msg->nwname; i++) {
        struct statx stx;
        struct qid qid;
        int error = 0, next;

        next = step(fid, *fd >= 0 ? *fd : fid->fd, *type, msg->wname[i], msg->wname_len[i]);
        if (next < 0)
            error = next;
        else
            error = fid_qid_of(fid, next, &stx, &qid);
        if (error != 0) {
            if (next >= 0)
                close(next);
            return error;
        }
        if (*fd >= 0)
            close(*fd);
        *fd = next;
        *type = stx.stx_mode & S_IFMT;
        *last = qid;
        wire_put_qid(&request->out, &qid);
        *done = (uint16_t)(i + 1);
    }
    return 0;
}

int op_walk(struct request *request)
{
    struct fid *fid = op_fid(request), *newfid = op_fid2(request);
    const struct wire_msg *msg = &request->msg;
    struct qid last;
    uint16_t done;
    mode_t type;
    int fd, error;

    error = op_check_file(fid);
    if (error != 0)
        return error;
    if (fid->open && newfid == NULL)
        return -EBADF; /* an open fid stands for its file until the clunk */
    wire_put16(&request->out, msg->nwname);
    error = walk(request, fid, &type, &last, &done, &fd);
    if (error != 0 || done < msg->nwname) {
        if (fd >= 0)
            close(fd);
        /* A client takes a partial walk for a missing name: a want of descriptors, of room in the
         * store, or of permission must not look like that. */
        if (done == 0 || (error != 0 && error != -ENOENT && error != -ENOTDIR))
            return error;
        request->out.bytes[P9_HEADER] = (uint8_t)done;
        request->out.bytes[P9_HEADER + 1] = (uint8_t)(done >> 8);
        return 1;
    }
    if (msg->nwname == 0) {
        if (newfid == NULL)
            return 0;
        if (!fid->open)
            return fid_clone(newfid, fid);
        /* An open descriptor has an offset and a mode; the clone gets one of its own. */
        last.path = fid->qid_path;
        fd = path_reopen(fid->fd, O_PATH);
        if (fd < 0)
            return fd;
    }
    newfid = newfid != NULL ? newfid : fid;
    fid_set(newfid, fid, fd, type);
    fid_set_qid(newfid, &last);
    return 0;
}
