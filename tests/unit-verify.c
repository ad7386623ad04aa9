/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: verify finds each way in which the rows of a store can contradict each other, although
 * every checksum is right, and says which in words; a store that is right is called right. What
 * other rows prove is mended, with a backup; all else is left as it is. With every backend alike.
 *
 * Each case breaks a store in one way by writing to its tables below the library.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/error.h"
#include "store/store.h"
#include "store/verify.h"
#include "tests/lib/store-fixture.h"

struct fixture {
    char *dir, *place, *uri, *backup;
    qidmap_store *store;        /* memory: its owner */
    struct qm_backend *backend; /* open for writing, whatever the rows say */
};

static const struct qm_bytes nothing = {NULL, 0};

/* fs 1: affix, two entries, then the full map; fs 2: handles; fs 3: ephemeral, one inode in the
 * full map; fs 4: affix, one entry. Their inodes and ids: */
#define HIGH(n) ((uint64_t)(n) << 58 | 9)
static uint64_t full_id, handle_id, ephemeral_id;
static struct qidmap_object handle_object;

static void fill(qidmap_store *store)
{
    struct qidmap_object o = {.fs = 1, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 256, .ino2 = 2};
    uint64_t path;

    g_assert_cmpuint(fixture_register(store, 1, QIDMAP_POLICY_AFFIX), ==, 1);
    g_assert_cmpuint(fixture_register(store, 2, QIDMAP_POLICY_HANDLE), ==, 2);
    g_assert_cmpuint(fixture_register(store, 3, QIDMAP_POLICY_EPHEMERAL), ==, 3);
    g_assert_cmpuint(fixture_register(store, 4, QIDMAP_POLICY_AFFIX), ==, 4);
    for (uint64_t i = 0; i < 5; i++)
        g_assert_cmpint(qidmap_map(store, 1, HIGH(i), &full_id), ==, 0);
    g_assert_cmpuint(full_id & 1, ==, 1);
    g_assert_cmpint(qidmap_map_object(store, &o, &path), ==, 0);
    for (char i = 0; i < 3; i++) {
        handle_object = (struct qidmap_object){.fs = 2,
                                               .kind = QIDMAP_OBJECT_HANDLE,
                                               .handle_size = 12,
                                               .handle_type = 1,
                                               .handle = "abcdefghijk"};
        handle_object.handle[11] = (uint8_t)i;
        g_assert_cmpint(qidmap_map_object(store, &handle_object, &handle_id), ==, 0);
    }
    g_assert_cmpint(qidmap_map(store, 3, 5, &path), ==, 0);
    g_assert_cmpint(qidmap_map(store, 3, UINT64_C(1) << 40, &ephemeral_id), ==, 0);
    g_assert_cmpint(qidmap_map(store, 4, 7, &path), ==, 0);
}

static struct qm_backend *open_raw(const char *place)
{
    struct qm_backend_config config = {.write = TRUE, .lenient = TRUE};
    GError *error = NULL;
    struct qm_backend *backend = qm_backend_lmdb.open(place, &config, &error);

    g_assert_no_error(error);
    return backend;
}

static void setup(struct fixture *f, gconstpointer lmdb)
{
    f->dir = fixture_dir();
    f->place = g_build_filename(f->dir, "store", NULL);
    f->uri = lmdb ? g_strconcat("lmdb:", f->place, NULL) : g_strdup("memory:");
    f->backup = g_build_filename(f->dir, "backup", NULL);
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 2);
    fill(f->store);
    if (lmdb) {
        qidmap_store_close(f->store);
        f->store = NULL;
        f->backend = open_raw(f->place);
    } else {
        f->backend = f->store->backend;
    }
}

static void teardown(struct fixture *f)
{
    if (f->store) {
        atomic_store(&f->store->broken, -EIO); /* what the tables hold is not its own any more */
        qidmap_store_close(f->store);
    } else {
        f->backend->ops->close(f->backend);
    }
    fixture_remove(f->dir);
    g_free(f->dir);
    g_free(f->place);
    g_free(f->uri);
    g_free(f->backup);
}

/* ---- below the library -------------------------------------------------------------------------
 */

static void put(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    g_assert_cmpint(qm_txn_put(txn, table, r), ==, 0);
}

static void del(struct qm_txn *txn, enum qm_table table, const struct qm_record *r)
{
    g_assert_cmpint(txn->backend->ops->del(txn, table, (struct qm_bytes){r->key, r->key_size}), ==,
                    0);
}

static void get_meta(struct qm_txn *txn, struct qm_meta *meta)
{
    g_assert_cmpint(qm_read_meta(txn, meta), ==, 0);
}

static void put_meta(struct qm_txn *txn, const struct qm_meta *meta)
{
    struct qm_record r;

    qm_record_meta(&r, meta);
    put(txn, QM_TABLE_META, &r);
}

static void add_rows(struct qm_txn *txn, int affix, int full, int fs)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.affix_rows += (uint64_t)affix;
    meta.full_rows += (uint64_t)full;
    meta.fs_rows += (uint64_t)fs;
    put_meta(txn, &meta);
}

static gboolean get_fs(struct qm_txn *txn, uint32_t number, struct qidmap_fs *fs)
{
    struct qidmap_fs probe = {.fs = number};
    struct qm_bytes value;
    struct qm_record r;
    gboolean has_full;

    qm_record_fs(&r, &probe, FALSE);
    g_assert_cmpint(
        txn->backend->ops->get(txn, QM_TABLE_FS, (struct qm_bytes){r.key, r.key_size}, &value), ==,
        0);
    g_assert_cmpint(qm_parse_fs((struct qm_bytes){r.key, r.key_size}, value, fs, &has_full), ==, 0);
    return has_full;
}

static void put_fs(struct qm_txn *txn, const struct qidmap_fs *fs, gboolean has_full)
{
    struct qm_record r;

    qm_record_fs(&r, fs, has_full);
    put(txn, QM_TABLE_FS, &r);
}

/* Flips a bit of the last row of a table. */
static void flip(struct qm_txn *txn, enum qm_table table)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_record r;
    struct qm_bytes k, v;

    g_assert_cmpint(ops->cursor_open(txn, table, &cursor), ==, 0);
    g_assert_cmpint(ops->cursor_seek(cursor, nothing, &k, &v), ==, 0);
    do {
        r.key_size = k.size;
        r.value_size = v.size;
        memcpy(r.key, k.data, k.size);
        memcpy(r.value, v.data, v.size);
    } while (ops->cursor_next(cursor, &k, &v) == 0);
    ops->cursor_close(cursor);
    r.value[0] ^= 4;
    put(txn, table, &r);
}

/* The first entry of a fs. */
static uint32_t entry_of(struct qm_txn *txn, uint32_t fs, uint64_t *top)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    uint32_t number = 0, n = 0;
    unsigned bits;

    g_assert_cmpint(ops->cursor_open(txn, QM_TABLE_AFFIX, &cursor), ==, 0);
    g_assert_cmpint(ops->cursor_seek(cursor, nothing, &k, &v), ==, 0);
    do
        g_assert_cmpint(qm_parse_affix(k, v, &number, &bits, top, &n), ==, 0);
    while (number != fs && ops->cursor_next(cursor, &k, &v) == 0);
    ops->cursor_close(cursor);
    g_assert_cmpuint(number, ==, fs);
    return n;
}

static void put_full(struct qm_txn *txn, const struct qidmap_object *object, uint64_t id)
{
    struct qm_record r;

    qm_record_full(&r, object, id);
    put(txn, QM_TABLE_FULL, &r);
    qm_record_byfull(&r, id, object);
    put(txn, QM_TABLE_BYFULL, &r);
    add_rows(txn, 0, 1, 0);
}

static void put_entry(struct qm_txn *txn, uint32_t fs, uint32_t n, uint64_t top)
{
    struct qm_record r;

    qm_record_affix(&r, fs, qm_affix_bits(n), top, n);
    put(txn, QM_TABLE_AFFIX, &r);
    qm_record_byaffix(&r, n, fs, top);
    put(txn, QM_TABLE_BYAFFIX, &r);
    add_rows(txn, 1, 0, 0);
}

/* ---- ways to break a store ---------------------------------------------------------------------
 */

static void fs_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_FS);
}

static void affix_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_AFFIX);
}

static void full_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_FULL);
}

static void byaffix_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_BYAFFIX);
}

static void byfull_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_BYFULL);
}

static void fsid_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_FSID);
}

static void meta_flipped(struct qm_txn *txn)
{
    flip(txn, QM_TABLE_META);
}

static void meta_missing(struct qm_txn *txn)
{
    struct qm_meta meta = {.affix_budget = 1};
    struct qm_record r;

    qm_record_meta(&r, &meta);
    del(txn, QM_TABLE_META, &r);
}

static void byfull_missing(struct qm_txn *txn)
{
    struct qm_record r;

    qm_record_byfull(&r, handle_id, &handle_object);
    del(txn, QM_TABLE_BYFULL, &r);
}

static void byfull_wrong(struct qm_txn *txn)
{
    struct qidmap_object object = handle_object;
    struct qm_record r;

    object.handle[0]++;
    qm_record_byfull(&r, handle_id, &object);
    put(txn, QM_TABLE_BYFULL, &r);
}

static void byfull_orphan(struct qm_txn *txn)
{
    struct qidmap_object object = handle_object;
    struct qm_record r;

    object.handle[0]++;
    qm_record_byfull(&r, 257 - 2 * 20 + 64, &object);
    put(txn, QM_TABLE_BYFULL, &r);
}

static void full_missing(struct qm_txn *txn)
{
    struct qm_record r;

    qm_record_full(&r, &handle_object, handle_id);
    del(txn, QM_TABLE_FULL, &r);
}

static void byaffix_missing(struct qm_txn *txn)
{
    struct qm_record r;
    uint64_t top;
    uint32_t n = entry_of(txn, 4, &top);

    qm_record_byaffix(&r, n, 4, top);
    del(txn, QM_TABLE_BYAFFIX, &r);
}

static void byaffix_wrong(struct qm_txn *txn)
{
    struct qm_record r;
    uint64_t top;
    uint32_t n = entry_of(txn, 4, &top);

    qm_record_byaffix(&r, n, 1, 3);
    put(txn, QM_TABLE_BYAFFIX, &r);
}

static void affix_missing(struct qm_txn *txn)
{
    struct qm_record r;
    uint64_t top;
    uint32_t n = entry_of(txn, 4, &top);

    qm_record_affix(&r, 4, qm_affix_bits(n), top, n);
    del(txn, QM_TABLE_AFFIX, &r);
}

static void fsid_missing(struct qm_txn *txn)
{
    struct qidmap_fs fs;
    struct qm_record r;

    get_fs(txn, 4, &fs);
    qm_record_fsid(&r, &fs.fsid[0], 4);
    del(txn, QM_TABLE_FSID, &r);
}

static void fsid_orphan(struct qm_txn *txn)
{
    struct qidmap_fs fs;
    struct qm_record r;

    get_fs(txn, 4, &fs);
    fs.fsid[0].bytes[3]++;
    qm_record_fsid(&r, &fs.fsid[0], 4);
    put(txn, QM_TABLE_FSID, &r);
}

static void id_twice(struct qm_txn *txn)
{
    struct qidmap_object object = handle_object;
    struct qm_record r;

    object.handle[0]++;
    qm_record_full(&r, &object, handle_id);
    put(txn, QM_TABLE_FULL, &r);
    add_rows(txn, 0, 1, 0);
}

static void index_twice(struct qm_txn *txn)
{
    struct qm_record r;
    uint64_t top;
    uint32_t n = entry_of(txn, 4, &top);

    qm_record_affix(&r, 4, qm_affix_bits(n), top ^ 1, n);
    put(txn, QM_TABLE_AFFIX, &r);
    add_rows(txn, 1, 0, 0);
}

static void ranges_overlap(struct qm_txn *txn)
{
    struct qm_meta meta;
    uint64_t top;
    uint32_t n = entry_of(txn, 4, &top);

    get_meta(txn, &meta);
    meta.next_affix = 101;
    put_meta(txn, &meta);
    /* Below the range of n, at its far end. */
    put_entry(txn, 4, 100, ((top + 1) << (qm_affix_bits(100) - qm_affix_bits(n))) - 1);
}

static void two_ids(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 1, .kind = QIDMAP_OBJECT_INODE, .ino = HIGH(0) + 1};
    struct qm_meta meta;

    get_meta(txn, &meta);
    put_full(txn, &object, qm_full_path(meta.next_serial));
    get_meta(txn, &meta);
    meta.next_serial++;
    put_meta(txn, &meta);
}

static void two_ids_ephemeral(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 3, .kind = QIDMAP_OBJECT_INODE, .ino = 77};
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.next_serial++;
    put_meta(txn, &meta);
    put_full(txn, &object, qm_full_path(meta.next_serial - 1));
}

static void low(struct qm_txn *txn, int which)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    if (which == 0)
        meta.next_fs = 4;
    else if (which == 1)
        meta.next_affix = 5;
    else if (which == 2)
        meta.next_serial = 129;
    else
        meta.next_instance = 1;
    put_meta(txn, &meta);
}

static void low_fs(struct qm_txn *txn)
{
    low(txn, 0);
}

static void low_affix(struct qm_txn *txn)
{
    low(txn, 1);
}

static void low_serial(struct qm_txn *txn)
{
    low(txn, 2);
}

static void low_instance(struct qm_txn *txn)
{
    low(txn, 3);
}

static void counter_wild(struct qm_txn *txn)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.next_fs = UINT64_C(1) << 40;
    put_meta(txn, &meta);
}

static void full_count(struct qm_txn *txn)
{
    add_rows(txn, 0, 1, 0);
}

static void affix_count(struct qm_txn *txn)
{
    add_rows(txn, -1, 0, 0);
}

static void fs_count(struct qm_txn *txn)
{
    add_rows(txn, 0, 0, 1);
}

static void fsid_count(struct qm_txn *txn)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.fsid_rows++;
    put_meta(txn, &meta);
}

static void flag_full(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    get_fs(txn, 2, &fs);
    put_fs(txn, &fs, FALSE);
}

static void flag_budget(struct qm_txn *txn)
{
    struct qidmap_fs fs;
    gboolean has_full = get_fs(txn, 1, &fs);

    g_assert_cmpuint(fs.left_budget, ==, 1);
    fs.left_budget = 0;
    put_fs(txn, &fs, has_full);
}

static void affix_orphan(struct qm_txn *txn)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.next_affix = 101;
    put_meta(txn, &meta);
    put_entry(txn, 99, 100, 0);
}

static void full_orphan(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 99, .kind = QIDMAP_OBJECT_INODE, .ino = 1};

    put_full(txn, &object, 255);
}

static void same_instance(struct qm_txn *txn)
{
    struct qidmap_fs fs, other;
    struct qm_meta meta;
    struct qm_record r;

    get_fs(txn, 3, &fs);
    other = fs;
    other.fs = 5;
    other.fsid[0].bytes[20]++;
    put_fs(txn, &other, FALSE);
    qm_record_fsid(&r, &other.fsid[0], 5);
    put(txn, QM_TABLE_FSID, &r);
    get_meta(txn, &meta);
    meta.next_fs = 6;
    meta.fs_rows++;
    meta.fsid_rows++;
    put_meta(txn, &meta);
}

static void no_instance(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    get_fs(txn, 4, &fs);
    fs.instance = 1;
    fs.policy = QIDMAP_POLICY_AFFIX;
    put_fs(txn, &fs, FALSE);
}

static void unknown_flags(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    get_fs(txn, 4, &fs);
    fs.flags |= 0x100;
    put_fs(txn, &fs, FALSE);
}

static void over_budget(struct qm_txn *txn)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.affix_budget = 1;
    put_meta(txn, &meta);
}

static void wrong_policy(struct qm_txn *txn)
{
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.next_affix = 101;
    put_meta(txn, &meta);
    put_entry(txn, 2, 100, 0);
}

static void bound_unsaid(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 4, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 9, .ino2 = 9};
    struct qidmap_fs fs;

    get_fs(txn, 4, &fs);
    put_fs(txn, &fs, TRUE);
    put_full(txn, &object, UINT64_C(5) << 20 | qm_affix_suffix(entry_of(txn, 4, &fs.hints.st_dev)));
}

static void bound_twice(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 4, .kind = QIDMAP_OBJECT_INODE, .ino = 9};
    struct qidmap_fs fs;
    uint64_t top;

    get_fs(txn, 4, &fs);
    fs.has_bound = 1;
    put_fs(txn, &fs, TRUE);
    put_full(txn, &object, UINT64_C(5) << 20 | qm_affix_suffix(entry_of(txn, 1, &top)));
}

/* Filesystem 1 is retired, and 4 its heir: what it gave, 4 gives. */
static void bound_alias(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    bound_twice(txn);
    get_fs(txn, 1, &fs);
    fs.retired = 1;
    put_fs(txn, &fs, TRUE);
    get_fs(txn, 4, &fs);
    fs.alias = 1;
    fs.has_bound = 1;
    put_fs(txn, &fs, TRUE);
}

static void bound_reserved(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 4, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 9, .ino2 = 9};
    struct qidmap_fs fs;

    get_fs(txn, 4, &fs);
    fs.has_bound = 1;
    put_fs(txn, &fs, TRUE);
    put_full(txn, &object, 802);
}

static void wrong_key(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 2, .kind = QIDMAP_OBJECT_INODE, .ino = 9};
    struct qm_meta meta;

    get_meta(txn, &meta);
    meta.next_serial++;
    put_meta(txn, &meta);
    put_full(txn, &object, qm_full_path(meta.next_serial - 1));
}

static void id_small(struct qm_txn *txn)
{
    struct qidmap_object object = {.fs = 1, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 9, .ino2 = 9};

    put_full(txn, &object, 17);
}

/* fs 4 is retired, and the alias of fs 1; then that is made wrong. */
static void alias(struct qm_txn *txn, gboolean retired, uint32_t of, uint32_t policy)
{
    struct qidmap_fs fs, other;
    struct qm_record r;
    struct qm_meta meta;
    gboolean has_full = get_fs(txn, 1, &fs);

    get_fs(txn, 4, &other);
    if (retired) {
        qm_record_fsid(&r, &other.fsid[0], 4);
        del(txn, QM_TABLE_FSID, &r);
        get_meta(txn, &meta);
        meta.fsid_rows--;
        put_meta(txn, &meta);
        other.retired = 1;
    }
    if (policy)
        other.policy = policy;
    put_fs(txn, &other, FALSE);
    fs.alias = of;
    put_fs(txn, &fs, has_full);
}

static void alias_right(struct qm_txn *txn)
{
    alias(txn, TRUE, 4, 0);
}

static void alias_nowhere(struct qm_txn *txn)
{
    alias(txn, TRUE, 77, 0);
}

static void alias_alive(struct qm_txn *txn)
{
    alias(txn, FALSE, 4, 0);
}

static void alias_policy(struct qm_txn *txn)
{
    alias(txn, TRUE, 4, QIDMAP_POLICY_HANDLE);
}

static void alias_ring(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    alias(txn, TRUE, 4, 0);
    get_fs(txn, 4, &fs);
    fs.alias = 1;
    put_fs(txn, &fs, FALSE);
}

static void alias_shared(struct qm_txn *txn)
{
    struct qidmap_fs fs;

    alias(txn, TRUE, 4, 0);
    get_fs(txn, 2, &fs);
    fs.alias = 4;
    put_fs(txn, &fs, TRUE);
}

#define YES TRUE
#define NO  FALSE

static const struct way {
    const char *name;
    void (*break_it)(struct qm_txn *txn);
    uint32_t kind;
    gboolean mendable;
    const char *words;
} ways[] = {
    {"fs-flipped", fs_flipped, QIDMAP_PROBLEM_ROW, NO, "table fs: the row with key 00000004"},
    {"affix-flipped", affix_flipped, QIDMAP_PROBLEM_ROW, NO, "table affix: the row with key"},
    {"full-flipped", full_flipped, QIDMAP_PROBLEM_ROW, NO, "table full: the row with key"},
    {"byaffix-flipped", byaffix_flipped, QIDMAP_PROBLEM_AFFIX, YES,
     "not what its affix entry says"},
    {"byfull-flipped", byfull_flipped, QIDMAP_PROBLEM_FULL, YES, "not what the full map says"},
    {"fsid-flipped", fsid_flipped, QIDMAP_PROBLEM_IDENTITY, YES, "not what the filesystem says"},
    {"meta-flipped", meta_flipped, QIDMAP_PROBLEM_RECORD, NO, "wrong checksum"},
    {"meta-missing", meta_missing, QIDMAP_PROBLEM_RECORD, NO, "is missing"},
    {"byfull-missing", byfull_missing, QIDMAP_PROBLEM_FULL, YES, "of filesystem 2) is missing"},
    {"byfull-wrong", byfull_wrong, QIDMAP_PROBLEM_FULL, YES, "not what the full map says"},
    {"byfull-orphan", byfull_orphan, QIDMAP_PROBLEM_FULL, YES, "which is not in the full map"},
    {"full-missing", full_missing, QIDMAP_PROBLEM_FULL, NO, "which is not in the full map"},
    {"byaffix-missing", byaffix_missing, QIDMAP_PROBLEM_AFFIX, YES, "(filesystem 4) is missing"},
    {"byaffix-wrong", byaffix_wrong, QIDMAP_PROBLEM_AFFIX, YES, "not what its affix entry says"},
    {"affix-missing", affix_missing, QIDMAP_PROBLEM_AFFIX, NO, "filesystem 4 that is not there"},
    {"fsid-missing", fsid_missing, QIDMAP_PROBLEM_IDENTITY, YES, "of filesystem 4 is missing"},
    {"fsid-orphan", fsid_orphan, QIDMAP_PROBLEM_IDENTITY, YES,
     "filesystem 4, which does not have it"},
    {"id-twice", id_twice, QIDMAP_PROBLEM_TWICE, NO, "is given twice: to handle 1:"},
    {"index-twice", index_twice, QIDMAP_PROBLEM_TWICE, NO, "belongs to two affix entries"},
    {"overlap", ranges_overlap, QIDMAP_PROBLEM_OVERLAP, NO, "cover the same inodes"},
    {"two-ids", two_ids, QIDMAP_PROBLEM_TWICE, NO, "has two ids"},
    {"two-ids-ephemeral", two_ids_ephemeral, QIDMAP_PROBLEM_TWICE, NO, "by its instance"},
    {"next-fs", low_fs, QIDMAP_PROBLEM_COUNTER, YES, "next_fs is at 4, and 4 was given"},
    {"next-affix", low_affix, QIDMAP_PROBLEM_COUNTER, YES, "next_affix is at 5"},
    {"next-serial", low_serial, QIDMAP_PROBLEM_COUNTER, YES, "next_serial is at 129"},
    {"next-instance", low_instance, QIDMAP_PROBLEM_COUNTER, YES,
     "next_instance is at 1, and 1 was"},
    {"counter-wild", counter_wild, QIDMAP_PROBLEM_COUNTER, NO, "outside of its range"},
    {"full-count", full_count, QIDMAP_PROBLEM_COUNT, YES, "table full has"},
    {"affix-count", affix_count, QIDMAP_PROBLEM_COUNT, YES, "table affix has 3 rows"},
    {"fs-count", fs_count, QIDMAP_PROBLEM_COUNT, YES, "the record of the store says 5"},
    {"fsid-count", fsid_count, QIDMAP_PROBLEM_COUNT, YES, "table fsid has 4 rows"},
    {"flag-full", flag_full, QIDMAP_PROBLEM_FLAG, YES, "filesystem 2 has rows in the full map"},
    {"flag-budget", flag_budget, QIDMAP_PROBLEM_FLAG, YES, "that it left its budget"},
    {"affix-orphan", affix_orphan, QIDMAP_PROBLEM_ORPHAN, NO, "filesystem 99, which is not there"},
    {"full-orphan", full_orphan, QIDMAP_PROBLEM_ORPHAN, NO, "inode 1 of filesystem 99"},
    {"same-instance", same_instance, QIDMAP_PROBLEM_TWICE, NO, "filesystems 3 and 5 have the same"},
    {"no-instance", no_instance, QIDMAP_PROBLEM_FLAG, NO, "policy affix and instance 1"},
    {"unknown-flags", unknown_flags, QIDMAP_PROBLEM_FLAG, NO, "flags that are unknown"},
    {"over-budget", over_budget, QIDMAP_PROBLEM_BUDGET, NO, "the budget of the store is 1"},
    {"wrong-policy", wrong_policy, QIDMAP_PROBLEM_FLAG, NO, "its policy is handle"},
    {"bound-unsaid", bound_unsaid, QIDMAP_PROBLEM_FLAG, NO, "does not say so"},
    {"bound-twice", bound_twice, QIDMAP_PROBLEM_TWICE, NO, "is given twice: to inode 9"},
    {"bound-alias", bound_alias, QIDMAP_PROBLEM_TWICE, NO, "of filesystem 4"},
    {"bound-reserved", bound_reserved, QIDMAP_PROBLEM_ROW, NO, "802, which is given to nobody"},
    {"alias-nowhere", alias_nowhere, QIDMAP_PROBLEM_ALIAS, NO, "filesystem 77, which is not there"},
    {"alias-alive", alias_alive, QIDMAP_PROBLEM_ALIAS, NO, "its own identity still"},
    {"alias-policy", alias_policy, QIDMAP_PROBLEM_ALIAS, NO, "which has another policy"},
    {"alias-ring", alias_ring, QIDMAP_PROBLEM_ALIAS, NO, "in a ring"},
    {"alias-shared", alias_shared, QIDMAP_PROBLEM_ALIAS, NO, "more than one alias"},
    {"wrong-key", wrong_key, QIDMAP_PROBLEM_FLAG, NO, "it is known by another key"},
    {"id-small", id_small, QIDMAP_PROBLEM_ROW, NO, "17, which is given to nobody"},
};

/* ---- the tests ---------------------------------------------------------------------------------
 */

struct found {
    const struct way *way;
    gboolean hit, mendable;
    GString *all;
};

static void note(void *data, const struct qidmap_problem *p)
{
    struct found *found = data;

    g_string_append_printf(found->all, "%s: %s%s\n", qidmap_problem_name(p->kind), p->text,
                           p->flags & QIDMAP_PROBLEM_MENDABLE ? " (mendable)" : "");
    if (found->way && p->kind == found->way->kind && strstr(p->text, found->way->words)) {
        found->hit = TRUE;
        found->mendable = (p->flags & QIDMAP_PROBLEM_MENDABLE) != 0;
    }
}

static void verify(struct fixture *f, gboolean repair, struct found *found,
                   struct qidmap_verify_result *result)
{
    struct qidmap_verify_options options = {
        .size = sizeof(options), .problem = note, .data = found};
    GError *error = NULL;

    memset(result, 0, sizeof(*result));
    found->hit = found->mendable = FALSE;
    g_string_truncate(found->all, 0);
    if (repair)
        (void)qm_repair(f->backend, f->backup, &options, result, &error);
    else
        (void)qm_verify_backend(f->backend, &options, result, &error);
    g_assert_no_error(error);
}

static void break_it(struct fixture *f, void (*how)(struct qm_txn *txn))
{
    const struct qm_backend_ops *ops = f->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;

    g_assert_cmpint(ops->begin(f->backend, QM_TXN_WRITE, 50, &txn), ==, 0);
    get_meta(txn, &meta);
    meta.transaction = ops->number(txn);
    put_meta(txn, &meta);
    how(txn);
    g_assert_cmpint(ops->commit(txn), ==, 0);
}

/* All rows of all tables, for comparison. */
static GBytes *state_of(struct fixture *f)
{
    const struct qm_backend_ops *ops = f->backend->ops;
    GByteArray *out = g_byte_array_new();
    struct qm_txn *txn;
    int table;

    g_assert_cmpint(ops->begin(f->backend, QM_TXN_SNAPSHOT, 0, &txn), ==, 0);
    for (table = 0; table < QM_TABLES; table++) {
        struct qm_cursor *cursor;
        struct qm_bytes k, v;
        int e;

        g_assert_cmpint(ops->cursor_open(txn, (enum qm_table)table, &cursor), ==, 0);
        for (e = ops->cursor_seek(cursor, nothing, &k, &v); e == 0;
             e = ops->cursor_next(cursor, &k, &v)) {
            g_byte_array_append(out, k.data, (guint)k.size);
            g_byte_array_append(out, v.data, (guint)v.size);
        }
        ops->cursor_close(cursor);
    }
    ops->abort(txn);
    return g_byte_array_free_to_bytes(out);
}

static void test_clean(gconstpointer lmdb)
{
    struct fixture f;
    struct found found = {.all = g_string_new(NULL)};
    struct qidmap_verify_result result;

    setup(&f, lmdb);
    verify(&f, FALSE, &found, &result);
    g_assert_cmpstr(found.all->str, ==, "");
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_cmpuint(result.fs_rows, ==, 4);
    g_assert_cmpuint(result.affix_rows, ==, 3);
    g_assert_cmpuint(result.full_rows, ==, 6);
    break_it(&f, alias_right); /* an alias is nothing wrong */
    verify(&f, TRUE, &found, &result);
    g_assert_cmpstr(found.all->str, ==, "");
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_cmpstr(result.backup, ==, "");
    g_assert_false(g_file_test(f.backup, G_FILE_TEST_EXISTS));
    teardown(&f);
    g_string_free(found.all, TRUE);
}

struct test {
    const struct way *way;
    gboolean lmdb;
};

static void test_way(gconstpointer data)
{
    const struct test *t = data;
    struct fixture f;
    struct found found = {.way = t->way, .all = g_string_new(NULL)};
    struct qidmap_verify_result result;
    g_autoptr(GBytes) before = NULL;
    g_autoptr(GBytes) after = NULL;
    struct stat st;

    setup(&f, t->lmdb ? "lmdb" : NULL);
    break_it(&f, t->way->break_it);
    before = state_of(&f);
    verify(&f, FALSE, &found, &result);
    if (!found.hit)
        g_test_message("%s", found.all->str);
    g_assert_true(found.hit);
    g_assert_cmpint(found.mendable, ==, t->way->mendable);
    g_assert_cmpuint(result.problems, >, 0);
    g_assert_cmpuint(result.mended, ==, 0);

    verify(&f, TRUE, &found, &result);
    after = state_of(&f);
    if (t->way->mendable) {
        g_assert_cmpuint(result.mended, >, 0);
        g_assert_cmpuint(result.problems, ==, 0);
        g_assert_cmpstr(result.backup, ==, f.backup);
        g_assert_cmpint(stat(f.backup, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
        verify(&f, FALSE, &found, &result);
        g_assert_cmpstr(found.all->str, ==, "");
    } else if (result.mended == 0) {
        g_assert_true(g_bytes_equal(before, after));
        g_assert_cmpuint(result.problems, >, 0);
    } else {
        g_assert_cmpuint(result.problems, >, 0);
    }
    teardown(&f);
    g_string_free(found.all, TRUE);
}

/* By URI, as the tool does: a store that cannot be opened is looked at, and mended. */
static void test_uri(void)
{
    struct fixture f;
    struct found found = {.way = &ways[12], .all = g_string_new(NULL)};
    struct qidmap_verify_options options = {
        .size = sizeof(options), .problem = note, .data = &found};
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error;
    qidmap_store *store;

    g_assert_cmpstr(ways[12].name, ==, "byaffix-missing");
    setup(&f, "lmdb");
    break_it(&f, byaffix_missing);
    f.backend->ops->close(f.backend);
    g_assert_cmpint(qidmap_store_open(f.uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                    -EUCLEAN);
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, 0);
    g_assert_true(found.hit);
    g_assert_cmpuint(result.problems, ==, result.mendable);
    options.flags = QIDMAP_VERIFY_REPAIR;
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    g_assert_true(g_file_test(result.backup, G_FILE_TEST_IS_REGULAR));
    g_assert_true(g_str_has_prefix(result.backup, f.place)); /* beside the store */
    g_assert_cmpint(qidmap_store_open(f.uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==, 0);
    options.flags = 0;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    options.flags = QIDMAP_VERIFY_REPAIR;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, -EINVAL);
    qidmap_store_close(store);
    options.size = 3;
    g_assert_cmpint(qidmap_verify(f.uri, &options, &result, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_verify("lmdb:/nonexistent/x", NULL, &result, &error), ==, -ENOENT);
    g_assert_cmpint(qidmap_verify("what", NULL, &result, &error), ==, -EINVAL);
    f.backend = open_raw(f.place);
    teardown(&f);
    g_string_free(found.all, TRUE);
}

/* Any byte of the file flipped: verify comes back, and never calls right what is read wrongly. */
static void test_pages(void)
{
    struct fixture f;
    g_autofree char *path = NULL, *data = NULL;
    struct qidmap_verify_result result = {.size = sizeof(result)};
    struct qidmap_error error;
    gsize size, at;
    unsigned told = 0;
    struct stat st;
    int fd;

    setup(&f, "lmdb");
    f.backend->ops->close(f.backend);
    path = g_build_filename(f.place, "gen.1", "data.mdb", NULL);
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (at = 8; at < MIN(size, 20 * 4096); at += 37) {
        char byte = (char)(data[at] ^ 1 << at % 8);

        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
        if (qidmap_verify(f.uri, NULL, &result, &error) == 0)
            told += result.problems > 0;
        g_assert_cmpint(pwrite(fd, data + at, 1, (off_t)at), ==, 1);
    }
    g_assert_cmpuint(told, >, 30);
    g_assert_cmpint(qidmap_verify(f.uri, NULL, &result, &error), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    for (at = 0; at < 5; at++) {
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        g_assert_cmpint(ftruncate(fd, (off_t)(5 - at) * 3000), ==, 0);
        g_assert_cmpint(qidmap_verify(f.uri, NULL, &result, &error), ==, 0);
        g_assert_cmpuint(result.problems, ==, 1);
    }
    g_assert_cmpint(pwrite(fd, data, size, 0), ==, (gssize)size);
    close(fd);
    f.backend = open_raw(f.place);
    teardown(&f);
}

static int stop(void *data, uint64_t done, uint64_t total)
{
    unsigned *calls = data;

    g_assert_cmpuint(done, <=, total);
    return ++*calls == 2;
}

static void test_progress(void)
{
    struct qidmap_verify_options options = {.size = sizeof(options), .progress = stop};
    struct qidmap_verify_result result = {.size = sizeof(result)};
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 1);
    uint32_t fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    unsigned calls = 0;
    struct qidmap_error error;
    uint64_t path, i;

    for (i = 0; i < 200; i++)
        g_assert_cmpint(qidmap_map(store, fs, i << 56 | i, &path), ==, 0);
    options.data = &calls;
    g_assert_cmpint(qidmap_store_verify(store, &options, &result, &error), ==, -ECANCELED);
    g_assert_cmpuint(calls, ==, 2);
    qidmap_store_close(store);
}

int main(int argc, char **argv)
{
    size_t i;
    int lmdb;

    g_test_init(&argc, &argv, NULL);
    for (lmdb = 0; lmdb < 2; lmdb++) {
        g_autofree char *clean = g_strdup_printf("/verify/%s/clean", lmdb ? "lmdb" : "memory");

        g_test_add_data_func(clean, lmdb ? "lmdb" : NULL, test_clean);
        for (i = 0; i < G_N_ELEMENTS(ways); i++) {
            g_autofree char *name =
                g_strdup_printf("/verify/%s/%s", lmdb ? "lmdb" : "memory", ways[i].name);
            struct test *test = g_new(struct test, 1);

            *test = (struct test){&ways[i], lmdb};
            g_test_add_data_func_full(name, test, test_way, g_free);
        }
    }
    g_test_add_func("/verify/uri", test_uri);
    g_test_add_func("/verify/pages", test_pages);
    g_test_add_func("/verify/progress", test_progress);
    return g_test_run();
}
