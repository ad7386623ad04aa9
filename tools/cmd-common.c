/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The part that is the same in every verb: options, the way from them to an open store, and errors
 * with their exit statuses. It reads from qidmapd.conf only what leads to a store and to the
 * identities of filesystems; the daemon's own reader is the judge of that file.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/daemon.h"

#define DEFAULT_CONFIG SYSCONFDIR "/qidmap/qidmapd.conf"

void cmd_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *clean = cmd_terminal(text); /* many a text has names of the host in it */
    fflush(stdout);
    fprintf(stderr, "qidmapctl: %s\n", clean);
}

int cmd_usage(const struct cmd *cmd, const char *text)
{
    cmd_error("%s; see qidmapctl %s --help", text, cmd->name);
    return CMD_USAGE;
}

static int status_of(int code)
{
    switch (-code) {
    case EUCLEAN:
    case ENODATA:
        return CMD_TROUBLE;
    case EINVAL:
        return CMD_USAGE;
    default:
        return CMD_CANNOT;
    }
}

int cmd_fail(const struct qidmap_error *error)
{
    cmd_error("%s", error->text);
    return status_of(error->code);
}

int cmd_refused(const struct qidmap_error *error)
{
    cmd_error("%s", error->text);
    switch (-error->code) {
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

int cmd_fail_code(const char *what, int code)
{
    g_autofree char *shown = cmd_escape(what, TRUE);
    cmd_error("%s: %s", shown, code == -EUCLEAN ? "the store is damaged" : g_strerror(-code));
    return code == -ENOENT || code == -EUCLEAN ? CMD_TROUBLE : CMD_CANNOT;
}

void cmd_options_clear(struct cmd_options *options)
{
    g_clear_pointer(&options->store, g_free);
    g_clear_pointer(&options->export_name, g_free);
    g_clear_pointer(&options->config, g_free);
    g_clear_pointer(&options->control, g_free);
    g_clear_pointer(&options->fs_ids, g_strfreev);
    g_clear_pointer(&options->rest, g_strfreev);
}

/* glib writes an ellipsis, which terminals in the C locale cannot show. */
static void print_verb_help(GOptionContext *context)
{
    g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
    g_auto(GStrv) parts = g_strsplit(help, "\xe2\x80\xa6", -1);
    g_autofree char *plain = g_strjoinv("...", parts);
    fputs(plain, stdout);
}

static gboolean check_store(const struct cmd *cmd, const struct cmd_options *options, int *status)
{
    if (options->store != NULL && options->export_name != NULL) {
        *status = cmd_usage(cmd, "either --store or --export, not both");
        return FALSE;
    }
    if (options->use == CMD_STORE && !cmd_has_store(options)) {
        *status = cmd_usage(cmd, "--store URI or --export NAME says which store");
        return FALSE;
    }
    return TRUE;
}

gboolean cmd_parse(const struct cmd *cmd, struct cmd_options *options, const GOptionEntry *extra,
                   int argc, char **argv, int *status)
{
    gboolean help = FALSE;
    g_autofree char *name = g_strdup_printf("qidmapctl %s", cmd->name);
    const GOptionEntry common[] = {
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "show this", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &options->json, "print JSON, an object in each line",
         NULL},
        {G_OPTION_REMAINING, 0, G_OPTION_FLAG_NONE, G_OPTION_ARG_FILENAME_ARRAY, &options->rest,
         NULL, cmd->args[0] != '\0' ? cmd->args : NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    const GOptionEntry stores[] = {
        {"store", 0, 0, G_OPTION_ARG_FILENAME, &options->store,
         "the store to look at, for example lmdb:/var/lib/qidmap/store", "URI"},
        {"export", 0, 0, G_OPTION_ARG_FILENAME, &options->export_name,
         "the store of that export in qidmapd.conf", "NAME"},
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &options->config,
         "read FILE in place of " DEFAULT_CONFIG, "FILE"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    const GOptionEntry daemons[] = {
        {"control", 0, 0, G_OPTION_ARG_FILENAME, &options->control,
         "the control socket of the daemon that has the store open", "PATH"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_set_prgname(name);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_summary(context, cmd->summary);
    if (cmd->details != NULL) {
        g_option_context_set_description(context, cmd->details);
    }
    if (options->use != CMD_STORE_NONE) {
        g_option_context_add_main_entries(context, stores, NULL);
    }
    if (options->writes) {
        g_option_context_add_main_entries(context, daemons, NULL);
    }
    g_option_context_add_main_entries(context, common, NULL);
    if (extra != NULL) {
        g_option_context_add_main_entries(context, extra, NULL);
    }
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_autofree char *shown = cmd_escape(error->message, TRUE);
        cmd_error("%s; see %s --help", shown, name);
        *status = CMD_USAGE;
        return FALSE;
    }
    if (help) {
        print_verb_help(context);
        *status = CMD_OK;
        return FALSE;
    }
    if (options->rest == NULL) {
        options->rest = g_new0(char *, 1);
    }
    if (cmd->args[0] == '\0' && options->rest[0] != NULL) {
        g_autofree char *shown = cmd_escape(options->rest[0], TRUE);
        cmd_error("%s takes no argument, but got %s; see %s --help", cmd->name, shown, name);
        *status = CMD_USAGE;
        return FALSE;
    }
    return check_store(cmd, options, status);
}

gboolean cmd_has_store(const struct cmd_options *options)
{
    return options->store != NULL || options->export_name != NULL;
}

/* Adds the fs-id settings of the file behind those of the command line, which win. */
static void append_fs_ids(struct cmd_options *options, GKeyFile *file)
{
    g_auto(GStrv) more = g_key_file_get_string_list(file, "daemon", "fs-id", NULL, NULL);
    if (more == NULL) {
        return;
    }
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    for (char **id = options->fs_ids; id != NULL && *id != NULL; id++) {
        g_ptr_array_add(all, g_strdup(*id));
    }
    for (char **id = more; *id != NULL; id++) {
        g_ptr_array_add(all, g_strdup(*id));
    }
    g_ptr_array_add(all, NULL);
    g_strfreev(options->fs_ids);
    options->fs_ids = (char **)g_ptr_array_free(g_steal_pointer(&all), FALSE);
}

const char *cmd_config_path(const struct cmd_options *options)
{
    return options->config != NULL ? options->config : DEFAULT_CONFIG;
}

/* The store of the export that the options name, from the file. */
static int read_config(struct cmd_options *options, char **uri)
{
    const char *path = cmd_config_path(options);
    g_autofree char *group = g_strdup_printf("export %s", options->export_name);
    g_autofree char *shown = cmd_escape(options->export_name, TRUE);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
        cmd_error("cannot read %s: %s", path, error->message);
        return CMD_CANNOT;
    }
    if (!g_key_file_has_group(file, group)) {
        cmd_error("%s has no group [export %s]; its [export NAME] groups say which names exist",
                  path, shown);
        return CMD_CANNOT;
    }
    *uri = g_key_file_get_string(file, group, "store", NULL);
    if (*uri == NULL) {
        *uri = g_key_file_get_string(file, "daemon", "store", NULL);
    }
    if (*uri == NULL) {
        cmd_error("%s names no store= for export %s, neither in its group nor in [daemon]", path,
                  shown);
        return CMD_CANNOT;
    }
    append_fs_ids(options, file);
    return CMD_OK;
}

int cmd_uri(struct cmd_options *options, char **uri)
{
    g_autofree char *found = NULL;

    if (options->store != NULL) {
        found = g_strdup(options->store);
    } else {
        int status = read_config(options, &found);
        if (status != CMD_OK) {
            return status;
        }
    }
    if (strcmp(found, "memory:") == 0) {
        cmd_error("memory: lives inside the daemon and ends with it, so it cannot be looked at; "
                  "serve with an lmdb: store instead");
        return CMD_CANNOT;
    }
    *uri = g_steal_pointer(&found);
    return CMD_OK;
}

static int open_store(struct cmd_options *options, unsigned flags, qidmap_store **store)
{
    struct qidmap_error error;
    g_autofree char *uri = NULL;
    int status = cmd_uri(options, &uri);

    if (status != CMD_OK) {
        return status;
    }
    if (qidmap_store_open(uri, flags, NULL, store, &error) == 0) {
        return CMD_OK;
    }
    if (error.code == -EBUSY && (flags & QIDMAP_OPEN_WRITE) != 0) {
        cmd_error("%s; this verb changes the store: stop that process, and try again", error.text);
        return CMD_CANNOT;
    }
    return cmd_fail(&error);
}

int cmd_open(struct cmd_options *options, qidmap_store **store)
{
    return open_store(options, QIDMAP_OPEN_READ, store);
}

int cmd_open_write(struct cmd_options *options, qidmap_store **store)
{
    return open_store(options, QIDMAP_OPEN_WRITE, store);
}

int cmd_daemon(const struct cmd_options *options, const char *uri, char **path)
{
    struct qidmap_error error;
    int code;

    *path = NULL;
    if (options->control != NULL) {
        *path = g_strdup(options->control);
        return CMD_OK;
    }
    code = daemon_find(uri, path, &error);
    return code == -EBUSY ? cmd_fail(&error) : CMD_OK; /* others are told by who opens the store */
}

int cmd_ask(const char *path, const char *uri, const char *verb, JsonObject *arguments,
            const int *fds, gsize n_fds, struct progress *line, JsonObject **result,
            struct qidmap_error *error)
{
    g_autofree char *real = daemon_store_uri(uri);

    if (arguments == NULL) {
        arguments = json_object_new();
    }
    cmd_json_name(arguments, "store", real);
    return daemon_call(path, verb, arguments, fds, n_fds, line, result, error);
}

int cmd_beside(const char *uri, const char *what, int *dir, char **name, char **path)
{
    g_autofree char *real = daemon_store_uri(uri);
    const char *place = strchr(real, ':') + 1;
    g_autofree char *parent = g_path_get_dirname(place);
    g_autofree char *base = g_path_get_basename(place);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%SZ");

    *dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dir < 0) {
        return -errno;
    }
    *name = g_strdup_printf("%s.before-%s-%s-%ld.json", base, what, time, (long)getpid());
    *path = g_build_filename(parent, *name, NULL);
    return 0;
}

int cmd_confirm(const struct cmd *cmd, gboolean yes, const char *question)
{
    char answer[16];

    if (yes) {
        return CMD_OK;
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        return cmd_usage(cmd, "there is no terminal to ask on: --yes says that you mean it");
    }
    fflush(stdout);
    fprintf(stderr, "%s [y/N] ", question);
    if (fgets(answer, sizeof answer, stdin) != NULL && g_ascii_strncasecmp(answer, "y", 1) == 0) {
        return CMD_OK;
    }
    cmd_error("nothing was changed");
    return CMD_TROUBLE;
}
