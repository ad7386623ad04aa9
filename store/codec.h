/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of the store <-> structs. Pure: no I/O, no allocation. The bytes are defined in
 * store/format.h. Parsers take any bytes at all.
 */
#ifndef QM_CODEC_H
#define QM_CODEC_H

#include <glib.h>

#include "store/format.h"
#include "store/qidmap.h"

enum qm_table {
    QM_TABLE_META,
    QM_TABLE_FS,
    QM_TABLE_FSID,
    QM_TABLE_AFFIX,
    QM_TABLE_BYAFFIX,
    QM_TABLE_FULL,
    QM_TABLE_BYFULL
};
#define QM_TABLES 7

const char *qm_table_name(enum qm_table table);

/* The counters and facts about a store. */
struct qm_meta {
    uint8_t uuid[16];
    uint32_t affix_budget;
    uint64_t epoch;
    uint64_t next_fs, next_affix, next_serial, next_instance;
    uint64_t fs_rows, fsid_rows, affix_rows, full_rows;
    int64_t created, last_clean_stop;
    uint64_t transaction;
    uint64_t served; /* seconds */
};

/* A row, encoded. */
struct qm_record {
    size_t key_size, value_size;
    uint8_t key[QM_KEY_MAX];
    uint8_t value[QM_VALUE_MAX];
};

/* Bytes that belong to somebody else. */
struct qm_bytes {
    const void *data;
    size_t size;
};

void qm_record_meta(struct qm_record *r, const struct qm_meta *meta);
void qm_record_fs(struct qm_record *r, const struct qidmap_fs *fs, gboolean has_full);
void qm_record_fsid(struct qm_record *r, const struct qidmap_fsid *fsid, uint32_t fs);
void qm_record_affix(struct qm_record *r, uint32_t fs, unsigned bits, uint64_t top, uint32_t n);
void qm_record_byaffix(struct qm_record *r, uint32_t n, uint32_t fs, uint64_t top);
void qm_record_full(struct qm_record *r, const struct qidmap_object *object, uint64_t id);
void qm_record_byfull(struct qm_record *r, uint64_t id, const struct qidmap_object *object);

/* 0; -EUCLEAN for bytes that are no such row, or whose checksum is wrong; -EPROTO (meta only) for a
 * format that is not ours. Structs are filled on success only. */
int qm_parse_meta(struct qm_bytes key, struct qm_bytes value, struct qm_meta *meta,
                  uint32_t *format);
int qm_parse_fs(struct qm_bytes key, struct qm_bytes value, struct qidmap_fs *fs,
                gboolean *has_full);
int qm_parse_fsid(struct qm_bytes key, struct qm_bytes value, struct qidmap_fsid *fsid,
                  uint32_t *fs);
int qm_parse_affix(struct qm_bytes key, struct qm_bytes value, uint32_t *fs, unsigned *bits,
                   uint64_t *top, uint32_t *n);
int qm_parse_byaffix(struct qm_bytes key, struct qm_bytes value, uint32_t *n, uint32_t *fs,
                     uint64_t *top);
int qm_parse_full(struct qm_bytes key, struct qm_bytes value, struct qidmap_object *object,
                  uint64_t *id);
int qm_parse_byfull(struct qm_bytes key, struct qm_bytes value, uint64_t *id,
                    struct qidmap_object *object);

/* Any row of any table: 0, -EUCLEAN or -EPROTO. */
int qm_parse_check(enum qm_table table, struct qm_bytes key, struct qm_bytes value);

/* Object keys. `key` has room for QM_KEY_MAX bytes; the size comes back. The object must be one
 * that qm_object_is_valid() accepts. */
size_t qm_object_key(const struct qidmap_object *object, uint8_t *key);
int qm_object_parse(struct qm_bytes key, struct qidmap_object *object);
gboolean qm_object_is_valid(const struct qidmap_object *object);

#endif
