/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory: nothing persistent. The double that most tests use, and what to choose where ids need not
 * outlive the daemon.
 *
 * A table is a GSequence of rows, sorted by key. A write transaction changes the tables in place
 * under the lock and keeps what it replaced, to put it back on abort. A read transaction holds the
 * lock, too, and is short (a GSequence bears one reader at a time); a snapshot copies the row
 * pointers of all tables (rows are immutable and counted), so that it holds up nobody.
 */
#include "config.h"

#include "store/backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "store/error.h"

struct row {
    _Atomic unsigned refs;
    size_t key_size, value_size;
    uint8_t bytes[]; /* key, then value */
};

struct mem_backend {
    struct qm_backend base;
    pthread_mutex_t lock;         /* of all below */
    GSequence *tables[QM_TABLES]; /* of struct row, sorted */
    uint64_t commits;
};

/* What a write transaction replaced: the row that was there, or the key that was not. */
struct undo {
    enum qm_table table;
    struct row *before;
    struct row *after;
};

struct mem_txn {
    struct qm_txn base;
    GArray *undo;                 /* WRITE: of struct undo */
    GSequence *tables[QM_TABLES]; /* SNAPSHOT: copies; else the backend's */
};

struct mem_cursor {
    struct qm_cursor base;
    GSequenceIter *at;
};

static struct row *row_new(struct qm_bytes key, struct qm_bytes value)
{
    struct row *row = g_malloc(sizeof(*row) + key.size + value.size);

    atomic_init(&row->refs, 1);
    row->key_size = key.size;
    row->value_size = value.size;
    if (key.size)
        memcpy(row->bytes, key.data, key.size);
    if (value.size)
        memcpy(row->bytes + key.size, value.data, value.size);
    return row;
}

static struct row *row_ref(struct row *row)
{
    atomic_fetch_add(&row->refs, 1);
    return row;
}

static void row_unref(gpointer data)
{
    struct row *row = data;

    if (row && atomic_fetch_sub(&row->refs, 1) == 1)
        g_free(row);
}

static gint row_compare(gconstpointer a, gconstpointer b, gpointer user G_GNUC_UNUSED)
{
    const struct row *x = a, *y = b;
    int r = memcmp(x->bytes, y->bytes, MIN(x->key_size, y->key_size));

    if (r != 0)
        return r;
    return (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

static GSequence *table_of(struct qm_txn *txn, enum qm_table table)
{
    return ((struct mem_txn *)txn)->tables[table];
}

static GSequenceIter *find(GSequence *table, struct row *key)
{
    return g_sequence_lookup(table, key, row_compare, NULL);
}

static struct qm_backend *mem_open(const char *place, const struct qm_backend_config *config,
                                   GError **error)
{
    struct mem_backend *m;
    int i;

    if (place[0] != '\0') {
        qm_set_error(error, EINVAL, "nothing may follow the colon of `memory:`");
        return NULL;
    }
    if (!config->write) {
        qm_set_error(error, ENOENT,
                     "a memory: store lives in the process that made it, and cannot "
                     "be opened by another one for reading");
        return NULL;
    }
    m = g_new0(struct mem_backend, 1);
    m->base.ops = &qm_backend_mem;
    m->base.fresh = TRUE;
    pthread_mutex_init(&m->lock, NULL);
    for (i = 0; i < QM_TABLES; i++)
        m->tables[i] = g_sequence_new(row_unref);
    return &m->base;
}

static int mem_publish(struct qm_backend *backend, GError **error G_GNUC_UNUSED)
{
    backend->fresh = FALSE;
    return 0;
}

static void mem_close(struct qm_backend *backend)
{
    struct mem_backend *m = (struct mem_backend *)backend;
    int i;

    for (i = 0; i < QM_TABLES; i++)
        g_sequence_free(m->tables[i]);
    pthread_mutex_destroy(&m->lock);
    g_free(m);
}

static void copy_row(gpointer data, gpointer user)
{
    g_sequence_append(user, row_ref(data));
}

static int mem_begin(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows G_GNUC_UNUSED,
                     struct qm_txn **txn)
{
    struct mem_backend *m = (struct mem_backend *)backend;
    struct mem_txn *t = g_new0(struct mem_txn, 1);
    int i;

    t->base.backend = backend;
    t->base.kind = kind;
    if (kind == QM_TXN_WRITE)
        t->undo = g_array_new(FALSE, FALSE, sizeof(struct undo));
    pthread_mutex_lock(&m->lock);
    memcpy(t->tables, m->tables, sizeof(t->tables));
    if (kind == QM_TXN_SNAPSHOT) {
        for (i = 0; i < QM_TABLES; i++) {
            t->tables[i] = g_sequence_new(row_unref);
            g_sequence_foreach(m->tables[i], copy_row, t->tables[i]);
        }
        pthread_mutex_unlock(&m->lock);
    }
    *txn = &t->base;
    return 0;
}

static void end(struct mem_txn *t)
{
    struct mem_backend *m = (struct mem_backend *)t->base.backend;
    guint i;

    if (t->base.kind == QM_TXN_SNAPSHOT) {
        for (i = 0; i < QM_TABLES; i++)
            g_sequence_free(t->tables[i]);
    } else if (t->base.kind == QM_TXN_WRITE) {
        for (i = 0; i < t->undo->len; i++) {
            row_unref(g_array_index(t->undo, struct undo, i).before);
            row_unref(g_array_index(t->undo, struct undo, i).after);
        }
        g_array_free(t->undo, TRUE);
        pthread_mutex_unlock(&m->lock);
    } else {
        pthread_mutex_unlock(&m->lock);
    }
    g_free(t);
}

static int mem_commit(struct qm_txn *txn)
{
    if (txn->kind == QM_TXN_WRITE)
        ((struct mem_backend *)txn->backend)->commits++;
    end((struct mem_txn *)txn);
    return 0;
}

/* Makes `table` hold `row` (taken; NULL: nothing) under the key of `key`. */
static void set(GSequence *table, struct row *key, struct row *row)
{
    GSequenceIter *at = find(table, key);

    if (at)
        g_sequence_remove(at);
    if (row)
        g_sequence_insert_sorted(table, row, row_compare, NULL);
}

static void mem_abort(struct qm_txn *txn)
{
    struct mem_txn *t = (struct mem_txn *)txn;
    guint i;

    for (i = t->undo ? t->undo->len : 0; i > 0; i--) {
        struct undo *u = &g_array_index(t->undo, struct undo, i - 1);

        set(t->tables[u->table], u->before ? u->before : u->after,
            u->before ? row_ref(u->before) : NULL);
    }
    end(t);
}

static int mem_grow(struct qm_backend *backend G_GNUC_UNUSED)
{
    return -ENOSPC;
}

static uint64_t mem_number(struct qm_txn *txn)
{
    return ((struct mem_backend *)txn->backend)->commits + (txn->kind == QM_TXN_WRITE);
}

static struct qm_bytes value_of(const struct row *row)
{
    return (struct qm_bytes){row->bytes + row->key_size, row->value_size};
}

static int mem_get(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                   struct qm_bytes *value)
{
    struct row *probe = row_new(key, (struct qm_bytes){NULL, 0});
    GSequenceIter *at = find(table_of(txn, table), probe);

    row_unref(probe);
    if (!at)
        return -ENOENT;
    *value = value_of(g_sequence_get(at));
    return 0;
}

static int change(struct qm_txn *txn, enum qm_table table, struct row *key, struct row *row)
{
    struct mem_txn *t = (struct mem_txn *)txn;
    GSequenceIter *at = find(t->tables[table], key);
    struct undo undo = {table, at ? row_ref(g_sequence_get(at)) : NULL, row ? row_ref(row) : NULL};

    set(t->tables[table], key, row);
    g_array_append_val(t->undo, undo);
    return 0;
}

static int mem_put(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                   struct qm_bytes value)
{
    struct row *row = row_new(key, value);

    return change(txn, table, row, row);
}

static int mem_del(struct qm_txn *txn, enum qm_table table, struct qm_bytes key)
{
    struct row *probe = row_new(key, (struct qm_bytes){NULL, 0});
    int r = -ENOENT;

    if (find(table_of(txn, table), probe))
        r = change(txn, table, probe, NULL);
    row_unref(probe);
    return r;
}

static int mem_cursor_open(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor)
{
    struct mem_cursor *c = g_new0(struct mem_cursor, 1);

    c->base.txn = txn;
    c->base.table = table;
    c->at = g_sequence_get_begin_iter(table_of(txn, table));
    *cursor = &c->base;
    return 0;
}

static int give(struct mem_cursor *c, struct qm_bytes *k, struct qm_bytes *v)
{
    const struct row *row;

    if (g_sequence_iter_is_end(c->at))
        return -ENOENT;
    row = g_sequence_get(c->at);
    *k = (struct qm_bytes){row->bytes, row->key_size};
    *v = value_of(row);
    return 0;
}

static int mem_cursor_seek(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                           struct qm_bytes *v)
{
    struct mem_cursor *c = (struct mem_cursor *)cursor;
    GSequence *table = table_of(cursor->txn, cursor->table);
    struct row *probe = row_new(key, (struct qm_bytes){NULL, 0});
    GSequenceIter *at = find(table, probe);

    /* search() gives the place behind an equal row; therefore equal ones are looked up first. */
    c->at = at ? at : g_sequence_search(table, probe, row_compare, NULL);
    row_unref(probe);
    return give(c, k, v);
}

static int mem_cursor_next(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    struct mem_cursor *c = (struct mem_cursor *)cursor;

    if (!g_sequence_iter_is_end(c->at))
        c->at = g_sequence_iter_next(c->at);
    return give(c, k, v);
}

static int mem_cursor_prev(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    struct mem_cursor *c = (struct mem_cursor *)cursor;

    if (g_sequence_iter_is_begin(c->at))
        return -ENOENT;
    c->at = g_sequence_iter_prev(c->at);
    return give(c, k, v);
}

static void mem_cursor_close(struct qm_cursor *cursor)
{
    g_free(cursor);
}

static void mem_room(struct qm_backend *backend G_GNUC_UNUSED, uint64_t *used, uint64_t *limit)
{
    *used = 0;
    *limit = 0;
}

const struct qm_backend_ops qm_backend_mem = {
    .name = "memory",
    .has_full = TRUE,
    .open = mem_open,
    .publish = mem_publish,
    .close = mem_close,
    .begin = mem_begin,
    .commit = mem_commit,
    .abort = mem_abort,
    .grow = mem_grow,
    .number = mem_number,
    .get = mem_get,
    .put = mem_put,
    .del = mem_del,
    .cursor_open = mem_cursor_open,
    .cursor_seek = mem_cursor_seek,
    .cursor_next = mem_cursor_next,
    .cursor_prev = mem_cursor_prev,
    .cursor_close = mem_cursor_close,
    .room = mem_room,
};
