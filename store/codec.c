/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows <-> structs, after the comment in store/format.h. A writer appends to a buffer that is large
 * enough for the largest row; a reader takes bytes from a window that only shrinks, remembers the
 * first overrun and is asked once at the end. What is read back must be what a writer could have
 * written: encodings are canonical, so that two different rows never mean the same.
 */
#include "config.h"

#include "store/codec.h"

#include <errno.h>
#include <string.h>

#include "store/affix.h"
#include "store/crc.h"

static const char *const table_names[QM_TABLES] = {
    "meta", "fs", "fsid", "affix", "byaffix", "full", "byfull",
};

const char *qm_table_name(enum qm_table table)
{
    return table_names[table];
}

/* ---- writing --------------------------------------------------------------------------------- */

static size_t put_le(uint8_t *p, uint64_t value, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
    return size;
}

static size_t put_be(uint8_t *p, uint64_t value, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    return size;
}

static void value_le(struct qm_record *r, uint64_t value, size_t size)
{
    r->value_size += put_le(r->value + r->value_size, value, size);
}

static void value_bytes(struct qm_record *r, const void *data, size_t size)
{
    memcpy(r->value + r->value_size, data, size);
    r->value_size += size;
}

static void value_string(struct qm_record *r, const char *text, size_t room)
{
    size_t size = strnlen(text, room - 1);

    value_le(r, size, 2);
    value_bytes(r, text, size);
}

static void key_be(struct qm_record *r, uint64_t value, size_t size)
{
    r->key_size += put_be(r->key + r->key_size, value, size);
}

static uint32_t checksum(enum qm_table table, struct qm_bytes key, const void *value, size_t size)
{
    uint32_t crc = qm_crc32c(0, table_names[table], strlen(table_names[table]) + 1);

    crc = qm_crc32c(crc, key.data, key.size);
    return qm_crc32c(crc, value, size);
}

static void seal(struct qm_record *r, enum qm_table table)
{
    struct qm_bytes key = {r->key, r->key_size};

    value_le(r, checksum(table, key, r->value, r->value_size), 4);
}

static void begin(struct qm_record *r)
{
    r->key_size = 0;
    r->value_size = 0;
}

void qm_record_meta(struct qm_record *r, const struct qm_meta *meta)
{
    begin(r);
    memcpy(r->key, QM_META_KEY, strlen(QM_META_KEY));
    r->key_size = strlen(QM_META_KEY);
    value_bytes(r, QM_FORMAT_MAGIC, 4);
    value_le(r, QM_FORMAT_VERSION, 4);
    value_bytes(r, meta->uuid, 16);
    value_le(r, meta->affix_budget, 4);
    value_le(r, meta->epoch, 8);
    value_le(r, meta->next_fs, 8);
    value_le(r, meta->next_affix, 8);
    value_le(r, meta->next_serial, 8);
    value_le(r, meta->next_instance, 8);
    value_le(r, meta->fs_rows, 8);
    value_le(r, meta->fsid_rows, 8);
    value_le(r, meta->affix_rows, 8);
    value_le(r, meta->full_rows, 8);
    value_le(r, (uint64_t)meta->created, 8);
    value_le(r, (uint64_t)meta->last_clean_stop, 8);
    value_le(r, meta->transaction, 8);
    value_le(r, meta->served, 8);
    seal(r, QM_TABLE_META);
}

void qm_record_fs(struct qm_record *r, const struct qidmap_fs *fs, gboolean has_full)
{
    const struct qidmap_hints *h = &fs->hints;
    uint32_t count = MIN(fs->fsid_count, QIDMAP_FSID_COUNT);
    uint32_t met = MIN(fs->met_count, QIDMAP_FS_MET);
    uint32_t i;

    begin(r);
    key_be(r, fs->fs, 4);
    value_le(r, fs->policy, 4);
    value_le(r, fs->flags, 4);
    value_le(r,
             (fs->retired ? QM_STATE_RETIRED : 0) | (fs->left_budget ? QM_STATE_LEFT_BUDGET : 0) |
                 (fs->has_bound ? QM_STATE_HAS_BOUND : 0) | (has_full ? QM_STATE_HAS_FULL : 0) |
                 (fs->chosen ? QM_STATE_CHOSEN : 0) | (fs->superseded ? QM_STATE_SUPERSEDED : 0) |
                 (fs->met_many ? QM_STATE_MET_MANY : 0) |
                 (fs->marker_open ? QM_STATE_MARKER_OPEN : 0),
             4);
    value_le(r, fs->instance, 4);
    value_le(r, count, 4);
    value_le(r, h->partition, 4);
    value_le(r, h->root_gen, 4);
    value_le(r, fs->alias, 4);
    value_le(r, h->root_ino, 8);
    value_le(r, (uint64_t)h->root_btime_ns, 8);
    value_le(r, h->st_dev, 8);
    value_le(r, (uint64_t)h->first_seen, 8);
    value_le(r, (uint64_t)h->last_seen, 8);
    value_bytes(r, h->marker, 16);
    value_le(r, fs->first_session, 8);
    value_le(r, fs->last_session, 8);
    value_le(r, fs->seen, 8);
    for (i = 0; i < count; i++) {
        size_t size = MIN(fs->fsid[i].size, QIDMAP_FSID_BYTES);

        value_le(r, fs->fsid[i].kind, 1);
        value_le(r, size, 1);
        value_bytes(r, fs->fsid[i].bytes, size);
    }
    value_string(r, h->type, sizeof(h->type));
    value_string(r, h->source, sizeof(h->source));
    value_string(r, h->backing, sizeof(h->backing));
    value_string(r, h->dm_uuid, sizeof(h->dm_uuid));
    value_string(r, h->wwid, sizeof(h->wwid));
    value_string(r, h->part_uuid, sizeof(h->part_uuid));
    value_string(r, h->mount_path, sizeof(h->mount_path));
    value_string(r, h->boot_id, sizeof(h->boot_id));
    value_string(r, h->machine_id, sizeof(h->machine_id));
    value_string(r, h->tree, sizeof(h->tree));
    value_le(r, met, 2);
    for (i = 0; i < met; i++)
        value_le(r, fs->met[i], 4);
    seal(r, QM_TABLE_FS);
}

void qm_record_fsid(struct qm_record *r, const struct qidmap_fsid *fsid, uint32_t fs)
{
    size_t size = MIN(fsid->size, QIDMAP_FSID_BYTES);

    begin(r);
    key_be(r, fsid->kind, 1);
    key_be(r, size, 1);
    memcpy(r->key + r->key_size, fsid->bytes, size);
    r->key_size += size;
    key_be(r, fs, 4);
    value_le(r, fs, 4);
    seal(r, QM_TABLE_FSID);
}

void qm_record_affix(struct qm_record *r, uint32_t fs, unsigned bits, uint64_t top, uint32_t n)
{
    begin(r);
    key_be(r, fs, 4);
    key_be(r, bits, 1);
    key_be(r, top, 8);
    value_le(r, n, 4);
    seal(r, QM_TABLE_AFFIX);
}

void qm_record_byaffix(struct qm_record *r, uint32_t n, uint32_t fs, uint64_t top)
{
    begin(r);
    key_be(r, n, 4);
    value_le(r, fs, 4);
    value_le(r, top, 8);
    seal(r, QM_TABLE_BYAFFIX);
}

void qm_record_full(struct qm_record *r, const struct qidmap_object *object, uint64_t id)
{
    begin(r);
    r->key_size = qm_object_key(object, r->key);
    value_le(r, id, 8);
    seal(r, QM_TABLE_FULL);
}

void qm_record_byfull(struct qm_record *r, uint64_t id, const struct qidmap_object *object)
{
    begin(r);
    key_be(r, id, 8);
    r->value_size = qm_object_key(object, r->value);
    seal(r, QM_TABLE_BYFULL);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What is left to read; `short_of` once something was missing. */
struct window {
    const uint8_t *p;
    size_t left;
    gboolean short_of;
};

static const uint8_t *take(struct window *w, size_t size)
{
    const uint8_t *p = w->p;

    if (w->short_of || size > w->left) {
        w->short_of = TRUE;
        return NULL;
    }
    w->p += size;
    w->left -= size;
    return p;
}

static uint64_t take_le(struct window *w, size_t size)
{
    const uint8_t *p = take(w, size);
    uint64_t value = 0;
    size_t i;

    for (i = 0; p && i < size; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static uint64_t take_be(struct window *w, size_t size)
{
    const uint8_t *p = take(w, size);
    uint64_t value = 0;
    size_t i;

    for (i = 0; p && i < size; i++)
        value = value << 8 | p[i];
    return value;
}

static void take_bytes(struct window *w, void *out, size_t size)
{
    const uint8_t *p = take(w, size);

    if (p)
        memcpy(out, p, size);
}

static void take_string(struct window *w, char *out, size_t room)
{
    size_t size = (size_t)take_le(w, 2);
    const uint8_t *p;

    if (size >= room) {
        w->short_of = TRUE;
        return;
    }
    p = take(w, size);
    if (!p)
        return;
    if (memchr(p, 0, size)) {
        w->short_of = TRUE;
        return;
    }
    memcpy(out, p, size);
    out[size] = '\0';
}

static gboolean all_taken(const struct window *w)
{
    return !w->short_of && w->left == 0;
}

/* Checks the checksum and opens windows on key and value. */
static gboolean unseal(enum qm_table table, struct qm_bytes key, struct qm_bytes value,
                       struct window *k, struct window *v)
{
    struct window tail;

    if (!key.data || !value.data || key.size > QM_KEY_MAX || value.size < 4 ||
        value.size > QM_VALUE_MAX)
        return FALSE;
    tail = (struct window){(const uint8_t *)value.data + value.size - 4, 4, FALSE};
    if (take_le(&tail, 4) != checksum(table, key, value.data, value.size - 4))
        return FALSE;
    *k = (struct window){key.data, key.size, FALSE};
    *v = (struct window){value.data, value.size - 4, FALSE};
    return TRUE;
}

int qm_parse_meta(struct qm_bytes key, struct qm_bytes value, struct qm_meta *meta,
                  uint32_t *format)
{
    struct window k, v;
    struct qm_meta m;
    uint8_t magic[4] = {0};

    if (!unseal(QM_TABLE_META, key, value, &k, &v))
        return -EUCLEAN;
    if (key.size != strlen(QM_META_KEY) || memcmp(key.data, QM_META_KEY, key.size) != 0)
        return -EUCLEAN;
    memset(&m, 0, sizeof(m));
    take_bytes(&v, magic, 4);
    *format = (uint32_t)take_le(&v, 4);
    if (v.short_of || memcmp(magic, QM_FORMAT_MAGIC, 4) != 0)
        return -EUCLEAN;
    if (*format != QM_FORMAT_VERSION)
        return *format > QM_FORMAT_VERSION ? -EPROTO : -EUCLEAN;
    take_bytes(&v, m.uuid, 16);
    m.affix_budget = (uint32_t)take_le(&v, 4);
    m.epoch = take_le(&v, 8);
    m.next_fs = take_le(&v, 8);
    m.next_affix = take_le(&v, 8);
    m.next_serial = take_le(&v, 8);
    m.next_instance = take_le(&v, 8);
    m.fs_rows = take_le(&v, 8);
    m.fsid_rows = take_le(&v, 8);
    m.affix_rows = take_le(&v, 8);
    m.full_rows = take_le(&v, 8);
    m.created = (int64_t)take_le(&v, 8);
    m.last_clean_stop = (int64_t)take_le(&v, 8);
    m.transaction = take_le(&v, 8);
    m.served = take_le(&v, 8);
    if (!all_taken(&v) || m.affix_budget < 1 || m.affix_budget > 65535)
        return -EUCLEAN;
    *meta = m;
    return 0;
}

int qm_parse_fs(struct qm_bytes key, struct qm_bytes value, struct qidmap_fs *fs,
                gboolean *has_full)
{
    struct window k, v;
    struct qidmap_fs f;
    struct qidmap_hints *h = &f.hints;
    uint32_t state, i;

    if (!unseal(QM_TABLE_FS, key, value, &k, &v))
        return -EUCLEAN;
    memset(&f, 0, sizeof(f));
    f.size = sizeof(f);
    f.fs = (uint32_t)take_be(&k, 4);
    f.policy = (uint32_t)take_le(&v, 4);
    f.flags = (uint32_t)take_le(&v, 4);
    state = (uint32_t)take_le(&v, 4);
    f.instance = (uint32_t)take_le(&v, 4);
    f.fsid_count = (uint32_t)take_le(&v, 4);
    h->partition = (uint32_t)take_le(&v, 4);
    h->root_gen = (uint32_t)take_le(&v, 4);
    f.alias = (uint32_t)take_le(&v, 4);
    h->root_ino = take_le(&v, 8);
    h->root_btime_ns = (int64_t)take_le(&v, 8);
    h->st_dev = take_le(&v, 8);
    h->first_seen = (int64_t)take_le(&v, 8);
    h->last_seen = (int64_t)take_le(&v, 8);
    take_bytes(&v, h->marker, 16);
    f.first_session = take_le(&v, 8);
    f.last_session = take_le(&v, 8);
    f.seen = take_le(&v, 8);
    if (v.short_of || !all_taken(&k) || f.fs == 0 || f.fs > QM_FS_LAST || (state & ~QM_STATE_ALL) ||
        f.policy < QIDMAP_POLICY_AFFIX || f.policy > QIDMAP_POLICY_DENY ||
        f.fsid_count > QIDMAP_FSID_COUNT || f.alias == f.fs || f.alias > QM_FS_LAST ||
        f.first_session > f.last_session)
        return -EUCLEAN;
    for (i = 0; i < f.fsid_count; i++) {
        f.fsid[i].kind = (uint32_t)take_le(&v, 1);
        f.fsid[i].size = (uint32_t)take_le(&v, 1);
        if (f.fsid[i].size == 0 || f.fsid[i].size > QIDMAP_FSID_BYTES)
            return -EUCLEAN;
        take_bytes(&v, f.fsid[i].bytes, f.fsid[i].size);
    }
    take_string(&v, h->type, sizeof(h->type));
    take_string(&v, h->source, sizeof(h->source));
    take_string(&v, h->backing, sizeof(h->backing));
    take_string(&v, h->dm_uuid, sizeof(h->dm_uuid));
    take_string(&v, h->wwid, sizeof(h->wwid));
    take_string(&v, h->part_uuid, sizeof(h->part_uuid));
    take_string(&v, h->mount_path, sizeof(h->mount_path));
    take_string(&v, h->boot_id, sizeof(h->boot_id));
    take_string(&v, h->machine_id, sizeof(h->machine_id));
    take_string(&v, h->tree, sizeof(h->tree));
    f.met_count = (uint32_t)take_le(&v, 2);
    if (v.short_of || f.met_count > QIDMAP_FS_MET)
        return -EUCLEAN;
    for (i = 0; i < f.met_count; i++) {
        f.met[i] = (uint32_t)take_le(&v, 4);
        if (f.met[i] == 0 || f.met[i] == f.fs || f.met[i] > QM_FS_LAST ||
            (i > 0 && f.met[i] <= f.met[i - 1]))
            return -EUCLEAN;
    }
    if (!all_taken(&v))
        return -EUCLEAN;
    f.retired = (state & QM_STATE_RETIRED) != 0;
    f.left_budget = (state & QM_STATE_LEFT_BUDGET) != 0;
    f.has_bound = (state & QM_STATE_HAS_BOUND) != 0;
    f.chosen = (state & QM_STATE_CHOSEN) != 0;
    f.superseded = (state & QM_STATE_SUPERSEDED) != 0;
    f.met_many = (state & QM_STATE_MET_MANY) != 0;
    f.marker_open = (state & QM_STATE_MARKER_OPEN) != 0;
    *has_full = (state & QM_STATE_HAS_FULL) != 0;
    *fs = f;
    return 0;
}

int qm_parse_fsid(struct qm_bytes key, struct qm_bytes value, struct qidmap_fsid *fsid,
                  uint32_t *fs)
{
    struct window k, v;
    struct qidmap_fsid f;
    uint32_t number;

    if (!unseal(QM_TABLE_FSID, key, value, &k, &v))
        return -EUCLEAN;
    memset(&f, 0, sizeof(f));
    f.kind = (uint32_t)take_be(&k, 1);
    f.size = (uint32_t)take_be(&k, 1);
    if (f.size == 0 || f.size > QIDMAP_FSID_BYTES)
        return -EUCLEAN;
    take_bytes(&k, f.bytes, f.size);
    number = (uint32_t)take_be(&k, 4);
    if (!all_taken(&k) || take_le(&v, 4) != number || !all_taken(&v))
        return -EUCLEAN;
    *fsid = f;
    *fs = number;
    return 0;
}

/* Index, length and value of an affix entry fit each other. */
static gboolean entry_is_valid(uint32_t n, unsigned bits, uint64_t top)
{
    return n >= QM_AFFIX_FIRST && n <= QM_AFFIX_LAST && bits == qm_affix_bits(n) &&
           top >> bits == 0;
}

int qm_parse_affix(struct qm_bytes key, struct qm_bytes value, uint32_t *fs, unsigned *bits,
                   uint64_t *top, uint32_t *n)
{
    struct window k, v;
    uint32_t number, index;
    unsigned length;
    uint64_t high;

    if (!unseal(QM_TABLE_AFFIX, key, value, &k, &v))
        return -EUCLEAN;
    number = (uint32_t)take_be(&k, 4);
    length = (unsigned)take_be(&k, 1);
    high = take_be(&k, 8);
    index = (uint32_t)take_le(&v, 4);
    if (!all_taken(&k) || !all_taken(&v) || !entry_is_valid(index, length, high))
        return -EUCLEAN;
    *fs = number;
    *bits = length;
    *top = high;
    *n = index;
    return 0;
}

int qm_parse_byaffix(struct qm_bytes key, struct qm_bytes value, uint32_t *n, uint32_t *fs,
                     uint64_t *top)
{
    struct window k, v;
    uint32_t index, number;
    uint64_t high;

    if (!unseal(QM_TABLE_BYAFFIX, key, value, &k, &v))
        return -EUCLEAN;
    index = (uint32_t)take_be(&k, 4);
    number = (uint32_t)take_le(&v, 4);
    high = take_le(&v, 8);
    if (!all_taken(&k) || !all_taken(&v) || index < QM_AFFIX_FIRST || index > QM_AFFIX_LAST ||
        !entry_is_valid(index, qm_affix_bits(index), high))
        return -EUCLEAN;
    *n = index;
    *fs = number;
    *top = high;
    return 0;
}

int qm_parse_full(struct qm_bytes key, struct qm_bytes value, struct qidmap_object *object,
                  uint64_t *id)
{
    struct window k, v;
    struct qidmap_object o;
    uint64_t number;

    if (!unseal(QM_TABLE_FULL, key, value, &k, &v) || qm_object_parse(key, &o) != 0)
        return -EUCLEAN;
    number = take_le(&v, 8);
    if (!all_taken(&v))
        return -EUCLEAN;
    *object = o;
    *id = number;
    return 0;
}

int qm_parse_byfull(struct qm_bytes key, struct qm_bytes value, uint64_t *id,
                    struct qidmap_object *object)
{
    struct window k, v;
    struct qidmap_object o;
    uint64_t number;

    if (!unseal(QM_TABLE_BYFULL, key, value, &k, &v))
        return -EUCLEAN;
    number = take_be(&k, 8);
    if (!all_taken(&k) || qm_object_parse((struct qm_bytes){v.p, v.left}, &o) != 0)
        return -EUCLEAN;
    *id = number;
    *object = o;
    return 0;
}

int qm_parse_check(enum qm_table table, struct qm_bytes key, struct qm_bytes value)
{
    union {
        struct qm_meta meta;
        struct qidmap_fs fs;
        struct qidmap_fsid fsid;
        struct qidmap_object object;
    } u;
    uint32_t a, b;
    unsigned bits;
    uint64_t c;
    gboolean has_full;

    switch (table) {
    case QM_TABLE_META:
        return qm_parse_meta(key, value, &u.meta, &a);
    case QM_TABLE_FS:
        return qm_parse_fs(key, value, &u.fs, &has_full);
    case QM_TABLE_FSID:
        return qm_parse_fsid(key, value, &u.fsid, &a);
    case QM_TABLE_AFFIX:
        return qm_parse_affix(key, value, &a, &bits, &c, &b);
    case QM_TABLE_BYAFFIX:
        return qm_parse_byaffix(key, value, &a, &b, &c);
    case QM_TABLE_FULL:
        return qm_parse_full(key, value, &u.object, &c);
    case QM_TABLE_BYFULL:
        return qm_parse_byfull(key, value, &c, &u.object);
    }
    return -EUCLEAN;
}

/* ---- object keys ----------------------------------------------------------------------------- */

size_t qm_object_key(const struct qidmap_object *object, uint8_t *key)
{
    size_t size = put_be(key, object->fs, 4);

    key[size++] = object->kind;
    if (object->kind == QIDMAP_OBJECT_HANDLE) {
        size += put_be(key + size, (uint32_t)object->handle_type, 4);
        memcpy(key + size, object->handle, object->handle_size);
        return size + object->handle_size;
    }
    size += put_be(key + size, object->ino, 8);
    if (object->kind == QIDMAP_OBJECT_PLACEHOLDER)
        size += put_be(key + size, object->ino2, 8);
    return size;
}

int qm_object_parse(struct qm_bytes key, struct qidmap_object *object)
{
    struct window k = {key.data, key.size, FALSE};
    struct qidmap_object o;

    memset(&o, 0, sizeof(o));
    o.fs = (uint32_t)take_be(&k, 4);
    o.kind = (uint8_t)take_be(&k, 1);
    switch (o.kind) {
    case QIDMAP_OBJECT_INODE:
        o.ino = take_be(&k, 8);
        break;
    case QIDMAP_OBJECT_HANDLE:
        o.handle_type = (int32_t)(uint32_t)take_be(&k, 4);
        if (k.short_of || k.left > QIDMAP_HANDLE_BYTES)
            return -EUCLEAN;
        o.handle_size = (uint8_t)k.left;
        take_bytes(&k, o.handle, k.left);
        break;
    case QIDMAP_OBJECT_PLACEHOLDER:
        o.ino = take_be(&k, 8);
        o.ino2 = take_be(&k, 8);
        break;
    default:
        return -EUCLEAN;
    }
    if (!all_taken(&k) || !qm_object_is_valid(&o))
        return -EUCLEAN;
    *object = o;
    return 0;
}

gboolean qm_object_is_valid(const struct qidmap_object *object)
{
    if (object->fs == 0 || object->fs > QM_FS_LAST || object->reserved != 0)
        return FALSE;
    if (object->kind == QIDMAP_OBJECT_HANDLE)
        return object->handle_size > 0 && object->handle_size <= QIDMAP_HANDLE_BYTES;
    return object->kind == QIDMAP_OBJECT_INODE || object->kind == QIDMAP_OBJECT_PLACEHOLDER;
}
