/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set of byte ranges, each with a type: what one owner holds through one fid.
 *
 * Pure: no files, no owners, no threads. Ranges never overlap, are sorted, and neighbours of one
 * type are one range. Both ends belong to a range, so that the last byte that a file can have does,
 * too; `to the end of the file` ends at LOCK_END.
 */
#ifndef LOCK_RANGE_H
#define LOCK_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#define LOCK_END ((uint64_t)INT64_MAX)

/* In the order of strength. */
enum lock_type { LOCK_TYPE_NONE, LOCK_TYPE_READ, LOCK_TYPE_WRITE };

struct lock_range {
    uint64_t start, end;
    enum lock_type type;
};

/* Zero-filled means empty. */
struct lock_ranges {
    struct lock_range *at;
    unsigned count, room;
};

/* Makes [start, end] be of this type, LOCK_TYPE_NONE: be free. Adds at most two ranges. */
void lock_ranges_set(struct lock_ranges *ranges, uint64_t start, uint64_t end, enum lock_type type);

/* The type at `pos`; from *begin to *end it is the same (nothing is said of what is beyond). */
enum lock_type lock_ranges_at(const struct lock_ranges *ranges, uint64_t pos, uint64_t *begin,
                              uint64_t *end);

void lock_ranges_clear(struct lock_ranges *ranges);

#endif
