/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The messages of a session in words: one line in the log for each request and each reply, with
 * numbers, flags, names and qids. For one session or for all, switched while the daemon runs.
 *
 * Data of files, directories and xattrs are never shown, only how many bytes they are. Names come
 * from clients and disks: every byte of them that is not plain ASCII is shown as \xNN, so that a
 * name can forge neither a line nor the rest of its own. A line that grows too long ends in "...".
 *
 * Where tracing is off it costs one test of a flag for each request.
 */
#ifndef TRACE_H
#define TRACE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/stats.h"
#include "src/wire.h"

#define TRACE_LINE 1800 /* room that is enough for all but the longest */

/* What shall be traced from the start: "all", the number of a session, or "peer=ADDR" (a peer as
 * the log names it, or the part of it before a colon: peer=vsock:3, peer=tcp:10.0.0.5). False: it
 * is none of them, and `error` is set. Call before any thread starts, once for each. */
bool trace_add(const char *spec, GError **error);

/* Whether trace_add() would take it. */
bool trace_check(const char *spec, GError **error);

/* A session begins: sets its flag where it was asked for. */
void trace_begin(struct stats_session *session);

/* Switches tracing of a session; any thread, any time. False: there is no such session. */
bool trace_session(uint64_t id, bool on);

/* The same for all sessions, those to come as well. */
void trace_all(bool on);

static inline bool trace_is_on(const struct stats_session *session)
{
    return __atomic_load_n(&session->traced, __ATOMIC_RELAXED) != 0;
}

/* To the log. */
void trace_request(const struct stats_session *session, const struct wire_msg *msg);
void trace_reply(const struct stats_session *session, const uint8_t *bytes, size_t size,
                 uint64_t nanoseconds);

/* The words alone, into `size` bytes (at least 8) with a NUL. */
void trace_format_request(const struct wire_msg *msg, char *text, size_t size);
void trace_format_reply(const uint8_t *bytes, size_t bytes_size, char *text, size_t size);

void trace_free(void);

#endif
