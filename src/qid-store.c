/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stores of the map: where a URI points to, that it is out of the guests' reach, and that one
 * store is opened once, however many exports share it.
 *
 * Must not know of mounts, nor ask a store for anything.
 */
#include "config.h"

#include "src/qid-export.h"

#include <stdlib.h>
#include <string.h>

void qid_store_free(gpointer data)
{
    struct qid_store *store = data;

    qidmap_store_close(store->handle);
    qid_gate_clear(store);
    pthread_rwlock_destroy(&store->use);
    pthread_mutex_destroy(&store->admin);
    g_free(store->uri);
    g_free(store);
}

/* The real path of `path`, of which the last components may not exist yet. */
static char *real_path(const char *path)
{
    g_autofree char *here = g_get_current_dir();
    g_autofree char *head = g_canonicalize_filename(path, here);
    g_autofree char *tail = g_strdup("");

    for (;;) {
        char *real = realpath(head, NULL);
        if (real != NULL) {
            char *whole = g_build_filename(real, tail, NULL);
            free(real);
            return whole;
        }
        g_autofree char *base = g_path_get_basename(head);
        g_autofree char *dir = g_path_get_dirname(head);
        if (strcmp(dir, head) == 0)
            return g_build_filename(head, tail, NULL);
        char *longer = tail[0] != '\0' ? g_build_filename(base, tail, NULL) : g_strdup(base);
        g_free(tail);
        tail = longer;
        g_free(head);
        head = g_steal_pointer(&dir);
    }
}

const char *qid_store_dir(const char *uri)
{
    static const char *const schemes[] = {"lmdb:", "xattr:"};

    for (gsize i = 0; i < G_N_ELEMENTS(schemes); i++)
        if (g_str_has_prefix(uri, schemes[i]))
            return uri + strlen(schemes[i]);
    return NULL;
}

/* A guest that could reach the store could renumber everything. The xattrs of the export's root are
 * out of its reach, and so is the root itself; a directory below it could be removed. */
gboolean qid_store_check_outside(const char *root_path, const char *uri, GError **error)
{
    gboolean xattr = g_str_has_prefix(uri, "xattr:");

    if (qid_store_dir(uri) == NULL)
        return TRUE;
    g_autofree char *store = real_path(qid_store_dir(uri));
    g_autofree char *root = real_path(root_path);
    gsize size = strlen(root);

    while (size > 0 && root[size - 1] == '/')
        size--;
    if (strncmp(store, root, size) != 0 || (store[size] != '/' && store[size] != '\0') ||
        (xattr && (store[size] == '\0' || strcmp(store + size, "/") == 0)))
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "the store %s is inside the export %s, where guests could change it; "
                "give %s",
                store, root,
                xattr ? "the export's root itself, or a directory outside of it"
                      : "a directory outside of it");
    return FALSE;
}

static struct qid_store *find_store(struct qid_map *map, const char *key)
{
    for (guint i = 0; i < map->stores->len; i++) {
        struct qid_store *store = g_ptr_array_index(map->stores, i);
        if (strcmp(store->uri, key) == 0)
            return store;
    }
    return NULL;
}

static qidmap_store *open_handle(const char *uri, GError **error)
{
    struct qidmap_error problem;
    qidmap_store *opened;
    int rc =
        qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &opened, &problem);

    if (rc == 0)
        return opened;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc), "%s", problem.text);
    return NULL;
}

static void set_parked(struct qid_store *store, gboolean parked)
{
    pthread_mutex_lock(&store->map->stores_lock);
    store->parked = parked;
    pthread_mutex_unlock(&store->map->stores_lock);
}

/* Its gate was left open. */
static gboolean open_parked(struct qid_store *store, const char *uri, GError **error)
{
    qidmap_store *handle = open_handle(uri, error);

    if (handle == NULL)
        return FALSE;
    pthread_mutex_lock(&store->admin);
    pthread_rwlock_wrlock(&store->use);
    store->handle = handle;
    set_parked(store, FALSE);
    pthread_rwlock_unlock(&store->use);
    pthread_mutex_unlock(&store->admin);
    return TRUE;
}

gboolean qid_store_park(struct qid_store *store)
{
    /* Its ids last as long as the daemon: an export that comes again has them. */
    if (store->parked || strcmp(store->uri, "memory:") == 0)
        return TRUE;
    if (pthread_mutex_trylock(&store->admin) != 0)
        return FALSE;
    if (pthread_rwlock_trywrlock(&store->use) != 0) {
        pthread_mutex_unlock(&store->admin);
        return FALSE;
    }
    set_parked(store, TRUE);
    mount_watch_hold(store->map->watch);
    mount_watch_forget_stores(store->map->watch);
    mount_watch_resume(store->map->watch);
    qidmap_store_close(store->handle); /* NULL: it was lost */
    store->handle = NULL;
    qid_gate_open(store, FALSE);
    pthread_rwlock_unlock(&store->use);
    pthread_mutex_unlock(&store->admin);
    return TRUE;
}

/* The store of this URI, opened once however many exports share it. */
struct qid_store *qid_store_open_once(struct qid_map *map, const char *uri, GError **error)
{
    qidmap_store *opened;
    g_autofree char *key = g_strdup(uri);

    if (qid_store_dir(uri) != NULL) {
        g_autofree char *real = real_path(qid_store_dir(uri));
        key[qid_store_dir(uri) - uri] = '\0';
        char *whole = g_strconcat(key, real, NULL);
        g_free(key);
        key = whole;
    }
    struct qid_store *store = find_store(map, key);
    if (store != NULL) {
        if (store->parked && !open_parked(store, uri, error))
            return NULL;
        store->users++;
        return store;
    }
    opened = open_handle(uri, error);
    if (opened == NULL)
        return NULL;
    store = g_new0(struct qid_store, 1);
    store->uri = g_steal_pointer(&key);
    store->map = map;
    store->handle = opened;
    store->users = 1;
    pthread_mutex_init(&store->admin, NULL);
    pthread_rwlock_init(&store->use, NULL);
    qid_gate_init(store);
    pthread_mutex_lock(&map->stores_lock);
    g_ptr_array_add(map->stores, store);
    pthread_mutex_unlock(&map->stores_lock);
    return store;
}
