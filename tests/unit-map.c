/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: no two objects get one id, no object gets two, each id leads back to its object, and no
 * id lies outside the bounds; for inode numbers of every shape, high bits included.
 *
 * The oracle is brute force: all ids in one hash table. The small model tries every inode of a
 * machine with few bits, in many orders, with the very rule that map.c uses.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "store/affix.h"
#include "store/map.h"
#include "store/qidmap.h"
#include "tests/lib/store-fixture.h"

#define FILESYSTEMS 6
#define BATCH       50000

/* ---- a small model, exhaustively ------------------------------------------------------------- */

/* The rule of map.c on a machine whose inodes and ids have `width` bits. Entries are made in the
 * order in which inodes come; what has no room stays unmapped, as if in the full map. */
static void model(unsigned width, unsigned n_fs, GRand *rand)
{
    uint32_t inodes = 1u << width, next = QM_AFFIX_FIRST, i, j, e, n_entries = 0;
    struct {
        uint32_t fs, n, bits, top;
    } entry[256];
    g_autofree uint32_t *order = g_new(uint32_t, inodes * n_fs);
    g_autofree uint32_t *owner = g_new0(uint32_t, inodes);

    for (i = 0; i < inodes * n_fs; i++) {
        j = (uint32_t)g_rand_int_range(rand, 0, (gint32)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (i = 0; i < inodes * n_fs; i++) {
        uint32_t fs = order[i] / inodes, ino = order[i] % inodes, covering = 0, id;

        for (e = 0; e < n_entries; e++) {
            if (entry[e].fs == fs && ino >> (width - entry[e].bits) == entry[e].top)
                covering++;
        }
        g_assert_cmpuint(covering, <=, 1); /* ranges are disjoint */
        if (covering == 0) {
            unsigned bits = qm_affix_bits(next);

            if (bits > width - 1 || n_entries == G_N_ELEMENTS(entry))
                continue;
            entry[n_entries].fs = fs;
            entry[n_entries].n = next++;
            entry[n_entries].bits = bits;
            entry[n_entries++].top = ino >> (width - bits);
        }
        for (e = 0; e < n_entries; e++) {
            if (entry[e].fs == fs && ino >> (width - entry[e].bits) == entry[e].top)
                break;
        }
        id = (ino << entry[e].bits | (uint32_t)qm_affix_suffix(entry[e].n)) & (inodes - 1);
        g_assert_cmpuint(owner[id], ==, 0);
        owner[id] = order[i] + 1;
    }
}

static void test_small_model(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    unsigned width, n_fs;
    int round;

    for (width = 6; width <= 14; width++) {
        for (n_fs = 1; n_fs <= 4; n_fs++) {
            for (round = 0; round < (width < 10 ? 40 : 4); round++)
                model(width, n_fs, rand);
        }
    }
}

/* ---- the real thing against an oracle -------------------------------------------------------- */

/* A set of (path -> which object), open addressing. */
struct oracle {
    uint64_t *path, *object;
    size_t mask, count;
};

static void oracle_add(struct oracle *o, uint64_t path, uint64_t object)
{
    size_t i = (size_t)(path * UINT64_C(0x9e3779b97f4a7c15) >> 20) & o->mask;

    while (o->path[i] != 0) {
        if (o->path[i] == path) {
            g_assert_cmpuint(o->object[i], ==, object);
            return;
        }
        i = (i + 1) & o->mask;
    }
    o->path[i] = path;
    o->object[i] = object;
    g_assert_cmpuint(++o->count, <, o->mask);
}

static uint64_t random64(GRand *rand)
{
    return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
}

/* Inode numbers that somebody's filesystem really has, or that hurt. */
static uint64_t inode_of(GRand *rand, uint32_t fs)
{
    uint64_t r = random64(rand);

    switch (g_rand_int_range(rand, 0, 12)) {
    case 0:
        return r; /* a hash (mergerfs) */
    case 1:
        return 1 + r % 100000; /* an ordinary disk */
    case 2:
        return UINT64_C(1) << 63 | r % 100000; /* overlay xino */
    case 3:
        return (r % 24) << 40 | (r >> 32) % 1000; /* 24 prefixes (CephFS) */
    case 4:
        return UINT64_C(1) << r % 64; /* one bit */
    case 5:
        return UINT64_MAX - r % 1000; /* the top end */
    case 6:
        return (UINT64_C(1) << (r % 63 + 1)) - 1;
    case 7:
        return r % 64; /* the low end, 0 included */
    case 8:
        return (r % 256) << 56; /* low bits all 0 */
    case 9:
        return (r % 4096) << 52 | ((UINT64_C(1) << 52) - 1 - r % 3); /* low bits all 1 */
    case 10:
        return (UINT64_C(1) << 37) - 2 + r % 4; /* around the ephemeral bound */
    default:
        return (uint64_t)fs << 59 | r >> 40;
    }
}

static void check_bounds(uint64_t path)
{
    g_assert_cmpuint(path, >=, 32);
    g_assert_cmpuint(path, <, UINT64_MAX - 255);
}

static void run_oracle(const char *uri, uint32_t budget, size_t pairs, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, BATCH);
    qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, budget);
    struct oracle o = {.mask = (1u << 23) - 1};
    struct qidmap_object object;
    uint32_t fs[FILESYSTEMS];
    size_t done, i;
    uint64_t path;

    while (o.mask > 4 * pairs)
        o.mask >>= 1;
    o.path = g_new0(uint64_t, o.mask + 1);
    o.object = g_new0(uint64_t, o.mask + 1);
    for (i = 0; i < FILESYSTEMS; i++)
        fs[i] =
            fixture_register(store, (uint8_t)(i + 1),
                             i == FILESYSTEMS - 1 ? QIDMAP_POLICY_EPHEMERAL : QIDMAP_POLICY_AFFIX);
    for (done = 0; done < pairs; done += BATCH) {
        for (i = 0; i < BATCH; i++) {
            items[i].fs = fs[g_rand_int_range(rand, 0, FILESYSTEMS)];
            items[i].ino = inode_of(rand, items[i].fs);
        }
        g_assert_cmpint(qidmap_map_batch(store, items, BATCH), ==, 0);
        for (i = 0; i < BATCH; i++) {
            check_bounds(items[i].path);
            /* fs and inode in one number would lose bits: mix, and let reverse() be exact. */
            oracle_add(&o, items[i].path,
                       items[i].ino * UINT64_C(0x9e3779b97f4a7c15) + items[i].fs);
            if (i % 4 == 0) {
                g_assert_cmpint(qidmap_reverse(store, items[i].path, &object), ==, 0);
                g_assert_cmpuint(object.fs, ==, items[i].fs);
                g_assert_cmpuint(object.ino, ==, items[i].ino);
                g_assert_cmpint(qidmap_find(store, items[i].fs, items[i].ino, &path), ==, 0);
                g_assert_cmpuint(path, ==, items[i].path);
            }
        }
    }
    if (g_str_has_prefix(uri, "lmdb:")) { /* the last batch again, after a restart */
        qidmap_store_close(store);
        store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
        for (i = 0; i < BATCH; i++) {
            g_assert_cmpint(qidmap_find(store, items[i].fs, items[i].ino, &path), ==, 0);
            g_assert_cmpuint(path, ==, items[i].path);
        }
    }
    qidmap_store_close(store);
    g_free(o.path);
    g_free(o.object);
}

static void test_oracle_affix(void)
{
    run_oracle("memory:", 65535, g_test_slow() ? 6000000 : 2000000, 2);
}

static void test_oracle_budget(void)
{
    run_oracle("memory:", 16, 400000, 3);
}

static void test_oracle_lmdb(void)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strconcat("lmdb:", dir, NULL);

    run_oracle(uri, 16, 200000, 4);
    fixture_remove(dir);
}

/* An inode whose id would be out of bounds is covered by its entry all the same, and keeps the id
 * of the full map when longer affixes come. */
static void test_out_of_bounds(void)
{
    static const uint64_t inodes[] = {0,          UINT64_C(1) << 63, UINT64_C(3) << 62,
                                      UINT64_MAX, UINT64_MAX >> 5,   1};
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 1000);
    uint32_t fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    uint64_t before[G_N_ELEMENTS(inodes)], path;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(inodes); i++) {
        g_assert_cmpint(qidmap_map(store, fs, inodes[i], &before[i]), ==, 0);
        check_bounds(before[i]);
    }
    for (i = 2; i < 60; i++) /* others use up the short affixes ... */
        g_assert_cmpint(
            qidmap_map(store, fixture_register(store, (uint8_t)i, QIDMAP_POLICY_AFFIX), 1, &path),
            ==, 0);
    for (i = 0; i < 500; i++) { /* ... and these would get long ones, were they not covered */
        g_assert_cmpint(qidmap_map(store, fs, (i << 50) + 5, &path), ==, 0);
        g_assert_cmpint(qidmap_map(store, fs, (UINT64_C(1) << 63) + (i << 40) + 7, &path), ==, 0);
        g_assert_cmpint(qidmap_map(store, fs, UINT64_MAX - 1000 - i, &path), ==, 0);
    }
    for (i = 0; i < G_N_ELEMENTS(inodes); i++) {
        g_assert_cmpint(qidmap_map(store, fs, inodes[i], &path), ==, 0);
        g_assert_cmpuint(path, ==, before[i]);
    }
    qidmap_store_close(store);
}

/* Arithmetic of ephemeral ids at its ends. */
static void test_ephemeral(void)
{
    uint32_t instance;
    uint64_t path, ino;

    g_assert_false(qm_ephemeral_path(1, 0, &path));
    g_assert_false(qm_ephemeral_path(1, UINT64_C(1) << 37, &path));
    g_assert_true(qm_ephemeral_path(1, 1, &path));
    check_bounds(path);
    g_assert_true(qm_ephemeral_path(QM_INSTANCE_LAST, (UINT64_C(1) << 37) - 1, &path));
    check_bounds(path);
    g_assert_true(qm_ephemeral_inode(path, &instance, &ino));
    g_assert_cmpuint(instance, ==, QM_INSTANCE_LAST);
    g_assert_cmpuint(ino, ==, (UINT64_C(1) << 37) - 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/map/small-model", test_small_model);
    g_test_add_func("/map/oracle/affix", test_oracle_affix);
    g_test_add_func("/map/oracle/budget", test_oracle_budget);
    g_test_add_func("/map/oracle/lmdb", test_oracle_lmdb);
    g_test_add_func("/map/out-of-bounds", test_out_of_bounds);
    g_test_add_func("/map/ephemeral", test_ephemeral);
    return g_test_run();
}
