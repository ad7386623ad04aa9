/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gives the filesystems that were found their numbers, all that are new on one store in one call,
 * and says in the log what an operator should know. Not for several threads at once.
 */
#ifndef MOUNT_REGISTER_H
#define MOUNT_REGISTER_H

#include <glib.h>

#include "src/mount-scan.h"

struct mount_registry;

struct mount_registry *mount_registry_new(void);
void mount_registry_free(struct mount_registry *registry);

/* Exports that share a store must agree on what is done about duplicates. */
gboolean mount_registry_check(const GPtrArray *scans, GError **error);

/* After the lives of scans were found anew. */
void mount_registry_renew(struct mount_registry *registry, const GPtrArray *scans);

/* Notes in all stores that what is served is mounted still, so that time served can be told. */
void mount_registry_note(struct mount_registry *registry);

/* What is served from `store`; borrowed until the next call of any of these. *n gets the number. */
const struct qidmap_live *mount_registry_live(struct mount_registry *registry, qidmap_store *store,
                                              gsize *n);

/* Registers scan->fresh of all scans, and has the prober look once more at what is served and turns
 * out to have a duplicate, so that it gets its marker. 0, or the first store's error; its
 * filesystems stay fresh. */
int mount_register(struct mount_registry *registry, const GPtrArray *scans,
                   struct mount_prober *prober);

#endif
