/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors of the start. See fail.h. */
#include "config.h"

#include "src/fail.h"

#include <stdarg.h>

gboolean fail_usage(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error != NULL)
        *error = g_error_new_valist(G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, format, args);
    va_end(args);
    return FALSE;
}

gboolean fail_start(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error != NULL)
        *error = g_error_new_valist(G_FILE_ERROR, G_FILE_ERROR_FAILED, format, args);
    va_end(args);
    return FALSE;
}
