/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: Treaddir shows every entry that stays exactly once, whatever the size of the replies and
 * wherever reading is taken up again, and each with the id that Twalk and Tgetattr give.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fill(struct fixture *f, guint n)
{
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("entry-%05u-%s", i, i % 7 ? "x" : "a-longer-name");

        if (i % 10 == 3)
            make_dir(f->s, name);
        else
            make_file(f->s, name, "");
    }
}

static GHashTable *by_name(GPtrArray *entries)
{
    GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *e = entries->pdata[i];

        g_assert_true(g_hash_table_insert(names, e->name, e));
    }
    return names;
}

static void check_ids(struct fixture *f, GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *e = entries->pdata[i];
        struct client_qid qid;
        struct client_attr attr;
        guint32 fid = client_fid(f->c);

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            continue;
        g_assert_cmpint(client_walk_path(f->c, ROOT_FID, fid, e->name, &qid), ==, 0);
        g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(e->qid.path, ==, qid.path);
        g_assert_cmpuint(e->qid.type, ==, qid.type);
        g_assert_cmpuint(attr.qid.path, ==, qid.path);
        g_assert_true(f->s->peer || e->qid.version == qid.version);
        g_assert_cmpint(client_clunk(f->c, fid), ==, 0);
    }
}

static void all_entries_once(struct fixture *f, gconstpointer data)
{
    static const guint32 counts[] = {300, 1000, 60000};

    (void)data;
    fill(f, 5000);
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autoptr(GPtrArray) entries = NULL;
        g_autoptr(GHashTable) names = NULL;

        g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, counts[i], &entries), ==, 0);
        names = by_name(entries);
        g_assert_cmpuint(g_hash_table_size(names), ==, 5002);
        g_assert_true(g_hash_table_contains(names, "."));
        g_assert_true(g_hash_table_contains(names, ".."));
        if (i == 0)
            check_ids(f, entries);
    }
}

static void types_are_told(struct fixture *f, gconstpointer data)
{
    g_autofree char *link = server_path(f->s, "link"), *fifo = server_path(f->s, "fifo");
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GHashTable) names = NULL;
    static const struct {
        const char *name;
        guint8 type, qtype;
    } want[] = {
        {"dir", 4, QTDIR}, {"file", 8, QTFILE}, {"link", 10, QTSYMLINK}, {"fifo", 1, QTFILE}};

    (void)data;
    make_dir(f->s, "dir");
    make_file(f->s, "file", "");
    g_assert_cmpint(symlink("none", link), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 8000, &entries), ==, 0);
    names = by_name(entries);
    for (guint i = 0; i < G_N_ELEMENTS(want); i++) {
        struct client_dirent *e = g_hash_table_lookup(names, want[i].name);

        g_assert_nonnull(e);
        g_assert_cmpuint(e->type, ==, want[i].type);
        g_assert_true(f->s->peer || e->qid.type == want[i].qtype);
    }
    if (!f->s->peer)
        check_ids(f, entries);
}

static void dot_entries_have_ids(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) entries = NULL, below = NULL;
    g_autoptr(GHashTable) names = NULL, names_below = NULL;
    struct client_attr root, dir;
    guint32 fid;

    (void)data;
    make_dir(f->s, "dir");
    fid = walk_new(f->c, "dir");
    g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &root), ==, 0);
    g_assert_cmpint(client_getattr(f->c, fid, GETATTR_BASIC, &dir), ==, 0);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 8000, &entries), ==, 0);
    g_assert_cmpint(client_readdir_all(f->c, fid, 8000, &below), ==, 0);
    names = by_name(entries);
    names_below = by_name(below);
#define PATH_OF(table, name) (((struct client_dirent *)g_hash_table_lookup(table, name))->qid.path)
    g_assert_cmpuint(PATH_OF(names, "."), ==, root.qid.path);
    g_assert_cmpuint(PATH_OF(names_below, "."), ==, dir.qid.path);
    g_assert_cmpuint(PATH_OF(names_below, ".."), ==, root.qid.path);
    /* the export's root shows itself as its parent: the world above has no id */
    if (!f->s->peer)
        g_assert_cmpuint(PATH_OF(names, ".."), ==, root.qid.path);
#undef PATH_OF
}

static void resumes_at_each_cookie(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) all = NULL;
    guint32 fid;

    (void)data;
    fill(f, 120);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 60000, &all), ==, 0);
    g_assert_cmpuint(all->len, ==, 122);
    fid = walk_new(f->c, "");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    /* backwards, so that each one is a seek */
    for (guint i = all->len; i-- > 0;) {
        g_autoptr(GPtrArray) rest =
            g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
        struct client_dirent *e = all->pdata[i], *next;

        g_assert_cmpint(client_readdir(f->c, fid, e->offset, 60000, rest), ==, 0);
        g_assert_cmpuint(rest->len, ==, all->len - i - 1);
        if (rest->len > 0) {
            next = all->pdata[i + 1];
            g_assert_cmpstr(((struct client_dirent *)rest->pdata[0])->name, ==, next->name);
        }
    }
}

/* A cookie also works on another fid of the same directory, as after a re-open. */
static void cookies_outlive_the_fid(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GPtrArray) rest = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    struct client_dirent *e;
    guint32 fid;

    (void)data;
    fill(f, 50);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 500, &all), ==, 0);
    e = all->pdata[20];
    fid = walk_new(f->c, "");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    g_assert_cmpint(client_readdir(f->c, fid, e->offset, 60000, rest), ==, 0);
    g_assert_cmpuint(rest->len, ==, all->len - 21);
}

static void garbage_cookies_are_harmless(struct fixture *f, gconstpointer data)
{
    static const guint64 cookies[] = {
        1, 12345, 1ull << 31, 1ull << 40, G_MAXINT64, (1ull << 63) + 5, G_MAXUINT64};
    guint32 fid;

    (void)data;
    fill(f, 20);
    fid = walk_new(f->c, "");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(cookies); i++) {
        g_autoptr(GPtrArray) list =
            g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);

        g_assert_cmpint(client_readdir(f->c, fid, cookies[i], 8000, list), >=, 0);
    }
    {
        g_autoptr(GPtrArray) list =
            g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);

        g_assert_cmpint(client_readdir(f->c, fid, 0, 8000, list), ==, 0);
        g_assert_cmpuint(list->len, ==, 22);
    }
}

static void no_room_for_one_entry(struct fixture *f, gconstpointer data)
{
    g_autofree char *name = g_strnfill(250, 'n');
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    guint32 fid;
    int rc;

    (void)data;
    make_file(f->s, name, "");
    fid = walk_new(f->c, "");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    for (guint32 count = 0; count < 24; count += 6) {
        rc = client_readdir(f->c, fid, 0, count, list);
        g_assert_true(rc > 0 || (rc == 0 && list->len == 0));
    }
    rc = client_readdir(f->c, fid, 0, 0xffffffffu, list);
    g_assert_true(rc > 0 || list->len == 3);
}

static void entries_come_and_go(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    guint64 offset = 0;
    guint before, round = 0, kept = 0;
    guint32 fid;

    (void)data;
    fill(f, 1000);
    fid = walk_new(f->c, "");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    do {
        g_autofree char *come = g_strdup_printf("come-%u", round);
        g_autofree char *go = g_strdup_printf("entry-%05u-x", 999 - round * 10);

        before = list->len;
        g_assert_cmpint(client_readdir(f->c, fid, offset, 1500, list), ==, 0);
        if (list->len > before)
            offset = ((struct client_dirent *)list->pdata[list->len - 1])->offset;
        if (round < 30) {
            make_file(f->s, come, "");
            client_unlinkat(f->c, ROOT_FID, go, 0);
        }
        round++;
        g_assert_cmpuint(round, <, 5000);
    } while (list->len > before);
    /* what was there all the time came exactly once */
    for (guint i = 0; i < list->len; i++) {
        struct client_dirent *e = list->pdata[i];

        g_assert_true(g_hash_table_add(names, e->name));
    }
    for (guint i = 0; i < 1000; i++) {
        g_autofree char *name = g_strdup_printf("entry-%05u-%s", i, i % 7 ? "x" : "a-longer-name");
        g_autofree char *path = server_path(f->s, name);

        if (g_access(path, F_OK) == 0) {
            g_assert_true(g_hash_table_contains(names, name));
            kept++;
        }
    }
    g_assert_cmpuint(kept, >=, 900);
}

static void needs_an_open_directory(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    guint32 fid;

    (void)data;
    make_file(f->s, "file", "text");
    g_assert_cmpint(client_readdir(f->c, ROOT_FID, 0, 8000, list), >, 0);
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_readdir(f->c, fid, 0, 8000, list), >, 0);
}

static void removed_directory_ends(struct fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    guint32 fid;
    int rc;

    (void)data;
    make_dir(f->s, "dir");
    fid = walk_new(f->c, "dir");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY | L_DIRECTORY, NULL), ==, 0);
    g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "dir", 0x200), ==, 0);
    rc = client_readdir(f->c, fid, 0, 8000, list);
    g_assert_true(rc == ENOENT || (rc == 0 && list->len <= 2));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/dir/all-once", all_entries_once);
    FIXTURE_TEST("/dir/types", types_are_told);
    FIXTURE_TEST("/dir/dots", dot_entries_have_ids);
    FIXTURE_TEST("/dir/resume", resumes_at_each_cookie);
    FIXTURE_TEST("/dir/cookies-other-fid", cookies_outlive_the_fid);
    FIXTURE_TEST("/dir/cookies-garbage", garbage_cookies_are_harmless);
    FIXTURE_TEST("/dir/small-count", no_room_for_one_entry);
    FIXTURE_TEST("/dir/come-and-go", entries_come_and_go);
    FIXTURE_TEST("/dir/unopened", needs_an_open_directory);
    FIXTURE_TEST("/dir/removed", removed_directory_ends);
    return g_test_run();
}
