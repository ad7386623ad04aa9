/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: an alias gives a filesystem its old ids back, and no two files one id, now or later;
 * rows that were ever live together, or may have been, are never joined. A retired row's ids are
 * given to nobody. A policy changes only where no id has been given, or with new ids for all, and
 * what was chosen holds. All of it is there after a restart.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "store/codec.h"
#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

struct fixture {
    char *dir, *uri;
    qidmap_store *store;
};

static void setup(struct fixture *f, gconstpointer backend)
{
    f->dir = backend ? fixture_dir() : NULL;
    f->uri = backend ? g_strconcat("lmdb:", f->dir, NULL) : g_strdup("memory:");
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 4);
}

static void teardown(struct fixture *f, gconstpointer backend G_GNUC_UNUSED)
{
    qidmap_store_close(f->store);
    if (f->dir)
        fixture_remove(f->dir);
    g_free(f->dir);
    g_free(f->uri);
}

/* A new session, where the store outlives one; else what a new session would make of it. */
static void restart(struct fixture *f)
{
    if (f->dir) {
        qidmap_store_close(f->store);
        f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    } else {
        f->store->session = f->store->meta.epoch + 1;
    }
}

static uint64_t map(struct fixture *f, uint32_t fs, uint64_t ino)
{
    uint64_t path = 0;

    g_assert_cmpint(qidmap_map(f->store, fs, ino, &path), ==, 0);
    return path;
}

static struct qidmap_fs row_of(struct fixture *f, uint32_t fs)
{
    struct qidmap_fs row = {.size = sizeof(row)};

    g_assert_cmpint(qidmap_fs_get(f->store, fs, &row, NULL), ==, 0);
    return row;
}

static uint64_t inode_of(unsigned i) /* more prefixes than the budget of 4 has room for */
{
    return (uint64_t)(i % 7 + 1) << 59 | (i + 1);
}

/* Old ids come back, those of neither are new, and ids of both name the heir. */
static void test_alias(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GHashTable) owner = g_hash_table_new(g_int64_hash, g_int64_equal);
    struct qidmap_error error = {0, ""};
    uint64_t before[40], mine[60], after[80], path;
    struct qidmap_object object;
    struct qidmap_fs row;
    uint32_t a, b, again;
    unsigned i;

    a = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 40; i++)
        before[i] = map(f, a, inode_of(i));
    restart(f);
    b = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    for (i = 20; i < 60; i++) { /* some that a knows */
        mine[i] = map(f, b, inode_of(i));
        if (i < 40)
            g_assert_cmpuint(mine[i], !=, before[i]);
    }
    if (qidmap_fs_alias(f->store, a, b, &error) != 0)
        g_error("%s", error.text);
    for (int round = 0; round < 2; round++) {
        for (i = 0; i < 80; i++) {
            after[i] = map(f, b, inode_of(i));
            g_assert_cmpint(qidmap_find(f->store, b, inode_of(i), &path), ==, 0);
            g_assert_cmpuint(path, ==, after[i]);
            if (i < 40)
                g_assert_cmpuint(after[i], ==, before[i]);
            g_assert_cmpint(qidmap_reverse(f->store, after[i], &object), ==, 0);
            g_assert_cmpuint(object.fs, ==, b);
            g_assert_cmpuint(object.ino, ==, inode_of(i));
            if (round == 0)
                g_assert_true(g_hash_table_add(owner, &after[i]));
        }
        g_assert_cmpint(qidmap_find(f->store, a, inode_of(0), &path), ==, -EINVAL);
        row = row_of(f, b);
        g_assert_true(row.alias == a && row.retired == 0);
        row = row_of(f, a);
        g_assert_cmpuint(row.retired, ==, 1);
        again = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
        g_assert_cmpuint(again, ==, b); /* its own identity leads to the heir */
        restart(f);
    }
    g_assert_cmpint(qidmap_fs_alias(f->store, a, b, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_alias(f->store, b, a, &error), ==, -EINVAL);
}

static void test_alias_refused(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_identity two[2] = {fixture_identity(1, QIDMAP_POLICY_AFFIX),
                                     fixture_identity(2, QIDMAP_POLICY_AFFIX)};
    struct qidmap_identity crowd[QIDMAP_FS_MET + 4];
    struct qidmap_error error;
    uint32_t fs[2], many[G_N_ELEMENTS(crowd)], tmp, tmp2, handle, lone;
    unsigned i;

    g_assert_cmpint(qidmap_register(f->store, two, 2, fs, NULL), ==, 0);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[1], &error), ==, -EEXIST);
    g_assert_nonnull(strstr(error.text, "live together"));
    restart(f); /* for ever, whichever of them comes later alone */
    fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[1], &error), ==, -EEXIST);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[1], fs[0], &error), ==, -EEXIST);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[0], &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], 999, &error), ==, -ENOENT);
    g_assert_cmpint(qidmap_fs_alias(f->store, 999, fs[0], &error), ==, -ENOENT);
    tmp = fixture_register(f->store, 3, QIDMAP_POLICY_EPHEMERAL);
    restart(f);
    tmp2 = fixture_register(f->store, 4, QIDMAP_POLICY_EPHEMERAL);
    handle = fixture_register(f->store, 5, QIDMAP_POLICY_HANDLE);
    g_assert_cmpint(qidmap_fs_alias(f->store, tmp, tmp2, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], handle, &error), ==, -EINVAL);

    /* More than a row lists: then nobody can tell. In another session they can. */
    for (i = 0; i < G_N_ELEMENTS(crowd); i++)
        crowd[i] = fixture_identity((uint8_t)(10 + i), QIDMAP_POLICY_AFFIX);
    restart(f);
    g_assert_cmpint(qidmap_register(f->store, crowd, G_N_ELEMENTS(crowd), many, NULL), ==, 0);
    g_assert_cmpuint(row_of(f, many[0]).met_many, ==, 1);
    lone = fixture_register(f->store, 100, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, many[0], lone, &error), ==, -EEXIST);
    restart(f);
    lone = fixture_register(f->store, 101, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, many[0], lone, &error), ==, 0);
}

/* Live at different times of one session, and few enough to be listed: no reason to refuse. */
static void test_alias_in_session(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t a = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    uint64_t path = map(f, a, 5);
    uint32_t b = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);

    g_assert_cmpint(qidmap_fs_alias(f->store, a, b, NULL), ==, 0);
    g_assert_cmpuint(map(f, b, 5), ==, path);
}

/* A line of aliases, in any order of making: the oldest has the first word; no ring. */
static void test_chain(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    for (int order = 0; order < 2; order++) {
        uint8_t base = (uint8_t)(10 * (order + 1));
        uint32_t fs[3];
        uint64_t first[3], path;
        struct qidmap_object object;

        for (unsigned i = 0; i < 3; i++) {
            restart(f);
            fs[i] = fixture_register(f->store, (uint8_t)(base + i), QIDMAP_POLICY_AFFIX);
            first[i] = map(f, fs[i], (uint64_t)(i + 1) << 60 | 7);
            path = map(f, fs[i], 77);
            if (i == 0)
                first[0] = path; /* all three know inode 77 */
        }
        if (order == 0) {
            g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[1], NULL), ==, 0);
            g_assert_cmpint(qidmap_fs_alias(f->store, fs[1], fs[2], NULL), ==, 0);
        } else {
            g_assert_cmpint(qidmap_fs_alias(f->store, fs[1], fs[2], NULL), ==, 0);
            g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[2], NULL), ==, 0);
        }
        restart(f);
        g_assert_cmpuint(map(f, fs[2], 77), ==, first[0]);
        g_assert_cmpuint(map(f, fs[2], UINT64_C(2) << 60 | 7), ==, first[1]);
        g_assert_cmpuint(map(f, fs[2], UINT64_C(3) << 60 | 7), ==, first[2]);
        for (unsigned i = 0; i < 3; i++) {
            g_assert_cmpint(qidmap_reverse(f->store, first[i], &object), ==, 0);
            g_assert_cmpuint(object.fs, ==, fs[2]);
        }
        g_assert_cmpuint(row_of(f, fs[2]).alias, ==, fs[1]);
        g_assert_cmpuint(row_of(f, fs[1]).alias, ==, fs[0]);
        g_assert_cmpint(qidmap_fs_alias(f->store, fs[2], fs[0], NULL), ==, -EINVAL);
        g_assert_cmpint(qidmap_fs_alias(f->store, fs[0], fs[1], NULL), ==, -EINVAL);
    }
}

/* Whatever is split, joined, retired and mapped, in any order: an id belongs to one file for ever,
 * and a file's id changes only by a verb that says so. */
static void test_oracle(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    enum { ROWS = 24, INODES = 120 };
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autoptr(GHashTable) owner = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    uint32_t fs[ROWS], truth[ROWS]; /* which filesystem in truth a row is of: joined ones agree */
    g_autofree uint64_t *known = g_new0(uint64_t, ROWS * INODES);
    gboolean gone[ROWS] = {FALSE};
    unsigned joined = 0, n = f->dir ? 400 : 3000;

    for (unsigned i = 0; i < ROWS; i++) {
        restart(f);
        fs[i] = fixture_register(f->store, (uint8_t)(i + 1), QIDMAP_POLICY_AFFIX);
        truth[i] = i;
    }
    for (unsigned step = 0; step < n; step++) {
        unsigned i = (unsigned)g_rand_int_range(rand, 0, ROWS);
        unsigned k = (unsigned)g_rand_int_range(rand, 0, ROWS);
        unsigned what = (unsigned)g_rand_int_range(rand, 0, 40);

        if (what == 0 && !gone[i]) {
            int e = qidmap_fs_alias(f->store, fs[k], fs[i], NULL);
            if (e == 0) {
                uint32_t from = truth[k];
                for (unsigned r = 0; r < ROWS; r++)
                    truth[r] = truth[r] == from ? truth[i] : truth[r];
                gone[k] = TRUE;
                memset(known + i * INODES, 0, INODES * sizeof(*known)); /* may change now */
                joined++;
            }
        } else if (what == 1 && !gone[i] && step % 5 == 0) {
            g_assert_cmpint(qidmap_fs_retire(f->store, fs[i], NULL), ==, 0);
            gone[i] = TRUE;
        } else if (what == 2 && f->dir) {
            restart(f);
        }
        for (unsigned m = 0; m < 12 && !gone[i]; m++) {
            unsigned which = (unsigned)g_rand_int_range(rand, 0, INODES);
            uint64_t ino = inode_of(which), path = map(f, fs[i], ino), *key;
            gpointer seen;
            gsize object = (gsize)which + 1;

            if (known[i * INODES + which])
                g_assert_cmpuint(path, ==, known[i * INODES + which]);
            known[i * INODES + which] = path;
            /* The owner is an inode of what became one filesystem. */
            if (g_hash_table_lookup_extended(owner, &path, NULL, &seen)) {
                gsize old = GPOINTER_TO_SIZE(seen);
                g_assert_cmpuint(old % (INODES + 1), ==, object);
                g_assert_cmpuint(truth[old / (INODES + 1)], ==, truth[i]);
            } else {
                key = g_new(uint64_t, 1);
                *key = path;
                g_hash_table_insert(owner, key, GSIZE_TO_POINTER(object + i * (INODES + 1)));
            }
        }
    }
    g_assert_cmpuint(joined, >, 3);
}

/* Handles and placeholders have their old ids by the alias as well. */
static void test_alias_handles(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_object o[2], back;
    uint64_t paths[2], again[2];
    int32_t results[2];
    uint32_t a = fixture_register(f->store, 1, QIDMAP_POLICY_HANDLE), b;

    memset(o, 0, sizeof(o));
    for (unsigned i = 0; i < 2; i++) {
        o[i].fs = a;
        o[i].kind = QIDMAP_OBJECT_HANDLE;
        o[i].handle_size = 12;
        o[i].handle_type = 1;
        o[i].handle[0] = (uint8_t)i;
    }
    g_assert_cmpint(qidmap_map_objects(f->store, o, 2, paths, results), ==, 0);
    g_assert_true((paths[0] & 1) && paths[0] != paths[1]);
    restart(f);
    b = fixture_register(f->store, 2, QIDMAP_POLICY_HANDLE);
    o[0].fs = o[1].fs = b;
    g_assert_cmpint(qidmap_map_object(f->store, &o[1], &again[1]), ==, 0);
    g_assert_cmpuint(again[1], !=, paths[1]);
    g_assert_cmpint(qidmap_fs_alias(f->store, a, b, NULL), ==, 0);
    restart(f);
    g_assert_cmpint(qidmap_map_objects(f->store, o, 2, again, results), ==, 0);
    g_assert_true(again[0] == paths[0] && again[1] == paths[1]);
    g_assert_cmpint(qidmap_reverse(f->store, paths[0], &back), ==, 0);
    g_assert_cmpmem(&back, sizeof(back), &o[0], sizeof(o[0]));
}

static void test_retire(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), next, last;
    uint64_t before[30], after[30], path;
    struct qidmap_object object;

    for (unsigned i = 0; i < 30; i++)
        before[i] = map(f, fs, inode_of(i));
    g_assert_cmpint(qidmap_fs_retire(f->store, fs, NULL), ==, 0);
    g_assert_cmpint(qidmap_fs_retire(f->store, fs, NULL), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_retire(f->store, 77, NULL), ==, -ENOENT);
    restart(f);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_cmpuint(stats.full_rows, ==, 0);
    g_assert_cmpuint(stats.affix_rows, ==, 4);
    g_assert_cmpint(qidmap_find(f->store, fs, inode_of(0), &path), ==, -EINVAL);
    next = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpuint(next, !=, fs);
    for (unsigned i = 0; i < 30; i++) {
        after[i] = map(f, next, inode_of(i));
        for (unsigned k = 0; k < 30; k++)
            g_assert_cmpuint(after[i], !=, before[k]);
        g_assert_cmpint(qidmap_reverse(f->store, before[i], &object), ==,
                        before[i] & 1 ? -ENOENT : 0);
    }
    /* As an alias its entries speak again; its rows of the full map are gone. */
    restart(f);
    last = fixture_register(f->store, 9, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, fs, last, NULL), ==, 0);
    for (unsigned i = 0; i < 30; i++) {
        path = map(f, last, inode_of(i));
        if (before[i] & 1)
            g_assert_cmpuint(path, !=, before[i]);
        else
            g_assert_cmpuint(path, ==, before[i]);
    }
    g_assert_cmpuint(fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), ==, next);
}

/* More rows than one transaction deletes; a stop in the middle leaves them to the next one. */
static void test_retire_many(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    enum { N = 20000 };
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, N);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_EPHEMERAL);
    struct qidmap_identity id = fixture_identity(1, QIDMAP_POLICY_EPHEMERAL);
    uint64_t epoch;

    for (unsigned i = 0; i < N; i++) {
        items[i].fs = fs;
        items[i].ino = (UINT64_C(1) << 40) + i;
    }
    g_assert_cmpint(qidmap_map_batch(f->store, items, N), ==, 0);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_cmpuint(stats.full_rows, ==, N);
    epoch = stats.epoch;
    memset(id.fsid[0].bytes, 'c', 16); /* the next boot */
    g_assert_cmpint(qidmap_register(f->store, &id, 1, &fs, NULL), ==, 0);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_true(stats.full_rows == 0 && stats.fs_rows == 1);
    g_assert_cmpuint(stats.epoch, >=, epoch + 2); /* not all at once */

    fs = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    for (unsigned i = 0; i < N; i++) {
        items[i].fs = fs;
        items[i].ino = (uint64_t)(i + 1) << 44 | 1;
    }
    g_assert_cmpint(qidmap_map_batch(f->store, items, N), ==, 0);
    g_assert_cmpint(qidmap_fs_retire(f->store, fs, NULL), ==, 0);
    qidmap_store_stats(f->store, &stats, NULL);
    g_assert_cmpuint(stats.full_rows, ==, 0);
    restart(f);
    g_assert_cmpuint(row_of(f, fs).retired, ==, 1);
}

/* What a handle counts of itself: what was new, and the commits that it took; nothing else. */
static void test_counts(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qidmap_stats a = {.size = sizeof(a)}, b = a;
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);

    qidmap_store_stats(f->store, &a, NULL);
    g_assert_cmpuint(a.made, ==, 0); /* a filesystem is no mapping */
    for (unsigned i = 0; i < 30; i++)
        map(f, fs, inode_of(i));
    qidmap_store_stats(f->store, &b, NULL);
    g_assert_cmpuint(b.made, ==, b.affix_rows + b.full_rows);
    g_assert_cmpuint(b.made, >, 0);
    g_assert_cmpuint(b.commits - a.commits, ==, b.epoch - a.epoch);
    g_assert_cmpuint(b.commit_nanoseconds, >=, b.commit_slowest);
    g_assert_cmpuint(b.commit_slowest, >, 0);
    for (unsigned i = 0; i < 30; i++)
        map(f, fs, inode_of(i));
    qidmap_store_stats(f->store, &a, NULL);
    g_assert_true(a.made == b.made && a.commits == b.commits);
    if (f->dir == NULL)
        return;
    restart(f);
    qidmap_store_stats(f->store, &a, NULL);
    g_assert_true(a.made == 0 && a.affix_rows == b.affix_rows);
}

static void test_policy(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t fs = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), other, tmp;
    struct qidmap_object o = {
        .kind = QIDMAP_OBJECT_HANDLE, .handle_size = 8, .handle_type = 1, .handle = "handle!"};
    struct qidmap_error error;
    uint64_t path, old;

    /* Nothing given yet: the row itself. */
    g_assert_cmpint(qidmap_fs_set_policy(f->store, fs, QIDMAP_POLICY_HANDLE, 0, &other, NULL), ==,
                    0);
    g_assert_cmpuint(other, ==, fs);
    o.fs = fs;
    g_assert_cmpint(qidmap_map(f->store, fs, 5, &path), ==, -EINVAL); /* inodes name nothing here */
    g_assert_cmpint(qidmap_find(f->store, fs, 5, &path), ==, -EINVAL);
    g_assert_cmpint(qidmap_map_object(f->store, &o, &old), ==, 0);
    restart(f);
    g_assert_true(row_of(f, fs).chosen == 1 && row_of(f, fs).affix_rows == 0);
    g_assert_cmpuint(fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), ==, fs);
    g_assert_cmpuint(row_of(f, fs).policy, ==, QIDMAP_POLICY_HANDLE);

    /* Given: only with new ids. */
    g_assert_cmpint(qidmap_fs_set_policy(f->store, fs, QIDMAP_POLICY_AFFIX, 0, &other, &error), ==,
                    -ENOTEMPTY);
    g_assert_nonnull(strstr(error.text, "--renumber"));
    g_assert_cmpint(qidmap_fs_set_policy(f->store, fs, QIDMAP_POLICY_AFFIX, 1, &other, &error), ==,
                    0);
    g_assert_cmpuint(other, !=, fs);
    restart(f);
    g_assert_cmpuint(row_of(f, fs).retired, ==, 1);
    g_assert_cmpuint(fixture_register(f->store, 1, QIDMAP_POLICY_HANDLE), ==, other);
    g_assert_cmpuint(row_of(f, other).policy, ==, QIDMAP_POLICY_AFFIX);
    g_assert_cmpuint(map(f, other, 5), !=, old);
    o.fs = other;
    g_assert_cmpint(qidmap_map_object(f->store, &o, &path), ==, 0); /* for the caller to decide */
    g_assert_cmpuint(path, !=, old);

    g_assert_cmpint(qidmap_fs_set_policy(f->store, other, QIDMAP_POLICY_DENY, 1, &fs, NULL), ==, 0);
    g_assert_cmpint(qidmap_map(f->store, fs, 5, &path), ==, -EPERM);
    g_assert_cmpuint(fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), ==, fs);
    g_assert_cmpint(qidmap_fs_set_policy(f->store, fs, QIDMAP_POLICY_AFFIX, 0, NULL, NULL), ==, 0);
    map(f, fs, 5);

    g_assert_cmpint(qidmap_fs_set_policy(f->store, fs, QIDMAP_POLICY_EPHEMERAL, 1, NULL, NULL), ==,
                    -EINVAL);
    tmp = fixture_register(f->store, 7, QIDMAP_POLICY_EPHEMERAL);
    old = map(f, tmp, 9);
    o.fs = tmp;
    g_assert_cmpint(qidmap_map_object(f->store, &o, &path), ==, -EINVAL); /* no second key */
    g_assert_cmpint(qidmap_fs_set_policy(f->store, tmp, QIDMAP_POLICY_AFFIX, 1, NULL, NULL), ==,
                    -EINVAL);
    g_assert_cmpint(qidmap_fs_set_policy(f->store, tmp, QIDMAP_POLICY_DENY, 1, &tmp, NULL), ==, 0);
    g_assert_cmpint(qidmap_fs_set_policy(f->store, tmp, QIDMAP_POLICY_EPHEMERAL, 0, NULL, NULL), ==,
                    0);
    g_assert_cmpuint(map(f, tmp, 9), !=, old); /* the instance is a new one */
    g_assert_cmpint(qidmap_fs_set_policy(f->store, tmp, 9, 0, NULL, NULL), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_set_policy(f->store, 99, QIDMAP_POLICY_DENY, 0, NULL, NULL), ==,
                    -ENOENT);
    restart(f);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Rows of the full map of which their filesystem knows nothing would never be asked: damage. So are
 * aliases that are not retired, or that two rows have. */
static void test_damage(void)
{
    for (int what = 0; what < 4; what++) {
        g_autofree char *dir = fixture_dir();
        g_autofree char *uri = g_strconcat("lmdb:", dir, NULL);
        qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, 1), *again = NULL;
        const struct qm_backend_ops *ops = store->backend->ops;
        uint32_t a = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
        uint32_t b = fixture_register(store, 2, QIDMAP_POLICY_AFFIX), c;
        struct qidmap_fs row = {.size = sizeof(row)};
        struct qm_meta meta;
        struct qm_record r;
        struct qm_txn *txn;
        uint64_t path;

        c = fixture_register(store, 3, QIDMAP_POLICY_AFFIX);
        g_assert_cmpint(qidmap_map(store, a, UINT64_C(1) << 60, &path), ==, 0);
        g_assert_cmpint(qidmap_map(store, a, UINT64_C(3) << 60, &path), ==, 0);
        if (what >= 2)
            g_assert_cmpint(qidmap_fs_alias(store, a, b, NULL), ==, 0);
        g_assert_cmpint(ops->begin(store->backend, QM_TXN_WRITE, 8, &txn), ==, 0);
        qidmap_fs_get(store, what == 0 ? a : what == 1 ? b : c, &row, NULL);
        if (what == 1)
            row.alias = a; /* which is not retired */
        if (what == 2)
            row.alias = a; /* which has an heir */
        if (what == 3)
            row.alias = 999;
        qm_record_fs(&r, &row, FALSE); /* 0: a says that it has no rows in the full map */
        g_assert_cmpint(qm_txn_put(txn, QM_TABLE_FS, &r), ==, 0);
        meta = store->meta;
        g_assert_cmpint(qm_store_commit(store, txn, &meta), ==, 0);
        qidmap_store_close(store);
        g_assert_cmpint(qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &again, NULL), ==, -EUCLEAN);
        fixture_remove(dir);
    }
}

static void add(const char *name, void (*test)(struct fixture *, gconstpointer))
{
    g_autofree char *mem = g_strconcat("/admin/memory/", name, NULL);
    g_autofree char *lmdb = g_strconcat("/admin/lmdb/", name, NULL);

    g_test_add(mem, struct fixture, NULL, setup, test, teardown);
    g_test_add(lmdb, struct fixture, "lmdb", setup, test, teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("alias", test_alias);
    add("alias-refused", test_alias_refused);
    add("alias-in-session", test_alias_in_session);
    add("chain", test_chain);
    add("oracle", test_oracle);
    add("alias-handles", test_alias_handles);
    add("retire", test_retire);
    add("retire-many", test_retire_many);
    add("counts", test_counts);
    add("policy", test_policy);
    g_test_add_func("/admin/damage", test_damage);
    return g_test_run();
}
