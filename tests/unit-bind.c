/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: files that were copied to another filesystem get the ids that they had, all at once or
 * none; no id is then given to two objects, now or later, in the same store or in a new one; the
 * filesystem that they came from gives no id any more, and comes back as refused. What cannot be
 * bound is told, each with its reason, and changes nothing.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "store/backend.h"
#include "store/dump.h"
#include "store/qidmap.h"
#include "store/store.h"
#include "tests/lib/store-fixture.h"

#define FILES 3000u

struct list {
    GArray *bindings; /* struct qidmap_binding */
    guint at;
    GPtrArray *told;
};

static int list_rewind(void *data)
{
    ((struct list *)data)->at = 0;
    return 0;
}

static int list_next(void *data, struct qidmap_binding *binding)
{
    struct list *list = data;

    if (list->at == list->bindings->len)
        return 0;
    *binding = g_array_index(list->bindings, struct qidmap_binding, list->at++);
    return 1;
}

static void list_conflict(void *data, const struct qidmap_binding *binding, const char *text)
{
    g_ptr_array_add(((struct list *)data)->told,
                    g_strdup_printf("%" G_GUINT64_FORMAT ": %s", binding->path, text));
}

static gint by_object(gconstpointer a, gconstpointer b)
{
    return qidmap_object_compare(&((const struct qidmap_binding *)a)->object,
                                 &((const struct qidmap_binding *)b)->object);
}

static void list_add(struct list *list, uint32_t fs, uint64_t ino, uint64_t path)
{
    struct qidmap_binding b;

    memset(&b, 0, sizeof(b));
    b.object.fs = fs;
    b.object.ino = ino;
    b.path = path;
    g_array_append_val(list->bindings, b);
    g_array_sort(list->bindings, by_object);
}

struct fixture {
    char *dir, *uri, *file;
    qidmap_store *store;
    uint32_t from, to;
    uint64_t ids[FILES]; /* of the files on `from` */
    struct list list;
    struct qidmap_bind_options options;
    struct qidmap_bind_result result;
    struct qidmap_error error;
};

/* Half of them by affix entries, half in the full map. */
static uint64_t old_inode(unsigned i)
{
    return ((uint64_t)(i % 8) << 59) | (i + 2);
}

static uint64_t new_inode(unsigned i)
{
    return ((uint64_t)((i * 7) % 13) << 58) | (1000000 - i);
}

static void map_all(qidmap_store *store, uint32_t fs, uint64_t (*inode)(unsigned), uint64_t *ids)
{
    for (unsigned i = 0; i < FILES; i += 500) {
        struct qidmap_item items[500];

        for (unsigned k = 0; k < 500; k++)
            items[k] = (struct qidmap_item){.fs = fs, .ino = inode(i + k)};
        g_assert_cmpint(qidmap_map_batch(store, items, 500), ==, 0);
        for (unsigned k = 0; k < 500; k++)
            ids[i + k] = items[k].path;
    }
}

static void setup(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->dir = fixture_fast_dir();
    f->uri = g_strconcat("lmdb:", f->dir, "/store", NULL);
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 4);
    f->from = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    map_all(f->store, f->from, old_inode, f->ids);
    f->list.bindings = g_array_new(FALSE, FALSE, sizeof(struct qidmap_binding));
    f->list.told = g_ptr_array_new_with_free_func(g_free);
    f->options = (struct qidmap_bind_options){.size = sizeof(f->options),
                                              .rewind = list_rewind,
                                              .next = list_next,
                                              .conflict = list_conflict,
                                              .superseded = &f->from,
                                              .n_superseded = 1,
                                              .data = &f->list};
    f->result.size = sizeof(f->result);
}

static void teardown(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    qidmap_store_close(f->store);
    fixture_remove(f->dir);
    g_free(f->dir);
    g_free(f->uri);
    g_array_free(f->list.bindings, TRUE);
    g_ptr_array_free(f->list.told, TRUE);
}

static void close_store(struct fixture *f)
{
    qidmap_store_close(f->store);
    f->store = NULL;
}

static void assert_whole(qidmap_store *store)
{
    struct qidmap_verify_result result = {.size = sizeof(result)};

    g_assert_cmpint(qidmap_store_verify(store, NULL, &result, NULL), ==, 0);
    g_assert_cmpuint(result.problems, ==, 0);
}

/* All files that have an id have one of their own, those on `to` the old ones. */
static void assert_moved(struct fixture *f, unsigned bound)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autofree uint64_t *all = g_new(uint64_t, 2 * FILES);
    struct qidmap_object object;
    uint64_t path;

    for (unsigned i = 0; i < bound; i++) {
        g_assert_cmpint(qidmap_map(f->store, f->to, new_inode(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->ids[i]);
        g_assert_cmpint(qidmap_find(f->store, f->to, new_inode(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->ids[i]);
        g_assert_cmpint(qidmap_reverse(f->store, path, &object), ==, 0);
        g_assert_cmpuint(object.fs, ==, f->to);
        g_assert_cmpuint(object.ino, ==, new_inode(i));
    }
    for (unsigned i = 0; i < 2 * FILES; i++) { /* new files, and those that had ids */
        uint64_t ino = i < FILES ? new_inode(i) : new_inode(i) ^ (UINT64_C(1) << 40);

        g_assert_cmpint(qidmap_map(f->store, f->to, ino, &path), ==, 0);
        all[i] = path;
        g_assert_true(g_hash_table_add(seen, &all[i]));
        for (unsigned k = 0; i >= bound && k < FILES; k += 97)
            g_assert_cmpuint(path, !=, f->ids[k]);
    }
    assert_whole(f->store);
}

/* A copy of all files but a few; `to` may have been served, and then has ids of its own. */
static void test_bind(struct fixture *f, gconstpointer data)
{
    gboolean served = data != NULL;
    g_autofree uint64_t *own = g_new0(uint64_t, FILES);
    struct qidmap_fs row = {.size = sizeof(row)};
    const unsigned bound = FILES - 500;
    uint64_t path;

    f->to = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    if (served)
        map_all(f->store, f->to, new_inode, own);
    for (unsigned i = 0; i < bound; i++) {
        struct qidmap_binding b;

        memset(&b, 0, sizeof(b));
        b.object.fs = f->to;
        b.object.ino = new_inode(i);
        b.path = f->ids[i];
        g_array_append_val(f->list.bindings, b);
    }
    g_array_sort(f->list.bindings, by_object);
    /* Not while the store is in use. */
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EBUSY);
    close_store(f);
    f->options.flags = QIDMAP_DRY_RUN;
    if (qidmap_bind(f->uri, &f->options, &f->result, &f->error) != 0)
        g_error("%s", f->error.text);
    g_assert_cmpuint(f->result.bound, ==, bound);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    g_assert_cmpint(qidmap_find(f->store, f->from, old_inode(0), &path), ==, 0);
    close_store(f);
    f->options.flags = 0;
    if (qidmap_bind(f->uri, &f->options, &f->result, &f->error) != 0)
        g_error("%s", f->error.text);
    g_assert_cmpuint(f->result.bound, ==, bound);
    g_assert_true(g_file_test(f->result.backup, G_FILE_TEST_IS_REGULAR));
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    assert_moved(f, bound);
    for (unsigned i = bound; served && i < FILES; i++) { /* what was not bound keeps its own */
        g_assert_cmpint(qidmap_find(f->store, f->to, new_inode(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, own[i]);
    }
    /* The old filesystem comes back: it is known, and gives nothing. */
    g_assert_cmpuint(fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX), ==, f->from);
    g_assert_cmpint(qidmap_fs_get(f->store, f->from, &row, NULL), ==, 0);
    g_assert_cmpuint(row.superseded, ==, 1);
    g_assert_cmpint(qidmap_map(f->store, f->from, old_inode(0), &path), ==, -EPERM);
    /* Once more, with one file that came later. */
    close_store(f);
    list_add(&f->list, f->to, new_inode(bound), f->ids[bound]);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==,
                    f->ids[bound] % 2 ? -EEXIST : 0);
    if (f->ids[bound] % 2) /* its row went with the filesystem: nobody can tell whose it is now */
        g_assert_nonnull(strstr(f->list.told->pdata[0], "gave this id before"));
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    assert_moved(f, bound + !(f->ids[bound] % 2));
}

/* Another host, with a store of its own. */
static void test_other_store(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    close_store(f);
    g_free(f->uri);
    f->uri = g_strconcat("lmdb:", f->dir, "/other", NULL);
    f->store = fixture_open(f->uri, FIXTURE_WRITE, 4);
    f->to = fixture_register(f->store, 3, QIDMAP_POLICY_AFFIX);
    close_store(f);
    for (unsigned i = 0; i < FILES; i++) {
        struct qidmap_binding b;

        memset(&b, 0, sizeof(b));
        b.object.fs = f->to;
        b.object.ino = new_inode(i);
        b.path = f->ids[i];
        g_array_append_val(f->list.bindings, b);
    }
    g_array_sort(f->list.bindings, by_object);
    f->options.n_superseded = 0;
    if (qidmap_bind(f->uri, &f->options, &f->result, &f->error) != 0)
        g_error("%s: %s", f->error.text,
                f->list.told->len ? (char *)f->list.told->pdata[0] : "nothing told");
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    assert_moved(f, FILES);
}

static void refused(struct fixture *f, uint32_t fs, uint64_t ino, uint64_t path, const char *why)
{
    g_ptr_array_set_size(f->list.told, 0);
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, f->to, 77, f->ids[0]); /* one that could be bound: it is not, either */
    list_add(&f->list, fs, ino, path);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EEXIST);
    g_assert_cmpuint(f->list.told->len, ==, 1);
    if (!strstr(f->list.told->pdata[0], why))
        g_error("%s is no word of: %s", why, (char *)f->list.told->pdata[0]);
}

static void test_refused(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t odd = 0, even = 0, path, after = 0;
    uint32_t third, gone, passing;

    f->to = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    third = fixture_register(f->store, 3, QIDMAP_POLICY_AFFIX);
    gone = fixture_register(f->store, 4, QIDMAP_POLICY_AFFIX);
    passing = fixture_register(f->store, 5, QIDMAP_POLICY_EPHEMERAL);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_cmpint(qidmap_map(f->store, third, old_inode(i), &path), ==, 0);
        if (path & 1)
            odd = path;
        else
            even = path;
    }
    g_assert_true(odd && even);
    g_assert_cmpint(qidmap_fs_retire(f->store, gone, NULL), ==, 0);
    close_store(f);
    refused(f, f->to, 5, odd, "another object has this id");
    refused(f, f->to, 5, even, "an id of another filesystem");
    refused(f, 999, 5, f->ids[1], "not in the store");
    refused(f, gone, 5, f->ids[1], "retired");
    refused(f, f->from, 5, f->ids[1], "superseded");
    refused(f, passing, 5, f->ids[1], "no ids that last");
    refused(f, f->to, 5, 1, "no lasting id");
    refused(f, f->to, 5, 8 * 77 + 6, "no lasting id");
    refused(f, f->to, 5, UINT64_MAX, "no lasting id");
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, f->to, 5, f->ids[1]);
    list_add(&f->list, f->to, 6, f->ids[1]); /* one id for two: the check of the whole finds it */
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), <, 0);
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, f->to, 5, f->ids[1]);
    list_add(&f->list, f->to, 5, f->ids[2]);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EINVAL);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    for (unsigned i = 0; i < FILES; i++) {
        g_assert_cmpint(qidmap_find(f->store, f->from, old_inode(i), &after), ==, 0);
        g_assert_cmpuint(after, ==, f->ids[i]);
    }
    assert_whole(f->store);
}

/* ---- bindings in a file ---------------------------------------------------------------------- */

static int to_next(void *data, struct qidmap_binding *binding)
{
    int r = list_next(data, binding);

    binding->object.fs -= 100; /* by_object() is by numbers, and here it is by place */
    return r;
}

/* A file with the first `count` ids for two filesystems, of which the second is not known yet. */
static int bindings_file(struct fixture *f, uint32_t from, unsigned count)
{
    struct qidmap_identity to[2] = {fixture_identity(7, QIDMAP_POLICY_AFFIX),
                                    fixture_identity(2, QIDMAP_POLICY_AFFIX)};
    struct qidmap_moved_fs moved = {.fs = from,
                                    .fsid = fixture_identity(1, QIDMAP_POLICY_AFFIX).fsid[0]};
    struct qidmap_bindings all = {.size = sizeof(all),
                                  .n_to = 2,
                                  .n_from = 1,
                                  .to = to,
                                  .from = &moved,
                                  .next = to_next,
                                  .data = &f->list};
    int fd = g_file_open_tmp("qidmap-bindings-XXXXXX", &f->file, NULL);

    g_array_set_size(f->list.bindings, 0);
    for (unsigned i = 0; i < count; i++) {
        struct qidmap_binding b;

        memset(&b, 0, sizeof(b));
        b.object.fs = 100 + i % 2;
        b.object.ino = new_inode(i);
        b.path = f->ids[i];
        g_array_append_val(f->list.bindings, b);
    }
    g_array_sort(f->list.bindings, by_object);
    f->list.at = 0;
    g_assert_cmpint(fd, >=, 0);
    if (qidmap_bindings_write(fd, &all, &f->error) != 0)
        g_error("%s", f->error.text);
    return fd;
}

static void file_done(struct fixture *f, int fd)
{
    g_assert_cmpint(close(fd), ==, 0);
    g_assert_cmpint(g_unlink(f->file), ==, 0);
    g_clear_pointer(&f->file, g_free);
}

/* In the store that gave the ids, and in another one, which did not exist. */
static void test_adopt(struct fixture *f, gconstpointer data)
{
    gboolean other = data != NULL;
    struct qidmap_adopt_options dry = {.size = sizeof(dry), .flags = QIDMAP_DRY_RUN};
    struct qidmap_fs row = {.size = sizeof(row)};
    uint32_t a, b, old;
    uint64_t path;
    int fd;

    /* number 2 is the second one in the file: sections are read in another order than written */
    if (!other)
        f->to = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    close_store(f);
    if (other) {
        g_free(f->uri);
        f->uri = g_strconcat("lmdb:", f->dir, "/other", NULL);
    }
    fd = bindings_file(f, other ? 0 : f->from, FILES);
    if (qidmap_adopt(f->uri, fd, &dry, &f->result, &f->error) != 0)
        g_error("%s", f->error.text);
    g_assert_cmpuint(f->result.bound, ==, FILES);
    if (qidmap_adopt(f->uri, fd, NULL, &f->result, &f->error) != 0)
        g_error("%s", f->error.text);
    g_assert_cmpuint(f->result.bound, ==, FILES);
    /* As after a kill between the commit and what comes behind it. */
    g_assert_cmpint(qidmap_adopt(f->uri, fd, NULL, &f->result, &f->error), ==, 0);
    g_assert_cmpuint(f->result.known, ==, FILES);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    a = fixture_register(f->store, 7, QIDMAP_POLICY_AFFIX);
    b = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    for (unsigned i = 0; i < FILES; i++) {
        g_assert_cmpint(qidmap_find(f->store, i % 2 ? b : a, new_inode(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->ids[i]);
    }
    old = fixture_register(f->store, 1, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_get(f->store, old, &row, NULL), ==, 0);
    g_assert_cmpuint(row.superseded, ==, 1);
    g_assert_cmpint(qidmap_map(f->store, old, old_inode(0), &path), ==, -EPERM);
    assert_whole(f->store);
    file_done(f, fd);
}

/* Each byte of the file counts; a file of another store is refused; nothing is changed then. */
static void test_adopt_damaged(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t path;
    off_t size;
    int fd;

    close_store(f);
    fd = bindings_file(f, f->from, 40);
    size = lseek(fd, 0, SEEK_END);
    for (off_t at = 0; at < size; at += at < 300 ? 1 : 61) {
        uint8_t byte, other;

        g_assert_cmpint(pread(fd, &byte, 1, at), ==, 1);
        other = byte ^ (uint8_t)(1 + at % 255);
        g_assert_cmpint(pwrite(fd, &other, 1, at), ==, 1);
        g_assert_cmpint(qidmap_adopt(f->uri, fd, NULL, NULL, NULL), ==, -EBADMSG);
        g_assert_cmpint(pwrite(fd, &byte, 1, at), ==, 1);
    }
    for (off_t shorter = size - 1; shorter >= 0; shorter -= shorter < 200 ? 1 : 97) {
        g_assert_cmpint(ftruncate(fd, shorter), ==, 0);
        g_assert_cmpint(qidmap_adopt(f->uri, fd, NULL, NULL, NULL), ==, -EBADMSG);
    }
    file_done(f, fd);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    f->to = fixture_register(f->store, 5, QIDMAP_POLICY_AFFIX);
    close_store(f);
    fd = bindings_file(f, f->to, 40); /* says that number is the filesystem 1 */
    g_assert_cmpint(qidmap_adopt(f->uri, fd, NULL, NULL, NULL), ==, -ENODEV);
    file_done(f, fd);
    fd = bindings_file(f, 77, 40);
    g_assert_cmpint(qidmap_adopt(f->uri, fd, NULL, NULL, NULL), ==, -ENOENT);
    file_done(f, fd);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    for (unsigned i = 0; i < FILES; i++) {
        g_assert_cmpint(qidmap_find(f->store, f->from, old_inode(i), &path), ==, 0);
        g_assert_cmpuint(path, ==, f->ids[i]);
    }
    assert_whole(f->store);
}

/* An alias gives its ids on and on: none of them is bound, and none that is bound is told by one.
 */
static void test_alias(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t heir, third;
    uint64_t path;

    f->to = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    close_store(f);
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    heir = fixture_register(f->store, 3, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, f->from, heir, NULL), ==, 0);
    close_store(f);
    list_add(&f->list, f->to, new_inode(0), f->ids[0]);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EINVAL);
    g_assert_nonnull(strstr(f->error.text, "alias"));
    f->options.n_superseded = 0; /* the heir would tell the id of its alias */
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, heir, old_inode(1), 2 * UINT64_C(10000000) + 1);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EEXIST);
    g_assert_nonnull(strstr(f->list.told->pdata[0], "an alias"));
    /* With its heir it can be superseded; and then be nobody's alias. */
    f->options.n_superseded = 1;
    f->options.superseded = &heir;
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, f->to, new_inode(0), f->ids[0]);
    if (qidmap_bind(f->uri, &f->options, &f->result, &f->error) != 0)
        g_error("%s", f->error.text);
    /* Nothing is bound to what is superseded. */
    f->options.n_superseded = 0;
    g_ptr_array_set_size(f->list.told, 0);
    g_array_set_size(f->list.bindings, 0);
    list_add(&f->list, heir, new_inode(9), 2 * UINT64_C(10000000) + 1);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EEXIST);
    g_assert_nonnull(strstr(f->list.told->pdata[0], "superseded"));
    f->store = fixture_open(f->uri, QIDMAP_OPEN_WRITE, 0);
    third = fixture_register(f->store, 4, QIDMAP_POLICY_AFFIX);
    g_assert_cmpint(qidmap_fs_alias(f->store, heir, third, &f->error), ==, -EINVAL);
    g_assert_nonnull(strstr(f->error.text, "superseded"));
    g_assert_cmpint(qidmap_fs_alias(f->store, third, heir, &f->error), ==, -EINVAL);
    g_assert_cmpint(qidmap_fs_retire(f->store, heir, NULL), ==, 0);
    g_assert_cmpint(qidmap_fs_alias(f->store, heir, third, &f->error), ==, -EINVAL);
    g_assert_cmpint(qidmap_map(f->store, third, old_inode(0), &path), ==, 0);
    g_assert_cmpuint(path, !=, f->ids[0]);
    g_assert_cmpint(qidmap_find(f->store, f->to, new_inode(0), &path), ==, 0);
    g_assert_cmpuint(path, ==, f->ids[0]);
    assert_whole(f->store);
}

/* What verify would complain of is not taken for a change that somebody made meanwhile. */
static void test_damaged(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct qm_backend_config config = {.write = TRUE};
    struct qidmap_object object = {.fs = 1, .ino = 77};
    struct qm_backend *backend;
    unsigned i = 0;
    struct qm_record r;
    struct qm_txn *txn;
    struct qm_meta meta;

    f->to = fixture_register(f->store, 2, QIDMAP_POLICY_AFFIX);
    close_store(f);
    backend = qm_backend_lmdb.open(f->uri + 5, &config, NULL);
    g_assert_nonnull(backend);
    g_assert_cmpint(backend->ops->begin(backend, QM_TXN_WRITE, 2, &txn), ==, 0);
    g_assert_cmpint(qm_read_meta(txn, &meta), ==, 0);
    meta.transaction = backend->ops->number(txn);
    qm_record_meta(&r, &meta);
    g_assert_cmpint(qm_txn_put(txn, QM_TABLE_META, &r), ==, 0);
    while (!(f->ids[i] & 1))
        i++;
    qm_record_byfull(&r, f->ids[i], &object); /* another's */
    g_assert_cmpint(qm_txn_put(txn, QM_TABLE_BYFULL, &r), ==, 0);
    g_assert_cmpint(backend->ops->commit(txn), ==, 0);
    backend->ops->close(backend);
    list_add(&f->list, f->to, new_inode(0), f->ids[0]);
    g_assert_cmpint(qidmap_bind(f->uri, &f->options, &f->result, &f->error), ==, -EUCLEAN);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/bind/moved", struct fixture, NULL, setup, test_bind, teardown);
    g_test_add("/bind/served", struct fixture, "served", setup, test_bind, teardown);
    g_test_add("/bind/other-store", struct fixture, NULL, setup, test_other_store, teardown);
    g_test_add("/bind/alias", struct fixture, NULL, setup, test_alias, teardown);
    g_test_add("/bind/damaged", struct fixture, NULL, setup, test_damaged, teardown);
    g_test_add("/bind/refused", struct fixture, NULL, setup, test_refused, teardown);
    g_test_add("/adopt/own-store", struct fixture, NULL, setup, test_adopt, teardown);
    g_test_add("/adopt/other-store", struct fixture, "other", setup, test_adopt, teardown);
    g_test_add("/adopt/damaged", struct fixture, NULL, setup, test_adopt_damaged, teardown);
    return g_test_run();
}
