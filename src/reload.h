/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading the configuration again while sessions go on: all of it, or none.
 *
 * The new one is read and checked whole, its new directories and stores are opened and registered,
 * and only then can clients find its exports instead of those before. Where anything fails, all
 * stays as it was. An export that is no longer found lives on for the sessions that hold it.
 */
#ifndef RELOAD_H
#define RELOAD_H

#include <glib.h>
#include <stdbool.h>

#include "src/server.h"
#include "src/settings.h"

struct listen_set;
struct qid_map;

/* At the very start: the words that the daemon was started with, and where. */
void reload_keep_arguments(int argc, char *const *argv);

/* Begins to wait for reload_ask(), and for exports that are not held any more. The settings are
 * borrowed until a reload, then freed; reload_stop() gives those of that moment. The listeners are
 * borrowed until then. */
gboolean reload_start(struct server *server, struct qid_map *map, struct settings *settings,
                      const struct listen_set *listeners, GError **error);

/* What happened, names of exports each. */
struct reload_result {
    GPtrArray *added, *changed, *removed;
    unsigned same;
};
void reload_result_clear(struct reload_result *result);

/* Reads and changes, and tells the log and the service manager. Any thread; one after the other.
 * FALSE: nothing has changed. `result` is to be cleared in any case. */
gboolean reload_now(struct reload_result *result, GError **error);

/* Has it done by a thread of its own; many of these may become one. Any thread. */
void reload_ask(void);

/* From now on nothing is read again, and what is at work does not wait for filesystems that do not
 * answer. FALSE: it is at work still after so many seconds, and what it uses must not be freed. */
gboolean reload_interrupt(unsigned seconds);

/* Ends what is at work, and the thread, where there is one. Sessions may still hold exports.
 * Returns the settings that are in force: the caller's, or those that took their place. */
struct settings *reload_stop(struct settings *settings);

#endif
