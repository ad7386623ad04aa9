/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hints: what explains a filesystem to people and tells duplicates apart (struct qidmap_hints).
 */
#ifndef QM_HINTS_H
#define QM_HINTS_H

#include <glib.h>

#include "store/identity.h"
#include "store/qidmap.h"

/* Sets a hint from a string: what does not fit is cut and ends in '~' and 16 hexadecimal digits,
 * the digest of the whole. */
void qm_hint_set(char *hint, gsize size, const char *value);
#define QM_HINT_SET(hint, value) qm_hint_set((hint), sizeof(hint), (value))

/* The shortest form in which a hint still compares: '~' and the 16 digits, those of the whole
 * string also where `value` is a cut one. */
#define QM_HINT_DIGEST 18
void qm_hint_digest(const char *value, char digest[QM_HINT_DIGEST]);

/* TRUE when two hints stand for one string: they are equal, or one is the other's cut form (as
 * qm_hint_set() makes) or its digest alone (as qm_hint_digest() does, for backends with little
 * room). An empty hint equals an empty one only. The digest is no protection against somebody who
 * makes up strings: hints only ever choose among filesystems that have one identity. */
gboolean qm_hint_equal(const char *a, const char *b);

/* Fills all hints but the marker and the times of sight. What cannot be found stays empty. */
void qm_hints_collect(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qidmap_hints *hints);

/* TRUE when the device or backing file that `old` names is there now, and is another one than that
 * of `now`: what is mounted from `now` did not move there from `old`. */
gboolean qm_hints_device_present(const struct qidmap_hints *old, const struct qidmap_hints *now);

#endif
