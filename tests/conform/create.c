/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tlcreate, Tmkdir, Tsymlink, Tmknod, Tlink: what makes names. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <sys/stat.h>

static void lcreate(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    struct client_qid qid, now;

    (void)arg;
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_EXCL, 0644, &qid));
    now = qid_of(c, fid); /* the fid is the file's now, and open */
    YES(same_qid(&now, &qid));
    put_text(c, fid, 0, "text");
    expect_text(c, fid, "text");
    expect_content(c, "file", "text");
}

static void lcreate_excl(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    struct client_qid work = qid_of(c, WORK), now;

    (void)arg;
    make_file(c, "file", "text");
    make_dir(c, "d");
    make_link(c, "dangling", "nowhere");
    ERR(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_EXCL, 0644, NULL), EEXIST);
    ERR(client_lcreate(c, fid, "d", L_RDWR | L_CREAT | L_EXCL, 0644, NULL), EEXIST);
    ERR(client_lcreate(c, fid, "dangling", L_RDWR | L_CREAT | L_EXCL, 0644, NULL), EEXIST);
    now = qid_of(c, fid);
    YES(same_qid(&now, &work)); /* still the directory's */
    YES(!exists(c, "nowhere"));
    OK(client_lcreate(c, fid, "other", L_RDWR | L_CREAT | L_EXCL, 0644, NULL));
}

static void lcreate_exists(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    struct client_qid qid, want = qid_of(c, make_file(c, "file", "text"));

    (void)arg;
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT, 0600, &qid));
    YES(same_qid(&qid, &want));
    expect_text(c, fid, "text");
    IS(attr_of(c, fid).mode & 07777, 0644);
    fid = clone_fid(c, WORK);
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_TRUNC, 0600, &qid));
    expect_text(c, fid, "");
    make_dir(c, "d");
    ERR(client_lcreate(c, clone_fid(c, WORK), "d", L_RDWR | L_CREAT, 0644, NULL), EISDIR);
}

static void lcreate_symlink(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_file(c, "target", "text");
    make_link(c, "link", "target");
    make_link(c, "dangling", "nowhere");
    ERROR(client_lcreate(c, clone_fid(c, WORK), "link", L_RDWR | L_CREAT | L_TRUNC, 0644, NULL));
    ERROR(client_lcreate(c, clone_fid(c, WORK), "dangling", L_RDWR | L_CREAT, 0644, NULL));
    expect_content(c, "target", "text");
    YES(!exists(c, "nowhere"));
}

static void lcreate_where(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), dir = make_dir(c, "d");

    (void)arg;
    ERR(client_lcreate(c, file, "x", L_RDWR | L_CREAT, 0644, NULL), ENOTDIR, EINVAL);
    ERR(client_mkdir(c, file, "x", 0755, NULL), ENOTDIR, EINVAL);
    OK(client_lopen(c, dir, L_RDONLY | L_DIRECTORY, NULL));
    ERROR(client_lcreate(c, dir, "x", L_RDWR | L_CREAT, 0644, NULL));
    YES(!exists(c, "d/x"));
}

/* The client has applied its umask: the server's own must not come in between. */
static void modes(guint arg)
{
    static const guint32 list[] = {0666, 0777, 0400, 0001, 0222, 0};
    struct client *c = session();

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(list); i++) {
        g_autofree char *f = g_strdup_printf("f%u", i), *d = g_strdup_printf("d%u", i),
                        *p = g_strdup_printf("p%u", i);
        guint32 fid = clone_fid(c, WORK);

        OK(client_lcreate(c, fid, f, L_RDWR | L_CREAT | L_EXCL, list[i], NULL));
        IS(attr_of(c, fid).mode, S_IFREG | list[i]);
        OK(client_mkdir(c, WORK, d, list[i], NULL));
        IS(attr_of(c, walk_to(c, WORK, d)).mode & 0171777, S_IFDIR | list[i]);
        OK(client_mknod(c, WORK, p, S_IFIFO | list[i], 0, 0, NULL));
        IS(attr_of(c, walk_to(c, WORK, p)).mode, S_IFIFO | list[i]);
    }
}

static void owner(guint arg)
{
    struct client *c = session();
    struct client_attr attr;
    struct client_qid qid;
    guint32 fid = clone_fid(c, WORK), unit;

    (void)arg;
    OK(client_rpc(c, TLCREATE, "dsddd", fid, "file", (guint32)(L_RDWR | L_CREAT), 0644u, 12345u,
                  "Qd", &qid, &unit));
    attr = attr_of(c, fid);
    IS(attr.uid, 0);
    IS(attr.gid, 12345);
    OK(client_rpc(c, TMKDIR, "dsdd", WORK, "d", 0755u, 12345u, "Q", &qid));
    IS(attr_of(c, walk_to(c, WORK, "d")).gid, 12345);
    OK(client_rpc(c, TSYMLINK, "dssd", WORK, "l", "x", 12345u, "Q", &qid));
    IS(attr_of(c, walk_to(c, WORK, "l")).gid, 12345);
    OK(client_rpc(c, TMKNOD, "dsdddd", WORK, "p", (guint32)(S_IFIFO | 0644), 0u, 0u, 12345u, "Q",
                  &qid));
    IS(attr_of(c, walk_to(c, WORK, "p")).gid, 12345);
}

static void as_user(guint arg)
{
    struct client *c = session();
    struct client_attr attr = {.mode = 0777};
    guint32 fid, dir = make_dir(c, "d"), shut = make_dir(c, "shut"), root = client_fid(c);
    g_autofree char *path = g_build_path("/", env.work, env.at, NULL);
    struct client_qid qid;
    guint32 unit;

    (void)arg;
    (void)shut;
    OK(client_setattr(c, dir, SETATTR_MODE, &attr));
    OK(client_attach(c, root, 1, env.aname, NULL));
    fid = client_fid(c);
    OK(client_walk_path(c, root, fid, path, NULL));
    ERR(client_mkdir(c, walk_to(c, fid, "shut"), "x", 0755, NULL), EACCES);
    fid = walk_to(c, fid, "d");
    OK(client_rpc(c, TLCREATE, "dsddd", fid, "file", (guint32)(L_RDWR | L_CREAT), 0600u, 1u, "Qd",
                  &qid, &unit));
    attr = attr_of(c, fid);
    IS(attr.uid, 1); /* daemon, whom every system has */
    IS(attr.mode & 07777, 0600);
}

static void mkdir_it(guint arg)
{
    struct client *c = session();
    struct client_qid qid, now;

    (void)arg;
    OK(client_mkdir(c, WORK, "d", 0755, &qid));
    YES(qid.type & QTDIR);
    now = qid_of(c, walk_to(c, WORK, "d"));
    YES(same_qid(&qid, &now));
    ERR(client_mkdir(c, WORK, "d", 0755, NULL), EEXIST);
    make_file(c, "file", "");
    ERR(client_mkdir(c, WORK, "file", 0755, NULL), EEXIST);
    make_link(c, "l", "nowhere");
    ERR(client_mkdir(c, WORK, "l", 0755, NULL), EEXIST);
}

static void symlink_it(guint arg)
{
    struct client *c = session();
    g_autofree char *longest = g_strnfill(4095, 'l');
    const char *const targets[] = {"target",  "/etc/passwd", "../../..",
                                   "a b\n\t", "\xff\xfe",    longest};
    char *got = NULL;

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(targets); i++) {
        g_autofree char *name = g_strdup_printf("l%u", i);
        guint32 fid = make_link(c, name, targets[i]);

        OK(client_readlink(c, fid, &got));
        if (strcmp(got, targets[i]) != 0)
            fail("Treadlink gave '%s', expected '%s'", got, targets[i]);
        IS(attr_of(c, fid).size, strlen(targets[i]));
        IS(qid_of(c, fid).type, QTSYMLINK);
    }
    ERR(client_symlink(c, WORK, "l0", "x", NULL), EEXIST);
    ERROR(client_symlink(c, WORK, "empty", "", NULL));
}

static void mknod_it(guint arg)
{
    struct client *c = session();
    static const guint32 types[] = {S_IFIFO, S_IFSOCK, S_IFREG};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        struct client_qid qid, now;

        OK(client_mknod(c, WORK, name, types[i] | 0640, 0, 0, &qid));
        IS(attr_of(c, walk_to(c, WORK, name)).mode, types[i] | 0640);
        now = qid_of(c, walk_to(c, WORK, name));
        YES(same_qid(&qid, &now));
        ERR(client_mknod(c, WORK, name, types[i] | 0640, 0, 0, NULL), EEXIST);
    }
}

static void mknod_device(guint arg)
{
    struct client *c = session();
    int rc = client_mknod(c, WORK, "chr", S_IFCHR | 0600, 5, 300, NULL);

    (void)arg;
    if (rc == EPERM)
        skip("the server may not make device nodes");
    OK(rc);
    OK(client_mknod(c, WORK, "blk", S_IFBLK | 0600, 259, 70000, NULL));
    /* new_encode_dev: low byte of the minor, the major, the rest of the minor */
    IS(attr_of(c, walk_to(c, WORK, "chr")).mode, S_IFCHR | 0600);
    IS(attr_of(c, walk_to(c, WORK, "chr")).rdev,
       (300 & 0xff) | 5 << 8 | (guint64)(300 & ~0xff) << 12);
    IS(attr_of(c, walk_to(c, WORK, "blk")).mode, S_IFBLK | 0600);
    IS(attr_of(c, walk_to(c, WORK, "blk")).rdev,
       (70000 & 0xff) | 259 << 8 | (guint64)(70000 & ~0xff) << 12);
}

static void link_it(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "a", "text"), dir = make_dir(c, "d"), other;
    struct client_qid a = qid_of(c, fid), b;

    (void)arg;
    OK(client_link(c, dir, fid, "b"));
    other = walk_to(c, WORK, "d/b");
    b = qid_of(c, other);
    YES(same_qid(&a, &b));
    IS(attr_of(c, fid).nlink, 2);
    ERR(client_link(c, dir, fid, "b"), EEXIST);
    ERR(client_link(c, WORK, dir, "e"), EPERM);
    OK(remove_name(c, WORK, "a", 0));
    IS(attr_of(c, other).nlink, 1);
    expect_content(c, "d/b", "text");
}

static void link_symlink(guint arg)
{
    struct client *c = session();
    guint32 link;
    struct client_qid a, b;

    (void)arg;
    make_file(c, "target", "text");
    link = make_link(c, "l", "target");
    OK(client_link(c, WORK, link, "m"));
    a = qid_of(c, link);
    b = qid_of(c, walk_to(c, WORK, "m"));
    YES(same_qid(&a, &b));
    IS(b.type, QTSYMLINK);
    IS(attr_of(c, walk_to(c, WORK, "target")).nlink, 1);
}

/* Names that no entry can have, tried with each message that makes, moves or removes one. */
static void bad_names(guint nul)
{
    static const struct {
        const char *name;
        gsize len;
    } names[] = {{"", 0},       {".", 1},    {"..", 2},    {"/", 1},    {"a/b", 3},
                 {"/etc/x", 6}, {"../x", 4}, {"file/", 5}, {"x\0y", 3}, {"x\0", 2}};
    struct client *c = session();
    GString *wrong = g_string_new("");

    make_file(c, "file", "text");
    make_dir(c, "a");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        gboolean has_nul = memchr(names[i].name, '\0', names[i].len) != NULL;
        struct client_qid qid;
        guint32 unit;

        if (has_nul != (gboolean)nul)
            continue;
        for (guint m = 0; m < 9; m++) {
            static const char *const what[] = {"Tlcreate", "Tmkdir",    "Tsymlink",
                                               "Tmknod",   "Tlink",     "Trenameat to",
                                               "Trename",  "Tunlinkat", "Trenameat from"};
            gsize len = names[i].len;
            const char *s = names[i].name;
            guint32 fid = walk_to(c, WORK, "file");
            int rc = 0;

            switch (m) {
            case 0:
                rc = client_rpc(c, TLCREATE, "dSddd", clone_fid(c, WORK), len, s,
                                (guint32)(L_RDWR | L_CREAT), 0644u, 0u, "Qd", &qid, &unit);
                break;
            case 1:
                rc = client_rpc(c, TMKDIR, "dSdd", WORK, len, s, 0755u, 0u, "Q", &qid);
                break;
            case 2:
                rc = client_rpc(c, TSYMLINK, "dSsd", WORK, len, s, "target", 0u, "Q", &qid);
                break;
            case 3:
                rc = client_rpc(c, TMKNOD, "dSdddd", WORK, len, s, (guint32)(S_IFIFO | 0600), 0u,
                                0u, 0u, "Q", &qid);
                break;
            case 4:
                rc = client_rpc(c, TLINK, "ddS", WORK, fid, len, s, "");
                break;
            case 5:
                rc = client_rpc(c, TRENAMEAT, "dsdS", WORK, "file", WORK, len, s, "");
                break;
            case 6:
                rc = client_rpc(c, TRENAME, "ddS", fid, WORK, len, s, "");
                break;
            case 7:
                rc = client_rpc(c, TUNLINKAT, "dSd", WORK, len, s, 0u, "");
                break;
            default:
                rc = client_rpc(c, TRENAMEAT, "dSds", WORK, len, s, WORK, "new", "");
            }
            if (rc == CLIENT_EOF && has_nul) {
                c = session(); /* it may end the session */
                continue;
            }
            if (rc == 0)
                g_string_append_printf(wrong, "\n%s of '%s' (%zu bytes): success", what[m], s, len);
            else if (rc < 0)
                fail("%s of '%s': %s", what[m], s, rc_name(rc));
            client_clunk(c, fid);
            if (!exists(c, "file"))
                fail("%s of '%s' (%zu bytes): the file is gone", what[m], s, len);
        }
    }
    if (wrong->len > 0)
        fail("names that must be refused:%s", wrong->str);
}

static void long_names(guint arg)
{
    struct client *c = session();
    g_autofree char *fits = g_strnfill(255, 'n'), *over = g_strnfill(256, 'n');
    guint32 file;

    (void)arg;
    ERR(client_mkdir(c, WORK, over, 0755, NULL), ENAMETOOLONG);
    ERR(client_lcreate(c, clone_fid(c, WORK), over, L_RDWR | L_CREAT, 0644, NULL), ENAMETOOLONG);
    ERR(client_symlink(c, WORK, over, "x", NULL), ENAMETOOLONG);
    ERR(client_mknod(c, WORK, over, S_IFIFO | 0600, 0, 0, NULL), ENAMETOOLONG);
    file = make_file(c, fits, "text");
    ERR(client_link(c, WORK, file, over), ENAMETOOLONG);
    ERR(move_name(c, WORK, fits, WORK, over), ENAMETOOLONG);
    ERR(client_rename(c, file, WORK, over), ENAMETOOLONG);
    ERR(remove_name(c, WORK, over, 0), ENAMETOOLONG, ENOENT);
    expect_content(c, fits, "text");
}

static void any_bytes(guint arg)
{
    static const char *const names[] = {"...",  "..a",      " ", "a\nb", "\xff\xfe", "-rf",
                                        "a\\b", "\xc3\xa4", "*", "a:b",  "\x01"};
    struct client *c = session();
    GPtrArray *entries = NULL;

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        make_file(c, names[i], names[i]);
    OK(client_readdir_all(c, WORK, 4000, &entries));
    IS(entries->len, G_N_ELEMENTS(names) + 2);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        gboolean found = FALSE;

        for (guint j = 0; j < entries->len; j++)
            found =
                found || strcmp(((struct client_dirent *)entries->pdata[j])->name, names[i]) == 0;
        if (!found)
            fail("the name '%s' is not listed", names[i]);
        expect_content(c, names[i], names[i]);
    }
}

#define O "open(2); Linux: v9fs_vfs_atomic_open_dotl"
const struct conform_case create_cases[] = {
    {"create/lcreate", "Tlcreate makes and opens a file, and its fid becomes the file's",
     "Tlcreate", CASE_WRITES, lcreate, 0},
    {"create/lcreate-excl", "O_EXCL refuses what is there, symlinks too; the fid stays as it was",
     O, CASE_WRITES, lcreate_excl, 0},
    {"create/lcreate-exists",
     "without O_EXCL a file that is there is opened, and emptied by O_TRUNC", O, CASE_WRITES,
     lcreate_exists, 0},
    {"create/lcreate-symlink", "Tlcreate of a name that is a symlink never acts on the target",
     "Tlcreate; Linux follows symlinks itself", CASE_WRITES, lcreate_symlink, 0},
    {"create/where", "nothing is made in a file, and Tlcreate needs a fid that is not open",
     "Tlcreate, Tmkdir", CASE_WRITES, lcreate_where, 0},
    {"create/modes", "modes are as the client said: the server's umask does not come in between",
     "Linux: v9fs_vfs_create_dotl applies the umask", CASE_WRITES, modes, 0},
    {"create/gid", "what is made has the uid of the attach and the gid that was sent",
     "Tlcreate, Tmkdir, Tsymlink, Tmknod: gid[4]", CASE_WRITES | CASE_ROOT, owner, 0},
    {"create/as-user", "who attached as another user makes files as that user, where he may",
     "Tattach: n_uname[4]; Linux: access=user", CASE_WRITES | CASE_ROOT, as_user, 0},
    {"create/mkdir", "Tmkdir makes a directory, with its qid; a name in use is EEXIST", "Tmkdir",
     CASE_WRITES, mkdir_it, 0},
    {"create/symlink", "symlinks keep every target to the byte, up to 4095 of them",
     "Tsymlink, Treadlink; symlink(2)", CASE_WRITES, symlink_it, 0},
    {"create/mknod", "FIFOs, sockets and plain files are made", "Tmknod; mknod(2)", CASE_WRITES,
     mknod_it, 0},
    {"create/device", "device nodes are made, with large numbers, and rdev as Linux packs it",
     "Tmknod; Linux: new_decode_dev in v9fs_stat2inode_dotl", CASE_WRITES | CASE_ROOT, mknod_device,
     0},
    {"create/link", "Tlink makes a second name of the same file; directories have none: EPERM",
     "Tlink; link(2)", CASE_WRITES, link_it, 0},
    {"create/link-symlink", "a link to a symlink is one to the symlink itself",
     "Tlink; linkat(2) without AT_SYMLINK_FOLLOW", CASE_WRITES, link_symlink, 0},
    {"create/bad-names",
     "'', '.', '..' and names with '/' are refused by all that makes, moves or "
     "removes names",
     "walk(5): names", CASE_WRITES, bad_names, FALSE},
    {"create/nul-names", "names with a NUL are refused by all that makes, moves or removes names",
     "intro(5): strings", CASE_WRITES, bad_names, TRUE},
    {"create/long-names", "names of 255 bytes work, longer ones are ENAMETOOLONG",
     "Linux: NAME_MAX", CASE_WRITES, long_names, 0},
    {"create/any-bytes", "any other bytes make a name, and come back as they were",
     "path_resolution"
     "(7)",
     CASE_WRITES, any_bytes, 0},
    CASES_END,
};
