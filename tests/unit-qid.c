/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a directory listing shows for each entry the very qid that looking at the file shows, at
 * mount points and for `..` too; no two files have one; what is forbidden is refused; and guests
 * see none of the names that belong to stores.
 */
#include "config.h"

#include "src/mount.h"
#include "src/qid.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

static const struct mount_settings settings; /* the defaults, without markers */

static gboolean old_kernel; /* statx(2) is that of Linux 6.7 */

/* Stands before the C library's for the test, the server and the store. */
int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict stx)
{
    unsigned lacking = old_kernel ? STATX_MNT_ID_UNIQUE | STATX_SUBVOL : 0;
    int rc = (int)syscall(SYS_statx, fd, path, flags, mask & ~lacking, stx);

    if (rc == 0)
        stx->stx_mask &= ~lacking;
    return rc;
}

static gboolean own_mounts; /* this process has a mount namespace of its own */

struct tree {
    char *dir;
    int fd;
    struct qid_map *map;
    struct qid_export *exp;
};

static void start(struct tree *t, enum qid_multidevs multidevs)
{
    g_autoptr(GError) error = NULL;

    t->fd = open(t->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    t->map = qid_map_new(NULL, &error);
    g_assert_no_error(error);
    t->exp =
        qid_map_add_export(t->map, "x", t->dir, t->fd, "memory:", multidevs, &settings, &error);
    g_assert_no_error(error);
    qid_map_start(t->map, &error);
    g_assert_no_error(error);
}

static void make_tree(struct tree *t)
{
    t->dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    for (int i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("%s/e%d", t->dir, i);
        if (i % 3 == 0)
            g_assert_cmpint(mkdir(path, 0700), ==, 0);
        else if (i % 3 == 1)
            g_assert_cmpint(symlink("x", path), ==, 0);
        else
            g_assert_true(g_file_set_contents(path, "", 0, NULL));
    }
}

static void stop(struct tree *t)
{
    qid_map_free(t->map);
    close(t->fd);
}

static void remove_tree(struct tree *t)
{
    for (int i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("%s/e%d", t->dir, i);
        g_remove(path);
    }
    g_assert_cmpint(g_rmdir(t->dir), ==, 0);
    g_free(t->dir);
}

static void qid_of(struct tree *t, int at, const char *name, struct qid *qid)
{
    struct statx stx;
    int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(statx(fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
    g_assert_cmpint(qid_from_stat(t->exp, fd, &stx, qid), ==, 0);
    g_assert_cmpuint(qid->version, !=, 0);
    close(fd);
}

/* Lists `name` below the export and compares each entry with what looking at it says. */
static guint compare_listing(struct tree *t, const char *name, gboolean unknown_types)
{
    struct qid_dirent entries[64];
    struct statx stx;
    guint count = 0;
    int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(statx(fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
    DIR *dir = fdopendir(dup(fd));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const struct dirent *e;
    while ((e = readdir(dir)) != NULL && count < G_N_ELEMENTS(entries)) {
        char *copy = g_strdup(e->d_name);
        g_ptr_array_add(names, copy);
        entries[count++] = (struct qid_dirent){
            .name = copy, .d_ino = e->d_ino, .d_type = unknown_types ? DT_UNKNOWN : e->d_type};
    }
    closedir(dir);
    g_assert_cmpint(qid_from_dirents(t->exp, fd, &stx, t->fd, entries, count), ==, 0);
    for (guint i = 0; i < count; i++) {
        gboolean dotdot = strcmp(entries[i].name, "..") == 0;
        struct qid qid;
        g_assert_cmpint(entries[i].result, ==, 0);
        qid_of(t, dotdot ? t->fd : fd, dotdot ? "." : entries[i].name, &qid);
        g_assert_cmpuint(entries[i].qid.path, ==, qid.path);
        g_assert_cmpuint(entries[i].qid.type, ==, qid.type);
        g_assert_cmpuint(entries[i].qid.version, ==, qid.version);
        g_assert_cmpuint(entries[i].d_type, !=, DT_UNKNOWN);
        for (guint k = 0; k < i; k++) {
            gboolean dots = entries[i].name[0] == '.' && entries[k].name[0] == '.';
            if (!dots)
                g_assert_cmpuint(entries[i].qid.path, !=, entries[k].qid.path);
        }
    }
    close(fd);
    return count;
}

static void test_listing(void)
{
    static const enum qid_multidevs modes[] = {QID_MULTIDEVS_REMAP, QID_MULTIDEVS_FORBID,
                                               QID_MULTIDEVS_WARN};
    struct tree t;
    make_tree(&t);
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        start(&t, modes[i]);
        g_assert_cmpuint(compare_listing(&t, ".", FALSE), ==, 22);
        compare_listing(&t, ".", TRUE);
        compare_listing(&t, "e0", FALSE);
        stop(&t);
    }
    remove_tree(&t);
}

static void test_vanished(void)
{
    struct tree t;
    struct statx stx;
    make_tree(&t);
    start(&t, QID_MULTIDEVS_REMAP);
    g_assert_cmpint(statx(t.fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
    struct qid_dirent entries[] = {
        {.name = "gone", .d_ino = 5, .d_type = DT_UNKNOWN},
        {.name = "e1", .d_ino = 6, .d_type = DT_UNKNOWN},
    };
    g_assert_cmpint(qid_from_dirents(t.exp, t.fd, &stx, t.fd, entries, 2), ==, 0);
    g_assert_cmpint(entries[0].result, ==, -ENOENT);
    g_assert_cmpint(entries[1].result, ==, 0);
    g_assert_cmpuint(entries[1].d_type, ==, DT_LNK);
    stop(&t);
    remove_tree(&t);
}

static gpointer hammer(gpointer data)
{
    struct tree *t = data;
    struct qid first, qid;
    qid_of(t, t->fd, "e2", &first);
    for (int i = 0; i < 2000; i++) {
        qid_of(t, t->fd, "e2", &qid);
        g_assert_cmpuint(qid.path, ==, first.path);
    }
    return NULL;
}

/* Files on a filesystem that is mounted inside, before and after the start, with others asking. */
static void test_mounts(void)
{
    struct tree t;
    struct qid root, inside, other;
    if (!own_mounts) {
        g_test_skip("no root");
        return;
    }
    make_tree(&t);
    g_autofree char *first = g_build_filename(t.dir, "e0", NULL);
    g_autofree char *second = g_build_filename(t.dir, "e3", NULL);
    if (mount("qidmap", first, "tmpfs", 0, "size=64k") != 0) {
        g_test_skip("no mounts allowed");
        remove_tree(&t);
        return;
    }
    start(&t, QID_MULTIDEVS_REMAP);
    GThread *threads[3];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("hammer", hammer, &t);
    compare_listing(&t, ".", FALSE);
    compare_listing(&t, "e0", FALSE);
    qid_of(&t, t.fd, "e0", &inside);
    for (int i = 0; i < 20; i++) { /* come and go: same place, other filesystems, reused numbers */
        g_assert_cmpint(mount("qidmap", second, "tmpfs", 0, "size=64k"), ==, 0);
        compare_listing(&t, ".", FALSE);
        qid_of(&t, t.fd, "e3", &other);
        g_assert_cmpuint(other.path, !=, inside.path);
        g_assert_cmpint(umount2(second, 0), ==, 0);
        compare_listing(&t, ".", FALSE);
    }
    qid_of(&t, t.fd, ".", &root);
    g_assert_cmpuint(root.path, !=, inside.path);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    stop(&t);

    /* forbid: the mount is refused, alone and in the listing; a bind mount of the same is not. */
    g_assert_cmpint(mount(t.dir, second, NULL, MS_BIND, NULL), ==, 0);
    start(&t, QID_MULTIDEVS_FORBID);
    struct statx stx, dir;
    int fd = openat(t.fd, "e0", O_PATH);
    g_assert_cmpint(statx(fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
    g_assert_cmpint(qid_from_stat(t.exp, fd, &stx, &other), ==, -ENODEV);
    close(fd);
    g_assert_cmpint(statx(t.fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &dir), ==, 0);
    struct qid_dirent entries[] = {{.name = "e0", .d_ino = 1, .d_type = DT_DIR},
                                   {.name = "e3", .d_ino = 1, .d_type = DT_DIR}};
    g_assert_cmpint(qid_from_dirents(t.exp, t.fd, &dir, t.fd, entries, 2), ==, 0);
    g_assert_cmpint(entries[0].result, ==, -ENODEV);
    g_assert_cmpint(entries[1].result, ==, 0);
    qid_of(&t, t.fd, ".", &root);
    g_assert_cmpuint(entries[1].qid.path, ==, root.path);
    stop(&t);

    /* warn: raw numbers, which collide. */
    start(&t, QID_MULTIDEVS_WARN);
    qid_of(&t, t.fd, "e0", &inside);
    fd = openat(t.fd, "e0", O_PATH);
    g_assert_cmpint(statx(fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
    g_assert_cmpuint(inside.path, ==, stx.stx_ino);
    close(fd);
    stop(&t);

    umount2(second, 0);
    umount2(first, 0);
    remove_tree(&t);
}

/*
 * Before Linux 6.8 a mount that comes takes the id and the device number of the one that left, and
 * looks the same in the table; whoever asks in the very moment must not be told the old one's ids.
 */
static void test_reused_numbers(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct tree t;
    guint64 last = 0;
    guint reused = 0;

    if (!own_mounts) {
        g_test_skip("no root");
        return;
    }
    make_tree(&t);
    g_autofree char *path = g_build_filename(t.dir, "e0", NULL);
    old_kernel = TRUE;
    start(&t, QID_MULTIDEVS_REMAP);
    for (int i = 0; i < 400; i++) {
        struct statx stx;
        struct qid qid;
        if (mount("qidmap", path, "tmpfs", 0, "size=64k") != 0) {
            g_test_skip("no mounts allowed");
            break;
        }
        int fd = open(path, O_PATH);
        g_assert_cmpint(statx(fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &stx), ==, 0);
        guint64 key = stx.stx_mnt_id << 32 | stx.stx_dev_minor;
        reused += key == last;
        last = key;
        g_assert_cmpint(qid_from_stat(t.exp, fd, &stx, &qid), ==, 0);
        close(fd);
        guint64 *id = g_new(guint64, 1);
        *id = qid.path;
        g_assert_true(g_hash_table_add(seen, id));
        g_assert_cmpint(umount2(path, 0), ==, 0);
    }
    g_test_message("%u times the numbers were those of the one before", reused);
    stop(&t);
    old_kernel = FALSE;
    remove_tree(&t);
}

static void test_bad_exports(void)
{
    g_autoptr(GError) error = NULL;
    char *bad[] = {(char *)"relative=00112233445566778899aabbccddeeff", NULL};
    g_assert_null(qid_map_new(bad, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
    bad[0] = (char *)"/path=0011";
    g_assert_null(qid_map_new(bad, &error));
    g_clear_error(&error);

    struct qid_map *map = qid_map_new(NULL, &error);
    g_assert_no_error(error);
    g_autofree char *dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_autofree char *uri = g_strconcat("lmdb:", dir, "/deep/store", NULL);
    int fd = open(dir, O_PATH | O_CLOEXEC);
    g_assert_null(
        qid_map_add_export(map, "x", dir, fd, uri, QID_MULTIDEVS_REMAP, &settings, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
    int file = open("/proc/self/stat", O_PATH | O_CLOEXEC);
    g_assert_null(
        qid_map_add_export(map, "x", dir, file, "memory:", QID_MULTIDEVS_REMAP, &settings, &error));
    g_assert_nonnull(error);
    close(file);
    close(fd);
    qid_map_free(map);
    qid_map_free(NULL);
    g_rmdir(dir);
}

static void test_hidden(void)
{
    g_assert_true(qid_xattr_is_hidden("trusted.qidmap.a"));
    g_assert_true(qid_xattr_is_hidden("trusted.qidmap"));
    g_assert_true(qid_xattr_is_hidden("user.qidmap.marker"));
    g_assert_true(qid_xattr_is_hidden("user.virtfs.uid"));
    g_assert_true(qid_xattr_is_hidden("user.virtfs.system.qidmap.0"));
    g_assert_true(qid_xattr_is_hidden("User.QIDMAP.marker"));
    g_assert_true(qid_xattr_is_hidden("TRUSTED.qidmap"));
    g_assert_true(qid_xattr_is_hidden("user.VirtFS.uid"));
    g_assert_false(qid_xattr_is_hidden("user.virtfsx"));
    g_assert_false(qid_xattr_is_hidden("user.x.qidmap"));
    g_assert_false(qid_xattr_is_hidden("user."));
    g_assert_false(qid_xattr_is_hidden("user.comment"));
    g_assert_false(qid_xattr_is_hidden("system.posix_acl_access"));
    g_assert_false(qid_xattr_is_hidden(""));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* before any thread has opened mountinfo */
    own_mounts =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    g_test_add_func("/qid/listing", test_listing);
    g_test_add_func("/qid/vanished", test_vanished);
    g_test_add_func("/qid/bad-exports", test_bad_exports);
    g_test_add_func("/qid/hidden", test_hidden);
    g_test_add_func("/qid/mounts", test_mounts);
    g_test_add_func("/qid/reused-numbers", test_reused_numbers);
    return g_test_run();
}
