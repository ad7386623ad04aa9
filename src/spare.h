/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A descriptor in reserve, for the time when there are no others: with it a client that cannot be
 * served is accepted and turned away. Or else it would wait without a word, and the listening
 * socket, which stays ready, would be asked over and over. Knows nothing of connections.
 */
#ifndef SPARE_H
#define SPARE_H

/* Opens the reserve. Call before any thread starts. */
void spare_init(void);

/* Turns one client of the listening socket `fd` away. 1; 0: none waits (accept4(2) does not tell
 * that while there are no descriptors); -1: there is no reserve just now. Any thread. */
int spare_refuse(int fd);

#endif
