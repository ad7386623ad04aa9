/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From settings to exports, and their end. See export-set.h. */
#include "config.h"

#include "src/export-set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/allow.h"
#include "src/export.h"
#include "src/security.h"

static gboolean fill(struct path_export *to, struct settings_export *from, struct qid_map *map,
                     bool trusted, GError **error)
{
    char *path = realpath(from->dir, NULL);

    to->name = g_strdup(from->name);
    to->dir = path;
    to->root_fd = path == NULL ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (to->root_fd < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "export '%s': %s: %s; give a directory that exists", from->name, from->dir,
                    g_strerror(errno));
        return FALSE;
    }
    to->readonly = from->readonly;
    to->security = security_new(from->name, &from->security, trusted, error);
    if (to->security == NULL)
        return FALSE;
    to->subdirs = from->subdirs;
    to->allow = g_steal_pointer(&from->allow);
    to->qids = qid_map_add_export(map, from->name, path, to->root_fd, from->store, from->multidevs,
                                  &from->mounts, error);
    if (to->qids != NULL)
        qid_export_set_versions(to->qids, from->versions);
    return to->qids != NULL;
}

struct path_export *export_open(struct settings_export *from, struct qid_map *map, bool trusted,
                                GError **error)
{
    struct path_export *exp = export_new();

    if (fill(exp, from, map, trusted, error))
        return exp;
    export_close(exp, NULL);
    return NULL;
}

void export_close(struct path_export *exp, struct qid_map *map)
{
    if (map != NULL && exp->qids != NULL)
        qid_map_remove_export(map, exp->qids);
    if (exp->root_fd >= 0)
        close(exp->root_fd);
    security_free(exp->security);
    allow_free((struct allow *)exp->allow);
    free((char *)exp->dir);
    g_free((char *)exp->name);
    export_free(exp);
}
