/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists of figures, one for each round, their medians, and the medians of their ratios. */
#ifndef BENCH_SPEED_LIST_H
#define BENCH_SPEED_LIST_H

#include <glib.h>
#include <stdlib.h>

#include "bench/speed.h"

static inline GArray *doubles(void)
{
    return g_array_new(FALSE, FALSE, sizeof(double));
}

static inline void note(GArray *list, double value)
{
    g_array_append_val(list, value);
}

static inline double at(const GArray *list, guint i)
{
    return g_array_index(list, double, i);
}

/* 0 where there is none. */
static inline double median(const GArray *list)
{
    g_autoptr(GArray) sorted = doubles();

    if (list->len == 0)
        return 0;
    g_array_append_vals(sorted, list->data, list->len);
    qsort(sorted->data, sorted->len, sizeof(double), speed_compare_doubles);
    return at(sorted, sorted->len / 2);
}

/* The median of the ratios of two lists, round by round; 0 where there is none. */
static inline double ratio(const GArray *a, const GArray *b)
{
    g_autoptr(GArray) ratios = doubles();

    for (guint i = 0; i < a->len && i < b->len; i++)
        if (at(a, i) > 0 && at(b, i) > 0)
            note(ratios, at(a, i) / at(b, i));
    return median(ratios);
}

#endif
