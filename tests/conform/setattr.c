/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tsetattr: each bit, on each type of file. */
#include "config.h"

#include "tests/conform/conform.h"

#include <sys/stat.h>
#include <unistd.h>

static void mode(guint arg)
{
    static const guint32 modes[] = {0, 0777, 0644, 01777, 02755, 04755, 0400};
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), dir = make_dir(c, "d");
    struct client_attr attr = {0};

    (void)arg;
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        attr.mode = S_IFREG | modes[i]; /* Linux sends the type along */
        OK(client_setattr(c, file, SETATTR_MODE, &attr));
        IS(attr_of(c, file).mode, attr.mode);
        attr.mode = S_IFDIR | (modes[i] & 01777) | 0700;
        OK(client_setattr(c, dir, SETATTR_MODE, &attr));
        IS(attr_of(c, dir).mode & ~02000u, attr.mode);
    }
}

static void refused(guint arg)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), file = make_file(c, "file", "text");
    struct client_attr attr = {.mode = 0700, .size = 1, .mtime_ns = 1000000000}, before, after;

    (void)arg;
    before = attr_of(c, dir);
    ERROR(client_setattr(c, dir, SETATTR_MODE | SETATTR_SIZE, &attr));
    after = attr_of(c, dir);
    IS(after.mode, before.mode);
    before = attr_of(c, file);
    ERROR(client_setattr(c, file, SETATTR_MODE | SETATTR_SIZE | SETATTR_MTIME | SETATTR_MTIME_SET,
                         &attr));
    after = attr_of(c, file);
    IS(after.mode, before.mode);
    IS(after.size, before.size);
    IS(after.mtime, before.mtime);
}

static void nothing(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text");
    struct client_attr zero = {0}, before = attr_of(c, file), after;

    (void)arg;
    OK(client_setattr(c, file, 0, &zero));
    after = attr_of(c, file);
    IS(after.mode, before.mode);
    IS(after.size, before.size);
    IS(after.mtime, before.mtime);
}

static void size(guint arg)
{
    struct client *c = session();
    guint32 walked = make_file(c, "file", "0123456789"), open;
    struct client_attr attr = {.size = 4};

    (void)arg;
    OK(client_setattr(c, walked, SETATTR_SIZE, &attr));
    expect_content(c, "file", "0123");
    attr.size = 6;
    OK(client_setattr(c, walked, SETATTR_SIZE, &attr));
    IS(attr_of(c, walked).size, 6);
    open = open_path(c, "file", L_RDWR);
    attr.size = 2;
    OK(client_setattr(c, open, SETATTR_SIZE, &attr));
    expect_text(c, open, "01");
    attr.size = (guint64)1 << 33;
    OK(client_setattr(c, open, SETATTR_SIZE, &attr));
    IS(attr_of(c, walked).size, attr.size);
}

static void size_others(guint arg)
{
    struct client *c = session();
    struct client_attr attr = {.size = 0};

    (void)arg;
    make_file(c, "file", "text");
    ERR(client_setattr(c, make_dir(c, "d"), SETATTR_SIZE, &attr), EISDIR, EINVAL);
    ERROR(client_setattr(c, make_link(c, "l", "file"), SETATTR_SIZE, &attr));
    attr.size = (guint64)1 << 63;
    ERR(client_setattr(c, walk_to(c, WORK, "file"), SETATTR_SIZE, &attr), EINVAL, EFBIG, EOVERFLOW);
    expect_content(c, "file", "text");
}

static void times_set(guint arg)
{
    struct client *c = session();
    guint32 fids[4];
    struct client_attr attr = {
        .atime = 1111111111, .atime_ns = 123456789, .mtime = 1222222222, .mtime_ns = 987654321};

    (void)arg;
    fids[0] = make_file(c, "file", "text");
    fids[1] = make_dir(c, "d");
    OK(client_mknod(c, WORK, "fifo", S_IFIFO | 0600, 0, 0, NULL));
    fids[2] = walk_to(c, WORK, "fifo");
    fids[3] = open_path(c, "file", L_RDONLY);
    for (guint i = 0; i < G_N_ELEMENTS(fids); i++) {
        struct client_attr got;

        attr.mtime++;
        OK(client_setattr(c, fids[i],
                          SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_MTIME | SETATTR_MTIME_SET,
                          &attr));
        got = attr_of(c, fids[i]);
        IS(got.atime, attr.atime);
        IS(got.atime_ns, attr.atime_ns);
        IS(got.mtime, attr.mtime);
        IS(got.mtime_ns, attr.mtime_ns);
    }
    /* one without the other */
    attr.atime = 1000000000;
    OK(client_setattr(c, fids[0], SETATTR_ATIME | SETATTR_ATIME_SET, &attr));
    IS(attr_of(c, fids[0]).atime, 1000000000);
    YES(attr_of(c, fids[0]).mtime > 1222222222);
}

static void times_now(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");
    struct client_attr attr = {.atime = 1000, .mtime = 1000}, got;

    (void)arg;
    OK(client_setattr(c, fid, SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_MTIME | SETATTR_MTIME_SET,
                      &attr));
    IS(attr_of(c, fid).mtime, 1000);
    /* without _SET the server's clock counts, whatever stands in the message */
    OK(client_setattr(c, fid, SETATTR_MTIME, &attr));
    got = attr_of(c, fid);
    YES(got.mtime > 1000000000);
    IS(got.atime, 1000);
    OK(client_setattr(c, fid, SETATTR_ATIME, &attr));
    YES(attr_of(c, fid).atime > 1000000000);
}

static void times_old(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");
    struct client_attr attr = {.mtime = (guint64)-86400, .mtime_ns = 5};
    int rc;

    (void)arg;
    OK(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    IS(attr_of(c, fid).mtime, (guint64)-86400);
    attr.mtime = 0;
    OK(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    IS(attr_of(c, fid).mtime, 0);
    attr.mtime_ns = 1000000000;
    rc = client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr);
    ERR(rc, EINVAL);
    attr.mtime_ns = (1 << 30) - 1; /* UTIME_NOW of utimensat(2): not for the wire */
    ERR(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr), EINVAL);
    attr.mtime_ns = (1 << 30) - 2; /* UTIME_OMIT */
    ERR(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr), EINVAL);
}

static void together(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");
    struct client_attr attr = {.mode = 0600, .size = 2, .mtime = 1000000000, .atime = 1000000001};

    (void)arg;
    OK(client_setattr(c, fid,
                      SETATTR_MODE | SETATTR_SIZE | SETATTR_MTIME | SETATTR_MTIME_SET |
                          SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_CTIME,
                      &attr));
    attr = attr_of(c, fid);
    IS(attr.mode & 07777, 0600);
    IS(attr.size, 2);
    IS(attr.mtime, 1000000000); /* the cut did not come after it */
    IS(attr.atime, 1000000001);
}

static void ctime_moves(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");
    struct client_attr before = attr_of(c, fid), after, zero = {0};
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    (void)arg;
    do { /* the filesystem's clock may be coarse */
        OK(client_setattr(c, fid, SETATTR_CTIME, &zero));
        after = attr_of(c, fid);
    } while (after.ctime == before.ctime && after.ctime_ns == before.ctime_ns &&
             g_get_monotonic_time() < deadline);
    YES(after.ctime != before.ctime || after.ctime_ns != before.ctime_ns);
    IS(after.mtime, before.mtime);
    IS(after.mode, before.mode);
}

static void owner(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text");
    struct client_attr attr = {.uid = 1234, .gid = 4321, .mode = 06755};

    (void)arg;
    OK(client_setattr(c, file, SETATTR_MODE, &attr));
    OK(client_setattr(c, file, SETATTR_UID, &attr));
    IS(attr_of(c, file).uid, 1234);
    IS(attr_of(c, file).gid, getegid());
    OK(client_setattr(c, file, SETATTR_GID, &attr));
    IS(attr_of(c, file).gid, 4321);
    IS(attr_of(c, file).uid, 1234);
    IS(attr_of(c, file).mode & 07777, 0755); /* chown(2) takes set-uid and set-gid away */
    attr.uid = 5;
    attr.gid = 6;
    attr.mode = 04755;
    OK(client_setattr(c, file, SETATTR_UID | SETATTR_GID | SETATTR_MODE, &attr));
    IS(attr_of(c, file).mode & 07777, 04755); /* but not what is set along with it */
}

static void link_owner(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), link = make_link(c, "l", "file");
    struct client_attr attr = {.uid = 1234, .gid = 4321};

    (void)arg;
    OK(client_setattr(c, link, SETATTR_UID | SETATTR_GID, &attr));
    IS(attr_of(c, link).uid, 1234);
    IS(attr_of(c, link).gid, 4321);
    IS(attr_of(c, file).uid, 0);
}

static void link_times(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), link = make_link(c, "l", "file");
    guint32 dangling = make_link(c, "m", "nowhere");
    struct client_attr attr = {.mtime = 1000000000, .mtime_ns = 7};

    (void)arg;
    OK(client_setattr(c, link, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    IS(attr_of(c, link).mtime, 1000000000);
    YES(attr_of(c, file).mtime != 1000000000);
    OK(client_setattr(c, dangling, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
    IS(attr_of(c, dangling).mtime, 1000000000);
}

static void link_mode(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), link = make_link(c, "l", "file");
    struct client_attr attr = {.mode = 0600};

    (void)arg;
    ERR(client_setattr(c, link, SETATTR_MODE, &attr), EOPNOTSUPP, EINVAL, EPERM);
    IS(attr_of(c, file).mode & 07777, 0644);
}

static void nodes(guint arg)
{
    static const guint32 types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    struct client *c = session();

    (void)arg;
    for (guint i = 0; i < (env.uid == 0 ? 4 : 2); i++) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        struct client_attr attr = {.mode = types[i] | 0604, .mtime = 1000000000};
        int rc = client_mknod(c, WORK, name, types[i] | 0640, 239, 3, NULL);
        guint32 fid;

        if (i >= 2 && rc == EPERM)
            break; /* the server may not make device nodes */
        OK(rc);
        fid = walk_to(c, WORK, name);
        OK(client_setattr(c, fid, SETATTR_MODE, &attr));
        OK(client_setattr(c, fid, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
        attr.uid = env.uid;
        OK(client_setattr(c, fid, SETATTR_UID, &attr));
        IS(attr_of(c, fid).mode, types[i] | 0604);
        IS(attr_of(c, fid).mtime, 1000000000);
    }
}

static void readonly_file(guint arg)
{
    struct client *c = session();
    guint32 fid = clone_fid(c, WORK);
    struct client_attr attr = {.size = 2};

    (void)arg;
    OK(client_lcreate(c, fid, "file", L_RDWR | L_CREAT | L_EXCL, 0444, NULL));
    put_text(c, fid, 0, "text");
    OK(client_setattr(c, fid, SETATTR_SIZE, &attr)); /* ftruncate(2) asks the open file alone */
    expect_text(c, fid, "te");
}

static void unknown_bits(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "file", "text");
    struct client_attr attr = {.mode = 0600, .size = 1};
    int rc = client_setattr(c, fid, 0x80000000u, &attr);

    (void)arg;
    if (rc < 0)
        fail("Tsetattr with unknown bits: %s", rc_name(rc));
    IS(attr_of(c, fid).mode & 07777, 0644);
    IS(attr_of(c, fid).size, 4);
}

#define S "Tsetattr"
const struct conform_case setattr_cases[] = {
    {"setattr/mode", "modes are set, with set-uid, set-gid and sticky", S "; chmod(2)", CASE_WRITES,
     mode, 0},
    {"setattr/refused", "where one part can never be done, no other is",
     S "; notify_change() checks first", CASE_WRITES, refused, 0},
    {"setattr/nothing", "no bit, no change", S, CASE_WRITES, nothing, 0},
    {"setattr/size", "files are cut and grown, by walked and by open fids", S "; truncate(2)",
     CASE_WRITES, size, 0},
    {"setattr/size-others", "directories, symlinks and negative sizes are refused",
     S "; truncate(2)", CASE_WRITES, size_others, 0},
    {"setattr/size-readonly", "a file that is open for writing is cut whatever its mode is",
     "ftruncate(2)", CASE_WRITES, readonly_file, 0},
    {"setattr/times-set", "atime and mtime are set to the nanosecond, on every type of file",
     S "; utimensat(2)", CASE_WRITES, times_set, 0},
    {"setattr/times-now", "without ATIME_SET and MTIME_SET it is the server's present time", S,
     CASE_WRITES, times_now, 0},
    {"setattr/times-odd", "times before 1970 are set; nanoseconds beyond a second are EINVAL",
     "utimensat(2)", CASE_WRITES, times_old, 0},
    {"setattr/together", "what is set together holds together: the mtime after the size",
     S "; Linux: ftruncate, O_TRUNC", CASE_WRITES, together, 0},
    {"setattr/ctime", "CTIME alone moves ctime, and nothing else", S, CASE_WRITES, ctime_moves, 0},
    {"setattr/owner",
     "uid and gid are set one by one; set-uid goes with them, but not one set along",
     S "; chown(2)", CASE_WRITES | CASE_ROOT, owner, 0},
    {"setattr/symlink-owner", "the owner of a symlink is its own", S "; lchown(2)",
     CASE_WRITES | CASE_ROOT, link_owner, 0},
    {"setattr/symlink-times", "the times of a symlink are its own, dangling or not",
     S "; AT_SYMLINK_NOFOLLOW", CASE_WRITES, link_times, 0},
    {"setattr/symlink-mode", "the mode of a symlink is not set, and never the target's",
     S "; fchmodat(2)", CASE_WRITES, link_mode, 0},
    {"setattr/nodes", "FIFOs, sockets and device nodes have mode, owner and times set", S,
     CASE_WRITES, nodes, 0},
    {"setattr/unknown-bits", "unknown bits change nothing", S, CASE_WRITES, unknown_bits, 0},
    CASES_END,
};
