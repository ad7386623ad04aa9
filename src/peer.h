/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is at the other end of a connected socket: what the kernel says of it, and one line of text.
 *
 * Owns the questions to the kernel (getpeername, SO_PEERCRED, SO_PEERGROUPS). Knows nothing of who
 * is allowed what (allow.h).
 */
#ifndef PEER_H
#define PEER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum peer_kind {
    PEER_UNKNOWN, /* the kernel does not tell, or it is a pipe */
    PEER_UNIX,
    PEER_INET,
    PEER_VSOCK,
};

#define PEER_NAME_SIZE 96

struct peer {
    enum peer_kind kind;
    bool inherited;          /* a connection that the daemon was started with */
    struct in6_addr address; /* PEER_INET; IPv4 as ::ffff:A.B.C.D */
    uint32_t cid;            /* PEER_VSOCK */
    bool has_ids;            /* PEER_UNIX: the three below are known */
    pid_t pid;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary ones; owned */
    int group_count;
    char name[PEER_NAME_SIZE]; /* for the log; never empty */
};

/* Asks the kernel about the socket `fd`; what it does not tell stays unknown. */
void peer_of(int fd, bool inherited, struct peer *peer);

/* Frees what is owned, and empties it. */
void peer_clear(struct peer *peer);

#endif
