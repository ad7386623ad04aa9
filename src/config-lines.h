/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lines of the configuration file: glib reads groups and keys, but does not say on which line,
 * and takes a group or a key that is there twice for one. Here that is an error, as is every line
 * that is none; and errors get the name of the file and the line of the key that they are about.
 */
#ifndef CONFIG_LINES_H
#define CONFIG_LINES_H

#include <glib.h>

struct config_lines;

/* Reads and checks the file. NULL and *error where it cannot be read, or has a bad line. */
struct config_lines *config_lines_read(const char *path, GError **error);
void config_lines_free(struct config_lines *lines);

/* How files are opened: a descriptor or a negative errno. Default: open(2). */
void config_lines_open_by(int (*open_file)(const char *path));

/* "FILE:LINE: " of a key, or of the group where the key is NULL or not there; "" where neither is.
 * To be freed. */
char *config_lines_where(const struct config_lines *lines, const char *group, const char *key);

const char *config_lines_text(const struct config_lines *lines);

/* Puts "FILE:LINE: " before an error about `group`. Errors begin with the name of their key and a
 * colon; those that do not, or name a key that is not there, get the line of the group. */
void config_lines_blame(const struct config_lines *lines, const char *group, GError **error);

#endif
