/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inside of a fid's slot, for those two alone that change it: fd-cache.c closes and opens
 * descriptors, and fd-guard.c has the closed fids, and gives them descriptors before a name goes.
 *
 * The state of a fid is one number: how often it is held (0 or more: its descriptor is there),
 * FD_CLOSED, or FD_BUSY while somebody changes from one to the other. Only who made it FD_BUSY
 * touches the rest of the slot then; the others wait.
 *
 * Locks: that of the index of closed fids (fd-guard.c), then that of a shard (fd-cache.c). Neither
 * is held while a file is looked for.
 */
#ifndef FD_SLOT_H
#define FD_SLOT_H

#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/fd-cache.h"
#include "src/fid.h"

#define FD_CLOSED (-1)
#define FD_BUSY   (-2)

static inline struct fid *fd_slot_fid(struct fd_slot *slot)
{
    return (struct fid *)(void *)((char *)slot - offsetof(struct fid, slot));
}

static inline bool fd_slot_change(struct fd_slot *slot, int from, int to)
{
    return __atomic_compare_exchange_n(&slot->state, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static inline void fd_slot_set(struct fd_slot *slot, int state)
{
    __atomic_store_n(&slot->state, state, __ATOMIC_RELEASE);
}

/* Waits for who is at work, which is a matter of moments. `*times`: how often so far. */
static inline void fd_slot_wait(unsigned *times)
{
    if ((*times)++ < 64)
        sched_yield();
    else
        g_usleep(200);
}

/* The first four bits say which of 16 shards or indexes. */
static inline uint64_t fd_slot_hash(uint64_t key)
{
    return key * 0x9e3779b97f4a7c15u;
}

/* ---- of fd-cache.c --------------------------------------------------------------------------- */

/* A descriptor of several fids, from `fd` (taken over); one share is the caller's, for
 * fd_shared_unref(). It is counted as one that may be closed. */
struct fd_shared *fd_shared_new(int fd);

/* True: that was the last share, and the descriptor is closed. */
bool fd_shared_unref(struct fd_shared *shared);

/* Gives a fid that is FD_BUSY, has no descriptor and is in no list a share; nobody holds it yet. */
void fd_shared_give(struct fd_shared *shared, struct fd_slot *slot);

/* ---- of fd-guard.c --------------------------------------------------------------------------- */

/* Fids may be closed from now on; to be called before the first one is. */
void fd_guard_press(void);

/* How many removals of names ended. */
uint64_t fd_guard_removals(void);

/* Adds a fid that is FD_BUSY, in no list and has a locator to the closed ones. `removals` had ended
 * before that locator was noted. 0; -EBUSY: a name of its file is about to go, so that it must not
 * be closed; -EAGAIN: names were removed since: it may have been noted by one of them. */
int fd_index_add(struct fd_slot *slot, uint64_t removals);

/* Takes a fid that is FD_BUSY out of the closed ones. */
void fd_index_remove(struct fd_slot *slot);

#endif
