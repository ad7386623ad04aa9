/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The requests of a connection that have been read and not answered: which may run, what a Tflush
 * does to them, in which order it is answered.
 *
 * A request whose turn at a fid has not come waits in a list, without a thread, and becomes ready
 * when one that ended gave the turn back. Until it runs it can be cancelled: it keeps its place in
 * the order of turns, but has no effect and no reply.
 *
 * Tflush, as flush(5) and Linux want it:
 *   - of a request that does not run yet: that is cancelled, and Rflush sent at once;
 *   - of one that runs, and of a Tclunk or Tremove: Rflush comes after its reply;
 *   - of a Tflush that waits: after the answer to that one;
 *   - several of one request: in their order;
 *   - of a tag that is not in flight: at once, and after all earlier answers to Tflush of that tag.
 */
#ifndef INFLIGHT_H
#define INFLIGHT_H

#include "src/conn.h"

/* With conn->lock held: puts a decoded request, of which turns were taken, in. True: it is to be
 * run now. False: it waits, in a copy of its own. */
bool inflight_add(struct conn *conn, struct request *request);

/* With conn->lock held: true, the Tflush will be answered later; false: it is to be answered now.
 */
bool inflight_flush(struct conn *conn, const struct request *flush);

/* With conn->lock held: cancels all that does not run. */
void inflight_cancel_all(struct conn *conn);

/* A worker begins with a request that was ready. False: it was cancelled. */
bool inflight_begin(struct request *request);

/* The reply was sent, or there is none: answers each Tflush for it, takes it out and gives back
 * what it held. Requests that are ready now are queued, but for one, which is the caller's to run
 * (or NULL); `*last`: the caller must free the connection. */
struct request *inflight_end(struct conn *conn, struct request *request, bool *last);

#endif
