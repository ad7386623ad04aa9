/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one answer of the map costs, through the public API alone, beside what was set as its limit:
 *   covered   an inode of an affix entry: a few compares
 *   full      a known inode of the full map, kept in RAM, or read from LMDB
 *   new       a mapping that must be made, on an lmdb: store: one at a time, in batches, and by
 *             threads that come together (they share commits)
 *   open      a store with a million rows, with and without a look at all of them
 * New mappings stand beside the floor: a bare pwrite + fdatasync and an O_DSYNC pwrite of one page
 * on the same disk, which is the least that a durable commit costs. Each kind is measured in many
 * short rounds, in turns with the others and with the floor; the median and the least of them are
 * printed. On a machine with other work the least says what the code costs.
 *
 *   map [--json] [--dir DIR] [--rows N]
 *     --dir    where the store is made, and removed again (default /var/tmp)
 *     --rows   of the store that is opened (default 1000000)
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

#include "bench/folder.h"
#include "store/qidmap.h"

#define ROUNDS     41u
#define LOOKUPS    4096u /* in a round, which is far shorter than the scheduler's turn */
#define KNOWN      4096u
#define SINGLE     200u /* of each thread */
#define BATCH      1000u
#define BATCHES    21u
#define OPENINGS   5u
#define OPEN_BATCH 20000u

static guint64 open_rows = 1000000;
static gboolean json;

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

static uint64_t plain(uint64_t i)
{
    return 12 + i * 3;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* Figures of one kind, a round each. */
struct series {
    const char *what, *unit;
    double limit; /* 0: none */
    double value[ROUNDS];
    unsigned count;
};

static void add(struct series *s, double value)
{
    g_assert(s->count < ROUNDS);
    s->value[s->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(struct series *s)
{
    qsort(s->value, s->count, sizeof s->value[0], by_value);
    return s->value[s->count / 2];
}

static double least(struct series *s)
{
    (void)median(s);
    return s->value[0];
}

/* A figure, and what it may be at most: a ratio of what was measured in turns is judged by its
 * median, a time by the least. */
static void line(const char *what, double mid, double low, const char *unit, double limit)
{
    double judged = strcmp(unit, "x") == 0 ? mid : low;

    if (json) {
        printf("{\"what\":\"%s\",\"median\":%.3f,\"least\":%.3f,\"unit\":\"%s\"", what, mid, low,
               unit);
        if (limit > 0)
            printf(",\"limit\":%.3f,\"ratio\":%.3f", limit, judged / limit);
        printf("}\n");
    } else {
        printf("%-42s %10.1f %10.1f %-3s", what, mid, low, unit);
        if (limit > 0)
            printf(" %8.1f  %5.2f %s", limit, judged / limit, judged <= limit ? "met" : "MISSED");
        printf("\n");
    }
    fflush(stdout);
}

static void one(const char *what, double value, const char *unit)
{
    line(what, value, value, unit, 0);
}

static void print_series(struct series *s)
{
    line(s->what, median(s), least(s), s->unit, s->limit);
}

/* ---- known ones ------------------------------------------------------------------------------ */

/* Maps, and checks, a list of inodes in one batch. */
static void map_list(qidmap_store *store, uint32_t fs, const uint64_t *inos, unsigned count,
                     gboolean checked)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, count);

    for (unsigned i = 0; i < count; i++) {
        items[i].fs = fs;
        items[i].ino = inos[i];
    }
    must("batch", qidmap_map_batch(store, items, count));
    for (unsigned i = 0; checked && i < count; i++)
        check(store, fs, items[i].ino, items[i].path);
}

/* The same for inodes number `from` to `from` + `count` - 1. */
static void make_known(qidmap_store *store, uint32_t fs, uint64_t (*ino_of)(uint64_t),
                       uint64_t from, unsigned count, gboolean checked)
{
    g_autofree uint64_t *inos = g_new(uint64_t, count);

    for (unsigned i = 0; i < count; i++)
        inos[i] = ino_of(from + i);
    map_list(store, fs, inos, count, checked);
}

/* Fills the list with inodes from `from` on that no affix entry covers: of hashed ones about every
 * fifth is covered. Returns where the next list may begin. */
static uint64_t uncovered(qidmap_store *store, uint32_t fs, uint64_t from, uint64_t step,
                          uint64_t *inos, unsigned count)
{
    for (unsigned n = 0; n < count; from += step) {
        uint64_t path = 0;
        int rc = qidmap_find(store, fs, hashed(from), &path);

        if (rc != -ENOENT)
            must("find", rc);
        if (rc == -ENOENT || path % 2 == 1)
            inos[n++] = hashed(from);
    }
    return from;
}

/* ns of one, for `count` inodes of a list that is gone through again and again. */
static double look_up(qidmap_store *store, uint32_t fs, const uint64_t *inos, unsigned known,
                      unsigned count)
{
    uint64_t path = 0, sum = 0;
    double start = now();

    for (unsigned i = 0; i < count; i++) {
        must("map", qidmap_map(store, fs, inos[i & (known - 1)], &path));
        sum += path;
    }
    start = now() - start;
    if (sum == 0)
        must("look up", -EINVAL);
    return start / count * 1e9;
}

static void known_ones(const char *tmp)
{
    static const char *const places[2] = {"memory:", "lmdb:"};
    g_autofree uint64_t *dense = g_new(uint64_t, KNOWN), *scattered = g_new(uint64_t, KNOWN);
    struct series covered[2] = {{.what = "covered inode, memory:", .unit = "ns", .limit = 10},
                                {.what = "covered inode, lmdb:", .unit = "ns", .limit = 10}};
    struct series full[2] = {
        {.what = "full map hit, kept in RAM, memory:", .unit = "ns", .limit = 100},
        {.what = "full map hit, kept in RAM, lmdb:", .unit = "ns", .limit = 100}};
    qidmap_store *store[2];
    uint32_t small[2], large[2];

    for (unsigned i = 0; i < KNOWN; i++) {
        dense[i] = plain(i);
    }
    for (unsigned s = 0; s < 2; s++) {
        g_autofree char *uri =
            s == 0 ? g_strdup(places[s]) : g_strdup_printf("%s%s/known", places[s], tmp);

        must(uri, qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store[s],
                                    &error));
        small[s] = register_fs(store[s], 1);
        large[s] = register_fs(store[s], 2);
        make_known(store[s], small[s], plain, 0, KNOWN, TRUE);
        make_known(store[s], large[s], hashed, 0, 2 * KNOWN, TRUE);
        (void)uncovered(store[s], large[s], 0, 1, scattered, KNOWN);
    }
    for (unsigned r = 0; r < ROUNDS; r++) {
        for (unsigned s = 0; s < 2; s++) {
            (void)look_up(store[s], small[s], dense, KNOWN, KNOWN); /* nothing is cold */
            add(&covered[s], look_up(store[s], small[s], dense, KNOWN, LOOKUPS));
            (void)look_up(store[s], large[s], scattered, KNOWN, KNOWN);
            add(&full[s], look_up(store[s], large[s], scattered, KNOWN, LOOKUPS));
        }
    }
    for (unsigned s = 0; s < 2; s++) {
        print_series(&covered[s]);
        print_series(&full[s]);
        qidmap_store_close(store[s]);
    }
}

/* ---- new ones -------------------------------------------------------------------------------- */

/* The floor: what a commit must do at least. */
struct floor {
    char *path;
    void *page;
    int fd, dsync_fd;
};

static void floor_open(struct floor *f, const char *dir)
{
    f->path = g_build_filename(dir, "page", NULL);
    f->page = g_malloc0(4096);
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    f->dsync_fd = open(f->path, O_RDWR | O_DSYNC | O_CLOEXEC);
    if (f->fd < 0 || f->dsync_fd < 0 || pwrite(f->fd, f->page, 4096, 0) != 4096 ||
        pwrite(f->fd, f->page, 4096, 4096) != 4096 || fsync(f->fd) != 0)
        must(f->path, -errno);
}

static double floor_once(struct floor *f)
{
    double start = now();

    (*(char *)f->page)++;
    if (pwrite(f->fd, f->page, 4096, 4096) != 4096 || fdatasync(f->fd) != 0 ||
        pwrite(f->dsync_fd, f->page, 4096, 0) != 4096)
        must(f->path, -errno);
    return (now() - start) * 1e6;
}

static void floor_close(struct floor *f)
{
    close(f->fd);
    close(f->dsync_fd);
    unlink(f->path);
    g_free(f->path);
    g_free(f->page);
}

/* In turns: the floor; a row of the full map; an affix entry, each of a filesystem that has none;
 * and a batch. One round has a few of each, so that the disk's moods meet all. Returns the floor's
 * median. */
static double new_ones(qidmap_store *store, uint32_t fs, const char *tmp)
{
    struct series bare = {.what = "bare pwrite+fdatasync+O_DSYNC pwrite", .unit = "us"},
                  full = {.what = "new row of the full map, alone", .unit = "us"},
                  affix = {.what = "new affix entry, alone", .unit = "us"},
                  batch = {.what = "new rows, each of 1,000 together", .unit = "us"},
                  full_x = {.what = "... beside the floor: full map", .unit = "x", .limit = 1.3},
                  affix_x = {.what = "... beside the floor: affix entry",
                             .unit = "x",
                             .limit = 1.3},
                  batch_x = {.what = "... 50 x one of 1,000, beside it", .unit = "x", .limit = 1};
    uint64_t next = 1000000;
    struct floor f;

    floor_open(&f, tmp);
    for (unsigned r = 0; r < BATCHES; r++) {
        struct series b = {.count = 0}, n = {.count = 0}, a = {.count = 0};
        g_autofree uint64_t *inos = g_new(uint64_t, 7 + BATCH);
        uint64_t path = 0;
        double start, spent;

        next = uncovered(store, fs, next, 1, inos, 7 + BATCH);
        for (unsigned i = 0; i < 7; i++) {
            uint32_t fresh = register_fs(store, (uint8_t)(3 + r * 7 + i));

            add(&b, floor_once(&f));
            start = now();
            must("map", qidmap_map(store, fs, inos[BATCH + i], &path));
            add(&n, (now() - start) * 1e6);
            add(&b, floor_once(&f));
            start = now();
            must("map", qidmap_map(store, fresh, 12, &path));
            add(&a, (now() - start) * 1e6);
        }
        start = now();
        map_list(store, fs, inos, BATCH, FALSE);
        spent = (now() - start) / BATCH * 1e6;
        add(&bare, median(&b));
        add(&full, median(&n));
        add(&affix, median(&a));
        add(&batch, spent);
        add(&full_x, median(&n) / median(&b));
        add(&affix_x, median(&a) / median(&b));
        add(&batch_x, spent * 50 / median(&b));
        map_list(store, fs, inos, BATCH, TRUE);
    }
    floor_close(&f);
    print_series(&bare);
    print_series(&full);
    print_series(&full_x);
    print_series(&affix);
    print_series(&affix_x);
    print_series(&batch);
    print_series(&batch_x);
    return median(&bare);
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

/* ---- many rows ------------------------------------------------------------------------------- */

/* Opening for writing a store with many rows in its full map: as a clean stop left it, and where
 * nobody knows that (the file `origin` is missing), so that all of it is looked at. Up to the first
 * answer, which is one of the full map; what the next ones cost, each of which may find its page of
 * the file not mapped yet; and others, which nobody asked for before either. */
static void opening(const char *tmp)
{
    g_autofree char *uri = g_strdup_printf("lmdb:%s/large", tmp);
    g_autofree char *origin = g_strdup_printf("%s/large/gen.1/origin", tmp);
    g_autofree uint64_t *inos = g_new(uint64_t, 2u << 16);
    struct series clean = {.what = "open to first answer, clean stop", .unit = "ms", .limit = 50},
                  cold = {.what = "... and each page of the file for once", .unit = "ns"},
                  read = {.what = "full map hit, read from LMDB", .unit = "ns", .limit = 2000};
    qidmap_store *store = NULL;
    uint64_t path = 0;
    uint32_t fs;
    double start;

    must("open lmdb:",
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error));
    fs = register_fs(store, 1);
    for (guint64 i = 0; i < open_rows; i += OPEN_BATCH)
        make_known(store, fs, hashed, i, OPEN_BATCH, FALSE);
    (void)uncovered(store, fs, 0, open_rows >> 18, inos, 2u << 16);
    qidmap_store_close(store);
    for (unsigned i = 0; i <= OPENINGS; i++) {
        if (i == OPENINGS)
            unlink(origin);
        start = now();
        must("open lmdb:", qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, &error));
        must("map", qidmap_map(store, fs, hashed(open_rows / 2), &path));
        start = (now() - start) * 1e3;
        if (i == OPENINGS)
            break;
        add(&clean, start);
        add(&cold, look_up(store, fs, inos, 1u << 16, 1u << 16));
        for (unsigned r = 0; r < 8; r++) {
            const uint64_t *others = inos + (1u << 16) + (r << 9);

            add(&read, look_up(store, fs, others, 1u << 9, 1u << 9));
        }
        qidmap_store_close(store);
    }
    one("rows of the store that is opened", (double)open_rows, "");
    print_series(&clean);
    one("open to first answer, walked", start, "ms");
    print_series(&read);
    print_series(&cold);
    check(store, fs, hashed(open_rows / 2), path);
    qidmap_store_close(store);
}

int main(int argc, char **argv)
{
    g_autofree char *dir = NULL, *tmp = NULL, *uri = NULL;
    const GOptionEntry entries[] = {
        {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "Lines of JSON", NULL},
        {"dir", 'd', 0, G_OPTION_ARG_FILENAME, &dir, "Where to make the store", "DIR"},
        {"rows", 'r', 0, G_OPTION_ARG_INT64, &open_rows, "Rows of the store that is opened", "N"},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) gerror = NULL;
    qidmap_store *store = NULL;
    uint32_t large;
    double floor_us;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &gerror)) {
        fprintf(stderr, "bench/map: %s\n", gerror->message);
        return 2;
    }
    open_rows = MAX(open_rows, 400000) / OPEN_BATCH * OPEN_BATCH;
    tmp = folder_make(dir != NULL ? dir : "/var/tmp", "qidmap-bench");
    if (tmp == NULL)
        must(dir != NULL ? dir : "/var/tmp", -errno);
    if (!json)
        printf("%-42s %10s %10s %3s %8s  %5s\n", "", "median", "least", "", "at most", "ratio");
    known_ones(tmp);
    uri = g_strdup_printf("lmdb:%s/store", tmp);
    must("open lmdb:",
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error));
    large = register_fs(store, 2);
    make_known(store, large, hashed, 0, KNOWN, FALSE);
    floor_us = new_ones(store, large, tmp);
    for (unsigned threads = 4; threads <= 64; threads *= 4) {
        g_autofree char *what = NULL;
        double commits, mappings;

        new_grouped(store, large, threads, &commits, &mappings);
        what = g_strdup_printf("commits, %u threads", threads);
        one(what, commits, "/s");
        g_free(what);
        what = g_strdup_printf("new mappings, %u threads", threads);
        one(what, mappings, "/s");
        g_free(what);
        what = g_strdup_printf("... beside floors one by one, %u threads", threads);
        one(what, mappings * floor_us / 1e6, "x");
    }
    qidmap_store_close(store);
    opening(tmp);
    folder_remove();
    return 0;
}
