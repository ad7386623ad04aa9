/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl verify`: tells in words what is wrong with a store, and mends with --repair what can
 * be proven. What is right is the library's to know.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "tools/cmd.h"
#include "tools/progress.h"

struct verify {
    progress *line;
    gboolean json;
};

static void show_problem(void *data, const struct qidmap_problem *problem)
{
    struct verify *v = data;
    gboolean mendable = (problem->flags & QIDMAP_PROBLEM_MENDABLE) != 0;
    g_autofree char *shown = NULL;

    progress_hide(v->line);
    if (v->json) {
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "row", "problem");
        json_object_set_string_member(object, "kind", qidmap_problem_name(problem->kind));
        json_object_set_string_member(object, "table", problem->table);
        json_object_set_boolean_member(object, "mendable", mendable);
        cmd_json_name(object, "text", problem->text);
        cmd_json_line(object);
        return;
    }
    shown = cmd_escape(problem->text, TRUE);
    printf("%s: %s%s\n", qidmap_problem_name(problem->kind), shown,
           mendable ? " (--repair mends it)" : "");
}

static int tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct verify *)data)->line, done, total);
    return 0;
}

static void show_result(const struct qidmap_verify_result *r, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "row", "end");
        cmd_json_u64(object, "fs_rows", r->fs_rows);
        cmd_json_u64(object, "affix_rows", r->affix_rows);
        cmd_json_u64(object, "full_rows", r->full_rows);
        cmd_json_u64(object, "problems", r->problems);
        cmd_json_u64(object, "mendable", r->mendable);
        cmd_json_u64(object, "mended", r->mended);
        cmd_json_name(object, "backup", r->backup);
        cmd_json_line(object);
        return;
    }
    if (r->backup[0] != '\0') {
        g_autofree char *shown = cmd_escape(r->backup, TRUE);
        printf("backup: %s\n", shown);
    }
    if (r->mended > 0) {
        printf("mended: %" G_GUINT64_FORMAT " problems\n", r->mended);
    }
    printf("%s: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
           " affix entries, %" G_GUINT64_FORMAT " full map rows, ",
           r->problems == 0 ? "clean" : "damaged", r->fs_rows, r->affix_rows, r->full_rows);
    printf("%" G_GUINT64_FORMAT " problems%s\n", r->problems, r->mended > 0 ? " left" : "");
}

int cmd_verify(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(progress) line = progress_new();
    gboolean repair = FALSE;
    const GOptionEntry extra[] = {
        {"repair", 0, 0, G_OPTION_ARG_NONE, &repair,
         "after a backup, mend what the other rows prove", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct verify v = {line, FALSE};
    struct qidmap_verify_options how = {
        .size = sizeof how, .problem = show_problem, .progress = tell, .data = &v};
    struct qidmap_verify_result result = {.size = sizeof result};
    struct qidmap_error error;
    g_autofree char *uri = NULL;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    status = cmd_uri(&options, &uri);
    if (status != CMD_OK) {
        return status;
    }
    v.json = options.json;
    how.flags = repair ? QIDMAP_VERIFY_REPAIR : 0;
    progress_begin(line, "verifying", "rows");
    if (qidmap_verify(uri, &how, &result, &error) < 0) {
        progress_hide(line);
        return cmd_fail(&error);
    }
    progress_hide(line);
    show_result(&result, options.json);
    return result.problems == 0 ? CMD_OK : CMD_TROUBLE;
}
