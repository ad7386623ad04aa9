/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names of xattrs that guests do not see. Owns the list; must not know what is in them.
 */
#include "config.h"

#include "src/qid.h"

#include <string.h>

/* In any case: some filesystems do not tell upper from lower case in these names. */
gboolean qid_xattr_is_hidden(const char *name)
{
    static const char *const prefixes[] = {
        "trusted.qidmap.",
        "user.qidmap.",
        "user.virtfs.",
    };
    const char *dot = strchr(name, '.');

    if (dot == NULL || strchr("qQvV", dot[1]) == NULL) /* nearly every name, for each use of it */
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        gsize size = strlen(prefixes[i]) - 1;
        if (g_ascii_strncasecmp(name, prefixes[i], size) == 0 &&
            (name[size] == '.' || name[size] == '\0'))
            return TRUE;
    }
    return FALSE;
}
