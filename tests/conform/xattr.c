/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Txattrwalk, Txattrcreate. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>

#define CREATE  1u
#define REPLACE 2u

/* A file with user.one = "first", or the end where there are no user xattrs. */
static guint32 prepare(struct client *c)
{
    guint32 fid = make_file(c, "file", "text");
    int rc = client_setxattr(c, fid, "user.one", "first", 5, 0);

    if (rc == EOPNOTSUPP)
        skip("no user xattrs here");
    OK(rc);
    return fid;
}

static void expect_value(struct client *c, guint32 fid, const char *name, const char *text)
{
    GByteArray *value = NULL;
    int rc = client_getxattr(c, fid, name, &value);

    if (rc != 0)
        fail("%s: %s", name, rc_name(rc));
    if (value->len != strlen(text) ||
        (value->len > 0 && memcmp(value->data, text, value->len) != 0))
        fail("%s is '%.*s', expected '%s'", name, (int)value->len, (const char *)value->data, text);
}

static gboolean listed(struct client *c, guint32 fid, const char *name)
{
    GByteArray *list = NULL;

    OK(client_getxattr(c, fid, "", &list));
    for (guint at = 0; at < list->len;) {
        gsize len = strnlen((const char *)list->data + at, list->len - at);

        YES(len < list->len - at); /* each name ends with a NUL */
        if (strcmp((const char *)list->data + at, name) == 0)
            return TRUE;
        at += len + 1;
    }
    return FALSE;
}

static void basic(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), dir = make_dir(c, "d");

    (void)arg;
    expect_value(c, fid, "user.one", "first");
    OK(client_setxattr(c, fid, "user.one", "other", 5, 0));
    expect_value(c, fid, "user.one", "other");
    OK(client_setxattr(c, fid, "user.bin", "a\0b", 3, 0));
    OK(client_setxattr(c, dir, "user.one", "dir", 3, 0));
    expect_value(c, dir, "user.one", "dir");
    c = session();
    expect_value(c, walk_to(c, WORK, "file"), "user.one", "other");
}

static void list(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);

    (void)arg;
    OK(client_setxattr(c, fid, "user.two", "2", 1, 0));
    YES(listed(c, fid, "user.one"));
    YES(listed(c, fid, "user.two"));
    YES(!listed(c, fid, "user.three"));
    YES(!listed(c, make_file(c, "bare", ""), "user.one"));
}

static void sizes(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), value = client_fid(c);
    guint64 size = 99;
    GByteArray *data = NULL;

    (void)arg;
    OK(client_xattrwalk(c, fid, value, "user.one", &size));
    IS(size, 5);
    OK(client_read(c, value, 0, 2, &data));
    YES(data->len == 2 && memcmp(data->data, "fi", 2) == 0);
    OK(client_read(c, value, 2, 100, &data));
    YES(data->len == 3 && memcmp(data->data, "rst", 3) == 0);
    OK(client_read(c, value, 5, 100, &data));
    IS(data->len, 0);
    OK(client_read(c, value, ~(guint64)0, 100, &data));
    IS(data->len, 0);
    OK(client_clunk(c, value));
    OK(client_xattrwalk(c, fid, value, "", &size));
    YES(size >= sizeof "user.one");
    OK(client_clunk(c, value));
}

static void missing(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), value = client_fid(c);
    guint64 size;
    struct client_attr attr;

    (void)arg;
    ERR(client_xattrwalk(c, fid, value, "user.missing", &size), ENODATA);
    ERROR(client_read(c, value, 0, 10, &(GByteArray *){NULL}));
    ERROR(client_getattr(c, value, GETATTR_BASIC, &attr));
    OK(client_xattrwalk(c, fid, value, "user.one", &size));
}

static void flags(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);

    (void)arg;
    ERR(client_setxattr(c, fid, "user.one", "other", 5, CREATE), EEXIST);
    expect_value(c, fid, "user.one", "first");
    ERR(client_setxattr(c, fid, "user.two", "other", 5, REPLACE), ENODATA);
    YES(!listed(c, fid, "user.two"));
    OK(client_setxattr(c, fid, "user.one", "other", 5, REPLACE));
    expect_value(c, fid, "user.one", "other");
    OK(client_setxattr(c, fid, "user.two", "new", 3, CREATE));
    expect_value(c, fid, "user.two", "new");
    ERROR(client_setxattr(c, fid, "user.one", "x", 1, 0x80000000u));
    expect_value(c, fid, "user.one", "other");
}

static void removal(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);

    (void)arg;
    OK(client_setxattr(c, fid, "user.one", "", 0, REPLACE)); /* so Linux sends removexattr(2) */
    YES(!listed(c, fid, "user.one"));
    ERR(client_setxattr(c, fid, "user.one", "", 0, REPLACE), ENODATA);
}

static void empty(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);

    (void)arg;
    OK(client_setxattr(c, fid, "user.empty", "", 0, 0));
    YES(listed(c, fid, "user.empty"));
    expect_value(c, fid, "user.empty", "");
    OK(client_setxattr(c, fid, "user.made", "", 0, CREATE));
    YES(listed(c, fid, "user.made"));
}

static void large(guint arg)
{
    struct client *c = session_msize(4096);
    guint32 fid = prepare(c);
    guint most = 0;
    static const guint lengths[] = {3000, 16000, 65536};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autofree char *value = g_malloc(lengths[i] + 1);
        GByteArray *got = NULL;
        int rc;

        for (guint j = 0; j < lengths[i]; j++)
            value[j] = (char)('a' + j % 23);
        rc = client_setxattr(c, fid, "user.large", value, lengths[i], 0);
        if (rc == ENOSPC || rc == E2BIG || rc == EDQUOT)
            break; /* as much as the filesystem takes */
        OK(rc);
        OK(client_getxattr(c, fid, "user.large", &got));
        YES(got->len == lengths[i] && memcmp(got->data, value, lengths[i]) == 0);
        most = lengths[i];
    }
    YES(most >= 3000);
    ERR(client_xattrcreate(c, clone_fid(c, fid), "user.vast", 1 << 17, 0), E2BIG, ENOSPC, ERANGE,
        EINVAL);
    ERROR(client_xattrcreate(c, clone_fid(c, fid), "user.vast", ~(guint64)0, 0));
}

static void too_little(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), write = clone_fid(c, fid), written = 0;
    struct client_attr attr;

    (void)arg;
    OK(client_xattrcreate(c, write, "user.one", 10, 0));
    OK(client_write(c, write, 0, 3, "abc", &written));
    ERROR(client_clunk(c, write));
    ERROR(client_getattr(c, write, GETATTR_BASIC, &attr)); /* the fid is gone all the same */
    expect_value(c, fid, "user.one", "first");
    write = clone_fid(c, fid);
    OK(client_xattrcreate(c, write, "user.two", 10, 0));
    ERROR(client_clunk(c, write));
    YES(!listed(c, fid, "user.two"));
}

static void gaps(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), write = clone_fid(c, fid), written = 0;

    (void)arg;
    OK(client_xattrcreate(c, write, "user.one", 6, 0));
    OK(client_write(c, write, 0, 3, "abc", &written));
    OK(client_write(c, write, 0, 3, "abc", &written)); /* six bytes, but only half of it */
    ERROR(client_clunk(c, write));
    expect_value(c, fid, "user.one", "first");
    write = clone_fid(c, fid);
    OK(client_xattrcreate(c, write, "user.one", 6, 0));
    (void)client_write(c, write, 3, 3, "def", &written); /* refused, or kept for later */
    (void)client_write(c, write, 3, 3, "def", &written);
    ERROR(client_clunk(c, write));
    expect_value(c, fid, "user.one", "first");
}

/* A list that does not fit into one message. */
static void long_list(guint arg)
{
    enum { COUNT = 60 };
    struct client *c = session_msize(4096);
    guint32 fid = prepare(c);
    char name[220];
    guint made = 0;

    (void)arg;
    for (guint i = 0; i < COUNT; i++) {
        int rc;

        g_snprintf(name, sizeof name, "user.%0200u", i);
        rc = client_setxattr(c, fid, name, "", 0, 0);
        if (rc == ENOSPC || rc == E2BIG || rc == EDQUOT) /* the inode is full */
            break;
        OK(rc);
        made++;
    }
    if (made < 21)
        skip("the filesystem takes no list longer than a message");
    for (guint i = 0; i < made; i++) {
        g_snprintf(name, sizeof name, "user.%0200u", i);
        YES(listed(c, fid, name));
    }
}

static void too_much(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), write = clone_fid(c, fid), written = 0;

    (void)arg;
    OK(client_xattrcreate(c, write, "user.one", 3, 0));
    ERROR(client_write(c, write, 0, 5, "abcde", &written));
    ERROR(client_write(c, write, 100, 1, "a", &written));
    ERROR(client_write(c, write, ~(guint64)0, 1, "a", &written));
    OK(client_write(c, write, 0, 1, "x", &written));
    OK(client_write(c, write, 1, 2, "yz", &written));
    ERROR(client_write(c, write, 3, 1, "!", &written));
    OK(client_clunk(c, write));
    expect_value(c, fid, "user.one", "xyz");
}

static void disconnected(guint arg)
{
    struct client *c = session(), *other;
    guint32 write, written;

    (void)arg;
    prepare(c);
    other = session();
    write = walk_to(other, WORK, "file");
    OK(client_xattrcreate(other, write, "user.one", 10, 0));
    OK(client_write(other, write, 0, 3, "abc", &written));
    client_close(other);
    still_serves();
    expect_value(c, walk_to(c, WORK, "file"), "user.one", "first");
}

static void names(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);
    g_autofree char *over = g_strnfill(300, 'n'), *fits = NULL, *vast = NULL;
    guint64 size;

    (void)arg;
    memcpy(over, "user.", 5);
    fits = g_strndup(over, 255);
    OK(client_setxattr(c, fid, fits, "v", 1, 0));
    expect_value(c, fid, fits, "v");
    vast = g_strnfill(30000, 'n');
    ERROR(client_setxattr(c, fid, over, "v", 1, 0));
    ERROR(client_setxattr(c, fid, "", "v", 1, 0));
    ERROR(client_setxattr(c, fid, "nonsense", "v", 1, 0));
    ERROR(client_setxattr(c, fid, "user.", "v", 1, 0));
    ERROR(client_xattrwalk(c, fid, client_fid(c), over, &size));
    ERROR(client_xattrwalk(c, fid, client_fid(c), vast, &size));
    YES(listed(c, fid, "user.one"));
}

static void nul_name(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c);
    guint64 size;
    int rc = client_rpc(c, TXATTRWALK, "ddS", fid, 50u, (gsize)10, "user.one\0x", "q", &size);

    (void)arg;
    if (rc != CLIENT_EOF)
        expect_error(rc, "Txattrwalk of a name with a NUL", __FILE__, __LINE__);
    still_serves();
}

static void fid_use(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), value = client_fid(c), write = clone_fid(c, fid), written;
    struct client_qid qids[16];
    struct client_attr attr;
    guint64 size;
    guint n;

    (void)arg;
    ERROR(client_xattrwalk(c, fid, WORK, "user.one", &size)); /* a fid in use */
    OK(client_xattrwalk(c, fid, value, "user.one", &size));
    ERROR(client_write(c, value, 0, 1, "x", &written));
    ERROR(client_lopen(c, value, L_RDONLY, NULL));
    ERROR(client_walk(c, value, 50, (const char *[]){"x", NULL}, &n, qids));
    ERROR(client_readdir(c, value, 0, 4000, g_ptr_array_new()));
    ERROR(client_mkdir(c, value, "x", 0755, NULL));
    OK(client_clunk(c, value));
    OK(client_xattrcreate(c, write, "user.two", 1, 0));
    ERROR(client_read(c, write, 0, 1, &(GByteArray *){NULL}));
    ERROR(client_lopen(c, write, L_RDONLY, NULL));
    ERROR(client_xattrcreate(c, write, "user.three", 1, 0));
    OK(client_write(c, write, 0, 1, "2", &written));
    OK(client_clunk(c, write));
    OK(client_getattr(c, fid, GETATTR_BASIC, &attr));
    expect_value(c, fid, "user.two", "2");
}

static void on_symlink(guint arg)
{
    struct client *c = session();
    guint32 fid = prepare(c), link = make_link(c, "l", "file");
    guint64 size;

    (void)arg;
    ERROR(client_setxattr(c, link, "user.one", "through", 7, 0));
    expect_value(c, fid, "user.one", "first");
    ERROR(client_xattrwalk(c, link, client_fid(c), "user.one", &size));
    YES(!listed(c, link, "user.one"));
    ERROR(client_setxattr(c, link, "user.one", "", 0, REPLACE));
    expect_value(c, fid, "user.one", "first");
}

static void on_open(guint arg)
{
    struct client *c = session();
    guint32 open, dir = make_dir(c, "d");

    (void)arg;
    prepare(c);
    open = open_path(c, "file", L_RDONLY);
    expect_value(c, open, "user.one", "first");
    OK(client_setxattr(c, open, "user.one", "clone", 5, 0));
    expect_value(c, open, "user.one", "clone");
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
    YES(!listed(c, dir, "user.one"));
}

static void hidden(guint arg)
{
    static const char *const secret[] = {"user.virtfs.uid", "user.virtfs.mode", "user.virtfs.rdev",
                                         "trusted.qidmap.a", "user.virtfs.system.x"};
    struct client *c = session();
    guint32 fid = prepare(c);
    guint64 size;

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(secret); i++) {
        if (client_setxattr(c, fid, secret[i], "\1\0\0\0", 4, 0) == 0)
            fail("a client may set %s", secret[i]);
        if (client_xattrwalk(c, fid, client_fid(c), secret[i], &size) == 0)
            fail("a client may read %s", secret[i]);
        if (listed(c, fid, secret[i]))
            fail("a client sees %s", secret[i]);
    }
}

/* version 2; user::rw-, user:1:rwx, group::r--, mask::rwx, other::--- */
static const guint8 acl[] = {2,    0,    0,    0,    1,    0,    6,  0,    0xff, 0xff, 0xff,
                             0xff, 2,    0,    7,    0,    1,    0,  0,    0,    4,    0,
                             4,    0,    0xff, 0xff, 0xff, 0xff, 16, 0,    7,    0,    0xff,
                             0xff, 0xff, 0xff, 32,   0,    0,    0,  0xff, 0xff, 0xff, 0xff};

static void posix_acl(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text"), dir = make_dir(c, "d");
    GByteArray *value = NULL;
    int rc = client_setxattr(c, fid, "system.posix_acl_access", acl, sizeof acl, 0);

    (void)arg;
    if (rc == EOPNOTSUPP || rc == EPERM)
        skip("no POSIX ACLs here (%s)", rc_name(rc));
    OK(rc);
    OK(client_getxattr(c, fid, "system.posix_acl_access", &value));
    YES(value->len == sizeof acl && memcmp(value->data, acl, sizeof acl) == 0);
    IS(attr_of(c, fid).mode & 0777, 0670);
    OK(client_setxattr(c, dir, "system.posix_acl_default", acl, sizeof acl, 0));
    {
        guint32 made = clone_fid(c, dir);

        OK(client_lcreate(c, made, "x", L_RDWR | L_CREAT, 0666, NULL));
        OK(client_getxattr(c, made, "system.posix_acl_access", &value));
        YES(value->len == sizeof acl);
    }
    OK(client_setxattr(c, fid, "system.posix_acl_access", "", 0, REPLACE));
    ERR(client_getxattr(c, fid, "system.posix_acl_access", &value), ENODATA);
}

#define X "Txattrwalk, Txattrcreate; Linux: fs/9p/xattr.c"
const struct conform_case xattr_cases[] = {
    {"xattr/basic", "values are set, read and replaced, binary ones and on directories, too", X,
     CASE_WRITES, basic, 0},
    {"xattr/list", "an empty name asks for the list of names", X, CASE_WRITES, list, 0},
    {"xattr/sizes", "Txattrwalk tells the size; the value is read in any pieces", X, CASE_WRITES,
     sizes, 0},
    {"xattr/missing", "a missing name is ENODATA, and makes no fid", X "; getxattr(2)", CASE_WRITES,
     missing, 0},
    {"xattr/flags", "CREATE and REPLACE are kept; unknown flags are refused", X "; setxattr(2)",
     CASE_WRITES, flags, 0},
    {"xattr/remove", "a size of 0 with REPLACE removes", "Linux: v9fs_xattr_set", CASE_WRITES,
     removal, 0},
    {"xattr/empty", "a size of 0 without REPLACE sets an empty value", "Linux: v9fs_fid_xattr_set",
     CASE_WRITES, empty, 0},
    {"xattr/large",
     "values much larger than msize, as far as the filesystem takes them; sizes beyond"
     " 64 KiB are refused at once",
     X "; XATTR_SIZE_MAX", CASE_WRITES, large, 0},
    {"xattr/too-little", "where less was written than told, the clunk fails and nothing is changed",
     "Txattrcreate: attr_size[8]", CASE_WRITES, too_little, 0},
    {"xattr/gaps", "bytes that never came are no zeros: the clunk fails and nothing is changed",
     "Txattrcreate: attr_size[8]", CASE_WRITES, gaps, 0},
    {"xattr/long-list", "a list of names longer than a message is read in pieces",
     "Txattrwalk; listxattr(2)", CASE_WRITES, long_list, 0},
    {"xattr/too-much", "what is written beyond the size that was told is refused",
     "Txattrcreate: attr_size[8]", CASE_WRITES, too_much, 0},
    {"xattr/disconnect", "a value half written is not set when the client goes", "Txattrcreate",
     CASE_WRITES, disconnected, 0},
    {"xattr/names", "names of 255 bytes work; longer, empty and unknown ones are refused",
     X "; XATTR_NAME_MAX", CASE_WRITES, names, 0},
    {"xattr/nul-name", "a name with a NUL is refused", "intro(5): strings", CASE_WRITES, nul_name,
     0},
    {"xattr/fid-use", "a fid of an xattr serves for that alone", X, CASE_WRITES, fid_use, 0},
    {"xattr/symlink", "xattrs of a symlink's fid are never the target's", X "; lsetxattr(2)",
     CASE_WRITES, on_symlink, 0},
    {"xattr/open", "an open fid's xattrs are read, and set by its clone", X, CASE_WRITES, on_open,
     0},
    {"xattr/hidden", "names that the server or QEMU keeps for itself are not the client's",
     "QEMU: mapped-xattr hides user.virtfs.*", CASE_WRITES, hidden, 0},
    {"xattr/acl", "POSIX ACLs are set, move the mode, and are inherited",
     "acl(5); Linux: fs/9p/acl.c", CASE_WRITES, posix_acl, 0},
    CASES_END,
};
