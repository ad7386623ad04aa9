/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads from qidmapd.conf where an export is; cmd-common.c finds its store there.
 */
#include "config.h"

#include <string.h>

#include "tools/export-arg.h"

/* A key of the export's group, else of [daemon]. */
static char *value(GKeyFile *file, const char *group, const char *key)
{
    char *text = g_key_file_get_string(file, group, key, NULL);
    return text != NULL ? text : g_key_file_get_string(file, "daemon", key, NULL);
}

/* What the file says of options->export_name. The folder is not taken where there is one. */
static int read_file(const struct cmd_options *options, struct export_arg *arg)
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
        cmd_error("%s has no group [export %s]; a folder is written with a '/'", path, shown);
        return CMD_CANNOT;
    }
    if (arg->folder == NULL) {
        arg->folder = g_key_file_get_string(file, group, "path", NULL);
    }
    if (arg->folder == NULL) {
        cmd_error("%s names no path= for export %s", path, shown);
        return CMD_CANNOT;
    }
    g_autofree char *bind = value(file, group, "bind");
    g_autofree char *weak = value(file, group, "weak");
    arg->distinct = g_strcmp0(bind, "distinct") == 0;
    arg->split_weak = g_strcmp0(weak, "split") == 0;
    return CMD_OK;
}

int export_arg_read(const struct cmd *cmd, struct cmd_options *options, const char *text,
                    struct export_arg *arg)
{
    gboolean folder = text != NULL && (strchr(text, '/') != NULL || strcmp(text, ".") == 0 ||
                                       strcmp(text, "..") == 0 || cmd_has_store(options));

    *arg = (struct export_arg){NULL, FALSE, FALSE};
    if (text == NULL && options->export_name == NULL) {
        return cmd_usage(cmd, "which export? A folder, or a name in qidmapd.conf");
    }
    if (folder) {
        arg->folder = g_strdup(text);
    } else if (text != NULL) {
        options->export_name = g_strdup(text);
    }
    if (!cmd_has_store(options)) {
        return cmd_usage(cmd, "--store URI or --export NAME says which store");
    }
    return options->export_name != NULL ? read_file(options, arg) : CMD_OK;
}

void export_arg_clear(struct export_arg *arg)
{
    g_clear_pointer(&arg->folder, g_free);
}
