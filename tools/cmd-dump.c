/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl dump`: all rows of one state of a store, as a table for people or as JSON lines for
 * programs. The closing line has the counts, and the counters of the store: they are read after the
 * rows, so that they are never behind them.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"

struct counts {
    guint64 fs, affix, full;
};

static char *handle_text(const struct qidmap_object *object)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < MIN(object->handle_size, QIDMAP_HANDLE_BYTES); i++) {
        g_string_append_printf(out, "%02x", object->handle[i]);
    }
    return g_string_free(out, FALSE);
}

static void object_json(JsonObject *json, const struct qidmap_object *object)
{
    g_autofree char *handle = NULL;

    switch (object->kind) {
    case QIDMAP_OBJECT_HANDLE:
        handle = handle_text(object);
        json_object_set_string_member(json, "object", "handle");
        json_object_set_int_member(json, "handle_type", object->handle_type);
        json_object_set_string_member(json, "handle", handle);
        break;
    case QIDMAP_OBJECT_PLACEHOLDER:
        json_object_set_string_member(json, "object", "placeholder");
        cmd_json_u64(json, "inode", object->ino);
        cmd_json_u64(json, "d_ino", object->ino2);
        break;
    default:
        json_object_set_string_member(json, "object", "inode");
        cmd_json_u64(json, "inode", object->ino);
        break;
    }
}

static void row_json(const struct qidmap_row *row)
{
    JsonObject *json = json_object_new();

    if (row->kind == QIDMAP_ROW_AFFIX) {
        json_object_set_string_member(json, "row", "affix");
        json_object_set_int_member(json, "fs", row->fs);
        json_object_set_int_member(json, "index", row->index);
        json_object_set_int_member(json, "bits", row->bits);
        cmd_json_u64(json, "top", row->top);
        cmd_json_u64(json, "suffix", row->path);
    } else {
        json_object_set_string_member(json, "row", "full");
        json_object_set_int_member(json, "fs", row->fs);
        cmd_json_u64(json, "qid_path", row->path);
        object_json(json, &row->object);
    }
    cmd_json_line(json);
}

static void row_text(const struct qidmap_row *row)
{
    const struct qidmap_object *object = &row->object;

    if (row->kind == QIDMAP_ROW_AFFIX) {
        if (row->bits == 0) {
            printf("affix  %-5u n=%u: every inode; qid path ends in 0x%" G_GINT64_MODIFIER "x\n",
                   row->fs, row->index, row->path);
        } else {
            printf("affix  %-5u n=%u: inodes whose top %u bits are 0x%" G_GINT64_MODIFIER
                   "x; qid path = inode << %u | 0x%" G_GINT64_MODIFIER "x\n",
                   row->fs, row->index, row->bits, row->top, row->bits, row->path);
        }
    } else if (object->kind == QIDMAP_OBJECT_HANDLE) {
        g_autofree char *handle = handle_text(object);
        printf("full   %-5u qid path %" G_GUINT64_FORMAT " = handle %d:%s\n", row->fs, row->path,
               object->handle_type, handle);
    } else if (object->kind == QIDMAP_OBJECT_PLACEHOLDER) {
        printf("full   %-5u qid path %" G_GUINT64_FORMAT " = placeholder %" G_GUINT64_FORMAT
               " in directory inode %" G_GUINT64_FORMAT "\n",
               row->fs, row->path, object->ino2, object->ino);
    } else {
        printf("full   %-5u qid path %" G_GUINT64_FORMAT " = inode %" G_GUINT64_FORMAT "\n",
               row->fs, row->path, object->ino);
    }
}

static void fs_text(const struct qidmap_fs *row)
{
    g_autofree char *type = cmd_escape(row->hints.type, TRUE);
    g_autofree char *source = cmd_escape(row->hints.source, TRUE);
    g_autofree char *id = row->fsid_count > 0 ? cmd_fsid_text(&row->fsid[0]) : g_strdup("-");

    printf("fs     %-5u %s %s %s on %s%s%s%s\n", row->fs, qidmap_policy_name(row->policy),
           row->fsid_count > 0 ? qidmap_fsid_kind_name(row->fsid[0].kind) : "-", id,
           type[0] != '\0' ? type : "-", source[0] != '\0' ? " " : "", source,
           row->retired ? " (retired)" : "");
}

static int dump_row(qidmap_store *store, const struct qidmap_row *row, gboolean json,
                    struct counts *counts)
{
    if (row->kind == QIDMAP_ROW_FS) {
        struct qidmap_fs fs = {.size = sizeof fs};
        struct qidmap_error error;
        counts->fs++;
        if (qidmap_fs_get(store, row->fs, &fs, &error) < 0) {
            return cmd_fail(&error);
        }
        if (json) {
            cmd_json_line(cmd_fs_json(&fs, NULL));
        } else {
            fs_text(&fs);
        }
        return CMD_OK;
    }
    *(row->kind == QIDMAP_ROW_AFFIX ? &counts->affix : &counts->full) += 1;
    if (json) {
        row_json(row);
    } else {
        row_text(row);
    }
    return CMD_OK;
}

static void closing_line(const struct counts *counts, const struct qidmap_stats *stats,
                         gboolean json)
{
    if (!json) {
        printf("end: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
               " affix entries, %" G_GUINT64_FORMAT " full map rows\n",
               counts->fs, counts->affix, counts->full);
        return;
    }
    JsonObject *object = json_object_new();
    struct qidmap_fsid fsid = {QIDMAP_FSID_UUID, 16, {0}};
    memcpy(fsid.bytes, stats->uuid, sizeof stats->uuid);
    g_autofree char *uuid = cmd_fsid_text(&fsid);
    json_object_set_string_member(object, "row", "end");
    cmd_json_u64(object, "fs_rows", counts->fs);
    cmd_json_u64(object, "affix_rows", counts->affix);
    cmd_json_u64(object, "full_rows", counts->full);
    json_object_set_int_member(object, "format", stats->format);
    json_object_set_string_member(object, "uuid", uuid);
    json_object_set_int_member(object, "affix_budget", stats->affix_budget);
    cmd_json_u64(object, "next_fs", stats->next_fs);
    cmd_json_u64(object, "next_affix", stats->next_affix);
    cmd_json_u64(object, "next_serial", stats->next_serial);
    cmd_json_u64(object, "next_instance", stats->next_instance);
    cmd_json_line(object);
}

int cmd_dump(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(qidmap_iter) iter = NULL;
    struct qidmap_stats stats = {.size = sizeof stats};
    struct counts counts = {0, 0, 0};
    struct qidmap_error error;
    struct qidmap_row row;
    int status, more;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    if (cmd_dump_virtfs(&options, &status)) {
        return status;
    }
    status = cmd_open(&options, &store);
    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_iter_open(store, &iter, &error) < 0) {
        return cmd_fail(&error);
    }
    while ((more = qidmap_iter_next(iter, &row, &error)) > 0) {
        status = dump_row(store, &row, options.json, &counts);
        if (status != CMD_OK) {
            return status;
        }
    }
    if (more < 0) {
        return cmd_fail(&error);
    }
    g_clear_pointer(&iter, qidmap_iter_close);
    if (qidmap_store_stats(store, &stats, &error) < 0) {
        return cmd_fail(&error);
    }
    closing_line(&counts, &stats, options.json);
    return CMD_OK;
}
