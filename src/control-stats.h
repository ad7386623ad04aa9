/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The verb `stats` of the control socket: what the daemon has done, for whom, and how its stores
 * are. qidmapd(8) lists the members of its result.
 */
#ifndef CONTROL_STATS_H
#define CONTROL_STATS_H

struct qid_map;

/* Registers the verb. `map` must outlive the control socket. */
void control_stats_add(struct qid_map *map);

#endif
