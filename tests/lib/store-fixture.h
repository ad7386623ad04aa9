/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tests of the store share: invented filesystems, and directories of their own. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/qidmap.h"

static inline struct qidmap_identity fixture_identity(uint8_t which, uint32_t policy)
{
    struct qidmap_identity id;

    memset(&id, 0, sizeof(id));
    id.size = sizeof(id);
    id.policy = policy;
    id.count = 1;
    id.superblock = 0x800u + which;
    if (policy == QIDMAP_POLICY_EPHEMERAL) {
        id.fsid[0].kind = QIDMAP_FSID_EPHEMERAL;
        id.fsid[0].size = 32;
        memset(id.fsid[0].bytes, 'b', 16); /* the boot */
        memset(id.fsid[0].bytes + 16, which, 16);
    } else {
        id.fsid[0].kind = QIDMAP_FSID_UUID;
        id.fsid[0].size = 16;
        memset(id.fsid[0].bytes, which, 16);
    }
    g_snprintf(id.hints.type, sizeof(id.hints.type), "fs%u", which);
    g_snprintf(id.hints.mount_path, sizeof(id.hints.mount_path), "/mnt/%u", which);
    return id;
}

static inline uint32_t fixture_register(qidmap_store *store, uint8_t which, uint32_t policy)
{
    struct qidmap_identity id = fixture_identity(which, policy);
    struct qidmap_error error = {0, ""};
    uint32_t fs = 0;

    if (qidmap_register(store, &id, 1, &fs, &error) != 0)
        g_error("register: %s", error.text);
    g_assert_cmpuint(fs, >, 0);
    return fs;
}

static inline char *fixture_dir(void)
{
    char *dir = g_dir_make_tmp("qidmap-test-XXXXXX", NULL);

    g_assert_nonnull(dir);
    return dir;
}

/* The same in memory, where there is such a place: for tests that commit thousands of times. */
static inline char *fixture_fast_dir(void)
{
    char *dir = g_strdup("/dev/shm/qidmap-test-XXXXXX");

    if (g_mkdtemp(dir))
        return dir;
    g_free(dir);
    return fixture_dir();
}

static inline void fixture_remove(const char *path)
{
    GDir *dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        fixture_remove(child);
    }
    if (dir)
        g_dir_close(dir);
    g_remove(path);
}

static inline qidmap_store *fixture_open(const char *uri, unsigned flags, uint32_t budget)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_error error = {0, ""};
    qidmap_store *store = NULL;

    if (budget)
        params.affix_budget = budget;
    if (qidmap_store_open(uri, flags, &params, &store, &error) != 0)
        g_error("open: %s", error.text);
    return store;
}

#define FIXTURE_WRITE (QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE)

#endif
