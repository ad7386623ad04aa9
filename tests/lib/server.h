/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starts and ends one qidmapd for a test, in a temporary directory of its own, and the fixture
 * that most wire tests use: a server on a memory: store with one attached client.
 *
 * The program is $QIDMAPD, else src/qidmapd below the current (build) directory.  With
 * QIDMAP_TEST_PEER=diod the same is done with diod, to tell a mistake of a test from one of ours.
 */
#ifndef TESTS_LIB_SERVER_H
#define TESTS_LIB_SERVER_H

#include "tests/lib/client.h"

#include <sys/types.h>

struct server {
    char *tmp;     /* everything of this server */
    char *dir;     /* what is exported */
    char *store;   /* URI */
    char *addr;    /* where tests connect: the unix socket */
    char *tcp;     /* tcp:127.x.y.z:PORT */
    char *aname;   /* of the export */
    char *log;     /* file that holds its stderr */
    char **extra;  /* more arguments, owned */
    pid_t pid;     /* 0 while it does not run */
    gboolean peer; /* a foreign server */
};

/* STORE: "memory:", "lmdb:" (below tmp) or a whole URI.  EXTRA: more arguments, or NULL.
 * Makes the directories; does not start anything. */
struct server *server_new(const char *store, const char *const *extra);
gboolean server_start(struct server *s); /* waits until it listens; FALSE: it ended instead */
int server_wait(struct server *s);       /* wait status; kills it after a deadline */
int server_terminate(struct server *s);  /* SIGTERM, then server_wait */
void server_kill(struct server *s);      /* SIGKILL */
gboolean server_alive(struct server *s);
void server_free(struct server *s);                    /* kills, and removes everything below tmp */
char *server_path(struct server *s, const char *name); /* of NAME below the export */

/* A client that has said version and attached root as ROOT_FID with this process's uid. */
#define ROOT_FID 1u
struct client *server_client(struct server *s);

/* Runs the program with these arguments until it ends by itself.  Gives the exit status (-1 for a
 * signal, or after a deadline) and its stderr. */
int server_run(const char *const *args, char **err);

struct fixture {
    struct server *s;
    struct client *c;
};
void fixture_setup(struct fixture *f, gconstpointer data);    /* data: extra arguments or NULL */
void fixture_teardown(struct fixture *f, gconstpointer data); /* checks exit status 0, too */
#define FIXTURE_TEST(path, fn)                                                                     \
    g_test_add(path, struct fixture, NULL, fixture_setup, fn, fixture_teardown)

/* helpers of many tests */
void make_file(struct server *s, const char *name, const char *text);
void make_dir(struct server *s, const char *name);
guint32 walk_new(struct client *c, const char *path); /* from ROOT_FID; asserts success */
gboolean skip_unless_root(void);
gboolean skip_for_peer(struct server *s, const char *why);

#endif
