/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which row belongs to which filesystem: decides, stores nothing. The same input in any order gives
 * the same decisions.
 */
#ifndef QM_RESOLVE_H
#define QM_RESOLVE_H

#include <glib.h>

#include "store/qidmap.h"

/* The decision for one identity. */
struct qm_decision {
    uint32_t fs;        /* number of the row that fits; 0: a new row */
    uint32_t same_as;   /* index of the identity that stands for this one (itself where it
                           stands for its filesystem): all that share it get one number */
    uint32_t rank;      /* order in which new rows are made: 0, 1, 2 ... among the new ones */
    gboolean duplicate; /* shares its identity with another row or another new one: was split */
};

/*
 * Decides for `identities[0 ... count - 1]`, all mounted together, against the `n_rows` rows of the
 * store (retired ones included). `decisions` has room for `count`.
 */
void qm_resolve(const struct qidmap_fs *const *rows, size_t n_rows,
                const struct qidmap_identity *identities, size_t count,
                struct qm_decision *decisions);

/* Whether the device that `old` names is there now and is not that of `now`. */
typedef gboolean (*qm_device_present)(const struct qidmap_hints *old,
                                      const struct qidmap_hints *now);

/* qm_resolve() with another way to ask for devices; it asks qm_hints_device_present(). */
void qm_resolve_with(const struct qidmap_fs *const *rows, size_t n_rows,
                     const struct qidmap_identity *identities, size_t count,
                     qm_device_present present, struct qm_decision *decisions);

/* Brings a row up to date with what was seen: aliases, hints, last seen, flags. TRUE when something
 * changed that must be stored (a mere last_seen younger than a day is not). `row` is `fresh` when
 * it was just made: then policy and first_seen are set, too. `now`: seconds since 1970. */
gboolean qm_resolve_update(struct qidmap_fs *row, const struct qidmap_identity *identity,
                           gboolean fresh, gint64 now);

#endif
