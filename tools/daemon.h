/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tool's end of the control socket of a running qidmapd: finds the daemon that has a store
 * open, asks it one thing, shows how far it is, and gives the result. Knows no verb.
 * qidmapd(8) describes the requests.
 */
#ifndef TOOLS_DAEMON_H
#define TOOLS_DAEMON_H

#include <glib.h>
#include <json-glib/json-glib.h>

#include "store/qidmap.h"
#include "tools/progress.h"

/* The control socket of the daemon that has the store `uri` open for writing, for the caller to
 * free. -ENOENT: nobody has it open; -EBUSY: somebody has it who has no control socket that can be
 * found (the text has name and pid). */
int daemon_find(const char *uri, char **path, struct qidmap_error *error);

/* The control socket of the daemon with this process number, wherever it is, or a link to it. To be
 * freed; NULL: it has none. */
char *daemon_of_process(gint64 pid);

/* The URI with the real path of its directory, as the daemon knows it; for the member "store". To
 * be freed. */
char *daemon_store_uri(const char *uri);

/*
 * Asks the daemon at the socket `path`: {"verb": `verb`, and the members of `arguments`}, which may
 * be NULL and is taken over. The descriptors fds[0 ... n_fds - 1] go with it, and stay the
 * caller's. `line` (may be NULL) shows the progress that the daemon tells. On success *result is
 * the caller's. Else the negative errno and text of the daemon's error, or why it could not be
 * asked: -ECONNREFUSED, -ENOENT no daemon is there; -EPROTO it answers nonsense.
 */
int daemon_call(const char *path, const char *verb, JsonObject *arguments, const int *fds,
                gsize n_fds, progress *line, JsonObject **result, struct qidmap_error *error);

/* Members of results, where 64-bit numbers are decimal strings: 0 or "" where there is none. */
guint64 daemon_u64(JsonObject *object, const char *member);
const char *daemon_text(JsonObject *object, const char *member);
/* The bytes of a name, which comes escaped. To be freed. */
char *daemon_name(JsonObject *object, const char *member);

#endif
