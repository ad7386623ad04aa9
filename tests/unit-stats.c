/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: every message is counted once, in its kind, its session and the daemon, whatever runs
 * beside it; buckets cover all latencies without holes; what a session did is not lost with it.
 */
#include "config.h"

#include "src/stats.h"
#include "src/trace.h"

#include <string.h>

#define THREADS 4
#define ROUNDS  20000

static void buckets(void)
{
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        uint64_t first = stats_bucket_floor(i);

        g_assert_cmpuint(stats_bucket(first), ==, i);
        if (i > 0) {
            g_assert_cmpuint(stats_bucket(first - 1), ==, i - 1);
            g_assert_cmpuint(first, >, stats_bucket_floor(i - 1));
        }
        if (i > 1)
            g_assert_cmpuint(first - stats_bucket_floor(i - 1), <=, stats_bucket_floor(i - 1) / 4);
    }
    g_assert_cmpuint(stats_bucket(UINT64_MAX), ==, STATS_BUCKETS - 1);
}

static void quantiles(void)
{
    struct stats_kind kind = {0};

    g_assert_cmpuint(stats_quantile(&kind, 500), ==, 0);
    for (uint64_t us = 1; us <= 1000; us++)
        kind.buckets[stats_bucket(us * 1000)]++;
    kind.slowest = 1000000;
    for (unsigned permille = 100; permille <= 1000; permille += 100) {
        uint64_t told = stats_quantile(&kind, permille);

        g_assert_cmpuint(told, >=, permille * 1000u);
        g_assert_cmpuint(told, <=, permille * 1250u);
    }
    g_assert_cmpuint(stats_quantile(&kind, 1000), ==, 1000000);
}

static struct stats_session *shared;
static int stop;

static gpointer count(gpointer data)
{
    for (guint i = 0; i < ROUNDS; i++) {
        uint64_t start = stats_start(shared);

        (void)trace_is_on(shared);
        stats_done(shared, start, i % 2 ? P9_TWALK : P9_TREAD, 10, 20, i % 4 == 0);
    }
    return data;
}

static gpointer disturb(gpointer data)
{
    for (guint i = 0; !g_atomic_int_get(&stop); i++) {
        struct stats_session *brief = stats_begin(1000 + i, "tcp:10.0.0.5:77", NULL);
        struct stats_snapshot *snapshot = stats_snapshot();

        trace_begin(brief);
        trace_all(i % 2);
        trace_session(7, i % 3 == 0);
        stats_snapshot_free(snapshot);
        stats_end(brief);
    }
    trace_all(false);
    return data;
}

static void threads(void)
{
    const struct stats_snapshot_session *seen;
    struct limit_account account = {.used = {[LIMIT_FIDS] = 5, [LIMIT_FILES] = 3}};
    struct stats_snapshot *snapshot;
    GThread *thread[THREADS], *other;
    guint64 sum = 0;

    shared = stats_begin(7, "unix", &account);
    other = g_thread_new("disturb", disturb, NULL);
    for (guint i = 0; i < THREADS; i++)
        thread[i] = g_thread_new("count", count, NULL);
    for (guint i = 0; i < THREADS; i++)
        g_thread_join(thread[i]);
    g_atomic_int_set(&stop, 1);
    g_thread_join(other);
    for (guint i = 0; i < 12; i++)
        stats_attached(shared, i, "user", "data");
    stats_attached(shared, 10, "user", "data");
    snapshot = stats_snapshot();
    g_assert_cmpuint(snapshot->sessions->len, ==, 1);
    seen = g_ptr_array_index(snapshot->sessions, 0);
    g_assert_cmpuint(seen->id, ==, 7);
    g_assert_cmpuint(seen->in_flight, ==, 0);
    g_assert_cmpuint(seen->fids, ==, 5);
    g_assert_cmpuint(seen->files, ==, 3);
    g_assert_cmpuint(seen->count, ==, THREADS * ROUNDS);
    g_assert_cmpuint(seen->errors, ==, THREADS * ROUNDS / 4);
    g_assert_cmpuint(seen->bytes_out, ==, THREADS * ROUNDS * 20);
    g_assert_cmpuint(seen->kinds[P9_TWALK / 2]->count, ==, THREADS * ROUNDS / 2);
    g_assert_cmpuint(seen->kinds[P9_TWALK / 2]->errors, ==, 0);
    for (guint i = 0; i < STATS_BUCKETS; i++)
        sum += seen->kinds[P9_TREAD / 2]->buckets[i];
    g_assert_cmpuint(sum, ==, THREADS * ROUNDS / 2);
    g_assert_cmpuint(seen->user_count, ==, STATS_USERS);
    g_assert_cmpuint(seen->users[0].uid, ==, 10);
    g_assert_cmpuint(seen->users[1].uid, ==, 11);
    g_assert_cmpuint(seen->users[2].uid, ==, 9);
    stats_snapshot_free(snapshot);
    stats_done(shared, stats_start(shared), 250, 1, 1, true); /* no message has this type */
    stats_end(shared);
    snapshot = stats_snapshot();
    g_assert_cmpuint(snapshot->sessions->len, ==, 0);
    g_assert_cmpuint(snapshot->count, ==, THREADS * ROUNDS + 1);
    g_assert_cmpuint(snapshot->kinds[0]->errors, ==, 1);
    g_assert_cmpstr(stats_kind_name(P9_TWALK / 2), ==, "Twalk");
    stats_snapshot_free(snapshot);
}

static void choose(void)
{
    static const struct {
        const char *peer;
        gboolean traced;
    } peers[] = {{"tcp:10.0.0.5:1234", TRUE}, {"tcp:10.0.0.55:1", FALSE}, {"vsock:3", FALSE}};
    struct stats_session *session;
    GError *error = NULL;

    g_assert_true(trace_add("peer=tcp:10.0.0.5", NULL));
    g_assert_true(trace_add("4711", NULL));
    g_assert_false(trace_add("peer=", &error));
    g_clear_error(&error);
    g_assert_false(trace_add("-3", &error));
    g_clear_error(&error);
    for (guint i = 0; i < G_N_ELEMENTS(peers); i++) {
        session = stats_begin(i + 1, peers[i].peer, NULL);
        trace_begin(session);
        g_assert_cmpint(trace_is_on(session), ==, peers[i].traced);
        g_assert_true(trace_session(i + 1, !peers[i].traced));
        g_assert_cmpint(trace_is_on(session), ==, !peers[i].traced);
        stats_end(session);
        g_assert_false(trace_session(i + 1, true));
    }
    session = stats_begin(4711, "unix", NULL);
    trace_begin(session);
    g_assert_true(trace_is_on(session));
    stats_end(session);
    trace_free();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stats/buckets", buckets);
    g_test_add_func("/stats/quantiles", quantiles);
    g_test_add_func("/stats/threads", threads);
    g_test_add_func("/trace/choose", choose);
    return g_test_run();
}
