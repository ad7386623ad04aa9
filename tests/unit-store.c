/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a store does what qidmap.h says, with every backend alike: registration does not depend
 * on order, ids are stable, the budget holds, errors are the documented ones, and any number of
 * threads get the same ids.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "store/qidmap.h"
#include "tests/lib/store-fixture.h"

struct fixture {
    char *dir;
    char *uri;
    qidmap_store *store;
};

static void setup(struct fixture *f, gconstpointer data)
{
    const char *backend = data;

    f->dir = fixture_dir();
    f->uri = backend ? g_strconcat(backend, ":", f->dir, NULL) : g_strdup("memory:");
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 4);
}

static void teardown(struct fixture *f, gconstpointer lmdb G_GNUC_UNUSED)
{
    qidmap_store_close(f->store);
    fixture_remove(f->dir);
    g_free(f->uri);
    g_free(f->dir);
}

static void test_register(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_identity ids[3];
    struct qidmap_fs row = {.size = sizeof(row)};
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_error error;
    uint32_t fs[3], again[3], i;

    for (i = 0; i < 3; i++)
        ids[i] = fixture_identity((uint8_t)(i + 1), QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_recognise(f->store, ids, 3, fs, NULL), ==, 0);
    g_assert_true(fs[0] == 0 && fs[1] == 0 && fs[2] == 0);
    g_assert_cmpint(qidmap_register(f->store, ids, 3, fs, NULL), ==, 0);
    g_assert_true(fs[0] && fs[1] && fs[2] && fs[0] != fs[1] && fs[1] != fs[2] && fs[0] != fs[2]);
    g_assert_cmpint(qidmap_store_stats(f->store, &stats, NULL), ==, 0);
    g_assert_cmpuint(stats.fs_rows, ==, 3);
    g_assert_cmpuint(stats.epoch, ==, 2); /* creation, and one commit for all three */

    struct qidmap_identity turned[3] = {ids[2], ids[0], ids[1]};

    g_assert_cmpint(qidmap_register(f->store, turned, 3, again, NULL), ==, 0);
    g_assert_true(again[0] == fs[2] && again[1] == fs[0] && again[2] == fs[1]);
    g_assert_cmpint(qidmap_recognise(f->store, ids, 3, again, NULL), ==, 0);
    g_assert_cmpmem(again, sizeof(again), fs, sizeof(fs));

    g_assert_cmpint(qidmap_fs_get(f->store, fs[1], &row, NULL), ==, 0);
    g_assert_cmpuint(row.fs, ==, fs[1]);
    g_assert_cmpuint(row.fsid_count, ==, 1);
    g_assert_cmpstr(row.hints.type, ==, "fs2");
    g_assert_cmpint(qidmap_fs_get(f->store, 99, &row, &error), ==, -ENOENT);
    g_assert_cmpint(error.code, ==, -ENOENT);
    g_assert_nonnull(strstr(error.text, f->uri));

    ids[0].count = 0;
    g_assert_cmpint(qidmap_register(f->store, ids, 1, fs, &error), ==, -EINVAL);
}

static void test_map(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    uint32_t other = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    uint32_t deny = fixture_register(f->store, 3, QIDMAP_POLICY_DENY);
    struct qidmap_object object;
    struct qidmap_stats stats = {.size = sizeof(stats)};
    uint64_t a, b, path, i, high[8], epoch;
    struct qidmap_fs row = {.size = sizeof(row)};

    g_assert_cmpint(qidmap_find(f->store, fs, 1, &a), ==, -ENOENT);
    g_assert_cmpint(qidmap_map(f->store, fs, 1, &a), ==, 0);
    g_assert_cmpint(qidmap_map(f->store, other, 1, &b), ==, 0);
    g_assert_cmpuint(a, !=, b);
    g_assert_cmpint(qidmap_find(f->store, fs, 1, &path), ==, 0);
    g_assert_cmpuint(path, ==, a);
    qidmap_store_stats(f->store, &stats, NULL);
    epoch = stats.epoch;
    for (i = 2; i < 1000; i++) /* covered by the same entry: nothing is written */
        g_assert_cmpint(qidmap_map(f->store, fs, i, &path), ==, 0);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_cmpuint(stats.epoch, ==, epoch);
    g_assert_cmpuint(stats.affix_rows, ==, 2);

    /* Beyond the budget of 4 entries: the full map; and never an entry again. */
    for (i = 0; i < 8; i++)
        g_assert_cmpint(qidmap_map(f->store, fs, (i + 1) << 58 | 9, &high[i]), ==, 0);
    qidmap_fs_get(f->store, fs, &row, NULL);
    g_assert_cmpuint(row.affix_rows, ==, 4);
    g_assert_cmpuint(row.left_budget, ==, 1);
    g_assert_cmpuint(high[7] & 1, ==, 1);
    g_assert_cmpuint(high[7], >, 256);
    g_assert_cmpint(qidmap_map(f->store, other, UINT64_C(5) << 58, &path), ==, 0); /* has its own */
    g_assert_cmpuint(path & 1, ==, 0);
    for (i = 0; i < 8; i++) {
        g_assert_cmpint(qidmap_reverse(f->store, high[i], &object), ==, 0);
        g_assert_cmpuint(object.fs, ==, fs);
        g_assert_cmpuint(object.ino, ==, (i + 1) << 58 | 9);
    }
    g_assert_cmpint(qidmap_reverse(f->store, a, &object), ==, 0);
    g_assert_true(object.fs == fs && object.ino == 1 && object.kind == QIDMAP_OBJECT_INODE);
    g_assert_cmpint(qidmap_reverse(f->store, 0, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_reverse(f->store, 2, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_reverse(f->store, UINT64_MAX, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_reverse(f->store, 999999999, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_reverse(f->store, UINT64_C(1) << 50, &object), ==, -ENOENT);

    g_assert_cmpint(qidmap_map(f->store, deny, 1, &path), ==, -EPERM);
    g_assert_cmpint(qidmap_map(f->store, 99, 1, &path), ==, -EINVAL);
    g_assert_cmpint(qidmap_map(f->store, 0, 1, &path), ==, -EINVAL);
    g_assert_cmpint(qidmap_map(f->store, UINT32_MAX, 1, &path), ==, -EINVAL);
    g_assert_cmpint(qidmap_map(NULL, 1, 1, &path), ==, -EINVAL);
}

static void test_objects(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_HANDLE);
    struct qidmap_object object = {.fs = fs,
                                   .kind = QIDMAP_OBJECT_HANDLE,
                                   .handle_size = 12,
                                   .handle_type = 1,
                                   .handle = "abcdefghijk"};
    struct qidmap_object back;
    uint64_t a, b, path;

    g_assert_cmpint(qidmap_find_object(f->store, &object, &a), ==, -ENOENT);
    g_assert_cmpint(qidmap_map_object(f->store, &object, &a), ==, 0);
    g_assert_cmpint(qidmap_find_object(f->store, &object, &path), ==, 0);
    g_assert_cmpuint(path, ==, a);
    object.handle_type = 2;
    g_assert_cmpint(qidmap_map_object(f->store, &object, &b), ==, 0);
    g_assert_cmpuint(a, !=, b);
    g_assert_cmpint(qidmap_reverse(f->store, b, &back), ==, 0);
    g_assert_cmpmem(&back, sizeof(back), &object, sizeof(object));

    memset(&object, 0, sizeof(object));
    object.fs = fs;
    object.kind = QIDMAP_OBJECT_PLACEHOLDER;
    object.ino = 256;
    object.ino2 = 2;
    g_assert_cmpint(qidmap_map_object(f->store, &object, &a), ==, 0);
    object.ino = 257;
    g_assert_cmpint(qidmap_map_object(f->store, &object, &b), ==, 0);
    g_assert_cmpuint(a, !=, b);
    object.kind = 7;
    g_assert_cmpint(qidmap_map_object(f->store, &object, &b), ==, -EINVAL);
    g_assert_cmpint(qidmap_map(f->store, fs, 5, &path), ==, -EINVAL); /* handles only */
}

static void test_batch(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    uint32_t deny = fixture_register(f->store, 2, QIDMAP_POLICY_DENY);
    struct qidmap_item items[200];
    struct qidmap_stats stats = {.size = sizeof(stats)};
    uint64_t epoch, path;
    int i;

    qidmap_store_stats(f->store, &stats, NULL);
    epoch = stats.epoch;
    for (i = 0; i < 200; i++)
        items[i] = (struct qidmap_item){.fs = fs, .ino = (uint64_t)(i % 100 + 1) << 56 | 3};
    g_assert_cmpint(qidmap_map_batch(f->store, items, 200), ==, 0);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_cmpuint(stats.epoch, ==, epoch + 1); /* one commit */
    for (i = 0; i < 200; i++) {
        g_assert_cmpint(items[i].result, ==, 0);
        g_assert_cmpuint(items[i].path, ==, items[i % 100].path); /* twice in one batch */
        g_assert_cmpint(qidmap_find(f->store, fs, items[i].ino, &path), ==, 0);
        g_assert_cmpuint(path, ==, items[i].path);
    }
    items[1].fs = deny;
    items[2].fs = 77;
    items[3].ino = 12345;
    g_assert_cmpint(qidmap_map_batch(f->store, items, 5), ==, -EPERM);
    g_assert_true(items[0].result == 0 && items[1].result == -EPERM && items[2].result == -EINVAL &&
                  items[3].result == 0);
    g_assert_cmpint(qidmap_map_batch(f->store, NULL, 0), ==, 0);
}

static void test_ephemeral(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_identity id = fixture_identity(9, QIDMAP_POLICY_EPHEMERAL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_fs row = {.size = sizeof(row)};
    struct qidmap_object object;
    uint32_t fs = fixture_register(f->store, 9, QIDMAP_POLICY_EPHEMERAL), next;
    uint64_t path, large, again;

    g_assert_cmpint(qidmap_map(f->store, fs, 1234, &path), ==, 0);
    g_assert_cmpuint(path & 7, ==, 6);
    g_assert_cmpint(qidmap_map(f->store, fs, UINT64_C(1) << 40, &large), ==, 0);
    g_assert_cmpuint(large & 1, ==, 1);
    g_assert_cmpint(qidmap_reverse(f->store, path, &object), ==, 0);
    g_assert_true(object.fs == fs && object.ino == 1234);
    g_assert_cmpuint(fixture_register(f->store, 9, QIDMAP_POLICY_EPHEMERAL), ==, fs);

    memset(id.fsid[0].bytes, 'c', 16); /* another boot: old row and its full rows go */
    g_assert_cmpint(qidmap_register(f->store, &id, 1, &next, NULL), ==, 0);
    g_assert_cmpuint(next, !=, fs);
    g_assert_cmpint(qidmap_fs_get(f->store, fs, &row, NULL), ==, -ENOENT);
    g_assert_cmpint(qidmap_find(f->store, fs, 1234, &again), ==, -EINVAL);
    g_assert_cmpint(qidmap_reverse(f->store, path, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_reverse(f->store, large, &object), ==, -ENOENT);
    g_assert_cmpint(qidmap_map(f->store, next, 1234, &again), ==, 0);
    g_assert_cmpuint(again, !=, path);
    g_assert_cmpint(qidmap_map(f->store, next, UINT64_C(1) << 40, &again), ==, 0);
    g_assert_cmpuint(again, !=, large);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_true(stats.fs_rows == 1 && stats.full_rows == 1 && stats.next_instance == 3);
}

static void test_iterate(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    qidmap_iter *iter = NULL;
    struct qidmap_row row;
    struct qidmap_error error;
    unsigned count[4] = {0, 0, 0, 0}, last = 0;
    uint64_t path, i;
    int r;

    for (i = 1; i <= 20; i++)
        g_assert_cmpint(qidmap_map(f->store, fs, i << 59 | i, &path), ==, 0);
    g_assert_cmpint(qidmap_iter_open(f->store, &iter, &error), ==, 0);
    g_assert_cmpint(qidmap_map(f->store, fs, UINT64_C(63) << 58 | 500, &path), ==, 0); /* unseen */
    while ((r = qidmap_iter_next(iter, &row, &error)) == 1) {
        g_assert_cmpuint(row.kind, >=, last);
        last = row.kind;
        count[row.kind]++;
        g_assert_cmpuint(row.fs, ==, fs);
        if (row.kind == QIDMAP_ROW_FULL) {
            g_assert_cmpint(qidmap_find(f->store, fs, row.object.ino, &path), ==, 0);
            g_assert_cmpuint(path, ==, row.path);
        }
    }
    g_assert_cmpint(r, ==, 0);
    g_assert_cmpint(qidmap_iter_next(iter, &row, &error), ==, 0);
    qidmap_iter_close(iter);
    g_assert_true(count[1] == 1 && count[2] == 4 && count[3] == 16);
}

/* ---- threads --------------------------------------------------------------------------------- */

#define THREADS 8
#define KEYS    600

struct racer {
    qidmap_store *store;
    uint32_t fs[2];
    guint32 seed;
    uint64_t path[KEYS];
};

static uint64_t key_of(unsigned i)
{
    return (uint64_t)(i * 2654435761u) << 32 | i;
}

static gpointer race(gpointer data)
{
    struct racer *r = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(r->seed);
    unsigned order[KEYS], i, j;
    struct qidmap_object object;
    struct qidmap_item items[16];

    for (i = 0; i < KEYS; i++) {
        j = (unsigned)g_rand_int_range(rand, 0, (gint32)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (i = 0; i < KEYS; i++) {
        unsigned k = order[i];

        if (i % 64 == 0 && i + 16 <= KEYS) { /* a batch among the single ones */
            for (j = 0; j < 16; j++)
                items[j] = (struct qidmap_item){.fs = r->fs[order[i + j] % 2],
                                                .ino = key_of(order[i + j])};
            g_assert_cmpint(qidmap_map_batch(r->store, items, 16), ==, 0);
        }
        g_assert_cmpint(qidmap_map(r->store, r->fs[k % 2], key_of(k), &r->path[k]), ==, 0);
        g_assert_cmpint(qidmap_reverse(r->store, r->path[k], &object), ==, 0);
        g_assert_cmpuint(object.ino, ==, key_of(k));
        if (i % 100 == 0) {
            qidmap_iter *iter;
            struct qidmap_row row;

            g_assert_cmpint(qidmap_iter_open(r->store, &iter, NULL), ==, 0);
            while (qidmap_iter_next(iter, &row, NULL) == 1)
                ;
            qidmap_iter_close(iter);
            fixture_register(r->store, (uint8_t)(10 + i / 100), QIDMAP_POLICY_AFFIX);
        }
    }
    return NULL;
}

static void test_threads(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree struct racer *racers = g_new0(struct racer, THREADS);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    GThread *threads[THREADS];
    unsigned i, k;

    for (i = 0; i < THREADS; i++) {
        racers[i].store = f->store;
        racers[i].fs[0] = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
        racers[i].fs[1] = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
        racers[i].seed = i + 1;
    }
    for (i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("racer", race, &racers[i]);
    for (i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    for (k = 0; k < KEYS; k++) {
        for (i = 1; i < THREADS; i++)
            g_assert_cmpuint(racers[i].path[k], ==, racers[0].path[k]);
        g_assert_true(g_hash_table_add(seen, &racers[0].path[k]));
    }
}

/* ---- arguments ------------------------------------------------------------------------------- */

static void test_arguments(void)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_error error;
    qidmap_store *store = NULL;

    g_assert_cmpint(qidmap_store_open("xattr", FIXTURE_WRITE, NULL, &store, &error), ==, -EINVAL);
    g_assert_nonnull(strstr(error.text, "lmdb:DIR"));
    g_assert_cmpint(qidmap_store_open("memory:x", FIXTURE_WRITE, NULL, &store, &error), ==,
                    -EINVAL);
    g_assert_cmpint(qidmap_store_open("memory:", QIDMAP_OPEN_READ, NULL, &store, &error), ==,
                    -ENOENT);
    g_assert_cmpint(qidmap_store_open("lmdb:", FIXTURE_WRITE, NULL, &store, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_store_open(NULL, 0, NULL, &store, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_store_open("memory:", QIDMAP_OPEN_CREATE, NULL, &store, &error), ==,
                    -EINVAL);
    params.affix_budget = 0;
    g_assert_cmpint(qidmap_store_open("memory:", FIXTURE_WRITE, &params, &store, &error), ==,
                    -EINVAL);
    g_assert_null(store);
    qidmap_store_close(NULL);
    qidmap_iter_close(NULL);
    g_assert_cmpstr(qidmap_version(), ==, PACKAGE_VERSION);
}

/* xattr: has no full map; what needs none runs over it as well, where there are xattrs. */
static void add_xattr(const char *name, void (*test)(struct fixture *, gconstpointer))
{
    g_autofree char *path = g_strconcat("/store/xattr/", name, NULL);

    g_test_add(path, struct fixture, "xattr", setup, test, teardown);
}

/* How many rows fit into the xattrs of a temporary directory; 0: none can be kept there. */
static uint64_t xattr_room(void)
{
    g_autofree char *dir = fixture_dir(), *uri = g_strconcat("xattr:", dir, NULL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    qidmap_store *store = NULL;

    if (qidmap_store_open(uri, FIXTURE_WRITE, NULL, &store, NULL) == 0)
        qidmap_store_stats(store, &stats, NULL);
    qidmap_store_close(store);
    fixture_remove(dir);
    return stats.rows_room;
}

static void no_xattrs(void)
{
    g_test_skip("the filesystem of the temporary directory has no user xattrs");
}

static void add(const char *name, void (*test)(struct fixture *, gconstpointer))
{
    g_autofree char *mem = g_strconcat("/store/memory/", name, NULL);
    g_autofree char *lmdb = g_strconcat("/store/lmdb/", name, NULL);

    g_test_add(mem, struct fixture, NULL, setup, test, teardown);
    g_test_add(lmdb, struct fixture, "lmdb", setup, test, teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/arguments", test_arguments);
    add("register", test_register);
    add("map", test_map);
    add("objects", test_objects);
    add("batch", test_batch);
    add("ephemeral", test_ephemeral);
    add("iterate", test_iterate);
    add("threads", test_threads);
    if (xattr_room() > 0) {
        add_xattr("register", test_register);
        add_xattr("batch", test_batch);
        if (xattr_room() > 2 * KEYS) /* ext4 has not so much */
            add_xattr("threads", test_threads);
    } else {
        g_test_add_func("/store/xattr", no_xattrs);
    }
    return g_test_run();
}
