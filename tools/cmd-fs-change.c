/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl fs alias`, `fs policy` and `fs retire`: the verbs that change the row of a filesystem.
 * The library judges whether that may be; this file asks, and tells what was done. Where a daemon
 * has the store, it does the work, and refuses where a client would see ids change; else the store
 * is opened here, as its one writer.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/daemon.h"

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

/* Reads a row of the store that the options name; tells what is wrong. */
static int look_at(struct cmd_options *options, guint32 fs, struct qidmap_fs *row)
{
    g_autoptr(qidmap_store) store = NULL;
    int status = cmd_open(options, &store);

    return status == CMD_OK ? get_row(store, fs, row) : status;
}

/* A change of rows: as the daemon is asked for it, and as it is done here. */
struct change {
    const char *verb;
    JsonObject *arguments; /* owned until it is asked */
    int (*work)(qidmap_store *store, const struct change *change, guint32 *now,
                struct qidmap_error *error);
    guint32 fs[2];
    guint32 policy;
    gboolean renumber;
};

/* Returns an exit status, and tells errors, but for *error.code where the library refused. */
static int make_change(struct cmd_options *options, struct change *change, guint32 *now,
                       struct qidmap_error *error)
{
    g_autoptr(JsonObject) arguments = change->arguments;
    g_autoptr(qidmap_store) store = NULL;
    g_autofree char *uri = NULL, *socket = NULL;
    int status = cmd_uri(options, &uri);

    error->code = 0;
    if (status == CMD_OK) {
        status = cmd_daemon(options, uri, &socket);
    }
    if (status == CMD_OK && socket != NULL) {
        g_autoptr(JsonObject) reply = NULL;
        if (cmd_ask(socket, uri, change->verb, g_steal_pointer(&arguments), NULL, 0, NULL, &reply,
                    error) == 0) {
            *now = (guint32)daemon_u64(reply, "fs");
            error->code = 0;
        }
        return CMD_OK;
    }
    if (status == CMD_OK) {
        status = cmd_open_write(options, &store);
    }
    if (status == CMD_OK && change->work(store, change, now, error) == 0) {
        error->code = 0;
    }
    return status;
}

/* Says what the row is now. */
static int show(struct cmd_options *options, guint32 fs, const char *done)
{
    struct qidmap_fs row;
    int status = look_at(options, fs, &row);

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

static int work_alias(qidmap_store *store, const struct change *change, guint32 *now,
                      struct qidmap_error *error)
{
    *now = change->fs[1];
    return qidmap_fs_alias(store, change->fs[0], change->fs[1], error);
}

int cmd_fs_alias(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    struct change change = {.verb = "fs-alias", .work = work_alias};
    guint32 now = 0;
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
    status = look_at(&options, old_fs, &old_row);
    if (status == CMD_OK) {
        status = look_at(&options, new_fs, &new_row);
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
    change.fs[0] = old_fs;
    change.fs[1] = new_fs;
    change.arguments = json_object_new();
    json_object_set_int_member(change.arguments, "old", old_fs);
    json_object_set_int_member(change.arguments, "new", new_fs);
    status = make_change(&options, &change, &now, &error);
    if (status != CMD_OK || error.code != 0) {
        return status != CMD_OK ? status : cmd_refused(&error);
    }
    g_autofree char *done = g_strdup_printf("filesystem %u now has the ids of %u", new_fs, old_fs);
    return show(&options, new_fs, done);
}

static int work_retire(qidmap_store *store, const struct change *change, guint32 *now,
                       struct qidmap_error *error)
{
    *now = change->fs[0];
    return qidmap_fs_retire(store, change->fs[0], error);
}

int cmd_fs_retire(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    struct change change = {.verb = "fs-retire", .work = work_retire};
    struct qidmap_error error;
    struct qidmap_fs row;
    guint32 fs, now = 0;
    gboolean yes = FALSE;
    int status;

    if (!cmd_parse(cmd, &options, yes_entries(&yes), argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1 || !cmd_fs_number(options.rest[0], &fs)) {
        return cmd_usage(cmd, "fs retire needs one number of a filesystem, as fs list prints them");
    }
    status = look_at(&options, fs, &row);
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
    change.fs[0] = fs;
    change.arguments = json_object_new();
    json_object_set_int_member(change.arguments, "fs", fs);
    status = make_change(&options, &change, &now, &error);
    if (status != CMD_OK || error.code != 0) {
        return status != CMD_OK ? status : cmd_refused(&error);
    }
    g_autofree char *done = g_strdup_printf("filesystem %u is retired", fs);
    return show(&options, fs, done);
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

static int work_policy(qidmap_store *store, const struct change *change, guint32 *now,
                       struct qidmap_error *error)
{
    return qidmap_fs_set_policy(store, change->fs[0], change->policy, change->renumber, now, error);
}

int cmd_fs_policy(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    struct change change = {.verb = "fs-policy", .work = work_policy};
    gboolean yes = FALSE, renumber = FALSE;
    const GOptionEntry extra[] = {
        {"renumber", 0, 0, G_OPTION_ARG_NONE, &renumber,
         "its files may get new ids: a filesystem that has given ids is retired", NULL},
        *yes_entries(&yes),
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct qidmap_error error;
    struct qidmap_fs row;
    guint32 fs, policy, now = 0;
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
    status = look_at(&options, fs, &row);
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
    change.fs[0] = fs;
    change.policy = policy;
    change.renumber = renumber;
    change.arguments = json_object_new();
    json_object_set_int_member(change.arguments, "fs", fs);
    json_object_set_string_member(change.arguments, "policy", options.rest[1]);
    json_object_set_boolean_member(change.arguments, "renumber", renumber);
    status = make_change(&options, &change, &now, &error);
    if (status != CMD_OK) {
        return status;
    }
    if (error.code == -ENOTEMPTY && !renumber) {
        cmd_error("filesystem %u has given ids, which would change; --renumber says that this is "
                  "meant",
                  fs);
        return CMD_TROUBLE;
    }
    if (error.code != 0) {
        return cmd_refused(&error);
    }
    g_autofree char *done =
        now == fs ? g_strdup_printf("filesystem %u has the policy %s", fs, options.rest[1])
                  : g_strdup_printf("filesystem %u is retired; %u has the policy %s in its place",
                                    fs, now, options.rest[1]);
    return show(&options, now, done);
}
