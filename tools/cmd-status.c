/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl status`: what a store is, how much it holds and of what, and how much room it has.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/fs-rows.h"
#include "tools/id-space.h"
#include "tools/progress.h"

static char *store_uuid(const struct qidmap_stats *stats)
{
    struct qidmap_fsid fsid = {QIDMAP_FSID_UUID, 16, {0}};
    memcpy(fsid.bytes, stats->uuid, sizeof stats->uuid);
    return cmd_fsid_text(&fsid);
}

/* Of such stores it is said how many rows fit. */
static gboolean has_few_rows(const struct qidmap_stats *stats)
{
    return strcmp(stats->backend, "xattr") == 0;
}

static void print_json(const struct qidmap_stats *stats, const GPtrArray *rows)
{
    JsonObject *object = json_object_new();
    JsonArray *filesystems = json_array_new();
    g_autofree char *uuid = store_uuid(stats);

    cmd_json_name(object, "store", stats->uri);
    json_object_set_string_member(object, "backend", stats->backend);
    json_object_set_int_member(object, "format", stats->format);
    json_object_set_string_member(object, "uuid", uuid);
    json_object_set_int_member(object, "created", stats->created);
    json_object_set_int_member(object, "last_clean_stop", stats->last_clean_stop);
    cmd_json_u64(object, "epoch", stats->epoch);
    json_object_set_int_member(object, "affix_budget", stats->affix_budget);
    cmd_json_u64(object, "fs_rows", stats->fs_rows);
    cmd_json_u64(object, "affix_rows", stats->affix_rows);
    cmd_json_u64(object, "full_rows", stats->full_rows);
    cmd_json_u64(object, "next_fs", stats->next_fs);
    cmd_json_u64(object, "next_affix", stats->next_affix);
    cmd_json_u64(object, "next_serial", stats->next_serial);
    cmd_json_u64(object, "next_instance", stats->next_instance);
    cmd_json_u64(object, "bytes_used", stats->bytes_used);
    cmd_json_u64(object, "bytes_room", stats->bytes_room);
    if (has_few_rows(stats)) {
        cmd_json_u64(object, "rows_room", stats->rows_room);
    }
    for (guint i = 0; i < rows->len; i++) {
        const struct fs_rows_one *one = g_ptr_array_index(rows, i);
        JsonObject *fs = cmd_fs_json(&one->row, &one->full);
        json_object_set_double_member(fs, "id_share", one->share);
        json_array_add_object_element(filesystems, fs);
    }
    json_object_set_array_member(object, "filesystems", filesystems);
    json_object_set_object_member(object, "id_space", id_space_json(rows));
    cmd_json_line(object);
}

/* Columns for a picture; 0 where the output is for a program or a file. */
static guint columns(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO)) {
        return 0;
    }
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void print_text(const struct qidmap_stats *stats, const GPtrArray *rows)
{
    g_autofree char *uri = cmd_escape(stats->uri, TRUE);
    g_autofree char *uuid = store_uuid(stats);
    g_autofree char *created = cmd_time_text(stats->created);
    g_autofree char *stopped = cmd_time_text(stats->last_clean_stop);
    g_autofree char *used = cmd_size_text(stats->bytes_used);
    g_autofree char *room = cmd_size_text(stats->bytes_room);

    printf("store            %s\n", uri);
    printf("backend          %s, format %u\n", stats->backend, stats->format);
    printf("uuid             %s\n", uuid);
    printf("created          %s\n", created);
    printf("last clean stop  %s\n", stats->last_clean_stop != 0
                                        ? stopped
                                        : "none: open for writing now, or not stopped in order");
    printf("commits          %" G_GUINT64_FORMAT "\n", stats->epoch);
    printf("filesystems      %" G_GUINT64_FORMAT "\n", stats->fs_rows);
    printf("affix entries    %" G_GUINT64_FORMAT, stats->affix_rows);
    if (!has_few_rows(stats)) {
        printf(" (at most %u for each filesystem)", stats->affix_budget);
    }
    putchar('\n');
    printf("full map rows    %" G_GUINT64_FORMAT "\n", stats->full_rows);
    printf("next numbers     fs %" G_GUINT64_FORMAT ", affix %" G_GUINT64_FORMAT
           ", serial %" G_GUINT64_FORMAT ", instance %" G_GUINT64_FORMAT "\n",
           stats->next_fs, stats->next_affix, stats->next_serial, stats->next_instance);
    printf("space            %s used", used);
    if (stats->bytes_room != 0) {
        printf(", may grow to %s", room);
    }
    putchar('\n');
    if (has_few_rows(stats)) {
        printf("rows             %" G_GUINT64_FORMAT " used, about %" G_GUINT64_FORMAT
               " affix entries left%s\n",
               stats->fs_rows + stats->affix_rows, stats->rows_room,
               stats->rows_room == 0 ? "; only an lmdb: store has more room" : "");
    }
    if (rows->len > 0) {
        putchar('\n');
        fs_rows_print(rows);
    }
    id_space_print(stats, rows, columns());
}

int cmd_status(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    g_autoptr(GPtrArray) rows = NULL;
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_error error;
    int status;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    status = cmd_open(&options, &store);
    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_store_stats(store, &stats, &error) < 0) {
        return cmd_fail(&error);
    }
    status = fs_rows_read(store, line, &rows);
    if (status != CMD_OK) {
        return status;
    }
    if (options.json) {
        print_json(&stats, rows);
    } else {
        print_text(&stats, rows);
    }
    return CMD_OK;
}
