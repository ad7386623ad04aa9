/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever call that changes a file fails, once or for good, with EIO or for want of room,
 * before it did anything, in the middle or after: known ids go on, nothing that was told is lost or
 * given twice, new ids come back by themselves when the disk does, and the same holds when the
 * process is killed in place of the call.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/inject.h"
#include "tests/lib/store-fixture.h"

#define MAP_SIZE (96 * 1024)

struct told {
    uint32_t fs, zero;
    uint64_t ino, path;
};

struct run {
    char *dir, *uri;
    GArray *told; /* of struct told */
    int pipe;     /* where they are told to, too; -1: nowhere */
    qidmap_store *store;
    uint64_t next; /* inode that nobody asked for yet */
};

static void run_init(struct run *r)
{
    memset(r, 0, sizeof(*r));
    r->dir = fixture_fast_dir();
    r->uri = g_strdup_printf("lmdb:%s/store", r->dir);
    r->told = g_array_new(FALSE, FALSE, sizeof(struct told));
    r->pipe = -1;
    r->next = 1;
}

static void run_clear(struct run *r)
{
    fixture_remove(r->dir);
    g_array_free(r->told, TRUE);
    g_free(r->uri);
    g_free(r->dir);
}

static void tell(struct run *r, uint32_t fs, uint64_t ino, uint64_t path)
{
    struct told told;

    memset(&told, 0, sizeof(told));
    told.fs = fs;
    told.ino = ino;
    told.path = path;
    g_array_append_val(r->told, told);
    if (r->pipe >= 0 && write(r->pipe, &told, sizeof(told)) != sizeof(told))
        _exit(2);
}

static gboolean open_store(struct run *r, unsigned flags)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qm_open_config config = {.map_size = MAP_SIZE, .retry_pause = 1};
    GError *error = NULL;

    params.affix_budget = 2;
    r->store = qm_store_open(r->uri, flags, &params, &config, &error);
    if (!r->store && error->code == EUCLEAN)
        g_error("a store that only failed to be written is called damaged: %s", error->message);
    g_clear_error(&error);
    return r->store != NULL;
}

/* All that was told still answers. */
static void check_told(struct run *r)
{
    uint64_t path;
    guint i;

    for (i = 0; i < r->told->len; i++) {
        const struct told *t = &g_array_index(r->told, struct told, i);
        int e = qidmap_find(r->store, t->fs, t->ino, &path);

        if (e != 0 || path != t->path)
            g_error("inode %" G_GUINT64_FORMAT " of %u was told %" G_GUINT64_FORMAT ": now %d, "
                    "%" G_GUINT64_FORMAT,
                    t->ino, t->fs, t->path, e, e == 0 ? path : 0);
    }
}

static void check_unique(struct run *r)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(g_int64_hash, g_int64_equal);
    guint i;

    for (i = 0; i < r->told->len; i++) {
        struct told *t = &g_array_index(r->told, struct told, i);
        const struct told *same = g_hash_table_lookup(ids, &t->path);

        if (same && (same->fs != t->fs || same->ino != t->ino))
            g_error("id %" G_GUINT64_FORMAT " was given twice", t->path);
        g_hash_table_insert(ids, &t->path, t);
    }
}

/* Maps inodes that nobody asked for: `count` in one batch. TRUE when all were mapped. */
static gboolean map_some(struct run *r, uint32_t fs, int count)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, (gsize)count);
    gboolean all = TRUE;
    int i;

    for (i = 0; i < count; i++, r->next++)
        items[i] = (struct qidmap_item){.fs = fs, .ino = (r->next % 5) << 60 | r->next};
    (void)qidmap_map_batch(r->store, items, (size_t)count);
    for (i = 0; i < count; i++) {
        if (items[i].result == 0)
            tell(r, fs, items[i].ino, items[i].path);
        else
            all = FALSE;
    }
    check_told(r);
    return all;
}

static gboolean register_fs(struct run *r, uint8_t which)
{
    struct qidmap_identity id = fixture_identity(which, QIDMAP_POLICY_AFFIX);
    struct qidmap_error error;
    uint32_t fs;
    int e = qidmap_register(r->store, &id, 1, &fs, &error);

    if (e == 0)
        g_assert_cmpuint(fs, ==, which);
    check_told(r);
    return e == 0;
}

/* Creation, entries, the full map, growth, a clean stop, a new generation. What fails fails. */
static void scenario(struct run *r)
{
    gboolean both;
    int i;

    if (!open_store(r, FIXTURE_WRITE))
        return;
    both = register_fs(r, 1) && register_fs(r, 2);
    for (i = 0; both && i < 4; i++)
        map_some(r, 1u + (uint32_t)i % 2, 1);
    if (both) {
        map_some(r, 1, 30);
        map_some(r, 2, 900); /* the map must grow */
    }
    qidmap_store_close(r->store);
    if (!open_store(r, QIDMAP_OPEN_WRITE))
        return;
    check_told(r);
    if (both) {
        map_some(r, 2, 3);
        atomic_store(&r->store->broken, -EIO);
        map_some(r, 1, 3);
        map_some(r, 2, 3);
    }
}

/* The disk is well again: the same handle goes on, and so does the next one. */
static void aftermath(struct run *r)
{
    if (r->store) {
        check_told(r);
        g_usleep(2);
        if (!register_fs(r, 1) || !register_fs(r, 2) || !map_some(r, 1, 5)) {
            struct qidmap_error error = {0, ""};

            qidmap_store_health(r->store, &error);
            g_error("the disk is well again, and still nothing new is mapped: %s", error.text);
        }
        qidmap_store_close(r->store);
    }
    if (!open_store(r, FIXTURE_WRITE))
        g_error("the store does not open any more");
    check_told(r);
    g_assert_true(register_fs(r, 1));
    g_assert_true(register_fs(r, 2));
    g_assert_true(map_some(r, 1, 5));
    g_assert_true(map_some(r, 2, 5));
    qidmap_store_close(r->store);
    check_unique(r);
}

/* How many calls the scenario makes. */
static unsigned long count_calls(void)
{
    unsigned long seen;
    struct run r;

    run_init(&r);
    inject_arm("nth=0");
    scenario(&r);
    {
        struct qidmap_stats stats = {.size = sizeof(stats)};

        qidmap_store_stats(r.store, &stats, NULL);
        g_assert_cmpuint(stats.bytes_used, >, MAP_SIZE); /* it did grow */
    }
    seen = inject_seen();
    inject_arm(NULL);
    aftermath(&r);
    run_clear(&r);
    return seen;
}

static void fail_each(const char *how)
{
    unsigned long calls = count_calls(), n, failed = 0;

    g_assert_cmpuint(calls, >, 50);
    for (n = 1; n <= calls; n++) {
        g_autofree char *spec = g_strdup_printf("nth=%lu %s", n, how);
        struct run r;

        run_init(&r);
        inject_arm(spec);
        scenario(&r);
        failed += inject_failed() > 0;
        inject_arm(NULL);
        aftermath(&r);
        run_clear(&r);
    }
    g_test_message("%s: %lu of %lu calls were made to fail", how, failed, calls);
    g_assert_cmpuint(failed, >, calls / 2);
}

static void test_fail(gconstpointer how)
{
    fail_each(how);
}

static void test_kill(void)
{
    unsigned long calls = count_calls(), n, killed = 0;

    for (n = 1; n <= calls; n++) {
        g_autofree char *spec = g_strdup_printf("nth=%lu error=KILL", n);
        struct told told;
        struct run r;
        int to[2], status;
        pid_t pid;

        run_init(&r);
        g_assert_cmpint(pipe(to), ==, 0);
        pid = fork();
        if (pid == 0) {
            close(to[0]);
            r.pipe = to[1];
            inject_arm(spec);
            scenario(&r);
            _exit(0);
        }
        close(to[1]);
        while (read(to[0], &told, sizeof(told)) == sizeof(told))
            g_array_append_val(r.told, told);
        close(to[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        killed += WIFSIGNALED(status) != 0;
        r.next = 100000;
        aftermath(&r);
        run_clear(&r);
    }
    g_test_message("killed at %lu of %lu calls", killed, calls);
    g_assert_cmpuint(killed, >, calls / 2);
}

/* A store that was not stopped in order opens on a disk that takes no byte: what is known is
 * served, and the rest comes back with the disk. */
static void test_open_full(gconstpointer error)
{
    g_autofree char *spec = g_strdup_printf(
        "calls=write,pwrite,writev,fdatasync,fsync,ftruncate,fallocate,rename,mkdir "
        "nth=1 count=0 error=%s",
        (const char *)error);
    int clean;

    for (clean = 0; clean < 2; clean++) {
        struct run r;
        pid_t pid;

        run_init(&r);
        g_assert_true(open_store(&r, FIXTURE_WRITE));
        g_assert_true(register_fs(&r, 1) && register_fs(&r, 2) && map_some(&r, 1, 50));
        qidmap_store_close(r.store);
        pid = fork();
        if (pid == 0) { /* leaves the store as it is */
            if (!clean && (!open_store(&r, QIDMAP_OPEN_WRITE) || !map_some(&r, 2, 5)))
                _exit(1);
            _exit(0);
        }
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
        inject_arm(spec);
        g_assert_true(open_store(&r, QIDMAP_OPEN_WRITE));
        check_told(&r);
        g_assert_false(map_some(&r, 1, 5));
        g_assert_cmpuint(inject_failed(), >, 0);
        inject_arm(NULL);
        aftermath(&r);
        run_clear(&r);
    }
}

/* ---- readers meanwhile ----------------------------------------------------------------------- */

struct meanwhile {
    qidmap_store *store;
    const uint64_t *paths;
    int stop;
};

#define KNOWN 60

static gpointer look_up(gpointer data)
{
    struct meanwhile *m = data;
    uint64_t path, i;

    while (!g_atomic_int_get(&m->stop)) {
        for (i = 0; i < KNOWN; i++) {
            g_assert_cmpint(qidmap_find(m->store, 1, (i % 9 + 1) << 59 | i, &path), ==, 0);
            g_assert_cmpuint(path, ==, m->paths[i]);
        }
    }
    return NULL;
}

static gpointer walk(gpointer data)
{
    struct meanwhile *m = data;

    while (!g_atomic_int_get(&m->stop)) {
        struct qidmap_stats stats = {.size = sizeof(stats)};
        struct qidmap_error error;
        struct qidmap_row row;
        qidmap_iter *iter;
        int e, rows = 0;

        g_assert_cmpint(qidmap_iter_open(m->store, &iter, &error), ==, 0);
        while ((e = qidmap_iter_next(iter, &row, &error)) == 1)
            rows++;
        if (e != -ESTALE && (e != 0 || rows < KNOWN / 2))
            g_error("%d rows, %d", rows, e);
        qidmap_iter_close(iter);
        g_assert_cmpint(qidmap_store_stats(m->store, &stats, NULL), ==, 0);
    }
    return NULL;
}

/* Commits fail and the store goes to new generations while others read. */
static void test_meanwhile(void)
{
    static gpointer (*const what[])(gpointer) = {look_up, look_up, walk};
    struct meanwhile m = {.stop = 0};
    uint64_t paths[KNOWN], i;
    GThread *threads[3];
    struct run r;
    int round, failures = 0;

    run_init(&r);
    g_assert_true(open_store(&r, FIXTURE_WRITE));
    g_assert_true(register_fs(&r, 1));
    for (i = 0; i < KNOWN; i++)
        g_assert_cmpint(qidmap_map(r.store, 1, (i % 9 + 1) << 59 | i, &paths[i]), ==, 0);
    m.store = r.store;
    m.paths = paths;
    for (i = 0; i < 3; i++)
        threads[i] = g_thread_new("meanwhile", what[i], &m);
    r.next = 1000;
    for (round = 0; round < 40; round++) {
        g_autofree char *spec = g_strdup_printf("nth=%d path=data.mdb error=EIO", 1 + round % 5);

        inject_arm(spec);
        failures += !map_some(&r, 1, 5);
        inject_arm(NULL);
        g_usleep(10);
        if (!map_some(&r, 1, 5))
            g_error("no recovery in round %d", round);
    }
    g_atomic_int_set(&m.stop, 1);
    for (i = 0; i < 3; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(failures, >, 10);
    check_unique(&r);
    qidmap_store_close(r.store);
    run_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    inject_arm(NULL);
    g_test_add_data_func("/lmdb-disk/eio", "error=EIO", test_fail);
    g_test_add_data_func("/lmdb-disk/eio-after", "error=EIO after=1", test_fail);
    g_test_add_data_func("/lmdb-disk/eio-torn", "error=EIO torn=512", test_fail);
    g_test_add_data_func("/lmdb-disk/dead", "error=EIO count=0", test_fail);
    g_test_add_data_func("/lmdb-disk/full", "error=ENOSPC count=0", test_fail);
    g_test_add_data_func("/lmdb-disk/full-once", "error=ENOSPC torn=512", test_fail);
    g_test_add_data_func("/lmdb-disk/open-full", "ENOSPC", test_open_full);
    g_test_add_data_func("/lmdb-disk/open-dead", "EIO", test_open_full);
    g_test_add_func("/lmdb-disk/kill", test_kill);
    g_test_add_func("/lmdb-disk/meanwhile", test_meanwhile);
    return g_test_run();
}
