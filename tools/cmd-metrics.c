/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl metrics`: the statistics of a daemon in the text format of Prometheus, whole or not at
 * all, without times: what a textfile collector wants. The names and their meaning are part of
 * qidmapctl(8); they never change.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "tools/daemon.h"
#include "tools/stats-source.h"

/* The bounds of the histogram in nanoseconds: powers of four, on which buckets of the daemon end.
 */
#define FIRST_BOUND ((guint64)1 << 10)
#define BOUNDS      14 /* up to 2^36 ns, 69 s */

static char *label_value(const char *text)
{
    GString *out = g_string_new(NULL);

    for (; *text != '\0'; text++) {
        switch (*text) {
        case '\\':
            g_string_append(out, "\\\\");
            break;
        case '"':
            g_string_append(out, "\\\"");
            break;
        case '\n':
            g_string_append(out, "\\n");
            break;
        default:
            g_string_append_c(out, *text);
        }
    }
    return g_string_free(out, FALSE);
}

static void head(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Exactly, whatever the locale. */
static void append_seconds(GString *out, guint64 nanoseconds)
{
    const guint64 second = 1000000000;
    gsize end;

    g_string_append_printf(out, "%" G_GUINT64_FORMAT ".%09" G_GUINT64_FORMAT, nanoseconds / second,
                           nanoseconds % second);
    for (end = out->len; out->str[end - 1] == '0' && out->str[end - 2] != '.'; end--)
        continue;
    g_string_truncate(out, end);
}

/* A metric without labels. */
static void single(GString *out, const char *name, const char *type, const char *help,
                   guint64 value)
{
    head(out, name, type, help);
    g_string_append_printf(out, "%s %" G_GUINT64_FORMAT "\n", name, value);
}

/* One metric with a sample for each element of `array`, labelled by its member `key`. */
static void each(GString *out, const char *name, const char *type, const char *help,
                 JsonArray *array, const char *label, const char *key, const char *member,
                 gboolean seconds)
{
    guint n = array != NULL ? json_array_get_length(array) : 0;

    head(out, name, type, help);
    for (guint i = 0; i < n; i++) {
        JsonObject *object = stats_element(array, i);
        g_autofree char *value = label_value(object != NULL ? daemon_text(object, key) : "");
        if (object == NULL) {
            continue;
        }
        g_string_append_printf(out, "%s{%s=\"%s\"} ", name, label, value);
        if (seconds) {
            append_seconds(out, daemon_u64(object, member));
            g_string_append_c(out, '\n');
        } else {
            g_string_append_printf(out, "%" G_GUINT64_FORMAT "\n", daemon_u64(object, member));
        }
    }
}

static void histogram(GString *out, JsonArray *messages)
{
    static const char name[] = "qidmap_request_duration_seconds";
    guint n = messages != NULL ? json_array_get_length(messages) : 0;

    head(out, name, "histogram", "Time from a request being decoded to its reply being ready.");
    for (guint i = 0; i < n; i++) {
        JsonObject *object = stats_element(messages, i);
        if (object == NULL) {
            continue;
        }
        g_autofree char *message = label_value(daemon_text(object, "message"));
        JsonArray *buckets = stats_array(object, "buckets");
        guint count = buckets != NULL ? json_array_get_length(buckets) : 0, at = 0;
        guint64 sum = 0;

        for (guint k = 0; k < BOUNDS; k++) {
            guint64 bound = FIRST_BOUND << (2 * k);
            JsonObject *bucket;
            while ((bucket = stats_element(buckets, at)) != NULL &&
                   daemon_u64(bucket, "to") <= bound) {
                sum += daemon_u64(bucket, "count");
                at++;
            }
            g_string_append_printf(out, "%s_bucket{message=\"%s\",le=\"", name, message);
            append_seconds(out, bound);
            g_string_append_printf(out, "\"} %" G_GUINT64_FORMAT "\n", sum);
        }
        for (; at < count; at++) {
            JsonObject *bucket = stats_element(buckets, at);
            sum += bucket != NULL ? daemon_u64(bucket, "count") : 0;
        }
        g_string_append_printf(out, "%s_bucket{message=\"%s\",le=\"+Inf\"} %" G_GUINT64_FORMAT "\n",
                               name, message, sum);
        g_string_append_printf(out, "%s_sum{message=\"%s\"} ", name, message);
        append_seconds(out, daemon_u64(object, "nanoseconds"));
        g_string_append_printf(out, "\n%s_count{message=\"%s\"} %" G_GUINT64_FORMAT "\n", name,
                               message, sum);
    }
}

static void add_messages(GString *out, JsonArray *messages)
{
    each(out, "qidmap_requests_total", "counter", "Requests that were answered.", messages,
         "message", "message", "requests", FALSE);
    each(out, "qidmap_request_errors_total", "counter", "Requests that were answered by an error.",
         messages, "message", "message", "errors", FALSE);
    each(out, "qidmap_received_bytes_total", "counter", "Bytes of requests.", messages, "message",
         "message", "bytes_in", FALSE);
    each(out, "qidmap_sent_bytes_total", "counter", "Bytes of replies.", messages, "message",
         "message", "bytes_out", FALSE);
    histogram(out, messages);
}

static void add_held(GString *out, JsonObject *held)
{
    if (held == NULL) {
        return;
    }
    single(out, "qidmap_fids", "gauge", "Fids that clients hold.", daemon_u64(held, "fids"));
    single(out, "qidmap_requests_held", "gauge",
           "Requests that were read and not answered yet, but the first of each session.",
           daemon_u64(held, "requests"));
    single(out, "qidmap_open_files", "gauge", "Descriptors that clients hold open.",
           daemon_u64(held, "files"));
    single(out, "qidmap_locks", "gauge", "Lock owners and ranges that clients hold.",
           daemon_u64(held, "locks"));
    single(out, "qidmap_client_memory_bytes", "gauge", "Memory that is used for clients.",
           daemon_u64(held, "memory"));
}

static void add_stores(GString *out, JsonArray *stores)
{
    guint n = stores != NULL ? json_array_get_length(stores) : 0;

    each(out, "qidmap_store_new_mappings_total", "counter",
         "Affix entries and rows of the full map made since the store was opened.", stores, "store",
         "store", "new_mappings", FALSE);
    each(out, "qidmap_store_commits_total", "counter", "Commits since the store was opened.",
         stores, "store", "store", "commits", FALSE);
    each(out, "qidmap_store_commit_seconds_total", "counter", "Time that these commits took.",
         stores, "store", "store", "commit_nanoseconds", TRUE);
    each(out, "qidmap_store_commit_slowest_seconds", "gauge", "Time that the slowest of them took.",
         stores, "store", "store", "commit_slowest", TRUE);
    each(out, "qidmap_store_filesystems", "gauge", "Filesystems in the store.", stores, "store",
         "store", "fs_rows", FALSE);
    each(out, "qidmap_store_affix_entries", "gauge", "Affix entries in the store.", stores, "store",
         "store", "affix_rows", FALSE);
    each(out, "qidmap_store_full_map_rows", "gauge", "Rows of the full map in the store.", stores,
         "store", "store", "full_rows", FALSE);
    each(out, "qidmap_store_used_bytes", "gauge", "Space that the store uses.", stores, "store",
         "store", "bytes_used", FALSE);
    each(out, "qidmap_store_room_bytes", "gauge", "Space it may grow to; 0: no limit of its own.",
         stores, "store", "store", "bytes_room", FALSE);
    head(out, "qidmap_store_healthy", "gauge", "1 where new mappings can be made, else 0.");
    for (guint i = 0; i < n; i++) {
        JsonObject *store = stats_element(stores, i);
        if (store == NULL) {
            continue;
        }
        g_autofree char *value = label_value(daemon_text(store, "store"));
        g_string_append_printf(out, "qidmap_store_healthy{store=\"%s\"} %d\n", value,
                               daemon_text(store, "trouble")[0] == '\0');
    }
}

static void print(JsonObject *stats)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *version = label_value(daemon_text(stats, "version"));
    JsonObject *map = stats_object(stats, "map");

    head(out, "qidmap_build_info", "gauge", "Always 1; the label tells the version of qidmapd.");
    g_string_append_printf(out, "qidmap_build_info{version=\"%s\"} 1\n", version);
    single(out, "qidmap_sessions", "gauge", "Sessions of clients.",
           daemon_u64(stats, "sessions_now"));
    single(out, "qidmap_sessions_ended_total", "counter", "Sessions that ended.",
           daemon_u64(stats, "sessions_ended"));
    add_messages(out, stats_array(stats, "messages"));
    add_held(out, stats_object(stats, "held"));
    if (map != NULL) {
        single(out, "qidmap_map_lookups_total", "counter",
               "Ids that were asked for; less the new mappings of the stores: hits.",
               daemon_u64(map, "lookups"));
    }
    add_stores(out, stats_array(stats, "stores"));
    fputs(out->str, stdout);
}

int cmd_metrics(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE};
    g_autofree char *control = NULL, *path = NULL;
    const GOptionEntry extra[] = {
        {"control", 0, 0, G_OPTION_ARG_FILENAME, &control, "the control socket of the daemon",
         "PATH"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_error error;
    JsonObject *result;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    status = stats_find(&options, control, &path);
    if (status != CMD_OK) {
        return status;
    }
    if (stats_ask(path, FALSE, &result, &error) < 0) {
        cmd_error("%s", error.text);
        return CMD_CANNOT;
    }
    if (options.json) {
        cmd_json_line(result);
        return CMD_OK;
    }
    print(result);
    json_object_unref(result);
    return CMD_OK;
}
