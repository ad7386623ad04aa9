/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a message to the operation that answers it. See dispatch.h. */
#include "config.h"

#include "src/dispatch.h"

#include <errno.h>

#include "src/conn.h"
#include "src/op.h"
#include "src/spare.h"
#include "src/stats.h"
#include "src/trace.h"

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

/* Holds the descriptors of the fids. A clunk does without: the fid may be one whose file is gone.
 */
static int hold(struct request *request)
{
    for (unsigned i = 0; i < 2; i++) {
        struct fid_turn *turn = &request->turns[i];
        int error;

        if (turn->fid == NULL || turn->held ||
            (turn->mode == FID_REMOVE && request->msg.type == P9_TCLUNK &&
             turn->fid->kind != FID_XATTR_WRITE))
            continue;
        error = fd_cache_hold(turn->fid);
        if (error != 0)
            return error;
        turn->held = true;
    }
    return 0;
}

static void release(struct request *request)
{
    bool trim = false;

    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].held) {
            request->turns[i].held = false;
            trim |= fd_cache_release(request->turns[i].fid);
        }
    if (trim || spare_is_short())
        fd_cache_trim();
}

/* Whether it matters to the kernel who does it. What is open was checked when it was opened, and
 * the end of a fid is no access: with users in turn, to become each costs more than these do. */
static bool acts_as_user(const struct request *request)
{
    switch (request->msg.type) {
    case P9_TATTACH:
    case P9_TREAD:
        return false;
    case P9_TCLUNK:
        return request->turns[0].fid->kind == FID_XATTR_WRITE;
    default:
        return true;
    }
}

static int run(struct request *request)
{
    const struct operation *operation = &operations[request->msg.type];
    int error = request->error;

    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL) {
            request->turns[i].held = request->turns[i].mode == FID_NEW; /* by its maker */
            if (error == 0 && request->turns[i].fid->dead)
                error = -EBADF;
        }
    if (error == 0)
        error = hold(request);
    if (error != 0)
        return error;
    if (request->turns[0].fid != NULL && acts_as_user(request)) {
        error = privs_become(op_fid(request)->user);
        if (error != 0)
            return error;
    }
    return operation->run(request);
}

void dispatch_drop(struct request *request)
{
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL)
            request->turns[i].held = request->turns[i].mode == FID_NEW; /* by its maker */
    release(request);
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL)
            fid_give_back(request->conn, &request->turns[i], true);
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
    struct stats_session *session = request->conn->stats;
    uint64_t start, took;
    bool traced, failed = false;
    size_t size;
    int error;

    start = stats_start(session);
    traced = trace_is_on(session);
    if (traced)
        trace_request(session, msg);
    wire_begin(out, out->bytes, out->size, (uint8_t)(msg->type + 1), msg->tag);
    error = run(request);
    release(request);
    /* Before the reply: what it says is gone must be gone, and what comes next for a new or opened
     * fid must not have to wait. Shared turns inflight_end() gives back, with the lock that it
     * takes anyway. */
    for (unsigned i = 0; i < 2; i++)
        if (request->turns[i].fid != NULL && (error != 0 || request->turns[i].mode != FID_SHARED))
            fid_give_back(request->conn, &request->turns[i], error != 0);
    if (error > 0) /* a partial walk: a reply, but no new fid */
        error = 0;
    size = error == 0 ? wire_finish(out) : 0;
    if (size == 0) {
        wire_error(out, msg->tag, error != 0 ? -error : EMSGSIZE);
        size = wire_finish(out);
        failed = true;
    }
    took = request->took = stats_done(session, start, msg->type, msg->size, size, failed);
    if (traced)
        trace_reply(session, out->bytes, size, took);
    return size;
}

void dispatch_flushed(struct conn *conn, uint16_t tag, uint64_t start)
{
    uint8_t bytes[P9_HEADER];
    struct wire_out out;
    uint64_t took;
    size_t size;

    wire_begin(&out, bytes, sizeof bytes, P9_RFLUSH, tag);
    size = wire_finish(&out);
    took = stats_done(conn->stats, start, P9_TFLUSH, P9_HEADER + 2, size, false);
    if (trace_is_on(conn->stats))
        trace_reply(conn->stats, bytes, size, took);
    conn_send(conn, bytes, size);
}
