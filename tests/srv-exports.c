/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: an aname means one export, or one directory below one that allows it, and is the whole
 * world of those who attach to it; ids are the same whichever way a file is reached; and who is in
 * no allow list gets nothing, with one line in the log however often he asks.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *log_text(struct server *s)
{
    char *text = NULL;

    g_file_get_contents(s->log, &text, NULL, NULL);
    return text != NULL ? text : g_strdup("");
}

static guint count_in_log(struct server *s, const char *word)
{
    g_autofree char *text = log_text(s);
    guint count = 0;

    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        count++;
    return count;
}

/* A server whose further exports come from a file: `exports` holds %s for its tmp, up to twice. */
static struct server *with_exports(const char *exports, const char *const *more)
{
    struct server *s = server_new("memory:", NULL);
    g_autofree char *conf = g_build_filename(s->tmp, "conf", NULL);
    g_auto(GStrv) parts = g_strsplit(exports, "@", -1);
    g_autofree char *text = g_strjoinv(s->tmp, parts);
    g_autoptr(GPtrArray) extra = g_ptr_array_new_with_free_func(g_free);

    g_assert_true(g_file_set_contents(conf, text, -1, NULL));
    for (const char *name = "ab"; *name != '\0'; name++) {
        g_autofree char *dir = g_strdup_printf("%s/%c", s->tmp, *name);

        g_assert_cmpint(g_mkdir(dir, 0755), ==, 0);
        g_assert_cmpint(g_chmod(dir, 0755), ==, 0);
    }
    g_ptr_array_add(extra, g_strdup("--config"));
    g_ptr_array_add(extra, g_strdup(conf));
    for (; more != NULL && *more != NULL; more++)
        g_ptr_array_add(extra, g_strdup(*more));
    g_ptr_array_add(extra, NULL);
    s->extra = (char **)g_ptr_array_free(g_steal_pointer(&extra), FALSE);
    g_assert_true(server_start(s));
    return s;
}

static void end(struct server *s)
{
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static struct client *hello(const char *addr)
{
    struct client *c = client_connect(addr);

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    return c;
}

static int attach(struct client *c, const char *aname, guint32 *fid, struct client_qid *qid)
{
    *fid = client_fid(c);
    return client_attach(c, *fid, geteuid(), aname, qid);
}

static int try_attach(struct client *c, const char *aname)
{
    guint32 fid;
    int error = attach(c, aname, &fid, NULL);

    if (error == 0)
        g_assert_cmpint(client_clunk(c, fid), ==, 0);
    return error;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void several(void)
{
    struct server *s = with_exports("[export a]\ndir=@/a\n[export data/b]\ndir=@/b\n", NULL);
    struct client *c = hello(s->addr);
    struct client_qid data, a, b;
    guint32 fid;

    g_assert_cmpint(attach(c, "data", &fid, &data), ==, 0);
    g_assert_cmpint(attach(c, "a", &fid, &a), ==, 0);
    /* the longest name counts, and is no directory of the shorter one */
    g_assert_cmpint(attach(c, "data/b", &fid, &b), ==, 0);
    g_assert_cmpuint(data.path, !=, a.path);
    g_assert_cmpuint(data.path, !=, b.path);
    g_assert_cmpint(try_attach(c, ""), ==, ENOENT);
    g_assert_cmpint(try_attach(c, "/"), ==, ENOENT);
    g_assert_cmpint(try_attach(c, "A"), ==, ENOENT);
    g_assert_cmpint(try_attach(c, "dat"), ==, ENOENT);
    g_assert_cmpint(try_attach(c, "dataX"), ==, ENOENT);
    g_assert_cmpint(try_attach(c, "data "), ==, ENOENT);
    g_assert_cmpint(try_attach(c, s->dir), ==, ENOENT);
    g_assert_cmpuint(count_in_log(s, "'a', 'data/b', 'data'"), ==, 2); /* one for each reason */
    client_close(c);
    end(s);
}

static void only_one(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(try_attach(f->c, ""), ==, 0);
    g_assert_cmpint(try_attach(f->c, "/"), ==, 0);
    g_assert_cmpint(try_attach(f->c, "data"), ==, 0);
    g_assert_cmpint(try_attach(f->c, "data/"), ==, 0);
    g_assert_cmpint(try_attach(f->c, "/data"), ==, ENOENT);
    g_assert_cmpint(try_attach(f->c, "//"), ==, ENOENT);
}

/* A client fills no log by asking for ever more names. */
static void log_is_bounded(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("no-such-%d", i);

        g_assert_cmpint(try_attach(f->c, name), ==, ENOENT);
    }
    g_assert_cmpuint(count_in_log(f->s, "no-such-"), ==, 1);
}

/* ---- subdirectories -------------------------------------------------------------------------- */

static void make_tree(struct server *s)
{
    g_autofree char *link = server_path(s, "link");
    g_autofree char *inner = server_path(s, "top/link");

    make_dir(s, "top");
    make_dir(s, "top/sub");
    make_dir(s, "top/sub/deep");
    make_dir(s, "top/other");
    make_file(s, "top/sub/file", "inside");
    make_file(s, "top/secret", "outside");
    g_assert_cmpint(symlink("top/sub", link), ==, 0);
    g_assert_cmpint(symlink("sub", inner), ==, 0);
}

static void not_without_leave(struct fixture *f, gconstpointer data)
{
    (void)data;
    make_tree(f->s);
    g_assert_cmpint(try_attach(f->c, "data/top"), ==, ENOENT);
    g_assert_cmpint(try_attach(f->c, "data/top/sub"), ==, ENOENT);
    g_assert_cmpuint(count_in_log(f->s, "subdirs=yes"), ==, 1);
}

static void same_qid(const struct client_qid *a, const struct client_qid *b)
{
    g_assert_cmpuint(a->path, ==, b->path);
    g_assert_cmpuint(a->type, ==, b->type);
    g_assert_cmpuint(a->version, ==, b->version);
}

static struct client_qid walked(struct client *c, guint32 fid, const char *path)
{
    guint32 newfid = client_fid(c);
    struct client_qid qid;

    g_assert_cmpint(client_walk_path(c, fid, newfid, path, &qid), ==, 0);
    g_assert_cmpint(client_clunk(c, newfid), ==, 0);
    return qid;
}

static const char *const dotdot[] = {"..", NULL};

static void same_ids(struct fixture *f, gconstpointer data)
{
    struct client_qid qid, other;
    guint32 sub;

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(attach(f->c, "data/top/sub", &sub, &qid), ==, 0);
    other = walked(f->c, ROOT_FID, "top/sub");
    same_qid(&qid, &other);
    qid = walked(f->c, sub, "file");
    other = walked(f->c, ROOT_FID, "top/sub/file");
    same_qid(&qid, &other);
    g_assert_cmpint(try_attach(f->c, "data//top///sub//"), ==, 0);
}

/* The id of an entry of the directory `fid`, as readdir has it. */
static guint64 listed(struct client *c, guint32 fid, const char *name)
{
    g_autoptr(GPtrArray) entries = NULL;
    guint64 path = 0;

    g_assert_cmpint(client_readdir_all(c, fid, 8192, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *entry = g_ptr_array_index(entries, i);

        if (strcmp(entry->name, name) == 0)
            path = entry->qid.path;
    }
    g_assert_cmpuint(path, !=, 0);
    return path;
}

static void root_is_the_end(struct fixture *f, gconstpointer data)
{
    static const char *const climb[] = {"deep", "..", "..", "..", "secret", NULL};
    struct client_qid root, qids[16], whole = walked(f->c, ROOT_FID, "");
    guint32 sub, fid;
    guint n;

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(attach(f->c, "data/top/sub", &sub, &root), ==, 0);
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk(f->c, sub, fid, dotdot, &n, qids), ==, 0);
    same_qid(&qids[0], &root);
    g_assert_cmpuint(listed(f->c, sub, ".."), ==, root.path);
    g_assert_cmpuint(listed(f->c, sub, "."), ==, root.path);
    n = 16;
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk(f->c, sub, fid, climb, &n, qids), ==, 0);
    g_assert_cmpuint(n, ==, 4); /* secret is not there */
    same_qid(&qids[2], &root);
    same_qid(&qids[3], &root);
    /* a fid below, in steps of its own, and a clone */
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk_path(f->c, sub, fid, "deep", NULL), ==, 0);
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(client_walk(f->c, fid, fid, dotdot, &n, qids), ==, 0);
    same_qid(&qids[0], &root);
    /* the other attach is not touched */
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, fid, "top/sub", NULL), ==, 0);
    g_assert_cmpint(client_walk(f->c, fid, fid, dotdot, &n, qids), ==, 0);
    g_assert_cmpint(client_walk(f->c, fid, fid, dotdot, &n, qids), ==, 0);
    same_qid(&qids[0], &whole);
}

/* The host moves things: the root stays the root, and what leaves it is lost to its fids. */
static void moved_by_the_host(struct fixture *f, gconstpointer data)
{
    g_autofree char *sub_path = server_path(f->s, "top/sub");
    g_autofree char *deep_path = server_path(f->s, "top/sub/deep");
    g_autofree char *away = server_path(f->s, "away"), *out = server_path(f->s, "out");
    struct client_qid root, qids[16];
    guint32 sub, deep = client_fid(f->c), fid;
    guint n;
    int error;

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(attach(f->c, "data/top/sub", &sub, &root), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, sub, deep, "deep", NULL), ==, 0);
    g_assert_cmpint(g_rename(sub_path, away), ==, 0);
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk(f->c, sub, fid, dotdot, &n, qids), ==, 0);
    same_qid(&qids[0], &root);
    g_assert_cmpint(client_walk(f->c, deep, client_fid(f->c), dotdot, &n, qids), ==, 0);
    same_qid(&qids[0], &root);
    g_assert_cmpint(g_rename(away, sub_path), ==, 0);
    g_assert_cmpint(g_rename(deep_path, out), ==, 0);
    error = client_walk(f->c, deep, client_fid(f->c), dotdot, &n, qids);
    g_assert_cmpint(error, !=, 0);
    g_assert_cmpint(client_remove(f->c, deep), !=, 0); /* stands nowhere below */
    g_assert_cmpint(g_access(out, F_OK), ==, 0);
}

/* Tremove takes the name that the fid has, and not another of the same file, which stands where the
 * one would be if the root were elsewhere. */
static void the_own_name(struct fixture *f, gconstpointer data)
{
    g_autofree char *file = server_path(f->s, "top/sub/file");
    g_autofree char *other = server_path(f->s, "top/sub/top/sub/file");
    g_autofree char *plain = server_path(f->s, "plain"), *inner = server_path(f->s, "n/plain");
    g_autofree char *root = g_path_get_dirname(plain);
    g_autofree char *away = g_strconcat(root, ".away", NULL);
    g_autofree char *back = g_build_filename(root, "n", NULL);
    guint32 sub, fid = client_fid(f->c);
    struct client_qid qid;

    (void)data;
    make_tree(f->s);
    make_dir(f->s, "top/sub/top");
    make_dir(f->s, "top/sub/top/sub");
    g_assert_cmpint(link(file, other), ==, 0);
    g_assert_cmpint(attach(f->c, "data/top/sub", &sub, &qid), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, sub, fid, "file", NULL), ==, 0);
    g_assert_cmpint(client_remove(f->c, fid), ==, 0);
    g_assert_cmpint(g_access(file, F_OK), !=, 0);
    g_assert_cmpint(g_access(other, F_OK), ==, 0);
    /* the host puts the root into a folder that has the root's old name */
    make_file(f->s, "plain", "x");
    make_dir(f->s, "n");
    g_assert_cmpint(link(plain, inner), ==, 0);
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, fid, "plain", NULL), ==, 0);
    g_assert_cmpint(g_rename(root, away), ==, 0);
    g_assert_cmpint(g_mkdir(root, 0755), ==, 0);
    g_assert_cmpint(g_rename(away, back), ==, 0);
    g_assert_cmpint(client_remove(f->c, fid), ==, 0);
    fid = client_fid(f->c);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, fid, "n/plain", NULL), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, client_fid(f->c), "plain", NULL), ==, ENOENT);
}

static void bad_subdirs(struct fixture *f, gconstpointer data)
{
    g_autofree char *name = g_strnfill(256, 'x');
    g_autofree char *too_long = g_strdup_printf("data/%s", name);

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(try_attach(f->c, "data/top"), ==, 0);
    g_assert_cmpint(try_attach(f->c, "data/missing"), ==, ENOENT);
    g_assert_cmpint(try_attach(f->c, "data/top/missing/sub"), ==, ENOENT);
    g_assert_cmpint(try_attach(f->c, "data/top/secret"), ==, ENOTDIR);
    g_assert_cmpint(try_attach(f->c, "data/top/secret/x"), ==, ENOTDIR);
    g_assert_cmpint(try_attach(f->c, "data/link"), ==, ENOTDIR);
    g_assert_cmpint(try_attach(f->c, "data/link/deep"), ==, ENOTDIR);
    g_assert_cmpint(try_attach(f->c, "data/top/link/deep"), ==, ENOTDIR);
    g_assert_cmpint(try_attach(f->c, "data/.."), ==, EINVAL);
    g_assert_cmpint(try_attach(f->c, "data/top/.."), ==, EINVAL);
    g_assert_cmpint(try_attach(f->c, "data/top/../top/sub"), ==, EINVAL);
    g_assert_cmpint(try_attach(f->c, "data/."), ==, EINVAL);
    g_assert_cmpint(try_attach(f->c, "data/../../../etc"), ==, EINVAL);
    g_assert_cmpint(try_attach(f->c, too_long), ==, ENAMETOOLONG);
}

/* Moves and links go between attaches of one export, in one session. */
static void between_attaches(struct fixture *f, gconstpointer data)
{
    g_autofree char *moved = server_path(f->s, "moved");
    guint32 sub, file = client_fid(f->c);

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(attach(f->c, "data/top/sub", &sub, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, sub, file, "file", NULL), ==, 0);
    g_assert_cmpint(client_link(f->c, ROOT_FID, file, "linked"), ==, 0);
    g_assert_cmpint(client_renameat(f->c, sub, "file", ROOT_FID, "moved"), ==, 0);
    g_assert_cmpint(g_access(moved, F_OK), ==, 0);
}

static void not_between_exports(void)
{
    struct server *s = with_exports(
        "[export a]\ndir=@/a\nreadonly=true\n[export b]\ndir=@/b\nsubdirs=yes\n", NULL);
    g_autofree char *file_path = g_build_filename(s->tmp, "a", "file", NULL);
    g_autofree char *dir_path = g_build_filename(s->tmp, "b", "dir", NULL);
    struct client *c = hello(s->addr);
    guint32 a, b, file = client_fid(c);

    g_assert_true(g_file_set_contents(file_path, "x", -1, NULL));
    g_assert_cmpint(g_mkdir(dir_path, 0777), ==, 0);
    g_assert_cmpint(attach(c, "a", &a, NULL), ==, 0);
    g_assert_cmpint(attach(c, "b/dir", &b, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, a, file, "file", NULL), ==, 0);
    g_assert_cmpint(client_link(c, b, file, "linked"), ==, EXDEV);
    g_assert_cmpint(client_rename(c, file, b, "moved"), ==, EXDEV);
    g_assert_cmpint(client_renameat(c, a, "file", b, "moved"), !=, 0);
    client_close(c);
    end(s);
}

static guint descriptors(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    while (g_dir_read_name(dir) != NULL)
        count++;
    return count;
}

/* Attaches leave nothing behind: not when clunked, not when they fail, not with the connection. */
static void nothing_left(struct fixture *f, gconstpointer data)
{
    struct client *other = hello(f->s->addr);
    guint before;

    (void)data;
    make_tree(f->s);
    g_assert_cmpint(try_attach(f->c, "data/top/sub"), ==, 0);
    before = descriptors(f->s);
    for (int i = 0; i < 100; i++) {
        guint32 fid, below = client_fid(other);

        g_assert_cmpint(try_attach(f->c, "data/top/sub"), ==, 0);
        g_assert_cmpint(try_attach(f->c, "data/top/missing"), ==, ENOENT);
        g_assert_cmpint(attach(other, "data/top/sub", &fid, NULL), ==, 0);
        g_assert_cmpint(client_walk_path(other, fid, below, "deep", NULL), ==, 0);
        g_assert_cmpint(client_clunk(other, fid), ==, 0);
        if (i % 2)
            g_assert_cmpint(client_clunk(other, below), ==, 0);
    }
    client_close(other);
    for (int i = 0; i < 30000 && descriptors(f->s) >= before; i++)
        g_usleep(1000);
    g_assert_cmpuint(descriptors(f->s), <, before); /* the other connection is gone, too */
    g_assert_cmpint(try_attach(f->c, "data/top/sub"), ==, 0);
}

/* The way down is the user's: who may not search a directory cannot get past it by aname. */
static void as_the_user(struct fixture *f, gconstpointer data)
{
    g_autofree char *closed = server_path(f->s, "top");

    (void)data;
    if (skip_unless_root())
        return;
    make_tree(f->s);
    g_assert_cmpint(g_chmod(closed, 0700), ==, 0);
    g_assert_cmpint(client_attach(f->c, client_fid(f->c), 12345, "data/top/sub", NULL), ==, EACCES);
    g_assert_cmpint(g_chmod(closed, 0711), ==, 0);
    g_assert_cmpint(client_attach(f->c, client_fid(f->c), 12345, "data/top/sub", NULL), ==, 0);
}

/* ---- allow lists ----------------------------------------------------------------------------- */

static void refused_at_attach(void)
{
    g_autofree char *file = g_strdup_printf(
        "[export a]\ndir=@/a\nallow=vsock:3,192.0.2.0/24\n[export b]\ndir=@/b\nallow=none,uid:%u\n",
        (unsigned)geteuid());
    struct server *s = with_exports(file, NULL);
    struct client *c = hello(s->addr);

    for (int i = 0; i < 50; i++)
        g_assert_cmpint(try_attach(c, "a"), ==, EACCES);
    g_assert_cmpint(try_attach(c, "b"), ==, 0);
    g_assert_cmpint(try_attach(c, "data"), ==, 0);
    g_assert_cmpuint(count_in_log(s, "may not attach to the export 'a'"), ==, 1);
    client_close(c);
    end(s);
}

/* Without a name it is the only one that is for the client. */
static void the_only_allowed(void)
{
    g_autofree char *uid = g_strdup_printf("uid:%u", (unsigned)geteuid());
    g_autofree char *file =
        g_strdup_printf("[export a]\ndir=@/a\nallow=vsock:3\n[export b]\ndir=@/b\nallow=%s\n", uid);
    struct server *s = with_exports(file, (const char *const[]){"--allow", "vsock:4", NULL});
    struct client *c = hello(s->addr);
    struct client_qid qid, b;
    guint32 fid;

    g_assert_cmpint(attach(c, "b", &fid, &b), ==, 0);
    g_assert_cmpint(attach(c, "", &fid, &qid), ==, 0);
    same_qid(&qid, &b);
    g_assert_cmpint(try_attach(c, "data"), ==, EACCES); /* --allow is for the others */
    client_close(c);
    end(s);
}

/* Nothing at all is there for the client: no answer to the first message. */
static void refused_at_accept(void)
{
    static const char *const extra[] = {"--allow", "192.0.2.1,unix", NULL};
    struct server *s = server_new("memory:", extra);
    struct client *c;

    g_assert_true(server_start(s));
    for (int i = 0; i < 20; i++) {
        c = client_connect(s->tcp);
        if (c == NULL)
            continue;
        g_assert_cmpint(client_hello(c, 8192), <, 0);
        client_close(c);
    }
    g_assert_cmpuint(count_in_log(s, "may not connect"), ==, 1);
    c = server_client(s); /* by its unix socket */
    client_close(c);
    end(s);
}

static void network_allowed(void)
{
    static const char *const extra[] = {"--allow", "127.0.0.0/8", NULL};
    struct server *s = server_new("memory:", extra);
    struct client *c;

    g_assert_true(server_start(s));
    c = hello(s->tcp);
    g_assert_cmpint(try_attach(c, "data"), ==, 0);
    client_close(c);
    c = client_connect(s->addr);
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 8192), <, 0);
    client_close(c);
    end(s);
}

/* A listener's own list keeps others out, whatever the exports say. */
static void listener_list(void)
{
    struct server *s = server_new("memory:", NULL);
    g_autofree char *closed = g_strdup_printf("unix:%s/closed", s->tmp);
    g_autofree char *listen = g_strdup_printf("%s,allow=uid:4294967294", closed);
    const char *extra[] = {"--listen", listen, NULL};
    struct client *c;

    s->extra = g_strdupv((char **)extra);
    g_assert_true(server_start(s));
    c = client_connect(closed);
    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 8192), <, 0);
    client_close(c);
    g_assert_cmpuint(count_in_log(s, "may not connect to unix:"), ==, 1);
    c = server_client(s);
    client_close(c);
    end(s);
}

int main(int argc, char **argv)
{
    static const char *const subdirs[] = {"--subdirs", "yes", NULL};

#define SUBDIRS_TEST(path, fn)                                                                     \
    g_test_add(path, struct fixture, subdirs, fixture_setup, fn, fixture_teardown)
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/exports/several", several);
    FIXTURE_TEST("/exports/only-one", only_one);
    FIXTURE_TEST("/exports/log-is-bounded", log_is_bounded);
    FIXTURE_TEST("/exports/not-without-leave", not_without_leave);
    SUBDIRS_TEST("/exports/same-ids", same_ids);
    SUBDIRS_TEST("/exports/root-is-the-end", root_is_the_end);
    SUBDIRS_TEST("/exports/moved-by-the-host", moved_by_the_host);
    SUBDIRS_TEST("/exports/the-own-name", the_own_name);
    SUBDIRS_TEST("/exports/bad-subdirs", bad_subdirs);
    SUBDIRS_TEST("/exports/between-attaches", between_attaches);
    g_test_add_func("/exports/not-between-exports", not_between_exports);
    SUBDIRS_TEST("/exports/nothing-left", nothing_left);
    SUBDIRS_TEST("/exports/as-the-user", as_the_user);
    g_test_add_func("/exports/refused-at-attach", refused_at_attach);
    g_test_add_func("/exports/the-only-allowed", the_only_allowed);
    g_test_add_func("/exports/refused-at-accept", refused_at_accept);
    g_test_add_func("/exports/network-allowed", network_allowed);
    g_test_add_func("/exports/listener-list", listener_list);
    return g_test_run();
}
