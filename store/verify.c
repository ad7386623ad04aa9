/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a whole store; see verify.h.
 *
 * Order: record, fs, fsid, affix, byaffix, full, byfull, then what needs all of them: counts,
 * counters, flags, aliases. Filesystems and affix entries are kept in memory, as an open store
 * does; the full map is not. Whether its two directions agree is first asked of two sums over all
 * pairs of object and id, hashed with a seed that nobody knows: ten million lookups fewer. Only
 * where the sums differ, or something is to be mended, each row is looked up in the other table.
 *
 * Rows are read through cursors only: get() of a snapshot is not safe beside a map that grows.
 *
 * Mending changes the tables that say again what another one says (fsid, byaffix, byfull), and the
 * flags, counts and counters that follow from rows. The rows that it is derived from must have a
 * right checksum. A row of such a table that nothing confirms is taken away only where all rows of
 * the other table are there and whole; otherwise it may be the last witness of an id.
 */
#include "config.h"

#include "store/verify.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/affix.h"
#include "store/error.h"
#include "store/map.h"
#include "store/store.h"

#define REMOVE_MAX 65536u /* rows taken away in one pass; the next repair takes more */

/* A filesystem, as far as the check needs it. */
struct fs_info {
    uint32_t number, policy, alias, instance, fsids;
    uint32_t first, entries; /* slice of `entries` below */
    unsigned whole : 1;      /* its row can be read */
    unsigned retired : 1, left_budget : 1, has_bound : 1, has_full : 1;
    unsigned seen_full : 1, seen_uncovered : 1;
    unsigned colour : 2, aliased : 1;
};

struct entry {
    uint64_t top;
    uint32_t n;
    uint32_t bits;
};

struct check {
    struct qm_verify *v;
    struct qm_txn *txn;
    const struct qm_backend_ops *ops;
    GError **error;
    GArray *fs;      /* of struct fs_info, ascending */
    GArray *entries; /* of struct entry; each filesystem's slice ascending by range */
    struct qm_cursor *at[QM_TABLES]; /* for lookups */
    uint64_t bad[QM_TABLES];         /* rows that cannot be read */
    uint64_t fsids;                  /* that the filesystems should have */
    uint64_t max_serial, max_n, max_instance;
    uint32_t max_fs;
    uint64_t seed, sum_full, sum_byfull;
    GPtrArray *remove; /* of GBytes: keys of the table that is walked */
};

/* ---- telling -----------------------------------------------------------------------------------
 */

static const char *const problem_names[] = {
    "unknown", "structure", "record", "row",  "count", "counter", "identity", "affix",
    "overlap", "full",      "twice",  "flag", "alias", "orphan",  "budget",
};

const char *qm_problem_name(uint32_t kind)
{
    return problem_names[kind < G_N_ELEMENTS(problem_names) ? kind : 0];
}

/* `table` QM_TABLES: none. `mend`: 0, QIDMAP_PROBLEM_MENDABLE or _MENDED. */
static void tell(struct qm_verify *v, uint32_t kind, int table, uint32_t mend, const char *format,
                 ...) G_GNUC_PRINTF(5, 6);

static void tell(struct qm_verify *v, uint32_t kind, int table, uint32_t mend, const char *format,
                 ...)
{
    struct qidmap_problem p = {.size = sizeof(p), .kind = kind, .flags = mend};
    va_list args;

    v->problems++;
    v->mendable += mend == QIDMAP_PROBLEM_MENDABLE;
    v->mended += mend == QIDMAP_PROBLEM_MENDED;
    if (!v->problem)
        return;
    p.table = table < QM_TABLES ? qm_table_name((enum qm_table)table) : "";
    va_start(args, format);
    g_vsnprintf(p.text, sizeof(p.text), format, args);
    va_end(args);
    v->problem(v->data, &p);
}

void qm_verify_structure(struct qm_verify *v, const char *text)
{
    tell(v, QIDMAP_PROBLEM_STRUCTURE, QM_TABLES, 0, "%s", text);
}

char *qm_bytes_text(struct qm_bytes bytes)
{
    GString *out = g_string_new(NULL);
    const uint8_t *p = bytes.data;
    size_t i;

    for (i = 0; i < bytes.size && i < 48; i++)
        g_string_append_printf(out, "%02x", p[i]);
    if (i < bytes.size)
        g_string_append(out, "...");
    return g_string_free(out, FALSE);
}

char *qm_object_text(const struct qidmap_object *o)
{
    g_autofree char *handle = NULL;

    switch (o->kind) {
    case QIDMAP_OBJECT_HANDLE:
        handle = qm_bytes_text((struct qm_bytes){o->handle, o->handle_size});
        return g_strdup_printf("handle %d:%s of filesystem %u", o->handle_type, handle, o->fs);
    case QIDMAP_OBJECT_PLACEHOLDER:
        return g_strdup_printf("placeholder %" G_GUINT64_FORMAT " in directory %" G_GUINT64_FORMAT
                               " of filesystem %u",
                               o->ino2, o->ino, o->fs);
    default:
        return g_strdup_printf("inode %" G_GUINT64_FORMAT " of filesystem %u", o->ino, o->fs);
    }
}

/* A row that cannot be read; `mend` as for tell(). */
static void bad_row(struct check *c, enum qm_table table, struct qm_bytes k, uint32_t mend)
{
    g_autofree char *key = qm_bytes_text(k);

    c->bad[table]++;
    tell(c->v, QIDMAP_PROBLEM_ROW, (int)table, mend,
         "table %s: the row with key %s (row %" G_GUINT64_FORMAT
         ") has a wrong checksum, or bytes that no row has",
         qm_table_name(table), key, c->v->rows[table]);
}

/* ---- reading and writing rows ------------------------------------------------------------------
 */

static int cannot(struct check *c, int e)
{
    if (e == QM_GROW || e == -ECANCELED)
        return e;
    return qm_set_error(c->error, e,
                        e == -ESTALE ? "the store grew while it was being read: begin again"
                                     : "cannot read the store: %s",
                        g_strerror(-e));
}

/* The row with just that key: 0, -ENOENT or an errno. */
static int look(struct check *c, enum qm_table table, struct qm_bytes key, struct qm_bytes *value)
{
    struct qm_bytes k;
    int e = 0;

    if (!c->at[table])
        e = c->ops->cursor_open(c->txn, table, &c->at[table]);
    if (e == 0)
        e = c->ops->cursor_seek(c->at[table], key, &k, value);
    if (e == 0 && (k.size != key.size || memcmp(k.data, key.data, key.size) != 0))
        e = -ENOENT;
    return e;
}

/* Whether this very row is there: 0, -ENOENT (no such key), -EUCLEAN (another value; it goes to
 * *value), or an errno. */
static int has_row(struct check *c, enum qm_table table, const struct qm_record *r,
                   struct qm_bytes *value)
{
    int e = look(c, table, (struct qm_bytes){r->key, r->key_size}, value);

    if (e == 0 && (value->size != r->value_size || memcmp(value->data, r->value, value->size) != 0))
        e = -EUCLEAN;
    return e;
}

static int put(struct check *c, enum qm_table table, const struct qm_record *r)
{
    return c->ops->put(c->txn, table, (struct qm_bytes){r->key, r->key_size},
                       (struct qm_bytes){r->value, r->value_size});
}

/* Notes that a row of the table that is walked is to go. Returns the flag for tell(). */
static uint32_t take_away(struct check *c, struct qm_bytes key)
{
    if (!c->v->mend)
        return QIDMAP_PROBLEM_MENDABLE;
    if (c->remove->len == REMOVE_MAX)
        return 0;
    g_ptr_array_add(c->remove, g_bytes_new(key.data, key.size));
    return QIDMAP_PROBLEM_MENDED;
}

/* Calls `row` for all rows of a table. */
typedef int (*row_func)(struct check *c, struct qm_bytes k, struct qm_bytes v);

static int for_all(struct check *c, enum qm_table table, row_func row)
{
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    guint i;
    int e = c->ops->cursor_open(c->txn, table, &cursor);

    if (e != 0)
        return cannot(c, e);
    c->v->rows[table] = 0;
    e = c->ops->cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
    while (e == 0) {
        c->v->rows[table]++;
        e = row(c, k, v);
        if (e == 0)
            e = qm_progress_step(&c->v->progress);
        if (e == 0)
            e = c->ops->cursor_next(cursor, &k, &v);
    }
    c->ops->cursor_close(cursor);
    for (i = 0; e == -ENOENT && i < c->remove->len; i++) {
        gsize size;
        const void *key = g_bytes_get_data(g_ptr_array_index(c->remove, i), &size);
        int r = c->ops->del(c->txn, table, (struct qm_bytes){key, size});

        if (r != 0)
            e = r == -ENOENT ? -EIO : r;
        else
            c->v->rows[table]--;
    }
    g_ptr_array_set_size(c->remove, 0);
    if (e == -ECANCELED)
        return qm_set_error(c->error, e, "ended on request");
    return e == -ENOENT ? 0 : cannot(c, e);
}

static gint by_number(gconstpointer key, gconstpointer element)
{
    uint32_t a = GPOINTER_TO_UINT(key), b = ((const struct fs_info *)element)->number;

    return (a > b) - (a < b);
}

static struct fs_info *find_fs(struct check *c, uint32_t number)
{
    guint low = 0, high = c->fs->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;
        struct fs_info *info = &g_array_index(c->fs, struct fs_info, mid);
        int order = by_number(GUINT_TO_POINTER(number), info);

        if (order == 0)
            return info;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* ---- the record --------------------------------------------------------------------------------
 */

static int check_meta_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qm_verify *vf = c->v;
    struct qm_meta m;
    uint32_t format = 0;
    int e;

    if (k.size != strlen(QM_META_KEY) || memcmp(k.data, QM_META_KEY, k.size) != 0) {
        bad_row(c, QM_TABLE_META, k, 0);
        return 0;
    }
    e = qm_parse_meta(k, v, &m, &format);
    if (e == -EPROTO) {
        qm_set_error(c->error, EPROTO,
                     "the store has format version %u; this library knows version %u: use a newer "
                     "qidmap",
                     format, QM_FORMAT_VERSION);
        return e;
    }
    if (e != 0) {
        tell(vf, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
             "the record of the store has a wrong checksum, or bytes that no record has");
        return 0;
    }
    vf->meta = m;
    vf->have_meta = TRUE;
    vf->progress.total =
        m.fs_rows + m.fsid_rows + 2 * m.affix_rows + 2 * m.full_rows; /* an estimate, for people */
    return 0;
}

static void check_meta(struct check *c)
{
    struct qm_meta *m = &c->v->meta;
    uint64_t number = c->ops->number(c->txn);

    if (!c->v->have_meta) {
        if (c->v->rows[QM_TABLE_META] == 0)
            tell(c->v, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
                 "the record of the store is missing");
        return;
    }
    if (c->txn->kind != QM_TXN_WRITE && m->transaction != number)
        tell(c->v, QIDMAP_PROBLEM_RECORD, QM_TABLE_META, 0,
             "the record of the store is of transaction %" G_GUINT64_FORMAT
             ", and the store is at %" G_GUINT64_FORMAT ": an older state came back",
             m->transaction, number);
    if (m->next_fs < 1 || m->next_fs > (uint64_t)QM_FS_LAST + 1 || m->next_affix < QM_AFFIX_FIRST ||
        m->next_affix > (uint64_t)QM_AFFIX_LAST + 1 || m->next_serial < QM_SERIAL_FIRST ||
        m->next_serial > QM_SERIAL_LAST + 1 || m->next_instance < 1 ||
        m->next_instance > (uint64_t)QM_INSTANCE_LAST + 1)
        tell(c->v, QIDMAP_PROBLEM_COUNTER, QM_TABLE_META, 0,
             "a counter of the store is outside of its range");
}

/* ---- filesystems -------------------------------------------------------------------------------
 */

static gboolean fsid_equal(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static int check_fsids(struct check *c, const struct qidmap_fs *fs)
{
    struct qm_bytes value;
    struct qm_record r;
    uint32_t i, j, mend;
    int e;

    for (i = 0; i < fs->fsid_count; i++) {
        for (j = 0; j < i && !fsid_equal(&fs->fsid[i], &fs->fsid[j]); j++)
            ;
        if (j < i || fs->fsid[i].kind == 0) {
            tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FS, 0,
                 "filesystem %u has an identity twice, or one of no kind", fs->fs);
            continue;
        }
        qm_record_fsid(&r, &fs->fsid[i], fs->fs);
        e = has_row(c, QM_TABLE_FSID, &r, &value);
        if (e == 0)
            continue;
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        mend = QIDMAP_PROBLEM_MENDABLE;
        if (c->v->mend) {
            int r2 = put(c, QM_TABLE_FSID, &r);

            if (r2 != 0)
                return r2;
            mend = QIDMAP_PROBLEM_MENDED;
        }
        tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FSID, mend,
             "table fsid: the row of identity %u (%s) of filesystem %u is %s", i + 1,
             qidmap_fsid_kind_name(fs->fsid[i].kind), fs->fs,
             e == -ENOENT ? "missing" : "not what the filesystem says");
    }
    return 0;
}

static int fs_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct fs_info info;
    struct qidmap_fs fs;
    gboolean has_full;
    int e = qm_parse_fs(k, v, &fs, &has_full);

    memset(&info, 0, sizeof(info));
    if (e != 0) {
        bad_row(c, QM_TABLE_FS, k, 0);
        if (k.size == 4) { /* so that its rows are not taken for orphans */
            const uint8_t *p = k.data;

            info.number = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
            g_array_append_val(c->fs, info);
        }
        return 0;
    }
    info.number = fs.fs;
    info.policy = fs.policy;
    info.alias = fs.alias;
    info.instance = fs.instance;
    info.fsids = fs.fsid_count;
    info.whole = 1;
    info.retired = fs.retired != 0;
    info.left_budget = fs.left_budget != 0;
    info.has_bound = fs.has_bound != 0;
    info.has_full = has_full != 0;
    g_array_append_val(c->fs, info);
    if (!fs.retired)
        c->fsids += fs.fsid_count;
    c->max_fs = MAX(c->max_fs, fs.fs);
    c->max_instance = MAX(c->max_instance, fs.instance);
    if ((fs.policy == QIDMAP_POLICY_EPHEMERAL) != (fs.instance != 0))
        tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0,
             "filesystem %u has policy %s and instance %u: ephemeral filesystems, and only they, "
             "have an instance",
             fs.fs, qidmap_policy_name(fs.policy), fs.instance);
    if (fs.flags &
        ~(uint32_t)(QIDMAP_IDENTITY_WEAK | QIDMAP_IDENTITY_READONLY | QIDMAP_IDENTITY_DUPLICATE))
        tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0, "filesystem %u has flags that are unknown",
             fs.fs);
    return fs.retired ? 0 : check_fsids(c, &fs); /* a retired one is found by its number only */
}

static gint by_instance(gconstpointer a, gconstpointer b)
{
    const struct fs_info *x = *(const struct fs_info *const *)a;
    const struct fs_info *y = *(const struct fs_info *const *)b;

    return (x->instance > y->instance) - (x->instance < y->instance);
}

static void check_instances(struct check *c)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct fs_info *info = &g_array_index(c->fs, struct fs_info, i);

        if (info->instance)
            g_ptr_array_add(list, info);
    }
    g_ptr_array_sort(list, by_instance);
    for (i = 1; i < list->len; i++) {
        const struct fs_info *a = g_ptr_array_index(list, i - 1), *b = g_ptr_array_index(list, i);

        if (a->instance == b->instance)
            tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FS, 0,
                 "filesystems %u and %u have the same instance %u: their files share ids",
                 a->number, b->number, a->instance);
    }
}

/* Colours: 0 not seen, 1 on the way, 2 known to end. */
static void check_aliases(struct check *c)
{
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct fs_info *info = &g_array_index(c->fs, struct fs_info, i);
        struct fs_info *at = info;

        while (at && at->colour == 0) {
            struct fs_info *next = at->alias ? find_fs(c, at->alias) : NULL;

            at->colour = 1;
            if (at->alias && !next)
                tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                     "filesystem %u is an alias for filesystem %u, which is not there", at->number,
                     at->alias);
            if (next && at->whole && next->whole && (next->policy != at->policy || !next->retired))
                tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                     "filesystem %u is an alias for filesystem %u, which %s", at->number, at->alias,
                     next->retired ? "has another policy" : "has its own identity still");
            if (next && next->aliased)
                tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0,
                     "filesystem %u has more than one alias: their files share ids", next->number);
            if (next)
                next->aliased = 1;
            at = next;
        }
        if (at && at->colour == 1)
            tell(c->v, QIDMAP_PROBLEM_ALIAS, QM_TABLE_FS, 0, "filesystem %u is an alias in a ring",
                 at->number);
        for (at = info; at && at->colour == 1; at = at->alias ? find_fs(c, at->alias) : NULL)
            at->colour = 2;
    }
}

/* All rows of the table that another one is derived from are there and can be read. */
static gboolean is_whole(struct check *c, enum qm_table table, uint64_t noted)
{
    return c->v->have_meta && c->bad[table] == 0 && c->v->rows[table] == noted;
}

static int fsid_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = is_whole(c, QM_TABLE_FS, c->v->meta.fs_rows), has_full, found = FALSE;
    struct qidmap_fsid fsid;
    struct qm_record r;
    struct qidmap_fs fs;
    struct qm_bytes key, value;
    uint32_t number, i;
    int e = qm_parse_fsid(k, v, &fsid, &number);

    if (e != 0) {
        bad_row(c, QM_TABLE_FSID, k, whole ? take_away(c, k) : 0);
        return 0;
    }
    memset(&fs, 0, sizeof(fs));
    fs.fs = number;
    qm_record_fs(&r, &fs, FALSE); /* for its key alone */
    key = (struct qm_bytes){r.key, r.key_size};
    e = look(c, QM_TABLE_FS, key, &value);
    if (e == 0) {
        e = qm_parse_fs(key, value, &fs, &has_full);
        if (e != 0)
            return 0; /* told already; it proves nothing */
        for (i = 0; i < fs.fsid_count && !found && !fs.retired; i++)
            found = fsid_equal(&fs.fsid[i], &fsid);
    } else if (e != -ENOENT) {
        return e;
    }
    if (!found)
        tell(c->v, QIDMAP_PROBLEM_IDENTITY, QM_TABLE_FSID, whole ? take_away(c, k) : 0,
             "table fsid: an identity (%s) leads to filesystem %u, which %s",
             qidmap_fsid_kind_name(fsid.kind), number,
             e == -ENOENT ? "is not there"
             : fs.retired ? "is retired"
                          : "does not have it");
    return 0;
}

/* ---- affix entries -----------------------------------------------------------------------------
 */

/* First inode that an entry covers. */
static uint64_t start_of(const struct entry *entry)
{
    return entry->top << (64 - entry->bits);
}

static int mend_byaffix(struct check *c, uint32_t fs, const struct entry *entry)
{
    struct qm_bytes value;
    struct qm_record r, forward;
    uint32_t n, other, mend = QIDMAP_PROBLEM_MENDABLE;
    uint64_t top;
    int e;

    qm_record_byaffix(&r, entry->n, fs, entry->top);
    e = has_row(c, QM_TABLE_BYAFFIX, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    if (e == -EUCLEAN &&
        qm_parse_byaffix((struct qm_bytes){r.key, r.key_size}, value, &n, &other, &top) == 0) {
        /* Another entry's: does that one claim the same index? */
        qm_record_affix(&forward, other, qm_affix_bits(n), top, n);
        e = has_row(c, QM_TABLE_AFFIX, &forward, &value);
        if (e == 0) {
            tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_AFFIX, 0,
                 "index %u belongs to two affix entries, of filesystem %u and of filesystem %u: "
                 "their files share ids",
                 entry->n, fs, other);
            return 0;
        }
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        e = -EUCLEAN;
    }
    if (c->v->mend) {
        int r2 = put(c, QM_TABLE_BYAFFIX, &r);

        if (r2 != 0)
            return r2;
        mend = QIDMAP_PROBLEM_MENDED;
    }
    tell(c->v, QIDMAP_PROBLEM_AFFIX, QM_TABLE_BYAFFIX, mend,
         "table byaffix: the row of index %u (filesystem %u) is %s", entry->n, fs,
         e == -ENOENT ? "missing" : "not what its affix entry says");
    return 0;
}

static int affix_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct fs_info *info;
    struct qm_bytes value;
    struct qm_record r;
    struct entry entry;
    uint32_t fs;
    unsigned bits;
    int e = qm_parse_affix(k, v, &fs, &bits, &entry.top, &entry.n);

    if (e != 0) {
        bad_row(c, QM_TABLE_AFFIX, k, 0);
        return 0;
    }
    entry.bits = bits;
    c->max_n = MAX(c->max_n, entry.n);
    info = find_fs(c, fs);
    if (!info) {
        tell(c->v, QIDMAP_PROBLEM_ORPHAN, QM_TABLE_AFFIX, 0,
             "the affix entry with index %u belongs to filesystem %u, which is not there", entry.n,
             fs);
    } else {
        if (info->whole && info->policy != QIDMAP_POLICY_AFFIX)
            tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_AFFIX, 0,
                 "filesystem %u has an affix entry (index %u), and its policy is %s", fs, entry.n,
                 qidmap_policy_name(info->policy));
        if (info->entries++ == 0)
            info->first = c->entries->len;
        g_array_append_val(c->entries, entry);
    }
    qm_record_byaffix(&r, entry.n, fs, entry.top);
    e = has_row(c, QM_TABLE_BYAFFIX, &r, &value);
    return e == -ENOENT || e == -EUCLEAN ? mend_byaffix(c, fs, &entry) : e;
}

static int by_range(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    uint64_t p = start_of(x), q = start_of(y);

    if (p != q)
        return p < q ? -1 : 1;
    return (x->bits > y->bits) - (x->bits < y->bits); /* the larger range first */
}

static void check_ranges(struct check *c)
{
    guint i;
    uint32_t j;

    for (i = 0; i < c->fs->len; i++) {
        const struct fs_info *info = &g_array_index(c->fs, struct fs_info, i);
        struct entry *slice = (struct entry *)(void *)c->entries->data + info->first;
        const struct entry *wide = slice;

        if (info->entries == 0)
            continue;
        qsort(slice, info->entries, sizeof(*slice), by_range);
        for (j = 1; j < info->entries; j++) {
            /* Two ranges are apart, or one lies in the other. */
            if (start_of(&slice[j]) >> (64 - wide->bits) == wide->top)
                tell(c->v, QIDMAP_PROBLEM_OVERLAP, QM_TABLE_AFFIX, 0,
                     "filesystem %u: the affix entries with index %u and %u cover the same inodes, "
                     "which so have two ids",
                     info->number, wide->n, slice[j].n);
            else
                wide = &slice[j];
        }
        if (c->v->have_meta && c->ops->has_full && info->entries > c->v->meta.affix_budget)
            tell(c->v, QIDMAP_PROBLEM_BUDGET, QM_TABLE_AFFIX, 0,
                 "filesystem %u has %u affix entries, and the budget of the store is %u",
                 info->number, info->entries, c->v->meta.affix_budget);
    }
}

static const struct entry *covering(struct check *c, const struct fs_info *info, uint64_t ino)
{
    const struct entry *slice = (const struct entry *)(const void *)c->entries->data + info->first;
    uint32_t low = 0, high = info->entries;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (start_of(&slice[mid]) <= ino)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0 || ino >> (64 - slice[low - 1].bits) != slice[low - 1].top)
        return NULL;
    return &slice[low - 1];
}

static int byaffix_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = is_whole(c, QM_TABLE_AFFIX, c->v->meta.affix_rows);
    struct qm_bytes value;
    struct qm_record r;
    uint32_t n, fs;
    uint64_t top;
    int e = qm_parse_byaffix(k, v, &n, &fs, &top);

    if (e != 0) {
        bad_row(c, QM_TABLE_BYAFFIX, k, whole ? take_away(c, k) : 0);
        return 0;
    }
    c->max_n = MAX(c->max_n, n);
    qm_record_affix(&r, fs, qm_affix_bits(n), top, n);
    e = has_row(c, QM_TABLE_AFFIX, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    tell(c->v, QIDMAP_PROBLEM_AFFIX, QM_TABLE_BYAFFIX, whole ? take_away(c, k) : 0,
         "table byaffix: index %u leads to an affix entry of filesystem %u that is %s", n, fs,
         e == -ENOENT ? "not there" : "another one");
    return 0;
}

/* ---- the full map ------------------------------------------------------------------------------
 */

static uint64_t pair_hash(struct check *c, struct qm_bytes object, uint64_t id)
{
    return XXH3_64bits_withSeed(object.data, object.size,
                                c->seed ^ id * UINT64_C(0x9e3779b97f4a7c15));
}

/* An even id: it was bound by migration, and must be nobody else's. */
static int check_bound(struct check *c, const struct fs_info *info,
                       const struct qidmap_object *object, uint64_t id, const char *text)
{
    uint32_t n = qm_affix_index(id), instance, seen, number;
    const struct fs_info *other = NULL;
    struct qm_bytes key, value;
    struct qm_record r;
    uint64_t ino = 0, top;
    guint i;
    int e;

    if (!info->has_bound)
        tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, 0,
             "filesystem %u has a bound row (%s has id %" G_GUINT64_FORMAT "), and does not say so",
             info->number, text, id);
    if (n == 0 || n == QM_AFFIX_RESERVED || n > QM_AFFIX_LAST) {
        tell(c->v, QIDMAP_PROBLEM_ROW, QM_TABLE_FULL, 0,
             "%s has id %" G_GUINT64_FORMAT ", which is given to nobody", text, id);
        return 0;
    }
    if (n == QM_AFFIX_EPHEMERAL) {
        if (!qm_ephemeral_inode(id, &instance, &ino))
            return 0;
        c->max_instance = MAX(c->max_instance, instance);
        for (i = 0; i < c->fs->len && !other; i++) {
            const struct fs_info *f = &g_array_index(c->fs, struct fs_info, i);

            if (f->instance == instance && !f->retired)
                other = f;
        }
    } else {
        c->max_n = MAX(c->max_n, n);
        qm_record_byaffix(&r, n, 0, 0);
        key = (struct qm_bytes){r.key, r.key_size};
        e = look(c, QM_TABLE_BYAFFIX, key, &value);
        if (e != 0)
            return e == -ENOENT ? 0 : e;
        if (qm_parse_byaffix(key, value, &seen, &number, &top) == 0 &&
            qm_entry_inode(n, top, id, &ino)) {
            other = find_fs(c, number);
            if (other && other->retired)
                other = NULL;
        }
    }
    if (other &&
        (other->number != object->fs || object->kind != QIDMAP_OBJECT_INODE || object->ino != ino))
        tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
             "id %" G_GUINT64_FORMAT " is given twice: to %s, and to inode %" G_GUINT64_FORMAT
             " of filesystem %u",
             id, text, ino, other->number);
    return 0;
}

/* An inode in the full map: has it another id by its affix entry or instance? */
static void check_inode(struct check *c, struct fs_info *info, const struct qidmap_object *object,
                        uint64_t id)
{
    const struct entry *entry;
    uint64_t path = 0;
    gboolean second = FALSE;

    if (info->policy == QIDMAP_POLICY_EPHEMERAL) {
        second = qm_ephemeral_path(info->instance, object->ino, &path);
    } else if (info->policy == QIDMAP_POLICY_AFFIX && object->ino != 0) {
        entry = covering(c, info, object->ino);
        if (entry)
            second = qm_entry_path(entry->n, entry->bits, object->ino, &path);
        else if (!info->has_bound)
            info->seen_uncovered = 1;
    }
    if (second && path != id && !info->has_bound)
        tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
             "inode %" G_GUINT64_FORMAT " of filesystem %u has two ids: %" G_GUINT64_FORMAT
             " by its %s, and %" G_GUINT64_FORMAT " in the full map",
             object->ino, object->fs, path,
             info->policy == QIDMAP_POLICY_AFFIX ? "affix entry" : "instance", id);
}

static int full_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object;
    struct fs_info *info;
    uint64_t id;
    int e = qm_parse_full(k, v, &object, &id);

    if (e != 0) {
        bad_row(c, QM_TABLE_FULL, k, 0);
        return 0;
    }
    c->sum_full += pair_hash(c, k, id);
    if (id & 1)
        c->max_serial = MAX(c->max_serial, id >> 1);
    if (id < QM_PATH_FIRST || id > QM_PATH_LAST) {
        g_autofree char *text = qm_object_text(&object);

        tell(c->v, QIDMAP_PROBLEM_ROW, QM_TABLE_FULL, 0,
             "%s has id %" G_GUINT64_FORMAT ", which is given to nobody", text, id);
        return 0;
    }
    info = find_fs(c, object.fs);
    if (!info) {
        g_autofree char *text = qm_object_text(&object);

        tell(c->v, QIDMAP_PROBLEM_ORPHAN, QM_TABLE_FULL, 0,
             "%s has id %" G_GUINT64_FORMAT ", and the filesystem is not there", text, id);
        return 0;
    }
    if (!info->whole)
        return 0;
    info->seen_full = 1;
    if (!qm_policy_takes(info->policy, object.kind)) {
        g_autofree char *text = qm_object_text(&object);

        tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FULL, 0,
             "%s has id %" G_GUINT64_FORMAT
             ", and under the policy %s of its filesystem it is known by another key",
             text, id, qidmap_policy_name(info->policy));
    }
    if (object.kind == QIDMAP_OBJECT_INODE)
        check_inode(c, info, &object, id);
    if (!(id & 1)) {
        g_autofree char *text = qm_object_text(&object);

        return check_bound(c, info, &object, id, text);
    }
    return 0;
}

static int byfull_row(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object;
    uint64_t id;

    if (qm_parse_byfull(k, v, &id, &object) != 0) {
        /* Told below, once the other table is known. */
        c->bad[QM_TABLE_BYFULL]++;
        return 0;
    }
    c->sum_byfull += pair_hash(c, (struct qm_bytes){v.data, v.size - 4}, id);
    return 0;
}

/* Each row of the full map has its reverse row. */
static int full_lookup(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_object object, other;
    struct qm_record r, forward;
    struct qm_bytes value;
    uint32_t mend = QIDMAP_PROBLEM_MENDABLE;
    uint64_t id, back;
    g_autofree char *text = NULL, *second = NULL;
    int e;

    if (qm_parse_full(k, v, &object, &id) != 0)
        return 0;
    qm_record_byfull(&r, id, &object);
    e = has_row(c, QM_TABLE_BYFULL, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    text = qm_object_text(&object);
    if (e == -EUCLEAN &&
        qm_parse_byfull((struct qm_bytes){r.key, r.key_size}, value, &back, &other) == 0) {
        qm_record_full(&forward, &other, id);
        second = qm_object_text(&other);
        e = has_row(c, QM_TABLE_FULL, &forward, &value);
        if (e == 0) {
            tell(c->v, QIDMAP_PROBLEM_TWICE, QM_TABLE_FULL, 0,
                 "id %" G_GUINT64_FORMAT " is given twice: to %s, and to %s", id, text, second);
            return 0;
        }
        if (e != -ENOENT && e != -EUCLEAN)
            return e;
        e = -EUCLEAN;
    }
    if (c->v->mend) {
        int r2 = put(c, QM_TABLE_BYFULL, &r);

        if (r2 != 0)
            return r2;
        mend = QIDMAP_PROBLEM_MENDED;
    }
    tell(c->v, QIDMAP_PROBLEM_FULL, QM_TABLE_BYFULL, mend,
         "table byfull: the row of id %" G_GUINT64_FORMAT " (%s) is %s", id, text,
         e == -ENOENT ? "missing" : "not what the full map says");
    return 0;
}

/* Each reverse row leads to a row of the full map. */
static int byfull_lookup(struct check *c, struct qm_bytes k, struct qm_bytes v)
{
    gboolean whole = is_whole(c, QM_TABLE_FULL, c->v->meta.full_rows);
    struct qidmap_object object;
    struct qm_record r;
    struct qm_bytes value;
    uint64_t id;
    g_autofree char *text = NULL;
    int e = qm_parse_byfull(k, v, &id, &object);

    if (e != 0) {
        bad_row(c, QM_TABLE_BYFULL, k, whole ? take_away(c, k) : 0);
        return 0;
    }
    if (id & 1)
        c->max_serial = MAX(c->max_serial, id >> 1);
    qm_record_full(&r, &object, id);
    e = has_row(c, QM_TABLE_FULL, &r, &value);
    if (e != -ENOENT && e != -EUCLEAN)
        return e;
    text = qm_object_text(&object);
    tell(c->v, QIDMAP_PROBLEM_FULL, QM_TABLE_BYFULL, whole ? take_away(c, k) : 0,
         "table byfull: id %" G_GUINT64_FORMAT " leads to %s, which %s", id, text,
         e == -ENOENT ? "is not in the full map" : "has another id there");
    return 0;
}

static int check_full(struct check *c)
{
    int e = for_all(c, QM_TABLE_FULL, full_row);

    if (e == 0)
        e = for_all(c, QM_TABLE_BYFULL, byfull_row);
    if (e != 0 ||
        (!c->v->mend && c->sum_full == c->sum_byfull && c->bad[QM_TABLE_FULL] == 0 &&
         c->bad[QM_TABLE_BYFULL] == 0 && c->v->rows[QM_TABLE_FULL] == c->v->rows[QM_TABLE_BYFULL]))
        return e;
    c->bad[QM_TABLE_BYFULL] = 0;
    e = for_all(c, QM_TABLE_FULL, full_lookup);
    return e == 0 ? for_all(c, QM_TABLE_BYFULL, byfull_lookup) : e;
}

/* ---- what needs all of them --------------------------------------------------------------------
 */

/* Flags of a filesystem that its rows prove. */
static int check_flags(struct check *c)
{
    guint i;

    for (i = 0; i < c->fs->len; i++) {
        struct fs_info *info = &g_array_index(c->fs, struct fs_info, i);
        gboolean full = info->whole && info->seen_full && !info->has_full;
        gboolean left = info->whole && info->seen_uncovered && !info->left_budget &&
                        c->v->have_meta && c->v->meta.next_affix <= QM_AFFIX_LAST;
        uint32_t mend = QIDMAP_PROBLEM_MENDABLE;

        if (!full && !left)
            continue;
        if (c->v->mend) {
            struct qidmap_fs fs = {.fs = info->number};
            struct qm_bytes key, value;
            struct qm_record r;
            gboolean has_full;
            int e;

            qm_record_fs(&r, &fs, FALSE); /* for its key alone */
            key = (struct qm_bytes){r.key, r.key_size};
            e = look(c, QM_TABLE_FS, key, &value);
            if (e == 0)
                e = qm_parse_fs(key, value, &fs, &has_full);
            if (e != 0)
                return cannot(c, e);
            if (left)
                fs.left_budget = 1;
            qm_record_fs(&r, &fs, has_full || full);
            e = put(c, QM_TABLE_FS, &r);
            if (e != 0)
                return cannot(c, e);
            mend = QIDMAP_PROBLEM_MENDED;
        }
        if (full)
            tell(c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, mend,
                 "filesystem %u has rows in the full map, and does not say so: they would not be "
                 "found",
                 info->number);
        if (left)
            tell(
                c->v, QIDMAP_PROBLEM_FLAG, QM_TABLE_FS, mend,
                "filesystem %u has inodes in the full map that no affix entry covers, and does not "
                "say that it left its budget: a later entry could give them second ids",
                info->number);
    }
    return 0;
}

/* A count: mended where both directions hold the same rows. */
static void check_count(struct check *c, enum qm_table table, uint64_t *noted, gboolean sure)
{
    uint64_t rows = c->v->rows[table];
    uint32_t mend = !sure ? 0 : c->v->mend ? QIDMAP_PROBLEM_MENDED : QIDMAP_PROBLEM_MENDABLE;

    if (rows == *noted)
        return;
    tell(c->v, QIDMAP_PROBLEM_COUNT, (int)table, mend,
         "table %s has %" G_GUINT64_FORMAT
         " rows, and the record of the store says %" G_GUINT64_FORMAT,
         qm_table_name(table), rows, *noted);
    if (mend == QIDMAP_PROBLEM_MENDED)
        *noted = rows;
}

static void check_counter(struct check *c, const char *name, uint64_t *next, uint64_t used)
{
    uint32_t mend = c->v->mend ? QIDMAP_PROBLEM_MENDED : QIDMAP_PROBLEM_MENDABLE;

    if (used == 0 || *next > used)
        return;
    tell(c->v, QIDMAP_PROBLEM_COUNTER, QM_TABLE_META, mend,
         "the counter %s is at %" G_GUINT64_FORMAT ", and %" G_GUINT64_FORMAT
         " was given: it would be given again",
         name, *next, used);
    if (c->v->mend)
        *next = used + 1;
}

static void check_numbers(struct check *c)
{
    struct qm_meta *m = &c->v->meta;
    uint64_t *rows = c->v->rows, *bad = c->bad;

    if (!c->v->have_meta)
        return;
    check_count(c, QM_TABLE_FS, &m->fs_rows,
                !bad[QM_TABLE_FS] && !bad[QM_TABLE_FSID] && c->fsids == rows[QM_TABLE_FSID]);
    check_count(c, QM_TABLE_FSID, &m->fsid_rows,
                !bad[QM_TABLE_FS] && c->fsids == rows[QM_TABLE_FSID]);
    check_count(c, QM_TABLE_AFFIX, &m->affix_rows,
                !bad[QM_TABLE_AFFIX] && !bad[QM_TABLE_BYAFFIX] &&
                    rows[QM_TABLE_AFFIX] == rows[QM_TABLE_BYAFFIX]);
    check_count(c, QM_TABLE_FULL, &m->full_rows,
                !bad[QM_TABLE_FULL] && !bad[QM_TABLE_BYFULL] &&
                    rows[QM_TABLE_FULL] == rows[QM_TABLE_BYFULL]);
    check_counter(c, "next_fs", &m->next_fs, c->max_fs);
    check_counter(c, "next_affix", &m->next_affix, c->max_n);
    check_counter(c, "next_serial", &m->next_serial, c->max_serial);
    check_counter(c, "next_instance", &m->next_instance, c->max_instance);
}

static int run(struct check *c)
{
    int e = for_all(c, QM_TABLE_META, check_meta_row);

    if (e != 0)
        return e;
    check_meta(c);
    /* The table of identities is mended from the filesystems, and looked at after that. */
    e = for_all(c, QM_TABLE_FS, fs_row);
    if (e == 0)
        e = for_all(c, QM_TABLE_FSID, fsid_row);
    if (e == 0)
        e = for_all(c, QM_TABLE_AFFIX, affix_row);
    if (e != 0)
        return e;
    check_ranges(c);
    e = for_all(c, QM_TABLE_BYAFFIX, byaffix_row);
    if (e == 0)
        e = check_full(c);
    if (e != 0)
        return e;
    check_instances(c);
    check_aliases(c);
    e = check_flags(c);
    if (e == 0)
        check_numbers(c);
    return e;
}

int qm_verify_txn(struct qm_verify *v, struct qm_txn *txn, GError **error)
{
    struct check c = {.v = v, .txn = txn, .ops = txn->backend->ops, .error = error};
    int e, i;

    v->have_meta = FALSE;
    v->problems = v->mendable = v->mended = 0;
    v->progress.done = 0;
    memset(v->rows, 0, sizeof(v->rows));
    c.seed = (uint64_t)g_random_int() << 32 | g_random_int();
    c.fs = g_array_new(FALSE, FALSE, sizeof(struct fs_info));
    c.entries = g_array_new(FALSE, FALSE, sizeof(struct entry));
    c.remove = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    e = run(&c);
    for (i = 0; i < QM_TABLES; i++) {
        if (c.at[i])
            c.ops->cursor_close(c.at[i]);
    }
    g_ptr_array_free(c.remove, TRUE);
    g_array_free(c.entries, TRUE);
    g_array_free(c.fs, TRUE);
    return e;
}
