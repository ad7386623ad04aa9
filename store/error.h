/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors inside the library: a GError whose code is a positive errno, and its way out into the
 * caller's struct qidmap_error. Knows nothing of stores.
 */
#ifndef QM_ERROR_H
#define QM_ERROR_H

#include <glib.h>

#include "store/qidmap.h"

#define QM_ERROR (qm_error_quark())
GQuark qm_error_quark(void);

/* Sets `error` to the errno `code` (either sign). Returns the negative code. */
int qm_set_error(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Moves `error` (taken, may be NULL) into `out` (may be NULL), behind "NAME: " where `name` is not
 * NULL. Returns the negative errno. */
int qm_error_export(GError *error, const char *name, struct qidmap_error *out);

/* The same for a bare code: the text says what the code means for a store, and what to do. */
int qm_error_code(int code, const char *name, struct qidmap_error *out);

#endif
