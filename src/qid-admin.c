/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing a store while clients of others, or of its other exports, are at work. See qid-admin.h.
 *
 * Order of the locks: store->admin, store->use, the gate, the watch of mounts. The gate is closed
 * before clients are counted, so that none can come in between; the watch is held before it is
 * asked what is served, so that nothing can be mounted in between.
 */
#include "config.h"

#include "src/qid-admin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "src/log.h"
#include "src/qid-export.h"

/* Another process may look whether there is a writer, just when the store is opened again. */
#define OPEN_TRIES 50
#define OPEN_PAUSE 100000 /* us */

/* Who looks at statistics now and then is no reason to refuse what changes the store. */
#define USE_TRIES 100
#define USE_PAUSE 20000 /* us */

static int G_GNUC_PRINTF(3, 4) fail(struct qidmap_error *error, int code, const char *format, ...)
{
    va_list args;

    if (error == NULL)
        return code;
    error->code = code;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return code;
}

/* ---- which ----------------------------------------------------------------------------------- */

static gboolean is_same_place(const char *a, const char *b)
{
    const char *x = qid_store_dir(a), *y = qid_store_dir(b);
    struct stat s, t;

    return x != NULL && y != NULL && x - a == y - b && strncmp(a, b, (gsize)(x - a)) == 0 &&
           stat(x, &s) == 0 && stat(y, &t) == 0 && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

/* The one that comes after `index` others which an export uses; NULL: there are not so many. */
struct qid_store *qid_admin_store(struct qid_map *map, unsigned index)
{
    struct qid_store *found = NULL;

    pthread_mutex_lock(&map->stores_lock);
    for (guint i = 0; i < map->stores->len && found == NULL; i++) {
        struct qid_store *store = g_ptr_array_index(map->stores, i);

        if (!store->parked && index-- == 0)
            found = store;
    }
    pthread_mutex_unlock(&map->stores_lock);
    return found;
}

const char *qid_admin_uri(const struct qid_store *store)
{
    return store->uri;
}

struct qid_store *qid_admin_find(struct qid_map *map, const char *uri, struct qidmap_error *error)
{
    g_autoptr(GString) all = g_string_new(NULL);
    struct qid_store *store, *first = qid_admin_store(map, 0);

    if (uri == NULL && first != NULL && qid_admin_store(map, 1) == NULL)
        return first;
    for (unsigned i = 0; (store = qid_admin_store(map, i)) != NULL; i++) {
        if (uri != NULL && (strcmp(store->uri, uri) == 0 || is_same_place(store->uri, uri)))
            return store;
        g_string_append_printf(all, "%s%s", i > 0 ? ", " : "", store->uri);
    }
    if (first == NULL)
        fail(error, -ENOENT, "the daemon has no store");
    else if (uri == NULL)
        fail(error, -EINVAL, "the daemon has several stores, name one of them: %s", all->str);
    else
        fail(error, -ENOENT, "the daemon has no store %.200s; it has: %s", uri, all->str);
    return NULL;
}

/* ---- used ------------------------------------------------------------------------------------ */

qidmap_store *qid_admin_use(struct qid_store *store, struct qidmap_error *error)
{
    qid_store_try_again(store);
    if (pthread_rwlock_tryrdlock(&store->use) != 0) {
        fail(error, -EBUSY, "the store %s is being replaced by another request; try again later",
             store->uri);
        return NULL;
    }
    if (store->handle == NULL) {
        pthread_rwlock_unlock(&store->use);
        fail(error, -EIO, "the store %s could not be opened again; load or reset it", store->uri);
        return NULL;
    }
    return store->handle;
}

void qid_admin_unuse(struct qid_store *store)
{
    pthread_rwlock_unlock(&store->use);
}

static int lock_admin(struct qid_store *store, struct qidmap_error *error)
{
    if (pthread_mutex_trylock(&store->admin) == 0)
        return 0;
    return fail(error, -EBUSY, "another request changes the store %s; try again later", store->uri);
}

qidmap_store *qid_admin_use_alone(struct qid_store *store, struct qidmap_error *error)
{
    qidmap_store *handle;

    qid_store_try_again(store);
    if (lock_admin(store, error) < 0)
        return NULL;
    handle = qid_admin_use(store, error);
    if (handle == NULL)
        pthread_mutex_unlock(&store->admin);
    return handle;
}

void qid_admin_unuse_alone(struct qid_store *store)
{
    qid_admin_unuse(store);
    pthread_mutex_unlock(&store->admin);
}

/* ---- changed --------------------------------------------------------------------------------- */

static int refuse_attached(struct qidmap_error *error, const struct qid_store *store, guint count,
                           const char *names)
{
    return fail(error, -EBUSY,
                "%u session%s attached to %s, and would see ids change: %s; let them unmount, or "
                "end them with 'qidmapctl disconnect'",
                count, count == 1 ? " is" : "s are", store->uri, names);
}

/* With the watch held: whether one of the filesystems is served; 0, or -EBUSY where it is to a
 * client. */
static int look_who_sees(struct qid_map *map, struct qid_store *store, const uint32_t *fs,
                         size_t count, gboolean *served, struct qidmap_error *error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    guint sessions = 0;

    *served = FALSE;
    for (guint i = 0; i < map->exports->len; i++) {
        const struct qid_export *exp = g_ptr_array_index(map->exports, i);
        gboolean here = FALSE;

        for (size_t k = 0; exp->home == store && k < count; k++)
            here = here || mount_export_serves(exp->mounts, fs[k]);
        if (!here)
            continue;
        *served = TRUE;
        sessions += qid_gate_sessions(store, exp, names);
    }
    return sessions > 0 ? refuse_attached(error, store, sessions, names->str) : 0;
}

static int register_anew(struct qid_map *map, const struct qid_store *store, const uint32_t *fs,
                         size_t count)
{
    for (guint i = 0; i < map->exports->len; i++) {
        struct qid_export *exp = g_ptr_array_index(map->exports, i);

        for (size_t k = 0; exp->home == store && k < count; k++)
            mount_export_forget(exp->mounts, fs[k]);
    }
    return mount_watch_renew(map->watch);
}

int qid_admin_change(struct qid_map *map, struct qid_store *store, const uint32_t *fs, size_t count,
                     int (*work)(qidmap_store *store, void *data, struct qidmap_error *error),
                     void *data, struct qidmap_error *error)
{
    struct qidmap_error problem;
    qidmap_store *handle;
    gboolean served;
    int rc;

    if (error == NULL)
        error = &problem;
    handle = qid_admin_use_alone(store, error);
    if (handle == NULL)
        return error->code;
    qid_gate_close(store);
    mount_watch_hold(map->watch);
    rc = look_who_sees(map, store, fs, count, &served, error);
    if (rc == 0)
        rc = work(handle, data, error);
    if (rc == 0 && served && register_anew(map, store, fs, count) < 0)
        log_warning("%s: a filesystem could not be registered anew yet; it is tried again",
                    store->uri);
    mount_watch_resume(map->watch);
    qid_gate_open(store, FALSE);
    qid_admin_unuse_alone(store);
    return rc;
}

GArray *qid_admin_live(struct qid_map *map, qidmap_store *handle, gboolean changing)
{
    GArray *live;

    if (!changing)
        mount_watch_hold(map->watch);
    live = mount_watch_live(map->watch, handle);
    if (!changing)
        mount_watch_resume(map->watch);
    return live;
}

/* ---- closed ---------------------------------------------------------------------------------- */

static void set_handle(struct qid_map *map, struct qid_store *store, qidmap_store *handle)
{
    mount_watch_hold(map->watch);
    store->handle = handle;
    for (guint i = 0; i < map->exports->len; i++) {
        struct qid_export *exp = g_ptr_array_index(map->exports, i);

        if (exp->home != store)
            continue;
        exp->store = handle;
        g_atomic_int_set(&exp->trouble, 0);
        g_atomic_int_set(&exp->room_told, 0);
        mount_export_change_store(exp->mounts, handle);
    }
    if (handle != NULL && mount_watch_renew(map->watch) < 0)
        log_warning("%s: what is mounted could not be registered anew yet; it is tried again",
                    store->uri);
    mount_watch_resume(map->watch);
}

static int open_again(struct qid_store *store, qidmap_store **handle, struct qidmap_error *error)
{
    int rc = -EBUSY;

    for (int i = 0; rc == -EBUSY && i < OPEN_TRIES; i++) {
        if (i > 0)
            g_usleep(OPEN_PAUSE);
        rc = qidmap_store_open(store->uri, QIDMAP_OPEN_WRITE, NULL, handle, error);
    }
    return rc;
}

/* What was in the way may be gone: a disk that was full, another process. */
void qid_store_try_again(struct qid_store *store)
{
    struct qidmap_error problem;
    qidmap_store *handle;

    if (!qid_gate_is_lost(store) || pthread_mutex_trylock(&store->admin) != 0)
        return;
    if (pthread_rwlock_trywrlock(&store->use) == 0) {
        if (store->handle == NULL && !store->parked &&
            qidmap_store_open(store->uri, QIDMAP_OPEN_WRITE, NULL, &handle, &problem) == 0) {
            set_handle(store->map, store, handle);
            qid_gate_open(store, FALSE);
            log_info("%s: is open again", store->uri);
        }
        pthread_rwlock_unlock(&store->use);
    }
    pthread_mutex_unlock(&store->admin);
}

static int do_closed(struct qid_map *map, struct qid_store *store,
                     int (*work)(const char *uri, qidmap_store **opened, void *data,
                                 struct qidmap_error *error),
                     void *data, struct qidmap_error *error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    qidmap_store *old = store->handle, *handle = NULL;
    struct qidmap_error problem;
    guint count;
    int rc;

    qid_gate_close(store);
    count = qid_gate_sessions(store, NULL, names);
    if (count > 0) {
        qid_gate_open(store, store->handle == NULL);
        return refuse_attached(error, store, count, names->str);
    }
    set_handle(map, store, NULL);
    qidmap_store_close(old);
    rc = work(store->uri, &handle, data, error);
    if (handle == NULL && open_again(store, &handle, &problem) < 0) {
        log_error("%s: cannot be opened again: %s", store->uri, problem.text);
        qid_gate_open(store, TRUE);
        if (rc == 0)
            rc = fail(error, problem.code, "%s", problem.text);
        return rc;
    }
    set_handle(map, store, handle);
    qid_gate_open(store, FALSE);
    return rc;
}

/* With `admin` held, so that one verb at a time waits. */
static gboolean lock_use(struct qid_store *store)
{
    for (int i = 0; i < USE_TRIES; i++) {
        if (pthread_rwlock_trywrlock(&store->use) == 0)
            return TRUE;
        g_usleep(USE_PAUSE);
    }
    return FALSE;
}

int qid_admin_closed(struct qid_map *map, struct qid_store *store,
                     int (*work)(const char *uri, qidmap_store **opened, void *data,
                                 struct qidmap_error *error),
                     void *data, struct qidmap_error *error)
{
    int rc;

    if (strcmp(store->uri, "memory:") == 0)
        return fail(error, -EINVAL, "memory: is gone when it is closed; serve with an lmdb: store");
    rc = lock_admin(store, error);
    if (rc < 0)
        return rc;
    if (!lock_use(store)) {
        pthread_mutex_unlock(&store->admin);
        return fail(error, -EBUSY, "another request uses the store %s; try again later",
                    store->uri);
    }
    rc = store->parked ? fail(error, -ENOENT, "the daemon no longer has the store %s", store->uri)
                       : do_closed(map, store, work, data, error);
    pthread_rwlock_unlock(&store->use);
    pthread_mutex_unlock(&store->admin);
    return rc;
}
