/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small world of disks with files, for unit-world.c, and a model that remembers every id that was
 * ever told, and what each file must be told now (world.c); and what an administrator does to the
 * store, each step with what it must do to the model (world-steps.c, world-bind.c).
 */
#ifndef TESTS_LIB_WORLD_H
#define TESTS_LIB_WORLD_H

#include <glib.h>

#include "store/qidmap.h"

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

unsigned pick(struct world *w, unsigned n);

/* Files of all disks that ever were, and which of them are one and the same. */
unsigned file_of(uint8_t uuid, unsigned i);
unsigned one_of(struct world *w, unsigned file);
void make_same(struct world *w, unsigned a, unsigned b);

struct qidmap_object object_of(const struct disk *disk, unsigned i);
uint32_t first_policy(const struct disk *disk);

/* What is wrong; the first that is said counts. */
void say(struct world *w, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The store told `id` for the file: nobody else was ever told that. */
void note(struct world *w, uint64_t id, unsigned file);
void ask_all(struct world *w); /* all files, rows, and verify */

void close_store(struct world *w);
void open_store(struct world *w);
uint64_t next_affix(struct world *w);

#define KILLED 1

/* Does it here, or in a process that may be killed. */
int perform(struct world *w, int (*work)(struct world *, void *), void *data);

/* After a step that is whole or not done: the world is `then`, or what it was. */
void settle(struct world *w, int r, const struct state *then);

/* The steps, with the store open before and after each; world-bind.c has step_bind(). */
void step_register(struct world *w, struct disk *disk);
void step_map(struct world *w, struct disk *disk);
void step_retire(struct world *w, struct disk *disk);
void step_policy(struct world *w, struct disk *disk);
void step_alias(struct world *w, struct disk *disk);
void step_prune(struct world *w, struct disk *disk);
void step_compact(struct world *w);
void step_dump(struct world *w);
void step_reset(struct world *w);
void step_restore(struct world *w);
void step_files(struct world *w);
void step_copy(struct world *w);
void step_bind(struct world *w, struct disk *disk);

#endif
