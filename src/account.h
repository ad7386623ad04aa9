/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Users and groups that the operator names, by name or number. For the start of the daemon: what
 * clients send is looked up in privs.c. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <glib.h>
#include <sys/types.h>

/* FALSE, and *what says why, where `text` names none; (uid_t)-1 is nobody's number. */
gboolean account_uid(const char *text, uid_t *uid, const char **what);
gboolean account_gid(const char *text, gid_t *gid, const char **what);

#endif
