/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl reset`: empties a store, or lets one of its filesystems begin anew, after a dump of
 * what is there.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/progress.h"

static void show(const char *done, const char *backup, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        cmd_json_name(object, "backup", backup);
        cmd_json_line(object);
        return;
    }
    g_autofree char *shown = cmd_escape(backup, TRUE);
    printf("what was there: %s\n%s\n", shown, done);
}

/* Has the daemon that has the store reset it. `backup` gets the path of the dump; *jumped may be
 * NULL. 0 or a negative errno. */
static int ask(const char *socket, const char *uri, JsonObject *arguments, progress *line,
               char backup[QIDMAP_ERROR_TEXT], guint32 *jumped, struct qidmap_error *error)
{
    g_autoptr(JsonObject) reply = NULL;
    g_autofree char *name = NULL, *path = NULL;
    int dir, code = cmd_beside(uri, "reset", &dir, &name, &path);

    if (code < 0) {
        json_object_unref(arguments);
        error->code = code;
        g_snprintf(error->text, sizeof error->text, "the directory of %s: %s", uri,
                   g_strerror(-code));
        return code;
    }
    cmd_json_name(arguments, "backup", name);
    progress_wait(line, "resetting");
    code = cmd_ask(socket, uri, "reset", arguments, &dir, 1, NULL, &reply, error);
    progress_hide(line);
    close(dir);
    if (code == 0) {
        g_strlcpy(backup, daemon_text(reply, "backup")[0] != '\0' ? path : "", QIDMAP_ERROR_TEXT);
        if (jumped != NULL) {
            *jumped = json_object_get_boolean_member_with_default(reply, "jumped", FALSE);
        }
    }
    return code;
}

/* Opens the store for a look: whether it has the filesystem. */
static int look_at_fs(struct cmd_options *options, guint32 fs, struct qidmap_fs *row)
{
    g_autoptr(qidmap_store) store = NULL;
    int status = cmd_open(options, &store);

    if (status == CMD_OK && (qidmap_fs_get(store, fs, row, NULL) < 0 || row->retired)) {
        cmd_error("the store has no filesystem %u that is not retired; see qidmapctl fs list", fs);
        status = CMD_TROUBLE;
    }
    return status;
}

static int reset_here(struct cmd_options *options, guint32 fs, progress *line, char *backup)
{
    g_autoptr(qidmap_store) store = NULL;
    struct qidmap_error error;
    int code, status = cmd_open_write(options, &store);

    if (status != CMD_OK) {
        return status;
    }
    progress_begin(line, "writing", "rows");
    code = qidmap_backup(store, NULL, 0, progress_step, line, backup, &error);
    if (code == 0) {
        progress_wait(line, "retiring");
        code = qidmap_fs_retire(store, fs, &error);
    }
    progress_hide(line);
    return code < 0 ? cmd_refused(&error) : CMD_OK;
}

static int reset_fs(const struct cmd *cmd, struct cmd_options *options, const char *uri, guint32 fs,
                    gboolean yes)
{
    g_autoptr(progress) line = progress_new();
    g_autofree char *socket = NULL;
    struct qidmap_fs row = {.size = sizeof row};
    char backup[QIDMAP_ERROR_TEXT] = "";
    int status = look_at_fs(options, fs, &row);

    if (status != CMD_OK) {
        return status;
    }
    g_autofree char *what = cmd_fs_what(&row.hints);
    g_autofree char *question = g_strdup_printf(
        "All files of filesystem %u (%s) get new ids when they are met again. Do it?", fs, what);
    status = cmd_confirm(cmd, yes, question);
    if (status == CMD_OK) {
        status = cmd_daemon(options, uri, &socket);
    }
    if (status == CMD_OK && socket != NULL) {
        JsonObject *arguments = json_object_new();
        struct qidmap_error error;
        json_object_set_int_member(arguments, "fs", fs);
        if (ask(socket, uri, arguments, line, backup, NULL, &error) < 0) {
            return cmd_refused(&error);
        }
    } else if (status == CMD_OK) {
        status = reset_here(options, fs, line, backup);
    }
    if (status != CMD_OK) {
        return status;
    }
    g_autofree char *done = g_strdup_printf("filesystem %u begins anew", fs);
    show(done, backup, options->json);
    return CMD_OK;
}

static int reset_all(const struct cmd *cmd, const struct cmd_options *options, const char *uri,
                     gboolean from_scratch, gboolean yes)
{
    struct qidmap_reset_options how = {.size = sizeof how,
                                       .flags = from_scratch ? QIDMAP_RESET_FROM_SCRATCH : 0};
    g_autoptr(progress) line = progress_new();
    struct qidmap_load_result result = {.size = sizeof result};
    struct qidmap_error error;
    g_autofree char *shown = cmd_escape(uri, TRUE);
    g_autofree char *question = g_strdup_printf(
        "Every file of every filesystem in the store %s gets a new id%s. Do it?", shown,
        from_scratch ? ", and ids that clients remember are given to other files" : "");
    g_autofree char *socket = NULL;
    int status = cmd_confirm(cmd, yes, question), code;

    if (status == CMD_OK) {
        status = cmd_daemon(options, uri, &socket);
    }
    if (status != CMD_OK) {
        return status;
    }
    if (socket != NULL) {
        JsonObject *arguments = json_object_new();
        json_object_set_boolean_member(arguments, "from_scratch", from_scratch);
        code = ask(socket, uri, arguments, line, result.backup, &result.jumped, &error);
    } else {
        progress_wait(line, "emptying the store");
        code = qidmap_reset(uri, &how, &result, &error);
    }
    progress_hide(line);
    if (code < 0) {
        return cmd_fail(&error);
    }
    show(from_scratch    ? "the store is as new"
         : result.jumped ? "the store is empty; new ids begin far behind the old ones"
                         : "the store is empty; new ids begin where the old ones ended",
         result.backup, options->json);
    return CMD_OK;
}

int cmd_reset(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    gboolean from_scratch = FALSE, yes = FALSE;
    g_autofree char *number = NULL;
    guint32 fs = 0;
    const GOptionEntry extra[] = {
        {"fs", 0, 0, G_OPTION_ARG_STRING, &number, "only filesystem N of the store", "N"},
        {"from-scratch", 0, 0, G_OPTION_ARG_NONE, &from_scratch,
         "give ids again that were given before", NULL},
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do it without asking on the terminal", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autofree char *uri = NULL;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (options.rest[0] != NULL) {
        return cmd_usage(cmd, "reset takes no arguments; --fs N names a filesystem");
    }
    if (number != NULL && (!cmd_fs_number(number, &fs) || from_scratch)) {
        return cmd_usage(cmd, from_scratch ? "--from-scratch is for the whole store"
                                           : "--fs needs a number of a filesystem, from 1 on");
    }
    status = cmd_uri(&options, &uri);
    if (status != CMD_OK) {
        return status;
    }
    if (number != NULL) {
        return reset_fs(cmd, &options, uri, fs, yes);
    }
    return reset_all(cmd, &options, uri, from_scratch, yes);
}
