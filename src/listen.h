/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sockets to listen on: those of listen-spec.h, and those that systemd passes.
 * Knows nothing of what is spoken on them.
 */
#ifndef LISTEN_H
#define LISTEN_H

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

struct allow;
struct listen_spec;

struct listener {
    int fd;
    char *name;                /* for messages */
    const struct allow *allow; /* of its spec, borrowed; NULL: everybody */
    char *door;                /* whom it is open to, where that is to be warned of */
    /* A socket file of ours, removed at the end: where its directory is, and which inode it is. */
    int dir_fd; /* -1: there is none */
    char *base;
    dev_t dev;
    ino_t ino;
};

struct listen_set {
    GArray *fds;          /* int, in the order of listeners */
    GPtrArray *listeners; /* struct listener */
};

/* Takes the sockets that systemd passes, if there are any, then opens those of `specs` (struct
 * listen_spec, borrowed until listen_close). On failure none stays open. */
gboolean listen_open(const GPtrArray *specs, struct listen_set *set, GError **error);

/* Warns of those that are open to anybody; to be called where an export has no allow list. */
void listen_tell_doors(const struct listen_set *set);

/* Closes all, and removes the socket files that are still ours. */
void listen_close(struct listen_set *set);

/* A new connection of a listener, with its options set; or a negative errno. */
int listen_accept(int fd);

/* Sets what a connected socket needs, whoever connected it. */
void listen_prepare(int fd);

/* Of listen-unix.c: makes the listener of a socket file. NULL and *error where it cannot. */
struct listener *listen_unix_open(const struct listen_spec *spec, GError **error);
void listen_unix_remove(struct listener *listener);
void listener_free(struct listener *listener);

/* Whether somebody answers on the socket at this path; in doubt true. */
bool listen_unix_is_answered(const char *path);

#endif
