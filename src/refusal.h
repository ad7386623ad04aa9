/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Says in the log whom the daemon refused what, without letting clients fill the log: once in ten
 * minutes for each peer (whatever its port or process) and reason, and a few lines a minute in all.
 */
#ifndef REFUSAL_H
#define REFUSAL_H

#include <glib.h>

struct peer;

/* `reason` is a short constant, not made of what a client sent. From any thread. */
void refusal_tell(const struct peer *peer, const char *reason, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#endif
