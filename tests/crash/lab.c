/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See lab.h. Knows nothing of how a crash was made. */
#include "config.h"

#include "tests/crash/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t lab_random(struct lab_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull; /* a counter, well mixed */

    z = (z ^ z >> 32) * 0xd6e8feb86659fd93ull;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93ull;
    return z ^ z >> 32;
}

uint64_t lab_below(struct lab_random *r, uint64_t n)
{
    return n ? lab_random(r) % n : 0;
}

double lab_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

void lab_identity(uint32_t key, struct qidmap_identity *identity)
{
    memset(identity, 0, sizeof(*identity));
    identity->size = sizeof(*identity);
    identity->policy = key >= LAB_HANDLE_KEY ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_AFFIX;
    identity->count = 1;
    identity->superblock = 0x800u + key;
    identity->fsid[0].kind = QIDMAP_FSID_UUID;
    identity->fsid[0].size = 16;
    memset(identity->fsid[0].bytes, 0x51, 16);
    memcpy(identity->fsid[0].bytes, &key, sizeof(key));
    g_strlcpy(identity->hints.type, "ext4", sizeof(identity->hints.type));
    g_snprintf(identity->hints.source, sizeof(identity->hints.source), "/dev/crash%u", key);
    g_snprintf(identity->hints.mount_path, sizeof(identity->hints.mount_path), "/mnt/%u", key);
}

void lab_object(const struct lab_told *told, uint32_t fs, struct qidmap_object *object)
{
    memset(object, 0, sizeof(*object));
    object->fs = fs;
    object->kind = (uint8_t)told->object_kind;
    if (told->object_kind == QIDMAP_OBJECT_HANDLE) {
        object->handle_type = 1;
        object->handle_size = 16;
        memcpy(object->handle, &told->ino, 8);
        memcpy(object->handle + 8, &told->ino2, 8);
    } else {
        object->ino = told->ino;
        object->ino2 = told->object_kind == QIDMAP_OBJECT_PLACEHOLDER ? told->ino2 : 0;
    }
}

struct lab_told *lab_journal_read(const char *path, size_t *count, GString *why)
{
    g_autoptr(GError) error = NULL;
    char *bytes;
    gsize size;

    if (!g_file_get_contents(path, &bytes, &size, &error)) {
        g_string_append(why, error->message);
        return NULL;
    }
    *count = size / sizeof(struct lab_told);
    return (struct lab_told *)(void *)bytes;
}

/* ---- the contract ---------------------------------------------------------------------------- */

struct check {
    const char *uri;
    const struct lab_told *told;
    size_t count;
    uint64_t position;
    struct lab_random random;
    qidmap_store *store;
    GHashTable *numbers; /* key -> fs number in the store as it is now */
    GHashTable *owner;   /* id -> index into `told`, plus 1 */
    GString *why;
};

static gboolean counts(const struct check *c, size_t i)
{
    return c->told[i].position <= c->position;
}

static gboolean G_GNUC_PRINTF(2, 3) broken(struct check *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_string_append_vprintf(c->why, format, args);
    va_end(args);
    return FALSE;
}

void lab_prepare(const char *uri)
{
    if (g_str_has_prefix(uri, "xattr:")) {
        g_autofree char *parent = g_path_get_dirname(uri + 6);
        int fd = -1;

        (void)mkdir(uri + 6, 0700);
        fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            (void)fsync(fd);
            close(fd);
        }
    }
}

static gboolean open_store(struct check *c, gboolean anything_told, gboolean *opened)
{
    struct qidmap_error error = {0, ""};
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    int e;

    params.affix_budget = 4;
    if (!anything_told)
        lab_prepare(c->uri);
    e = qidmap_store_open(c->uri, QIDMAP_OPEN_WRITE, NULL, &c->store, &error);
    *opened = e == 0;
    if (e == -ENOENT && !anything_told)
        e = qidmap_store_open(c->uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, &params, &c->store,
                              &error);
    return e == 0 || broken(c, "does not open: %s", error.text);
}

/* Every row, and that no id and no object comes twice. */
static gboolean check_rows(struct check *c)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct qidmap_error error = {0, ""};
    struct qidmap_row row;
    qidmap_iter *iter;
    gboolean ok = TRUE;
    int e = qidmap_iter_open(c->store, &iter, &error);

    if (e != 0)
        return broken(c, "cannot be walked: %s", error.text);
    while (ok && (e = qidmap_iter_next(iter, &row, &error)) == 1) {
        char *one, *two;

        if (row.kind == QIDMAP_ROW_FS) {
            one = g_strdup_printf("fs %u", row.fs);
            two = g_strdup_printf("fs %u again", row.fs);
        } else if (row.kind == QIDMAP_ROW_AFFIX) {
            one = g_strdup_printf("affix %u", row.index);
            two = g_strdup_printf("range %u/%u/%" G_GINT64_MODIFIER "x", row.fs, row.bits,
                                  (guint64)row.top);
        } else {
            g_autofree char *handle = g_base64_encode(row.object.handle, row.object.handle_size);

            one = g_strdup_printf("id %" G_GUINT64_FORMAT, (guint64)row.path);
            two = g_strdup_printf("object %u/%u/%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT "/%s",
                                  row.fs, row.object.kind, (guint64)row.object.ino,
                                  (guint64)row.object.ino2, handle);
        }
        if (g_hash_table_contains(seen, one) || g_hash_table_contains(seen, two))
            ok = broken(c, "comes twice: %s, %s", one, two);
        g_hash_table_add(seen, one);
        g_hash_table_add(seen, two);
    }
    qidmap_iter_close(iter);
    if (ok && e < 0)
        ok = broken(c, "cannot be walked: %s", error.text);
    return ok;
}

/* Number of an invented filesystem, 0: none. */
static uint32_t number_of(struct check *c, uint32_t key)
{
    gpointer known = g_hash_table_lookup(c->numbers, GUINT_TO_POINTER(key));
    struct qidmap_identity identity;
    struct qidmap_error error;
    uint32_t fs = 0;

    if (known)
        return GPOINTER_TO_UINT(known);
    lab_identity(key, &identity);
    if (qidmap_recognise(c->store, &identity, 1, &fs, &error) != 0 || fs == 0)
        return 0;
    g_hash_table_insert(c->numbers, GUINT_TO_POINTER(key), GUINT_TO_POINTER(fs));
    return fs;
}

static gboolean check_told(struct check *c, const char *when, size_t step)
{
    size_t i;

    for (i = 0; i < c->count; i += step) {
        const struct lab_told *t = &c->told[i];
        struct qidmap_object object, back;
        uint64_t path = 0;
        uint32_t fs;
        int e;

        if (!counts(c, i))
            continue;
        fs = number_of(c, t->key);
        if (t->kind == LAB_TOLD_FS) {
            if (fs != t->id)
                return broken(c, "%s: filesystem %u was told number %" G_GUINT64_FORMAT ", is %u",
                              when, t->key, (guint64)t->id, fs);
            continue;
        }
        if (fs == 0)
            return broken(c, "%s: filesystem %u of a told id is lost", when, t->key);
        lab_object(t, fs, &object);
        e = qidmap_find_object(c->store, &object, &path);
        if (e != 0 || path != t->id)
            return broken(c,
                          "%s: filesystem %u inode %" G_GUINT64_FORMAT
                          " was told id %" G_GUINT64_FORMAT ", is %" G_GUINT64_FORMAT " (%s)",
                          when, t->key, (guint64)t->ino, (guint64)t->id, (guint64)path,
                          g_strerror(-e));
        e = qidmap_reverse(c->store, t->id, &back);
        if (e != 0 || back.fs != object.fs || back.kind != object.kind || back.ino != object.ino ||
            back.ino2 != object.ino2 || memcmp(back.handle, object.handle, 16) != 0)
            return broken(c, "%s: told id %" G_GUINT64_FORMAT " leads to another object (%s)", when,
                          (guint64)t->id, g_strerror(-e));
    }
    return TRUE;
}

/* Is this the object that was told the id? */
static gboolean same(const struct lab_told *a, const struct lab_told *b)
{
    return a->key == b->key && a->object_kind == b->object_kind && a->ino == b->ino &&
           a->ino2 == b->ino2;
}

/* The store answered a new mapping. */
static gboolean take_new(struct check *c, GHashTable *given, const struct lab_told *want, int e,
                         uint64_t path)
{
    gpointer index;
    uint64_t *key;

    if (e != 0)
        return broken(c, "cannot go on: filesystem %u inode %" G_GUINT64_FORMAT ": %s", want->key,
                      (guint64)want->ino, g_strerror(-e));
    index = g_hash_table_lookup(c->owner, &path);
    if (index && !same(&c->told[GPOINTER_TO_SIZE(index) - 1], want))
        return broken(c,
                      "given twice: id %" G_GUINT64_FORMAT
                      " was told to filesystem %u inode %" G_GUINT64_FORMAT
                      " and goes to filesystem %u inode %" G_GUINT64_FORMAT,
                      (guint64)path, c->told[GPOINTER_TO_SIZE(index) - 1].key,
                      (guint64)c->told[GPOINTER_TO_SIZE(index) - 1].ino, want->key,
                      (guint64)want->ino);
    key = g_new(uint64_t, 1);
    *key = path;
    if (!g_hash_table_add(given, key))
        return broken(c, "given twice after the crash: id %" G_GUINT64_FORMAT, (guint64)path);
    return TRUE;
}

/* New objects on a told filesystem and on a new one, by affix entry and whatever comes after; and
 * one that was asked for after the point of the crash: its id may be a new one. */
static gboolean go_on(struct check *c)
{
    g_autoptr(GHashTable) given = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct qidmap_identity identities[2];
    struct qidmap_error error = {0, ""};
    struct qidmap_item items[7];
    struct lab_told wants[7];
    uint32_t keys[2] = {501, 500}, fs[2], n, i;
    size_t count = 0, at;

    at = lab_below(&c->random, c->count);
    if (c->count > 0 && counts(c, at) && c->told[at].key < LAB_HANDLE_KEY)
        keys[0] = c->told[at].key;
    for (n = 0; n < 2; n++)
        lab_identity(keys[n], &identities[n]);
    if (qidmap_register(c->store, identities, 2, fs, &error) != 0)
        return broken(c, "cannot go on: %s", error.text);
    memset(wants, 0, sizeof(wants));
    memset(items, 0, sizeof(items));
    for (n = 0; n < 2; n++) {
        g_hash_table_insert(c->numbers, GUINT_TO_POINTER(keys[n]), GUINT_TO_POINTER(fs[n]));
        for (i = 0; i < c->count; i++) {
            const struct lab_told *t = &c->told[i];

            if (counts(c, i) && t->kind == LAB_TOLD_FS && t->id == fs[n] && t->key != keys[n])
                return broken(c, "filesystem number %u given twice", fs[n]);
        }
        for (i = 0; i < 3; i++, count++) {
            wants[count].key = keys[n];
            wants[count].ino = lab_random(&c->random) | 1ull << 62;
            items[count].fs = fs[n];
        }
    }
    at = lab_below(&c->random, c->count);
    if (c->count > 0 && !counts(c, at) && c->told[at].kind == LAB_TOLD_ID &&
        c->told[at].object_kind == QIDMAP_OBJECT_INODE && number_of(c, c->told[at].key) != 0) {
        wants[count] = c->told[at];
        items[count++].fs = number_of(c, c->told[at].key);
    }
    for (i = 0; i < count; i++)
        items[i].ino = wants[i].ino;
    (void)qidmap_map_batch(c->store, items, count);
    for (i = 0; i < count; i++) {
        if (!take_new(c, given, &wants[i], items[i].result, items[i].path))
            return FALSE;
    }
    return TRUE;
}

static void first_problem(void *data, const struct qidmap_problem *problem)
{
    GString *text = data;

    if (text->len == 0)
        g_string_append(text, problem->text);
}

/* Whoever looks at all of it finds nothing. */
static gboolean check_verified(struct check *c)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct qidmap_verify_options options = {
        .size = sizeof(options), .problem = first_problem, .data = text};
    struct qidmap_verify_result found = {.size = sizeof(found)};
    struct qidmap_error error = {0, ""};

    if (qidmap_verify(c->uri, &options, &found, &error) != 0)
        return broken(c, "cannot be verified: %s", error.text);
    return found.problems == 0 || broken(c, "verify: %s", text->str);
}

gboolean lab_check(const char *uri, const struct lab_told *told, size_t count, uint64_t position,
                   uint64_t seed, gboolean *opened, GString *why)
{
    struct check c = {uri, told, count, position, {seed}, NULL, NULL, NULL, why};
    g_autoptr(GHashTable) numbers = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) owner = g_hash_table_new(g_int64_hash, g_int64_equal);
    struct qidmap_error error = {0, ""};
    gboolean anything_told = FALSE, there = FALSE, ok;
    size_t i, step;

    c.numbers = numbers;
    c.owner = owner;
    for (i = 0; i < count; i++) {
        if (!counts(&c, i))
            continue;
        anything_told = TRUE;
        if (told[i].kind == LAB_TOLD_ID)
            g_hash_table_insert(owner, (gpointer)&told[i].id, GSIZE_TO_POINTER(i + 1));
    }
    ok = open_store(&c, anything_told, &there);
    if (opened)
        *opened = there;
    if (!ok)
        return FALSE;
    /* All of it once; then, to be quick, every so many. */
    step = 1 + count / 64;
    ok = check_rows(&c) && check_told(&c, "after the crash", 1) && go_on(&c) &&
         check_told(&c, "after going on", step);
    qidmap_store_close(c.store);
    if (!ok || seed % 4 != 0)
        return ok;
    g_hash_table_remove_all(numbers);
    if (qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &c.store, &error) != 0)
        return broken(&c, "does not open again: %s", error.text);
    ok = check_rows(&c) && check_told(&c, "opened again", step);
    qidmap_store_close(c.store);
    return ok && check_verified(&c);
}

void lab_tally_print(const char *part, const char *scenario, const char *place, const char *backend,
                     uint64_t seed, const struct lab_tally *tally)
{
    printf("# %-9s %-9s %-9s %-7s %8" G_GUINT64_FORMAT " states %8" G_GUINT64_FORMAT
           " with a store %4" G_GUINT64_FORMAT " violations  seed %" G_GUINT64_FORMAT "  %.1f s\n",
           part, scenario, place, backend, (guint64)tally->states, (guint64)tally->stores,
           (guint64)tally->violations, (guint64)seed, tally->seconds);
    fflush(stdout);
}
