/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: what a security mode says of owners, modes and kinds of files is what each message says;
 * mapped-xattr keeps on the host just what QEMU keeps there, and believes no nonsense; squashed
 * users have no more than the rights of the one they are squashed to; a read-only export is changed
 * by no message; clients have the xattrs that the operator allows.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER  54321u
#define OTHER 54322u

static const char *const mapped[] = {"--security", "mapped-xattr", NULL};

static struct client *client_as(struct fixture *f, guint32 uid)
{
    struct client *c = client_connect(f->s->addr);

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, uid, f->s->aname, NULL), ==, 0);
    return c;
}

static gboolean no_xattrs(struct fixture *f)
{
    if (setxattr(f->s->dir, "user.try", "x", 1, 0) == 0) {
        removexattr(f->s->dir, "user.try");
        return FALSE;
    }
    g_test_skip("the filesystem of the temporary directory has no user xattrs");
    return TRUE;
}

static void host_stat(struct fixture *f, const char *name, struct stat *st)
{
    g_autofree char *path = server_path(f->s, name);

    g_assert_cmpint(lstat(path, st), ==, 0);
}

static void assert_xattr(struct fixture *f, const char *name, const char *xattr, const char *hex)
{
    g_autofree char *path = server_path(f->s, name);
    g_autoptr(GString) text = g_string_new(NULL);
    guint8 value[64];
    ssize_t n = lgetxattr(path, xattr, value, sizeof value);

    for (ssize_t i = 0; i < n; i++)
        g_string_append_printf(text, "%02x", value[i]);
    g_assert_cmpstr(n < 0 ? "none" : text->str, ==, hex);
}

static void set_host_xattr(struct fixture *f, const char *name, const char *xattr,
                           const void *value, size_t size)
{
    g_autofree char *path = server_path(f->s, name);

    g_assert_cmpint(lsetxattr(path, xattr, value, size, 0), ==, 0);
}

static void get(struct client *c, const char *path, struct client_attr *attr)
{
    guint32 fid = walk_new(c, path);

    g_assert_cmpint(client_getattr(c, fid, GETATTR_ALL, attr), ==, 0);
    client_clunk(c, fid);
}

/* As the client's kernel reads device numbers. */
static guint64 wire_rdev(guint major_number, guint minor_number)
{
    return (minor_number & 0xff) | (major_number << 8) | ((guint64)(minor_number & ~0xffu) << 12);
}

/* ---- mapped-xattr ---------------------------------------------------------------------------- */

static void mapped_on_disk(struct fixture *f, gconstpointer data)
{
    struct client *c;
    struct stat st;
    char text[16] = "";
    g_autofree char *path = server_path(f->s, "link");
    int fd;

    (void)data;
    if (no_xattrs(f))
        return;
    c = client_as(f, USER); /* 0x0000d431 */
    g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", walk_new(c, ""), "file", (guint32)L_RDWR,
                               04751u, OTHER, "Qd", &(struct client_qid){0}, &(guint32){0}),
                    ==, 0);
    g_assert_cmpint(
        client_rpc(c, TMKDIR, "dsdd", ROOT_FID, "dir", 02750u, OTHER, "Q", &(struct client_qid){0}),
        ==, 0);
    g_assert_cmpint(client_rpc(c, TSYMLINK, "dssd", ROOT_FID, "link", "to/it", OTHER, "Q",
                               &(struct client_qid){0}),
                    ==, 0);
    g_assert_cmpint(client_rpc(c, TMKNOD, "dsdddd", ROOT_FID, "block", (guint32)(S_IFBLK | 0640),
                               300u, 70000u, OTHER, "Q", &(struct client_qid){0}),
                    ==, 0);
    host_stat(f, "file", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
    g_assert_cmpuint(st.st_uid, ==, geteuid());
    assert_xattr(f, "file", "user.virtfs.uid", "31d40000");
    assert_xattr(f, "file", "user.virtfs.gid", "32d40000");
    assert_xattr(f, "file", "user.virtfs.mode", "e9890000"); /* 0104751 */
    assert_xattr(f, "file", "user.virtfs.rdev", "none");
    host_stat(f, "dir", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFDIR | 0700);
    assert_xattr(f, "dir", "user.virtfs.mode", "e8450000"); /* 042750 */
    host_stat(f, "link", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
    assert_xattr(f, "link", "user.virtfs.mode", "ffa10000"); /* 0120777 */
    fd = open(path, O_RDONLY);
    g_assert_cmpint(read(fd, text, sizeof text), ==, 5);
    g_assert_cmpstr(text, ==, "to/it");
    close(fd);
    host_stat(f, "block", &st);
    g_assert_cmpuint(st.st_mode, ==, S_IFREG | 0600);
    assert_xattr(f, "block", "user.virtfs.mode", "a0610000");         /* 060640 */
    assert_xattr(f, "block", "user.virtfs.rdev", "702c111100000000"); /* makedev(300, 70000) */
    client_close(c);
}

static void mapped_is_shown(struct fixture *f, gconstpointer data)
{
    static const guint8 mode_link[4] = {0xff, 0xa1, 0, 0}, mode_char[4] = {0x80, 0x21, 0, 0};
    static const guint8 uid[4] = {1, 2, 3, 0}, rdev[8] = {0x70, 0x2c, 0x11, 0x11, 0, 0, 0, 0};
    struct client_qid qid;
    struct client_attr attr;
    g_autofree char *target = NULL, *none = NULL;
    GPtrArray *entries;
    guint links = 0, chars = 0;
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "link", "../target");
    make_file(f->s, "char", "");
    make_file(f->s, "plain", "plain");
    set_host_xattr(f, "link", "user.virtfs.mode", mode_link, 4);
    set_host_xattr(f, "link", "user.virtfs.uid", uid, 4);
    set_host_xattr(f, "char", "user.virtfs.mode", mode_char, 4);
    set_host_xattr(f, "char", "user.virtfs.rdev", rdev, 8);
    get(f->c, "link", &attr);
    g_assert_cmpuint(attr.mode, ==, S_IFLNK | 0777);
    g_assert_cmpuint(attr.uid, ==, 0x30201);
    g_assert_cmpuint(attr.size, ==, 9);
    g_assert_cmpuint(attr.qid.type, ==, QTSYMLINK);
    get(f->c, "char", &attr);
    g_assert_cmpuint(attr.mode, ==, S_IFCHR | 0600);
    g_assert_cmpuint(attr.rdev, ==, wire_rdev(300, 70000));
    g_assert_cmpint(client_walk_path(f->c, ROOT_FID, fid = client_fid(f->c), "link", &qid), ==, 0);
    g_assert_cmpuint(qid.type, ==, QTSYMLINK);
    g_assert_cmpint(client_readlink(f->c, fid, &target), ==, 0);
    g_assert_cmpstr(target, ==, "../target");
    g_assert_cmpint(client_lopen(f->c, fid, L_RDONLY, NULL), ==, ELOOP);
    attr.mode = 0600;
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_MODE, &attr), ==, EOPNOTSUPP);
    attr.size = 0;
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_SIZE, &attr), ==, EINVAL);
    g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "char"), L_RDWR, NULL), ==, ENXIO);
    g_assert_cmpint(client_lcreate(f->c, walk_new(f->c, ""), "link", L_RDWR, 0644, NULL), ==,
                    ELOOP);
    g_assert_cmpint(client_readlink(f->c, walk_new(f->c, "plain"), &none), ==, EINVAL);
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 4096, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = g_ptr_array_index(entries, i);

        if (e->type == DT_LNK && e->qid.type == QTSYMLINK && strcmp(e->name, "link") == 0)
            links++;
        if (e->type == DT_CHR && e->qid.type == QTFILE && strcmp(e->name, "char") == 0)
            chars++;
    }
    g_assert_cmpuint(links, ==, 1);
    g_assert_cmpuint(chars, ==, 1);
    g_ptr_array_free(entries, TRUE);
}

static void mapped_believes_no_nonsense(struct fixture *f, gconstpointer data)
{
    static const guint8 dir_mode[4] = {0xed, 0x41, 0, 0}, link_mode[4] = {0xff, 0xa1, 0, 0};
    static const guint8 strange[4] = {0xff, 0xff, 0xff, 0xff};
    struct client_attr attr;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    make_dir(f->s, "dir");
    set_host_xattr(f, "file", "user.virtfs.mode", dir_mode, 4);
    set_host_xattr(f, "dir", "user.virtfs.mode", link_mode, 4);
    get(f->c, "file", &attr);
    g_assert_cmpuint(attr.mode, ==, S_IFREG | 0755);
    g_assert_cmpuint(attr.qid.type, ==, QTFILE);
    get(f->c, "dir", &attr);
    g_assert_cmpuint(attr.mode, ==, S_IFDIR | 0777);
    g_assert_cmpuint(attr.qid.type, ==, QTDIR);
    set_host_xattr(f, "file", "user.virtfs.mode", strange, 4);
    set_host_xattr(f, "file", "user.virtfs.uid", "too long for it", 15);
    set_host_xattr(f, "file", "user.virtfs.gid", "", 0);
    get(f->c, "file", &attr);
    g_assert_cmpuint(attr.mode & S_IFMT, ==, S_IFREG);
    g_assert_cmpuint(attr.uid, ==, geteuid());
    g_assert_cmpuint(attr.gid, ==, getegid());
}

/* What lies about itself is listed as it is shown, with the same id, and can be moved and removed.
 */
static void mapped_liars(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *name;
        guint32 host, said;
        guint8 d_type;
    } liars[] = {
        {"file-says-dir", S_IFREG, S_IFDIR, DT_REG},  {"file-says-link", S_IFREG, S_IFLNK, DT_LNK},
        {"file-says-char", S_IFREG, S_IFCHR, DT_CHR}, {"file-says-none", S_IFREG, 0, DT_REG},
        {"dir-says-file", S_IFDIR, S_IFREG, DT_DIR},  {"dir-says-link", S_IFDIR, S_IFLNK, DT_DIR}};
    static const guint8 nobody[4] = {0xff, 0xff, 0xff, 0xff};
    g_autofree char *target = g_strnfill(5000, 't'), *got = NULL;
    GPtrArray *entries;
    guint seen = 0;

    (void)data;
    if (no_xattrs(f))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(liars); i++) {
        guint32 mode = GUINT32_TO_LE(liars[i].said | 0644);

        if (liars[i].host == S_IFDIR)
            make_dir(f->s, liars[i].name);
        else
            make_file(f->s, liars[i].name, target);
        set_host_xattr(f, liars[i].name, "user.virtfs.mode", &mode, 4);
        set_host_xattr(f, liars[i].name, "user.virtfs.uid", nobody, 4);
        set_host_xattr(f, liars[i].name, "user.virtfs.gid", nobody, 4);
        set_host_xattr(f, liars[i].name, "user.virtfs.rdev", "long", 4);
    }
    g_assert_cmpint(client_readdir_all(f->c, ROOT_FID, 4096, &entries), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(liars); i++)
        for (guint e = 0; e < entries->len; e++) {
            const struct client_dirent *entry = g_ptr_array_index(entries, e);
            struct client_attr attr;

            if (strcmp(entry->name, liars[i].name) != 0)
                continue;
            seen++;
            get(f->c, entry->name, &attr);
            g_assert_cmpuint(entry->type, ==, liars[i].d_type);
            g_assert_cmpuint(attr.mode, ==, (guint32)liars[i].d_type << 12 | 0644);
            g_assert_cmpuint(attr.qid.path, ==, entry->qid.path);
            g_assert_cmpuint(attr.qid.type, ==, entry->qid.type);
            g_assert_cmpuint(attr.uid, ==, geteuid());
            g_assert_cmpuint(attr.gid, ==, getegid());
            g_assert_cmpuint(attr.rdev, ==, 0);
        }
    g_assert_cmpuint(seen, ==, G_N_ELEMENTS(liars));
    g_ptr_array_free(entries, TRUE);
    g_assert_cmpint(client_readlink(f->c, walk_new(f->c, "file-says-link"), &got), ==,
                    ENAMETOOLONG);
    g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "file-says-link"), L_RDONLY, NULL), ==,
                    ELOOP);
    g_assert_cmpint(client_lopen(f->c, walk_new(f->c, "file-says-char"), L_RDONLY, NULL), ==,
                    ENXIO);
    for (guint i = 0; i < G_N_ELEMENTS(liars); i++) {
        gboolean is_dir = liars[i].host == S_IFDIR;

        g_assert_cmpint(client_renameat(f->c, ROOT_FID, liars[i].name, ROOT_FID, "moved"), ==, 0);
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "moved", is_dir ? 0 : 0x200), ==,
                        is_dir ? EISDIR : ENOTDIR);
        g_assert_cmpint(client_unlinkat(f->c, ROOT_FID, "moved", is_dir ? 0x200 : 0), ==, 0);
    }
}

static void mapped_changes(struct fixture *f, gconstpointer data)
{
    static const guint8 acl[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255};
    struct client_attr attr = {.mode = 06755, .uid = 7, .gid = 8};
    g_autoptr(GByteArray) value = NULL, list = NULL;
    struct stat st;
    guint32 fid;

    (void)data;
    if (no_xattrs(f))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_MODE, &attr), ==, 0);
    assert_xattr(f, "file", "user.virtfs.mode", "ed8d0000"); /* 0106755 */
    g_assert_cmpint(client_setattr(f->c, fid, SETATTR_UID | SETATTR_GID, &attr), ==, 0);
    assert_xattr(f, "file", "user.virtfs.uid", "07000000");
    assert_xattr(f, "file", "user.virtfs.gid", "08000000");
    assert_xattr(f, "file", "user.virtfs.mode", "ed810000"); /* no longer set-uid */
    host_stat(f, "file", &st);
    g_assert_cmpuint(st.st_uid, ==, geteuid());
    g_assert_cmpuint(st.st_mode & 07000, ==, 0);
    get(f->c, "file", &attr);
    g_assert_cmpuint(attr.mode, ==, S_IFREG | 0755);
    g_assert_cmpuint(attr.uid, ==, 7);

    g_assert_cmpint(client_setxattr(f->c, fid, "system.posix_acl_access", acl, sizeof acl, 0), ==,
                    0);
    assert_xattr(f, "file", "user.virtfs.system.posix_acl_access", "0200000001000600ffffffff");
    g_assert_cmpint(client_setxattr(f->c, fid, "security.NTACL", "n", 1, 0), ==, 0);
    assert_xattr(f, "file", "user.virtfs.security.NTACL", "6e");
    g_assert_cmpint(client_getxattr(f->c, fid, "security.NTACL", &value), ==, 0);
    g_assert_cmpmem(value->data, value->len, "n", 1);
    g_assert_cmpint(client_getxattr(f->c, fid, "", &list), ==, 0);
    g_assert_nonnull(memmem(list->data, list->len, "security.NTACL", 15));
    g_assert_nonnull(memmem(list->data, list->len, "system.posix_acl_access", 24));
    g_assert_null(memmem(list->data, list->len, "virtfs", 6));
    /* an empty ACL is none, and taking away what is not there succeeds, as with QEMU */
    g_assert_cmpint(client_setxattr(f->c, fid, "system.posix_acl_access", "", 0, 0), ==, 0);
    assert_xattr(f, "file", "user.virtfs.system.posix_acl_access", "none");
    g_assert_cmpint(client_setxattr(f->c, fid, "system.posix_acl_access", "", 0, 0), ==, 0);
    g_assert_cmpint(client_setxattr(f->c, fid, "system.qidmap.a0", "x", 1, 0), ==, EOPNOTSUPP);
    g_assert_cmpint(client_setxattr(f->c, fid, "trusted.qidmap.a0", "x", 1, 0), ==, EPERM);
    g_assert_cmpint(client_setxattr(f->c, fid, "user.virtfs.uid", "xxxx", 4, 0), ==, EPERM);
}

/* ---- squash ---------------------------------------------------------------------------------- */

static void make_as(struct client *c, const char *name, guint32 gid)
{
    g_assert_cmpint(client_rpc(c, TLCREATE, "dsddd", walk_new(c, ""), name, (guint32)L_RDWR, 0644u,
                               gid, "Qd", &(struct client_qid){0}, &(guint32){0}),
                    ==, 0);
}

static void squash(gconstpointer data)
{
    const gboolean root_only = GPOINTER_TO_INT(data);
    const char *extra[] = {"--security",    "squash",  "--squash", root_only ? "root" : "all",
                           "--squash-user", "777:888", NULL};
    struct client_attr attr = {.uid = USER, .mode = 0777};
    static const guint32 uids[] = {0, USER};
    struct fixture f;
    struct stat st;

    if (skip_unless_root())
        return;
    fixture_setup(&f, extra);
    g_assert_cmpint(g_chmod(f.s->dir, 01777), ==, 0);
    make_file(f.s, "secret", "root's");
    {
        g_autofree char *path = server_path(f.s, "secret");

        g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    }
    for (guint i = 0; i < G_N_ELEMENTS(uids); i++) {
        struct client *c = client_as(&f, uids[i]);
        g_autofree char *name = g_strdup_printf("of-%u", uids[i]);
        gboolean squashed = uids[i] == 0 || !root_only;

        make_as(c, name, uids[i]);
        host_stat(&f, name, &st);
        g_assert_cmpuint(st.st_uid, ==, squashed ? 777 : uids[i]);
        g_assert_cmpuint(st.st_gid, ==, squashed ? 888 : uids[i]);
        g_assert_cmpint(client_lopen(c, walk_new(c, "secret"), L_RDONLY, NULL), ==, EACCES);
        g_assert_cmpint(client_setattr(c, walk_new(c, "secret"), SETATTR_MODE, &attr), ==, EPERM);
        g_assert_cmpint(client_setattr(c, walk_new(c, name), SETATTR_UID, &attr), ==,
                        uids[i] == USER && root_only ? 0 : EPERM);
        g_assert_cmpint(client_mknod(c, ROOT_FID, "dev", S_IFCHR | 0666, 1, 3, NULL), ==, EPERM);
        g_assert_cmpint(client_setxattr(c, walk_new(c, name), "trusted.x", "1", 1, 0), >, 0);
        client_close(c);
    }
    fixture_teardown(&f, NULL);
}

static void squash_is_checked(void)
{
    static const char *const bad[][7] = {
        {"--squash", "root", NULL},
        {"--squash-user", "5:5", NULL},
        {"--security", "squash", "--squash-user", "nosuchuser-qidmap", NULL},
        {"--security", "squash", "--squash-user", "5:x", NULL},
        {"--security", "squash", "--access", "trusted", NULL},
        {"--security", "mapped", NULL},
        {"--xattrs", "user,none", NULL},
        {"--xattrs", "", NULL},
        {"--qid-version", "0", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct server *s = server_new("memory:", bad[i]);

        g_assert_false(server_start(s));
        server_free(s);
    }
}

/* ---- read-only ------------------------------------------------------------------------------- */

static struct server *start_readonly(void)
{
    struct server *s = server_new("memory:", NULL);
    g_autofree char *config = g_build_filename(s->tmp, "conf", NULL);
    g_autofree char *text =
        g_strdup_printf("[export ro]\ndir=%s\nreadonly=true\nstore=memory:\n", s->dir);
    const char *extra[] = {"--config", config, NULL};

    g_assert_true(g_file_set_contents(config, text, -1, NULL));
    g_strfreev(s->extra);
    s->extra = g_strdupv((char **)extra);
    g_assert_true(server_start(s));
    return s;
}

static void readonly_changes_nothing(void)
{
    struct fixture f = {.s = start_readonly()};
    struct client_attr attr = {.mode = 0777, .size = 0, .mtime = 1, .uid = 1, .gid = 1};
    g_autofree char *path = server_path(f.s, "file"), *sub = server_path(f.s, "dir");
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    struct stat before, after, dir_before, dir_after;
    struct client_qid q;
    GByteArray *bytes = NULL;
    guint32 fid, dir, open_fid;
    struct client *c;

    make_file(f.s, "file", "text");
    make_dir(f.s, "dir");
    if (no_xattrs(&f)) {
        server_free(f.s);
        return;
    }
    g_assert_cmpint(setxattr(path, "user.a", "1", 1, 0), ==, 0);
    g_assert_cmpint(utimensat(AT_FDCWD, path, old, 0), ==, 0);
    g_assert_cmpint(utimensat(AT_FDCWD, sub, old, 0), ==, 0);
    g_assert_cmpint(stat(path, &before), ==, 0);
    g_assert_cmpint(stat(sub, &dir_before), ==, 0);
    c = client_connect(f.s->addr);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, geteuid(), "ro", NULL), ==, 0);
    fid = walk_new(c, "file");
    dir = walk_new(c, "dir");
    g_assert_cmpint(client_lopen(c, walk_new(c, "file"), L_RDWR, NULL), ==, EROFS);
    g_assert_cmpint(client_lopen(c, walk_new(c, "file"), L_WRONLY, NULL), ==, EROFS);
    g_assert_cmpint(client_lopen(c, walk_new(c, "file"), L_RDONLY | L_TRUNC, NULL), ==, EROFS);
    g_assert_cmpint(client_lopen(c, walk_new(c, "file"), L_RDONLY | L_APPEND | L_TRUNC, NULL), ==,
                    EROFS);
    for (guint bit = SETATTR_MODE; bit <= SETATTR_MTIME_SET; bit <<= 1)
        g_assert_cmpint(client_setattr(c, fid, bit, &attr), ==, EROFS);
    g_assert_cmpint(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr), ==, EROFS);
    g_assert_cmpint(client_lcreate(c, walk_new(c, ""), "new", L_RDWR, 0644, &q), ==, EROFS);
    g_assert_cmpint(client_lcreate(c, walk_new(c, ""), "file", L_RDWR, 0644, &q), ==, EROFS);
    g_assert_cmpint(client_mkdir(c, ROOT_FID, "new", 0755, &q), ==, EROFS);
    g_assert_cmpint(client_symlink(c, ROOT_FID, "new", "t", &q), ==, EROFS);
    g_assert_cmpint(client_mknod(c, ROOT_FID, "new", S_IFIFO | 0600, 0, 0, &q), ==, EROFS);
    g_assert_cmpint(client_link(c, ROOT_FID, fid, "new"), ==, EROFS);
    g_assert_cmpint(client_rename(c, fid, dir, "new"), ==, EROFS);
    g_assert_cmpint(client_renameat(c, ROOT_FID, "file", dir, "new"), ==, EROFS);
    g_assert_cmpint(client_unlinkat(c, ROOT_FID, "file", 0), ==, EROFS);
    g_assert_cmpint(client_unlinkat(c, ROOT_FID, "dir", 0x200), ==, EROFS);
    g_assert_cmpint(client_remove(c, walk_new(c, "file")), ==, EROFS);
    g_assert_cmpint(client_setxattr(c, fid, "user.a", "2", 1, 0), ==, EROFS);
    g_assert_cmpint(client_setxattr(c, fid, "user.b", "2", 1, 0), ==, EROFS);
    g_assert_cmpint(client_setxattr(c, fid, "user.a", "", 0, 2), ==, EROFS);
    g_assert_cmpint(client_setxattr(c, fid, "system.posix_acl_access", "", 0, 0), ==, EROFS);
    /* reading works, and does not move the time of it */
    open_fid = walk_new(c, "file");
    g_assert_cmpint(client_lopen(c, open_fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_read(c, open_fid, 0, 100, &bytes), ==, 0);
    g_assert_cmpmem(bytes->data, bytes->len, "text", 4);
    g_byte_array_unref(bytes);
    g_assert_cmpint(client_write(c, open_fid, 0, 1, "X", &(guint32){0}), >, 0);
    {
        GPtrArray *entries;

        g_assert_cmpint(client_readdir_all(c, dir, 4096, &entries), ==, 0);
        g_ptr_array_free(entries, TRUE);
    }
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpint(stat(sub, &dir_after), ==, 0);
    g_assert_cmpmem(&before, sizeof before, &after, sizeof after);
    g_assert_cmpmem(&dir_before, sizeof dir_before, &dir_after, sizeof dir_after);
    g_assert_cmpint(access(f.s->dir, F_OK), ==, 0);
    client_close(c);
    g_assert_cmpint(server_terminate(f.s), ==, 0);
    server_free(f.s);
}

/* The reader is another user than the owner, so that it may not ask for O_NOATIME itself. */
static void readonly_keeps_atime_of_others(void)
{
    struct fixture f = {0};
    g_autofree char *path = NULL;
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    GByteArray *bytes = NULL;
    struct client *c;
    struct stat st;
    guint32 fid;

    if (skip_unless_root())
        return;
    f.s = start_readonly();
    path = server_path(f.s, "file");
    make_file(f.s, "file", "text");
    g_assert_cmpint(g_chmod(path, 0644), ==, 0);
    g_assert_cmpint(utimensat(AT_FDCWD, path, old, 0), ==, 0);
    c = client_connect(f.s->addr);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    g_assert_cmpint(client_attach(c, ROOT_FID, USER, "ro", NULL), ==, 0);
    fid = walk_new(c, "file");
    g_assert_cmpint(client_lopen(c, fid, L_RDONLY, NULL), ==, 0);
    g_assert_cmpint(client_read(c, fid, 0, 100, &bytes), ==, 0);
    g_byte_array_unref(bytes);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_atime, ==, 1000);
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    g_assert_cmpint(client_lopen(c, walk_new(c, "file"), L_RDONLY, NULL), ==, EACCES);
    client_close(c);
    g_assert_cmpint(server_terminate(f.s), ==, 0);
    server_free(f.s);
}

/* ---- xattrs ---------------------------------------------------------------------------------- */

static void xattr_classes(void)
{
    const char *extra[] = {"--xattrs", "user", NULL}, *none[] = {"--xattrs", "none", NULL};
    g_autoptr(GByteArray) list = NULL, list2 = NULL;
    g_autofree char *path = NULL;
    struct fixture f;
    guint64 size;
    guint32 fid;

    fixture_setup(&f, extra);
    if (no_xattrs(&f)) {
        fixture_teardown(&f, NULL);
        return;
    }
    make_file(f.s, "file", "x");
    path = server_path(f.s, "file");
    setxattr(path, "trusted.a", "1", 1, 0); /* where it may */
    fid = walk_new(f.c, "file");
    g_assert_cmpint(client_setxattr(f.c, fid, "user.a", "1", 1, 0), ==, 0);
    g_assert_cmpint(client_setxattr(f.c, fid, "trusted.a", "2", 1, 0), ==, EOPNOTSUPP);
    g_assert_cmpint(client_setxattr(f.c, fid, "trusted.a", "", 0, 2), ==, EOPNOTSUPP);
    g_assert_cmpint(client_setxattr(f.c, fid, "security.NTACL", "1", 1, 0), ==, EOPNOTSUPP);
    g_assert_cmpint(client_xattrwalk(f.c, fid, client_fid(f.c), "trusted.a", &size), ==,
                    EOPNOTSUPP);
    g_assert_cmpint(client_xattrwalk(f.c, fid, client_fid(f.c), "system.posix_acl_access", &size),
                    ==, EOPNOTSUPP);
    g_assert_cmpint(client_xattrwalk(f.c, fid, client_fid(f.c), "user.virtfs.uid", &size), ==,
                    ENODATA);
    g_assert_cmpint(client_getxattr(f.c, fid, "", &list), ==, 0);
    g_assert_cmpmem(list->data, list->len, "user.a", 7);
    fixture_teardown(&f, NULL);

    fixture_setup(&f, none);
    make_file(f.s, "file", "x");
    set_host_xattr(&f, "file", "user.a", "1", 1);
    fid = walk_new(f.c, "file");
    g_assert_cmpint(client_setxattr(f.c, fid, "user.b", "1", 1, 0), ==, EOPNOTSUPP);
    g_assert_cmpint(client_getxattr(f.c, fid, "", &list2), ==, 0);
    g_assert_cmpuint(list2->len, ==, 0);
    fixture_teardown(&f, NULL);
}

/* ---- who does not change --------------------------------------------------------------------- */

static void versions_by_mtime(void)
{
    const char *extra[] = {"--qid-version", "mtime", NULL};
    struct client_attr first, second;
    GPtrArray *entries;
    struct client_qid qid;
    struct fixture f;
    guint32 fid;

    fixture_setup(&f, extra);
    make_file(f.s, "file", "x");
    get(f.c, "file", &first);
    g_assert_cmpuint(first.qid.version, !=, 0);
    fid = walk_new(f.c, "file");
    g_assert_cmpint(client_setattr(f.c, fid, SETATTR_MTIME | SETATTR_MTIME_SET,
                                   &(struct client_attr){.mtime = 1234567}),
                    ==, 0);
    get(f.c, "file", &second);
    g_assert_cmpuint(second.qid.version, !=, 0);
    g_assert_cmpuint(second.qid.version, !=, first.qid.version);
    g_assert_cmpuint(second.qid.path, ==, first.qid.path);
    g_assert_cmpint(client_walk_path(f.c, ROOT_FID, client_fid(f.c), "file", &qid), ==, 0);
    g_assert_cmpuint(qid.version, ==, second.qid.version);
    g_assert_cmpint(client_readdir_all(f.c, ROOT_FID, 4096, &entries), ==, 0);
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = g_ptr_array_index(entries, i);

        if (strcmp(e->name, "file") == 0)
            g_assert_cmpuint(e->qid.version, ==, second.qid.version);
    }
    g_ptr_array_free(entries, TRUE);
    fixture_teardown(&f, NULL);
}

/* ---- a daemon that is not root --------------------------------------------------------------- */

#define DAEMON 54399u

/* A server that runs as DAEMON, with just these capabilities (setpriv's words) or none. */
static struct server *start_as_user(const char *caps, const char *const *extra)
{
    struct server *s = server_new("lmdb:", extra);
    g_autofree char *wrapper = g_build_filename(s->tmp, "as-user", NULL);
    const char *program = g_getenv("QIDMAPD") != NULL ? g_getenv("QIDMAPD") : "src/qidmapd";
    g_autofree char *real = g_canonicalize_filename(program, NULL);
    g_autofree char *old = g_strdup(g_getenv("QIDMAPD"));
    g_autofree char *more = caps != NULL
                                ? g_strdup_printf("--inh-caps %s --ambient-caps %s", caps, caps)
                                : g_strdup("");
    g_autofree char *text =
        g_strdup_printf("#!/bin/sh\nexec setpriv --pdeathsig KILL --reuid %u --regid %u "
                        "--clear-groups %s '%s' \"$@\"\n",
                        DAEMON, DAEMON, more, real);

    g_assert_true(g_file_set_contents(wrapper, text, -1, NULL));
    g_assert_cmpint(g_chmod(wrapper, 0755), ==, 0);
    g_assert_cmpint(chown(s->tmp, DAEMON, DAEMON), ==, 0);
    g_assert_cmpint(chown(s->dir, DAEMON, DAEMON), ==, 0);
    g_setenv("QIDMAPD", wrapper, TRUE);
    if (!server_start(s))
        g_error("the server does not start as another user");
    if (old != NULL)
        g_setenv("QIDMAPD", old, TRUE);
    else
        g_unsetenv("QIDMAPD");
    return s;
}

static gboolean no_other_users(void)
{
    g_autofree char *setpriv = g_find_program_in_path("setpriv");
    g_autofree char *here = g_get_current_dir();
    struct stat st;

    if (skip_unless_root())
        return TRUE;
    if (setpriv == NULL) {
        g_test_skip("no setpriv");
        return TRUE;
    }
    /* another user must reach the program */
    for (char *at = here; strcmp(at, "/") != 0;) {
        char *up = g_path_get_dirname(at);

        g_assert_cmpint(stat(at, &st), ==, 0);
        if (!(st.st_mode & S_IXOTH)) {
            g_free(up);
            g_test_skip("other users cannot reach the build folder");
            return TRUE;
        }
        g_strlcpy(here, up, strlen(here) + 1);
        g_free(up);
        at = here;
    }
    return FALSE;
}

static void without_root(gconstpointer security)
{
    const char *extra[] = {"--security", security, NULL};
    const gboolean is_mapped = strcmp(security, "mapped-xattr") == 0;
    struct client_attr attr = {.uid = USER, .gid = OTHER, .mode = 0600};
    g_autofree char *path = NULL, *log = NULL;
    struct fixture f = {0};
    struct client_qid q;
    struct stat st;
    guint32 fid;

    if (no_other_users())
        return;
    f.s = start_as_user(NULL, extra);
    if (is_mapped && no_xattrs(&f)) {
        server_free(f.s);
        return;
    }
    path = server_path(f.s, "roots");
    make_file(f.s, "roots", "secret");
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    f.c = client_as(&f, 0);
    fid = walk_new(f.c, "");
    g_assert_cmpint(client_lcreate(f.c, fid, "file", L_RDWR, 0644, &q), ==, 0);
    g_assert_cmpint(client_write(f.c, fid, 0, 3, "abc", &(guint32){0}), ==, 0);
    host_stat(&f, "file", &st);
    g_assert_cmpuint(st.st_uid, ==, DAEMON);
    g_assert_cmpint(client_mkdir(f.c, ROOT_FID, "dir", 0755, &q), ==, 0);
    g_assert_cmpint(client_symlink(f.c, ROOT_FID, "link", "t", &q), ==, 0);
    g_assert_cmpint(client_mknod(f.c, ROOT_FID, "fifo", S_IFIFO | 0600, 0, 0, &q), ==, 0);
    g_assert_cmpint(client_mknod(f.c, ROOT_FID, "dev", S_IFCHR | 0600, 1, 3, &q), ==,
                    is_mapped ? 0 : EPERM);
    g_assert_cmpint(client_setattr(f.c, fid, SETATTR_UID | SETATTR_GID, &attr), ==,
                    is_mapped ? 0 : EPERM);
    g_assert_cmpint(client_setattr(f.c, fid, SETATTR_MODE, &attr), ==, 0);
    g_assert_cmpint(client_setxattr(f.c, walk_new(f.c, "file"), "trusted.a", "1", 1, 0) != 0, ==,
                    !is_mapped);
    g_assert_cmpint(client_lopen(f.c, walk_new(f.c, "roots"), L_RDONLY, NULL), ==, EACCES);
    client_close(f.c);
    g_assert_true(g_file_get_contents(f.s->log, &log, NULL, NULL));
    g_assert_nonnull(strstr(log, "files that it may not read or write itself"));
    g_assert_cmpint(strstr(log, "device nodes") != NULL, ==, !is_mapped);
    g_assert_cmpint(server_terminate(f.s), ==, 0);
    server_free(f.s);
}

/* A service user that was given the capabilities does what root does, for each client's user, and
 * its store stays its own. */
static void with_capabilities_alone(void)
{
    static const char caps[] = "+setuid,+setgid,+chown,+dac_override,+dac_read_search,+fowner,"
                               "+fsetid,+mknod,+sys_admin";
    static const guint32 uids[] = {USER, 0, DAEMON, OTHER, 0, USER};
    struct client_attr attr = {.uid = OTHER, .gid = USER};
    struct fixture f = {0};
    struct stat st;

    if (no_other_users())
        return;
    f.s = start_as_user(caps, NULL);
    g_assert_cmpint(g_chmod(f.s->dir, 01777), ==, 0);
    make_file(f.s, "roots", "secret");
    {
        g_autofree char *path = server_path(f.s, "roots");

        g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    }
    f.c = client_as(&f, 0);
    for (guint32 i = 0; i < G_N_ELEMENTS(uids); i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);
        guint32 root = 100 + i, fid = 200 + i, secret = 300 + i;

        g_assert_cmpint(client_attach(f.c, root, uids[i], f.s->aname, NULL), ==, 0);
        g_assert_cmpint(client_walk_path(f.c, root, fid, "", NULL), ==, 0);
        g_assert_cmpint(client_lcreate(f.c, fid, name, L_RDWR, 0600, NULL), ==, 0);
        host_stat(&f, name, &st);
        g_assert_cmpuint(st.st_uid, ==, uids[i]);
        g_assert_cmpint(client_walk_path(f.c, root, secret, "roots", NULL), ==, 0);
        g_assert_cmpint(client_lopen(f.c, secret, L_RDONLY, NULL), ==, uids[i] == 0 ? 0 : EACCES);
        g_assert_cmpint(client_setattr(f.c, fid, SETATTR_UID | SETATTR_GID, &attr), ==,
                        uids[i] == 0 ? 0 : EPERM);
        g_assert_cmpint(client_mknod(f.c, root, "dev", S_IFCHR | 0600, 1, 3, NULL), ==,
                        uids[i] == 0 ? 0 : EPERM);
        if (uids[i] == 0)
            g_assert_cmpint(client_unlinkat(f.c, root, "dev", 0), ==, 0);
    }
    client_close(f.c);
    {
        g_autofree char *store = g_build_filename(f.s->tmp, "store", "current", NULL);

        g_assert_cmpint(stat(store, &st), ==, 0);
        g_assert_cmpuint(st.st_uid, ==, DAEMON);
    }
    g_assert_cmpint(server_terminate(f.s), ==, 0);
    server_free(f.s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("QIDMAP_TEST_PEER") != NULL)
        return 77;
#define MAPPED_TEST(path, fn)                                                                      \
    g_test_add(path, struct fixture, mapped, fixture_setup, fn, fixture_teardown)
    MAPPED_TEST("/security/mapped/disk", mapped_on_disk);
    MAPPED_TEST("/security/mapped/shown", mapped_is_shown);
    MAPPED_TEST("/security/mapped/nonsense", mapped_believes_no_nonsense);
    MAPPED_TEST("/security/mapped/liars", mapped_liars);
    MAPPED_TEST("/security/mapped/changes", mapped_changes);
    g_test_add_data_func("/security/squash/all", GINT_TO_POINTER(FALSE), squash);
    g_test_add_data_func("/security/squash/root", GINT_TO_POINTER(TRUE), squash);
    g_test_add_func("/security/settings", squash_is_checked);
    g_test_add_func("/security/readonly", readonly_changes_nothing);
    g_test_add_func("/security/readonly/atime", readonly_keeps_atime_of_others);
    g_test_add_func("/security/xattrs", xattr_classes);
    g_test_add_func("/security/qid-version", versions_by_mtime);
    g_test_add_data_func("/security/without-root", "passthrough", without_root);
    g_test_add_data_func("/security/without-root-mapped", "mapped-xattr", without_root);
    g_test_add_func("/security/capabilities", with_capabilities_alone);
    return g_test_run();
}
