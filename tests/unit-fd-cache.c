/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: draining a directory closes every descriptor of a fid at or below it, and nothing else;
 * tells what had to stay; and the fids find their files again. A place in the tree of names follows
 * renames, those of directories above it too, in any order with others. The session's account of
 * descriptors is right at the end of all that.
 */
#include "config.h"

#include "src/conn.h"
#include "src/fid.h"
#include "src/locator.h"
#include "src/mount.h"
#include "src/name-tree.h"
#include "src/path.h"
#include "src/qid.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib/gstdio.h>

#define BUDGET 1000

static const struct mount_settings settings;

static struct qid_map *map;
static struct path_export export;
static struct limit_account account;

static char *below(const char *name)
{
    return g_build_filename(export.dir, name, NULL);
}

static void setup(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *made = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    char *dir = realpath(made, NULL);

    export = (struct path_export){.name = "x", .dir = dir};
    export.root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    map = qid_map_new(NULL, &error);
    export.qids = qid_map_add_export(map, "x", dir, export.root_fd, "memory:", QID_MULTIDEVS_REMAP,
                                     &settings, &error);
    g_assert_no_error(error);
    qid_map_start(map, &error);
    g_assert_no_error(error);
}

static void teardown(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf --one-file-system '%s'", export.dir);

    qid_map_free(map);
    close(export.root_fd);
    g_assert_cmpint(system(command), ==, 0);
    free((char *)export.dir);
}

static void make(const char *name, gboolean dir)
{
    g_autofree char *path = below(name);

    if (dir)
        g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
    else
        g_assert_true(g_file_set_contents(path, name, -1, NULL));
}

static int open_at(const char *name)
{
    g_autofree char *path = below(name);
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static struct fid *fid_at(const char *name, gboolean is_open)
{
    struct fid *fid = g_new0(struct fid, 1);

    fid->account = &account;
    fid->export = &export;
    fd_cache_begin(fid);
    fid->fd = open_at(name);
    fid->open = is_open;
    fd_cache_release(fid);
    return fid;
}

static void end(struct fid *fid)
{
    fd_cache_end(fid);
    g_free(fid);
}

static ino_t inode(int fd)
{
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return st.st_ino;
}

static void drain(void)
{
    g_autoptr(GPtrArray) busy = g_ptr_array_new_with_free_func(fd_busy_free);
    g_autofree char *a = NULL, *gone = NULL;
    struct fid *inside[3], *outside[2], *opened, *nameless;
    ino_t inodes[3];

    setup();
    make("a", TRUE);
    make("a/sub", TRUE);
    make("a/sub/file", FALSE);
    make("a/open", FALSE);
    make("a/gone", FALSE);
    make("ab", FALSE);
    a = below("a");
    gone = below("a/gone");
    inside[0] = fid_at("a", FALSE);
    inside[1] = fid_at("a/sub", FALSE);
    inside[2] = fid_at("a/sub/file", FALSE);
    for (guint i = 0; i < 3; i++)
        inodes[i] = inode(inside[i]->fd);
    outside[0] = fid_at("ab", FALSE);
    outside[1] = fid_at("", FALSE);
    opened = fid_at("a/open", TRUE);
    nameless = fid_at("a/gone", FALSE);
    g_assert_cmpint(g_unlink(gone), ==, 0);
    g_assert_cmpuint(fd_cache_count(), ==, 6);
    /* one of them is at work: it is told, and closed when it has ended */
    g_assert_cmpint(fd_cache_hold(inside[2]), ==, 0);
    g_assert_cmpuint(fd_cache_drain(a, busy), ==, 2);
    g_assert_cmpuint(busy->len, ==, 3);
    g_assert_cmpint(inside[2]->fd, >=, 0);
    fd_cache_release(inside[2]);
    g_ptr_array_set_size(busy, 0);
    g_assert_cmpuint(fd_cache_drain(a, busy), ==, 1);
    g_assert_cmpuint(busy->len, ==, 2);
    for (guint i = 0; i < 3; i++)
        g_assert_cmpint(inside[i]->fd, ==, -1);
    g_assert_cmpint(outside[0]->fd, >=, 0);
    g_assert_cmpint(outside[1]->fd, >=, 0);
    g_assert_cmpint(opened->fd, >=, 0);
    g_assert_cmpint(nameless->fd, >=, 0);
    for (guint i = 0; i < busy->len; i++) {
        const struct fd_busy *one = busy->pdata[i];

        if (g_str_has_suffix(one->path, "a/open"))
            g_assert_cmpstr(one->why, ==, "open");
        else if (g_str_has_suffix(one->path, "a/gone (deleted)"))
            g_assert_cmpstr(one->why, ==, "could not be found again");
        else
            g_error("%s: %s", one->path, one->why);
    }
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpint(fd_cache_hold(inside[i]), ==, 0);
        g_assert_cmpuint(inode(inside[i]->fd), ==, inodes[i]);
        fd_cache_release(inside[i]);
    }
    for (guint i = 0; i < 3; i++)
        end(inside[i]);
    end(outside[0]);
    end(outside[1]);
    end(opened);
    end(nameless);
    g_assert_cmpuint(fd_cache_count(), ==, 0);
    g_assert_cmpuint(name_tree_size(), ==, 0);
    teardown();
}

/* Promise: the budget is one of descriptors: to close the clones of a fid, which share one, does
 * not make room, however many there are. */
static void clones(void)
{
    struct fid *fids[BUDGET * 2], *first, *clone[BUDGET * 4];
    ino_t shared;

    setup();
    make("first", FALSE);
    make("file", FALSE);
    first = fid_at("first", FALSE);
    shared = inode(first->fd);
    for (guint i = 0; i < G_N_ELEMENTS(clone); i++) {
        clone[i] = g_new0(struct fid, 1);
        clone[i]->account = &account;
        clone[i]->export = &export;
        fd_cache_begin(clone[i]);
        g_assert_cmpint(fd_cache_hold(first), ==, 0);
        g_assert_true(fd_cache_share(clone[i], first));
        fd_cache_release(first);
        fd_cache_release(clone[i]);
    }
    g_assert_cmpuint(fd_cache_count(), ==, 1);
    for (guint i = 0; i < G_N_ELEMENTS(fids); i++) {
        fids[i] = fid_at("file", FALSE);
        fd_cache_trim();
        g_assert_cmpuint(fd_cache_count(), <=, BUDGET);
    }
    for (guint i = 0; i < G_N_ELEMENTS(clone); i++) {
        g_assert_cmpint(fd_cache_hold(clone[i]), ==, 0);
        g_assert_cmpuint(inode(clone[i]->fd), ==, shared);
        fd_cache_release(clone[i]);
        fd_cache_trim();
        g_assert_cmpuint(fd_cache_count(), <=, BUDGET);
    }
    for (guint i = 0; i < G_N_ELEMENTS(clone); i++)
        end(clone[i]);
    for (guint i = 0; i < G_N_ELEMENTS(fids); i++)
        end(fids[i]);
    end(first);
    g_assert_cmpuint(fd_cache_count(), ==, 0);
    teardown();
}

static void rename_both(const char *from_dir, const char *from, const char *to_dir, const char *to)
{
    g_autofree char *old = g_build_filename(export.dir, from_dir, from, NULL);
    g_autofree char *new = g_build_filename(export.dir, to_dir, to, NULL);
    int from_fd = open_at(from_dir), to_fd = open_at(to_dir);

    g_assert_cmpint(g_rename(old, new), ==, 0);
    name_tree_moved(from_fd, from, to_fd, to);
    close(from_fd);
    close(to_fd);
}

static void is_at(struct name_node *node, const char *path)
{
    g_autofree char *got = name_node_path(node);

    g_assert_cmpstr(got, ==, path);
}

static void places(void)
{
    struct name_node *file, *dir, *root, *merged, *same;
    int fd;

    setup();
    name_tree_matters();
    make("a", TRUE);
    make("a/b", TRUE);
    make("a/b/file", FALSE);
    make("c", TRUE);
    fd = open_at("a/b/file");
    file = name_node_of(&export, fd);
    dir = name_node_at(&export, "a");
    root = name_node_at(&export, "");
    is_at(file, "a/b/file");
    is_at(root, "");
    rename_both("a", "b", "c", "d");
    is_at(file, "c/d/file");
    rename_both("", "c", "a", "c");
    is_at(file, "a/c/d/file");
    rename_both("a/c/d", "file", "", "f");
    is_at(file, "f");
    /* the kernel says where the file is now, before the tree was told */
    {
        g_autofree char *old = below("f"), *new = below("g");

        g_assert_cmpint(g_rename(old, new), ==, 0);
    }
    merged = name_node_of(&export, fd);
    is_at(merged, "g");
    name_tree_moved(export.root_fd, "f", export.root_fd, "g");
    is_at(file, "g");
    is_at(merged, "g");
    rename_both("", "g", "a", "h");
    is_at(file, "a/h");
    is_at(merged, "a/h");
    same = name_node_at(&export, "a/h");
    name_node_unref(file);
    is_at(same, "a/h");
    name_node_unref(merged);
    name_node_unref(same);
    is_at(dir, "a");
    name_node_unref(dir);
    name_node_unref(root);
    g_assert_cmpuint(name_tree_size(), ==, 0);
    close(fd);
    teardown();
}

/* Promise: a directory that replaces another one takes what is known below it along, also where
 * something is known below the other, as the host removed that behind our back. */
static void replaced(void)
{
    static const char *const paths[] = {"p", "p/x", "p/x/deep", "q", "q/x", "q/x/other", "q/y"};
    struct name_node *nodes[G_N_ELEMENTS(paths)], *empty;

    setup();
    name_tree_matters();
    make("p", TRUE);
    make("q", TRUE);
    make("e", TRUE);
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
        nodes[i] = name_node_at(&export, paths[i]);
    rename_both("", "p", "", "q");
    is_at(nodes[0], "q");
    is_at(nodes[1], "q/x");
    is_at(nodes[2], "q/x/deep");
    is_at(nodes[3], "q");
    is_at(nodes[4], "q/x");
    is_at(nodes[5], "q/x/other");
    is_at(nodes[6], "q/y");
    empty = name_node_at(&export, "e");
    rename_both("", "q", "", "e");
    is_at(empty, "e");
    is_at(nodes[2], "e/x/deep");
    is_at(nodes[5], "e/x/other");
    rename_both("", "e", "", "a name that is longer than the one before");
    is_at(empty, "a name that is longer than the one before");
    is_at(nodes[0], "a name that is longer than the one before");
    is_at(nodes[6], "a name that is longer than the one before/y");
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
        name_node_unref(nodes[i]);
    name_node_unref(empty);
    g_assert_cmpuint(name_tree_size(), ==, 0);
    teardown();
}

/* Promise: an exclusive turn at a fid comes when all before it ended, a shared one when the
 * exclusive ones before it did, in whatever order they end; and not earlier. */
static void turns(void)
{
    struct conn conn = {.fids = g_hash_table_new(NULL, NULL)};
    struct fid_turn turn[24], made;
    guint count = 0;

    pthread_mutex_init(&conn.lock, NULL);
    g_assert_cmpint(fid_take(&conn, 7, FID_NEW, &made), ==, 0);
    fd_cache_release(made.fid); /* by its maker */
    g_assert_null(fid_finish(&made));
    for (guint step = 0; step < 20000; step++) {
        gboolean exclusive = FALSE;
        guint ready[G_N_ELEMENTS(turn)], readies = 0;

        for (guint i = 0; i < count; i++) {
            gboolean is_exclusive = turn[i].mode == FID_EXCLUSIVE;
            gboolean comes = is_exclusive ? i == 0 : !exclusive;

            g_assert_true(fid_turn_came(&turn[i]) == comes);
            if (comes)
                ready[readies++] = i;
            exclusive |= is_exclusive;
        }
        if (count > 0 && (count == G_N_ELEMENTS(turn) || g_test_rand_bit())) {
            guint which = ready[g_test_rand_int_range(0, (gint)readies)];

            g_assert_null(fid_finish(&turn[which]));
            memmove(&turn[which], &turn[which + 1], (count - which - 1) * sizeof turn[0]);
            count--;
        } else {
            enum fid_mode mode = g_test_rand_int_range(0, 4) == 0 ? FID_EXCLUSIVE : FID_SHARED;

            g_assert_cmpint(fid_take(&conn, 7, mode, &turn[count]), ==, 0);
            /* 32 bits are enough for what is in flight, and not for all that ever was */
            g_assert_cmpuint(turn[count].fid->behind, <=, turn[count].fid->pending);
            count++;
        }
    }
    fid_drop_all(&conn);
    g_hash_table_unref(conn.fids);
    pthread_mutex_destroy(&conn.lock);
}

int main(int argc, char **argv)
{
    struct limit_settings limits;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(path_init(), ==, 0);
    fd_cache_init(BUDGET, 100);
    privs_init(true);
    limit_defaults(&limits, 1000);
    limit_init(&limits);
    g_test_add_func("/fd-cache/drain", drain);
    g_test_add_func("/fd-cache/clones", clones);
    g_test_add_func("/fd-cache/places", places);
    g_test_add_func("/fd-cache/replaced", replaced);
    g_test_add_func("/fid/turns", turns);
    return g_test_run();
}
