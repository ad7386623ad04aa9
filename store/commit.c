/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New mappings, and group commit.
 *
 * A thread that needs new mappings puts its work into the queue. Where nobody leads it takes the
 * role, runs one write transaction for all that waits, and wakes the others with their results;
 * what arrives meanwhile makes the next transaction. So one sync serves any number of threads, and
 * a single one does not wait for a timer.
 *
 * The leader asks again inside the transaction (another leader may have mapped the object in
 * between), notes what it wants to change in RAM, and changes it only after the commit succeeded.
 * An object that cannot be mapped (policy, counters) gets its error before anything is put for it;
 * a failed put ends the transaction for all.
 */
#include "config.h"

#include "store/error.h"
#include "store/prune-marks.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* What one thread wants. */
struct qm_work {
    struct qm_want *wants;
    size_t count;
    gboolean done;
    struct qm_work *next;
};

/* What the transaction will have changed in one fs. */
struct staged_fs {
    struct qm_fs *fs;
    uint32_t state;
    GArray *entries; /* of struct qm_entry */
};

struct change {
    struct qidmap_store *store;
    struct qm_txn *txn;
    struct qm_meta meta;
    GHashTable *staged; /* number -> struct staged_fs */
    gboolean dirty;
};

static void staged_free(gpointer data)
{
    struct staged_fs *s = data;

    g_array_free(s->entries, TRUE);
    g_free(s);
}

static struct staged_fs *staged(struct change *ch, struct qm_fs *fs)
{
    struct staged_fs *s = g_hash_table_lookup(ch->staged, GUINT_TO_POINTER(fs->number));

    if (!s) {
        s = g_new0(struct staged_fs, 1);
        s->fs = fs;
        s->state = atomic_load_explicit(&fs->state, memory_order_relaxed);
        s->entries = g_array_new(FALSE, FALSE, sizeof(struct qm_entry));
        g_hash_table_insert(ch->staged, GUINT_TO_POINTER(fs->number), s);
    }
    return s;
}

int qm_txn_put(struct qm_txn *txn, enum qm_table table, const struct qm_record *record)
{
    return txn->backend->ops->put(txn, table, (struct qm_bytes){record->key, record->key_size},
                                  (struct qm_bytes){record->value, record->value_size});
}

/* A row that must not be there yet: -EUCLEAN where it is. */
static int put_new(struct qm_txn *txn, enum qm_table table, const struct qm_record *record)
{
    struct qm_bytes value;
    int r = txn->backend->ops->get(txn, table, (struct qm_bytes){record->key, record->key_size},
                                   &value);

    if (r == 0)
        return -EUCLEAN;
    return r == -ENOENT ? qm_txn_put(txn, table, record) : r;
}

/* The same for a row of the full map, whose neighbours must be what they should be, too. */
static int put_between(struct qm_txn *txn, enum qm_table table, const struct qm_record *record)
{
    const struct qm_backend_ops *ops = txn->backend->ops;
    struct qm_bytes key = {record->key, record->key_size}, k, v;
    struct qm_cursor *cursor;
    int r = ops->cursor_open(txn, table, &cursor);

    if (r != 0)
        return r;
    r = ops->cursor_seek(cursor, key, &k, &v);
    if (r == 0 && k.size == key.size && memcmp(k.data, key.data, key.size) == 0)
        r = -EUCLEAN;
    if (r == 0)
        r = qm_parse_check(table, k, v);
    if (r == 0 || r == -ENOENT) {
        r = ops->cursor_prev(cursor, &k, &v);
        if (r == 0)
            r = qm_parse_check(table, k, v);
    }
    ops->cursor_close(cursor);
    return r == 0 || r == -ENOENT ? qm_txn_put(txn, table, record) : r;
}

/* A new row of the full map. */
static int add_full(struct change *ch, struct qm_fs *fs, struct qm_want *w)
{
    struct qm_record r;
    uint64_t id;
    int e;

    if (!ch->store->backend->ops->has_full || ch->meta.next_serial > QM_SERIAL_LAST) {
        w->result = -ENFILE;
        return 0;
    }
    id = qm_full_path(ch->meta.next_serial);
    qm_record_full(&r, &w->object, id);
    e = put_between(ch->txn, QM_TABLE_FULL, &r);
    if (e != 0)
        return e;
    qm_record_byfull(&r, id, &w->object);
    e = put_between(ch->txn, QM_TABLE_BYFULL, &r);
    if (e != 0)
        return e;
    ch->meta.next_serial++;
    ch->meta.full_rows++;
    ch->dirty = TRUE;
    staged(ch, fs)->state |= QM_STATE_HAS_FULL;
    w->path = id;
    return 0;
}

static int map_full(struct change *ch, struct qm_fs *fs, struct qm_want *w)
{
    struct staged_fs *s = g_hash_table_lookup(ch->staged, GUINT_TO_POINTER(fs->number));
    uint32_t state = s ? s->state : atomic_load_explicit(&fs->state, memory_order_relaxed);
    int e = -ENOENT;

    if (state & QM_STATE_HAS_FULL)
        e = qm_full_get(ch->txn, &w->object, UINT64_MAX, &w->path);
    return e == -ENOENT ? add_full(ch, fs, w) : e;
}

/* A new affix entry for `ino`, which no entry covers; *made tells whether there could be one. */
static int add_entry(struct change *ch, struct qm_fs *fs, uint64_t ino, struct qm_entry *entry,
                     gboolean *made)
{
    struct staged_fs *s = staged(ch, fs);
    struct qm_record r;
    int e;

    *made = FALSE;
    if (s->state & QM_STATE_LEFT_BUDGET)
        return 0;
    if (ch->store->backend->ops->has_full &&
        qm_map_entries(fs) + s->entries->len >= ch->meta.affix_budget) {
        s->state |= QM_STATE_LEFT_BUDGET;
        ch->dirty = TRUE;
        return 0;
    }
    if (ch->meta.next_affix > QM_AFFIX_LAST)
        return 0;
    entry->n = (uint32_t)ch->meta.next_affix;
    entry->bits = qm_affix_bits(entry->n);
    entry->top = ino >> (64 - entry->bits);
    qm_record_affix(&r, fs->number, entry->bits, entry->top, entry->n);
    e = put_new(ch->txn, QM_TABLE_AFFIX, &r);
    if (e == 0) {
        qm_record_byaffix(&r, entry->n, fs->number, entry->top);
        e = put_new(ch->txn, QM_TABLE_BYAFFIX, &r);
    }
    if (e != 0)
        return e;
    ch->meta.next_affix++;
    ch->meta.affix_rows++;
    ch->dirty = TRUE;
    g_array_append_val(s->entries, *entry);
    *made = TRUE;
    return 0;
}

/* One inode of a fs with policy affix: the same order of asking as for readers. */
static int map_inode(struct change *ch, struct qm_fs *fs, struct qm_want *w)
{
    struct staged_fs *s;
    struct qm_entry entry;
    gboolean made;
    guint i;
    int e;

    switch (qm_map_ask(&ch->store->map, fs, w->object.ino, &w->path)) {
    case QM_PLACE_PATH:
        return 0;
    case QM_PLACE_FULL:
        return map_full(ch, fs, w);
    case QM_PLACE_OPEN:
        break;
    }
    s = g_hash_table_lookup(ch->staged, GUINT_TO_POINTER(fs->number));
    for (i = 0; s && i < s->entries->len; i++) {
        const struct qm_entry *old = &g_array_index(s->entries, struct qm_entry, i);

        if (w->object.ino >> (64 - old->bits) == old->top)
            return qm_entry_path(old->n, old->bits, w->object.ino, &w->path) ? 0
                                                                             : map_full(ch, fs, w);
    }
    e = add_entry(ch, fs, w->object.ino, &entry, &made);
    if (e != 0)
        return e;
    if (made && qm_entry_path(entry.n, entry.bits, w->object.ino, &w->path))
        return 0;
    return map_full(ch, fs, w);
}

/* Maps one object inside the transaction. An error of the object itself goes to w->result; what
 * comes back ends the transaction. */
static int map_one(struct change *ch, struct qm_want *w)
{
    struct qm_fs *fs = qm_map_fs(&ch->store->map, w->object.fs);
    uint32_t state;
    int e;

    w->result = 0;
    if (!fs) {
        w->result = -EINVAL;
        return 0;
    }
    state = atomic_load_explicit(&fs->state, memory_order_relaxed);
    if (fs->policy == QIDMAP_POLICY_DENY || (state & (QM_STATE_RETIRED | QM_STATE_SUPERSEDED))) {
        w->result =
            fs->policy != QIDMAP_POLICY_DENY && (state & QM_STATE_RETIRED) ? -EINVAL : -EPERM;
        return 0;
    }
    if (!qm_policy_takes(fs->policy, w->object.kind)) {
        w->result = -EINVAL;
        return 0;
    }
    e = qm_store_ask_aliases(ch->store, ch->txn, fs, &w->object, &w->path);
    if (e != -ENOENT)
        return e;
    if (w->object.kind != QIDMAP_OBJECT_INODE)
        return map_full(ch, fs, w);
    if (state & QM_STATE_HAS_BOUND) {
        e = qm_full_get(ch->txn, &w->object, UINT64_MAX, &w->path);
        if (e != -ENOENT)
            return e;
    }
    return map_inode(ch, fs, w);
}

/* Rows of filesystems whose state changed. */
static int put_states(struct change *ch)
{
    GHashTableIter iter;
    gpointer value;
    int e = 0;

    g_hash_table_iter_init(&iter, ch->staged);
    while (e == 0 && g_hash_table_iter_next(&iter, NULL, &value)) {
        struct staged_fs *s = value;
        struct qm_record r;
        struct qidmap_fs row;

        if (s->state == atomic_load_explicit(&s->fs->state, memory_order_relaxed))
            continue;
        pthread_mutex_lock(&ch->store->map.lock);
        qm_map_row(s->fs, &row);
        pthread_mutex_unlock(&ch->store->map.lock);
        row.left_budget = (s->state & QM_STATE_LEFT_BUDGET) != 0;
        qm_record_fs(&r, &row, (s->state & QM_STATE_HAS_FULL) != 0);
        e = qm_txn_put(ch->txn, QM_TABLE_FS, &r);
    }
    return e;
}

/* After the commit: the tables in RAM. Entries first, so that nobody who sees a fs without budget
 * misses one. */
static void publish(struct change *ch)
{
    GHashTableIter iter;
    gpointer value;
    guint i;

    g_hash_table_iter_init(&iter, ch->staged);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct staged_fs *s = value;

        for (i = 0; i < s->entries->len; i++)
            qm_map_add_entry(&ch->store->map, s->fs,
                             &g_array_index(s->entries, struct qm_entry, i));
        atomic_store_explicit(&s->fs->state, s->state, memory_order_release);
    }
}

/* The counters on disk must be those in RAM: nobody else writes. */
int qm_store_check_meta(struct qidmap_store *store, struct qm_txn *txn)
{
    struct qm_bytes key = {QM_META_KEY, strlen(QM_META_KEY)}, value;
    struct qm_meta seen;
    uint32_t format;
    int e = txn->backend->ops->get(txn, QM_TABLE_META, key, &value);

    if (e == 0)
        e = qm_parse_meta(key, value, &seen, &format);
    if (e == -ENOENT || e == -EPROTO)
        e = -EUCLEAN;
    if (e == 0 &&
        (seen.epoch != store->meta.epoch || seen.next_affix != store->meta.next_affix ||
         seen.next_serial != store->meta.next_serial || seen.next_fs != store->meta.next_fs ||
         seen.next_instance != store->meta.next_instance))
        e = -EUCLEAN;
    return e;
}

/* ---- transactions ------------------------------------------------------------------------------
 */

uint64_t qm_store_served(const struct qidmap_store *store)
{
    if (!store->writable)
        return store->meta.served;
    return store->served_before +
           (uint64_t)((g_get_monotonic_time() - store->opened_at) / G_USEC_PER_SEC);
}

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int qm_store_commit(struct qidmap_store *store, struct qm_txn *txn, struct qm_meta *meta)
{
    int e = qm_store_commit_added(store, txn, meta);

    /* A reader who begins now sees what was committed; what others found before is forgotten. */
    atomic_fetch_add(&store->rewrites, 1);
    return e;
}

int qm_store_commit_added(struct qidmap_store *store, struct qm_txn *txn, struct qm_meta *meta)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_record r;
    uint64_t begun, took;
    int e;

    meta->epoch++;
    meta->served = qm_store_served(store);
    meta->transaction = ops->number(txn);
    qm_record_meta(&r, meta);
    e = qm_txn_put(txn, QM_TABLE_META, &r);
    if (e != 0) {
        ops->abort(txn);
        return e;
    }
    begun = nanoseconds();
    e = ops->commit(txn);
    took = nanoseconds() - begun;
    if (e == QM_GROW || e == -ENOSPC)
        return e;
    if (e != 0) {
        qm_store_failed(store, meta, e);
        return e;
    }
    pthread_mutex_lock(&store->lock);
    store->commits++;
    store->commit_nanoseconds += took;
    store->commit_slowest = MAX(store->commit_slowest, took);
    store->meta = *meta;
    pthread_mutex_unlock(&store->lock);
    atomic_store(&store->given, meta->next_serial);
    return 0;
}

/* One transaction for all of `list`. 0, QM_GROW, or what every piece of work gets. */
static int run_once(struct qidmap_store *store, struct qm_work *list)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct change ch = {.store = store};
    struct qm_work *w;
    size_t rows = 1, i;
    int e;

    for (w = list; w; w = w->next)
        rows += 3 * w->count;
    e = ops->begin(store->backend, QM_TXN_WRITE, rows, &ch.txn);
    if (e != 0)
        return e;
    ch.meta = store->meta;
    ch.staged = g_hash_table_new_full(NULL, NULL, NULL, staged_free);
    e = qm_store_check_meta(store, ch.txn);
    for (w = list; e == 0 && w; w = w->next) {
        for (i = 0; e == 0 && i < w->count; i++)
            e = map_one(&ch, &w->wants[i]);
    }
    if (e == 0 && ch.dirty)
        e = put_states(&ch);
    if (e != 0 || !ch.dirty) {
        ops->abort(ch.txn);
    } else {
        uint64_t made =
            ch.meta.affix_rows - store->meta.affix_rows + ch.meta.full_rows - store->meta.full_rows;

        ch.meta.last_clean_stop = 0;
        e = qm_store_commit_added(store, ch.txn, &ch.meta);
        if (e == 0) {
            atomic_fetch_add(&store->made, made);
            publish(&ch);
        }
    }
    g_hash_table_destroy(ch.staged);
    return e;
}

static void run(struct qidmap_store *store, struct qm_work *list)
{
    int e = qm_store_ready(store);
    struct qm_work *w;
    size_t i;

    while (e == 0) {
        e = run_once(store, list);
        if (e != QM_GROW)
            break;
        e = store->backend->ops->grow(store->backend);
    }
    if (e == -EUCLEAN)
        qm_store_damaged(store);
    for (w = list; e == 0 && w; w = w->next) {
        for (i = 0; i < w->count; i++) {
            if (w->wants[i].result == 0)
                qm_marks_touch(store, &w->wants[i].object);
        }
    }
    if (e == 0)
        return;
    for (w = list; w; w = w->next) {
        for (i = 0; i < w->count; i++) {
            struct qm_want *want = &w->wants[i];

            /* What is known already is known in spite of the failure. */
            want->result = qm_store_find_object(store, &want->object, &want->path);
            if (want->result == -ENOENT)
                want->result = e;
        }
    }
}

void qm_store_map(struct qidmap_store *store, struct qm_want *wants, size_t count)
{
    struct qm_work work = {wants, count, FALSE, NULL};
    struct qm_work *list, *w, *next;

    pthread_mutex_lock(&store->lock);
    *store->queue_end = &work;
    store->queue_end = &work.next;
    while (!work.done && store->leading)
        pthread_cond_wait(&store->changed, &store->lock);
    if (work.done) {
        pthread_mutex_unlock(&store->lock);
        return;
    }
    store->leading = TRUE;
    list = store->queue;
    store->queue = NULL;
    store->queue_end = &store->queue;
    pthread_mutex_unlock(&store->lock);

    run(store, list);

    pthread_mutex_lock(&store->lock);
    for (w = list; w; w = next) {
        next = w->next; /* once it is done its owner may leave, and `w` with it */
        w->done = TRUE;
    }
    store->leading = FALSE;
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
}

void qm_store_lead(struct qidmap_store *store)
{
    pthread_mutex_lock(&store->lock);
    while (store->leading)
        pthread_cond_wait(&store->changed, &store->lock);
    store->leading = TRUE;
    pthread_mutex_unlock(&store->lock);
    store->blocked = qm_store_ready(store);
}

void qm_store_wait(struct qidmap_store *store)
{
    pthread_mutex_lock(&store->lock);
    while (store->leading && (atomic_load(&store->pruning) & 1))
        pthread_cond_wait(&store->changed, &store->lock);
    pthread_mutex_unlock(&store->lock);
}

void qm_store_unlead(struct qidmap_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->leading = FALSE;
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
}
