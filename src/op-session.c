/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tversion, Tauth, Tattach, Tflush, Tclunk: what begins and ends.
 *
 *   Tversion tag msize[4] version[s]                       Rversion tag msize[4] version[s]
 *   Tauth    tag afid[4] uname[s] aname[s] n_uname[4]      (always Rlerror)
 *   Tattach  tag fid[4] afid[4] uname[s] aname[s] n_uname[4]   Rattach tag qid[13]
 *   Tflush   tag oldtag[2]                                 Rflush tag
 *   Tclunk   tag fid[4]                                    Rclunk tag
 */
#include "config.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "src/export.h"
#include "src/op.h"
#include "src/security.h"

int op_version(struct request *request)
{
    struct conn *conn = request->conn;
    const struct wire_msg *msg = &request->msg;
    uint32_t msize = MIN(msg->msize, conn->server->msize_max);
    bool known = strcmp(msg->name, P9_VERSION) == 0;

    /* The reader sees to it that nothing else is in flight. */
    fid_drop_all(conn);
    conn->versioned = false;
    if (msize < P9_MSIZE_MIN)
        return -EMSGSIZE;
    if (known) {
        conn->msize = msize;
        conn->versioned = true;
    }
    wire_put32(&request->out, msize);
    wire_put_str(&request->out, known ? P9_VERSION : "unknown",
                 strlen(known ? P9_VERSION : "unknown"));
    return 0;
}

int op_auth(struct request *request)
{
    (void)request;
    return -EOPNOTSUPP; /* no authentication is needed: clients go on with Tattach */
}

int op_attach(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct conn *conn = request->conn;
    struct fid *fid = op_fid(request);
    const struct path_export *found;
    struct statx stx;
    struct qid qid;
    const char *rest;
    int fd, error;

    if (msg->fid2 != P9_NOFID)
        return -EOPNOTSUPP;
    error = export_find(conn->server, &conn->peer, msg->name, &found, &rest);
    if (error == 0)
        error = conn_attach(conn, found);
    if (error != 0)
        return error;
    fid->export = found;
    error = privs_become(NULL); /* the user is looked up by the daemon itself */
    if (error != 0)
        return error;
    error = security_user(fid->export->security, msg->uid, msg->name2, &fid->user);
    if (error == 0)
        error = privs_become(fid->user);
    if (error == 0 && *rest != '\0')
        error = export_subdir(fid->export, rest, &conn->account, &fid->export);
    if (error != 0)
        return error;
    fd = path_dup(fid->export->root_fd);
    if (fd < 0)
        return fd;
    fid_set(fid, fid, fd, S_IFDIR);
    error = fid_qid(fid, &stx, &qid);
    if (error != 0)
        return error;
    stats_attached(request->conn->stats, msg->uid, msg->name2, fid->export->name);
    wire_put_qid(&request->out, &qid);
    return 0;
}

int op_flush(struct request *request)
{
    /* Where the old request is in flight, the connection answers once that was answered. */
    (void)request;
    return 0;
}

int op_clunk(struct request *request)
{
    struct fid *fid = op_fid(request);

    return fid->kind == FID_XATTR_WRITE ? op_xattr_commit(fid) : 0;
}
