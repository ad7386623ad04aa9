/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a set of ranges says of each byte what was set last, in as few ranges as possible, up to
 * the last byte that there is.
 */
#include "config.h"

#include "src/lock-range.h"

#include <glib.h>

static void last_byte(void)
{
    struct lock_ranges ranges = {NULL, 0, 0};
    uint64_t begin, end;

    lock_ranges_set(&ranges, 0, LOCK_END, LOCK_TYPE_WRITE);
    lock_ranges_set(&ranges, LOCK_END, LOCK_END, LOCK_TYPE_READ);
    g_assert_cmpuint(ranges.count, ==, 2);
    g_assert_cmpint(lock_ranges_at(&ranges, LOCK_END, &begin, &end), ==, LOCK_TYPE_READ);
    g_assert_cmpuint(begin, ==, LOCK_END);
    lock_ranges_set(&ranges, 0, LOCK_END - 1, LOCK_TYPE_READ);
    g_assert_cmpuint(ranges.count, ==, 1);
    lock_ranges_set(&ranges, 0, LOCK_END, LOCK_TYPE_NONE);
    g_assert_cmpuint(ranges.count, ==, 0);
    g_assert_cmpint(lock_ranges_at(&ranges, 7, &begin, &end), ==, LOCK_TYPE_NONE);
    g_assert_cmpuint(begin, ==, 0);
    g_assert_cmpuint(end, ==, LOCK_END);
}

static void random_sets(void)
{
    for (guint round = 0; round < 200; round++) {
        struct lock_ranges ranges = {NULL, 0, 0};
        guint8 bytes[64] = {0};

        for (guint i = 0; i < 100; i++) {
            gint start = g_test_rand_int_range(0, 64), end = g_test_rand_int_range(start, 64);
            gint type = g_test_rand_int_range(0, 3);
            unsigned before = ranges.count, runs = 0;

            lock_ranges_set(&ranges, (uint64_t)start, (uint64_t)end, (enum lock_type)type);
            for (gint at = start; at <= end; at++)
                bytes[at] = (guint8)type;
            g_assert_cmpuint(ranges.count, <=, before + 2);
            for (guint at = 0; at < 64; at++) {
                uint64_t begin, stop;

                if (bytes[at] != 0 && (at == 0 || bytes[at - 1] != bytes[at]))
                    runs++;
                g_assert_cmpint(lock_ranges_at(&ranges, at, &begin, &stop), ==, bytes[at]);
                g_assert_cmpuint(begin, <=, at);
                g_assert_cmpuint(stop, >=, at);
                g_assert_true(begin == 0 || bytes[begin - 1] != bytes[at]);
                g_assert_true(stop >= 63 || bytes[stop + 1] != bytes[at]);
            }
            g_assert_cmpuint(ranges.count, ==, runs);
        }
        lock_ranges_clear(&ranges);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lock-range/last-byte", last_byte);
    g_test_add_func("/lock-range/random", random_sets);
    return g_test_run();
}
