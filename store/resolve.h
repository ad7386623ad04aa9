/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which row belongs to which filesystem: decides, stores nothing. The same input in any order gives
 * the same decisions.
 */
#ifndef QM_RESOLVE_H
#define QM_RESOLVE_H

#include <glib.h>

#include "store/qidmap.h"

/* Whether the device that `old` names is there now and is not that of `now`. */
typedef gboolean (*qm_device_present)(const struct qidmap_hints *old,
                                      const struct qidmap_hints *now);

/* What is to be decided. */
struct qm_scene {
    const struct qidmap_fs *const *rows; /* ascending by number; those that share an identity with
                                            one of `identities`, and those that share one with
                                            these, are enough */
    size_t n_rows;
    const struct qidmap_identity *identities; /* what is mounted and has no number yet */
    size_t count;
    const struct qidmap_live *live; /* what has its number, as far as it has one of `rows` */
    size_t n_live;
    gboolean split_weak;       /* what names alone identify gets a new row */
    qm_device_present present; /* NULL: qm_hints_device_present() */
};

/* The decision for one identity. */
struct qm_decision {
    uint32_t fs;        /* number of the row that fits; 0: a new row */
    uint32_t same_as;   /* index of the identity that stands for this one (itself where it
                           stands for its filesystem): all that share it get one number */
    uint32_t rank;      /* order in which new rows are made: 0, 1, 2 ... among the new ones */
    uint32_t other;     /* the row that the flags below speak of, a live one first; or 0 */
    gboolean duplicate; /* another filesystem or row has its identity */
    gboolean conflict;  /* new, because its identities belong to several rows */
    gboolean policy;    /* new, because the mount cannot keep the policy of its row */
    gboolean copied;    /* its marker is another's: it came with a copy */
};

/* Decides for all; `decisions` has room for `count`. */
void qm_resolve(const struct qm_scene *scene, struct qm_decision *decisions);

/* Nothing better than names identifies it. */
gboolean qm_identity_is_weak(const struct qidmap_identity *identity);

/* Both name their device, by file, dm uuid or wwid, and it is the same. */
gboolean qm_same_device(const struct qidmap_hints *a, const struct qidmap_hints *b);

/* resolve-update.c: brings a row up to date with what was seen: aliases, hints, last seen, flags.
 * TRUE when something changed that must be stored (a mere last_seen younger than a day is not).
 * `row` is `fresh` when it was just made: then policy and first_seen are set, too. `now`: seconds
 * since 1970. */
gboolean qm_resolve_update(struct qidmap_fs *row, const struct qidmap_identity *identity,
                           gboolean fresh, gint64 now);

#endif
