/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file that is there as a whole, synced, or not at all: written under another name, then given
 * its own.
 */
#ifndef TOOLS_OUTPUT_FILE_H
#define TOOLS_OUTPUT_FILE_H

#include <glib.h>

typedef struct output_file output_file;

/* Begins the file `name`, readable by its owner alone. NULL after an error, which it told: with
 * `replace` FALSE also where there is one of that name. */
output_file *output_file_new(const char *name, gboolean replace);
/* 0 or a negative errno. */
int output_file_write(output_file *file, const void *bytes, gsize size);
/* All was written: puts the file in place. FALSE after an error, which it told. */
gboolean output_file_finish(output_file *file);
/* Takes away what was not finished. */
void output_file_free(output_file *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(output_file, output_file_free)

#endif
