/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lookups in an open store: from object to id, through aliases, and back. Makes nothing: what is
 * not known is -ENOENT, and commit.c maps it. Must not know bytes of rows (codec.c).
 */
#include "config.h"

#include "store/prune-marks.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

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

static int ask_full(struct qidmap_store *store, const struct qidmap_object *object, uint64_t *path)
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

/* Apart, so that who finds what is kept has no object to fill. */
static __attribute__((noinline)) int ask_full_inode(struct qidmap_store *store, uint32_t fs,
                                                    uint64_t ino, uint64_t *path)
{
    struct qidmap_object object = {.fs = fs, .kind = QIDMAP_OBJECT_INODE, .ino = ino};

    return ask_full(store, &object, path);
}

/* What was answered stays, also where somebody looks for rows that nobody needs. */
static __attribute__((noinline)) void
touch(struct qidmap_store *store, const struct qm_hits_key *key, const struct qidmap_object *object)
{
    struct qidmap_object inode = {.kind = QIDMAP_OBJECT_INODE};

    if (!object) {
        inode.fs = (uint32_t)(key->word[0] >> 32);
        inode.ino = key->word[1];
        object = &inode;
    }
    qm_marks_touch(store, object);
}

/* What is found while rows are being deleted may be gone a moment later: it is asked for again
 * afterwards (prune.c), as is what was found while rows changed.
 *
 * What was found is kept for the next one who asks, until rows of the full map change or go, or
 * damage is met. Its generation is read before the transaction begins: what a transaction saw from
 * before a change is kept under the old one, and never found. While writing is broken nothing is
 * kept or taken from there: each answer is read, and damage in its row is met.
 *
 * `object` is NULL where the key is that of an inode. */
static inline int find_key(struct qidmap_store *store, const struct qm_hits_key *key,
                           const struct qidmap_object *object, uint64_t *path)
{
    unsigned before, after;
    int e;

    for (;;) {
        uint64_t generation = atomic_load(&store->rewrites);
        gboolean keep = atomic_load(&store->broken) == 0;

        before = atomic_load(&store->pruning);
        if (!keep || !qm_hits_get(&store->hits, key, generation, path)) {
            e = object ? ask_full(store, object, path)
                       : ask_full_inode(store, (uint32_t)(key->word[0] >> 32), key->word[1], path);
            if (e != 0)
                return e;
            /* Serials from `given` on are of a commit that has not been noted yet. */
            if (keep && (!(*path & 1) || *path >> 1 < atomic_load(&store->given)))
                qm_hits_put(&store->hits, key, generation, *path);
        }
        if (atomic_load(&store->marking))
            touch(store, key, object);
        after = atomic_load(&store->pruning);
        if (before != after || (after & 1))
            qm_store_wait(store);
        else if (atomic_load(&store->rewrites) == generation)
            return 0;
    }
}

static int find_full(struct qidmap_store *store, const struct qidmap_object *object, uint64_t *path)
{
    struct qm_hits_key key;

    qm_hits_key(&key, object);
    return find_key(store, &key, object, path);
}

static __attribute__((noinline)) int find_full_inode(struct qidmap_store *store, uint32_t fs,
                                                     uint64_t ino, uint64_t *path)
{
    struct qm_hits_key key;

    qm_hits_key_inode(&key, fs, ino);
    return find_key(store, &key, NULL, path);
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
    return (*fs)->policy == QIDMAP_POLICY_DENY || (*state & QM_STATE_SUPERSEDED) ? -EPERM : 0;
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

static __attribute__((noinline)) int
ask_aliases_inode(struct qidmap_store *store, const struct qm_fs *fs, uint64_t ino, uint64_t *path)
{
    struct qidmap_object object = {.kind = QIDMAP_OBJECT_INODE, .ino = ino};

    return qm_store_ask_aliases(store, NULL, fs, &object, path);
}

/* A fs that is asked in another way than most. */
static __attribute__((noinline)) int find_rare(struct qidmap_store *store, uint32_t number,
                                               uint64_t ino, uint64_t *path)
{
    struct qm_fs *fs;
    uint32_t state;
    int e = usable(store, number, &fs, &state);

    if (e != 0)
        return e;
    if (fs->policy == QIDMAP_POLICY_HANDLE)
        return -EINVAL;
    if (atomic_load_explicit(&fs->older, memory_order_acquire)) {
        e = ask_aliases_inode(store, fs, ino, path);
        if (e != -ENOENT)
            return e;
    }
    if (!(state & QM_STATE_HAS_BOUND) && qm_map_ask(&store->map, fs, ino, path) == QM_PLACE_PATH)
        return 0;
    if (state & QM_STATE_HAS_FULL) {
        e = find_full_inode(store, number, ino, path);
        if (e != -ENOENT)
            return e;
    }
    if ((state & QM_STATE_HAS_BOUND) && qm_map_ask(&store->map, fs, ino, path) == QM_PLACE_PATH)
        return 0;
    return -ENOENT;
}

/* Most filesystems have policy affix, no alias and nothing bound: two steps are left of the order
 * of asking. */
int qm_store_find(struct qidmap_store *store, uint32_t number, uint64_t ino, uint64_t *path)
{
    const uint32_t rare = QM_STATE_RETIRED | QM_STATE_SUPERSEDED | QM_STATE_HAS_BOUND;
    const struct qm_fs *fs = qm_map_fs(&store->map, number);
    uint32_t state;

    if (!fs)
        return -EINVAL;
    state = atomic_load_explicit(&fs->state, memory_order_acquire);
    if (fs->policy != QIDMAP_POLICY_AFFIX || (state & rare) ||
        atomic_load_explicit(&fs->older, memory_order_acquire))
        return find_rare(store, number, ino, path);
    if (qm_map_ask(&store->map, fs, ino, path) == QM_PLACE_PATH)
        return 0;
    return state & QM_STATE_HAS_FULL ? find_full_inode(store, number, ino, path) : -ENOENT;
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

/* ---- from id to object ------------------------------------------------------------------------
 */

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

/* ---- filesystems ------------------------------------------------------------------------------
 */

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
