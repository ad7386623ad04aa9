/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a session may have far more fids than the daemon may have descriptors, and no client can
 * tell: each fid goes on to mean its own file, through renames by clients and by the host, and
 * after the last name is gone. What cannot be found again is ESTALE, and never another file.
 *
 * Found again by handle, and, in the tests whose names end in "by-name", by place: there the daemon
 * is without CAP_DAC_READ_SEARCH. TMPDIR decides which filesystem is tried (root-fids.sh tries
 * many). QIDMAP_FIDS_COUNT (40,000), QIDMAP_FIDS_ROUNDS (4,000) and QIDMAP_FIDS_SEED may be set.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 64

static guint number(const char *name, guint normally)
{
    const char *text = g_getenv(name);

    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : normally;
}

/* All daemons that are started from here on find files by place. */
static gboolean by_name(gboolean wanted)
{
    if (wanted)
        prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0);
    return wanted;
}

/* Whether files are found by handle here. */
static gboolean have_handles(struct server *s)
{
    struct statfs fs;
    /* ext, xfs, btrfs, tmpfs */
    static const guint32 local[] = {0xef53, 0x58465342, 0x9123683e, 0x01021994};

    if (geteuid() != 0 || prctl(PR_CAPBSET_READ, CAP_DAC_READ_SEARCH, 0, 0, 0) != 1 ||
        statfs(s->dir, &fs) != 0)
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(local); i++)
        if ((guint32)fs.f_type == local[i])
            return TRUE;
    return FALSE;
}

static struct server *start(guint descriptors)
{
    g_autofree char *n = g_strdup_printf("%u", descriptors);
    const char *extra[] = {"--descriptors", n, NULL};
    struct server *s = server_new("memory:", descriptors > 0 ? extra : NULL);

    g_assert_true(server_start(s));
    return s;
}

static void stop(struct server *s)
{
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static guint descriptors(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", s->pid);
    GDir *dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    if (dir == NULL)
        return 0;
    while (g_dir_read_name(dir) != NULL)
        count++;
    g_dir_close(dir);
    return count;
}

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

/* The reply to a Tgetattr: its error, or 0 and the qid path. */
static int wait_attr(struct client *c, int tag, guint64 *path)
{
    struct client_qid qid = {0};
    guint64 q[17];
    guint32 d[3];
    int rc = client_wait(c, tag, TGETATTR + 1, "qQdddqqqqqqqqqqqqqqq", &q[0], &qid, &d[0], &d[1],
                         &d[2], &q[1], &q[2], &q[3], &q[4], &q[5], &q[6], &q[7], &q[8], &q[9],
                         &q[10], &q[11], &q[12], &q[13], &q[14], &q[15]);

    *path = qid.path;
    return rc;
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

/* ---- the host behind our back ---------------------------------------------------------------- */

/* Makes the daemon close what `fid` had: with a budget of 4, others come in between. */
static void push_out(struct client *c)
{
    for (guint round = 0; round < 3; round++)
        for (guint i = 0; i < 20; i++) {
            g_autofree char *name = g_strdup_printf("other%u", i);
            guint32 fid = walk_new(c, name);

            g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &(struct client_attr){0}), ==, 0);
        }
}

static struct server *start_with_others(void)
{
    struct server *s = start(4);

    for (guint i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("other%u", i);
        make_file(s, name, "");
    }
    return s;
}

static void host_rename_path(struct server *s, const char *from, const char *to)
{
    g_autofree char *a = server_path(s, from), *b = server_path(s, to);

    g_assert_cmpint(g_rename(a, b), ==, 0);
}

static void host_remove(struct server *s, const char *name)
{
    g_autofree char *path = server_path(s, name);

    g_assert_cmpint(g_remove(path), ==, 0);
}

/* A file that the host removed, and made anew under its name, is stale, and never the new one. */
static void host_replaces(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;

    by_name(data != NULL);
    s = start_with_others();
    make_file(s, "file", "old");
    make_dir(s, "dir");
    c = server_client(s);
    for (guint i = 0; i < 20; i++) {
        guint32 fid = walk_new(c, "file"), dir = walk_new(c, "dir");
        int rc;

        push_out(c);
        host_remove(s, "file");
        host_remove(s, "dir");
        make_file(s, "file", "new");
        make_dir(s, "dir");
        rc = client_getattr(c, fid, GETATTR_BASIC, &attr);
        g_assert_cmpint(rc, ==, ESTALE);
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, ESTALE);
        g_assert_cmpint(client_getattr(c, dir, GETATTR_BASIC, &attr), ==, ESTALE);
        g_assert_cmpint(client_clunk(c, fid), ==, 0);
        g_assert_cmpint(client_remove(c, dir), ==, ESTALE);
        g_assert_cmpint(client_clunk(c, dir), ==, EBADF); /* Tremove ended it all the same */
    }
    client_close(c);
    stop(s);
}

static void host_renames(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr before, after;
    GByteArray *text = NULL;
    guint32 fid;
    gboolean handles;

    by_name(data != NULL);
    s = start_with_others();
    handles = have_handles(s);
    make_dir(s, "a");
    make_dir(s, "b");
    make_file(s, "a/file", "text");
    make_file(s, "a/decoy", "fake");
    c = server_client(s);
    fid = walk_new(c, "a/file");
    g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &before), ==, 0);
    push_out(c);
    /* within its directory, with another file in its place */
    host_rename_path(s, "a/file", "a/renamed");
    host_rename_path(s, "a/decoy", "a/file");
    g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &after), ==, 0);
    g_assert_cmpuint(before.qid.path, ==, after.qid.path);
    push_out(c);
    /* to another one: by handle it is found there, else it is lost */
    host_rename_path(s, "a/renamed", "b/file");
    if (handles) {
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
        g_assert_cmpint(client_read(c, fid, 0, 100, &text), ==, 0);
        g_assert_cmpuint(text->len, ==, 4);
        g_assert_cmpint(memcmp(text->data, "text", 4), ==, 0);
        g_byte_array_unref(text);
    } else
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, ESTALE);
    client_close(c);
    stop(s);
}

/* A file that was found by handle after the kernel forgot its name has none that the kernel knows;
 * it is renamed and removed all the same. */
static void forgotten_name(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;
    guint32 moved, removed;

    (void)data;
    if (g_getenv("QIDMAP_DROP_CACHES") == NULL) {
        g_test_skip("changes the caches of the whole machine: set QIDMAP_DROP_CACHES");
        return;
    }
    s = start_with_others();
    make_dir(s, "d");
    make_file(s, "d/moved", "m");
    make_file(s, "d/removed", "r");
    make_file(s, "d/other", "o");
    c = server_client(s);
    moved = walk_new(c, "d/moved");
    removed = walk_new(c, "d/removed");
    push_out(c);
    g_assert_cmpint(client_renameat(c, ROOT_FID, "d", ROOT_FID, "e"), ==, 0);
    host_rename_path(s, "e/removed", "e/hidden");
    host_rename_path(s, "e/other", "e/removed");
    sync();
    g_assert_true(g_file_set_contents("/proc/sys/vm/drop_caches", "2", 1, NULL) ||
                  system("echo 2 >/proc/sys/vm/drop_caches") == 0);
    g_assert_cmpint(client_getattr(c, moved, GETATTR_BASIC, &attr), ==, 0);
    push_out(c);
    g_assert_cmpint(client_rename(c, moved, ROOT_FID, "here"), ==, 0);
    g_assert_cmpint(client_getattr(c, walk_new(c, "here"), GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_remove(c, removed), ==, 0);
    g_assert_cmpint(client_getattr(c, walk_new(c, "e/removed"), GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_unlinkat(c, ROOT_FID, "e/hidden", 0), >, 0);
    client_close(c);
    stop(s);
}

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

/* ---- names that go --------------------------------------------------------------------------- */

/* Whoever removes or replaces the last name, by whatever message, the fids of all sessions go on.
 */
static void last_name(gconstpointer data)
{
    static const char *const ways[] = {"unlinkat", "remove", "renameat", "rename", "rmdir"};
    struct server *s;
    struct client *c, *other;

    by_name(data != NULL);
    s = start_with_others();
    c = server_client(s);
    other = server_client(s);
    for (guint way = 0; way < G_N_ELEMENTS(ways); way++) {
        gboolean dir = strcmp(ways[way], "rmdir") == 0;
        guint32 mine[40], theirs[40], fid;
        struct client_attr attr;
        guint64 path;

        if (dir)
            make_dir(s, "file");
        else
            make_file(s, "file", "text");
        make_file(s, "instead", "i");
        for (guint i = 0; i < 40; i++) {
            mine[i] = walk_new(c, "file");
            theirs[i] = walk_new(other, "file");
        }
        g_assert_cmpint(client_getattr(c, mine[0], GETATTR_BASIC, &attr), ==, 0);
        path = attr.qid.path;
        fid = walk_new(c, way == 3 ? "instead" : "file");
        push_out(c);
        push_out(other);
        push_out(c);
        switch (way) {
        case 0:
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0), ==, 0);
            break;
        case 1:
            g_assert_cmpint(client_remove(c, fid), ==, 0);
            break;
        case 2:
            g_assert_cmpint(client_renameat(c, ROOT_FID, "instead", ROOT_FID, "file"), ==, 0);
            break;
        case 3:
            g_assert_cmpint(client_rename(c, fid, ROOT_FID, "file"), ==, 0);
            break;
        default:
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0x200), ==, 0);
        }
        push_out(c);
        push_out(other);
        for (guint i = 0; i < 40; i++) {
            struct client *who = i % 2 ? c : other;
            guint32 f = i % 2 ? mine[i] : theirs[i];

            g_assert_cmpint(client_getattr(who, f, GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.qid.path, ==, path);
            if (!dir) {
                g_assert_cmpuint(attr.size, ==, 4);
                g_assert_cmpuint(attr.nlink, ==, 0);
            }
        }
        for (guint i = 0; i < 40; i++) {
            g_assert_cmpint(client_clunk(c, mine[i]), ==, 0);
            g_assert_cmpint(client_clunk(other, theirs[i]), ==, 0);
        }
        g_assert_true(way == 2 || way == 3 || client_unlinkat(c, ROOT_FID, "instead", 0) == 0);
        g_assert_true(way < 2 || way > 3 || client_unlinkat(c, ROOT_FID, "file", 0) == 0);
    }
    client_close(c);
    client_close(other);
    stop(s);
}

/* Clones take no descriptor of their own, and yet each lives, and is closed and found again, by
 * itself. */
static void clones(gconstpointer data)
{
    enum { N = 60, FIRST = 70000 };
    struct client_qid qids[16];
    struct client_attr attr;
    struct server *s;
    struct client *c;
    guint32 first, held;
    guint64 path;
    guint n;

    by_name(data != NULL);
    s = start_with_others();
    make_file(s, "file", "text");
    c = server_client(s);
    push_out(c);
    first = walk_new(c, "file");
    g_assert_cmpint(client_getattr(c, first, GETATTR_BASIC, &attr), ==, 0);
    path = attr.qid.path;
    held = descriptors(s);
    for (guint i = 0; i < N; i++)
        g_assert_cmpint(client_walk(c, i % 2 ? FIRST + i - 1 : first, FIRST + i, NULL, &n, qids),
                        ==, 0);
    g_assert_cmpuint(descriptors(s), <=, held);
    for (guint step = 0; step < 4; step++) {
        switch (step) {
        case 0: /* the one that it came from goes */
            g_assert_cmpint(client_clunk(c, first), ==, 0);
            break;
        case 1:
            g_assert_cmpint(client_lopen(c, FIRST, L_RDONLY, NULL), ==, 0);
            g_assert_cmpint(client_renameat(c, ROOT_FID, "file", ROOT_FID, "moved"), ==, 0);
            break;
        case 2:
            push_out(c);
            break;
        default:
            g_assert_cmpint(client_remove(c, FIRST + N - 1), ==, 0);
            make_file(s, "moved", "another");
            push_out(c);
        }
        for (guint i = 0; i < N - (step == 3); i++) {
            g_assert_cmpint(client_getattr(c, FIRST + i, GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.qid.path, ==, path);
            g_assert_cmpuint(attr.size, ==, 4);
            g_assert_cmpuint(attr.nlink, ==, step == 3 ? 0 : 1);
        }
    }
    client_close(c);
    stop(s);
}

/* A fid whose own name was removed does not act on another name of its file, however often its
 * descriptor was closed; and one whose name is there, on that one. */
static void own_name(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;

    by_name(data != NULL);
    s = start_with_others();
    make_dir(s, "far");
    c = server_client(s);
    for (guint way = 0; way < 8; way++) {
        const char *other = way & 1 ? "far/b" : "b";
        g_autofree char *a = server_path(s, "a"), *b = server_path(s, other);
        guint32 fid, stays;

        make_file(s, "a", "text");
        if (way & 2)
            g_assert_cmpint(link(a, b), ==, 0);
        fid = walk_new(c, "a");
        push_out(c);
        if (!(way & 2))
            g_assert_cmpint(link(a, b), ==, 0);
        stays = walk_new(c, other);
        push_out(c);
        g_assert_cmpint(client_unlinkat(c, ROOT_FID, "a", 0), ==, 0);
        if (way & 4)
            push_out(c);
        g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(attr.nlink, ==, 1);
        g_assert_cmpint(client_rename(c, fid, ROOT_FID, "c"), ==, ENOENT);
        g_assert_cmpint(client_remove(c, fid), ==, ENOENT);
        g_assert_cmpint(g_access(b, F_OK), ==, 0);
        g_assert_cmpint(client_remove(c, stays), ==, 0);
        g_assert_cmpint(g_access(b, F_OK), !=, 0);
    }
    client_close(c);
    stop(s);
}

/* Several exports, and subdirectories of one, show the same files: what one changes, the fids of
 * the others follow. */
static void several_exports(gconstpointer data)
{
    static const char *const anames[] = {"data/d", "data/d", "part"};
    const char *extra[] = {"--descriptors", "4", "--subdirs", "yes", NULL};
    struct server *s = server_new("memory:", extra);
    g_autofree char *part = server_path(s, "d"), *option = g_strdup_printf("part=%s", part);
    const char *all[] = {"--descriptors", "4", "--subdirs", "yes", "--export", option, NULL};
    struct client *c[3];
    guint32 fids[3];
    struct client_attr attr;

    by_name(data != NULL);
    g_strfreev(s->extra);
    s->extra = g_strdupv((char **)all);
    make_dir(s, "d");
    for (guint i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("d/other%u", i);

        make_file(s, name, "");
    }
    g_assert_true(server_start(s));
    for (guint who = 0; who < 3; who++) { /* each changes something in turn */
        make_dir(s, "d/sub");
        make_file(s, "d/sub/file", "text");
        for (guint i = 0; i < 3; i++) {
            c[i] = client_connect(s->addr);
            g_assert_cmpint(client_hello(c[i], 65536), ==, 0);
            g_assert_cmpint(client_attach(c[i], ROOT_FID, geteuid(), anames[i], NULL), ==, 0);
            fids[i] = walk_new(c[i], "sub/file");
            push_out(c[i]);
        }
        g_assert_cmpint(client_renameat(c[who], ROOT_FID, "sub", ROOT_FID, "moved"), ==, 0);
        for (guint i = 0; i < 3; i++) {
            g_assert_cmpint(client_getattr(c[i], fids[i], GETATTR_BASIC, &attr), ==, 0);
            push_out(c[i]);
        }
        g_assert_cmpint(client_unlinkat(c[who], walk_new(c[who], "moved"), "file", 0), ==, 0);
        for (guint i = 0; i < 3; i++) {
            g_assert_cmpint(client_getattr(c[i], fids[i], GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.nlink, ==, 0);
        }
        g_assert_cmpint(client_unlinkat(c[who], ROOT_FID, "moved", 0x200), ==, 0);
        for (guint i = 0; i < 3; i++)
            client_close(c[i]);
    }
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

/* ---- against a model ------------------------------------------------------------------------- */

/* The same operations on two servers with directories of their own: one that keeps a descriptor for
 * each fid is the model of one that has 8. */
#define NAMES 6
#define SLOTS 24

struct model {
    struct server *s[2];
    struct client *c[2][2];         /* of each server two */
    guint64 paths[2][SLOTS + 1][2]; /* client, fid, server */
    GRand *rand;
    guint round;
    guint good; /* answers that were no error */
    const char *what;
};

static void same(struct model *m, guint64 a, guint64 b, const char *of)
{
    if (a != b)
        g_error("round %u: %s: %s is %" G_GUINT64_FORMAT
                " with a descriptor for each fid, and %" G_GUINT64_FORMAT " with few",
                m->round, m->what, of, a, b);
}

/* Qid paths differ, as the files do; but a fid must have one and the same as long as it lives. */
static void same_qid(struct model *m, guint who, guint32 fid, const struct client_qid *a,
                     const struct client_qid *b)
{
    guint64 *paths = m->paths[who][fid >= 100 ? fid - 100 : SLOTS];

    same(m, a->type, b->type, "the type");
    for (guint i = 0; i < 2; i++) {
        const struct client_qid *qid = i == 0 ? a : b;

        if (paths[i] != 0)
            same(m, paths[i], qid->path, "the qid path of before and now");
        paths[i] = qid->path;
    }
}

static void forget_qid(struct model *m, guint who, guint32 fid)
{
    memset(m->paths[who][fid >= 100 ? fid - 100 : SLOTS], 0, 2 * sizeof(guint64));
}

static int pick(struct model *m, int n)
{
    return g_rand_int_range(m->rand, 0, n);
}

static char *a_name(struct model *m)
{
    return pick(m, 12) == 0 ? g_strdup("..") : g_strdup_printf("n%d", pick(m, NAMES));
}

static gint by_entry_name(gconstpointer a, gconstpointer b)
{
    const struct client_dirent *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* FUSE renames what is removed while it is in use, to names of its own counting. */
static void drop_hidden(GPtrArray *list)
{
    for (guint i = list->len; i > 0; i--) {
        const struct client_dirent *entry = list->pdata[i - 1];

        if (g_str_has_prefix(entry->name, ".fuse_hidden"))
            g_ptr_array_remove_index(list, i - 1);
    }
}

static void compare_listings(struct model *m, guint who, guint32 fid)
{
    GPtrArray *list[2] = {NULL, NULL};
    int rc[2];

    for (guint i = 0; i < 2; i++)
        rc[i] = client_readdir_all(m->c[i][who], fid, 4000, &list[i]);
    same(m, rc[0], rc[1], "the error");
    if (rc[0] == 0) {
        for (guint i = 0; i < 2; i++) {
            drop_hidden(list[i]);
            g_ptr_array_sort(list[i], by_entry_name);
        }
        same(m, list[0]->len, list[1]->len, "the number of entries");
        for (guint i = 0; i < list[0]->len; i++) {
            const struct client_dirent *a = list[0]->pdata[i], *b = list[1]->pdata[i];

            g_assert_cmpstr(a->name, ==, b->name);
            same(m, a->qid.type, b->qid.type, "the type of an entry");
        }
    }
    for (guint i = 0; i < 2; i++)
        if (list[i] != NULL)
            g_ptr_array_unref(list[i]);
}

static void compare_attrs(struct model *m, guint who, guint32 fid)
{
    struct client_attr a[2] = {{0}};
    int rc[2];

    for (guint i = 0; i < 2; i++)
        rc[i] = client_getattr(m->c[i][who], fid, GETATTR_BASIC, &a[i]);
    same(m, rc[0], rc[1], "the error");
    m->good += rc[0] == 0;
    if (rc[0] != 0)
        return;
    same_qid(m, who, fid, &a[0].qid, &a[1].qid);
    same(m, a[0].mode, a[1].mode, "the mode");
    same(m, a[0].nlink, a[1].nlink, "the number of links");
    if (!S_ISDIR(a[0].mode))
        same(m, a[0].size, a[1].size, "the size");
}

static void compare_texts(struct model *m, guint who, guint32 fid)
{
    GByteArray *text[2] = {NULL, NULL};
    int rc[2];

    for (guint i = 0; i < 2; i++)
        rc[i] = client_read(m->c[i][who], fid, 0, 1000, &text[i]);
    same(m, rc[0], rc[1], "the error");
    if (rc[0] == 0) {
        same(m, text[0]->len, text[1]->len, "the length");
        g_assert_cmpmem(text[0]->data, text[0]->len, text[1]->data, text[1]->len);
    }
    for (guint i = 0; i < 2; i++)
        if (text[i] != NULL)
            g_byte_array_unref(text[i]);
}

/* One operation whose whole answer is an error or none. */
static void compare_change(struct model *m, guint who, guint32 fid, guint32 other)
{
    g_autofree char *name = a_name(m), *name2 = a_name(m);
    g_autofree char *text = g_strdup_printf("text %u", m->round);
    struct client_attr attr = {.mode = 0700 | (guint32)pick(m, 64), .size = (guint64)pick(m, 50)};
    int what = pick(m, 17), rc[2] = {0, 0};
    guint32 written;

    for (guint i = 0; i < 2; i++) {
        struct client *c = m->c[i][who];

        switch (what) {
        case 0:
            m->what = "Tlopen";
            rc[i] = client_lopen(c, fid, L_RDWR, NULL);
            break;
        case 1:
            m->what = "Tlopen of a directory";
            rc[i] = client_lopen(c, fid, L_RDONLY | L_DIRECTORY, NULL);
            break;
        case 2:
            m->what = "Tlcreate";
            rc[i] = client_lcreate(c, fid, name, L_RDWR, 0644, NULL);
            break;
        case 3:
        case 4:
            m->what = "Tmkdir";
            rc[i] = client_mkdir(c, fid, name, 0755, NULL);
            break;
        case 5:
            m->what = "Tsymlink";
            rc[i] = client_symlink(c, fid, name, "n1", NULL);
            break;
        case 6:
            m->what = "Tlink";
            rc[i] = client_link(c, fid, other, name);
            break;
        case 7:
            m->what = "Trename";
            rc[i] = client_rename(c, fid, other, name);
            break;
        case 8:
        case 9:
            m->what = "Trenameat";
            rc[i] = client_renameat(c, fid, name, other, name2);
            break;
        case 10:
            m->what = "Tunlinkat";
            rc[i] = client_unlinkat(c, fid, name, m->round % 3 ? 0 : 0x200);
            break;
        case 11:
            m->what = "Tsetattr";
            rc[i] = client_setattr(c, fid, m->round % 2 ? SETATTR_MODE : SETATTR_SIZE, &attr);
            break;
        case 12:
        case 13:
        case 14:
            m->what = "Tmknod";
            rc[i] = client_mknod(c, fid, name, S_IFREG | 0644, 0, 0, NULL);
            break;
        case 15:
            m->what = "Twrite";
            rc[i] = client_write(c, fid, 0, strlen(text), text, &written);
            break;
        default:
            m->what = "xattrs";
            rc[i] = client_setxattr(c, fid, "user.x", text, strlen(text), 0);
        }
    }
    same(m, rc[0], rc[1], "the error");
    m->good += rc[0] == 0;
    if (what == 2 && rc[0] == 0)
        forget_qid(m, who, fid);
}

static void compare_fids(struct model *m, guint who, guint32 fid, guint32 other)
{
    g_autofree char *name = a_name(m), *name2 = a_name(m);
    const char *names[] = {name, pick(m, 4) ? NULL : name2, NULL};
    struct client_qid qids[2][16];
    guint n[2] = {0, 0};
    int what = pick(m, 10), rc[2] = {0, 0};

    for (guint i = 0; i < 2; i++) {
        struct client *c = m->c[i][who];

        switch (what) {
        case 0:
            m->what = "Tclunk";
            rc[i] = client_clunk(c, other);
            break;
        case 1:
            m->what = "Tremove";
            rc[i] = m->round % 4 ? 0 : client_remove(c, other);
            break;
        case 2:
            m->what = "a clone";
            client_clunk(c, other);
            rc[i] = client_walk(c, fid, other, NULL, &n[i], qids[i]);
            break;
        default:
            m->what = "Twalk";
            if (what > 2)
                client_clunk(c, other);
            rc[i] = client_walk(c, what > 4 ? ROOT_FID : fid, other, names, &n[i], qids[i]);
        }
    }
    same(m, rc[0], rc[1], "the error");
    same(m, n[0], n[1], "the number of qids");
    if (rc[0] == 0)
        forget_qid(m, who, other);
    if (rc[0] == 0 && n[0] > 0 && n[0] == (names[1] != NULL ? 2 : 1))
        same_qid(m, who, other, &qids[0][n[0] - 1], &qids[1][n[0] - 1]);
}

/* The host moves something to a name that is free. */
static void move_on_host(struct model *m)
{
    g_autofree char *dir = pick(m, 2) ? g_strdup(".") : g_strdup_printf("n%d", pick(m, NAMES));
    g_autofree char *dir2 = pick(m, 2) ? g_strdup_printf("n%d", pick(m, NAMES)) : g_strdup(dir);
    g_autofree char *from = g_strdup_printf("%s/n%d", dir, pick(m, NAMES));
    g_autofree char *to = g_strdup_printf("%s/n%d", dir2, pick(m, NAMES));
    int rc[2];

    m->what = "a rename on the host";
    for (guint i = 0; i < 2; i++) {
        g_autofree char *a = server_path(m->s[i], from), *b = server_path(m->s[i], to);

        rc[i] = renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE) != 0 ? errno : 0;
    }
    same(m, rc[0], rc[1], "the error");
}

static void against_model(gconstpointer data)
{
    struct model m = {.rand = g_rand_new_with_seed(number("QIDMAP_FIDS_SEED", 1))};
    guint rounds = number("QIDMAP_FIDS_ROUNDS", 4000);
    gboolean handles;

    by_name(data != NULL);
    for (guint i = 0; i < 2; i++) {
        m.s[i] = start(i == 0 ? 100000 : 8);
        for (guint who = 0; who < 2; who++)
            m.c[i][who] = server_client(m.s[i]);
    }
    handles = have_handles(m.s[1]);
    for (guint i = 0; i < 2; i++)
        for (guint k = 0; k < NAMES; k++) {
            g_autofree char *dir = g_strdup_printf("n%u", k);
            g_autofree char *file = g_strdup_printf("n%u/n%u", k, k);

            make_dir(m.s[i], dir);
            make_file(m.s[i], file, dir);
        }
    for (m.round = 0; m.round < rounds; m.round++) {
        guint who = (guint)pick(&m, 2);
        guint32 fid = pick(&m, 8) ? 100 + (guint32)pick(&m, SLOTS) : ROOT_FID;
        guint32 other = 100 + (guint32)pick(&m, SLOTS);

        switch (pick(&m, 10)) {
        case 0:
        case 1:
        case 2:
            compare_fids(&m, who, fid, other);
            break;
        case 3:
        case 4:
        case 5:
            compare_change(&m, who, pick(&m, 2) ? fid : ROOT_FID, pick(&m, 2) ? other : ROOT_FID);
            break;
        case 6:
            m.what = "a listing";
            compare_listings(&m, who, fid);
            break;
        case 7:
            m.what = "Tread";
            compare_texts(&m, who, fid);
            break;
        case 8:
            /* by place, what the host renamed is found only sometimes: host_renames() tries that */
            if (handles && pick(&m, 3) == 0)
                move_on_host(&m);
            break;
        default:
            m.what = "Tgetattr";
            compare_attrs(&m, who, fid);
        }
    }
    /* All that may be closed was, since; what is found again must be the same. */
    m.what = "at the end";
    for (guint who = 0; who < 2; who++)
        for (guint32 fid = 100; fid < 100 + SLOTS; fid++)
            compare_attrs(&m, who, fid);
    g_test_message("%u of %u answers were no error", m.good, m.round);
    for (guint i = 0; i < 2; i++) {
        for (guint who = 0; who < 2; who++)
            client_close(m.c[i][who]);
        stop(m.s[i]);
    }
    g_rand_free(m.rand);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(gconstpointer data);
        gboolean by_name;
    } tests[] = {
        {"/fids/model", against_model, TRUE},
        {"/fids/host-replaces", host_replaces, TRUE},
        {"/fids/host-renames", host_renames, TRUE},
        {"/fids/last-name", last_name, TRUE},
        {"/fids/clones", clones, TRUE},
        {"/fids/own-name", own_name, TRUE},
        {"/fids/several-exports", several_exports, TRUE},
        {"/fids/forgotten-name", forgotten_name, FALSE},
        {"/fids/races", races, TRUE},
        {"/fids/many", many, TRUE},
        {"/fids/open-too-many", open_too_many, FALSE},
        {"/fids/many-connections", many_connections, FALSE},
        {"/fids/nameless", nameless, FALSE},
        {"/fids/dead-mount", dead_mount, FALSE},
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_data_func(tests[i].name, NULL, tests[i].run);
    /* Last, as a capability that was given up does not come back. */
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *name = g_strconcat(tests[i].name, "-by-name", NULL);

        if (tests[i].by_name)
            g_test_add_data_func(name, "by name", tests[i].run);
    }
    return g_test_run();
}
