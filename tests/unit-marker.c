/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a marker is believed only on the root that it was written to, whole and of this version;
 * writing one replaces what was there, and fails cleanly where it cannot be kept.
 */
#include "config.h"

#include "store/marker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "store/identity.h"

static const struct qm_marker sample = {
    .uuid = "0123456789abcde", .ino = 0x8000000000000100, .gen = 77};

static void test_bytes(void)
{
    static const guint8 head[8] = {'Q', 'I', 'D', 'K', 1, 0, 0, 0};
    static const guint8 ino[8] = {0, 1, 0, 0, 0, 0, 0, 0x80};
    guint8 bytes[QM_MARKER_SIZE];
    struct qm_marker out;
    qm_marker_encode(&sample, bytes);
    g_assert_cmpmem(bytes, 8, head, 8);
    g_assert_cmpmem(bytes + 8, 16, sample.uuid, 16);
    g_assert_cmpmem(bytes + 24, 8, ino, 8);
    g_assert_cmpuint(bytes[32], ==, 77);
    g_assert_null(qm_marker_decode(bytes, sizeof bytes, sample.ino, sample.gen, &out));
    g_assert_cmpmem(out.uuid, 16, sample.uuid, 16);
}

static void test_refused(void)
{
    guint8 bytes[QM_MARKER_SIZE + 1] = {0}, bad[QM_MARKER_SIZE + 1];
    struct qm_marker out, none = {.ino = 5};
    qm_marker_encode(&sample, bytes);
    for (guint bit = 0; bit < 8 * QM_MARKER_SIZE; bit++) {
        memcpy(bad, bytes, sizeof bad);
        bad[bit / 8] ^= (guint8)(1 << bit % 8);
        g_assert_nonnull(qm_marker_decode(bad, QM_MARKER_SIZE, sample.ino, sample.gen, &out));
    }
    for (gsize size = 0; size <= sizeof bytes; size++) {
        if (size != QM_MARKER_SIZE)
            g_assert_nonnull(qm_marker_decode(bytes, size, sample.ino, sample.gen, &out));
    }
    g_assert_nonnull(qm_marker_decode(bytes, QM_MARKER_SIZE, sample.ino + 1, sample.gen, &out));
    g_assert_nonnull(qm_marker_decode(bytes, QM_MARKER_SIZE, sample.ino, sample.gen + 1, &out));
    qm_marker_encode(&none, bytes); /* whole, but without uuid */
    g_assert_nonnull(qm_marker_decode(bytes, QM_MARKER_SIZE, 5, 0, &out));
}

static int open_root(const char *path)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* On a tmpfs, which keeps trusted xattrs and can be made read-only, bound and copied. */
static void test_write(void)
{
    g_autofree char *dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_autofree char *sub = g_build_filename(dir, "sub", NULL);
    struct qidmap_identity id = {.size = sizeof id, .count = 1, .flags = QIDMAP_IDENTITY_WEAK};
    struct qidmap_error error;
    struct qm_marker first, second;
    guint8 bytes[QM_MARKER_SIZE];
    const char *why;

    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", dir, "tmpfs", 0, "size=1m") != 0) {
        g_test_skip(geteuid() != 0 ? "needs root" : "no mounts allowed");
        g_rmdir(dir);
        return;
    }
    g_mkdir(sub, 0700);
    int root = open_root(dir), below = open_root(sub);

    id.fsid[0].kind = QIDMAP_FSID_WEAK;
    id.fsid[0].size = 16;
    g_assert_cmpint(qm_marker_read(root, FALSE, &first, &why), ==, -ENODATA);
    /* From any file on the filesystem the marker goes to the root. */
    g_assert_cmpint(qm_mark(below, &id, &error), ==, 0);
    g_assert_cmpint(qm_marker_read(root, FALSE, &first, &why), ==, 0);
    g_assert_cmpint(qm_marker_read(below, FALSE, &second, &why), ==, -ENODATA);
    g_assert_cmpmem(id.hints.marker, 16, first.uuid, 16);
    /* It identifies what names alone did. */
    g_assert_cmpuint(id.count, ==, 2);
    g_assert_cmpuint(id.fsid[0].kind, ==, QIDMAP_FSID_MARKER);
    g_assert_cmpmem(id.fsid[0].bytes, 16, first.uuid, 16);
    g_assert_cmpuint(id.fsid[1].kind, ==, QIDMAP_FSID_WEAK);
    g_assert_cmpuint(id.flags, ==, 0);
    /* A second one replaces it; a better identity stays as it is. */
    id.count = 1;
    id.fsid[0].kind = QIDMAP_FSID_UUID;
    g_assert_cmpint(qm_mark(root, &id, &error), ==, 0);
    g_assert_cmpint(qm_marker_read(root, FALSE, &second, &why), ==, 0);
    g_assert_true(memcmp(first.uuid, second.uuid, 16) != 0);
    g_assert_cmpuint(id.count, ==, 1);
    g_assert_cmpuint(id.fsid[0].kind, ==, QIDMAP_FSID_UUID);
    /* Copied to another inode it is none. */
    g_assert_cmpint(getxattr(dir, QM_MARKER_TRUSTED, bytes, sizeof bytes), ==, QM_MARKER_SIZE);
    g_assert_cmpint(setxattr(sub, QM_MARKER_TRUSTED, bytes, sizeof bytes, 0), ==, 0);
    g_assert_cmpint(qm_marker_read(below, FALSE, &first, &why), ==, -ENODATA);
    g_assert_nonnull(strstr(why, "copied"));
    /* Something longer in its place is none, and is no error. */
    g_autofree char *text = g_strnfill(200, 'x');
    g_assert_cmpint(setxattr(sub, QM_MARKER_TRUSTED, text, 200, 0), ==, 0);
    g_assert_cmpint(qm_marker_read(below, FALSE, &first, &why), ==, -ENODATA);
    close(root);
    close(below);

    /* Read-only. */
    g_assert_cmpint(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
    root = open_root(dir);
    memcpy(first.uuid, id.hints.marker, 16);
    g_assert_cmpint(qm_mark(root, &id, &error), ==, -EROFS);
    g_assert_cmpint(error.code, ==, -EROFS);
    g_assert_cmpmem(id.hints.marker, 16, first.uuid, 16);
    close(root);
    g_assert_cmpint(mount(NULL, dir, NULL, MS_REMOUNT, NULL), ==, 0);

    /* Only a folder of it is mounted. */
    g_autofree char *other = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_assert_cmpint(mount(sub, other, NULL, MS_BIND, NULL), ==, 0);
    g_assert_cmpint(umount2(dir, 0), ==, 0);
    root = open_root(other);
    g_assert_cmpint(qm_mark(root, &id, &error), ==, -ENODEV);
    close(root);
    umount2(other, 0);

    /* A filesystem without xattrs. */
    g_assert_cmpint(mount("none", dir, "ramfs", 0, NULL), ==, 0);
    root = open_root(dir);
    int rc = qm_mark(root, &id, &error);
    g_assert_true(rc == -EOPNOTSUPP || rc == -EPERM);
    close(root);
    umount2(dir, 0);
    g_rmdir(other);
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/marker/bytes", test_bytes);
    g_test_add_func("/marker/refused", test_refused);
    g_test_add_func("/marker/write", test_write);
    return g_test_run();
}
