/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: ext4, a dd copy of it, xfs and the subvolumes of btrfs each get a row of their own in an
 * lmdb store, and get it again after they were mounted in another order, at other places, with
 * other loop devices and st_dev; also when only some of them come back.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "store/qidmap.h"

static char *base;

/* Runs a command; FALSE when it fails. Its output is of no interest. */
static gboolean run(const char *format, ...) G_GNUC_PRINTF(1, 2);
static gboolean run(const char *format, ...)
{
    va_list args;
    int status = -1;

    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *whole = g_strconcat("exec >/dev/null 2>&1; ", command, NULL);
    const char *argv[] = {"/bin/sh", "-c", whole, NULL};
    return g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}

static char *at(const char *name)
{
    return g_build_filename(base, name, NULL);
}

static gboolean mount_image(const char *image, const char *place)
{
    g_autofree char *dir = at(place);
    g_mkdir(dir, 0700);
    return run("mount -o loop,%s '%s/%s' '%s'", strcmp(image, "xfs") == 0 ? "nouuid" : "rw", base,
               image, dir);
}

static void unmount(const char *place)
{
    g_autofree char *dir = at(place);
    if (umount2(dir, 0) != 0)
        g_error("umount %s: %s", dir, g_strerror(errno));
}

static void identify(const char *path, struct qidmap_identity *id)
{
    struct qidmap_error error;
    g_autofree char *dir = at(path);
    int fd = open(dir, O_PATH | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    memset(id, 0, sizeof *id);
    id->size = sizeof *id;
    if (qidmap_identify(fd, NULL, id, &error) != 0)
        g_error("%s: %s", path, error.text);
    close(fd);
}

static void enroll(const char *const *paths, size_t count, guint32 *numbers, guint64 *devices)
{
    struct qidmap_identity ids[8];
    struct qidmap_error error;
    qidmap_store *store;
    g_autofree char *uri = g_strconcat("lmdb:", base, "/store", NULL);

    for (size_t i = 0; i < count; i++) {
        identify(paths[i], &ids[i]);
        devices[i] = ids[i].hints.st_dev;
    }
    if (qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error) != 0)
        g_error("%s", error.text);
    if (qidmap_register(store, ids, count, numbers, &error) != 0)
        g_error("%s", error.text);
    qidmap_store_close(store);
}

static const char *prepare(void)
{
    if (geteuid() != 0)
        return "needs root";
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return "needs mounts";
    if (!run("truncate -s 16M '%s/ext4' && mkfs.ext4 -q '%s/ext4'", base, base) ||
        !run("cp '%s/ext4' '%s/copy'", base, base))
        return "needs mkfs.ext4";
    if (!mount_image("ext4", "m1"))
        return "needs loop devices";
    unmount("m1");
    if (!run("truncate -s 300M '%s/xfs' && mkfs.xfs -q '%s/xfs'", base, base) ||
        !mount_image("xfs", "m1"))
        return "needs xfs";
    unmount("m1");
    if (!run("truncate -s 128M '%s/btrfs' && mkfs.btrfs -q '%s/btrfs'", base, base) ||
        !mount_image("btrfs", "m1") ||
        !run("btrfs subvolume create '%s/m1/s1' && btrfs subvolume create '%s/m1/s2'", base, base))
        return "needs btrfs";
    unmount("m1");
    return NULL;
}

static void test_all(void)
{
    const char *lacks = prepare();
    if (lacks != NULL) {
        g_test_skip(lacks);
        return;
    }
    guint32 first[6], again[6];
    guint64 devices[6], new_devices[6];

    g_assert_true(mount_image("ext4", "m1"));
    g_assert_true(mount_image("copy", "m2"));
    g_assert_true(mount_image("xfs", "m3"));
    g_assert_true(mount_image("btrfs", "m4"));
    const char *paths[] = {"m1", "m2", "m3", "m4", "m4/s1", "m4/s2"};
    struct qidmap_identity a, b;
    identify("m1", &a);
    identify("m2", &b);
    g_assert_cmpuint(a.fsid[0].kind, ==, QIDMAP_FSID_UUID);
    g_assert_cmpuint(a.count, ==, 1);
    g_assert_cmpmem(a.fsid[0].bytes, 16, b.fsid[0].bytes, 16);
    g_assert_cmpstr(a.hints.backing, !=, "");
    identify("m3", &a);
    g_assert_cmpuint(a.fsid[0].kind, ==, QIDMAP_FSID_UUID);
    g_assert_cmpuint(a.count, ==, 1);
    identify("m4/s1", &a);
    g_assert_cmpuint(a.fsid[0].kind, ==, QIDMAP_FSID_BTRFS);
    g_assert_cmpuint(a.count, ==, 1);
    g_assert_true(g_str_has_suffix(a.hints.backing, "/btrfs"));

    enroll(paths, 6, first, devices);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < i; k++)
            g_assert_cmpuint(first[i], !=, first[k]);
    }
    for (int i = 4; i-- > 0;)
        unmount(paths[i]);

    /* The other way round. */
    g_assert_true(mount_image("btrfs", "m1"));
    g_assert_true(mount_image("xfs", "m2"));
    g_assert_true(mount_image("copy", "m3"));
    g_assert_true(mount_image("ext4", "m4"));
    const char *other[] = {"m4", "m3", "m2", "m1", "m1/s1", "m1/s2"};
    enroll(other, 6, again, new_devices);
    gboolean moved = FALSE;
    for (int i = 0; i < 6; i++) {
        g_assert_cmpuint(again[i], ==, first[i]);
        moved = moved || devices[i] != new_devices[i];
    }
    g_assert_true(moved); /* else this test shows nothing */
    for (int i = 4; i-- > 0;)
        unmount(other[i]);

    /* The copy alone, in the place where the first was. */
    g_assert_true(mount_image("copy", "m1"));
    enroll(other + 3, 1, again, new_devices);
    g_assert_cmpuint(again[0], ==, first[1]);
    unmount("m1");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    base = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_test_add_func("/identity/loop-devices", test_all);
    int status = g_test_run();
    run("rm -rf '%s'", base);
    g_free(base);
    return status;
}
