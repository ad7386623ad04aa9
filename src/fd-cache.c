/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of fids: which are held, which may be closed when there are too many, and how they
 * come back. See fd-cache.h; fd-slot.h has the states and locks. What a change of names means for
 * fids that are closed is fd-guard.c's.
 */
#include "config.h"

#include "src/fd-cache.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "src/call.h"
#include "src/fd-slot.h"
#include "src/fid.h"
#include "src/locator.h"
#include "src/log.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/spare.h"

#define SHARDS 16

#define DRAIN_TIMES 200 /* how often it waits for requests that are at work */

/* A descriptor of several fids. It is closed with the last of them; who only remembers it then
 * finds it closed. */
struct fd_shared {
    int refs;    /* atomic: fids that have it, and who borrows it */
    int holders; /* atomic: of this struct: who remembers it, and one for all refs */
    int kept;    /* atomic */
    int fd;
};

/* Fids whose descriptor may be closed, in the order in which it came; and others that have one. */
struct list {
    struct fd_slot *head, *tail;
    uint64_t count; /* atomic for those without the lock */
};

static struct shard {
    pthread_mutex_t lock;
    struct list idle, fixed;
} shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static struct {
    uint64_t budget, kept_max;
    uint64_t ceiling; /* atomic: the budget, or less for a while after a shortage */
    uint64_t held;    /* atomic: descriptors that may be closed */
    uint64_t kept;    /* atomic: those of files that could not be found again */
    int told_kept;    /* atomic: the log has a line about it */
} cache = {.budget = UINT64_MAX, .kept_max = UINT64_MAX, .ceiling = UINT64_MAX};

static __thread bool added;    /* this thread brought a descriptor */
static __thread bool evicting; /* no shortage can be relieved by the relief itself */

void fd_cache_init(uint64_t files, uint64_t kept)
{
    cache.kept_max = kept;
    cache.budget = files > 0 ? files : 1;
    cache.ceiling = cache.budget;
    path_on_shortage(fd_cache_relieve);
}

uint64_t fd_cache_count(void)
{
    return __atomic_load_n(&cache.held, __ATOMIC_RELAXED);
}

/* ---- small parts ----------------------------------------------------------------------------- */

/* All of a session in one, so that sessions do not meet there as a rule. */
static struct shard *shard_of(const struct fid *fid)
{
    return &shards[fd_slot_hash((uint64_t)(uintptr_t)fid->account) >> 60];
}

/* Who is waited for may have to wait for a filesystem, and that for as long as it likes. */
static void wait_longer(unsigned *times)
{
    fd_slot_wait(times);
    if (*times > 128)
        g_usleep(MIN(*times - 128, 50) * 200);
}

static void list_add(struct list *list, struct fd_slot *slot)
{
    slot->next = NULL;
    slot->prev = list->tail;
    if (list->tail != NULL)
        list->tail->next = slot;
    else
        list->head = slot;
    list->tail = slot;
    __atomic_store_n(&list->count, list->count + 1, __ATOMIC_RELAXED);
}

static void list_remove(struct list *list, struct fd_slot *slot)
{
    if (slot->next != NULL)
        slot->next->prev = slot->prev;
    else
        list->tail = slot->prev;
    if (slot->prev != NULL)
        slot->prev->next = slot->next;
    else
        list->head = slot->next;
    slot->prev = slot->next = NULL;
    __atomic_store_n(&list->count, list->count - 1, __ATOMIC_RELAXED);
}

static struct list *list_of(struct shard *shard, uint8_t which)
{
    return which == FD_LIST_IDLE ? &shard->idle : &shard->fixed;
}

/* By who holds the fid alone or made it FD_BUSY. */
static void enlist(struct fid *fid, enum fd_list which)
{
    struct shard *shard = shard_of(fid);

    if (fid->slot.list == which)
        return;
    pthread_mutex_lock(&shard->lock);
    if (fid->slot.list != FD_LIST_NONE)
        list_remove(list_of(shard, fid->slot.list), &fid->slot);
    if (which != FD_LIST_NONE)
        list_add(list_of(shard, which), &fid->slot);
    fid->slot.list = which;
    pthread_mutex_unlock(&shard->lock);
}

static void count_in(struct fid *fid)
{
    if (fid->slot.counted)
        return;
    fid->slot.counted = true;
    __atomic_fetch_add(&cache.held, 1, __ATOMIC_RELAXED);
    added = true;
}

/* A descriptor is closed that was counted in one of two ways. */
static void close_counted(int fd, bool kept)
{
    __atomic_fetch_sub(kept ? &cache.kept : &cache.held, 1, __ATOMIC_RELAXED);
    call_close(fd);
}

static struct fd_shared *shared_new(int fd)
{
    struct fd_shared *shared = g_new0(struct fd_shared, 1);

    shared->fd = fd;
    shared->refs = shared->holders = 1;
    return shared;
}

struct fd_shared *fd_shared_new(int fd)
{
    __atomic_fetch_add(&cache.held, 1, __ATOMIC_RELAXED);
    return shared_new(fd);
}

void fd_shared_give(struct fd_shared *shared, struct fd_slot *slot)
{
    struct fid *fid = fd_slot_fid(slot);

    __atomic_fetch_add(&shared->refs, 1, __ATOMIC_RELAXED);
    slot->shared = shared;
    fid->fd = shared->fd;
    enlist(fid, FD_LIST_IDLE);
    fd_slot_set(slot, 0);
}

void fd_cache_forget(struct fd_shared *shared)
{
    if (shared != NULL && __atomic_sub_fetch(&shared->holders, 1, __ATOMIC_ACQ_REL) == 0)
        g_free(shared);
}

bool fd_shared_unref(struct fd_shared *shared)
{
    if (__atomic_sub_fetch(&shared->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return false;
    close_counted(shared->fd, shared->kept != 0);
    fd_cache_forget(shared);
    return true;
}

/* Closes the descriptor, or gives up its share of it, which is false. */
static bool drop_fd(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    bool closed = true;

    if (slot->shared != NULL)
        closed = fd_shared_unref(slot->shared);
    else if (slot->counted)
        close_counted(fid->fd, slot->kept);
    else if (fid->fd >= 0)
        call_close(fid->fd);
    fid->fd = -1;
    slot->shared = NULL;
    slot->kept = slot->counted = false;
    return closed;
}

/* ---- closing --------------------------------------------------------------------------------- */

/* A file that could not be found again keeps its descriptor; but not without end, as a client could
 * make ever more of them. */
static bool may_keep(void)
{
    uint64_t kept = __atomic_load_n(&cache.kept, __ATOMIC_RELAXED);

    if (kept < cache.kept_max)
        return true;
    if (!__atomic_exchange_n(&cache.told_kept, 1, __ATOMIC_RELAXED))
        log_warning("clients keep %" G_GUINT64_FORMAT
                    " files that have no name any more: from now on some become stale; raise the "
                    "limit of descriptors (LimitNOFILE=)",
                    kept);
    return false;
}

static void keep(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    bool already = slot->shared != NULL
                       ? __atomic_exchange_n(&slot->shared->kept, 1, __ATOMIC_ACQ_REL) != 0
                       : slot->kept;

    if (slot->shared == NULL)
        slot->kept = true;
    if (!already) {
        __atomic_fetch_add(&cache.kept, 1, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&cache.held, 1, __ATOMIC_RELAXED);
    }
    enlist(fid, FD_LIST_FIXED);
    fd_slot_set(slot, 0);
}

/* Closes the descriptor of a fid that is FD_BUSY and in no list. True: it is FD_CLOSED, and may be
 * gone already, and *freed, where that is not NULL, counts the descriptor, unless others share it;
 * false: it is as it was, and listed again. */
static bool close_fid(struct fid *fid, uint64_t *freed)
{
    struct fd_slot *slot = &fid->slot;
    int error, indexed;

    do {
        uint64_t removals = fd_guard_removals();

        evicting = true;
        error = locator_note(fid->export, fid->fd, &fid->qid_path, &slot->locator);
        evicting = false;
        if (error == -ENOENT && may_keep()) {
            keep(fid);
            return false;
        }
        indexed = 0;
        if (error == 0 || (error == -ENOENT && slot->locator != NULL))
            indexed = fd_index_add(slot, removals);
    } while (indexed == -EAGAIN);
    if ((error != 0 && error != -ENOENT) || indexed != 0) {
        enlist(fid, FD_LIST_IDLE);
        fd_slot_set(slot, 0);
        return false;
    }
    if (drop_fd(fid) && freed != NULL)
        ++*freed;
    fd_slot_set(slot, FD_CLOSED);
    return true;
}

/* Goes along the shard's list once or twice, until `want` descriptors are closed. How many were. */
static uint64_t close_some(struct shard *shard, uint64_t want)
{
    uint64_t closed = 0, steps;

    pthread_mutex_lock(&shard->lock);
    steps = shard->idle.count * 2;
    for (; closed < want && steps > 0 && shard->idle.head != NULL; steps--) {
        struct fd_slot *slot = shard->idle.head;

        list_remove(&shard->idle, slot);
        if (__atomic_exchange_n(&slot->used, 0, __ATOMIC_RELAXED) ||
            !fd_slot_change(slot, 0, FD_BUSY)) {
            list_add(&shard->idle, slot);
            continue;
        }
        slot->list = FD_LIST_NONE;
        pthread_mutex_unlock(&shard->lock);
        close_fid(fd_slot_fid(slot), &closed);
        pthread_mutex_lock(&shard->lock);
    }
    pthread_mutex_unlock(&shard->lock);
    return closed;
}

/* The sessions that have most pay first. */
static uint64_t close_many(uint64_t want)
{
    bool tried[SHARDS] = {false};
    uint64_t closed = 0;

    fd_guard_press();
    for (unsigned n = 0; n < SHARDS && closed < want; n++) {
        unsigned best = SHARDS;
        uint64_t most = 0;

        for (unsigned i = 0; i < SHARDS; i++) {
            uint64_t count = __atomic_load_n(&shards[i].idle.count, __ATOMIC_RELAXED);

            if (!tried[i] && count > most) {
                most = count;
                best = i;
            }
        }
        if (best == SHARDS)
            break;
        tried[best] = true;
        closed += close_some(&shards[best], want - closed);
    }
    return closed;
}

void fd_cache_trim(void)
{
    uint64_t ceiling = __atomic_load_n(&cache.ceiling, __ATOMIC_RELAXED), held = fd_cache_count();

    while (spare_is_short() && !spare_refill() && close_many(1) > 0)
        ;
    if (held <= ceiling)
        return;
    close_many(held - ceiling + ceiling / 32);
    /* After a shortage it grows again, slowly. */
    if (ceiling < cache.budget)
        __atomic_compare_exchange_n(&cache.ceiling, &ceiling, ceiling + 1, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
}

bool fd_cache_relieve(void)
{
    uint64_t held = fd_cache_count(), ceiling = held - held / 8;

    if (evicting || close_many(held / 8 + 1) == 0)
        return false;
    if (ceiling < cache.budget && ceiling > 0)
        __atomic_store_n(&cache.ceiling, ceiling, __ATOMIC_RELAXED);
    return true;
}

/* ---- holding --------------------------------------------------------------------------------- */

void fd_cache_begin(struct fid *fid)
{
    fid->fd = -1;
    fid->slot.state = 1;
}

/* The fid is FD_BUSY, and becomes held once, or FD_CLOSED again. */
static int bring_back(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    int error = privs_reach_all(), fd;

    fd = error != 0              ? error
         : slot->locator == NULL ? -ESTALE
                                 : locator_open(fid->export, slot->locator, fid->qid_path);
    if (fd < 0) {
        fd_slot_set(slot, FD_CLOSED);
        log_debug("fid %u: its file is not found again: %s", fid->number, g_strerror(-fd));
        return fd;
    }
    fd_index_remove(slot);
    fid->fd = fd;
    count_in(fid);
    enlist(fid, FD_LIST_IDLE);
    fd_slot_set(slot, 1);
    return 0;
}

static int hold_slowly(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    unsigned times = 0;

    /* One looks for the file, the others wait for him here. */
    for (;;) {
        int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

        if (state >= 0 && fd_slot_change(slot, state, state + 1))
            return 0;
        if (state == FD_CLOSED && fd_slot_change(slot, FD_CLOSED, FD_BUSY))
            return bring_back(fid);
        if (state == FD_BUSY)
            wait_longer(&times);
    }
}

int fd_cache_hold(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    int state = __atomic_load_n(&slot->state, __ATOMIC_RELAXED);

    if (!__atomic_load_n(&slot->used, __ATOMIC_RELAXED))
        __atomic_store_n(&slot->used, 1, __ATOMIC_RELAXED);
    while (state >= 0)
        if (__atomic_compare_exchange_n(&slot->state, &state, state + 1, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return 0;
    return hold_slowly(fid);
}

bool fd_cache_release(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    bool over = false;

    /* Only a turn of its own changes what these say, and then there is no other holder. */
    if (fid->fd >= 0 && slot->list == FD_LIST_NONE && slot->shared == NULL) {
        if (!fid->open) /* these are counted as open files */
            count_in(fid);
        enlist(fid, fid->open ? FD_LIST_FIXED : FD_LIST_IDLE);
    } else if (fid->open && slot->list == FD_LIST_IDLE)
        enlist(fid, FD_LIST_FIXED);
    if (added) {
        added = false;
        over = fd_cache_count() > __atomic_load_n(&cache.ceiling, __ATOMIC_RELAXED);
    }
    __atomic_fetch_sub(&slot->state, 1, __ATOMIC_RELEASE);
    return over;
}

void fd_cache_replace(struct fid *fid, int fd)
{
    enlist(fid, FD_LIST_NONE);
    drop_fd(fid);
    locator_free(fid->slot.locator);
    fid->slot.locator = NULL;
    fid->fd = fd;
}

/* Others may hold `from`, and share it at the same time; the lock is against those. Who closes it,
 * or gives it another descriptor, waits for its holders. */
bool fd_cache_share(struct fid *to, struct fid *from)
{
    struct shard *shard = shard_of(from);
    struct fd_slot *slot = &from->slot;

    if (from->open || from->fd < 0 || slot->list != FD_LIST_IDLE)
        return false;
    g_assert(shard == shard_of(to) && to->slot.list == FD_LIST_NONE);
    pthread_mutex_lock(&shard->lock);
    if (slot->shared == NULL) {
        slot->shared = shared_new(from->fd);
        slot->counted = false; /* as the shared one it goes on being counted */
    }
    __atomic_fetch_add(&slot->shared->refs, 1, __ATOMIC_RELAXED);
    to->slot.shared = slot->shared;
    to->fd = slot->shared->fd;
    list_add(&shard->idle, &to->slot);
    to->slot.list = FD_LIST_IDLE;
    pthread_mutex_unlock(&shard->lock);
    return true;
}

struct fd_shared *fd_cache_remember(const struct fid *fid)
{
    if (fid->slot.shared != NULL)
        __atomic_fetch_add(&fid->slot.shared->holders, 1, __ATOMIC_RELAXED);
    return fid->slot.shared;
}

int fd_cache_borrow(struct fd_shared *shared)
{
    int refs = shared != NULL ? __atomic_load_n(&shared->refs, __ATOMIC_RELAXED) : 0;

    while (refs > 0)
        if (__atomic_compare_exchange_n(&shared->refs, &refs, refs + 1, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return shared->fd;
    return -1;
}

void fd_cache_return(struct fd_shared *shared)
{
    fd_shared_unref(shared);
}

void fd_cache_end(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    unsigned times = 0;

    for (;;) {
        int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

        if (state == 0 && fd_slot_change(slot, 0, FD_BUSY))
            break;
        if (state == FD_CLOSED && fd_slot_change(slot, FD_CLOSED, FD_BUSY)) {
            if (slot->locator != NULL)
                fd_index_remove(slot);
            break;
        }
        g_assert(state <= 0); /* whoever held it has given it back */
        fd_slot_wait(&times);
    }
    enlist(fid, FD_LIST_NONE);
    drop_fd(fid);
    locator_free(slot->locator);
    slot->locator = NULL;
}

/* ---- making way for umount ------------------------------------------------------------------- */

static bool is_at_or_below(int fd, const char *path, char *full)
{
    size_t len = strlen(path);

    if (path_absolute(fd, full) != 0 || strncmp(full, path, len) != 0)
        return false;
    return full[len] == '\0' || full[len] == '/' || strcmp(full + len, " (deleted)") == 0 ||
           strcmp(path, "/") == 0;
}

void fd_busy_free(void *data)
{
    struct fd_busy *one = data;

    g_free(one->path);
    g_free(one);
}

/* `fid` may be NULL. */
static void tell_busy(GPtrArray *busy, const struct fid *fid, const char *path, const char *why)
{
    struct fd_busy *one = g_new0(struct fd_busy, 1);

    one->path = g_strdup(path);
    one->why = why;
    one->session = fid != NULL ? fid->account->id : 0;
    g_ptr_array_add(busy, one);
}

/* The fids of a shard that may be closed. `*waiting`: some are at work just now. */
static uint64_t drain_idle(struct shard *shard, const char *path, bool *waiting)
{
    char full[PATH_MAX];
    uint64_t closed = 0, steps;

    pthread_mutex_lock(&shard->lock);
    for (steps = shard->idle.count; steps > 0 && shard->idle.head != NULL; steps--) {
        struct fd_slot *slot = shard->idle.head;
        struct fid *fid = fd_slot_fid(slot);

        list_remove(&shard->idle, slot);
        if (!fd_slot_change(slot, 0, FD_BUSY)) {
            list_add(&shard->idle, slot);
            *waiting = true;
            continue;
        }
        slot->list = FD_LIST_NONE;
        pthread_mutex_unlock(&shard->lock);
        if (is_at_or_below(fid->fd, path, full))
            closed += close_fid(fid, NULL);
        else {
            enlist(fid, FD_LIST_IDLE);
            fd_slot_set(slot, 0);
        }
        pthread_mutex_lock(&shard->lock);
    }
    pthread_mutex_unlock(&shard->lock);
    return closed;
}

static void list_fixed(struct shard *shard, const char *path, GPtrArray *busy)
{
    char full[PATH_MAX];

    pthread_mutex_lock(&shard->lock);
    for (struct fd_slot *slot = shard->fixed.head; slot != NULL; slot = slot->next)
        /* Whoever closes it takes it out of the list first. */
        if (is_at_or_below(fd_slot_fid(slot)->fd, path, full))
            tell_busy(busy, fd_slot_fid(slot), full,
                      fd_slot_fid(slot)->open ? "open" : "could not be found again");
    pthread_mutex_unlock(&shard->lock);
}

uint64_t fd_cache_drain(const char *path, GPtrArray *busy)
{
    bool waiting = true;
    uint64_t closed = 0;
    unsigned times = 0;

    fd_guard_press();
    while (waiting && times < DRAIN_TIMES) {
        waiting = false;
        for (unsigned i = 0; i < SHARDS; i++)
            closed += drain_idle(&shards[i], path, &waiting);
        if (waiting)
            fd_slot_wait(&times);
    }
    if (waiting)
        tell_busy(busy, NULL, path, "a request is at work, maybe here");
    for (unsigned i = 0; i < SHARDS; i++)
        list_fixed(&shards[i], path, busy);
    locator_let_go(path);
    return closed;
}
