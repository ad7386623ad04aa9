/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs-id: identities that the operator gave to paths. */
#ifndef MOUNT_OVERRIDE_H
#define MOUNT_OVERRIDE_H

#include <glib.h>

struct mount_override {
    char *path; /* absolute, without a slash at its end */
    guint8 uuid[16];
};

/* Parses "PATH=UUID" strings; NULL and *error where one is not. */
GArray *mount_overrides_parse(char *const *texts, GError **error);

/* That of `path`, or NULL. */
const struct mount_override *mount_override_find(const GArray *overrides, const char *path);

#endif
