/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Closed fids by file, and the files whose names are about to go. See fd-guard.h.
 *
 * Who closes a fid notes its file (locator.h), and adds it here; who removes a name gives all fids
 * of the file their descriptors, and lets nobody add one meanwhile. Who noted a file before a
 * removal, and adds it after that, is told so and notes it again.
 */
#include "config.h"

#include "src/fd-guard.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <unistd.h>

#include "src/fd-slot.h"
#include "src/locator.h"
#include "src/name-tree.h"
#include "src/path.h"

#define INDEXES        16
#define INDEX_BITS_MIN 4
#define WAIT_TIMES     600 /* for changes of names, before the first fid is closed */

/* Closed fids by file (locator_key), and the files whose fids must not be closed now. The table is
 * one of chains through the fids themselves, as there may be a great many. */
static struct index {
    pthread_mutex_t lock;
    struct fd_slot **closed; /* NULL: none yet */
    unsigned bits;           /* of them there are 2^bits chains */
    uint64_t count;
    struct fd_guard *guards;
} indexes[INDEXES] = {[0 ... INDEXES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static struct {
    uint64_t removals; /* atomic: removals of names that ended */
    int pressed;       /* atomic: fids may be closed from now on */
    int unguarded;     /* atomic: changes of names that began before that, at work */
} names;

/* ---- closed fids ----------------------------------------------------------------------------- */

static struct index *index_of(uint64_t key)
{
    return &indexes[fd_slot_hash(key) >> 60];
}

static struct fd_slot **chain_of(const struct index *index, uint64_t key)
{
    /* The first four bits of the hash chose the index. */
    return &index->closed[fd_slot_hash(key) << 4 >> (64 - index->bits)];
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
static void resize(struct index *index, unsigned bits)
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

static void add(struct index *index, struct fd_slot *slot)
{
    if (index->closed == NULL)
        resize(index, INDEX_BITS_MIN);
    else if (index->count >> index->bits > 0)
        resize(index, index->bits + 1);
    index->count++;
    push(index, slot);
}

/* The table stays as it is: for who goes along a chain. */
static void unchain(struct index *index, struct fd_slot *slot)
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

void fd_index_remove(struct fd_slot *slot)
{
    struct index *index = index_of(locator_key(slot->locator));

    pthread_mutex_lock(&index->lock);
    unchain(index, slot);
    if (index->bits > INDEX_BITS_MIN && index->count >> (index->bits - 3) == 0)
        resize(index, index->bits - 2);
    pthread_mutex_unlock(&index->lock);
}

static bool is_guarded(const struct index *index, uint64_t key)
{
    for (const struct fd_guard *guard = index->guards; guard != NULL; guard = guard->next)
        if (guard->key == key)
            return true;
    return false;
}

int fd_index_add(struct fd_slot *slot, uint64_t removals)
{
    uint64_t key = locator_key(slot->locator);
    struct index *index = index_of(key);
    int error = 0;

    pthread_mutex_lock(&index->lock);
    if (is_guarded(index, key))
        error = -EBUSY;
    else if (fd_guard_removals() != removals)
        error = -EAGAIN; /* who removed a name meanwhile did not find the fid here */
    else
        add(index, slot);
    pthread_mutex_unlock(&index->lock);
    return error;
}

/* ---- names that go --------------------------------------------------------------------------- */

/* Who removes a name must see to closed fids from now on. One who began before, and did not, is
 * waited for; but not without end, as his filesystem may not answer. */
void fd_guard_press(void)
{
    unsigned times = 0;

    if (__atomic_load_n(&names.pressed, __ATOMIC_ACQUIRE) == 2)
        return;
    name_tree_matters();
    __atomic_store_n(&names.pressed, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&names.unguarded, __ATOMIC_SEQ_CST) > 0 && times < WAIT_TIMES)
        fd_slot_wait(&times);
    __atomic_store_n(&names.pressed, 2, __ATOMIC_RELEASE);
}

uint64_t fd_guard_removals(void)
{
    return __atomic_load_n(&names.removals, __ATOMIC_SEQ_CST);
}

/* With the index locked: gives the fids of the file that `stx` describes the descriptor `*fd`,
 * which is taken (-1) by the first. False: some are being changed just now. */
static bool give_all(struct index *index, uint64_t key, const struct statx *stx, int *fd,
                     struct fd_shared **shared)
{
    struct fd_slot *slot = index->closed != NULL ? *chain_of(index, key) : NULL, *next;
    bool all = true;

    for (; slot != NULL; slot = next) {
        next = slot->next;
        if (locator_key(slot->locator) != key)
            continue;
        if (!fd_slot_change(slot, FD_CLOSED, FD_BUSY)) {
            all = false;
            continue;
        }
        if (!locator_may_be(slot->locator, stx)) {
            fd_slot_set(slot, FD_CLOSED);
            continue;
        }
        if (*shared == NULL) { /* the caller's share, for as long as it looks */
            *shared = fd_shared_new(*fd);
            *fd = -1;
        }
        unchain(index, slot);
        locator_is_given(slot->locator);
        fd_shared_give(*shared, slot);
    }
    return all;
}

void fd_guard_begin(struct fd_guard *guard)
{
    guard->set = false;
    __atomic_fetch_add(&names.unguarded, 1, __ATOMIC_SEQ_CST);
    guard->needless = !__atomic_load_n(&names.pressed, __ATOMIC_SEQ_CST);
    if (!guard->needless)
        __atomic_fetch_sub(&names.unguarded, 1, __ATOMIC_SEQ_CST);
}

int fd_guard_set(struct fd_guard *guard, int dir_fd, const char *name)
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
        fd_slot_wait(&times);
        pthread_mutex_lock(&index->lock);
    }
    pthread_mutex_unlock(&index->lock);
    if (fd >= 0)
        close(fd);
    if (shared != NULL)
        fd_shared_unref(shared);
    return 0;
}

void fd_guard_end(struct fd_guard *guard)
{
    struct index *index;

    if (guard->needless)
        __atomic_fetch_sub(&names.unguarded, 1, __ATOMIC_SEQ_CST);
    guard->needless = false;
    if (!guard->set)
        return;
    index = index_of(guard->key);
    pthread_mutex_lock(&index->lock);
    __atomic_fetch_add(&names.removals, 1, __ATOMIC_SEQ_CST);
    for (struct fd_guard **at = &index->guards; *at != NULL; at = &(*at)->next)
        if (*at == guard) {
            *at = guard->next;
            break;
        }
    pthread_mutex_unlock(&index->lock);
    guard->set = false;
}
