/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: damage that comes to a store while it is open is reported where it is met, ends new
 * mappings, and takes no known id with it that does not need the damaged bytes; a file that is cut
 * off, removed or replaced below a running process is an error and not a signal, and nothing goes
 * into a file that nobody will read again. Readers come and go, also by kill -9, and leave nothing
 * behind that would hold up the writer or another reader.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

#define KEYS 500u

struct fixture {
    char *top, *dir, *uri, *data;
    uint64_t paths[KEYS];
    qidmap_store *store; /* open for writing, or NULL */
};

/* Inode i: the first ones under one entry, from FULL on in the full map. */
#define FULL 10u

static uint64_t ino_of(uint64_t i)
{
    return i < FULL ? i + 1 : (uint64_t)(i % 60 + 3) << 58 | 2 * i;
}

static void setup(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t i;

    f->top = fixture_fast_dir();
    f->dir = g_build_filename(f->top, "store", NULL);
    f->uri = g_strconcat("lmdb:", f->dir, NULL);
    f->data = g_build_filename(f->dir, "gen.1", "data.mdb", NULL);
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 1);
    fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < KEYS; i++)
        g_assert_cmpint(qidmap_map(f->store, 1, ino_of(i), &f->paths[i]), ==, 0);
}

static void teardown(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    qidmap_store_close(f->store);
    fixture_remove(f->top);
    g_free(f->data);
    g_free(f->uri);
    g_free(f->dir);
    g_free(f->top);
}

/* Looks up all; those that are not found are damaged. How many those are. */
static unsigned lost(const struct fixture *f, unsigned from)
{
    unsigned n = 0, i;
    uint64_t path;

    for (i = from; i < KEYS; i++) {
        int e = qidmap_find(f->store, 1, ino_of(i), &path);

        if (e == 0)
            g_assert_cmpuint(path, ==, f->paths[i]);
        else
            g_assert_cmpint(e, ==, -EUCLEAN);
        n += e != 0;
    }
    return n;
}

static void nothing_new(const struct fixture *f)
{
    struct qidmap_error error = {0, ""};
    uint64_t path;
    unsigned i;

    g_assert_cmpint(qidmap_map(f->store, 1, UINT64_C(63) << 58 | 1, &path), ==, -EUCLEAN);
    g_assert_cmpint(qidmap_store_health(f->store, &error), ==, -EUCLEAN);
    g_assert_nonnull(strstr(error.text, "restore"));
    for (i = 0; i < FULL; i++) { /* what needs no file */
        g_assert_cmpint(qidmap_map(f->store, 1, ino_of(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->paths[i]);
    }
}

/* A new handle does not serve it. */
static void refused(struct fixture *f)
{
    struct qidmap_error error;
    qidmap_store *store;

    qidmap_store_close(f->store);
    f->store = NULL;
    g_assert_cmpint(qidmap_store_open(f->uri, FIXTURE_WRITE, NULL, &store, &error), ==, -EUCLEAN);
    g_assert_cmpint(qidmap_store_open(f->uri, QIDMAP_OPEN_READ, NULL, &store, &error), ==,
                    -EUCLEAN);
}

/* Changes one bit of each copy of the row of inode i in `full` (CoW leaves old ones). */
static void flip_row(const struct fixture *f, unsigned i)
{
    g_autofree char *all = NULL;
    uint8_t key[13] = {0, 0, 0, 1, 0};
    uint64_t ino = ino_of(i);
    int fd = open(f->data, O_WRONLY | O_CLOEXEC), found = 0;
    gsize size, at;
    int b;

    for (b = 0; b < 8; b++)
        key[5 + b] = (uint8_t)(ino >> (56 - 8 * b));
    g_assert_true(g_file_get_contents(f->data, &all, &size, NULL));
    for (at = 0; at + 32 < size; at++) {
        uint64_t id;

        memcpy(&id, all + at + 13, 8);
        if (memcmp(all + at, key, sizeof(key)) != 0 || GUINT64_FROM_LE(id) != f->paths[i])
            continue;
        all[at + 14] ^= 4; /* the id */
        g_assert_cmpint(pwrite(fd, all + at + 14, 1, (off_t)at + 14), ==, 1);
        found++;
    }
    close(fd);
    g_assert_cmpint(found, >, 0);
}

static void test_row(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    flip_row(f, 77);
    g_assert_cmpuint(lost(f, FULL), ==, 1);
    nothing_new(f);
    g_assert_cmpuint(lost(f, 0), ==, 1);
    refused(f);
}

/* The row is damaged beside which a new one would stand: both sides. */
static void test_neighbours(struct fixture *f, gconstpointer side)
{
    uint64_t path;
    unsigned i = 77;

    flip_row(f, i);
    g_assert_cmpint(
        qidmap_find(f->store, 1, ino_of(i) + (strcmp(side, "after") == 0 ? 1 : -1ull), &path), ==,
        -ENOENT);
    g_assert_cmpint(qidmap_store_health(f->store, NULL), ==, 0); /* not met yet */
    g_assert_cmpint(
        qidmap_map(f->store, 1, ino_of(i) + (strcmp(side, "after") == 0 ? 1 : -1ull), &path), ==,
        -EUCLEAN);
    nothing_new(f);
    g_assert_cmpuint(lost(f, 0), ==, 1);
    refused(f);
}

static void test_cut(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct stat st;
    qidmap_iter *iter;

    g_assert_cmpint(stat(f->data, &st), ==, 0);
    g_assert_cmpint(truncate(f->data, 3 * 4096), ==, 0);
    g_assert_cmpuint(lost(f, FULL), ==, KEYS - FULL);
    g_assert_cmpuint(lost(f, 0), ==, KEYS - FULL);
    g_assert_cmpint(qidmap_iter_open(f->store, &iter, NULL), ==, -EUCLEAN);
    nothing_new(f);
    refused(f);
}

/* Removed, or replaced by a restored one, while it is open. */
static void test_gone(struct fixture *f, gconstpointer how)
{
    g_autofree char *away = g_build_filename(f->top, "away", NULL);
    g_autofree char *all = NULL;
    gsize size;

    if (strcmp(how, "removed") == 0) {
        g_assert_cmpint(g_rename(f->data, away), ==, 0);
    } else {
        g_assert_true(g_file_get_contents(f->data, &all, &size, NULL));
        g_assert_true(g_file_set_contents(f->data, all, (gssize)size, NULL));
    }
    g_assert_cmpuint(lost(f, 0), ==, 0); /* what is open can be read */
    nothing_new(f);
    g_assert_cmpuint(lost(f, 0), ==, 0);
}

/* ---- readers --------------------------------------------------------------------------------- */

/* A child that opens for reading; *result: what that gave. It waits for its end. */
static pid_t reader(const struct fixture *f, int *result)
{
    int to[2];
    pid_t pid;

    g_assert_cmpint(pipe(to), ==, 0);
    pid = fork();
    if (pid == 0) {
        /* A child of a process that has the store open: its table of open stores is a copy. */
        g_autofree char *fd = g_strdup_printf("%d", to[1]);

        close(to[0]);
        execl("/proc/self/exe", "unit-lmdb-damage", "--reader", f->uri, fd, NULL);
        _exit(127);
    }
    close(to[1]);
    g_assert_cmpint(read(to[0], result, sizeof(*result)), ==, sizeof(*result));
    close(to[0]);
    return pid;
}

static int run_reader(const char *uri, int fd)
{
    qidmap_store *store = NULL;
    struct qidmap_error error;
    int e = qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, &error);

    if (write(fd, &e, sizeof(e)) != sizeof(e))
        return 1;
    for (;;)
        pause();
}

static void end(pid_t pid)
{
    int status;

    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
}

static uint64_t used(qidmap_store *store)
{
    struct qidmap_stats s = {.size = sizeof(s)};

    g_assert_cmpint(qidmap_store_stats(store, &s, NULL), ==, 0);
    return s.bytes_used;
}

static void work(const struct fixture *f, unsigned from, unsigned count)
{
    uint64_t path;
    unsigned i;

    for (i = from; i < from + count; i++)
        g_assert_cmpint(qidmap_map(f->store, 1, UINT64_C(40) << 58 | i, &path), ==, 0);
}

/* The pages that a killed reader held are used again. */
static void test_killed_reader(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    uint64_t alone, killed;
    int e;
    pid_t pid;

    work(f, 0, 1500);
    alone = used(f->store);
    pid = reader(f, &e);
    g_assert_cmpint(e, ==, 0);
    work(f, 1500, 10);
    end(pid);
    work(f, 1510, 1500);
    killed = used(f->store);
    g_test_message("%" G_GUINT64_FORMAT " bytes, after a reader was killed %" G_GUINT64_FORMAT,
                   alone, killed);
    /* Each commit copies about a dozen pages: if they could not be used again, the file would have
     * grown by 60 MiB. */
    g_assert_cmpuint(killed, <, 4 * alone + (8u << 20));
}

/* As many as there may be; one more is told to wait; all killed, everything is free again. */
static void test_many_readers(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GArray) pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
    struct rlimit limit;
    int e = 0;
    guint i;
    pid_t pid;

    if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur < 1000) {
        g_test_skip("not so many processes are allowed here");
        return;
    }
    for (i = 0; e == 0 && i < 300; i++) {
        pid = reader(f, &e);
        g_array_append_val(pids, pid);
    }
    g_assert_cmpint(e, ==, -EAGAIN);
    g_assert_cmpuint(pids->len, >, 200);
    g_assert_cmpuint(lost(f, 0), ==, 0); /* the writer has its own */
    work(f, 0, 3);
    for (i = 0; i < pids->len; i++)
        end(g_array_index(pids, pid_t, i));
    pid = reader(f, &e);
    g_assert_cmpint(e, ==, 0);
    end(pid);
    work(f, 3, 3);
}

/* A mount namespace of its own, from which nothing spreads. */
static int unshare_mounts(void)
{
    return unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0;
}

/* On a filesystem that is mounted read-only; a writer elsewhere keeps a reader out, and the other
 * way round. */
static void test_read_only(struct fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *there = g_build_filename(f->top, "ro", NULL);
    g_autofree char *uri = g_strconcat("lmdb:", there, NULL);
    struct qidmap_error error = {0, ""};
    qidmap_store *store = NULL;
    pid_t pid;
    int e, status;

    g_assert_cmpint(g_mkdir(there, 0700), ==, 0);
    qidmap_store_close(f->store);
    f->store = NULL;
    pid = fork();
    if (pid == 0) { /* mounts die with it */
        if (unshare_mounts() != 0 || mount(f->dir, there, NULL, MS_BIND, NULL) != 0 ||
            mount(NULL, there, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) != 0)
            _exit(77);
        if (qidmap_store_open(uri, FIXTURE_WRITE, NULL, &store, &error) != -EROFS)
            _exit(2);
        if (qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, &error) != 0)
            _exit(3);
        f->store = store;
        if (lost(f, 0) != 0)
            _exit(4);
        pid = fork(); /* nobody may write now */
        if (pid == 0) {
            execl("/proc/self/exe", "unit-lmdb-damage", "--write", f->uri, NULL);
            _exit(127);
        }
        if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != EBUSY)
            _exit(5);
        qidmap_store_close(store);
        store = NULL;
        if (qidmap_store_open(f->uri, QIDMAP_OPEN_WRITE, NULL, &store, &error) != 0)
            _exit(6);
        pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "unit-lmdb-damage", "--read", uri, NULL);
            _exit(127);
        }
        if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != EBUSY)
            _exit(7);
        qidmap_store_close(store);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    e = WEXITSTATUS(status);
    if (e == 77)
        g_test_skip("no mounts allowed");
    else
        g_assert_cmpint(e, ==, 0);
}

static void add(const char *name, void (*test)(struct fixture *, gconstpointer), gconstpointer data)
{
    g_test_add(name, struct fixture, data, setup, test, teardown);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--reader") == 0)
        return run_reader(argv[2], atoi(argv[3]));
    if (argc == 3 && (strcmp(argv[1], "--read") == 0 || strcmp(argv[1], "--write") == 0)) {
        qidmap_store *store = NULL;
        unsigned flags = strcmp(argv[1], "--write") == 0;
        int e = qidmap_store_open(argv[2], flags, NULL, &store, NULL);

        qidmap_store_close(store);
        return -e;
    }
    g_test_init(&argc, &argv, NULL);
    add("/lmdb-damage/row", test_row, NULL);
    add("/lmdb-damage/before", test_neighbours, "before");
    add("/lmdb-damage/after", test_neighbours, "after");
    add("/lmdb-damage/cut", test_cut, NULL);
    add("/lmdb-damage/removed", test_gone, "removed");
    add("/lmdb-damage/replaced", test_gone, "replaced");
    add("/lmdb-damage/killed-reader", test_killed_reader, NULL);
    add("/lmdb-damage/many-readers", test_many_readers, NULL);
    add("/lmdb-damage/read-only", test_read_only, NULL);
    return g_test_run();
}
