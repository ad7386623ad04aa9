/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: kill -9 of the server, at any moment of any load, changes no id that a client was ever
 * told, and makes none be given twice.
 *
 * Some connections create files, look them up again and read directories, and keep each id that
 * came in an answer. The server is killed at a random moment and started again on its store, and
 * each id that any client ever got must be what the server says now. As root the files lie on
 * several filesystems, which are mounted in another order, on other devices, at each start.
 *
 * The inode numbers of one small filesystem are all covered by its first affix entry, and then
 * there is nothing to write. So the server sees inode numbers that are scattered over 64 bits
 * (tests/crash/scatter.c), and nearly every new file is a new mapping.
 *
 * With an lmdb: store beside the files, and with an xattr: store on the root of the exported tree.
 * The latter has affix entries alone, fewer with each file, and may get full: a file that gets no
 * id then is none that was told. So it is made anew, with an empty tree, after some kills, which
 * come sooner.
 *
 * CRASH_SEED, CRASH_KILLS, CRASH_BACKENDS: as for the other parts.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/crash/lab.h"
#include "tests/lib/server.h"

#define CLIENTS     4u
#define MOUNTS      3u
#define KILLS_XATTR 5u   /* before a new xattr: store */
#define TOLD_LMDB   300u /* as the first ones of each filesystem have affix entries, and no rows */

enum backend { LMDB, XATTR };
static const char *const names[] = {[LMDB] = "lmdb", [XATTR] = "xattr"};

struct told {
    char *path;
    guint64 id;
};

struct load {
    struct server *s;
    unsigned which;
    unsigned dirs;
    unsigned next;   /* number of its next file */
    GPtrArray *told; /* of struct told: only this thread's while it runs */
    gint answers;    /* how many came, ever; atomic */
    char *broken;    /* an id that changed under it */
    pthread_t thread;
};

static struct lab_random rnd;
static guint64 seed;
static unsigned kills = 10;

static const char *dir_of(struct load *l, unsigned n)
{
    static const char *const mounted[] = {"a", "b", "c"};

    return l->dirs ? mounted[n % l->dirs] : "";
}

/* One file: created, walked to, and the id of both kept. FALSE: the server is gone. */
static gboolean one_file(struct load *l, struct client *c)
{
    unsigned n = l->next++;
    const char *dir = dir_of(l, n);
    g_autofree char *name = g_strdup_printf("f%u-%u", l->which, n);
    g_autofree char *path = g_strdup_printf("%s%s%s", dir, *dir ? "/" : "", name);
    guint32 fid = client_fid(c);
    struct client_qid made, found;
    struct told *t;
    int e;

    if (client_walk_path(c, ROOT_FID, fid, dir, NULL) != 0)
        return FALSE;
    e = client_lcreate(c, fid, name, L_RDWR, 0600, &made);
    if (e == ENOSPC) /* the store is full: nothing was told */
        return client_clunk(c, fid) == 0;
    if (e != 0)
        return FALSE;
    t = g_new(struct told, 1);
    t->path = g_strdup(path);
    t->id = made.path;
    g_ptr_array_add(l->told, t);
    g_atomic_int_inc(&l->answers);
    if (client_clunk(c, fid) != 0)
        return FALSE;
    fid = client_fid(c);
    if (client_walk_path(c, ROOT_FID, fid, path, &found) != 0)
        return FALSE;
    if (found.path != made.path)
        l->broken = g_strdup_printf("%s: %" G_GUINT64_FORMAT ", then %" G_GUINT64_FORMAT, path,
                                    made.path, found.path);
    return client_clunk(c, fid) == 0;
}

static struct client *join(struct server *s)
{
    struct client *c = client_connect(s->addr);

    if (c && client_hello(c, 65536) == 0 &&
        client_attach(c, ROOT_FID, (guint32)geteuid(), s->aname, NULL) == 0)
        return c;
    if (c)
        client_close(c);
    return NULL;
}

static void *load_main(void *data)
{
    struct load *l = data;
    struct client *c = join(l->s);

    while (c && !l->broken && one_file(l, c))
        ;
    if (c)
        client_close(c);
    return NULL;
}

/* Everything that anybody was told, asked again. */
static void verify(struct server *s, struct load *loads, GString *why)
{
    g_autoptr(GHashTable) owner = g_hash_table_new(g_int64_hash, g_int64_equal);
    struct client *c = server_client(s);
    unsigned i;
    guint j;

    for (i = 0; i < CLIENTS && why->len == 0; i++) {
        for (j = 0; j < loads[i].told->len && why->len == 0; j++) {
            const struct told *t = loads[i].told->pdata[j];
            struct client_qid qid = {0, 0, 0};
            guint32 fid = client_fid(c);
            int e = client_walk_path(c, ROOT_FID, fid, t->path, &qid);

            if (e != 0 || qid.path != t->id)
                g_string_append_printf(
                    why, "%s was told %" G_GUINT64_FORMAT ", is %" G_GUINT64_FORMAT " (%d)",
                    t->path, t->id, qid.path, e);
            else if (!g_hash_table_insert(owner, (gpointer)&t->id, (gpointer)t))
                g_string_append_printf(why, "%s and another file have one id", t->path);
            if (e == 0)
                client_clunk(c, fid);
        }
        if (loads[i].broken)
            g_string_append(why, loads[i].broken);
    }
    client_close(c);
}

/* ---- filesystems in another order each time -------------------------------------------------- */

static gboolean run(const char *command)
{
    int status;

    return g_spawn_command_line_sync(command, NULL, NULL, &status, NULL) && status == 0;
}

/* Images a, b, c next to the server's directories. FALSE: this machine does not let us. */
static gboolean make_images(struct server *s)
{
    unsigned i;

    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return FALSE;
    for (i = 0; i < MOUNTS; i++) {
        g_autofree char *command = g_strdup_printf(
            "sh -c 'truncate -s 16M %s/%c.img && mkfs.ext4 -q -F %s/%c.img && mkdir -p %s/%c'",
            s->tmp, 'a' + i, s->tmp, 'a' + i, s->dir, 'a' + i);

        if (!run(command))
            return FALSE;
    }
    return TRUE;
}

static gboolean mount_shuffled(struct server *s)
{
    unsigned order[MOUNTS], i;

    for (i = 0; i < MOUNTS; i++)
        order[i] = i;
    for (i = MOUNTS - 1; i > 0; i--) {
        unsigned j = (unsigned)lab_below(&rnd, i + 1), kept = order[i];

        order[i] = order[j];
        order[j] = kept;
    }
    for (i = 0; i < MOUNTS; i++) {
        g_autofree char *command = g_strdup_printf("mount -o loop %s/%c.img %s/%c", s->tmp,
                                                   'a' + order[i], s->dir, 'a' + order[i]);

        if (!run(command))
            return FALSE;
    }
    return TRUE;
}

static gboolean unmount_all(struct server *s)
{
    gboolean ok = TRUE;
    unsigned i;

    for (i = 0; i < MOUNTS; i++) {
        g_autofree char *path = g_strdup_printf("%s/%c", s->dir, 'a' + i);

        ok = umount2(path, 0) == 0 && ok;
    }
    return ok;
}

/* What was written for the told ids: rows of the full map, or affix entries. */
static guint64 rows_of(struct server *s, enum backend backend)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_error error;
    qidmap_store *store;

    g_assert_cmpint(qidmap_store_open(s->store, QIDMAP_OPEN_READ, NULL, &store, &error), ==, 0);
    g_assert_cmpint(qidmap_store_stats(store, &stats, &error), ==, 0);
    qidmap_store_close(store);
    return backend == LMDB ? stats.full_rows : stats.affix_rows;
}

/* ---- the test -------------------------------------------------------------------------------- */

static struct server *new_server(enum backend backend)
{
    struct server *s = server_new("lmdb:", NULL);

    if (backend == XATTR) {
        g_free(s->store);
        s->store = g_strconcat("xattr:", s->dir, NULL);
    }
    return s;
}

static void told_free(gpointer data)
{
    struct told *t = data;

    g_free(t->path);
    g_free(t);
}

/* Until as many ids were told as a test wants: its lives must not all be too short for that. */
static void wait_for_answers(struct load *loads, gint least)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    while (g_get_monotonic_time() < deadline) {
        gint sum = 0;

        for (unsigned i = 0; i < CLIENTS; i++)
            sum += g_atomic_int_get(&loads[i].answers);
        if (sum >= least)
            return;
        g_usleep(500);
    }
}

/* So many kills of one server on one store, which are added to the tally. FALSE: skipped. */
static gboolean kill_one(enum backend backend, gboolean mounts, unsigned count,
                         struct lab_tally *tally, GString *why)
{
    struct server *s = new_server(backend);
    struct load loads[CLIENTS];
    unsigned i, round, told = 0;

    memset(loads, 0, sizeof(loads));
    if (mounts && !make_images(s)) {
        g_test_skip(geteuid() != 0 ? "no root" : "no mounts allowed");
        server_free(s);
        return FALSE;
    }
    for (i = 0; i < CLIENTS; i++) {
        loads[i].s = s;
        loads[i].which = i;
        loads[i].dirs = mounts ? MOUNTS : 0;
        loads[i].told = g_ptr_array_new_with_free_func(told_free);
    }
    for (round = 0; round <= count && why->len == 0; round++) {
        if (mounts && !mount_shuffled(s)) {
            g_string_append(why, "the filesystems do not mount again");
            break;
        }
        if (!server_start(s)) {
            g_string_append(why, "the server does not start again");
            break;
        }
        if (round > 0) {
            verify(s, loads, why);
            tally->states++;
            tally->stores++;
        }
        if (round < count) {
            for (i = 0; i < CLIENTS; i++)
                g_assert_cmpint(pthread_create(&loads[i].thread, NULL, load_main, &loads[i]), ==,
                                0);
            if (backend == XATTR)
                wait_for_answers(loads, 1);
            else if (round == count - 1)
                wait_for_answers(loads, (gint)MAX(count + 1, TOLD_LMDB));
            g_usleep(1000 + (gulong)lab_below(&rnd, backend == XATTR ? 60000 : 300000));
            server_kill(s);
            for (i = 0; i < CLIENTS; i++)
                pthread_join(loads[i].thread, NULL);
        } else {
            g_assert_cmpint(server_terminate(s), ==, 0);
        }
        if (mounts && !unmount_all(s))
            g_string_append(why, "the filesystems do not unmount");
    }
    for (i = 0; i < CLIENTS; i++) {
        told += loads[i].told->len;
        g_ptr_array_unref(loads[i].told);
        g_free(loads[i].broken);
    }
    tally->violations += why->len > 0;
    if (why->len > 0) {
        g_test_message("violation: %s: %s", names[backend], why->str);
    } else {
        guint64 rows = rows_of(s, backend);

        g_test_message("told %u ids, with %" G_GUINT64_FORMAT " %s", told, rows,
                       backend == LMDB ? "rows of the full map" : "affix entries");
        /* Else there was nothing to lose. */
        g_assert_cmpuint(told, >, backend == LMDB ? count : 0);
        g_assert_cmpuint(rows, >, backend == LMDB ? told / 4 : 0);
    }
    server_free(s);
    return TRUE;
}

static void kill_under_load(enum backend backend, gboolean mounts)
{
    struct lab_tally tally = {0, 0, 0, lab_now()};
    g_autoptr(GString) why = g_string_new("");
    unsigned done, count;

    for (done = 0; done < kills && why->len == 0; done += count) {
        count = backend == XATTR ? MIN(kills - done, KILLS_XATTR) : kills;
        if (!kill_one(backend, mounts, count, &tally, why))
            return;
    }
    tally.seconds = lab_now() - tally.seconds;
    lab_tally_print("kill -9", mounts ? "mounts" : "one fs", mounts ? "ext4" : "host",
                    names[backend], seed, &tally);
    g_assert_cmpstr(why->str, ==, "");
}

/* Can the exported directory hold an xattr store? */
static gboolean has_xattrs(void)
{
    struct server *s = new_server(XATTR);
    gboolean has = setxattr(s->dir, "trusted.qidmap-try", "1", 1, 0) == 0 ||
                   setxattr(s->dir, "user.qidmap-try", "1", 1, 0) == 0;

    server_free(s);
    return has;
}

static void test_one(gconstpointer data)
{
    enum backend backend = GPOINTER_TO_UINT(data);

    if (backend == XATTR && !has_xattrs())
        g_test_skip("no extended attributes in the temporary folder");
    else
        kill_under_load(backend, FALSE);
}

static void test_mounts(gconstpointer data)
{
    enum backend backend = GPOINTER_TO_UINT(data);

    if (backend == XATTR && !has_xattrs())
        g_test_skip("no extended attributes in the temporary folder");
    else
        kill_under_load(backend, TRUE);
}

int main(int argc, char **argv)
{
    g_autofree char *module = NULL;
    const char *given = g_getenv("CRASH_SEED"), *count = g_getenv("CRASH_KILLS");
    const char *build = g_getenv("top_builddir"), *only = g_getenv("CRASH_BACKENDS");
    g_auto(GStrv) chosen = g_strsplit(only ? only : "lmdb xattr", " ", -1);
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    rnd.state = seed = given ? g_ascii_strtoull(given, NULL, 10) : g_random_int();
    if (count)
        kills = (unsigned)atoi(count);
    module = g_build_filename(build ? build : ".", "tests/crash/.libs/scatter.so", NULL);
    g_setenv("LD_PRELOAD", module, TRUE); /* of the server: this program is running already */
    g_test_message("seed %" G_GUINT64_FORMAT " (CRASH_SEED repeats this)", seed);
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *one = g_strdup_printf("/crash/kill9/%s/one-filesystem", names[i]);
        g_autofree char *mounts = g_strdup_printf("/crash/kill9/%s/mount-order", names[i]);

        if (!g_strv_contains((const char *const *)chosen, names[i]))
            continue;
        g_test_add_data_func(one, GUINT_TO_POINTER(i), test_one);
        g_test_add_data_func(mounts, GUINT_TO_POINTER(i), test_mounts);
    }
    return g_test_run();
}
