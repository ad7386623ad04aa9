/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promises: what is kept of the full map is found under the very key that it was kept under, of any
 * length, and under no other; not under another generation; it is bounded: the newest ones are
 * found; threads that read and write at once never see a mixture of two rows; and a store forgets
 * it when rows may have changed, or damage was met.
 */
#include "config.h"

#include "store/hits.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "store/codec.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

static struct qidmap_object handle_of(uint8_t size, uint8_t last)
{
    struct qidmap_object o;

    memset(&o, 0, sizeof(o));
    o.fs = 3;
    o.kind = QIDMAP_OBJECT_HANDLE;
    o.handle_type = 7;
    o.handle_size = size;
    memset(o.handle, 0x55, size);
    if (size)
        o.handle[size - 1] = last;
    return o;
}

static gboolean get(struct qm_hits *hits, const struct qidmap_object *o, uint64_t generation,
                    uint64_t *path)
{
    struct qm_hits_key key;

    qm_hits_key(&key, o);
    return qm_hits_get(hits, &key, generation, path);
}

static void put(struct qm_hits *hits, const struct qidmap_object *o, uint64_t generation,
                uint64_t path)
{
    struct qm_hits_key key;

    qm_hits_key(&key, o);
    qm_hits_put(hits, &key, generation, path);
}

static void test_exact(void)
{
    struct qidmap_object o, other;
    struct qm_hits hits;
    uint64_t path = 0;

    for (unsigned size = 0; size <= QIDMAP_HANDLE_BYTES; size++) {
        qm_hits_init(&hits, size); /* two slots of one set are enough to mix keys up */
        o = handle_of((uint8_t)size, 1);
        g_assert_false(get(&hits, &o, 0, &path));
        put(&hits, &o, 0, 1000 + size);
        g_assert_cmpint(get(&hits, &o, 0, &path), ==, size <= 88);
        if (size <= 88)
            g_assert_cmpuint(path, ==, 1000 + size);
        g_assert_false(get(&hits, &o, 1, &path));
        other = o;
        other.handle_type++;
        g_assert_false(get(&hits, &other, 0, &path));
        other = o;
        other.fs++;
        g_assert_false(get(&hits, &other, 0, &path));
        if (size) {
            other = handle_of((uint8_t)size, 2);
            g_assert_false(get(&hits, &other, 0, &path));
            other = handle_of((uint8_t)size, 1);
            other.handle[0] ^= 1;
            g_assert_false(get(&hits, &other, 0, &path));
        }
        other = handle_of((uint8_t)(size ? size - 1 : 1), 0x55);
        g_assert_false(get(&hits, &other, 0, &path));
        qm_hits_clear(&hits);
    }
}

/* The same words under another kind, and a handle that ends in zeros, are other keys. */
static void test_kinds(void)
{
    struct qidmap_object inode, place, handle;
    struct qm_hits hits;
    uint64_t path = 0;

    memset(&inode, 0, sizeof(inode));
    inode.fs = 3;
    inode.ino = 7;
    place = inode;
    place.kind = QIDMAP_OBJECT_PLACEHOLDER;
    handle = handle_of(0, 0);
    qm_hits_init(&hits, 1);
    put(&hits, &inode, 5, 1);
    put(&hits, &place, 5, 2);
    put(&hits, &handle, 5, 3);
    g_assert_true(get(&hits, &inode, 5, &path) && path == 1);
    g_assert_true(get(&hits, &place, 5, &path) && path == 2);
    g_assert_true(get(&hits, &handle, 5, &path) && path == 3);
    handle.handle_size = 8;
    g_assert_false(get(&hits, &handle, 5, &path));
    qm_hits_clear(&hits);
}

static void test_bounded(void)
{
    const uint64_t count = 300000;
    struct qm_hits hits;
    uint64_t found = 0;

    qm_hits_init(&hits, 2);
    for (uint64_t ino = 0; ino < count; ino++) {
        struct qm_hits_key key;
        uint64_t path = 0;

        qm_hits_key_inode(&key, 1, ino);
        qm_hits_put(&hits, &key, 0, ino * 2 + 1);
        g_assert_true(qm_hits_get(&hits, &key, 0, &path));
        g_assert_cmpuint(path, ==, ino * 2 + 1);
    }
    for (uint64_t ino = 0; ino < count; ino++) {
        struct qm_hits_key key;
        uint64_t path = 0;

        qm_hits_key_inode(&key, 1, ino);
        if (qm_hits_get(&hits, &key, 0, &path)) {
            g_assert_cmpuint(path, ==, ino * 2 + 1);
            found++;
        }
    }
    g_assert_cmpuint(found, >, 30000);
    g_assert_cmpuint(found, <=, 65536);
    qm_hits_clear(&hits);
}

#define THREADS 4u
#define STEPS   60000u
#define OBJECTS 400000u /* more than there are slots, so that rows take each other's place */

static uint64_t id_of(uint64_t ino, uint64_t generation)
{
    return (ino << 20 | generation) * 2 + 1;
}

static void *actor(void *data)
{
    struct qm_hits *hits = data;
    uint64_t random = (uintptr_t)&random | 1, path;

    for (unsigned i = 0; i < STEPS; i++) {
        struct qm_hits_key key;
        uint64_t ino, generation = i / (STEPS / 4);

        random = random * 6364136223846793005u + 1442695040888963407u;
        /* few, so that they meet, and many */
        ino = (random >> 33) % (i % 2 ? 64 : OBJECTS);
        qm_hits_key_inode(&key, 1, ino);
        if (qm_hits_get(hits, &key, generation, &path))
            g_assert_cmpuint(path, ==, id_of(ino, generation));
        else
            qm_hits_put(hits, &key, generation, id_of(ino, generation));
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t thread[THREADS];
    struct qm_hits hits;

    qm_hits_init(&hits, 3);
    for (unsigned i = 0; i < THREADS; i++)
        g_assert_cmpint(pthread_create(&thread[i], NULL, actor, &hits), ==, 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    qm_hits_clear(&hits);
}

/* Behind the library's back: the row of `ino` gets another id. */
static struct qm_txn *change_row(struct qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t id)
{
    struct qidmap_object object;
    struct qm_record r;
    struct qm_txn *txn;

    memset(&object, 0, sizeof(object));
    object.fs = fs;
    object.ino = ino;
    qm_record_full(&r, &object, id);
    g_assert_cmpint(store->backend->ops->begin(store->backend, QM_TXN_WRITE, 1, &txn), ==, 0);
    g_assert_cmpint(qm_txn_put(txn, QM_TABLE_FULL, &r), ==, 0);
    return txn;
}

/* In a store: what is kept answers until something may have changed rows; and never once damage was
 * met, so that a row that is damaged fails its lookup. */
static void test_store(void)
{
    struct qidmap_store *store = NULL;
    struct qidmap_error error = {0, ""};
    uint64_t ino = 0, id = 0, path = 0;
    struct qm_meta meta;
    uint32_t fs;

    g_assert_cmpint(
        qidmap_store_open("memory:", QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error),
        ==, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    for (uint64_t i = 1; i < 64; i++) {
        g_assert_cmpint(qidmap_map(store, fs, i * 0x9e3779b97f4a7c15u, &path), ==, 0);
        if (path & 1) {
            ino = i * 0x9e3779b97f4a7c15u;
            id = path;
        }
    }
    g_assert_cmpuint(id, !=, 0);
    g_assert_cmpint(qidmap_find(store, fs, ino, &path), ==, 0);

    meta = store->meta;
    g_assert_cmpint(qm_store_commit_added(store, change_row(store, fs, ino, id - 2), &meta), ==, 0);
    g_assert_cmpint(qidmap_find(store, fs, ino, &path), ==, 0);
    g_assert_cmpuint(path, ==, id); /* the row was kept: it is not read again */

    meta = store->meta;
    g_assert_cmpint(qm_store_commit(store, change_row(store, fs, ino, id - 4), &meta), ==, 0);
    g_assert_cmpint(qidmap_find(store, fs, ino, &path), ==, 0);
    g_assert_cmpuint(path, ==, id - 4);

    qm_store_damaged(store);
    g_assert_cmpint(qidmap_find(store, fs, ino, &path), ==, 0);
    g_assert_cmpint(store->backend->ops->commit(change_row(store, fs, ino, 1)), ==, 0);
    g_assert_cmpint(qidmap_find(store, fs, ino, &path), ==, -EUCLEAN); /* no id is that small */
    qidmap_store_close(store);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hits/exact", test_exact);
    g_test_add_func("/hits/kinds", test_kinds);
    g_test_add_func("/hits/bounded", test_bounded);
    g_test_add_func("/hits/threads", test_threads);
    g_test_add_func("/hits/store", test_store);
    return g_test_run();
}
