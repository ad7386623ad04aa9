/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of what the operator writes about who may come and where. Promise: whatever the text,
 * reading an allow list or an address to listen on ends in a value or an error, never in both or in
 * neither; and an allow list that was read, written and read again decides the same.
 */
#include "config.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "src/allow.h"
#include "src/listen-spec.h"
#include "src/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Somebody of each kind, made from the input's first bytes. */
static void make_peer(unsigned kind, const uint8_t bytes[16], struct peer *peer)
{
    memset(peer, 0, sizeof *peer);
    peer->kind = (enum peer_kind)(kind % 4);
    peer->inherited = kind >= 4;
    memcpy(peer->address.s6_addr, bytes, 16);
    if (kind % 2) {
        memset(peer->address.s6_addr, 0, 10);
        memset(peer->address.s6_addr + 10, 0xff, 2);
    }
    memcpy(&peer->cid, bytes, 4);
    peer->has_ids = peer->kind == PEER_UNIX;
    peer->uid = bytes[0];
    peer->gid = bytes[1];
}

static void try_allow(const char *text, const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    struct allow *allow = allow_parse(text, &error), *again;
    uint8_t bytes[16] = {0};
    g_autofree char *written = NULL;

    check((allow == NULL) == (error != NULL));
    if (allow == NULL)
        return;
    written = allow_to_string(allow);
    again = allow_parse(written, NULL);
    check(again != NULL);
    memcpy(bytes, data, MIN(size, sizeof bytes));
    for (unsigned kind = 0; kind < 8; kind++) {
        struct peer peer;

        make_peer(kind, bytes, &peer);
        check(allow_permits(allow, &peer) == allow_permits(again, &peer));
    }
    allow_free(again);
    allow_free(allow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    struct listen_spec *spec;

    /* names would be looked up in the host's databases, again and again */
    if (size > 4096 || strstr(text, "uid:") != NULL || strstr(text, "gid:") != NULL ||
        strstr(text, "owner=") != NULL || strstr(text, "group=") != NULL)
        return 0;
    try_allow(text, data, size);
    spec = listen_spec_parse(text, &error);
    check((spec == NULL) == (error != NULL));
    listen_spec_free(spec);
    return 0;
}
