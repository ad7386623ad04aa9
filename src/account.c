/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of users and groups. See account.h. */
#include "config.h"

#include "src/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>

#define BUFFER_MAX (4 * 1024 * 1024)

static gboolean parse_number(const char *text, uint32_t *number, const char **what)
{
    guint64 value;

    *what = "is no number from 0 to 4294967294";
    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &value, NULL))
        return FALSE;
    *number = (uint32_t)value;
    return TRUE;
}

gboolean account_uid(const char *text, uid_t *uid, const char **what)
{
    struct passwd room, *found = NULL;
    g_autofree char *buffer = NULL;
    size_t size = 16384;
    int failed;

    if (g_ascii_isdigit(text[0]) || text[0] == '\0')
        return parse_number(text, uid, what);
    do {
        g_free(buffer);
        buffer = g_malloc(size);
        failed = getpwnam_r(text, &room, buffer, size, &found);
        size *= 2;
    } while (failed == ERANGE && size <= BUFFER_MAX);
    *what = failed != 0 ? "the user database cannot be read; give the number"
                        : "this host knows no such user; give the number";
    if (found == NULL)
        return FALSE;
    *uid = found->pw_uid;
    return TRUE;
}

gboolean account_gid(const char *text, gid_t *gid, const char **what)
{
    struct group room, *found = NULL;
    g_autofree char *buffer = NULL;
    size_t size = 16384;
    int failed;

    if (g_ascii_isdigit(text[0]) || text[0] == '\0')
        return parse_number(text, gid, what);
    do {
        g_free(buffer);
        buffer = g_malloc(size);
        failed = getgrnam_r(text, &room, buffer, size, &found);
        size *= 2;
    } while (failed == ERANGE && size <= BUFFER_MAX);
    *what = failed != 0 ? "the group database cannot be read; give the number"
                        : "this host knows no such group; give the number";
    if (found == NULL)
        return FALSE;
    *gid = found->gr_gid;
    return TRUE;
}
