/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all parts of the crash laboratory share: the journal of what the library told, the
 * filesystems and objects that workloads invent, and the contract that a store must keep after a
 * crash. Uses the public interface of the library alone, so that it fits every backend.
 */
#ifndef TESTS_CRASH_LAB_H
#define TESTS_CRASH_LAB_H

#include <glib.h>
#include <stdint.h>

#include "store/qidmap.h"

enum { LAB_TOLD_FS = 1, LAB_TOLD_ID = 2 };

/* One thing that the library said, as it lies in the journal file: fixed size, host byte order.
 * The journal is on another disk than the store, and is never part of a crash. */
struct lab_told {
    uint64_t position; /* how much of the log was written when the library had returned */
    uint64_t id;       /* FS: its number; ID: the qid path */
    uint64_t ino;
    uint64_t ino2;
    uint32_t kind; /* LAB_TOLD_* */
    uint32_t key;  /* which of the invented filesystems */
    uint32_t object_kind;
    uint32_t reserved;
};

/* A stream of random numbers of our own: the same on every machine for the same seed. */
struct lab_random {
    uint64_t state;
};
uint64_t lab_random(struct lab_random *r);
uint64_t lab_below(struct lab_random *r, uint64_t n); /* 0 ... n - 1; 0 for n = 0 */

/* Invented filesystem number `key`, 1 ...: from LAB_HANDLE_KEY on those whose ids are made by file
 * handle. */
#define LAB_HANDLE_KEY 1000u
void lab_identity(uint32_t key, struct qidmap_identity *identity);
void lab_object(const struct lab_told *told, uint32_t fs, struct qidmap_object *object);

/* A whole journal; g_free it. NULL: cannot be read (the text is in *why). */
struct lab_told *lab_journal_read(const char *path, size_t *count, GString *why);

/*
 * The contract: a store that was cut off when the log had `position` bytes
 *   - opens, or, where nothing had been told, may be absent, and can then be made;
 *   - has no id for two objects and no object with two ids;
 *   - has every filesystem and every id that was told before, unchanged;
 *   - goes on, and gives nothing that was told to anything else, neither before nor after it was
 *     closed and opened again, and then verified (that, for one seed in four).
 * TRUE: kept. FALSE: `why` says what is broken. Changes the store. `opened` (may be NULL) gets
 * whether there was a store.
 */
gboolean lab_check(const char *uri, const struct lab_told *told, size_t count, uint64_t position,
                   uint64_t seed, gboolean *opened, GString *why);

/* What must be there before a store can be made: for xattr: its directory. */
void lab_prepare(const char *uri);

/* What a run tried and found, printed as a line of the table. */
struct lab_tally {
    uint64_t states;     /* tried */
    uint64_t stores;     /* of these, with a store in it */
    uint64_t violations; /* of the contract */
    double seconds;
};
void lab_tally_print(const char *part, const char *scenario, const char *place, const char *backend,
                     uint64_t seed, const struct lab_tally *tally);

double lab_now(void);

#endif
