/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A store's life and its lookups, independent of the backend: parse the URI, open, check and load
 * the tables, look up, close. Owns what is in RAM; must not know bytes of rows (codec.c) nor how
 * ids are chosen (commit.c, map.c).
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>
#include <string.h>

#include <glib/gstdio.h>

#include "store/dump.h"
#include "store/error.h"
#include "store/virtfs.h"

/* How far the counters of a store go on that somebody copied: more than was given since the copy
 * was made, and few enough for a thousand copies in a row. */
#define LEAP_FS       1024u
#define LEAP_AFFIX    1024u
#define LEAP_SERIAL   (UINT64_C(1) << 40)
#define LEAP_INSTANCE 4096u

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

static int damaged(GError **error, const char *what)
{
    return qm_set_error(error, EUCLEAN,
                        "the store is damaged (%s); nothing was changed: restore it "
                        "from a backup",
                        what);
}

static int load_meta(struct qidmap_store *store, struct qm_txn *txn, GError **error)
{
    struct qm_bytes key = {QM_META_KEY, strlen(QM_META_KEY)}, value;
    const struct qm_backend_ops *ops = txn->backend->ops;
    uint32_t format = 0;
    int e = ops->get(txn, QM_TABLE_META, key, &value);
    struct qm_meta *m = &store->meta;

    if (e == 0)
        e = qm_parse_meta(key, value, m, &format);
    if (e == -EPROTO)
        return qm_set_error(error, EPROTO,
                            "the store has format version %u; this library knows version %u: use a "
                            "newer qidmap",
                            format, QM_FORMAT_VERSION);
    if (e == -ENOENT || e == -EUCLEAN)
        return damaged(error, "its first record");
    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    if (m->transaction != ops->number(txn))
        return damaged(error, "an older state came back");
    if (m->next_fs < 1 || m->next_fs > (uint64_t)QM_FS_LAST + 1 || m->next_affix < QM_AFFIX_FIRST ||
        m->next_affix > (uint64_t)QM_AFFIX_LAST + 1 || m->next_serial < QM_SERIAL_FIRST ||
        m->next_serial > QM_SERIAL_LAST + 1 || m->next_instance < 1 ||
        m->next_instance > (uint64_t)QM_INSTANCE_LAST + 1)
        return damaged(error, "its counters");
    return 0;
}

/* Calls `row` for all rows of a table, and counts them. */
typedef int (*row_func)(struct qidmap_store *store, struct qm_txn *txn, struct qm_bytes k,
                        struct qm_bytes v);

static int for_all(struct qidmap_store *store, struct qm_txn *txn, enum qm_table table,
                   row_func row, uint64_t expected, GError **error)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    uint64_t count = 0;
    int e = ops->cursor_open(txn, table, &cursor);

    if (e == 0) {
        e = ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
        while (e == 0) {
            count++;
            e = row(store, txn, k, v);
            if (e == 0)
                e = ops->cursor_next(cursor, &k, &v);
        }
        ops->cursor_close(cursor);
    }
    if (e == -EUCLEAN || (e == -ENOENT && count != expected)) {
        g_autofree char *what =
            g_strdup_printf("table %s, row %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT,
                            qm_table_name(table), count, expected);
        return damaged(error, what);
    }
    if (e != -ENOENT)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    return 0;
}

static int load_fs(struct qidmap_store *store, struct qm_txn *txn G_GNUC_UNUSED, struct qm_bytes k,
                   struct qm_bytes v)
{
    struct qidmap_fs row;
    gboolean has_full;
    int e = qm_parse_fs(k, v, &row, &has_full);

    if (e != 0)
        return e;
    if (row.fs >= store->meta.next_fs || row.instance >= store->meta.next_instance ||
        (row.policy == QIDMAP_POLICY_EPHEMERAL) != (row.instance != 0) ||
        qm_map_fs(&store->map, row.fs))
        return -EUCLEAN;
    qm_map_add(&store->map, &row, has_full);
    return 0;
}

static int load_fsid(struct qidmap_store *store, struct qm_txn *txn G_GNUC_UNUSED,
                     struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_fsid fsid;
    const struct qm_fs *fs;
    uint32_t number;
    int e = qm_parse_fsid(k, v, &fsid, &number);

    if (e != 0)
        return e;
    fs = qm_map_fs(&store->map, number);
    return fs && !fs->row.retired && qm_fsid_listed(fs->row.fsid, fs->row.fsid_count, &fsid)
               ? 0
               : -EUCLEAN;
}

/* After all rows of filesystems: an alias is there, retired, of the same policy, and of one row
 * only; lines of them are short, and so end. */
static int link_aliases(struct qidmap_store *store)
{
    guint i;

    for (i = 0; i < store->map.list->len; i++) {
        struct qm_fs *fs = g_ptr_array_index(store->map.list, i);
        struct qm_fs *older = fs->row.alias ? qm_map_fs(&store->map, fs->row.alias) : NULL;

        if (fs->row.alias == 0)
            continue;
        if (!older || !older->row.retired || older->policy != fs->policy ||
            atomic_load(&older->heir))
            return -EUCLEAN;
        qm_map_link(fs, older);
    }
    for (i = 0; i < store->map.list->len; i++) {
        const struct qm_fs *fs = g_ptr_array_index(store->map.list, i);
        unsigned n;

        for (n = 0; fs; n++, fs = atomic_load(&fs->older)) {
            if (n > QM_ALIASES)
                return -EUCLEAN;
        }
    }
    return 0;
}

/* Each filesystem that has rows in the full map says so: else they would never be asked, and its
 * files would get other ids. One step for each such filesystem. */
static int check_full(struct qidmap_store *store, struct qm_txn *txn)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_cursor *cursor;
    uint64_t next = 0;
    int e = ops->cursor_open(txn, QM_TABLE_FULL, &cursor);

    if (e != 0)
        return e;
    while (e == 0 && next <= UINT32_MAX) {
        uint8_t key[4] = {(uint8_t)(next >> 24), (uint8_t)(next >> 16), (uint8_t)(next >> 8),
                          (uint8_t)next};
        struct qidmap_object object;
        struct qm_bytes k, v;
        const struct qm_fs *fs;

        e = ops->cursor_seek(cursor, (struct qm_bytes){key, sizeof(key)}, &k, &v);
        if (e == 0)
            e = qm_object_parse(k, &object);
        if (e != 0)
            break;
        fs = qm_map_fs(&store->map, object.fs);
        if (!fs || !(atomic_load(&fs->state) & QM_STATE_HAS_FULL))
            e = -EUCLEAN;
        next = (uint64_t)object.fs + 1;
    }
    ops->cursor_close(cursor);
    return e == -ENOENT ? 0 : e;
}

/* In order of n, so that the tables in RAM are the same as when the entries were made. */
static int load_byaffix(struct qidmap_store *store, struct qm_txn *txn, struct qm_bytes k,
                        struct qm_bytes v)
{
    struct qm_record expected;
    struct qm_bytes value;
    struct qm_entry entry;
    struct qm_fs *fs;
    uint32_t number;
    int e = qm_parse_byaffix(k, v, &entry.n, &number, &entry.top);

    if (e != 0)
        return e;
    entry.bits = qm_affix_bits(entry.n);
    fs = qm_map_fs(&store->map, number);
    if (!fs || fs->policy != QIDMAP_POLICY_AFFIX || entry.n >= store->meta.next_affix ||
        (txn->backend->ops->has_full && qm_map_entries(fs) >= store->meta.affix_budget) ||
        qm_map_covering(&store->map, fs, entry.top << (64 - entry.bits)))
        return -EUCLEAN;
    qm_record_affix(&expected, number, entry.bits, entry.top, entry.n);
    e = txn->backend->ops->get(txn, QM_TABLE_AFFIX,
                               (struct qm_bytes){expected.key, expected.key_size}, &value);
    if (e == -ENOENT || (e == 0 && (value.size != expected.value_size ||
                                    memcmp(value.data, expected.value, value.size) != 0)))
        return -EUCLEAN;
    if (e == 0)
        qm_map_add_entry(&store->map, fs, &entry);
    return e;
}

static int load_affix(struct qidmap_store *store G_GNUC_UNUSED, struct qm_txn *txn G_GNUC_UNUSED,
                      struct qm_bytes k, struct qm_bytes v)
{
    uint32_t fs, n;
    unsigned bits;
    uint64_t top;

    return qm_parse_affix(k, v, &fs, &bits, &top, &n);
}

static int load(struct qidmap_store *store, GError **error)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_txn *txn;
    uint64_t fsids = 0;
    guint i;
    int e = ops->begin(store->backend, QM_TXN_READ, 0, &txn);

    if (e != 0)
        return qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    e = load_meta(store, txn, error);
    if (e == 0)
        e = for_all(store, txn, QM_TABLE_FS, load_fs, store->meta.fs_rows, error);
    for (i = 0; e == 0 && i < store->map.list->len; i++) {
        const struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        fsids += fs->row.retired ? 0 : fs->row.fsid_count;
    }
    if (e == 0 && link_aliases(store) != 0)
        e = damaged(error, "the aliases of its filesystems");
    if (e == 0 && fsids != store->meta.fsid_rows)
        e = damaged(error, "its identities are not as many as noted");
    if (e == 0)
        e = for_all(store, txn, QM_TABLE_FSID, load_fsid, store->meta.fsid_rows, error);
    if (e == 0)
        e = for_all(store, txn, QM_TABLE_BYAFFIX, load_byaffix, store->meta.affix_rows, error);
    if (e == 0)
        e = for_all(store, txn, QM_TABLE_AFFIX, load_affix, store->meta.affix_rows, error);
    if (e == 0) {
        e = check_full(store, txn);
        if (e == -EUCLEAN)
            e = damaged(error, "rows of the full map whose filesystem does not know of them");
        else if (e != 0)
            e = qm_set_error(error, e, "cannot read: %s", g_strerror(-e));
    }
    ops->abort(txn);
    if (e == 0) {
        atomic_store(&store->given, store->meta.next_serial);
        store->session = store->meta.epoch + 1;
    }
    return e;
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
    pthread_cond_init(&store->changed, NULL);
    qm_map_init(&store->map);
    return store;
}

static void close_unopened(struct qidmap_store *store)
{
    store->writable = FALSE; /* nothing is noted in a store that did not open */
    qm_store_close(store);
}

void qm_floor_leap(struct qm_floor *floor, const struct qm_meta *m)
{
    floor->next_fs = MIN(m->next_fs + LEAP_FS, (uint64_t)QM_FS_LAST + 1);
    floor->next_affix = MIN(m->next_affix + LEAP_AFFIX, (uint64_t)QM_AFFIX_LAST + 1);
    floor->next_serial = MIN(m->next_serial + LEAP_SERIAL, QM_SERIAL_LAST + 1);
    floor->next_instance = MIN(m->next_instance + LEAP_INSTANCE, (uint64_t)QM_INSTANCE_LAST + 1);
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
        e = load(store, error);
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
    if (load(store, error) != 0) {
        close_unopened(store);
        return NULL;
    }
    return store;
}

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
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->lock);
    g_free(store->trouble);
    g_free(store->uri);
    g_free(store);
}

void qm_store_stats(struct qidmap_store *store, struct qidmap_stats *stats)
{
    struct qm_meta m;
    size_t size = stats->size;

    pthread_mutex_lock(&store->lock);
    m = store->meta;
    pthread_mutex_unlock(&store->lock);
    memset(stats, 0, sizeof(*stats));
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
    stats->last_clean_stop = store->writable ? 0 : m.last_clean_stop;
    g_strlcpy(stats->uri, store->uri, sizeof(stats->uri));
    g_strlcpy(stats->backend, store->backend->ops->name, sizeof(stats->backend));
}

/* ---- looking up ------------------------------------------------------------------------------ */

int qm_full_get(struct qm_txn *txn, const struct qidmap_object *object, uint64_t given,
                uint64_t *path)
{
    uint8_t bytes[QM_KEY_MAX];
    struct qm_bytes key = {bytes, qm_object_key(object, bytes)}, value;
    struct qidmap_object seen;
    uint64_t id;
    int e = txn->backend->ops->get(txn, QM_TABLE_FULL, key, &value);

    if (e == 0)
        e = qm_parse_full(key, value, &seen, &id);
    if (e != 0)
        return e;
    if (id < QM_PATH_FIRST || id > QM_PATH_LAST)
        return -EUCLEAN;
    if ((id & 1) && id >> 1 >= given)
        return -ENOENT;
    *path = id;
    return 0;
}

/* After a failed commit the backend may show rows that are not on stable storage: their serials are
 * at or beyond the last committed counter. */
static uint64_t given(struct qidmap_store *store)
{
    return atomic_load(&store->broken) ? atomic_load(&store->given) : UINT64_MAX;
}

static int find_full(struct qidmap_store *store, const struct qidmap_object *object, uint64_t *path)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_txn *txn;
    int e = ops->begin(store->backend, QM_TXN_READ, 0, &txn);

    if (e == 0) {
        e = qm_full_get(txn, object, given(store), path);
        ops->abort(txn);
    }
    if (e == -EUCLEAN)
        qm_store_damaged(store);
    return e;
}

/* The fs of an object, when it may be mapped. */
static int usable(struct qidmap_store *store, uint32_t number, struct qm_fs **fs, uint32_t *state)
{
    *fs = qm_map_fs(&store->map, number);
    if (!*fs)
        return -EINVAL;
    *state = atomic_load_explicit(&(*fs)->state, memory_order_acquire);
    if (*state & QM_STATE_RETIRED)
        return -EINVAL;
    return (*fs)->policy == QIDMAP_POLICY_DENY ? -EPERM : 0;
}

gboolean qm_policy_takes(uint32_t policy, uint8_t kind)
{
    if (policy == QIDMAP_POLICY_HANDLE)
        return kind != QIDMAP_OBJECT_INODE;
    /* Under affix the caller may know some files by handle, and then always those: an overlay shows
     * files with numbers of its layers when its own do not fit. */
    return kind != QIDMAP_OBJECT_HANDLE || policy == QIDMAP_POLICY_AFFIX;
}

/* Asks one retired row: as a fs is asked, but nothing is ever open there. */
static int ask_alias(struct qidmap_store *store, struct qm_txn *txn, const struct qm_fs *alias,
                     struct qidmap_object *object, uint64_t *path)
{
    uint32_t state = atomic_load_explicit(&alias->state, memory_order_acquire);
    gboolean inode = object->kind == QIDMAP_OBJECT_INODE;
    int e;

    object->fs = alias->number;
    if (inode && !(state & QM_STATE_HAS_BOUND) &&
        qm_map_ask(&store->map, alias, object->ino, path) == QM_PLACE_PATH)
        return 0;
    if (state & QM_STATE_HAS_FULL) {
        e = txn ? qm_full_get(txn, object, given(store), path) : find_full(store, object, path);
        if (e != -ENOENT)
            return e;
    }
    if (inode && (state & QM_STATE_HAS_BOUND) &&
        qm_map_ask(&store->map, alias, object->ino, path) == QM_PLACE_PATH)
        return 0;
    return -ENOENT;
}

int qm_store_ask_aliases(struct qidmap_store *store, struct qm_txn *txn, const struct qm_fs *fs,
                         const struct qidmap_object *object, uint64_t *path)
{
    struct qm_fs *aliases[QM_ALIASES];
    struct qidmap_object asked;
    uint32_t n = qm_map_aliases(fs, aliases), i;
    int e = -ENOENT;

    if (n == 0)
        return -ENOENT;
    asked = *object;
    for (i = 0; e == -ENOENT && i < n; i++)
        e = ask_alias(store, txn, aliases[i], &asked, path);
    return e;
}

int qm_store_find(struct qidmap_store *store, uint32_t number, uint64_t ino, uint64_t *path)
{
    struct qidmap_object object;
    struct qm_fs *fs;
    uint32_t state;
    int e = usable(store, number, &fs, &state);

    if (e != 0)
        return e;
    if (fs->policy == QIDMAP_POLICY_HANDLE)
        return -EINVAL;
    if (atomic_load_explicit(&fs->older, memory_order_acquire)) {
        memset(&object, 0, sizeof(object));
        object.kind = QIDMAP_OBJECT_INODE;
        object.ino = ino;
        e = qm_store_ask_aliases(store, NULL, fs, &object, path);
        if (e != -ENOENT)
            return e;
    }
    if (!(state & QM_STATE_HAS_BOUND) && qm_map_ask(&store->map, fs, ino, path) == QM_PLACE_PATH)
        return 0;
    if (state & QM_STATE_HAS_FULL) {
        memset(&object, 0, sizeof(object));
        object.fs = number;
        object.kind = QIDMAP_OBJECT_INODE;
        object.ino = ino;
        e = find_full(store, &object, path);
        if (e != -ENOENT)
            return e;
    }
    if ((state & QM_STATE_HAS_BOUND) && qm_map_ask(&store->map, fs, ino, path) == QM_PLACE_PATH)
        return 0;
    return -ENOENT;
}

int qm_store_find_object(struct qidmap_store *store, const struct qidmap_object *object,
                         uint64_t *path)
{
    struct qm_fs *fs;
    uint32_t state;
    int e;

    if (object->kind == QIDMAP_OBJECT_INODE)
        return qm_store_find(store, object->fs, object->ino, path);
    e = usable(store, object->fs, &fs, &state);
    if (e != 0)
        return e;
    if (!qm_policy_takes(fs->policy, object->kind))
        return -EINVAL;
    e = qm_store_ask_aliases(store, NULL, fs, object, path);
    if (e != -ENOENT)
        return e;
    return state & QM_STATE_HAS_FULL ? find_full(store, object, path) : -ENOENT;
}

static int reverse_full(struct qidmap_store *store, struct qm_txn *txn, uint64_t path,
                        struct qidmap_object *object)
{
    struct qm_record r;
    struct qidmap_object o;
    struct qm_bytes key, value;
    uint64_t id, back;
    int e;

    memset(&o, 0, sizeof(o));
    o.fs = 1;
    qm_record_byfull(&r, path, &o); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = txn->backend->ops->get(txn, QM_TABLE_BYFULL, key, &value);
    if (e == 0)
        e = qm_parse_byfull(key, value, &id, &o);
    if (e != 0)
        return e;
    e = qm_full_get(txn, &o, given(store), &back);
    if (e != 0 || back != path)
        return e == 0 || (e == -ENOENT && !atomic_load(&store->broken)) ? -EUCLEAN : e;
    *object = o;
    return 0;
}

static int reverse_affix(struct qidmap_store *store, struct qm_txn *txn, uint32_t n, uint64_t path,
                         struct qidmap_object *object)
{
    struct qm_record r;
    struct qm_bytes key, value;
    const struct qm_entry *entry;
    struct qm_fs *fs;
    uint32_t seen, number;
    uint64_t top, ino;
    int e;

    qm_record_byaffix(&r, n, 0, 0); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = txn->backend->ops->get(txn, QM_TABLE_BYAFFIX, key, &value);
    if (e == 0)
        e = qm_parse_byaffix(key, value, &seen, &number, &top);
    if (e != 0)
        return e;
    if (!qm_entry_inode(n, top, path, &ino))
        return -ENOENT;
    fs = qm_map_fs(&store->map, number);
    entry = fs ? qm_map_covering(&store->map, fs, ino) : NULL;
    if (!entry)
        return -ENOENT; /* committed this instant, or never: nobody was given this id */
    if (entry->n != n)
        return -EUCLEAN;
    object->fs = number;
    object->ino = ino;
    return 0;
}

static int reverse_ephemeral(struct qidmap_store *store, uint64_t path,
                             struct qidmap_object *object)
{
    uint32_t instance;
    uint64_t ino;
    int e = -ENOENT;
    guint i;

    if (!qm_ephemeral_inode(path, &instance, &ino))
        return -ENOENT;
    pthread_mutex_lock(&store->map.lock);
    for (i = 0; i < store->map.list->len; i++) {
        const struct qm_fs *fs = g_ptr_array_index(store->map.list, i);

        if (fs->policy == QIDMAP_POLICY_EPHEMERAL && fs->instance == instance) {
            object->fs = fs->number;
            object->ino = ino;
            e = 0;
            break;
        }
    }
    pthread_mutex_unlock(&store->map.lock);
    return e;
}

int qm_store_reverse(struct qidmap_store *store, uint64_t path, struct qidmap_object *object)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qidmap_object o;
    uint32_t n = qm_affix_index(path);
    struct qm_txn *txn;
    int e;

    if (path < QM_PATH_FIRST || path > QM_PATH_LAST || n == 0 || n == QM_AFFIX_RESERVED)
        return -ENOENT;
    memset(&o, 0, sizeof(o));
    e = ops->begin(store->backend, QM_TXN_READ, 0, &txn);
    if (e != 0) {
        if (e == -EUCLEAN)
            qm_store_damaged(store);
        return e;
    }
    if (n != QM_AFFIX_FULL) {
        /* An id of any index may have been bound by migration: ask the full map first. */
        e = reverse_full(store, txn, path, &o);
        if (e == -ENOENT && n == QM_AFFIX_EPHEMERAL)
            e = reverse_ephemeral(store, path, &o);
        else if (e == -ENOENT && n <= QM_AFFIX_LAST)
            e = reverse_affix(store, txn, n, path, &o);
    } else {
        e = reverse_full(store, txn, path, &o);
    }
    ops->abort(txn);
    if (e == -EUCLEAN)
        qm_store_damaged(store);
    if (e == 0) {
        struct qm_fs *fs = qm_map_fs(&store->map, o.fs);

        if (fs)
            o.fs = qm_map_head(fs)->number;
        *object = o;
    }
    return e;
}

int qm_store_fs_get(struct qidmap_store *store, uint32_t number, struct qidmap_fs *row)
{
    size_t size = row->size;
    struct qm_fs *fs = qm_map_fs(&store->map, number);

    if (!fs)
        return -ENOENT;
    pthread_mutex_lock(&store->map.lock);
    qm_map_row(fs, row);
    pthread_mutex_unlock(&store->map.lock);
    row->size = size;
    return 0;
}
