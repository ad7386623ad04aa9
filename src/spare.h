/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A few descriptors in reserve, for the time when there are no others. With one a client that
 * cannot be served is accepted and turned away; or else it would wait without a word, and the
 * listening socket, which stays ready, would be asked over and over. The others are for the
 * sessions that there are: their requests go on, and no new connection is taken while the reserve
 * is not whole. Knows nothing of connections.
 */
#ifndef SPARE_H
#define SPARE_H

#include <stdbool.h>

/* Opens the reserve. Call before any thread starts. */
void spare_init(void);

/* Turns one client of the listening socket `fd` away. 1; 0: none waits (accept4(2) does not tell
 * that while there are no descriptors); -1: there is no reserve just now. Any thread. */
int spare_refuse(int fd);

/* Gives one to the process, for a request that found none. False: there is none. Any thread. */
bool spare_lend(void);

/* Whether some are lent. Any thread; one atomic load. */
bool spare_is_short(void);

/* Takes back what was lent, as far as there are descriptors. True: the reserve is whole. */
bool spare_refill(void);

#endif
