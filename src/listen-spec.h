/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the operator writes after --listen: an address, and options of that listener.
 *
 *   unix:PATH[,mode=OCTAL][,owner=USER][,group=GROUP][,allow=LIST]
 *   tcp:HOST:PORT[,allow=LIST]
 *   vsock:[CID:]PORT[,allow=LIST]
 *
 * allow= takes all the rest, as a list has commas in it. Text to struct alone: whether an address
 * can be listened on is found out in listen.c.
 */
#ifndef LISTEN_SPEC_H
#define LISTEN_SPEC_H

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

enum listen_kind { LISTEN_UNIX, LISTEN_TCP, LISTEN_VSOCK };

struct listen_spec {
    enum listen_kind kind;
    char *text; /* the address without options, for messages */
    char *path; /* LISTEN_UNIX */
    char *host; /* LISTEN_TCP; NULL: all addresses */
    char *port; /* LISTEN_TCP: a number or the name of a service */
    uint32_t cid, vsock_port;
    mode_t mode; /* LISTEN_UNIX, of the socket file */
    uid_t owner; /* -1: who runs the daemon */
    gid_t group;
    struct allow *allow; /* NULL: everybody may connect */
};

/* NULL and *error where it makes no sense. To be freed with listen_spec_free(). */
struct listen_spec *listen_spec_parse(const char *text, GError **error);
void listen_spec_free(struct listen_spec *spec);

/* The context id of a vsock: a number, `host` or `local`. */
gboolean listen_parse_cid(const char *text, uint32_t *cid);

#endif
