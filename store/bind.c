/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that moved to another filesystem keep their ids: objects of the new one are bound to the
 * ids of the old one, all at once.
 *
 * First every binding is judged against one state of the store (judge). Then that state is dumped,
 * which is the backup as well, the bindings are merged into its lines, and the result is loaded in
 * the place of the store: the loader checks every invariant, and what it makes appears whole or not
 * at all. Memory does not grow with the bindings. Where the store has changed between the two, the
 * loader refuses.
 *
 * An id may be bound when no living object has it, and none can get it:
 *   odd   a row of a superseded filesystem has it, which goes; or its serial has not been given
 * yet, and the counter moves beyond it; even  its index n is that of an affix entry of a superseded
 * filesystem; or has not been given yet, and the counter moves beyond it. A superseded filesystem
 * is denied from then on: all its files moved, it gives no ids, and where it comes back, it is
 * recognised and refused.
 */
#include "config.h"

#include "store/bind.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/affix.h"
#include "store/dump.h"
#include "store/dumpline.h"
#include "store/error.h"
#include "store/load.h"
#include "store/store.h"

/* What the judgement found, and the merger needs. */
struct plan {
    const struct qidmap_bind_options *options;
    struct qidmap_bind_result *result;
    GHashTable *superseded; /* numbers, those of aliases as well */
    GHashTable *targets;    /* numbers of filesystems that get bindings */
    GHashTable *coming;     /* DRY_RUN: number -> policy of those without a row yet; or NULL */
    uint64_t next_serial, next_affix;
    uint64_t full_rows;
    GError **error;
};

int qm_object_compare(const struct qidmap_object *a, const struct qidmap_object *b)
{
    uint8_t x[QM_KEY_MAX], y[QM_KEY_MAX];
    size_t m = qm_object_key(a, x), n = qm_object_key(b, y);
    int order = memcmp(x, y, MIN(m, n));

    return order != 0 ? order : m < n ? -1 : m > n;
}

/* ---- judging --------------------------------------------------------------------------------- */

static gboolean is_superseded(const struct plan *plan, uint32_t fs)
{
    return g_hash_table_contains(plan->superseded, GUINT_TO_POINTER(fs));
}

static int note_superseded(struct plan *plan, struct qidmap_store *store)
{
    for (size_t i = 0; i < plan->options->n_superseded; i++) {
        uint32_t number = plan->options->superseded[i], n, k;
        struct qm_fs *fs = qm_map_fs(&store->map, number), *aliases[QM_ALIASES];

        if (!fs)
            return qm_set_error(plan->error, ENOENT,
                                "there is no filesystem %u: see `qidmapctl fs list`", number);
        if (fs->policy == QIDMAP_POLICY_EPHEMERAL)
            return qm_set_error(plan->error, EINVAL, "filesystem %u has no ids that last", number);
        if (qm_map_head(fs) != fs) /* that one goes on giving its ids */
            return qm_set_error(plan->error, EINVAL,
                                "filesystem %u is the alias of %u: name that one", number,
                                qm_map_head(fs)->number);
        g_hash_table_add(plan->superseded, GUINT_TO_POINTER(number));
        n = qm_map_aliases(fs, aliases);
        for (k = 0; k < n; k++)
            g_hash_table_add(plan->superseded, GUINT_TO_POINTER(aliases[k]->number));
    }
    return 0;
}

/* The policy of a filesystem that is to get its row, or 0. */
static uint32_t coming_policy(const struct plan *plan, uint32_t fs)
{
    return plan->coming ? GPOINTER_TO_UINT(g_hash_table_lookup(plan->coming, GUINT_TO_POINTER(fs)))
                        : 0;
}

/* Why the object cannot be bound at all, or NULL. */
static const char *judge_object(const struct plan *plan, struct qidmap_store *store,
                                const struct qidmap_object *object)
{
    uint32_t policy = coming_policy(plan, object->fs);
    struct qm_fs *fs;

    if (!qm_object_is_valid(object))
        return "no such object can be";
    fs = qm_map_fs(&store->map, object->fs);
    if (!fs && policy == 0)
        return "its filesystem is not in the store";
    if (is_superseded(plan, object->fs) ||
        (fs && (atomic_load(&fs->state) & (QM_STATE_RETIRED | QM_STATE_SUPERSEDED))))
        return "its filesystem is retired or superseded";
    policy = fs ? fs->policy : policy;
    if (policy != QIDMAP_POLICY_AFFIX && policy != QIDMAP_POLICY_HANDLE)
        return "its filesystem has no ids that last";
    if (!qm_policy_takes(policy, object->kind))
        return "under the policy of its filesystem it is known by another key";
    return NULL;
}

/* The owner of an id by the full map: 0 and *object, -ENOENT, or another errno. */
static int owner_of(struct qm_txn *txn, uint64_t id, struct qidmap_object *object)
{
    struct qidmap_object any;
    struct qm_bytes key, value;
    struct qm_record r;
    uint64_t seen;
    int e;

    memset(&any, 0, sizeof(any));
    any.fs = 1;
    qm_record_byfull(&r, id, &any); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = txn->backend->ops->get(txn, QM_TABLE_BYFULL, key, &value);
    return e != 0 ? e : qm_parse_byfull(key, value, &seen, object);
}

/* The filesystem of index n, 0 where it has not been given. */
static int fs_of_index(struct qm_txn *txn, uint32_t n, uint32_t *fs)
{
    struct qm_bytes key, value;
    struct qm_record r;
    uint32_t seen;
    uint64_t top;
    int e;

    qm_record_byaffix(&r, n, 0, 0); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = txn->backend->ops->get(txn, QM_TABLE_BYAFFIX, key, &value);
    if (e == 0)
        e = qm_parse_byaffix(key, value, &seen, fs, &top);
    return e;
}

/* Why nobody's id can become this one, or NULL; *known: it is the object's already. */
static const char *judge_id(struct plan *plan, struct qidmap_store *store, struct qm_txn *txn,
                            const struct qidmap_binding *b, gboolean *known, int *error)
{
    uint32_t n = qm_affix_index(b->path), fs = 0;
    struct qidmap_object owner;
    int e;

    *known = FALSE;
    *error = 0;
    if (b->path < QM_PATH_FIRST || b->path > QM_PATH_LAST || n == 0 || n == QM_AFFIX_RESERVED ||
        n == QM_AFFIX_EPHEMERAL || (n != QM_AFFIX_FULL && n > QM_AFFIX_LAST))
        return "no lasting id is like this";
    e = owner_of(txn, b->path, &owner);
    if (e == 0) {
        *known = qm_object_compare(&owner, &b->object) == 0;
        return *known || is_superseded(plan, owner.fs) ? NULL : "another object has this id";
    }
    if (e != -ENOENT) {
        *error = e;
        return NULL;
    }
    if (n == QM_AFFIX_FULL) {
        if (b->path >> 1 < store->meta.next_serial)
            return "this store gave this id before, to an object that is gone or another one";
        plan->next_serial = MAX(plan->next_serial, (b->path >> 1) + 1);
        return NULL;
    }
    e = fs_of_index(txn, n, &fs);
    if (e == -ENOENT) {
        if (n < store->meta.next_affix)
            return "this store passed over ids like this one, and cannot tell why";
        plan->next_affix = MAX(plan->next_affix, (uint64_t)n + 1);
        return NULL;
    }
    if (e != 0) {
        *error = e;
        return NULL;
    }
    return is_superseded(plan, fs) ? NULL : "it is an id of another filesystem that is served";
}

static void tell_conflict(struct plan *plan, const struct qidmap_binding *b, const char *text)
{
    plan->result->conflicts++;
    if (plan->options->conflict)
        plan->options->conflict(plan->options->data, b, text);
}

/* Rows that are asked before those of the filesystem itself know the object: their id is told,
 * whatever is bound. */
static const char *judge_alias(struct qidmap_store *store, struct qm_txn *txn,
                               const struct qidmap_binding *b, int *error)
{
    struct qm_fs *fs = qm_map_fs(&store->map, b->object.fs);
    uint64_t id;
    int e = fs ? qm_store_ask_aliases(store, txn, fs, &b->object, &id) : -ENOENT;

    *error = e == -ENOENT ? 0 : e;
    return e == 0 ? "an alias of its filesystem has an id for it" : NULL;
}

/* Whether the object has a row in the full map: it is replaced then. */
static int has_row(struct qm_txn *txn, const struct qidmap_object *object, gboolean *has)
{
    uint64_t id;
    int e = qm_full_get(txn, object, UINT64_MAX, &id);

    *has = e == 0;
    return e == -ENOENT ? 0 : e;
}

static int judge_one(struct plan *plan, struct qidmap_store *store, struct qm_txn *txn,
                     const struct qidmap_binding *b)
{
    const char *text = judge_object(plan, store, &b->object);
    gboolean known = FALSE, has = FALSE;
    int e = 0;

    if (!text)
        text = judge_id(plan, store, txn, b, &known, &e);
    if (!text && e == 0)
        text = judge_alias(store, txn, b, &e);
    if (e != 0)
        return e;
    if (text) {
        tell_conflict(plan, b, text);
        return 0;
    }
    e = has_row(txn, &b->object, &has);
    if (e != 0)
        return e;
    g_hash_table_add(plan->targets, GUINT_TO_POINTER(b->object.fs));
    plan->result->known += known;
    plan->result->bound += !known;
    plan->full_rows += !has;
    return 0;
}

/* Rows of the full map of superseded filesystems, which go. */
static int count_dropped(struct plan *plan, struct qidmap_store *store, struct qm_txn *txn)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    GHashTableIter iter;
    gpointer key;
    int e = 0;

    g_hash_table_iter_init(&iter, plan->superseded);
    while (e == 0 && g_hash_table_iter_next(&iter, &key, NULL)) {
        uint32_t fs = GPOINTER_TO_UINT(key);
        uint8_t first[4] = {(uint8_t)(fs >> 24), (uint8_t)(fs >> 16), (uint8_t)(fs >> 8),
                            (uint8_t)fs};
        struct qidmap_object object;
        struct qm_cursor *cursor;
        struct qm_bytes k, v;
        uint64_t id;

        e = ops->cursor_open(txn, QM_TABLE_FULL, &cursor);
        if (e != 0)
            return e;
        e = ops->cursor_seek(cursor, (struct qm_bytes){first, sizeof(first)}, &k, &v);
        while (e == 0) {
            e = qm_parse_full(k, v, &object, &id);
            if (e != 0 || object.fs != fs)
                break;
            plan->result->dropped++;
            e = ops->cursor_next(cursor, &k, &v);
        }
        ops->cursor_close(cursor);
        e = e == -ENOENT ? 0 : e;
    }
    return e;
}

static int judge_all(struct plan *plan, struct qidmap_store *store, struct qm_txn *txn)
{
    const struct qidmap_bind_options *o = plan->options;
    struct qidmap_binding b, last;
    uint64_t count = 0;
    int r, e;

    memset(&last, 0, sizeof(last));
    plan->full_rows = store->meta.full_rows;
    e = count_dropped(plan, store, txn);
    plan->full_rows -= MIN(plan->result->dropped, plan->full_rows);
    if (e == 0)
        e = o->rewind(o->data);
    while (e == 0 && (r = o->next(o->data, &b)) != 0) {
        if (r < 0)
            return qm_set_error(plan->error, r, "cannot read the bindings: %s", g_strerror(-r));
        if (qm_object_is_valid(&b.object) && count > 0 &&
            qm_object_compare(&last.object, &b.object) >= 0)
            return qm_set_error(plan->error, EINVAL,
                                "the bindings are not in the order of their objects, or one is "
                                "there twice");
        if (qm_object_is_valid(&b.object)) {
            last = b;
            count++;
        }
        e = judge_one(plan, store, txn, &b);
        if (e == 0 && o->progress && count % QM_PROGRESS_STEP == 0 &&
            o->progress(o->data, count, 0) != 0)
            return qm_set_error(plan->error, ECANCELED, "ended on request; nothing was changed");
    }
    return e == 0 ? 0
                  : qm_set_error(plan->error, e, "the store cannot be read: %s", g_strerror(-e));
}

/* ---- merging --------------------------------------------------------------------------------- */

/* The lines of the backup, with the bindings among them. */
struct merger {
    const struct plan *plan;
    FILE *in;
    char *line;
    size_t room;
    struct qm_json json;
    struct qm_line row;
    struct qidmap_binding next;
    gboolean have_next, ended;
    GString *out, *text;
    gsize at;
    struct qm_meta seen;
    XXH3_state_t *sum;
};

static void emit(struct merger *m)
{
    XXH3_128bits_update(m->sum, m->text->str, m->text->len);
    g_string_append_len(m->out, m->text->str, (gssize)m->text->len);
}

static int advance(struct merger *m)
{
    int r = m->plan->options->next(m->plan->options->data, &m->next);

    m->have_next = r > 0;
    return r < 0 ? r : 0;
}

/* Bindings before `object`, or all where it is NULL. *replaced: the object itself is bound. */
static int emit_bindings(struct merger *m, const struct qidmap_object *object, gboolean *replaced)
{
    int e = 0;

    *replaced = FALSE;
    while (e == 0 && m->have_next) {
        int order = object ? qm_object_compare(&m->next.object, object) : -1;

        if (order > 0)
            break;
        *replaced = order == 0;
        qm_line_full(m->text, &m->next.object, m->next.path);
        emit(m);
        m->seen.full_rows++;
        e = advance(m);
    }
    return e;
}

static void edit_fs(struct merger *m)
{
    struct qidmap_fs *fs = &m->row.fs;

    if (is_superseded(m->plan, fs->fs)) {
        fs->superseded = 1;
        m->row.has_full = FALSE;
    }
    if (g_hash_table_contains(m->plan->targets, GUINT_TO_POINTER(fs->fs))) {
        fs->has_bound = 1;
        m->row.has_full = TRUE;
    }
    qm_line_fs(m->text, fs, m->row.has_full);
    emit(m);
    m->seen.fs_rows++;
}

static int merge_line(struct merger *m)
{
    XXH128_canonical_t canonical;
    gboolean replaced;
    int e = 0;

    switch (m->row.kind) {
    case QM_LINE_STORE:
        m->row.meta.next_serial = MAX(m->row.meta.next_serial, m->plan->next_serial);
        m->row.meta.next_affix = MAX(m->row.meta.next_affix, m->plan->next_affix);
        m->row.meta.full_rows = m->plan->full_rows;
        qm_line_store(m->text, &m->row.meta);
        emit(m);
        return 0;
    case QM_LINE_FS:
        edit_fs(m);
        return 0;
    case QM_LINE_AFFIX:
        qm_line_affix(m->text, m->row.affix_fs, m->row.bits, m->row.top, m->row.n);
        emit(m);
        m->seen.affix_rows++;
        return 0;
    case QM_LINE_FULL:
        e = emit_bindings(m, &m->row.object, &replaced);
        if (e == 0 && !replaced && !is_superseded(m->plan, m->row.object.fs)) {
            qm_line_full(m->text, &m->row.object, m->row.id);
            emit(m);
            m->seen.full_rows++;
        }
        return e;
    case QM_LINE_END:
        e = emit_bindings(m, NULL, &replaced);
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(m->sum));
        qm_line_end(m->text, &m->seen, canonical.digest);
        emit(m);
        m->ended = TRUE;
        return e;
    default:
        return -EBADMSG;
    }
}

static long read_merged(void *data, void *bytes, size_t size)
{
    struct merger *m = data;
    gsize n;

    while (m->at == m->out->len && !m->ended) {
        ssize_t length = getline(&m->line, &m->room, m->in);
        int e;

        g_string_truncate(m->out, 0);
        m->at = 0;
        if (length <= 0)
            return -EIO;
        e = qm_line_parse(&m->json, m->line, (gsize)length - 1, &m->row, NULL);
        if (e == 0)
            e = merge_line(m);
        if (e != 0)
            return e;
    }
    n = MIN(size, m->out->len - m->at);
    memcpy(bytes, m->out->str + m->at, n);
    m->at += n;
    return (long)n;
}

static int load_merged(const char *uri, struct plan *plan, const char *backup, uint64_t epoch)
{
    struct merger m = {.plan = plan};
    struct qidmap_load_options how = {.size = sizeof(how),
                                      .flags = QIDMAP_LOAD_REPLACE | QIDMAP_LOAD_LATEST,
                                      .read = read_merged,
                                      .data = &m};
    struct qidmap_load_result made = {.size = sizeof(made)};
    int e;

    m.in = fopen(backup, "re");
    if (!m.in)
        return qm_set_error(plan->error, errno, "cannot read %s: %s", backup, g_strerror(errno));
    qm_json_init(&m.json);
    m.out = g_string_new(NULL);
    m.text = g_string_new(NULL);
    m.sum = XXH3_createState();
    XXH3_128bits_reset(m.sum);
    e = plan->options->rewind(plan->options->data);
    if (e == 0)
        e = advance(&m);
    if (e != 0)
        qm_set_error(plan->error, e, "cannot read the bindings: %s", g_strerror(-e));
    else
        e = qm_load_over(uri, &how, backup, epoch, &made, plan->error);
    fclose(m.in);
    free(m.line);
    g_string_free(m.out, TRUE);
    g_string_free(m.text, TRUE);
    XXH3_freeState(m.sum);
    qm_json_clear(&m.json);
    return e;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* Judges, and dumps the state that was judged to *backup. */
static int prepare(const char *uri, struct plan *plan, char **backup, uint64_t *epoch)
{
    const struct qidmap_bind_options *o = plan->options;
    struct qidmap_store *store = qm_store_open(uri, QIDMAP_OPEN_READ, NULL, NULL, plan->error);
    const char *place = strchr(uri, ':');
    struct qm_txn *txn;
    int e;

    if (!store)
        return plan->error && *plan->error ? -(*plan->error)->code : -EIO;
    if (!store->backend->ops->has_full || !store->backend->ops->replaced) {
        e = qm_set_error(plan->error, EOPNOTSUPP, "only an lmdb: store can keep bound ids");
        qm_store_close(store);
        return e;
    }
    plan->next_serial = store->meta.next_serial;
    plan->next_affix = store->meta.next_affix;
    *epoch = store->meta.epoch;
    e = note_superseded(plan, store);
    if (e == 0) {
        e = store->backend->ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn);
        if (e != 0)
            qm_set_error(plan->error, e, "the store cannot be read: %s", g_strerror(-e));
    }
    if (e == 0) {
        e = judge_all(plan, store, txn);
        qm_pass_bound(&store->meta, &plan->next_serial, &plan->next_affix);
        if (e == 0 && plan->result->conflicts == 0 && !(o->flags & QIDMAP_DRY_RUN)) {
            *backup = o->backup ? g_strdup(o->backup) : qm_backup_name(place + 1, "before-adopt");
            e = qm_dump_file(txn, FALSE, *backup, FALSE, NULL, plan->error);
        }
        store->backend->ops->abort(txn);
    }
    qm_store_close(store);
    return e;
}

int qm_bind(const char *uri, const struct qidmap_bind_options *options, GHashTable *coming,
            struct qidmap_bind_result *result, GError **error)
{
    g_autoptr(GHashTable) superseded = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) targets = g_hash_table_new(NULL, NULL);
    struct plan plan = {.options = options,
                        .result = result,
                        .superseded = superseded,
                        .targets = targets,
                        .coming = coming,
                        .error = error};
    g_autofree char *backup = NULL;
    uint64_t epoch = 0;
    int e = prepare(uri, &plan, &backup, &epoch);

    if (e == 0 && result->conflicts > 0)
        return qm_set_error(error, EEXIST,
                            "%" G_GUINT64_FORMAT
                            " ids cannot be bound, see above; nothing was changed",
                            result->conflicts);
    if (e != 0 || (options->flags & QIDMAP_DRY_RUN))
        return e;
    g_strlcpy(result->backup, backup, sizeof(result->backup));
    return load_merged(uri, &plan, backup, epoch);
}
