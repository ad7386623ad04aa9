/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of the map: exports are added, their stores opened, the watch on mounts started, and all
 * of it closed again.
 *
 * Must not know how a qid is made (qid.c, qid-dir.c), nor what a URI of a store means
 * (qid-store.c).
 */
#include "config.h"

#include "src/qid-export.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static void export_free(gpointer data)
{
    struct qid_export *exp = data;

    g_free(exp->name);
    g_free(exp->root_path);
    g_free(exp->store_uri);
    g_free(exp);
}

gboolean qid_keep_mounts(GError **error)
{
    struct qidmap_error problem;
    int rc = qidmap_keep_mounts(&problem);

    if (rc < 0)
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc), "%s", problem.text);
    return rc == 0;
}

void qid_set_contact(const char *path)
{
    qidmap_set_contact(path);
}

struct qid_map *qid_map_new(char *const *overrides, GError **error)
{
    struct mount_watch *watch = mount_watch_new(overrides, error);

    if (watch == NULL)
        return NULL;
    struct qid_map *map = g_new0(struct qid_map, 1);
    map->watch = watch;
    map->exports = g_ptr_array_new_with_free_func(export_free);
    map->stores = g_ptr_array_new_with_free_func(qid_store_free);
    return map;
}

struct qid_export *qid_map_add_export(struct qid_map *map, const char *name, const char *root_path,
                                      int root_fd, const char *store_uri,
                                      enum qid_multidevs multidevs,
                                      const struct mount_settings *settings, GError **error)
{
    static const enum mount_mode modes[] = {
        [QID_MULTIDEVS_REMAP] = MOUNT_REGISTER,
        [QID_MULTIDEVS_FORBID] = MOUNT_ROOT_ONLY,
        [QID_MULTIDEVS_WARN] = MOUNT_LOOK_ONLY,
    };
    struct statx stx;

    if (statx(root_fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, QID_STATX_MASK, &stx) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "export %s: %s: %s", name,
                    root_path, g_strerror(errno));
        return NULL;
    }
    if (!S_ISDIR(stx.stx_mode)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOTDIR, "export %s: %s is not a directory",
                    name, root_path);
        return NULL;
    }
    if (!(stx.stx_mask & STATX_MNT_ID)
#ifdef STATX_MNT_ID_UNIQUE
        && !(stx.stx_mask & STATX_MNT_ID_UNIQUE)
#endif
    ) {
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
            "export %s: the kernel does not tell ids of mounts; Linux 5.8 or later is needed",
            name);
        return NULL;
    }
    if (multidevs != QID_MULTIDEVS_WARN && store_uri == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "export %s: no store is given", name);
        return NULL;
    }
    if (multidevs != QID_MULTIDEVS_WARN) {
        if (!qid_store_check_outside(root_path, store_uri, error))
            return NULL;
    }

    struct qid_export *exp = g_new0(struct qid_export, 1);
    exp->name = g_strdup(name);
    exp->root_path = g_strdup(root_path);
    exp->root_fd = root_fd;
    exp->multidevs = multidevs;
    exp->root_stx = stx;
    if (multidevs != QID_MULTIDEVS_WARN)
        exp->store_uri = g_strdup(store_uri);
    exp->mounts = mount_watch_add(map->watch, exp->name, root_fd, modes[multidevs], settings);
    g_ptr_array_add(map->exports, exp);
    return exp;
}

gboolean qid_map_start(struct qid_map *map, GError **error)
{
    for (guint i = 0; i < map->exports->len; i++) {
        struct qid_export *exp = g_ptr_array_index(map->exports, i);
        if (exp->store_uri == NULL)
            continue;
        exp->home = qid_store_open_once(map->stores, exp->store_uri, error);
        if (exp->home == NULL)
            return FALSE;
        exp->home->map = map;
        exp->store = exp->home->handle;
        mount_export_set_store(exp->mounts, exp->store);
        exp->little_room = g_str_has_prefix(exp->store_uri, "xattr:");
    }
    if (!mount_watch_start(map->watch, error))
        return FALSE;
    for (guint i = 0; i < map->exports->len; i++)
        qid_watch_room(g_ptr_array_index(map->exports, i));
    return TRUE;
}

void qid_map_free(struct qid_map *map)
{
    if (map == NULL)
        return;
    mount_watch_free(map->watch);
    g_ptr_array_unref(map->stores);
    g_ptr_array_unref(map->exports);
    g_free(map);
}
