/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of xattr: stores (unit-xattr*.c) share: a store whose xattrs are in memory
 * (fake-xattr.h), and what it says, as text.
 */
#ifndef XATTR_FIXTURE_H
#define XATTR_FIXTURE_H

#include <glib.h>

#include "store/store.h"
#include "tests/lib/fake-xattr.h"
#include "tests/lib/store-fixture.h"

static char *dir; /* where there is one to open and lock; its real xattrs stay as they are */
static char *uri;
static gboolean with_epoch; /* a dump tells the number of commits, too */

static inline void begin(void)
{
    fake_reset();
    qm_xattr_sys = &fake_sys;
    with_epoch = FALSE;
}

/* Rows and counters as text; times left out. */
static inline char *dump(qidmap_store *store)
{
    GString *out = g_string_new(NULL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_row row;
    qidmap_iter *iter;

    g_assert_cmpint(qidmap_store_stats(store, &stats, NULL), ==, 0);
    g_string_printf(out, "%lu %lu %lu %lu;", with_epoch ? (unsigned long)stats.epoch : 0ul,
                    (unsigned long)stats.next_fs, (unsigned long)stats.next_affix,
                    (unsigned long)stats.next_instance);
    g_assert_cmpint(qidmap_iter_open(store, &iter, NULL), ==, 0);
    while (qidmap_iter_next(iter, &row, NULL) == 1) {
        struct qidmap_fs fs = {.size = sizeof(fs)};

        g_assert_cmpint(qidmap_fs_get(store, row.fs, &fs, NULL), ==, 0);
        g_string_append_printf(out, " %u:%u:%u:%u:%lx:%s:%u", row.kind, row.fs, row.index, row.bits,
                               (unsigned long)row.top, fs.hints.type, fs.fsid[0].bytes[0]);
    }
    qidmap_iter_close(iter);
    return g_string_free(out, FALSE);
}

/* The same after opening for reading; NULL and the code where that fails. */
static inline char *read_dump(int *code)
{
    qidmap_store *store;
    char *text;

    *code = qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, NULL);
    if (*code != 0)
        return NULL;
    text = dump(store);
    qidmap_store_close(store);
    return text;
}

static inline void map_ok(qidmap_store *store, uint32_t fs, uint64_t ino)
{
    uint64_t path;

    g_assert_cmpint(qidmap_map(store, fs, ino, &path), ==, 0);
}

/* Runs what main() has added, with a folder for `uri`. */
static inline int run_xattr_tests(void)
{
    int status;

    dir = fixture_dir();
    uri = g_strconcat("xattr:", dir, NULL);
    status = g_test_run();
    fixture_remove(dir);
    return status;
}

#endif
