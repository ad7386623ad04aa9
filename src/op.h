/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The operations, one for each message; op-*.c define them, dispatch.c calls them.
 *
 * An operation finds its fids in request->turns (op_fid, op_fid2), acts as the fid's user already,
 * and writes its reply to request->out, which has its header. It returns 0, or a negative errno,
 * which dispatch turns into Rlerror; Twalk alone returns 1 where the reply is good, but the new fid
 * shall not be.
 */
#ifndef OP_H
#define OP_H

#include <errno.h>

#include "src/conn.h"

int op_version(struct request *request);
int op_auth(struct request *request);
int op_attach(struct request *request);
int op_flush(struct request *request);
int op_clunk(struct request *request);
int op_walk(struct request *request);
int op_lopen(struct request *request);
int op_lcreate(struct request *request);
int op_read(struct request *request);
int op_write(struct request *request);
int op_fsync(struct request *request);
int op_readdir(struct request *request);
int op_getattr(struct request *request);
int op_setattr(struct request *request);
int op_statfs(struct request *request);
int op_readlink(struct request *request);
int op_symlink(struct request *request);
int op_mknod(struct request *request);
int op_mkdir(struct request *request);
int op_link(struct request *request);
int op_rename(struct request *request);
int op_renameat(struct request *request);
int op_unlinkat(struct request *request);
int op_remove(struct request *request);
int op_xattrwalk(struct request *request);
int op_xattrcreate(struct request *request);
int op_lock(struct request *request);
int op_getlock(struct request *request);

/* Tread, Twrite and Tclunk on a fid that stands for an xattr. */
int op_xattr_read(struct request *request);
int op_xattr_write(struct request *request);
int op_xattr_commit(struct fid *fid);

static inline struct fid *op_fid(struct request *request)
{
    return request->turns[0].fid;
}

static inline struct fid *op_fid2(struct request *request)
{
    return request->turns[1].fid;
}

/* The second fid of an operation for which both may be the same. */
static inline struct fid *op_other_fid(struct request *request)
{
    return request->turns[1].fid != NULL ? request->turns[1].fid : request->turns[0].fid;
}

/* A fid that stands for a file, not for an xattr. */
static inline int op_check_file(const struct fid *fid)
{
    return fid->kind == FID_FILE && fid->fd >= 0 ? 0 : -EBADF;
}

/* The same, for a directory in which something is to be changed, and the name of it. */
int op_check_change(const struct fid *dir, const char *name, size_t len);

#endif
