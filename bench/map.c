/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one answer of the map costs, through the public API alone:
 *   covered   an inode of an affix entry: a few compares
 *   full      an inode of the full map that is known
 *   new       a mapping that must be made, on an lmdb: store: one at a time, by threads that come
 *             together (they share commits), and in batches
 *   open      a store with a million rows, with and without a look at all of them
 * beside a bare pwrite + fdatasync of one page on the same disk, which is the least that a durable
 * new mapping can cost.
 *
 *   map [--json] [--dir DIR]     DIR: where the store is made, and removed again (default /var/tmp)
 *
 * The ids are checked, too: each is asked for twice and looked up in reverse.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "store/qidmap.h"

#define LOOKUPS    2000000u
#define KNOWN      4096u
#define SINGLE     200u
#define BATCH      1000u
#define BATCHES    20u
#define SYNCS      200u
#define OPEN_ROWS  1000000u
#define OPEN_BATCH 20000u

static struct qidmap_error error;

static void must(const char *what, int rc)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench/map: %s: %s %s\n", what, g_strerror(-rc), error.text);
    exit(1);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* A made-up filesystem, so that the result does not depend on the machine's. */
static uint32_t register_fs(qidmap_store *store, uint8_t number)
{
    g_autofree struct qidmap_identity *identity = g_new0(struct qidmap_identity, 1);
    uint32_t fs = 0;

    identity->size = sizeof *identity;
    identity->policy = QIDMAP_POLICY_AFFIX;
    identity->count = 1;
    identity->fsid[0].kind = QIDMAP_FSID_UUID;
    identity->fsid[0].size = 16;
    memset(identity->fsid[0].bytes, number, 16);
    g_strlcpy(identity->hints.type, "ext4", sizeof identity->hints.type);
    g_snprintf(identity->hints.source, sizeof identity->hints.source, "/dev/bench%u", number);
    identity->superblock = 1000 + number;
    must("register", qidmap_register(store, identity, 1, &fs, &error));
    return fs;
}

static void check(qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t path)
{
    struct qidmap_object object;
    uint64_t again = 0;

    memset(&object, 0, sizeof object);
    must("map again", qidmap_map(store, fs, ino, &again));
    must("reverse", qidmap_reverse(store, path, &object));
    if (again != path || object.fs != fs || object.ino != ino) {
        fprintf(stderr,
                "bench/map: inode %" G_GUINT64_FORMAT ": id %" G_GUINT64_FORMAT
                ", then %" G_GUINT64_FORMAT ", back to inode %" G_GUINT64_FORMAT "\n",
                (guint64)ino, (guint64)path, (guint64)again, (guint64)object.ino);
        exit(1);
    }
}

/* Inodes that scatter over all 64 bits, as hashes do: they use the affix budget up at once. */
static uint64_t hashed(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15ull;
    return (i ^ i >> 29) | 1ull << 63;
}

static double lookups(qidmap_store *store, uint32_t fs, uint64_t (*ino_of)(uint64_t))
{
    uint64_t path = 0, sum = 0;
    double start;

    for (unsigned i = 0; i < KNOWN; i++) {
        must("map", qidmap_map(store, fs, ino_of(i), &path));
        check(store, fs, ino_of(i), path);
    }
    start = now();
    for (unsigned i = 0; i < LOOKUPS; i++) {
        must("map", qidmap_map(store, fs, ino_of(i % KNOWN), &path));
        sum += path;
    }
    start = now() - start;
    if (sum == 0)
        must("lookups", -EINVAL);
    return start / LOOKUPS * 1e9;
}

static uint64_t plain(uint64_t i)
{
    return 12 + i * 3;
}

static double new_single(qidmap_store *store, uint32_t fs)
{
    double start = now();

    for (unsigned i = 0; i < SINGLE; i++) {
        uint64_t path = 0;

        must("map", qidmap_map(store, fs, hashed(1000000 + i), &path));
    }
    return (now() - start) / SINGLE * 1e6;
}

static double new_batched(qidmap_store *store, uint32_t fs)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, BATCH);
    double start = now(), spent;

    for (unsigned b = 0; b < BATCHES; b++) {
        for (unsigned i = 0; i < BATCH; i++) {
            items[i].fs = fs;
            items[i].ino = hashed(2000000 + b * BATCH + i);
        }
        must("batch", qidmap_map_batch(store, items, BATCH));
    }
    spent = now() - start;
    for (unsigned i = 0; i < BATCH; i++)
        check(store, fs, items[i].ino, items[i].path);
    return spent / (BATCHES * BATCH) * 1e6;
}

/* Threads that each make new mappings one at a time: those that come together share a commit. */
struct group {
    qidmap_store *store;
    uint32_t fs;
    unsigned which;
    pthread_t thread;
};

static void *group_main(void *data)
{
    const struct group *g = data;

    for (unsigned i = 0; i < SINGLE; i++) {
        uint64_t path = 0;

        must("map", qidmap_map(g->store, g->fs, hashed(4000000 + g->which * SINGLE + i), &path));
    }
    return NULL;
}

static uint64_t epoch_of(qidmap_store *store)
{
    struct qidmap_stats stats = {.size = sizeof stats};

    must("stats", qidmap_store_stats(store, &stats, &error));
    return stats.epoch;
}

/* Commits and mappings in a second. */
static void new_grouped(qidmap_store *store, uint32_t fs, unsigned threads, double *commits,
                        double *mappings)
{
    g_autofree struct group *groups = g_new0(struct group, threads);
    uint64_t epoch = epoch_of(store);
    double start = now(), spent;

    for (unsigned i = 0; i < threads; i++) {
        groups[i] = (struct group){.store = store, .fs = fs, .which = i + threads * 1000};
        must("thread", -pthread_create(&groups[i].thread, NULL, group_main, &groups[i]));
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(groups[i].thread, NULL);
    spent = now() - start;
    *commits = (double)(epoch_of(store) - epoch) / spent;
    *mappings = threads * SINGLE / spent;
}

static double bare_sync(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "page", NULL);
    g_autofree char *page = g_malloc0(4096);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    double start;

    if (fd < 0 || pwrite(fd, page, 4096, 0) != 4096 || fsync(fd) != 0)
        must(path, -errno);
    start = now();
    for (unsigned i = 0; i < SYNCS; i++) {
        page[0]++;
        if (pwrite(fd, page, 4096, 0) != 4096 || fdatasync(fd) != 0)
            must(path, -errno);
    }
    start = now() - start;
    close(fd);
    unlink(path);
    return start / SYNCS * 1e6;
}

static void line(gboolean json, const char *what, double value, const char *unit)
{
    if (json)
        printf("{\"what\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", what, value, unit);
    else
        printf("%-40s %12.1f %s\n", what, value, unit);
    fflush(stdout);
}

/* Opening for writing a store with many rows in its full map: as a clean stop left it, and where
 * nobody knows that (the file `origin` is missing), so that all of it is looked at. */
static void opening(gboolean json, const char *tmp)
{
    g_autofree char *uri = g_strdup_printf("lmdb:%s/large", tmp);
    g_autofree char *origin = g_strdup_printf("%s/large/gen.1/origin", tmp);
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, OPEN_BATCH);
    qidmap_store *store = NULL;
    uint32_t fs;
    double start;

    must("open lmdb:",
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error));
    fs = register_fs(store, 1);
    for (unsigned i = 0; i < OPEN_ROWS; i += OPEN_BATCH) {
        for (unsigned j = 0; j < OPEN_BATCH; j++) {
            items[j].fs = fs;
            items[j].ino = hashed(i + j);
        }
        must("batch", qidmap_map_batch(store, items, OPEN_BATCH));
    }
    qidmap_store_close(store);
    for (int walked = 0; walked < 2; walked++) {
        if (walked)
            unlink(origin);
        start = now();
        must("open lmdb:", qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, &error));
        line(json, walked ? "open, 1,000,000 rows, walked" : "open, 1,000,000 rows, clean stop",
             (now() - start) * 1e3, "ms");
        qidmap_store_close(store);
    }
}

int main(int argc, char **argv)
{
    gboolean json = FALSE;
    g_autofree char *dir = NULL, *tmp = NULL, *uri = NULL;
    const GOptionEntry entries[] = {
        {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "Lines of JSON", NULL},
        {"dir", 'd', 0, G_OPTION_ARG_FILENAME, &dir, "Where to make the store", "DIR"},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) gerror = NULL;
    qidmap_store *store = NULL;
    uint32_t small, large;
    double sync_us, single_us;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &gerror)) {
        fprintf(stderr, "bench/map: %s\n", gerror->message);
        return 2;
    }
    tmp = g_build_filename(dir != NULL ? dir : "/var/tmp", "qidmap-bench-XXXXXX", NULL);
    if (g_mkdtemp(tmp) == NULL)
        must(tmp, -errno);
    uri = g_strdup_printf("lmdb:%s/store", tmp);

    must("open memory:", qidmap_store_open("memory:", QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL,
                                           &store, &error));
    line(json, "covered inode, memory:", lookups(store, register_fs(store, 1), plain), "ns");
    line(json, "full map hit, memory:", lookups(store, register_fs(store, 2), hashed), "ns");
    qidmap_store_close(store);

    must("open lmdb:",
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error));
    small = register_fs(store, 1);
    large = register_fs(store, 2);
    line(json, "covered inode, lmdb:", lookups(store, small, plain), "ns");
    {
        /* known ones are made in one batch: one commit each would take minutes on a slow disk */
        g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, KNOWN);

        for (unsigned i = 0; i < KNOWN; i++) {
            items[i].fs = large;
            items[i].ino = hashed(i);
        }
        must("batch", qidmap_map_batch(store, items, KNOWN));
    }
    line(json, "full map hit, lmdb:", lookups(store, large, hashed), "ns");
    sync_us = bare_sync(tmp);
    single_us = new_single(store, large);
    line(json, "bare pwrite + fdatasync", sync_us, "us");
    line(json, "new mapping, one commit each", single_us, "us");
    line(json, "ratio to the bare fdatasync", single_us / sync_us, "x");
    line(json, "bare syncs", 1e6 / sync_us, "/s");
    line(json, "commits, one thread", 1e6 / single_us, "/s");
    for (unsigned threads = 4; threads <= 64; threads *= 4) {
        g_autofree char *what = NULL;
        double commits, mappings;

        new_grouped(store, large, threads, &commits, &mappings);
        what = g_strdup_printf("commits, %u threads", threads);
        line(json, what, commits, "/s");
        g_free(what);
        what = g_strdup_printf("new mappings, %u threads", threads);
        line(json, what, mappings, "/s");
        g_free(what);
        what = g_strdup_printf("ratio to the bare syncs, %u threads", threads);
        line(json, what, mappings * sync_us / 1e6, "x");
    }
    line(json, "bare pwrite + fdatasync, once more", bare_sync(tmp), "us");
    line(json, "new mapping, batches of 1000", new_batched(store, large), "us");
    qidmap_store_close(store);
    opening(json, tmp);
    {
        const char *rm[] = {"rm", "-rf", tmp, NULL};

        g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                     NULL);
    }
    return 0;
}
