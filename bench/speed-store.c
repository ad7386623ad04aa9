/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A large store, for what its start costs: rows of the full map, as a filesystem with hashed inode
 * numbers makes them. Knows the library alone, nothing of servers.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "bench/speed.h"
#include "store/qidmap.h"

#define BATCH 20000u

static struct qidmap_error problem;

static void must(const char *what, int rc)
{
    if (rc == 0)
        return;
    errno = -rc;
    speed_die(what);
}

void speed_store_make(const char *uri, guint64 rows)
{
    g_autofree struct qidmap_identity *identity = g_new0(struct qidmap_identity, 1);
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, BATCH);
    qidmap_store *store = NULL;
    uint32_t fs = 0;

    must(uri,
         qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &problem));
    identity->size = sizeof *identity;
    identity->policy = QIDMAP_POLICY_AFFIX;
    identity->count = 1;
    identity->fsid[0].kind = QIDMAP_FSID_UUID;
    identity->fsid[0].size = 16;
    memset(identity->fsid[0].bytes, 1, 16);
    g_strlcpy(identity->hints.type, "ext4", sizeof identity->hints.type);
    g_strlcpy(identity->hints.source, "/dev/bench", sizeof identity->hints.source);
    identity->superblock = 1001;
    must("register", qidmap_register(store, identity, 1, &fs, &problem));
    for (guint64 at = 0; at < rows; at += BATCH) {
        guint count = (guint)MIN(BATCH, rows - at);

        for (guint i = 0; i < count; i++) {
            guint64 ino = (at + i + 1) * 0x9e3779b97f4a7c15u;

            items[i] = (struct qidmap_item){.fs = fs, .ino = (ino ^ ino >> 29) | 1ull << 63};
        }
        must("map", qidmap_map_batch(store, items, count));
    }
    qidmap_store_close(store);
}
