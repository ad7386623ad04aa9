/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a fid goes on to mean its own file, although its descriptor was closed, through renames
 * by clients and by the host, and after the last name is gone. What cannot be found again is
 * ESTALE, and never another file.
 *
 * Found again by handle, and, in the tests whose names end in "by-name", by place: there the daemon
 * is without CAP_DAC_READ_SEARCH.
 */
#include "config.h"

#include "tests/lib/fids.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the host behind our back ---------------------------------------------------------------- */

static void host_rename_path(struct server *s, const char *from, const char *to)
{
    g_autofree char *a = server_path(s, from), *b = server_path(s, to);

    g_assert_cmpint(g_rename(a, b), ==, 0);
}

static void host_remove(struct server *s, const char *name)
{
    g_autofree char *path = server_path(s, name);

    g_assert_cmpint(g_remove(path), ==, 0);
}

/* A file that the host removed, and made anew under its name, is stale, and never the new one. */
static void host_replaces(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;

    by_name(data != NULL);
    s = start_with_others();
    make_file(s, "file", "old");
    make_dir(s, "dir");
    c = server_client(s);
    for (guint i = 0; i < 20; i++) {
        guint32 fid = walk_new(c, "file"), dir = walk_new(c, "dir");
        int rc;

        push_out(c);
        host_remove(s, "file");
        host_remove(s, "dir");
        make_file(s, "file", "new");
        make_dir(s, "dir");
        rc = client_getattr(c, fid, GETATTR_BASIC, &attr);
        g_assert_cmpint(rc, ==, ESTALE);
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, ESTALE);
        g_assert_cmpint(client_getattr(c, dir, GETATTR_BASIC, &attr), ==, ESTALE);
        g_assert_cmpint(client_clunk(c, fid), ==, 0);
        g_assert_cmpint(client_remove(c, dir), ==, ESTALE);
        g_assert_cmpint(client_clunk(c, dir), ==, EBADF); /* Tremove ended it all the same */
    }
    client_close(c);
    stop(s);
}

static void host_renames(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr before, after;
    GByteArray *text = NULL;
    guint32 fid;
    gboolean handles;

    by_name(data != NULL);
    s = start_with_others();
    handles = have_handles(s);
    make_dir(s, "a");
    make_dir(s, "b");
    make_file(s, "a/file", "text");
    make_file(s, "a/decoy", "fake");
    c = server_client(s);
    fid = walk_new(c, "a/file");
    g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &before), ==, 0);
    push_out(c);
    /* within its directory, with another file in its place */
    host_rename_path(s, "a/file", "a/renamed");
    host_rename_path(s, "a/decoy", "a/file");
    g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &after), ==, 0);
    g_assert_cmpuint(before.qid.path, ==, after.qid.path);
    push_out(c);
    /* to another one: by handle it is found there, else it is lost */
    host_rename_path(s, "a/renamed", "b/file");
    if (handles) {
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
        g_assert_cmpint(client_read(c, fid, 0, 100, &text), ==, 0);
        g_assert_cmpuint(text->len, ==, 4);
        g_assert_cmpint(memcmp(text->data, "text", 4), ==, 0);
        g_byte_array_unref(text);
    } else
        g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, ESTALE);
    client_close(c);
    stop(s);
}

/* A file that was found by handle after the kernel forgot its name has none that the kernel knows;
 * it is renamed and removed all the same. */
static void forgotten_name(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;
    guint32 moved, removed;

    (void)data;
    if (g_getenv("QIDMAP_DROP_CACHES") == NULL) {
        g_test_skip("changes the caches of the whole machine: set QIDMAP_DROP_CACHES");
        return;
    }
    s = start_with_others();
    make_dir(s, "d");
    make_file(s, "d/moved", "m");
    make_file(s, "d/removed", "r");
    make_file(s, "d/other", "o");
    c = server_client(s);
    moved = walk_new(c, "d/moved");
    removed = walk_new(c, "d/removed");
    push_out(c);
    g_assert_cmpint(client_renameat(c, ROOT_FID, "d", ROOT_FID, "e"), ==, 0);
    host_rename_path(s, "e/removed", "e/hidden");
    host_rename_path(s, "e/other", "e/removed");
    sync();
    g_assert_true(g_file_set_contents("/proc/sys/vm/drop_caches", "2", 1, NULL) ||
                  system("echo 2 >/proc/sys/vm/drop_caches") == 0);
    g_assert_cmpint(client_getattr(c, moved, GETATTR_BASIC, &attr), ==, 0);
    push_out(c);
    g_assert_cmpint(client_rename(c, moved, ROOT_FID, "here"), ==, 0);
    g_assert_cmpint(client_getattr(c, walk_new(c, "here"), GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_remove(c, removed), ==, 0);
    g_assert_cmpint(client_getattr(c, walk_new(c, "e/removed"), GETATTR_BASIC, &attr), ==, 0);
    g_assert_cmpint(client_unlinkat(c, ROOT_FID, "e/hidden", 0), >, 0);
    client_close(c);
    stop(s);
}

/* ---- names that go --------------------------------------------------------------------------- */

/* Whoever removes or replaces the last name, by whatever message, the fids of all sessions go on.
 */
static void last_name(gconstpointer data)
{
    static const char *const ways[] = {"unlinkat", "remove", "renameat", "rename", "rmdir"};
    struct server *s;
    struct client *c, *other;

    by_name(data != NULL);
    s = start_with_others();
    c = server_client(s);
    other = server_client(s);
    for (guint way = 0; way < G_N_ELEMENTS(ways); way++) {
        gboolean dir = strcmp(ways[way], "rmdir") == 0;
        guint32 mine[40], theirs[40], fid;
        struct client_attr attr;
        guint64 path;

        if (dir)
            make_dir(s, "file");
        else
            make_file(s, "file", "text");
        make_file(s, "instead", "i");
        for (guint i = 0; i < 40; i++) {
            mine[i] = walk_new(c, "file");
            theirs[i] = walk_new(other, "file");
        }
        g_assert_cmpint(client_getattr(c, mine[0], GETATTR_BASIC, &attr), ==, 0);
        path = attr.qid.path;
        fid = walk_new(c, way == 3 ? "instead" : "file");
        push_out(c);
        push_out(other);
        push_out(c);
        switch (way) {
        case 0:
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0), ==, 0);
            break;
        case 1:
            g_assert_cmpint(client_remove(c, fid), ==, 0);
            break;
        case 2:
            g_assert_cmpint(client_renameat(c, ROOT_FID, "instead", ROOT_FID, "file"), ==, 0);
            break;
        case 3:
            g_assert_cmpint(client_rename(c, fid, ROOT_FID, "file"), ==, 0);
            break;
        default:
            g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0x200), ==, 0);
        }
        push_out(c);
        push_out(other);
        for (guint i = 0; i < 40; i++) {
            struct client *who = i % 2 ? c : other;
            guint32 f = i % 2 ? mine[i] : theirs[i];

            g_assert_cmpint(client_getattr(who, f, GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.qid.path, ==, path);
            if (!dir) {
                g_assert_cmpuint(attr.size, ==, 4);
                g_assert_cmpuint(attr.nlink, ==, 0);
            }
        }
        for (guint i = 0; i < 40; i++) {
            g_assert_cmpint(client_clunk(c, mine[i]), ==, 0);
            g_assert_cmpint(client_clunk(other, theirs[i]), ==, 0);
        }
        g_assert_true(way == 2 || way == 3 || client_unlinkat(c, ROOT_FID, "instead", 0) == 0);
        g_assert_true(way < 2 || way > 3 || client_unlinkat(c, ROOT_FID, "file", 0) == 0);
    }
    client_close(c);
    client_close(other);
    stop(s);
}

/* Clones take no descriptor of their own, and yet each lives, and is closed and found again, by
 * itself. */
static void clones(gconstpointer data)
{
    enum { N = 60, FIRST = 70000 };
    struct client_qid qids[16];
    struct client_attr attr;
    struct server *s;
    struct client *c;
    guint32 first, held;
    guint64 path;
    guint n;

    by_name(data != NULL);
    s = start_with_others();
    make_file(s, "file", "text");
    c = server_client(s);
    push_out(c);
    first = walk_new(c, "file");
    g_assert_cmpint(client_getattr(c, first, GETATTR_BASIC, &attr), ==, 0);
    path = attr.qid.path;
    held = descriptors(s);
    for (guint i = 0; i < N; i++)
        g_assert_cmpint(client_walk(c, i % 2 ? FIRST + i - 1 : first, FIRST + i, NULL, &n, qids),
                        ==, 0);
    g_assert_cmpuint(descriptors(s), <=, held);
    for (guint step = 0; step < 4; step++) {
        switch (step) {
        case 0: /* the one that it came from goes */
            g_assert_cmpint(client_clunk(c, first), ==, 0);
            break;
        case 1:
            g_assert_cmpint(client_lopen(c, FIRST, L_RDONLY, NULL), ==, 0);
            g_assert_cmpint(client_renameat(c, ROOT_FID, "file", ROOT_FID, "moved"), ==, 0);
            break;
        case 2:
            push_out(c);
            break;
        default:
            g_assert_cmpint(client_remove(c, FIRST + N - 1), ==, 0);
            make_file(s, "moved", "another");
            push_out(c);
        }
        for (guint i = 0; i < N - (step == 3); i++) {
            g_assert_cmpint(client_getattr(c, FIRST + i, GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.qid.path, ==, path);
            g_assert_cmpuint(attr.size, ==, 4);
            g_assert_cmpuint(attr.nlink, ==, step == 3 ? 0 : 1);
        }
    }
    client_close(c);
    stop(s);
}

/* A fid whose own name was removed does not act on another name of its file, however often its
 * descriptor was closed; and one whose name is there, on that one. */
static void own_name(gconstpointer data)
{
    struct server *s;
    struct client *c;
    struct client_attr attr;

    by_name(data != NULL);
    s = start_with_others();
    make_dir(s, "far");
    c = server_client(s);
    for (guint way = 0; way < 8; way++) {
        const char *other = way & 1 ? "far/b" : "b";
        g_autofree char *a = server_path(s, "a"), *b = server_path(s, other);
        guint32 fid, stays;

        make_file(s, "a", "text");
        if (way & 2)
            g_assert_cmpint(link(a, b), ==, 0);
        fid = walk_new(c, "a");
        push_out(c);
        if (!(way & 2))
            g_assert_cmpint(link(a, b), ==, 0);
        stays = walk_new(c, other);
        push_out(c);
        g_assert_cmpint(client_unlinkat(c, ROOT_FID, "a", 0), ==, 0);
        if (way & 4)
            push_out(c);
        g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &attr), ==, 0);
        g_assert_cmpuint(attr.nlink, ==, 1);
        g_assert_cmpint(client_rename(c, fid, ROOT_FID, "c"), ==, ENOENT);
        g_assert_cmpint(client_remove(c, fid), ==, ENOENT);
        g_assert_cmpint(g_access(b, F_OK), ==, 0);
        g_assert_cmpint(client_remove(c, stays), ==, 0);
        g_assert_cmpint(g_access(b, F_OK), !=, 0);
    }
    client_close(c);
    stop(s);
}

/* Several exports, and subdirectories of one, show the same files: what one changes, the fids of
 * the others follow. */
static void several_exports(gconstpointer data)
{
    static const char *const anames[] = {"data/d", "data/d", "part"};
    const char *extra[] = {"--descriptors", "4", "--subdirs", "yes", NULL};
    struct server *s = server_new("memory:", extra);
    g_autofree char *part = server_path(s, "d"), *option = g_strdup_printf("part=%s", part);
    const char *all[] = {"--descriptors", "4", "--subdirs", "yes", "--export", option, NULL};
    struct client *c[3];
    guint32 fids[3];
    struct client_attr attr;

    by_name(data != NULL);
    g_strfreev(s->extra);
    s->extra = g_strdupv((char **)all);
    make_dir(s, "d");
    for (guint i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("d/other%u", i);

        make_file(s, name, "");
    }
    g_assert_true(server_start(s));
    for (guint who = 0; who < 3; who++) { /* each changes something in turn */
        make_dir(s, "d/sub");
        make_file(s, "d/sub/file", "text");
        for (guint i = 0; i < 3; i++) {
            c[i] = client_connect(s->addr);
            g_assert_cmpint(client_hello(c[i], 65536), ==, 0);
            g_assert_cmpint(client_attach(c[i], ROOT_FID, geteuid(), anames[i], NULL), ==, 0);
            fids[i] = walk_new(c[i], "sub/file");
            push_out(c[i]);
        }
        g_assert_cmpint(client_renameat(c[who], ROOT_FID, "sub", ROOT_FID, "moved"), ==, 0);
        for (guint i = 0; i < 3; i++) {
            g_assert_cmpint(client_getattr(c[i], fids[i], GETATTR_BASIC, &attr), ==, 0);
            push_out(c[i]);
        }
        g_assert_cmpint(client_unlinkat(c[who], walk_new(c[who], "moved"), "file", 0), ==, 0);
        for (guint i = 0; i < 3; i++) {
            g_assert_cmpint(client_getattr(c[i], fids[i], GETATTR_BASIC, &attr), ==, 0);
            g_assert_cmpuint(attr.nlink, ==, 0);
        }
        g_assert_cmpint(client_unlinkat(c[who], ROOT_FID, "moved", 0x200), ==, 0);
        for (guint i = 0; i < 3; i++)
            client_close(c[i]);
    }
    stop(s);
}

int main(int argc, char **argv)
{
    static const struct fids_test tests[] = {
        {"/fids/host-replaces", host_replaces, TRUE},
        {"/fids/host-renames", host_renames, TRUE},
        {"/fids/last-name", last_name, TRUE},
        {"/fids/clones", clones, TRUE},
        {"/fids/own-name", own_name, TRUE},
        {"/fids/several-exports", several_exports, TRUE},
        {"/fids/forgotten-name", forgotten_name, FALSE},
    };

    return run_fids_tests(&argc, &argv, tests, G_N_ELEMENTS(tests));
}
