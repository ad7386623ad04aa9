/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How often the map was asked for ids. What was new is counted by the stores; the rest are hits.
 *
 * One addition for each call, in a cache line that few threads share.
 */
#include "config.h"

#include "src/qid-export.h"

#define SHARDS 16

static struct {
    _Alignas(64) uint64_t asked; /* atomic */
} shards[SHARDS];

void qid_count(uint64_t objects)
{
    static __thread unsigned number; /* 0: none yet */
    static unsigned next;            /* atomic */

    if (number == 0)
        number = 1 + __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % SHARDS;
    __atomic_fetch_add(&shards[number - 1].asked, objects, __ATOMIC_RELAXED);
}

uint64_t qid_counted(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < SHARDS; i++)
        sum += __atomic_load_n(&shards[i].asked, __ATOMIC_RELAXED);
    return sum;
}
