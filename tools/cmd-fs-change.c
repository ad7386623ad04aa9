/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl fs alias`, `fs policy` and `fs retire`: the verbs that change the row of a filesystem.
 * The library judges whether that may be; this file asks, and tells what was done. It opens the
 * store as its one writer, so that no server can be using the row meanwhile.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"

/* Reads a row; tells what is wrong. */
static int get_row(qidmap_store *store, guint32 fs, struct qidmap_fs *row)
{
    struct qidmap_error error;
    int code;

    memset(row, 0, sizeof *row);
    row->size = sizeof *row;
    code = qidmap_fs_get(store, fs, row, &error);
    if (code == -ENOENT) {
        cmd_error("the store has no filesystem %u; see qidmapctl fs list", fs);
        return CMD_TROUBLE;
    }
    return code < 0 ? cmd_fail(&error) : CMD_OK;
}

/* What the library refused. The reasons that lie in the store are no wrong usage. */
static int refused(const struct qidmap_error *error)
{
    cmd_error("%s", error->text);
    switch (-error->code) {
    case EBUSY:
    case EINVAL:
    case EEXIST:
    case ENOTEMPTY:
    case ENOENT:
    case EUCLEAN:
        return CMD_TROUBLE;
    default:
        return CMD_CANNOT;
    }
}

/* Says what the row is now. */
static int show(const struct cmd_options *options, qidmap_store *store, guint32 fs,
                const char *done)
{
    struct qidmap_fs row;
    int status = get_row(store, fs, &row);

    if (status != CMD_OK) {
        return status;
    }
    if (options->json) {
        cmd_json_line(cmd_fs_json(&row, NULL));
    } else {
        printf("%s\n", done);
    }
    return CMD_OK;
}

static const GOptionEntry *yes_entries(gboolean *yes)
{
    static GOptionEntry entries[2];
    entries[0] = (GOptionEntry){
        "yes", 'y', 0, G_OPTION_ARG_NONE, yes, "do it without asking on the terminal", NULL};
    return entries;
}

int cmd_fs_alias(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    struct qidmap_error error;
    struct qidmap_fs old_row, new_row;
    guint32 old_fs, new_fs;
    gboolean yes = FALSE;
    int status;

    if (!cmd_parse(cmd, &options, yes_entries(&yes), argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 2 || !cmd_fs_number(options.rest[0], &old_fs) ||
        !cmd_fs_number(options.rest[1], &new_fs)) {
        return cmd_usage(cmd, "fs alias needs two numbers of filesystems, the old and the new one");
    }
    status = cmd_open_write(&options, &store);
    if (status == CMD_OK) {
        status = get_row(store, old_fs, &old_row);
    }
    if (status == CMD_OK) {
        status = get_row(store, new_fs, &new_row);
    }
    if (status != CMD_OK) {
        return status;
    }
    g_autofree char *old_what = cmd_fs_what(&old_row.hints);
    g_autofree char *new_what = cmd_fs_what(&new_row.hints);
    g_autofree char *question = g_strdup_printf(
        "Filesystem %u (%s) is the same as %u (%s), and gets its ids: files that were met as %u "
        "change theirs. Do it?",
        new_fs, new_what, old_fs, old_what, new_fs);
    status = cmd_confirm(cmd, yes, question);
    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_fs_alias(store, old_fs, new_fs, &error) < 0) {
        return refused(&error);
    }
    g_autofree char *done = g_strdup_printf("filesystem %u now has the ids of %u", new_fs, old_fs);
    return show(&options, store, new_fs, done);
}

int cmd_fs_retire(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    struct qidmap_error error;
    struct qidmap_fs row;
    guint32 fs;
    gboolean yes = FALSE;
    int status;

    if (!cmd_parse(cmd, &options, yes_entries(&yes), argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1 || !cmd_fs_number(options.rest[0], &fs)) {
        return cmd_usage(cmd, "fs retire needs one number of a filesystem, as fs list prints them");
    }
    status = cmd_open_write(&options, &store);
    if (status == CMD_OK) {
        status = get_row(store, fs, &row);
    }
    if (status != CMD_OK) {
        return status;
    }
    g_autofree char *what = cmd_fs_what(&row.hints);
    g_autofree char *question = g_strdup_printf(
        "All files of filesystem %u (%s) get new ids when it is served again. Retire it?", fs,
        what);
    status = cmd_confirm(cmd, yes, question);
    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_fs_retire(store, fs, &error) < 0) {
        return refused(&error);
    }
    g_autofree char *done = g_strdup_printf("filesystem %u is retired", fs);
    return show(&options, store, fs, done);
}

static gboolean policy_of(const char *name, guint32 *policy)
{
    for (guint32 p = QIDMAP_POLICY_AFFIX; p <= QIDMAP_POLICY_DENY; p++) {
        if (strcmp(name, qidmap_policy_name(p)) == 0) {
            *policy = p;
            return TRUE;
        }
    }
    return FALSE;
}

int cmd_fs_policy(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    gboolean yes = FALSE, renumber = FALSE;
    const GOptionEntry extra[] = {
        {"renumber", 0, 0, G_OPTION_ARG_NONE, &renumber,
         "its files may get new ids: a filesystem that has given ids is retired", NULL},
        *yes_entries(&yes),
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_error error;
    struct qidmap_fs row;
    guint32 fs, policy, now;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 2 || !cmd_fs_number(options.rest[0], &fs)) {
        return cmd_usage(cmd, "fs policy needs a number of a filesystem and a policy");
    }
    if (!policy_of(options.rest[1], &policy)) {
        return cmd_usage(cmd, "the policies are affix, handle, ephemeral and deny");
    }
    status = cmd_open_write(&options, &store);
    if (status == CMD_OK) {
        status = get_row(store, fs, &row);
    }
    if (status != CMD_OK) {
        return status;
    }
    if (renumber) {
        g_autofree char *what = cmd_fs_what(&row.hints);
        g_autofree char *question = g_strdup_printf(
            "All files of filesystem %u (%s) that have ids get new ones. Change its policy to %s?",
            fs, what, options.rest[1]);
        status = cmd_confirm(cmd, yes, question);
        if (status != CMD_OK) {
            return status;
        }
    }
    int code = qidmap_fs_set_policy(store, fs, policy, renumber, &now, &error);
    if (code == -ENOTEMPTY && !renumber) {
        cmd_error("filesystem %u has given ids, which would change; --renumber says that this is "
                  "meant",
                  fs);
        return CMD_TROUBLE;
    }
    if (code < 0) {
        return refused(&error);
    }
    g_autofree char *done =
        now == fs ? g_strdup_printf("filesystem %u has the policy %s", fs, options.rest[1])
                  : g_strdup_printf("filesystem %u is retired; %u has the policy %s in its place",
                                    fs, now, options.rest[1]);
    return show(&options, store, now, done);
}
