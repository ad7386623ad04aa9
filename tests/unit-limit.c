/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: neither a session nor all sessions together hold more than their bounds, also when many
 * threads take at once; what is refused takes nothing; what is given back can be taken again.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "src/limit.h"

#define THREADS 8
#define ROUNDS  20000

static void set(uint64_t session, uint64_t daemon)
{
    struct limit_settings settings;

    limit_defaults(&settings, 100);
    for (int i = 0; i < LIMIT_COUNT; i++) {
        settings.session[i] = session;
        settings.daemon[i] = daemon;
    }
    limit_init(&settings);
}

static void test_bounds(void)
{
    struct limit_account one = {0}, two = {0};
    bool first = false;

    set(10, 15);
    g_assert_cmpint(limit_take(&one, LIMIT_FIDS, 10, &first), ==, 0);
    g_assert_false(first);
    g_assert_cmpint(limit_take(&one, LIMIT_FIDS, 1, &first), ==, -EMFILE);
    g_assert_true(first);
    first = false;
    g_assert_cmpint(limit_take(&one, LIMIT_FIDS, 1, &first), ==, -EMFILE);
    g_assert_false(first); /* told once */
    g_assert_cmpint(limit_take(&two, LIMIT_FIDS, 6, NULL), ==, -ENFILE);
    g_assert_cmpint(limit_take(&two, LIMIT_FIDS, 5, NULL), ==, 0);
    g_assert_cmpuint(limit_used(LIMIT_FIDS), ==, 15);
    /* kinds are apart */
    g_assert_cmpint(limit_take(&one, LIMIT_LOCKS, 10, NULL), ==, 0);
    g_assert_cmpint(limit_take(&one, LIMIT_LOCKS, 1, NULL), ==, -ENOLCK);
    g_assert_cmpint(limit_take(&one, LIMIT_MEMORY, UINT64_MAX, NULL), ==, -ENOMEM);
    limit_give(&one, LIMIT_FIDS, 10);
    g_assert_cmpint(limit_take(&two, LIMIT_FIDS, 5, NULL), ==, 0);
    limit_give(&two, LIMIT_FIDS, 10);
    limit_give(&one, LIMIT_LOCKS, 10);
    for (int i = 0; i < LIMIT_COUNT; i++)
        g_assert_cmpuint(limit_used((enum limit)i), ==, 0);
}

struct racer {
    struct limit_account *account;
    uint64_t *held; /* atomic: what all racers hold by their own count */
    uint64_t most;
    unsigned seed;
};

static void *race(void *data)
{
    struct racer *racer = data;

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t amount = 1 + (uint64_t)rand_r(&racer->seed) % 5, now;

        if (limit_take(racer->account, LIMIT_MEMORY, amount, NULL) != 0)
            continue;
        now = __atomic_add_fetch(racer->held, amount, __ATOMIC_SEQ_CST);
        if (now > racer->most)
            racer->most = now;
        __atomic_fetch_sub(racer->held, amount, __ATOMIC_SEQ_CST);
        limit_give(racer->account, LIMIT_MEMORY, amount);
    }
    return NULL;
}

static void test_threads(void)
{
    struct limit_account accounts[2];
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    uint64_t held = 0;

    memset(accounts, 0, sizeof accounts);
    set(9, 12);
    for (unsigned i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){&accounts[i % 2], &held, 0, i};
        pthread_create(&threads[i], NULL, race, &racers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        g_assert_cmpuint(racers[i].most, <=, 12);
    }
    g_assert_cmpuint(limit_used(LIMIT_MEMORY), ==, 0);
    g_assert_cmpuint(accounts[0].used[LIMIT_MEMORY] + accounts[1].used[LIMIT_MEMORY], ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/limit/bounds", test_bounds);
    g_test_add_func("/limit/threads", test_threads);
    return g_test_run();
}
