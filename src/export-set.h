/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The exports that the settings name: opened all together, or none, and closed when nobody uses
 * them any more. Who may find them is export.h's business, when they change reload.h's.
 */
#ifndef EXPORT_SET_H
#define EXPORT_SET_H

#include <glib.h>

#include "src/path.h"
#include "src/settings.h"

struct qid_map;

/* Opens the directory of `from`, whose allow list it takes over, and adds it to the map. NULL: it
 * cannot be served. */
struct path_export *export_open(struct settings_export *from, struct qid_map *map, bool trusted,
                                GError **error);

/* Of an export that nobody can find and nobody holds; `map`: it is removed from that, too, unless
 * NULL: the map is gone, or has done so. */
void export_close(struct path_export *exp, struct qid_map *map);

#endif
