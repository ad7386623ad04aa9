/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The world and what must hold in it: who was told which id, and what each file must be told now.
 * It must not know what the steps do.
 */
#include "config.h"

#include "tests/lib/world.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/store-fixture.h"

unsigned pick(struct world *w, unsigned n)
{
    return (unsigned)g_rand_int_range(w->rand, 0, (gint32)n);
}

unsigned file_of(uint8_t uuid, unsigned i)
{
    return uuid * FILES + i;
}

unsigned one_of(struct world *w, unsigned file)
{
    while (w->same[file] != file)
        file = w->same[file] = w->same[w->same[file]];
    return file;
}

void make_same(struct world *w, unsigned a, unsigned b)
{
    w->same[one_of(w, a)] = one_of(w, b);
}

static uint64_t inode_of(unsigned i)
{
    return i == 0 ? UINT64_C(1) << 63 : ((uint64_t)(i % 7) << 61) | (i + 2);
}

struct qidmap_object object_of(const struct disk *disk, unsigned i)
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

uint32_t first_policy(const struct disk *disk)
{
    return disk->uuid % 5 == 4 ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_AFFIX;
}
void say(struct world *w, const char *format, ...)
{
    va_list list;

    if (w->wrong)
        return;
    va_start(list, format);
    w->wrong = g_strdup_vprintf(format, list);
    va_end(list);
}

/* The store told `id` for the file: nobody else was ever told that. */
void note(struct world *w, uint64_t id, unsigned file)
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

void ask_all(struct world *w)
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

void close_store(struct world *w)
{
    qidmap_store_close(w->store);
    w->store = NULL;
}

void open_store(struct world *w)
{
    struct qidmap_error error = {0, ""};

    if (!w->store && qidmap_store_open(w->uri, QIDMAP_OPEN_WRITE, NULL, &w->store, &error) != 0)
        g_error("seed %u, step %u, %s: open: %s", w->seed, w->step, w->doing, error.text);
}

/* Does it here, or in a process that may be killed. */
int perform(struct world *w, int (*work)(struct world *, void *), void *data)
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
void settle(struct world *w, int r, const struct state *then)
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

uint64_t next_affix(struct world *w)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};

    g_assert_cmpint(qidmap_store_stats(w->store, &stats, NULL), ==, 0);
    return stats.next_affix;
}
