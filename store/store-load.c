/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loads the tables of a store into RAM when it is opened, and checks what it reads: nothing in
 * there is believed that another row denies. Makes no new rows; must not know bytes of rows
 * (codec.c).
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>
#include <string.h>

#include "store/error.h"

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

int qm_store_load(struct qidmap_store *store, GError **error)
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
        store->served_before = store->meta.served;
        store->opened_at = g_get_monotonic_time();
    }
    return e;
}
