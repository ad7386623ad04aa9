/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The threads: a bounded pool shared by all connections, and the monitor.
 *
 * Idle workers wait in epoll_wait(2), all on one descriptor; so an event wakes one of them, which
 * does the work itself. At least one worker is kept there while there are few, as threads that take
 * turns on a CPU cost more than what they do; more are started for requests that take long, and
 * where all wait for disks and the like, and end when that is over.
 * A reader role to be passed on goes through a queue and an eventfd. Where all workers are at work,
 * none stays with one connection, and each looks for events between two things of the queue.
 *
 * The monitor sees to it that a slow request holds up nobody: it looks at the workers every 2 ms
 * while something runs, and queues the role of a connection whose worker has been at one request
 * since the last look. Where nobody is left in epoll_wait() while the daemon uses little CPU, it
 * starts others. While nothing runs it sleeps.
 */
#ifndef WORKER_H
#define WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct request;
struct worker;

/* Starts the pool: at most `max` workers, and the monitor. `on_listener` is called, by one thread
 * at a time for each, for each of the listening descriptors that can accept. 0 or a negative errno.
 */
int worker_pool_start(unsigned max, const int *listeners, unsigned count,
                      void (*on_listener)(int fd));

/* No more connections are accepted. */
void worker_pool_close_listeners(void);

/* Ends all threads. Connections must have ended. */
void worker_pool_stop(void);

/* The epoll descriptor in which connections are armed. */
int worker_epoll(void);

/* Gives the reader role, which the caller has, to some other worker. */
void worker_queue(struct conn *conn);

/* The same by a worker before a request that will take long: others take its place. */
void worker_queue_first(struct conn *conn);

/* Gives a request that can run now to some worker. */
void worker_queue_request(struct request *request);

/* Whether no thread is free for what comes next: who has worked for one connection for long queues
 * the rest. */
bool worker_is_wanted(void);

/* Calls `on_tick` every `ms` milliseconds, in a worker. 0 or a negative errno. */
int worker_tick(unsigned ms, void (*on_tick)(void));

/* From now on every `ms` milliseconds; any thread. */
int worker_set_tick(unsigned ms);

/* Between the two, the worker runs a request with the reader role in hand, and the monitor may take
 * the role. worker_let_go() returns whether it is still there. */
void worker_hold(struct worker *worker, struct conn *conn);
bool worker_let_go(struct worker *worker);

/* Whether this thread may wait in recv(2) or send(2) for a moment; if so, worker_block_end() must
 * follow. */
bool worker_block_begin(void);
void worker_block_end(void);

/* The worker's own request, and its buffer for a reply of up to `size` bytes. Once the reply was
 * sent, worker_out_end() frees the buffer if it is one of many large ones. */
struct request *worker_request(struct worker *worker);
uint8_t *worker_out(struct worker *worker, size_t size);
void worker_out_end(struct worker *worker);

/* How long these may wait: what a socket's SO_RCVTIMEO and SO_SNDTIMEO shall be. */
#define WORKER_BLOCK_MS 50

#endif
