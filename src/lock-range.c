/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of byte ranges. See lock-range.h. */
#include "config.h"

#include "src/lock-range.h"

#include <glib.h>
#include <string.h>

/* Index of the first range that ends at `pos` or behind it. */
static unsigned find(const struct lock_ranges *ranges, uint64_t pos)
{
    unsigned low = 0, high = ranges->count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (ranges->at[middle].end >= pos)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Puts `count` ranges in the place of those from `first` up to, not including, `last`. */
static void splice(struct lock_ranges *ranges, unsigned first, unsigned last,
                   const struct lock_range *with, unsigned count)
{
    unsigned total = ranges->count - (last - first) + count;

    if (total > ranges->room) {
        ranges->room = total + total / 2 + 2;
        ranges->at = g_renew(struct lock_range, ranges->at, ranges->room);
    }
    if (ranges->count > last)
        memmove(ranges->at + first + count, ranges->at + last,
                (ranges->count - last) * sizeof *ranges->at);
    if (count > 0)
        memcpy(ranges->at + first, with, count * sizeof *with);
    ranges->count = total;
    if (total == 0)
        lock_ranges_clear(ranges);
}

void lock_ranges_set(struct lock_ranges *ranges, uint64_t start, uint64_t end, enum lock_type type)
{
    unsigned first = find(ranges, start), last = first, count = 0;
    struct lock_range with[3], middle = {start, end, type};

    while (last < ranges->count && ranges->at[last].start <= end)
        last++;
    if (first < last && ranges->at[first].start < start) {
        if (ranges->at[first].type == type)
            middle.start = ranges->at[first].start;
        else
            with[count++] =
                (struct lock_range){ranges->at[first].start, start - 1, ranges->at[first].type};
    } else if (type != LOCK_TYPE_NONE && first > 0 && ranges->at[first - 1].type == type &&
               ranges->at[first - 1].end + 1 == start) {
        first--;
        middle.start = ranges->at[first].start;
    }
    if (first < last && ranges->at[last - 1].end > end) {
        struct lock_range right = {end + 1, ranges->at[last - 1].end, ranges->at[last - 1].type};

        if (right.type == type)
            middle.end = right.end;
        if (type != LOCK_TYPE_NONE)
            with[count++] = middle;
        if (right.type != type)
            with[count++] = right;
    } else {
        if (type != LOCK_TYPE_NONE && last < ranges->count && ranges->at[last].type == type &&
            ranges->at[last].start == end + 1)
            middle.end = ranges->at[last++].end;
        if (type != LOCK_TYPE_NONE)
            with[count++] = middle;
    }
    splice(ranges, first, last, with, count);
}

enum lock_type lock_ranges_at(const struct lock_ranges *ranges, uint64_t pos, uint64_t *begin,
                              uint64_t *end)
{
    unsigned i = find(ranges, pos);

    if (i < ranges->count && ranges->at[i].start <= pos) {
        *begin = ranges->at[i].start;
        *end = ranges->at[i].end;
        return ranges->at[i].type;
    }
    *begin = i > 0 ? ranges->at[i - 1].end + 1 : 0;
    *end = i < ranges->count ? ranges->at[i].start - 1 : LOCK_END;
    return LOCK_TYPE_NONE;
}

void lock_ranges_clear(struct lock_ranges *ranges)
{
    g_free(ranges->at);
    memset(ranges, 0, sizeof *ranges);
}
