/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages of the daemon: one line each, to stderr, with the priority prefix of sd-daemon(3) where
 * stderr leads to the journal. Knows nothing of what it prints.
 */
#ifndef LOG_H
#define LOG_H

#include <glib.h>
#include <stdbool.h>

void log_init(bool debug);

/* Whether log_debug() says anything; any thread, any time. */
void log_set_debug(bool debug);

void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* What was asked for by name: as log_debug(), but never left out. */
void log_trace(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_debug(const char *format, ...) G_GNUC_PRINTF(1, 2);

#endif
