/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: to make a store smaller, to copy it and to empty it renumbers nothing that lives, and
 * lets no id be given twice. A compacted store has the same rows in less room, while readers and
 * new mappings go on. Only rows of objects that are gone are pruned, and an object that is born
 * with the key of a dead one, in any instant of the work, keeps the id that it was first told. A
 * copy is whole or not there. After a reset new ids begin where the old ones ended.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "store/backend.h"
#include "store/dump.h"
#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

#define ROWS 6000u

struct fixture {
    char *dir, *uri;
    qidmap_store *store;
    uint32_t fs;
    uint64_t *ids; /* ROWS */
};

static uint64_t inode_of(unsigned i)
{
    return ((uint64_t)(i % 61 + 1) << 58) | (i + 1);
}

static void map_rows(struct fixture *f)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, ROWS);

    for (unsigned i = 0; i < ROWS; i++) {
        items[i].fs = f->fs;
        items[i].ino = inode_of(i);
    }
    g_assert_cmpint(qidmap_map_batch(f->store, items, ROWS), ==, 0);
    for (unsigned i = 0; i < ROWS; i++)
        f->ids[i] = items[i].path;
}

static void setup(struct fixture *f, gconstpointer backend)
{
    f->dir = backend ? fixture_dir() : NULL;
    f->uri = backend ? g_strconcat("lmdb:", f->dir, "/store", NULL) : g_strdup("memory:");
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 2);
    f->fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    f->ids = g_new0(uint64_t, ROWS);
    map_rows(f);
}

static void teardown(struct fixture *f, gconstpointer backend G_GNUC_UNUSED)
{
    qidmap_store_close(f->store);
    if (f->dir)
        fixture_remove(f->dir);
    g_free(f->dir);
    g_free(f->uri);
    g_free(f->ids);
}

static struct qidmap_stats stats_of(qidmap_store *store)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};

    g_assert_cmpint(qidmap_store_stats(store, &stats, NULL), ==, 0);
    return stats;
}

static void assert_whole(qidmap_store *store)
{
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error = {0, ""};

    if (qidmap_store_verify(store, NULL, &result, &error) != 0)
        g_error("verify: %s", error.text);
    g_assert_cmpuint(result.problems, ==, 0);
}

static void assert_ids(qidmap_store *store, uint32_t fs, const uint64_t *ids)
{
    for (unsigned i = 0; i < ROWS; i++) {
        struct qidmap_object object;
        uint64_t path = 0;

        g_assert_cmpint(qidmap_find(store, fs, inode_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, ids[i]);
        g_assert_cmpint(qidmap_reverse(store, path, &object), ==, 0);
        g_assert_cmpuint(object.ino, ==, inode_of(i));
    }
}

/* ---- compact --------------------------------------------------------------------------------- */

struct traffic {
    struct fixture *f;
    atomic_bool end;
    atomic_uint wrong, asked;
    atomic_uint most; /* new rows, while sizes are compared */
    uint64_t next;    /* inode that is new */
};

static void *read_on(void *data)
{
    struct traffic *t = data;

    for (unsigned i = 0; !atomic_load(&t->end); i = (i + 7) % ROWS) {
        uint64_t path = 0;

        if (qidmap_find(t->f->store, t->f->fs, inode_of(i), &path) != 0 || path != t->f->ids[i])
            atomic_fetch_add(&t->wrong, 1);
        atomic_fetch_add(&t->asked, 1);
    }
    return NULL;
}

static void *map_on(void *data)
{
    struct traffic *t = data;
    g_autoptr(GArray) given = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint64_t path = 0;

    while (!atomic_load(&t->end)) {
        if (given->len >= atomic_load(&t->most))
            g_usleep(1000);
        else if (qidmap_map(t->f->store, t->f->fs, t->next + given->len, &path) != 0)
            atomic_fetch_add(&t->wrong, 1);
        else
            g_array_append_val(given, path);
    }
    for (guint i = 0; i < given->len; i++) {
        if (qidmap_find(t->f->store, t->f->fs, t->next + i, &path) != 0 ||
            path != g_array_index(given, uint64_t, i))
            atomic_fetch_add(&t->wrong, 1);
    }
    return NULL;
}

/* A second filesystem whose rows leave free pages behind. */
static void make_waste(struct fixture *f)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, ROWS);
    uint32_t other = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);

    for (unsigned i = 0; i < ROWS; i++) {
        items[i].fs = other;
        items[i].ino = inode_of(i);
    }
    g_assert_cmpint(qidmap_map_batch(f->store, items, ROWS), ==, 0);
    g_assert_cmpint(qidmap_fs_retire(f->store, other, NULL), ==, 0);
}

static void test_compact(struct fixture *f, gconstpointer backend)
{
    struct qidmap_compact_result dry = {.size = sizeof(dry)}, result = {.size = sizeof(result)};
    struct traffic t = {.f = f, .most = ROWS / 4, .next = UINT64_C(1) << 57};
    struct qidmap_error error = {0, ""};
    pthread_t readers[2], mapper;
    uint64_t serial;

    make_waste(f);
    serial = stats_of(f->store).next_serial;
    g_assert_cmpint(qidmap_compact(f->store, QIDMAP_DRY_RUN, &dry, &error), ==, 0);
    for (int i = 0; i < 2; i++)
        pthread_create(&readers[i], NULL, read_on, &t);
    pthread_create(&mapper, NULL, map_on, &t);
    while (atomic_load(&t.asked) == 0)
        g_usleep(1000);
    for (int round = 0; round < 5; round++) {
        if (qidmap_compact(f->store, 0, &result, &error) != 0)
            g_error("compact: %s", error.text);
        if (round == 0 && backend) {
            g_assert_cmpuint(result.bytes_after, <, result.bytes_before * 3 / 4);
            /* The estimate is worth its name. */
            g_assert_cmpuint(dry.bytes_after, >, result.bytes_after / 2);
            g_assert_cmpuint(dry.bytes_after, <, result.bytes_before);
        }
        atomic_store(&t.most, UINT_MAX);
    }
    atomic_store(&t.end, TRUE);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    pthread_join(mapper, NULL);
    g_assert_cmpuint(atomic_load(&t.wrong), ==, 0);
    g_assert_cmpuint(atomic_load(&t.asked), >, 0);
    g_assert_cmpuint(stats_of(f->store).next_serial, >=, serial);
    assert_ids(f->store, f->fs, f->ids);
    assert_whole(f->store);
    if (!backend)
        return;
    qidmap_store_close(f->store);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    assert_ids(f->store, f->fs, f->ids);
    assert_whole(f->store);
}

static void test_compact_reader(struct fixture *f, gconstpointer backend)
{
    struct qidmap_compact_result dry = {.size = sizeof(dry)};
    qidmap_store *reader;

    if (!backend)
        return;
    qidmap_store_close(f->store);
    f->store = NULL;
    reader = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    g_assert_cmpint(qidmap_compact(reader, QIDMAP_DRY_RUN, &dry, NULL), ==, 0);
    g_assert_cmpuint(dry.bytes_after, >, 0);
    g_assert_cmpint(qidmap_compact(reader, 0, NULL, NULL), ==, -EROFS);
    qidmap_store_close(reader);
}

/* ---- prune ----------------------------------------------------------------------------------- */

static int odd_ones_are_gone(void *data, const struct qidmap_object *objects, size_t count,
                             uint8_t *exists)
{
    uint32_t fs = *(const uint32_t *)data;

    for (size_t i = 0; i < count; i++) {
        g_assert_cmpuint(objects[i].fs, ==, fs);
        exists[i] = objects[i].ino % 2 == 0;
    }
    return 0;
}

static int cannot_look(void *data G_GNUC_UNUSED, const struct qidmap_object *objects G_GNUC_UNUSED,
                       size_t count, uint8_t *exists)
{
    memset(exists, 0, count);
    return -EIO;
}

static gboolean in_full_map(uint64_t path)
{
    return path & 1;
}

static void test_prune(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_prune_options options = {
        .size = sizeof(options), .fs = f->fs, .look = cannot_look, .data = &f->fs};
    struct qidmap_prune_result result = {.size = sizeof(result)};
    uint64_t full = 0, odd = 0, serial = stats_of(f->store).next_serial, path;
    struct qidmap_error error = {0, ""};

    for (unsigned i = 0; i < ROWS; i++) {
        full += in_full_map(f->ids[i]);
        odd += in_full_map(f->ids[i]) && inode_of(i) % 2;
    }
    g_assert_cmpuint(odd, >, 0);
    g_assert_cmpint(qidmap_prune(f->store, &options, &result, &error), ==, -EIO);
    assert_ids(f->store, f->fs, f->ids); /* what cannot be looked at stays */
    options.look = odd_ones_are_gone;
    options.flags = QIDMAP_DRY_RUN;
    g_assert_cmpint(qidmap_prune(f->store, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.rows, ==, full);
    g_assert_cmpuint(result.missing, ==, odd);
    assert_ids(f->store, f->fs, f->ids);
    options.flags = 0;
    g_assert_cmpint(qidmap_prune(f->store, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.missing, ==, odd);
    g_assert_cmpuint(stats_of(f->store).full_rows, ==, full - odd);
    assert_whole(f->store);
    for (unsigned i = 0; i < ROWS; i++) {
        gboolean gone = in_full_map(f->ids[i]) && inode_of(i) % 2;

        g_assert_cmpint(qidmap_find(f->store, f->fs, inode_of(i), &path), ==, gone ? -ENOENT : 0);
        if (!gone)
            g_assert_cmpuint(path, ==, f->ids[i]);
    }
    for (unsigned i = 0; i < ROWS; i++) { /* one that comes back has an id that nobody had */
        if (!in_full_map(f->ids[i]) || inode_of(i) % 2 == 0)
            continue;
        g_assert_cmpint(qidmap_map(f->store, f->fs, inode_of(i), &path), ==, 0);
        g_assert_cmpuint(path >> 1, >=, serial);
        break;
    }
    options.fs = 999;
    g_assert_cmpint(qidmap_prune(f->store, &options, &result, &error), ==, -ENOENT);
}

/* A world in which objects are born, asked for and die, with keys that are used again. */
#define BEINGS  400u
#define ACTORS  3u
#define SECONDS 2

struct being {
    pthread_mutex_t lock;
    atomic_bool alive;
    uint64_t id; /* told in this life, or 0 */
};

struct world {
    struct fixture *f;
    struct being beings[BEINGS];
    atomic_bool end;
    atomic_uint renumbered, told, born_again;
};

static int look_around(void *data, const struct qidmap_object *objects, size_t count,
                       uint8_t *exists)
{
    struct world *w = data;

    for (size_t i = 0; i < count; i++) {
        uint64_t which = (objects[i].ino & 0xffffff) - 1 - ROWS;

        if (which < BEINGS)
            exists[i] = atomic_load(&w->beings[which].alive);
    }
    return 0;
}

static void *live(void *data)
{
    struct world *w = data;
    g_autoptr(GRand) rand = g_rand_new();

    while (!atomic_load(&w->end)) {
        unsigned i = (unsigned)g_rand_int_range(rand, 0, BEINGS);
        struct being *b = &w->beings[i];
        uint64_t path = 0;

        pthread_mutex_lock(&b->lock);
        if (!atomic_load(&b->alive)) {
            atomic_store(&b->alive, TRUE);
            b->id = 0;
            atomic_fetch_add(&w->born_again, 1);
        } else if (g_rand_int_range(rand, 0, 3) == 0) {
            atomic_store(&b->alive, FALSE);
        }
        if (atomic_load(&b->alive)) {
            g_assert_cmpint(qidmap_map(w->f->store, w->f->fs, inode_of(ROWS + i), &path), ==, 0);
            if (b->id && b->id != path)
                atomic_fetch_add(&w->renumbered, 1);
            b->id = path;
            atomic_fetch_add(&w->told, 1);
        }
        pthread_mutex_unlock(&b->lock);
    }
    return NULL;
}

static void test_prune_live(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree struct world *w = g_new0(struct world, 1);
    struct qidmap_prune_options options = {
        .size = sizeof(options), .fs = f->fs, .look = look_around, .data = w};
    struct qidmap_prune_result result = {.size = sizeof(result)};
    gint64 end = g_get_monotonic_time() + SECONDS * G_USEC_PER_SEC;
    uint64_t pruned = 0;
    pthread_t actors[ACTORS];

    w->f = f;
    for (unsigned i = 0; i < BEINGS; i++)
        pthread_mutex_init(&w->beings[i].lock, NULL);
    for (unsigned i = 0; i < ACTORS; i++)
        pthread_create(&actors[i], NULL, live, w);
    while (g_get_monotonic_time() < end || pruned == 0) {
        g_assert_cmpint(qidmap_prune(f->store, &options, &result, NULL), ==, 0);
        pruned += result.missing;
    }
    atomic_store(&w->end, TRUE);
    for (unsigned i = 0; i < ACTORS; i++)
        pthread_join(actors[i], NULL);
    g_test_message("%u answers, %u births, %" G_GUINT64_FORMAT " rows pruned",
                   atomic_load(&w->told), atomic_load(&w->born_again), pruned);
    g_assert_cmpuint(atomic_load(&w->renumbered), ==, 0);
    assert_ids(f->store, f->fs, f->ids);
    assert_whole(f->store);
}

/* ---- copy and reset -------------------------------------------------------------------------- */

static void test_copy(struct fixture *f, gconstpointer backend G_GNUC_UNUSED)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strconcat("lmdb:", dir, "/copy", NULL);
    g_autofree char *second = g_strconcat("lmdb:", dir, "/second", NULL);
    g_autofree char *xattrs = g_strconcat("xattr:", dir, NULL);
    struct qidmap_copy_options options = {.size = sizeof(options), .flags = QIDMAP_LOAD_LATEST};
    struct qidmap_load_result result = {.size = sizeof(result)};
    struct qidmap_stats before = stats_of(f->store), after;
    struct qidmap_error error = {0, ""};
    qidmap_store *copy = NULL;

    if (qidmap_store_copy(f->store, uri, NULL, &result, &error) != 0)
        g_error("copy: %s", error.text);
    g_assert_cmpuint(result.full_rows, ==, before.full_rows);
    g_assert_cmpuint(result.jumped, ==, 1);
    copy = fixture_open(uri, QIDMAP_OPEN_READ, 0);
    assert_ids(copy, f->fs, f->ids);
    assert_whole(copy);
    after = stats_of(copy);
    g_assert_cmpuint(after.next_serial, >, before.next_serial);
    qidmap_store_close(copy);
    /* Ids are given in one copy, and then in the next: not the same ones. */
    g_assert_cmpint(qidmap_store_copy(f->store, second, NULL, NULL, &error), ==, 0);
    copy = fixture_open(second, QIDMAP_OPEN_READ, 0);
    g_assert_cmpuint(stats_of(copy).next_serial, !=, after.next_serial);
    qidmap_store_close(copy);
    options.flags = QIDMAP_LOAD_REPLACE;
    if (f->dir)
        g_assert_cmpint(qidmap_store_copy(f->store, f->uri, &options, NULL, &error), ==, -EBUSY);
    options.flags = QIDMAP_LOAD_LATEST;
    /* There is one already. */
    g_assert_cmpint(qidmap_store_copy(f->store, uri, NULL, NULL, &error), ==, -EEXIST);
    options.flags |= QIDMAP_LOAD_REPLACE;
    g_assert_cmpint(qidmap_store_copy(f->store, uri, &options, &result, &error), ==, 0);
    /* The one that was replaced had counters that were larger: they stay. */
    copy = fixture_open(uri, QIDMAP_OPEN_READ, 0);
    g_assert_cmpuint(stats_of(copy).next_serial, ==, after.next_serial);
    qidmap_store_close(copy);
    /* Rows that the other backend cannot hold: nothing is there. */
    g_assert_cmpint(qidmap_store_copy(f->store, xattrs, NULL, NULL, &error), !=, 0);
    g_assert_cmpint(qidmap_store_open(xattrs, QIDMAP_OPEN_READ, NULL, &copy, &error), !=, 0);
    fixture_remove(dir);
}

static void test_reset(struct fixture *f, gconstpointer backend)
{
    struct qidmap_reset_options options = {.size = sizeof(options)};
    struct qidmap_load_result result = {.size = sizeof(result)};
    struct qidmap_stats before = stats_of(f->store), after;
    struct qidmap_error error = {0, ""};
    uint64_t path;
    uint32_t fs;

    if (!backend)
        return;
    g_assert_cmpint(qidmap_reset(f->uri, &options, &result, &error), ==, -EBUSY);
    assert_ids(f->store, f->fs, f->ids);
    qidmap_store_close(f->store);
    if (qidmap_reset(f->uri, &options, &result, &error) != 0)
        g_error("reset: %s", error.text);
    g_assert_true(g_file_test(result.backup, G_FILE_TEST_IS_REGULAR));
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    after = stats_of(f->store);
    g_assert_cmpuint(after.fs_rows + after.affix_rows + after.full_rows, ==, 0);
    g_assert_cmpuint(after.next_serial, ==, before.next_serial);
    g_assert_cmpuint(after.next_affix, ==, before.next_affix);
    g_assert_cmpuint(after.next_fs, ==, before.next_fs);
    g_assert_cmpmem(after.uuid, 16, before.uuid, 16);
    fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    for (unsigned i = 0; i < 1000; i++) { /* nobody's id is anybody's again */
        g_assert_cmpint(qidmap_map(f->store, fs, inode_of(i), &path), ==, 0);
        g_assert_cmpuint(path, !=, f->ids[i]);
    }
    qidmap_store_close(f->store);
    options.flags = QIDMAP_RESET_FROM_SCRATCH;
    g_assert_cmpint(qidmap_reset(f->uri, &options, &result, &error), ==, 0);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    after = stats_of(f->store);
    g_assert_cmpuint(after.next_serial, <, before.next_serial);
    g_assert_cmpuint(after.affix_budget, ==, before.affix_budget);
    g_assert_cmpint(memcmp(after.uuid, before.uuid, 16), !=, 0);
}

/* The first record, changed or taken away below the library. */
static void damage(const char *uri, gboolean remove)
{
    const struct qm_bytes key = {QM_META_KEY, strlen(QM_META_KEY)};
    struct qm_backend_config config = {.write = TRUE, .lenient = TRUE};
    struct qm_backend *backend = qm_backend_lmdb.open(uri + 5, &config, NULL);
    struct qm_meta meta;
    struct qm_record r;
    struct qm_txn *txn;

    g_assert_nonnull(backend);
    g_assert_cmpint(backend->ops->begin(backend, QM_TXN_WRITE, 1, &txn), ==, 0);
    g_assert_cmpint(qm_read_meta(txn, &meta), ==, 0);
    meta.fs_rows++;
    meta.transaction = backend->ops->number(txn);
    qm_record_meta(&r, &meta);
    g_assert_cmpint(remove ? backend->ops->del(txn, QM_TABLE_META, key)
                           : qm_txn_put(txn, QM_TABLE_META, &r),
                    ==, 0);
    g_assert_cmpint(backend->ops->commit(txn), ==, 0);
    backend->ops->close(backend);
}

/* What cannot be opened can be emptied all the same, and gives no id again that it gave. */
static void test_reset_damaged(struct fixture *f, gconstpointer backend)
{
    struct qidmap_reset_options options = {.size = sizeof(options)};
    struct qidmap_load_result result = {.size = sizeof(result)};
    struct qidmap_stats before = stats_of(f->store), after;
    struct qidmap_error error = {0, ""};
    qidmap_store *store;

    if (!backend)
        return;
    g_clear_pointer(&f->store, qidmap_store_close);
    damage(f->uri, FALSE);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, NULL), ==, -EUCLEAN);
    if (qidmap_reset(f->uri, &options, &result, &error) != 0)
        g_error("reset: %s", error.text);
    g_assert_cmpuint(result.jumped, ==, 1);
    g_assert_true(g_file_test(result.backup, G_FILE_TEST_EXISTS));
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    after = stats_of(f->store);
    g_assert_cmpuint(after.fs_rows, ==, 0);
    g_assert_cmpuint(after.next_serial, >, before.next_serial);
    g_assert_cmpuint(after.next_affix, >, before.next_affix);
    g_clear_pointer(&f->store, qidmap_store_close);
    damage(f->uri, TRUE);
    g_assert_cmpint(qidmap_reset(f->uri, &options, &result, &error), ==, -EUCLEAN);
    options.flags = QIDMAP_RESET_FROM_SCRATCH;
    if (qidmap_reset(f->uri, &options, &result, &error) != 0)
        g_error("reset: %s", error.text);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpuint(stats_of(f->store).fs_rows, ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct fixture *, gconstpointer);
    } cases[] = {{"compact", test_compact},
                 {"compact-reader", test_compact_reader},
                 {"prune", test_prune},
                 {"prune-live", test_prune_live},
                 {"copy", test_copy},
                 {"reset", test_reset},
                 {"reset-damaged", test_reset_damaged}};

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *lmdb = g_strconcat("/maintain/lmdb/", cases[i].name, NULL);
        g_autofree char *memory = g_strconcat("/maintain/memory/", cases[i].name, NULL);

        g_test_add(lmdb, struct fixture, "lmdb", setup, cases[i].run, teardown);
        g_test_add(memory, struct fixture, NULL, setup, cases[i].run, teardown);
    }
    return g_test_run();
}
