/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: damage of an xattr: store, bits, lengths, and values that stand in the place of others,
 * is reported, and never answered with an older state.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "tests/lib/xattr-fixture.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xattr/flips", test_flips);
    g_test_add_func("/xattr/swaps", test_swaps);
    return run_xattr_tests();
}
