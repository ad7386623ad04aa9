/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: verify finds each way in which the rows of a store can contradict each other, although
 * every checksum is right, and says which in words; a store that is right is called right. What
 * other rows prove is mended, with a backup; all else is left as it is. With every backend alike.
 *
 * Each case breaks a store in one way (lib/verify-ways.c).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"
#include "store/store.h"
#include "store/verify.h"
#include "tests/lib/raw-rows.h"
#include "tests/lib/store-fixture.h"
#include "tests/lib/verify-ways.h"

struct fixture {
    char *dir, *place, *uri, *backup;
    qidmap_store *store;        /* memory: its owner */
    struct qm_backend *backend; /* open for writing, whatever the rows say */
};

static struct qm_backend *open_raw(const char *place)
{
    struct qm_backend_config config = {.write = TRUE, .lenient = TRUE};
    GError *error = NULL;
    struct qm_backend *backend = qm_backend_lmdb.open(place, &config, &error);

    g_assert_no_error(error);
    return backend;
}

static void setup(struct fixture *f, gconstpointer lmdb)
{
    f->dir = fixture_dir();
    f->place = g_build_filename(f->dir, "store", NULL);
    f->uri = lmdb ? g_strconcat("lmdb:", f->place, NULL) : g_strdup("memory:");
    f->backup = g_build_filename(f->dir, "backup", NULL);
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 2);
    fill(f->store);
    if (lmdb) {
        qidmap_store_close(f->store);
        f->store = NULL;
        f->backend = open_raw(f->place);
    } else {
        f->backend = f->store->backend;
    }
}

static void teardown(struct fixture *f)
{
    if (f->store) {
        atomic_store(&f->store->broken, -EIO); /* what the tables hold is not its own any more */
        qidmap_store_close(f->store);
    } else {
        f->backend->ops->close(f->backend);
    }
    fixture_remove(f->dir);
    g_free(f->dir);
    g_free(f->place);
    g_free(f->uri);
    g_free(f->backup);
}

/* ---- the tests ---------------------------------------------------------------------------------
 */

struct found {
    const struct way *way;
    gboolean hit, mendable;
    GString *all;
};

static void note(void *data, const struct qidmap_problem *p)
{
    struct found *found = data;

    g_string_append_printf(found->all, "%s: %s%s\n", qidmap_problem_name(p->kind), p->text,
                           p->flags & QIDMAP_PROBLEM_MENDABLE ? " (mendable)" : "");
    if (found->way && p->kind == found->way->kind && strstr(p->text, found->way->words)) {
        found->hit = TRUE;
        found->mendable = (p->flags & QIDMAP_PROBLEM_MENDABLE) != 0;
    }
}

static void verify(struct fixture *f, gboolean repair, struct found *found,
                   struct qidmap_verify_result *result)
{
    struct qidmap_verify_options options = {
        .size = sizeof(options), .problem = note, .data = found};
    GError *error = NULL;

    memset(result, 0, sizeof(*result));
    found->hit = found->mendable = FALSE;
    g_string_truncate(found->all, 0);
    if (repair)
        (void)qm_repair(f->backend, f->backup, &options, result, &error);
    else
        (void)qm_verify_backend(f->backend, &options, result, &error);
    g_assert_no_error(error);
}

static void break_it(struct fixture *f, void (*how)(struct qm_txn *txn))
{
    const struct qm_backend_ops *ops = f->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;

    g_assert_cmpint(ops->begin(f->backend, QM_TXN_WRITE, 50, &txn), ==, 0);
    get_meta(txn, &meta);
    meta.transaction = ops->number(txn);
    put_meta(txn, &meta);
    how(txn);
    g_assert_cmpint(ops->commit(txn), ==, 0);
}

/* All rows of all tables, for comparison. */
static GBytes *state_of(struct fixture *f)
{
    const struct qm_backend_ops *ops = f->backend->ops;
    GByteArray *out = g_byte_array_new();
    struct qm_txn *txn;
    int table;

    g_assert_cmpint(ops->begin(f->backend, QM_TXN_SNAPSHOT, 0, &txn), ==, 0);
    for (table = 0; table < QM_TABLES; table++) {
        struct qm_cursor *cursor;
        struct qm_bytes k, v;
        int e;

        g_assert_cmpint(ops->cursor_open(txn, (enum qm_table)table, &cursor), ==, 0);
        for (e = ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v); e == 0;
             e = ops->cursor_next(cursor, &k, &v)) {
            g_byte_array_append(out, k.data, (guint)k.size);
            g_byte_array_append(out, v.data, (guint)v.size);
        }
        ops->cursor_close(cursor);
    }
    ops->abort(txn);
    return g_byte_array_free_to_bytes(out);
}

static void test_clean(gconstpointer lmdb)
{
    struct fixture f;
    struct found found = {.all = g_string_new(NULL)};
    struct qidmap_verify_result result;

    setup(&f, lmdb);
    verify(&f, FALSE, &found, &result);
    g_assert_cmpstr(found.all->str, ==, "");
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_cmpuint(result.fs_rows, ==, 4);
    g_assert_cmpuint(result.affix_rows, ==, 3);
    g_assert_cmpuint(result.full_rows, ==, 6);
    break_it(&f, alias_right); /* an alias is nothing wrong */
    verify(&f, TRUE, &found, &result);
    g_assert_cmpstr(found.all->str, ==, "");
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_cmpstr(result.backup, ==, "");
    g_assert_false(g_file_test(f.backup, G_FILE_TEST_EXISTS));
    teardown(&f);
    g_string_free(found.all, TRUE);
}

struct test {
    const struct way *way;
    gboolean lmdb;
};

static void test_way(gconstpointer data)
{
    const struct test *t = data;
    struct fixture f;
    struct found found = {.way = t->way, .all = g_string_new(NULL)};
    struct qidmap_verify_result result;
    g_autoptr(GBytes) before = NULL;
    g_autoptr(GBytes) after = NULL;
    struct stat st;

    setup(&f, t->lmdb ? "lmdb" : NULL);
    break_it(&f, t->way->break_it);
    before = state_of(&f);
    verify(&f, FALSE, &found, &result);
    if (!found.hit)
        g_test_message("%s", found.all->str);
    g_assert_true(found.hit);
    g_assert_cmpint(found.mendable, ==, t->way->mendable);
    g_assert_cmpuint(result.problems, >, 0);
    g_assert_cmpuint(result.mended, ==, 0);

    verify(&f, TRUE, &found, &result);
    after = state_of(&f);
    if (t->way->mendable) {
        g_assert_cmpuint(result.mended, >, 0);
        g_assert_cmpuint(result.problems, ==, 0);
        g_assert_cmpstr(result.backup, ==, f.backup);
        g_assert_cmpint(stat(f.backup, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
        verify(&f, FALSE, &found, &result);
        g_assert_cmpstr(found.all->str, ==, "");
    } else if (result.mended == 0) {
        g_assert_true(g_bytes_equal(before, after));
        g_assert_cmpuint(result.problems, >, 0);
    } else {
        g_assert_cmpuint(result.problems, >, 0);
    }
    teardown(&f);
    g_string_free(found.all, TRUE);
}

/* By URI, as the tool does: a store that cannot be opened is looked at, and mended. */
static void test_uri(void)
{
    struct fixture f;
    struct found found = {.way = &ways[12], .all = g_string_new(NULL)};
    struct qidmap_verify_options options = {
        .size = sizeof(options), .problem = note, .data = &found};
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error;
    qidmap_store *store;

    g_assert_cmpstr(ways[12].name, ==, "byaffix-missing");
    setup(&f, "lmdb");
    break_it(&f, ways[12].break_it);
    f.backend->ops->close(f.backend);
    g_assert_cmpint(qidmap_store_open(f.uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                    -EUCLEAN);
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, 0);
    g_assert_true(found.hit);
    g_assert_cmpuint(result.problems, ==, result.mendable);
    options.flags = QIDMAP_VERIFY_REPAIR;
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_true(g_file_test(result.backup, G_FILE_TEST_IS_REGULAR));
    g_assert_true(g_str_has_prefix(result.backup, f.place)); /* beside the store */
    g_assert_cmpint(qidmap_store_open(f.uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==, 0);
    options.flags = 0;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    options.flags = QIDMAP_VERIFY_REPAIR;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, -EINVAL);
    qidmap_store_close(store);
    options.size = 3;
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_verify("lmdb:/nonexistent/x", NULL, &result, &error), ==, -ENOENT);
    g_assert_cmpint(qidmap_verify("what", NULL, &result, &error), ==, -EINVAL);
    f.backend = open_raw(f.place);
    teardown(&f);
    g_string_free(found.all, TRUE);
}

/* Any byte of the file flipped: verify comes back, and never calls right what is read wrongly. */
static void test_pages(void)
{
    struct fixture f;
    g_autofree char *path = NULL, *data = NULL;
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error;
    gsize size, at;
    unsigned told = 0;
    struct stat st;
    int fd;

    setup(&f, "lmdb");
    f.backend->ops->close(f.backend);
    path = g_build_filename(f.place, "gen.1", "data.mdb", NULL);
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (at = 8; at < MIN(size, 20 * 4096); at += 37) {
        char byte = (char)(data[at] ^ 1 << at % 8);

        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
        if (qidmap_verify(f.uri, NULL, &result, &error) == 0)
            told += result.problems > 0;
        g_assert_cmpint(pwrite(fd, data + at, 1, (off_t)at), ==, 1);
    }
    g_assert_cmpuint(told, >, 30);
    g_assert_cmpint(qidmap_verify(f.uri, NULL, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    for (at = 0; at < 5; at++) {
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        g_assert_cmpint(ftruncate(fd, (off_t)(5 - at) * 3000), ==, 0);
        g_assert_cmpint(qidmap_verify(f.uri, NULL, &result, &error), ==, 0);
        g_assert_cmpuint(result.problems, ==, 1);
    }
    g_assert_cmpint(pwrite(fd, data, size, 0), ==, (gssize)size);
    close(fd);
    f.backend = open_raw(f.place);
    teardown(&f);
}

static int stop(void *data, uint64_t done, uint64_t total)
{
    unsigned *calls = data;

    g_assert_cmpuint(done, <=, total);
    return ++*calls == 2;
}

static void test_progress(void)
{
    struct qidmap_verify_options options = {.size = sizeof(options), .progress = stop};
    struct qidmap_verify_result result = {.size = sizeof(result)};
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 1);
    uint32_t fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    unsigned calls = 0;
    struct qidmap_error error;
    uint64_t path, i;

    for (i = 0; i < 200; i++)
        g_assert_cmpint(qidmap_map(store, fs, i << 56 | i, &path), ==, 0);
    options.data = &calls;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, -ECANCELED);
    g_assert_cmpuint(calls, ==, 2);
    qidmap_store_close(store);
}

int main(int argc, char **argv)
{
    size_t i;
    int lmdb;

    g_test_init(&argc, &argv, NULL);
    for (lmdb = 0; lmdb < 2; lmdb++) {
        g_autofree char *clean = g_strdup_printf("/verify/%s/clean", lmdb ? "lmdb" : "memory");

        g_test_add_data_func(clean, lmdb ? "lmdb" : NULL, test_clean);
        for (i = 0; i < n_ways; i++) {
            g_autofree char *name =
                g_strdup_printf("/verify/%s/%s", lmdb ? "lmdb" : "memory", ways[i].name);
            struct test *test = g_new(struct test, 1);

            *test = (struct test){&ways[i], lmdb};
            g_test_add_data_func_full(name, test, test_way, g_free);
        }
    }
    g_test_add_func("/verify/uri", test_uri);
    g_test_add_func("/verify/pages", test_pages);
    g_test_add_func("/verify/progress", test_progress);
    return g_test_run();
}
