/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The verb `stats` of the control socket: what the daemon has done, for whom, and how its stores
 * are. qidmapd(8) lists the members of its result.
 */
#ifndef CONTROL_STATS_H
#define CONTROL_STATS_H

#include "src/control.h" /* for JSON */

struct qid_map;
struct stats_snapshot;

/* Registers the verb. `map` must outlive the control socket. */
void control_stats_add(struct qid_map *map);

/* The sessions of a snapshot, for this verb and `sessions`. */
JsonArray *control_sessions_of(const struct stats_snapshot *snapshot);

#endif
