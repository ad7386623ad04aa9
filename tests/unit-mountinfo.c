/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: mountinfo is read as the kernel writes it, escapes and optional tags included, and no
 * content whatever makes the parser read outside of the buffer or believe a broken line.
 */
#include "config.h"

#include "store/mountinfo.h"

#include <string.h>

#include <glib.h>

static GPtrArray *parse(const char *text)
{
    /* A copy of the exact size, so that a sanitizer sees what reads beyond it. */
    gsize size = strlen(text);
    g_autofree char *copy = g_malloc(size + 1);
    memcpy(copy, text, size);
    char *exact = g_malloc(MAX(size, 1));
    memcpy(exact, copy, size);
    GPtrArray *mounts = qm_mountinfo_parse(exact, size);
    g_free(exact);
    return mounts;
}

static void test_line(void)
{
    g_autoptr(GPtrArray) mounts =
        parse("36 35 98:7 /sub /mnt/a\\040b\\134c rw,noatime master:1 propagate_from:2 - ext4 "
              "/dev/s\\011da1 ro,errors=continue\n"
              "37 36 0:44 / /mnt rw - tmpfs none rw\n");
    g_assert_cmpuint(mounts->len, ==, 2);
    const struct qm_mount *m = g_ptr_array_index(mounts, 0);
    g_assert_cmpuint(m->id, ==, 36);
    g_assert_cmpuint(m->parent, ==, 35);
    g_assert_cmpuint(m->major, ==, 98);
    g_assert_cmpuint(m->minor, ==, 7);
    g_assert_cmpstr(m->root, ==, "/sub");
    g_assert_cmpstr(m->path, ==, "/mnt/a b\\c");
    g_assert_cmpstr(m->type, ==, "ext4");
    g_assert_cmpstr(m->source, ==, "/dev/s\tda1");
    g_assert_true(m->readonly);
    m = g_ptr_array_index(mounts, 1);
    g_assert_false(m->readonly);
    g_assert_true(qm_mountinfo_find(mounts, 37) == m);
    g_assert_null(qm_mountinfo_find(mounts, 38));
}

static void test_empty_source(void)
{
    g_autoptr(GPtrArray) mounts = parse("36 35 0:7 / /mnt rw - tmpfs  rw,size=1k");
    g_assert_cmpuint(mounts->len, ==, 1);
    const struct qm_mount *m = g_ptr_array_index(mounts, 0);
    g_assert_cmpstr(m->source, ==, "");
    g_assert_false(m->readonly);
}

static void test_broken(void)
{
    static const char *const broken[] = {
        "",
        "\n\n\n",
        "36",
        "36 35 98:7 / /mnt",
        "36 35 98:7 / /mnt rw",
        "36 35 98:7 / /mnt rw master:1 ext4 /dev/sda rw",
        "36 35 98:7 / /mnt rw -",
        "36 35 987 / /mnt rw - ext4 /dev/sda rw",
        "36 35 :7 / /mnt rw - ext4 /dev/sda rw",
        "36 35 98: / /mnt rw - ext4 /dev/sda rw",
        "-1 35 98:7 / /mnt rw - ext4 /dev/sda rw",
        "99999999999999999999 35 98:7 / /mnt rw - ext4 /dev/sda rw",
        "36 35 98:4294967296 / /mnt rw - ext4 /dev/sda rw",
        "36x 35 98:7 / /mnt rw - ext4 /dev/sda rw",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autofree char *text =
            g_strconcat(broken[i], "\n1 2 3:4 / /ok rw - ext4 /dev/x rw\n", NULL);
        g_autoptr(GPtrArray) mounts = parse(text);
        g_assert_cmpuint(mounts->len, ==, 1);
        const struct qm_mount *m = g_ptr_array_index(mounts, 0);
        g_assert_cmpstr(m->path, ==, "/ok");
    }
}

static void test_below(void)
{
    g_autoptr(GPtrArray) mounts = parse("1 0 1:1 / / rw - ext4 a rw\n"
                                        "2 1 1:2 / /srv rw - ext4 b rw\n"
                                        "3 2 1:3 / /srv/x rw - ext4 c rw\n"
                                        "4 1 1:4 / /srv2 rw - ext4 d rw\n");
    g_autoptr(GPtrArray) srv = qm_mountinfo_below(mounts, "/srv");
    g_assert_cmpuint(srv->len, ==, 2);
    g_autoptr(GPtrArray) slash = qm_mountinfo_below(mounts, "/srv/");
    g_assert_cmpuint(slash->len, ==, 2);
    g_autoptr(GPtrArray) all = qm_mountinfo_below(mounts, "/");
    g_assert_cmpuint(all->len, ==, 4);
}

/* Random damage to a good table: sanitizers and the lengths watch. */
static void test_damage(void)
{
    static const char good[] =
        "36 35 98:7 /s\\040b /mnt\\134a rw,noatime master:1 - ext4 /dev/a ro\n"
        "37 36 0:44 / /mnt rw - tmpfs  rw\n";
    for (guint i = 0; i < 20000; i++) {
        gsize size = (gsize)g_test_rand_int_range(0, (gint32)sizeof good);
        g_autofree char *text = g_malloc(MAX(size, 1));
        memcpy(text, good, size);
        for (guint k = 0; size > 0 && k < 3; k++)
            text[g_test_rand_int_range(0, (gint32)size)] = (char)g_test_rand_int_range(0, 256);
        g_autoptr(GPtrArray) mounts = qm_mountinfo_parse(text, size);
        for (guint k = 0; k < mounts->len; k++) {
            const struct qm_mount *m = g_ptr_array_index(mounts, k);
            g_assert_cmpuint(strlen(m->path) + strlen(m->source) + strlen(m->root), <=, size);
        }
    }
}

/* Options of the superblock: by whole names, with escapes undone in the value alone. */
static void test_options(void)
{
    g_autoptr(GPtrArray) mounts =
        parse("36 35 0:7 / /mnt rw - overlay ov rw,lowerdir=/a\\054b:/c\\134:d,xino=on,index\n"
              "37 35 0:8 / /mnt rw - proc proc\n");
    const struct qm_mount *m = g_ptr_array_index(mounts, 0);
    g_assert_cmpstr(m->options, ==, "rw,lowerdir=/a\\054b:/c\\134:d,xino=on,index");
    g_autofree char *lower = qm_mount_option(m->options, "lowerdir");
    g_assert_cmpstr(lower, ==, "/a,b:/c\\:d");
    g_autofree char *xino = qm_mount_option(m->options, "xino");
    g_assert_cmpstr(xino, ==, "on");
    g_autofree char *plain = qm_mount_option(m->options, "index");
    g_assert_cmpstr(plain, ==, "");
    g_assert_null(qm_mount_option(m->options, "lower"));
    g_assert_null(qm_mount_option(m->options, "ind"));
    g_assert_null(qm_mount_option(m->options, "indexes"));
    m = g_ptr_array_index(mounts, 1);
    g_assert_cmpstr(m->options, ==, "");
    g_assert_null(qm_mount_option(m->options, "rw"));
}

static void test_own(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) mounts = qm_mountinfo_read(&error);
    g_assert_no_error(error);
    g_assert_cmpuint(mounts->len, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mountinfo/line", test_line);
    g_test_add_func("/mountinfo/empty-source", test_empty_source);
    g_test_add_func("/mountinfo/broken", test_broken);
    g_test_add_func("/mountinfo/below", test_below);
    g_test_add_func("/mountinfo/damage", test_damage);
    g_test_add_func("/mountinfo/options", test_options);
    g_test_add_func("/mountinfo/own", test_own);
    return g_test_run();
}
