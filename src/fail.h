/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the parts that start the daemon say why they cannot: an error, and FALSE to be returned. */
#ifndef FAIL_H
#define FAIL_H

#include <glib.h>

/* What the operator wrote makes no sense. */
gboolean fail_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* It does, but cannot be done here and now. */
gboolean fail_start(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
