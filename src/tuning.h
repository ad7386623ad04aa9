/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What of the settings are numbers that the server goes by: limits and times. They can be set again
 * while it runs; sessions that live go by the new ones.
 */
#ifndef TUNING_H
#define TUNING_H

#include "src/server.h"
#include "src/settings.h"

/* Raises the limit of descriptors, shares them out, and sets all limits. At the start. */
void tuning_init(const struct settings *settings, struct server *server);

/* Sets limits and times anew. One thread at a time. */
void tuning_change(const struct settings *settings, struct server *server);

/* How often, in milliseconds, times must be looked at to be kept to a quarter. */
unsigned tuning_tick(const struct server *server);

#endif
