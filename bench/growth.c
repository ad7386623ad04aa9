/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a store grows: bytes on the disk, memory, and what lookups and new mappings cost, as the rows
 * become more, through the public API alone. Each case has a store of its own, and maps in batches
 * as the server does for the directories that it lists:
 *
 *   dense     small inodes, as ext4 and xfs give them: one affix entry
 *   hashed    64-bit hashes, as mergerfs gives them: the affix budget is used up, then each inode
 *             is a row of the full map
 *   xino      overlayfs with xino: bit 63, the layer in the bits below, a small inode
 *   ends      inodes 0, 1 and those at the top end of the range, on many filesystems
 *   many      10,000 filesystems, as btrfs snapshots are, of 10 files each
 *
 *   growth [--quick] [--rows N] [--case NAME]... [--dir DIR] [--csv]
 *
 * Memory is that of this process: RssAnon is what the library holds; RssFile are pages of the store
 * that are mapped, which the kernel takes back when it wants to. Each id is checked when it is
 * looked up.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "bench/folder.h"
#include "store/qidmap.h"

#define BATCH   512u   /* files that the server asks for at once: one Treaddir */
#define LOOKUPS 20000u /* at each step */
#define MAX_FS  10000u

struct run {
    const char *name;
    qidmap_store *store;
    const char *folder;
    uint32_t fs[MAX_FS];
    uint64_t (*ino_of)(uint64_t i, uint32_t *fs);
    uint64_t done;
    double spent; /* seconds in new mappings since the last step */
    uint64_t since;
    gboolean csv;
};

static struct qidmap_error error;

static void must(const char *what, int rc)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench/growth: %s: %s %s\n", what, g_strerror(-rc), error.text);
    exit(1);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* ---- inodes ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static uint64_t ino_dense(uint64_t i, uint32_t *fs)
{
    *fs = 0;
    return 12 + i * 3;
}

/* A bijection, so that no inode comes twice. */
static uint64_t ino_hashed(uint64_t i, uint32_t *fs)
{
    *fs = 0;
    return mix(i + 1);
}

static uint64_t ino_xino(uint64_t i, uint32_t *fs)
{
    *fs = 0;
    return 1ull << 63 | (i % 4) << 55 | (256 + i / 4);
}

static uint64_t ino_ends(uint64_t i, uint32_t *fs)
{
    static const uint64_t inos[] = {
        0, 1, UINT64_MAX, UINT64_MAX - 1, 1ull << 63, UINT64_MAX - 255, 2, 1ull << 62};

    *fs = (uint32_t)(i / G_N_ELEMENTS(inos));
    return inos[i % G_N_ELEMENTS(inos)];
}

static uint64_t ino_many(uint64_t i, uint32_t *fs)
{
    *fs = (uint32_t)(i / 10);
    return 256 + i % 10;
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* Bytes that the files below a folder take on the disk. */
static uint64_t disk_bytes(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    uint64_t sum = 0;

    if (dir == NULL)
        must(folder, -errno);
    while ((entry = readdir(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, entry->d_name, NULL);
        struct stat st;

        if (entry->d_name[0] == '.' || lstat(path, &st) < 0)
            continue;
        sum += S_ISDIR(st.st_mode) ? disk_bytes(path) : (uint64_t)st.st_blocks * 512;
    }
    closedir(dir);
    return sum;
}

static double status_mib(const char *field)
{
    g_autofree char *text = NULL;
    const char *at;

    if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL))
        return 0;
    at = strstr(text, field);
    return at != NULL ? (double)g_ascii_strtoull(at + strlen(field), NULL, 10) / 1024 : 0;
}

/* Looks known inodes up, spread over all of them. */
static double lookup_ns(struct run *run)
{
    uint64_t count = MIN(LOOKUPS, run->done), wrong = 0;
    double start = now();

    for (uint64_t i = 0; i < count; i++) {
        uint64_t path = 0, ino;
        uint32_t fs;

        ino = run->ino_of(mix(i) % run->done, &fs);
        must("lookup", qidmap_find(run->store, run->fs[fs], ino, &path));
        wrong += path == 0;
    }
    start = now() - start;
    for (uint64_t i = 0; i < MIN(count, 1000); i++) {
        struct qidmap_object object = {0};
        uint64_t path = 0, ino;
        uint32_t fs;

        ino = run->ino_of(mix(i) % run->done, &fs);
        must("lookup", qidmap_find(run->store, run->fs[fs], ino, &path));
        must("reverse", qidmap_reverse(run->store, path, &object));
        wrong += object.fs != run->fs[fs] || object.ino != ino;
    }
    if (wrong != 0) {
        fprintf(stderr, "bench/growth: %s: %" G_GUINT64_FORMAT " wrong answers\n", run->name,
                (guint64)wrong);
        exit(1);
    }
    return start / (double)count * 1e9;
}

static void report(struct run *run)
{
    struct qidmap_stats stats = {.size = sizeof stats};
    double lookup = lookup_ns(run);
    double insert = run->since > 0 ? run->spent / (double)run->since * 1e6 : 0;
    double disk = (double)disk_bytes(run->folder) / 1048576;

    must("stats", qidmap_store_stats(run->store, &stats, &error));
    printf(run->csv ? "%s,%llu,%llu,%llu,%llu,%.2f,%.2f,%.2f,%.2f,%.0f,%.2f\n"
                    : "%-7s %10llu %6llu %6llu %10llu %9.1f %9.1f %9.1f %9.1f %9.0f %9.2f\n",
           run->name, (unsigned long long)run->done, (unsigned long long)stats.fs_rows,
           (unsigned long long)stats.affix_rows, (unsigned long long)stats.full_rows,
           (double)stats.bytes_used / 1048576, disk, status_mib("RssAnon:"), status_mib("RssFile:"),
           lookup, insert);
    fflush(stdout);
    run->spent = 0;
    run->since = 0;
}

/* Maps inodes until there are `rows`. */
static void grow(struct run *run, uint64_t rows)
{
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, BATCH);

    while (run->done < rows) {
        size_t count = (size_t)MIN(BATCH, rows - run->done);
        double start;

        for (size_t i = 0; i < count; i++) {
            uint32_t fs;

            items[i].ino = run->ino_of(run->done + i, &fs);
            items[i].fs = run->fs[fs];
        }
        start = now();
        must("batch", qidmap_map_batch(run->store, items, count));
        run->spent += now() - start;
        run->since += count;
        run->done += count;
    }
}

/* Made-up filesystems, all registered at once, as at the start of a server. */
static double register_fs(struct run *run, uint32_t count)
{
    g_autofree struct qidmap_identity *identities = g_new0(struct qidmap_identity, count);
    double start;

    for (uint32_t i = 0; i < count; i++) {
        struct qidmap_identity *identity = &identities[i];

        identity->size = sizeof *identity;
        identity->policy = QIDMAP_POLICY_AFFIX;
        identity->count = 1;
        identity->fsid[0].kind = QIDMAP_FSID_UUID;
        identity->fsid[0].size = 16;
        memcpy(identity->fsid[0].bytes, &i, sizeof i);
        identity->fsid[0].bytes[15] = 1;
        g_strlcpy(identity->hints.type, "ext4", sizeof identity->hints.type);
        g_snprintf(identity->hints.source, sizeof identity->hints.source, "/dev/growth%u", i);
        identity->superblock = 1000 + i;
    }
    start = now();
    must("register", qidmap_register(run->store, identities, count, run->fs, &error));
    return now() - start;
}

static void run_case(struct run *run, const char *dir, uint32_t n_fs, uint64_t rows)
{
    static const double steps[] = {1, 2, 5};
    g_autofree char *folder = folder_make(dir, "qidmap-growth");
    g_autofree char *uri = NULL;
    uint64_t reported = 0;
    double registered, start;

    if (folder == NULL)
        must(dir, -errno);
    run->folder = folder;
    uri = g_strdup_printf("lmdb:%s/store", folder);
    must("open",
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &run->store, &error));
    registered = register_fs(run, n_fs);
    for (double decade = 1000; decade <= (double)rows; decade *= 10) {
        for (guint s = 0; s < G_N_ELEMENTS(steps); s++) {
            uint64_t step = (uint64_t)(decade * steps[s]);

            if (step > rows || (step > 1000 && s == 1 && step < 1000000))
                continue;
            grow(run, step);
            report(run);
            reported = step;
        }
    }
    if (reported != rows) {
        grow(run, rows);
        report(run);
    }
    qidmap_store_close(run->store);
    start = now();
    must("open again", qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &run->store, &error));
    start = now() - start;
    if (!run->csv)
        printf("%-7s opened again in %.0f ms with RssAnon %.1f MiB; %u filesystems registered in "
               "%.0f ms\n",
               run->name, start * 1e3, status_mib("RssAnon:"), n_fs, registered * 1e3);
    qidmap_store_close(run->store);
    folder_remove();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*ino_of)(uint64_t, uint32_t *);
        uint32_t n_fs;
        uint64_t most; /* 0: as many as --rows says */
    } cases[] = {
        {"dense", ino_dense, 1, 0},         {"hashed", ino_hashed, 1, 0},
        {"xino", ino_xino, 1, 0},           {"ends", ino_ends, 2000, 16000},
        {"many", ino_many, MAX_FS, 100000},
    };
    gboolean quick = FALSE, csv = FALSE;
    gint64 rows = 10000000;
    g_autofree char *dir = NULL;
    g_auto(GStrv) only = NULL;
    const GOptionEntry entries[] = {
        {"quick", 'q', 0, G_OPTION_ARG_NONE, &quick, "100,000 rows at most", NULL},
        {"rows", 'r', 0, G_OPTION_ARG_INT64, &rows, "How many rows at most", "N"},
        {"case", 'c', 0, G_OPTION_ARG_STRING_ARRAY, &only, "This case, not all", "NAME"},
        {"dir", 'd', 0, G_OPTION_ARG_FILENAME, &dir, "Where to make the stores", "DIR"},
        {"csv", 0, 0, G_OPTION_ARG_NONE, &csv, "Comma-separated values", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) gerror = NULL;
    g_autofree struct run *run = g_new0(struct run, 1);

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &gerror) || rows < 1 || argc > 1) {
        fprintf(stderr, "bench/growth: %s\n", gerror != NULL ? gerror->message : "see --help");
        return 2;
    }
    if (quick)
        rows = MIN(rows, 100000);
    printf(csv ? "%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s\n"
               : "%-7s %10s %6s %6s %10s %9s %9s %9s %9s %9s %9s\n",
           "case", "inodes", "fs", "affix", "full", "used_MiB", "disk_MiB", "anon_MiB", "file_MiB",
           "lookup_ns", "new_us");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t most = cases[i].most != 0 ? MIN(cases[i].most, (uint64_t)rows) : (uint64_t)rows;

        if (only != NULL && !g_strv_contains((const char *const *)only, cases[i].name))
            continue;
        memset(run, 0, sizeof *run);
        run->name = cases[i].name;
        run->ino_of = cases[i].ino_of;
        run->csv = csv;
        /* in a process of its own, so that memory is that of this case alone */
        fflush(stdout);
        pid_t child = fork();
        int status = 0;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_case(run, dir != NULL ? dir : "/var/tmp", cases[i].n_fs, most);
            exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0)
            must("fork", -errno);
        if (status != 0)
            return 1;
    }
    return 0;
}
