/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   Treaddir tag fid[4] offset[8] count[4]    Rreaddir tag count[4] count*(entry)
 *   entry: qid[13] offset[8] type[1] name[s]
 *
 * The offset of an entry is d_off of the host: where the entry after it is found. So a client can
 * go on anywhere, after any time. Where it goes on just where the last reply ended, which is the
 * rule, no lseek(2) is needed, and what getdents64(2) gave beyond that reply is still in the
 * buffer.
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/op.h"
#include "src/security.h"

#define DENTS_SIZE   32768
#define ENTRIES_MAX  (DENTS_SIZE / 24)
#define ENTRY_HEADER (P9_QID_SIZE + 8 + 1 + 2)

struct dent { /* as getdents64(2) gives it */
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

struct listed {
    const struct dent *dent;
    uint16_t len; /* of its name */
};

struct fid_dir {
    struct limit_account *account;
    uint64_t next; /* offset of what stands at `at` */
    bool valid;
    size_t at, end;
    _Alignas(8) uint8_t bytes[DENTS_SIZE];
};

void fid_dir_free(struct fid_dir *dir)
{
    if (dir != NULL)
        limit_give(dir->account, LIMIT_MEMORY, sizeof *dir);
    g_free(dir);
}

/* With fid->more->mutex held. 0 or a negative errno. */
static int need_dir(struct fid *fid)
{
    int error;

    if (fid->more->dir != NULL)
        return 0;
    error = limit_take(fid->account, LIMIT_MEMORY, sizeof *fid->more->dir, NULL);
    if (error != 0)
        return error;
    fid->more->dir = g_new0(struct fid_dir, 1);
    fid->more->dir->account = fid->account;
    fid->more->dir->valid = true; /* nobody has read from it: it stands at its beginning */
    return 0;
}

/* Sees to it that the entry at `offset` stands at dir->at. 1, 0 at the end, or a negative errno. */
static int load(struct fid *fid, uint64_t offset)
{
    struct fid_dir *dir = fid->more->dir;
    long n;

    if (dir->valid && dir->next == offset && dir->at < dir->end)
        return 1;
    if (!dir->valid || dir->next != offset) {
        dir->valid = false;
        if (lseek(fid->fd, (off_t)offset, SEEK_SET) < 0)
            return -errno;
    }
    n = syscall(SYS_getdents64, fid->fd, dir->bytes, sizeof dir->bytes);
    if (n < 0) {
        dir->valid = false;
        return -errno;
    }
    dir->valid = true;
    dir->next = offset;
    dir->at = 0;
    dir->end = (size_t)n;
    return n > 0;
}

/* Collects the entries from dir->at on that fit into `room` bytes. */
static size_t collect(const struct fid_dir *dir, size_t room, struct qid_dirent *entries,
                      struct listed *dents, bool *dotdot)
{
    size_t count = 0, at = dir->at;

    *dotdot = false;
    while (at < dir->end && count < ENTRIES_MAX) {
        const struct dent *dent = (const void *)(dir->bytes + at);
        size_t len = strlen(dent->d_name), need = ENTRY_HEADER + len;

        if (need > room)
            break;
        room -= need;
        if (len == 2 && memcmp(dent->d_name, "..", 2) == 0)
            *dotdot = true;
        dents[count] = (struct listed){dent, (uint16_t)len};
        entries[count++] =
            (struct qid_dirent){.name = dent->d_name, .d_ino = dent->d_ino, .d_type = dent->d_type};
        at += dent->d_reclen;
    }
    return count;
}

static void put_entries(struct fid_dir *dir, struct wire_out *out, const struct qid_dirent *entries,
                        const struct listed *dents, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct dent *dent = dents[i].dent;

        if (entries[i].result == 0)
            wire_put_entry(out, &entries[i].qid, (uint64_t)dent->d_off, entries[i].d_type,
                           dent->d_name, dents[i].len);
        dir->next = (uint64_t)dent->d_off;
        dir->at += dent->d_reclen;
    }
}

/* One batch from `offset`. 1: go on; 0: the reply is complete; or a negative errno. */
static int fill(struct fid *fid, uint64_t offset, struct wire_out *out, size_t room)
{
    static __thread struct qid_dirent entries[ENTRIES_MAX];
    static __thread struct listed dents[ENTRIES_MAX];
    struct statx stx;
    int error = load(fid, offset), parent = -1;
    size_t count;
    bool dotdot;

    if (error <= 0)
        return error;
    count = collect(fid->more->dir, room, entries, dents, &dotdot);
    if (count == 0)
        return out->used > P9_READ_HEADER ? 0 : -EINVAL; /* count too small for one entry */
    error = path_statx(fid->fd, &stx);
    if (error == 0 && dotdot) {
        parent = path_parent(fid->export, fid->fd);
        if (parent < 0) /* moved out of the export, or gone: it is its own parent */
            parent = path_dup(fid->fd);
    }
    if (error == 0)
        error = qid_from_dirents(fid->export->qids, fid->fd, &stx, parent, entries, count);
    if (parent >= 0)
        close(parent);
    if (error != 0)
        return error;
    security_look_entries(fid->export->security, fid->fd, entries, count);
    for (size_t i = 0; i < count; i++)
        /* What vanished or is not shown is left out; a store that is full or broken is told. */
        if (entries[i].result != 0 && entries[i].result != -ENOENT && entries[i].result != -EXDEV &&
            entries[i].result != -ENODEV && entries[i].result != -EPERM &&
            entries[i].result != -EACCES)
            return entries[i].result;
    put_entries(fid->more->dir, out, entries, dents, count);
    return 1;
}

int op_readdir(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct wire_out *out = &request->out;
    struct fid *fid = op_fid(request);
    size_t limit = out->size;
    uint64_t offset = msg->offset;
    int result;

    if (op_check_file(fid) != 0 || !fid->open)
        return -EBADF;
    if (fid->type != S_IFDIR)
        return -ENOTDIR;
    if (limit > (size_t)msg->count + P9_READ_HEADER)
        limit = (size_t)msg->count + P9_READ_HEADER;
    wire_put32(out, 0);
    pthread_mutex_lock(&fid->more->mutex);
    result = need_dir(fid);
    if (result != 0) {
        pthread_mutex_unlock(&fid->more->mutex);
        return result;
    }
    do {
        result = fill(fid, offset, out, limit - out->used);
        offset = fid->more->dir->next;
    } while (result > 0);
    if (result < 0)
        fid->more->dir->valid = false;
    pthread_mutex_unlock(&fid->more->mutex);
    /* Entries that were found before an error are given; the error comes with the next request. */
    if (result < 0 && out->used == P9_READ_HEADER)
        return result;
    wire_patch32(out, P9_HEADER, (uint32_t)(out->used - P9_READ_HEADER));
    return 0;
}
