/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows as lines of a dump, and back; see dumpline.h. Pure: no I/O. */
#include "config.h"

#include "store/dumpline.h"

#include <errno.h>
#include <string.h>

#include "store/affix.h"
#include "store/error.h"

/* ---- writing -----------------------------------------------------------------------------------
 */

static void begin(GString *out, const char *row)
{
    g_string_truncate(out, 0);
    qm_json_begin(out);
    qm_json_string(out, "row", row);
}

void qm_line_store(GString *out, const struct qm_meta *meta)
{
    begin(out, "store");
    qm_json_int(out, "dump", QM_DUMP_VERSION);
    qm_json_int(out, "format", QM_FORMAT_VERSION);
    qm_json_hex(out, "uuid", meta->uuid, sizeof(meta->uuid));
    qm_json_int(out, "affix_budget", meta->affix_budget);
    qm_json_u64(out, "epoch", meta->epoch);
    qm_json_u64(out, "next_fs", meta->next_fs);
    qm_json_u64(out, "next_affix", meta->next_affix);
    qm_json_u64(out, "next_serial", meta->next_serial);
    qm_json_u64(out, "next_instance", meta->next_instance);
    qm_json_u64(out, "fs_rows", meta->fs_rows);
    qm_json_u64(out, "fsid_rows", meta->fsid_rows);
    qm_json_u64(out, "affix_rows", meta->affix_rows);
    qm_json_u64(out, "full_rows", meta->full_rows);
    qm_json_int(out, "created", meta->created);
    qm_json_u64(out, "served", meta->served);
    qm_json_end(out);
}

/* "2:0011..ff 9:...": kind and bytes of each. */
static void identities(GString *out, const struct qidmap_fs *fs)
{
    g_autoptr(GString) text = g_string_new(NULL);
    uint32_t i, j;

    for (i = 0; i < fs->fsid_count; i++) {
        g_string_append_printf(text, "%s%u:", i ? " " : "", fs->fsid[i].kind);
        for (j = 0; j < fs->fsid[i].size; j++)
            g_string_append_printf(text, "%02x", fs->fsid[i].bytes[j]);
    }
    qm_json_string(out, "identity", text->str);
}

/* "3 7": numbers of rows. */
static const char *met(char text[16 * QIDMAP_FS_MET], const struct qidmap_fs *fs)
{
    uint32_t i;
    size_t at = 0;

    text[0] = '\0';
    for (i = 0; i < fs->met_count; i++)
        at += (size_t)g_snprintf(text + at, 16, "%s%u", i ? " " : "", fs->met[i]);
    return text;
}

static gboolean is_zero(const uint8_t *bytes, gsize size)
{
    gsize i;

    for (i = 0; i < size; i++) {
        if (bytes[i])
            return FALSE;
    }
    return TRUE;
}

void qm_line_fs(GString *out, const struct qidmap_fs *fs, gboolean has_full)
{
    const struct qidmap_hints *h = &fs->hints;
    char text[16 * QIDMAP_FS_MET];

    begin(out, "fs");
    qm_json_int(out, "fs", fs->fs);
    qm_json_string(out, "policy", qidmap_policy_name(fs->policy));
    identities(out, fs);
    qm_json_bool(out, "weak", fs->flags & QIDMAP_IDENTITY_WEAK);
    qm_json_bool(out, "readonly", fs->flags & QIDMAP_IDENTITY_READONLY);
    qm_json_bool(out, "duplicate", fs->flags & QIDMAP_IDENTITY_DUPLICATE);
    qm_json_bool(out, "retired", fs->retired);
    qm_json_bool(out, "left_budget", fs->left_budget);
    qm_json_bool(out, "has_bound", fs->has_bound);
    qm_json_bool(out, "has_full", has_full);
    qm_json_bool(out, "chosen", fs->chosen);
    qm_json_bool(out, "superseded", fs->superseded);
    qm_json_bool(out, "met_many", fs->met_many);
    qm_json_bool(out, "marker_open", fs->marker_open);
    qm_json_string(out, "met", met(text, fs));
    qm_json_int(out, "alias", fs->alias);
    qm_json_int(out, "instance", fs->instance);
    qm_json_u64(out, "first_session", fs->first_session);
    qm_json_u64(out, "last_session", fs->last_session);
    qm_json_u64(out, "seen", fs->seen);
    qm_json_name(out, "type", h->type);
    qm_json_name(out, "source", h->source);
    qm_json_name(out, "backing", h->backing);
    qm_json_name(out, "dm_uuid", h->dm_uuid);
    qm_json_name(out, "wwid", h->wwid);
    qm_json_name(out, "part_uuid", h->part_uuid);
    qm_json_name(out, "mount_path", h->mount_path);
    qm_json_name(out, "tree", h->tree);
    if (is_zero(h->marker, sizeof(h->marker)))
        qm_json_string(out, "marker", "");
    else
        qm_json_hex(out, "marker", h->marker, sizeof(h->marker));
    qm_json_int(out, "partition", h->partition);
    qm_json_int(out, "root_gen", h->root_gen);
    qm_json_u64(out, "root_inode", h->root_ino);
    qm_json_int(out, "root_btime_ns", h->root_btime_ns);
    qm_json_u64(out, "st_dev", h->st_dev);
    qm_json_name(out, "boot_id", h->boot_id);
    qm_json_name(out, "machine_id", h->machine_id);
    qm_json_int(out, "first_seen", h->first_seen);
    qm_json_int(out, "last_seen", h->last_seen);
    qm_json_end(out);
}

void qm_line_affix(GString *out, uint32_t fs, unsigned bits, uint64_t top, uint32_t n)
{
    begin(out, "affix");
    qm_json_int(out, "fs", fs);
    qm_json_int(out, "index", n);
    qm_json_int(out, "bits", bits);
    qm_json_u64(out, "top", top);
    qm_json_u64(out, "suffix", qm_affix_suffix(n));
    qm_json_end(out);
}

void qm_line_full(GString *out, const struct qidmap_object *object, uint64_t id)
{
    begin(out, "full");
    qm_json_int(out, "fs", object->fs);
    qm_json_u64(out, "qid_path", id);
    switch (object->kind) {
    case QIDMAP_OBJECT_HANDLE:
        qm_json_string(out, "object", "handle");
        qm_json_int(out, "handle_type", object->handle_type);
        qm_json_hex(out, "handle", object->handle, object->handle_size);
        break;
    case QIDMAP_OBJECT_PLACEHOLDER:
        qm_json_string(out, "object", "placeholder");
        qm_json_u64(out, "inode", object->ino);
        qm_json_u64(out, "d_ino", object->ino2);
        break;
    default:
        qm_json_string(out, "object", "inode");
        qm_json_u64(out, "inode", object->ino);
    }
    qm_json_end(out);
}

void qm_line_damaged(GString *out, enum qm_table table, struct qm_bytes key, struct qm_bytes value)
{
    begin(out, "damaged");
    qm_json_string(out, "table", qm_table_name(table));
    qm_json_hex(out, "key", key.data, key.size);
    qm_json_hex(out, "value", value.data, value.size);
    qm_json_end(out);
}

void qm_line_end(GString *out, const struct qm_meta *counts, const uint8_t *sum)
{
    begin(out, "end");
    qm_json_u64(out, "fs_rows", counts->fs_rows);
    qm_json_u64(out, "affix_rows", counts->affix_rows);
    qm_json_u64(out, "full_rows", counts->full_rows);
    qm_json_hex(out, "xxh3_128", sum, 16);
    qm_json_end(out);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static void wrong(struct qm_json *json, const char *member)
{
    if (!json->wrong)
        json->wrong = member;
}

static int read_store(struct qm_json *json, struct qm_line *line, GError **error)
{
    struct qm_meta *m = &line->meta;
    gint64 version = qm_json_take_int(json, "dump", 0, G_MAXUINT32);
    gint64 format = qm_json_take_int(json, "format", 0, G_MAXUINT32);

    if (!json->wrong && (version > QM_DUMP_VERSION || format > QM_FORMAT_VERSION))
        return qm_set_error(error, EPROTO,
                            "a dump of version %u of a store of format %u; this library knows "
                            "dumps of version %u and format %u: use a newer qidmap",
                            (unsigned)version, (unsigned)format, QM_DUMP_VERSION,
                            QM_FORMAT_VERSION);
    if (version != QM_DUMP_VERSION)
        wrong(json, "dump");
    if (format != QM_FORMAT_VERSION)
        wrong(json, "format");
    if (qm_json_take_hex(json, "uuid", m->uuid, sizeof(m->uuid)) != sizeof(m->uuid))
        wrong(json, "uuid");
    m->affix_budget = (uint32_t)qm_json_take_int(json, "affix_budget", 1, 65535);
    m->epoch = qm_json_take_u64(json, "epoch");
    m->next_fs = qm_json_take_u64(json, "next_fs");
    m->next_affix = qm_json_take_u64(json, "next_affix");
    m->next_serial = qm_json_take_u64(json, "next_serial");
    m->next_instance = qm_json_take_u64(json, "next_instance");
    m->fs_rows = qm_json_take_u64(json, "fs_rows");
    m->fsid_rows = qm_json_take_u64(json, "fsid_rows");
    m->affix_rows = qm_json_take_u64(json, "affix_rows");
    m->full_rows = qm_json_take_u64(json, "full_rows");
    m->created = qm_json_take_int(json, "created", G_MININT64 + 1, G_MAXINT64);
    m->served = qm_json_take_u64(json, "served");
    return 0;
}

static void read_identities(struct qm_json *json, struct qidmap_fs *fs)
{
    g_auto(GStrv) parts =
        g_strsplit(qm_json_take_string(json, "identity"), " ", QIDMAP_FSID_COUNT + 1);
    guint i;

    for (i = 0; parts[i]; i++) {
        char *colon = strchr(parts[i], ':');
        struct qidmap_fsid *f = &fs->fsid[i];
        guint64 kind;
        gsize size;

        if (i == QIDMAP_FSID_COUNT || !colon) {
            wrong(json, "identity");
            return;
        }
        *colon = '\0';
        size = strlen(colon + 1);
        if (!qm_json_decimal(parts[i], &kind) || kind < 1 || kind > 255 || size < 2 ||
            size > 2 * QIDMAP_FSID_BYTES || !qm_json_unhex(colon + 1, size, f->bytes)) {
            wrong(json, "identity");
            return;
        }
        f->kind = (uint32_t)kind;
        f->size = (uint32_t)(size / 2);
    }
    fs->fsid_count = i;
}

static void read_met(struct qm_json *json, struct qidmap_fs *fs)
{
    g_auto(GStrv) parts = g_strsplit(qm_json_take_string(json, "met"), " ", QIDMAP_FS_MET + 1);
    guint64 number;
    guint i;

    for (i = 0; parts[i]; i++) {
        if (i == QIDMAP_FS_MET || !qm_json_decimal(parts[i], &number) || number > QM_FS_LAST) {
            wrong(json, "met");
            return;
        }
        fs->met[i] = (uint32_t)number;
    }
    fs->met_count = i;
}

static uint32_t read_policy(struct qm_json *json)
{
    const char *text = qm_json_take_string(json, "policy");
    uint32_t policy;

    for (policy = QIDMAP_POLICY_AFFIX; policy <= QIDMAP_POLICY_DENY; policy++) {
        if (strcmp(text, qidmap_policy_name(policy)) == 0)
            return policy;
    }
    wrong(json, "policy");
    return 0;
}

#define TAKE_NAME(json, member, field) qm_json_take_name((json), (member), (field), sizeof(field))

static void read_fs(struct qm_json *json, struct qm_line *line)
{
    struct qidmap_fs *fs = &line->fs;
    struct qidmap_hints *h = &fs->hints;

    memset(fs, 0, sizeof(*fs));
    fs->size = sizeof(*fs);
    fs->fs = (uint32_t)qm_json_take_int(json, "fs", 1, QM_FS_LAST);
    fs->policy = read_policy(json);
    read_identities(json, fs);
    fs->flags = (qm_json_take_bool(json, "weak") ? QIDMAP_IDENTITY_WEAK : 0) |
                (qm_json_take_bool(json, "readonly") ? QIDMAP_IDENTITY_READONLY : 0) |
                (qm_json_take_bool(json, "duplicate") ? QIDMAP_IDENTITY_DUPLICATE : 0);
    fs->retired = (uint32_t)qm_json_take_bool(json, "retired");
    fs->left_budget = (uint32_t)qm_json_take_bool(json, "left_budget");
    fs->has_bound = (uint32_t)qm_json_take_bool(json, "has_bound");
    line->has_full = qm_json_take_bool(json, "has_full");
    fs->chosen = (uint32_t)qm_json_take_bool(json, "chosen");
    fs->superseded = (uint32_t)qm_json_take_bool(json, "superseded");
    fs->met_many = (uint32_t)qm_json_take_bool(json, "met_many");
    fs->marker_open = (uint32_t)qm_json_take_bool(json, "marker_open");
    read_met(json, fs);
    fs->alias = (uint32_t)qm_json_take_int(json, "alias", 0, QM_FS_LAST);
    fs->instance = (uint32_t)qm_json_take_int(json, "instance", 0, G_MAXUINT32);
    fs->first_session = qm_json_take_u64(json, "first_session");
    fs->last_session = qm_json_take_u64(json, "last_session");
    fs->seen = qm_json_take_u64(json, "seen");
    TAKE_NAME(json, "type", h->type);
    TAKE_NAME(json, "source", h->source);
    TAKE_NAME(json, "backing", h->backing);
    TAKE_NAME(json, "dm_uuid", h->dm_uuid);
    TAKE_NAME(json, "wwid", h->wwid);
    TAKE_NAME(json, "part_uuid", h->part_uuid);
    TAKE_NAME(json, "mount_path", h->mount_path);
    TAKE_NAME(json, "tree", h->tree);
    if (*qm_json_take_string(json, "marker") &&
        qm_json_take_hex(json, "marker", h->marker, sizeof(h->marker)) != sizeof(h->marker))
        wrong(json, "marker");
    h->partition = (uint32_t)qm_json_take_int(json, "partition", 0, G_MAXUINT32);
    h->root_gen = (uint32_t)qm_json_take_int(json, "root_gen", 0, G_MAXUINT32);
    h->root_ino = qm_json_take_u64(json, "root_inode");
    h->root_btime_ns = qm_json_take_int(json, "root_btime_ns", -G_MAXINT64, G_MAXINT64);
    h->st_dev = qm_json_take_u64(json, "st_dev");
    TAKE_NAME(json, "boot_id", h->boot_id);
    TAKE_NAME(json, "machine_id", h->machine_id);
    h->first_seen = qm_json_take_int(json, "first_seen", -G_MAXINT64, G_MAXINT64);
    h->last_seen = qm_json_take_int(json, "last_seen", -G_MAXINT64, G_MAXINT64);
}

static void read_affix(struct qm_json *json, struct qm_line *line)
{
    line->affix_fs = (uint32_t)qm_json_take_int(json, "fs", 1, QM_FS_LAST);
    line->n = (uint32_t)qm_json_take_int(json, "index", QM_AFFIX_FIRST, QM_AFFIX_LAST);
    line->bits = (unsigned)qm_json_take_int(json, "bits", 1, QM_AFFIX_BITS_MAX);
    line->top = qm_json_take_u64(json, "top");
    if (line->bits != qm_affix_bits(line->n))
        wrong(json, "bits");
    if (line->top >> line->bits)
        wrong(json, "top");
    if (qm_json_take_u64(json, "suffix") != qm_affix_suffix(line->n))
        wrong(json, "suffix");
}

static void read_full(struct qm_json *json, struct qm_line *line)
{
    struct qidmap_object *o = &line->object;
    const char *kind = qm_json_take_string(json, "object");

    memset(o, 0, sizeof(*o));
    o->fs = (uint32_t)qm_json_take_int(json, "fs", 1, QM_FS_LAST);
    line->id = qm_json_take_u64(json, "qid_path");
    if (strcmp(kind, "handle") == 0) {
        o->kind = QIDMAP_OBJECT_HANDLE;
        o->handle_type = (int32_t)qm_json_take_int(json, "handle_type", G_MININT32, G_MAXINT32);
        o->handle_size = (uint8_t)qm_json_take_hex(json, "handle", o->handle, QIDMAP_HANDLE_BYTES);
        return;
    }
    o->ino = qm_json_take_u64(json, "inode");
    if (strcmp(kind, "placeholder") == 0) {
        o->kind = QIDMAP_OBJECT_PLACEHOLDER;
        o->ino2 = qm_json_take_u64(json, "d_ino");
    } else if (strcmp(kind, "inode") != 0) {
        wrong(json, "object");
    }
}

int qm_line_parse(struct qm_json *json, const char *text, gsize size, struct qm_line *line,
                  GError **error)
{
    static const char *const rows[] = {"store", "fs", "affix", "full", "damaged", "end"};
    const char *why, *row;
    guint i;
    int e = 0;

    if (!qm_json_parse(json, text, size, &why))
        return qm_set_error(error, EBADMSG, "%s", why);
    row = qm_json_take_string(json, "row");
    for (i = 0; i < G_N_ELEMENTS(rows) && strcmp(row, rows[i]) != 0; i++)
        ;
    if (i == G_N_ELEMENTS(rows))
        return qm_set_error(error, EBADMSG,
                            "not a row of a dump: its member `row` is missing, or "
                            "none that is known");
    line->kind = (enum qm_line_kind)i;
    switch (line->kind) {
    case QM_LINE_STORE:
        e = read_store(json, line, error);
        break;
    case QM_LINE_FS:
        read_fs(json, line);
        break;
    case QM_LINE_AFFIX:
        read_affix(json, line);
        break;
    case QM_LINE_FULL:
        read_full(json, line);
        break;
    default:
        return 0;
    }
    if (e == 0 && !qm_json_all_taken(json)) {
        g_autofree char *shown = g_strescape(json->wrong, NULL);

        e = qm_set_error(error, EBADMSG, "its member `%.64s` is missing, out of range, or unknown",
                         shown);
    }
    return e;
}
