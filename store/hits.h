/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of the full map that were found lately, in RAM: of bounded size, and readers take no lock.
 * It knows positive answers alone, under exact keys, and each with the generation in which it was
 * read; it does not know what a generation is (lookup.c does).
 */
#ifndef QM_HITS_H
#define QM_HITS_H

#include <stdatomic.h>

#include <glib.h>

#include "store/qidmap.h"

#define QM_HITS_WORDS 13u /* a key that is longer is not kept: handles beyond 88 bytes */

/* An object, exactly, in words. */
struct qm_hits_key {
    unsigned count; /* 0: it is too long */
    uint64_t word[QM_HITS_WORDS];
};

struct qm_hit;

/* Slots of one size. */
struct qm_shelf {
    struct qm_hit *_Atomic table; /* made with the first one */
    void *room;                   /* what is to be freed */
};

struct qm_hits {
    struct qm_shelf shelf[2]; /* of short keys and of long ones */
    uint64_t seed;            /* of the hash: guests choose inodes */
};

void qm_hits_init(struct qm_hits *hits, uint64_t seed);
void qm_hits_clear(struct qm_hits *hits);

/* Any thread. */
gboolean qm_hits_get(const struct qm_hits *hits, const struct qm_hits_key *key, uint64_t generation,
                     uint64_t *path);
void qm_hits_put(struct qm_hits *hits, const struct qm_hits_key *key, uint64_t generation,
                 uint64_t path);

static inline void qm_hits_key_inode(struct qm_hits_key *key, uint32_t fs, uint64_t ino)
{
    key->count = 2;
    key->word[0] = (uint64_t)fs << 32 | QIDMAP_OBJECT_INODE;
    key->word[1] = ino;
}

void qm_hits_key(struct qm_hits_key *key, const struct qidmap_object *object);

#endif
