/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A store's life, independent of the backend: parse the URI, open, create, close. Owns the handle;
 * must not know rows (store-load.c, lookup.c) nor how ids are chosen (commit.c, map.c).
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>
#include <string.h>

#include <glib/gstdio.h>

#include "store/dump.h"
#include "store/error.h"
#include "store/virtfs.h"

#define DUMP_ROWS 100000u /* of the full map, in a dump that is written at each stop */

static const struct qm_backend_ops *const backends[] = {&qm_backend_lmdb, &qm_backend_xattr,
                                                        &qm_backend_mem};

/* ---- opening --------------------------------------------------------------------------------- */

const struct qm_backend_ops *qm_backend_find(const char *uri, const char **place, GError **error)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(backends); i++) {
        size_t size = strlen(backends[i]->name);

        if (strncmp(uri, backends[i]->name, size) == 0 && uri[size] == ':') {
            *place = uri + size + 1;
            return backends[i];
        }
    }
    if (strncmp(uri, QM_VIRTFS_URI, strlen(QM_VIRTFS_URI)) == 0) {
        qm_set_error(error, EOPNOTSUPP, QM_VIRTFS_REFUSED);
        return NULL;
    }
    qm_set_error(error, EINVAL, "not the URI of a store: expected lmdb:DIR, xattr:DIR or memory:");
    return NULL;
}

static void make_meta(struct qm_meta *meta, const struct qidmap_params *params)
{
    size_t i;

    memset(meta, 0, sizeof(*meta));
    for (i = 0; i < sizeof(meta->uuid); i += 4) {
        guint32 word = g_random_int();

        memcpy(meta->uuid + i, &word, 4);
    }
    meta->uuid[6] = (meta->uuid[6] & 0x0f) | 0x40; /* random uuid, RFC 4122 */
    meta->uuid[8] = (meta->uuid[8] & 0x3f) | 0x80;
    meta->affix_budget = params->affix_budget;
    meta->next_fs = 1;
    meta->next_affix = QM_AFFIX_FIRST;
    meta->next_serial = QM_SERIAL_FIRST;
    meta->next_instance = 1;
    meta->created = g_get_real_time() / G_USEC_PER_SEC;
}

/* The first rows of a new store, which then becomes visible. */
static int create(struct qidmap_store *store, const struct qidmap_params *params, GError **error)
{
    struct qm_meta meta;
    struct qm_txn *txn;
    int e = store->backend->ops->begin(store->backend, QM_TXN_WRITE, 1, &txn);

    make_meta(&meta, params);
    if (e == 0)
        e = qm_store_commit(store, txn, &meta);
    if (e != 0)
        return qm_set_error(error, e, "cannot write the first record: %s", g_strerror(-e));
    return store->backend->ops->publish(store->backend, error);
}

static struct qidmap_store *new_store(const char *uri, gboolean writable,
                                      const struct qm_open_config *config)
{
    struct qidmap_store *store = g_new0(struct qidmap_store, 1);

    store->uri = g_strdup(uri);
    store->writable = writable;
    store->pause_first = config ? config->retry_pause : 0;
    store->queue_end = &store->queue;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->marks_lock, NULL);
    pthread_cond_init(&store->changed, NULL);
    qm_map_init(&store->map);
    qm_hits_init(&store->hits, store->map.seed);
    return store;
}

static void close_unopened(struct qidmap_store *store)
{
    store->writable = FALSE; /* nothing is noted in a store that did not open */
    qm_store_close(store);
}

/* A store that somebody copied, or put back from a backup, does not know what was given since.
 * Before anything new is mapped; known ids do not wait for it. */
static void leap(struct qidmap_store *store)
{
    qm_floor_leap(&store->floor, &store->meta);
    qm_store_lead(store);
    qm_store_unlead(store);
}

struct qidmap_store *qm_store_open(const char *uri, unsigned flags,
                                   const struct qidmap_params *params,
                                   const struct qm_open_config *config, GError **error)
{
    struct qidmap_params defaults = QIDMAP_PARAMS_INIT;
    struct qm_backend_config bc = {
        .write = (flags & QIDMAP_OPEN_WRITE) != 0,
        .create = (flags & QIDMAP_OPEN_CREATE) != 0,
        .map_size = config ? config->map_size : 0,
    };
    const struct qm_backend_ops *ops;
    const char *place;
    struct qidmap_store *store;
    int e = 0;

    ops = qm_backend_find(uri, &place, error);
    if (!ops)
        return NULL;
    store = new_store(uri, bc.write, config);
    store->backend = ops->open(place, &bc, error);
    if (!store->backend)
        e = -1;
    else if (store->backend->fresh)
        e = create(store, params ? params : &defaults, error);
    if (e == 0)
        e = qm_store_load(store, error);
    store->opened = store->meta.epoch;
    if (e == 0 && store->backend->failed)
        qm_store_failed(store, &store->meta, -EIO);
    if (e == 0 && store->writable && store->backend->copied)
        leap(store);
    if (e != 0) {
        close_unopened(store);
        return NULL;
    }
    return store;
}

struct qidmap_store *qm_store_of(const char *uri, struct qm_backend *backend, GError **error)
{
    struct qidmap_store *store = new_store(uri, TRUE, NULL);

    store->backend = backend;
    if (qm_store_load(store, error) != 0) {
        close_unopened(store);
        return NULL;
    }
    return store;
}

/* ---- closing --------------------------------------------------------------------------------- */

/* The note of a clean stop; only where something was written since the last one. */
static void note_stop(struct qidmap_store *store)
{
    struct qm_meta meta = store->meta;
    struct qm_txn *txn;

    if (!store->writable || atomic_load(&store->broken) || meta.last_clean_stop != 0)
        return;
    if (store->backend->ops->begin(store->backend, QM_TXN_WRITE, 1, &txn) != 0)
        return;
    meta.last_clean_stop = g_get_real_time() / G_USEC_PER_SEC;
    (void)qm_store_commit(store, txn, &meta); /* without the note the next open looks harder */
}

/* The dump of a clean stop, where something was written since the last one. A store of many rows
 * has none: its stop would take long, and `qidmapctl dump` writes one at any time. An older one
 * would be taken for the present state, and goes. */
static void dump_stop(struct qidmap_store *store)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    const char *path = store->backend->dump;
    struct qm_txn *txn;

    if (!path || !store->backend->clean)
        return;
    if (store->meta.epoch == store->opened && g_file_test(path, G_FILE_TEST_EXISTS))
        return;
    if (store->meta.full_rows > DUMP_ROWS) {
        (void)g_unlink(path);
    } else if (ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn) == 0) {
        (void)qm_dump_file(txn, FALSE, path, TRUE, NULL, NULL); /* the store itself is whole */
        ops->abort(txn);
    }
}

void qm_store_close(struct qidmap_store *store)
{
    if (!store)
        return;
    if (store->backend) {
        note_stop(store);
        store->backend->clean =
            store->writable && atomic_load(&store->broken) == 0 && store->meta.last_clean_stop != 0;
        dump_stop(store);
        store->backend->ops->close(store->backend);
    }
    qm_map_clear(&store->map);
    qm_hits_clear(&store->hits);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->marks_lock);
    g_free(store->trouble);
    g_free(store->uri);
    g_free(store);
}

/* ---- figures --------------------------------------------------------------------------------- */

void qm_store_stats(struct qidmap_store *store, struct qidmap_stats *stats)
{
    struct qm_meta m;
    size_t size = stats->size;

    pthread_mutex_lock(&store->lock);
    m = store->meta;
    memset(stats, 0, sizeof(*stats));
    stats->made = atomic_load(&store->made);
    stats->commits = store->commits;
    stats->commit_nanoseconds = store->commit_nanoseconds;
    stats->commit_slowest = store->commit_slowest;
    pthread_mutex_unlock(&store->lock);
    stats->size = size;
    stats->format = QM_FORMAT_VERSION;
    stats->affix_budget = m.affix_budget;
    memcpy(stats->uuid, m.uuid, sizeof(stats->uuid));
    stats->epoch = m.epoch;
    stats->fs_rows = m.fs_rows;
    stats->affix_rows = m.affix_rows;
    stats->full_rows = m.full_rows;
    stats->next_fs = m.next_fs;
    stats->next_affix = m.next_affix;
    stats->next_serial = m.next_serial;
    stats->next_instance = m.next_instance;
    store->backend->ops->room(store->backend, &stats->bytes_used, &stats->bytes_room);
    if (store->backend->ops->rows_room)
        stats->rows_room = store->backend->ops->rows_room(store->backend);
    stats->created = m.created;
    stats->served = store->writable ? qm_store_served(store) : m.served;
    stats->last_clean_stop = store->writable ? 0 : m.last_clean_stop;
    g_strlcpy(stats->uri, store->uri, sizeof(stats->uri));
    g_strlcpy(stats->backend, store->backend->ops->name, sizeof(stats->backend));
}
