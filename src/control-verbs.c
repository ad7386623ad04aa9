/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verbs about the daemon itself: sessions, disconnect, hold, log-level, trace, drain. What is done
 * is done elsewhere; this file reads requests, and writes results. Knows nothing of stores.
 */
#include "config.h"

#include "src/control-verbs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "src/conn.h"
#include "src/control-stats.h"
#include "src/control.h"
#include "src/export.h"
#include "src/fd-cache.h"
#include "src/log.h"
#include "src/reload.h"
#include "src/server.h"
#include "src/stats.h"
#include "src/trace.h"

#define HOLD_SECONDS_MAX 600

/* ---- sessions -------------------------------------------------------------------------------- */

static JsonObject *sessions(struct control_call *call, JsonObject *request, void *data)
{
    struct stats_snapshot *snapshot = stats_snapshot();
    JsonObject *result = json_object_new();

    (void)call;
    (void)request;
    (void)data;
    json_object_set_array_member(result, "sessions", control_sessions_of(snapshot));
    stats_snapshot_free(snapshot);
    return result;
}

static JsonObject *disconnect(struct control_call *call, JsonObject *request, void *data)
{
    uint64_t id = 0;

    (void)data;
    if (!control_number(call, request, "session", true, &id))
        return NULL;
    if (!conn_disconnect(id))
        return control_fail(call, -ENOENT, "there is no session %" G_GUINT64_FORMAT, id);
    log_info("session %" G_GUINT64_FORMAT " is ended by the administrator", id);
    return json_object_new();
}

/* For a restart that cuts nobody off. */
static JsonObject *hold(struct control_call *call, JsonObject *request, void *data)
{
    uint64_t seconds = 0;
    unsigned count;

    (void)data;
    if (!control_number(call, request, "seconds", true, &seconds))
        return NULL;
    if (seconds > HOLD_SECONDS_MAX)
        return control_fail(call, -EINVAL, "\"seconds\" is at most %d", HOLD_SECONDS_MAX);
    count = conn_hold((unsigned)seconds);
    if (count > 0 && seconds > 0)
        return control_fail(call, -EBUSY, "there %s %u %s", count == 1 ? "is" : "are", count,
                            count == 1 ? "session" : "sessions");
    if (seconds > 0)
        log_info("for %u s no connection is taken, as the administrator asks for",
                 (unsigned)seconds);
    else
        log_info("connections are taken again");
    return json_object_new();
}

/* ---- the log --------------------------------------------------------------------------------- */

static JsonObject *log_level(struct control_call *call, JsonObject *request, void *data)
{
    const char *level = NULL;
    JsonObject *result;

    (void)data;
    if (!control_text(call, request, "level", true, &level))
        return NULL;
    if (strcmp(level, "info") != 0 && strcmp(level, "debug") != 0)
        return control_fail(call, -EINVAL, "\"level\" is info or debug");
    log_set_debug(strcmp(level, "debug") == 0);
    result = json_object_new();
    json_object_set_string_member(result, "level", level);
    return result;
}

static JsonObject *trace(struct control_call *call, JsonObject *request, void *data)
{
    bool on = true, all = false;
    uint64_t id = 0;

    (void)data;
    if (!control_flag(call, request, "on", &on) || !control_flag(call, request, "all", &all) ||
        !control_number(call, request, "session", false, &id))
        return NULL;
    if (all == (id != 0))
        return control_fail(call, -EINVAL, "either \"session\" or \"all\" says what is traced");
    if (all)
        trace_all(on);
    else if (!trace_session(id, on))
        return control_fail(call, -ENOENT, "there is no session %" G_GUINT64_FORMAT, id);
    return json_object_new();
}

/* ---- reload ---------------------------------------------------------------------------------- */

static JsonArray *names_of(const GPtrArray *names)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < names->len; i++) {
        g_autoptr(JsonObject) object = json_object_new();

        control_set_name(object, "export", g_ptr_array_index(names, i));
        json_array_add_string_element(array, json_object_get_string_member(object, "export"));
    }
    return array;
}

static JsonObject *reload(struct control_call *call, JsonObject *request, void *data)
{
    g_autoptr(GError) error = NULL;
    struct reload_result result;
    JsonObject *object = NULL;

    (void)request;
    (void)data;
    if (!reload_now(&result, &error))
        control_fail(call, -EINVAL, "%s", error != NULL ? error->message : "failed");
    else {
        object = json_object_new();
        json_object_set_array_member(object, "added", names_of(result.added));
        json_object_set_array_member(object, "changed", names_of(result.changed));
        json_object_set_array_member(object, "removed", names_of(result.removed));
        control_set_u64(object, "same", result.same);
    }
    reload_result_clear(&result);
    return object;
}

/* ---- drain ----------------------------------------------------------------------------------- */

static const char *peer_name_of(const struct stats_snapshot *snapshot, uint64_t id)
{
    for (guint i = 0; i < snapshot->sessions->len; i++) {
        const struct stats_snapshot_session *s = g_ptr_array_index(snapshot->sessions, i);

        if (s->id == id)
            return s->peer;
    }
    return "";
}

struct held_roots {
    const char *path;
    JsonArray *open;
};

/* What the daemon itself holds for as long as it can be attached to. */
static void add_root(const struct path_export *exp, void *data)
{
    const struct held_roots *roots = data;
    const char *path = roots->path, *dir = exp->dir;
    size_t len = strlen(path);
    JsonObject *object;

    while (len > 1 && path[len - 1] == '/')
        len--;
    if (strncmp(dir, path, len) != 0 || (len > 1 && dir[len] != '/' && dir[len] != '\0'))
        return;
    object = json_object_new();
    control_set_name(object, "path", dir);
    json_object_set_string_member(object, "why", "root of an export");
    control_set_name(object, "export", exp->name);
    json_array_add_object_element(roots->open, object);
}

struct roots {
    const char *path;
    GPtrArray *busy;
};

/* A directory below an export that a session attached to. */
static void add_subdir(const struct path_export *exp, uint64_t session, void *data)
{
    struct roots *roots = data;
    size_t len = strlen(roots->path);
    char full[PATH_MAX];
    struct fd_busy *one;

    if (path_absolute(exp->root_fd, full) != 0 || strncmp(full, roots->path, len) != 0 ||
        (len > 1 && full[len] != '/' && full[len] != '\0'))
        return;
    one = g_new0(struct fd_busy, 1);
    one->path = g_strdup(full);
    one->why = "attached to";
    one->session = session;
    g_ptr_array_add(roots->busy, one);
}

static JsonObject *drain(struct control_call *call, JsonObject *request, void *data)
{
    g_autoptr(GPtrArray) busy = g_ptr_array_new_with_free_func(fd_busy_free);
    g_autofree char *plain = NULL, *path = NULL;
    struct stats_snapshot *snapshot;
    JsonObject *result;
    JsonArray *open;
    uint64_t closed;

    if (!control_name(call, request, "path", true, &path))
        return NULL;
    if (path[0] != '/')
        return control_fail(call, -EINVAL, "\"path\" is to be absolute, without symbolic links");
    plain = g_canonicalize_filename(path, "/");
    closed = fd_cache_drain(plain, busy);
    export_each_subdir(add_subdir, &(struct roots){plain, busy});
    result = json_object_new();
    open = json_array_new();
    snapshot = stats_snapshot();
    for (guint i = 0; i < busy->len; i++) {
        const struct fd_busy *one = g_ptr_array_index(busy, i);
        JsonObject *object = json_object_new();

        control_set_name(object, "path", one->path);
        json_object_set_string_member(object, "why", one->why);
        if (one->session != 0) {
            control_set_u64(object, "session", one->session);
            control_set_name(object, "peer", peer_name_of(snapshot, one->session));
        }
        json_array_add_object_element(open, object);
    }
    stats_snapshot_free(snapshot);
    export_each(data, add_root, &(struct held_roots){plain, open});
    control_set_u64(result, "closed", closed);
    json_object_set_array_member(result, "open", open);
    return result;
}

void control_verbs_add(const struct server *server, struct qid_map *map)
{
    control_stats_add(map);
    control_store_add(map);
    control_prune_add(map);
    control_add("sessions", sessions, NULL);
    control_add("disconnect", disconnect, NULL);
    control_add("hold", hold, NULL);
    control_add("log-level", log_level, NULL);
    control_add("trace", trace, NULL);
    control_add("drain", drain, (void *)server);
    control_add("reload", reload, NULL);
}
