/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever an administrator does to a store, in any order, an id that was told for a file
 * is never told for another one, and a file keeps its id as long as nobody asks for a new one.
 *
 * A small world of disks with files (lib/world.h), and a model that remembers every id that was
 * ever told, and what each file must be told now. Random steps: mapping, registration, alias,
 * retire, policy, bind, prune, compact, copy, reset, restoring a dump, putting back files of an
 * older state; some of them by a process that is killed meanwhile. After each step all of the world
 * is asked.
 *
 * WORLD_SEED=N WORLD_STEPS=N run one long world; without them some short ones run.
 */
#include "config.h"

#include <stdio.h>

#include "tests/lib/store-fixture.h"
#include "tests/lib/world.h"

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
