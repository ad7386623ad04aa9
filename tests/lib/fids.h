/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of more fids than descriptors (srv-fids*.c) share: daemons with few descriptors,
 * with and without handles, and what makes them close those that they have.
 *
 * TMPDIR decides which filesystem is tried (root-fids.sh tries many).
 */
#ifndef TESTS_LIB_FIDS_H
#define TESTS_LIB_FIDS_H

#include "tests/lib/server.h"

/* The number in this variable of the environment, or the one that is normal. */
guint number(const char *name, guint normally);

/* All daemons that are started from here on find files by place. */
gboolean by_name(gboolean wanted);
gboolean have_handles(struct server *s); /* files are found by handle here */

struct server *start(guint descriptors); /* that it may have for fids; 0: as it likes */
struct server *start_with_others(void);  /* with 4, and with the files of push_out() */
void stop(struct server *s);             /* checks that it ends in good order */
guint descriptors(struct server *s);     /* that it has open */
void push_out(struct client *c);         /* the daemon closes what other fids had */

/* The reply to a Tgetattr: its error, or 0 and the qid path. */
int wait_attr(struct client *c, int tag, guint64 *path);

/* `run` gets NULL, or something else after by_name(): the name ends in "-by-name" then. */
struct fids_test {
    const char *name;
    void (*run)(gconstpointer data);
    gboolean by_name; /* there is such a one as well */
};
int run_fids_tests(int *argc, char ***argv, const struct fids_test *tests, guint n);

#endif
