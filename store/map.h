/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tables in RAM: filesystems and their affix entries, and what an inode's id is where these
 * decide it. Readers take no lock. One thread at a time may change (the store sees to it), and
 * changes only what is already on stable storage. Knows no backend. Rules and proof: map.c.
 */
#ifndef QM_MAP_H
#define QM_MAP_H

#include <pthread.h>
#include <stdatomic.h>

#include <glib.h>

#include "store/affix.h"
#include "store/format.h"
#include "store/fsindex.h"
#include "store/qidmap.h"

#define QM_PATH_FIRST         UINT64_C(32)       /* smallest id that is given */
#define QM_PATH_LAST          (UINT64_MAX - 256) /* largest one: guests add 2 */
#define QM_SERIAL_FIRST       UINT64_C(128)      /* of the full map: id 257 */
#define QM_SERIAL_LAST        ((QM_PATH_LAST - 1) / 2)
#define QM_INSTANCE_LAST      ((1u << 24) - 2u) /* the next one would reach beyond QM_PATH_LAST */
#define QM_EPHEMERAL_INO_BITS 37

/* An affix entry of one filesystem. */
struct qm_entry {
    uint64_t top; /* the `bits` highest bits of the inodes that it covers */
    uint32_t n;
    uint32_t bits; /* L(n) */
};

struct qm_entries;

struct qm_fs {
    uint32_t number; /* these three never change */
    uint32_t policy;
    uint32_t instance;
    _Atomic uint32_t state;             /* QM_STATE_* */
    struct qm_entries *_Atomic entries; /* NULL: none yet */
    struct qm_fs *_Atomic older;        /* its alias: a retired one that is asked first, or NULL */
    struct qm_fs *_Atomic heir;         /* the one that this one is the alias of, or NULL */
    struct qidmap_fs row;               /* under the map's lock; its state fields are stale */
};

#define QM_ALIASES 16u /* rows that one may have asked before it */

#define QM_CHUNK 1024u

struct qm_map {
    struct qm_fs *_Atomic *_Atomic chunk[(QM_FS_LAST + 1) / QM_CHUNK]; /* by number */
    pthread_mutex_t lock;    /* of `list`, `old`, `index`, and every fs's `row` */
    GPtrArray *list;         /* of struct qm_fs, ascending by number */
    GPtrArray *old;          /* what readers may still look at: freed with the map */
    struct qm_fsindex index; /* of rows that are not retired */
    uint64_t seed;           /* of the hash: guests choose inodes */
};

void qm_map_init(struct qm_map *map);
void qm_map_clear(struct qm_map *map);

/* The filesystem of that number, or NULL. Valid until the map is cleared. */
static inline struct qm_fs *qm_map_fs(struct qm_map *map, uint32_t number)
{
    struct qm_fs *_Atomic *chunk;

    if (number > QM_FS_LAST)
        return NULL;
    chunk = atomic_load_explicit(&map->chunk[number / QM_CHUNK], memory_order_acquire);
    return chunk ? atomic_load_explicit(&chunk[number % QM_CHUNK], memory_order_acquire) : NULL;
}

/* Adds a filesystem (row copied; its state fields are taken) whose number is not in the map. */
struct qm_fs *qm_map_add(struct qm_map *map, const struct qidmap_fs *row, gboolean has_full);
/* Takes one out; readers that hold it may go on. */
void qm_map_drop(struct qm_map *map, struct qm_fs *fs);
/* Takes over a changed row: all of it but entries and rows of the full map. A policy or instance
 * that differs makes a new struct of it, which comes back; only a fs without ids may have that. */
struct qm_fs *qm_map_set(struct qm_map *map, struct qm_fs *fs, const struct qidmap_fs *row,
                         gboolean has_full);
/* Has `older`, a retired one without an heir, asked before `fs`. */
void qm_map_link(struct qm_fs *fs, struct qm_fs *older);
/* The one that ids of `fs` belong to now: the end of its line of heirs. */
struct qm_fs *qm_map_head(struct qm_fs *fs);
/* All that are to be asked before `fs`, in this order; their number comes back. */
uint32_t qm_map_aliases(const struct qm_fs *fs, struct qm_fs *aliases[QM_ALIASES]);

/* Adds an entry. Its range must not overlap another entry's of this fs. */
void qm_map_add_entry(struct qm_map *map, struct qm_fs *fs, const struct qm_entry *entry);

uint32_t qm_map_entries(const struct qm_fs *fs); /* how many */
const struct qm_entry *qm_map_entry(const struct qm_fs *fs, uint32_t i);
/* The entry that covers `ino`, or NULL. */
const struct qm_entry *qm_map_covering(const struct qm_map *map, const struct qm_fs *fs,
                                       uint64_t ino);

/* The row with its present state. Under the map's lock, or by the changing thread. */
void qm_map_row(const struct qm_fs *fs, struct qidmap_fs *row);

/* Where the id of an inode comes from. */
enum qm_place {
    QM_PLACE_PATH, /* *path is it */
    QM_PLACE_FULL, /* the full map, now and for ever */
    QM_PLACE_OPEN  /* no entry covers it yet, and it may get one */
};

/* Asks for `ino` in the tables in RAM. `fs` is not retired and its policy is not deny. */
enum qm_place qm_map_ask(const struct qm_map *map, const struct qm_fs *fs, uint64_t ino,
                         uint64_t *path);

/* The id of `ino` by an entry that covers it; FALSE where it would lie outside the ids that are
 * given: then the inode belongs to the full map. */
gboolean qm_entry_path(uint32_t n, unsigned bits, uint64_t ino, uint64_t *path);
/* The inode that an id of entry (n, top) means; FALSE where the id is none that is given. */
gboolean qm_entry_inode(uint32_t n, uint64_t top, uint64_t path, uint64_t *ino);

/* The same for ephemeral filesystems. */
gboolean qm_ephemeral_path(uint32_t instance, uint64_t ino, uint64_t *path);
gboolean qm_ephemeral_inode(uint64_t path, uint32_t *instance, uint64_t *ino);

/* The same for the full map. `serial` is not larger than QM_SERIAL_LAST. */
static inline uint64_t qm_full_path(uint64_t serial)
{
    return 2 * serial + 1;
}

#endif
