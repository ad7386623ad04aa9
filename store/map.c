/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Entries, order of asking, and the arithmetic of ids.
 *
 * Where an id comes from
 *   index 1     odd ids, 2 x serial + 1: rows of the full map
 *   index 2     given to nobody
 *   index 3     8 x (instance x 2^37 + inode) + 6: ephemeral filesystems
 *   index 4 ... inode x 2^L(n) + suffix(n), cut to 64 bits: the affix entry n
 * Ids below QM_PATH_FIRST and above QM_PATH_LAST are never given. Inode 0 always goes to the full
 * map.
 *
 * Order of asking, always the same: the aliases of the fs (where it has some), oldest first; then
 * rows bound by migration (where it has some), affix entries, full map.
 *
 * Proof that no two objects get one id
 *   1. The suffix code is suffix-free (affix.c): two ids of different index differ. So it is enough
 *      to look at one index at a time.
 *   2. Index 1: a serial is taken from a counter that only grows, in the transaction that stores
 * the row. (A bound id is checked to be free, and moves the counter beyond it.)
 *   3. Index 3: instance and inode are read back from the id: the inode is below 2^37, the instance
 *      below 2^24, so no bit is lost. An instance serial comes from a counter that only grows.
 *   4. Index n >= 4 belongs to one entry (fs, L, top), since n comes from a counter that only
 * grows. Two inodes a, b of fs that have one id under n agree in their low 64 - L bits, because the
 *      shift loses the L high ones only; and in their high L bits, because the entry covers just
 *      those inodes whose high L bits are `top`. Hence a = b.
 *
 * Proof that no object gets two ids
 *   5. The ranges of two entries of one fs are disjoint. Let entry e be older than f, that is
 *      n(e) < n(f), and so L(e) <= L(f), because L never decreases. f is made for an inode x that e
 *      does not cover: the L(e) high bits of x are not top(e). All inodes of f share their L(f)
 * high bits with x, therefore their L(e) high bits as well: e covers none of them. (This is what a
 * number of bits fixed for each device, or a later suffix that shifts out bits that nobody
 * compared, gets wrong.)
 *   6. An inode covered by an entry stays covered: entries are never taken away. Whether its id
 *      under that entry lies within the bounds depends on entry and inode alone. Where it does not
 *      (inode 2^63, say, under a short affix leaves the bare suffix, which can be below 32), the
 * inode goes to the full map, but the entry is made nevertheless: without it, a later and longer
 * one could cover the inode and give it a second id.
 *   7. An inode goes to the full map uncovered only when its fs can get no further entry, ever: it
 *      left its budget (stored, and never revoked), the suffixes have reached their longest (n only
 *      grows), its policy is another one (never changed), or the inode is 0 (asked first). So no
 *      entry covers it later.
 *   8. An alias is a retired row: it gets no entries and no rows any more, so what it answers for
 * an object it answers for ever, and for an object that it does not know it never will. A fs asks
 *      it first, always; so each object has its id either by the alias or, by 5 to 7, by the fs
 *      itself. An inode that an entry of the alias covers, but whose id would lie out of bounds,
 *      is answered by the alias only where it has a row in the full map. Two filesystems never ask
 *      one alias (a row has one heir), hence 1 to 4 hold with the alias as a further name of its
 *      heir: its entries and rows speak of the heir's objects alone. Making a fs the heir of a row
 *      gives those of its objects that both knew the ids of the alias: that is what it is for, and
 *      the ids that they lose are never given to others.
 *
 * The tables
 *   A fs is found by two array accesses. Its entries stand in an array in order of n, which readers
 *   walk while one writer appends: a writer fills a slot and then publishes the new count. A full
 *   array is replaced by one of twice the size; the old one stays until the map is cleared, which
 *   costs at most as much again. Rejected: a read-write lock (its counter is one cache line that
 *   all readers write to), and copying the array for each entry (a budget of 65,535 entries would
 *   leave gigabytes of old copies, or need a grace period).
 *   Up to SCAN entries are compared one by one. Beyond, a hash table beside the array is asked once
 *   for each length in use, of which there are at most 20.
 */
#include "config.h"

#include "store/map.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SCAN 16u

/* An entry with what its ids end in, which takes longer to make than an id. */
struct held {
    struct qm_entry e;
    uint64_t suffix;
};

struct qm_entries {
    uint32_t capacity; /* a power of two */
    _Atomic uint32_t count;
    _Atomic uint64_t lengths; /* bit b: some entry has L = b */
    _Atomic uint32_t *slots;  /* capacity x 2: index + 1 of an entry, 0: empty. NULL up to SCAN */
    struct held entry[];
};

static void fs_free(gpointer data)
{
    struct qm_fs *fs = data;
    struct qm_entries *entries = atomic_load_explicit(&fs->entries, memory_order_relaxed);

    g_free(entries);
    g_free(fs);
}

void qm_map_init(struct qm_map *map)
{
    memset(map, 0, sizeof(*map));
    pthread_mutex_init(&map->lock, NULL);
    map->list = g_ptr_array_new_with_free_func(fs_free);
    map->old = g_ptr_array_new_with_free_func(g_free);
    map->seed = (uint64_t)g_random_int() << 32 | g_random_int();
    qm_fsindex_init(&map->index, map->seed);
}

void qm_map_clear(struct qm_map *map)
{
    size_t i;

    qm_fsindex_clear(&map->index);
    g_ptr_array_free(map->list, TRUE);
    g_ptr_array_free(map->old, TRUE);
    for (i = 0; i < G_N_ELEMENTS(map->chunk); i++)
        g_free((void *)atomic_load_explicit(&map->chunk[i], memory_order_relaxed));
    pthread_mutex_destroy(&map->lock);
}

static uint32_t row_state(const struct qidmap_fs *row, gboolean has_full)
{
    return (row->retired ? QM_STATE_RETIRED : 0) | (row->left_budget ? QM_STATE_LEFT_BUDGET : 0) |
           (row->has_bound ? QM_STATE_HAS_BOUND : 0) | (has_full ? QM_STATE_HAS_FULL : 0) |
           (row->superseded ? QM_STATE_SUPERSEDED : 0);
}

static void index_row(struct qm_map *map, struct qm_fs *fs)
{
    if (!fs->row.retired)
        qm_fsindex_add(&map->index, fs, fs->row.fsid, fs->row.fsid_count);
}

static void unindex_row(struct qm_map *map, struct qm_fs *fs)
{
    qm_fsindex_remove(&map->index, fs, fs->row.fsid, fs->row.fsid_count);
}

static struct qm_fs *fs_new(const struct qidmap_fs *row, gboolean has_full)
{
    struct qm_fs *fs = g_new0(struct qm_fs, 1);

    fs->number = row->fs;
    fs->policy = row->policy;
    fs->instance = row->instance;
    fs->row = *row;
    atomic_init(&fs->state, row_state(row, has_full));
    atomic_init(&fs->entries, NULL);
    atomic_init(&fs->older, NULL);
    atomic_init(&fs->heir, NULL);
    return fs;
}

struct qm_fs *qm_map_add(struct qm_map *map, const struct qidmap_fs *row, gboolean has_full)
{
    struct qm_fs *fs = fs_new(row, has_full);
    struct qm_fs *_Atomic *chunk;
    guint at;

    pthread_mutex_lock(&map->lock);
    for (at = map->list->len; at > 0; at--) {
        const struct qm_fs *other = g_ptr_array_index(map->list, at - 1);

        if (other->number < fs->number)
            break;
    }
    g_ptr_array_insert(map->list, (gint)at, fs);
    chunk = atomic_load_explicit(&map->chunk[fs->number / QM_CHUNK], memory_order_relaxed);
    if (!chunk) {
        chunk = g_malloc0(QM_CHUNK * sizeof(*chunk));
        atomic_store_explicit(&map->chunk[fs->number / QM_CHUNK], chunk, memory_order_release);
    }
    atomic_store_explicit(&chunk[fs->number % QM_CHUNK], fs, memory_order_release);
    index_row(map, fs);
    pthread_mutex_unlock(&map->lock);
    return fs;
}

struct qm_fs *qm_map_set(struct qm_map *map, struct qm_fs *fs, const struct qidmap_fs *row,
                         gboolean has_full)
{
    struct qm_fs *_Atomic *chunk;
    guint at;

    pthread_mutex_lock(&map->lock);
    unindex_row(map, fs);
    if (row->policy != fs->policy || row->instance != fs->instance) {
        struct qm_fs *changed = fs_new(row, has_full);

        chunk = atomic_load_explicit(&map->chunk[fs->number / QM_CHUNK], memory_order_relaxed);
        atomic_store_explicit(&chunk[fs->number % QM_CHUNK], changed, memory_order_release);
        for (at = 0; at < map->list->len; at++) {
            if (map->list->pdata[at] == fs)
                map->list->pdata[at] = changed;
        }
        g_ptr_array_add(map->old, fs);
        fs = changed;
    } else {
        fs->row = *row;
        atomic_store_explicit(&fs->state, row_state(row, has_full), memory_order_release);
    }
    index_row(map, fs);
    pthread_mutex_unlock(&map->lock);
    return fs;
}

void qm_map_link(struct qm_fs *fs, struct qm_fs *older)
{
    atomic_store_explicit(&older->heir, fs, memory_order_release);
    atomic_store_explicit(&fs->older, older, memory_order_release);
}

struct qm_fs *qm_map_head(struct qm_fs *fs)
{
    struct qm_fs *heir;

    while ((heir = atomic_load_explicit(&fs->heir, memory_order_acquire)))
        fs = heir;
    return fs;
}

uint32_t qm_map_aliases(const struct qm_fs *fs, struct qm_fs *aliases[QM_ALIASES])
{
    struct qm_fs *older = atomic_load_explicit(&fs->older, memory_order_acquire);
    uint32_t n = 0, i;

    for (; older && n < QM_ALIASES; n++) {
        aliases[n] = older;
        older = atomic_load_explicit(&older->older, memory_order_acquire);
    }
    for (i = 0; i < n / 2; i++) {
        struct qm_fs *swap = aliases[i];

        aliases[i] = aliases[n - 1 - i];
        aliases[n - 1 - i] = swap;
    }
    return n;
}

void qm_map_drop(struct qm_map *map, struct qm_fs *fs)
{
    struct qm_fs *_Atomic *chunk;
    struct qm_entries *entries;
    guint at;

    pthread_mutex_lock(&map->lock);
    chunk = atomic_load_explicit(&map->chunk[fs->number / QM_CHUNK], memory_order_relaxed);
    atomic_store_explicit(&chunk[fs->number % QM_CHUNK], NULL, memory_order_release);
    unindex_row(map, fs);
    if (g_ptr_array_find(map->list, fs, &at))
        g_ptr_array_steal_index(map->list, at);
    entries = atomic_load_explicit(&fs->entries, memory_order_relaxed);
    if (entries)
        g_ptr_array_add(map->old, entries);
    g_ptr_array_add(map->old, fs);
    pthread_mutex_unlock(&map->lock);
}

/* ---- entries --------------------------------------------------------------------------------- */

static uint32_t slot_of(const struct qm_map *map, unsigned bits, uint64_t top, uint32_t mask)
{
    uint64_t key[2] = {bits, top};

    return (uint32_t)XXH3_64bits_withSeed(key, sizeof(key), map->seed) & mask;
}

static void index_entry(const struct qm_map *map, struct qm_entries *t, uint32_t i)
{
    uint32_t mask = t->capacity * 2 - 1;
    uint32_t s = slot_of(map, t->entry[i].e.bits, t->entry[i].e.top, mask);

    while (atomic_load_explicit(&t->slots[s], memory_order_relaxed) != 0)
        s = (s + 1) & mask;
    atomic_store_explicit(&t->slots[s], i + 1, memory_order_release);
}

static struct qm_entries *entries_new(uint32_t capacity)
{
    size_t array = sizeof(struct qm_entries) + capacity * sizeof(struct held);
    size_t slots = capacity > SCAN ? 2 * (size_t)capacity * sizeof(uint32_t) : 0;
    struct qm_entries *t = g_malloc0(array + slots);

    t->capacity = capacity;
    t->slots = slots ? (_Atomic uint32_t *)((char *)t + array) : NULL;
    return t;
}

void qm_map_add_entry(struct qm_map *map, struct qm_fs *fs, const struct qm_entry *entry)
{
    struct qm_entries *t = atomic_load_explicit(&fs->entries, memory_order_relaxed);
    uint32_t count = t ? atomic_load_explicit(&t->count, memory_order_relaxed) : 0;
    struct qm_entries *old = NULL;
    uint64_t lengths;
    uint32_t i;

    if (!t || count == t->capacity) {
        old = t;
        t = entries_new(old ? old->capacity * 2 : 4);
        if (old) {
            memcpy(t->entry, old->entry, count * sizeof(t->entry[0]));
            atomic_init(&t->lengths, atomic_load_explicit(&old->lengths, memory_order_relaxed));
        }
        atomic_init(&t->count, count);
        for (i = 0; t->slots && i < count; i++)
            index_entry(map, t, i);
    }
    t->entry[count] = (struct held){*entry, qm_affix_suffix(entry->n)};
    lengths = atomic_load_explicit(&t->lengths, memory_order_relaxed);
    atomic_store_explicit(&t->lengths, lengths | UINT64_C(1) << entry->bits, memory_order_release);
    if (t->slots)
        index_entry(map, t, count);
    atomic_store_explicit(&t->count, count + 1, memory_order_release);
    atomic_store_explicit(&fs->entries, t, memory_order_release);
    if (old) {
        pthread_mutex_lock(&map->lock);
        g_ptr_array_add(map->old, old);
        pthread_mutex_unlock(&map->lock);
    }
}

uint32_t qm_map_entries(const struct qm_fs *fs)
{
    const struct qm_entries *t = atomic_load_explicit(&fs->entries, memory_order_acquire);

    return t ? atomic_load_explicit(&t->count, memory_order_acquire) : 0;
}

const struct qm_entry *qm_map_entry(const struct qm_fs *fs, uint32_t i)
{
    return &atomic_load_explicit(&fs->entries, memory_order_acquire)->entry[i].e;
}

static __attribute__((noinline)) const struct held *
covering_hashed(const struct qm_map *map, const struct qm_entries *t, uint64_t ino)
{
    uint64_t lengths;
    uint32_t i;

    lengths = atomic_load_explicit(&t->lengths, memory_order_acquire);
    for (; lengths; lengths &= lengths - 1) {
        unsigned bits = (unsigned)__builtin_ctzll(lengths);
        uint64_t top = ino >> (64 - bits);
        uint32_t mask = t->capacity * 2 - 1;
        uint32_t s = slot_of(map, bits, top, mask);

        while ((i = atomic_load_explicit(&t->slots[s], memory_order_acquire)) != 0) {
            if (t->entry[i - 1].e.bits == bits && t->entry[i - 1].e.top == top)
                return &t->entry[i - 1];
            s = (s + 1) & mask;
        }
    }
    return NULL;
}

static inline const struct held *covering(const struct qm_map *map, const struct qm_fs *fs,
                                          uint64_t ino)
{
    const struct qm_entries *t = atomic_load_explicit(&fs->entries, memory_order_acquire);
    uint32_t count, i;

    if (!t)
        return NULL;
    if (!t->slots) {
        count = atomic_load_explicit(&t->count, memory_order_acquire);
        for (i = 0; i < count; i++) {
            if (ino >> (64 - t->entry[i].e.bits) == t->entry[i].e.top)
                return &t->entry[i];
        }
        return NULL;
    }
    return covering_hashed(map, t, ino);
}
const struct qm_entry *qm_map_covering(const struct qm_map *map, const struct qm_fs *fs,
                                       uint64_t ino)
{
    const struct held *held = covering(map, fs, ino);

    return held ? &held->e : NULL;
}

void qm_map_row(const struct qm_fs *fs, struct qidmap_fs *row)
{
    uint32_t state = atomic_load_explicit(&fs->state, memory_order_acquire);

    *row = fs->row;
    row->size = sizeof(*row);
    row->retired = (state & QM_STATE_RETIRED) != 0;
    row->left_budget = (state & QM_STATE_LEFT_BUDGET) != 0;
    row->has_bound = (state & QM_STATE_HAS_BOUND) != 0;
    row->affix_rows = qm_map_entries(fs);
}

/* ---- ids ------------------------------------------------------------------------------------- */

static gboolean is_given(uint64_t path)
{
    return path >= QM_PATH_FIRST && path <= QM_PATH_LAST;
}

gboolean qm_entry_path(uint32_t n, unsigned bits, uint64_t ino, uint64_t *path)
{
    *path = ino << bits | qm_affix_suffix(n);
    return is_given(*path);
}

gboolean qm_entry_inode(uint32_t n, uint64_t top, uint64_t path, uint64_t *ino)
{
    unsigned bits = qm_affix_bits(n);

    *ino = path >> bits | top << (64 - bits);
    return is_given(path) && *ino != 0;
}

gboolean qm_ephemeral_path(uint32_t instance, uint64_t ino, uint64_t *path)
{
    if (ino == 0 || ino >> QM_EPHEMERAL_INO_BITS)
        return FALSE;
    *path = (((uint64_t)instance << QM_EPHEMERAL_INO_BITS) + ino) << 3 | 6;
    return TRUE;
}

gboolean qm_ephemeral_inode(uint64_t path, uint32_t *instance, uint64_t *ino)
{
    if ((path & 7) != 6)
        return FALSE;
    *instance = (uint32_t)(path >> (QM_EPHEMERAL_INO_BITS + 3));
    *ino = path >> 3 & ((UINT64_C(1) << QM_EPHEMERAL_INO_BITS) - 1);
    return *instance != 0 && *ino != 0;
}

enum qm_place qm_map_ask(const struct qm_map *map, const struct qm_fs *fs, uint64_t ino,
                         uint64_t *path)
{
    const struct held *entry;

    if (fs->policy == QIDMAP_POLICY_EPHEMERAL)
        return qm_ephemeral_path(fs->instance, ino, path) ? QM_PLACE_PATH : QM_PLACE_FULL;
    if (fs->policy != QIDMAP_POLICY_AFFIX || ino == 0)
        return QM_PLACE_FULL;
    entry = covering(map, fs, ino);
    if (entry) {
        *path = ino << entry->e.bits | entry->suffix;
        return is_given(*path) ? QM_PLACE_PATH : QM_PLACE_FULL;
    }
    if (atomic_load_explicit(&fs->state, memory_order_acquire) & QM_STATE_LEFT_BUDGET)
        return QM_PLACE_FULL;
    return QM_PLACE_OPEN;
}
