/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is at the other end. See peer.h. */
#include "config.h"

#include "src/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define GROUPS_MAX 65536

static void read_groups(int fd, struct peer *peer)
{
    socklen_t size = 64 * sizeof(gid_t);

    for (;;) {
        gid_t *groups = g_malloc(size);
        socklen_t room = size;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0) {
            peer->groups = groups;
            peer->group_count = (int)(size / sizeof(gid_t));
            return;
        }
        g_free(groups);
        if (errno != ERANGE || size <= room || size > GROUPS_MAX * sizeof(gid_t))
            return; /* Linux before 4.13 does not know: the primary group must do */
    }
}

static void read_unix(int fd, struct peer *peer)
{
    struct ucred ids;
    socklen_t size = sizeof ids;

    peer->kind = PEER_UNIX;
    /* A socket whose maker is unknown has (uid_t)-1, which is nobody's number. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ids, &size) < 0 || ids.uid == (uid_t)-1) {
        snprintf(peer->name, sizeof peer->name, "unix");
        return;
    }
    peer->has_ids = true;
    peer->pid = ids.pid;
    peer->uid = ids.uid;
    peer->gid = ids.gid;
    read_groups(fd, peer);
    snprintf(peer->name, sizeof peer->name, "unix, pid %d, uid %u, gid %u", (int)ids.pid,
             (unsigned)ids.uid, (unsigned)ids.gid);
}

static void take_inet4(const struct sockaddr_in *in, struct peer *peer)
{
    char text[INET_ADDRSTRLEN];

    peer->kind = PEER_INET;
    memset(&peer->address, 0, sizeof peer->address);
    peer->address.s6_addr[10] = peer->address.s6_addr[11] = 0xff;
    memcpy(peer->address.s6_addr + 12, &in->sin_addr, 4);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    snprintf(peer->name, sizeof peer->name, "tcp:%s:%u", text, ntohs(in->sin_port));
}

static void take_inet6(const struct sockaddr_in6 *in6, struct peer *peer)
{
    char text[INET6_ADDRSTRLEN];

    peer->kind = PEER_INET;
    peer->address = in6->sin6_addr;
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    snprintf(peer->name, sizeof peer->name, "tcp:[%s]:%u", text, ntohs(in6->sin6_port));
}

void peer_of(int fd, bool inherited, struct peer *peer)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_vm vm;
        struct sockaddr_storage room;
    } address;
    socklen_t size = sizeof address;

    memset(peer, 0, sizeof *peer);
    memset(&address, 0, sizeof address);
    peer->inherited = inherited;
    snprintf(peer->name, sizeof peer->name, inherited ? "inherited" : "unknown");
    if (getpeername(fd, &address.any, &size) < 0)
        return;
    switch (address.any.sa_family) {
    case AF_UNIX:
        read_unix(fd, peer);
        break;
    case AF_INET:
        take_inet4(&address.in, peer);
        break;
    case AF_INET6:
        take_inet6(&address.in6, peer);
        break;
    case AF_VSOCK:
        peer->kind = PEER_VSOCK;
        peer->cid = address.vm.svm_cid;
        snprintf(peer->name, sizeof peer->name, "vsock:%u:%u", address.vm.svm_cid,
                 address.vm.svm_port);
        break;
    default:
        break;
    }
}

void peer_clear(struct peer *peer)
{
    g_free(peer->groups);
    memset(peer, 0, sizeof *peer);
}
