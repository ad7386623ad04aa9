/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `qidmapctl load`: makes a store of a dump. The library checks it, and puts it in place. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/progress.h"

struct load {
    progress *line;
    int fd;
};

static long read_in(void *data, void *bytes, size_t size)
{
    ssize_t n;

    do {
        n = read(((struct load *)data)->fd, bytes, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct load *)data)->line, done, total);
    return 0;
}

static void show_result(const struct qidmap_load_result *r, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "row", "end");
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
    printf("loaded: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
           " affix entries, %" G_GUINT64_FORMAT " full map rows%s\n",
           r->fs_rows, r->affix_rows, r->full_rows,
           r->jumped != 0 ? "; numbers for new files begin far behind those of the dump" : "");
}

int cmd_load(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_autoptr(progress) line = progress_new();
    gboolean replace = FALSE, latest = FALSE, yes = FALSE;
    const GOptionEntry extra[] = {
        {"replace", 0, 0, G_OPTION_ARG_NONE, &replace,
         "put it in the place of the store that is there", NULL},
        {"latest", 0, 0, G_OPTION_ARG_NONE, &latest,
         "no daemon used the store after the dump was made", NULL},
        {"yes", 0, 0, G_OPTION_ARG_NONE, &yes, "do not ask", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    struct load l = {line, STDIN_FILENO};
    struct qidmap_load_options how = {
        .size = sizeof how, .read = read_in, .progress = tell, .data = &l};
    struct qidmap_load_result result = {.size = sizeof result};
    struct qidmap_error error;
    g_autofree char *uri = NULL;
    int status, r;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (options.rest[0] == NULL || options.rest[1] != NULL) {
        return cmd_usage(cmd, "one FILE with a dump is needed, or - for standard input");
    }
    status = cmd_uri(&options, &uri);
    if (status == CMD_OK && replace) {
        g_autofree char *shown = cmd_escape(uri, TRUE);
        g_autofree char *question =
            g_strdup_printf("Put the dump in the place of the store %s?", shown);
        status = cmd_confirm(cmd, yes, question);
    }
    if (status != CMD_OK) {
        return status;
    }
    if (strcmp(options.rest[0], "-") != 0) {
        l.fd = open(options.rest[0], O_RDONLY | O_CLOEXEC);
        if (l.fd < 0) {
            int e = errno;
            g_autofree char *shown = cmd_escape(options.rest[0], TRUE);
            cmd_error("%s: %s", shown, g_strerror(e));
            return CMD_CANNOT;
        }
    }
    how.flags = (replace ? QIDMAP_LOAD_REPLACE : 0) | (latest ? QIDMAP_LOAD_LATEST : 0);
    progress_begin(line, "loading", "rows");
    r = qidmap_load(uri, &how, &result, NULL, &error);
    progress_hide(line);
    if (l.fd != STDIN_FILENO) {
        close(l.fd);
    }
    if (r < 0) {
        gboolean is_input = strcmp(options.rest[0], "-") == 0;
        g_autofree char *shown =
            is_input ? g_strdup("standard input") : cmd_escape(options.rest[0], TRUE);
        if (r == -EBADMSG) { /* what is wrong is wrong with the file */
            cmd_error("%s: %s", shown, error.text);
        } else {
            cmd_error("%s", error.text);
        }
        return r == -EBADMSG ? CMD_TROUBLE : r == -EINVAL ? CMD_USAGE : CMD_CANNOT;
    }
    show_result(&result, options.json);
    return CMD_OK;
}
