/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What QEMU does, as far as ids are concerned
 *
 *   Suffixes are numbered 1, 2, 3 ... in 16 bits; suffix n is the mirrored Exp-Golomb code of order
 *   0: with k = floor(log2 n) it has 2k + 1 bits, the mirror of n in them.
 *
 *   A device met for the first time is noted with the length of the suffix that is next at this
 *   moment: so many high bits of its inodes are compared, for ever.
 *
 *   (device, those high bits, of which 16 bits are kept) met for the first time takes the next
 *   suffix, whatever its length:    path = inode << length | suffix.
 *
 *   When the 65,535 suffixes are used up, what has none gets a number of its own for each inode,
 *   before the suffix of number 2^16: path = serial << 33 | suffix, with serials of 31 bits.
 *
 * Where two files get one path
 *   - The suffix is longer than the number of bits that are compared: the shift loses bits that
 *     nobody looked at. (A device seen first compares 1 bit; its second suffix has 3.)
 *   - More than 16 high bits are compared, and only the lower 16 of them are kept.
 */
#include "config.h"

#include "tools/qemu-remap.h"

#define LAST_SUFFIX    65535u
#define FULL_SUFFIX    65536u
#define PREFIX_KEPT    0xffffu
#define FULL_BITS      33u
#define FULL_SERIAL_AT ((G_GUINT64_CONSTANT(1) << (64 - FULL_BITS)) - 1)

struct pair {
    guint64 device;
    guint64 number; /* high bits of the inode, or the inode */
};

struct qemu_remap {
    GHashTable *devices;  /* guint64 -> number of bits */
    GHashTable *prefixes; /* struct pair -> number of the suffix */
    GHashTable *full;     /* struct pair -> guint64 */
    guint next;           /* suffix; beyond LAST_SUFFIX: used up */
    guint64 next_serial;  /* 0: used up */
};

static guint pair_hash(gconstpointer key)
{
    const struct pair *pair = key;
    return g_int64_hash(&pair->device) * 31 + g_int64_hash(&pair->number) * 2654435761u;
}

static gboolean pair_equal(gconstpointer a, gconstpointer b)
{
    const struct pair *x = a, *y = b;
    return x->device == y->device && x->number == y->number;
}

qemu_remap *qemu_remap_new(void)
{
    qemu_remap *remap = g_new0(qemu_remap, 1);
    remap->devices = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    remap->prefixes = g_hash_table_new_full(pair_hash, pair_equal, g_free, NULL);
    remap->full = g_hash_table_new_full(pair_hash, pair_equal, g_free, g_free);
    remap->next = 1;
    remap->next_serial = 1;
    return remap;
}

void qemu_remap_free(qemu_remap *remap)
{
    g_hash_table_unref(remap->devices);
    g_hash_table_unref(remap->prefixes);
    g_hash_table_unref(remap->full);
    g_free(remap);
}

guint qemu_remap_suffixes(const qemu_remap *remap)
{
    return remap->next - 1;
}

static guint suffix_bits(guint n)
{
    return 2 * (g_bit_storage(n) - 1) + 1;
}

/* The code is n, written in suffix_bits(n) bits, read backwards. */
static guint64 suffix_value(guint n)
{
    guint64 value = 0;
    for (guint bit = 0; bit < suffix_bits(n); bit++) {
        value = value << 1 | ((guint64)n >> bit & 1);
    }
    return value;
}

static guint bits_compared(qemu_remap *remap, guint64 device)
{
    gpointer found;

    if (g_hash_table_lookup_extended(remap->devices, &device, NULL, &found)) {
        return GPOINTER_TO_UINT(found);
    }
    /* with the suffixes used up QEMU computes a meaningless number here, and then finds no suffix
     * whatever it is */
    guint bits = remap->next <= LAST_SUFFIX ? suffix_bits(remap->next) : 1;
    g_hash_table_insert(remap->devices, g_memdup(&device, sizeof device), GUINT_TO_POINTER(bits));
    return bits;
}

static gboolean full_path(qemu_remap *remap, guint64 device, guint64 ino, guint64 *path)
{
    struct pair key = {device, ino};
    guint64 *found = g_hash_table_lookup(remap->full, &key);

    if (found == NULL) {
        if (remap->next_serial == 0) {
            return FALSE;
        }
        found = g_new(guint64, 1);
        *found = remap->next_serial << FULL_BITS | suffix_value(FULL_SUFFIX);
        remap->next_serial = (remap->next_serial + 1) & FULL_SERIAL_AT;
        g_hash_table_insert(remap->full, g_memdup(&key, sizeof key), found);
    }
    *path = *found;
    return TRUE;
}

gboolean qemu_remap_path(qemu_remap *remap, guint64 st_dev, guint64 st_ino, guint64 *path)
{
    guint compared = bits_compared(remap, st_dev);
    struct pair key = {st_dev, st_ino >> (64 - compared) & PREFIX_KEPT};
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(remap->prefixes, &key));

    if (n == 0) {
        if (remap->next > LAST_SUFFIX) {
            return full_path(remap, st_dev, st_ino, path);
        }
        n = remap->next++;
        g_hash_table_insert(remap->prefixes, g_memdup(&key, sizeof key), GUINT_TO_POINTER(n));
    }
    *path = st_ino << suffix_bits(n) | suffix_value(n);
    return TRUE;
}
