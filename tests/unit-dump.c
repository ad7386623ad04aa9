/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a dump makes the same store again, with any backend, to the last byte of the next dump.
 * A dump that is truncated anywhere, has a byte changed anywhere, or lies in spite of a right
 * checksum is refused, and nothing is left of it. Loading never lets an id be given twice.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/json.h"
#include "store/qidmap.h"
#include "tests/lib/store-fixture.h"

static int append(void *data, const void *bytes, size_t size)
{
    g_string_append_len(data, bytes, (gssize)size);
    return 0;
}

static GString *dump(qidmap_store *store)
{
    GString *out = g_string_new(NULL);
    struct qidmap_error error;

    if (qidmap_dump(store, append, NULL, out, &error) != 0)
        g_error("dump: %s", error.text);
    return out;
}

struct source {
    const char *text;
    size_t size, at, step;
};

static long give(void *data, void *bytes, size_t size)
{
    struct source *s = data;
    size_t n = MIN(MIN(size, s->step), s->size - s->at);

    memcpy(bytes, s->text + s->at, n);
    s->at += n;
    return (long)n;
}

static struct qidmap_error error;
static struct qidmap_load_result result;

static int load_bytes(const char *uri, unsigned flags, const char *text, size_t size, size_t step,
                      qidmap_store **store)
{
    struct source s = {text, size, 0, step};
    struct qidmap_load_options options = {
        .size = sizeof(options), .flags = flags, .read = give, .data = &s};

    memset(&result, 0, sizeof(result));
    result.size = sizeof(result);
    return qidmap_load(uri, &options, &result, store, &error);
}

static int load(const char *uri, unsigned flags, const char *text, qidmap_store **store)
{
    return load_bytes(uri, flags, text, strlen(text), SIZE_MAX, store);
}

/* A store with something of everything. */
static qidmap_store *sample(const char *uri)
{
    qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, 3);
    struct qidmap_identity id = fixture_identity(9, QIDMAP_POLICY_AFFIX);
    struct qidmap_object o = {
        .fs = 2, .kind = QIDMAP_OBJECT_HANDLE, .handle_size = 128, .handle_type = -7};
    uint32_t fs;
    uint64_t path, i;

    g_assert_cmpuint(fixture_register(store, 1, QIDMAP_POLICY_AFFIX), ==, 1);
    g_assert_cmpuint(fixture_register(store, 2, QIDMAP_POLICY_HANDLE), ==, 2);
    g_assert_cmpuint(fixture_register(store, 3, QIDMAP_POLICY_EPHEMERAL), ==, 3);
    g_assert_cmpuint(fixture_register(store, 4, QIDMAP_POLICY_DENY), ==, 4);
    id.count = 2;
    id.fsid[1].kind = QIDMAP_FSID_MARKER;
    id.fsid[1].size = 16;
    memset(id.fsid[1].bytes, 0xab, 16);
    memset(id.hints.marker, 0xab, 16);
    g_strlcpy(id.hints.source, "/dev/\xff\"\\x41\\\t\x7f\xc3\xa9\xed\xa0\x80",
              sizeof(id.hints.source));
    memset(id.hints.mount_path, '\n', sizeof(id.hints.mount_path) - 1);
    id.hints.root_btime_ns = -5;
    id.hints.st_dev = UINT64_MAX;
    id.hints.partition = UINT32_MAX;
    g_assert_cmpint(qidmap_register(store, &id, 1, &fs, &error), ==, 0);
    for (i = 0; i < 8; i++) {
        g_assert_cmpint(qidmap_map(store, 1, i << 58 | 9, &path), ==, 0);
        o.handle[127] = (uint8_t)i;
        g_assert_cmpint(qidmap_map_object(store, &o, &path), ==, 0);
    }
    o = (struct qidmap_object){.fs = 5, .kind = QIDMAP_OBJECT_PLACEHOLDER, .ino = 256, .ino2 = 9};
    g_assert_cmpint(qidmap_map_object(store, &o, &path), ==, 0);
    g_assert_cmpint(qidmap_map(store, 3, UINT64_C(1) << 50, &path), ==, 0);
    return store;
}

static void test_round_trip(void)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strdup_printf("lmdb:%s/store", dir);
    g_autoptr(GString) first = NULL;
    g_autoptr(GString) second = NULL;
    g_autoptr(GString) third = NULL;
    struct qidmap_verify_result found = {.size = sizeof(found)};
    struct qidmap_fs row = {.size = sizeof(row)};
    qidmap_store *store = sample("memory:");
    uint64_t path, i, before[8];

    for (i = 0; i < 8; i++)
        g_assert_cmpint(qidmap_find(store, 1, i << 58 | 9, &before[i]), ==, 0);
    first = dump(store);
    qidmap_store_close(store);
    g_assert_cmpint(load_bytes(uri, QIDMAP_LOAD_LATEST, first->str, first->len, 7, &store), ==, 0);
    g_assert_cmpuint(result.jumped, ==, 0);
    g_assert_cmpuint(result.fs_rows, ==, 5);
    second = dump(store);
    g_assert_true(g_string_equal(second, first)); /* too long to be printed */
    for (i = 0; i < 8; i++) {
        g_assert_cmpint(qidmap_map(store, 1, i << 58 | 9, &path), ==, 0);
        g_assert_cmpuint(path, ==, before[i]);
    }
    g_assert_cmpint(qidmap_fs_get(store, 5, &row, NULL), ==, 0);
    g_assert_cmpstr(row.hints.source, ==, "/dev/\xff\"\\x41\\\t\x7f\xc3\xa9\xed\xa0\x80");
    qidmap_store_close(store);
    g_assert_cmpint(qidmap_verify(uri, NULL, &found, &error), ==, 0);
    g_assert_cmpuint(found.problems, ==, 0);
    store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
    third = dump(store);
    {
        /* The note of the clean stop was a commit: the first line counts it. */
        const char *old = strchr(first->str, '\n'), *new = strchr(third->str, '\n');
        const char *end = g_strrstr(first->str, "{\"row\":\"end\"");

        g_assert_cmpint(strncmp(old, new, (size_t)(end - old)), ==, 0);
    }
    g_assert_cmpint(qidmap_map(store, 5, 5, &path), ==, 0); /* and it goes on */
    qidmap_store_close(store);
    g_assert_cmpint(load(uri, 0, first->str, NULL), ==, -EEXIST);
    fixture_remove(dir);
}

/* Nothing of a refused dump is left. */
static void refused(const char *what, const char *text, size_t size, int code)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strdup_printf("lmdb:%s/store", dir);
    qidmap_store *store = NULL;
    int e = load_bytes("memory:", QIDMAP_LOAD_LATEST, text, size, SIZE_MAX, &store);

    if (e != code)
        g_error("%s: result %d (%s), and not %d", what, e, e ? error.text : "loaded", code);
    g_assert_null(store);
    if (g_test_slow() || size % 16 == 0) {
        g_assert_cmpint(load_bytes(uri, QIDMAP_LOAD_LATEST, text, size, SIZE_MAX, NULL), ==, code);
        g_assert_cmpint(qidmap_store_open(uri, QIDMAP_OPEN_WRITE, NULL, &store, &error), ==,
                        -ENOENT);
    }
    fixture_remove(dir);
}

static void test_truncated(void)
{
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) text = dump(store);
    gsize i;

    qidmap_store_close(store);
    for (i = 0; i < text->len; i++) {
        if (i < 300 || i + 300 > text->len || text->str[i] == '\n' || text->str[i - 1] == '\n')
            refused("truncated", text->str, i, -EBADMSG);
    }
}

static void test_flipped(void)
{
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) text = dump(store);
    gsize i;

    qidmap_store_close(store);
    for (i = 0; i < text->len; i++) {
        char byte = text->str[i];
        qidmap_store *loaded = NULL;
        int e;

        text->str[i] = (char)(byte ^ 1 << i % 8);
        e = load_bytes("memory:", QIDMAP_LOAD_LATEST, text->str, text->len, SIZE_MAX, &loaded);
        if (e != -EBADMSG && e != -EPROTO) /* the version is a byte like any other */
            g_error("byte %zu changed: result %d (%s)", i, e, e ? error.text : "loaded");
        text->str[i] = byte;
    }
    g_assert_cmpint(load("memory:", 0, text->str, &store), ==, 0);
    qidmap_store_close(store);
}

static void test_reordered(void)
{
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) text = dump(store);
    g_auto(GStrv) lines = g_strsplit(text->str, "\n", -1);
    guint count = g_strv_length(lines) - 1, i;

    qidmap_store_close(store);
    for (i = 0; i < count; i++) {
        g_autofree char *all = NULL, *twice = NULL;
        char *line = lines[i];

        lines[i] = g_strdup_printf("%s\n%s", line, line);
        twice = g_strjoinv("\n", lines);
        refused("a line twice", twice, strlen(twice), -EBADMSG);
        g_free(lines[i]);
        lines[i] = line;
        if (i + 1 < count) {
            lines[i] = lines[i + 1];
            lines[i + 1] = line;
            all = g_strjoinv("\n", lines);
            refused("lines exchanged", all, strlen(all), -EBADMSG);
            lines[i + 1] = lines[i];
            lines[i] = line;
        }
    }
}

/* ---- dumps that lie, with a right checksum -----------------------------------------------------
 */

/* Replaces `from` by `to` everywhere, and puts the right end behind the rows. */
static char *lie(const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, -1);
    g_autofree char *changed = g_strjoinv(to, parts);
    char *end = g_strrstr(changed, "{\"row\":\"end\"");
    g_autoptr(GString) out = NULL;
    XXH128_canonical_t sum;
    guint64 fs = 0, affix = 0, full = 0;
    const char *line;

    g_assert_cmpuint(g_strv_length(parts), >, 1); /* there was something to replace */
    out = g_string_new_len(changed, end - changed);
    for (line = out->str; *line; line = strchr(line, '\n') + 1) {
        fs += g_str_has_prefix(line, "{\"row\":\"fs\"");
        affix += g_str_has_prefix(line, "{\"row\":\"affix\"");
        full += g_str_has_prefix(line, "{\"row\":\"full\"");
    }
    XXH128_canonicalFromHash(&sum, XXH3_128bits(out->str, out->len));
    qm_json_begin(out);
    qm_json_string(out, "row", "end");
    qm_json_u64(out, "fs_rows", fs);
    qm_json_u64(out, "affix_rows", affix);
    qm_json_u64(out, "full_rows", full);
    qm_json_hex(out, "xxh3_128", sum.digest, 16);
    qm_json_end(out);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void test_lies(void)
{
    static const struct {
        const char *from, *to, *words;
    } lies[] = {
        {"\"qid_path\":\"257\"", "\"qid_path\":\"259\"", "given twice"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"0257\"", "qid_path"},
        {"\"qid_path\":\"257\"", "\"qid_path\":257", "qid_path"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"18446744073709551616\"", "qid_path"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"-1\"", "qid_path"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"18446744073709551615\"", "given to nobody"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"9223372036854775809\"", "next_serial"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"257\",\"more\":1", "more"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"257\",\"qid_path\":\"257\"", "twice"},
        {"\"qid_path\":\"257\"", "\"qid_path\":[\"257\"]", "a kind"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"2\\u005\"", "escape"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"257\\u0000\"", "NUL"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"\\ud800\"", "surrogate"},
        {"\"qid_path\":\"257\"", "\"qid_path\":\"\xff\"", "UTF-8"},
        {"\"next_serial\":\"", "\"next_serial\":\"1\",\"x\":\"", "line 1"},
        {"\"affix_budget\":3", "\"affix_budget\":1", "budget"},
        {"\"affix_budget\":3", "\"affix_budget\":0", "affix_budget"},
        {"\"index\":4,", "\"index\":5,", "line"},
        {"\"bits\":5", "\"bits\":7", "bits"},
        {"\"policy\":\"deny\"", "\"policy\":\"ephemeral\"", "instance"},
        {"\"policy\":\"deny\"", "\"policy\":\"none\"", "policy"},
        {"\"has_full\":true", "\"has_full\":false", "full map"},
        {"\"left_budget\":true", "\"left_budget\":false", "budget"},
        {"{\"row\":\"full\",\"fs\":3,", "{\"row\":\"full\",\"fs\":4,", "full map"},
        {"{\"row\":\"full\",\"fs\":5,", "{\"row\":\"full\",\"fs\":6,", "filesystem is not there"},
        {"\"fs\":5", "\"fs\":0", "fs"},
        {"\"fs\":5", "\"fs\":16777216", "fs"},
        {"\"next_fs\":\"6\"", "\"next_fs\":\"5\"", "next_fs"},
        {"\"fs_rows\":\"5\"", "\"fs_rows\":\"6\"", "first line"},
        {"\"mount_path\":\"", "\"mount_path\":\"\\\\xzz", "mount_path"},
        {"\"mount_path\":\"", "\"mount_path\":\"\\\\x41", "mount_path"},
        {"\"mount_path\":\"\\u000a", "\"mount_path\":\"\\u000a\\u000a", "mount_path"},
        {"\"handle_type\":-7", "\"handle_type\":-2147483649", "handle_type"},
        {"\"object\":\"placeholder\"", "\"object\":\"inode\"", "d_ino"},
        {"\"row\":\"affix\"", "\"row\":\"afix\"", "row"},
        {"\"row\":\"affix\"", "\"row\":\"damaged\"", "damaged store"},
        {"\"weak\":false", "\"weak\":0", "weak"},
        {"\"weak\":false", "\"weak\":null", "a kind"},
        {"\"alias\":0", "\"alias\":9", "which is not there"},
        {"\"met\":\"", "\"met\":\"9 8", "no store"},
        {"\"met\":\"", "\"met\":\"x ", "met"},
        {"\"chosen\":false,", "", "chosen"},
    };
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) text = dump(store);
    size_t i;

    qidmap_store_close(store);
    {
        /* What tells a liar: the same without a lie is taken. */
        g_autofree char *same = lie(text->str, "\"row\":\"store\"", "\"row\":\"store\"");

        g_assert_cmpstr(same, ==, text->str);
    }
    for (i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *liar = lie(text->str, lies[i].from, lies[i].to);

        refused(lies[i].to, liar, strlen(liar), -EBADMSG);
        if (!strstr(error.text, lies[i].words) && error.code == -EBADMSG)
            g_error("%s: %s", lies[i].to, error.text);
    }
    {
        g_autofree char *newer = lie(text->str, "\"dump\":1", "\"dump\":2");

        refused("newer", newer, strlen(newer), -EPROTO);
    }
    {
        g_autofree char *blanks = g_strnfill(40000, ' ');
        g_autofree char *wide = g_strdup_printf("\"row\":\"affix\"%s", blanks);
        g_autofree char *liar = lie(text->str, "\"row\":\"affix\"", wide);

        refused("a long line", liar, strlen(liar), -EBADMSG);
    }
}

/* ---- counters ----------------------------------------------------------------------------------
 */

static void test_counters(void)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strdup_printf("lmdb:%s/store", dir);
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) old = dump(store);
    struct qidmap_stats now = {.size = sizeof(now)}, then = {.size = sizeof(then)};
    uint64_t path;

    /* Ids that were given after the dump. */
    g_assert_cmpint(qidmap_map(store, 1, UINT64_MAX, &path), ==, 0);
    g_assert_cmpint(qidmap_map(store, 5, 1000, &path), ==, 0);
    qidmap_store_stats(store, &then, NULL);
    qidmap_store_close(store);
    g_assert_cmpint(load(uri, 0, old->str, &store), ==, 0);
    g_assert_cmpuint(result.jumped, ==, 1);
    qidmap_store_stats(store, &now, NULL);
    g_assert_cmpuint(now.next_serial, >, then.next_serial + (1u << 30));
    g_assert_cmpuint(now.next_affix, >, then.next_affix + 1000);
    g_assert_cmpuint(now.next_fs, >, then.next_fs + 1000);
    g_assert_cmpuint(now.next_instance, >, then.next_instance + 1000);
    g_assert_cmpint(qidmap_map(store, 5, 7, &path), ==, 0);
    qidmap_store_close(store);
    store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
    qidmap_store_close(store);
    fixture_remove(dir);
}

static long fail_to_give(void *data G_GNUC_UNUSED, void *bytes G_GNUC_UNUSED,
                         size_t size G_GNUC_UNUSED)
{
    return -EIO;
}

static int fail_to_write(void *data G_GNUC_UNUSED, const void *bytes G_GNUC_UNUSED,
                         size_t size G_GNUC_UNUSED)
{
    return -ENOSPC;
}

static void test_errors(void)
{
    struct qidmap_load_options options = {.size = sizeof(options), .read = fail_to_give};
    qidmap_store *store = sample("memory:");

    g_assert_cmpint(qidmap_dump(store, fail_to_write, NULL, NULL, &error), ==, -ENOSPC);
    g_assert_cmpint(qidmap_dump(store, NULL, NULL, NULL, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_dump(NULL, append, NULL, NULL, &error), ==, -EINVAL);
    qidmap_store_close(store);
    g_assert_cmpint(qidmap_load("memory:", &options, NULL, &store, &error), ==, -EIO);
    g_assert_cmpint(qidmap_load("what:", &options, NULL, &store, &error), ==, -EINVAL);
    options.flags = 64;
    g_assert_cmpint(qidmap_load("memory:", &options, NULL, &store, &error), ==, -EINVAL);
    g_assert_cmpint(qidmap_load("memory:", NULL, NULL, &store, &error), ==, -EINVAL);
}

/* What tests/data/make-golden.sh keeps. */
static int golden(void)
{
    qidmap_store *store = sample("memory:");
    g_autoptr(GString) text = dump(store);

    qidmap_store_close(store);
    return fwrite(text->str, 1, text->len, stdout) == text->len && fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--golden") == 0)
        return golden();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dump/round-trip", test_round_trip);
    g_test_add_func("/dump/truncated", test_truncated);
    g_test_add_func("/dump/flipped", test_flipped);
    g_test_add_func("/dump/reordered", test_reordered);
    g_test_add_func("/dump/lies", test_lies);
    g_test_add_func("/dump/counters", test_counters);
    g_test_add_func("/dump/errors", test_errors);
    return g_test_run();
}
