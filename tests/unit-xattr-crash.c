/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: an xattr: store opens with exactly the committed mappings after an interruption at any
 * call, whatever subset of what was not synced reached the disk, torn values included; and a call
 * that fails changes nothing that was committed.
 */
#include "config.h"

#include <glib.h>
#include <string.h>

#include "tests/lib/xattr-fixture.h"

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

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xattr/crash", test_crash);
    g_test_add_func("/xattr/crash-one-slot", test_crash_one_slot);
    g_test_add_func("/xattr/crash-no-sync", test_crash_no_sync);
    g_test_add_func("/xattr/fail-eio", test_fail_eio);
    g_test_add_func("/xattr/fail-enospc", test_fail_enospc);
    status = run_xattr_tests();
    g_clear_pointer(&steps, g_array_unref);
    return status;
}
