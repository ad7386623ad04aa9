/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Values of options and of the configuration file that are more than a word or a number; for
 * config.c. Each gives FALSE and *error, which begins with the name of the option, where a text
 * makes no sense. `texts` are NULL-terminated, and may be NULL.
 */
#ifndef CONFIG_VALUES_H
#define CONFIG_VALUES_H

#include <glib.h>

/* Adds a struct listen_spec to `specs` for each text; NULL: checks alone. */
gboolean config_parse_listen(char *const *texts, GPtrArray *specs, GError **error);

/* Adds a struct accept_pair for each "FD" or "IN,OUT"; none may be there twice, or be `ready_fd`.
 */
gboolean config_parse_connected(char *const *texts, int ready_fd, GArray *pairs, GError **error);

/* Whether all are PATH=UUID. */
gboolean config_check_fs_ids(char *const *texts, GError **error);

#endif
