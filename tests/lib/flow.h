/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of requests in flight share (srv-flow.c, srv-flow-random.c, srv-bounds.c): frames
 * that are sent and expected one by one, and a client that has much to read.
 */
#ifndef TESTS_LIB_FLOW_H
#define TESTS_LIB_FLOW_H

#include "tests/lib/server.h"

void send_frame(struct client *c, GByteArray *frame); /* takes it */

/* The next reply is this one. */
void expect(struct client *c, guint16 tag, guint8 type);

#define BIG   (1u << 20)
#define READS 20u

/* Asks for more than sockets hold, READS times BIG bytes, and waits until the first of it is there.
 */
struct client *ask_much(struct server *s, const char *addr);

guint count_in_log(struct server *s, const char *what);

/* One more test, with a server that has these arguments. */
void test(const char *path, const char *const *extra,
          void (*fn)(struct fixture *f, gconstpointer data));

#endif
