/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What clients may make the daemon hold: an account for each session and one for the daemon.
 *
 * Whatever is allocated because a client asks for it is taken here first, and given back when it is
 * freed; what exceeds either account is refused with the errno of its kind. So the sum of all
 * sessions has an upper bound that does not depend on what they send. Knows nothing of messages.
 *
 * Thread-safe: accounts are atomic counters, and nothing waits. A session's account must outlive
 * all that was taken from it.
 */
#ifndef LIMIT_H
#define LIMIT_H

#include <stdbool.h>
#include <stdint.h>

enum limit {
    LIMIT_FIDS,     /* fids in a session's table: -EMFILE */
    LIMIT_REQUESTS, /* messages read and not answered yet, but the first of each session: the
                     * session is not read from */
    LIMIT_FILES,    /* descriptors that cannot be closed for a while: open files, lock owners:
                     * -EMFILE (session), -ENFILE (daemon) */
    LIMIT_MEMORY,   /* bytes: values of xattrs, directory buffers, messages, replies: -ENOMEM */
    LIMIT_LOCKS,    /* lock owners, and ranges that they hold: -ENOLCK */
    LIMIT_COUNT
};

/* What may be taken at most; 0 means nothing at all. */
struct limit_settings {
    uint64_t session[LIMIT_COUNT];
    uint64_t daemon[LIMIT_COUNT];
    uint64_t connections;
};

/* One session's account. Zero-filled means empty. */
struct limit_account {
    uint64_t id;                /* of the connection, for the log */
    uint64_t used[LIMIT_COUNT]; /* atomic */
    uint32_t told;              /* atomic; bit `limit`: the log has a line about it */
};

/* The usual bounds. `files`: how many descriptors the process may hold for clients. */
void limit_defaults(struct limit_settings *settings, uint64_t files);

/* Sets one of them from NAME=N; N may end in K, M or G. NAME is limit_name() for each session, the
 * same with "total-" before it for the daemon, or "connections". False: it is none of these. */
bool limit_set(struct limit_settings *settings, const char *text);

/* Sets the bounds that hold for all accounts, also while they are used: what exceeds a lower one
 * already stays, and nothing more is given. For one thread at a time. */
void limit_init(const struct limit_settings *settings);

/* Takes `amount` from the account and the daemon's. 0, or the negative errno of the kind: then
 * nothing was taken. The first time in a session the log has a line about it, and `*first` (may be
 * NULL) is set to true. */
int limit_take(struct limit_account *account, enum limit limit, uint64_t amount, bool *first);

/* Takes it even where that exceeds a bound: for small amounts that something else bounds. */
void limit_force(struct limit_account *account, enum limit limit, uint64_t amount);

/* Gives back what limit_take() or limit_force() took. */
void limit_give(struct limit_account *account, enum limit limit, uint64_t amount);

/* How much a session may hold. */
uint64_t limit_bound(enum limit limit);

/* How much all sessions hold now. */
uint64_t limit_used(enum limit limit);

/* Name of the limit for people, and of the option that sets it: "fids", "requests", "files",
 * "memory", "locks". */
const char *limit_name(enum limit limit);

#endif
