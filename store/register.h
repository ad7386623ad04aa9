/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of a registration hand to each other; for register.c and register-*.c alone. What
 * others call is in store.h. All by the leader.
 */
#ifndef QM_REGISTER_H
#define QM_REGISTER_H

#include <glib.h>

#include "store/resolve.h"
#include "store/rows.h"
#include "store/store.h"

#define BOOT_ID_SIZE 16u

/* Everything that is live when the call is over, as far as it can be listed. */
struct company {
    uint32_t fs[QIDMAP_FS_MET + 1];
    uint32_t count;
    gboolean many; /* more than these */
};

/* One registration. */
struct work {
    struct qidmap_store *store;
    const struct qm_registration *reg;
    struct qm_decision *decisions;
    uint32_t *numbers;
    gboolean *marks;
    GPtrArray *rows;
    GArray *plans;
    GHashTable *marked; /* superblocks that get a marker */
    struct qm_meta meta;
};

/* The decision for identity i is not carried out: a duplicate, and these are to be refused. */
gboolean qm_work_is_refused(const struct work *w, size_t i);

/* ---- register-related.c ---------------------------------------------------------------------- */

/* Rows that share an identity with what is to be registered, and those that share one with these,
 * by number: copies of struct qidmap_fs, owned by the result. */
GPtrArray *qm_related_rows(struct qidmap_store *store, const struct qidmap_identity *identities,
                           size_t count, const struct qidmap_live *live, size_t n_live);
/* The one of that number, or NULL. */
struct qidmap_fs *qm_related_row(GPtrArray *rows, uint32_t fs);

/* ---- register-boot.c ------------------------------------------------------------------------- */

/* The boot id that all ephemeral identities agree on, or NULL: then nothing is known to be past. */
const uint8_t *qm_present_boot(const struct qidmap_identity *identities, size_t count);
/* Plans to drop rows of past boots. */
int qm_plan_past(struct qidmap_store *store, const uint8_t *boot, GArray *plans, GError **error);

/* ---- register-met.c -------------------------------------------------------------------------- */

void qm_company_add(struct company *company, uint32_t fs);
/* TRUE when the row changed. */
gboolean qm_company_note(struct qidmap_fs *row, const struct company *company);

/* ---- register-parts.c ------------------------------------------------------------------------ */

/* A row may take a new marker: it has none, or the one that was replaced, or waits for it. */
gboolean qm_takes_marker(const struct qidmap_fs *row, const uint8_t old[16]);
/* The rows of the other parts of the filesystem that may take the marker and are not in `planned`
 * yet, which they are then: struct qm_fs, the store's. `plans` may be NULL. */
GPtrArray *qm_find_parts(struct qidmap_store *store, const struct qidmap_fs *row,
                         const uint8_t old[16], const GArray *plans, GHashTable *planned);

/* ---- register-marker.c ----------------------------------------------------------------------- */

/* Fills `marked`. */
void qm_work_find_marked(struct work *w);
/* Whether the filesystem that identity i stands for wants a marker of its own; `by`: the identity
 * by which it can get one. */
gboolean qm_work_wants_marker(const struct work *w, size_t i, size_t *by);
/* Another part of its superblock gets a marker, which then is its own. */
gboolean qm_work_gets_marker(const struct work *w, size_t i);
/* The rows of parts that are not mounted wait for the marker, too: more plans. */
void qm_work_open_parts(struct work *w);

#endif
