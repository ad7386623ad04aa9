/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an administrator does to the stores of the running daemon, made safe for clients that are at
 * work meanwhile. For control-*.c, in the threads of its clients; of those in the main thread that
 * run the daemon, while the map lives.
 *
 * Ids of a store that a client has seen never change behind its back: what changes them is refused
 * with -EBUSY and the numbers of the sessions while one is attached, and attaches that come
 * meanwhile wait at the gate of the store (qid_attach() in qid.h).
 *
 *   a store is *used*       its handle stays: to be looked at, compacted, dumped. Many at once
 *   rows are *changed*      alias, retire, policy: the handle stays; the filesystems concerned are
 *                           served to nobody, and are registered anew afterwards
 *   a store is *closed*     load, reset, adopt: what is mounted is registered anew afterwards, all
 *                           of it, as at the start of the daemon
 */
#ifndef QID_ADMIN_H
#define QID_ADMIN_H

#include "src/qid.h"
#include "store/qidmap.h"

struct qid_store; /* one that the daemon has open; lives as long as the map */

/* The store that `uri` names, by name or by what directory it is; NULL: the only one. NULL where
 * there is none, or none such; `error` then lists those that there are. */
struct qid_store *qid_admin_find(struct qid_map *map, const char *uri, struct qidmap_error *error);

/* The stores one by one, from 0; NULL after the last. */
struct qid_store *qid_admin_store(struct qid_map *map, unsigned index);
const char *qid_admin_uri(const struct qid_store *store);

/* Between the two the handle is valid. NULL: the store is closed just now, or could not be opened
 * again (-EBUSY, -EIO). Never waits. */
qidmap_store *qid_admin_use(struct qid_store *store, struct qidmap_error *error);
void qid_admin_unuse(struct qid_store *store);

/* The same, while no other verb changes rows or closes the store: for what looks at rows for long,
 * and then changes them. */
qidmap_store *qid_admin_use_alone(struct qid_store *store, struct qidmap_error *error);
void qid_admin_unuse_alone(struct qid_store *store);

/* Calls `work` while none of the `count` filesystems `fs` is served to a client, nor can be.
 * -EBUSY: one is; or what `work` returns. */
int qid_admin_change(struct qid_map *map, struct qid_store *store, const uint32_t *fs, size_t count,
                     int (*work)(qidmap_store *store, void *data, struct qidmap_error *error),
                     void *data, struct qidmap_error *error);

/* Closes the store, calls `work` with its URI, opens the store again, and registers what is
 * mounted. `work` may leave the handle of the new store, open for writing, in *opened. -EBUSY:
 * clients are attached, or another verb uses the store; or what `work` returns, or why the store
 * could not be opened again: its exports are out of reach then. That is tried again with each call,
 * and each attach. */
int qid_admin_closed(struct qid_map *map, struct qid_store *store,
                     int (*work)(const char *uri, qidmap_store **opened, void *data,
                                 struct qidmap_error *error),
                     void *data, struct qidmap_error *error);

/* What is served from the store: struct qidmap_live, to be freed. `changing`: within the work of
 * qid_admin_change(). */
GArray *qid_admin_live(struct qid_map *map, qidmap_store *handle, gboolean changing);

#endif
