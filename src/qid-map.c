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
    pthread_mutex_init(&map->stores_lock, NULL);
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
    mount_watch_hold(map->watch);
    exp->mounts = mount_watch_add(map->watch, exp->name, root_fd, modes[multidevs], settings);
    g_ptr_array_add(map->exports, exp);
    mount_watch_resume(map->watch);
    return exp;
}

static gboolean open_store(struct qid_map *map, struct qid_export *exp, GError **error)
{
    if (exp->store_uri == NULL)
        return TRUE;
    struct qid_store *home = qid_store_open_once(map, exp->store_uri, error);
    if (home == NULL)
        return FALSE;
    mount_watch_hold(map->watch);
    exp->home = home;
    mount_watch_resume(map->watch);
    exp->little_room = g_str_has_prefix(exp->store_uri, "xattr:");
    return TRUE;
}

static void take_handle(struct qid_export *exp)
{
    if (exp->home == NULL)
        return;
    exp->store = exp->home->handle;
    mount_export_set_store(exp->mounts, exp->store);
}

gboolean qid_map_start(struct qid_map *map, GError **error)
{
    for (guint i = 0; i < map->exports->len; i++) {
        struct qid_export *exp = g_ptr_array_index(map->exports, i);
        if (!open_store(map, exp, error))
            return FALSE;
        take_handle(exp);
    }
    if (!mount_watch_start(map->watch, error))
        return FALSE;
    map->admitted = map->exports->len;
    for (guint i = 0; i < map->exports->len; i++)
        qid_watch_room(g_ptr_array_index(map->exports, i));
    return TRUE;
}

/* ---- while it runs --------------------------------------------------------------------------- */

/* The `admin` of each store of what is to be admitted: their handles stay, and no verb changes
 * rows. Locks that are held already are not taken twice: stores may be shared. */
static gboolean lock_stores(struct qid_map *map, GPtrArray *locked, GError **error)
{
    for (guint i = map->admitted; i < map->exports->len; i++) {
        struct qid_store *store = ((struct qid_export *)g_ptr_array_index(map->exports, i))->home;

        if (store == NULL || g_ptr_array_find(locked, store, NULL))
            continue;
        if (pthread_mutex_trylock(&store->admin) != 0) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                        "another request changes the store %s; try again later", store->uri);
            return FALSE;
        }
        g_ptr_array_add(locked, store);
        if (store->handle == NULL) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO,
                        "the store %s could not be opened again; load or reset it", store->uri);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean admit(struct qid_map *map, GPtrArray *locked, GError **error)
{
    gboolean fine;

    for (guint i = map->admitted; i < map->exports->len; i++)
        if (!open_store(map, g_ptr_array_index(map->exports, i), error))
            return FALSE;
    if (!lock_stores(map, locked, error))
        return FALSE;
    mount_watch_hold(map->watch);
    for (guint i = map->admitted; i < map->exports->len; i++)
        take_handle(g_ptr_array_index(map->exports, i));
    fine = mount_watch_admit(map->watch, map->exports->len - map->admitted, error);
    mount_watch_resume(map->watch);
    return fine;
}

static void remove_at(struct qid_map *map, guint index)
{
    struct qid_export *exp = g_ptr_array_index(map->exports, index);

    mount_watch_hold(map->watch);
    mount_watch_remove(map->watch, exp->mounts);
    if (exp->home != NULL)
        exp->home->users--;
    g_ptr_array_remove_index(map->exports, index);
    mount_watch_resume(map->watch);
}

gboolean qid_map_admit(struct qid_map *map, GError **error)
{
    g_autoptr(GPtrArray) locked = g_ptr_array_new();
    gboolean fine = admit(map, locked, error);

    for (guint i = map->admitted; fine && i < map->exports->len; i++)
        qid_watch_room(g_ptr_array_index(map->exports, i));
    for (guint i = 0; i < locked->len; i++)
        pthread_mutex_unlock(&((struct qid_store *)g_ptr_array_index(locked, i))->admin);
    if (!fine) {
        while (map->exports->len > map->admitted)
            remove_at(map, map->exports->len - 1);
        qid_map_close_unused(map);
        return FALSE;
    }
    map->admitted = map->exports->len;
    return TRUE;
}

void qid_map_remove_export(struct qid_map *map, struct qid_export *exp)
{
    guint index;

    if (!g_ptr_array_find(map->exports, exp, &index))
        return;
    if (index < map->admitted)
        map->admitted--;
    remove_at(map, index);
}

gboolean qid_map_close_unused(struct qid_map *map)
{
    gboolean all = TRUE;

    for (guint i = 0; i < map->stores->len; i++) {
        struct qid_store *store = g_ptr_array_index(map->stores, i);

        if (store->users == 0)
            all = qid_store_park(store) && all;
    }
    return all;
}

void qid_map_free(struct qid_map *map)
{
    if (map == NULL)
        return;
    mount_watch_free(map->watch);
    g_ptr_array_unref(map->stores);
    g_ptr_array_unref(map->exports);
    pthread_mutex_destroy(&map->stores_lock);
    g_free(map);
}
