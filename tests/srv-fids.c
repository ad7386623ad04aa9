/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a session may have far more fids than the daemon may have descriptors, and no client can
 * tell, nor others beside it: however many fids, open files, connections, files without a name and
 * requests at once there are; nor does a filesystem that does not answer hold up the others.
 *
 * Files are found again by handle, and, in the tests whose names end in "by-name", by place: there
 * the daemon is without CAP_DAC_READ_SEARCH. QIDMAP_FIDS_COUNT (40,000), QIDMAP_FIDS_ROUNDS (4,000)
 * and QIDMAP_FIDS_SEED may be set. srv-fids-names.c has what happens to the names, srv-fids-model.c
 * all of it at random.
 */
#include "config.h"

#include "tests/lib/fids.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 64

/* Walks to files 0..n-1 of fill() with fids from `first` on, in batches; notes the qids. */
static void walk_all(struct client *c, guint32 first, guint n, guint files, guint64 *paths)
{
    for (guint at = 0; at < n; at += BATCH) {
        int tags[BATCH];
        guint m = MIN(BATCH, n - at);

        for (guint i = 0; i < m; i++) {
            guint k = (at + i) % files;
            g_autofree char *dir = g_strdup_printf("d%u", k / 100);
            g_autofree char *name = g_strdup_printf("f%u", k);
            const char *names[] = {dir, name, NULL};

            tags[i] = client_post(c, TWALK, "ddL", ROOT_FID, first + at + i, names);
        }
        for (guint i = 0; i < m; i++) {
            struct client_qid qids[16];
            guint count = 0;

            g_assert_cmpint(client_wait(c, tags[i], TWALK + 1, "A", &count, qids), ==, 0);
            g_assert_cmpuint(count, ==, 2);
            paths[at + i] = qids[1].path;
        }
    }
}

static void check_all(struct client *c, guint32 first, guint n, const guint64 *paths)
{
    for (guint at = 0; at < n; at += BATCH) {
        int tags[BATCH];
        guint m = MIN(BATCH, n - at);

        for (guint i = 0; i < m; i++)
            tags[i] = client_post(c, TGETATTR, "dq", first + at + i, (guint64)GETATTR_BASIC);
        for (guint i = 0; i < m; i++) {
            guint64 path;

            g_assert_cmpint(wait_attr(c, tags[i], &path), ==, 0);
            g_assert_cmpuint(path, ==, paths[at + i]);
        }
    }
}

static void fill(struct server *s, guint files)
{
    for (guint k = 0; k < files; k++) {
        g_autofree char *dir = g_strdup_printf("d%u", k / 100);
        g_autofree char *name = g_strdup_printf("d%u/f%u", k / 100, k);

        if (k % 100 == 0)
            make_dir(s, dir);
        make_file(s, name, "x");
    }
}

/* Limits this process, and so the daemons that it starts. */
static void few_descriptors(void)
{
    struct rlimit limit = {1024, 1024};

    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
}

/* 40,000 fids of two sessions on 5,000 files, with 1,024 descriptors; QIDMAP_FIDS_COUNT: 200,000 in
 * `quickstart check --long`. */
static void many(gconstpointer data)
{
    guint n = number("QIDMAP_FIDS_COUNT", 40000) / 2, files = 5000;
    g_autofree guint64 *a = g_new(guint64, n), *b = g_new(guint64, n);
    struct client *one, *two;
    struct server *s;

    by_name(data != NULL);
    few_descriptors();
    s = start(0);
    fill(s, files);
    one = server_client(s);
    two = server_client(s);
    walk_all(one, 100, n, files, a);
    walk_all(two, 100, n, files, b);
    check_all(one, 100, n, a);
    check_all(two, 100, n, b);
    for (guint i = 0; i < MIN(n, files); i++) {
        g_assert_cmpuint(a[i], ==, b[i]);
        g_assert_true(i == 0 || a[i] != a[i - 1]);
    }
    g_assert_cmpuint(descriptors(s), <, 1024);
    /* a third one finds the server as usual, and what goes is given back */
    client_close(one);
    g_assert_cmpint(client_clunk(two, 100), ==, 0);
    one = server_client(s);
    walk_all(one, 100, MIN(n, 1000), files, a);
    client_close(one);
    client_close(two);
    stop(s);
}

/* The limit is of open files, too: those are refused beyond it, and all else goes on. */
static void open_too_many(gconstpointer data)
{
    struct server *s;
    struct client *c, *other;
    guint opened = 0;
    guint32 fid;
    int rc = 0;

    (void)data;
    few_descriptors();
    s = start(0);
    make_file(s, "file", "text");
    c = server_client(s);
    for (guint i = 0; i < 1100 && rc == 0; i++) {
        fid = walk_new(c, "file");
        rc = client_lopen(c, fid, L_RDONLY, NULL);
        opened += rc == 0;
    }
    g_assert_true(rc == EMFILE || rc == ENFILE);
    g_assert_cmpuint(opened, >, 200);
    g_assert_cmpuint(descriptors(s), <, 1024);
    other = server_client(s);
    g_assert_cmpint(
        client_getattr(other, walk_new(other, "file"), GETATTR_BASIC, &(struct client_attr){0}), ==,
        0);
    client_close(c);
    stop(s);
    client_close(other);
}

/* Connections need descriptors as well: fids give theirs up for them. */
static void many_connections(gconstpointer data)
{
    enum { N = 150 };
    struct client *c[N], *busy;
    g_autofree guint64 *paths = g_new(guint64, 3000);
    struct server *s;

    (void)data;
    few_descriptors();
    s = start(900);
    fill(s, 1000);
    busy = server_client(s);
    walk_all(busy, 100, 3000, 1000, paths);
    for (guint i = 0; i < N; i++)
        c[i] = server_client(s);
    check_all(busy, 100, 3000, paths);
    for (guint i = 0; i < N; i++)
        client_close(c[i]);
    client_close(busy);
    stop(s);
}

/* A client that keeps ever more files without names is bounded, and others are served. */
static void nameless(gconstpointer data)
{
    struct server *s;
    struct client *c, *other;
    struct client_attr attr;
    enum { N = 1500 };
    guint stale = 0, good = 0;
    guint32 fids[N];

    (void)data;
    few_descriptors();
    s = start(0);
    c = server_client(s);
    other = server_client(s);
    for (guint i = 0; i < N; i++) {
        make_file(s, "file", "text");
        fids[i] = walk_new(c, "file");
        g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0), ==, 0);
    }
    g_assert_cmpuint(descriptors(s), <, 1024);
    for (guint i = 0; i < N; i++) {
        int rc = client_getattr(c, fids[i], GETATTR_BASIC, &attr);

        good += rc == 0;
        stale += rc == ESTALE;
    }
    g_test_message("%u good, %u stale", good, stale);
    g_assert_cmpuint(good + stale, ==, N);
    g_assert_cmpuint(good, >=, 80);
    make_file(s, "file", "text");
    g_assert_cmpint(client_getattr(other, walk_new(other, "file"), GETATTR_BASIC, &attr), ==, 0);
    client_close(c);
    client_close(other);
    stop(s);
}

/* ---- a filesystem that does not answer ------------------------------------------------------ */

/* The main thread has left. */
static gboolean has_ended(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *text = NULL;

    return !g_file_get_contents(path, &text, NULL, NULL) || strstr(text, ") Z") != NULL;
}

/* A filesystem that does not answer holds up those who ask for its files, and nobody else: neither
 * other sessions, nor other requests of the same one, nor the closing of descriptors, nor the end
 * of the daemon. */
static void dead_mount(gconstpointer data)
{
    struct server *s;
    struct client *c, *other;
    struct client_attr attr;
    g_autofree char *source = NULL, *mount = NULL;
    const char *argv[] = {"bindfs", "-f", NULL, NULL, NULL};
    struct stat before, after;
    guint32 lost[8];
    GPid pid = 0;
    int open, get;

    (void)data;
    if (g_getenv("QIDMAP_FIDS_MOUNT") == NULL) {
        g_test_skip("mounts something: set QIDMAP_FIDS_MOUNT in a mount namespace of its own");
        return;
    }
    s = start_with_others();
    make_dir(s, "fuse");
    mount = server_path(s, "fuse");
    source = g_build_filename(s->tmp, "source", NULL);
    g_assert_cmpint(g_mkdir(source, 0755), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(lost); i++) {
        g_autofree char *path = g_strdup_printf("%s/f%u", source, i);
        g_assert_true(g_file_set_contents(path, "text", 4, NULL));
    }
    argv[2] = source;
    argv[3] = mount;
    g_assert_cmpint(stat(mount, &before), ==, 0);
    g_assert_true(g_spawn_async(NULL, (char **)argv, NULL,
                                G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid,
                                NULL));
    do {
        g_usleep(20000);
        g_assert_cmpint(stat(mount, &after), ==, 0);
    } while (before.st_dev == after.st_dev);
    c = server_client(s);
    other = server_client(s);
    for (guint i = 0; i < G_N_ELEMENTS(lost); i++) {
        g_autofree char *name = g_strdup_printf("fuse/f%u", i);
        lost[i] = walk_new(c, name);
        if (i == 3)
            push_out(c); /* half of them are closed, half are to be */
    }
    g_assert_cmpint(kill(pid, SIGSTOP), ==, 0);
    g_usleep(1200 * 1000); /* what the kernel knows of it becomes old */
    get = client_post(c, TGETATTR, "dq", lost[0], (guint64)GETATTR_BASIC);
    open = client_post(c, TLOPEN, "dd", lost[7], 0u);
    push_out(c);
    push_out(other);
    g_assert_cmpint(client_getattr(other, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
    kill(pid, SIGCONT);
    g_assert_cmpint(wait_attr(c, get, &attr.qid.path), ==, 0);
    {
        struct client_qid qid;
        guint32 iounit;

        g_assert_cmpint(client_wait(c, open, TLOPEN + 1, "Qd", &qid, &iounit), ==, 0);
    }
    push_out(c);
    kill(pid, SIGSTOP);
    g_usleep(1200 * 1000);
    client_post(c, TGETATTR, "dq", lost[1], (guint64)GETATTR_BASIC);
    push_out(other);
    kill(s->pid, SIGTERM);
    /* The kernel lets the thread that waits for FUSE go no sooner than that answers. */
    while (!has_ended(s->pid))
        g_usleep(20000);
    kill(pid, SIGCONT);
    g_assert_cmpint(WEXITSTATUS(server_wait(s)), ==, 1); /* not in good order, but it ends */
    client_close(c);
    client_close(other);
    kill(pid, SIGKILL);
    g_assert_cmpint(umount2(mount, MNT_DETACH), ==, 0);
    waitpid(pid, NULL, 0);
    server_free(s);
}

/* ---- requests in parallel -------------------------------------------------------------------- */

struct racer {
    struct server *s;
    guint seed, rounds;
};

/* Four clients do this at once in the same directory: every fid answers with its own qid, and is
 * never stale, as all that happens to the names goes through the server. */
static gpointer race(gpointer data)
{
    enum { FIDS = 24 };
    const struct racer *racer = data;
    GRand *rand = g_rand_new_with_seed(racer->seed);
    struct client *c = server_client(racer->s);
    guint64 paths[FIDS] = {0};

    for (guint i = 0; i < racer->rounds; i++) {
        guint k = g_rand_int_range(rand, 0, FIDS);
        guint32 fid = 100 + k;
        g_autofree char *name = g_strdup_printf("r%d", g_rand_int_range(rand, 0, 12));
        g_autofree char *to = g_strdup_printf("r%d", g_rand_int_range(rand, 0, 12));
        const char *names[] = {name, NULL};
        struct client_qid qids[16];
        guint n = 0;
        int rc = 0, tags[8];

        switch (g_rand_int_range(rand, 0, 8)) {
        case 0:
        case 1:
            if (paths[k] != 0)
                g_assert_cmpint(client_clunk(c, fid), ==, 0);
            paths[k] = 0;
            rc = client_walk(c, ROOT_FID, fid, names, &n, qids);
            if (rc == 0)
                paths[k] = qids[0].path;
            break;
        case 2:
            g_assert_cmpint(client_walk(c, ROOT_FID, 99, NULL, &n, qids), ==, 0);
            rc = client_lcreate(c, 99, name, L_RDWR, 0644, NULL);
            g_assert_cmpint(client_clunk(c, 99), ==, 0);
            break;
        case 3:
            rc = client_renameat(c, ROOT_FID, name, ROOT_FID, to);
            break;
        case 4:
            rc = client_unlinkat(c, ROOT_FID, name, 0);
            break;
        default:
            if (paths[k] == 0)
                break;
            /* several at one fid at once */
            for (guint j = 0; j < G_N_ELEMENTS(tags); j++)
                tags[j] = client_post(c, TGETATTR, "dq", fid, (guint64)GETATTR_BASIC);
            for (guint j = 0; j < G_N_ELEMENTS(tags); j++) {
                guint64 path;

                g_assert_cmpint(wait_attr(c, tags[j], &path), ==, 0);
                g_assert_cmpuint(path, ==, paths[k]);
            }
        }
        g_assert_true(rc == 0 || rc == ENOENT);
    }
    client_close(c);
    g_rand_free(rand);
    return NULL;
}

static void races(gconstpointer data)
{
    struct racer racers[4];
    GThread *threads[4];
    struct server *s;

    by_name(data != NULL);
    s = start(6);
    for (guint i = 0; i < 4; i++) {
        racers[i] = (struct racer){s, number("QIDMAP_FIDS_SEED", 1) + i,
                                   number("QIDMAP_FIDS_ROUNDS", 4000) / 2};
        threads[i] = g_thread_new("race", race, &racers[i]);
    }
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    stop(s);
}

int main(int argc, char **argv)
{
    static const struct fids_test tests[] = {
        {"/fids/races", races, TRUE},
        {"/fids/many", many, TRUE},
        {"/fids/open-too-many", open_too_many, FALSE},
        {"/fids/many-connections", many_connections, FALSE},
        {"/fids/nameless", nameless, FALSE},
        {"/fids/dead-mount", dead_mount, FALSE},
    };

    return run_fids_tests(&argc, &argv, tests, G_N_ELEMENTS(tests));
}
