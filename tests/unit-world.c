/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever an administrator does to a store, in any order, an id that was told for a file
 * is never told for another one, and a file keeps its id as long as nobody asks for a new one.
 *
 * A small world of disks with files, and a model that remembers every id that was ever told, and
 * what each file must be told now. Random steps: mapping, registration, alias, retire, policy,
 * bind, prune, compact, copy, reset, restoring a dump, putting back files of an older state; some
 * of them by a process that is killed meanwhile. After each step all of the world is asked.
 *
 * WORLD_SEED=N WORLD_STEPS=N run one long world; without them some short ones run.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/qidmap.h"
#include "tests/lib/store-fixture.h"

#define DISKS 5u
#define FILES 40u
#define FAR   4096u /* files of all disks that ever were: disk x FILES + file */

struct disk {
    uint8_t uuid;
    uint32_t row; /* 0: the store has none that is served */
    uint32_t policy;
    gboolean superseded;
    uint64_t ids[FILES]; /* that must be told; 0: not known */
};

/* What the store holds; by value, so that an old state can be kept. */
struct state {
    struct disk disks[DISKS];
    uint32_t gone[64]; /* rows that are retired */
    uint8_t gone_uuid[64];
    unsigned n_gone;
};

struct world {
    GRand *rand;
    char *dir, *uri;
    qidmap_store *store;
    unsigned seed, step, name, done[16];
    uint8_t next_uuid;
    struct state now, kept, copied; /* kept: of the dump; copied: of the files put aside */
    char *dump, *files;
    GHashTable *owner; /* id -> file of the first who was told */
    GArray *told;      /* all ids */
    GArray *indices;   /* where those of affix entries were, after each step */
    gboolean over;
    unsigned same[FAR]; /* union-find: files that are one and the same, moved */
    const char *doing;
    char *wrong;
};

static unsigned pick(struct world *w, unsigned n)
{
    return (unsigned)g_rand_int_range(w->rand, 0, (gint32)n);
}

static unsigned file_of(uint8_t uuid, unsigned i)
{
    return uuid * FILES + i;
}

static unsigned one_of(struct world *w, unsigned file)
{
    while (w->same[file] != file)
        file = w->same[file] = w->same[w->same[file]];
    return file;
}

static void make_same(struct world *w, unsigned a, unsigned b)
{
    w->same[one_of(w, a)] = one_of(w, b);
}

static uint64_t inode_of(unsigned i)
{
    return i == 0 ? UINT64_C(1) << 63 : ((uint64_t)(i % 7) << 61) | (i + 2);
}

static struct qidmap_object object_of(const struct disk *disk, unsigned i)
{
    struct qidmap_object object;

    memset(&object, 0, sizeof(object));
    object.fs = disk->row;
    if (disk->policy == QIDMAP_POLICY_HANDLE) {
        object.kind = QIDMAP_OBJECT_HANDLE;
        object.handle_type = 1;
        object.handle_size = 8;
        memset(object.handle, (int)i + 1, 8);
    } else {
        object.ino = inode_of(i);
    }
    return object;
}

static uint32_t first_policy(const struct disk *disk)
{
    return disk->uuid % 5 == 4 ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_AFFIX;
}

static void say(struct world *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(struct world *w, const char *format, ...)
{
    va_list list;

    if (w->wrong)
        return;
    va_start(list, format);
    w->wrong = g_strdup_vprintf(format, list);
    va_end(list);
}

/* The store told `id` for the file: nobody else was ever told that. */
static void note(struct world *w, uint64_t id, unsigned file)
{
    gpointer value;

    if (!g_hash_table_lookup_extended(w->owner, &id, NULL, &value)) {
        uint64_t *key = g_new(uint64_t, 1);

        *key = id;
        g_hash_table_insert(w->owner, key, GUINT_TO_POINTER(file));
        g_array_append_val(w->told, id);
    } else if (one_of(w, GPOINTER_TO_UINT(value)) != one_of(w, file)) {
        say(w, "id %" G_GUINT64_FORMAT " was told for file %u, and now for %u", id,
            GPOINTER_TO_UINT(value), file);
    }
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask_file(struct world *w, struct disk *disk, unsigned i, GHashTable *seen)
{
    struct qidmap_object object = object_of(disk, i), back;
    uint64_t path = 0, *copy;
    int r = qidmap_find_object(w->store, &object, &path);

    if (disk->superseded || disk->policy == QIDMAP_POLICY_DENY) {
        if (r != -EPERM)
            say(w, "disk %u gives ids (%d), and is superseded or denied", disk->uuid, r);
        return;
    }
    if (r == -ENOENT && disk->ids[i] == 0)
        return;
    if (r != 0) {
        say(w, "file %u of disk %u (row %u): %s; it had id %" G_GUINT64_FORMAT, i, disk->uuid,
            disk->row, g_strerror(-r), disk->ids[i]);
        return;
    }
    if (disk->ids[i] != 0 && disk->ids[i] != path)
        say(w, "file %u of disk %u (row %u) had id %" G_GUINT64_FORMAT ", now %" G_GUINT64_FORMAT,
            i, disk->uuid, disk->row, disk->ids[i], path);
    disk->ids[i] = path;
    note(w, path, file_of(disk->uuid, i));
    copy = g_new(uint64_t, 1);
    *copy = path;
    if (!g_hash_table_add(seen, copy))
        say(w, "id %" G_GUINT64_FORMAT " is that of two files", path);
    r = qidmap_reverse(w->store, path, &back);
    if (r != 0 || qidmap_object_compare(&back, &object) != 0)
        say(w,
            "id %" G_GUINT64_FORMAT
            " of file %u, disk %u, row %u leads to row %u, inode %" G_GUINT64_FORMAT " (%d)",
            path, i, disk->uuid, disk->row, back.fs, back.ino, r);
}

static void ask_row(struct world *w, const struct disk *disk)
{
    struct qidmap_identity id = fixture_identity(disk->uuid, first_policy(disk));
    struct qidmap_fs row = {.size = sizeof(row)};
    uint32_t fs = 0;

    if (qidmap_recognise(w->store, &id, 1, &fs, NULL) != 0 || fs != disk->row)
        say(w, "disk %u is known as row %u, not %u", disk->uuid, fs, disk->row);
    else if (fs != 0 &&
             (qidmap_fs_get(w->store, fs, &row, NULL) != 0 || row.retired ||
              row.policy != disk->policy || row.superseded != (uint32_t)disk->superseded))
        say(w, "row %u of disk %u is not what it was", fs, disk->uuid);
}

static void ask_all(struct world *w)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error = {0, ""};

    for (unsigned d = 0; d < DISKS && !w->wrong; d++) {
        ask_row(w, &w->now.disks[d]);
        for (unsigned i = 0; i < FILES && w->now.disks[d].row && !w->wrong; i++)
            ask_file(w, &w->now.disks[d], i, seen);
    }
    if (w->wrong)
        return;
    if (qidmap_store_verify(w->store, NULL, &result, &error) != 0)
        say(w, "verify: %s", error.text);
    else if (result.problems)
        say(w, "verify finds %" G_GUINT64_FORMAT " problems", result.problems);
}

/* ---- steps with the store open ------------------------------------------------------------------
 */

static void step_register(struct world *w, struct disk *disk)
{
    uint32_t policy = first_policy(disk);
    struct qidmap_fs row = {.size = sizeof(row)};
    uint32_t fs = fixture_register(w->store, disk->uuid, policy);

    if (disk->row != 0 && disk->row != fs)
        say(w, "disk %u had row %u, and now %u", disk->uuid, disk->row, fs);
    for (unsigned d = 0; d < DISKS; d++) {
        if (&w->now.disks[d] != disk && w->now.disks[d].row == fs)
            say(w, "disks %u and %u have row %u", disk->uuid, w->now.disks[d].uuid, fs);
    }
    if (disk->row == 0) {
        disk->policy = policy;
        disk->superseded = FALSE;
    }
    disk->row = fs;
    g_assert_cmpint(qidmap_fs_get(w->store, fs, &row, NULL), ==, 0);
    if ((row.superseded != 0) != disk->superseded)
        say(w, "disk %u came back, and is %ssuperseded", disk->uuid, row.superseded ? "" : "not ");
}

static void step_map(struct world *w, struct disk *disk)
{
    unsigned first = pick(w, FILES), n = 1 + pick(w, 8);

    for (unsigned i = first; i < MIN(first + n, FILES); i++) {
        struct qidmap_object object = object_of(disk, i);
        uint64_t path = 0;
        int r = qidmap_map_object(w->store, &object, &path);

        if (disk->superseded || disk->policy == QIDMAP_POLICY_DENY) {
            if (r != -EPERM)
                say(w, "disk %u maps (%d), and is superseded or denied", disk->uuid, r);
            continue;
        }
        if (r != 0) {
            say(w, "file %u of disk %u cannot be mapped: %s", i, disk->uuid, g_strerror(-r));
            return;
        }
        if (disk->ids[i] != 0 && disk->ids[i] != path)
            say(w,
                "file %u of disk %u had id %" G_GUINT64_FORMAT ", is mapped to %" G_GUINT64_FORMAT,
                i, disk->uuid, disk->ids[i], path);
        disk->ids[i] = path;
        note(w, path, file_of(disk->uuid, i));
    }
}

static void note_gone(struct world *w, const struct disk *disk)
{
    if (w->now.n_gone < G_N_ELEMENTS(w->now.gone)) {
        w->now.gone[w->now.n_gone] = disk->row;
        w->now.gone_uuid[w->now.n_gone++] = disk->uuid;
    }
}

static void step_retire(struct world *w, struct disk *disk)
{
    int r = qidmap_fs_retire(w->store, disk->row, NULL);

    if (r != 0) {
        say(w, "retire: %s", g_strerror(-r));
        return;
    }
    note_gone(w, disk);
    disk->row = 0;
    memset(disk->ids, 0, sizeof(disk->ids));
}

static void step_policy(struct world *w, struct disk *disk)
{
    static const uint32_t all[] = {QIDMAP_POLICY_AFFIX, QIDMAP_POLICY_HANDLE, QIDMAP_POLICY_DENY};
    uint32_t policy = all[pick(w, 3)], fs = disk->row;
    int renumber = pick(w, 3) == 0;
    int r = qidmap_fs_set_policy(w->store, disk->row, policy, renumber, &fs, NULL);

    if (r == 0 && fs != disk->row) {
        note_gone(w, disk);
        disk->row = fs;
        memset(disk->ids, 0, sizeof(disk->ids));
    } else if (r == 0 && policy != disk->policy && !disk->superseded) {
        for (unsigned i = 0; i < FILES; i++) {
            if (disk->ids[i] != 0)
                say(w,
                    "policy of disk %u (row %u) changed from %s under file %u, id "
                    "%" G_GUINT64_FORMAT,
                    disk->uuid, disk->row, qidmap_policy_name(disk->policy), i, disk->ids[i]);
        }
    }
    if (r == 0)
        disk->policy = policy;
}

/* `older` is a disk whose identity changed into that of `disk`, or a row that was retired. */
static void step_alias(struct world *w, struct disk *disk)
{
    struct disk *older = &w->now.disks[pick(w, DISKS)];
    gboolean gone = w->now.n_gone > 0 && pick(w, 2);
    unsigned which = gone ? pick(w, w->now.n_gone) : 0;
    uint32_t row = gone ? w->now.gone[which] : older->row;
    uint8_t uuid = gone ? w->now.gone_uuid[which] : older->uuid;

    if (row == 0 || row == disk->row || qidmap_fs_alias(w->store, row, disk->row, NULL) != 0)
        return;
    w->done[15]++;
    for (unsigned i = 0; i < FILES; i++) {
        make_same(w, file_of(uuid, i), file_of(disk->uuid, i));
        if (!gone && older->ids[i] != 0)
            disk->ids[i] = older->ids[i];
        else
            disk->ids[i] = 0; /* the row may know it, though nobody asked */
    }
    if (!gone) { /* it is the other one now */
        memset(older, 0, sizeof(*older));
        older->uuid = w->next_uuid++;
    }
}

/* Each object is there by a draw that is the same the second time. */
struct look {
    struct world *w;
    const struct disk *disk;
    uint64_t dead; /* bit i: file i */
};

static int look(void *data, const struct qidmap_object *objects, size_t count, uint8_t *exists)
{
    const struct look *l = data;

    for (size_t k = 0; k < count; k++) {
        for (unsigned i = 0; i < FILES; i++) {
            struct qidmap_object object = object_of(l->disk, i);

            if (qidmap_object_compare(&object, &objects[k]) == 0)
                exists[k] = !(l->dead >> i & 1);
        }
    }
    return 0;
}

static void step_prune(struct world *w, struct disk *disk)
{
    struct look l = {w, disk, (uint64_t)g_rand_int(w->rand) & g_rand_int(w->rand)};
    struct qidmap_prune_options options = {
        .size = sizeof(options), .fs = disk->row, .look = look, .data = &l};
    struct qidmap_error error = {0, ""};

    if (qidmap_prune(w->store, &options, NULL, &error) != 0)
        say(w, "prune: %s", error.text);
    for (unsigned i = 0; i < FILES; i++) {
        struct qidmap_object object = object_of(disk, i);
        uint64_t path;
        int r;

        if (!(l.dead >> i & 1))
            continue;
        /* A bound row that is gone leaves the id that an affix entry has for the inode. */
        r = qidmap_find_object(w->store, &object, &path);
        if (r == -ENOENT || (r == 0 && (disk->ids[i] & 1)))
            disk->ids[i] = 0;
    }
}

static void step_compact(struct world *w)
{
    struct qidmap_error error = {0, ""};

    if (qidmap_compact(w->store, 0, NULL, &error) != 0)
        say(w, "compact: %s", error.text);
}

static void step_dump(struct world *w)
{
    struct qidmap_error error = {0, ""};

    g_free(w->dump);
    w->dump = g_strdup_printf("%s/dump.%u", w->dir, w->name++);
    if (qidmap_backup(w->store, w->dump, 0, NULL, NULL, NULL, &error) != 0)
        say(w, "backup: %s", error.text);
    w->kept = w->now;
}

/* ---- steps with the store closed ----------------------------------------------------------------
 */

static void close_store(struct world *w)
{
    qidmap_store_close(w->store);
    w->store = NULL;
}

static void open_store(struct world *w)
{
    struct qidmap_error error = {0, ""};

    if (!w->store && qidmap_store_open(w->uri, QIDMAP_OPEN_WRITE, NULL, &w->store, &error) != 0)
        g_error("seed %u, step %u, %s: open: %s", w->seed, w->step, w->doing, error.text);
}

#define KILLED 1

/* Does it here, or in a process that may be killed. */
static int perform(struct world *w, int (*work)(struct world *, void *), void *data)
{
    int status;
    pid_t pid;

    if (pick(w, 3) != 0)
        return work(w, data);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        _exit(work(w, data) == 0 ? 0 : 2);
    g_usleep(pick(w, 6000));
    (void)kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return !WIFEXITED(status) ? KILLED : WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* After a step that is whole or not done: the world is `then`, or what it was. */
static void settle(struct world *w, int r, const struct state *then)
{
    char *wrong;

    open_store(w);
    if (r == 0)
        w->now = *then;
    ask_all(w);
    if (r != KILLED || !w->wrong)
        return;
    wrong = g_steal_pointer(&w->wrong);
    w->now = *then;
    ask_all(w);
    if (w->wrong) {
        g_autofree char *second = g_steal_pointer(&w->wrong);

        say(w, "killed; as before: %s; as afterwards: %s", wrong, second);
    }
    g_free(wrong);
}

static int do_reset(struct world *w, void *data G_GNUC_UNUSED)
{
    return qidmap_reset(w->uri, NULL, NULL, NULL);
}

static void step_reset(struct world *w)
{
    struct state then = w->now;
    int r;

    then.n_gone = 0;
    for (unsigned d = 0; d < DISKS; d++) {
        uint8_t uuid = then.disks[d].uuid;

        memset(&then.disks[d], 0, sizeof(then.disks[d]));
        then.disks[d].uuid = uuid;
    }
    close_store(w);
    r = perform(w, do_reset, NULL);
    /* Without rows nothing is asked: whether it was done shows in them. */
    open_store(w);
    if (r == KILLED) {
        struct qidmap_stats stats = {.size = sizeof(stats)};

        g_assert_cmpint(qidmap_store_stats(w->store, &stats, NULL), ==, 0);
        r = stats.fs_rows == 0 ? 0 : -EIO;
    }
    settle(w, r, &then);
}

struct reader {
    FILE *in;
};

static long read_dump(void *data, void *bytes, size_t size)
{
    return (long)fread(bytes, 1, size, ((struct reader *)data)->in);
}

static int do_restore(struct world *w, void *data G_GNUC_UNUSED)
{
    struct reader reader = {fopen(w->dump, "re")};
    struct qidmap_load_options options = {
        .size = sizeof(options), .flags = QIDMAP_LOAD_REPLACE, .read = read_dump, .data = &reader};
    int r = reader.in ? qidmap_load(w->uri, &options, NULL, NULL, NULL) : -errno;

    if (reader.in)
        fclose(reader.in);
    return r;
}

static void step_restore(struct world *w)
{
    int r;

    if (!w->dump)
        return;
    close_store(w);
    r = perform(w, do_restore, NULL);
    if (r < 0)
        say(w, "restore fails");
    settle(w, r, &w->kept);
}

static void copy_files(const char *a, const char *b)
{
    g_autofree char *command = g_strdup_printf("cp -a %s %s", a, b);

    if (system(command) != 0) /* NOLINT: paths of our own */
        g_error("%s", command);
}

static uint64_t next_affix(struct world *w)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};

    g_assert_cmpint(qidmap_store_stats(w->store, &stats, NULL), ==, 0);
    return stats.next_affix;
}

/* Indices of affix entries are few, and where they go on is chance: that may be where they were. */
static gboolean was_near(struct world *w, uint64_t next)
{
    for (guint i = 0; i < w->indices->len; i++) {
        uint64_t then = g_array_index(w->indices, uint64_t, i);

        if (then + 1000 > next && then < next + 1000)
            return TRUE;
    }
    return FALSE;
}

/* Files of the store are put aside, and put back later: counters of then. */
static void step_files(struct world *w)
{
    g_autofree char *path = g_strdup(w->uri + 5);
    gboolean back = FALSE;

    close_store(w);
    if (!w->files || pick(w, 2)) {
        if (!w->files)
            w->files = g_strconcat(w->dir, "/aside", NULL);
        fixture_remove(w->files);
        copy_files(path, w->files);
        w->copied = w->now;
    } else {
        fixture_remove(path);
        copy_files(w->files, path);
        w->now = w->copied;
        back = TRUE;
    }
    open_store(w);
    w->over = back && was_near(w, next_affix(w));
}

static void step_copy(struct world *w)
{
    struct qidmap_copy_options options = {.size = sizeof(options),
                                          .flags = pick(w, 2) ? QIDMAP_LOAD_LATEST : 0};
    g_autofree char *to = g_strdup_printf("lmdb:%s/store.%u", w->dir, w->name++);
    struct qidmap_error error = {0, ""};

    if (qidmap_store_copy(w->store, to, &options, NULL, &error) != 0) {
        say(w, "copy: %s", error.text);
        return;
    }
    close_store(w);
    fixture_remove(w->uri + 5);
    g_free(w->uri);
    w->uri = g_steal_pointer(&to);
    open_store(w);
}

/* ---- bind ------------------------------------------------------------------------------------ */

struct bind {
    struct qidmap_binding list[FILES];
    unsigned file[FILES];
    size_t n, at;
    uint32_t superseded[2 * DISKS];
    struct qidmap_bind_options options;
};

static int bind_rewind(void *data)
{
    ((struct bind *)data)->at = 0;
    return 0;
}

static int bind_next(void *data, struct qidmap_binding *binding)
{
    struct bind *b = data;

    if (b->at == b->n)
        return 0;
    *binding = b->list[b->at++];
    return 1;
}

static int do_bind(struct world *w, void *data)
{
    struct qidmap_error error = {0, ""};
    int r = qidmap_bind(w->uri, &((struct bind *)data)->options, NULL, &error);

    if (r != 0 && g_getenv("WORLD_LOUD"))
        fprintf(stderr, "bind: %s\n", error.text);
    return r;
}

static uint64_t any_id(struct world *w, const uint64_t *good, unsigned n_good, gboolean clean)
{
    unsigned draw = clean ? 0 : pick(w, 10);

    if (draw < 6)
        return n_good ? good[pick(w, n_good)] : 0;
    /* An even one of a superseded filesystem is what its inode says; whoever was told it. */
    if (draw < 8 && w->told->len > 0)
        return g_array_index(w->told, uint64_t, pick(w, w->told->len)) | 1;
    if (draw < 9)
        return 2 * (uint64_t)pick(w, 5000) + 1;
    return ((uint64_t)g_rand_int(w->rand) << 32 | g_rand_int(w->rand)) & ~UINT64_C(1);
}

static gboolean contains(const struct bind *b, uint64_t path)
{
    for (size_t k = 0; k < b->n; k++) {
        if (b->list[k].path == path)
            return TRUE;
    }
    return FALSE;
}

static gint by_object(gconstpointer a, gconstpointer b)
{
    return qidmap_object_compare(&((const struct qidmap_binding *)a)->object,
                                 &((const struct qidmap_binding *)b)->object);
}

/* The store bound `path` to a file: fine where nobody was told it, or who was has moved. */
static void check_moved(struct world *w, const gboolean *moved, uint8_t gone, uint64_t path,
                        unsigned file)
{
    gpointer value;
    unsigned owner;

    if (!g_hash_table_lookup_extended(w->owner, &path, NULL, &value))
        return;
    owner = one_of(w, GPOINTER_TO_UINT(value));
    for (unsigned d = 0; d <= DISKS; d++) {
        uint8_t uuid = d < DISKS ? w->now.disks[d].uuid : gone;

        for (unsigned i = 0; (d < DISKS ? moved[d] : gone != 0) && i < FILES; i++) {
            if (one_of(w, file_of(uuid, i)) == owner) {
                make_same(w, file, owner);
                return;
            }
        }
    }
    note(w, path, file);
}

/* Whether a step that was killed had been done: all of it, or the world says what is wrong. */
static gboolean was_bound(struct world *w, const struct bind *b)
{
    for (size_t k = 0; k < b->options.n_superseded; k++) {
        struct qidmap_fs row = {.size = sizeof(row)};

        if (qidmap_fs_get(w->store, b->superseded[k], &row, NULL) != 0 || !row.superseded)
            return FALSE;
    }
    for (size_t k = 0; k < b->n; k++) {
        uint64_t path;

        if (qidmap_find_object(w->store, &b->list[k].object, &path) != 0 || path != b->list[k].path)
            return FALSE;
    }
    return TRUE;
}

static void step_bind(struct world *w, struct disk *disk)
{
    struct bind *b = g_new0(struct bind, 1);
    gboolean moved[DISKS] = {FALSE}, clean = pick(w, 4) != 0;
    struct state then = w->now;
    uint64_t good[DISKS * FILES];
    unsigned n_good = 0, target = (unsigned)(disk - w->now.disks);
    uint8_t gone = 0;
    int r;

    b->options = (struct qidmap_bind_options){.size = sizeof(b->options),
                                              .superseded = b->superseded,
                                              .rewind = bind_rewind,
                                              .next = bind_next,
                                              .data = b};
    for (unsigned d = 0; d < DISKS; d++) {
        const struct disk *other = &w->now.disks[d];

        if (other == disk || other->row == 0 || other->policy == QIDMAP_POLICY_DENY || pick(w, 3))
            continue;
        moved[d] = TRUE;
        then.disks[d].superseded = TRUE;
        b->superseded[b->options.n_superseded++] = other->row;
        for (unsigned i = 0; i < FILES; i++) {
            if (other->ids[i] != 0)
                good[n_good++] = other->ids[i];
        }
    }
    if (!clean && w->now.n_gone > 0) { /* a row that is retired already */
        unsigned which = pick(w, w->now.n_gone);

        b->superseded[b->options.n_superseded++] = w->now.gone[which];
        gone = w->now.gone_uuid[which];
    }
    for (unsigned i = 0; i < FILES; i++) {
        uint64_t path = pick(w, clean ? 2 : 8) ? 0 : any_id(w, good, n_good, clean);

        if (path == 0 || contains(b, path))
            continue;
        b->list[b->n].object = object_of(disk, i);
        b->list[b->n++].path = path;
    }
    qsort(b->list, b->n, sizeof(b->list[0]), by_object);
    close_store(w);
    r = perform(w, do_bind, b);
    open_store(w);
    if (r == KILLED)
        r = was_bound(w, b) ? 0 : -EIO;
    for (size_t k = 0; k < b->n; k++) {
        for (unsigned i = 0; i < FILES; i++) {
            struct qidmap_object object = object_of(disk, i);

            if (qidmap_object_compare(&object, &b->list[k].object) != 0)
                continue;
            then.disks[target].ids[i] = b->list[k].path;
            if (r == 0)
                check_moved(w, moved, gone, b->list[k].path, file_of(disk->uuid, i));
        }
    }
    if (g_getenv("WORLD_LOUD"))
        fprintf(stderr, "bind: %d, %zu, superseded %zu, gone row %u\n", r, b->n,
                b->options.n_superseded, gone ? b->superseded[b->options.n_superseded - 1] : 0);
    if (r == 0)
        w->done[14]++;
    settle(w, r, &then);
    g_free(b);
}

/* ---- the world ------------------------------------------------------------------------------- */

static void reopen(struct world *w)
{
    close_store(w);
    open_store(w);
}

static void take_step(struct world *w)
{
    static const char *const names[] = {"map",   "register", "retire", "policy", "alias",
                                        "prune", "compact",  "dump",   "reset",  "restore",
                                        "files", "copy",     "bind",   "reopen"};
    static const unsigned weight[] = {40, 14, 3, 3, 8, 5, 2, 3, 1, 2, 2, 2, 12, 8};
    struct disk *disk = &w->now.disks[pick(w, DISKS)];
    unsigned draw, kind = 0, sum = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(weight); i++)
        sum += weight[i];
    for (draw = pick(w, sum); draw >= weight[kind]; kind++)
        draw -= weight[kind];
    w->doing = names[kind];
    if (disk->row == 0 && kind < 13 && (kind < 6 || kind == 12)) {
        kind = 1;
        w->doing = "register";
    }
    w->done[kind]++;
    if (g_getenv("WORLD_LOUD"))
        fprintf(stderr, "%u %s disk %u row %u superseded %d\n", w->step, w->doing, disk->uuid,
                disk->row, disk->superseded);
    switch (kind) {
    case 0:
        step_map(w, disk);
        break;
    case 1:
        step_register(w, disk);
        break;
    case 2:
        step_retire(w, disk);
        break;
    case 3:
        step_policy(w, disk);
        break;
    case 4:
        step_alias(w, disk);
        break;
    case 5:
        step_prune(w, disk);
        break;
    case 6:
        step_compact(w);
        break;
    case 7:
        step_dump(w);
        break;
    case 8:
        step_reset(w);
        break;
    case 9:
        step_restore(w);
        break;
    case 10:
        step_files(w);
        break;
    case 11:
        step_copy(w);
        break;
    case 12:
        step_bind(w, disk);
        break;
    default:
        reopen(w);
        break;
    }
    if (!w->wrong)
        ask_all(w);
}

static void run(unsigned seed, unsigned steps)
{
    struct world *w = g_new0(struct world, 1);

    w->seed = seed;
    w->rand = g_rand_new_with_seed(seed);
    w->dir = fixture_fast_dir();
    w->uri = g_strconcat("lmdb:", w->dir, "/store", NULL);
    w->owner = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    w->told = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    w->indices = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    w->store = fixture_open(w->uri, FIXTURE_WRITE, 3);
    for (unsigned i = 0; i < FAR; i++)
        w->same[i] = i;
    w->next_uuid = 1;
    for (unsigned d = 0; d < DISKS; d++)
        w->now.disks[d].uuid = w->next_uuid++;
    for (w->step = 1; w->step <= steps && w->next_uuid < FAR / FILES - 1 && !w->wrong && !w->over;
         w->step++) {
        uint64_t index;

        take_step(w);
        index = next_affix(w);
        g_array_append_val(w->indices, index);
    }
    if (w->wrong)
        g_error("WORLD_SEED=%u, step %u, %s: %s", seed, w->step - 1, w->doing, w->wrong);
    g_test_message("seed %u: %u steps, %u ids, %u bound, %u aliases", seed, w->step - 1,
                   w->told->len, w->done[14], w->done[15]);
    close_store(w);
    fixture_remove(w->dir);
    g_hash_table_destroy(w->owner);
    g_array_free(w->told, TRUE);
    g_array_free(w->indices, TRUE);
    g_rand_free(w->rand);
    g_free(w->dump);
    g_free(w->files);
    g_free(w->uri);
    g_free(w->dir);
    g_free(w);
}

static void test_worlds(void)
{
    const char *seed = g_getenv("WORLD_SEED"), *steps = g_getenv("WORLD_STEPS");
    unsigned n = steps ? (unsigned)g_ascii_strtoull(steps, NULL, 10) : 150;

    if (seed) {
        run((unsigned)g_ascii_strtoull(seed, NULL, 10), n);
        return;
    }
    for (unsigned i = 1; i <= 8; i++)
        run(i, n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/world/steps", test_worlds);
    return g_test_run();
}
