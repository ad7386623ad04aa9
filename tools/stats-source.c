/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stats-source.h. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tools/daemon.h"
#include "tools/stats-source.h"

/* The socket in the usual place, where there is just one daemon. */
static int find_only(char **path, gboolean quiet)
{
    const char *runtime = geteuid() == 0 ? "/run" : g_getenv("XDG_RUNTIME_DIR");
    g_autofree char *folder = g_build_filename(runtime != NULL ? runtime : "/run", "qidmap", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autoptr(GString) found = g_string_new(NULL);
    g_autofree char *only = NULL;
    const char *name;
    guint count = 0;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        guint64 pid;
        if (!g_str_has_prefix(name, "control-") ||
            !g_ascii_string_to_unsigned(name + strlen("control-"), 10, 1, G_MAXINT, &pid, NULL) ||
            (kill((pid_t)pid, 0) < 0 && errno == ESRCH)) {
            continue;
        }
        g_free(only);
        only = g_build_filename(folder, name, NULL);
        g_string_append_printf(found, "%s%s", count++ > 0 ? ", " : "", only);
    }
    if (count == 1) {
        *path = g_steal_pointer(&only);
        return CMD_OK;
    }
    if (quiet) {
        return CMD_CANNOT;
    }
    if (count == 0) {
        cmd_error("no daemon has its control socket in %s; name the socket by --control PATH, or "
                  "the daemon by its store",
                  folder);
    } else {
        cmd_error("there are several daemons; name one by --control PATH: %s", found->str);
    }
    return CMD_CANNOT;
}

int stats_find(struct cmd_options *options, const char *control, char **path)
{
    struct qidmap_error error;
    g_autofree char *uri = NULL;
    int status;

    if (control != NULL) {
        *path = g_strdup(control);
        return CMD_OK;
    }
    if (!cmd_has_store(options)) {
        return find_only(path, FALSE);
    }
    status = cmd_uri(options, &uri);
    if (status != CMD_OK) {
        return status;
    }
    if (daemon_find(uri, path, &error) == 0) {
        return CMD_OK;
    }
    if (error.code == -ENOENT) {
        cmd_error("no daemon has the store %s open; status and verify look at the store itself",
                  uri);
    } else {
        cmd_error("%s", error.text);
    }
    return CMD_CANNOT;
}

gboolean stats_find_again(const char *uri, char **path)
{
    struct qidmap_error error;

    return uri != NULL ? daemon_find(uri, path, &error) == 0 : find_only(path, TRUE) == CMD_OK;
}

int stats_ask(const char *path, gboolean sessions, JsonObject **result, struct qidmap_error *error)
{
    JsonObject *arguments = json_object_new();

    json_object_set_boolean_member(arguments, "sessions", sessions);
    return daemon_call(path, "stats", arguments, NULL, 0, NULL, result, error);
}

JsonArray *stats_array(JsonObject *object, const char *member)
{
    JsonNode *node = object != NULL ? json_object_get_member(object, member) : NULL;
    return node != NULL && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

JsonObject *stats_object(JsonObject *object, const char *member)
{
    JsonNode *node = object != NULL ? json_object_get_member(object, member) : NULL;
    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonObject *stats_element(JsonArray *array, guint index)
{
    JsonNode *node = array != NULL && index < json_array_get_length(array)
                         ? json_array_get_element(array, index)
                         : NULL;
    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

JsonObject *stats_lookup(JsonArray *array, const char *key, const char *text)
{
    guint count = array != NULL ? json_array_get_length(array) : 0;

    for (guint i = 0; i < count; i++) {
        JsonObject *element = stats_element(array, i);
        if (element != NULL && strcmp(daemon_text(element, key), text) == 0) {
            return element;
        }
    }
    return NULL;
}
