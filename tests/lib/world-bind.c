/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The step of the small world that binds files to ids: of other disks, of the past, and any.
 */
#include "config.h"

#include "tests/lib/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

void step_bind(struct world *w, struct disk *disk)
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
