/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines of a manifest are JSON objects whose members stand in one order and are written in one way.
 * So the parser can be small: it reads the members in that order, writes the line again, and takes
 * it only where both are equal. What it lets pass on the way (zeros before a number, another way to
 * quote) is found by that comparison. Rejected: json-glib, which takes ten times as long for the
 * millions of lines and goes as deep as a hostile line tells it.
 */
#include "config.h"

#include <string.h>

#include "tools/manifest-line.h"

static const char *const type_names[] = {"unknown", "file",  "dir",  "symlink",
                                         "char",    "block", "fifo", "socket"};

const char *manifest_type_name(enum manifest_type type)
{
    return (guint)type < G_N_ELEMENTS(type_names) ? type_names[type] : "unknown";
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static void put_byte(GString *out, guint8 byte)
{
    g_string_append_printf(out, "\\\\x%02x", byte);
}

/* A name in quotes: the defined escape of bytes, then that of JSON. */
static void put_name(GString *out, const char *name)
{
    g_string_append_c(out, '"');
    while (*name != '\0') {
        guint8 c = (guint8)*name;
        if (c == '\\') {
            g_string_append(out, "\\\\\\\\");
        } else if (c == '"') {
            g_string_append(out, "\\\"");
        } else if (c < 0x20) {
            g_string_append_printf(out, "\\u%04x", c);
        } else if (c < 0x80) {
            const char *end = name + 1;
            while (*end >= 0x20 && *end != '\\' && *end != '"' && (guint8)*end < 0x80) {
                end++;
            }
            g_string_append_len(out, name, end - name);
            name = end;
            continue;
        } else {
            gunichar u = g_utf8_get_char_validated(name, -1);
            if (u == (gunichar)-1 || u == (gunichar)-2) {
                put_byte(out, c);
            } else {
                const char *end = g_utf8_next_char(name);
                g_string_append_len(out, name, end - name);
                name = end;
                continue;
            }
        }
        name++;
    }
    g_string_append_c(out, '"');
}

static void put_hex(GString *out, const guint8 *bytes, gsize size)
{
    static const char digits[] = "0123456789abcdef";
    for (gsize i = 0; i < size; i++) {
        g_string_append_c(out, digits[bytes[i] >> 4]);
        g_string_append_c(out, digits[bytes[i] & 15]);
    }
}

/* g_string_append_printf() is most of the time that a manifest takes. */
static void put_number(GString *out, guint64 number)
{
    char text[20];
    gsize at = sizeof text;
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    g_string_append_len(out, text + at, (gssize)(sizeof text - at));
}

static void put_signed(GString *out, gint64 number)
{
    if (number < 0) {
        g_string_append_c(out, '-');
        put_number(out, -(guint64)number);
    } else {
        put_number(out, (guint64)number);
    }
}

static void put_fraction(GString *out, guint32 ns)
{
    char text[9];
    for (gsize at = sizeof text; at-- > 0; ns /= 10) {
        text[at] = (char)('0' + ns % 10);
    }
    g_string_append_len(out, text, sizeof text);
}

void manifest_line_header(GString *out, const struct manifest_header *header)
{
    g_string_append_printf(out, "{\"row\":\"manifest\",\"version\":%d,\"store\":\"",
                           MANIFEST_VERSION);
    put_hex(out, header->store, sizeof header->store);
    g_string_append(out, "\",\"tree\":");
    put_name(out, header->tree);
    g_string_append(out, ",\"time\":");
    put_signed(out, header->time);
    g_string_append(out, "}\n");
}

void manifest_line_fs(GString *out, const struct manifest_fs *fs)
{
    g_string_append(out, "{\"row\":\"fs\",\"n\":");
    put_number(out, fs->n);
    g_string_append(out, ",\"fs\":");
    put_number(out, fs->fs);
    g_string_append(out, ",\"identity\":\"");
    if (fs->fsid.kind != 0) {
        put_number(out, fs->fsid.kind);
        g_string_append_c(out, ':');
        put_hex(out, fs->fsid.bytes, MIN(fs->fsid.size, QIDMAP_FSID_BYTES));
    }
    g_string_append(out, "\",\"type\":");
    put_name(out, fs->type);
    g_string_append(out, ",\"path\":");
    put_name(out, fs->path);
    g_string_append(out, "}\n");
}

void manifest_line_file(GString *out, const struct manifest_file *file)
{
    g_string_append(out, "{\"row\":\"file\",\"path\":");
    put_name(out, file->path);
    g_string_append(out, ",\"type\":\"");
    g_string_append(out, manifest_type_name(file->type));
    g_string_append_c(out, '"');
    if (file->type == MANIFEST_UNKNOWN) {
        g_string_append(out, "}\n");
        return;
    }
    g_string_append(out, ",\"fs\":");
    put_number(out, file->fs);
    if (file->id != 0) {
        g_string_append(out, ",\"id\":\"");
        put_number(out, file->id);
        g_string_append_c(out, '"');
    }
    g_string_append(out, ",\"size\":\"");
    put_number(out, file->size);
    g_string_append(out, "\",\"mtime\":\"");
    put_signed(out, file->mtime_s);
    g_string_append_c(out, '.');
    put_fraction(out, file->mtime_ns);
    g_string_append_c(out, '"');
    if (file->links != 1) {
        g_string_append(out, ",\"links\":");
        put_number(out, file->links);
        g_string_append(out, ",\"link\":\"");
        put_number(out, file->link);
        g_string_append_c(out, '"');
    }
    if (file->unread) {
        g_string_append(out, ",\"unread\":true");
    }
    g_string_append(out, "}\n");
}

void manifest_line_end(GString *out, const struct manifest_end *end, const guint8 sum[16])
{
    g_string_append(out, "{\"row\":\"end\",\"files\":\"");
    put_number(out, end->files);
    g_string_append(out, "\",\"ids\":\"");
    put_number(out, end->ids);
    g_string_append(out, "\",\"unread\":\"");
    put_number(out, end->unread);
    g_string_append(out, "\",\"xxh3_128\":\"");
    put_hex(out, sum, 16);
    g_string_append(out, "\"}\n");
}

/* ---- reading ----------------------------------------------------------------------------------
 */

struct input {
    const char *at, *end;
};

/* Takes `text` where it comes next. */
static gboolean take(struct input *in, const char *text)
{
    gsize size = strlen(text);
    if ((gsize)(in->end - in->at) < size || memcmp(in->at, text, size) != 0) {
        return FALSE;
    }
    in->at += size;
    return TRUE;
}

static gboolean take_number(struct input *in, guint64 max, guint64 *number)
{
    const char *begin = in->at;
    guint64 value = 0;

    while (in->at < in->end && g_ascii_isdigit(*in->at)) {
        guint digit = (guint)(*in->at - '0');
        if (value > (max - digit) / 10 || digit > max) {
            return FALSE;
        }
        value = value * 10 + digit;
        in->at++;
    }
    *number = value;
    return in->at > begin;
}

static gboolean take_u32(struct input *in, guint32 *number)
{
    guint64 value;
    if (!take_number(in, G_MAXUINT32, &value)) {
        return FALSE;
    }
    *number = (guint32)value;
    return TRUE;
}

static gboolean take_signed(struct input *in, gint64 *number)
{
    gboolean negative = take(in, "-");
    guint64 value;
    if (!take_number(in, (guint64)G_MAXINT64 + (negative ? 1 : 0), &value)) {
        return FALSE;
    }
    *number = negative ? (gint64)-value : (gint64)value;
    return TRUE;
}

/* Up to `room` bytes of hexadecimal digits. */
static gboolean take_hex(struct input *in, guint8 *bytes, gsize room, gsize *size)
{
    gsize count = 0;
    while (in->end - in->at >= 2 && g_ascii_isxdigit(in->at[0]) && g_ascii_isxdigit(in->at[1])) {
        if (count == room) {
            return FALSE;
        }
        bytes[count++] =
            (guint8)(g_ascii_xdigit_value(in->at[0]) << 4 | g_ascii_xdigit_value(in->at[1]));
        in->at += 2;
    }
    *size = count;
    return TRUE;
}

/* One byte of a JSON string after a backslash; -1 where it is none that is written here. */
static int take_quoted(struct input *in)
{
    guint8 byte;
    gsize size;

    if (take(in, "\\")) {
        return '\\';
    }
    if (take(in, "\"")) {
        return '"';
    }
    struct input hex = {in->at + 3, in->at + 5};
    if (in->end - in->at >= 5 && take(in, "u00") && take_hex(&hex, &byte, 1, &size) && size == 1) {
        in->at += 2;
        return byte;
    }
    return -1;
}

/* A name in quotes is appended to `text`, with a NUL; *offset says where. */
static gboolean take_name(struct input *in, GString *text, gsize max, gsize *offset)
{
    if (!take(in, "\"")) {
        return FALSE;
    }
    *offset = text->len;
    while (in->at < in->end && *in->at != '"') {
        const char *plain = in->at;
        while (in->at < in->end && *in->at != '"' && *in->at != '\\' && *in->at != '\0') {
            in->at++;
        }
        g_string_append_len(text, plain, in->at - plain);
        if (text->len - *offset > max) {
            return FALSE;
        }
        if (in->at == in->end || *in->at == '"') {
            break;
        }
        int c = take(in, "\\") ? take_quoted(in) : -1;
        if (c == '\\' && take(in, "x")) {
            guint8 byte;
            gsize size;
            struct input hex = {in->at, in->at + MIN(in->end - in->at, 2)};
            if (!take_hex(&hex, &byte, 1, &size) || size != 1) {
                return FALSE;
            }
            in->at += 2;
            c = byte;
        } else if (c == '\\' && !take(in, "\\\\")) {
            return FALSE;
        }
        if (c <= 0) {
            return FALSE;
        }
        g_string_append_c(text, (char)c);
    }
    if (!take(in, "\"") || text->len - *offset > max) {
        return FALSE;
    }
    g_string_append_c(text, '\0');
    return TRUE;
}

static const char *parse_header(struct input *in, struct manifest_line *line)
{
    gsize size, tree;
    guint64 version;

    if (!take(in, ",\"version\":") || !take_number(in, G_MAXUINT32, &version)) {
        return "its version is missing";
    }
    line->version = (gint64)version;
    if (version != MANIFEST_VERSION) {
        return NULL;
    }
    if (!take(in, ",\"store\":\"") || !take_hex(in, line->header.store, 16, &size) || size != 16 ||
        !take(in, "\"")) {
        return "store is no uuid";
    }
    if (!take(in, ",\"tree\":") || !take_name(in, line->text, MANIFEST_PATH_MAX, &tree)) {
        return "tree is no path";
    }
    line->header.tree = line->text->str + tree;
    return take(in, ",\"time\":") && take_signed(in, &line->header.time) ? NULL : "time is no time";
}

static const char *parse_fs(struct input *in, struct manifest_line *line)
{
    struct manifest_fs *fs = &line->fs;
    gsize size, offset;

    memset(fs, 0, sizeof *fs);
    if (!take(in, ",\"n\":") || !take_u32(in, &fs->n) || !take(in, ",\"fs\":") ||
        !take_u32(in, &fs->fs)) {
        return "n or fs is no number";
    }
    if (!take(in, ",\"identity\":\"")) {
        return "identity is missing";
    }
    if (in->at < in->end && *in->at != '"') {
        if (!take_u32(in, &fs->fsid.kind) || fs->fsid.kind == 0 || !take(in, ":") ||
            !take_hex(in, fs->fsid.bytes, QIDMAP_FSID_BYTES, &size) || size == 0) {
            return "identity is wrong";
        }
        fs->fsid.size = (guint32)size;
    }
    if (!take(in, "\",\"type\":") || !take_name(in, line->text, sizeof fs->type - 1, &offset)) {
        return "type is no name";
    }
    g_strlcpy(fs->type, line->text->str + offset, sizeof fs->type);
    if (!take(in, ",\"path\":") || !take_name(in, line->text, MANIFEST_PATH_MAX, &offset)) {
        return "path is no path";
    }
    fs->path = line->text->str + offset;
    return NULL;
}

static gboolean take_type(struct input *in, enum manifest_type *type)
{
    for (gsize i = 0; i < G_N_ELEMENTS(type_names); i++) {
        if (take(in, type_names[i])) {
            *type = (enum manifest_type)i;
            return take(in, "\"");
        }
    }
    return FALSE;
}

/* The members that not every file has. */
static const char *parse_rest(struct input *in, struct manifest_file *file)
{
    if (take(in, ",\"links\":") &&
        (!take_u32(in, &file->links) || file->links < 2 || file->type == MANIFEST_DIR ||
         !take(in, ",\"link\":\"") || !take_number(in, G_MAXUINT64, &file->link) ||
         !take(in, "\""))) {
        return "links or link is wrong";
    }
    file->unread = take(in, ",\"unread\":true");
    return file->unread && file->type != MANIFEST_DIR ? "unread is for directories" : NULL;
}

static const char *parse_file(struct input *in, struct manifest_line *line)
{
    struct manifest_file *file = &line->file;
    gsize path;

    *file = (struct manifest_file){.links = 1};
    if (!take(in, ",\"path\":") || !take_name(in, line->text, MANIFEST_PATH_MAX, &path)) {
        return "path is no path";
    }
    file->path = line->text->str + path;
    if (!take(in, ",\"type\":\"") || !take_type(in, &file->type)) {
        return "type is not known";
    }
    if (file->type == MANIFEST_UNKNOWN) {
        return NULL;
    }
    if (!take(in, ",\"fs\":") || !take_u32(in, &file->fs)) {
        return "fs is no number";
    }
    if (take(in, ",\"id\":\"") && (!take_number(in, MANIFEST_ID_END - 1, &file->id) ||
                                   file->id < MANIFEST_ID_MIN || !take(in, "\""))) {
        return "id is out of its range";
    }
    if (!take(in, ",\"size\":\"") || !take_number(in, G_MAXUINT64, &file->size)) {
        return "size is no number";
    }
    guint64 ns;
    if (!take(in, "\",\"mtime\":\"") || !take_signed(in, &file->mtime_s) || !take(in, ".") ||
        !take_number(in, 999999999, &ns) || !take(in, "\"")) {
        return "mtime is no time";
    }
    file->mtime_ns = (guint32)ns;
    return parse_rest(in, file);
}

static const char *parse_end(struct input *in, struct manifest_line *line)
{
    gsize size;
    gboolean good = take(in, ",\"files\":\"") && take_number(in, G_MAXUINT64, &line->end.files) &&
                    take(in, "\",\"ids\":\"") && take_number(in, G_MAXUINT64, &line->end.ids) &&
                    take(in, "\",\"unread\":\"") &&
                    take_number(in, G_MAXUINT64, &line->end.unread) &&
                    take(in, "\",\"xxh3_128\":\"") && take_hex(in, line->sum, 16, &size) &&
                    size == 16 && take(in, "\"");
    return good ? NULL : "the last line is wrong";
}

static const char *parse_row(struct input *in, struct manifest_line *line, GString *again)
{
    const char *wrong;

    if (take(in, "{\"row\":\"file\"")) {
        line->row = MANIFEST_ROW_FILE;
        wrong = parse_file(in, line);
        if (wrong == NULL) {
            manifest_line_file(again, &line->file);
        }
    } else if (take(in, "{\"row\":\"fs\"")) {
        line->row = MANIFEST_ROW_FS;
        wrong = parse_fs(in, line);
        if (wrong == NULL) {
            manifest_line_fs(again, &line->fs);
        }
    } else if (take(in, "{\"row\":\"end\"")) {
        line->row = MANIFEST_ROW_END;
        wrong = parse_end(in, line);
        if (wrong == NULL) {
            manifest_line_end(again, &line->end, line->sum);
        }
    } else if (take(in, "{\"row\":\"manifest\"")) {
        line->row = MANIFEST_ROW_HEADER;
        wrong = parse_header(in, line);
        if (wrong == NULL && line->version == MANIFEST_VERSION) {
            manifest_line_header(again, &line->header);
        }
    } else {
        wrong = "it is no line of a manifest";
    }
    return wrong;
}

const char *manifest_line_parse(const char *bytes, gsize size, struct manifest_line *line,
                                GString *again)
{
    struct input in = {bytes, bytes + size};

    /* strings are taken by address while the text grows: it must not move */
    g_string_set_size(line->text, size + 8);
    g_string_truncate(line->text, 0);
    g_string_truncate(again, 0);
    const char *wrong = parse_row(&in, line, again);
    if (wrong != NULL || (line->row == MANIFEST_ROW_HEADER && line->version != MANIFEST_VERSION)) {
        return wrong;
    }
    return again->len == size + 1 && memcmp(again->str, bytes, size) == 0
               ? NULL
               : "it is not written as a manifest is";
}
