/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Tlock    tag fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]
 *   Rlock    tag status[1]
 *   Tgetlock tag fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
 *   Rgetlock tag type[1] start[8] length[8] proc_id[4] client_id[s]
 *
 * Locks are OFD byte-range locks of the host, so that they hold between clients and host programs
 * alike. An OFD lock belongs to an open file description; therefore each owner (fid, proc_id,
 * client_id) that locks gets a description of its own. A request that must wait is answered with
 * P9_LOCK_BLOCKED, and the client asks again: no thread waits here.
 */
#include "config.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "src/op.h"

#define OWNERS_MAX    4096 /* of one fid */
#define CLIENT_ID_MAX 255

/* With fid->mutex held: the owner, or NULL. */
static struct fid_lock_owner *find_owner(const struct fid *fid, const struct wire_msg *msg)
{
    for (guint i = 0; fid->lock_owners != NULL && i < fid->lock_owners->len; i++) {
        struct fid_lock_owner *owner = g_ptr_array_index(fid->lock_owners, i);

        if (owner->proc_id == msg->proc_id && strcmp(owner->client_id, msg->name2) == 0)
            return owner;
    }
    return NULL;
}

/* With fid->mutex held: makes the owner. 0 or a negative errno. */
static int new_owner(struct fid *fid, const struct wire_msg *msg, struct fid_lock_owner **result)
{
    struct fid_lock_owner *owner;
    int fd;

    if (fid->lock_owners == NULL)
        fid->lock_owners = g_ptr_array_new();
    if (fid->lock_owners->len >= OWNERS_MAX)
        return -ENOLCK;
    fd = path_reopen(fid->fd, (fid->open_flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fd;
    owner = g_new0(struct fid_lock_owner, 1);
    owner->proc_id = msg->proc_id;
    owner->client_id = g_strdup(msg->name2);
    owner->fd = fd;
    g_ptr_array_add(fid->lock_owners, owner);
    *result = owner;
    return 0;
}

static int to_flock(const struct wire_msg *msg, struct flock *lock)
{
    memset(lock, 0, sizeof *lock); /* OFD locks want l_pid 0 */
    switch (msg->lock_type) {
    case P9_LOCK_TYPE_RDLCK:
        lock->l_type = F_RDLCK;
        break;
    case P9_LOCK_TYPE_WRLCK:
        lock->l_type = F_WRLCK;
        break;
    case P9_LOCK_TYPE_UNLCK:
        lock->l_type = F_UNLCK;
        break;
    default:
        return -EINVAL;
    }
    if (msg->offset > INT64_MAX || msg->length > INT64_MAX ||
        msg->offset > (uint64_t)INT64_MAX - msg->length)
        return -EOVERFLOW;
    lock->l_whence = SEEK_SET;
    lock->l_start = (off_t)msg->offset;
    lock->l_len = (off_t)msg->length;
    return 0;
}

static int check(const struct fid *fid, const struct wire_msg *msg)
{
    if (msg->name2_len > CLIENT_ID_MAX)
        return -EINVAL;
    if (op_check_file(fid) != 0 || !fid->open)
        return -EBADF;
    return fid->type == S_IFREG ? 0 : -EINVAL;
}

/* Sets the lock; -1 and errno where it cannot. A client asks only after its own table granted the
 * lock, so what another owner of the same client still holds here was given up there by another
 * process than took it (flock -u in a shell script), and is taken from it. */
static int set_lock(struct fid *fid, const struct fid_lock_owner *owner, struct flock *lock)
{
    bool taken = false;

    if (fcntl(owner->fd, F_OFD_SETLK, lock) == 0)
        return 0;
    if (errno != EAGAIN && errno != EACCES)
        return -1;
    for (guint i = 0; i < fid->lock_owners->len; i++) {
        const struct fid_lock_owner *other = g_ptr_array_index(fid->lock_owners, i);
        struct flock unlock = *lock;

        unlock.l_type = F_UNLCK;
        if (other != owner && strcmp(other->client_id, owner->client_id) == 0 &&
            fcntl(other->fd, F_OFD_SETLK, &unlock) == 0)
            taken = true;
    }
    if (taken)
        return fcntl(owner->fd, F_OFD_SETLK, lock);
    errno = EAGAIN;
    return -1;
}

int op_lock(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    struct fid_lock_owner *owner = NULL;
    uint8_t status = P9_LOCK_SUCCESS;
    struct flock lock;
    int error = check(fid, msg);

    if (error == 0)
        error = to_flock(msg, &lock);
    if (error == 0 && (msg->flags & ~(P9_LOCK_FLAGS_BLOCK | P9_LOCK_FLAGS_RECLAIM)))
        error = -EINVAL;
    if (error != 0)
        return error;
    pthread_mutex_lock(&fid->mutex);
    owner = find_owner(fid, msg);
    if (owner == NULL && lock.l_type != F_UNLCK)
        error = new_owner(fid, msg, &owner);
    if (error == 0 && owner != NULL && set_lock(fid, owner, &lock) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            status = P9_LOCK_BLOCKED;
        else
            error = -errno;
    }
    pthread_mutex_unlock(&fid->mutex);
    if (error == 0)
        wire_put8(&request->out, status);
    return error;
}

/* With fid->mutex held: which owner of the same fid is in the way, if the host says one is. The
 * kernel gives no pid for OFD locks, so that only our own owners can be told. */
static const struct fid_lock_owner *who(const struct fid *fid, const struct fid_lock_owner *self,
                                        const struct flock *found)
{
    for (guint i = 0; fid->lock_owners != NULL && i < fid->lock_owners->len; i++) {
        const struct fid_lock_owner *owner = g_ptr_array_index(fid->lock_owners, i);
        struct flock probe = {.l_type = F_WRLCK,
                              .l_whence = SEEK_SET,
                              .l_start = found->l_start,
                              .l_len = found->l_len};

        /* Seen through its own description, a lock is not in the way. */
        if (owner != self && fcntl(owner->fd, F_OFD_GETLK, &probe) == 0 && probe.l_type == F_UNLCK)
            return owner;
    }
    return NULL;
}

int op_getlock(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request);
    const struct fid_lock_owner *owner, *other = NULL;
    struct wire_out *out = &request->out;
    struct flock lock;
    int error = check(fid, msg), result;

    if (error == 0)
        error = to_flock(msg, &lock);
    if (error != 0)
        return error;
    /* Linux asks its own table first, and that sets the type to UNLCK where nothing of the guest's
     * own is in the way: which type was asked for is lost, so the question is whether anything is.
     */
    if (lock.l_type == F_UNLCK)
        lock.l_type = F_WRLCK;
    pthread_mutex_lock(&fid->mutex);
    owner = find_owner(fid, msg);
    result = fcntl(owner != NULL ? owner->fd : fid->fd, F_OFD_GETLK, &lock);
    error = result < 0 ? -errno : 0;
    if (error == 0 && lock.l_type != F_UNLCK)
        other = who(fid, owner, &lock);
    if (error == 0 && lock.l_type == F_UNLCK) {
        wire_put8(out, P9_LOCK_TYPE_UNLCK);
        wire_put64(out, msg->offset);
        wire_put64(out, msg->length);
        wire_put32(out, msg->proc_id);
        wire_put_str(out, msg->name2, msg->name2_len);
    } else if (error == 0) {
        const char *client = other != NULL ? other->client_id : "";

        wire_put8(out, lock.l_type == F_RDLCK ? P9_LOCK_TYPE_RDLCK : P9_LOCK_TYPE_WRLCK);
        wire_put64(out, (uint64_t)lock.l_start);
        wire_put64(out, (uint64_t)lock.l_len);
        /* A host process that holds a classic lock has a pid; nobody's is 0. */
        wire_put32(out, other != NULL ? other->proc_id : lock.l_pid > 0 ? (uint32_t)lock.l_pid : 0);
        wire_put_str(out, client, strlen(client));
    }
    pthread_mutex_unlock(&fid->mutex);
    return error;
}
