/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a dump from anywhere. Promise: no bytes make the reader read beyond them, and what
 * is loaded is a store that verify calls right, and whose dump is loaded again to the same.
 *
 * Input: a byte; where it is odd, the closing line is made to fit, so that the rows are reached.
 */
#include "config.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/dumpline.h"
#include "store/qidmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    const char *text;
    size_t size, at;
};

static long give(void *data, void *bytes, size_t size)
{
    struct source *s = data;
    size_t n = MIN(size, s->size - s->at);

    memcpy(bytes, s->text + s->at, n);
    s->at += n;
    return (long)n;
}

static int append(void *data, const void *bytes, size_t size)
{
    g_string_append_len(data, bytes, (gssize)size);
    return 0;
}

/* The end that the rows want: behind the last newline. */
static void close_dump(GString *text)
{
    g_autoptr(GString) end = g_string_new(NULL);
    struct qm_meta counts;
    XXH128_canonical_t sum;
    const char *line, *next;

    memset(&counts, 0, sizeof(counts));
    for (line = text->str; (next = memchr(line, '\n', (size_t)(text->str + text->len - line)));
         line = next + 1) {
        counts.fs_rows += g_str_has_prefix(line, "{\"row\":\"fs\"");
        counts.affix_rows += g_str_has_prefix(line, "{\"row\":\"affix\"");
        counts.full_rows += g_str_has_prefix(line, "{\"row\":\"full\"");
    }
    g_string_truncate(text, (gsize)(line - text->str));
    XXH128_canonicalFromHash(&sum, XXH3_128bits(text->str, text->len));
    qm_line_end(end, &counts, sum.digest);
    g_string_append_len(text, end->str, (gssize)end->len);
}

static GString *load_and_dump(const char *text, size_t size)
{
    struct source s = {text, size, 0};
    struct qidmap_load_options options = {
        .size = sizeof(options), .flags = QIDMAP_LOAD_LATEST, .read = give, .data = &s};
    struct qidmap_verify_result result = {.size = sizeof(result)};
    qidmap_store *store = NULL;
    GString *out;

    if (qidmap_load("memory:", &options, NULL, &store, NULL) != 0)
        return NULL;
    g_assert_cmpint(qidmap_store_verify(store, NULL, &result, NULL), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
    out = g_string_new(NULL);
    g_assert_cmpint(qidmap_dump(store, append, NULL, out, NULL), ==, 0);
    qidmap_store_close(store);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GString) text = NULL;
    GString *first, *second;

    if (size < 1 || size > 1 << 20)
        return 0;
    text = g_string_new_len((const char *)data + 1, (gssize)size - 1);
    if (data[0] & 1)
        close_dump(text);
    first = load_and_dump(text->str, text->len);
    if (!first)
        return 0;
    second = load_and_dump(first->str, first->len);
    g_assert_nonnull(second);
    g_assert_cmpstr(first->str, ==, second->str);
    g_string_free(first, TRUE);
    g_string_free(second, TRUE);
    return 0;
}
