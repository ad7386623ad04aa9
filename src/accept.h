/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a new descriptor to a connection: who is there, whether anything is there for him, and the
 * connections that the daemon was started with. Knows nothing of messages.
 */
#ifndef ACCEPT_H
#define ACCEPT_H

#include <glib.h>
#include <stdbool.h>

struct listen_set;
struct server;

/* A connection by descriptors of the parent: a socket, where both are the same, or two that are
 * read from and written to. */
struct accept_pair {
    int in, out;
};

/* Both are borrowed until the threads have ended. */
void accept_init(const struct server *server, const struct listen_set *listeners);

/* Takes all connections that wait at the listener `fd`; those that no export is for are closed. */
void accept_all(int fd);

/* To be called before the daemon opens anything: FALSE where one of the descriptors was not handed
 * over. Children do not get them. */
gboolean accept_check(const GArray *pairs, GError **error);

/* Makes connections of struct accept_pair, once threads run. */
gboolean accept_inherited(const GArray *pairs, GError **error);

/* From now on the daemon ends when its last connection has. */
gboolean accept_end_with_last(GError **error);

#endif
