/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `qidmapctl load` and `restore`: a store of a dump. The library checks it, and puts it in place.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
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

void cmd_show_load(const char *done, const struct qidmap_load_result *r, gboolean json)
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
    printf("%s: %" G_GUINT64_FORMAT " filesystems, %" G_GUINT64_FORMAT
           " affix entries, %" G_GUINT64_FORMAT " full map rows%s\n",
           done, r->fs_rows, r->affix_rows, r->full_rows,
           r->jumped != 0 ? "; numbers for new files begin far behind the others" : "");
}

/* A daemon does not wait for a pipe: what comes there is put into a file without a name first. A
 * descriptor, or a negative errno. */
static int as_file(int fd)
{
    char bytes[65536];
    struct stat st;
    FILE *file;
    int copy;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return copy < 0 ? -errno : copy;
    }
    file = tmpfile();
    if (file == NULL) {
        return -errno;
    }
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || (n > 0 && fwrite(bytes, 1, (size_t)n, file) != (size_t)n)) {
            int code = errno != 0 ? -errno : -EIO;
            fclose(file);
            return code;
        }
        if (n == 0) {
            break;
        }
    }
    copy = fflush(file) == 0 ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 0) : -1;
    if (copy < 0 || lseek(copy, 0, SEEK_SET) != 0) {
        int code = errno != 0 ? -errno : -EIO;
        if (copy >= 0) {
            close(copy);
        }
        fclose(file);
        return code;
    }
    fclose(file);
    return copy;
}

static int tell_failed(struct qidmap_error *error, const char *what, int code)
{
    error->code = code;
    g_snprintf(error->text, sizeof error->text, "%s: %s", what, g_strerror(-code));
    return code;
}

/* Has the daemon that has the store load it from `fd`. 0 or a negative errno. */
static int ask(const char *socket, const char *uri, int fd, unsigned flags, progress *line,
               struct qidmap_load_result *result, struct qidmap_error *error)
{
    g_autoptr(JsonObject) reply = NULL;
    g_autofree char *name = NULL, *path = NULL;
    JsonObject *arguments;
    int fds[2] = {as_file(fd), -1}, code;

    if (fds[0] < 0) {
        return tell_failed(error, "the dump", fds[0]);
    }
    code = cmd_beside(uri, "load", &fds[1], &name, &path);
    if (code < 0) {
        close(fds[0]);
        return tell_failed(error, uri, code);
    }
    arguments = json_object_new();
    cmd_json_name(arguments, "backup", name);
    json_object_set_boolean_member(arguments, "latest", (flags & QIDMAP_LOAD_LATEST) != 0);
    code = cmd_ask(socket, uri, "load", arguments, fds, 2, line, &reply, error);
    close(fds[0]);
    close(fds[1]);
    if (code < 0) {
        return code;
    }
    result->fs_rows = daemon_u64(reply, "fs_rows");
    result->affix_rows = daemon_u64(reply, "affix_rows");
    result->full_rows = daemon_u64(reply, "full_rows");
    result->jumped = json_object_get_boolean_member_with_default(reply, "jumped", FALSE);
    if (daemon_text(reply, "backup")[0] != '\0') {
        g_strlcpy(result->backup, path, sizeof result->backup);
    }
    return 0;
}

/* Makes the store `uri` of the dump `name`, "-" for standard input. Returns an exit status; has
 * told any error, and what was `done`. */
static int load_dump(const struct cmd_options *options, const char *uri, const char *name,
                     unsigned flags, const char *done)
{
    g_autoptr(progress) line = progress_new();
    gboolean is_input = strcmp(name, "-") == 0;
    g_autofree char *shown = is_input ? g_strdup("standard input") : cmd_escape(name, TRUE);
    struct load l = {line, is_input ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC)};
    struct qidmap_load_options how = {
        .size = sizeof how, .flags = flags, .read = read_in, .progress = tell, .data = &l};
    struct qidmap_load_result result = {.size = sizeof result};
    g_autofree char *socket = NULL;
    struct qidmap_error error;
    int r;

    if ((flags & QIDMAP_LOAD_REPLACE) != 0) {
        int status = cmd_daemon(options, uri, &socket);
        if (status != CMD_OK) {
            if (!is_input && l.fd >= 0) {
                close(l.fd);
            }
            return status;
        }
    }
    if (l.fd < 0) {
        cmd_error("%s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    progress_begin(line, "loading", "rows");
    r = socket != NULL ? ask(socket, uri, l.fd, flags, line, &result, &error)
                       : qidmap_load(uri, &how, &result, NULL, &error);
    progress_hide(line);
    if (!is_input) {
        close(l.fd);
    }
    if (r == -EBADMSG) { /* what is wrong is wrong with the file */
        cmd_error("%s: %s", shown, error.text);
        return CMD_TROUBLE;
    }
    if (r < 0) {
        cmd_error("%s", error.text);
        return r == -EINVAL ? CMD_USAGE : CMD_CANNOT;
    }
    cmd_show_load(done, &result, options->json);
    return CMD_OK;
}

int cmd_load(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    gboolean replace = FALSE, latest = FALSE, yes = FALSE;
    const GOptionEntry extra[] = {
        {"replace", 0, 0, G_OPTION_ARG_NONE, &replace,
         "put it in the place of the store that is there", NULL},
        {"latest", 0, 0, G_OPTION_ARG_NONE, &latest,
         "no daemon used the store after the dump was made", NULL},
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do not ask", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autofree char *uri = NULL;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
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
    return load_dump(&options, uri, options.rest[0],
                     (replace ? QIDMAP_LOAD_REPLACE : 0) | (latest ? QIDMAP_LOAD_LATEST : 0),
                     "loaded");
}

int cmd_restore(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.writes = TRUE};
    gboolean yes = FALSE;
    const GOptionEntry extra[] = {
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do it without asking on the terminal", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autofree char *uri = NULL;
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "restore needs one FILE that backup wrote");
    }
    status = cmd_uri(&options, &uri);
    if (status == CMD_OK) {
        g_autofree char *shown = cmd_escape(options.rest[0], TRUE);
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
    return load_dump(&options, uri, options.rest[0], QIDMAP_LOAD_REPLACE, "restored");
}
