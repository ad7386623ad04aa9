/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verbs of the control socket. qidmapd(8) says what each wants and tells. */
#ifndef CONTROL_VERBS_H
#define CONTROL_VERBS_H

struct qid_map;
struct server;

/* Registers all of them. Both outlive the control socket. */
void control_verbs_add(const struct server *server, struct qid_map *map);

/* Those about stores: control-store.c. */
void control_store_add(struct qid_map *map);

/* Those that forget what nobody needs any more: control-prune.c. */
void control_prune_add(struct qid_map *map);

#endif
