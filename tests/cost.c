/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tests/cost.sh counts the instructions of, under callgrind: each function measure_NAME()
 * does one thing COUNT times, and what it needs is made before. Without arguments; it prints
 * COUNT. Time plays no part.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "src/wire.h"
#include "store/codec.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

#define COUNT 1000u

#ifdef __clang__
#define MEASURED __attribute__((noinline))
#else
#define MEASURED __attribute__((noinline, noclone))
#endif

static uint64_t sum; /* what was computed is used */
static uint64_t scattered[2 * COUNT];

/* Inodes as hashes make them: they use the affix budget up. */
static uint64_t hashed(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    return (i ^ i >> 29) | UINT64_C(1) << 63;
}

MEASURED static void measure_covered(qidmap_store *store, uint32_t fs)
{
    uint64_t path;

    for (unsigned i = 0; i < COUNT; i++) {
        g_assert(qidmap_map(store, fs, 12 + i, &path) == 0);
        sum += path;
    }
}

MEASURED static void measure_kept(qidmap_store *store, uint32_t fs)
{
    uint64_t path;

    for (unsigned i = 0; i < COUNT; i++) {
        g_assert(qidmap_map(store, fs, scattered[i], &path) == 0);
        sum += path;
    }
}

/* The same where everything that was kept has been forgotten. */
MEASURED static void measure_read(qidmap_store *store, uint32_t fs)
{
    uint64_t path;

    atomic_fetch_add(&store->rewrites, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        g_assert(qidmap_map(store, fs, scattered[i], &path) == 0);
        sum += path;
    }
}

MEASURED static void measure_new(qidmap_store *store, struct qidmap_item *items)
{
    g_assert(qidmap_map_batch(store, items, COUNT) == 0);
}

MEASURED static void measure_codec(void)
{
    struct qidmap_object object = {.fs = 1, .kind = QIDMAP_OBJECT_INODE}, seen;
    struct qm_record r;
    uint64_t id;

    for (unsigned i = 0; i < COUNT; i++) {
        object.ino = scattered[i];
        qm_record_full(&r, &object, 2 * (QM_SERIAL_FIRST + i) + 1);
        g_assert(qm_parse_full((struct qm_bytes){r.key, r.key_size},
                               (struct qm_bytes){r.value, r.value_size}, &seen, &id) == 0);
        sum += id;
    }
}

static const uint8_t twalk[] = "\x22\0\0\0\x6e\1\0\1\0\0\0\2\0\0\0\3\0\3\0usr\3\0lib\5\0local";
static const uint8_t tgetattr[] = "\x13\0\0\0\x18\1\0\1\0\0\0\xff\x07\0\0\0\0\0";

MEASURED static void measure_walk(void)
{
    uint8_t bytes[sizeof(twalk) - 1];
    struct wire_msg msg;

    for (unsigned i = 0; i < COUNT; i++) {
        memcpy(bytes, twalk, sizeof(bytes));
        g_assert(wire_decode(bytes, sizeof(bytes), &msg) == 0);
        sum += msg.nwname;
    }
}

MEASURED static void measure_getattr(void)
{
    uint8_t bytes[sizeof(tgetattr)];
    struct wire_msg msg;

    for (unsigned i = 0; i < COUNT; i++) {
        memcpy(bytes, tgetattr, sizeof(bytes));
        g_assert(wire_decode(bytes, sizeof(bytes), &msg) == 0);
        sum += msg.mask;
    }
}

/* A reply as Rgetattr: 153 bytes of payload. */
MEASURED static void measure_reply(void)
{
    uint8_t bytes[256];
    struct wire_out out;
    struct qid qid = {.type = 0x80, .path = 77};

    for (unsigned i = 0; i < COUNT; i++) {
        wire_begin(&out, bytes, sizeof(bytes), 25, (uint16_t)i);
        wire_put64(&out, 0x7ff);
        wire_put_qid(&out, &qid);
        for (unsigned j = 0; j < 3; j++)
            wire_put32(&out, j);
        for (unsigned j = 0; j < 15; j++)
            wire_put64(&out, j);
        sum += wire_finish(&out);
    }
}

int main(void)
{
    g_autofree char *dir = fixture_fast_dir();
    g_autofree char *uri = g_strdup_printf("lmdb:%s/store", dir);
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, 2 * COUNT);
    struct qidmap_error error = {0, ""};
    qidmap_store *store = NULL;
    uint32_t small, large;
    uint64_t path;
    unsigned n = 0;

    g_assert(qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error) ==
             0);
    small = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    large = fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
    g_assert(qidmap_map(store, small, 1, &path) == 0);
    for (uint64_t i = 0; i < 32; i++) /* the budget ends */
        g_assert(qidmap_map(store, large, hashed(i), &path) == 0);
    for (uint64_t i = 32; n < 2 * COUNT; i++) { /* inodes that no entry covers */
        if (qidmap_find(store, large, hashed(i), &path) == -ENOENT)
            scattered[n++] = hashed(i);
    }
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        items[i].fs = large;
        items[i].ino = scattered[i];
    }
    g_assert(qidmap_map_batch(store, items, COUNT) == 0);
    measure_new(store, items + COUNT);
    measure_covered(store, small);
    measure_read(store, large);
    measure_kept(store, large);
    measure_codec();
    measure_walk();
    measure_getattr();
    measure_reply();
    qidmap_store_close(store);
    fixture_remove(dir);
    if (sum == 0)
        return 1;
    printf("%u\n", COUNT);
    return 0;
}
