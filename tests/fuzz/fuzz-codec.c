/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: bytes from a store's file. Promise: no bytes make a parser read beyond them or
 * accept what a writer could not have written: what is accepted is written again, bit for bit.
 *
 * Input: a byte that chooses the table (its high bit: put the right checksum first, so that the
 * fields behind it are reached), a byte with the size of the key, the key, the value.
 */
#include "config.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "store/codec.h"
#include "store/crc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(enum qm_table table, struct qm_bytes key, struct qm_bytes value)
{
    struct qm_record r;
    struct qm_meta meta;
    struct qidmap_fs fs;
    struct qidmap_fsid fsid;
    struct qidmap_object object;
    gboolean has_full;
    uint32_t a, b;
    unsigned bits;
    uint64_t c;

    switch (table) {
    case QM_TABLE_META:
        g_assert_cmpint(qm_parse_meta(key, value, &meta, &a), ==, 0);
        qm_record_meta(&r, &meta);
        break;
    case QM_TABLE_FS:
        g_assert_cmpint(qm_parse_fs(key, value, &fs, &has_full), ==, 0);
        qm_record_fs(&r, &fs, has_full);
        break;
    case QM_TABLE_FSID:
        g_assert_cmpint(qm_parse_fsid(key, value, &fsid, &a), ==, 0);
        qm_record_fsid(&r, &fsid, a);
        break;
    case QM_TABLE_AFFIX:
        g_assert_cmpint(qm_parse_affix(key, value, &a, &bits, &c, &b), ==, 0);
        qm_record_affix(&r, a, bits, c, b);
        break;
    case QM_TABLE_BYAFFIX:
        g_assert_cmpint(qm_parse_byaffix(key, value, &a, &b, &c), ==, 0);
        qm_record_byaffix(&r, a, b, c);
        break;
    case QM_TABLE_FULL:
        g_assert_cmpint(qm_parse_full(key, value, &object, &c), ==, 0);
        qm_record_full(&r, &object, c);
        break;
    case QM_TABLE_BYFULL:
        g_assert_cmpint(qm_parse_byfull(key, value, &c, &object), ==, 0);
        qm_record_byfull(&r, c, &object);
        break;
    default:
        g_assert_not_reached();
    }
    g_assert_cmpmem(r.key, r.key_size, key.data, key.size);
    g_assert_cmpmem(r.value, r.value_size, value.data, value.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = NULL;
    struct qm_bytes key, value;
    struct qidmap_object object;
    enum qm_table table;
    const char *name;
    uint32_t crc;
    int i;

    if (size < 2 || (size_t)data[1] + 2 > size)
        return 0;
    table = (enum qm_table)((data[0] & 0x7f) % QM_TABLES);
    copy = g_malloc(size - 1);
    memcpy(copy, data + 2, size - 2);
    key = (struct qm_bytes){copy, data[1]};
    value = (struct qm_bytes){copy + data[1], size - 2 - data[1]};
    if ((data[0] & 0x80) && value.size >= 4) {
        name = qm_table_name(table);
        crc = qm_crc32c(0, name, strlen(name) + 1);
        crc = qm_crc32c(crc, key.data, key.size);
        crc = qm_crc32c(crc, value.data, value.size - 4);
        for (i = 0; i < 4; i++)
            copy[data[1] + value.size - 4 + (size_t)i] = (uint8_t)(crc >> 8 * i);
    }
    if (qm_parse_check(table, key, value) == 0)
        write_again(table, key, value);
    (void)qm_object_parse(value, &object);
    return 0;
}
