/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The statistics of a running daemon, for top and metrics: which daemon is meant, and one asking of
 * it. The members are those of the control socket's verb `stats`, qidmapd(8).
 */
#ifndef TOOLS_STATS_SOURCE_H
#define TOOLS_STATS_SOURCE_H

#include <json-glib/json-glib.h>

#include "tools/cmd.h"

/* Which daemon: `control` is the path of its socket, or NULL; else that of the store of the
 * options; else the only one that there is. *path is for the caller to free. Returns an exit
 * status; has told any error. */
int stats_find(struct cmd_options *options, const char *control, char **path);

/* The same again, where that daemon does not answer any more: the next one may have another socket.
 * `uri` is the store that was named, or NULL. Tells nothing: FALSE where there is none. */
gboolean stats_find_again(const char *uri, char **path);

/* Asks once. The result is for json_object_unref(). A negative errno with its text otherwise. */
int stats_ask(const char *path, gboolean sessions, JsonObject **result, struct qidmap_error *error);

/* The members of a result, whatever it is: NULL where there is no such array or object. */
JsonArray *stats_array(JsonObject *object, const char *member);
JsonObject *stats_object(JsonObject *object, const char *member);
JsonObject *stats_element(JsonArray *array, guint index);

/* The element of `array` whose member `key` is `text`, or NULL. */
JsonObject *stats_lookup(JsonArray *array, const char *key, const char *text);

#endif
