/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache of found rows: sets of two slots, picked by a seeded hash of the key.
 *
 * A slot is read and written word by word. Its sequence is odd while a thread writes it. A reader
 * takes the words between two looks at the sequence, and counts what it took where both are the
 * same even number. (The words are read with acquire and written with release order: a reader who
 * sees a new word sees the odd sequence, too. Fences would do, but thread sanitizer does not know
 * them.) A writer that finds a slot taken leaves it: nothing is lost but a place in the cache.
 *
 * The whole key is compared, not a hash of it: two objects never share an id by chance. The memory
 * comes as zeros from the system, and pages of it are there when they are first used. What is kept
 * is the generation plus 1, so that zeros are no answer.
 *
 * Rejected: XXH3_128 in place of the key (half the size; a guest that can choose inodes must not be
 * able to hope), and a lock for each set (a cache line that all readers write to).
 */
#include "config.h"

#include "store/hits.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LINE  128u       /* two cache lines: an inode needs the first one alone */
#define SLOTS (1u << 16) /* 8 MiB at most */

struct qm_hit {
    _Atomic uint64_t sequence;
    _Atomic uint64_t generation;
    _Atomic uint64_t path;
    _Atomic uint64_t word[QM_HITS_WORDS];
};

_Static_assert(sizeof(struct qm_hit) == LINE, "a slot is two cache lines");

void qm_hits_init(struct qm_hits *hits, uint64_t seed)
{
    memset(hits, 0, sizeof(*hits));
    hits->seed = seed;
    atomic_init(&hits->table, NULL);
}

void qm_hits_clear(struct qm_hits *hits)
{
    free(hits->room);
}

void qm_hits_key(struct qm_hits_key *key, const struct qidmap_object *object)
{
    unsigned words = (object->handle_size + 7u) / 8;

    if (object->kind == QIDMAP_OBJECT_INODE) {
        qm_hits_key_inode(key, object->fs, object->ino);
        return;
    }
    key->word[0] = (uint64_t)object->fs << 32 | object->kind;
    if (object->kind == QIDMAP_OBJECT_PLACEHOLDER) {
        key->count = 3;
        key->word[1] = object->ino;
        key->word[2] = object->ino2;
        return;
    }
    key->count = 0;
    if (object->kind != QIDMAP_OBJECT_HANDLE || 2 + words > QM_HITS_WORDS)
        return;
    key->count = 2 + words;
    key->word[0] |= (uint64_t)object->handle_size << 8;
    key->word[1] = (uint32_t)object->handle_type;
    if (words)
        key->word[1 + words] = 0; /* what follows the last byte */
    memcpy(&key->word[2], object->handle, object->handle_size);
}

static size_t set_of(const struct qm_hits *hits, const struct qm_hits_key *key)
{
    uint64_t h =
        key->count == 2 /* a size known to the compiler */
            ? XXH3_64bits_withSeed(key->word, 2 * sizeof(key->word[0]), hits->seed)
            : XXH3_64bits_withSeed(key->word, key->count * sizeof(key->word[0]), hits->seed);

    return (size_t)h & (SLOTS - 2);
}

static inline gboolean same(const struct qm_hit *hit, const struct qm_hits_key *key)
{
    unsigned i;

    for (i = 0; i < key->count; i++) {
        if (atomic_load_explicit(&hit->word[i], memory_order_acquire) != key->word[i])
            return FALSE;
    }
    return TRUE;
}

gboolean qm_hits_get(const struct qm_hits *hits, const struct qm_hits_key *key, uint64_t generation,
                     uint64_t *path)
{
    const struct qm_hit *table = atomic_load_explicit(&hits->table, memory_order_acquire);
    size_t set, i;

    if (!table || key->count == 0)
        return FALSE;
    set = set_of(hits, key);
    for (i = set; i < set + 2; i++) {
        const struct qm_hit *hit = &table[i];
        uint64_t sequence = atomic_load_explicit(&hit->sequence, memory_order_acquire), found;

        if ((sequence & 1) ||
            atomic_load_explicit(&hit->generation, memory_order_acquire) != generation + 1 ||
            !same(hit, key))
            continue;
        found = atomic_load_explicit(&hit->path, memory_order_acquire);
        if (atomic_load_explicit(&hit->sequence, memory_order_relaxed) != sequence)
            continue;
        *path = found;
        return TRUE;
    }
    return FALSE;
}

static struct qm_hit *make_table(struct qm_hits *hits)
{
    struct qm_hit *table = atomic_load_explicit(&hits->table, memory_order_acquire), *other = NULL;
    void *room;

    if (table)
        return table;
    room = calloc(SLOTS + 1, sizeof(*table)); /* not aligned_alloc(): nothing is touched yet */
    if (!room)
        return NULL;
    table = (struct qm_hit *)(((uintptr_t)room + LINE - 1) & ~(uintptr_t)(LINE - 1));
    if (atomic_compare_exchange_strong(&hits->table, &other, table)) {
        hits->room = room;
        return table;
    }
    free(room);
    return other;
}

/* Which one of a set gives way: one of another generation, else the one that was written less
 * often.
 */
static struct qm_hit *victim(struct qm_hit *set, uint64_t generation)
{
    unsigned i;

    for (i = 0; i < 2; i++) {
        if (atomic_load_explicit(&set[i].generation, memory_order_relaxed) != generation + 1)
            return &set[i];
    }
    return atomic_load_explicit(&set[0].sequence, memory_order_relaxed) <=
                   atomic_load_explicit(&set[1].sequence, memory_order_relaxed)
               ? &set[0]
               : &set[1];
}

void qm_hits_put(struct qm_hits *hits, const struct qm_hits_key *key, uint64_t generation,
                 uint64_t path)
{
    struct qm_hit *table, *hit;
    uint64_t sequence;
    unsigned i;

    if (key->count == 0)
        return;
    table = make_table(hits);
    if (!table)
        return;
    hit = victim(&table[set_of(hits, key)], generation);
    sequence = atomic_load_explicit(&hit->sequence, memory_order_relaxed);
    if ((sequence & 1) || !atomic_compare_exchange_strong(&hit->sequence, &sequence, sequence + 1))
        return;
    atomic_store_explicit(&hit->generation, generation + 1, memory_order_release);
    atomic_store_explicit(&hit->path, path, memory_order_release);
    for (i = 0; i < key->count; i++)
        atomic_store_explicit(&hit->word[i], key->word[i], memory_order_release);
    atomic_store_explicit(&hit->sequence, sequence + 2, memory_order_release);
}
