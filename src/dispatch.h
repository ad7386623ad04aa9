/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a message to the operation that answers it: which fids it uses and how, and who acts.
 * Knows nothing of sockets and threads.
 */
#ifndef DISPATCH_H
#define DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/wire.h"

struct request;

/* With the connection's lock held, in the order of reading: takes the turns at the fids that the
 * decoded message names. 0, or a negative errno that shall be the reply; dispatch_run() is to be
 * called all the same, as a turn may be held. */
int dispatch_take(struct request *request);

/* Waits for the turns, runs the operation, gives the turns back. Returns the size of the reply in
 * request->out. */
size_t dispatch_run(struct request *request);

/* Gives the turns back of a request that was cancelled, once they came. */
void dispatch_drop(struct request *request);

/* How large the reply can be at most, of up to `msize` bytes. */
size_t dispatch_room(const struct wire_msg *msg, uint32_t msize);

/* Whether the message asks for something that waits for a disk as a rule. */
bool dispatch_is_slow(const struct wire_msg *msg);

#endif
