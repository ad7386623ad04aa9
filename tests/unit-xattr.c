/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: an xattr: store opens with exactly the committed mappings after an interruption at any
 * call, whatever subset of what was not synced reached the disk, torn values included; damage is
 * reported and never answered with an older state; 100 affix entries over 16 filesystems fit where
 * ext4 fits; and what does not fit fails and changes nothing.
 */
#include "config.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/store.h"
#include "store/virtfs.h"
#include "tests/lib/fake-xattr.h"
#include "tests/lib/store-fixture.h"

static char *dir; /* where there is one to open and lock; its real xattrs stay as they are */
static char *uri;
static const struct qm_xattr_sys *real_sys;
static gboolean with_epoch; /* a dump tells the number of commits, too */

static void begin(void)
{
    fake_reset();
    qm_xattr_sys = &fake_sys;
    with_epoch = FALSE;
}

/* ---- what a store says ----------------------------------------------------------------------- */

/* Rows and counters as text; times left out. */
static char *dump(qidmap_store *store)
{
    GString *out = g_string_new(NULL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_row row;
    qidmap_iter *iter;

    g_assert_cmpint(qidmap_store_stats(store, &stats, NULL), ==, 0);
    g_string_printf(out, "%lu %lu %lu %lu;", with_epoch ? (unsigned long)stats.epoch : 0ul,
                    (unsigned long)stats.next_fs, (unsigned long)stats.next_affix,
                    (unsigned long)stats.next_instance);
    g_assert_cmpint(qidmap_iter_open(store, &iter, NULL), ==, 0);
    while (qidmap_iter_next(iter, &row, NULL) == 1) {
        struct qidmap_fs fs = {.size = sizeof(fs)};

        g_assert_cmpint(qidmap_fs_get(store, row.fs, &fs, NULL), ==, 0);
        g_string_append_printf(out, " %u:%u:%u:%u:%lx:%s:%u", row.kind, row.fs, row.index, row.bits,
                               (unsigned long)row.top, fs.hints.type, fs.fsid[0].bytes[0]);
    }
    qidmap_iter_close(iter);
    return g_string_free(out, FALSE);
}

/* The same after opening for reading; NULL and the code where that fails. */
static char *read_dump(int *code)
{
    qidmap_store *store;
    char *text;

    *code = qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, NULL);
    if (*code != 0)
        return NULL;
    text = dump(store);
    qidmap_store_close(store);
    return text;
}

static void map_ok(qidmap_store *store, uint32_t fs, uint64_t ino)
{
    uint64_t path;

    g_assert_cmpint(qidmap_map(store, fs, ino, &path), ==, 0);
}

/* ---- crashes --------------------------------------------------------------------------------- */

/* What was true when a step had returned. */
struct step {
    guint ops;
    char *dump; /* NULL: no store yet */
};

static void step_clear(gpointer data)
{
    g_free(((struct step *)data)->dump);
}

static GArray *steps;

static void step(qidmap_store *store)
{
    struct step s = {fake.ops->len, store ? dump(store) : NULL};

    g_array_append_val(steps, s);
}

/* Enough to write both slots several times, to grow, to shrink, and to close and open again. */
static void scenario(void)
{
    struct qidmap_identity past = fixture_identity(9, QIDMAP_POLICY_EPHEMERAL);
    qidmap_store *store;
    uint32_t fs, other;
    unsigned round, i;

    g_clear_pointer(&steps, g_array_unref);
    steps = g_array_new(FALSE, FALSE, sizeof(struct step));
    g_array_set_clear_func(steps, step_clear);
    fake.value_max = 90; /* several chunks */
    step(NULL);
    for (round = 0; round < 2; round++) {
        store = fixture_open(uri, FIXTURE_WRITE, 0);
        step(store);
        fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
        step(store);
        other = fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
        step(store);
        fixture_register(store, 9, QIDMAP_POLICY_EPHEMERAL);
        step(store);
        for (i = 0; i < 6; i++) {
            map_ok(store, i & 1 ? other : fs, (uint64_t)(4 * round + i) << 60 | 7);
            step(store);
        }
        memset(past.fsid[0].bytes, 'c' + (int)round, 16); /* the row of the last boot goes */
        g_assert_cmpint(qidmap_register(store, &past, 1, &fs, NULL), ==, 0);
        step(store);
        char *last = dump(store);
        qidmap_store_close(store);
        struct step s = {fake.ops->len, last};
        g_array_append_val(steps, s);
    }
}

static void apply(GHashTable *table, const struct fake_op *op)
{
    if (op->kind == FAKE_SET)
        g_hash_table_replace(table, g_strdup(op->name), g_bytes_ref(op->value));
    else if (op->kind == FAKE_REMOVE)
        g_hash_table_remove(table, op->name);
}

/* A value that is the new one up to some place, and what was there before behind it. */
static GBytes *torn(GBytes *old, GBytes *new, GRand *rand)
{
    gsize old_size = 0, size;
    const guint8 *before = old ? g_bytes_get_data(old, &old_size) : NULL;
    const guint8 *after = g_bytes_get_data(new, &size);
    guint8 *mixed = g_malloc0(size + 1);
    gsize cut = (gsize)g_rand_int_range(rand, 0, (gint32)size + 1), i;

    for (i = 0; i < size; i++)
        mixed[i] = i < cut ? after[i] : i < old_size ? before[i] : 0;
    return g_bytes_new_take(mixed, g_rand_boolean(rand) ? size : cut);
}

/* One state that a crash can leave: of each name, one of the changes since the last sync, and
 * perhaps one value torn. */
static GHashTable *crash_state(GHashTable *durable, const struct fake_op **pending, guint count,
                               GRand *rand, gboolean tear)
{
    GHashTable *state = fake_copy(durable);
    g_autoptr(GHashTable) chosen = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, NULL);
    guint victim = tear && count ? (guint)g_rand_int_range(rand, 0, (gint32)count) : count, i;

    for (i = 0; i < count; i++) {
        const char *name = pending[i]->name;

        if (!g_hash_table_contains(chosen, name)) /* how many of its changes are there */
            g_hash_table_insert(chosen, (char *)name,
                                GINT_TO_POINTER(g_rand_int_range(rand, 0, 3)));
        /* 0: none, 1: those that a coin lets in, one after the other, 2: all */
        switch (GPOINTER_TO_INT(g_hash_table_lookup(chosen, name))) {
        case 1:
            if (g_rand_int_range(rand, 0, 4) == 0) {
                g_hash_table_insert(chosen, (char *)name, GINT_TO_POINTER(0));
                continue;
            }
            break;
        case 2:
            break;
        default:
            continue;
        }
        if (i == victim && pending[i]->kind == FAKE_SET) {
            g_hash_table_replace(state, g_strdup(name),
                                 torn(g_hash_table_lookup(state, name), pending[i]->value, rand));
            g_hash_table_insert(chosen, (char *)name, GINT_TO_POINTER(0));
            continue;
        }
        apply(state, pending[i]);
    }
    return state;
}

/* The store in `state` must say what step `before` said, or `after`. */
static gboolean is_right(const struct step *before, const struct step *after, gboolean write)
{
    g_autofree char *text = NULL;
    qidmap_store *store;
    int code = 0;

    if (write) {
        code = qidmap_store_open(uri, before->dump ? QIDMAP_OPEN_WRITE : FIXTURE_WRITE, NULL,
                                 &store, NULL);
        if (code == 0) {
            uint32_t fs = fixture_register(store, 50, QIDMAP_POLICY_AFFIX);
            uint64_t path;

            qidmap_store_close(store); /* what it wrote is whole */
            if (qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, NULL) != 0)
                return FALSE;
            g_assert_cmpint(qidmap_find(store, fs, 1, &path), ==, -ENOENT);
            qidmap_store_close(store);
        }
        return code == 0;
    }
    text = read_dump(&code);
    if (!text)
        return code == -ENOENT && !before->dump;
    return (before->dump && strcmp(text, before->dump) == 0) || strcmp(text, after->dump) == 0;
}

/* Tries what crashes after every change can leave, `each` states of each; returns how many were
 * wrong. */
static unsigned crash_everywhere(gboolean syncs_count, unsigned each, unsigned *tried)
{
    g_autoptr(GPtrArray) ops = g_steal_pointer(&fake.ops);
    g_autoptr(GHashTable) durable = fake_table();
    g_autoptr(GPtrArray) pending = g_ptr_array_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    unsigned wrong = 0, i, k, at = 1;

    *tried = 0;
    for (i = 0; i <= ops->len; i++) {
        const struct step *before, *after;
        unsigned combinations;

        while (at + 1 < steps->len && g_array_index(steps, struct step, at).ops < i)
            at++;
        after = &g_array_index(steps, struct step, at);
        before = i < after->ops ? &g_array_index(steps, struct step, at - 1) : after;
        combinations = pending->len == 0 ? 1 : each;
        for (k = 0; k < combinations; k++) {
            GHashTable *state = crash_state(durable, (const struct fake_op **)pending->pdata,
                                            pending->len, rand, k & 1);

            fake_reset();
            g_hash_table_destroy(fake.now);
            fake.now = state;
            (*tried)++;
            if (!is_right(before, after, FALSE))
                wrong++;
            else if (k % 16 == 1 && !is_right(before, after, TRUE))
                wrong++;
        }
        if (i == ops->len)
            break;
        if (((struct fake_op *)ops->pdata[i])->kind != FAKE_SYNC) {
            g_ptr_array_add(pending, ops->pdata[i]);
        } else if (syncs_count) {
            for (k = 0; k < pending->len; k++)
                apply(durable, pending->pdata[k]);
            g_ptr_array_set_size(pending, 0);
        }
    }
    return wrong;
}

static void test_crash(void)
{
    unsigned tried;

    begin();
    scenario();
    g_assert_cmpuint(crash_everywhere(TRUE, 48, &tried), ==, 0);
    g_test_message("%u states", tried);
    g_assert_cmpuint(tried, >, 5000);
}

/* Negative controls: the same must find what is wrong with a store of one slot, and with one that
 * does not sync. */
static void test_crash_one_slot(void)
{
    unsigned tried, wrong;

    begin();
    qm_xattr_sys = &fake_sys_one_slot;
    scenario();
    wrong = crash_everywhere(TRUE, 4, &tried);
    g_test_message("%u of %u states wrong", wrong, tried);
    g_assert_cmpuint(wrong, >, 0);
}

static void test_crash_no_sync(void)
{
    unsigned tried, wrong;

    begin();
    scenario();
    wrong = crash_everywhere(FALSE, 4, &tried);
    g_test_message("%u of %u states wrong", wrong, tried);
    g_assert_cmpuint(wrong, >, 0);
}

/* ---- failing calls --------------------------------------------------------------------------- */

/* Every call of a commit fails once: the new mapping fails, the known one stays, and the store
 * opens with the state before or after. */
static void fail_everywhere(int error)
{
    int at, failures = 0;

    for (at = 1;; at++) {
        g_autofree char *before = NULL, *after = NULL, *text = NULL;
        qidmap_store *store;
        uint64_t known, path;
        uint32_t fs;
        int code, calls;

        begin();
        fake.value_max = 90;
        store = fixture_open(uri, FIXTURE_WRITE, 0);
        fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
        g_assert_cmpint(qidmap_map(store, fs, 1, &known), ==, 0);
        before = dump(store);
        calls = fake.changes;
        fake.fail_at = calls + at;
        fake.fail_errno = error;
        code = qidmap_map(store, fs, UINT64_C(1) << 63 | 9, &path);
        fake.fail_at = 0;
        g_assert_cmpint(qidmap_map(store, fs, 2, &path), ==, 0);
        g_assert_cmpuint(path >> 5, ==, (known >> 5) + 1);
        if (code == 0) {
            after = dump(store);
        } else {
            failures++;
            g_assert_true(code == -error || code == -EIO);
            code = qidmap_map(store, fs, UINT64_C(1) << 63 | 9, &path);
            g_assert_true(code == 0 || error == EIO); /* room: at once */
            if (code == 0)
                after = dump(store);
        }
        qidmap_store_close(store);
        text = read_dump(&code);
        g_assert_nonnull(text);
        if (after)
            g_assert_cmpstr(text, ==, after);
        else if (strcmp(text, before) != 0) /* not known to be there, but it is whole */
            g_assert_nonnull(strstr(text, " 2:1:5:"));
        if (failures < at)
            break; /* the commit has no further call */
    }
    g_assert_cmpint(failures, >=, 4);
}

static void test_fail_eio(void)
{
    fail_everywhere(EIO);
}

static void test_fail_enospc(void)
{
    /* A sync that says ENOSPC after the header is as bad as EIO; all others are mended at once. */
    struct qidmap_error error;
    qidmap_store *store;
    uint64_t path;
    uint32_t fs;

    begin();
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    fake.set_error = ENOSPC;
    g_assert_cmpint(qidmap_map(store, fs, 1, &path), ==, -ENOSPC);
    struct qidmap_identity id = fixture_identity(2, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_register(store, &id, 1, &fs, &error), ==, -ENOSPC);
    g_assert_nonnull(strstr(error.text, "lmdb:"));
    fake.set_error = 0;
    g_assert_cmpint(qidmap_register(store, &id, 1, &fs, &error), ==, 0);
    map_ok(store, fs, 1);
    qidmap_store_close(store);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void make_store(void)
{
    qidmap_store *store;
    uint32_t fs[3], i;

    begin();
    with_epoch = TRUE; /* the state before the last commit is another one */
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    for (i = 0; i < 3; i++)
        fs[i] = fixture_register(store, (uint8_t)(i + 1), QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 12; i++)
        map_ok(store, fs[i % 3], (uint64_t)i << 60 | 5);
    qidmap_store_close(store);
}

/* The store as it is now either says what it said, or is refused; never is anything else made. */
static gboolean same_or_refused(const char *right)
{
    g_autoptr(GHashTable) state = fake_copy(fake.now);
    g_autofree char *text = NULL;
    struct qidmap_error error;
    qidmap_store *store;
    int code, i;

    text = read_dump(&code);
    if (text ? strcmp(text, right) != 0 : code != -EUCLEAN && code != -EPROTO)
        return FALSE;
    for (i = 0; i < 2; i++) {
        g_autofree char *written = NULL;

        if (qidmap_store_open(uri, FIXTURE_WRITE, NULL, &store, &error) != 0)
            continue;
        if (!text) {
            qidmap_store_close(store);
            return FALSE;
        }
        written = dump(store);
        qidmap_store_close(store);
        if (strcmp(written, right) != 0)
            return FALSE;
    }
    g_hash_table_destroy(fake.now);
    fake.now = fake_copy(state);
    return TRUE;
}

static void test_flips(void)
{
    g_autofree char *right = NULL;
    static const char *const names[] = {"a", "a0", "b", "b0"};
    unsigned tried = 0, n;
    int code;

    make_store();
    right = read_dump(&code);
    g_assert_cmpuint(g_hash_table_size(fake.now), ==, G_N_ELEMENTS(names));
    for (n = 0; n < G_N_ELEMENTS(names); n++) {
        g_autofree char *name = g_strconcat("trusted.qidmap.", names[n], NULL);
        GBytes *whole = g_bytes_ref(g_hash_table_lookup(fake.now, name));
        gsize size, i;
        const guint8 *bytes = g_bytes_get_data(whole, &size);

        for (i = 0; i < size * 8; i++) {
            guint8 *flipped = g_malloc(size);

            memcpy(flipped, bytes, size);
            flipped[i / 8] ^= (guint8)(1u << (i % 8));
            g_hash_table_replace(fake.now, g_strdup(name), g_bytes_new_take(flipped, size));
            g_assert_true(same_or_refused(right));
            tried++;
        }
        for (i = 0; i < size; i += 3) { /* cut short */
            g_hash_table_replace(fake.now, g_strdup(name), g_bytes_new(bytes, i));
            g_assert_true(same_or_refused(right));
        }
        g_hash_table_remove(fake.now, name);
        g_assert_true(same_or_refused(right));
        g_hash_table_replace(fake.now, g_strdup(name), whole);
    }
    g_test_message("%u bits", tried);
    g_assert_cmpuint(tried, >, 1000);
}

static char live_slot(GHashTable *state)
{
    const guint8 *a = g_bytes_get_data(g_hash_table_lookup(state, "trusted.qidmap.a"), NULL);

    return a[5] == 3 ? 'a' : 'b';
}

/* Values that stand in the place of others, and headers of different times together. */
static void test_swaps(void)
{
    g_autoptr(GHashTable) older = NULL, newer = NULL;
    g_autofree char *right = NULL;
    g_autoptr(GList) names = NULL;
    qidmap_store *store;
    uint32_t fs;
    int code;
    unsigned mask;

    make_store();
    older = fake_copy(fake.now);
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 4, QIDMAP_POLICY_AFFIX);
    map_ok(store, fs, 9);
    qidmap_store_close(store);
    newer = fake_copy(fake.now);
    right = read_dump(&code);
    names = g_hash_table_get_keys(newer);
    g_assert_cmpuint(g_list_length(names), ==, 4);
    for (mask = 1; mask < 15; mask++) { /* some of the old ones among the new ones */
        unsigned i = 0, old = 0;

        for (const GList *at = names; at; at = at->next, i++) {
            const char *name = strrchr(at->data, '.') + 1;

            old += mask & 1u << i && (name[1] == '\0' || name[0] == live_slot(older)) ? 1 : 0;
        }
        if (old == 3)
            continue; /* all that counted: an older state whole, as from a backup */
        i = 0;
        g_hash_table_destroy(fake.now);
        fake.now = fake_copy(newer);
        for (const GList *at = names; at; at = at->next, i++) {
            if (mask & 1u << i)
                g_hash_table_replace(fake.now, g_strdup(at->data),
                                     g_bytes_ref(g_hash_table_lookup(older, at->data)));
        }
        g_assert_true(same_or_refused(right));
    }
    for (const GList *a = names; a; a = a->next) {
        for (const GList *b = names; b; b = b->next) { /* a under b's name */
            g_hash_table_destroy(fake.now);
            fake.now = fake_copy(newer);
            g_hash_table_replace(fake.now, g_strdup(b->data),
                                 g_bytes_ref(g_hash_table_lookup(newer, a->data)));
            g_assert_true(same_or_refused(right));
        }
    }
}

/* ---- room ------------------------------------------------------------------------------------ */

static struct qidmap_identity full_identity(uint8_t which)
{
    struct qidmap_identity id = fixture_identity(which, QIDMAP_POLICY_AFFIX);
    struct qidmap_hints *h = &id.hints;

    g_strlcpy(h->type, which & 1 ? "ext4" : "xfs", sizeof(h->type));
    g_snprintf(h->source, sizeof(h->source), "/dev/mapper/vg0-volume%u", which);
    g_snprintf(h->dm_uuid, sizeof(h->dm_uuid), "LVM-%032x%032x", which, which * 7u);
    g_snprintf(h->mount_path, sizeof(h->mount_path), "/srv/exports/customers/%u/files", which);
    memset(h->boot_id, 0, sizeof(h->boot_id));
    g_strlcpy(h->boot_id, "0d9f2b53-4e5e-4d30-9f53-2c1f0c2bb4f3", sizeof(h->boot_id));
    g_strlcpy(h->machine_id, "b08dfa6083e7567a1921a715000001fb", sizeof(h->machine_id));
    h->root_ino = which & 1 ? 2 : 128;
    h->root_gen = 0x12345678u + which;
    h->root_btime_ns = INT64_C(1700000000123456789) + which;
    h->st_dev = UINT64_C(253) << 32 | which;
    return id;
}

struct mapped {
    uint32_t fs;
    uint64_t ino, path;
};

/* Registers 16 filesystems, and maps inodes with all kinds of high bits until there are `entries`
 * affix entries or nothing more fits; adds what it mapped to `all`. The number of entries. */
static uint64_t fill(qidmap_store *store, uint64_t entries, GArray *all)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_identity ids[16];
    uint32_t fs[16];
    unsigned i;

    for (i = 0; i < 16; i++)
        ids[i] = full_identity((uint8_t)(i + 1));
    g_assert_cmpint(qidmap_register(store, ids, 16, fs, NULL), ==, 0);
    for (i = 0;; i++) {
        struct mapped m = {fs[i % 16], (uint64_t)(i * 2654435761u) << 32 | 1, 0};
        int code;

        qidmap_store_stats(store, &stats, NULL);
        if (stats.affix_rows >= entries)
            break;
        code = qidmap_map(store, m.fs, m.ino, &m.path);
        if (code != 0) {
            g_assert_cmpint(code, ==, -ENOSPC);
            break;
        }
        g_array_append_val(all, m);
    }
    return stats.affix_rows;
}

static void check_all(qidmap_store *store, const GArray *all)
{
    guint i;

    for (i = 0; i < all->len; i++) {
        const struct mapped *m = &g_array_index(all, struct mapped, i);
        uint64_t path;

        g_assert_cmpint(qidmap_map(store, m->fs, m->ino, &path), ==, 0);
        g_assert_cmpuint(path, ==, m->path);
    }
}

/* ext4 gives one block to the xattrs of an inode with 128 bytes, its header taken off; user. names
 * are the longer ones, and something else of 100 bytes is there. */
static void test_room(void)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct mapped));
    struct qidmap_stats stats = {.size = sizeof(stats)}, full = {.size = sizeof(full)};
    g_autofree char *before = NULL, *after = NULL, *again = NULL;
    qidmap_store *store;

    begin();
    fake.total = 4096 - 32 - 4;
    fake.trusted_error = EPERM;
    g_hash_table_insert(fake.now, g_strdup("user.other"), g_bytes_new_take(g_malloc0(100), 100));
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    g_assert_cmpuint(fill(store, 100, all), ==, 100);
    qidmap_store_stats(store, &stats, NULL);
    g_test_message("100 entries: %lu of %lu bytes, %lu more fit", (unsigned long)stats.bytes_used,
                   (unsigned long)stats.bytes_room, (unsigned long)stats.rows_room);
    g_assert_true(stats.bytes_used > 0 && stats.bytes_used <= stats.bytes_room);
    g_assert_cmpuint(stats.rows_room, >, 0);
    fill(store, 100000, all);
    qidmap_store_stats(store, &full, NULL);
    g_test_message("%lu entries in all", (unsigned long)full.affix_rows);
    g_assert_cmpuint(full.affix_rows, >, 100);
    /* What was left was said about right. */
    g_assert_cmpuint(full.affix_rows - 100, <=, stats.rows_room + 20);
    g_assert_cmpuint(full.affix_rows - 100 + 20, >=, stats.rows_room);
    g_assert_cmpuint(full.rows_room, <=, 1);
    check_all(store, all); /* known ones go on */
    before = dump(store);
    qidmap_store_close(store);
    g_assert_true(g_hash_table_contains(fake.now, "user.other"));
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    after = dump(store);
    g_assert_cmpstr(after, ==, before);
    check_all(store, all);
    /* The same filesystems, with strings where the rows have digests: no row gets another number.
     */
    fill(store, 0, all);
    again = dump(store);
    g_assert_cmpstr(again, ==, before);
    qidmap_store_close(store);
}

/* The same with real xattrs on a directory of the caller's, for tests/root-xattr.sh. */
static void test_real_room(void)
{
    const char *place = g_getenv("QIDMAP_TEST_XATTR_DIR");
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct mapped));
    struct qidmap_stats stats = {.size = sizeof(stats)};
    g_autofree char *real_uri = g_strconcat("xattr:", place, NULL), *before = NULL, *after = NULL;
    const struct qm_xattr_sys *before_sys = qm_xattr_sys;
    qidmap_store *store;

    qm_xattr_sys = real_sys;
    store = fixture_open(real_uri, FIXTURE_WRITE, 0);
    g_assert_cmpuint(fill(store, 100, all), ==, 100);
    qidmap_store_stats(store, &stats, NULL);
    g_test_message("room %lu bytes; 100 entries over 16 filesystems take %lu; about %lu more fit",
                   (unsigned long)stats.bytes_room, (unsigned long)stats.bytes_used,
                   (unsigned long)stats.rows_room);
    if (stats.rows_room < 1000) { /* to the end, where it is near */
        fill(store, 100000, all);
        qidmap_store_stats(store, &stats, NULL);
        g_test_message("%lu entries in all", (unsigned long)stats.affix_rows);
    }
    before = dump(store);
    check_all(store, all);
    qidmap_store_close(store);
    store = fixture_open(real_uri, QIDMAP_OPEN_WRITE, 0);
    after = dump(store);
    g_assert_cmpstr(after, ==, before);
    check_all(store, all);
    qidmap_store_close(store);
    qm_xattr_sys = before_sys;
}

/* ---- what there is no place for -------------------------------------------------------------- */

static int text_write(void *data, const void *bytes, size_t size)
{
    g_string_append_len(data, bytes, (gssize)size);
    return 0;
}

static long text_read(void *data, void *buffer, size_t size)
{
    GString *text = data;
    size_t n = MIN(size, text->len);

    memcpy(buffer, text->str, n);
    g_string_erase(text, 0, (gssize)n);
    return (long)n;
}

/* More entries than the budget of other backends are no damage, and a dump of them goes there. */
static void budget_goes_along(qidmap_store *store, uint32_t fs)
{
    struct qidmap_verify_result found = {.size = sizeof(found)};
    struct qidmap_load_options options = {.size = sizeof(options), .read = text_read};
    struct qidmap_error error = {0, ""};
    GString *text = g_string_new(NULL);
    qidmap_store *other = NULL;
    uint64_t path, same, i;

    g_assert_cmpint(qidmap_store_verify(store, NULL, &found, &error), ==, 0);
    g_assert_cmpuint(found.problems, ==, 0);
    g_assert_cmpint(qidmap_dump(store, text_write, NULL, text, &error), ==, 0);
    options.data = text;
    g_assert_cmpint(qidmap_load("memory:", &options, NULL, &other, &error), ==, 0);
    for (i = 0; i < 30; i++) {
        g_assert_cmpint(qidmap_find(store, fs, (i + 1) << 56 | 3, &path), ==, 0);
        g_assert_cmpint(qidmap_find(other, fs, (i + 1) << 56 | 3, &same), ==, 0);
        g_assert_cmpuint(path, ==, same);
    }
    qidmap_store_close(other);
    g_string_free(text, TRUE);
}

static void test_no_full_map(void)
{
    struct qidmap_identity id = fixture_identity(3, QIDMAP_POLICY_HANDLE);
    struct qidmap_object object = {.kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 256, .ino2 = 2};
    struct qidmap_error error;
    qidmap_store *store;
    uint32_t fs, other;
    uint64_t path, i;

    begin();
    store = fixture_open(uri, FIXTURE_WRITE, 2); /* the budget counts for nothing */
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    for (i = 0; i < 30; i++)
        map_ok(store, fs, (i + 1) << 56 | 3);
    object.fs = fs;
    g_assert_cmpint(qidmap_map_object(store, &object, &path), ==, -ENFILE);
    g_assert_cmpint(qidmap_map(store, fs, 0, &path), ==, -ENFILE);
    other = fixture_register(store, 2, QIDMAP_POLICY_EPHEMERAL);
    map_ok(store, other, 77);
    g_assert_cmpint(qidmap_map(store, other, UINT64_C(1) << 37, &path), ==, -ENFILE);
    map_ok(store, fs, UINT64_C(200) << 56 | 9); /* goes on */
    g_assert_cmpint(qidmap_register(store, &id, 1, &other, &error), ==, -EOPNOTSUPP);
    g_assert_nonnull(strstr(error.text, "lmdb:"));
    budget_goes_along(store, fs);
    qidmap_store_close(store);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void refuses(unsigned flags, int code, const char *word)
{
    struct qidmap_error error = {0, ""};
    qidmap_store *store;
    int r = qidmap_store_open(uri, flags, NULL, &store, &error);

    g_test_message("%s", error.text);
    g_assert_cmpint(r, ==, code);
    g_assert_nonnull(strstr(error.text, word));
}

static void test_open(void)
{
    struct qidmap_error error;
    qidmap_store *store, *second;
    GHashTable *trusted;
    GHashTableIter iter;
    gpointer k, v;
    g_autofree char *pid = g_strdup_printf("(pid %ld)", (long)getpid());
    int status;

    begin();
    refuses(QIDMAP_OPEN_READ, -ENOENT, "no store");
    refuses(QIDMAP_OPEN_WRITE, -ENOENT, "no store");
    fake.set_error = EROFS;
    refuses(FIXTURE_WRITE, -EROFS, "lmdb:");
    fake.set_error = EOPNOTSUPP;
    refuses(FIXTURE_WRITE, -EOPNOTSUPP, "lmdb:");
    fake.set_error = EPERM;
    refuses(FIXTURE_WRITE, -EPERM, "lmdb:");
    fake.set_error = 0;
    fake.total = 400;
    refuses(FIXTURE_WRITE, -ENOSPC, "lmdb:");
    /* A failed call may have left its name there: no second store is made beside it. */
    fake.total = 0;
    fake.trusted_error = EIO;
    refuses(FIXTURE_WRITE, -EIO, "lmdb:");
    g_assert_cmpuint(g_hash_table_size(fake.now), ==, 0);
    begin();
    g_assert_cmpint(qidmap_store_open("xattr:/nonexistent", FIXTURE_WRITE, NULL, &store, &error),
                    ==, -ENOENT);
    g_assert_cmpint(qidmap_store_open("xattr:", FIXTURE_WRITE, NULL, &store, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_store_open("virtfs:/", QIDMAP_OPEN_READ, NULL, &store, &error), ==,
                    -EOPNOTSUPP);
    g_assert_nonnull(strstr(error.text, "st_dev"));

    /* One writer, named; readers beside it. */
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    refuses(FIXTURE_WRITE, -EBUSY, "this process");
    if (fork() == 0) {
        int r = qidmap_store_open(uri, FIXTURE_WRITE, NULL, &second, &error);

        _exit(r == -EBUSY && strstr(error.text, pid) && strstr(error.text, "unit-xattr") ? 0 : 1);
    }
    wait(&status);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &second, NULL), ==, 0);
    qidmap_store_close(second);
    qidmap_store_close(store);

    /* Without the right to trusted. names it is made in the others, and found there with it. */
    trusted = fake_copy(fake.now);
    begin();
    fake.trusted_error = EPERM;
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    qidmap_store_close(store);
    fake.trusted_error = 0;
    store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
    fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
    qidmap_store_close(store);
    g_hash_table_iter_init(&iter, fake.now);
    while (g_hash_table_iter_next(&iter, &k, NULL))
        g_assert_true(g_str_has_prefix(k, "user.virtfs.system.qidmap."));
    g_assert_cmpint(chmod(dir, 0777), ==, 0);
    refuses(QIDMAP_OPEN_WRITE, -EPERM, "everybody");
    g_assert_cmpint(chmod(dir, 0700), ==, 0);

    /* Both at once: neither is taken. */
    g_hash_table_iter_init(&iter, trusted);
    while (g_hash_table_iter_next(&iter, &k, &v))
        g_hash_table_insert(fake.now, g_strdup(k), g_bytes_ref(v));
    g_hash_table_destroy(trusted);
    refuses(FIXTURE_WRITE, -EEXIST, "trusted.qidmap.");
    refuses(QIDMAP_OPEN_READ, -EEXIST, "user.virtfs.system.qidmap.");
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* The same xattrs on another directory: the store opens, what is known is the same, and no number
 * that the original gives from now on is given there. */
static void test_copy(void)
{
    g_autofree char *other = fixture_dir(), *other_uri = g_strconcat("xattr:", other, NULL);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    qidmap_store *store;
    uint64_t path, again, next, at_copy;
    uint32_t fs;

    begin();
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_map(store, fs, 7, &path), ==, 0);
    qidmap_store_close(store);
    store = fixture_open(uri, FIXTURE_WRITE, 0); /* where it was: no leap */
    qidmap_store_stats(store, &stats, NULL);
    next = stats.next_affix;
    g_assert_cmpuint(next, ==, 5);
    qidmap_store_close(store);
    store = fixture_open(other_uri, FIXTURE_WRITE, 0);
    g_assert_cmpint(qidmap_map(store, fs, 7, &again), ==, 0);
    g_assert_cmpuint(again, ==, path);
    map_ok(store, fs, UINT64_C(3) << 60 | 1);
    qidmap_store_stats(store, &stats, NULL);
    at_copy = stats.next_affix;
    g_assert_cmpuint(at_copy, >, next + 1000);
    qidmap_store_close(store);
    store = fixture_open(other_uri, FIXTURE_WRITE, 0); /* it is at home there now */
    qidmap_store_stats(store, &stats, NULL);
    g_assert_cmpuint(stats.next_affix, ==, at_copy);
    qidmap_store_close(store);
    fixture_remove(other);
}

/* ---- readers beside a writer ----------------------------------------------------------------- */

struct reading {
    gint stop, reads; /* atomic */
};

static gpointer read_on(gpointer data)
{
    struct reading *r = data;
    unsigned long last = 0;

    while (!g_atomic_int_get(&r->stop)) {
        int code;
        g_autofree char *text = read_dump(&code);
        unsigned long next = 0;

        if (code == -EAGAIN)
            continue;
        g_assert_cmpint(code, ==, 0);
        sscanf(text, "%*u %*u %lu", &next);
        g_assert_cmpuint(next, >=, last);
        last = next;
        g_atomic_int_inc(&r->reads);
    }
    return NULL;
}

static void test_readers(void)
{
    qidmap_store *store;
    struct reading r = {0, 0};
    GThread *thread;
    uint32_t fs;
    uint64_t i;

    begin();
    fake.value_max = 90;
    store = fixture_open(uri, FIXTURE_WRITE, 0);
    fs = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    thread = g_thread_new("reader", read_on, &r);
    for (i = 0; i < 300; i++) {
        map_ok(store, fs, (i + 1) << 54 | 3);
        if (i % 50 == 0)
            g_usleep(2000);
    }
    for (i = 0; i < 30000 && g_atomic_int_get(&r.reads) == 0; i++)
        g_usleep(2000);
    g_atomic_int_set(&r.stop, 1);
    g_thread_join(thread);
    g_assert_cmpint(r.reads, >, 0);
    qidmap_store_close(store);
}

/* ---- the layout of 2019 ---------------------------------------------------------------------- */

static int count_row(const struct qidmap_virtfs_entry *entry, void *data)
{
    unsigned *count = data;

    g_assert_cmpuint(entry->index, ==, ++*count);
    g_assert_cmpuint(entry->dev, ==, 0x800 + *count);
    g_assert_cmpuint(entry->ino_prefix, ==, 0x100 * *count + 7);
    return 0;
}

static void test_virtfs(void)
{
    guint8 table[8 + 3 * 10] = {1, 0, 0, 0};
    unsigned i, count = 0;
    guint32 crc;

    for (i = 0; i < 3; i++) {
        guint8 *e = table + 8 + i * 10;

        e[0] = (guint8)(i + 1);
        e[1] = 8;
        e[8] = 7;
        e[9] = (guint8)(i + 1);
    }
    crc = qm_crc32c(0, table + 8, 30);
    for (i = 0; i < 4; i++)
        table[4 + i] = (guint8)(crc >> 8 * i);
    g_assert_cmpint(qm_virtfs_parse(table, sizeof(table), count_row, &count), ==, 0);
    g_assert_cmpuint(count, ==, 3);
    for (i = 0; i < sizeof(table) * 8; i++) {
        if (i / 8 == 2 || i / 8 == 3)
            continue; /* reserved: nothing is said of it */
        table[i / 8] ^= (guint8)(1u << i % 8);
        count = 0;
        g_assert_cmpint(qm_virtfs_parse(table, sizeof(table), count_row, &count), <, 0);
        g_assert_cmpuint(count, ==, 0);
        table[i / 8] ^= (guint8)(1u << i % 8);
    }
    for (i = 0; i < sizeof(table); i++)
        g_assert_cmpint(qm_virtfs_parse(table, i, count_row, &count), ==, -EUCLEAN);
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    real_sys = qm_xattr_sys;
    dir = fixture_dir();
    uri = g_strconcat("xattr:", dir, NULL);
    g_test_add_func("/xattr/crash", test_crash);
    g_test_add_func("/xattr/crash-one-slot", test_crash_one_slot);
    g_test_add_func("/xattr/crash-no-sync", test_crash_no_sync);
    g_test_add_func("/xattr/fail-eio", test_fail_eio);
    g_test_add_func("/xattr/fail-enospc", test_fail_enospc);
    g_test_add_func("/xattr/flips", test_flips);
    g_test_add_func("/xattr/swaps", test_swaps);
    g_test_add_func("/xattr/room", test_room);
    if (g_getenv("QIDMAP_TEST_XATTR_DIR"))
        g_test_add_func("/xattr/real-room", test_real_room);
    g_test_add_func("/xattr/no-full-map", test_no_full_map);
    g_test_add_func("/xattr/open", test_open);
    g_test_add_func("/xattr/copy", test_copy);
    g_test_add_func("/xattr/readers", test_readers);
    g_test_add_func("/xattr/virtfs", test_virtfs);
    status = g_test_run();
    fixture_remove(dir);
    g_clear_pointer(&steps, g_array_unref);
    return status;
}
