/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: the survey computes the ids that QEMU gives with multidevs=remap, bit for bit, with the
 * collisions that they are known for. The expected numbers are worked out by hand from the rules
 * at the head of tools/qemu-remap.c.
 */
#include "config.h"

#include <glib.h>

#include "tools/qemu-remap.h"

static guint64 path_of(qemu_remap *remap, guint64 dev, guint64 ino)
{
    guint64 path = 0;
    g_assert_true(qemu_remap_path(remap, dev, ino, &path));
    return path;
}

/* n = 1 ... 8: "1", "010", "011", "00100" ... in mirror writing. */
static void test_suffixes(void)
{
    static const guint64 suffix[] = {0x1, 0x2, 0x6, 0x4, 0x14, 0xc, 0x1c, 0x08};
    static const guint bits[] = {1, 3, 3, 5, 5, 5, 5, 7};
    g_autoptr(qemu_remap) remap = qemu_remap_new();

    for (guint i = 0; i < G_N_ELEMENTS(bits); i++) {
        g_assert_cmphex(path_of(remap, 100 + i, 5), ==, (guint64)5 << bits[i] | suffix[i]);
    }
    /* and again: nothing new is given */
    g_assert_cmphex(path_of(remap, 102, 7), ==, 7 << 3 | 6);
    g_assert_cmpuint(qemu_remap_suffixes(remap), ==, G_N_ELEMENTS(bits));
}

/* The first device compares one bit for ever. Its second suffix has 3 and shifts out two that
 * nobody looked at. */
static void test_first_device(void)
{
    g_autoptr(qemu_remap) remap = qemu_remap_new();
    guint64 a, b;

    path_of(remap, 1, 12); /* high bit 0: suffix 1 */
    a = path_of(remap, 1, G_GUINT64_CONSTANT(0x8000000000000083));
    b = path_of(remap, 1, G_GUINT64_CONSTANT(0xc000000000000083));
    g_assert_cmphex(a, ==, (guint64)0x83 << 3 | 2);
    g_assert_cmphex(a, ==, b);
    g_assert_cmpuint(qemu_remap_suffixes(remap), ==, 2);
    /* bits that were compared do keep files apart */
    g_assert_cmphex(path_of(remap, 1, 0x83), !=, a);
}

/* The order of first access decides: the device that is met second compares 3 bits. */
static void test_order(void)
{
    g_autoptr(qemu_remap) remap = qemu_remap_new();
    guint64 a, b;

    path_of(remap, 7, 1);
    a = path_of(remap, 8, G_GUINT64_CONSTANT(0x8000000000000083));
    b = path_of(remap, 8, G_GUINT64_CONSTANT(0xc000000000000083));
    g_assert_cmphex(a, !=, b);
    /* its third suffix has 5 */
    a = path_of(remap, 8, G_GUINT64_CONSTANT(0xa800000000000083));
    b = path_of(remap, 8, G_GUINT64_CONSTANT(0xb000000000000083));
    g_assert_cmphex(a, ==, (guint64)0x83 << 5 | 4);
    g_assert_cmphex(a, ==, b);
}

/* With more than 16 bits compared only the lower 16 of them are kept. */
static void test_prefix_cut(void)
{
    g_autoptr(qemu_remap) remap = qemu_remap_new();

    for (guint64 dev = 1; dev <= 255; dev++) {
        path_of(remap, dev, 1);
    }
    /* device 256 is met when suffix 256 is next: 17 bits */
    guint64 a = path_of(remap, 256, 9);
    guint64 b = path_of(remap, 256, G_GUINT64_CONSTANT(0x8000000000000009));
    g_assert_cmphex(a, ==, b);
    g_assert_cmpuint(qemu_remap_suffixes(remap), ==, 256);
    /* a bit below those */
    g_assert_cmphex(path_of(remap, 256, G_GUINT64_CONSTANT(0x4000000000000009)), !=, a);
}

/* With all suffixes used up each inode gets a number of its own: 33 bits of suffix. */
static void test_full(void)
{
    g_autoptr(qemu_remap) remap = qemu_remap_new();
    const guint64 suffix = G_GUINT64_CONSTANT(1) << 16; /* of number 2^16: 16 zeros, a one, zeros */

    for (guint64 dev = 1; dev <= 65535; dev++) {
        path_of(remap, dev, 1);
    }
    g_assert_cmphex(path_of(remap, 70000, 5), ==, (guint64)1 << 33 | suffix);
    g_assert_cmphex(path_of(remap, 70000, 6), ==, (guint64)2 << 33 | suffix);
    g_assert_cmphex(path_of(remap, 70001, 5), ==, (guint64)3 << 33 | suffix);
    g_assert_cmphex(path_of(remap, 70000, 5), ==, (guint64)1 << 33 | suffix);
    g_assert_cmphex(path_of(remap, 3, 5), ==, 5 << 3 | 6);
    g_assert_cmpuint(qemu_remap_suffixes(remap), ==, 65535);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/remap/suffixes", test_suffixes);
    g_test_add_func("/remap/first-device", test_first_device);
    g_test_add_func("/remap/order", test_order);
    g_test_add_func("/remap/prefix-cut", test_prefix_cut);
    g_test_add_func("/remap/full", test_full);
    return g_test_run();
}
