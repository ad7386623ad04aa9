/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Treaddir. */
#include "config.h"

#include "tests/conform/conform.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MANY 1000

static guint32 fill(struct client *c, const char *dir, guint n)
{
    guint32 fid = make_dir(c, dir);

    for (guint i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("entry %u", i);

        OK(client_mknod(c, fid, name, S_IFREG | 0644, 0, 0, NULL));
    }
    return fid;
}

static guint32 open_dir(struct client *c, guint32 fid)
{
    guint32 open = clone_fid(c, fid);

    OK(client_lopen(c, open, L_RDONLY | L_DIRECTORY, NULL));
    return open;
}

/* All from `offset` on, with replies of `count` bytes. */
static GPtrArray *list(struct client *c, guint32 open, guint64 offset, guint32 count)
{
    GPtrArray *entries = g_ptr_array_new();
    guint before;

    do {
        before = entries->len;
        OK(client_readdir(c, open, offset, count, entries));
        if (entries->len > before)
            offset = ((struct client_dirent *)entries->pdata[entries->len - 1])->offset;
    } while (entries->len > before);
    return entries;
}

/* each of 0..n-1 just once, and "." and ".." */
static void expect_all(GPtrArray *entries, guint n)
{
    GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < entries->len; i++) {
        char *name = ((struct client_dirent *)entries->pdata[i])->name;

        if (!g_hash_table_add(seen, name))
            fail("'%s' is listed twice", name);
    }
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("entry %u", i);

        if (!g_hash_table_contains(seen, name))
            fail("'%s' is not listed", name);
    }
    YES(g_hash_table_contains(seen, "."));
    YES(g_hash_table_contains(seen, ".."));
    IS(entries->len, n + 2);
}

static void all(guint arg)
{
    static const guint32 counts[] = {60, 100, 511, 4096, 65000};
    struct client *c = session();
    guint32 dir = fill(c, "d", MANY);

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
        expect_all(list(c, open_dir(c, dir), 0, counts[i]), MANY);
}

static void empty(guint arg)
{
    struct client *c = session();

    (void)arg;
    expect_all(list(c, open_dir(c, make_dir(c, "d")), 0, 4000), 0);
}

static void too_small(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), open;
    g_autofree char *name = g_strnfill(250, 'n');
    GPtrArray *entries = g_ptr_array_new();
    guint64 offset = 0;

    (void)arg;
    OK(client_mkdir(c, dir, name, 0755, NULL));
    open = open_dir(c, dir);
    for (guint i = 0; i < 4; i++) {
        guint before = entries->len;
        int rc = client_readdir(c, open, offset, 50, entries);

        if (rc != 0) { /* told that it does not fit */
            ERR(rc, EINVAL, ENOSPC, ERANGE, EMSGSIZE, EIO);
            break;
        }
        if (entries->len == before) {
            if (entries->len < 3)
                fail("0 bytes, which means the end, where an entry did not fit into the count");
            break;
        }
        offset = ((struct client_dirent *)entries->pdata[entries->len - 1])->offset;
    }
    expect_all(list(c, open_dir(c, make_dir(c, "e")), 0, 300), 0);
    IS(list(c, open_dir(c, dir), 0, 300)->len, 3);
}

static void cookies(guint arg)
{
    struct client *c = session();
    guint32 dir = fill(c, "d", 150), open = open_dir(c, dir), fresh;
    GPtrArray *whole = list(c, open, 0, 4000);

    (void)arg;
    expect_all(whole, 150);
    for (guint i = whole->len; i-- > 0;) {
        const struct client_dirent *at = whole->pdata[i];
        GPtrArray *rest = list(c, open, at->offset, 700);

        if (rest->len != whole->len - i - 1)
            fail("after entry %u of %u: %u more entries, expected %u", i, whole->len, rest->len,
                 whole->len - i - 1);
        for (guint j = 0; j < rest->len; j++)
            if (strcmp(((struct client_dirent *)rest->pdata[j])->name,
                       ((struct client_dirent *)whole->pdata[i + 1 + j])->name) != 0)
                fail("after entry %u the order is another", i);
    }
    /* a cookie belongs to the directory, not to the fid: seekdir(3) after a reopen */
    fresh = open_dir(c, dir);
    IS(list(c, fresh, ((struct client_dirent *)whole->pdata[75])->offset, 4000)->len,
       whole->len - 76);
    expect_all(list(c, fresh, 0, 4000), 150);
}

static void changing(guint arg)
{
    struct client *c = session(), *other = session();
    guint32 dir = fill(c, "d", 400), open = open_dir(c, dir), od = walk_to(other, WORK, "d");
    GPtrArray *entries = g_ptr_array_new();
    GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
    guint64 offset = 0;
    guint before, round = 0;

    (void)arg;
    do {
        g_autofree char *gone = g_strdup_printf("entry %u", 399 - round);
        g_autofree char *made = g_strdup_printf("made %u", round);

        before = entries->len;
        OK(client_readdir(c, open, offset, 500, entries));
        if (entries->len > before)
            offset = ((struct client_dirent *)entries->pdata[entries->len - 1])->offset;
        OK(client_mkdir(other, od, made, 0755, NULL));
        if (round < 100)
            OK(remove_name(other, od, gone, 0));
    } while (entries->len > before && ++round < 2000);
    for (guint i = 0; i < entries->len; i++) {
        char *name = ((struct client_dirent *)entries->pdata[i])->name;

        if (!g_hash_table_add(seen, name))
            fail("'%s' is listed twice", name);
    }
    for (guint i = 0; i < 300; i++) {
        g_autofree char *name = g_strdup_printf("entry %u", i);

        if (!g_hash_table_contains(seen, name))
            fail("'%s' was there all the time, and is not listed", name);
    }
}

static void remove_all(guint arg)
{
    struct client *c = session();
    guint32 dir = fill(c, "d", 300), open = open_dir(c, dir);
    GPtrArray *entries = g_ptr_array_new();
    guint64 offset = 0;
    guint before, removed = 0;

    (void)arg;
    do { /* as rm -r does: what was just listed is removed */
        before = entries->len;
        OK(client_readdir(c, open, offset, 600, entries));
        for (guint i = before; i < entries->len; i++) {
            const struct client_dirent *e = entries->pdata[i];

            offset = e->offset;
            if (e->name[0] == 'e') {
                OK(remove_name(c, dir, e->name, 0));
                removed++;
            }
        }
    } while (entries->len > before);
    IS(removed, 300);
    OK(remove_name(c, WORK, "d", 0x200));
}

static void types(guint arg)
{
    struct client *c = session();
    static const struct {
        const char *name;
        guint8 d_type, qid_type;
    } want[] = {{"file", 8, QTFILE},
                {"dir", 4, QTDIR},
                {"link", 10, QTSYMLINK},
                {"fifo", 1, QTFILE},
                {"sock", 12, QTFILE}};
    GPtrArray *entries = NULL;

    (void)arg;
    make_file(c, "file", "text");
    make_dir(c, "dir");
    make_link(c, "link", "file");
    OK(client_mknod(c, WORK, "fifo", S_IFIFO | 0644, 0, 0, NULL));
    OK(client_mknod(c, WORK, "sock", S_IFSOCK | 0644, 0, 0, NULL));
    OK(client_readdir_all(c, WORK, 4000, &entries));
    for (guint i = 0; i < G_N_ELEMENTS(want); i++)
        for (guint j = 0; j < entries->len; j++) {
            const struct client_dirent *e = entries->pdata[j];

            if (strcmp(e->name, want[i].name) != 0)
                continue;
            if (e->type != want[i].d_type && e->type != 0)
                fail("%s has type %u, expected %u", e->name, e->type, want[i].d_type);
            if ((e->qid.type & (QTDIR | QTSYMLINK)) != want[i].qid_type)
                fail("the qid of %s has type %u, expected %u", e->name, e->qid.type,
                     want[i].qid_type);
        }
}

static void dots(guint arg)
{
    struct client *c = session();
    GPtrArray *entries = NULL;
    struct client_qid root = qid_of(c, ROOT);

    (void)arg;
    OK(client_readdir_all(c, ROOT, 8000, &entries));
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = entries->pdata[i];

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            if (e->qid.path != root.path)
                fail("'%s' of the root has another qid than the root", e->name);
    }
}

static void dots_below(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d");
    GPtrArray *entries = NULL;

    (void)arg;
    OK(client_readdir_all(c, dir, 4000, &entries));
    IS(entries->len, 2);
    for (guint i = 0; i < 2; i++) {
        const struct client_dirent *e = entries->pdata[i];

        if (strcmp(e->name, ".") == 0)
            IS(e->qid.path, qid_of(c, dir).path);
        else
            IS(e->qid.path, qid_of(c, WORK).path);
        YES(e->qid.type & QTDIR);
    }
}

static void independent(guint arg)
{
    struct client *c = session();
    guint32 dir = fill(c, "d", 100), a = open_dir(c, dir), b = open_dir(c, dir);
    GPtrArray *one = g_ptr_array_new(), *two = g_ptr_array_new();
    guint64 at1 = 0, at2 = 0;

    (void)arg;
    for (guint i = 0; i < 1000 && (i == 0 || at1 != 0); i++) {
        guint before = one->len;

        OK(client_readdir(c, a, at1, 120, one));
        at1 = one->len > before ? ((struct client_dirent *)one->pdata[one->len - 1])->offset : 0;
        before = two->len;
        OK(client_readdir(c, b, at2, 300, two));
        if (two->len > before)
            at2 = ((struct client_dirent *)two->pdata[two->len - 1])->offset;
    }
    expect_all(one, 100);
    expect_all(two, 100);
}

static void wild(guint arg)
{
    static const guint64 offsets[] = {12345, G_MAXINT64, (guint64)1 << 63, ~(guint64)0, 0x80000000};
    struct client *c = session();
    guint32 open = open_dir(c, fill(c, "d", 20));
    GPtrArray *entries = g_ptr_array_new();

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
        int rc = client_readdir(c, open, offsets[i], 4000, entries);

        if (rc < 0)
            fail("Treaddir at an offset nobody gave: %s", rc_name(rc));
    }
    expect_all(list(c, open, 0, 4000), 20);
}

static void renamed(guint arg)
{
    struct client *c = session();
    guint32 dir = fill(c, "d", 50), open = open_dir(c, dir), other = make_dir(c, "other");

    (void)arg;
    OK(move_name(c, WORK, "d", other, "moved"));
    make_dir(c, "d");
    expect_all(list(c, open, 0, 4000), 50);
}

#define R "Treaddir; getdents(2)"
const struct conform_case dir_cases[] = {
    {"dir/all", "a large directory is listed whole, each name once, with any count", R, CASE_WRITES,
     all, 0},
    {"dir/empty", "an empty directory lists '.' and '..'", "Linux: v9fs_dir_readdir_dotl adds none",
     CASE_WRITES, empty, 0},
    {"dir/too-small", "an entry that does not fit into the count is not taken for the end", R,
     CASE_WRITES, too_small, 0},
    {"dir/cookies", "a listing goes on right at any offset that was given, with a new fid as well",
     R "; seekdir(3)", CASE_WRITES, cookies, 0},
    {"dir/changing", "what is there all the time is listed once while other entries come and go",
     "readdir(3)", CASE_WRITES, changing, 0},
    {"dir/remove-all", "all entries are listed while each is removed as it is met", "readdir(3)",
     CASE_WRITES, remove_all, 0},
    {"dir/types", "type and qid type of entries are those of the files", R, CASE_WRITES, types, 0},
    {"dir/root-dots", "'.' and '..' of the root have the root's qid", R, 0, dots, 0},
    {"dir/dots", "'.' and '..' have the qids of the directory and its parent", R, CASE_WRITES,
     dots_below, 0},
    {"dir/independent", "two open fids of a directory are read without disturbing each other", R,
     CASE_WRITES, independent, 0},
    {"dir/wild-offset", "an offset that was never given does no harm", R, CASE_WRITES, wild, 0},
    {"dir/renamed", "an open directory is listed after its rename", R, CASE_WRITES, renamed, 0},
    CASES_END,
};
