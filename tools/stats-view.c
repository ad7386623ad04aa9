/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See stats-view.h. Percentiles of the time between two states come from the difference of their
 * buckets, each of which is at most a quarter wide.
 *
 * Names of peers, users and exports are what clients sent: no byte of them acts on the terminal.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/stats-source.h"
#include "tools/stats-view.h"

#define NAME_COLUMNS 28

/* ---- numbers --------------------------------------------------------------------------------- */

struct view {
    JsonObject *now, *then;
    double seconds; /* between the two; 0: there is no `then` */
    guint columns;
    GPtrArray *lines;
};

static guint64 grown(JsonObject *now, JsonObject *then, const char *member)
{
    guint64 a = daemon_u64(now, member), b = then != NULL ? daemon_u64(then, member) : 0;
    return a > b ? a - b : 0;
}

/* "12.3k": at most six columns. */
static const char *short_number(char text[16], double number)
{
    static const char units[] = " kMGTPE";
    guint unit = 0;

    while (number >= 99999.5 / (unit > 0 ? 100 : 1) && unit + 2 < sizeof units) {
        number /= 1000;
        unit++;
    }
    if (unit > 0) {
        g_snprintf(text, 16, number < 99.95 ? "%.1f%c" : "%.0f%c", number, units[unit]);
    } else {
        gboolean whole = number >= 9.95 || number == (double)(guint)number;
        g_snprintf(text, 16, whole ? "%.0f" : "%.1f", number);
    }
    return text;
}

static const char *short_bytes(char text[16], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    guint unit = 0;

    while (bytes >= 1023.5 && unit + 1 < G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    g_snprintf(text, 16, unit > 0 && bytes < 99.95 ? "%.1f%s" : "%.0f%s", bytes, units[unit]);
    return text;
}

static const char *short_time(char text[16], double nanoseconds)
{
    if (nanoseconds < 999.5) {
        g_snprintf(text, 16, "%.0fns", nanoseconds);
    } else if (nanoseconds < 999.5e3) {
        g_snprintf(text, 16, nanoseconds < 99.95e3 ? "%.1fus" : "%.0fus", nanoseconds / 1e3);
    } else if (nanoseconds < 999.5e6) {
        g_snprintf(text, 16, nanoseconds < 99.95e6 ? "%.1fms" : "%.0fms", nanoseconds / 1e6);
    } else {
        g_snprintf(text, 16, "%.1fs", nanoseconds / 1e9);
    }
    return text;
}

/* What one message did in the time that is looked at. */
struct message {
    const char *name;
    guint64 count, errors, bytes_in, bytes_out, nanoseconds, slowest;
    guint64 percentile[3]; /* 50, 90, 99 */
};

/* Buckets that are not empty, ascending; how many of `then` fell into the one that ends at `to`. */
static guint64 bucket_then(JsonArray *then, const char *to)
{
    JsonObject *bucket = stats_lookup(then, "to", to);
    return bucket != NULL ? daemon_u64(bucket, "count") : 0;
}

static void fill_percentiles(struct message *m, JsonObject *now, JsonObject *then)
{
    static const guint percent[] = {50, 90, 99};
    JsonArray *buckets = stats_array(now, "buckets"), *before = stats_array(then, "buckets");
    guint n = buckets != NULL ? json_array_get_length(buckets) : 0, which = 0;
    guint64 seen = 0, end = 0;

    m->slowest = 0;
    for (guint i = 0; i < n; i++) {
        JsonObject *bucket = stats_element(buckets, i);
        if (bucket == NULL) {
            continue;
        }
        guint64 count = daemon_u64(bucket, "count");
        guint64 old = bucket_then(before, daemon_text(bucket, "to"));
        if (count <= old) {
            continue;
        }
        seen += count - old;
        end = MIN(daemon_u64(bucket, "to"), daemon_u64(now, "slowest"));
        while (which < 3 && (double)seen * 100 >= (double)m->count * percent[which]) {
            m->percentile[which++] = end;
        }
    }
    m->slowest = end;
}

static int busier(gconstpointer a, gconstpointer b)
{
    const struct message *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->name, y->name);
}

static GArray *messages_of(const struct view *v)
{
    GArray *messages = g_array_new(FALSE, TRUE, sizeof(struct message));
    JsonArray *now = stats_array(v->now, "messages"), *then = stats_array(v->then, "messages");
    guint n = now != NULL ? json_array_get_length(now) : 0;

    for (guint i = 0; i < n; i++) {
        JsonObject *object = stats_element(now, i);
        if (object == NULL) {
            continue;
        }
        struct message m = {.name = daemon_text(object, "message")};
        JsonObject *before = stats_lookup(then, "message", m.name);
        m.count = grown(object, before, "requests");
        m.errors = grown(object, before, "errors");
        m.bytes_in = grown(object, before, "bytes_in");
        m.bytes_out = grown(object, before, "bytes_out");
        m.nanoseconds = grown(object, before, "nanoseconds");
        fill_percentiles(&m, object, before);
        g_array_append_val(messages, m);
    }
    g_array_sort(messages, busier);
    return messages;
}

/* ---- lines ----------------------------------------------------------------------------------- */

char *stats_fit(const char *text, guint columns)
{
    g_autofree char *clean = cmd_terminal(text);
    const char *p = clean;
    guint used = 0;

    while (columns > 0 && *p != '\0') {
        gunichar c = g_utf8_get_char(p);
        used += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
        if (used > columns) {
            return g_strndup(clean, (gsize)(p - clean));
        }
        p = g_utf8_next_char(p);
    }
    return g_steal_pointer(&clean);
}

static void add(struct view *v, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void add(struct view *v, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(v->lines, stats_fit(text, v->columns));
}

/* A name in just so many columns. */
static char *in_columns(const char *name, guint columns)
{
    g_autofree char *cut = stats_fit(name, columns);
    GString *out = g_string_new(cut);
    guint used = 0;

    for (const char *p = cut; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        used += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    for (; used < columns; used++) {
        g_string_append_c(out, ' ');
    }
    return g_string_free(out, FALSE);
}

/* For people: of the time between, for each second; of all the time, as it is. */
static double per(const struct view *v, guint64 number)
{
    return v->seconds > 0 ? (double)number / v->seconds : (double)number;
}

static void add_head(struct view *v)
{
    const char *each = v->seconds > 0 ? "/s" : "";
    JsonObject *held = stats_object(v->now, "held");
    char a[16], b[16], c[16], d[16];

    add(v,
        "qidmapd %s, pid %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT " sessions, %" G_GUINT64_FORMAT
        " ended%s",
        daemon_text(v->now, "version"), daemon_u64(v->now, "pid"),
        daemon_u64(v->now, "sessions_now"), daemon_u64(v->now, "sessions_ended"),
        v->seconds > 0 ? "" : "; all that it did so far");
    add(v, "requests  %s%s, errors %s%s, in %s%s, out %s%s",
        short_number(a, per(v, grown(v->now, v->then, "requests"))), each,
        short_number(b, per(v, grown(v->now, v->then, "errors"))), each,
        short_bytes(c, per(v, grown(v->now, v->then, "bytes_in"))), each,
        short_bytes(d, per(v, grown(v->now, v->then, "bytes_out"))), each);
    if (held != NULL) {
        add(v, "held      %s fids, %s requests, %s files, %s locks, %s",
            short_number(a, (double)daemon_u64(held, "fids")),
            short_number(b, (double)daemon_u64(held, "requests")),
            short_number(c, (double)daemon_u64(held, "files")),
            short_number(d, (double)daemon_u64(held, "locks")),
            short_bytes((char[16]){0}, (double)daemon_u64(held, "memory")));
    }
}

static void add_map(struct view *v)
{
    JsonObject *now = stats_object(v->now, "map"), *then = stats_object(v->then, "map");
    JsonArray *stores = stats_array(v->now, "stores"), *before = stats_array(v->then, "stores");
    const char *each = v->seconds > 0 ? "/s" : "";
    guint n = stores != NULL ? json_array_get_length(stores) : 0;
    char a[16], b[16], c[16], d[16];

    if (now != NULL) {
        guint64 asked = grown(now, then, "lookups"), hits = grown(now, then, "hits");
        add(v, "map       %s%s ids asked for, %.2f %% known, %s%s new mappings",
            short_number(a, per(v, asked)), each,
            asked > 0 ? (double)MIN(hits, asked) * 100 / (double)asked : 100.0,
            short_number(b, per(v, grown(now, then, "new_mappings"))), each);
    }
    for (guint i = 0; i < n; i++) {
        JsonObject *store = stats_element(stores, i);
        if (store == NULL) {
            continue;
        }
        const char *trouble = daemon_text(store, "trouble");
        JsonObject *old = stats_lookup(before, "store", daemon_text(store, "store"));
        guint64 commits = grown(store, old, "commits");
        guint64 took = grown(store, old, "commit_nanoseconds");
        add(v, "store     %s: %s%s new, %s%s commits, mean %s, slowest ever %s",
            daemon_text(store, "store"), short_number(a, per(v, grown(store, old, "new_mappings"))),
            each, short_number(b, per(v, commits)), each,
            commits > 0 ? short_time(c, (double)took / (double)commits) : "-",
            short_time(d, (double)daemon_u64(store, "commit_slowest")));
        if (trouble[0] != '\0') {
            add(v, "trouble   %s", trouble);
        }
    }
}

static void add_messages(struct view *v, guint rows)
{
    g_autoptr(GArray) messages = messages_of(v);
    char t[8][16];

    add(v, "%-14s %8s %7s %8s %8s %8s %8s %8s %9s %9s", "MESSAGE",
        v->seconds > 0 ? "EACH s" : "COUNT", "ERRORS", "MEAN", "50%", "90%", "99%", "SLOWEST", "IN",
        "OUT");
    for (guint i = 0; i < messages->len && (rows == 0 || i < rows); i++) {
        const struct message *m = &g_array_index(messages, struct message, i);
        if (m->count == 0) {
            break;
        }
        add(v, "%-14s %8s %7s %8s %8s %8s %8s %8s %9s %9s", m->name,
            short_number(t[0], per(v, m->count)), short_number(t[1], per(v, m->errors)),
            short_time(t[2], (double)m->nanoseconds / (double)m->count),
            short_time(t[3], (double)m->percentile[0]), short_time(t[4], (double)m->percentile[1]),
            short_time(t[5], (double)m->percentile[2]), short_time(t[6], (double)m->slowest),
            short_bytes(t[7], per(v, m->bytes_in)),
            short_bytes((char[16]){0}, per(v, m->bytes_out)));
    }
}

struct session {
    JsonObject *now, *then;
    guint64 count;
};

static int busier_session(gconstpointer a, gconstpointer b)
{
    const struct session *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

/* Who is attached, to what: "user@export". */
static char *users_of(JsonObject *session)
{
    JsonArray *users = stats_array(session, "attached");
    guint n = users != NULL ? json_array_get_length(users) : 0;
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < n; i++) {
        JsonObject *user = stats_element(users, i);
        if (user == NULL) {
            continue;
        }
        const char *name = daemon_text(user, "name");
        g_string_append(out, i > 0 ? " " : "");
        if (name[0] != '\0') {
            g_string_append(out, name);
        } else {
            g_string_append_printf(out, "%" G_GUINT64_FORMAT, daemon_u64(user, "uid"));
        }
        g_string_append_printf(out, "@%s", daemon_text(user, "export"));
    }
    return g_string_free(out, FALSE);
}

static void add_sessions(struct view *v, guint rows)
{
    g_autoptr(GArray) sessions = g_array_new(FALSE, TRUE, sizeof(struct session));
    g_autoptr(GHashTable) before = g_hash_table_new(g_str_hash, g_str_equal);
    JsonArray *now = stats_array(v->now, "sessions"), *then = stats_array(v->then, "sessions");
    guint n = now != NULL ? json_array_get_length(now) : 0;
    char t[6][16];

    for (guint i = 0; then != NULL && i < json_array_get_length(then); i++) {
        JsonObject *object = stats_element(then, i);
        if (object != NULL) {
            g_hash_table_insert(before, (char *)daemon_text(object, "session"), object);
        }
    }
    for (guint i = 0; i < n; i++) {
        struct session s = {.now = stats_element(now, i)};
        if (s.now != NULL) {
            s.then = g_hash_table_lookup(before, daemon_text(s.now, "session"));
            s.count = grown(s.now, s.then, "requests");
            g_array_append_val(sessions, s);
        }
    }
    g_array_sort(sessions, busier_session);
    g_autofree char *who = in_columns("PEER", NAME_COLUMNS);
    add(v, "%-8s %s %8s %7s %9s %9s %6s %6s %6s %s", "SESSION", who,
        v->seconds > 0 ? "EACH s" : "COUNT", "ERRORS", "IN", "OUT", "FIDS", "FILES", "LOCKS",
        "ATTACHED");
    for (guint i = 0; i < sessions->len && (rows == 0 || i < rows); i++) {
        const struct session *s = &g_array_index(sessions, struct session, i);
        g_autofree char *peer = in_columns(daemon_text(s->now, "peer"), NAME_COLUMNS);
        g_autofree char *users = users_of(s->now);
        add(v, "%-8s %s %8s %7s %9s %9s %6s %6s %6s %s", daemon_text(s->now, "session"), peer,
            short_number(t[0], per(v, s->count)),
            short_number(t[1], per(v, grown(s->now, s->then, "errors"))),
            short_bytes(t[2], per(v, grown(s->now, s->then, "bytes_in"))),
            short_bytes(t[3], per(v, grown(s->now, s->then, "bytes_out"))),
            short_number(t[4], (double)daemon_u64(s->now, "fids")),
            short_number(t[5], (double)daemon_u64(s->now, "files")),
            short_number((char[16]){0}, (double)daemon_u64(s->now, "locks")), users);
    }
}

GPtrArray *stats_view(JsonObject *now, JsonObject *then, guint columns, guint rows)
{
    struct view v = {.now = now, .columns = columns};
    guint left = 0;

    if (then != NULL && daemon_u64(then, "pid") == daemon_u64(now, "pid")) {
        v.then = then;
        v.seconds = (double)grown(now, then, "clock") / 1e9;
        if (v.seconds <= 0) {
            v.then = NULL;
        }
    }
    v.lines = g_ptr_array_new_with_free_func(g_free);
    add_head(&v);
    add_map(&v);
    add(&v, " ");
    if (rows > 0) {
        left = rows > v.lines->len + 3 ? rows - v.lines->len - 3 : 1;
    }
    add_messages(&v, rows > 0 ? MAX(left / 2, 1) : 0);
    add(&v, " ");
    if (rows > 0) {
        left = rows > v.lines->len + 1 ? rows - v.lines->len - 1 : 1;
    }
    add_sessions(&v, left);
    if (rows > 0 && v.lines->len > rows) {
        g_ptr_array_set_size(v.lines, (gint)rows);
    }
    return v.lines;
}
