/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes the dump of a store with so many rows in its full map, for tests and measurements. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/qidmap.h"

#define BATCH 10000

static int put(void *data, const void *bytes, size_t size)
{
    (void)data;
    return fwrite(bytes, 1, size, stdout) == size ? 0 : -EIO;
}

static int fail(const struct qidmap_error *error)
{
    fprintf(stderr, "make-dump: %s\n", error->text);
    return 1;
}

/* Usage: make-dump ROWS [URI [clone]]; the store is in memory, or that of the URI, which is kept.
 * With a third word there is a clone of the filesystem, too, of which nothing more is known. */
int main(int argc, char **argv)
{
    static struct qidmap_item items[BATCH];
    static struct qidmap_identity identity, pair[2];
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_error error;
    qidmap_store *store;
    uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, i = 0;
    uint32_t fs, two[2];

    params.affix_budget = 1;
    if (qidmap_store_open(argc > 2 ? argv[2] : "memory:", QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE,
                          &params, &store, &error) != 0)
        return fail(&error);
    identity.size = sizeof(identity);
    identity.policy = QIDMAP_POLICY_AFFIX;
    identity.count = 1;
    identity.fsid[0].kind = QIDMAP_FSID_UUID;
    identity.fsid[0].size = 16;
    memset(identity.fsid[0].bytes, 7, 16);
    if (qidmap_register(store, &identity, 1, &fs, &error) != 0)
        return fail(&error);
    pair[0] = pair[1] = identity;
    pair[1].superblock = 1;
    if (argc > 3 && qidmap_register(store, pair, 2, two, &error) != 0)
        return fail(&error);
    items[0].fs = fs;
    items[0].ino = 1;
    if (qidmap_map_batch(store, items, 1) != 0)
        return 1;
    while (i < rows) {
        size_t n;

        for (n = 0; n < BATCH && i < rows; n++, i++) {
            items[n].fs = fs; /* inodes as hashes give them: beyond the one entry */
            items[n].ino = ((i + 1) * UINT64_C(0x9e3779b97f4a7c15)) | UINT64_C(1) << 63;
        }
        if (qidmap_map_batch(store, items, n) != 0)
            return 1;
    }
    if (qidmap_dump(store, put, NULL, NULL, &error) != 0)
        return fail(&error);
    qidmap_store_close(store);
    return fflush(stdout) == 0 ? 0 : 1;
}
