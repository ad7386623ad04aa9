/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl fs list` and `fs show`: the filesystems of a store, how each was recognised, how sure
 * that is, and how many rows it has.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fs-rows.h"

/* Strongest of what tells two filesystems with one identity apart, in words; NULL: only names. */
static const char *discriminator(const struct qidmap_hints *hints)
{
    static const guint8 none[16];

    if (memcmp(hints->marker, none, sizeof none) != 0) {
        return "its marker";
    }
    return hints->backing[0] != '\0'     ? "the file behind its loop device"
           : hints->dm_uuid[0] != '\0'   ? "the uuid of its dm device"
           : hints->wwid[0] != '\0'      ? "its disk and partition"
           : hints->part_uuid[0] != '\0' ? "the uuid of its partition"
                                         : NULL;
}

static const char *sureness(const struct qidmap_fs *row)
{
    return cmd_certainty(row->fsid_count > 0 ? row->fsid[0].kind : 0, row->flags, row->policy);
}

char *cmd_fs_certainty(const struct qidmap_fs *row)
{
    GString *out = g_string_new(sureness(row));
    if (row->flags & QIDMAP_IDENTITY_DUPLICATE) {
        gboolean apart = discriminator(&row->hints) != NULL;
        g_string_append(out, apart ? ",duplicate" : ",duplicate-by-names");
    }
    if (row->alias != 0) {
        g_string_append_printf(out, ",alias-of-%u", row->alias);
    }
    if (row->superseded) {
        g_string_append(out, ",superseded");
    }
    if (row->retired) {
        g_string_append(out, ",retired");
    }
    return g_string_free(out, FALSE);
}

static void print_line(const struct qidmap_fs *row, guint64 full)
{
    g_autofree char *sure = cmd_fs_certainty(row);
    const struct qidmap_fsid *identity = cmd_fs_identity(row);
    g_autofree char *id = identity != NULL ? cmd_fsid_text(identity) : g_strdup("-");
    g_autofree char *type = cmd_escape(row->hints.type, TRUE);
    g_autofree char *mount = cmd_escape(row->hints.mount_path, TRUE);
    g_autofree char *source =
        cmd_escape(row->hints.backing[0] != '\0' ? row->hints.backing : row->hints.source, TRUE);

    printf("%-4u %-9s %-9s %-14s %6u %9" G_GUINT64_FORMAT " %-9s %s %s %s\n", row->fs,
           type[0] != '\0' ? type : "-", qidmap_policy_name(row->policy), sure, row->affix_rows,
           full, identity != NULL ? qidmap_fsid_kind_name(identity->kind) : "-", id,
           source[0] != '\0' ? source : "-", mount[0] != '\0' ? mount : "-");
}

void fs_rows_print(const GPtrArray *rows)
{
    printf("%-4s %-9s %-9s %-14s %6s %9s %-9s %s\n", "FS", "TYPE", "POLICY", "CERTAINTY", "AFFIX",
           "FULL", "IDENTITY", "ID SOURCE MOUNTED");
    for (guint i = 0; i < rows->len; i++) {
        const struct fs_rows_one *one = g_ptr_array_index(rows, i);
        print_line(&one->row, one->full);
    }
}

int cmd_fs_list(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    g_autoptr(GPtrArray) rows = NULL;
    int status;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    status = cmd_open(&options, &store);
    if (status == CMD_OK) {
        status = fs_rows_read(store, line, &rows);
    }
    if (status != CMD_OK) {
        return status;
    }
    if (!options.json) {
        fs_rows_print(rows);
        return CMD_OK;
    }
    for (guint i = 0; i < rows->len; i++) {
        const struct fs_rows_one *one = g_ptr_array_index(rows, i);
        cmd_json_line(cmd_fs_json(&one->row, &one->full));
    }
    return CMD_OK;
}

static void print_field(const char *name, const char *value)
{
    g_autofree char *shown = cmd_escape(value, TRUE);
    if (shown[0] != '\0') {
        printf("%-15s %s\n", name, shown);
    }
}

/* The same as certainty(), in sentences. */
static void print_notes(const struct qidmap_fs *row)
{
    const char *apart = discriminator(&row->hints);
    const struct qidmap_fsid *identity = cmd_fs_identity(row);

    printf("identified by   %s\n", identity != NULL ? cmd_fsid_words(identity->kind) : "nothing");
    if (strcmp(sureness(row), "untested") == 0) {
        printf("                (no such server was at hand to try this on)\n");
    }
    if (row->flags & QIDMAP_IDENTITY_DUPLICATE) {
        printf("duplicate       another filesystem has the same identity; told apart by %s\n",
               apart != NULL ? apart : "its device and mount path only");
    }
    if (row->flags & QIDMAP_IDENTITY_READONLY) {
        printf("read-only       where it was seen last\n");
    }
    if (row->alias != 0) {
        printf("alias           the ids of filesystem %u are asked first\n", row->alias);
    }
    if (row->met_count > 0) {
        printf("met             mounted together with");
        for (guint32 i = 0; i < MIN(row->met_count, QIDMAP_FS_MET); i++) {
            printf("%s %u", i > 0 ? "," : "", row->met[i]);
        }
        printf("%s\n", row->met_many ? ", and others" : "");
    }
    if (row->retired) {
        printf("retired         gets a new number when it comes again\n");
    }
}

static void print_identity(const char *label, const struct qidmap_fsid *fsid)
{
    if (fsid != NULL) {
        g_autofree char *id = cmd_fsid_text(fsid);
        printf("%-15s %s %s\n", label, qidmap_fsid_kind_name(fsid->kind), id);
    }
}

static void print_row(const struct qidmap_fs *row, guint64 full)
{
    const struct qidmap_hints *hints = &row->hints;
    g_autofree char *sure = cmd_fs_certainty(row);
    g_autofree char *first = cmd_time_text(hints->first_seen);
    g_autofree char *last = cmd_time_text(hints->last_seen);

    printf("fs              %u\n", row->fs);
    printf("policy          %s%s\n", qidmap_policy_name(row->policy),
           row->chosen ? ", chosen by the operator" : "");
    if (row->superseded) {
        printf("superseded      its files moved elsewhere with their ids; it is served no more\n");
    }
    printf("certainty       %s\n", sure);
    print_notes(row);
    print_identity("identity", cmd_fs_identity(row));
    for (guint32 i = 0; i < MIN(row->fsid_count, QIDMAP_FSID_COUNT); i++) {
        if (&row->fsid[i] != cmd_fs_identity(row)) {
            print_identity("also known as", &row->fsid[i]);
        }
    }
    printf("affix entries   %u%s\n", row->affix_rows, row->left_budget ? " (gets no more)" : "");
    printf("full map rows   %" G_GUINT64_FORMAT "%s\n", full,
           row->has_bound ? " (some bound to ids given elsewhere)" : "");
    if (row->instance != 0) {
        printf("instance        %u\n", row->instance);
    }
    print_field("type", hints->type);
    print_field("source", hints->source);
    print_field("backing file", hints->backing);
    print_field("dm uuid", hints->dm_uuid);
    print_field("wwid", hints->wwid);
    print_field("partition uuid", hints->part_uuid);
    if (hints->partition != 0) {
        printf("partition       %u\n", hints->partition);
    }
    print_field("mounted", hints->mount_path);
    print_field("tree", hints->tree);
    printf("root inode      %" G_GUINT64_FORMAT ", generation %u\n", hints->root_ino,
           hints->root_gen);
    print_field("boot id", hints->boot_id);
    print_field("machine id", hints->machine_id);
    printf("first seen      %s\n", first);
    printf("last seen       %s\n", last);
}

int cmd_fs_show(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    g_autoptr(GPtrArray) rows = NULL;
    const struct fs_rows_one *one;
    guint32 number;
    int status;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1 || !cmd_fs_number(options.rest[0], &number)) {
        return cmd_usage(cmd, "fs show needs one number of a filesystem, as fs list prints them");
    }
    status = cmd_open(&options, &store);
    if (status != CMD_OK) {
        return status;
    }
    status = fs_rows_read(store, line, &rows);
    if (status != CMD_OK) {
        return status;
    }
    one = fs_rows_find(rows, number);
    if (one == NULL) {
        cmd_error("the store has no filesystem %u; see qidmapctl fs list", number);
        return CMD_TROUBLE;
    }
    if (options.json) {
        cmd_json_line(cmd_fs_json(&one->row, &one->full));
    } else {
        print_row(&one->row, one->full);
    }
    return CMD_OK;
}
