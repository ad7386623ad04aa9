/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl copy` and `backup`: one consistent state of a store to another store, or to a file,
 * while a daemon uses it or not.
 */
#include "config.h"

#include "tools/cmd.h"
#include "tools/progress.h"

int cmd_copy(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    gboolean replace = FALSE, latest = FALSE, yes = FALSE;
    const GOptionEntry extra[] = {
        {"replace", 0, 0, G_OPTION_ARG_NONE, &replace, "put it in the place of a store TO", NULL},
        {"latest", 0, 0, G_OPTION_ARG_NONE, &latest,
         "FROM is not used any more: the copy goes on in its place", NULL},
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do it without asking on the terminal", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_copy_options how = {.size = sizeof how, .progress = progress_step, .data = line};
    struct qidmap_load_result result = {.size = sizeof result};
    struct qidmap_error error;
    int status;

    options.use = CMD_STORE_NONE;
    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 2) {
        return cmd_usage(cmd, "copy needs two stores, as lmdb:DIR or xattr:DIR");
    }
    if (replace) {
        g_autofree char *shown = cmd_escape(options.rest[1], TRUE);
        g_autofree char *question =
            g_strdup_printf("Put the copy in the place of the store %s?", shown);
        status = cmd_confirm(cmd, yes, question);
        if (status != CMD_OK) {
            return status;
        }
    }
    options.store = g_strdup(options.rest[0]);
    status = cmd_open(&options, &store);
    if (status != CMD_OK) {
        return status;
    }
    how.flags = (replace ? QIDMAP_LOAD_REPLACE : 0) | (latest ? QIDMAP_LOAD_LATEST : 0);
    progress_begin(line, "copying", "rows");
    int code = qidmap_store_copy(store, options.rest[1], &how, &result, &error);
    progress_hide(line);
    if (code < 0) {
        return cmd_fail(&error);
    }
    cmd_show_load("copied", &result, options.json);
    return CMD_OK;
}

int cmd_backup(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    gboolean replace = FALSE;
    const GOptionEntry extra[] = {
        {"replace", 0, 0, G_OPTION_ARG_NONE, &replace, "put it in the place of a file FILE", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_error error;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "backup needs one FILE to write");
    }
    status = cmd_open(&options, &store);
    if (status != CMD_OK) {
        return status;
    }
    progress_begin(line, "writing", "rows");
    int code = qidmap_backup(store, options.rest[0], replace, progress_step, line, NULL, &error);
    progress_hide(line);
    return code < 0 ? cmd_fail(&error) : CMD_OK;
}
