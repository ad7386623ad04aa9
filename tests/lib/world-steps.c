/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an administrator does to a store, all but bind: each step with what it must do to the world.
 */
#include "config.h"

#include "tests/lib/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/store-fixture.h"

/* ---- steps with the store open --------------------------------------------------------------- */

void step_register(struct world *w, struct disk *disk)
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

void step_map(struct world *w, struct disk *disk)
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

void step_retire(struct world *w, struct disk *disk)
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

void step_policy(struct world *w, struct disk *disk)
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
void step_alias(struct world *w, struct disk *disk)
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

void step_prune(struct world *w, struct disk *disk)
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

void step_compact(struct world *w)
{
    struct qidmap_error error = {0, ""};

    if (qidmap_compact(w->store, 0, NULL, &error) != 0)
        say(w, "compact: %s", error.text);
}

void step_dump(struct world *w)
{
    struct qidmap_error error = {0, ""};

    g_free(w->dump);
    w->dump = g_strdup_printf("%s/dump.%u", w->dir, w->name++);
    if (qidmap_backup(w->store, w->dump, 0, NULL, NULL, NULL, &error) != 0)
        say(w, "backup: %s", error.text);
    w->kept = w->now;
}

/* ---- steps with the store closed ------------------------------------------------------------- */

static int do_reset(struct world *w, void *data G_GNUC_UNUSED)
{
    return qidmap_reset(w->uri, NULL, NULL, NULL);
}

void step_reset(struct world *w)
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

void step_restore(struct world *w)
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
void step_files(struct world *w)
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

void step_copy(struct world *w)
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
