/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: the filesystem that a file is on is identified, the same from any file on it and from
 * any descriptor, the operator's word stands first, and no persistent identity contains st_dev.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "store/hints.h"

static int open_at(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void identify(int fd, const struct qidmap_identify_options *options,
                     struct qidmap_identity *id)
{
    struct qidmap_error error;

    if (qm_identify(fd, options, id, &error) < 0)
        g_error("%s", error.text);
    g_assert_cmpuint(id->count, >=, 1);
    g_assert_cmpuint(id->count, <=, QIDMAP_FSID_COUNT);
}

static void assert_same(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    g_assert_cmpuint(a->superblock, ==, b->superblock);
    g_assert_cmpuint(a->count, ==, b->count);
    for (guint32 i = 0; i < a->count; i++) {
        g_assert_cmpuint(a->fsid[i].kind, ==, b->fsid[i].kind);
        g_assert_cmpmem(a->fsid[i].bytes, a->fsid[i].size, b->fsid[i].bytes, b->fsid[i].size);
    }
    g_assert_cmpuint(a->policy, ==, b->policy);
}

static void test_any_file(void)
{
    g_autofree char *dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "file", NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    struct qidmap_identity ids[6];
    g_assert_true(g_file_set_contents(file, "x", 1, NULL));
    g_assert_cmpint(symlink("nowhere", link), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);

    int fds[] = {
        open_at(dir, O_RDONLY | O_DIRECTORY),
        open_at(dir, O_PATH),
        open_at(file, O_RDONLY),
        open_at(file, O_PATH),
        open_at(link, O_PATH | O_NOFOLLOW),
        open_at(fifo, O_PATH),
    };
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        identify(fds[i], NULL, &ids[i]);
        assert_same(&ids[0], &ids[i]);
        close(fds[i]);
    }
    g_assert_cmpstr(ids[0].hints.type, !=, "");
    g_assert_cmpstr(ids[0].hints.mount_path, !=, "");
    g_assert_cmpuint(strlen(ids[0].hints.boot_id), ==, 36);
    g_remove(file);
    g_remove(link);
    g_remove(fifo);
    g_rmdir(dir);
}

static void test_override(void)
{
    guint8 uuid[16] = "0123456789abcde";
    struct qidmap_identify_options options = {.size = sizeof options, .override_uuid = uuid};
    struct qidmap_identity plain, with;
    int fd = open_at(g_get_tmp_dir(), O_PATH);
    identify(fd, NULL, &plain);
    identify(fd, &options, &with);
    close(fd);
    g_assert_cmpuint(with.fsid[0].kind, ==, QIDMAP_FSID_OVERRIDE);
    g_assert_cmpmem(with.fsid[0].bytes, with.fsid[0].size, uuid, 16);
    /* What else is known stays known, so that the row of before is found. */
    g_assert_cmpuint(with.count, ==, plain.count + 1);
    g_assert_cmpmem(with.fsid[1].bytes, with.fsid[1].size, plain.fsid[0].bytes, plain.fsid[0].size);
}

static void test_ephemeral(void)
{
    struct qidmap_identity proc, again, sys;
    guint8 boot[16];
    int fd = open_at("/proc", O_PATH);
    identify(fd, NULL, &proc);
    identify(fd, NULL, &again);
    close(fd);
    assert_same(&proc, &again);
    g_assert_cmpuint(proc.policy, ==, QIDMAP_POLICY_EPHEMERAL);
    g_assert_cmpuint(proc.fsid[0].kind, ==, QIDMAP_FSID_EPHEMERAL);
    g_assert_cmpuint(proc.fsid[0].size, ==, 32);
    g_assert_true(qm_boot_id(boot, NULL));
    g_assert_cmpmem(proc.fsid[0].bytes, 16, boot, 16);
    if (access("/sys/kernel", F_OK) == 0) {
        fd = open_at("/sys", O_PATH);
        identify(fd, NULL, &sys);
        close(fd);
        g_assert_true(memcmp(sys.fsid[0].bytes, proc.fsid[0].bytes, 32) != 0);
    }
}

static void test_errors(void)
{
    struct qidmap_identity id;
    struct qidmap_error error;
    int fds[2];
    g_assert_cmpint(qm_identify(-1, NULL, &id, &error), ==, -EBADF);
    g_assert_cmpint(error.code, ==, -EBADF);
    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_cmpint(qm_identify(fds[0], NULL, &id, NULL), ==, -ENODEV);
    close(fds[0]);
    close(fds[1]);
}

static void test_uuid_text(void)
{
    guint8 bytes[16];
    g_assert_true(qm_uuid_parse("00112233-4455-6677-8899-aabbccddeeFF", bytes));
    g_assert_cmpuint(bytes[15], ==, 0xff);
    g_assert_cmpuint(bytes[1], ==, 0x11);
    g_assert_true(qm_uuid_parse("00112233445566778899aabbccddeeff", bytes));
    g_assert_false(qm_uuid_parse("00112233-4455-6677-8899-aabbccddeef", bytes));
    g_assert_false(qm_uuid_parse("00112233-4455-6677-8899-aabbccddeeff0", bytes));
    g_assert_false(qm_uuid_parse("1234-ABCD", bytes));
    g_assert_false(qm_uuid_parse("", bytes));
}

/* Long hints are cut, and different ones stay different. */
static void test_hint_cut(void)
{
    char a[40], b[40], exact[40];
    g_autofree char *x = g_strnfill(100, 'x');
    g_autofree char *y = g_strnfill(100, 'x');
    y[99] = 'y';
    QM_HINT_SET(a, x);
    QM_HINT_SET(b, y);
    g_assert_cmpuint(strlen(a), ==, 39);
    g_assert_cmpstr(a, !=, b);
    QM_HINT_SET(b, x);
    g_assert_cmpstr(a, ==, b);
    g_autofree char *fits = g_strnfill(39, 'z');
    QM_HINT_SET(exact, fits);
    g_assert_cmpstr(exact, ==, fits);
}

/* A hint, its cut form and its digest are one; nothing else is. */
static void test_hint_equal(void)
{
    char cut[40], other[40], digest[QM_HINT_DIGEST], again[QM_HINT_DIGEST];
    g_autofree char *x = g_strnfill(100, 'x');
    g_autofree char *y = g_strnfill(100, 'x');
    y[99] = 'y';
    QM_HINT_SET(cut, x);
    QM_HINT_SET(other, y);
    qm_hint_digest(x, digest);
    qm_hint_digest(cut, again);
    g_assert_cmpstr(digest, ==, again);
    g_assert_cmpuint(strlen(digest), ==, 17);
    const char *same[] = {x, cut, digest};
    for (gsize i = 0; i < G_N_ELEMENTS(same); i++) {
        for (gsize k = 0; k < G_N_ELEMENTS(same); k++)
            g_assert_true(qm_hint_equal(same[i], same[k]));
        g_assert_false(qm_hint_equal(same[i], other));
        g_assert_false(qm_hint_equal(other, same[i]));
        g_assert_false(qm_hint_equal(same[i], y));
        g_assert_false(qm_hint_equal(same[i], ""));
        g_assert_false(qm_hint_equal("", same[i]));
    }
    /* The digits alone are not enough where more of the string is there. */
    g_autofree char *forged = g_strconcat("z", cut + 1, NULL);
    g_assert_false(qm_hint_equal(forged, cut));
    g_assert_false(qm_hint_equal(forged, x));
    /* A name that looks like a cut one is a name. */
    qm_hint_digest("a~0123456789abcdef", digest);
    g_assert_true(qm_hint_equal("a~0123456789abcdef", digest));
    g_assert_false(qm_hint_equal("a~0123456789abcdef", "a~0123456789abcdee"));
    g_assert_false(qm_hint_equal("a~0123456789abcdef", "b~0123456789abcdef"));
    g_assert_false(qm_hint_equal("a~0123456789ABCDEF", "~0123456789abcdef"));
    g_assert_true(qm_hint_equal("", ""));
}

static void test_tree(void)
{
    struct qidmap_identify_options options = {.size = sizeof options, .tree = "/a/b"};
    struct qidmap_identity with, without;
    int fd = open_at(g_get_tmp_dir(), O_PATH);
    identify(fd, &options, &with);
    identify(fd, NULL, &without);
    close(fd);
    assert_same(&with, &without);
    g_assert_cmpstr(with.hints.tree, ==, "/a/b");
    g_assert_cmpstr(without.hints.tree, ==, "");
}

static void test_device_present(void)
{
    struct qidmap_hints old = {.partition = 0}, now = {.partition = 0};
    g_autofree char *dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_autofree char *one = g_build_filename(dir, "one", NULL);
    g_autofree char *two = g_build_filename(dir, "two", NULL);
    g_assert_true(g_file_set_contents(two, "", 0, NULL));
    QM_HINT_SET(old.backing, one);
    QM_HINT_SET(now.backing, two);
    g_assert_false(qm_hints_device_present(&old, &now)); /* moved */
    g_assert_true(g_file_set_contents(one, "", 0, NULL));
    g_assert_true(qm_hints_device_present(&old, &now)); /* a copy */
    g_remove(one);
    g_assert_cmpint(link(two, one), ==, 0);
    g_assert_false(qm_hints_device_present(&old, &now)); /* one file, two names */
    g_remove(one);
    g_remove(two);
    g_rmdir(dir);
    struct qidmap_hints dm = {.partition = 0};
    QM_HINT_SET(dm.dm_uuid, "LVM-that-nobody-has");
    g_assert_false(qm_hints_device_present(&dm, &now));
}

static void test_names(void)
{
    g_assert_cmpstr(qm_fsid_kind_name(QIDMAP_FSID_UUID), ==, "uuid");
    g_assert_cmpstr(qm_fsid_kind_name(0), ==, "unknown");
    g_assert_cmpstr(qm_policy_name(QIDMAP_POLICY_EPHEMERAL), ==, "ephemeral");
    g_assert_cmpstr(qm_policy_name(99), ==, "unknown");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/identity/any-file", test_any_file);
    g_test_add_func("/identity/override", test_override);
    g_test_add_func("/identity/ephemeral", test_ephemeral);
    g_test_add_func("/identity/errors", test_errors);
    g_test_add_func("/identity/uuid-text", test_uuid_text);
    g_test_add_func("/identity/hint-cut", test_hint_cut);
    g_test_add_func("/identity/hint-equal", test_hint_equal);
    g_test_add_func("/identity/tree", test_tree);
    g_test_add_func("/identity/device-present", test_device_present);
    g_test_add_func("/identity/names", test_names);
    return g_test_run();
}
