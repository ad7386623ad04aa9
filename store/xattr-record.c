/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows <-> the image of an xattr: store, where a filesystem gives 4,000 bytes for everything. Only
 * what cannot be derived is kept: the tables fsid and byaffix come from fs and affix, and the full
 * map is not kept here at all. The bytes (qidmap-format(5) repeats this):
 *
 *   num     7 bits in each byte, lowest first, the high bit says that more follow; as short as can
 *           be. snum: i64 as num: 2 x for x >= 0, -2 x - 1 below
 *   image   u8 version: 1, u8[16] uuid, num affix budget, epoch, next_fs, next_affix, next_serial,
 *           next_instance, snum created, last clean stop, num served, u64 home: digest of what
 *           tells the directory from a copy (0: nothing does), num fs rows, affix rows, then the
 *           rows
 *   fs      num number less that of the row before (0), u24 fields, then those that are there:
 *     bit  0 num flags         6 u32 root_gen             11 snum last_seen - first_seen
 *          1 num state         7 num root_ino             12 type        17 part_uuid
 *          2 num instance      8 i64 root_btime_ns        13 source      18 mount_path
 *          3 num alias         9 num, num: the high and   14 backing     19 tree
 *          4 u8[16] marker       the low half of st_dev   15 dm_uuid     20 boot_id
 *          5 num partition    10 snum first_seen -        16 wwid        21 machine_id
 *                                created
 *     bits 22 and 23: policy - 1. Then num number of identities, each num kind, num size, bytes;
 *     num first session, snum last session - first, num seen; rows met: num m; even: m / 2 numbers
 * follow, each as num less that before (0); odd: num first, then (m - 1) / 2 bytes, of which bit i
 *     (lowest first) is number first + 1 + i
 *   string  num t: 0: the digest of a longer one, 8 bytes; 1: 16 bytes, shown as a uuid; 2: 16
 *           bytes, shown as 32 digits; odd from 3 on: string (t - 3) / 2 of this image, counted
 *           from 0 as they come, those of this kind left out; even from 4 on: (t - 2) / 2 bytes
 *   affix   num n less that of the row before (3), num fs, num top
 *
 * Fields that are 0 or empty are not there. State: 1 retired, 2 left its affix budget, 4 has bound
 * rows, 16 policy chosen, 32 met more rows than are listed, 64 marker open, 128
 * superseded. A digest is written
 * "~" and 16 digits (store/hints.h) and compares with the whole string.
 */
#include "config.h"

#include "store/xattr-record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/affix.h"
#include "store/hints.h"

#define IMAGE_VERSION 1u
#define BRIEF         8u /* a longer string takes less room as a digest */
#define STRINGS       10u
#define STRING_BIT    12
#define POLICY_SHIFT  22
#define MET_BYTES     16u /* of bits */

enum { TOKEN_DIGEST, TOKEN_UUID, TOKEN_DIGITS, TOKEN_OTHER };

/* Where the strings of a row are. */
static const struct {
    size_t offset, room;
} strings[STRINGS] = {
#define STRING(field)                                                                              \
    {                                                                                              \
        offsetof(struct qidmap_hints, field), sizeof(((struct qidmap_hints *)0)->field)            \
    }
    STRING(type),      STRING(source),     STRING(backing), STRING(dm_uuid), STRING(wwid),
    STRING(part_uuid), STRING(mount_path), STRING(tree),    STRING(boot_id), STRING(machine_id),
#undef STRING
};

/* ---- strings of hexadecimal digits ----------------------------------------------------------- */

/* The bytes of lower-case digits with dashes where a uuid has them (or nowhere). */
static gboolean from_hex(const char *text, gboolean dashes, uint8_t *bytes, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        if (dashes && (i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return FALSE;
        if (!g_ascii_isxdigit(text[0]) || g_ascii_isupper(text[0]) || !g_ascii_isxdigit(text[1]) ||
            g_ascii_isupper(text[1]))
            return FALSE;
        bytes[i] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
    return *text == '\0';
}

static void to_hex(const uint8_t *bytes, size_t count, gboolean dashes, char *text)
{
    size_t i;

    for (i = 0; i < count; i++) {
        if (dashes && (i == 4 || i == 6 || i == 8 || i == 10))
            *text++ = '-';
        text += sprintf(text, "%02x", bytes[i]);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

struct qm_image_writer {
    GByteArray *out;
    gboolean brief;
    GHashTable *seen; /* text -> its number */
    int64_t created;
    uint32_t fs, n;
};

static void put_bytes(struct qm_image_writer *w, const void *data, size_t size)
{
    g_byte_array_append(w->out, data, (guint)size);
}

static void put_num(struct qm_image_writer *w, uint64_t value)
{
    uint8_t byte;

    do {
        byte = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put_bytes(w, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_snum(struct qm_image_writer *w, int64_t value)
{
    put_num(w, (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0));
}

static void put_le(struct qm_image_writer *w, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    size_t i;

    for (i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    put_bytes(w, bytes, size);
}

static void put_string(struct qm_image_writer *w, const char *text, gboolean brief)
{
    char digest[QM_HINT_DIGEST];
    uint8_t bytes[16];
    gpointer number;
    size_t size;

    if (brief && strlen(text) > BRIEF && !from_hex(text, TRUE, bytes, 16) &&
        !from_hex(text, FALSE, bytes, 16)) {
        qm_hint_digest(text, digest);
        text = digest;
    }
    if (g_hash_table_lookup_extended(w->seen, text, NULL, &number)) {
        put_num(w, 3 + 2 * (uint64_t)GPOINTER_TO_UINT(number));
        return;
    }
    size = g_hash_table_size(w->seen);
    g_hash_table_insert(w->seen, g_strdup(text), GUINT_TO_POINTER(size));
    if (text[0] == '~' && from_hex(text + 1, FALSE, bytes, 8)) {
        put_num(w, TOKEN_DIGEST);
        put_bytes(w, bytes, 8);
    } else if (from_hex(text, TRUE, bytes, 16)) {
        put_num(w, TOKEN_UUID);
        put_bytes(w, bytes, 16);
    } else if (from_hex(text, FALSE, bytes, 16)) {
        put_num(w, TOKEN_DIGITS);
        put_bytes(w, bytes, 16);
    } else {
        size = strlen(text);
        put_num(w, 2 + 2 * size);
        put_bytes(w, text, size);
    }
}

struct qm_image_writer *qm_image_writer_new(const struct qm_meta *meta, uint64_t home,
                                            gboolean brief)
{
    struct qm_image_writer *w = g_new0(struct qm_image_writer, 1);

    w->out = g_byte_array_new();
    w->brief = brief;
    w->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    w->created = meta->created;
    w->n = QM_AFFIX_FIRST - 1;
    put_le(w, IMAGE_VERSION, 1);
    put_bytes(w, meta->uuid, sizeof(meta->uuid));
    put_num(w, meta->affix_budget);
    put_num(w, meta->epoch);
    put_num(w, meta->next_fs);
    put_num(w, meta->next_affix);
    put_num(w, meta->next_serial);
    put_num(w, meta->next_instance);
    put_snum(w, meta->created);
    put_snum(w, meta->last_clean_stop);
    put_num(w, meta->served);
    put_le(w, home, 8);
    put_num(w, meta->fs_rows);
    put_num(w, meta->affix_rows);
    return w;
}

static int64_t minus(int64_t a, int64_t b) /* wraps, as plus() does */
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static const char *string_of(const struct qidmap_hints *h, unsigned i)
{
    return (const char *)h + strings[i].offset;
}

static uint32_t fields_of(const struct qidmap_fs *fs, uint32_t state, int64_t created)
{
    static const uint8_t none[16];
    const struct qidmap_hints *h = &fs->hints;
    uint32_t fields = (fs->policy - 1) << POLICY_SHIFT;
    unsigned i;

    fields |= fs->flags ? 1u << 0 : 0;
    fields |= state ? 1u << 1 : 0;
    fields |= fs->instance ? 1u << 2 : 0;
    fields |= fs->alias ? 1u << 3 : 0;
    fields |= memcmp(h->marker, none, sizeof(none)) != 0 ? 1u << 4 : 0;
    fields |= h->partition ? 1u << 5 : 0;
    fields |= h->root_gen ? 1u << 6 : 0;
    fields |= h->root_ino ? 1u << 7 : 0;
    fields |= h->root_btime_ns ? 1u << 8 : 0;
    fields |= h->st_dev ? 1u << 9 : 0;
    fields |= h->first_seen != created ? 1u << 10 : 0;
    fields |= h->last_seen != h->first_seen ? 1u << 11 : 0;
    for (i = 0; i < STRINGS; i++)
        fields |= string_of(h, i)[0] ? 1u << (STRING_BIT + i) : 0;
    return fields;
}

static size_t num_size(uint64_t value)
{
    size_t size = 1;

    while (value >>= 7)
        size++;
    return size;
}

/* Ascending numbers: neighbours as bits, others as steps, whichever is shorter. */
static void put_met(struct qm_image_writer *w, const uint32_t *met, uint32_t count)
{
    uint8_t bits[MET_BYTES] = {0};
    size_t steps = 0, bytes;
    uint32_t i;

    for (i = 0; i < count; i++)
        steps += num_size(met[i] - (i ? met[i - 1] : 0));
    bytes = count ? (met[count - 1] - met[0] + 7) / 8 : 0;
    if (count == 0 || bytes > MET_BYTES || num_size(met[0]) + bytes >= steps) {
        put_num(w, 2 * (uint64_t)count);
        for (i = 0; i < count; i++)
            put_num(w, met[i] - (i ? met[i - 1] : 0));
        return;
    }
    for (i = 1; i < count; i++)
        bits[(met[i] - met[0] - 1) / 8] |= (uint8_t)(1u << (met[i] - met[0] - 1) % 8);
    put_num(w, 2 * bytes + 1);
    put_num(w, met[0]);
    put_bytes(w, bits, bytes);
}

void qm_image_put_fs(struct qm_image_writer *w, const struct qidmap_fs *fs)
{
    const struct qidmap_hints *h = &fs->hints;
    uint32_t state =
        (fs->retired ? QM_STATE_RETIRED : 0) | (fs->left_budget ? QM_STATE_LEFT_BUDGET : 0) |
        (fs->has_bound ? QM_STATE_HAS_BOUND : 0) | (fs->chosen ? QM_STATE_CHOSEN : 0) |
        (fs->superseded ? QM_STATE_SUPERSEDED : 0) | (fs->met_many ? QM_STATE_MET_MANY : 0) |
        (fs->marker_open ? QM_STATE_MARKER_OPEN : 0);
    uint32_t fields = fields_of(fs, state, w->created);
    uint32_t i;

    put_num(w, fs->fs - w->fs);
    w->fs = fs->fs;
    put_le(w, fields, 3);
    if (fields & 1u << 0)
        put_num(w, fs->flags);
    if (fields & 1u << 1)
        put_num(w, state);
    if (fields & 1u << 2)
        put_num(w, fs->instance);
    if (fields & 1u << 3)
        put_num(w, fs->alias);
    if (fields & 1u << 4)
        put_bytes(w, h->marker, sizeof(h->marker));
    if (fields & 1u << 5)
        put_num(w, h->partition);
    if (fields & 1u << 6)
        put_le(w, h->root_gen, 4);
    if (fields & 1u << 7)
        put_num(w, h->root_ino);
    if (fields & 1u << 8)
        put_le(w, (uint64_t)h->root_btime_ns, 8);
    if (fields & 1u << 9) {
        put_num(w, h->st_dev >> 32);
        put_num(w, h->st_dev & 0xffffffff);
    }
    if (fields & 1u << 10)
        put_snum(w, minus(h->first_seen, w->created));
    if (fields & 1u << 11)
        put_snum(w, minus(h->last_seen, h->first_seen));
    for (i = 0; i < STRINGS; i++) {
        if (fields & 1u << (STRING_BIT + i)) /* the type is asked for by name */
            put_string(w, string_of(h, i), w->brief && i != 0);
    }
    put_num(w, fs->fsid_count);
    for (i = 0; i < fs->fsid_count; i++) {
        put_num(w, fs->fsid[i].kind);
        put_num(w, fs->fsid[i].size);
        put_bytes(w, fs->fsid[i].bytes, fs->fsid[i].size);
    }
    put_num(w, fs->first_session);
    put_snum(w, minus((int64_t)fs->last_session, (int64_t)fs->first_session));
    put_num(w, fs->seen);
    put_met(w, fs->met, fs->met_count);
}

void qm_image_put_affix(struct qm_image_writer *w, uint32_t n, uint32_t fs, uint64_t top)
{
    put_num(w, n - w->n);
    w->n = n;
    put_num(w, fs);
    put_num(w, top);
}

GByteArray *qm_image_writer_end(struct qm_image_writer *w)
{
    GByteArray *out = w->out;

    g_hash_table_destroy(w->seen);
    g_free(w);
    return out;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *p;
    size_t left;
    gboolean bad;
    GPtrArray *seen; /* the strings so far */
};

static const uint8_t *take(struct reader *r, size_t size)
{
    const uint8_t *p = r->p;

    if (r->bad || size > r->left) {
        r->bad = TRUE;
        return NULL;
    }
    r->p += size;
    r->left -= size;
    return p;
}

static void take_bytes(struct reader *r, void *out, size_t size)
{
    const uint8_t *p = take(r, size);

    if (p)
        memcpy(out, p, size);
}

static uint64_t take_le(struct reader *r, size_t size)
{
    const uint8_t *p = take(r, size);
    uint64_t value = 0;
    size_t i;

    for (i = 0; p && i < size; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static uint64_t take_num(struct reader *r)
{
    uint64_t value = 0;
    unsigned shift;

    for (shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = take(r, 1);

        if (!p)
            return 0;
        if (shift == 63 && *p > 1)
            break;
        value |= (uint64_t)(*p & 0x7f) << shift;
        if (*p & 0x80)
            continue;
        if (*p == 0 && shift > 0)
            break; /* longer than need be */
        return value;
    }
    r->bad = TRUE;
    return 0;
}

/* A number that is not more than `most`. */
static uint32_t take_small(struct reader *r, uint64_t most)
{
    uint64_t value = take_num(r);

    if (value > most) {
        r->bad = TRUE;
        return 0;
    }
    return (uint32_t)value;
}

static int64_t take_snum(struct reader *r)
{
    uint64_t value = take_num(r);

    return (int64_t)(value >> 1 ^ (value & 1 ? UINT64_MAX : 0));
}

static void take_string(struct reader *r, char *out, size_t room)
{
    uint64_t token = take_num(r);
    char text[256] = "";
    const uint8_t *p;
    size_t size;

    if (token > TOKEN_DIGITS && (token & 1)) {
        uint64_t number = (token - 3) / 2;
        const char *old;

        if (r->bad || number >= r->seen->len) {
            r->bad = TRUE;
            return;
        }
        old = g_ptr_array_index(r->seen, number);
        if (strlen(old) >= room)
            r->bad = TRUE;
        else
            memcpy(out, old, strlen(old) + 1);
        return;
    }
    size = token == TOKEN_DIGEST   ? 8
           : token <= TOKEN_DIGITS ? 16
                                   : (size_t)MIN(token - 2, 1024) / 2;
    p = size < sizeof(text) ? take(r, size) : NULL;
    if (!p) {
        r->bad = TRUE;
        return;
    }
    if (token == TOKEN_DIGEST) {
        text[0] = '~';
        to_hex(p, 8, FALSE, text + 1);
    } else if (token <= TOKEN_DIGITS) {
        to_hex(p, 16, token == TOKEN_UUID, text);
    } else {
        memcpy(text, p, size);
        text[size] = '\0';
        if (strlen(text) != size || size == 0)
            r->bad = TRUE;
    }
    if (strlen(text) >= room || r->bad) {
        r->bad = TRUE;
        return;
    }
    memcpy(out, text, strlen(text) + 1);
    g_ptr_array_add(r->seen, g_strdup(text));
}

static void take_hints(struct reader *r, uint32_t fields, int64_t created, struct qidmap_hints *h)
{
    unsigned i;

    if (fields & 1u << 4)
        take_bytes(r, h->marker, sizeof(h->marker));
    if (fields & 1u << 5)
        h->partition = take_small(r, UINT32_MAX);
    if (fields & 1u << 6)
        h->root_gen = (uint32_t)take_le(r, 4);
    if (fields & 1u << 7)
        h->root_ino = take_num(r);
    if (fields & 1u << 8)
        h->root_btime_ns = (int64_t)take_le(r, 8);
    if (fields & 1u << 9) {
        h->st_dev = (uint64_t)take_small(r, UINT32_MAX) << 32;
        h->st_dev |= take_small(r, UINT32_MAX);
    }
    h->first_seen = fields & 1u << 10 ? plus(take_snum(r), created) : created;
    h->last_seen = fields & 1u << 11 ? plus(take_snum(r), h->first_seen) : h->first_seen;
    for (i = 0; i < STRINGS; i++) {
        if (fields & 1u << (STRING_BIT + i))
            take_string(r, (char *)h + strings[i].offset, strings[i].room);
    }
}

static void add_met(struct reader *r, struct qidmap_fs *fs, uint64_t number)
{
    if (number == 0 || number > QM_FS_LAST || fs->met_count >= QIDMAP_FS_MET)
        r->bad = TRUE;
    else
        fs->met[fs->met_count++] = (uint32_t)number;
}

static void take_met(struct reader *r, struct qidmap_fs *fs)
{
    uint32_t m = take_small(r, 2 * MAX(MET_BYTES, QIDMAP_FS_MET) + 1), i;
    uint64_t number = 0;

    if (m & 1) {
        const uint8_t *bits;

        number = take_num(r);
        add_met(r, fs, number);
        bits = take(r, m / 2);
        for (i = 0; bits && i < m / 2 * 8; i++) {
            if (bits[i / 8] & 1u << i % 8)
                add_met(r, fs, number + 1 + i);
        }
        return;
    }
    for (i = 0; i < m / 2 && !r->bad; i++) {
        uint64_t step = take_small(r, QM_FS_LAST);

        if (step == 0)
            r->bad = TRUE;
        number += step;
        add_met(r, fs, number);
    }
}

static void take_fs(struct reader *r, uint32_t before, int64_t created, struct qidmap_fs *fs)
{
    uint32_t fields, state = 0, i;

    memset(fs, 0, sizeof(*fs));
    fs->size = sizeof(*fs);
    fs->fs = take_small(r, QM_FS_LAST - before) + before;
    fields = (uint32_t)take_le(r, 3);
    fs->policy = (fields >> POLICY_SHIFT) + 1;
    if (fields & 1u << 0)
        fs->flags = take_small(r, UINT32_MAX);
    if (fields & 1u << 1)
        state = take_small(r, QM_STATE_ALL);
    if (state & QM_STATE_HAS_FULL)
        r->bad = TRUE;
    if (fields & 1u << 2)
        fs->instance = take_small(r, UINT32_MAX);
    if (fields & 1u << 3)
        fs->alias = take_small(r, QM_FS_LAST);
    take_hints(r, fields, created, &fs->hints);
    fs->retired = (state & QM_STATE_RETIRED) != 0;
    fs->left_budget = (state & QM_STATE_LEFT_BUDGET) != 0;
    fs->has_bound = (state & QM_STATE_HAS_BOUND) != 0;
    fs->chosen = (state & QM_STATE_CHOSEN) != 0;
    fs->superseded = (state & QM_STATE_SUPERSEDED) != 0;
    fs->met_many = (state & QM_STATE_MET_MANY) != 0;
    fs->marker_open = (state & QM_STATE_MARKER_OPEN) != 0;
    fs->fsid_count = take_small(r, QIDMAP_FSID_COUNT);
    for (i = 0; i < fs->fsid_count && !r->bad; i++) {
        fs->fsid[i].kind = take_small(r, 255);
        fs->fsid[i].size = take_small(r, QIDMAP_FSID_BYTES);
        if (fs->fsid[i].size == 0)
            r->bad = TRUE;
        take_bytes(r, fs->fsid[i].bytes, fs->fsid[i].size);
    }
    fs->first_session = take_num(r);
    fs->last_session = (uint64_t)plus(take_snum(r), (int64_t)fs->first_session);
    fs->seen = take_num(r);
    take_met(r, fs);
    /* What is 0 or empty is not there: else two images would mean the same. */
    if (fs->fs == before || (!r->bad && fields_of(fs, state, created) != fields))
        r->bad = TRUE;
}

static int read_rows(struct reader *r, const struct qm_meta *meta, const struct qm_image_sink *sink)
{
    uint32_t before = 0, n = QM_AFFIX_FIRST - 1, number;
    uint64_t i, top;
    int e;

    for (i = 0; i < meta->fs_rows; i++) {
        struct qidmap_fs fs;

        take_fs(r, before, meta->created, &fs);
        if (r->bad)
            return -EUCLEAN;
        before = fs.fs;
        e = sink->fs(&fs, sink->data);
        if (e != 0)
            return e;
    }
    for (i = 0; i < meta->affix_rows; i++) {
        uint32_t step = take_small(r, QM_AFFIX_LAST - n);

        number = take_small(r, QM_FS_LAST);
        top = take_num(r);
        n += step;
        if (r->bad || step == 0 || number == 0 || top >> qm_affix_bits(n) != 0)
            return -EUCLEAN;
        e = sink->affix(n, number, top, sink->data);
        if (e != 0)
            return e;
    }
    return r->left == 0 ? 0 : -EUCLEAN;
}

int qm_image_read(struct qm_bytes bytes, const struct qm_image_sink *sink)
{
    struct reader r = {bytes.data, bytes.size, FALSE, NULL};
    struct qm_meta m;
    uint64_t home;
    uint64_t version = take_le(&r, 1);
    int e;

    if (r.bad || version != IMAGE_VERSION)
        return !r.bad && version > IMAGE_VERSION ? -EPROTO : -EUCLEAN;
    memset(&m, 0, sizeof(m));
    take_bytes(&r, m.uuid, sizeof(m.uuid));
    m.affix_budget = take_small(&r, 65535);
    m.epoch = take_num(&r);
    m.next_fs = take_num(&r);
    m.next_affix = take_num(&r);
    m.next_serial = take_num(&r);
    m.next_instance = take_num(&r);
    m.created = take_snum(&r);
    m.last_clean_stop = take_snum(&r);
    m.served = take_num(&r);
    home = take_le(&r, 8);
    m.fs_rows = take_num(&r);
    m.affix_rows = take_num(&r);
    if (r.bad || m.affix_budget == 0)
        return -EUCLEAN;
    e = sink->meta(&m, home, sink->data);
    if (e != 0)
        return e;
    r.seen = g_ptr_array_new_with_free_func(g_free);
    e = read_rows(&r, &m, sink);
    g_ptr_array_unref(r.seen);
    return e;
}
