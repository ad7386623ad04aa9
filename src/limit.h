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
    LIMIT_REQUESTS, /* messages read and not answered yet: the session is not read from */
    LIMIT_FILES,    /* descriptors that cannot be closed for a while: open files, lock owners:
                     * -EMFILE (session), -ENFILE (daemon) */
    LIMIT_MEMORY,   /* bytes: values of xattrs, directory buffers, messages, replies: -ENOMEM */
    LIMIT_LOCKS,    /* lock owners: -ENOLCK */
    LIMIT_COUNT
};

/* What may be taken at most; 0 means nothing at all. */
struct limit_settings {
    uint64_t session[LIMIT_COUNT];
    uint64_t daemon[LIMIT_COUNT];
};

/* One session's account. Zero-filled means empty. */
struct limit_account {
    uint64_t used[LIMIT_COUNT]; /* atomic */
    uint32_t told;              /* atomic; bit `limit`: the log has a line about it */
};

/* The usual bounds. `files`: how many descriptors the process may hold for clients. */
void limit_defaults(struct limit_settings *settings, uint64_t files);

/* Sets the bounds that hold for all accounts. Call before any thread starts. */
void limit_init(const struct limit_settings *settings);

/* Takes `amount` from the account and the daemon's. 0, or the negative errno of the kind: then
 * nothing was taken, and the first time in a session `*first` (may be NULL) is set to true, so that
 * the caller can say so in the log. */
int limit_take(struct limit_account *account, enum limit limit, uint64_t amount, bool *first);

/* Gives back what limit_take() took. */
void limit_give(struct limit_account *account, enum limit limit, uint64_t amount);

/* How much all sessions hold now. */
uint64_t limit_used(enum limit limit);

/* Name of the limit for people, and of the option that sets it: "fids", "requests", "files",
 * "memory", "locks". */
const char *limit_name(enum limit limit);

#endif
