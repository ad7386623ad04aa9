/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What runs until the crash: makes a store, registers filesystems and maps objects, and writes down
 * in a journal on another disk what the library told, right after it returned.
 *
 *   workload --store URI --journal FILE [--log FILE] [--scenario NAME] [--seed N] [--rounds N]
 *            [--tolerate [--stay]]
 *
 * The position that goes with each line of the journal is the size of --log, or what the recorder
 * says (tests/crash/record.c) where that is preloaded.
 *
 * --tolerate: errors of the library are expected (somebody injects them). After each error all that
 * was told is asked again, and must be answered from what is known; a new mapping may fail, or, as
 * soon as the store can, succeed. After -EIO the store is closed and opened again, as by a
 * daemon that is restarted, or, with --stay, used on.
 *
 * Exit status: 0 done; 1 the library failed, without --tolerate; 3 the contract was broken while
 * it ran; 2 usage.
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/crash/lab.h"

#define BATCH   40u
#define THREADS 3u

static char *uri, *journal, *log_file, *scenario;
static gint64 seed = 1;
static gint rounds = 12;
static gboolean tolerate, stay;

static int journal_fd, log_fd = -1;
static uint64_t (*recorder)(void);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the journal, `told` and `random` */
static GArray *told;                                     /* of struct lab_told */
static GHashTable *numbers;                              /* key -> fs number */
static struct lab_random rnd;
static qidmap_store *store;
static unsigned failures; /* that the library told about */

static void G_GNUC_NORETURN die(int status, const char *what, const char *text)
{
    fprintf(stderr, "workload: %s: %s\n", what, text);
    _exit(status);
}

static uint64_t position(void)
{
    struct stat st;

    if (recorder)
        return recorder();
    if (log_fd < 0)
        return 0;
    if (fstat(log_fd, &st) != 0)
        die(1, "log", g_strerror(errno));
    return (uint64_t)st.st_size;
}

/* Writes down what the library just told. */
static void tell(struct lab_told *t)
{
    pthread_mutex_lock(&lock);
    t->position = position();
    if (write(journal_fd, t, sizeof(*t)) != sizeof(*t))
        die(1, "journal", g_strerror(errno));
    g_array_append_val(told, *t);
    pthread_mutex_unlock(&lock);
}

static void open_store(void)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_error error = {0, ""};
    unsigned tries;
    int e = 0;

    params.affix_budget = 4;
    for (tries = 0; tries < 3; tries++) {
        e = qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, &params, &store, &error);
        if (e == 0)
            return;
        store = NULL;
        failures++;
        if (!tolerate)
            die(1, "open", error.text);
        /* What nobody could repair is no answer to a fault that is gone again. */
        if (e == -EUCLEAN || e == -EPROTO || e == -ENOTEMPTY)
            die(3, "a fault left a store that does not open", error.text);
    }
    if (told->len == 0)
        exit(0); /* the fault stays, and nothing was told */
    die(0, "the store stays closed, as the fault stays", error.text);
}

/* After an error: what was told is known, or at least nothing else is said. */
static void ask_again(void)
{
    guint i;

    for (i = 0; i < told->len; i++) {
        const struct lab_told *t = &g_array_index(told, struct lab_told, i);
        struct qidmap_object object;
        uint64_t path = 0;
        int e;

        if (t->kind != LAB_TOLD_ID)
            continue;
        lab_object(t, GPOINTER_TO_UINT(g_hash_table_lookup(numbers, GUINT_TO_POINTER(t->key))),
                   &object);
        e = qidmap_map_object(store, &object, &path);
        if (e != 0 || path != t->id) {
            fprintf(stderr,
                    "workload: after an error: inode %" G_GUINT64_FORMAT
                    " was told id %" G_GUINT64_FORMAT ", is %" G_GUINT64_FORMAT " (%s)\n",
                    (guint64)t->ino, (guint64)t->id, (guint64)path, g_strerror(-e));
            _exit(3);
        }
    }
}

static void failed(const char *what, int e)
{
    failures++;
    if (!tolerate)
        die(1, what, g_strerror(-e));
    ask_again();
    if (!stay && (e == -EIO || e == -EUCLEAN)) {
        qidmap_store_close(store);
        open_store();
        ask_again();
    }
}

static uint32_t filesystem(uint32_t key)
{
    struct qidmap_identity identity;
    struct qidmap_error error = {0, ""};
    struct lab_told t = {.kind = LAB_TOLD_FS, .key = key};
    uint32_t fs = 0;
    unsigned tries;
    int e;

    fs = GPOINTER_TO_UINT(g_hash_table_lookup(numbers, GUINT_TO_POINTER(key)));
    if (fs)
        return fs;
    lab_identity(key, &identity);
    for (tries = 0; tries < 3; tries++) {
        e = qidmap_register(store, &identity, 1, &fs, &error);
        if (e == 0) {
            t.id = fs;
            g_hash_table_insert(numbers, GUINT_TO_POINTER(key), GUINT_TO_POINTER(fs));
            tell(&t);
            return fs;
        }
        failed(error.text, e);
    }
    return 0;
}

static void map_one(uint32_t key, uint32_t kind, uint64_t ino)
{
    struct lab_told t = {.kind = LAB_TOLD_ID, .key = key, .object_kind = kind, .ino = ino};
    struct qidmap_object object;
    uint32_t fs = filesystem(key);
    int e;

    if (fs == 0)
        return;
    if (kind != QIDMAP_OBJECT_INODE)
        t.ino2 = ~ino;
    lab_object(&t, fs, &object);
    e = qidmap_map_object(store, &object, &t.id);
    if (e == 0)
        tell(&t);
    else
        failed("map", e);
}

static void map_batch(uint32_t key, uint64_t base)
{
    struct qidmap_item items[BATCH];
    uint32_t fs = filesystem(key);
    unsigned i;
    int first = 0;

    if (fs == 0)
        return;
    memset(items, 0, sizeof(items));
    for (i = 0; i < BATCH; i++) {
        items[i].fs = fs;
        items[i].ino = base * BATCH + i == 0 ? 1 : (base * BATCH + i) * 0x9e3779b97f4a7c15ull;
    }
    (void)qidmap_map_batch(store, items, BATCH);
    for (i = 0; i < BATCH; i++) {
        struct lab_told t = {.kind = LAB_TOLD_ID, .key = key};

        t.ino = items[i].ino;
        t.id = items[i].path;
        if (items[i].result == 0)
            tell(&t);
        else if (first == 0)
            first = items[i].result;
    }
    if (first != 0)
        failed("batch", first);
}

static uint64_t range(unsigned n)
{
    return (uint64_t)(n + 1) << 57 | (n * 977u + 1);
}

/* One commit for each: a new filesystem, or a new range of inodes of one. */
static void run_affix(unsigned offset)
{
    unsigned i;

    for (i = 0; i < (unsigned)rounds; i++) {
        map_one(1 + offset + i / 4, QIDMAP_OBJECT_INODE, range(i % 4 * 8));
        map_one(1 + offset + i / 4, QIDMAP_OBJECT_INODE, range(i % 4 * 8) + 7); /* covered now */
    }
}

/* Past the budget: rows of the full map, in batches and alone, and objects of other kinds. */
static void run_full(unsigned offset)
{
    unsigned i;

    for (i = 0; i < (unsigned)rounds; i++) {
        map_batch(101 + offset, offset * 1000 + i);
        map_one(101 + offset, QIDMAP_OBJECT_INODE, lab_random(&rnd) | 1);
        map_one(101 + offset, QIDMAP_OBJECT_PLACEHOLDER, 1000 + i);
        map_one(LAB_HANDLE_KEY + 1 + offset, QIDMAP_OBJECT_HANDLE, 5000 + i);
    }
}

/* Threads that come together share commits. */
static void *thread_main(void *data)
{
    unsigned which = GPOINTER_TO_UINT(data), i;

    for (i = 0; i < (unsigned)rounds * 2; i++) {
        struct lab_told t = {.kind = LAB_TOLD_ID, .key = 201};
        struct qidmap_object object;
        int e;

        t.ino = (which * 1000003ull + i + 1) * 0x9e3779b97f4a7c15ull;
        lab_object(&t, GPOINTER_TO_UINT(g_hash_table_lookup(numbers, GUINT_TO_POINTER(201))),
                   &object);
        e = qidmap_map_object(store, &object, &t.id);
        if (e == 0)
            tell(&t);
        else if (!tolerate)
            die(1, "map", g_strerror(-e));
        else
            failures++;
    }
    return NULL;
}

static void run_group(void)
{
    pthread_t thread[THREADS];
    unsigned i;

    if (filesystem(201) == 0)
        return;
    for (i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, thread_main, GUINT_TO_POINTER(i)) != 0)
            die(1, "thread", "cannot be made");
    for (i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

/* Clean stops in between: each is a commit, too. */
static void run_reopen(void)
{
    unsigned i;

    for (i = 0; i < (unsigned)rounds; i++) {
        map_one(301 + i / 3, QIDMAP_OBJECT_INODE, range(i % 3 * 8));
        if (i % 2) {
            qidmap_store_close(store);
            open_store();
        }
    }
}

static int dump_write(void *data, const void *bytes, size_t size)
{
    g_string_append_len(data, bytes, (gssize)size);
    return 0;
}

static long dump_read(void *data, void *buffer, size_t size)
{
    GString *text = data;
    size_t n = MIN(size, text->len);

    memcpy(buffer, text->str, n);
    g_string_erase(text, 0, (gssize)n);
    return (long)n;
}

/* A dump of the store takes the place of the store. What was there is dumped once more, onto the
 * disk of the journal. */
static void replace(void)
{
    g_autofree char *backup = g_strconcat(journal, ".backup", NULL);
    struct qidmap_load_options options = {
        .size = sizeof(options), .flags = QIDMAP_LOAD_REPLACE, .read = dump_read, .backup = backup};
    struct qidmap_error error = {0, ""};
    GString *text = g_string_new(NULL);
    int e = qidmap_dump(store, dump_write, NULL, text, &error);

    if (e != 0) {
        g_string_free(text, TRUE);
        failed(error.text, e);
        return;
    }
    qidmap_store_close(store);
    store = NULL;
    (void)unlink(backup);
    options.data = text;
    e = qidmap_load(uri, &options, NULL, &store, &error);
    g_string_free(text, TRUE);
    if (e == 0)
        return;
    store = NULL;
    failures++;
    if (!tolerate)
        die(1, "load", error.text);
    open_store();
    ask_again();
}

static void run_load(void)
{
    unsigned i;

    for (i = 0; i < (unsigned)rounds; i++) {
        map_one(401 + i / 3, QIDMAP_OBJECT_INODE, range(i % 3 * 8));
        if (!g_str_has_prefix(uri, "xattr:"))
            map_batch(402, i);
        if (i % 2)
            replace();
    }
}

static gboolean wants(const char *name)
{
    return strcmp(scenario, name) == 0 || strcmp(scenario, "all") == 0;
}

int main(int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"store", 0, 0, G_OPTION_ARG_STRING, &uri, "The store", "URI"},
        {"journal", 0, 0, G_OPTION_ARG_FILENAME, &journal, "Where what was told goes", "FILE"},
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &log_file, "Whose size is the position", "FILE"},
        {"scenario", 0, 0, G_OPTION_ARG_STRING, &scenario, "affix, full, reopen, load, group, all",
         "NAME"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Of the random numbers", "N"},
        {"rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "How much of each", "N"},
        {"tolerate", 0, 0, G_OPTION_ARG_NONE, &tolerate, "Faults are injected", NULL},
        {"stay", 0, 0, G_OPTION_ARG_NONE, &stay, "Never open the store again after a fault", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "crash_record_position");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !uri || !journal) {
        fprintf(stderr, "workload: %s\n", error ? error->message : "--store and --journal needed");
        return 2;
    }
    if (!scenario)
        scenario = g_strdup("all");
    memcpy(&recorder, &symbol, sizeof(recorder));
    journal_fd = open(journal, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (journal_fd < 0)
        die(1, journal, g_strerror(errno));
    if (log_file && (log_fd = open(log_file, O_RDONLY | O_CLOEXEC)) < 0)
        die(1, log_file, g_strerror(errno));
    rnd.state = (uint64_t)seed;
    told = g_array_new(FALSE, FALSE, sizeof(struct lab_told));
    numbers = g_hash_table_new(NULL, NULL);

    lab_prepare(uri);
    open_store();
    if (wants("affix"))
        run_affix(0);
    if (wants("full"))
        run_full(0);
    if (wants("reopen"))
        run_reopen();
    if (wants("load"))
        run_load();
    if (wants("group"))
        run_group();
    qidmap_store_close(store);
    printf("told %u, failures %u\n", told->len, failures);
    return 0;
}
