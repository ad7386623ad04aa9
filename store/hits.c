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

#define LINE 64u

struct qm_hit {
    _Atomic uint64_t sequence;
    _Atomic uint64_t generation;
    _Atomic uint64_t path;
    _Atomic uint64_t word[];
};

/* A slot is one cache line, or two: inodes, placeholders and handles up to 24 bytes; and others. */
static const struct {
    unsigned words;
    size_t size, slots;
} shelves[2] = {{5, LINE, 1u << 16}, {QM_HITS_WORDS, 2 * LINE, 1u << 14}};

static unsigned shelf_of(const struct qm_hits_key *key)
{
    return key->count > shelves[0].words;
}

static inline struct qm_hit *slot(struct qm_hit *table, unsigned shelf, size_t i)
{
    return (struct qm_hit *)((char *)table + i * shelves[shelf].size);
}

void qm_hits_init(struct qm_hits *hits, uint64_t seed)
{
    memset(hits, 0, sizeof(*hits));
    hits->seed = seed;
}

void qm_hits_clear(struct qm_hits *hits)
{
    free(hits->shelf[0].room);
    free(hits->shelf[1].room);
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

/* The first slot of the key's set. */
static inline struct qm_hit *set_of(const struct qm_hits *hits, struct qm_hit *table,
                                    unsigned shelf, const struct qm_hits_key *key)
{
    const size_t word = sizeof(key->word[0]);
    uint64_t h = key->count == 2 /* a size that the compiler knows */
                     ? XXH3_64bits_withSeed(key->word, 2 * word, hits->seed)
                     : XXH3_64bits_withSeed(key->word, key->count * word, hits->seed);

    return slot(table, shelf, (size_t)h & (shelves[shelf].slots - 2));
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
    unsigned shelf = shelf_of(key), i;
    struct qm_hit *table = atomic_load_explicit(&hits->shelf[shelf].table, memory_order_acquire);
    struct qm_hit *set;

    if (!table || key->count == 0)
        return FALSE;
    set = set_of(hits, table, shelf, key);
    for (i = 0; i < 2; i++) {
        const struct qm_hit *hit = slot(set, shelf, i);
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

static struct qm_hit *make_table(struct qm_hits *hits, unsigned which)
{
    struct qm_shelf *shelf = &hits->shelf[which];
    struct qm_hit *table = atomic_load_explicit(&shelf->table, memory_order_acquire);
    struct qm_hit *other = NULL;
    void *room;

    if (table)
        return table;
    /* Not aligned_alloc(): of this nothing is touched yet. */
    room = calloc(shelves[which].slots * shelves[which].size + LINE, 1);
    if (!room)
        return NULL;
    table = (struct qm_hit *)(((uintptr_t)room + LINE - 1) & ~(uintptr_t)(LINE - 1));
    if (atomic_compare_exchange_strong(&shelf->table, &other, table)) {
        shelf->room = room;
        return table;
    }
    free(room);
    return other;
}

/* Which one of a set gives way: one of another generation, else the one that was written less
 * often. */
static struct qm_hit *victim(struct qm_hit *set, unsigned shelf, uint64_t generation)
{
    struct qm_hit *one = set, *other = slot(set, shelf, 1);

    if (atomic_load_explicit(&one->generation, memory_order_relaxed) != generation + 1)
        return one;
    if (atomic_load_explicit(&other->generation, memory_order_relaxed) != generation + 1)
        return other;
    return atomic_load_explicit(&one->sequence, memory_order_relaxed) <=
                   atomic_load_explicit(&other->sequence, memory_order_relaxed)
               ? one
               : other;
}

void qm_hits_put(struct qm_hits *hits, const struct qm_hits_key *key, uint64_t generation,
                 uint64_t path)
{
    unsigned shelf = shelf_of(key), i;
    struct qm_hit *table, *hit;
    uint64_t sequence;

    if (key->count == 0)
        return;
    table = make_table(hits, shelf);
    if (!table)
        return;
    hit = victim(set_of(hits, table, shelf, key), shelf, generation);
    sequence = atomic_load_explicit(&hit->sequence, memory_order_relaxed);
    if ((sequence & 1) || !atomic_compare_exchange_strong(&hit->sequence, &sequence, sequence + 1))
        return;
    atomic_store_explicit(&hit->generation, generation + 1, memory_order_release);
    atomic_store_explicit(&hit->path, path, memory_order_release);
    for (i = 0; i < key->count; i++)
        atomic_store_explicit(&hit->word[i], key->word[i], memory_order_release);
    atomic_store_explicit(&hit->sequence, sequence + 2, memory_order_release);
}
