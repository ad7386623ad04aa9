/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: every rung says the same of one filesystem on old kernels and new ones, from lines of
 * the mount table as they were seen in public where no such filesystem is at hand; what differs is
 * told apart; and no server that does not answer holds anybody up.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "store/identity-fuse.h"
#include "store/overlay.h"
#include "store/patience.h"

static struct qm_mount *line(const char *text, GPtrArray **keep)
{
    *keep = qm_mountinfo_parse(text, strlen(text));
    g_assert_cmpuint((*keep)->len, ==, 1);
    return g_ptr_array_index(*keep, 0);
}

static void assert_equal(const struct qm_answer *a, const struct qm_answer *b, gboolean equal)
{
    g_assert_cmpuint(a->fsid.kind, ==, b->fsid.kind);
    g_assert_cmpuint(a->fsid.size, ==, b->fsid.size);
    g_assert_cmpint(memcmp(a->fsid.bytes, b->fsid.bytes, a->fsid.size) == 0, ==, equal);
}

/* ---- network --------------------------------------------------------------------------------- */

static void nfs(const char *text, const char *volumes, struct qm_answer *answer)
{
    g_autoptr(GPtrArray) keep = NULL;
    struct qm_mount *mount = line(text, &keep);
    memset(answer, 0, sizeof *answer);
    g_assert_cmpint(qm_nfs_answer(mount, volumes, answer), ==, 0);
    g_assert_cmpuint(answer->fsid.kind, ==, QIDMAP_FSID_NFS);
    g_assert_true(answer->flags & QIDMAP_IDENTITY_UNTESTED);
}

/* Source and options as in github.com/coreos/tectonic-forum/issues/267 and
 * github.com/Azure/acs-engine/issues/1882; the table of volumes has the form that fs/nfs/client.c
 * of Linux writes. */
#define NFS4_OPTIONS                                                                               \
    "rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,"       \
    "sec=sys,clientaddr=10.129.176.41,local_lock=none,addr=10.110.204.201"
#define NFS3_OPTIONS                                                                               \
    "rw,vers=3,rsize=32768,wsize=32768,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,"     \
    "mountaddr=10.110.204.201,mountvers=3,mountport=2049,mountproto=udp,local_lock=none,"          \
    "addr=10.110.204.201"
#define VOLUMES                                                                                    \
    "NV SERVER   PORT DEV          FSID                              FSC\n"                        \
    "v4 0a6eccc9  801 0:50         0:0                               no \n"                        \
    "v4 0a6eccc9  801 0:51         c10a1819257f4d4d:a0d6372e2f44b4e3 no \n"                        \
    "v3 0a6eccc9  801 0:97         74c9544b:0                        yes\n"

static void test_nfs(void)
{
    static const char mnt[] = "40 28 0:51 / /mnt rw,relatime shared:31 - nfs4 "
                              "10.110.204.201:/export " NFS4_OPTIONS "\n";
    struct qm_answer named, known, again, other;

    nfs(mnt, NULL, &named);
    g_assert_true(named.flags & QIDMAP_IDENTITY_WEAK);
    nfs(mnt, VOLUMES, &known);
    g_assert_false(known.flags & QIDMAP_IDENTITY_WEAK);
    assert_equal(&named, &known, FALSE); /* a name alone never matches what has an fsid */
    /* Elsewhere, by another device and with a slash more: the same. */
    nfs("77 28 0:97 / /srv/x rw - nfs4 10.110.204.201:/export/ " NFS4_OPTIONS "\n",
        "v4 0a6eccc9  801 0:97         c10a1819257f4d4d:a0d6372e2f44b4e3 no \n", &again);
    assert_equal(&known, &again, TRUE);
    nfs("77 28 0:97 / /srv/x rw - nfs4 10.110.204.201:/export " NFS4_OPTIONS "\n", VOLUMES, &other);
    assert_equal(&known, &other, FALSE); /* another fsid under the same name */
    nfs("40 28 0:51 / /mnt rw - nfs4 10.110.204.201:/other " NFS4_OPTIONS "\n", VOLUMES, &other);
    assert_equal(&known, &other, FALSE);
    nfs("40 28 0:50 / /mnt rw - nfs4 10.110.204.201:/export " NFS4_OPTIONS "\n", VOLUMES, &other);
    assert_equal(&named, &other, TRUE); /* 0:0 is no fsid */

    /* The version of the protocol is no part of it, nor is the case of the server's name. */
    nfs("40 28 0:51 / /mnt rw - nfs 10.110.204.201:/export " NFS3_OPTIONS "\n", VOLUMES, &again);
    assert_equal(&known, &again, TRUE);
    nfs("40 28 0:51 / /mnt rw - nfs4 NAS.example:/export rw\n", NULL, &named);
    nfs("40 28 0:51 / /mnt rw - nfs4 nas.example:/export rw\n", NULL, &again);
    assert_equal(&named, &again, TRUE);
    nfs("40 28 0:51 / /mnt rw - nfs4 [fe80::1%eth0]:/export rw\n", NULL, &named);
    nfs("40 28 0:51 / /mnt rw - nfs4 [fe80::2%eth0]:/export rw\n", NULL, &again);
    assert_equal(&named, &again, FALSE);

    static const char *const bad[] = {"40 28 0:51 / /mnt rw - nfs4 nothing rw\n",
                                      "40 28 0:51 / /mnt rw - nfs4 :/export rw\n",
                                      "40 28 0:51 / /mnt rw - nfs4 [::1 rw\n"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GPtrArray) keep = NULL;
        g_assert_cmpint(qm_nfs_answer(line(bad[i], &keep), VOLUMES, &other), ==, -EINVAL);
    }
}

static void ceph(const char *text, guint32 flags, struct qm_answer *answer)
{
    g_autoptr(GPtrArray) keep = NULL;
    struct qm_mount *mount = line(text, &keep);
    memset(answer, 0, sizeof *answer);
    g_assert_cmpint(qm_ceph_answer(mount, answer), ==, 0);
    g_assert_cmpuint(answer->fsid.kind, ==, QIDMAP_FSID_CEPH);
    g_assert_cmpuint(answer->flags, ==, flags | QIDMAP_IDENTITY_UNTESTED);
}

static void test_ceph(void)
{
    struct qm_answer a, b;

    /* The form of github.com/ceph/ceph/pull/41334. */
    ceph("50 28 0:60 / /mnt rw - ceph foo@b5426b62-1ecd-11ed-90ab-8f774f76a3a8.cephfs=/ "
         "rw,name=foo,secret=<hidden>,acl,mon_addr=192.168.21.11:6789\n",
         0, &a);
    ceph("51 28 0:61 / /other rw - ceph bar@b5426b62-1ecd-11ed-90ab-8f774f76a3a8.cephfs=/sub "
         "rw,name=bar,secret=<hidden>,acl\n",
         0, &b);
    assert_equal(&a, &b, TRUE); /* who, where and what part: no matter */
    ceph("52 28 0:62 / /mnt rw - ceph 192.168.21.11,192.168.21.12:/ rw,name=admin,"
         "fsid=b5426b62-1ecd-11ed-90ab-8f774f76a3a8,mds_namespace=cephfs\n",
         0, &b);
    assert_equal(&a, &b, TRUE); /* the older way to mount it */
    ceph("50 28 0:60 / /mnt rw - ceph foo@b5426b62-1ecd-11ed-90ab-8f774f76a3a8.second=/ rw\n", 0,
         &b);
    assert_equal(&a, &b, FALSE);
    ceph("50 28 0:60 / /mnt rw - ceph foo@b5426b62-1ecd-11ed-90ab-8f774f76a3a9.cephfs=/ rw\n", 0,
         &b);
    assert_equal(&a, &b, FALSE);
    /* Fields as in github.com/ceph/ceph-csi/issues/3309: a uuid of zeros is none. */
    ceph("52 28 0:62 / /mnt rw,relatime - ceph 192.168.21.11,192.168.21.12,192.168.21.13:/ "
         "rw,name=admin,secret=<hidden>,fsid=00000000-0000-0000-0000-000000000000,acl,"
         "mds_namespace=cephfs\n",
         QIDMAP_IDENTITY_WEAK, &a);
    ceph("52 28 0:62 / /mnt rw,relatime - ceph 192.168.22.11:/ rw,mds_namespace=cephfs\n",
         QIDMAP_IDENTITY_WEAK, &b);
    assert_equal(&a, &b, FALSE);
}

static void cifs(const char *text, struct qm_answer *answer)
{
    g_autoptr(GPtrArray) keep = NULL;
    struct qm_mount *mount = line(text, &keep);
    memset(answer, 0, sizeof *answer);
    g_assert_cmpint(qm_cifs_answer(mount, answer), ==, 0);
    g_assert_cmpuint(answer->fsid.kind, ==, QIDMAP_FSID_CIFS);
    g_assert_cmpuint(answer->flags, ==, QIDMAP_IDENTITY_UNTESTED | QIDMAP_IDENTITY_WEAK);
}

static void test_cifs(void)
{
    struct qm_answer a, b;

    /* From github.com/moby/sys, mountinfo/mountinfo_linux_test.go. */
    cifs("31 21 0:23 / /DATA/foo_bla_bla rw,relatime - cifs //foo/BLA\\040BLA\\040BLA/ "
         "rw,sec=ntlm,cache=loose,unc=\\\\foo\\BLA BLA BLA,username=my_login,"
         "domain=mydomain.com,uid=12345678,forceuid,gid=12345678,forcegid,addr=10.1.30.10,"
         "file_mode=0755,dir_mode=0755,nounix,rsize=61440,wsize=65536,actimeo=1\n",
         &a);
    cifs("9 2 0:3 / /elsewhere rw - smb3 //FOO/bla\\040bla\\040bla rw,vers=3.1.1\n", &b);
    assert_equal(&a, &b, TRUE);
    cifs("9 2 0:3 / /elsewhere rw - cifs //foo/bla rw\n", &b);
    assert_equal(&a, &b, FALSE);
    cifs("9 2 0:3 / /elsewhere rw - cifs //foo/bla\\040bla\\040bla rw,prefixpath=x\n", &b);
    assert_equal(&a, &b, FALSE);
    g_autoptr(GPtrArray) keep = NULL;
    g_assert_cmpint(qm_cifs_answer(line("9 2 0:3 / /e rw - cifs //foo rw\n", &keep), &b), ==,
                    -EINVAL);
}

static void test_zfs(void)
{
    struct qm_answer a = {.flags = 0}, b = {.flags = 0};

    g_assert_cmpint(qm_zfs_answer(0, &a), ==, -ENODATA);
    g_assert_cmpint(qm_zfs_answer(0x00ab12cd34ef5678, &a), ==, 0);
    g_assert_cmpuint(a.fsid.size, ==, 8);
    g_assert_cmpuint(a.fsid.bytes[0], ==, 0x78);
    g_assert_cmpuint(a.flags, ==, QIDMAP_IDENTITY_UNTESTED);
    g_assert_cmpint(qm_zfs_answer(0x00ab12cd34ef5679, &b), ==, 0);
    assert_equal(&a, &b, FALSE);
}

/* ---- overlay options ------------------------------------------------------------------------- */

static void assert_layers(const char *options, const char *upper, const char *lowers)
{
    struct qm_overlay_options out;

    qm_overlay_parse(options, &out);
    g_assert_cmpstr(out.upper, ==, upper);
    g_ptr_array_add(out.lowers, NULL);
    g_autofree char *joined = g_strjoinv("|", (char **)out.lowers->pdata);
    g_assert_cmpstr(joined, ==, lowers);
    g_ptr_array_remove_index(out.lowers, out.lowers->len - 1);
    qm_overlay_options_clear(&out);
}

/* As Linux 6.18 writes them. */
static void test_overlay_options(void)
{
    assert_layers("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w,uuid=on", "/u", "/a|/b");
    assert_layers("ro,lowerdir=a/x\\134:y:a/x\\134\\054y,redirect_dir=on", NULL, "a/x:y|a/x,y");
    assert_layers("ro,lowerdir+=a/x:y,lowerdir+=a/x\\054y,lowerdir+=a/s\\040p,lowerdir+=a/p\\134q,"
                  "datadir+=a/dat,metacopy=on",
                  NULL, "a/x:y|a/x,y|a/s p|a/p\\q");
    assert_layers("ro,lowerdir=a/low:b/low::a/dat::a/more,metacopy=on", NULL, "a/low|b/low");
    assert_layers("rw,lowerdir=/b\\134\\134c,upperdir=/u\\134:v", "/u:v", "/b\\c");
    assert_layers("rw,upperdir=/u", "/u", "");
    assert_layers("lowerdir=", NULL, "");
    assert_layers("lowerdir=\\134", NULL, "\\");
    assert_layers("lowerdir=::", NULL, "");

    struct qm_overlay_options out;
    qm_overlay_parse("lowerdir=/a,xino=auto,uuid=off", &out);
    g_assert_true(out.xino && out.no_uuid);
    qm_overlay_options_clear(&out);
    qm_overlay_parse("lowerdir=/a,xino=off,uuid=on", &out);
    g_assert_false(out.xino || out.no_uuid);
    qm_overlay_options_clear(&out);
}

/* ---- FUSE ------------------------------------------------------------------------------------ */

static void test_fuse(void)
{
    static const struct qm_fuse_entry counted[] = {{2, 2, 2}, {3, 3, 3}, {4, 4, 4}};
    static const struct qm_fuse_entry hashed[] = {{2, 0xcf2ed34f8aa0ac91, 0}, {3, 0x8c51f87d, 0}};
    static const struct qm_fuse_entry chance[] = {{2, 2, 2}, {3, 3, 3}, {131, 131, 4}};
    static const struct qm_fuse_entry own[] = {{0xa840e2, 0xa840e2, 2}};
    static const struct qm_fuse_entry unknown[] = {{77, 0xffffffff, 0}};

    g_assert_cmpint(qm_fuse_judge(1, counted, 3), ==, QM_FUSE_COUNTED);
    g_assert_cmpint(qm_fuse_judge(1, counted, 1), ==, QM_FUSE_COUNTED);
    g_assert_cmpint(qm_fuse_judge(1, hashed, 2), ==, QM_FUSE_COUNTED);
    g_assert_cmpint(qm_fuse_judge(1, chance, 3), ==, QM_FUSE_OWN);
    g_assert_cmpint(qm_fuse_judge(1, own, 1), ==, QM_FUSE_OWN);
    g_assert_cmpint(qm_fuse_judge(1, NULL, 0), ==, QM_FUSE_UNKNOWN);
    g_assert_cmpint(qm_fuse_judge(1, unknown, 1), ==, QM_FUSE_UNKNOWN);
    g_assert_cmpint(qm_fuse_judge(4711, NULL, 0), ==, QM_FUSE_OWN);
}

/* ---- patience -------------------------------------------------------------------------------- */

struct stuck {
    int pipe[2];
    int told[2];
};

static void wait_for_pipe(void *data)
{
    struct stuck *stuck = data;
    char c;
    while (read(stuck->pipe[0], &c, 1) < 0 && errno == EINTR)
        ;
}

static void tell(void *data)
{
    struct stuck *stuck = data;
    g_assert_cmpint(write(stuck->told[1], "x", 1), ==, 1);
}

static void test_patience(void)
{
    struct stuck stuck;
    char c;

    g_assert_cmpint(pipe(stuck.pipe), ==, 0);
    g_assert_cmpint(pipe(stuck.told), ==, 0);
    g_assert_cmpint(qm_patiently(wait_for_pipe, &stuck, tell, 10), ==, -ETIMEDOUT);
    g_assert_cmpint(write(stuck.pipe[1], "x", 1), ==, 1);
    g_assert_cmpint(read(stuck.told[0], &c, 1), ==, 1); /* released when it ends at last */
    g_assert_cmpint(write(stuck.pipe[1], "x", 1), ==, 1);
    g_assert_cmpint(qm_patiently(wait_for_pipe, &stuck, tell, 60000), ==, 0);
    for (int i = 0; i < 2; i++) {
        close(stuck.pipe[i]);
        close(stuck.told[i]);
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

static void identify(const char *path, struct qidmap_identity *id)
{
    struct qidmap_error error;
    int fd = open(path, O_PATH | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    if (qm_identify(fd, NULL, id, &error) < 0)
        g_error("%s: %s", path, error.text);
    close(fd);
}

static gboolean share(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    for (guint32 i = 0; i < a->count; i++) {
        for (guint32 k = 0; k < b->count; k++) {
            if (a->fsid[i].kind == b->fsid[k].kind && a->fsid[i].size == b->fsid[k].size &&
                memcmp(a->fsid[i].bytes, b->fsid[k].bytes, a->fsid[i].size) == 0)
                return TRUE;
        }
    }
    return FALSE;
}

/* What was found with one kernel is found again with another. */
static void test_old_kernel(void)
{
    const char *paths[] = {"/", g_get_tmp_dir(), "/dev/shm"};
    struct qidmap_identity now, old;

    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        if (access(paths[i], F_OK) != 0)
            continue;
        identify(paths[i], &now);
        qm_features.getfsuuid = FALSE;
        identify(paths[i], &old);
        qm_features.unique_id = FALSE;
        qm_features.bare_handle = FALSE;
        if (now.policy != QIDMAP_POLICY_EPHEMERAL) {
            struct qidmap_identity oldest;
            identify(paths[i], &oldest);
            g_assert_true(share(&now, &oldest));
        }
        qm_features = (struct qm_features){TRUE, TRUE, TRUE};
        g_assert_true(share(&now, &old));
    }
}

static void make(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
}

/* Overlays over two tmpfs: without xino by handles, or as ephemeral where there are none. */
static void test_old_overlay(void)
{
    g_autofree char *dir = g_dir_make_tmp("qidmap-XXXXXX", NULL);
    g_autofree char *one = g_build_filename(dir, "one", NULL);
    g_autofree char *two = g_build_filename(dir, "two", NULL);
    g_autofree char *over = g_build_filename(dir, "over", NULL);
    struct qidmap_identity now, old;

    make(dir, "one");
    make(dir, "two");
    make(dir, "over");
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", one, "tmpfs", 0, "size=1m") != 0 ||
        mount("none", two, "tmpfs", 0, "size=1m") != 0) {
        g_test_skip(geteuid() != 0 ? "needs root" : "no mounts allowed");
        return;
    }
    make(one, "up");
    make(one, "work");
    make(two, "low");
    g_autofree char *file = g_build_filename(two, "low/file", NULL);
    g_assert_true(g_file_set_contents(file, "x", 1, NULL));
    g_autofree char *options =
        g_strdup_printf("lowerdir=%s/low,upperdir=%s/up,workdir=%s/work,xino=off", two, one, one);
    if (mount("ov", over, "overlay", 0, options) != 0) {
        g_test_skip("no overlay in this kernel");
    } else {
        g_autofree char *shown = g_build_filename(over, "file", NULL);
        identify(over, &now);
        if (now.policy == QIDMAP_POLICY_HANDLE) { /* Linux 6.5 */
            identify(shown, &old);
            g_assert_true(share(&now, &old)); /* whatever st_dev it shows */
            g_assert_cmpuint(old.policy, ==, QIDMAP_POLICY_HANDLE);
            qm_features.getfsuuid = FALSE;
            identify(over, &old);
            g_assert_cmpuint(old.count, ==, now.count);
            for (guint32 i = 0; i < now.count; i++)
                g_assert_cmpmem(old.fsid[i].bytes, 16, now.fsid[i].bytes, 16);
        } else {
            g_test_message("no AT_HANDLE_FID in this kernel");
        }
        qm_features = (struct qm_features){FALSE, FALSE, FALSE};
        identify(over, &old);
        g_assert_cmpuint(old.policy, ==, QIDMAP_POLICY_EPHEMERAL);
        identify(shown, &now); /* each st_dev an instance */
        g_assert_cmpuint(now.policy, ==, QIDMAP_POLICY_EPHEMERAL);
        g_assert_false(share(&now, &old));
        qm_features = (struct qm_features){TRUE, TRUE, TRUE};
        umount2(over, 0);
    }
    umount2(one, 0);
    umount2(two, 0);
    g_rmdir(one);
    g_rmdir(two);
    g_rmdir(over);
    g_rmdir(dir);
}

/* ---- explain --------------------------------------------------------------------------------- */

static void test_explain(void)
{
    struct qidmap_finding findings[QIDMAP_FINDINGS];
    struct qidmap_identity id, plain;
    struct qidmap_error error;
    size_t count = 0;
    gboolean found = FALSE;

    int fd = open(g_get_tmp_dir(), O_PATH | O_CLOEXEC);
    g_assert_cmpint(qm_explain(fd, NULL, findings, &count, &id, &error), ==, 0);
    close(fd);
    identify(g_get_tmp_dir(), &plain);
    g_assert_true(share(&id, &plain));
    g_assert_cmpuint(count, >, 10);
    g_assert_cmpuint(count, <=, QIDMAP_FINDINGS);
    for (size_t i = 0; i < count; i++) {
        g_assert_cmpstr(findings[i].rung, !=, NULL);
        g_assert_cmpstr(findings[i].text, !=, ""); /* why, in either case */
        if (findings[i].result == 0 && findings[i].fsid.kind == plain.fsid[0].kind &&
            memcmp(findings[i].fsid.bytes, plain.fsid[0].bytes, plain.fsid[0].size) == 0)
            found = TRUE;
        if (findings[i].result != 0)
            g_assert_cmpuint(findings[i].fsid.size, ==, 0);
    }
    g_assert_true(found);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ladder/nfs", test_nfs);
    g_test_add_func("/ladder/ceph", test_ceph);
    g_test_add_func("/ladder/cifs", test_cifs);
    g_test_add_func("/ladder/zfs", test_zfs);
    g_test_add_func("/ladder/overlay-options", test_overlay_options);
    g_test_add_func("/ladder/fuse", test_fuse);
    g_test_add_func("/ladder/patience", test_patience);
    g_test_add_func("/ladder/old-kernel", test_old_kernel);
    g_test_add_func("/ladder/old-overlay", test_old_overlay);
    g_test_add_func("/ladder/explain", test_explain);
    return g_test_run();
}
