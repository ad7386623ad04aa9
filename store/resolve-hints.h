/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Comparisons of hints, for the resolver alone.
 */
#ifndef QM_RESOLVE_HINTS_H
#define QM_RESOLVE_HINTS_H

#include <glib.h>

#include "store/qidmap.h"

/* Discriminators, the strongest first. */
enum level { LEVEL_MARKER, LEVEL_DEVICE, LEVEL_PARTITION, LEVEL_NAMES, LEVELS };

enum match { MATCH_UNKNOWN, MATCH_FITS, MATCH_DIFFERS };

gboolean qm_has_marker(const struct qidmap_hints *hints);
gboolean qm_same_marker(const struct qidmap_hints *a, const struct qidmap_hints *b);

/* The file, dm uuid or wwid of its device is known. */
gboolean qm_has_device(const struct qidmap_hints *hints);

enum match qm_hints_compare(const struct qidmap_hints *a, const struct qidmap_hints *b,
                            enum level level);

#endif
