/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl reload`: has the daemon read its configuration again, and tells what came of it. For
 * ExecReload= of its unit, too: so `systemctl reload` fails where the daemon refuses.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/stats-source.h"

static void show(JsonObject *reply, const char *member)
{
    JsonArray *names =
        json_object_has_member(reply, member) ? json_object_get_array_member(reply, member) : NULL;

    for (guint i = 0; names != NULL && i < json_array_get_length(names); i++) {
        g_autofree char *name = cmd_terminal(json_array_get_string_element(names, i));

        printf("%s: %s\n", member, name);
    }
}

/* Whether the process is a daemon: the signal would end another. */
static gboolean is_daemon(gint64 pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/comm", pid);
    g_autofree char *name = NULL;

    return g_file_get_contents(path, &name, NULL, NULL) && strcmp(g_strchomp(name), "qidmapd") == 0;
}

/* Whether a thread has the signal blocked. */
static gboolean thread_keeps_hup(const char *tasks, const char *thread)
{
    g_autofree char *path = g_build_filename(tasks, thread, "status", NULL), *status = NULL;
    const char *blocked;

    if (!g_file_get_contents(path, &status, NULL, NULL)) {
        return FALSE;
    }
    blocked = strstr(status, "\nSigBlk:");
    return blocked != NULL &&
           (g_ascii_strtoull(blocked + strlen("\nSigBlk:"), NULL, 16) & 1u << (SIGHUP - 1)) != 0;
}

/* Whether it keeps the signal until it can do what that asks for: one that is just being started
 * would be ended by it. A thread that waits for the signal does not show it as blocked, but the
 * others do. */
static gboolean keeps_hup(gint64 pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/task", pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    const char *thread;
    gboolean keeps = FALSE;

    while (dir != NULL && !keeps && (thread = g_dir_read_name(dir)) != NULL) {
        keeps = thread_keeps_hup(tasks, thread);
    }
    return keeps;
}

/* For a daemon without a control socket: there is no answer. */
static int reload_by_signal(gint64 pid, gboolean json)
{
    if (!is_daemon(pid)) {
        cmd_error("process %" G_GINT64_FORMAT " is no qidmapd", pid);
        return CMD_CANNOT;
    }
    if (!keeps_hup(pid)) {
        cmd_error("process %" G_GINT64_FORMAT " is just starting; try again later", pid);
        return CMD_CANNOT;
    }
    if (kill((pid_t)pid, SIGHUP) != 0) {
        cmd_error("process %" G_GINT64_FORMAT ": %s", pid, g_strerror(errno));
        return CMD_CANNOT;
    }
    if (json) {
        cmd_json_line(json_object_new());
    } else {
        puts("the daemon has no control socket: it was told by SIGHUP, and its log says what came "
             "of it");
    }
    return CMD_OK;
}

int cmd_reload(const struct cmd *cmd, int argc, char **argv)
{
    gint64 pid = 0;
    const GOptionEntry entries[] = {{"pid", 0, 0, G_OPTION_ARG_INT64, &pid,
                                     "the process of the daemon, wherever its socket is", "N"},
                                    {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE, .writes = TRUE};
    g_autofree char *socket = NULL;
    g_autoptr(JsonObject) reply = NULL;
    struct qidmap_error error;
    int status;

    if (!cmd_parse(cmd, &options, entries, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 0) {
        return cmd_usage(cmd, "reload takes no arguments");
    }
    if (pid < 0 || (pid > 0 && (options.control != NULL || cmd_has_store(&options)))) {
        return cmd_usage(cmd, "--pid N names a process, and then nothing else names the daemon");
    }
    if (pid > 0) {
        socket = daemon_of_process(pid);
        if (socket == NULL) {
            return reload_by_signal(pid, options.json);
        }
    } else {
        status = stats_find(&options, options.control, &socket);
        if (status != CMD_OK) {
            return status;
        }
    }
    if (daemon_call(socket, "reload", NULL, NULL, 0, NULL, &reply, &error) < 0) {
        if (pid > 0 && error.code == -ECONNREFUSED) { /* of one that had the same number */
            return reload_by_signal(pid, options.json);
        }
        cmd_error("%s", error.text);
        return CMD_CANNOT;
    }
    if (options.json) {
        cmd_json_line(json_object_ref(reply));
        return CMD_OK;
    }
    show(reply, "added");
    show(reply, "changed");
    show(reply, "removed");
    printf("as before: %" G_GUINT64_FORMAT "\n", daemon_u64(reply, "same"));
    return CMD_OK;
}
