/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl drain`: has the daemon close what it holds below a directory without need, so that the
 * host can unmount it, and tells what is open there still, and whose it is.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/cmd.h"
#include "tools/daemon.h"

static void show_open(JsonObject *one)
{
    g_autofree char *path_name = daemon_name(one, "path"), *peer_name = daemon_name(one, "peer");
    g_autofree char *path = cmd_escape(path_name, TRUE), *peer = cmd_escape(peer_name, TRUE);
    const char *why = daemon_text(one, "why");

    if (daemon_u64(one, "session") > 0) {
        printf("%s: %s by session %" G_GUINT64_FORMAT " (%s)\n", path, why,
               daemon_u64(one, "session"), peer);
    } else if (daemon_text(one, "export")[0] != '\0') {
        g_autofree char *export_name = daemon_name(one, "export");
        g_autofree char *name = cmd_escape(export_name, TRUE);
        printf("%s: %s, %s\n", path, why, name);
    } else {
        printf("%s: %s\n", path, why);
    }
}

static int show(JsonObject *reply, gboolean json)
{
    JsonArray *open =
        json_object_has_member(reply, "open") ? json_object_get_array_member(reply, "open") : NULL;
    guint count = open != NULL ? json_array_get_length(open) : 0;

    if (json) {
        cmd_json_line(json_object_ref(reply));
    } else {
        for (guint i = 0; i < count; i++) {
            show_open(json_array_get_object_element(open, i));
        }
        printf("closed: %" G_GUINT64_FORMAT " descriptors\n", daemon_u64(reply, "closed"));
    }
    if (count > 0) {
        cmd_error("%u %s still in use there", count, count == 1 ? "file is" : "files are");
        return CMD_TROUBLE;
    }
    return CMD_OK;
}

int cmd_drain(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE, .writes = TRUE};
    g_autofree char *uri = NULL, *socket = NULL, *real = NULL;
    g_autoptr(JsonObject) reply = NULL;
    struct qidmap_error error;
    JsonObject *arguments;
    char *found;
    int status;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "drain needs one PATH, of what is to be unmounted");
    }
    if (options.control == NULL && !cmd_has_store(&options)) {
        return cmd_usage(cmd, "--store URI, --export NAME or --control PATH says which daemon");
    }
    if (options.control == NULL) {
        status = cmd_uri(&options, &uri);
        if (status == CMD_OK && daemon_find(uri, &socket, &error) < 0) {
            status = cmd_fail(&error);
        }
        if (status != CMD_OK) {
            return status;
        }
    } else {
        socket = g_strdup(options.control);
    }
    found = realpath(options.rest[0], NULL);
    if (found == NULL) {
        return cmd_fail_code(options.rest[0], -errno);
    }
    real = g_strdup(found);
    free(found);
    arguments = json_object_new();
    cmd_json_name(arguments, "path", real);
    if (daemon_call(socket, "drain", arguments, NULL, 0, NULL, &reply, &error) < 0) {
        return cmd_fail(&error);
    }
    return show(reply, options.json);
}
