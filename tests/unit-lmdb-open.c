/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: only the very files that a clean stop left are opened without a walk over all of them. A
 * store that was copied, or put back from a backup, by whatever tool, is walked, and gives no id
 * that may have been given since the copy. A switch of generations that was cut short leaves one
 * whole store; who reads the old generation reads on. Rights, owners and links that would let
 * others write are refused, with words that say what to do.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/lmdb-origin.h"
#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

#define KEYS 200

struct fixture {
    char *top, *dir, *uri, *gen, *data;
    uint64_t paths[KEYS];
};

static uint64_t ino_of(uint64_t i)
{
    return i % 3 == 0 ? i + 1 : (i % 61) << 58 | i;
}

static void setup(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    qidmap_store *store;
    size_t i;

    f->top = fixture_dir();
    f->dir = g_build_filename(f->top, "store", NULL);
    f->uri = g_strconcat("lmdb:", f->dir, NULL);
    f->gen = g_build_filename(f->dir, "gen.1", NULL);
    f->data = g_build_filename(f->gen, "data.mdb", NULL);
    store = fixture_open(f->uri, FIXTURE_WRITE, 3);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < KEYS; i++)
        g_assert_cmpint(qidmap_map(store, 1, ino_of(i), &f->paths[i]), ==, 0);
    qidmap_store_close(store);
}

static void teardown(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    fixture_remove(f->top);
    g_free(f->data);
    g_free(f->gen);
    g_free(f->uri);
    g_free(f->dir);
    g_free(f->top);
}

static void check(const struct fixture *f, qidmap_store *store)
{
    uint64_t path;
    size_t i;

    for (i = 0; i < KEYS; i++) {
        g_assert_cmpint(qidmap_find(store, 1, ino_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->paths[i]);
    }
}

static void shell(const char *format, ...) G_GNUC_PRINTF(1, 2);

static void shell(const char *format, ...)
{
    g_autofree char *text = NULL;
    const char *argv[] = {"sh", "-ec", NULL, NULL};
    GError *error = NULL;
    va_list args;
    int status;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    argv[2] = text;
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status,
                 &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("%s: %d", text, status);
}

/* What the file `origin` says of the store as it lies there. */
static enum qm_origin origin(const struct fixture *f)
{
    int fd = open(f->gen, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *data = NULL;
    enum qm_origin o;
    guint64 txn[2];
    gsize size;

    g_assert_true(g_file_get_contents(f->data, &data, &size, NULL));
    memcpy(&txn[0], data + 16 + 128, 8);
    memcpy(&txn[1], data + 4096 + 16 + 128, 8);
    o = qm_lmdb_origin_read(fd, MAX(txn[0], txn[1]));
    close(fd);
    return o;
}

static struct qidmap_stats stats_of(qidmap_store *store)
{
    struct qidmap_stats s = {.size = sizeof(s)};

    g_assert_cmpint(qidmap_store_stats(store, &s, NULL), ==, 0);
    return s;
}

/* Opens for writing: the counters now less the counters that the store had; new ids are new. */
static uint64_t leapt(const struct fixture *f, const struct qidmap_stats *before)
{
    qidmap_store *store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    struct qidmap_stats now = stats_of(store);
    uint64_t path;

    check(f, store);
    g_assert_cmpuint(now.next_affix - before->next_affix > 0, ==,
                     now.next_serial - before->next_serial > 0);
    g_assert_cmpint(qidmap_map(store, 1, UINT64_C(63) << 58, &path), ==, 0);
    qidmap_store_close(store);
    return now.next_serial - before->next_serial;
}

static struct qidmap_stats before(const struct fixture *f)
{
    qidmap_store *store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    struct qidmap_stats s = stats_of(store);

    qidmap_store_close(store);
    return s;
}

/* A child that opens the store, maps `more` inodes, tells so, and waits for its end. */
static pid_t writer(const struct fixture *f, unsigned flags, int more)
{
    int to[2], i;
    char byte;
    pid_t pid;

    g_assert_cmpint(pipe(to), ==, 0);
    pid = fork();
    if (pid == 0) {
        qidmap_store *store;
        uint64_t path;

        close(to[0]);
        if (qidmap_store_open(f->uri, flags, NULL, &store, NULL) != 0)
            _exit(1);
        for (i = 0; i < more; i++) {
            if (qidmap_map(store, 1, UINT64_C(50) << 58 | (uint64_t)i, &path) != 0)
                _exit(1);
        }
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

/* ---- clean stops and copies ------------------------------------------------------------------ */

static void test_clean(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct qidmap_stats s = before(f);
    qidmap_store *store;
    pid_t pid;

    g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
    g_assert_cmpuint(leapt(f, &s), ==, 0);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
    /* A reader changes nothing; nor does a writer who writes nothing. */
    store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    qidmap_store_close(store);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_OPEN);
    qidmap_store_close(store);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
    /* Killed: known to be the same file, but not as it was left. */
    pid = writer(f, QIDMAP_OPEN_WRITE, 5);
    end(pid);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_OPEN);
    s = before(f);
    g_assert_cmpuint(leapt(f, &s), ==, 0);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
}

/* Every way to copy or to put back: walked, and the counters leap, once. */
static void test_copies(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const ways[] = {
        /* elsewhere and back */
        "cp -a store other; rm -r store; cp -a other store; rm -r other",
        "cp -r store other; chmod -R go-w other; rm -r store; mv other store",
        "tar cf t store; rm -r store; tar xf t; rm t",
        /* over the files that are there: the same inodes */
        ("cp -a store other; for x in data.mdb origin; do cat other/gen.1/$x >store/gen.1/$x; "
         "done; rm -r other"),
        "cp -a store/gen.1/data.mdb d; cat d >store/gen.1/data.mdb; rm d",
        "rm store/gen.1/origin",
        "echo x >store/gen.1/origin",
        "printf x | dd of=store/gen.1/origin bs=1 seek=40 conv=notrunc 2>/dev/null",
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(ways); i++) {
        struct qidmap_stats s = before(f);

        g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
        shell("cd %s; sleep 0.02; %s", f->top, ways[i]);
        g_test_message("%s", ways[i]);
        if (i != 3) /* the copy of `origin` names its own inode, which is the same */
            g_assert_cmpint(origin(f), ==, QM_ORIGIN_COPIED);
        g_assert_cmpuint(leapt(f, &s), >=, UINT64_C(1) << 32);
        s = before(f);
        g_assert_cmpuint(leapt(f, &s), ==, 0);
    }
}

/* A backup is put back that is older than what was given since: no id is given twice. */
static void test_backup(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    qidmap_store *store;
    uint64_t since[100], path;
    int i, j;

    shell("cd %s; cp -a store backup", f->top);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 100; i++)
        g_assert_cmpint(
            qidmap_map(store, 1u + (uint32_t)i % 2, (uint64_t)(40 + i % 7) << 58 | 7, &since[i]),
            ==, 0);
    qidmap_store_close(store);
    shell("cd %s; rm -r store; cp -a backup store", f->top);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    check(f, store);
    fixture_register(store, 3, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 100; i++) {
        g_assert_cmpint(qidmap_map(store, 1, UINT64_C(33) << 58 | (uint64_t)i, &path), ==, 0);
        for (j = 0; j < 100; j++)
            g_assert_cmpuint(path, !=, since[j]);
    }
    qidmap_store_close(store);
}

/* A writer that maps, has data.mdb copied, maps on and is killed; then the copy is written over the
 * file: it is the same file, of the same session, and yet older than what was told. */
static void test_older_in_place(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct qidmap_stats s;
    qidmap_store *store;
    uint64_t since, now, i;
    int pipes[2], status;
    pid_t pid;

    g_assert_cmpint(pipe(pipes), ==, 0);
    pid = fork();
    if (pid == 0) {
        store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
        for (i = 0; i < 40; i++) {
            if (qidmap_map(store, 1, UINT64_C(50) << 58 | i, &since) != 0)
                _exit(1);
            if (i == 19)
                shell("cp %s %s/older", f->data, f->top);
        }
        _exit(write(pipes[1], &since, sizeof(since)) == sizeof(since) ? 0 : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(read(pipes[0], &since, sizeof(since)), ==, sizeof(since));
    close(pipes[0]);
    close(pipes[1]);
    shell("cat %s/older >%s", f->top, f->data);
    g_assert_cmpint(origin(f), ==, QM_ORIGIN_OPEN);
    s = before(f);
    g_assert_cmpuint(leapt(f, &s), >=, UINT64_C(1) << 32);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    for (i = 0; i < 60; i++) {
        g_assert_cmpint(qidmap_map(store, 1, UINT64_C(51) << 58 | i, &now), ==, 0);
        g_assert_cmpuint(now, !=, since);
    }
    qidmap_store_close(store);
    s = before(f);
    g_assert_cmpuint(leapt(f, &s), ==, 0);
}

struct text {
    GString *bytes;
    gsize at;
};

static int text_write(void *data, const void *bytes, size_t size)
{
    g_string_append_len(((struct text *)data)->bytes, bytes, (gssize)size);
    return 0;
}

static long text_read(void *data, void *buffer, size_t size)
{
    struct text *t = data;
    size_t n = MIN(size, t->bytes->len - t->at);

    memcpy(buffer, t->bytes->str + t->at, n);
    t->at += n;
    return (long)n;
}

/* A dump that replaces a store which was put back from a backup: neither of the two knows what was
 * given since. */
static void test_load_over_copy(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *backup = g_build_filename(f->top, "replaced.jsonl", NULL);
    struct qidmap_load_result result = {.size = sizeof(result)};
    struct qidmap_load_options options = {.size = sizeof(options), .flags = QIDMAP_LOAD_REPLACE};
    struct text text = {g_string_new(NULL), 0};
    qidmap_store *store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    struct qidmap_stats s = stats_of(store);
    uint64_t since[30], now;
    int i, j;

    g_assert_cmpint(qidmap_dump(store, text_write, NULL, &text, NULL), ==, 0);
    qidmap_store_close(store);
    shell("cd %s; cp -a store backup", f->top);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    for (i = 0; i < 30; i++)
        g_assert_cmpint(qidmap_map(store, 1, UINT64_C(52) << 58 | (uint64_t)i, &since[i]), ==, 0);
    qidmap_store_close(store);
    shell("cd %s; rm -r store; cp -a backup store", f->top);
    options.read = text_read;
    options.backup = backup;
    options.data = &text;
    g_assert_cmpint(qidmap_load(f->uri, &options, &result, &store, NULL), ==, 0);
    g_assert_cmpuint(result.jumped, ==, 1);
    g_assert_cmpuint(stats_of(store).next_serial - s.next_serial, >=, UINT64_C(1) << 32);
    check(f, store);
    for (i = 0; i < 30; i++) {
        g_assert_cmpint(qidmap_map(store, 1, UINT64_C(53) << 58 | (uint64_t)i, &now), ==, 0);
        for (j = 0; j < 30; j++)
            g_assert_cmpuint(now, !=, since[j]);
    }
    qidmap_store_close(store);
    g_string_free(text.bytes, TRUE);
}

/* The disk itself loses bits after a clean stop: nothing of the file tells of it, but its pages. */
static void test_rot(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *good = NULL;
    struct qidmap_error error;
    qidmap_store *store;
    guint64 txn[2], last;
    unsigned refused = 0;
    gsize size, page;

    g_assert_true(g_file_get_contents(f->data, &good, &size, NULL));
    memcpy(&txn[0], good + 16 + 128, 8);
    memcpy(&txn[1], good + 4096 + 16 + 128, 8);
    memcpy(&last, good + 16 + 120, 8);
    for (page = 2; page <= last; page++) {
        char byte = (char)(good[page * 4096 + 12] ^ 2); /* one node less, or more */
        int fd = open(f->data, O_WRONLY | O_CLOEXEC), e;

        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)page * 4096 + 12), ==, 1);
        close(fd);
        fd = open(f->gen, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(qm_lmdb_origin_write(fd, TRUE, MAX(txn[0], txn[1])), ==, 0);
        close(fd);
        g_assert_cmpint(origin(f), ==, QM_ORIGIN_STOPPED);
        e = qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error);
        if (e == 0) {
            check(f, store); /* a page that is free */
            qidmap_store_close(store);
        } else {
            g_assert_cmpint(e, ==, -EUCLEAN);
            refused++;
        }
        fd = open(f->data, O_WRONLY | O_CLOEXEC);
        g_assert_cmpint(pwrite(fd, good + page * 4096, 4096, (off_t)page * 4096), ==, 4096);
        close(fd);
    }
    g_assert_cmpuint(refused, >, 8); /* seven tables, and more than a page of rows */
}

/* LMDB writes to its lock file through a map: a hole in it would be a signal on a full disk. */
static void test_lock_file(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const unsigned flags[] = {QIDMAP_OPEN_READ, QIDMAP_OPEN_WRITE};
    g_autofree char *file = g_build_filename(f->gen, "lock.mdb", NULL);
    struct stat st;
    size_t i;

    for (i = 0; i <= G_N_ELEMENTS(flags); i++) {
        g_assert_cmpint(stat(file, &st), ==, 0);
        g_assert_cmpint(st.st_size, ==, 16384); /* LMDB asks for no more */
        g_assert_cmpint(st.st_blocks * 512, >=, 16384);
        if (i == G_N_ELEMENTS(flags))
            break;
        g_assert_cmpint(g_unlink(file), ==, 0);
        qidmap_store_close(fixture_open(f->uri, flags[i], 0));
    }
}

/* A copy that was made while a writer wrote is walked: whole, or refused. */
static void test_live_copy(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *there = g_build_filename(f->top, "copy", NULL);
    g_autofree char *uri = g_strconcat("lmdb:", there, NULL);
    g_autofree char *data = g_build_filename(there, "gen.1", "data.mdb", NULL);
    struct qidmap_error error;
    int round, refused = 0, whole = 0;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        qidmap_store *store;
        uint64_t path, i;

        if (qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, NULL) != 0)
            _exit(1);
        for (i = 0;; i++) {
            if (qidmap_map(store, 1, UINT64_C(50) << 58 | i * 7919 % 1000003, &path) != 0)
                _exit(1);
        }
    }
    for (round = 0; round < 20; round++) {
        qidmap_store *store = NULL;
        g_autofree char *good = NULL;
        gsize size;
        int e;

        g_usleep(3000);
        /* a file that the writer renames meanwhile may be missing */
        shell("cp -r %s %s 2>/dev/null || :; chmod -R go-w %s", f->dir, there, there);
        if (round % 2) { /* and one block of another instant */
            g_assert_true(g_file_get_contents(data, &good, &size, NULL));
            memset(good + 4096 * (3 + (gsize)round % 8), round, 4096);
            g_assert_true(g_file_set_contents(data, good, (gssize)size, NULL));
        }
        e = qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, &error);
        if (e == 0) {
            check(f, store);
            whole++;
        } else {
            g_assert_cmpint(e, ==, -EUCLEAN);
            refused++;
        }
        qidmap_store_close(store);
        fixture_remove(there);
    }
    end(pid);
    g_test_message("of copies made while it was written %d were whole, %d refused", whole, refused);
}

/* A dump is written at a clean stop, where something changed; a store of another LMDB names it. */
static void test_dump(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *dump = g_build_filename(f->dir, "dump.jsonl", NULL);
    g_autofree char *first = NULL, *second = NULL, *third = NULL;
    struct qidmap_error error;
    qidmap_store *store;
    uint64_t path;
    size_t i;

    g_assert_true(g_file_get_contents(dump, &first, NULL, NULL));
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    qidmap_store_close(store);
    g_assert_true(g_file_get_contents(dump, &second, NULL, NULL));
    g_assert_cmpstr(first, ==, second);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpint(qidmap_map(store, 1, UINT64_C(62) << 58 | 5, &path), ==, 0);
    qidmap_store_close(store);
    g_assert_true(g_file_get_contents(dump, &third, NULL, NULL));
    g_assert_cmpstr(first, !=, third);
    for (i = 0; i < KEYS; i++) { /* every row of the full map */
        g_autofree char *id = g_strdup_printf("\"%" G_GUINT64_FORMAT "\"", f->paths[i]);

        g_assert_true(!(f->paths[i] & 1) || strstr(third, id));
    }
    /* data version 2, in both meta pages */
    shell("cd %s; for at in 20 4116; do printf '\\002' | dd of=gen.1/data.mdb bs=1 seek=$at "
          "conv=notrunc 2>/dev/null; done",
          f->dir);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                    -EPROTO);
    g_assert_nonnull(strstr(error.text, dump));
}

/* ---- generations ----------------------------------------------------------------------------- */

static char *current(const struct fixture *f)
{
    g_autofree char *file = g_build_filename(f->dir, "current", NULL);
    char *text;

    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    return g_strchomp(text);
}

/* Makes the store go to a new generation, as after a failed commit. */
static void switch_generation(struct qidmap_store *store, uint64_t ino)
{
    uint64_t path;

    atomic_store(&store->broken, -EIO);
    g_assert_cmpint(qidmap_map(store, 1, ino, &path), ==, 0);
    g_assert_cmpint(qidmap_store_health(store, NULL), ==, 0);
}

static void test_switch(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *second = g_build_filename(f->dir, "gen.2", NULL);
    qidmap_store *store;
    g_autofree char *name = NULL;
    pid_t reader = writer(f, QIDMAP_OPEN_READ, 0);

    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    switch_generation(store, UINT64_C(20) << 58);
    name = current(f);
    g_assert_cmpstr(name, ==, "gen.2");
    check(f, store);
    g_assert_true(g_file_test(f->gen, G_FILE_TEST_EXISTS)); /* somebody reads it */
    switch_generation(store, UINT64_C(21) << 58);
    g_assert_false(g_file_test(second, G_FILE_TEST_EXISTS)); /* nobody did */
    g_assert_true(g_file_test(f->gen, G_FILE_TEST_EXISTS));
    end(reader);
    switch_generation(store, UINT64_C(22) << 58);
    g_assert_false(g_file_test(f->gen, G_FILE_TEST_EXISTS));
    check(f, store);
    qidmap_store_close(store);
    store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    check(f, store);
    qidmap_store_close(store);
}

/* A reader that had opened before goes on with the old generation, in its own process. */
static void test_reader_switch(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    qidmap_store *store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    struct qidmap_row row;
    qidmap_iter *iter;
    int status, rows = 0;
    pid_t pid;

    g_assert_cmpint(qidmap_iter_open(store, &iter, NULL), ==, 0);
    g_assert_cmpint(qidmap_iter_next(iter, &row, NULL), ==, 1);
    pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "unit-lmdb-open", "--switch", f->uri, NULL);
        _exit(127);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check(f, store);
    while (qidmap_iter_next(iter, &row, NULL) == 1)
        rows++;
    g_assert_cmpint(rows, >, KEYS / 2);
    qidmap_iter_close(iter);
    qidmap_store_close(store);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0); /* takes the old one away */
    g_assert_false(g_file_test(f->gen, G_FILE_TEST_EXISTS));
    check(f, store);
    qidmap_store_close(store);
}

static int run_switch(const char *uri)
{
    qidmap_store *store;
    uint64_t path, i;

    if (qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, NULL) != 0)
        return 1;
    for (i = 0; i < 3; i++) {
        atomic_store(&store->broken, -EIO);
        if (qidmap_map(store, 1, (30 + i) << 58, &path) != 0)
            return 1;
    }
    qidmap_store_close(store);
    return 0;
}

/* `current` names an older generation again, which a reader had kept. */
static void test_set_back(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    qidmap_store *store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    struct qidmap_stats s;
    uint64_t path;
    int fd;

    shell("cd %s; cp -a gen.1 kept", f->dir);
    switch_generation(store, UINT64_C(23) << 58);
    g_assert_cmpint(qidmap_map(store, 1, UINT64_C(24) << 58, &path), ==, 0);
    qidmap_store_close(store);
    shell("cd %s; mv kept gen.1; echo gen.1 >current", f->dir);
    /* the origin of a generation that was never away */
    fd = open(f->gen, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(qm_lmdb_origin_write(fd, FALSE, 1), ==, 0);
    close(fd);
    s = before(f);
    g_assert_cmpuint(leapt(f, &s), >=, UINT64_C(1) << 32);
    s = before(f);
    g_assert_cmpuint(leapt(f, &s), ==, 0);
}

/* What a switch leaves that was cut short: taken away by the next writer, and by no reader. */
static void test_leftovers(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *half = g_build_filename(f->dir, "gen.2", NULL);
    g_autofree char *whole = g_build_filename(f->dir, "gen.7", NULL);
    g_autofree char *other = g_build_filename(f->dir, "gen.3", NULL);
    g_autofree char *name = NULL;
    qidmap_store *store;

    shell("cd %s; mkdir -m 700 gen.2 gen.3; echo half >gen.2/data.mdb; cp -a gen.1 gen.7; "
          "echo mine >gen.3/thesis.txt; echo gen.7 >current.new",
          f->dir);
    store = fixture_open(f->uri, QIDMAP_OPEN_READ, 0);
    check(f, store);
    qidmap_store_close(store);
    g_assert_true(g_file_test(half, G_FILE_TEST_EXISTS));
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    check(f, store);
    g_assert_false(g_file_test(half, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(whole, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(other, G_FILE_TEST_EXISTS)); /* not ours */
    switch_generation(store, UINT64_C(23) << 58);
    name = current(f);
    g_assert_cmpstr(name, ==, "gen.4");
    qidmap_store_close(store);
}

/* ---- rights, owners, links ------------------------------------------------------------------- */

static void refused(const struct fixture *f, int code, const char *word)
{
    struct qidmap_error error = {0, ""};
    qidmap_store *store = NULL;
    unsigned flags;

    for (flags = 0; flags < 2; flags++) {
        int e = qidmap_store_open(f->uri, flags, NULL, &store, &error);

        if (e != code)
            g_error("%s: %d, %s", word, e, error.text);
        if (!strstr(error.text, word))
            g_error("no %s in: %s", word, error.text);
    }
}

static void test_rights(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const parts[] = {
        ".", "current", "lock", "gen.1", "gen.1/data.mdb", "gen.1/lock.mdb", "gen.1/origin"};
    static const char *const rights[] = {"g+w", "o+w"};
    qidmap_store *store;
    size_t i, j;

    for (i = 0; i < G_N_ELEMENTS(parts); i++) {
        for (j = 0; j < G_N_ELEMENTS(rights); j++) {
            shell("cd %s; chmod %s %s", f->dir, rights[j], parts[i]);
            refused(f, -EPERM, "chmod");
            shell("cd %s; chmod go-w %s", f->dir, parts[i]);
        }
        if (geteuid() == 0) {
            shell("cd %s; chown 12345 %s", f->dir, parts[i]);
            if (i != 0)
                refused(f, -EPERM, "chown");
            shell("cd %s; chown 0 %s", f->dir, parts[i]);
        }
        if (i != 0) {
            shell("cd %s; mv %s %s/moved; ln -s %s/moved %s", f->dir, parts[i], f->top, f->top,
                  parts[i]);
            refused(f, -EPERM, "link");
            shell("cd %s; rm %s; mv %s/moved %s", f->dir, parts[i], f->top, parts[i]);
        }
        if (i != 0 && i != 3) {
            shell("cd %s; ln %s %s/second", f->dir, parts[i], f->top);
            refused(f, -EPERM, "link");
            shell("rm %s/second", f->top);
        }
    }
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    check(f, store);
    qidmap_store_close(store);
}

static void test_current(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const texts[] = {"",
                                        "gen.1",
                                        "gen.1\\n\\n",
                                        "gen.0\\n",
                                        "gen.01\\n",
                                        "gen.-1\\n",
                                        "gen.2\\n",
                                        "gen.1/\\n",
                                        "../store/gen.1\\n",
                                        "gen.1\\0\\n",
                                        "gen.99999999999999999999\\n",
                                        "gen.1 \\n"};
    qidmap_store *store;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(texts); i++) {
        shell("printf '%s' >%s/current", texts[i], f->dir);
        refused(f, -EUCLEAN, "current");
    }
    shell("head -c 100000 /dev/urandom >%s/current", f->dir);
    refused(f, -EUCLEAN, "current");
    shell("rm %s/current; mkfifo -m 600 %s/current", f->dir, f->dir);
    refused(f, -EPERM, "current");
    shell("rm %s/current; echo gen.1 >%s/current", f->dir, f->dir);
    store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    check(f, store);
    qidmap_store_close(store);
}

static void add(const char *name, void (*test)(struct fixture *, gconstpointer))
{
    g_test_add(name, struct fixture, NULL, setup, test, teardown);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--switch") == 0)
        return run_switch(argv[2]);
    umask(022);
    g_test_init(&argc, &argv, NULL);
    add("/lmdb-open/clean", test_clean);
    add("/lmdb-open/copies", test_copies);
    add("/lmdb-open/backup", test_backup);
    add("/lmdb-open/older-in-place", test_older_in_place);
    add("/lmdb-open/load-over-copy", test_load_over_copy);
    add("/lmdb-open/rot", test_rot);
    add("/lmdb-open/lock-file", test_lock_file);
    add("/lmdb-open/live-copy", test_live_copy);
    add("/lmdb-open/dump", test_dump);
    add("/lmdb-open/switch", test_switch);
    add("/lmdb-open/reader-switch", test_reader_switch);
    add("/lmdb-open/set-back", test_set_back);
    add("/lmdb-open/leftovers", test_leftovers);
    add("/lmdb-open/rights", test_rights);
    add("/lmdb-open/current", test_current);
    return g_test_run();
}
