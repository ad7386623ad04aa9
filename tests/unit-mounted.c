/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: two filesystems that are live together never share a row, and a filesystem that anything
 * tells apart keeps its row: case by case, markers and copies of them, also where the writing of
 * one is cut short, mounts that come twice, what only a name tells, policies that change, trees of
 * bind=distinct. What is refused has no row. One more filesystem costs as much as the first.
 * (unit-mounted-worlds.c tries all of it at random.)
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "store/qidmap.h"
#include "store/resolve.h"
#include "store/store.h"
#include "tests/lib/marked.h"
#include "tests/lib/store-fixture.h"

static gboolean nothing_present(const struct qidmap_hints *old G_GNUC_UNUSED,
                                const struct qidmap_hints *now G_GNUC_UNUSED)
{
    return FALSE;
}

static guint marks_asked;

static int count_marks(int fd, struct qidmap_identity *id, struct qidmap_error *error G_GNUC_UNUSED)
{
    guint8 marker[16] = {0};

    marks_asked++;
    marker[0] = (guint8)fd;
    marker[1] = (guint8)marks_asked;
    set_marker(id, marker);
    return 0;
}

static const struct qm_outside quiet = {count_marks, nothing_present};

static struct qidmap_mounted mounted_of(guint8 uuid, guint minor, const char *path)
{
    struct qidmap_mounted m = {.fd = 1};

    m.identity = fixture_identity(uuid, QIDMAP_POLICY_AFFIX);
    m.identity.superblock = (guint64)7 << 32 | minor;
    strcpy(m.identity.hints.type, "ext4");
    g_strlcpy(m.identity.hints.mount_path, path, sizeof m.identity.hints.mount_path);
    g_snprintf(m.identity.hints.source, sizeof m.identity.hints.source, "/dev/sd%u", minor);
    return m;
}

static void enroll(qidmap_store *store, struct qidmap_mounted *m, size_t count,
                   struct qidmap_register_options *o)
{
    struct qidmap_register_options none = {.size = sizeof none};
    GError *error = NULL;

    if (qm_store_register_mounted(store, m, count, o != NULL ? o : &none, &quiet, &error) != 0)
        g_error("%s", error->message);
}

/* A live filesystem keeps its number; its row is nobody else's, and a second mount of it is it. */
static void test_live(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b, c;
    struct qidmap_live live = {0};
    struct qidmap_register_options o = {.size = sizeof o, .live = &live, .n_live = 1};

    enroll(store, &a, 1, NULL);
    g_assert_cmpuint(a.flags, ==, QIDMAP_MOUNTED_NEW);
    live = (struct qidmap_live){a.fs, 0, a.identity.superblock};

    b = mounted_of(1, 2, "/srv/a"); /* looks like a in all, but a is live */
    strcpy(b.identity.hints.source, a.identity.hints.source);
    enroll(store, &b, 1, &o);
    g_assert_cmpuint(b.fs, !=, a.fs);
    g_assert_cmpuint(b.flags, ==, QIDMAP_MOUNTED_NEW | QIDMAP_MOUNTED_DUPLICATE);
    g_assert_cmpuint(b.other, ==, a.fs);

    c = mounted_of(1, 1, "/srv/elsewhere");
    enroll(store, &c, 1, &o);
    g_assert_cmpuint(c.fs, ==, a.fs);
    g_assert_false(c.flags & QIDMAP_MOUNTED_NEW);

    c = mounted_of(2, 1, "/srv/other"); /* the number of a device that was used again */
    enroll(store, &c, 1, &o);
    g_assert_cmpuint(c.fs, !=, a.fs);
    qidmap_store_close(store);
}

/* A name has the mount path in it: the superblock of a live one tells that it is mounted twice. */
static void test_live_by_name(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b = mounted_of(2, 1, "/srv/b");
    struct qidmap_live live = {0};
    struct qidmap_register_options o = {.size = sizeof o, .live = &live, .n_live = 1};

    a.identity.fsid[0].kind = b.identity.fsid[0].kind = QIDMAP_FSID_WEAK;
    enroll(store, &a, 1, NULL);
    live = (struct qidmap_live){a.fs, 0, a.identity.superblock};
    enroll(store, &b, 1, &o);
    g_assert_cmpuint(b.fs, ==, a.fs);
    b.identity.superblock++; /* that place again, while the other is live */
    enroll(store, &b, 1, &o);
    g_assert_cmpuint(b.fs, !=, a.fs);
    qidmap_store_close(store);
}

static void test_refuse(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted both[] = {mounted_of(1, 1, "/srv/a"), mounted_of(1, 2, "/srv/b")};
    struct qidmap_register_options o = {.size = sizeof o, .on_duplicate = QIDMAP_REFUSE};
    struct qidmap_stats stats = {.size = sizeof stats};
    guint32 first;

    enroll(store, both, 2, &o); /* none has a row: both */
    g_assert_true(both[0].result == -EEXIST && both[1].result == -EEXIST);
    g_assert_true(both[0].fs == 0 && both[1].fs == 0);
    qidmap_store_stats(store, &stats, NULL);
    g_assert_cmpuint(stats.fs_rows, ==, 0);

    enroll(store, &both[1], 1, &o); /* alone it is no duplicate */
    g_assert_true(both[1].result == 0 && both[1].fs != 0);
    first = both[1].fs;
    enroll(store, both, 2, &o);
    g_assert_true(both[0].result == -EEXIST && both[1].result == 0 && both[1].fs == first);
    qidmap_store_close(store);
}

/* Names alone: a marker makes it known at any place; without one it is split when asked for, but
 * not while it is live. */
static void test_weak(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b, plain;
    struct qidmap_live live = {0};
    struct qidmap_register_options o = {.size = sizeof o, .split_weak = 1};
    guint32 fs;

    a.identity.fsid[0].kind = QIDMAP_FSID_WEAK;
    plain = a;
    enroll(store, &a, 1, NULL);
    fs = a.fs;
    enroll(store, &a, 1, NULL);
    g_assert_cmpuint(a.fs, ==, fs);
    enroll(store, &a, 1, &o);
    g_assert_cmpuint(a.fs, !=, fs);
    live = (struct qidmap_live){a.fs, 0, a.identity.superblock};
    o.live = &live;
    o.n_live = 1;
    fs = a.fs;
    enroll(store, &a, 1, &o);
    g_assert_cmpuint(a.fs, ==, fs);
    qidmap_store_close(store);

    store = fixture_open("memory:", FIXTURE_WRITE, 0);
    o = (struct qidmap_register_options){.size = sizeof o, .markers = 1};
    marks_asked = 0;
    a = plain;
    enroll(store, &a, 1, &o);
    g_assert_cmpuint(marks_asked, ==, 1);
    g_assert_cmpuint(a.identity.fsid[0].kind, ==, QIDMAP_FSID_MARKER);
    b = mounted_of(9, 4, "/srv/moved");
    b.identity.fsid[0].kind = QIDMAP_FSID_WEAK;
    set_marker(&b.identity, a.identity.hints.marker);
    enroll(store, &b, 1, &o);
    g_assert_cmpuint(b.fs, ==, a.fs);
    enroll(store, &plain, 1, &o); /* where it was there is one without its marker */
    g_assert_cmpuint(plain.fs, !=, a.fs);
    g_assert_cmpuint(marks_asked, ==, 2);
    qidmap_store_close(store);
}

/* What a mount can do no longer, makes a new row, and is said; what an operator chose, holds. */
static void test_policy(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted m = mounted_of(1, 1, "/srv/a");
    guint32 affix, handle;

    m.identity.policy = QIDMAP_POLICY_AFFIX; /* overlay with xino */
    enroll(store, &m, 1, NULL);
    affix = m.fs;
    m.identity.policy = QIDMAP_POLICY_HANDLE; /* without */
    enroll(store, &m, 1, NULL);
    handle = m.fs;
    g_assert_cmpuint(handle, !=, affix);
    g_assert_cmpuint(m.flags, ==, QIDMAP_MOUNTED_NEW | QIDMAP_MOUNTED_POLICY);
    g_assert_cmpuint(m.other, ==, affix);
    enroll(store, &m, 1, NULL);
    g_assert_true(m.fs == handle && m.flags == 0);
    m.identity.policy = QIDMAP_POLICY_AFFIX; /* and back */
    enroll(store, &m, 1, NULL);
    g_assert_true(m.fs == affix && m.flags == 0);

    m = mounted_of(2, 2, "/srv/b"); /* handles work with xino as well: no new row */
    m.identity.policy = QIDMAP_POLICY_HANDLE;
    enroll(store, &m, 1, NULL);
    handle = m.fs;
    m.identity.policy = QIDMAP_POLICY_AFFIX;
    enroll(store, &m, 1, NULL);
    g_assert_true(m.fs == handle && m.flags == 0);

    m = mounted_of(3, 3, "/srv/c"); /* ext4 whose operator wants handles */
    enroll(store, &m, 1, NULL);
    affix = m.fs;
    g_assert_cmpint(qidmap_fs_set_policy(store, affix, QIDMAP_POLICY_HANDLE, 0, NULL, NULL), ==, 0);
    enroll(store, &m, 1, NULL);
    g_assert_true(m.fs == affix && m.flags == 0);
    qidmap_store_close(store);
}

/* Identities that lead to two rows: neither, and it is said; the ids of both stay theirs. */
static void test_conflict(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b = mounted_of(2, 2, "/srv/b"), c;

    enroll(store, &a, 1, NULL);
    enroll(store, &b, 1, NULL);
    c = mounted_of(1, 1, "/srv/a");
    c.identity.fsid[1] = b.identity.fsid[0];
    c.identity.count = 2;
    enroll(store, &c, 1, NULL);
    g_assert_true(c.fs != a.fs && c.fs != b.fs);
    g_assert_true((c.flags & QIDMAP_MOUNTED_NEW) && (c.flags & QIDMAP_MOUNTED_CONFLICT));
    g_assert_cmpuint(c.other, ==, a.fs);
    qidmap_store_close(store);
}

/* A marker that came with a copy is replaced, whoever comes first: the one whose row knows it keeps
 * it. Where the copy is read-only, it is the original that gets another one. */
static void test_copied_marker(void)
{
    for (int order = 0; order < 3; order++) {
        qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
        struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b = mounted_of(1, 2, "/srv/b"), m[2];
        struct qidmap_register_options o = {.size = sizeof o, .markers = 1};
        struct qidmap_live live[2];
        guint8 first[16] = {0xaa};

        set_marker(&a.identity, first);
        set_marker(&b.identity, first);
        enroll(store, &a, 1, &o);
        marks_asked = 0;
        if (order < 2) {
            m[order] = a;
            m[1 - order] = b;
            enroll(store, m, 2, &o);
            g_assert_cmpuint(m[order].fs, ==, a.fs);
            g_assert_cmpmem(m[order].identity.hints.marker, 16, first, 16);
            b = m[1 - order];
        } else {
            live[0] = (struct qidmap_live){a.fs, 0, a.identity.superblock};
            o.live = live;
            o.n_live = 1;
            b.identity.flags |= QIDMAP_IDENTITY_READONLY;
            enroll(store, &b, 1, &o);
            g_assert_cmpuint(marks_asked, ==, 0);
            g_assert_cmpuint(b.other, ==, a.fs);
            live[1] = (struct qidmap_live){b.fs, 0, b.identity.superblock};
            o.n_live = 2;
            enroll(store, &a, 1, &o); /* given again, as the header says */
        }
        g_assert_cmpuint(marks_asked, ==, 1);
        g_assert_cmpuint(a.fs, !=, b.fs);
        g_assert_true(memcmp(a.identity.hints.marker, b.identity.hints.marker, 16) != 0);

        /* The next boot, everything swapped, and one of them alone. */
        struct qidmap_mounted c = mounted_of(1, 7, "/srv/a"), d = mounted_of(1, 8, "/srv/b");
        set_marker(&c.identity, b.identity.hints.marker);
        set_marker(&d.identity, a.identity.hints.marker);
        o.n_live = 0;
        enroll(store, &c, 1, &o);
        g_assert_cmpuint(c.fs, ==, b.fs);
        enroll(store, &d, 1, &o);
        g_assert_cmpuint(d.fs, ==, a.fs);
        qidmap_store_close(store);
    }
}

static int stop_marking(int fd G_GNUC_UNUSED, struct qidmap_identity *id G_GNUC_UNUSED,
                        struct qidmap_error *error G_GNUC_UNUSED)
{
    return -EIO;
}

/* Cut short before a marker was replaced, and started again: every backend remembers that it is
 * open, and neither the copy with the old marker nor a filesystem with the new one goes astray. */
static void test_stopped(gconstpointer backend)
{
    static const struct qm_outside stopping = {stop_marking, nothing_present};
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strconcat(backend, ":", dir, NULL);
    struct qidmap_register_options o = {.size = sizeof o, .markers = 1};
    struct qidmap_error error = {0, ""};
    qidmap_store *store = NULL;

    if (qidmap_store_open(uri, FIXTURE_WRITE, NULL, &store, &error) != 0) {
        g_test_skip(error.text);
        fixture_remove(dir);
        return;
    }
    for (guint8 uuid = 1; uuid <= 2; uuid++) {
        struct qidmap_mounted a = mounted_of(uuid, 1, "/srv/a"), b = mounted_of(uuid, 2, "/srv/b");
        struct qidmap_mounted m[2];
        struct qidmap_fs row = {.size = sizeof row};
        guint8 first[16] = {uuid}, second[16] = {uuid, 7};

        set_marker(&a.identity, first);
        set_marker(&b.identity, first);
        enroll(store, &a, 1, &o);
        m[0] = b;
        m[1] = a;
        g_assert_cmpint(qm_store_register_mounted(store, m, 2, &o, &stopping, NULL), ==, 0);
        g_assert_cmpuint(m[1].fs, ==, a.fs);
        qidmap_store_close(store);
        store = fixture_open(uri, QIDMAP_OPEN_WRITE, 0);
        qidmap_fs_get(store, m[0].fs, &row, NULL);
        g_assert_cmpuint(row.marker_open, ==, 1);
        if (uuid == 2) /* it was written, as it turns out */
            set_marker(&b.identity, second);
        enroll(store, &b, 1, &o);
        g_assert_cmpuint(b.fs, ==, m[0].fs);
        qidmap_fs_get(store, b.fs, &row, NULL);
        g_assert_cmpuint(row.marker_open, ==, 0);
        g_assert_cmpmem(row.hints.marker, 16, b.identity.hints.marker, 16);
        enroll(store, &a, 1, &o);
        g_assert_cmpuint(a.fs, ==, m[1].fs);
    }
    qidmap_store_close(store);
    fixture_remove(dir);
}

/* Copies of a row that share another of its identities than the one seen now, count as copies. */
static void test_copies_of_rows(void)
{
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
    struct qidmap_mounted a = mounted_of(1, 1, "/srv/a"), b = mounted_of(1, 2, "/srv/b"), c;
    struct qidmap_live live;
    struct qidmap_register_options o = {.size = sizeof o, .live = &live, .n_live = 1};

    a.identity.fsid[1] = mounted_of(2, 1, "/").identity.fsid[0];
    a.identity.count = 2;
    enroll(store, &a, 1, NULL);
    live = (struct qidmap_live){a.fs, 0, a.identity.superblock};
    enroll(store, &b, 1, &o);
    g_assert_cmpuint(b.fs, !=, a.fs);
    c = mounted_of(2, 3, "/srv/c"); /* nothing but the identity fits: a moved, or b */
    enroll(store, &c, 1, NULL);
    g_assert_true(c.fs != a.fs && c.fs != b.fs);
    qidmap_store_close(store);
}

/* bind=distinct: a row for each tree; the first recorded path keeps the row, and without trees the
 * oldest is taken. No trees are duplicates: no markers. */
static void test_trees(void)
{
    for (int order = 0; order < 2; order++) {
        qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 0);
        struct qidmap_register_options o = {.size = sizeof o, .markers = 1};
        struct qidmap_mounted plain = mounted_of(1, 1, "/srv/b"), m[2], late;
        struct qidmap_mounted *a = &m[order], *b = &m[1 - order];
        struct qidmap_live live[2];
        guint32 fs_a, fs_b;

        marks_asked = 0;
        enroll(store, &plain, 1, &o);
        fs_b = plain.fs;
        *a = mounted_of(1, 1, "/srv/a");
        *b = mounted_of(1, 1, "/srv/b");
        strcpy(a->identity.hints.tree, "a");
        strcpy(b->identity.hints.tree, "b");
        enroll(store, m, 2, &o);
        g_assert_true(b->fs == fs_b && b->flags == 0);
        g_assert_true(a->fs != fs_b && a->flags == QIDMAP_MOUNTED_NEW);
        fs_a = a->fs;
        m[0].identity.superblock = m[1].identity.superblock = 99; /* the next boot */
        enroll(store, m, 2, &o);
        g_assert_true(a->fs == fs_a && b->fs == fs_b);
        enroll(store, a, 1, &o);
        g_assert_cmpuint(a->fs, ==, fs_a);

        late = *a; /* a third place, while both are live */
        strcpy(late.identity.hints.tree, "c");
        live[0] = (struct qidmap_live){fs_a, 0, 99};
        live[1] = (struct qidmap_live){fs_b, 0, 99};
        o.live = live;
        o.n_live = 2;
        enroll(store, &late, 1, &o);
        g_assert_true(late.fs != fs_a && late.fs != fs_b && late.flags == QIDMAP_MOUNTED_NEW);
        o.n_live = 0;

        strcpy(plain.identity.hints.mount_path, "/srv/z"); /* switched off again, elsewhere */
        enroll(store, &plain, 1, &o);
        g_assert_cmpuint(plain.fs, ==, MIN(fs_a, fs_b));
        enroll(store, m, 2, &o);
        g_assert_true(a->fs == fs_a && b->fs == fs_b);
        g_assert_cmpuint(marks_asked, ==, 0);
        qidmap_store_close(store);
    }
}

/* Ten thousand snapshots that come one by one, all others live: each is compared with rows of its
 * own identity alone. The seconds are for people. */
static void many(const char *uri, guint n)
{
    qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, 0);
    g_autofree struct qidmap_live *live = g_new0(struct qidmap_live, n);
    g_autofree struct qidmap_mounted *all = g_new0(struct qidmap_mounted, n);
    struct qidmap_register_options o = {.size = sizeof o, .live = live};
    GTimer *timer = g_timer_new();

    for (guint i = 0; i < n; i++) {
        struct qidmap_mounted m = mounted_of(1, 40, "/srv/btrfs");
        guint32 number = i + 1;
        m.identity.fsid[0].kind = QIDMAP_FSID_BTRFS;
        m.identity.fsid[0].size = 32;
        memcpy(m.identity.fsid[0].bytes + 16, &number, sizeof number);
        o.n_live = i;
        enroll(store, &m, 1, &o);
        g_assert_cmpuint(m.flags, ==, QIDMAP_MOUNTED_NEW);
        g_assert_cmpuint(m.fs, ==, i + 1);
        live[i] = (struct qidmap_live){m.fs, 0, m.identity.superblock};
        all[i] = m;
        if (i + 1 == n / 10)
            g_test_message("%s the first %u: %.2f s", uri, n / 10, g_timer_elapsed(timer, NULL));
    }
    g_test_message("%s all %u: %.2f s", uri, n, g_timer_elapsed(timer, NULL));
    g_timer_start(timer);
    o.n_live = 0;
    enroll(store, all, n, &o);
    g_test_message("%s again in one batch: %.2f s", uri, g_timer_elapsed(timer, NULL));
    for (guint i = 0; i < n; i++)
        g_assert_true(all[i].fs == i + 1 && all[i].flags == 0);
    g_timer_destroy(timer);
    qidmap_store_close(store);
}

static void test_many(void)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strconcat("lmdb:", dir, NULL);

    many("memory:", 10000);
    many(uri, g_test_perf() ? 10000 : 300);
    fixture_remove(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mounted/live", test_live);
    g_test_add_func("/mounted/live-by-name", test_live_by_name);
    g_test_add_func("/mounted/refuse", test_refuse);
    g_test_add_func("/mounted/weak", test_weak);
    g_test_add_func("/mounted/policy", test_policy);
    g_test_add_func("/mounted/conflict", test_conflict);
    g_test_add_func("/mounted/copied-marker", test_copied_marker);
    g_test_add_data_func("/mounted/stopped/lmdb", "lmdb", test_stopped);
    g_test_add_data_func("/mounted/stopped/xattr", "xattr", test_stopped);
    g_test_add_func("/mounted/copies-of-rows", test_copies_of_rows);
    g_test_add_func("/mounted/trees", test_trees);
    g_test_add_func("/mounted/many", test_many);
    return g_test_run();
}
