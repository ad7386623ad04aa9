/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Tlock    tag fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]
 *   Rlock    tag status[1]
 *   Tgetlock tag fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
 *   Rgetlock tag type[1] start[8] length[8] proc_id[4] client_id[s]
 *
 * The messages of locks; who owns what is lock.h's. A request that must wait is answered with
 * P9_LOCK_BLOCKED at once, and the client asks again (Linux after `locktimeout`, 30 seconds where
 * the mount does not say): no thread waits here.
 */
#include "config.h"

#include <fcntl.h>
#include <string.h>

#include "src/lock.h"
#include "src/op.h"

#define CLIENT_ID_MAX 255

/* What both messages say. 0 or a negative errno. */
static int parse(const struct request *request, const struct fid *fid, struct lock_request *lock)
{
    static const enum lock_type types[] = {[P9_LOCK_TYPE_RDLCK] = LOCK_TYPE_READ,
                                           [P9_LOCK_TYPE_WRLCK] = LOCK_TYPE_WRITE,
                                           [P9_LOCK_TYPE_UNLCK] = LOCK_TYPE_NONE};
    const struct wire_msg *msg = &request->msg;

    if (op_check_file(fid) != 0 || !fid->open)
        return -EBADF;
    if (msg->name2_len > CLIENT_ID_MAX || msg->lock_type >= G_N_ELEMENTS(types))
        return -EINVAL;
    if (msg->offset > LOCK_END || (msg->length > 0 && msg->length - 1 > LOCK_END - msg->offset))
        return -EOVERFLOW;
    *lock = (struct lock_request){
        .session = request->conn->id,
        .proc_id = msg->proc_id,
        .client_id = msg->name2,
        .range = {.start = msg->offset,
                  .end = msg->length == 0 ? LOCK_END : msg->offset + (msg->length - 1),
                  .type = types[msg->lock_type]},
    };
    lock->undo_all = lock->range.type == LOCK_TYPE_NONE && msg->type == P9_TLOCK &&
                     (msg->flags & P9_LOCK_FLAGS_BLOCK) && lock->range.start == 0 &&
                     lock->range.end == LOCK_END;
    return 0;
}

int op_lock(struct request *request)
{
    struct fid *fid = op_fid(request);
    struct lock_request lock;
    int error = parse(request, fid, &lock);

    if (error == 0 && (request->msg.flags & ~(P9_LOCK_FLAGS_BLOCK | P9_LOCK_FLAGS_RECLAIM)))
        error = -EINVAL;
    if (error == 0)
        error = lock_set(fid, &lock);
    if (error != 0 && error != -EAGAIN)
        return error;
    wire_put8(&request->out, error == 0 ? P9_LOCK_SUCCESS : P9_LOCK_BLOCKED);
    return 0;
}

int op_getlock(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct wire_out *out = &request->out;
    struct fid *fid = op_fid(request);
    struct lock_conflict conflict;
    struct lock_request lock;
    int error = parse(request, fid, &lock);

    if (error != 0)
        return error;
    /* Linux asks its own table first, and that sets the type to UNLCK where nothing of the guest's
     * own is in the way: which type was asked for is lost, so the question is whether anything is.
     */
    if (lock.range.type == LOCK_TYPE_NONE)
        lock.range.type = LOCK_TYPE_WRITE;
    error = lock_get(fid, &lock, &conflict);
    if (error != 0)
        return error;
    if (conflict.range.type == LOCK_TYPE_NONE) {
        wire_put8(out, P9_LOCK_TYPE_UNLCK);
        wire_put64(out, msg->offset);
        wire_put64(out, msg->length);
        wire_put32(out, msg->proc_id);
        wire_put_str(out, msg->name2, msg->name2_len);
        return 0;
    }
    wire_put8(out, conflict.range.type == LOCK_TYPE_READ ? P9_LOCK_TYPE_RDLCK : P9_LOCK_TYPE_WRLCK);
    wire_put64(out, conflict.range.start);
    wire_put64(out,
               conflict.range.end == LOCK_END ? 0 : conflict.range.end - conflict.range.start + 1);
    wire_put32(out, conflict.proc_id);
    wire_put_str(out, conflict.client_id, strlen(conflict.client_id));
    return 0;
}
