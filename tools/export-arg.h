/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The argument EXPORT of the verbs that work on an exported tree: a folder, or the name of an
 * export in qidmapd.conf, which then tells the folder and the store.
 */
#ifndef TOOLS_EXPORT_ARG_H
#define TOOLS_EXPORT_ARG_H

#include "tools/cmd.h"

struct export_arg {
    char *folder;
    gboolean distinct;   /* bind=distinct in the file */
    gboolean split_weak; /* weak=split */
};

/*
 * What `text` means: a folder where it has a '/', is "." or "..", or where --store is given; else
 * the name of an export, and then options->export_name is set to it. To be called before the store
 * is opened. Returns an exit status; has told any error.
 */
int export_arg_read(const struct cmd *cmd, struct cmd_options *options, const char *text,
                    struct export_arg *arg);
void export_arg_clear(struct export_arg *arg);
typedef struct export_arg export_arg;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(export_arg, export_arg_clear)

#endif
