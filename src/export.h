/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which tree an attach means: exports by name, subdirectories of them, and who may have them.
 *
 * An attach to a subdirectory gets a `struct path_export` of its own: that of the export with
 * another root. So `..` stops there, and all else, ids above all, is that of the export. It lives
 * as long as a fid refers to it (export_ref).
 *
 * The exports of the server can be exchanged while it runs: one that is taken out can no longer be
 * found, and lives as long as a session holds it. It is held once by each session that attached to
 * it, and not by each fid: a count that each walk changes would be a cache line that all threads
 * write to.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include <stdbool.h>

#include "src/path.h"

struct limit_account;
struct peer;
struct server;

/* One that is to be filled in, and published. */
struct path_export *export_new(void);
/* Of one that was never published, or that export_take_unused() gave: its memory, and no more. */
void export_free(struct path_export *exp);

/* From now on these can be found, which are taken over; what could be before and is not among them
 * is retired. For one thread at a time. */
void export_publish(struct server *server, struct path_export *const *exports, size_t count);

/* Called, in any thread, when a retired export is no longer held. Before there are threads. */
void export_on_unused(void (*tell)(void));

/* A retired export that nobody holds, which becomes the caller's; NULL: there is none. */
struct path_export *export_take_unused(void);

/* How many sessions hold it. */
unsigned export_holds(const struct path_export *exp);

/* Calls `visit` for each that can be found, with the list locked. */
void export_each(const struct server *server,
                 void (*visit)(const struct path_export *exp, void *data), void *data);

/* The same for those that are retired. */
void export_each_retired(void (*visit)(const struct path_export *exp, void *data), void *data);

/* Ends what export_find() began. Any thread. */
void export_drop(const struct path_export *exp);

/* The export that `aname` means to this peer: the one with the longest name that `aname` is, or
 * that stands before a slash in it; for the empty one and "/", the only export that the peer may
 * have. *rest: what follows the name, "" for the export itself. 0; -ENOENT: none, or several;
 * -EACCES: not for this peer. Says in the log why. What is found is held until export_drop(). */
int export_find(const struct server *server, const struct peer *peer, const char *aname,
                const struct path_export **exp, const char **rest);

/* Whether the peer may attach to any export at all. */
bool export_any(const struct server *server, const struct peer *peer);

/* The tree below the directory `rest` of `whole`, one component after the other, with the rights of
 * this thread, through no symlink and nothing that the export does not show; with the caller's
 * reference. Its descriptor counts in `account`, which must outlive it. 0 or a negative errno. */
int export_subdir(const struct path_export *whole, const char *rest, struct limit_account *account,
                  const struct path_export **result);

/* References from fids; both take NULL and what is no subdirectory, too. */
const struct path_export *export_ref(const struct path_export *exp);
void export_unref(const struct path_export *exp);

/* Whether two trees are of one export: names can be moved and linked between them. */
bool export_same(const struct path_export *a, const struct path_export *b);

/* Calls `visit` for each subdirectory that is attached to, with the list locked, and the session
 * whose it is. */
void export_each_subdir(void (*visit)(const struct path_export *exp, uint64_t session, void *data),
                        void *data);

#endif
