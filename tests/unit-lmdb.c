/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what an lmdb: store has told it keeps: across restarts, across kill -9 under load, while
 * the map grows, with a full disk. One writer at a time, named in the refusal. Damage anywhere in
 * the file is reported, or harmless; it never changes an id and never ends the process.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

struct fixture {
    char *dir, *uri, *data;
};

static void setup(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *tmp = fixture_dir();

    g_remove(tmp);
    f->dir = g_strdup(tmp); /* absent: the store makes it */
    f->uri = g_strconcat("lmdb:", f->dir, NULL);
    f->data = g_build_filename(f->dir, "gen.1", "data.mdb", NULL);
}

static void teardown(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    fixture_remove(f->dir);
    g_free(f->data);
    g_free(f->uri);
    g_free(f->dir);
}

/* Inode i of a set that uses entries and full map alike. */
static uint64_t ino_of(uint64_t i)
{
    return i % 3 == 0 ? i : (i % 61) << 58 | i;
}

/* Fills a store: two filesystems, `count` inodes; their ids to `paths`. */
static void fill(const char *uri, uint64_t *paths, size_t count)
{
    qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, 5);
    uint32_t fs[2] = {fixture_register(store, 1, QIDMAP_POLICY_AFFIX),
                      fixture_register(store, 2, QIDMAP_POLICY_AFFIX)};
    size_t i;

    for (i = 0; i < count; i++)
        g_assert_cmpint(qidmap_map(store, fs[i % 2], ino_of(i), &paths[i]), ==, 0);
    qidmap_store_close(store);
}

static void test_reopen(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    qidmap_store *store, *second = NULL;
    struct qidmap_error error;
    uint64_t paths[300], path, i;
    struct stat st;

    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                    -ENOENT);
    g_assert_false(g_file_test(f->dir, G_FILE_TEST_EXISTS));
    fill(f->uri, paths, 300);
    g_assert_cmpint(stat(f->dir, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
    params.affix_budget = 99; /* ignored: fixed at creation */
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, &params, &store, &error), ==, 0);
    qidmap_store_stats(store, &stats, NULL);
    g_assert_cmpuint(stats.affix_budget, ==, 5);
    g_assert_cmpuint(stats.bytes_used, >, 0);
    for (i = 0; i < 300; i++) {
        g_assert_cmpint(qidmap_find(store, (uint32_t)(i % 2 + 1), ino_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, paths[i]);
    }
    g_assert_cmpuint(fixture_register(store, 2, QIDMAP_POLICY_AFFIX), ==, 2);
    /* Once in a process, for reading too. */
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &second, &error), ==,
                    -EBUSY);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &second, &error), ==, -EBUSY);
    g_assert_nonnull(strstr(error.text, f->uri));
    qidmap_store_close(store);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==, 0);
    qidmap_store_stats(store, &stats, NULL);
    g_assert_cmpint(stats.last_clean_stop, >, 0);
    qidmap_store_close(store);
}

/* ---- other processes ------------------------------------------------------------------------- */

/* A child that opens the store, tells so, and waits for its end. */
static pid_t holder(const char *uri, unsigned flags)
{
    int to[2];
    char byte;
    pid_t pid;

    g_assert_cmpint(pipe(to), ==, 0);
    pid = fork();
    if (pid == 0) {
        qidmap_store *store;

        close(to[0]);
        if (qidmap_store_open(uri, flags, NULL, &store, NULL) == 0)
            (void)!write(to[1], "x", 1);
        for (;;)
            pause();
    }
    close(to[1]);
    g_assert_cmpint(read(to[0], &byte, 1), ==, 1);
    close(to[0]);
    return pid;
}

static void end(pid_t pid)
{
    int status;

    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
}

static void test_busy(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *number = NULL;
    qidmap_store *store;
    struct qidmap_error error;
    uint64_t paths[10];
    pid_t pid;

    fill(f->uri, paths, 10);
    pid = holder(f->uri, QIDMAP_OPEN_WRITE);
    number = g_strdup_printf("%ld ", (long)pid);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==, -EBUSY);
    g_assert_nonnull(strstr(error.text, number));
    g_assert_nonnull(strstr(error.text, "unit-lmdb"));
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==, 0);
    qidmap_store_close(store);
    end(pid); /* killed: its lock goes with it */
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    qidmap_store_close(store);
}

/* A reader sees the state at its opening, whatever a writer does. */
static void test_reader(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t paths[60], path, i;
    qidmap_store *store;
    qidmap_iter *iter;
    struct qidmap_row row;
    struct qidmap_error error;
    uint32_t fs;
    struct qidmap_identity id = fixture_identity(3, QIDMAP_POLICY_AFFIX);
    unsigned rows = 0;
    pid_t pid;
    int status;

    fill(f->uri, paths, 50);
    store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    pid = fork();
    if (pid == 0) { /* the store of this process is not ours: its table of open ones is a copy */
        execl("/proc/self/exe", "unit-lmdb", "--writer", f->uri, NULL);
        _exit(127);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (i = 0; i < 50; i++) {
        g_assert_cmpint(qidmap_find(store, (uint32_t)(i % 2 + 1), ino_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, paths[i]);
    }
    g_assert_cmpint(qidmap_map(store, 1, UINT64_C(61) << 58 | 1, &path), ==, -ENOENT);
    g_assert_cmpint(qidmap_register(store, &id, 1, &fs, &error), ==, -EROFS);
    g_assert_cmpint(qidmap_iter_open(store, &iter, &error), ==, 0);
    while (qidmap_iter_next(iter, &row, &error) == 1)
        rows++;
    qidmap_iter_close(iter);
    g_assert_cmpuint(rows, <, 100); /* the writer made 2,000 */
    qidmap_store_close(store);
    store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    g_assert_cmpint(qidmap_map(store, 1, UINT64_C(61) << 58 | 1, &path), ==, 0);
    qidmap_store_close(store);
}

static int run_writer(const char *uri)
{
    qidmap_store *store;
    uint64_t path, i;

    if (qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, NULL) != 0)
        return 1;
    for (i = 0; i < 2000; i++) {
        struct qidmap_item items[50];
        int j;

        for (j = 0; j < 50; j++)
            items[j] = (struct qidmap_item){.fs = 1, .ino = UINT64_C(61) << 58 | (i + (uint64_t)j)};
        if (qidmap_map_batch(store, items, 50) != 0)
            return 1;
        i += 49;
    }
    if (qidmap_map(store, 1, UINT64_C(61) << 58 | 1, &path) != 0)
        return 1;
    qidmap_store_close(store);
    return 0;
}

/* ---- kill -9 --------------------------------------------------------------------------------- */

struct told {
    uint32_t fs, zero;
    uint64_t ino, path;
};

struct teller {
    qidmap_store *store;
    int fd;
    uint64_t from;
};

static gpointer tell(gpointer data)
{
    const struct teller *t = data;
    struct told told;
    uint64_t i;

    for (i = t->from;; i++) {
        memset(&told, 0, sizeof(told));
        told.fs = (uint32_t)(i % 2 + 1);
        told.ino = ino_of(i * 7919);
        if (qidmap_map(t->store, told.fs, told.ino, &told.path) != 0 ||
            write(t->fd, &told, sizeof(told)) != sizeof(told))
            _exit(1);
    }
    return NULL;
}

static void test_kill(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct told));
    g_autoptr(GHashTable) ids = NULL;
    int rounds = g_test_slow() ? 40 : 6, round;
    guint i;

    fill(f->uri, (uint64_t[4]){0}, 4);
    for (round = 0; round < rounds; round++) {
        qidmap_store *store;
        struct told told;
        uint64_t path;
        int to[2];
        pid_t pid;

        g_assert_cmpint(pipe(to), ==, 0);
        pid = fork();
        if (pid == 0) {
            struct teller tellers[3];

            close(to[0]);
            if (qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, NULL) != 0)
                _exit(1);
            for (i = 0; i < 3; i++) {
                tellers[i] = (struct teller){store, to[1], (uint64_t)round * 100000 + i * 7};
                g_thread_unref(g_thread_new("teller", tell, &tellers[i]));
            }
            for (;;)
                pause();
        }
        close(to[1]);
        for (i = 0; i < 100 + (guint)g_random_int_range(0, 100); i++) {
            g_assert_cmpint(read(to[0], &told, sizeof(told)), ==, sizeof(told));
            g_array_append_val(all, told);
        }
        end(pid);
        while (read(to[0], &told, sizeof(told)) == sizeof(told)) /* told before it died */
            g_array_append_val(all, told);
        close(to[0]);
        store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
        for (i = 0; i < all->len; i++) {
            told = g_array_index(all, struct told, i);
            g_assert_cmpint(qidmap_find(store, told.fs, told.ino, &path), ==, 0);
            g_assert_cmpuint(path, ==, told.path);
        }
        qidmap_store_close(store);
    }
    ids = g_hash_table_new(g_int64_hash, g_int64_equal);
    for (i = 0; i < all->len; i++) {
        struct told *told = &g_array_index(all, struct told, i);
        struct told *same = g_hash_table_lookup(ids, &told->path);

        if (same)
            g_assert_true(same->fs == told->fs && same->ino == told->ino);
        g_hash_table_insert(ids, &told->path, told);
    }
}

/* ---- growth ---------------------------------------------------------------------------------- */

struct grower {
    qidmap_store *store;
    uint32_t fs;
    uint64_t known;
    int stop;
};

static gpointer read_on(gpointer data)
{
    struct grower *g = data;
    uint64_t path;

    while (!g_atomic_int_get(&g->stop)) {
        g_assert_cmpint(qidmap_find(g->store, g->fs, UINT64_C(30) << 58 | 1, &path), ==, 0);
        g_assert_cmpuint(path, ==, g->known);
    }
    return NULL;
}

static void test_growth(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct qm_open_config config = {.map_size = 128 * 1024};
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, 2000);
    GError *error = NULL;
    GThread *threads[2];
    struct grower g = {.stop = 0};
    qidmap_iter *iter;
    struct qidmap_row row;
    uint64_t path;
    int i, round, r;

    params.affix_budget = 1;
    g.store = qm_store_open(f->uri, FIXTURE_WRITE, &params, &config, &error);
    g_assert_no_error(error);
    g.fs = fixture_register(g.store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_map(g.store, g.fs, 1, &path), ==, 0);
    g_assert_cmpint(qidmap_map(g.store, g.fs, UINT64_C(30) << 58 | 1, &g.known), ==, 0);
    g_assert_cmpint(qidmap_iter_open(g.store, &iter, NULL), ==, 0);
    g_assert_cmpint(qidmap_iter_next(iter, &row, NULL), ==, 1);
    for (i = 0; i < 2; i++)
        threads[i] = g_thread_new("reader", read_on, &g);
    for (round = 0; round < 10; round++) {
        for (i = 0; i < 2000; i++)
            items[i] = (struct qidmap_item){
                .fs = g.fs, .ino = UINT64_C(31) << 58 | (uint64_t)(round * 2000 + i)};
        g_assert_cmpint(qidmap_map_batch(g.store, items, 2000), ==, 0);
    }
    while ((r = qidmap_iter_next(iter, &row, NULL)) == 1)
        ;
    g_assert_cmpint(r, ==, -ESTALE); /* ended by growth, and said so */
    qidmap_iter_close(iter);
    g_atomic_int_set(&g.stop, 1);
    for (i = 0; i < 2; i++)
        g_thread_join(threads[i]);
    qidmap_store_close(g.store);
    g.store = qm_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &config, &error);
    g_assert_no_error(error);
    for (i = 0; i < 2000; i++) {
        g_assert_cmpint(qidmap_find(g.store, g.fs, items[i].ino, &path), ==, 0);
        g_assert_cmpuint(path, ==, items[i].path);
    }
    qidmap_store_close(g.store);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void write_at(const char *file, off_t offset, const void *data, size_t size)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, data, size, offset), ==, size);
    close(fd);
}

#define DAMAGE_KEYS 400

/* Opens a store that may be damaged, for writing and for reading. Either it says so, or every id is
 * what it was and new ones are new. */
static gboolean try_damaged(const char *uri, const uint64_t *paths, gboolean deep)
{
    struct qidmap_error error;
    qidmap_store *store = NULL;
    gboolean refused = FALSE;
    unsigned flags;
    uint64_t path, i;
    int r;

    for (flags = 0; flags <= (deep ? 1u : 0u); flags++) {
        r = qidmap_store_open(uri, flags, NULL, &store, &error);
        if (r != 0) {
            if (r != -EUCLEAN && r != -EPROTO)
                g_error("open gave %d: %s", r, error.text);
            refused = TRUE;
            continue;
        }
        for (i = 0; i < DAMAGE_KEYS; i++) {
            r = qidmap_find(store, (uint32_t)(i % 2 + 1), ino_of(i), &path);
            if (r != 0 && r != -EUCLEAN)
                g_error("a known inode is not found any more: %d", r);
            if (r == 0)
                g_assert_cmpuint(path, ==, paths[i]);
        }
        if (flags == QIDMAP_OPEN_WRITE) {
            g_assert_false(refused);
            for (i = 0; i < 40; i++) {
                g_assert_cmpint(qidmap_map(store, 1, UINT64_C(62) << 58 | i, &path), ==, 0);
                for (r = 0; r < DAMAGE_KEYS; r++)
                    g_assert_cmpuint(path, !=, paths[r]);
            }
        }
        qidmap_store_close(store);
    }
    return refused;
}

static void test_flips(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree uint64_t *paths = g_new0(uint64_t, DAMAGE_KEYS);
    g_autofree char *good = NULL;
    gsize size, used;
    guint refused = 0, tries = g_test_slow() ? 200000 : 4000, i;

    fill(f->uri, paths, DAMAGE_KEYS);
    g_assert_true(g_file_get_contents(f->data, &good, &size, NULL));
    for (used = size; used > 0 && good[used - 1] == 0; used--)
        ;
    for (i = 0; i < tries; i++) {
        /* Every bit of the meta pages' heads in turn, then anywhere. */
        gsize at = i < 2 * 160 * 8 ? (i / (160 * 8)) * 4096 + i / 8 % 160
                                   : (gsize)g_random_int_range(0, (gint32)used);
        char bad =
            (char)(good[at] ^ 1 << (i < 2 * 160 * 8 ? i % 8 : (guint)g_random_int_range(0, 8)));
        gboolean deep = i % 50 == 0;

        write_at(f->data, (off_t)at, &bad, 1);
        if (try_damaged(f->uri, paths, deep))
            refused++;
        if (deep)
            g_assert_true(g_file_set_contents(f->data, good, (gssize)size, NULL));
        else
            write_at(f->data, (off_t)at, &good[at], 1);
    }
    g_test_message("%u of %u flips were refused", refused, tries);
    g_assert_cmpuint(refused, >, tries / 20);
}

/* In a store of several levels: every bit of a key in a branch page. One that leaves all rows in
 * reach may pass. */
static void test_separators(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, 4000);
    g_autofree char *good = NULL;
    struct qidmap_error error;
    guint refused = 0, passed = 0, branches = 0;
    qidmap_store *store = fixture_open(f->uri, FIXTURE_WRITE, 1);
    uint32_t fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    gsize size, page, at;
    uint64_t path;
    int i;

    g_assert_cmpint(qidmap_map(store, fs, 1, &path), ==, 0);
    for (i = 0; i < 4000; i++)
        items[i] = (struct qidmap_item){.fs = fs, .ino = UINT64_C(31) << 58 | (uint64_t)i * 77};
    g_assert_cmpint(qidmap_map_batch(store, items, 4000), ==, 0);
    qidmap_store_close(store);
    g_assert_true(g_file_get_contents(f->data, &good, &size, NULL));
    for (page = 2 * 4096; page + 4096 <= size; page += 4096) {
        guint16 flags, lower, node;

        memcpy(&flags, good + page + 10, 2);
        memcpy(&lower, good + page + 12, 2);
        if (flags != 1 || lower < 16 + 4 || lower > 4096)
            continue;
        branches++;
        memcpy(&node, good + page + 18, 2); /* the second node: the first has no key */
        for (at = page + node + 8; at < page + node + 8 + 13; at++) {
            char bad = (char)(good[at] ^ 1 << g_random_int_range(0, 8));

            write_at(f->data, (off_t)at, &bad, 1);
            if (qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error) == 0) {
                passed++;
                for (i = 0; i < 4000; i++) {
                    g_assert_cmpint(qidmap_find(store, fs, items[i].ino, &path), ==, 0);
                    g_assert_cmpuint(path, ==, items[i].path);
                }
                qidmap_store_close(store);
            } else {
                refused++;
            }
            write_at(f->data, (off_t)at, &good[at], 1);
        }
    }
    g_test_message("%u branch pages: %u flips refused, %u harmless", branches, refused, passed);
    g_assert_cmpuint(branches, >, 0);
    g_assert_cmpuint(refused, >, 0);
}

static void test_truncated(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t paths[DAMAGE_KEYS];
    g_autofree char *good = NULL;
    struct qidmap_error error;
    qidmap_store *store;
    gsize size, cut;

    fill(f->uri, paths, DAMAGE_KEYS);
    g_assert_true(g_file_get_contents(f->data, &good, &size, NULL));
    for (cut = 0; cut < 12 * 4096; cut += 1024) {
        g_assert_true(g_file_set_contents(f->data, good, (gssize)cut, NULL));
        g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==,
                        -EUCLEAN);
        g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==,
                        -EUCLEAN);
        g_assert_nonnull(strstr(error.text, "damaged"));
        { /* nothing was changed */
            g_autofree char *now = NULL;
            gsize now_size;

            g_assert_true(g_file_get_contents(f->data, &now, &now_size, NULL));
            g_assert_cmpmem(now, now_size, good, cut);
        }
    }
    g_unlink(f->data);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    g_assert_false(g_file_test(f->data, G_FILE_TEST_EXISTS));
}

/* Two meta pages, the newer one made to look old: the state before the last commit must not pass.
 */
static void test_old_state(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t paths[DAMAGE_KEYS], txn[2], zero;
    struct qidmap_error error;
    qidmap_store *store;
    g_autofree char *good = NULL;
    gsize size, newer;

    fill(f->uri, paths, DAMAGE_KEYS);
    g_assert_true(g_file_get_contents(f->data, &good, &size, NULL));
    memcpy(&txn[0], good + 16 + 128, 8);
    memcpy(&txn[1], good + 4096 + 16 + 128, 8);
    newer = txn[1] > txn[0];
    zero = txn[newer] - 2;
    write_at(f->data, (off_t)(newer * 4096 + 16 + 128), &zero, 8);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    /* And with the older page's whole content in its place, as a copy of an old disk block would.
     */
    write_at(f->data, 0, good, 8192);
    write_at(f->data, (off_t)(newer * 4096 + 16), good + !newer * 4096 + 16, 136);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
}

static void test_newer_format(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t paths[4];
    struct qidmap_store *store;
    struct qidmap_error error;
    struct qm_record r;
    struct qm_txn *txn;
    struct qm_meta meta;
    const char *name = "meta";
    uint32_t crc;
    int i;

    fill(f->uri, paths, 4);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    meta = store->meta;
    g_assert_cmpint(store->backend->ops->begin(store->backend, QM_TXN_WRITE, 1, &txn), ==, 0);
    meta.transaction = store->backend->ops->number(txn);
    qm_record_meta(&r, &meta);
    r.value[4] = 2;
    crc = qm_crc32c(0, name, 5);
    crc = qm_crc32c(crc, r.key, r.key_size);
    crc = qm_crc32c(crc, r.value, r.value_size - 4);
    for (i = 0; i < 4; i++)
        r.value[r.value_size - 4 + i] = (uint8_t)(crc >> 8 * i);
    g_assert_cmpint(qm_txn_put(txn, QM_TABLE_META, &r), ==, 0);
    g_assert_cmpint(store->backend->ops->commit(txn), ==, 0);
    atomic_store(&store->broken, -EIO); /* close without a note */
    qidmap_store_close(store);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EPROTO);
    g_assert_nonnull(strstr(error.text, "format version 2"));
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==, -EPROTO);
}

/* ---- the directory --------------------------------------------------------------------------- */

static void test_half_created(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *gen = g_build_filename(f->dir, "gen.1", NULL);
    g_autofree char *mark = g_build_filename(f->dir, "creating", NULL);
    g_autofree char *current = g_build_filename(f->dir, "current", NULL);
    struct qidmap_error error;
    qidmap_store *store;
    uint64_t paths[50], path;

    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(gen, 0700), ==, 0);
    g_assert_true(g_file_set_contents(f->data, "half", 4, NULL));
    g_assert_true(g_file_set_contents(mark, "", 0, NULL));
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==, -ENOENT);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                    -ENOENT);
    fill(f->uri, paths, 50); /* begins again */
    g_assert_false(g_file_test(mark, G_FILE_TEST_EXISTS));

    /* A mark that was not yet taken away changes nothing. */
    g_assert_true(g_file_set_contents(mark, "", 0, NULL));
    store = fixture_open(f->uri, FIXTURE_WRITE, 0);
    g_assert_cmpint(qidmap_find(store, 1, ino_of(0), &path), ==, 0);
    g_assert_cmpuint(path, ==, paths[0]);
    qidmap_store_close(store);
    g_assert_false(g_file_test(mark, G_FILE_TEST_EXISTS));

    /* A store whose `current` got lost, or says something else, is damaged, not absent. */
    g_unlink(current);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    g_assert_true(g_file_set_contents(current, "gen.7\n", 6, NULL));
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    g_assert_true(g_file_set_contents(current, "gen.1/../../etc\n", 16, NULL));
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    g_assert_true(g_file_set_contents(current, "gen.1\n", 6, NULL));
    store = fixture_open(f->uri, FIXTURE_WRITE, 0);
    qidmap_store_close(store);
}

static void test_foreign(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *file = g_build_filename(f->dir, "thesis.txt", NULL);
    g_autofree char *lock = g_build_filename(f->dir, "lock", NULL);
    struct qidmap_error error;
    qidmap_store *store;

    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(file, "text", 4, NULL));
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -ENOTEMPTY);
    g_assert_false(g_file_test(lock, G_FILE_TEST_EXISTS)); /* nothing written */
    g_unlink(file);
    g_assert_cmpint(g_chmod(f->dir, 0777), ==, 0);
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EPERM);
    g_assert_cmpint(g_chmod(f->dir, 0700), ==, 0);
    if (geteuid() == 0) {
        g_assert_cmpint(chown(f->dir, 12345, 12345), ==, 0);
        g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EPERM);
    }
}

static void test_refused_filesystem(void)
{
    struct qidmap_error error;
    qidmap_store *store;

    /* No such directory can be made in procfs; what counts is an error and no crash. */
    g_assert_cmpint(qidmap_store_open("lmdb:/proc/self/x", FIXTURE_WRITE, NULL, &store, &error), <,
                    0);
    g_assert_cmpint(qidmap_store_open("lmdb:/dev/null", FIXTURE_WRITE, NULL, &store, &error), ==,
                    -ENOTDIR);
}

/* After a failed commit nobody knows what is on the disk: known ids go on, nothing new is mapped.
 */
static void test_broken(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t paths[60], path, i;
    struct qidmap_store *store;
    struct qidmap_identity id = fixture_identity(7, QIDMAP_POLICY_AFFIX);
    struct qidmap_error error;
    struct qidmap_item items[2];
    uint32_t fs;

    fill(f->uri, paths, 60);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    atomic_store(&store->broken, -EIO);
    store->retry_at = G_MAXINT64;
    for (i = 0; i < 60; i++) {
        g_assert_cmpint(qidmap_map(store, (uint32_t)(i % 2 + 1), ino_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, paths[i]);
    }
    items[0] = (struct qidmap_item){.fs = 1, .ino = ino_of(0)};
    items[1] = (struct qidmap_item){.fs = 1, .ino = UINT64_C(62) << 58};
    g_assert_cmpint(qidmap_map_batch(store, items, 2), ==, -EIO);
    g_assert_cmpint(items[0].result, ==, 0);
    g_assert_cmpint(items[1].result, ==, -EIO);
    g_assert_cmpint(qidmap_register(store, &id, 1, &fs, &error), ==, -EIO);
    /* A row that the failed commit left in sight was never given to anybody, and is not now. */
    atomic_store(&store->given, 128 + 1);
    for (i = 0; i < 60; i++) {
        int r = qidmap_find(store, (uint32_t)(i % 2 + 1), ino_of(i), &path);

        g_assert_cmpint(r, ==, (paths[i] & 1) && paths[i] != 257 ? -ENOENT : 0);
    }
    qidmap_store_close(store);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpint(qidmap_map_batch(store, items, 2), ==, 0);
    qidmap_store_close(store);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

static void test_full_disk(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *uri = g_strconcat(f->uri, "/store", NULL);
    struct qidmap_item items[64];
    qidmap_store *store;
    uint64_t path, i, last = 0, known = 0;
    int r = 0, j;

    g_assert_cmpint(g_mkdir(f->dir, 0700), ==, 0);
    if (mount("qidmap-test", f->dir, "tmpfs", 0, "size=4m,mode=700") != 0) {
        g_test_skip("no mounts allowed");
        return;
    }
    store = fixture_open(uri, FIXTURE_WRITE, 1);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_map(store, 1, 1, &path), ==, 0);
    for (i = 0; r == 0 && i < 2000; i++) {
        for (j = 0; j < 64; j++)
            items[j] =
                (struct qidmap_item){.fs = 1, .ino = UINT64_C(31) << 58 | (i * 64 + (uint64_t)j)};
        r = qidmap_map_batch(store, items, 64);
        if (r == 0) {
            last = items[63].ino;
            known = items[63].path;
        }
    }
    g_assert_cmpint(r, ==, -ENOSPC);
    g_assert_cmpuint(known, !=, 0);
    g_assert_cmpint(qidmap_map(store, 1, last, &path), ==, 0); /* known ids go on */
    g_assert_cmpuint(path, ==, known);
    g_assert_cmpint(qidmap_map(store, 1, 2, &path), ==, 0);
    g_assert_cmpint(mount("qidmap-test", f->dir, "tmpfs", MS_REMOUNT, "size=8m,mode=700"), ==, 0);
    g_assert_cmpint(qidmap_map_batch(store, items, 64), ==,
                    0); /* room again: no reopening needed */
    qidmap_store_close(store);
    store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpint(qidmap_find(store, 1, last, &path), ==, 0);
    g_assert_cmpuint(path, ==, known);
    qidmap_store_close(store);
    g_assert_cmpint(umount(f->dir), ==, 0);
}

static void add(const char *name, void (*test)(struct fixture *, gconstpointer))
{
    g_test_add(name, struct fixture, NULL, setup, test, teardown);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--writer") == 0)
        return run_writer(argv[2]);
    g_test_init(&argc, &argv, NULL);
    add("/lmdb/reopen", test_reopen);
    add("/lmdb/busy", test_busy);
    add("/lmdb/reader", test_reader);
    add("/lmdb/kill", test_kill);
    add("/lmdb/growth", test_growth);
    add("/lmdb/damage/flips", test_flips);
    add("/lmdb/damage/separators", test_separators);
    add("/lmdb/damage/truncated", test_truncated);
    add("/lmdb/damage/old-state", test_old_state);
    add("/lmdb/newer-format", test_newer_format);
    add("/lmdb/half-created", test_half_created);
    add("/lmdb/foreign", test_foreign);
    add("/lmdb/broken", test_broken);
    add("/lmdb/full-disk", test_full_disk);
    g_test_add_func("/lmdb/refused-filesystem", test_refused_filesystem);
    return g_test_run();
}
