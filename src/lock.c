/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owners of locks. See lock.h for who an owner is. */
#include "config.h"

#include "src/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/fid.h"
#include "src/limit.h"
#include "src/log.h"
#include "src/path.h"
#include "src/privs.h"

/* Linux closes in this order: an unlock of all, perhaps one more, Tclunk; nothing in between waits
 * for anything but this server. So what is not clunked for so long after an unlock stays open. */
#define DOUBT_US (300 * 1000)

/* While an owner has a description of a file, its inode number cannot go to another. */
struct lock_key {
    uint64_t dev, ino;
};

struct lock_file {
    struct lock_key key;
    unsigned refs; /* index_lock: of owners, fids and calls */

    pthread_mutex_t mutex; /* all that follows, the owners and holds included */
    struct lock_owner *owners;
};

struct lock_owner {
    struct lock_owner *next;
    struct lock_file *file;
    struct limit_account *account;
    uint64_t session;
    uint32_t proc_id;
    char *client_id;
    int fd;
    int access; /* O_ACCMODE of fd */
    struct lock_hold *holds;
};

/* What an owner has by one fid; never empty. */
struct lock_hold {
    struct lock_hold *next;        /* of the owner */
    struct lock_hold *next_of_fid; /* other owners' */
    struct lock_owner *owner;
    struct fid *fid;
    struct lock_ranges ranges;
    bool undone; /* flock(LOCK_UN) was called by another process */

    /* The owner unlocked all by this other fid: it may have closed that one. NULL: it did not. */
    const struct fid *doubt;
    int64_t doubt_since; /* monotonic microseconds */
};

static int doubts; /* atomic: how many holds are in doubt */

static pthread_mutex_t index_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *files; /* &file->key -> file */

/* ---- the index ------------------------------------------------------------------------------- */

static guint key_hash(gconstpointer data)
{
    const struct lock_key *key = data;

    return (guint)((key->ino ^ (key->ino >> 32) ^ key->dev) * 0x9e3779b1u);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(struct lock_key)) == 0;
}

static struct lock_file *file_ref(const struct lock_key *key)
{
    struct lock_file *file;

    pthread_mutex_lock(&index_lock);
    if (files == NULL)
        files = g_hash_table_new(key_hash, key_equal);
    file = g_hash_table_lookup(files, key);
    if (file == NULL) {
        file = g_new0(struct lock_file, 1);
        file->key = *key;
        pthread_mutex_init(&file->mutex, NULL);
        g_hash_table_insert(files, &file->key, file);
    }
    file->refs++;
    pthread_mutex_unlock(&index_lock);
    return file;
}

static void file_unref(struct lock_file *file)
{
    bool last;

    pthread_mutex_lock(&index_lock);
    last = --file->refs == 0;
    if (last)
        g_hash_table_remove(files, &file->key);
    pthread_mutex_unlock(&index_lock);
    if (last) {
        g_assert(file->owners == NULL);
        pthread_mutex_destroy(&file->mutex);
        g_free(file);
    }
}

/* The entry of the fid's file, which the fid keeps. 0 or a negative errno. */
static int file_of(struct fid *fid, struct lock_file **file)
{
    struct lock_key key;
    struct stat st;

    pthread_mutex_lock(&fid->more->mutex);
    *file = fid->more->locks.file;
    pthread_mutex_unlock(&fid->more->mutex);
    if (*file != NULL)
        return 0;
    if (fstat(fid->fd, &st) < 0)
        return -errno;
    memset(&key, 0, sizeof key);
    key.dev = st.st_dev;
    key.ino = st.st_ino;
    *file = file_ref(&key);
    pthread_mutex_lock(&fid->more->mutex);
    if (fid->more->locks.file != NULL)
        file_unref(*file); /* another request was first; it is the same file */
    else
        fid->more->locks.file = *file;
    pthread_mutex_unlock(&fid->more->mutex);
    return 0;
}

/* ---- the kernel's side ----------------------------------------------------------------------- */

static void to_flock(uint64_t start, uint64_t end, enum lock_type type, struct flock *lock)
{
    memset(lock, 0, sizeof *lock); /* OFD locks want l_pid 0 */
    lock->l_type = type == LOCK_TYPE_WRITE ? F_WRLCK : type == LOCK_TYPE_READ ? F_RDLCK : F_UNLCK;
    lock->l_whence = SEEK_SET;
    lock->l_start = (off_t)start;
    lock->l_len = end == LOCK_END ? 0 : (off_t)(end - start + 1);
}

static int kernel_set(int fd, uint64_t start, uint64_t end, enum lock_type type)
{
    struct flock lock;

    to_flock(start, end, type, &lock);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

/* A description of the fid's file. The fid being open proves the right to it, also where the file's
 * mode has changed since; nothing is read or written by it. */
static int open_description(const struct fid *fid, int access)
{
    int flags = access | O_NONBLOCK | O_NOCTTY, fd = path_reopen(fid->fd, flags);
    struct privs_pause pause;
    int error;

    if (fd != -EACCES && fd != -EPERM)
        return fd;
    privs_suspend(&pause);
    fd = path_reopen(fid->fd, flags);
    error = privs_resume(&pause);
    if (error != 0 && fd >= 0) {
        close(fd);
        return error;
    }
    return fd;
}

/* ---- owners and holds, with the file's mutex held -------------------------------------------- */

/* What the owner has at `pos` by all fids but `except`; the same from *begin to *end. */
static enum lock_type owner_at(const struct lock_owner *owner, const struct lock_hold *except,
                               uint64_t pos, uint64_t *begin, uint64_t *end)
{
    enum lock_type type = LOCK_TYPE_NONE;

    *begin = 0;
    *end = LOCK_END;
    for (const struct lock_hold *hold = owner->holds; hold != NULL; hold = hold->next) {
        uint64_t from, to;
        enum lock_type at;

        if (hold == except)
            continue;
        at = lock_ranges_at(&hold->ranges, pos, &from, &to);
        type = MAX(type, at);
        *begin = MAX(*begin, from);
        *end = MIN(*end, to);
    }
    return type;
}

static bool same_owner(const struct lock_owner *owner, const struct lock_request *request)
{
    return owner->session == request->session && owner->proc_id == request->proc_id &&
           strcmp(owner->client_id, request->client_id) == 0;
}

static struct lock_owner *find_owner(const struct lock_file *file,
                                     const struct lock_request *request)
{
    struct lock_owner *owner = file->owners;

    while (owner != NULL && !same_owner(owner, request))
        owner = owner->next;
    return owner;
}

static struct lock_hold *find_hold(const struct lock_owner *owner, const struct fid *fid)
{
    struct lock_hold *hold = owner != NULL ? owner->holds : NULL;

    while (hold != NULL && hold->fid != fid)
        hold = hold->next;
    return hold;
}

/* `fid` (or NULL) gets the description where that has no lock left: a client that locks by it once
 * will do so again, and to open one takes longer than the lock. */
static void owner_free(struct lock_owner *owner, struct fid *fid)
{
    struct lock_owner **at = &owner->file->owners;

    while (*at != owner)
        at = &(*at)->next;
    *at = owner->next;
    if (fid != NULL && fid->more->locks.spare == 0) {
        fid->more->locks.spare = owner->fd + 1;
        fid->more->locks.spare_access = owner->access;
    } else {
        close(owner->fd);
        limit_give(owner->account, LIMIT_FILES, 1);
    }
    limit_give(owner->account, LIMIT_LOCKS, 1);
    file_unref(owner->file); /* the caller has another */
    g_free(owner->client_id);
    g_free(owner);
}

static void set_doubt(struct lock_hold *hold, const struct fid *fid)
{
    if ((hold->doubt == NULL) != (fid == NULL))
        __atomic_fetch_add(&doubts, fid != NULL ? 1 : -1, __ATOMIC_RELAXED);
    hold->doubt = fid;
    hold->doubt_since = fid != NULL ? g_get_monotonic_time() : 0;
}

/* Frees a hold that has become empty; its owner stays. */
static void hold_free(struct lock_hold *hold)
{
    struct lock_hold **at;

    set_doubt(hold, NULL);
    for (at = &hold->owner->holds; *at != hold; at = &(*at)->next)
        continue;
    *at = hold->next;
    for (at = &hold->fid->more->locks.holds; *at != hold; at = &(*at)->next_of_fid)
        continue;
    *at = hold->next_of_fid;
    lock_ranges_clear(&hold->ranges);
    g_free(hold);
}

/* As many ranges can be new by one change: two in the hold itself, one in each of the others. */
static int reserve(const struct lock_owner *owner, const struct lock_hold *hold, uint64_t *amount)
{
    *amount = 2;
    for (const struct lock_hold *other = owner->holds; other != NULL; other = other->next)
        if (other != hold)
            (*amount)++;
    return limit_take(owner->account, LIMIT_LOCKS, *amount, NULL);
}

static unsigned range_count(const struct lock_owner *owner)
{
    unsigned count = 0;

    for (const struct lock_hold *hold = owner->holds; hold != NULL; hold = hold->next)
        count += hold->ranges.count;
    return count;
}

/* Frees [start, end] of the hold, in the kernel only where nothing else of the owner is there. May
 * free the hold, and the owner. Where the hold gets one range more, that was taken from the account
 * before. `always`: also where the kernel cannot, which then keeps a lock for too long. */
static int hold_drop(struct lock_hold *hold, uint64_t start, uint64_t end, bool always)
{
    struct lock_owner *owner = hold->owner;
    unsigned before = hold->ranges.count;
    struct fid *fid = hold->fid;
    uint64_t pos = start;
    bool clean = true;
    int error = 0;

    for (;;) {
        uint64_t begin, stop, stop_all;
        enum lock_type rest = owner_at(owner, hold, pos, &begin, &stop);
        enum lock_type now = owner_at(owner, NULL, pos, &begin, &stop_all);

        /* Nothing else of it in the whole file is the usual case, and one call. */
        if (rest != LOCK_TYPE_NONE)
            stop = MIN(stop, stop_all);
        stop = MIN(stop, end);
        if (rest != now || rest == LOCK_TYPE_NONE)
            error = kernel_set(owner->fd, pos, stop, rest);
        clean = clean && error == 0;
        if (error != 0 && !always)
            break;
        lock_ranges_set(&hold->ranges, pos, stop, LOCK_TYPE_NONE);
        if (stop == end)
            break;
        pos = stop + 1;
    }
    if (hold->ranges.count < before)
        limit_give(owner->account, LIMIT_LOCKS, before - hold->ranges.count);
    if (hold->ranges.count == 0)
        hold_free(hold);
    if (owner->holds == NULL)
        owner_free(owner, clean ? fid : NULL);
    return error;
}

/* The description that the fid keeps, if it is as good as a new one. */
static int take_spare(struct fid *fid, int *access)
{
    int fd = fid->more->locks.spare - 1, has = fid->more->locks.spare_access;

    if (fd < 0 || (has != O_RDWR && (has != *access || has == O_WRONLY)))
        return -1;
    fid->more->locks.spare = 0;
    *access = has;
    return fd;
}

static int owner_new(struct lock_file *file, struct fid *fid, const struct lock_request *request,
                     struct lock_owner **result)
{
    int access = fid->more->open_flags & O_ACCMODE, fd, error;
    struct lock_owner *owner;

    error = limit_take(fid->account, LIMIT_LOCKS, 1, NULL);
    if (error != 0)
        return error;
    fd = take_spare(fid, &access); /* which is counted already */
    error = fd < 0 ? limit_take(fid->account, LIMIT_FILES, 1, NULL) : 0;
    if (error != 0) {
        limit_give(fid->account, LIMIT_LOCKS, 1);
        return error == -EMFILE || error == -ENFILE ? -ENOLCK : error;
    }
    /* What is open for writing only could never take a read lock by another fid. */
    if (fd < 0 && access == O_WRONLY) {
        fd = open_description(fid, O_RDWR);
        if (fd >= 0)
            access = O_RDWR;
    }
    if (fd < 0)
        fd = open_description(fid, access);
    if (fd < 0) {
        limit_give(fid->account, LIMIT_FILES, 1);
        limit_give(fid->account, LIMIT_LOCKS, 1);
        return fd;
    }
    owner = g_new0(struct lock_owner, 1);
    owner->file = file_ref(&file->key);
    owner->account = fid->account;
    owner->session = request->session;
    owner->proc_id = request->proc_id;
    owner->client_id = g_strdup(request->client_id);
    owner->fd = fd;
    owner->access = access;
    owner->next = file->owners;
    file->owners = owner;
    *result = owner;
    return 0;
}

/* Sees to it that the owner's description can take a write lock. Read locks live together, so they
 * can be taken by the new one before the old one lets them go. */
static int owner_widen(struct lock_owner *owner, const struct fid *fid, enum lock_type type)
{
    int fd, error = 0;

    if (owner->access == O_RDWR || (type == LOCK_TYPE_WRITE && owner->access == O_WRONLY) ||
        (type == LOCK_TYPE_READ && owner->access == O_RDONLY))
        return 0;
    if (owner->access == O_WRONLY)
        return -ENOLCK; /* not even the daemon may read it */
    fd = open_description(fid, O_RDWR);
    if (fd < 0)
        return fd;
    for (const struct lock_hold *hold = owner->holds; hold != NULL; hold = hold->next)
        for (unsigned i = 0; i < hold->ranges.count && error == 0; i++)
            error =
                kernel_set(fd, hold->ranges.at[i].start, hold->ranges.at[i].end, LOCK_TYPE_READ);
    if (error != 0) {
        close(fd);
        return error;
    }
    close(owner->fd);
    owner->fd = fd;
    owner->access = O_RDWR;
    return 0;
}

/* Whether a doubt can be decided, and how. */
enum verdict { IN_DOUBT, UNLOCKED, CLOSED };

/* By what happens now: `clunked`, a fid that ends, or `request` by `fid`. NULL: nothing of the
 * kind. */
static enum verdict judge(const struct lock_hold *hold, const struct fid *clunked,
                          const struct fid *fid, const struct lock_request *request, int64_t now)
{
    if (hold->doubt == NULL)
        return IN_DOUBT;
    if (now - hold->doubt_since >= DOUBT_US)
        return UNLOCKED;
    if (hold->doubt == clunked)
        return CLOSED;
    /* Who locks by it did not close it. */
    if (request != NULL && hold->doubt == fid && request->range.type != LOCK_TYPE_NONE &&
        same_owner(hold->owner, request))
        return UNLOCKED;
    return IN_DOUBT;
}

static void settle(struct lock_file *file, const struct fid *clunked, const struct fid *fid,
                   const struct lock_request *request)
{
    struct lock_owner *next_owner;
    struct lock_hold *next;
    int64_t now;

    if (__atomic_load_n(&doubts, __ATOMIC_RELAXED) == 0)
        return;
    now = g_get_monotonic_time();
    for (struct lock_owner *owner = file->owners; owner != NULL; owner = next_owner) {
        next_owner = owner->next;
        for (struct lock_hold *hold = owner->holds; hold != NULL; hold = next) {
            enum verdict verdict = judge(hold, clunked, fid, request, now);

            next = hold->next;
            if (verdict == UNLOCKED)
                hold_drop(hold, 0, LOCK_END, true);
            else if (verdict == CLOSED)
                set_doubt(hold, NULL);
        }
    }
}

/* What flock(LOCK_UN) of another process gave up, a request by the same fid may have. */
static void take_undone(struct fid *fid, const struct lock_request *request)
{
    struct lock_hold *next;

    for (struct lock_hold *hold = fid->more->locks.holds; hold != NULL; hold = next) {
        next = hold->next_of_fid;
        if (hold->undone && !same_owner(hold->owner, request))
            hold_drop(hold, 0, LOCK_END, true);
    }
}

static int lock_range(struct lock_file *file, struct fid *fid, const struct lock_request *request)
{
    const struct lock_range *range = &request->range;
    struct lock_owner *owner;
    struct lock_hold *hold, *next;
    unsigned before, after;
    uint64_t reserved = 0;
    int error = 0;

    take_undone(fid, request);
    owner = find_owner(file, request);
    if (owner == NULL)
        error = owner_new(file, fid, request, &owner);
    if (error != 0)
        return error;
    hold = find_hold(owner, fid);
    before = range_count(owner);
    error = reserve(owner, hold, &reserved);
    if (error == 0)
        error = owner_widen(owner, fid, range->type);
    if (error == 0)
        error = kernel_set(owner->fd, range->start, range->end, range->type);
    if (error != 0) {
        limit_give(owner->account, LIMIT_LOCKS, reserved);
        if (owner->holds == NULL)
            owner_free(owner, NULL);
        return error;
    }
    if (hold == NULL) {
        hold = g_new0(struct lock_hold, 1);
        hold->owner = owner;
        hold->fid = fid;
        hold->next = owner->holds;
        owner->holds = hold;
        hold->next_of_fid = fid->more->locks.holds;
        fid->more->locks.holds = hold;
    }
    hold->undone = false;
    set_doubt(hold, NULL);
    lock_ranges_set(&hold->ranges, range->start, range->end, range->type);
    /* What conflicts with it by other fids of the same owner has moved to this one. */
    for (struct lock_hold *other = owner->holds; other != NULL; other = next) {
        uint64_t pos = range->start, begin, end;

        next = other->next;
        if (other == hold)
            continue;
        for (;; pos = end + 1) {
            enum lock_type type = lock_ranges_at(&other->ranges, pos, &begin, &end);

            end = MIN(end, range->end);
            if (type == LOCK_TYPE_WRITE ||
                (type == LOCK_TYPE_READ && range->type == LOCK_TYPE_WRITE))
                lock_ranges_set(&other->ranges, pos, end, LOCK_TYPE_NONE);
            if (end == range->end)
                break;
        }
        if (other->ranges.count == 0)
            hold_free(other);
    }
    after = range_count(owner);
    limit_give(owner->account, LIMIT_LOCKS, reserved + before - after);
    return 0;
}

/* Frees [start, end] of the hold, also where that leaves a hole. May free the hold, and the owner.
 */
static int drop_part(struct lock_hold *hold, uint64_t start, uint64_t end)
{
    const struct lock_range *first = &hold->ranges.at[0];
    const struct lock_range *last = &hold->ranges.at[hold->ranges.count - 1];
    struct limit_account *account = hold->owner->account;
    unsigned before = hold->ranges.count;
    int error;

    if (first->start >= start || last->end <= end)
        return hold_drop(hold, start, end, false);
    /* A hole may make one range more; and as there is something on both sides, the hold stays. */
    error = limit_take(account, LIMIT_LOCKS, 1, NULL);
    if (error != 0)
        return error;
    error = hold_drop(hold, start, end, false);
    if (hold->ranges.count <= before)
        limit_give(account, LIMIT_LOCKS, 1);
    return error;
}

static bool holds_any(const struct lock_hold *hold, uint64_t start, uint64_t end)
{
    uint64_t from, to;

    return lock_ranges_at(&hold->ranges, start, &from, &to) != LOCK_TYPE_NONE || to < end;
}

/* The owner unlocks part of a file by a fid (`own`: what it holds by that one, or NULL): where it
 * holds nothing by that fid, it means what it locked by others. May free the owner if own is NULL.
 */
static int unlock_others(struct lock_owner *owner, const struct lock_hold *own,
                         const struct lock_range *range)
{
    uint64_t pos, begin, end;

    for (pos = range->start;; pos = end + 1) {
        struct lock_hold *next;
        bool mine = false;

        end = LOCK_END;
        if (own != NULL)
            mine = lock_ranges_at(&own->ranges, pos, &begin, &end) != LOCK_TYPE_NONE;
        end = MIN(end, range->end);
        for (struct lock_hold *hold = mine ? NULL : owner->holds; hold != NULL; hold = next) {
            int error = 0;

            next = hold->next;
            if (hold != own && holds_any(hold, pos, end))
                error = drop_part(hold, pos, end);
            if (error != 0)
                return error;
        }
        if (end == range->end)
            return 0;
    }
}

static int unlock_range(struct lock_file *file, struct fid *fid, const struct lock_request *request)
{
    struct lock_owner *owner = find_owner(file, request);
    struct lock_hold *hold = find_hold(owner, fid);
    const struct lock_range *range = &request->range;
    int error = 0;

    if (request->undo_all)
        for (struct lock_hold *other = fid->more->locks.holds; other != NULL;
             other = other->next_of_fid)
            if (other != hold && other->owner->session == request->session &&
                strcmp(other->owner->client_id, request->client_id) == 0)
                other->undone = true;
    if (owner == NULL)
        return 0;
    if (range->start > 0 || range->end < LOCK_END)
        error = unlock_others(owner, hold, range);
    else if (!request->undo_all)
        for (struct lock_hold *other = owner->holds; other != NULL; other = other->next)
            if (other != hold)
                set_doubt(other, fid);
    return error == 0 && hold != NULL ? drop_part(hold, range->start, range->end) : error;
}

/* ---- what others call ------------------------------------------------------------------------ */

int lock_set(struct fid *fid, const struct lock_request *request)
{
    int access = fid->more->open_flags & O_ACCMODE, error;
    struct lock_file *file;

    if ((request->range.type == LOCK_TYPE_WRITE && access == O_RDONLY) ||
        (request->range.type == LOCK_TYPE_READ && access == O_WRONLY))
        return -EBADF;
    error = file_of(fid, &file);
    if (error != 0)
        return error;
    pthread_mutex_lock(&file->mutex);
    settle(file, NULL, fid, request);
    if (request->range.type == LOCK_TYPE_NONE)
        error = unlock_range(file, fid, request);
    else
        error = lock_range(file, fid, request);
    pthread_mutex_unlock(&file->mutex);
    return error;
}

/* The first range of the owner at or behind the start that conflicts. */
static bool first_conflict(const struct lock_owner *owner, const struct lock_range *wanted,
                           struct lock_range *found)
{
    uint64_t pos = wanted->start, begin, end;

    for (;; pos = end + 1) {
        enum lock_type type = owner_at(owner, NULL, pos, &begin, &end), next;
        uint64_t from, to;

        if (type == LOCK_TYPE_WRITE ||
            (type == LOCK_TYPE_READ && wanted->type == LOCK_TYPE_WRITE)) {
            *found = (struct lock_range){begin, end, type};
            /* The parts of it that came by several fids are one lock. */
            while (found->start > 0) {
                next = owner_at(owner, NULL, found->start - 1, &from, &to);
                if (next != type)
                    break;
                found->start = from;
            }
            while (found->end < LOCK_END) {
                next = owner_at(owner, NULL, found->end + 1, &from, &to);
                if (next != type)
                    break;
                found->end = to;
            }
            return true;
        }
        if (end >= wanted->end)
            return false;
    }
}

int lock_get(struct fid *fid, const struct lock_request *request, struct lock_conflict *conflict)
{
    const struct lock_owner *own = NULL, *holder = NULL;
    struct lock_file *file;
    struct flock lock;
    int error = file_of(fid, &file);

    if (error != 0)
        return error;
    memset(conflict, 0, sizeof *conflict);
    pthread_mutex_lock(&file->mutex);
    settle(file, NULL, NULL, NULL);
    for (const struct lock_owner *owner = file->owners; owner != NULL; owner = owner->next) {
        struct lock_range found;

        if (same_owner(owner, request))
            own = owner;
        else if (first_conflict(owner, &request->range, &found) &&
                 (holder == NULL || found.start < conflict->range.start)) {
            holder = owner;
            conflict->range = found;
        }
    }
    if (holder != NULL) {
        conflict->proc_id = holder->proc_id;
        g_strlcpy(conflict->client_id, holder->client_id, sizeof conflict->client_id);
    } else {
        /* Nothing of our clients; so what the kernel finds is a host process's. */
        to_flock(request->range.start, request->range.end, request->range.type, &lock);
        if (fcntl(own != NULL ? own->fd : fid->fd, F_OFD_GETLK, &lock) < 0)
            error = -errno;
        else if (lock.l_type != F_UNLCK) {
            conflict->range.start = (uint64_t)lock.l_start;
            conflict->range.end =
                lock.l_len == 0 ? LOCK_END : (uint64_t)(lock.l_start + lock.l_len - 1);
            conflict->range.type = lock.l_type == F_RDLCK ? LOCK_TYPE_READ : LOCK_TYPE_WRITE;
            /* The kernel tells no owner of OFD locks (-1), nor a process that we cannot see (0). */
            conflict->proc_id = lock.l_pid > 0 ? (uint32_t)lock.l_pid : 0;
        }
    }
    pthread_mutex_unlock(&file->mutex);
    return error;
}

void lock_release(struct fid *fid)
{
    struct lock_file *file = fid->more->locks.file;
    struct lock_hold *next;

    if (file == NULL)
        return;
    pthread_mutex_lock(&file->mutex);
    settle(file, fid, NULL, NULL);
    for (struct lock_hold *hold = fid->more->locks.holds; hold != NULL; hold = next) {
        next = hold->next_of_fid;
        hold_drop(hold, 0, LOCK_END, true);
    }
    if (fid->more->locks.spare != 0) {
        close(fid->more->locks.spare - 1);
        limit_give(fid->account, LIMIT_FILES, 1);
        fid->more->locks.spare = 0;
    }
    pthread_mutex_unlock(&file->mutex);
    fid->more->locks.file = NULL;
    file_unref(file);
}

void lock_sweep(void)
{
    GPtrArray *held;
    GHashTableIter iter;
    gpointer value;

    if (__atomic_load_n(&doubts, __ATOMIC_RELAXED) == 0)
        return;
    held = g_ptr_array_new();
    pthread_mutex_lock(&index_lock);
    if (files != NULL) {
        g_hash_table_iter_init(&iter, files);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            ((struct lock_file *)value)->refs++;
            g_ptr_array_add(held, value);
        }
    }
    pthread_mutex_unlock(&index_lock);
    for (guint i = 0; i < held->len; i++) {
        struct lock_file *file = g_ptr_array_index(held, i);

        pthread_mutex_lock(&file->mutex);
        settle(file, NULL, NULL, NULL);
        pthread_mutex_unlock(&file->mutex);
        file_unref(file);
    }
    g_ptr_array_free(held, TRUE);
}
