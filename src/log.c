/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of the daemon. See log.h. A line is one write(2), so that threads do not mix theirs. */
#include "config.h"

#include "src/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool debug_on; /* atomic */
static bool to_journal;

void log_set_debug(bool debug)
{
    __atomic_store_n(&debug_on, debug, __ATOMIC_RELAXED);
}

void log_init(bool debug)
{
    log_set_debug(debug);
    to_journal = getenv("JOURNAL_STREAM") != NULL && !isatty(STDERR_FILENO);
}

static void G_GNUC_PRINTF(2, 0) emit(int priority, const char *format, va_list args)
{
    char line[2048];
    size_t used = 0;
    int n;

    if (to_journal)
        used = (size_t)snprintf(line, sizeof line, "<%d>", priority);
    else
        used = (size_t)snprintf(line, sizeof line, "qidmapd: ");
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    if (n < 0)
        return;
    used += (size_t)n;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    /* Names come from clients: one message stays one line, without control characters. */
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return;
}

#define LOG_FUNCTION(NAME, PRIORITY)                                                               \
    void NAME(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        emit(PRIORITY, format, args);                                                              \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, 3)
LOG_FUNCTION(log_warning, 4)
LOG_FUNCTION(log_info, 6)
LOG_FUNCTION(log_trace, 7)

void log_debug(const char *format, ...)
{
    va_list args;

    if (!__atomic_load_n(&debug_on, __ATOMIC_RELAXED))
        return;
    va_start(args, format);
    emit(7, format, args);
    va_end(args);
}
