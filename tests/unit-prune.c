/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what exists is not pruned: neither what is moved while it is looked for, nor what has no
 * name any more and is open here, nor what is asked for meanwhile; what is open of another
 * filesystem keeps nothing; and where it cannot be known what exists, nothing is. Filesystems are
 * retired after the time that they were not seen, counted in time served and not by the clock, and
 * never one that is mounted, or may be.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store/prune-marks.h"
#include "store/prune-scan.h"
#include "tests/lib/store-fixture.h"

#define FILES 200u

/* ---- the look at a filesystem ---------------------------------------------------------------- */

static struct qidmap_object inode(uint64_t ino)
{
    struct qidmap_object object = {.fs = 7, .kind = QIDMAP_OBJECT_INODE, .ino = ino};

    return object;
}

static uint64_t make_file(const char *dir, unsigned i)
{
    g_autofree char *path = g_strdup_printf("%s/%u", dir, i);
    struct stat st;

    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_ino;
}

/* Three directories in the order in which they are read. */
struct tree {
    char *root, *dirs[3];
    uint64_t inos[3][FILES];
    unsigned calls;
};

static void tree_setup(struct tree *t)
{
    const char *name;
    unsigned n = 0, i;
    GDir *dir;

    t->root = fixture_dir();
    for (i = 0; i < 3; i++) {
        g_autofree char *path = g_strdup_printf("%s/d%u", t->root, i);
        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    }
    dir = g_dir_open(t->root, 0, NULL);
    while ((name = g_dir_read_name(dir)))
        t->dirs[n++] = g_build_filename(t->root, name, NULL);
    g_dir_close(dir);
    g_assert_cmpuint(n, ==, 3);
    for (n = 0; n < 3; n++) {
        for (i = 0; i < FILES; i++)
            t->inos[n][i] = make_file(t->dirs[n], i);
    }
}

static void tree_clear(struct tree *t)
{
    fixture_remove(t->root);
    g_free(t->root);
    for (unsigned n = 0; n < 3; n++)
        g_free(t->dirs[n]);
}

static struct qm_marks *marks_of(const struct tree *t)
{
    struct qm_marks *marks = qm_marks_new();
    struct qidmap_object gone = inode(UINT64_MAX - 5);

    for (unsigned n = 0; n < 3; n++) {
        for (unsigned i = 0; i < FILES; i++) {
            struct qidmap_object object = inode(t->inos[n][i]);
            qm_marks_add(marks, &object);
        }
    }
    qm_marks_add(marks, &gone);
    qm_marks_sort(marks);
    return marks;
}

static int look(struct tree *t, struct qm_marks *marks, qidmap_progress_func progress)
{
    struct qm_scan scan = {.bare = TRUE, .marks = marks, .progress = progress, .data = t};
    GError *error = NULL;
    int e;

    scan.root = open(t->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(scan.root, >=, 0);
    e = qm_scan_names(&scan, &error);
    close(scan.root);
    g_assert_true((e != 0) == (error != NULL));
    g_clear_error(&error);
    return e;
}

/* In the middle of the second directory: everything goes from the third to the first. */
static int move_behind(void *data, uint64_t done, uint64_t total G_GNUC_UNUSED)
{
    struct tree *t = data;

    if (done < FILES + FILES / 2 || t->calls++ > 0)
        return 0;
    for (unsigned i = 0; i < FILES; i++) {
        g_autofree char *from = g_strdup_printf("%s/%u", t->dirs[2], i);
        g_autofree char *to = g_strdup_printf("%s/moved-%u", t->dirs[0], i);
        g_assert_cmpint(g_rename(from, to), ==, 0);
    }
    return 0;
}

static void test_moved(void)
{
    struct tree t = {.calls = 0};
    struct qm_marks *marks;

    tree_setup(&t);
    g_usleep(100 * 1000); /* so that the first walk counts, if nothing is moved */
    marks = marks_of(&t);
    g_assert_cmpint(look(&t, marks, move_behind), ==, 0);
    g_assert_cmpuint(t.calls, >, 0);
    g_assert_cmpuint(qm_marks_left(marks), ==, 1); /* the one that is not there */
    qm_marks_free(marks);
    tree_clear(&t);
}

/* One file goes behind the back of two walks, and in between to where it was. */
static int move_twice(void *data, uint64_t done, uint64_t total G_GNUC_UNUSED)
{
    const unsigned walk = 3 + 3 * FILES, second = 3 + FILES + FILES / 4, third = walk - FILES / 4;
    const uint64_t when[] = {second, third, walk + second};
    struct tree *t = data;

    if (t->calls < G_N_ELEMENTS(when) && done >= when[t->calls]) {
        g_autofree char *there = g_build_filename(t->dirs[2], "7", NULL);
        g_autofree char *here = g_build_filename(t->dirs[0], "7-moved", NULL);
        gboolean back = t->calls++ == 1;
        g_assert_cmpint(g_rename(back ? here : there, back ? there : here), ==, 0);
    }
    return 0;
}

/* tests/root-prune.sh runs this on a filesystem that keeps times in seconds, too. */
static void test_moved_twice(void)
{
    struct tree t = {.calls = 0};
    struct qm_marks *marks;

    tree_setup(&t);
    marks = marks_of(&t);
    g_usleep((gulong)(G_USEC_PER_SEC - g_get_real_time() % G_USEC_PER_SEC));
    for (unsigned n = 0; n < 3; n++) {
        g_autofree char *path = g_strdup_printf("%s/%u", t.dirs[n], FILES);
        (void)make_file(t.dirs[n], FILES);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_usleep(100 * 1000); /* longer than a clock of nanoseconds needs */
    g_assert_cmpint(look(&t, marks, move_twice), ==, 0);
    g_assert_cmpuint(t.calls, ==, 3);
    g_assert_cmpuint(qm_marks_left(marks), ==, 1);
    qm_marks_free(marks);
    tree_clear(&t);
}

static int keep_changing(void *data, uint64_t done, uint64_t total G_GNUC_UNUSED)
{
    struct tree *t = data;

    (void)make_file(t->dirs[0], (unsigned)done + 1000);
    return 0;
}

static void test_busy(void)
{
    struct tree t = {.calls = 0};
    struct qm_marks *marks;

    tree_setup(&t);
    marks = marks_of(&t);
    g_assert_cmpint(look(&t, marks, keep_changing), ==, -EBUSY);
    qm_marks_free(marks);
    tree_clear(&t);
}

static int enough(void *data G_GNUC_UNUSED, uint64_t done G_GNUC_UNUSED,
                  uint64_t total G_GNUC_UNUSED)
{
    return 1;
}

static void test_nameless(void)
{
    struct tree t = {.calls = 0};
    g_autofree char *name = NULL;
    struct qidmap_object object;
    struct qm_marks *marks;
    int fd;

    tree_setup(&t);
    name = g_strdup_printf("%s/0", t.dirs[1]);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(g_unlink(name), ==, 0);
    object = inode(t.inos[1][0]);
    marks = marks_of(&t);
    g_assert_cmpint(look(&t, marks, NULL), ==, 0);
    g_assert_true(qm_marks_get(marks, &object)); /* it lives, as long as it is open */
    qm_marks_free(marks);
    close(fd);
    marks = marks_of(&t);
    g_assert_cmpint(look(&t, marks, NULL), ==, 0);
    g_assert_false(qm_marks_get(marks, &object));
    qm_marks_free(marks);
    marks = marks_of(&t);
    g_assert_cmpint(look(&t, marks, enough), ==, -ECANCELED);
    qm_marks_free(marks);
    tree_clear(&t);
}

static gboolean device_tells(const struct statfs *sfs)
{
    static const guint types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
                                  F2FS_SUPER_MAGIC};

    for (guint i = 0; i < G_N_ELEMENTS(types); i++)
        if ((guint)sfs->f_type == types[i])
            return TRUE;
    return FALSE;
}

/* What is open of another filesystem, and has the inode number of what is gone here, keeps no row,
 * where the device of a file tells its filesystem; elsewhere, as on an overlay, it does. */
static void test_open_elsewhere(void)
{
    struct tree t = {.calls = 0};
    struct qm_marks *marks;
    struct qidmap_object object;
    struct stat st;
    struct statfs sfs;
    int fd;

    tree_setup(&t);
    g_assert_cmpint(statfs(t.root, &sfs), ==, 0);
    fd = open("/proc", O_PATH | O_CLOEXEC); /* inode 1, which no file in a folder has on disks */
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    object = inode(st.st_ino);
    marks = qm_marks_new();
    qm_marks_add(marks, &object);
    qm_marks_sort(marks);
    g_assert_cmpint(look(&t, marks, NULL), ==, 0);
    g_assert_cmpint(qm_marks_get(marks, &object), ==, !device_tells(&sfs));
    qm_marks_free(marks);
    close(fd);
    tree_clear(&t);
}

struct mover {
    int fd, over;
};

static void *move_descriptor(void *data)
{
    struct mover *m = data;

    for (int low = 0; !g_atomic_int_get(&m->over); low = !low) {
        int fd = fcntl(m->fd, F_DUPFD_CLOEXEC, low ? 0 : 100);

        g_assert_cmpint(fd, >=, 0);
        close(m->fd);
        m->fd = fd;
        g_usleep(1000);
    }
    return NULL;
}

/* A file without a name that is open, now as this descriptor, now as that one. */
static void test_nameless_moved(void)
{
    g_autofree char *root = fixture_dir(), *name = g_build_filename(root, "0", NULL);
    struct qidmap_object object = inode(make_file(root, 0));
    struct mover m = {.fd = open(name, O_RDONLY | O_CLOEXEC)};
    struct tree t = {.root = root};
    GThread *thread;

    g_assert_cmpint(m.fd, >=, 0);
    g_assert_cmpint(g_unlink(name), ==, 0);
    g_usleep(100 * 1000);
    thread = g_thread_new("mover", move_descriptor, &m);
    for (unsigned i = 0; i < 1000; i++) {
        struct qm_marks *marks = qm_marks_new();

        qm_marks_add(marks, &object);
        qm_marks_sort(marks);
        g_assert_cmpint(look(&t, marks, NULL), ==, 0);
        g_assert_true(qm_marks_get(marks, &object));
        qm_marks_free(marks);
    }
    g_atomic_int_set(&m.over, 1);
    g_thread_join(thread);
    close(m.fd);
    fixture_remove(root);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static uint64_t far_inode(unsigned i) /* of the full map, and of no file */
{
    return ((uint64_t)(i % 61 + 1) << 58) | (i + 1);
}

struct asker {
    qidmap_store *store;
    uint32_t fs;
    unsigned calls;
};

static int ask(void *data, uint64_t done G_GNUC_UNUSED, uint64_t total G_GNUC_UNUSED)
{
    struct asker *a = data;
    uint64_t path;

    if (a->calls++ == 0) {
        for (unsigned i = 0; i < FILES; i += 2)
            g_assert_cmpint(qidmap_find(a->store, a->fs, far_inode(i), &path), ==, 0);
        g_assert_cmpint(qidmap_map(a->store, a->fs, far_inode(FILES), &path), ==, 0);
    }
    return 0;
}

static void test_asked(void)
{
    struct tree t = {.calls = 0};
    qidmap_store *store = fixture_open("memory:", FIXTURE_WRITE, 2);
    struct asker a = {store, fixture_register(store, 1, QIDMAP_POLICY_AFFIX), 0};
    struct qidmap_missing_options options = {
        .size = sizeof(options), .fs = a.fs, .root = -1, .progress = ask, .data = &a};
    struct qidmap_prune_result result = {.size = sizeof(result)};
    uint64_t ids[FILES], path, kept = 0, full = 0;

    tree_setup(&t);
    for (unsigned i = 0; i < FILES; i++) {
        g_assert_cmpint(qidmap_map(store, a.fs, far_inode(i), &ids[i]), ==, 0);
        full += ids[i] & 1;
    }
    options.bare = open(t.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(qidmap_prune_missing(store, &options, &result, NULL), ==, 0);
    close(options.bare);
    g_assert_cmpuint(a.calls, >, 0);
    for (unsigned i = 0; i < FILES; i++) {
        int r = qidmap_find(store, a.fs, far_inode(i), &path);

        if (i % 2 == 0 || !(ids[i] & 1)) {
            g_assert_cmpint(r, ==, 0); /* somebody asked: whoever it is has this id */
            g_assert_cmpuint(path, ==, ids[i]);
            kept += ids[i] & 1;
        } else {
            g_assert_cmpint(r, ==, -ENOENT);
        }
    }
    g_assert_cmpint(qidmap_find(store, a.fs, far_inode(FILES), &path), ==, 0); /* born meanwhile */
    g_assert_cmpuint(result.missing, ==, full - kept);
    g_assert_cmpuint(result.missing, >, 0);
    qidmap_store_close(store);
    tree_clear(&t);
}

static void *compact(void *data)
{
    struct asker *a = data;

    while (!g_atomic_int_get(&a->calls))
        g_assert_cmpint(qidmap_compact(a->store, 0, NULL, NULL), ==, 0);
    return NULL;
}

static int all_live(void *data G_GNUC_UNUSED, const struct qidmap_object *objects G_GNUC_UNUSED,
                    size_t count G_GNUC_UNUSED, uint8_t *exists G_GNUC_UNUSED)
{
    return 0;
}

/* A store that is compacted under the snapshot: no row is passed over, and nothing fails. */
static void test_compacted(void)
{
    const unsigned rows = 20000;
    g_autofree char *dir = fixture_fast_dir(), *uri = g_strconcat("lmdb:", dir, "/store", NULL);
    struct asker a = {fixture_open(uri, FIXTURE_WRITE, 2), 0, 0};
    struct qidmap_prune_options options = {
        .size = sizeof(options), .flags = QIDMAP_DRY_RUN, .look = all_live};
    g_autofree struct qidmap_item *items = g_new0(struct qidmap_item, rows);
    struct qidmap_stats stats = {.size = sizeof(stats)};
    GThread *thread;

    options.fs = a.fs = fixture_register(a.store, 1, QIDMAP_POLICY_AFFIX);
    for (unsigned i = 0; i < rows; i++)
        items[i] = (struct qidmap_item){.fs = a.fs, .ino = far_inode(i)};
    g_assert_cmpint(qidmap_map_batch(a.store, items, rows), ==, 0);
    g_assert_cmpint(qidmap_store_stats(a.store, &stats, NULL), ==, 0);
    thread = g_thread_new("compact", compact, &a);
    for (unsigned i = 0; i < 60; i++) {
        struct qidmap_prune_result result = {.size = sizeof(result)};
        struct qidmap_error error = {0, ""};

        if (qidmap_prune(a.store, &options, &result, &error) != 0)
            g_error("prune: %s", error.text);
        g_assert_cmpuint(result.rows, ==, stats.full_rows);
    }
    g_atomic_int_set(&a.calls, 1);
    g_thread_join(thread);
    qidmap_store_close(a.store);
    fixture_remove(dir);
}

/* ---- filesystems ----------------------------------------------------------------------------- */

#define DAY 86400u

struct gone {
    uint32_t fs[8];
    unsigned n;
};

static void note_gone(void *data, uint32_t fs, uint64_t unseen G_GNUC_UNUSED)
{
    struct gone *gone = data;

    gone->fs[gone->n++] = fs;
}

static void prune_fs(qidmap_store *store, uint64_t unseen_for, unsigned flags,
                     const struct qidmap_identity *mounted, const struct qidmap_live *live,
                     struct gone *gone)
{
    struct qidmap_prune_fs_options options = {.size = sizeof(options),
                                              .flags = flags,
                                              .unseen_for = unseen_for,
                                              .mounted = mounted,
                                              .n_mounted = mounted != NULL,
                                              .live = live,
                                              .n_live = live != NULL,
                                              .retired = note_gone,
                                              .data = gone};
    struct qidmap_error error = {0, ""};

    gone->n = 0;
    if (qidmap_prune_fs(store, &options, NULL, &error) != 0)
        g_error("prune-fs: %s", error.text);
}

static void test_unseen(void)
{
    g_autofree char *dir = fixture_dir();
    g_autofree char *uri = g_strconcat("lmdb:", dir, "/store", NULL);
    qidmap_store *store = fixture_open(uri, FIXTURE_WRITE, 2);
    uint32_t a = fixture_register(store, 1, QIDMAP_POLICY_AFFIX);
    uint32_t b = fixture_register(store, 2, QIDMAP_POLICY_AFFIX);
    uint32_t c = fixture_register(store, 3, QIDMAP_POLICY_AFFIX);
    struct qidmap_live live = {.fs = a};
    struct qidmap_fs row = {.size = sizeof(row)};
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_identity mounted = {.size = sizeof(mounted), .count = 1};
    struct gone gone;
    uint64_t path, then;

    g_assert_cmpint(qidmap_map(store, b, 9, &then), ==, 0);
    prune_fs(store, 1, 0, NULL, NULL, &gone);
    g_assert_cmpuint(gone.n, ==, 0);
    store->opened_at -= 100 * (int64_t)DAY * G_USEC_PER_SEC; /* so long is it served now */
    g_assert_cmpint(qidmap_seen(store, &live, 1, NULL), ==, 0);
    qidmap_store_close(store);

    store = fixture_open(uri, FIXTURE_WRITE, 2); /* the count goes on, and the note is there */
    g_assert_cmpint(qidmap_store_stats(store, &stats, NULL), ==, 0);
    g_assert_cmpuint(stats.served, >=, 100 * DAY);
    g_assert_cmpint(qidmap_fs_get(store, a, &row, NULL), ==, 0);
    g_assert_cmpuint(row.seen, >=, 100 * DAY);
    prune_fs(store, 101 * DAY, 0, NULL, NULL, &gone);
    g_assert_cmpuint(gone.n, ==, 0);
    prune_fs(store, 90 * DAY, QIDMAP_DRY_RUN, NULL, NULL, &gone);
    g_assert_true(gone.n == 2 && gone.fs[0] == b && gone.fs[1] == c);
    g_assert_cmpint(qidmap_fs_get(store, b, &row, NULL), ==, 0);
    g_assert_cmpuint(row.retired, ==, 0);
    mounted.fsid[0] = row.fsid[0]; /* b is mounted, whatever row it would get */
    live.fs = c;
    prune_fs(store, 90 * DAY, 0, &mounted, &live, &gone);
    g_assert_cmpuint(gone.n, ==, 0);
    mounted.count = 0; /* of its type is something that cannot be told */
    g_strlcpy(mounted.hints.type, row.hints.type, sizeof(mounted.hints.type));
    prune_fs(store, 90 * DAY, 0, &mounted, &live, &gone);
    g_assert_cmpuint(gone.n, ==, 0);
    prune_fs(store, 90 * DAY, 0, NULL, &live, &gone);
    g_assert_true(gone.n == 1 && gone.fs[0] == b);
    g_assert_cmpint(qidmap_fs_get(store, b, &row, NULL), ==, 0);
    g_assert_cmpuint(row.retired, ==, 1);
    b = fixture_register(store, 2,
                         QIDMAP_POLICY_AFFIX); /* it comes again: nothing is given twice */
    g_assert_cmpint(qidmap_map(store, b, 9, &path), ==, 0);
    g_assert_cmpuint(path, !=, then);
    qidmap_store_close(store);
    fixture_remove(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/prune/moved", test_moved);
    g_test_add_func("/prune/moved-twice", test_moved_twice);
    g_test_add_func("/prune/busy", test_busy);
    g_test_add_func("/prune/nameless", test_nameless);
    g_test_add_func("/prune/nameless-moved", test_nameless_moved);
    g_test_add_func("/prune/open-elsewhere", test_open_elsewhere);
    g_test_add_func("/prune/asked", test_asked);
    g_test_add_func("/prune/compacted", test_compacted);
    g_test_add_func("/prune/unseen", test_unseen);
    return g_test_run();
}
