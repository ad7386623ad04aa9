/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `qidmapctl compact`: rewrites a store without the space that nobody uses. */
#include "config.h"

#include <stdio.h>

#include "tools/cmd.h"
#include "tools/daemon.h"

static void show(const struct qidmap_compact_result *r, gboolean dry_run, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        json_object_set_boolean_member(object, "dry_run", dry_run);
        cmd_json_u64(object, "bytes_before", r->bytes_before);
        cmd_json_u64(object, "bytes_after", r->bytes_after);
        cmd_json_line(object);
        return;
    }
    g_autofree char *before = g_format_size_full(r->bytes_before, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *after = g_format_size_full(r->bytes_after, G_FORMAT_SIZE_IEC_UNITS);
    printf(dry_run ? "%s are in use; about %s would be\n" : "%s were in use; now %s are\n", before,
           after);
}

/* The daemon that has the store does it. */
static int ask(const char *path, const char *uri, gboolean dry_run,
               struct qidmap_compact_result *result)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *arguments = json_object_new();
    struct qidmap_error error;

    json_object_set_boolean_member(arguments, "dry_run", dry_run);
    if (cmd_ask(path, uri, "compact", arguments, NULL, 0, NULL, &reply, &error) < 0) {
        return cmd_fail(&error);
    }
    result->bytes_before = daemon_u64(reply, "bytes_before");
    result->bytes_after = daemon_u64(reply, "bytes_after");
    return CMD_OK;
}

int cmd_compact(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    g_autofree char *uri = NULL, *path = NULL;
    g_autoptr(qidmap_store) store = NULL;
    gboolean dry_run = FALSE;
    const GOptionEntry extra[] = {
        {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &dry_run, "tell what it would save", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_compact_result result = {.size = sizeof result};
    struct qidmap_error error;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (options.rest[0] != NULL) {
        return cmd_usage(cmd, "compact takes no arguments");
    }
    status = cmd_uri(&options, &uri);
    if (status == CMD_OK) {
        status = cmd_daemon(&options, uri, &path);
    }
    if (status == CMD_OK && path != NULL) {
        status = ask(path, uri, dry_run, &result);
        if (status == CMD_OK) {
            show(&result, dry_run, options.json);
        }
        return status;
    }
    if (status == CMD_OK) {
        status = dry_run ? cmd_open(&options, &store) : cmd_open_write(&options, &store);
    }
    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_compact(store, dry_run ? QIDMAP_DRY_RUN : 0, &result, &error) < 0) {
        return cmd_fail(&error);
    }
    show(&result, dry_run, options.json);
    return CMD_OK;
}
