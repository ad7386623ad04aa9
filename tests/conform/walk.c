/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Twalk: names, fids, the export's root, and fids that follow their files. */
#include "config.h"

#include "tests/conform/conform.h"

#include <stdio.h>
#include <string.h>

static int walk1(struct client *c, guint32 fid, guint32 newfid, const char *name)
{
    const char *names[] = {name, NULL};
    struct client_qid qids[16];
    guint n = 0;
    int rc = client_walk(c, fid, newfid, names, &n, qids);

    return rc == 0 && n != 1 ? CLIENT_BAD : rc;
}

/* a name of given length, any bytes: as client_walk takes strings */
static int walk_bytes(struct client *c, guint32 fid, guint32 newfid, const char *name, gsize len)
{
    struct client_qid qids[16];
    guint n;

    return client_rpc(c, TWALK, "ddwS", fid, newfid, 1, len, name, "A", &n, qids);
}

static void no_fid(struct client *c, guint32 fid)
{
    struct client_attr attr;

    ERROR(client_getattr(c, fid, GETATTR_BASIC, &attr));
}

static void deep(guint arg)
{
    struct client *c = session();
    const char *names[17] = {NULL};
    guint32 at = clone_fid(c, WORK);
    struct client_qid qids[16], last = {0};
    guint n = 0;

    (void)arg;
    for (guint i = 0; i < 16; i++) {
        names[i] = g_strdup_printf("d%u", i);
        OK(client_mkdir(c, at, names[i], 0755, &last));
        OK(walk1(c, at, at, names[i]));
    }
    OK(client_walk(c, WORK, 50, names, &n, qids));
    IS(n, 16);
    YES(same_qid(&qids[15], &last));
    for (guint i = 0; i < 15; i++)
        YES(qids[i].type & QTDIR && qids[i].path != qids[i + 1].path);
}

static void seventeen(guint arg)
{
    struct client *c = session();
    const char *names[18];
    struct client_qid qids[16];
    guint n;
    int rc;

    (void)arg;
    for (guint i = 0; i < 17; i++)
        names[i] = "..";
    names[17] = NULL;
    rc = client_walk(c, ROOT, 50, names, &n, qids);
    if (rc != CLIENT_EOF)
        expect_error(rc, "Twalk of 17 names", __FILE__, __LINE__);
    still_serves();
}

static void partial(guint arg)
{
    struct client *c = session();
    const char *names[] = {"d", "missing", "x", NULL};
    struct client_qid qids[16], want = qid_of(c, make_dir(c, "d"));
    guint n = 99;

    (void)arg;
    OK(client_walk(c, WORK, 50, names, &n, qids));
    IS(n, 1);
    YES(same_qid(&qids[0], &want));
    no_fid(c, 50);
    OK(walk1(c, WORK, 50, "d")); /* the number is still free */
}

static void first_missing(guint arg)
{
    struct client *c = session();

    (void)arg;
    ERR(walk1(c, WORK, 50, "missing"), ENOENT);
    no_fid(c, 50);
}

static void same_fid(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    const char *names[] = {"b", "missing", NULL};
    struct client_qid qids[16], a = qid_of(c, make_dir(c, "a")), now;
    guint n;

    (void)arg;
    OK(walk1(c, fid, fid, "a"));
    now = qid_of(c, fid);
    YES(same_qid(&now, &a));
    OK(client_mkdir(c, fid, "b", 0755, NULL));
    OK(client_walk(c, fid, fid, names, &n, qids));
    IS(n, 1);
    now = qid_of(c, fid);
    YES(same_qid(&now, &a)); /* a walk that did not succeed moves nothing */
    OK(client_walk(c, fid, fid, NULL, &n, qids));
    IS(n, 0);
    now = qid_of(c, fid);
    YES(same_qid(&now, &a));
    ERR(walk1(c, fid, fid, "missing"), ENOENT);
    now = qid_of(c, fid);
    YES(same_qid(&now, &a));
}

static void cloned(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), copy = clone_fid(c, file);
    struct client_qid a = qid_of(c, file), b = qid_of(c, copy);

    (void)arg;
    YES(same_qid(&a, &b));
    OK(client_clunk(c, file));
    OK(client_lopen(c, copy, L_RDONLY, NULL));
    expect_text(c, copy, "text");
}

static void in_use(guint arg)
{
    struct client *c = session();
    guint32 a = make_file(c, "a", "A"), b = make_file(c, "b", "B");

    (void)arg;
    ERROR(walk1(c, WORK, a, "b"));
    OK(client_lopen(c, a, L_RDONLY, NULL));
    expect_text(c, a, "A");
    ERROR(walk1(c, WORK, a, "b"));
    expect_text(c, a, "A");
    OK(client_lopen(c, b, L_RDONLY, NULL));
    expect_text(c, b, "B");
}

static void open_clone(guint arg)
{
    struct client *c = session();
    guint32 open = make_open(c, "file", "text"), copy = clone_fid(c, open);

    (void)arg;
    /* what was cloned is not open */
    OK(client_lopen(c, copy, L_RDONLY, NULL));
    expect_text(c, copy, "text");
    OK(client_clunk(c, copy));
    expect_text(c, open, "text");
    put_text(c, open, 0, "TEXT");
    expect_text(c, open, "TEXT");
}

/* The protocol forbids it, Linux does it where it has no other fid of a directory: either, but
 * never half. */
static void open_names(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), made = clone_fid(c, dir);
    GPtrArray *entries = g_ptr_array_new();
    struct client_qid want;
    int rc;

    (void)arg;
    OK(client_lcreate(c, made, "x", L_RDWR, 0644, NULL));
    want = qid_of(c, made);
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
    rc = walk1(c, dir, 50, "x");
    if (rc == 0) {
        struct client_qid got = qid_of(c, 50);

        YES(same_qid(&got, &want));
    } else {
        expect_error(rc, "Twalk of a name from an open fid", __FILE__, __LINE__);
        no_fid(c, 50);
    }
    OK(client_readdir(c, dir, 0, 4000, entries));
    IS(entries->len, 3);
}

static void open_same(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d");
    GPtrArray *entries = g_ptr_array_new();

    (void)arg;
    OK(client_mkdir(c, dir, "x", 0755, NULL));
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
    ERROR(walk1(c, dir, dir, "x")); /* an open fid cannot be moved elsewhere */
    OK(client_readdir(c, dir, 0, 4000, entries));
    IS(entries->len, 3);
}

static void from_file(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text");
    const char *names[] = {"file", "x", NULL};
    struct client_qid qids[16];
    guint n = 0;
    int rc;

    (void)arg;
    ERR(walk1(c, file, 50, "x"), ENOTDIR, ENOENT);
    ERR(walk1(c, file, 50, ".."), ENOTDIR, ENOENT);
    rc = client_walk(c, WORK, 50, names, &n, qids);
    if (rc == 0)
        IS(n, 1);
    else
        expect_errno(rc, (int[]){ENOTDIR, 0}, "Twalk file/x", __FILE__, __LINE__);
    no_fid(c, 50);
}

static void through_symlink(guint arg)
{
    struct client *c = session();
    const char *names[] = {"link", "x", NULL};
    struct client_qid qids[16];
    guint32 link;
    guint n = 0;
    int rc;

    (void)arg;
    OK(client_mkdir(c, make_dir(c, "d"), "x", 0755, NULL));
    link = make_link(c, "link", "d");
    YES((attr_of(c, link).mode & 0170000) == 0120000);
    IS(qid_of(c, link).type, QTSYMLINK);
    ERROR(walk1(c, link, 50, "x"));
    ERROR(walk1(c, link, 50, ".."));
    rc = client_walk(c, WORK, 50, names, &n, qids);
    if (rc == 0)
        IS(n, 1);
    else if (rc < 0)
        fail("Twalk link/x: %s", rc_name(rc));
    no_fid(c, 50);
}

static void dotdot(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), deeper;
    const char *names[] = {"d", "e", "..", "..", "d", NULL};
    struct client_qid qids[16], work = qid_of(c, WORK), d = qid_of(c, dir);
    guint n;

    (void)arg;
    OK(client_mkdir(c, dir, "e", 0755, NULL));
    deeper = walk_to(c, dir, "e");
    OK(walk1(c, deeper, deeper, ".."));
    YES(qid_of(c, deeper).path == d.path);
    OK(client_walk(c, WORK, 50, names, &n, qids));
    IS(n, 5);
    YES(same_qid(&qids[2], &d) && same_qid(&qids[3], &work) && same_qid(&qids[4], &d));
}

static void dotdot_root(guint arg)
{
    struct client *c = session();
    const char *names[17];
    struct client_qid qids[16], root = qid_of(c, ROOT);
    guint n;

    (void)arg;
    for (guint i = 0; i < 16; i++)
        names[i] = "..";
    names[16] = NULL;
    OK(walk1(c, ROOT, 50, ".."));
    YES(qid_of(c, 50).path == root.path);
    OK(client_walk(c, ROOT, 51, names, &n, qids));
    IS(n, 16);
    for (guint i = 0; i < 16; i++)
        YES(same_qid(&qids[i], &root));
    YES(qid_of(c, 51).path == root.path);
}

static void dotdot_deep_root(guint arg)
{
    struct client *c = session();
    struct client_qid root = qid_of(c, ROOT), at;
    guint32 fid = make_dir(c, "d");

    (void)arg;
    for (guint i = 0; i < 6; i++)
        OK(walk1(c, fid, fid, ".."));
    at = qid_of(c, fid);
    YES(same_qid(&at, &root));
    OK(client_walk_path(c, fid, 50, env.work, NULL));
}

static void name_slash(guint arg)
{
    static const char *const names[] = {"/", "a/b", "../..", "..//", "/etc", "a/", "/a", "a/../a"};
    struct client *c = session();

    (void)arg;
    OK(client_mkdir(c, make_dir(c, "a"), "b", 0755, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        ERR(walk1(c, WORK, 50, names[i]), EINVAL, ENOENT);
        no_fid(c, 50);
        ERR(walk1(c, ROOT, 50, names[i]), EINVAL, ENOENT);
    }
}

static void name_nul(guint arg)
{
    struct client *c = session();
    int rc;

    (void)arg;
    make_dir(c, "a");
    rc = walk_bytes(c, WORK, 50, "a\0b", 3);
    if (rc == CLIENT_EOF) /* a string with a NUL breaks the protocol: this may end the session */
        c = session();
    else
        ERR(rc, EINVAL, ENOENT, EPROTO, EBADMSG, EIO);
    no_fid(c, 50);
    rc = walk_bytes(c, WORK, 50, "a\0", 2);
    if (rc != CLIENT_EOF)
        ERR(rc, EINVAL, ENOENT, EPROTO, EBADMSG, EIO);
}

static void name_dot(guint arg)
{
    struct client *c = session();

    (void)arg;
    ERR(walk1(c, ROOT, 50, "."), EINVAL, ENOENT);
    no_fid(c, 50);
}

static void name_empty(guint arg)
{
    struct client *c = session();

    (void)arg;
    ERR(walk1(c, ROOT, 50, ""), EINVAL, ENOENT);
    no_fid(c, 50);
}

static void name_long(guint arg)
{
    struct client *c = session();
    g_autofree char *fits = g_strnfill(255, 'n'), *over = g_strnfill(256, 'n');
    g_autofree char *vast = g_strnfill(5000, 'n');

    (void)arg;
    ERR(walk1(c, ROOT, 50, fits), ENOENT);
    ERR(walk1(c, ROOT, 50, over), ENAMETOOLONG);
    ERR(walk1(c, ROOT, 50, vast), ENAMETOOLONG);
    no_fid(c, 50);
}

static void moved_dir(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), target = make_dir(c, "t"), fid;
    struct client_qid want = qid_of(c, target);

    (void)arg;
    OK(client_mkdir(c, dir, "x", 0755, NULL));
    fid = walk_to(c, WORK, "d");
    OK(move_name(c, WORK, "d", target, "moved"));
    OK(walk1(c, fid, 50, "x"));
    OK(walk1(c, fid, 51, ".."));
    YES(qid_of(c, 51).path == want.path);
    OK(client_mkdir(c, fid, "y", 0755, NULL));
    YES(exists(c, "t/moved/y"));
}

static void renamed(guint arg)
{
    struct client *c = session(), *other = session();
    guint32 fid = make_file(c, "a", "A");
    struct client_qid want = qid_of(c, fid), now;

    (void)arg;
    OK(move_name(other, WORK, "a", WORK, "b"));
    make_file(other, "a", "another");
    now = qid_of(c, fid);
    YES(same_qid(&now, &want));
    OK(client_lopen(c, fid, L_RDWR, NULL));
    expect_text(c, fid, "A");
    put_text(c, fid, 0, "B");
    expect_content(other, "b", "B");
    expect_content(other, "a", "another");
}

static void host_renamed(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "a", "A"), dir = make_dir(c, "d");
    struct client_qid want = qid_of(c, fid), now;
    struct client_attr attr = {.mode = 0600};

    (void)arg;
    if (rename(host_path("a"), host_path("d/b")) != 0 ||
        !g_file_set_contents(host_path("a"), "another", -1, NULL))
        fail("on the host: %s", g_strerror(errno));
    now = qid_of(c, fid);
    YES(same_qid(&now, &want));
    OK(client_setattr(c, fid, SETATTR_MODE, &attr));
    IS(attr_of(c, walk_to(c, dir, "b")).mode & 07777, 0600);
    YES((attr_of(c, walk_to(c, WORK, "a")).mode & 07777) != 0600);
    OK(client_lopen(c, fid, L_RDONLY, NULL));
    expect_text(c, fid, "A");
}

static void host_dir_renamed(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d");

    (void)arg;
    make_dir(c, "other");
    OK(client_mkdir(c, dir, "mine", 0755, NULL));
    if (rename(host_path("d"), host_path("other/moved")) != 0 ||
        g_mkdir_with_parents(host_path("d/alien"), 0755) != 0)
        fail("on the host: %s", g_strerror(errno));
    OK(walk1(c, dir, 50, "mine"));
    ERR(walk1(c, dir, 51, "alien"), ENOENT);
    OK(client_mkdir(c, dir, "new", 0755, NULL));
    YES(exists(c, "other/moved/new"));
    YES(!exists(c, "d/new"));
}

static void replaced(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "a", "old");
    struct client_qid want = qid_of(c, fid), now;

    (void)arg;
    make_file(c, "new", "new");
    OK(move_name(c, WORK, "new", WORK, "a"));
    now = qid_of(c, fid);
    YES(same_qid(&now, &want));
    IS(attr_of(c, fid).nlink, 0);
    OK(client_lopen(c, fid, L_RDONLY, NULL));
    expect_text(c, fid, "old");
    expect_content(c, "a", "new");
}

/* A name that is swapped between a directory and a symlink out of the export, again and again. */
static void escape_host(guint arg)
{
    struct client *c = session();
    const char *names[] = {"swap", "passwd", NULL};
    struct client_qid qids[16];
    guint n;

    (void)arg;
    make_dir(c, "dir");
    make_link(c, "swap", "/etc");
    for (guint i = 0; i < 50; i++) {
        n = 0;
        if (client_walk(c, WORK, 50, names, &n, qids) == 0 && n == 2)
            fail("the walk went through a symlink to /etc");
        if (rename(host_path("swap"), host_path("tmp")) != 0 ||
            rename(host_path("dir"), host_path("swap")) != 0 ||
            rename(host_path("tmp"), host_path("dir")) != 0)
            fail("on the host: %s", g_strerror(errno));
    }
}

#define T "walk(5), Twalk"
const struct conform_case walk_cases[] = {
    {"walk/sixteen", "16 names are walked at once, with a qid for each", T, CASE_WRITES, deep, 0},
    {"walk/seventeen", "more than 16 names are refused", T, 0, seventeen, 0},
    {"walk/partial",
     "where a later name is missing, the qids up to it are given and no fid is made", T,
     CASE_WRITES, partial, 0},
    {"walk/first-missing", "where the first name is missing, the answer is ENOENT", T, CASE_WRITES,
     first_missing, 0},
    {"walk/same-fid", "newfid may be fid: it moves only where all names were walked", T,
     CASE_WRITES, same_fid, 0},
    {"walk/clone",
     "a walk of no names makes a second fid of the same file, that outlives the first", T,
     CASE_WRITES, cloned, 0},
    {"walk/in-use", "a walk to a fid in use is refused, and leaves that as it was", T, CASE_WRITES,
     in_use, 0},
    {"walk/open-clone", "an open fid can be cloned, and the clone is not open",
     "Linux: fs/9p/fid.c, v9fs_fid_find_inode", CASE_WRITES, open_clone, 0},
    {"walk/open-names",
     "names walked from an open fid give the right file, or an error and nothing",
     "walk(5); Linux: fs/9p/fid.c, v9fs_fid_lookup", CASE_WRITES, open_names, 0},
    {"walk/open-same", "an open fid is not moved by a walk to itself", T, CASE_WRITES, open_same,
     0},
    {"walk/from-file", "a name walked from a file is ENOTDIR (or ENOENT)", T, CASE_WRITES,
     from_file, 0},
    {"walk/symlink", "a symlink is walked to as itself, and never through",
     "Linux: the client follows symlinks, Treadlink", CASE_WRITES, through_symlink, 0},
    {"walk/dotdot", "'..' leads to the parent", T, CASE_WRITES, dotdot, 0},
    {"walk/dotdot-root", "'..' of the export's root is the root", T, 0, dotdot_root, 0},
    {"walk/dotdot-up", "'..' again and again from below stops at the export's root", T, CASE_WRITES,
     dotdot_deep_root, 0},
    {"walk/name-slash", "names with '/' are refused: EINVAL or ENOENT", T, CASE_WRITES, name_slash,
     0},
    {"walk/name-nul", "names with a NUL are refused", T, CASE_WRITES, name_nul, 0},
    {"walk/name-dot", "'.' is no name in a walk: EINVAL or ENOENT", T, 0, name_dot, 0},
    {"walk/name-empty", "an empty name is refused: EINVAL or ENOENT", T, 0, name_empty, 0},
    {"walk/name-long", "a name of 255 bytes may be asked for, a longer one is ENAMETOOLONG",
     "Linux: NAME_MAX", 0, name_long, 0},
    {"walk/moved-dir", "a fid of a directory that was renamed finds its entries and its new parent",
     "intro(5): a fid stands for a file", CASE_WRITES, moved_dir, 0},
    {"walk/renamed",
     "a fid follows its file through another client's rename, and never becomes "
     "another file of the old name",
     "intro(5): a fid stands for a file", CASE_WRITES, renamed, 0},
    {"walk/host-renamed", "a fid follows its file through a rename on the host",
     "intro(5): a fid stands for a file", CASE_WRITES | CASE_HOST, host_renamed, 0},
    {"walk/host-dir-renamed", "a fid of a directory follows it through a rename on the host",
     "intro(5): a fid stands for a file", CASE_WRITES | CASE_HOST, host_dir_renamed, 0},
    {"walk/replaced", "a fid whose file was replaced by a rename over it keeps the old file",
     "rename(2); intro(5)", CASE_WRITES, replaced, 0},
    {"walk/host-symlink", "directories replaced by symlinks on the host lead nowhere outside",
     "the server's safety", CASE_WRITES | CASE_HOST, escape_host, 0},
    CASES_END,
};
