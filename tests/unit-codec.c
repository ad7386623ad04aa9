/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what is written is read back, and a record with any bit changed, in key or value, or
 * moved to another table, is refused; no bytes make a parser read beyond them.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "store/affix.h"
#include "store/codec.h"
#include "store/crc.h"

static struct qm_bytes key_of(const struct qm_record *r)
{
    return (struct qm_bytes){r->key, r->key_size};
}

static struct qm_bytes value_of(const struct qm_record *r)
{
    return (struct qm_bytes){r->value, r->value_size};
}

static void make(enum qm_table table, struct qm_record *r)
{
    struct qm_meta meta = {.affix_budget = 16,
                           .epoch = 7,
                           .next_fs = 3,
                           .next_affix = 9,
                           .next_serial = 130,
                           .next_instance = 2,
                           .fs_rows = 2,
                           .fsid_rows = 3,
                           .affix_rows = 5,
                           .full_rows = 2,
                           .created = -5,
                           .last_clean_stop = 44,
                           .transaction = 8};
    struct qidmap_fs fs = {.size = sizeof(fs),
                           .fs = 0xabcdef,
                           .policy = QIDMAP_POLICY_AFFIX,
                           .flags = QIDMAP_IDENTITY_DUPLICATE,
                           .left_budget = 1,
                           .fsid_count = 2};
    struct qidmap_fsid fsid = {.kind = QIDMAP_FSID_BTRFS, .size = 32, .bytes = "0123456789abcdef"};
    struct qidmap_object object = {.fs = 77,
                                   .kind = QIDMAP_OBJECT_HANDLE,
                                   .handle_size = 20,
                                   .handle_type = -3,
                                   .handle = "handle of 20 bytes."};

    switch (table) {
    case QM_TABLE_META:
        qm_record_meta(r, &meta);
        break;
    case QM_TABLE_FS:
        fs.fsid[0] = fsid;
        fs.fsid[1] = fsid;
        fs.fsid[1].size = 64;
        strcpy(fs.hints.type, "ext4");
        memset(fs.hints.mount_path, 'x', sizeof(fs.hints.mount_path) - 1);
        fs.hints.root_btime_ns = -1;
        fs.hints.root_ino = UINT64_MAX;
        strcpy(fs.hints.tree, "a/b");
        fs.alias = 0xabcdee;
        fs.chosen = fs.met_many = fs.marker_open = fs.superseded = 1;
        fs.met_count = 2;
        fs.met[0] = 7;
        fs.met[1] = 9;
        fs.first_session = 3;
        fs.last_session = UINT64_MAX;
        qm_record_fs(r, &fs, TRUE);
        break;
    case QM_TABLE_FSID:
        qm_record_fsid(r, &fsid, 5);
        break;
    case QM_TABLE_AFFIX:
        qm_record_affix(r, 5, qm_affix_bits(300), 0x1234, 300);
        break;
    case QM_TABLE_BYAFFIX:
        qm_record_byaffix(r, 300, 5, 0x1234);
        break;
    case QM_TABLE_FULL:
        qm_record_full(r, &object, 257);
        break;
    case QM_TABLE_BYFULL:
        qm_record_byfull(r, UINT64_MAX - 300, &object);
        break;
    }
}

static void test_crc(void)
{
    /* The check value of CRC-32C, whole and in pieces. */
    g_assert_cmphex(qm_crc32c(0, "123456789", 9), ==, 0xe3069283);
    g_assert_cmphex(qm_crc32c(qm_crc32c(0, "1234", 4), "56789", 5), ==, 0xe3069283);
}

static void test_round_trip(void)
{
    struct qm_record r, again;
    struct qm_meta meta;
    struct qidmap_fs fs;
    struct qidmap_fsid fsid;
    struct qidmap_object object;
    uint32_t a, b;
    unsigned bits;
    uint64_t c;
    gboolean has_full;

    make(QM_TABLE_META, &r);
    g_assert_cmpint(qm_parse_meta(key_of(&r), value_of(&r), &meta, &a), ==, 0);
    g_assert_cmpuint(r.value_size, ==, QM_META_SIZE + 4);
    g_assert_cmpint(meta.created, ==, -5);
    g_assert_cmpuint(meta.transaction, ==, 8);
    qm_record_meta(&again, &meta);
    g_assert_cmpmem(again.value, again.value_size, r.value, r.value_size);

    make(QM_TABLE_FS, &r);
    g_assert_cmpint(qm_parse_fs(key_of(&r), value_of(&r), &fs, &has_full), ==, 0);
    g_assert_true(has_full);
    g_assert_cmpuint(fs.fs, ==, 0xabcdef);
    g_assert_cmpuint(fs.left_budget, ==, 1);
    g_assert_cmpuint(strlen(fs.hints.mount_path), ==, 255);
    g_assert_cmpstr(fs.hints.type, ==, "ext4");
    g_assert_cmpint(fs.hints.root_btime_ns, ==, -1);
    g_assert_cmpstr(fs.hints.tree, ==, "a/b");
    g_assert_true(fs.alias == 0xabcdee && fs.chosen && fs.superseded && fs.met_many &&
                  fs.marker_open && fs.met_count == 2 && fs.met[0] == 7 && fs.met[1] == 9 &&
                  fs.first_session == 3 && fs.last_session == UINT64_MAX);
    qm_record_fs(&again, &fs, has_full);
    g_assert_cmpmem(again.value, again.value_size, r.value, r.value_size);

    make(QM_TABLE_FSID, &r);
    g_assert_cmpint(qm_parse_fsid(key_of(&r), value_of(&r), &fsid, &a), ==, 0);
    g_assert_cmpuint(a, ==, 5);
    g_assert_cmpuint(fsid.size, ==, 32);

    make(QM_TABLE_AFFIX, &r);
    g_assert_cmpint(qm_parse_affix(key_of(&r), value_of(&r), &a, &bits, &c, &b), ==, 0);
    g_assert_true(a == 5 && bits == 17 && c == 0x1234 && b == 300);

    make(QM_TABLE_BYAFFIX, &r);
    g_assert_cmpint(qm_parse_byaffix(key_of(&r), value_of(&r), &a, &b, &c), ==, 0);
    g_assert_true(a == 300 && b == 5 && c == 0x1234);

    make(QM_TABLE_FULL, &r);
    g_assert_cmpint(qm_parse_full(key_of(&r), value_of(&r), &object, &c), ==, 0);
    g_assert_true(object.fs == 77 && object.handle_type == -3 && object.handle_size == 20 &&
                  c == 257);

    make(QM_TABLE_BYFULL, &r);
    g_assert_cmpint(qm_parse_byfull(key_of(&r), value_of(&r), &c, &object), ==, 0);
    g_assert_true(c == UINT64_MAX - 300 && object.kind == QIDMAP_OBJECT_HANDLE);
    g_assert_cmpmem(object.handle, 20, "handle of 20 bytes.", 20);
}

static void test_bit_flips(void)
{
    int table, other;
    size_t bit, cut;

    for (table = 0; table < QM_TABLES; table++) {
        struct qm_record r;

        make((enum qm_table)table, &r);
        g_assert_cmpint(qm_parse_check((enum qm_table)table, key_of(&r), value_of(&r)), ==, 0);
        for (bit = 0; bit < 8 * r.key_size; bit++) {
            r.key[bit / 8] ^= (uint8_t)(1u << bit % 8);
            g_assert_cmpint(qm_parse_check((enum qm_table)table, key_of(&r), value_of(&r)), ==,
                            -EUCLEAN);
            r.key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (bit = 0; bit < 8 * r.value_size; bit++) {
            r.value[bit / 8] ^= (uint8_t)(1u << bit % 8);
            g_assert_cmpint(qm_parse_check((enum qm_table)table, key_of(&r), value_of(&r)), ==,
                            -EUCLEAN);
            r.value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (other = 0; other < QM_TABLES; other++) {
            if (other != table)
                g_assert_cmpint(qm_parse_check((enum qm_table)other, key_of(&r), value_of(&r)), ==,
                                -EUCLEAN);
        }
        for (cut = 0; cut < r.value_size; cut++) { /* a copy of exactly that size, for ASan */
            g_autofree uint8_t *copy = g_malloc(cut + 1);

            memcpy(copy, r.value, cut);
            g_assert_cmpint(
                qm_parse_check((enum qm_table)table, key_of(&r), (struct qm_bytes){copy, cut}), ==,
                -EUCLEAN);
        }
    }
}

/* A checksum that fits does not make nonsense valid. */
static void seal_again(struct qm_record *r, enum qm_table table)
{
    const char *name = qm_table_name(table);
    uint32_t crc = qm_crc32c(0, name, strlen(name) + 1);
    int i;

    crc = qm_crc32c(crc, r->key, r->key_size);
    crc = qm_crc32c(crc, r->value, r->value_size - 4);
    for (i = 0; i < 4; i++)
        r->value[r->value_size - 4 + i] = (uint8_t)(crc >> 8 * i);
}

static void test_sealed_nonsense(void)
{
    struct qm_record r;
    struct qm_meta meta;
    uint32_t format;

    make(QM_TABLE_META, &r);
    r.value[4] = 2; /* format */
    seal_again(&r, QM_TABLE_META);
    g_assert_cmpint(qm_parse_meta(key_of(&r), value_of(&r), &meta, &format), ==, -EPROTO);
    g_assert_cmpuint(format, ==, 2);

    make(QM_TABLE_AFFIX, &r);
    r.key[4]++; /* a length that is not that of n */
    seal_again(&r, QM_TABLE_AFFIX);
    g_assert_cmpint(qm_parse_check(QM_TABLE_AFFIX, key_of(&r), value_of(&r)), ==, -EUCLEAN);

    make(QM_TABLE_FS, &r);
    r.value[QM_FS_FIXED_SIZE + 1] = 255; /* an identity that is too long */
    seal_again(&r, QM_TABLE_FS);
    g_assert_cmpint(qm_parse_check(QM_TABLE_FS, key_of(&r), value_of(&r)), ==, -EUCLEAN);

    make(QM_TABLE_FS, &r);
    r.value[28] = 0xef; /* the alias of itself */
    seal_again(&r, QM_TABLE_FS);
    g_assert_cmpint(qm_parse_check(QM_TABLE_FS, key_of(&r), value_of(&r)), ==, -EUCLEAN);

    make(QM_TABLE_FS, &r);
    memset(r.value + 96, 0, 8); /* a last session before the first */
    seal_again(&r, QM_TABLE_FS);
    g_assert_cmpint(qm_parse_check(QM_TABLE_FS, key_of(&r), value_of(&r)), ==, -EUCLEAN);

    make(QM_TABLE_FS, &r);
    r.value[r.value_size - 8] = 7; /* met the same row twice */
    seal_again(&r, QM_TABLE_FS);
    g_assert_cmpint(qm_parse_check(QM_TABLE_FS, key_of(&r), value_of(&r)), ==, -EUCLEAN);

    make(QM_TABLE_FULL, &r);
    r.key[4] = 9; /* a kind that does not exist */
    seal_again(&r, QM_TABLE_FULL);
    g_assert_cmpint(qm_parse_check(QM_TABLE_FULL, key_of(&r), value_of(&r)), ==, -EUCLEAN);
}

static void test_object_keys(void)
{
    struct qidmap_object object = {
        .fs = 1, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 256, .ino2 = 2};
    struct qidmap_object back;
    uint8_t key[QM_KEY_MAX];
    size_t size = qm_object_key(&object, key);

    g_assert_cmpuint(size, ==, 21);
    g_assert_cmpint(qm_object_parse((struct qm_bytes){key, size}, &back), ==, 0);
    g_assert_cmpmem(&object, sizeof(object), &back, sizeof(back));
    g_assert_cmpint(qm_object_parse((struct qm_bytes){key, size - 1}, &back), ==, -EUCLEAN);
    object.kind = QIDMAP_OBJECT_HANDLE; /* without a handle */
    g_assert_false(qm_object_is_valid(&object));
    object.handle_size = 129;
    g_assert_false(qm_object_is_valid(&object));
    object.handle_size = 128;
    g_assert_true(qm_object_is_valid(&object));
    size = qm_object_key(&object, key);
    g_assert_cmpint(qm_object_parse((struct qm_bytes){key, size}, &back), ==, 0);
    object.fs = 0;
    g_assert_false(qm_object_is_valid(&object));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/crc", test_crc);
    g_test_add_func("/codec/round-trip", test_round_trip);
    g_test_add_func("/codec/bit-flips", test_bit_flips);
    g_test_add_func("/codec/sealed-nonsense", test_sealed_nonsense);
    g_test_add_func("/codec/object-keys", test_object_keys);
    return g_test_run();
}
