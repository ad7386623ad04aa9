/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what the writer of manifests writes, the reader gives back, whatever bytes names are of,
 * and written again it is the same to the byte; whatever is cut off, altered, out of order or out
 * of its range is refused, and never read to the end; a giant line takes bounded memory. Names of a
 * directory come sorted and once each, however little memory there is for them.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <glib.h>
#include <xxhash.h>

#include "tools/manifest.h"
#include "tools/names.h"

/* ---- helpers ---------------------------------------------------------------------------------
 */

static int file_of(const void *bytes, gsize size)
{
    int fd = memfd_create("manifest", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, bytes, size), ==, (gssize)size);
    g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
    return fd;
}

static GString *content(int fd)
{
    GString *all = g_string_new(NULL);
    char piece[4096];
    ssize_t got;

    lseek(fd, 0, SEEK_SET);
    while ((got = read(fd, piece, sizeof piece)) > 0) {
        g_string_append_len(all, piece, got);
    }
    return all;
}

static const struct manifest_header header = {{1, 2, 3, 255}, "/srv/od\"d\n\xff", -5};
static const struct manifest_fs first_fs = {1, 7, {QIDMAP_FSID_UUID, 3, {1, 2, 254}}, "ext4", ""};
static const struct manifest_file root = {"", MANIFEST_DIR, 1, 64, 4096, 1, 2, 1, 0, FALSE};

static const struct manifest_file files[] = {
    {"", MANIFEST_DIR, 1, MANIFEST_ID_MIN, 4096, 1795279362, 0, 1, 0, FALSE},
    {"\x01\x1f", MANIFEST_FIFO, 1, 0, 0, 0, 0, 1, 0, FALSE},
    {"a", MANIFEST_DIR, 1, MANIFEST_ID_END - 1, 0, G_MININT64, 999999999, 1, 0, TRUE},
    {"a/\"quoted\"", MANIFEST_FILE, 2, 420, G_MAXUINT64, -1, 999999999, 2, 13, FALSE},
    {"a/new\nline", MANIFEST_FILE, 2, 420, G_MAXUINT64, -1, 999999999, 2, 13, FALSE},
    {"a.b", MANIFEST_SYMLINK, 1, 0, 3, G_MAXINT64, 1, G_MAXUINT32, G_MAXUINT64, FALSE},
    {"back\\slash", MANIFEST_CHAR, 1, 33, 0, 0, 0, 1, 0, FALSE},
    {"back\\xff", MANIFEST_BLOCK, 1, 34, 0, 0, 0, 1, 0, FALSE},
    {"gr\xc3\xbc\xc3\x9f", MANIFEST_SOCKET, 1, 35, 0, 0, 0, 1, 0, FALSE},
    {"gr\xc3\xbc\xc3\xff", MANIFEST_UNKNOWN, 0, 0, 0, 0, 0, 1, 0, FALSE},
    {"\xed\xa0\x80", MANIFEST_FILE, 1, 0, 0, 0, 0, 1, 0, FALSE},
    {"\xff", MANIFEST_FILE, 1, 0, 0, 0, 0, 1, 0, FALSE},
};

/* A manifest of `all`, in their order. */
static GString *manifest_of(const struct manifest_file *all, gsize count)
{
    const struct manifest_fs second = {2, 0, {0, 0, {0}}, "", "a/\"quoted\""};
    int fd = memfd_create("manifest", MFD_CLOEXEC);
    manifest_writer *writer = manifest_writer_new(fd, &header);

    manifest_writer_fs(writer, &first_fs);
    for (gsize i = 0; i < count; i++) {
        if (i == 3) {
            manifest_writer_fs(writer, &second);
        }
        g_assert_cmpint(manifest_writer_file(writer, &all[i]), ==, 0);
    }
    g_assert_cmpint(manifest_writer_end(writer), ==, 0);
    manifest_writer_free(writer);
    GString *text = content(fd);
    close(fd);
    return text;
}

/* Reads all of it; 0 or the error. */
static int read_bytes(const void *bytes, gsize size, struct qidmap_error *error)
{
    manifest_reader *reader;
    struct manifest_file file;
    int code = manifest_reader_new(file_of(bytes, size), &reader, error);

    if (code < 0) {
        return code;
    }
    while ((code = manifest_reader_next(reader, &file, error)) > 0) {
        g_assert_nonnull(file.path);
    }
    /* what failed once fails again */
    g_assert_cmpint(manifest_reader_next(reader, &file, NULL), ==, code);
    manifest_reader_close(reader);
    return code;
}

static void refused(const GString *text, int code, const char *why)
{
    struct qidmap_error error = {0};
    int got = read_bytes(text->str, text->len, &error);

    if (got != code || strstr(error.text, why) == NULL) {
        g_error("expected %d and \"%s\", not %d: %s", code, why, got, error.text);
    }
}

/* Lines, and a last one with the right counts and sum. */
static GString *with_end(const char *lines, guint names, guint ids, guint unread)
{
    GString *text = g_string_new(lines);
    XXH128_canonical_t sum;

    XXH128_canonicalFromHash(&sum, XXH3_128bits(text->str, text->len));
    g_string_append_printf(text,
                           "{\"row\":\"end\",\"files\":\"%u\",\"ids\":\"%u\",\"unread\":\"%u\","
                           "\"xxh3_128\":\"",
                           names, ids, unread);
    for (gsize i = 0; i < sizeof sum.digest; i++) {
        g_string_append_printf(text, "%02x", sum.digest[i]);
    }
    g_string_append(text, "\"}\n");
    return text;
}

#define HEADER                                                                                     \
    "{\"row\":\"manifest\",\"version\":1,\"store\":\"00112233445566778899aabbccddeeff\","          \
    "\"tree\":\"/\",\"time\":0}\n"
#define FS "{\"row\":\"fs\",\"n\":1,\"fs\":1,\"identity\":\"2:00\",\"type\":\"x\",\"path\":\"\"}\n"
#define ROOT                                                                                       \
    "{\"row\":\"file\",\"path\":\"\",\"type\":\"dir\",\"fs\":1,\"size\":\"0\",\"mtime\":\"0."      \
    "000000000\"}\n"

/* ---- tests -----------------------------------------------------------------------------------
 */

static void test_round_trip(void)
{
    g_autoptr(GString) text = manifest_of(files, G_N_ELEMENTS(files));
    g_autoptr(manifest_reader) reader = NULL;
    struct qidmap_error error = {0};
    struct manifest_file file;

    g_assert_true(g_utf8_validate(text->str, (gssize)text->len, NULL));
    g_assert_cmpint(manifest_reader_new(file_of(text->str, text->len), &reader, &error), ==, 0);
    g_assert_cmpuint(manifest_reader_expected(reader), ==, G_N_ELEMENTS(files)); /* of a file */
    g_assert_cmpmem(manifest_reader_header(reader)->store, 16, header.store, 16);
    g_assert_cmpstr(manifest_reader_header(reader)->tree, ==, header.tree);
    g_assert_cmpint(manifest_reader_header(reader)->time, ==, header.time);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        const struct manifest_file *wanted = &files[i];
        g_assert_cmpint(manifest_reader_next(reader, &file, &error), ==, 1);
        g_assert_cmpstr(file.path, ==, wanted->path);
        g_assert_cmpint(file.type, ==, wanted->type);
        g_assert_cmpuint(file.fs, ==, wanted->fs);
        g_assert_cmpuint(file.id, ==, wanted->id);
        g_assert_cmpuint(file.size, ==, wanted->size);
        g_assert_cmpint(file.mtime_s, ==, wanted->mtime_s);
        g_assert_cmpuint(file.mtime_ns, ==, wanted->mtime_ns);
        g_assert_cmpuint(file.links, ==, wanted->links);
        g_assert_cmpuint(file.link, ==, wanted->link);
        g_assert_cmpint(file.unread, ==, wanted->unread);
    }
    g_assert_cmpuint(manifest_reader_end(reader)->files, ==, 0);
    g_assert_cmpint(manifest_reader_next(reader, &file, &error), ==, 0);
    g_assert_cmpuint(manifest_reader_end(reader)->files, ==, G_N_ELEMENTS(files));
    g_assert_cmpuint(manifest_reader_end(reader)->ids, ==, 7);
    g_assert_cmpuint(manifest_reader_end(reader)->unread, ==, 2);
    g_assert_cmpuint(manifest_reader_fs(reader, 1)->fs, ==, 7);
    g_assert_cmpstr(manifest_reader_fs(reader, 1)->type, ==, "ext4");
    g_assert_cmpmem(&manifest_reader_fs(reader, 1)->fsid, sizeof first_fs.fsid, &first_fs.fsid,
                    sizeof first_fs.fsid);
    g_assert_cmpuint(manifest_reader_fs(reader, 2)->fsid.kind, ==, 0);
    g_assert_cmpstr(manifest_reader_fs(reader, 2)->path, ==, "a/\"quoted\"");
    g_assert_null(manifest_reader_fs(reader, 0));
    g_assert_null(manifest_reader_fs(reader, 3));
}

/* How many names come is known beforehand where the last line is there, and nowhere else. */
static void test_expected(void)
{
    g_autoptr(GString) text = manifest_of(files, G_N_ELEMENTS(files));
    struct qidmap_error error = {0};
    int ends[2];

    for (gsize less = 0; less < 200; less++) {
        g_autoptr(manifest_reader) reader = NULL;
        g_assert_cmpint(manifest_reader_new(file_of(text->str, text->len - less), &reader, &error),
                        ==, 0);
        g_assert_cmpuint(manifest_reader_expected(reader), ==, less == 0 ? G_N_ELEMENTS(files) : 0);
    }
    g_autoptr(manifest_reader) reader = NULL;
    g_assert_cmpint(pipe(ends), ==, 0);
    g_assert_cmpint(write(ends[1], text->str, text->len), ==, (gssize)text->len);
    close(ends[1]);
    g_assert_cmpint(manifest_reader_new(ends[0], &reader, &error), ==, 0);
    g_assert_cmpuint(manifest_reader_expected(reader), ==, 0);
}

static void test_truncated(void)
{
    g_autoptr(GString) text = manifest_of(files, G_N_ELEMENTS(files));

    for (gsize size = 0; size < text->len; size++) {
        g_assert_cmpint(read_bytes(text->str, size, NULL), ==, -EBADMSG);
    }
}

static void test_altered(void)
{
    g_autoptr(GString) text = manifest_of(files, G_N_ELEMENTS(files));

    for (gsize at = 0; at < text->len; at++) {
        char was = text->str[at];
        static const char others[] = {'0', '\n', '"', '\\', '\0', ' '};
        for (gsize i = 0; i <= G_N_ELEMENTS(others); i++) {
            text->str[at] = i < G_N_ELEMENTS(others) ? others[i] : (char)(was ^ 1);
            if (text->str[at] != was) {
                int code = read_bytes(text->str, text->len, NULL);
                g_assert_true(code == -EBADMSG || code == -EPROTO);
            }
        }
        text->str[at] = was;
    }
    g_assert_cmpint(read_bytes(text->str, text->len, NULL), ==, 0);
    g_string_append(text, "\n");
    refused(text, -EBADMSG, "after the last");
}

static void refused_order(const char *first, enum manifest_type type, const char *second,
                          const char *why)
{
    const struct manifest_file all[] = {
        root,
        {first, type, type == MANIFEST_UNKNOWN ? 0 : 1, 0, 0, 0, 0, 1, 0, FALSE},
        {second, MANIFEST_FILE, 1, 0, 0, 0, 0, 1, 0, FALSE}};
    g_autoptr(GString) text = manifest_of(all, 3);
    if (why != NULL) {
        refused(text, -EBADMSG, why);
    } else {
        g_assert_cmpint(read_bytes(text->str, text->len, NULL), ==, 0);
    }
}

static void test_order(void)
{
    refused_order("a", MANIFEST_DIR, "a/b", NULL);
    refused_order("a", MANIFEST_DIR, "a.b", NULL);
    refused_order("b", MANIFEST_DIR, "a", "do not ascend");
    refused_order("a", MANIFEST_DIR, "a", "do not ascend");
    refused_order("a", MANIFEST_DIR, "", "do not ascend");
    refused_order("a", MANIFEST_FILE, "a/b", "no directory");
    refused_order("a", MANIFEST_UNKNOWN, "a/b", "no directory");
    refused_order("a", MANIFEST_DIR, "b/c", "did not come before");
    refused_order("ab", MANIFEST_DIR, "ab/c/d", "did not come before");
    refused_order("a", MANIFEST_DIR, "ab/c", "did not come before");
    refused_order("a", MANIFEST_DIR, "/b", "not a path");
    refused_order("a", MANIFEST_DIR, "b/", "not a path");
    refused_order("a", MANIFEST_DIR, "a//b", "not a path");
    refused_order("a", MANIFEST_DIR, "a/.", "not a path");
    refused_order("a", MANIFEST_DIR, "a/..", "not a path");
    refused_order("..", MANIFEST_DIR, "../a", "not a path");

    g_autoptr(GString) headless = manifest_of(&files[1], 1);
    refused(headless, -EBADMSG, "does not come first");
    g_autoptr(GString) empty = manifest_of(files, 0);
    refused(empty, -EBADMSG, "itself is missing");
    g_autoptr(GString) file_root =
        manifest_of((struct manifest_file[]){{"", MANIFEST_FILE, 1, 0, 0, 0, 0, 1, 0, FALSE},
                                             {"a", MANIFEST_FILE, 1, 0, 0, 0, 0, 1, 0, FALSE}},
                    2);
    refused(file_root, -EBADMSG, "no directory");
}

/* One line in the place of a file's. */
static void refused_line(const char *line, const char *why)
{
    g_autofree char *lines = g_strconcat(HEADER FS ROOT, line, "\n", NULL);
    g_autoptr(GString) text = with_end(lines, 2, strstr(line, "\"id\"") != NULL, 0);
    if (why != NULL) {
        refused(text, -EBADMSG, why);
    } else {
        g_assert_cmpint(read_bytes(text->str, text->len, NULL), ==, 0);
    }
}
#define FILE_LINE(id, size, mtime, rest)                                                           \
    "{\"row\":\"file\",\"path\":\"a\",\"type\":\"file\",\"fs\":1" id ",\"size\":\"" size           \
    "\",\"mtime\":\"" mtime "\"" rest "}"
#define ID(n) ",\"id\":\"" n "\""

static void test_ranges(void)
{
    refused_line(FILE_LINE("", "0", "0.000000000", ""), NULL);
    refused_line(FILE_LINE(ID("32"), "0", "0.000000000", ""), NULL);
    refused_line(FILE_LINE(ID("18446744073709551359"), "0", "0.000000000", ""), NULL);
    refused_line(FILE_LINE(ID("31"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("0"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("18446744073709551360"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("18446744073709551615"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("18446744073709551648"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("99999999999999999999999"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("-32"), "0", "0.000000000", ""), "id is out of");
    refused_line(FILE_LINE(ID("032"), "0", "0.000000000", ""), "not written as");
    refused_line(FILE_LINE("", "18446744073709551616", "0.000000000", ""), "size");
    refused_line(FILE_LINE("", "00", "0.000000000", ""), "not written as");
    refused_line(FILE_LINE("", "0", "0.1000000000", ""), "mtime");
    refused_line(FILE_LINE("", "0", "0.00000000", ""), "not written as");
    refused_line(FILE_LINE("", "0", "-0.000000000", ""), "not written as");
    refused_line(FILE_LINE("", "0", "9223372036854775808.000000000", ""), "mtime");
    refused_line(FILE_LINE("", "0", "-9223372036854775809.000000000", ""), "mtime");
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"links\":2,\"link\":\"0\""), NULL);
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"links\":1,\"link\":\"0\""), "links");
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"links\":0,\"link\":\"0\""), "links");
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"links\":4294967296,\"link\":\"0\""),
                 "links");
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"unread\":true"), "for directories");
    refused_line(FILE_LINE("", "0", "0.000000000", ",\"more\":1"), "not written as");
    refused_line(FILE_LINE(" ", "0", "0.000000000", ""), "size");
    refused_line("{\"row\":\"file\",\"path\":\"\\u0000\",\"type\":\"unknown\"}", "path");
    refused_line("{\"row\":\"file\",\"path\":\"\\u0041\",\"type\":\"unknown\"}", "not written as");
    refused_line("{\"row\":\"file\",\"path\":\"\\\\x41\",\"type\":\"unknown\"}", "not written as");
    refused_line("{\"row\":\"file\",\"path\":\"\\\\x00\",\"type\":\"unknown\"}", "path");
    refused_line("{\"row\":\"file\",\"path\":\"\\\\xc3\\\\xbc\",\"type\":\"unknown\"}",
                 "not written as");
    refused_line("{\"row\":\"file\",\"path\":\"\xff\",\"type\":\"unknown\"}", "not written as");
    refused_line("{\"row\":\"file\",\"path\":\"a\\n\",\"type\":\"unknown\"}", "path");
    refused_line("{\"row\":\"file\",\"path\":\"a\",\"type\":\"door\"}", "type");
    refused_line("{\"row\":\"file\",\"path\":\"a\",\"type\":\"file\",\"fs\":2,\"size\":\"0\","
                 "\"mtime\":\"0.000000000\"}",
                 "no filesystem");
    refused_line("{\"row\":\"fs\",\"n\":3,\"fs\":1,\"identity\":\"\",\"type\":\"\",\"path\":\"\"}",
                 "counted from 1");
    refused_line("{\"row\":\"fs\",\"n\":2,\"fs\":1,\"identity\":\"0:00\",\"type\":\"\",\"path\":"
                 "\"\"}",
                 "identity");
    refused_line("{\"row\":\"fs\",\"n\":2,\"fs\":1,\"identity\":\"\",\"type\":\"\",\"path\":"
                 "\"../a\"}",
                 "not a path");
    refused_line("", "no line");
    refused_line("[[[[[[[[", "no line");
    refused_line("{\"row\":\"manifest\",\"version\":1,\"store\":\"00112233445566778899aabbccddee"
                 "ff\",\"tree\":\"/\",\"time\":0}",
                 "second first");

    g_autofree char *long_id = g_strnfill(2 * QIDMAP_FSID_BYTES + 2, '0');
    g_autofree char *long_fs = g_strdup_printf(
        "{\"row\":\"fs\",\"n\":2,\"fs\":1,\"identity\":\"2:%s\",\"type\":\"\",\"path\":\"\"}",
        long_id);
    refused_line(long_fs, "identity");

    g_autoptr(GString) counts = with_end(HEADER FS ROOT, 2, 0, 0);
    refused(counts, -EBADMSG, "counts");
    g_autoptr(GString) ids = with_end(HEADER FS ROOT, 1, 1, 0);
    refused(ids, -EBADMSG, "counts");
    g_autoptr(GString) newer = g_string_new("{\"row\":\"manifest\",\"version\":2,\"other\":1}\n");
    refused(newer, -EPROTO, "newer");
    g_autoptr(GString) dump = g_string_new("{\"row\":\"store\",\"dump\":1}\n");
    refused(dump, -EBADMSG, "no line");
    g_autoptr(GString) beheaded = with_end(FS ROOT, 1, 0, 0);
    refused(beheaded, -EBADMSG, "does not begin");
}

/* A path of `size` bytes, in names of 100. */
static char *long_path(gsize size)
{
    char *path = g_strnfill(size, 'x');
    for (gsize at = 100; at + 1 < size; at += 101) {
        path[at] = '/';
    }
    return path;
}

static void test_giant(void)
{
    g_autofree char *name = g_strnfill(MANIFEST_PATH_MAX, '\x01');
    const struct manifest_file longest[] = {root,
                                            {name, MANIFEST_UNKNOWN, 0, 0, 0, 0, 0, 1, 0, FALSE}};
    g_autoptr(GString) text = manifest_of(longest, 2);
    g_assert_cmpint(read_bytes(text->str, text->len, NULL), ==, 0);

    g_autofree char *too_long = g_strnfill(MANIFEST_PATH_MAX + 1, 'a');
    const struct manifest_file beyond[] = {
        root, {too_long, MANIFEST_UNKNOWN, 0, 0, 0, 0, 0, 1, 0, FALSE}};
    g_autoptr(GString) more = manifest_of(beyond, 2);
    refused(more, -EBADMSG, "path is no path");

    /* 64 MiB without a newline: refused long before they are read */
    int fd = memfd_create("manifest", MFD_CLOEXEC);
    struct rusage before, after;
    struct qidmap_error error;
    manifest_reader *reader;
    g_assert_cmpint(ftruncate(fd, 64 << 20), ==, 0);
    getrusage(RUSAGE_SELF, &before);
    g_assert_cmpint(manifest_reader_new(fd, &reader, &error), ==, -EBADMSG);
    getrusage(RUSAGE_SELF, &after);
    g_assert_nonnull(strstr(error.text, "too long"));
    g_assert_cmpint(after.ru_maxrss - before.ru_maxrss, <, 40 << 10);

    /* directories to the depth that the longest path allows, one in the other */
    g_autofree char *deep = long_path(100000);
    fd = memfd_create("manifest", MFD_CLOEXEC);
    manifest_writer *writer = manifest_writer_new(fd, &header);
    manifest_writer_fs(writer, &first_fs);
    manifest_writer_file(writer, &root);
    for (gsize at = 100; at < 100000; at += 101) {
        g_autofree char *path = g_strndup(deep, at);
        const struct manifest_file dir = {path, MANIFEST_DIR, 1, 0, 0, 0, 0, 1, 0, FALSE};
        manifest_writer_file(writer, &dir);
    }
    g_assert_cmpint(manifest_writer_end(writer), ==, 0);
    manifest_writer_free(writer);
    g_autoptr(GString) tower = content(fd);
    close(fd);
    g_assert_cmpint(read_bytes(tower->str, tower->len, NULL), ==, 0);
}

static int compare_parts(const char *a, const char *b)
{
    g_auto(GStrv) x = g_strsplit(a, "/", -1), y = g_strsplit(b, "/", -1);
    guint i = 0;
    while (x[i] != NULL && y[i] != NULL) {
        int order = strcmp(x[i], y[i]);
        if (order != 0) {
            return order < 0 ? -1 : 1;
        }
        i++;
    }
    return x[i] != NULL ? 1 : y[i] != NULL ? -1 : 0;
}

static void test_compare(void)
{
    static const char letters[] = "a/b.\x01\xff-0";

    for (int round = 0; round < 20000; round++) {
        char paths[2][9] = {{0}};
        for (int side = 0; side < 2; side++) {
            int size = g_random_int_range(1, 8);
            for (int i = 0; i < size; i++) {
                paths[side][i] = letters[g_random_int_range(0, sizeof letters - 1)];
            }
        }
        g_assert_cmpint(manifest_path_compare(paths[0], paths[1]), ==,
                        compare_parts(paths[0], paths[1]));
    }
}

static void test_disk_full(void)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        g_test_skip("no /dev/full");
        return;
    }
    manifest_writer *writer = manifest_writer_new(fd, &header);
    manifest_writer_fs(writer, &first_fs);
    manifest_writer_file(writer, &root);
    g_assert_cmpint(manifest_writer_end(writer), ==, -ENOSPC);
    g_assert_cmpint(manifest_writer_file(writer, &root), ==, -ENOSPC);
    manifest_writer_free(writer);
    close(fd);
}

/* ---- names -----------------------------------------------------------------------------------
 */

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *some_name(GRand *rand)
{
    int size = g_rand_int_range(rand, 1, 40);
    char *name = g_malloc0((gsize)size + 1);
    for (int i = 0; i < size; i++) {
        name[i] = (char)g_rand_int_range(rand, 1, 256);
    }
    return name;
}

/* Adds `count` names, some of them twice, and gives them sorted, once each. */
static GPtrArray *fill_names(names *list, GRand *rand, guint count)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < count; i++) {
        char *name = some_name(rand);
        g_ptr_array_add(all, name);
        g_assert_cmpint(names_add(list, name), ==, 0);
        if (i % 100 == 0) {
            g_assert_cmpint(names_add(list, name), ==, 0);
        }
    }
    g_assert_cmpint(names_sort(list), ==, 0);
    g_ptr_array_sort(all, compare_names);
    for (guint i = 1; i < all->len;) {
        if (strcmp(all->pdata[i - 1], all->pdata[i]) == 0) {
            g_ptr_array_remove_index(all, i);
        } else {
            i++;
        }
    }
    return all;
}

static void expect_names(names *list, const GPtrArray *all, guint from, guint to)
{
    const char *name;
    for (guint i = from; i < to; i++) {
        g_assert_cmpint(names_next(list, &name), ==, 1);
        g_assert_cmpstr(name, ==, all->pdata[i]);
    }
    if (to == all->len) {
        g_assert_cmpint(names_next(list, &name), ==, 0);
        g_assert_cmpint(names_next(list, &name), ==, 0);
    }
}

static void test_names(void)
{
    static const gsize budgets[] = {0, 600000, 64 << 20};
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);

    for (gsize b = 0; b < G_N_ELEMENTS(budgets); b++) {
        names_pool *pool = names_pool_new(budgets[b]);
        names *outer = names_new(pool);
        g_autoptr(GPtrArray) outer_all = fill_names(outer, rand, 40000);
        expect_names(outer, outer_all, 0, outer_all->len / 2);
        for (guint count = 0; count <= 40000; count += 20000) { /* as directories below it are */
            names *inner = names_new(pool);
            g_autoptr(GPtrArray) inner_all = fill_names(inner, rand, count);
            expect_names(inner, inner_all, 0, count == 20000 ? 5 : inner_all->len);
            names_free(inner);
        }
        expect_names(outer, outer_all, outer_all->len / 2, outer_all->len);
        names_free(outer);
        names_pool_free(pool);
    }
}

static void test_names_no_room(void)
{
    g_setenv("TMPDIR", "/nonexistent", TRUE);
    names_pool *pool = names_pool_new(0);
    names *list = names_new(pool);
    int code = 0;

    for (guint i = 0; i < 100000 && code == 0; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        code = names_add(list, name);
    }
    g_assert_cmpint(code, ==, -ENOENT);
    names_free(list);
    names_pool_free(pool);
    g_unsetenv("TMPDIR");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/manifest/round-trip", test_round_trip);
    g_test_add_func("/manifest/expected", test_expected);
    g_test_add_func("/manifest/truncated", test_truncated);
    g_test_add_func("/manifest/altered", test_altered);
    g_test_add_func("/manifest/order", test_order);
    g_test_add_func("/manifest/ranges", test_ranges);
    g_test_add_func("/manifest/giant", test_giant);
    g_test_add_func("/manifest/compare", test_compare);
    g_test_add_func("/manifest/disk-full", test_disk_full);
    g_test_add_func("/names/sorted", test_names);
    g_test_add_func("/names/no-room", test_names_no_room);
    return g_test_run();
}
