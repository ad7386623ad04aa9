/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One function for each way in which the rows of a store can contradict each other, and the table
 * of what verify must say of it.
 */
#include "config.h"

#include "tests/lib/verify-ways.h"

#include "tests/lib/raw-rows.h"
#include "tests/lib/store-fixture.h"

/* fs 1: affix, two entries, then the full map; fs 2: handles; fs 3: ephemeral, one inode in the
 * full map; fs 4: affix, one entry. Their inodes and ids: */
#define HIGH(n) ((uint64_t)(n) << 58 | 9)
static uint64_t full_id, handle_id, ephemeral_id;
static struct qidmap_object handle_object;

void fill(qidmap_store *store)
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

void alias_right(struct qm_txn *txn)
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

const struct way ways[] = {
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

const size_t n_ways = G_N_ELEMENTS(ways);
