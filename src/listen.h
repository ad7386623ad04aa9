/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sockets to listen on: unix:PATH, tcp:HOST:PORT, and those that systemd passes.
 * Knows nothing of what is spoken on them.
 */
#ifndef LISTEN_H
#define LISTEN_H

#include <glib.h>

struct listen_set {
    GArray *fds;      /* int */
    GPtrArray *paths; /* char *: socket files of ours, removed at the end */
};

/* Opens all addresses; on failure none stays open. */
gboolean listen_open(char *const *addresses, struct listen_set *set, GError **error);
void listen_close(struct listen_set *set);

/* A new connection of a listener, with its options set; or a negative errno. */
int listen_accept(int fd);

#endif
