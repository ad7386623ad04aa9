/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a message to the operation that answers it. See dispatch.h. */
#include "config.h"

#include "src/dispatch.h"

#include <errno.h>

#include "src/conn.h"
#include "src/log.h"
#include "src/op.h"

struct operation {
    int (*run)(struct request *request);
    enum fid_mode fid, fid2;
    bool slow;
};

static const struct operation operations[256] = {
    [P9_TVERSION] = {op_version, FID_NONE, FID_NONE, false},
    [P9_TAUTH] = {op_auth, FID_NONE, FID_NONE, false},
    [P9_TATTACH] = {op_attach, FID_NEW, FID_NONE, false},
    [P9_TFLUSH] = {op_flush, FID_NONE, FID_NONE, false},
    [P9_TCLUNK] = {op_clunk, FID_REMOVE, FID_NONE, false},
    [P9_TWALK] = {op_walk, FID_SHARED, FID_NEW, false},
    [P9_TLOPEN] = {op_lopen, FID_EXCLUSIVE, FID_NONE, false},
    [P9_TLCREATE] = {op_lcreate, FID_EXCLUSIVE, FID_NONE, false},
    [P9_TREAD] = {op_read, FID_SHARED, FID_NONE, false},
    [P9_TWRITE] = {op_write, FID_SHARED, FID_NONE, false},
    [P9_TFSYNC] = {op_fsync, FID_SHARED, FID_NONE, true},
    [P9_TREADDIR] = {op_readdir, FID_SHARED, FID_NONE, false},
    [P9_TGETATTR] = {op_getattr, FID_SHARED, FID_NONE, false},
    [P9_TSETATTR] = {op_setattr, FID_SHARED, FID_NONE, false},
    [P9_TSTATFS] = {op_statfs, FID_SHARED, FID_NONE, false},
    [P9_TREADLINK] = {op_readlink, FID_SHARED, FID_NONE, false},
    [P9_TSYMLINK] = {op_symlink, FID_SHARED, FID_NONE, false},
    [P9_TMKNOD] = {op_mknod, FID_SHARED, FID_NONE, false},
    [P9_TMKDIR] = {op_mkdir, FID_SHARED, FID_NONE, false},
    [P9_TLINK] = {op_link, FID_SHARED, FID_SHARED, false},
    [P9_TRENAME] = {op_rename, FID_SHARED, FID_SHARED, false},
    [P9_TRENAMEAT] = {op_renameat, FID_SHARED, FID_SHARED, false},
    [P9_TUNLINKAT] = {op_unlinkat, FID_SHARED, FID_NONE, false},
    [P9_TREMOVE] = {op_remove, FID_REMOVE, FID_NONE, false},
    [P9_TXATTRWALK] = {op_xattrwalk, FID_SHARED, FID_NEW, false},
    [P9_TXATTRCREATE] = {op_xattrcreate, FID_EXCLUSIVE, FID_NONE, false},
    [P9_TLOCK] = {op_lock, FID_SHARED, FID_NONE, false},
    [P9_TGETLOCK] = {op_getlock, FID_SHARED, FID_NONE, false},
};

bool dispatch_is_slow(const struct wire_msg *msg)
{
    return operations[msg->type].slow;
}

int dispatch_take(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    const struct operation *operation = &operations[msg->type];
    enum fid_mode mode = operation->fid, mode2 = operation->fid2;
    int error;

    /* A walk to the fid itself changes that one. */
    if (msg->type == P9_TWALK && msg->fid == msg->fid2) {
        mode = FID_EXCLUSIVE;
        mode2 = FID_NONE;
    }
    /* One turn is enough where both are the same, and two could wait for each other. */
    if (mode2 == FID_SHARED && msg->fid == msg->fid2)
        mode2 = FID_NONE;
    if (mode2 == FID_NEW && msg->fid2 == msg->fid)
        return -EBADF;
    if (mode != FID_NONE) {
        error = fid_take(request->conn, msg->fid, mode, &request->turns[0]);
        if (error != 0)
            return error;
    }
    if (mode2 != FID_NONE) {
        error = fid_take(request->conn, msg->fid2, mode2, &request->turns[1]);
        if (error != 0) {
            /* The first turn is held and must be given back by dispatch_run(). */
            return error;
        }
    }
    return 0;
}

static int run(struct request *request)
{
    const struct operation *operation = &operations[request->msg.type];
    int error = request->error, waited;

    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL) {
            waited = fid_wait(request->conn, &request->turns[i]);
            if (error == 0)
                error = waited;
        }
    if (error != 0)
        return error;
    if (request->turns[0].fid != NULL && request->msg.type != P9_TATTACH) {
        error = privs_become(op_fid(request)->user);
        if (error != 0)
            return error;
    }
    return operation->run(request);
}

void dispatch_drop(struct request *request)
{
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL) {
            fid_wait(request->conn, &request->turns[i]);
            fid_give_back(request->conn, &request->turns[i], true);
        }
}

size_t dispatch_room(const struct wire_msg *msg, uint32_t msize)
{
    size_t room = CONN_REPLY_SMALL;

    if (msg->type == P9_TREAD || msg->type == P9_TREADDIR)
        room = MAX(room, (size_t)msg->count + P9_READ_HEADER);
    return MIN(room, MAX(msize, P9_MSIZE_MIN));
}

size_t dispatch_run(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct wire_out *out = &request->out;
    size_t size;
    int error;

    if (log_debug_enabled())
        log_debug("%" G_GUINT64_FORMAT " %s tag %u fid %u fid2 %u name '%.255s' name2 '%.255s'",
                  request->conn->id, wire_type_name(msg->type), msg->tag, msg->fid, msg->fid2,
                  msg->nwname > 0 ? msg->wname[0] : msg->name, msg->name2);
    wire_begin(out, out->bytes, out->size, (uint8_t)(msg->type + 1), msg->tag);
    error = run(request);
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL)
            fid_give_back(request->conn, &request->turns[i], error != 0);
    if (error > 0) /* a partial walk: a reply, but no new fid */
        error = 0;
    size = error == 0 ? wire_finish(out) : 0;
    if (size == 0) {
        wire_error(out, msg->tag, error != 0 ? -error : EMSGSIZE);
        size = wire_finish(out);
    }
    if (error < 0)
        log_debug("%" G_GUINT64_FORMAT " tag %u: %s", request->conn->id, msg->tag,
                  g_strerror(-error));
    return size;
}
