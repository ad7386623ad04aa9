/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl hold`: has a daemon without sessions take no connection for a while, so that whoever
 * restarts it next cuts nobody off. For the package's upgrade, too.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/stats-source.h"

#define SECONDS     60
#define SECONDS_MAX 600 /* the daemon's */

int cmd_hold(const struct cmd *cmd, int argc, char **argv)
{
    gint seconds = SECONDS;
    const GOptionEntry entries[] = {{"seconds", 0, 0, G_OPTION_ARG_INT, &seconds,
                                     "how long: 1 to 600, or 0 to end it; default 60", "N"},
                                    {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE, .writes = TRUE};
    g_autofree char *socket = NULL;
    g_autoptr(JsonObject) reply = NULL;
    struct qidmap_error error;
    JsonObject *arguments;
    int status;

    if (!cmd_parse(cmd, &options, entries, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 0) {
        return cmd_usage(cmd, "hold takes no arguments");
    }
    if (seconds < 0 || seconds > SECONDS_MAX) {
        return cmd_usage(cmd, "--seconds N is 0 to 600");
    }
    status = stats_find(&options, options.control, &socket);
    if (status != CMD_OK) {
        return status;
    }
    arguments = json_object_new();
    cmd_json_u64(arguments, "seconds", (guint64)seconds);
    if (daemon_call(socket, "hold", arguments, NULL, 0, NULL, &reply, &error) < 0) {
        cmd_error("%s", error.text);
        return error.code == -EBUSY ? CMD_TROUBLE : CMD_CANNOT;
    }
    if (options.json) {
        JsonObject *object = json_object_new();

        cmd_json_u64(object, "seconds", (guint64)seconds);
        cmd_json_line(object);
    } else if (seconds > 0) {
        printf("for %d s no connection is taken\n", seconds);
    } else {
        puts("connections are taken again");
    }
    return CMD_OK;
}
