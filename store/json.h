/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Flat JSON objects, one in a line, as dumps are made of: members are strings, integers or
 * booleans. The reader is strict: a line is exactly one object, a member stands in it once, and
 * everything that RFC 8259 does not allow is refused.
 *
 * Not json-glib: it brings GObject into the library, builds a tree for each of ten million lines,
 * and takes duplicate members and broken UTF-8 without a word.
 */
#ifndef QM_JSON_H
#define QM_JSON_H

#include <glib.h>

/* ---- writing: appends to a string -------------------------------------------------------------
 */

/* The names of members are ours, and need no escapes. Every member but the first brings its comma.
 */
void qm_json_begin(GString *out);
void qm_json_end(GString *out);                                          /* with the newline */
void qm_json_string(GString *out, const char *member, const char *text); /* text: plain ASCII */
void qm_json_u64(GString *out, const char *member, guint64 number);      /* a decimal string */
void qm_json_int(GString *out, const char *member, gint64 number);
void qm_json_bool(GString *out, const char *member, gboolean value);
void qm_json_hex(GString *out, const char *member, const void *bytes, gsize size);
/* A name of the host: bytes without NUL. A backslash is doubled and a byte that is no part of valid
 * UTF-8 becomes \xHH, before the quoting of JSON. */
void qm_json_name(GString *out, const char *member, const char *name);

/* ---- reading -----------------------------------------------------------------------------------
 */

#define QM_JSON_MEMBERS 48

enum qm_json_kind { QM_JSON_STRING, QM_JSON_INT, QM_JSON_BOOL };

struct qm_json_member {
    const char *name; /* in `text` of the object, terminated */
    const char *text; /* STRING: decoded, terminated, without NUL inside */
    gint64 number;    /* INT, BOOL */
    enum qm_json_kind kind;
    gboolean taken;
};

struct qm_json {
    struct qm_json_member member[QM_JSON_MEMBERS];
    guint count;
    const char *wrong; /* the first member that was missing or did not fit */
    GString *text;     /* what the members point into */
};

void qm_json_init(struct qm_json *json);
void qm_json_clear(struct qm_json *json);

/* Reads a line without its newline. FALSE: it is no flat object; *why says what is wrong (static).
 */
gboolean qm_json_parse(struct qm_json *json, const char *line, gsize size, const char **why);

/* Take members. Where one is missing or does not fit, `wrong` is set and something harmless comes
 * back. */
const char *qm_json_take_string(struct qm_json *json, const char *member);
guint64 qm_json_take_u64(struct qm_json *json, const char *member); /* decimal string */
gint64 qm_json_take_int(struct qm_json *json, const char *member, gint64 min, gint64 max);
gboolean qm_json_take_bool(struct qm_json *json, const char *member);
/* Lower-case hex; returns the number of bytes, `room` at most and 1 at least. */
gsize qm_json_take_hex(struct qm_json *json, const char *member, guint8 *bytes, gsize room);
void qm_json_take_name(struct qm_json *json, const char *member, char *name, gsize room);

/* Whether everything was there, fitted, and nothing else is; `wrong` names the culprit. */
gboolean qm_json_all_taken(struct qm_json *json);

/* Strict conversions, for parts of strings. */
gboolean qm_json_decimal(const char *text, guint64 *number);
gboolean qm_json_unhex(const char *text, gsize digits, guint8 *bytes);

#endif
