/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tgetattr, Tstatfs, Treadlink, and qids: what is told of a file. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define BTIME        0x800ull
#define GEN          0x1000ull
#define DATA_VERSION 0x2000ull

static const char *const kinds[] = {"file", "dir", "link", "fifo", "sock"};

static void make_kinds(struct client *c)
{
    make_file(c, "file", "some text");
    make_dir(c, "dir");
    make_link(c, "link", "file");
    OK(client_mknod(c, WORK, "fifo", S_IFIFO | 0644, 0, 0, NULL));
    OK(client_mknod(c, WORK, "sock", S_IFSOCK | 0644, 0, 0, NULL));
}

static void valid(guint arg)
{
    static const guint64 masks[] = {0, GETATTR_BASIC, GETATTR_ALL, ~(guint64)0, 1, GEN};
    struct client *c = session();
    struct client_attr attr;

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(masks); i++) {
        OK(client_getattr(c, ROOT, masks[i], &attr));
        if (attr.valid & ~GETATTR_ALL)
            fail("valid has bits that mean nothing: 0x%" G_GINT64_MODIFIER "x", attr.valid);
        if ((attr.valid & masks[i] & GETATTR_BASIC) != (masks[i] & GETATTR_BASIC))
            fail("asked for 0x%" G_GINT64_MODIFIER "x, valid is 0x%" G_GINT64_MODIFIER "x",
                 masks[i], attr.valid);
    }
}

static void each(struct client *c, guint64 bit, const char *what)
{
    make_kinds(c);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct client_attr attr = attr_of(c, walk_to(c, WORK, kinds[i]));

        if (!(attr.valid & bit))
            fail("%s of a %s is not given", what, kinds[i]);
        if (bit == GEN && attr.gen > G_MAXUINT32)
            fail("the generation of a %s has more than 32 bits", kinds[i]);
        if (bit == BTIME &&
            (attr.btime == 0 || attr.btime > attr.ctime || attr.btime_ns >= 1000000000))
            fail("the btime of a %s is %" G_GUINT64_FORMAT, kinds[i], attr.btime);
    }
}

static void gen(guint arg)
{
    (void)arg;
    each(session(), GEN, "the generation");
}

static void gen_honest(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_kinds(c);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        guint32 fid = walk_to(c, WORK, kinds[i]);
        struct client_attr attr = attr_of(c, fid), twice = attr_of(c, fid);

        YES(attr.gen <= G_MAXUINT32);
        YES(attr.gen == twice.gen);
        if (!(attr.valid & GEN))
            IS(attr.gen, 0);
        if (!(attr.valid & BTIME))
            IS(attr.btime, 0);
        if (!(attr.valid & DATA_VERSION))
            IS(attr.data_version, 0);
    }
}

static void gen_reuse(guint arg)
{
    struct client *c = session();
    struct client_attr before, after;

    (void)arg;
    for (guint i = 0; i < 50; i++) {
        guint32 fid = make_open(c, "file", "");

        before = attr_of(c, fid);
        if (!(before.valid & GEN))
            fail("no generation is given");
        OK(client_clunk(c, fid));
        OK(remove_name(c, WORK, "file", 0));
        fid = make_open(c, "file", "");
        after = attr_of(c, fid);
        /* many filesystems give the inode number again at once; where one does not, all is well */
        if (before.qid.path == after.qid.path && before.gen == after.gen &&
            before.qid.version == after.qid.version)
            fail("a new file has qid path, version and generation of a removed one");
        OK(client_clunk(c, fid));
        OK(remove_name(c, WORK, "file", 0));
    }
}

static void btime(guint arg)
{
    (void)arg;
    each(session(), BTIME, "the time of birth");
}

static void data_version(guint arg)
{
    struct client *c = session();
    guint32 fid;
    guint64 before;
    gboolean changed = FALSE;
    gint64 deadline;

    (void)arg;
    each(c, DATA_VERSION, "the data version");
    fid = open_path(c, "file", L_RDWR);
    before = attr_of(c, fid).data_version;
    IS(attr_of(c, fid).data_version, before);
    /* the clock behind it may be coarse */
    deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    while (!changed && g_get_monotonic_time() < deadline) {
        put_text(c, fid, 0, "other");
        changed = attr_of(c, fid).data_version != before;
    }
    YES(changed);
}

static void as_host(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_kinds(c);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct client_attr attr = attr_of(c, walk_to(c, WORK, kinds[i]));
        struct stat st;

        if (lstat(host_path(kinds[i]), &st) != 0)
            fail("lstat of %s on the host: %s", kinds[i], g_strerror(errno));
        IS(attr.mode, st.st_mode);
        IS(attr.uid, st.st_uid);
        IS(attr.gid, st.st_gid);
        IS(attr.nlink, st.st_nlink);
        IS(attr.size, (guint64)st.st_size);
        IS(attr.blocks, (guint64)st.st_blocks);
        IS(attr.atime, (guint64)st.st_atim.tv_sec);
        IS(attr.mtime, (guint64)st.st_mtim.tv_sec);
        IS(attr.mtime_ns, (guint64)st.st_mtim.tv_nsec);
        IS(attr.ctime, (guint64)st.st_ctim.tv_sec);
        IS(attr.ctime_ns, (guint64)st.st_ctim.tv_nsec);
        YES(attr.blksize > 0);
    }
}

static void rdev(guint arg)
{
    struct client *c = session();
    static const struct {
        guint32 type, major, minor;
    } list[] = {{S_IFCHR, 1, 3}, {S_IFBLK, 8, 17}, {S_IFCHR, 239, 4097}, {S_IFBLK, 511, 1048575}};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(list); i++) {
        g_autofree char *name = g_strdup_printf("dev%u", i);
        guint32 minor = list[i].minor;
        int rc = client_mknod(c, WORK, name, list[i].type | 0600, list[i].major, minor, NULL);

        if (rc == EPERM)
            skip("the server may not make device nodes");
        OK(rc);
        IS(attr_of(c, walk_to(c, WORK, name)).rdev,
           (minor & 0xff) | (guint64)list[i].major << 8 | (guint64)(minor & ~0xffu) << 12);
    }
}

/* ---- qids ------------------------------------------------------------------------------------ */

static void version_nonzero(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_kinds(c);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (qid_of(c, walk_to(c, WORK, kinds[i])).version == 0)
            fail("the qid version of a %s is 0", kinds[i]);
}

static void version_stable(guint arg)
{
    struct client *c = session();
    guint32 file = make_open(c, "file", "text"), dir = make_dir(c, "d");
    struct client_qid f = qid_of(c, file), d = qid_of(c, dir), now;
    struct client_attr attr = {.mode = 0600, .mtime = 1000000000};

    (void)arg;
    put_text(c, file, 0, "more and other text");
    now = qid_of(c, file);
    YES(same_qid(&now, &f));
    OK(client_setattr(c, file, SETATTR_MODE | SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    now = qid_of(c, walk_to(session(), WORK, "file"));
    YES(same_qid(&now, &f));
    OK(client_mkdir(c, dir, "x", 0755, NULL));
    now = qid_of(c, dir);
    YES(same_qid(&now, &d));
}

static void qid_agrees(guint arg)
{
    struct client *c = session(), *other = session();
    GPtrArray *entries = NULL;
    struct client_qid made[5], qid, qids[16];
    guint32 fid = clone_fid(c, WORK);

    (void)arg;
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_EXCL, 0644, &made[0]));
    OK(client_mkdir(c, WORK, "dir", 0755, &made[1]));
    OK(client_symlink(c, WORK, "link", "file", &made[2]));
    OK(client_mknod(c, WORK, "fifo", S_IFIFO | 0644, 0, 0, &made[3]));
    OK(client_mknod(c, WORK, "sock", S_IFSOCK | 0644, 0, 0, &made[4]));
    OK(client_readdir_all(c, WORK, 4000, &entries));
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *names[] = {kinds[i], NULL};
        guint32 walked = client_fid(other);
        gboolean listed = FALSE;
        guint n = 0;

        OK(client_walk(other, WORK, walked, names, &n, qids));
        IS(n, 1);
        if (!same_qid(&qids[0], &made[i]))
            fail("%s: Twalk gives another qid than what made it", kinds[i]);
        qid = qid_of(other, walked);
        if (!same_qid(&qid, &made[i]))
            fail("%s: Tgetattr gives another qid than what made it", kinds[i]);
        for (guint j = 0; j < entries->len; j++) {
            const struct client_dirent *e = entries->pdata[j];

            if (strcmp(e->name, kinds[i]) != 0)
                continue;
            listed = TRUE;
            /* Linux takes path and type from here alone */
            if (e->qid.path != made[i].path || e->qid.type != made[i].type)
                fail("%s: Treaddir gives another qid", kinds[i]);
        }
        YES(listed);
        if (i < 2) {
            OK(client_lopen(other, walked, L_RDONLY, &qid));
            if (!same_qid(&qid, &made[i]))
                fail("%s: Tlopen gives another qid", kinds[i]);
        }
    }
}

static void qid_readdir_version(guint arg)
{
    struct client *c = session();
    GPtrArray *entries = NULL;

    (void)arg;
    make_kinds(c);
    OK(client_readdir_all(c, WORK, 4000, &entries));
    for (guint j = 0; j < entries->len; j++) {
        const struct client_dirent *e = entries->pdata[j];

        if (e->name[0] != '.') {
            struct client_qid qid = qid_of(c, walk_to(c, WORK, e->name));

            if (!same_qid(&qid, &e->qid))
                fail("%s: version %u from Treaddir, %u from Tgetattr", e->name, e->qid.version,
                     qid.version);
        }
    }
}

static void qid_unique(guint arg)
{
    struct client *c = session();
    GHashTable *seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    GPtrArray *entries = NULL;

    (void)arg;
    for (guint i = 0; i < 300; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);

        OK(client_mknod(c, WORK, name, S_IFREG | 0644, 0, 0, NULL));
    }
    OK(client_readdir_all(c, WORK, 4000, &entries));
    for (guint i = 0; i < entries->len; i++)
        if (!g_hash_table_add(seen, &((struct client_dirent *)entries->pdata[i])->qid.path))
            fail("two entries have one qid path");
}

static void qid_sessions(guint arg)
{
    struct client *a = session(), *b;
    struct client_qid one = qid_of(a, make_file(a, "file", "text")), two;

    (void)arg;
    client_close(a);
    b = session();
    OK(move_name(b, WORK, "file", WORK, "renamed"));
    two = qid_of(b, walk_to(b, WORK, "renamed"));
    YES(same_qid(&one, &two));
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void statfs_it(guint arg)
{
    struct client *c = session();
    guint32 type, bsize, namelen;
    guint64 blocks, bfree, bavail, files, ffree, fsid;
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    struct statfs before, st;

    (void)arg;

    /* Others use the filesystem, too, and the size of some changes with what is free. */
    do {
        if (env.dir != NULL && statfs(env.dir, &before) != 0)
            fail("statfs on the host: %s", g_strerror(errno));
        OK(client_rpc(c, TSTATFS, "d", ROOT, "ddqqqqqqd", &type, &bsize, &blocks, &bfree, &bavail,
                      &files, &ffree, &fsid, &namelen));
        if (env.dir != NULL && statfs(env.dir, &st) != 0)
            fail("statfs on the host: %s", g_strerror(errno));
    } while (env.dir != NULL && (before.f_blocks != st.f_blocks || before.f_files != st.f_files) &&
             g_get_monotonic_time() < deadline);
    YES(bsize > 0);
    YES(bfree <= blocks || blocks == 0);
    YES(bavail <= bfree || bfree == 0);
    YES(namelen >= 200 && namelen <= 255);
    if (env.dir != NULL) {
        IS(bsize, (guint64)st.f_bsize);
        IS(blocks, (guint64)st.f_blocks);
        IS(files, (guint64)st.f_files);
    }
}

static void statfs_kinds(guint arg)
{
    struct client *c = session();
    guint32 type, bsize, namelen;
    guint64 q;

    (void)arg;
    make_kinds(c);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        int rc = client_rpc(c, TSTATFS, "d", walk_to(c, WORK, kinds[i]), "ddqqqqqqd", &type, &bsize,
                            &q, &q, &q, &q, &q, &q, &namelen);

        if (rc != 0)
            fail("Tstatfs of a %s: %s", kinds[i], rc_name(rc));
    }
}

static void readlink_others(guint arg)
{
    struct client *c = session();
    char *target;

    (void)arg;
    make_kinds(c);
    ERROR(client_readlink(c, walk_to(c, WORK, "file"), &target));
    ERROR(client_readlink(c, walk_to(c, WORK, "dir"), &target));
    OK(client_readlink(c, walk_to(c, WORK, "link"), &target));
}

static void link_itself(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "some text"), link = make_link(c, "link", "file");
    struct client_attr attr = attr_of(c, link);

    (void)arg;
    YES((attr.mode & S_IFMT) == S_IFLNK);
    IS(attr.size, 4);
    YES(attr.qid.path != qid_of(c, file).path);
    link = make_link(c, "dangling", "nowhere at all");
    IS(attr_of(c, link).size, 14);
}

#define G "Tgetattr"
#define Q "intro(5): qids; Linux: v9fs_test_inode_dotl"
const struct conform_case attr_cases[] = {
    {"attr/valid", "valid says what is given: all that was asked for of the basic attributes", G, 0,
     valid, 0},
    {"attr/gen", "the generation of every type of file is given, in 32 bits",
     "Linux: i_generation is u32, v9fs_test_inode_dotl compares", CASE_WRITES, gen, 0},
    {"attr/gen-honest", "what valid does not name is 0, a generation has 32 bits and stays",
     G "; Linux: v9fs_test_inode_dotl", CASE_WRITES, gen_honest, 0},
    {"attr/gen-reuse", "a new file with an inode number of old differs in generation or version",
     "Linux: v9fs_test_inode_dotl", CASE_WRITES, gen_reuse, 0},
    {"attr/btime", "the time of birth of every type of file is given", G "; statx(2)", CASE_WRITES,
     btime, 0},
    {"attr/data-version", "the data version is given, and changes with the data", G, CASE_WRITES,
     data_version, 0},
    {"attr/as-host", "all attributes are those that the host sees", G "; lstat(2)",
     CASE_WRITES | CASE_HOST, as_host, 0},
    {"attr/rdev", "device numbers are given as Linux packs them, to the largest",
     "Linux: new_decode_dev in v9fs_stat2inode_dotl", CASE_WRITES | CASE_ROOT, rdev, 0},
    {"attr/qid-version-nonzero", "qid.version is never 0",
     "Linux: since 6.4 a version of 0 switches caching off", CASE_WRITES, version_nonzero, 0},
    {"attr/qid-version-stable", "the qid of a file does not change with its data and attributes",
     Q " compares the version", CASE_WRITES, version_stable, 0},
    {"attr/qid-agrees", "all messages give one qid for one file", Q, CASE_WRITES, qid_agrees, 0},
    {"attr/qid-readdir", "Treaddir's qids have the version, too", "Treaddir: qid[13]", CASE_WRITES,
     qid_readdir_version, 0},
    {"attr/qid-unique", "different files have different qid paths", Q, CASE_WRITES, qid_unique, 0},
    {"attr/qid-sessions", "the qid of a file is the same for another session, after a rename", Q,
     CASE_WRITES, qid_sessions, 0},
    {"attr/statfs", "Tstatfs tells of the filesystem below", "Tstatfs; statfs(2)", 0, statfs_it, 0},
    {"attr/statfs-kinds", "Tstatfs works on every type of file", "Tstatfs", CASE_WRITES,
     statfs_kinds, 0},
    {"attr/readlink", "Treadlink is for symlinks alone", "Treadlink; readlink(2)", CASE_WRITES,
     readlink_others, 0},
    {"attr/symlink", "attributes of a symlink's fid are its own, not the target's",
     "Tgetattr; "
     "lstat(2)",
     CASE_WRITES, link_itself, 0},
    CASES_END,
};
