/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which xattrs clients of an export may use. Owns the classes; what is hidden from all clients is
 * in qid-hidden.c. Must not know what is in them.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "src/security.h"

static const struct {
    const char *word;
    uint32_t class;
} classes[] = {
    {"user", SECURITY_XATTR_USER},
    {"system", SECURITY_XATTR_SYSTEM},
    {"security", SECURITY_XATTR_SECURITY},
    {"trusted", SECURITY_XATTR_TRUSTED},
};

static uint32_t class_of(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        size_t len = strlen(classes[i].word);

        if (g_ascii_strncasecmp(name, classes[i].word, len) == 0 && name[len] == '.')
            return classes[i].class;
    }
    return SECURITY_XATTR_OTHER;
}

gboolean security_parse_xattrs(const char *text, uint32_t *result, GError **error)
{
    g_auto(GStrv) words = g_strsplit_set(text, ",;", -1);

    *result = 0;
    if (strcmp(text, "none") == 0)
        return TRUE;
    for (char **word = words; *word != NULL; word++) {
        uint32_t found = strcmp(g_strstrip(*word), "all") == 0 ? SECURITY_XATTR_ALL : 0;

        for (size_t i = 0; i < G_N_ELEMENTS(classes); i++)
            if (strcmp(*word, classes[i].word) == 0)
                found = classes[i].class;
        if (found == 0) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "xattrs: '%s' is none of all, none, user, system, security, trusted",
                        *word);
            return FALSE;
        }
        *result |= found;
    }
    if (*result == 0)
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "xattrs: the list is empty; say none");
    return *result != 0;
}

int security_xattr(const struct security *security, const char *name, const char **host,
                   char buffer[SECURITY_XATTR_NAME_SIZE])
{
    if (qid_xattr_is_hidden(name))
        return -ENODATA;
    if (!(class_of(name) & security->xattrs))
        return -EOPNOTSUPP;
    *host = security->ops->host_xattr(name, buffer, SECURITY_XATTR_NAME_SIZE);
    return *host != NULL ? 0 : -EOPNOTSUPP;
}

const char *security_xattr_shown(const struct security *security, const char *host)
{
    const char *name = security->ops->client_xattr(host);

    return name != NULL && (class_of(name) & security->xattrs) ? name : NULL;
}
