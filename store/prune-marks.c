/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The set of marks: sorted digests, a byte beside each. 9 bytes for a row, however long its key.
 */
#include "config.h"

#include "store/prune-marks.h"

#include <errno.h>

#include <xxhash.h>

static uint64_t digest_of(const struct qm_marks *marks, const struct qidmap_object *object)
{
    struct qidmap_object plain = *object;
    uint8_t key[QM_KEY_MAX];

    plain.fs = 1;
    return XXH3_64bits_withSeed(key, qm_object_key(&plain, key), marks->seed);
}

struct qm_marks *qm_marks_new(void)
{
    struct qm_marks *marks = g_new0(struct qm_marks, 1);

    marks->seed = (uint64_t)g_random_int() << 32 | g_random_int();
    marks->digests = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    return marks;
}

void qm_marks_free(struct qm_marks *marks)
{
    g_array_free(marks->digests, TRUE);
    g_free(marks->marked);
    g_free(marks);
}

void qm_marks_add(struct qm_marks *marks, const struct qidmap_object *object)
{
    uint64_t digest = digest_of(marks, object);

    g_array_append_val(marks->digests, digest);
    marks->kinds |= 1u << object->kind;
}

static gint ascending(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

void qm_marks_sort(struct qm_marks *marks)
{
    uint64_t *d = (uint64_t *)(void *)marks->digests->data;
    guint i, kept = 0;

    g_array_sort(marks->digests, ascending);
    for (i = 0; i < marks->digests->len; i++) {
        if (kept == 0 || d[kept - 1] != d[i])
            d[kept++] = d[i];
    }
    g_array_set_size(marks->digests, kept);
    marks->marked = g_malloc0(kept + 1);
}

static _Atomic uint8_t *find(struct qm_marks *marks, const struct qidmap_object *object)
{
    const uint64_t *d = (const uint64_t *)(const void *)marks->digests->data;
    uint64_t digest = digest_of(marks, object);
    size_t from = 0, to = marks->digests->len;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (d[middle] < digest)
            from = middle + 1;
        else
            to = middle;
    }
    return from < marks->digests->len && d[from] == digest ? &marks->marked[from] : NULL;
}

void qm_marks_set(struct qm_marks *marks, const struct qidmap_object *object)
{
    _Atomic uint8_t *mark = find(marks, object);

    if (mark)
        atomic_store(mark, 1);
}

gboolean qm_marks_get(struct qm_marks *marks, const struct qidmap_object *object)
{
    _Atomic uint8_t *mark = find(marks, object);

    return !mark || atomic_load(mark);
}

uint64_t qm_marks_left(struct qm_marks *marks)
{
    uint64_t left = 0;
    guint i;

    for (i = 0; i < marks->digests->len; i++)
        left += !atomic_load_explicit(&marks->marked[i], memory_order_relaxed);
    return left;
}

int qm_marks_raise(struct qidmap_store *store, struct qm_marks *marks)
{
    int e = 0;

    pthread_mutex_lock(&store->marks_lock);
    if (store->marks)
        e = -EBUSY;
    else
        store->marks = marks;
    pthread_mutex_unlock(&store->marks_lock);
    if (e == 0)
        atomic_store(&store->marking, 1);
    return e;
}

void qm_marks_lower(struct qidmap_store *store)
{
    atomic_store(&store->marking, 0);
    pthread_mutex_lock(&store->marks_lock);
    store->marks = NULL;
    pthread_mutex_unlock(&store->marks_lock);
}

void qm_marks_touch(struct qidmap_store *store, const struct qidmap_object *object)
{
    if (!atomic_load(&store->marking))
        return;
    pthread_mutex_lock(&store->marks_lock);
    if (store->marks)
        qm_marks_set(store->marks, object);
    pthread_mutex_unlock(&store->marks_lock);
}
