/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of fids. See fd-cache.h.
 *
 * The state of a fid is one number: how often it is held (0 or more: its descriptor is there),
 * CLOSED, or BUSY while somebody changes from one to the other. Only who made it BUSY touches the
 * rest of the slot then; the others wait.
 *
 * Locks: that of the index, then that of a shard. Neither is held while a file is looked for.
 */
#include "config.h"

#include "src/fd-cache.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "src/call.h"
#include "src/fid.h"
#include "src/locator.h"
#include "src/log.h"
#include "src/name-tree.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/spare.h"

#define CLOSED (-1)
#define BUSY   (-2)

#define SHARDS  16
#define INDEXES 16

#define INDEX_BITS_MIN 4

#define DRAIN_TIMES 200 /* how often it waits for requests that are at work */
#define NAMES_TIMES 600 /* the same for changes of names, before the first fid is closed */

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
} shards[SHARDS];

/* Closed fids by file (locator_key), and the files whose fids must not be closed now. The table is
 * one of chains through the fids themselves, as there may be a great many. */
static struct index {
    pthread_mutex_t lock;
    struct fd_slot **closed; /* NULL: none yet */
    unsigned bits;           /* of them there are 2^bits chains */
    uint64_t count;
    struct fd_guard *guards;
} indexes[INDEXES];

static struct {
    uint64_t budget, kept_max;
    uint64_t ceiling;  /* atomic: the budget, or less for a while after a shortage */
    uint64_t held;     /* atomic: descriptors that may be closed */
    uint64_t removals; /* atomic: removals of names that ended */
    uint64_t kept;     /* atomic: those of files that could not be found again */
    int pressed;       /* atomic: fids may be closed from now on */
    int unguarded;     /* atomic: changes of names that began before that, at work */
    int told_kept;     /* atomic: the log has a line about it */
    pthread_once_t once;
} cache = {
    .budget = UINT64_MAX, .kept_max = UINT64_MAX, .ceiling = UINT64_MAX, .once = PTHREAD_ONCE_INIT};

static __thread bool added;    /* this thread brought a descriptor */
static __thread bool evicting; /* no shortage can be relieved by the relief itself */

static void init_locks(void)
{
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&shards[i].lock, NULL);
    for (unsigned i = 0; i < INDEXES; i++)
        pthread_mutex_init(&indexes[i].lock, NULL);
}

void fd_cache_init(uint64_t files, uint64_t kept)
{
    pthread_once(&cache.once, init_locks);
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

static struct fid *fid_of(struct fd_slot *slot)
{
    return (struct fid *)(void *)((char *)slot - offsetof(struct fid, slot));
}

static uint64_t hash_of(uint64_t key)
{
    return key * 0x9e3779b97f4a7c15u;
}

/* All of a session in one, so that sessions do not meet there as a rule. */
static struct shard *shard_of(const struct fid *fid)
{
    return &shards[hash_of((uint64_t)(uintptr_t)fid->account) >> 60];
}

static struct index *index_of(uint64_t key)
{
    return &indexes[hash_of(key) >> 60];
}

static bool change(struct fd_slot *slot, int from, int to)
{
    return __atomic_compare_exchange_n(&slot->state, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static void set_state(struct fd_slot *slot, int state)
{
    __atomic_store_n(&slot->state, state, __ATOMIC_RELEASE);
}

static void wait_a_little(unsigned *times)
{
    if ((*times)++ < 64)
        sched_yield();
    else
        g_usleep(200);
}

/* Who is waited for may have to wait for a filesystem, and that for as long as it likes. */
static void wait_longer(unsigned *times)
{
    wait_a_little(times);
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

/* By who holds the fid alone or made it BUSY. */
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

void fd_cache_forget(struct fd_shared *shared)
{
    if (shared != NULL && __atomic_sub_fetch(&shared->holders, 1, __ATOMIC_ACQ_REL) == 0)
        g_free(shared);
}

/* True: that was the last share, and the descriptor is closed. */
static bool shared_unref(struct fd_shared *shared)
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
        closed = shared_unref(slot->shared);
    else if (slot->counted)
        close_counted(fid->fd, slot->kept);
    else if (fid->fd >= 0)
        call_close(fid->fd);
    fid->fd = -1;
    slot->shared = NULL;
    slot->kept = slot->counted = false;
    return closed;
}

/* ---- the index ------------------------------------------------------------------------------- */

static struct fd_slot **chain_of(const struct index *index, uint64_t key)
{
    /* The first four bits of the hash chose the index. */
    return &index->closed[hash_of(key) << 4 >> (64 - index->bits)];
}

static void push(struct index *index, struct fd_slot *slot)
{
    struct fd_slot **chain = chain_of(index, locator_key(slot->locator));

    slot->prev = NULL;
    slot->next = *chain;
    if (slot->next != NULL)
        slot->next->prev = slot;
    *chain = slot;
}

/* About as many chains as there are fids, so that these are short and those few. */
static void index_resize(struct index *index, unsigned bits)
{
    struct fd_slot **old = index->closed;
    size_t chains = old != NULL ? (size_t)1 << index->bits : 0;

    index->closed = g_new0(struct fd_slot *, (size_t)1 << bits);
    index->bits = bits;
    for (size_t i = 0; i < chains; i++)
        for (struct fd_slot *slot = old[i], *next; slot != NULL; slot = next) {
            next = slot->next;
            push(index, slot);
        }
    g_free(old);
}

static void index_add(struct index *index, struct fd_slot *slot)
{
    if (index->closed == NULL)
        index_resize(index, INDEX_BITS_MIN);
    else if (index->count >> index->bits > 0)
        index_resize(index, index->bits + 1);
    index->count++;
    push(index, slot);
}

/* The table stays as it is: for who goes along a chain. */
static void unlink_slot(struct index *index, struct fd_slot *slot)
{
    if (slot->next != NULL)
        slot->next->prev = slot->prev;
    if (slot->prev != NULL)
        slot->prev->next = slot->next;
    else
        *chain_of(index, locator_key(slot->locator)) = slot->next;
    slot->prev = slot->next = NULL;
    index->count--;
}

static void index_remove(struct index *index, struct fd_slot *slot)
{
    unlink_slot(index, slot);
    if (index->bits > INDEX_BITS_MIN && index->count >> (index->bits - 3) == 0)
        index_resize(index, index->bits - 2);
}

static bool is_guarded(const struct index *index, uint64_t key)
{
    for (const struct fd_guard *guard = index->guards; guard != NULL; guard = guard->next)
        if (guard->key == key)
            return true;
    return false;
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
    set_state(slot, 0);
}

/* Closes the descriptor of a fid that is BUSY and in no list. True: it is CLOSED, and may be gone
 * already, and *freed, where that is not NULL, counts the descriptor, unless others share it;
 * false: it is as it was, and listed again. */
static bool close_fid(struct fid *fid, uint64_t *freed)
{
    struct fd_slot *slot = &fid->slot;
    bool again;
    int error;

    do {
        uint64_t removals = __atomic_load_n(&cache.removals, __ATOMIC_SEQ_CST);

        again = false;
        evicting = true;
        error = locator_note(fid->export, fid->fd, &fid->qid_path, &slot->locator);
        evicting = false;
        if (error == -ENOENT && may_keep()) {
            keep(fid);
            return false;
        }
        if (error == 0 || (error == -ENOENT && slot->locator != NULL)) {
            struct index *index = index_of(locator_key(slot->locator));

            pthread_mutex_lock(&index->lock);
            if (is_guarded(index, locator_key(slot->locator)))
                error = -EAGAIN;
            else if (__atomic_load_n(&cache.removals, __ATOMIC_SEQ_CST) == removals)
                index_add(index, slot);
            else
                again = true; /* who removed a name meanwhile did not find the fid here */
            pthread_mutex_unlock(&index->lock);
        }
    } while (again);
    if (error != 0 && error != -ENOENT) {
        enlist(fid, FD_LIST_IDLE);
        set_state(slot, 0);
        return false;
    }
    if (drop_fd(fid) && freed != NULL)
        ++*freed;
    set_state(slot, CLOSED);
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
        if (__atomic_exchange_n(&slot->used, 0, __ATOMIC_RELAXED) || !change(slot, 0, BUSY)) {
            list_add(&shard->idle, slot);
            continue;
        }
        slot->list = FD_LIST_NONE;
        pthread_mutex_unlock(&shard->lock);
        close_fid(fid_of(slot), &closed);
        pthread_mutex_lock(&shard->lock);
    }
    pthread_mutex_unlock(&shard->lock);
    return closed;
}

/* Fids may be closed from now on, and who removes a name must see to them. One who began before,
 * and did not, is waited for; but not without end, as his filesystem may not answer. */
static void press(void)
{
    unsigned times = 0;

    if (__atomic_load_n(&cache.pressed, __ATOMIC_ACQUIRE) == 2)
        return;
    name_tree_matters();
    __atomic_store_n(&cache.pressed, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&cache.unguarded, __ATOMIC_SEQ_CST) > 0 && times < NAMES_TIMES)
        wait_a_little(&times);
    __atomic_store_n(&cache.pressed, 2, __ATOMIC_RELEASE);
}

/* The sessions that have most pay first. */
static uint64_t close_many(uint64_t want)
{
    bool tried[SHARDS] = {false};
    uint64_t closed = 0;

    press();
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
    pthread_once(&cache.once, init_locks);
    fid->fd = -1;
    fid->slot.state = 1;
}

/* The fid is BUSY, and becomes held once, or CLOSED again. */
static int bring_back(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    int error = privs_become(NULL), fd;
    struct index *index;

    fd = error != 0              ? error
         : slot->locator == NULL ? -ESTALE
                                 : locator_open(fid->export, slot->locator, fid->qid_path);
    if (fd < 0) {
        set_state(slot, CLOSED);
        log_debug("fid %u: its file is not found again: %s", fid->number, g_strerror(-fd));
        return fd;
    }
    index = index_of(locator_key(slot->locator));
    pthread_mutex_lock(&index->lock);
    index_remove(index, slot);
    pthread_mutex_unlock(&index->lock);
    fid->fd = fd;
    count_in(fid);
    enlist(fid, FD_LIST_IDLE);
    set_state(slot, 1);
    return 0;
}

static int hold_slowly(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    unsigned times = 0;

    /* One looks for the file, the others wait for him here. */
    for (;;) {
        int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

        if (state >= 0 && change(slot, state, state + 1))
            return 0;
        if (state == CLOSED && change(slot, CLOSED, BUSY))
            return bring_back(fid);
        if (state == BUSY)
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
    shared_unref(shared);
}

void fd_cache_end(struct fid *fid)
{
    struct fd_slot *slot = &fid->slot;
    unsigned times = 0;

    for (;;) {
        int state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

        if (state == 0 && change(slot, 0, BUSY))
            break;
        if (state == CLOSED && change(slot, CLOSED, BUSY)) {
            if (slot->locator != NULL) {
                struct index *index = index_of(locator_key(slot->locator));

                pthread_mutex_lock(&index->lock);
                index_remove(index, slot);
                pthread_mutex_unlock(&index->lock);
            }
            break;
        }
        g_assert(state <= 0); /* whoever held it has given it back */
        wait_a_little(&times);
    }
    enlist(fid, FD_LIST_NONE);
    drop_fd(fid);
    locator_free(slot->locator);
    slot->locator = NULL;
}

/* ---- names that go --------------------------------------------------------------------------- */

/* With the index locked: gives the fids of the file that `stx` describes the descriptor `*fd`,
 * which is taken (-1) by the first. False: some are being changed just now. */
static bool give_all(struct index *index, uint64_t key, const struct statx *stx, int *fd,
                     struct fd_shared **shared)
{
    struct fd_slot *slot = index->closed != NULL ? *chain_of(index, key) : NULL, *next;
    bool all = true;

    for (; slot != NULL; slot = next) {
        struct fid *fid = fid_of(slot);

        next = slot->next;
        if (locator_key(slot->locator) != key)
            continue;
        if (!change(slot, CLOSED, BUSY)) {
            all = false;
            continue;
        }
        if (!locator_may_be(slot->locator, stx)) {
            set_state(slot, CLOSED);
            continue;
        }
        if (*shared == NULL) { /* the caller's share, for as long as it looks */
            *shared = shared_new(*fd);
            *fd = -1;
            __atomic_fetch_add(&cache.held, 1, __ATOMIC_RELAXED);
        }
        __atomic_fetch_add(&(*shared)->refs, 1, __ATOMIC_RELAXED);
        unlink_slot(index, slot);
        locator_is_given(slot->locator);
        slot->shared = *shared;
        fid->fd = (*shared)->fd;
        enlist(fid, FD_LIST_IDLE);
        set_state(slot, 0);
    }
    return all;
}

void fd_cache_guard_begin(struct fd_guard *guard)
{
    guard->set = false;
    __atomic_fetch_add(&cache.unguarded, 1, __ATOMIC_SEQ_CST);
    guard->needless = !__atomic_load_n(&cache.pressed, __ATOMIC_SEQ_CST);
    if (!guard->needless)
        __atomic_fetch_sub(&cache.unguarded, 1, __ATOMIC_SEQ_CST);
}

int fd_cache_guard(struct fd_guard *guard, int dir_fd, const char *name)
{
    struct index *index;
    struct statx stx;
    unsigned times = 0;
    struct fd_shared *shared = NULL;
    int fd, error;

    if (guard->needless)
        return 0;
    fd = path_lookup(dir_fd, name);
    if (fd < 0)
        return fd;
    error = path_look(fd, &stx);
    if (error != 0) {
        close(fd);
        return error;
    }
    guard->key = locator_key_of(&stx);
    index = index_of(guard->key);
    guard->set = true;
    pthread_mutex_lock(&index->lock);
    guard->next = index->guards;
    index->guards = guard;
    while (!give_all(index, guard->key, &stx, &fd, &shared)) {
        pthread_mutex_unlock(&index->lock);
        wait_a_little(&times);
        pthread_mutex_lock(&index->lock);
    }
    pthread_mutex_unlock(&index->lock);
    if (fd >= 0)
        close(fd);
    if (shared != NULL)
        shared_unref(shared);
    return 0;
}

void fd_cache_unguard(struct fd_guard *guard)
{
    struct index *index;

    if (guard->needless)
        __atomic_fetch_sub(&cache.unguarded, 1, __ATOMIC_SEQ_CST);
    guard->needless = false;
    if (!guard->set)
        return;
    index = index_of(guard->key);
    pthread_mutex_lock(&index->lock);
    __atomic_fetch_add(&cache.removals, 1, __ATOMIC_SEQ_CST);
    for (struct fd_guard **at = &index->guards; *at != NULL; at = &(*at)->next)
        if (*at == guard) {
            *at = guard->next;
            break;
        }
    pthread_mutex_unlock(&index->lock);
    guard->set = false;
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
        struct fid *fid = fid_of(slot);

        list_remove(&shard->idle, slot);
        if (!change(slot, 0, BUSY)) {
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
            set_state(slot, 0);
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
        if (is_at_or_below(fid_of(slot)->fd, path, full))
            tell_busy(busy, fid_of(slot), full,
                      fid_of(slot)->open ? "open" : "could not be found again");
    pthread_mutex_unlock(&shard->lock);
}

uint64_t fd_cache_drain(const char *path, GPtrArray *busy)
{
    bool waiting = true;
    uint64_t closed = 0;
    unsigned times = 0;

    press();
    while (waiting && times < DRAIN_TIMES) {
        waiting = false;
        for (unsigned i = 0; i < SHARDS; i++)
            closed += drain_idle(&shards[i], path, &waiting);
        if (waiting)
            wait_a_little(&times);
    }
    if (waiting)
        tell_busy(busy, NULL, path, "a request is at work, maybe here");
    for (unsigned i = 0; i < SHARDS; i++)
        list_fixed(&shards[i], path, busy);
    locator_let_go(path);
    return closed;
}
