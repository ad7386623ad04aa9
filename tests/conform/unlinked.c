/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fids whose file has lost its name: all that a Linux process does with an open file must work. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <unistd.h>

/* A fid whose file is gone from the directory: open, or walked to only. */
static guint32 nameless(struct client *c, gboolean open)
{
    guint32 fid = open ? make_open(c, "file", "text") : make_file(c, "file", "text");

    OK(remove_name(c, WORK, "file", 0));
    YES(!exists(c, "file"));
    return fid;
}

static void io(guint open)
{
    struct client *c = session();
    guint32 fid = nameless(c, open);

    if (!open)
        OK(client_lopen(c, fid, L_RDWR, NULL));
    expect_text(c, fid, "text");
    put_text(c, fid, 4, " more");
    expect_text(c, fid, "text more");
    OK(client_fsync(c, fid));
}

static void getattr(guint open)
{
    struct client *c = session();
    struct client_qid before, after;
    guint32 fid = open ? make_open(c, "file", "text") : make_file(c, "file", "text");

    before = qid_of(c, fid);
    OK(remove_name(c, WORK, "file", 0));
    after = qid_of(c, fid);
    YES(same_qid(&before, &after));
    IS(attr_of(c, fid).nlink, 0);
    IS(attr_of(c, fid).size, 4);
}

static void setattr(guint open)
{
    struct client *c = session();
    guint32 fid = nameless(c, open);
    struct client_attr attr = {.mode = 0640, .size = 2, .mtime = 1000000000, .mtime_ns = 5};

    OK(client_setattr(c, fid, SETATTR_MODE, &attr));
    OK(client_setattr(c, fid, SETATTR_SIZE, &attr));
    OK(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    attr.uid = attr_of(c, fid).uid;
    OK(client_setattr(c, fid, SETATTR_UID, &attr));
    attr = attr_of(c, fid);
    IS(attr.mode & 07777, 0640);
    IS(attr.size, 2);
    IS(attr.mtime, 1000000000);
}

static void xattr(guint open)
{
    struct client *c = session();
    guint32 fid = open ? make_open(c, "file", "text") : make_file(c, "file", "text");
    GByteArray *value = NULL;
    guint64 size;
    int rc = client_setxattr(c, walk_to(c, WORK, "file"), "user.conform", "value", 5, 0);

    if (rc == EOPNOTSUPP)
        skip("no user xattrs here");
    OK(rc);
    OK(remove_name(c, WORK, "file", 0));
    OK(client_getxattr(c, fid, "user.conform", &value));
    YES(value->len == 5 && memcmp(value->data, "value", 5) == 0);
    OK(client_xattrwalk(c, fid, client_fid(c), "", &size));
    OK(client_setxattr(c, fid, "user.conform", "other", 5, 0));
    OK(client_getxattr(c, fid, "user.conform", &value));
    YES(value->len == 5 && memcmp(value->data, "other", 5) == 0);
}

static void again(guint open)
{
    struct client *c = session();
    guint32 fid = nameless(c, open);

    make_file(c, "file", "another");
    if (!open)
        OK(client_lopen(c, fid, L_RDWR, NULL));
    expect_text(c, fid, "text");
    put_text(c, fid, 0, "TEXT");
    expect_content(c, "file", "another");
    IS(attr_of(c, fid).nlink, 0);
}

static void by_host(guint open)
{
    struct client *c = session();
    guint32 fid = open ? make_open(c, "file", "text") : make_file(c, "file", "text");

    if (unlink(host_path("file")) != 0 ||
        !g_file_set_contents(host_path("file"), "another", -1, NULL))
        fail("on the host: %s", g_strerror(errno));
    IS(attr_of(c, fid).nlink, 0);
    if (!open)
        OK(client_lopen(c, fid, L_RDWR, NULL));
    expect_text(c, fid, "text");
    put_text(c, fid, 0, "TEXT");
    expect_content(c, "file", "another");
}

static void clone_of(guint open)
{
    struct client *c = session();
    guint32 copy = clone_fid(c, nameless(c, open));

    OK(client_lopen(c, copy, L_RDONLY, NULL));
    expect_text(c, copy, "text");
}

static void locks(guint open)
{
    struct client *c = session();
    guint32 fid = nameless(c, open);
    guint8 status = 99;

    if (!open)
        OK(client_lopen(c, fid, L_RDWR, NULL));
    OK(client_lock(c, fid, LOCK_TYPE_WRLCK, 0, 0, 1, "me", &status));
    IS(status, LOCK_SUCCESS);
}

static void no_name(guint open)
{
    struct client *c = session();
    guint32 fid = nameless(c, open);

    make_file(c, "file", "another");
    /* what needs the name of the fid must not take the other file of that name */
    ERROR(client_rename(c, fid, WORK, "moved"));
    YES(!exists(c, "moved"));
    ERROR(client_remove(c, fid));
    expect_content(c, "file", "another");
}

static void directory(guint open)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), fid = clone_fid(c, dir);
    GPtrArray *entries = g_ptr_array_new();
    struct client_attr attr = {.mode = 0700};
    int rc;

    (void)open;
    OK(client_lopen(c, fid, L_RDONLY | L_DIRECTORY, NULL));
    OK(remove_name(c, WORK, "d", 0x200));
    attr_of(c, dir);
    OK(client_setattr(c, dir, SETATTR_MODE, &attr));
    IS(attr_of(c, fid).mode & 07777, 0700);
    rc = client_readdir(c, fid, 0, 4000, entries);
    if (rc != ENOENT) {
        OK(rc);
        YES(entries->len <= 2);
    }
    OK(client_fsync(c, fid));
    ERR(client_mkdir(c, dir, "x", 0755, NULL), ENOENT);
    ERR(client_lcreate(c, clone_fid(c, dir), "x", L_RDWR, 0644, NULL), ENOENT);
    make_dir(c, "d");
    ERR(client_mkdir(c, dir, "x", 0755, NULL), ENOENT);
    YES(!exists(c, "d/x"));
}

#define R "unlink(2): an open file lives on"
#define W "intro(5): a fid stands for a file"
const struct conform_case unlinked_cases[] = {
    {"unlinked/open-io", "an open file is read, written and synced after its unlink", R,
     CASE_WRITES, io, TRUE},
    {"unlinked/open-getattr", "Tgetattr works on an open file after its unlink, with the same qid",
     R, CASE_WRITES, getattr, TRUE},
    {"unlinked/open-setattr", "Tsetattr works on an open file after its unlink", R, CASE_WRITES,
     setattr, TRUE},
    {"unlinked/open-xattr", "xattrs of an open file are read, listed and set after its unlink",
     R "; Linux clones the fid to set one", CASE_WRITES, xattr, TRUE},
    {"unlinked/open-again", "a new file of the old name is not taken for the open one", R,
     CASE_WRITES, again, TRUE},
    {"unlinked/open-host", "the same where the host removed and made the name", R,
     CASE_WRITES | CASE_HOST, by_host, TRUE},
    {"unlinked/open-clone", "an open fid is cloned after the unlink, and the clone opened",
     R "; Linux: v9fs_fid_clone", CASE_WRITES, clone_of, TRUE},
    {"unlinked/open-lock", "an open file is locked after its unlink", R, CASE_WRITES, locks, TRUE},
    {"unlinked/walked-io", "a fid walked to before the unlink is opened, read and written", W,
     CASE_WRITES, io, FALSE},
    {"unlinked/walked-getattr",
     "Tgetattr works on a walked fid after the unlink, with the same qid", W, CASE_WRITES, getattr,
     FALSE},
    {"unlinked/walked-setattr", "Tsetattr works on a walked fid after the unlink", W, CASE_WRITES,
     setattr, FALSE},
    {"unlinked/walked-xattr", "xattrs of a walked fid are read, listed and set after the unlink", W,
     CASE_WRITES, xattr, FALSE},
    {"unlinked/walked-again", "a new file of the old name is not taken for the fid's", W,
     CASE_WRITES, again, FALSE},
    {"unlinked/walked-host", "the same where the host removed and made the name", W,
     CASE_WRITES | CASE_HOST, by_host, FALSE},
    {"unlinked/no-name", "Trename and Tremove of a nameless fid fail, and touch no other file",
     "Trename, remove(5)", CASE_WRITES, no_name, TRUE},
    {"unlinked/directory",
     "a removed directory is asked and set through its fids, lists nothing, "
     "and takes no new entries",
     "rmdir(2)", CASE_WRITES, directory, 0},
    CASES_END,
};
