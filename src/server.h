/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all connections share, read-only once the server listens: exports and settings.
 * Filled in by main.c.
 */
#ifndef SERVER_H
#define SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/path.h"

struct server {
    struct path_export *exports;
    size_t export_count;
    uint32_t msize_max;
    unsigned threads;
    unsigned connections_max;
    unsigned idle_seconds;  /* a client may attach nothing for so long; 0: for ever */
    unsigned stall_seconds; /* a message may stand still, or replies be unread; 0: for ever */
    bool trusted;           /* access=trusted */
};

#endif
