/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection over two descriptors that are no socket, such as pipes and terminals: two threads
 * copy between them and a socket of ours, so that connections are sockets everywhere else.
 */
#ifndef RELAY_H
#define RELAY_H

/* Takes both (which may be the same); the socket to be served, or a negative errno: then they are
 * left. Ends with either side. */
int relay_start(int in, int out);

#endif
