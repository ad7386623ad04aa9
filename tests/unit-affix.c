/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: no suffix is the end of another one, decoding undoes encoding, and lengths never
 * decrease; so ids of different affix entries can never be equal.
 */
#include "config.h"

#include <glib.h>

#include "store/affix.h"

#define N 65536u

/* Lengths and suffixes of the first ones, written down by hand. */
static void test_table(void)
{
    static const struct {
        unsigned bits;
        uint64_t suffix;
    } first[] = {{1, 1}, {3, 2}, {3, 6}, {5, 4}, {5, 20}, {5, 12}, {5, 28}, {7, 8}};
    uint32_t n;

    for (n = 1; n <= G_N_ELEMENTS(first); n++) {
        g_assert_cmpuint(qm_affix_bits(n), ==, first[n - 1].bits);
        g_assert_cmpuint(qm_affix_suffix(n), ==, first[n - 1].suffix);
    }
    g_assert_cmpuint(qm_affix_bits(QM_AFFIX_LAST), ==, 39);
    g_assert_cmpuint(qm_affix_bits(QM_AFFIX_LAST + 1), >, QM_AFFIX_BITS_MAX);
}

/* Every suffix of up to N indexes, cut to every shorter length, is looked for among all others. */
static void test_suffix_free(void)
{
    g_autoptr(GHashTable) codes = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autofree gint64 *keys = g_new(gint64, N + 1);
    uint32_t n;
    unsigned bits;

    for (n = 1; n <= N; n++) { /* length and suffix in one number */
        keys[n] = (gint64)((guint64)qm_affix_bits(n) << 48 | qm_affix_suffix(n));
        g_assert_true(g_hash_table_add(codes, &keys[n]));
    }
    for (n = 1; n <= N; n++) {
        for (bits = 1; bits < qm_affix_bits(n); bits++) {
            gint64 end =
                (gint64)((guint64)bits << 48 | (qm_affix_suffix(n) & ((UINT64_C(1) << bits) - 1)));

            g_assert_false(g_hash_table_contains(codes, &end));
        }
    }
}

static void test_decode(void)
{
    uint32_t n;
    int i;

    for (n = 1; n <= QM_AFFIX_LAST; n++) {
        unsigned bits = qm_affix_bits(n);

        g_assert_cmpuint(qm_affix_suffix(n) >> bits, ==, 0);
        if (n > 1)
            g_assert_cmpuint(bits, >=, qm_affix_bits(n - 1));
        for (i = 0; i < 4; i++) { /* whatever stands above */
            guint64 above = i == 0   ? 0
                            : i == 1 ? UINT64_MAX
                                     : g_random_int() * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);

            g_assert_cmpuint(qm_affix_index(above << bits | qm_affix_suffix(n)), ==, n);
        }
    }
    g_assert_cmpuint(qm_affix_index(0), ==, 0);
    g_assert_cmpuint(qm_affix_index(UINT64_C(1) << 31), ==, 0);
    g_assert_cmpuint(qm_affix_index(UINT64_C(1) << 63), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/affix/table", test_table);
    g_test_add_func("/affix/suffix-free", test_suffix_free);
    g_test_add_func("/affix/decode", test_decode);
    return g_test_run();
}
