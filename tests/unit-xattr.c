/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: 100 affix entries over 16 filesystems fit into an xattr: store where ext4 fits; what
 * does not fit, or has no place there, fails and changes nothing; one writes, beside readers; a
 * copy of the xattrs gives no number that the original gives. The layout of 2019 is read as it was
 * written.
 *
 * What interruptions and damage leave is tried by unit-xattr-crash.c and unit-xattr-damage.c.
 */
#include "config.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/virtfs.h"
#include "tests/lib/xattr-fixture.h"

static const struct qm_xattr_sys *real_sys;

/* ---- room ------------------------------------------------------------------------------------ */

static struct qidmap_identity full_identity(uint8_t which)
{
    struct qidmap_identity id = fixture_identity(which, QIDMAP_POLICY_AFFIX);
    struct qidmap_hints *h = &id.hints;

    g_strlcpy(h->type, which & 1 ? "ext4" : "xfs", sizeof(h->type));
    g_snprintf(h->source, sizeof(h->source), "/dev/mapper/vg0-volume%u", which);
    g_snprintf(h->dm_uuid, sizeof(h->dm_uuid), "LVM-%032x%032x", which, which * 7u);
    g_snprintf(h->mount_path, sizeof(h->mount_path), "/srv/exports/customers/%u/files", which);
    memset(h->boot_id, 0, sizeof(h->boot_id));
    g_strlcpy(h->boot_id, "0d9f2b53-4e5e-4d30-9f53-2c1f0c2bb4f3", sizeof(h->boot_id));
    g_strlcpy(h->machine_id, "b08dfa6083e7567a1921a715000001fb", sizeof(h->machine_id));
    h->root_ino = which & 1 ? 2 : 128;
    h->root_gen = 0x12345678u + which;
    h->root_btime_ns = INT64_C(1700000000123456789) + which;
    h->st_dev = UINT64_C(253) << 32 | which;
    return id;
}

struct mapped {
    uint32_t fs;
    uint64_t ino, path;
};

/* Registers 16 filesystems, and maps inodes with all kinds of high bits until there are `entries`
 * affix entries or nothing more fits; adds what it mapped to `all`. The number of entries. */
static uint64_t fill(qidmap_store *store, uint64_t entries, GArray *all)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_identity ids[16];
    uint32_t fs[16];
    unsigned i;

    for (i = 0; i < 16; i++)
        ids[i] = full_identity((uint8_t)(i + 1));
    g_assert_cmpint(qidmap_register(store, ids, 16, fs, NULL), ==, 0);
    for (i = 0;; i++) {
        struct mapped m = {fs[i % 16], (uint64_t)(i * 2654435761u) << 32 | 1, 0};
        int code;

        qidmap_store_stats(store, &stats, NULL);
        if (stats.affix_rows >= entries)
            break;
        code = qidmap_map(store, m.fs, m.ino, &m.path);
        if (code != 0) {
            g_assert_cmpint(code, ==, -ENOSPC);
            break;
        }
        g_array_append_val(all, m);
    }
    return stats.affix_rows;
}

static void check_all(qidmap_store *store, const GArray *all)
{
    guint i;

    for (i = 0; i < all->len; i++) {
        const struct mapped *m = &g_array_index(all, struct mapped, i);
        uint64_t path;

        g_assert_cmpint(qidmap_map(store, m->fs, m->ino, &path), ==, 0);
        g_assert_cmpuint(path, ==, m->path);
    }
}

/* ext4 gives one block to the xattrs of an inode with 128 bytes, its header taken off; user. names
 * are the longer ones, and something else of 100 bytes is there. */
static void test_room(void)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct mapped));
    struct qidmap_stats stats = {.size = sizeof(stats)}, full = {.size = sizeof(full)};
    g_autofree char *before = NULL, *after = NULL, *again = NULL;
    qidmap_store *store;

    begin();
    fake.total = 4096 - 32 - 4;
    fake.trusted_error = EPERM;
    g_hash_table_insert(fake.now, g_strdup("user.other"), g_bytes_new_take(g_malloc0(100), 100));
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    g_assert_cmpuint(fill(store, 100, all), ==, 100);
    qidmap_store_stats(store, &stats, NULL);
    g_test_message("100 entries: %lu of %lu bytes, %lu more fit", (unsigned long)stats.bytes_used,
                   (unsigned long)stats.bytes_room, (unsigned long)stats.rows_room);
    g_assert_true(stats.bytes_used > 0 && stats.bytes_used <= stats.bytes_room);
    g_assert_cmpuint(stats.rows_room, >, 0);
    fill(store, 100000, all);
    qidmap_store_stats(store, &full, NULL);
    g_test_message("%lu entries in all", (unsigned long)full.affix_rows);
    g_assert_cmpuint(full.affix_rows, >, 100);
    /* What was left was said about right. */
    g_assert_cmpuint(full.affix_rows - 100, <=, stats.rows_room + 20);
    g_assert_cmpuint(full.affix_rows - 100 + 20, >=, stats.rows_room);
    g_assert_cmpuint(full.rows_room, <=, 1);
    check_all(store, all); /* known ones go on */
    before = dump(store);
    qidmap_store_close(store);
    g_assert_true(g_hash_table_contains(fake.now, "user.other"));
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    after = dump(store);
    g_assert_cmpstr(after, ==, before);
    check_all(store, all);
    /* The same filesystems, with strings where the rows have digests: no row gets another number.
     */
    fill(store, 0, all);
    again = dump(store);
    g_assert_cmpstr(again, ==, before);
    qidmap_store_close(store);
}

/* The same with real xattrs on a directory of the caller's, for tests/root-xattr.sh. */
static void test_real_room(void)
{
    const char *place = g_getenv("QIDMAP_TEST_XATTR_DIR");
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct mapped));
    struct qidmap_stats stats = {.size = sizeof(stats)};
    g_autofree char *real_uri = g_strconcat("xattr:", place, NULL), *before = NULL, *after = NULL;
    const struct qm_xattr_sys *before_sys = qm_xattr_sys;
    qidmap_store *store;

    qm_xattr_sys = real_sys;
    store = fixture_open(real_uri, FIXTURE_WRITE, 0);
    g_assert_cmpuint(fill(store, 100, all), ==, 100);
    qidmap_store_stats(store, &stats, NULL);
    g_test_message("room %lu bytes; 100 entries over 16 filesystems take %lu; about %lu more fit",
                   (unsigned long)stats.bytes_room, (unsigned long)stats.bytes_used,
                   (unsigned long)stats.rows_room);
    if (stats.rows_room < 1000) { /* to the end, where it is near */
        fill(store, 100000, all);
        qidmap_store_stats(store, &stats, NULL);
        g_test_message("%lu entries in all", (unsigned long)stats.affix_rows);
    }
    before = dump(store);
    check_all(store, all);
    qidmap_store_close(store);
    store = fixture_open(real_uri, QIDMAP_OPEN_WRITE, 0);
    after = dump(store);
    g_assert_cmpstr(after, ==, before);
    check_all(store, all);
    qidmap_store_close(store);
    qm_xattr_sys = before_sys;
}

/* ---- what there is no place for -------------------------------------------------------------- */

static int text_write(void *data, const void *bytes, size_t size)
{
    g_string_append_len(data, bytes, (gssize)size);
    return 0;
}

static long text_read(void *data, void *buffer, size_t size)
{
    GString *text = data;
    size_t n = MIN(size, text->len);

    memcpy(buffer, text->str, n);
    g_string_erase(text, 0, (gssize)n);
    return (long)n;
}

/* More entries than the budget of other backends are no damage, and a dump of them goes there. */
static void budget_goes_along(qidmap_store *store, uint32_t fs)
{
    struct qidmap_verify_result found = {.size = sizeof(found)};
    struct qidmap_load_options options = {.size = sizeof(options), .read = text_read};
    struct qidmap_error error = {0, ""};
    GString *text = g_string_new(NULL);
    qidmap_store *other = NULL;
    uint64_t path, same, i;

    g_assert_cmpint(qidmap_store_verify(store, NULL, &found, &error), ==, 0);
    g_assert_cmpuint(found.problems, ==, 0);
    g_assert_cmpint(qidmap_dump(store, text_write, NULL, text, &error), ==, 0);
    options.data = text;
    g_assert_cmpint(qidmap_load("memory:", &options, NULL, &other, &error), ==, 0);
    for (i = 0; i < 30; i++) {
        g_assert_cmpint(qidmap_find(store, fs, (i + 1) << 56 | 3, &path), ==, 0);
        g_assert_cmpint(qidmap_find(other, fs, (i + 1) << 56 | 3, &same), ==, 0);
        g_assert_cmpuint(path, ==, same);
    }
    qidmap_store_close(other);
    g_string_free(text, TRUE);
}

static void test_no_full_map(void)
{
    struct qidmap_identity id = fixture_identity(3, QIDMAP_POLICY_HANDLE);
    struct qidmap_object object = {.kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 256, .ino2 = 2};
    struct qidmap_error error;
    qidmap_store *store;
    uint32_t fs, other;
    uint64_t path, i;

    begin();
    store = fixture_open(uri, FIXTURE_WRITE, 2); /* the budget counts for nothing */
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 30; i++)
        map_ok(store, fs, (i + 1) << 56 | 3);
    object.fs = fs;
    g_assert_cmpint(qidmap_map_object(store, &object, &path), ==, -ENFILE);
    g_assert_cmpint(qidmap_map(store, fs, 0, &path), ==, -ENFILE);
    other = fixture_register(store, 2, QIDMAP_POLICY_EPHEMERAL);
    map_ok(store, other, 77);
    g_assert_cmpint(qidmap_map(store, other, UINT64_C(1) << 37, &path), ==, -ENFILE);
    map_ok(store, fs, UINT64_C(200) << 56 | 9); /* goes on */
    g_assert_cmpint(qidmap_register(store, &id, 1, &other, &error), ==, -EOPNOTSUPP);
    g_assert_nonnull(strstr(error.text, "lmdb:"));
    budget_goes_along(store, fs);
    qidmap_store_close(store);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void refuses(unsigned flags, int code, const char *word)
{
    struct qidmap_error error = {0, ""};
    qidmap_store *store;
    int r = qidmap_store_open(uri, flags, NULL, &store, &error);

    g_test_message("%s", error.text);
    g_assert_cmpint(r, ==, code);
    g_assert_nonnull(strstr(error.text, word));
}

static void test_open(void)
{
    struct qidmap_error error;
    qidmap_store *store, *second;
    GHashTable *trusted;
    GHashTableIter iter;
    gpointer k, v;
    g_autofree char *pid = g_strdup_printf("(pid %ld)", (long)getpid());
    int status;

    begin();
    refuses(QIDMAP_OPEN_READ, -ENOENT, "no store");
    refuses(QIDMAP_OPEN_WRITE, -ENOENT, "no store");
    fake.set_error = EROFS;
    refuses(FIXTURE_WRITE, -EROFS, "lmdb:");
    fake.set_error = EOPNOTSUPP;
    refuses(FIXTURE_WRITE, -EOPNOTSUPP, "lmdb:");
    fake.set_error = EPERM;
    refuses(FIXTURE_WRITE, -EPERM, "lmdb:");
    fake.set_error = 0;
    fake.total = 400;
    refuses(FIXTURE_WRITE, -ENOSPC, "lmdb:");
    /* A failed call may have left its name there: no second store is made beside it. */
    fake.total = 0;
    fake.trusted_error = EIO;
    refuses(FIXTURE_WRITE, -EIO, "lmdb:");
    g_assert_cmpuint(g_hash_table_size(fake.now), ==, 0);
    begin();
    g_assert_cmpint(qidmap_store_open("xattr:/nonexistent", FIXTURE_WRITE, NULL, &store, &error),
                    ==, -ENOENT);
    g_assert_cmpint(qidmap_store_open("xattr:", FIXTURE_WRITE, NULL, &store, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_store_open("virtfs:/", QIDMAP_OPEN_READ, NULL, &store, &error), ==,
                    -EOPNOTSUPP);
    g_assert_nonnull(strstr(error.text, "st_dev"));

    /* One writer, named; readers beside it. */
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    refuses(FIXTURE_WRITE, -EBUSY, "this process");
    if (fork() == 0) {
        int r = qidmap_store_open(uri, FIXTURE_WRITE, NULL, &second, &error);

        _exit(r == -EBUSY && strstr(error.text, pid) && strstr(error.text, "unit-xattr") ? 0 : 1);
    }
    wait(&status);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &second, NULL), ==, 0);
    qidmap_store_close(second);
    qidmap_store_close(store);

    /* Without the right to trusted. names it is made in the others, and found there with it. */
    trusted = fake_copy(fake.now);
    begin();
    fake.trusted_error = EPERM;
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    qidmap_store_close(store);
    fake.trusted_error = 0;
    store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
    fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
    qidmap_store_close(store);
    g_hash_table_iter_init(&iter, fake.now);
    while (g_hash_table_iter_next(&iter, &k, NULL))
        g_assert_true(g_str_has_prefix(k, "user.virtfs.system.qidmap."));
    g_assert_cmpint(chmod(dir, 0777), ==, 0);
    refuses(QIDMAP_OPEN_WRITE, -EPERM, "everybody");
    g_assert_cmpint(chmod(dir, 0700), ==, 0);

    /* Both at once: neither is taken. */
    g_hash_table_iter_init(&iter, trusted);
    while (g_hash_table_iter_next(&iter, &k, &v))
        g_hash_table_insert(fake.now, g_strdup(k), g_bytes_ref(v));
    g_hash_table_destroy(trusted);
    refuses(FIXTURE_WRITE, -EEXIST, "trusted.qidmap.");
    refuses(QIDMAP_OPEN_READ, -EEXIST, "user.virtfs.system.qidmap.");
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* The same xattrs on another directory: the store opens, what is known is the same, and no number
 * that the original gives from now on is given there. */
static void test_copy(void)
{
    g_autofree char *other = fixture_dir(), *other_uri = g_strconcat("xattr:", other, NULL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    qidmap_store *store;
    uint64_t path, again, next, at_copy;
    uint32_t fs;

    begin();
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_map(store, fs, 7, &path), ==, 0);
    qidmap_store_close(store);
    store = fixture_open(uri, FIXTURE_WRITE, 0); /* where it was: no leap */
    qidmap_store_stats(store, &stats, NULL);
    next = stats.next_affix;
    g_assert_cmpuint(next, ==, 5);
    qidmap_store_close(store);
    store = fixture_open(other_uri, FIXTURE_WRITE, 0);
    g_assert_cmpint(qidmap_map(store, fs, 7, &again), ==, 0);
    g_assert_cmpuint(again, ==, path);
    map_ok(store, fs, UINT64_C(3) << 60 | 1);
    qidmap_store_stats(store, &stats, NULL);
    at_copy = stats.next_affix;
    g_assert_cmpuint(at_copy, >, next + 1000);
    qidmap_store_close(store);
    store = fixture_open(other_uri, FIXTURE_WRITE, 0); /* it is at home there now */
    qidmap_store_stats(store, &stats, NULL);
    g_assert_cmpuint(stats.next_affix, ==, at_copy);
    qidmap_store_close(store);
    fixture_remove(other);
}

/* ---- readers beside a writer ----------------------------------------------------------------- */

struct reading {
    gint stop, reads; /* atomic */
};

static gpointer read_on(gpointer data)
{
    struct reading *r = data;
    unsigned long last = 0;

    while (!g_atomic_int_get(&r->stop)) {
        int code;
        g_autofree char *text = read_dump(&code);
        unsigned long next = 0;

        if (code == -EAGAIN)
            continue;
        g_assert_cmpint(code, ==, 0);
        sscanf(text, "%*u %*u %lu", &next);
        g_assert_cmpuint(next, >=, last);
        last = next;
        g_atomic_int_inc(&r->reads);
    }
    return NULL;
}

static void test_readers(void)
{
    qidmap_store *store;
    struct reading r = {0, 0};
    GThread *thread;
    uint32_t fs;
    uint64_t i;

    begin();
    fake.value_max = 90;
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    thread = g_thread_new("reader", read_on, &r);
    for (i = 0; i < 300; i++) {
        map_ok(store, fs, (i + 1) << 54 | 3);
        if (i % 50 == 0)
            g_usleep(2000);
    }
    for (i = 0; i < 30000 && g_atomic_int_get(&r.reads) == 0; i++)
        g_usleep(2000);
    g_atomic_int_set(&r.stop, 1);
    g_thread_join(thread);
    g_assert_cmpint(r.reads, >, 0);
    qidmap_store_close(store);
}

/* ---- the layout of 2019 ---------------------------------------------------------------------- */

static int count_row(const struct qidmap_virtfs_entry *entry, void *data)
{
    unsigned *count = data;

    g_assert_cmpuint(entry->index, ==, ++*count);
    g_assert_cmpuint(entry->dev, ==, 0x800 + *count);
    g_assert_cmpuint(entry->ino_prefix, ==, 0x100 * *count + 7);
    return 0;
}

static void test_virtfs(void)
{
    guint8 table[8 + 3 * 10] = {1, 0, 0, 0};
    unsigned i, count = 0;
    guint32 crc;

    for (i = 0; i < 3; i++) {
        guint8 *e = table + 8 + i * 10;

        e[0] = (guint8)(i + 1);
        e[1] = 8;
        e[8] = 7;
        e[9] = (guint8)(i + 1);
    }
    crc = qm_crc32c(0, table + 8, 30);
    for (i = 0; i < 4; i++)
        table[4 + i] = (guint8)(crc >> 8 * i);
    g_assert_cmpint(qm_virtfs_parse(table, sizeof(table), count_row, &count), ==, 0);
    g_assert_cmpuint(count, ==, 3);
    for (i = 0; i < sizeof(table) * 8; i++) {
        if (i / 8 == 2 || i / 8 == 3)
            continue; /* reserved: nothing is said of it */
        table[i / 8] ^= (guint8)(1u << i % 8);
        count = 0;
        g_assert_cmpint(qm_virtfs_parse(table, sizeof(table), count_row, &count), <, 0);
        g_assert_cmpuint(count, ==, 0);
        table[i / 8] ^= (guint8)(1u << i % 8);
    }
    for (i = 0; i < sizeof(table); i++)
        g_assert_cmpint(qm_virtfs_parse(table, i, count_row, &count), ==, -EUCLEAN);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    real_sys = qm_xattr_sys;
    g_test_add_func("/xattr/room", test_room);
    if (g_getenv("QIDMAP_TEST_XATTR_DIR"))
        g_test_add_func("/xattr/real-room", test_real_room);
    g_test_add_func("/xattr/no-full-map", test_no_full_map);
    g_test_add_func("/xattr/open", test_open);
    g_test_add_func("/xattr/copy", test_copy);
    g_test_add_func("/xattr/readers", test_readers);
    g_test_add_func("/xattr/virtfs", test_virtfs);
    return run_xattr_tests();
}
