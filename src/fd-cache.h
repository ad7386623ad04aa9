/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of fids, as a cache with a budget: a session may have far more fids than the process
 * may have descriptors.
 *
 * A request *holds* the descriptor of each fid that it names (dispatch.c): from fd_cache_hold() to
 * fd_cache_release() fid->fd is valid and stays. In between two requests a descriptor may be taken
 * away, with a note of where its file is found again (locator.h), and the next hold brings it back,
 * verified to be the same file; else the answer is ESTALE.
 *
 * What cannot be found again stays: files that were opened, and files without a name. Before a name
 * is removed through this server, all fids of that file are given a descriptor (fd-guard.h).
 *
 * Threads: a hold of a fid that has its descriptor is one atomic operation on the fid itself. The
 * fids with descriptors that may go stand in several lists (shards), each with a lock, in the order
 * of coming; who looks for one to close goes along a list, and gives those that were used meanwhile
 * a second chance. No lock is held while a file is looked for: a filesystem that does not answer
 * holds up those who ask for its files alone.
 */
#ifndef FD_CACHE_H
#define FD_CACHE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct fid;
struct fd_shared;
struct locator;
struct path_export;

enum fd_list { FD_LIST_NONE, FD_LIST_IDLE /* may be closed */, FD_LIST_FIXED /* must not */ };

/* A part of struct fid. */
struct fd_slot {
    /* In a list of the shard, and with its lock; or while closed in the index, and with that's. */
    struct fd_slot *prev, *next;

    /* Changed by who holds the fid alone, or has made it BUSY. */
    struct locator *locator;  /* NULL: was never closed */
    struct fd_shared *shared; /* the descriptor is one of several fids; or NULL */
    uint8_t list;             /* enum fd_list */
    bool counted : 1;         /* the descriptor is */
    bool kept : 1;            /* of a file without a name: counted apart */

    uint8_t used; /* atomic: held since somebody last went along the list */
    int state;    /* atomic; see fd-slot.h */
};

/* `files`: how many descriptors fids may have that can be closed, at least 1; `kept`: how many more
 * for files that could not be found again. Before any thread starts. */
void fd_cache_init(uint64_t files, uint64_t kept);

/* A new fid is held by its maker. */
void fd_cache_begin(struct fid *fid);

/* Holds the descriptor. 0 (fid->fd may be -1 all the same: a fid without a file), or a negative
 * errno: -ESTALE where the file cannot be found any more. May act as the daemon, so privs_become()
 * must follow. */
int fd_cache_hold(struct fid *fid);

/* Gives the hold back. True: there are more descriptors than there should be, call
 * fd_cache_trim(). */
bool fd_cache_release(struct fid *fid);

/* Closes descriptors until the budget is kept. Acts as the daemon: privs_become() must follow. */
void fd_cache_trim(void);

/* The process has no descriptors left (EMFILE, ENFILE): closes some, whatever the budget says.
 * False where there is nothing to close. This thread goes on as who it acts for. */
bool fd_cache_relieve(void);

/* Makes the descriptor of a fid that is held `fd` (taken over), which may mean another file; the
 * old one is closed. */
void fd_cache_replace(struct fid *fid, int fd);

/* Lets the new fid `to`, whose maker holds it, share the descriptor of `from`, a fid of the same
 * session that is held, too. False: that is an open file's, or one that must stay; nothing was
 * done. */
bool fd_cache_share(struct fid *to, struct fid *from);

/* The descriptor of a fid that its caller holds, to be remembered after the fid has given it up,
 * for fd_cache_forget(); NULL where no other fid shares it. It is closed all the same when the last
 * fid gives it up: fd_cache_borrow() says which it is, for fd_cache_return(), or -1. */
struct fd_shared *fd_cache_remember(const struct fid *fid);
void fd_cache_forget(struct fd_shared *shared);
int fd_cache_borrow(struct fd_shared *shared);
void fd_cache_return(struct fd_shared *shared);

/* Closes what a fid that is freed has. Nobody holds it. */
void fd_cache_end(struct fid *fid);

/* A file that had to stay open. */
struct fd_busy {
    char *path;
    const char *why;  /* static storage */
    uint64_t session; /* whose it is; 0: not known */
};
void fd_busy_free(void *busy);

/* Closes the descriptors of all fids whose file is at or below the absolute `path` on the host, and
 * what is held of mounts there, so that they can be unmounted; fids are found again if that does
 * not happen. Adds to `busy` (struct fd_busy, for fd_busy_free()) each file that had to stay. How
 * many were closed. */
uint64_t fd_cache_drain(const char *path, GPtrArray *busy);

/* How many descriptors fids have that may be closed. */
uint64_t fd_cache_count(void);

#endif
