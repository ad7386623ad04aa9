/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Statistics as JSON. Numbers grow from the start of the daemon (or, of a store, since it was
 * opened); who wants rates asks twice and divides by the difference of `clock`.
 *
 * Only reads what others count; knows nothing of how it is shown.
 */
#include "config.h"

#include "src/control-stats.h"

#include <unistd.h>

#include "src/control.h"
#include "src/limit.h"
#include "src/qid-admin.h"
#include "src/stats.h"

static void set_hex(JsonObject *object, const char *member, const uint8_t *bytes, gsize size)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (gsize i = 0; i < size; i++)
        g_string_append_printf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                               bytes[i]);
    json_object_set_string_member(object, member, text->str);
}

/* Those that are not empty: where each ends, in nanoseconds, and how many fell into it. */
static JsonArray *buckets_of(const struct stats_kind *kind)
{
    JsonArray *buckets = json_array_new();

    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        if (kind->buckets[i] == 0)
            continue;
        JsonObject *bucket = json_object_new();
        control_set_u64(bucket, "to",
                        i < STATS_BUCKETS - 1 ? stats_bucket_floor(i + 1) : UINT64_MAX);
        control_set_u64(bucket, "count", kind->buckets[i]);
        json_array_add_object_element(buckets, bucket);
    }
    return buckets;
}

static JsonArray *messages_of(const struct stats_snapshot *snapshot)
{
    JsonArray *messages = json_array_new();

    for (unsigned i = 0; i < STATS_KINDS; i++) {
        const struct stats_kind *kind = snapshot->kinds[i];

        if (kind == NULL || kind->count == 0)
            continue;
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "message", stats_kind_name(i));
        control_set_u64(object, "requests", kind->count);
        control_set_u64(object, "errors", kind->errors);
        control_set_u64(object, "bytes_in", kind->bytes_in);
        control_set_u64(object, "bytes_out", kind->bytes_out);
        control_set_u64(object, "nanoseconds", kind->nanoseconds);
        control_set_u64(object, "p50", stats_quantile(kind, 500));
        control_set_u64(object, "p90", stats_quantile(kind, 900));
        control_set_u64(object, "p99", stats_quantile(kind, 990));
        control_set_u64(object, "slowest", kind->slowest);
        json_object_set_array_member(object, "buckets", buckets_of(kind));
        json_array_add_object_element(messages, object);
    }
    return messages;
}

static JsonObject *session_of(const struct stats_snapshot_session *seen)
{
    JsonObject *object = json_object_new();
    JsonArray *users = json_array_new();

    control_set_u64(object, "session", seen->id);
    control_set_name(object, "peer", seen->peer);
    control_set_u64(object, "since", (uint64_t)seen->since);
    for (unsigned i = 0; i < seen->user_count; i++) {
        JsonObject *user = json_object_new();
        json_object_set_int_member(user, "uid", seen->users[i].uid);
        control_set_name(user, "name", seen->users[i].name);
        control_set_name(user, "export", seen->users[i].export);
        json_array_add_object_element(users, user);
    }
    json_object_set_array_member(object, "attached", users);
    control_set_u64(object, "fids", seen->fids);
    control_set_u64(object, "files", seen->files);
    control_set_u64(object, "locks", seen->locks);
    control_set_u64(object, "memory", seen->memory);
    control_set_u64(object, "in_flight", seen->in_flight);
    control_set_u64(object, "requests", seen->count);
    control_set_u64(object, "errors", seen->errors);
    control_set_u64(object, "bytes_in", seen->bytes_in);
    control_set_u64(object, "bytes_out", seen->bytes_out);
    json_object_set_boolean_member(object, "traced", seen->traced);
    return object;
}

JsonArray *control_sessions_of(const struct stats_snapshot *snapshot)
{
    JsonArray *sessions = json_array_new();

    for (guint i = 0; i < snapshot->sessions->len; i++)
        json_array_add_object_element(sessions,
                                      session_of(g_ptr_array_index(snapshot->sessions, i)));
    return sessions;
}

/* What clients hold, all together. */
static JsonObject *held(void)
{
    JsonObject *object = json_object_new();

    for (unsigned i = 0; i < LIMIT_COUNT; i++)
        control_set_u64(object, limit_name((enum limit)i), limit_used((enum limit)i));
    return object;
}

static JsonObject *store_of(struct qid_store *store, uint64_t *made)
{
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_error problem = {0};
    JsonObject *object = json_object_new();
    qidmap_store *handle = qid_admin_use(store, &problem);

    control_set_name(object, "store", qid_admin_uri(store));
    if (handle != NULL) {
        qidmap_store_stats(handle, &stats, NULL);
        if (qidmap_store_health(handle, &problem) == 0)
            problem.text[0] = '\0';
        qid_admin_unuse(store);
    }
    set_hex(object, "uuid", stats.uuid, sizeof stats.uuid);
    control_set_u64(object, "fs_rows", stats.fs_rows);
    control_set_u64(object, "affix_rows", stats.affix_rows);
    control_set_u64(object, "full_rows", stats.full_rows);
    control_set_u64(object, "epoch", stats.epoch);
    control_set_u64(object, "new_mappings", stats.made);
    control_set_u64(object, "commits", stats.commits);
    control_set_u64(object, "commit_nanoseconds", stats.commit_nanoseconds);
    control_set_u64(object, "commit_slowest", stats.commit_slowest);
    control_set_u64(object, "bytes_used", stats.bytes_used);
    control_set_u64(object, "bytes_room", stats.bytes_room);
    control_set_name(object, "trouble", problem.text);
    *made += stats.made;
    return object;
}

/* Fills `stores`, too. */
static JsonObject *map_of(struct qid_map *map, JsonArray *stores)
{
    JsonObject *object = json_object_new();
    uint64_t lookups = qid_counted(), made = 0;
    struct qid_store *store;

    for (unsigned i = 0; (store = qid_admin_store(map, i)) != NULL; i++)
        json_array_add_object_element(stores, store_of(store, &made));
    /* What is new was asked for as well, but the two are not read at one moment. */
    control_set_u64(object, "lookups", lookups);
    control_set_u64(object, "hits", lookups > made ? lookups - made : 0);
    control_set_u64(object, "new_mappings", made);
    return object;
}

static JsonObject *run(struct control_call *call, JsonObject *request, void *data)
{
    bool with_sessions = true;

    if (!control_flag(call, request, "sessions", &with_sessions))
        return NULL;
    struct stats_snapshot *snapshot = stats_snapshot();
    JsonObject *object = json_object_new();
    JsonArray *stores = json_array_new();

    json_object_set_string_member(object, "version", qidmap_version());
    json_object_set_int_member(object, "pid", getpid());
    json_object_set_int_member(object, "now", snapshot->now);
    json_object_set_int_member(object, "first_session", snapshot->since);
    control_set_u64(object, "clock", (uint64_t)g_get_monotonic_time() * 1000);
    control_set_u64(object, "requests", snapshot->count);
    control_set_u64(object, "errors", snapshot->errors);
    control_set_u64(object, "bytes_in", snapshot->bytes_in);
    control_set_u64(object, "bytes_out", snapshot->bytes_out);
    control_set_u64(object, "sessions_now", snapshot->sessions->len);
    control_set_u64(object, "sessions_ended", snapshot->sessions_ended);
    json_object_set_object_member(object, "held", held());
    json_object_set_array_member(object, "messages", messages_of(snapshot));
    json_object_set_object_member(object, "map", map_of(data, stores));
    json_object_set_array_member(object, "stores", stores);
    json_object_set_array_member(object, "sessions",
                                 with_sessions ? control_sessions_of(snapshot) : json_array_new());
    stats_snapshot_free(snapshot);
    return object;
}

void control_stats_add(struct qid_map *map)
{
    control_add("stats", run, map);
}
