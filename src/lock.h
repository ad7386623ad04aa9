/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who holds which byte range: the owners of locks, over all sessions, and their OFD locks.
 *
 * An OFD lock of Linux belongs to an open file description, so each owner gets a description of its
 * own for each file that it locks. The kernel of the host decides who gets a lock, and so host
 * processes are kept out and keep out like everybody else (those that use fcntl(2); flock(2) is
 * another kind of lock, which on a local filesystem neither sees nor is seen). What is written down
 * here is only what the kernel does not tell: whose lock it is, and through which fid it came.
 *
 * Who an owner is. The wire says fid, proc_id and client_id, and not of which kind the guest's lock
 * is: POSIX locks belong to a process, whatever descriptor it uses; flock(2) and the guest's OFD
 * locks belong to an open file (a fid), whatever process uses it. Linux sends all of them alike
 * (proc_id is the process that calls), after its own table granted them; so among the users of one
 * guest that table decides, and what must never go wrong here is between guests, and with the host.
 *
 *  - An owner is (session, client_id, proc_id), over all fids of a file. So a process with two
 *    descriptors is not in its own way. Two processes exclude each other, also by one fid.
 *  - What it holds is written down for each fid, and a clunk takes back what came by that fid.
 *  - An unlock of a part of the file takes back what came by the same fid; where nothing did, it is
 *    a POSIX unlock, and takes back what the process locked by others. So several connections of
 *    SQLite in one process, which lock by one descriptor and unlock by another, leave nothing.
 *  - An unlock of all by another fid says one of two things. POSIX: the process unlocked all. Or
 *    it closed that descriptor, which Linux tells in the same words, also where what it
 *    holds by others is flock(2)'s or OFD and stays. Where a close it was, Tclunk follows, and
 *    the locks stay: a process that relies on POSIX losing all with any close keeps them until it
 *    closes the descriptor that it locked by, held too long, never lost. Where the fid is
 *    still there after 300 ms, or the process locks by it, it was an unlock. Until then the locks
 *    are held. flock(LOCK_UN) (P9_LOCK_FLAGS_BLOCK) means the one fid alone.
 *  - Where a process asks by one fid for what conflicts with its own lock by another, its kernel
 *    has found them to be one owner's: the lock moves, in one step, to the later fid.
 *  - flock(2) by one process, LOCK_UN by another that inherited the open file: an unlock of all
 *    with P9_LOCK_FLAGS_BLOCK, which is what Linux sends for that alone. As a POSIX unlock may
 *    look like it, the lock is kept against others, but by the same fid anybody may have it.
 *
 * What cannot be mended here: when a process ends or closes a descriptor, Linux sends an unlock of
 * the whole file with its proc_id, even where the flock(2) stays with a process that inherited the
 * open file. `flock 9` in a shell script, with the descriptor opened by the shell, thus holds among
 * the users of one guest alone. `flock FILE COMMAND` holds everywhere.
 *
 * There is no grace time, as a session does not outlive the daemon: RECLAIM is like any request.
 *
 * Thread-safe. Each file has a mutex, held over the (never waiting) lock calls and the opening of a
 * description; the index of files has its own, held for a moment only. Order: file, then index.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "src/lock-range.h"

struct fid;
struct lock_file;
struct lock_hold;

/* In each fid: its locks. Zero-filled means none. */
struct lock_fid {
    struct lock_file *file; /* set once, with the fid's mutex; NULL: nothing was ever asked */
    struct lock_hold *holds;
    /* The description of an owner whose last lock was by this fid, for the next; with the file's
     * lock. It is counted as an open file until the fid ends. */
    int spare; /* + 1; 0: none */
    int spare_access;
};

struct lock_request {
    uint64_t session;
    uint32_t proc_id;
    const char *client_id;
    struct lock_range range; /* type LOCK_TYPE_NONE: unlock */
    bool undo_all;           /* an unlock that says what flock(LOCK_UN) says */
};

/* What is in the way of a request; type LOCK_TYPE_NONE: nothing. */
struct lock_conflict {
    struct lock_range range;
    uint32_t proc_id;    /* 0: not known. The host's pid where a host process has a classic lock */
    char client_id[256]; /* empty: a host process */
};

/* Sets or frees a range, by a fid whose descriptor is held. 0; -EAGAIN: somebody else's lock is in
 * the way; -EBADF: the fid is not open for that type; -ENOLCK and others: it cannot be. */
int lock_set(struct fid *fid, const struct lock_request *request);

/* Finds out what would be in the way. 0 or a negative errno. */
int lock_get(struct fid *fid, const struct lock_request *request, struct lock_conflict *conflict);

/* Gives back all that came by this fid, which nobody else uses any more. */
void lock_release(struct fid *fid);

/* Lets go what was unlocked by another fid a while ago, for host processes that wait for it;
 * requests see to that by themselves. */
void lock_sweep(void);

#endif
