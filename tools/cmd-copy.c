/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl copy`, `backup` and `restore`: one consistent state of a store to another store, to a
 * file, and back. All of them work while a daemon uses the store that is read.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/output-file.h"
#include "tools/progress.h"

static int tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(data, done, total);
    return 0;
}

static void show(const char *done, const struct qidmap_load_result *r, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        cmd_json_u64(object, "fs_rows", r->fs_rows);
        cmd_json_u64(object, "affix_rows", r->affix_rows);
        cmd_json_u64(object, "full_rows", r->full_rows);
        json_object_set_boolean_member(object, "jumped", r->jumped != 0);
        cmd_json_name(object, "backup", r->backup);
        cmd_json_line(object);
        return;
    }
    if (r->backup[0] != '\0') {
        g_autofree char *shown = cmd_escape(r->backup, TRUE);
        printf("what was there: %s\n", shown);
    }
    printf("%s: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
           " affix entries, %" G_GUINT64_FORMAT " full map rows%s\n",
           done, r->fs_rows, r->affix_rows, r->full_rows,
           r->jumped != 0 ? "; its numbers for new files begin far ahead" : "");
}

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
    struct qidmap_copy_options how = {.size = sizeof how, .progress = tell, .data = line};
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
    show("copied", &result, options.json);
    return CMD_OK;
}

/* ---- backup ---------------------------------------------------------------------------------- */

struct backup {
    output_file *file;
    progress *line;
};

static int backup_write(void *data, const void *bytes, size_t size)
{
    return output_file_write(((struct backup *)data)->file, bytes, size);
}

static int backup_tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct backup *)data)->line, done, total);
    return 0;
}

int cmd_backup(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(progress) line = progress_new();
    g_autoptr(output_file) file = NULL;
    gboolean replace = FALSE;
    const GOptionEntry extra[] = {
        {"replace", 0, 0, G_OPTION_ARG_NONE, &replace, "put it in the place of a file FILE", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct backup backup;
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
    file = output_file_new(options.rest[0], replace);
    if (file == NULL) {
        return CMD_CANNOT;
    }
    backup = (struct backup){file, line};
    progress_begin(line, "writing", "rows");
    int code = qidmap_dump(store, backup_write, backup_tell, &backup, &error);
    progress_hide(line);
    if (code < 0) {
        return cmd_fail(&error);
    }
    return output_file_finish(file) ? CMD_OK : CMD_CANNOT;
}

/* ---- restore --------------------------------------------------------------------------------- */

struct restore {
    int fd;
    progress *line;
};

static long restore_read(void *data, void *bytes, size_t size)
{
    ssize_t n;

    do {
        n = read(((struct restore *)data)->fd, bytes, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int restore_tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct restore *)data)->line, done, total);
    return 0;
}

int cmd_restore(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(progress) line = progress_new();
    gboolean yes = FALSE;
    const GOptionEntry extra[] = {
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do it without asking on the terminal", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct restore restore = {-1, line};
    struct qidmap_load_options how = {.size = sizeof how,
                                      .flags = QIDMAP_LOAD_REPLACE,
                                      .read = restore_read,
                                      .progress = restore_tell,
                                      .data = &restore};
    struct qidmap_load_result result = {.size = sizeof result};
    struct qidmap_error error;
    g_autofree char *uri = NULL;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "restore needs one FILE that backup wrote");
    }
    g_autofree char *shown = cmd_escape(options.rest[0], TRUE);
    status = cmd_uri(&options, &uri);
    if (status == CMD_OK) {
        g_autofree char *store = cmd_escape(uri, TRUE);
        g_autofree char *question =
            g_strdup_printf("Files that were met after %s was written get new ids: what the store "
                            "%s knows of them is dumped beside it and put out of use. Do it?",
                            shown, store);
        status = cmd_confirm(cmd, yes, question);
    }
    if (status != CMD_OK) {
        return status;
    }
    restore.fd = open(options.rest[0], O_RDONLY | O_CLOEXEC);
    if (restore.fd < 0) {
        cmd_error("%s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    progress_begin(line, "restoring", "rows");
    int code = qidmap_load(uri, &how, &result, NULL, &error);
    progress_hide(line);
    close(restore.fd);
    if (code == -EBADMSG) { /* what is wrong is wrong with the file */
        cmd_error("%s: %s", shown, error.text);
        return CMD_TROUBLE;
    }
    if (code < 0) {
        return cmd_fail(&error);
    }
    show("restored", &result, options.json);
    return CMD_OK;
}
