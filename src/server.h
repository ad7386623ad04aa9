/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all connections share: exports, which are export.c's, and settings. Those marked atomic can
 * change while the server runs.
 */
#ifndef SERVER_H
#define SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/path.h"

struct server {
    struct path_export **exports; /* those that can be attached to; export.c has the lock */
    size_t export_count;
    uint32_t msize_max;
    unsigned threads;
    unsigned connections_max; /* atomic */
    unsigned idle_seconds;    /* atomic; a client may attach nothing for so long; 0: for ever */
    unsigned
        stall_seconds; /* atomic; a message may stand still, or replies be unread; 0: for ever */
    bool trusted;      /* access=trusted */
};

#endif
