/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promises: what is kept of the full map is found under the very key that it was kept under, of any
 * length, and under no other; not under another generation; it is bounded: the newest ones are
 * found; and threads that read and write at once never see a mixture of two rows.
 */
#include "config.h"

#include "store/hits.h"

#include <pthread.h>
#include <string.h>

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hits/exact", test_exact);
    g_test_add_func("/hits/kinds", test_kinds);
    g_test_add_func("/hits/bounded", test_bounded);
    g_test_add_func("/hits/threads", test_threads);
    return g_test_run();
}
