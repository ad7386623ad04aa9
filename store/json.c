/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writer and reader of flat JSON lines; see json.h. Knows nothing of stores. */
#include "config.h"

#include "store/json.h"

#include <string.h>

/* ---- writing -----------------------------------------------------------------------------------
 */

static const char digits[] = "0123456789abcdef";

void qm_json_begin(GString *out)
{
    g_string_append_c(out, '{');
}

void qm_json_end(GString *out)
{
    g_string_append(out, "}\n");
}

static void member_name(GString *out, const char *member)
{
    if (out->len > 0 && out->str[out->len - 1] != '{')
        g_string_append_c(out, ',');
    g_string_append_c(out, '"');
    g_string_append(out, member);
    g_string_append(out, "\":");
}

void qm_json_string(GString *out, const char *member, const char *text)
{
    member_name(out, member);
    g_string_append_c(out, '"');
    g_string_append(out, text);
    g_string_append_c(out, '"');
}

/* Millions of them are written: printf would be most of the work. */
static char *decimal(char *end, guint64 number)
{
    do
        *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

void qm_json_u64(GString *out, const char *member, guint64 number)
{
    char text[24];

    text[23] = '\0';
    qm_json_string(out, member, decimal(text + 23, number));
}

void qm_json_int(GString *out, const char *member, gint64 number)
{
    char text[24];

    text[23] = '\0';
    member_name(out, member);
    if (number < 0)
        g_string_append_c(out, '-');
    g_string_append(out, decimal(text + 23, number < 0 ? -(guint64)number : (guint64)number));
}

void qm_json_bool(GString *out, const char *member, gboolean value)
{
    member_name(out, member);
    g_string_append(out, value ? "true" : "false");
}

void qm_json_hex(GString *out, const char *member, const void *bytes, gsize size)
{
    const guint8 *p = bytes;
    gsize i;

    member_name(out, member);
    g_string_append_c(out, '"');
    for (i = 0; i < size; i++) {
        g_string_append_c(out, digits[p[i] >> 4]);
        g_string_append_c(out, digits[p[i] & 15]);
    }
    g_string_append_c(out, '"');
}

void qm_json_name(GString *out, const char *member, const char *name)
{
    member_name(out, member);
    g_string_append_c(out, '"');
    while (*name) {
        gunichar c = g_utf8_get_char_validated(name, -1);
        const guint8 byte = (guint8)*name;

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append(out, "\\\\x");
            g_string_append_c(out, digits[byte >> 4]);
            g_string_append_c(out, digits[byte & 15]);
            name++;
        } else if (c == '\\') {
            g_string_append(out, "\\\\\\\\"); /* the name's escape, then that of JSON */
            name++;
        } else if (c == '"') {
            g_string_append(out, "\\\"");
            name++;
        } else if (c < 0x20 || c == 0x7f) {
            g_string_append(out, "\\u00");
            g_string_append_c(out, digits[byte >> 4]);
            g_string_append_c(out, digits[byte & 15]);
            name++;
        } else {
            const char *end = g_utf8_next_char(name);

            g_string_append_len(out, name, end - name);
            name = end;
        }
    }
    g_string_append_c(out, '"');
}

/* ---- reading -----------------------------------------------------------------------------------
 */

void qm_json_init(struct qm_json *json)
{
    memset(json, 0, sizeof(*json));
    json->text = g_string_sized_new(1024);
}

void qm_json_clear(struct qm_json *json)
{
    g_string_free(json->text, TRUE);
    json->text = NULL;
}

struct reader {
    const char *p, *end;
    GString *text;
    const char *why;
};

static gboolean fail(struct reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
    return FALSE;
}

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
        r->p++;
}

static gboolean expect(struct reader *r, char c, const char *why)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c)
        return fail(r, why);
    r->p++;
    return TRUE;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static gboolean unit(struct reader *r, gunichar *c)
{
    int i;

    *c = 0;
    for (i = 0; i < 4; i++) {
        int digit = r->p < r->end ? hex_digit((char)g_ascii_tolower(*r->p)) : -1;

        if (digit < 0)
            return fail(r, "an escape that is none");
        *c = *c << 4 | (gunichar)digit;
        r->p++;
    }
    return TRUE;
}

static gboolean escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;
    gunichar c, low;

    if (r->p == r->end)
        return fail(r, "a string without end");
    at = *r->p ? strchr(from, *r->p) : NULL;
    if (at) {
        g_string_append_c(r->text, to[at - from]);
        r->p++;
        return TRUE;
    }
    if (*r->p++ != 'u')
        return fail(r, "an escape that is none");
    if (!unit(r, &c))
        return FALSE;
    if (c >= 0xd800 && c < 0xdc00) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return fail(r, "half of a surrogate pair");
        r->p += 2;
        if (!unit(r, &low))
            return FALSE;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return fail(r, "half of a surrogate pair");
    }
    if (c == 0)
        return fail(r, "a NUL in a string");
    g_string_append_unichar(r->text, c);
    return TRUE;
}

/* A string, decoded and terminated at the end of r->text; *at is its offset there. */
static gboolean string(struct reader *r, gsize *at)
{
    if (!expect(r, '"', "no string where one should be"))
        return FALSE;
    *at = r->text->len;
    for (;;) {
        const char *begin = r->p;

        while (r->p < r->end && *r->p != '"' && *r->p != '\\') {
            if ((guint8)*r->p < 0x20)
                return fail(r, "a control character in a string");
            r->p++;
        }
        if (!g_utf8_validate(begin, r->p - begin, NULL))
            return fail(r, "bytes that are not UTF-8");
        g_string_append_len(r->text, begin, r->p - begin);
        if (r->p == r->end)
            return fail(r, "a string without end");
        if (*r->p++ == '"')
            break;
        if (!escape(r))
            return FALSE;
    }
    g_string_append_c(r->text, '\0');
    return TRUE;
}

static gboolean integer(struct reader *r, gint64 *number)
{
    gboolean minus = *r->p == '-';
    guint64 value = 0;
    const char *first;

    if (minus)
        r->p++;
    first = r->p;
    while (r->p < r->end && g_ascii_isdigit(*r->p)) {
        guint64 digit = (guint64)(*r->p++ - '0');

        if (value > (G_MAXINT64 - digit) / 10)
            return fail(r, "a number that is too large");
        value = value * 10 + digit;
    }
    if (r->p == first || (*first == '0' && (r->p > first + 1 || minus)))
        return fail(r, "a number that is none");
    *number = minus ? -(gint64)value : (gint64)value;
    return TRUE;
}

static gboolean word(struct reader *r, const char *text)
{
    gsize size = strlen(text);

    if ((gsize)(r->end - r->p) < size || memcmp(r->p, text, size) != 0)
        return FALSE;
    r->p += size;
    return TRUE;
}

/* Members point into the text by offset until all of it stands still. */
static gboolean value(struct reader *r, struct qm_json_member *m, gsize *at)
{
    skip_space(r);
    if (r->p == r->end)
        return fail(r, "the line ends too early");
    if (*r->p == '"') {
        m->kind = QM_JSON_STRING;
        return string(r, at);
    }
    if (*r->p == '-' || g_ascii_isdigit(*r->p)) {
        m->kind = QM_JSON_INT;
        return integer(r, &m->number);
    }
    m->kind = QM_JSON_BOOL;
    m->number = word(r, "true");
    if (m->number || word(r, "false"))
        return TRUE;
    return fail(r, "a value of a kind that dumps do not have");
}

gboolean qm_json_parse(struct qm_json *json, const char *line, gsize size, const char **why)
{
    struct reader r = {line, line + size, json->text, NULL};
    gsize name[QM_JSON_MEMBERS], text[QM_JSON_MEMBERS];
    guint i, j;

    json->count = 0;
    json->wrong = NULL;
    g_string_truncate(json->text, 0);
    if (expect(&r, '{', "no object in this line")) {
        do {
            struct qm_json_member *m = &json->member[json->count];

            if (json->count == QM_JSON_MEMBERS) {
                fail(&r, "too many members");
                break;
            }
            memset(m, 0, sizeof(*m));
            text[json->count] = 0;
            if (!string(&r, &name[json->count]) || !expect(&r, ':', "no colon") ||
                !value(&r, m, &text[json->count]))
                break;
            json->count++;
            skip_space(&r);
        } while (r.p < r.end && *r.p == ',' && r.p++);
    }
    if (!r.why)
        expect(&r, '}', "the object has no end");
    skip_space(&r);
    if (!r.why && r.p != r.end)
        fail(&r, "something behind the object");
    for (i = 0; !r.why && i < json->count; i++) {
        json->member[i].name = json->text->str + name[i];
        json->member[i].text = json->text->str + text[i];
        for (j = 0; j < i; j++) {
            if (strcmp(json->member[i].name, json->member[j].name) == 0)
                fail(&r, "a member that is there twice");
        }
    }
    *why = r.why;
    return r.why == NULL;
}

static void wrong(struct qm_json *json, const char *member)
{
    if (!json->wrong)
        json->wrong = member;
}

static struct qm_json_member *take(struct qm_json *json, const char *member, enum qm_json_kind kind)
{
    guint i;

    for (i = 0; i < json->count; i++) {
        struct qm_json_member *m = &json->member[i];

        if (strcmp(m->name, member) == 0 && m->kind == kind) {
            m->taken = TRUE;
            return m;
        }
    }
    wrong(json, member);
    return NULL;
}

const char *qm_json_take_string(struct qm_json *json, const char *member)
{
    const struct qm_json_member *m = take(json, member, QM_JSON_STRING);

    return m ? m->text : "";
}

gboolean qm_json_decimal(const char *text, guint64 *number)
{
    guint64 result = 0;
    const char *p;

    if (!*text || (text[0] == '0' && text[1]))
        return FALSE;
    for (p = text; *p; p++) {
        guint64 digit = (guint64)(*p - '0');

        if (!g_ascii_isdigit(*p) || result > (G_MAXUINT64 - digit) / 10)
            return FALSE;
        result = result * 10 + digit;
    }
    *number = result;
    return TRUE;
}

guint64 qm_json_take_u64(struct qm_json *json, const char *member)
{
    const struct qm_json_member *m = take(json, member, QM_JSON_STRING);
    guint64 number = 0;

    if (m && !qm_json_decimal(m->text, &number))
        wrong(json, member);
    return number;
}

gint64 qm_json_take_int(struct qm_json *json, const char *member, gint64 min, gint64 max)
{
    const struct qm_json_member *m = take(json, member, QM_JSON_INT);

    if (m && m->number >= min && m->number <= max)
        return m->number;
    wrong(json, member);
    return min;
}

gboolean qm_json_take_bool(struct qm_json *json, const char *member)
{
    const struct qm_json_member *m = take(json, member, QM_JSON_BOOL);

    return m && m->number;
}

gboolean qm_json_unhex(const char *text, gsize count, guint8 *bytes)
{
    gsize i;

    for (i = 0; i < count; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            return FALSE;
        bytes[i / 2] = (guint8)(i % 2 ? bytes[i / 2] | digit : digit << 4);
    }
    return count % 2 == 0;
}

gsize qm_json_take_hex(struct qm_json *json, const char *member, guint8 *bytes, gsize room)
{
    const char *text = qm_json_take_string(json, member);
    gsize count = strlen(text);

    if (count == 0 || count > room * 2 || !qm_json_unhex(text, count, bytes)) {
        wrong(json, member);
        return 0;
    }
    return count / 2;
}

void qm_json_take_name(struct qm_json *json, const char *member, char *name, gsize room)
{
    const char *text = qm_json_take_string(json, member);
    gsize size = 0;

    while (*text) {
        guint8 byte = (guint8)*text++;

        if (size + 1 >= room) {
            wrong(json, member);
            break;
        }
        if (byte == '\\' && *text == '\\') {
            text++;
        } else if (byte == '\\') {
            if (text[0] != 'x' || hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0) {
                wrong(json, member);
                break;
            }
            byte = (guint8)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
            text += 3;
            if (byte < 0x80) { /* a part of valid UTF-8, which is never written so */
                wrong(json, member);
                break;
            }
        }
        name[size++] = (char)byte;
    }
    name[size] = '\0';
}

gboolean qm_json_all_taken(struct qm_json *json)
{
    guint i;

    for (i = 0; i < json->count && !json->wrong; i++) {
        if (!json->member[i].taken)
            json->wrong = json->member[i].name;
    }
    return json->wrong == NULL;
}
