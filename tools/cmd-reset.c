/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl reset`: empties a store, or lets one of its filesystems begin anew, after a dump of
 * what is there.
 */
#include "config.h"

#include <stdio.h>

#include "tools/cmd.h"
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

static int reset_fs(const struct cmd *cmd, struct cmd_options *options, guint32 fs, gboolean yes)
{
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    struct qidmap_fs row = {.size = sizeof row};
    struct qidmap_error error;
    char backup[QIDMAP_ERROR_TEXT];
    int status = cmd_open_write(options, &store);

    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_fs_get(store, fs, &row, &error) < 0 || row.retired) {
        cmd_error("the store has no filesystem %u that is not retired; see qidmapctl fs list", fs);
        return CMD_TROUBLE;
    }
    g_autofree char *what = cmd_fs_what(&row.hints);
    g_autofree char *question = g_strdup_printf(
        "All files of filesystem %u (%s) get new ids when they are met again. Do it?", fs, what);
    status = cmd_confirm(cmd, yes, question);
    if (status != CMD_OK) {
        return status;
    }
    progress_begin(line, "writing", "rows");
    int code = qidmap_backup(store, NULL, 0, progress_step, line, backup, &error);
    if (code == 0) {
        progress_wait(line, "retiring");
        code = qidmap_fs_retire(store, fs, &error);
    }
    progress_hide(line);
    if (code < 0) {
        return cmd_fail(&error);
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
    int status = cmd_confirm(cmd, yes, question);

    if (status != CMD_OK) {
        return status;
    }
    progress_wait(line, "emptying the store");
    int code = qidmap_reset(uri, &how, &result, &error);
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
    g_auto(cmd_options) options = {0};
    gboolean from_scratch = FALSE, yes = FALSE;
    int number = 0;
    const GOptionEntry extra[] = {
        {"fs", 0, 0, G_OPTION_ARG_INT, &number, "only filesystem N of the store", "N"},
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
    if (number < 0 || (number > 0 && from_scratch)) {
        return cmd_usage(cmd, number < 0 ? "a filesystem has a number from 1 on"
                                         : "--from-scratch is for the whole store");
    }
    status = cmd_uri(&options, &uri);
    if (status != CMD_OK) {
        return status;
    }
    if (number > 0) {
        return reset_fs(cmd, &options, (guint32)number, yes);
    }
    return reset_all(cmd, &options, uri, from_scratch, yes);
}
