/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl dump`: all rows of one state of a store, as a table for people, or as the JSON lines
 * that the library writes and `qidmapctl load` reads.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/progress.h"

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

static int text_row(qidmap_store *store, const struct qidmap_row *row, struct counts *counts)
{
    if (row->kind == QIDMAP_ROW_FS) {
        struct qidmap_fs fs = {.size = sizeof fs};
        struct qidmap_error error;
        counts->fs++;
        if (qidmap_fs_get(store, row->fs, &fs, &error) < 0) {
            return cmd_fail(&error);
        }
        fs_text(&fs);
        return CMD_OK;
    }
    *(row->kind == QIDMAP_ROW_AFFIX ? &counts->affix : &counts->full) += 1;
    row_text(row);
    return CMD_OK;
}

static int dump_text(qidmap_store *store, progress *line)
{
    g_autoptr(qidmap_iter) iter = NULL;
    struct counts counts = {0, 0, 0};
    struct qidmap_error error;
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_row row;
    guint64 done = 0;
    int more;

    if (qidmap_iter_open(store, &iter, &error) < 0 ||
        qidmap_store_stats(store, &stats, &error) < 0) {
        return cmd_fail(&error);
    }
    while ((more = qidmap_iter_next(iter, &row, &error)) > 0) {
        progress_tell(line, done++, stats.fs_rows + stats.affix_rows + stats.full_rows);
        int status = text_row(store, &row, &counts);
        if (status != CMD_OK) {
            return status;
        }
    }
    progress_hide(line);
    if (more < 0) {
        return cmd_fail(&error);
    }
    printf("end: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
           " affix entries, %" G_GUINT64_FORMAT " full map rows\n",
           counts.fs, counts.affix, counts.full);
    return CMD_OK;
}

/* To stdout; main() tells when that did not work. */
static int write_out(void *data G_GNUC_UNUSED, const void *bytes, size_t size)
{
    errno = 0;
    if (fwrite(bytes, 1, size, stdout) != size) {
        return errno != 0 ? -errno : -EIO;
    }
    return 0;
}

int cmd_dump(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    struct qidmap_error error;
    int status;

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
    if (isatty(STDOUT_FILENO)) {
        g_clear_pointer(&line, progress_free); /* the rows are there to be seen */
    }
    progress_begin(line, "dumping", "rows");
    if (!options.json) {
        return dump_text(store, line);
    }
    if (qidmap_dump(store, write_out, progress_step, line, &error) < 0) {
        progress_hide(line);
        return cmd_fail(&error);
    }
    return CMD_OK;
}
