/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One valid message of each type, and the files and fids that make them valid. */
#include "config.h"

#include "tests/conform/conform.h"

#include <sys/stat.h>

enum {
    FILE_FID = 30,
    OPEN_FID,
    DIR_FID,
    OPEN_DIR_FID,
    LINK_FID,
    CLUNK_FID,
    REMOVE_FID,
    CREATE_FID
};

const guint8 sample_types[] = {TVERSION,   TAUTH,        TATTACH,   TFLUSH,    TWALK,    TREAD,
                               TWRITE,     TCLUNK,       TREMOVE,   TSTATFS,   TLOPEN,   TLCREATE,
                               TSYMLINK,   TMKNOD,       TRENAME,   TREADLINK, TGETATTR, TSETATTR,
                               TXATTRWALK, TXATTRCREATE, TREADDIR,  TFSYNC,    TLOCK,    TGETLOCK,
                               TLINK,      TMKDIR,       TRENAMEAT, TUNLINKAT, 0};

static void put(struct client *c, guint32 fid, const char *path)
{
    int rc = client_walk_path(c, WORK, fid, path, NULL);

    if (rc != 0)
        fail("Twalk to '%s': %s", path, rc_name(rc));
}

void samples_prepare(struct client *c)
{
    /* what is there already from an earlier session is as good */
    client_mknod(c, WORK, "s-file", S_IFREG | 0644, 0, 0, NULL);
    client_mknod(c, WORK, "s-remove", S_IFREG | 0644, 0, 0, NULL);
    client_mkdir(c, WORK, "s-dir", 0755, NULL);
    client_symlink(c, WORK, "s-link", "s-file", NULL);
    put(c, 0, "s-file"); /* where a field that is cut off is taken to be 0, this is what is met */
    put(c, FILE_FID, "s-file");
    put(c, OPEN_FID, "s-file");
    put(c, DIR_FID, "s-dir");
    put(c, OPEN_DIR_FID, "s-dir");
    put(c, LINK_FID, "s-link");
    put(c, CLUNK_FID, "s-file");
    put(c, REMOVE_FID, "s-remove");
    put(c, CREATE_FID, "s-dir");
    OK(client_lopen(c, OPEN_FID, L_RDWR, NULL));
    OK(client_lopen(c, OPEN_DIR_FID, L_RDONLY | L_DIRECTORY, NULL));
}

guint32 sample_fid(guint8 type)
{
    switch (type) {
    case TATTACH:
        return 40;
    case TREAD:
    case TWRITE:
    case TFSYNC:
    case TLOCK:
    case TGETLOCK:
        return OPEN_FID;
    case TREADDIR:
        return OPEN_DIR_FID;
    case TREADLINK:
        return LINK_FID;
    case TCLUNK:
        return CLUNK_FID;
    case TREMOVE:
        return REMOVE_FID;
    case TLCREATE:
        return CREATE_FID;
    case TSYMLINK:
    case TMKNOD:
    case TLINK:
    case TMKDIR:
    case TRENAMEAT:
    case TUNLINKAT:
        return DIR_FID;
    case TWALK:
        return WORK;
    default:
        return FILE_FID;
    }
}

GByteArray *sample(guint8 type, guint16 tag, guint32 fid)
{
    static const char *const walk[] = {"s-dir", "..", "s-file", NULL};
    const guint64 zero = 0;

    switch (type) {
    case TVERSION:
        return client_pack(type, tag, "ds", 65536u, "9P2000.L");
    case TAUTH:
        return client_pack(type, tag, "dssd", 41u, "user", env.aname, env.uid);
    case TATTACH:
        return client_pack(type, tag, "ddssd", fid, NOFID, "user", env.aname, env.uid);
    case TFLUSH:
        return client_pack(type, tag, "w", 12345);
    case TWALK:
        return client_pack(type, tag, "ddL", fid, 42u, walk);
    case TREAD:
    case TREADDIR:
        return client_pack(type, tag, "dqd", fid, zero, 1000u);
    case TWRITE:
        return client_pack(type, tag, "dqD", fid, zero, (gsize)16, "sixteen bytes...");
    case TCLUNK:
    case TREMOVE:
    case TSTATFS:
    case TREADLINK:
        return client_pack(type, tag, "d", fid);
    case TLOPEN:
        return client_pack(type, tag, "dd", fid, (guint32)L_RDONLY);
    case TLCREATE:
        return client_pack(type, tag, "dsddd", fid, "s-created", (guint32)(L_RDWR | L_CREAT), 0644u,
                           0u);
    case TSYMLINK:
        return client_pack(type, tag, "dssd", fid, "s-symlink", "target", 0u);
    case TMKNOD:
        return client_pack(type, tag, "dsdddd", fid, "s-node", (guint32)(S_IFIFO | 0600), 0u, 0u,
                           0u);
    case TRENAME:
        return client_pack(type, tag, "dds", fid, WORK, "s-renamed");
    case TGETATTR:
        return client_pack(type, tag, "dq", fid, (guint64)GETATTR_ALL);
    case TSETATTR:
        return client_pack(type, tag, "dddddqqqqq", fid, (guint32)SETATTR_MODE, 0644u, 0u, 0u, zero,
                           zero, zero, zero, zero);
    case TXATTRWALK:
        return client_pack(type, tag, "dds", fid, 43u, "user.sample");
    case TXATTRCREATE:
        return client_pack(type, tag, "dsqd", fid, "user.sample", zero, 0u);
    case TFSYNC:
        return client_pack(type, tag, "dd", fid, 0u);
    case TLOCK:
        return client_pack(type, tag, "dbdqqds", fid, LOCK_TYPE_RDLCK, 0u, zero, zero, 1u,
                           "sample");
    case TGETLOCK:
        return client_pack(type, tag, "dbqqds", fid, LOCK_TYPE_RDLCK, zero, zero, 1u, "sample");
    case TLINK:
        return client_pack(type, tag, "dds", fid, (guint32)FILE_FID, "s-linked");
    case TMKDIR:
        return client_pack(type, tag, "dsdd", fid, "s-made", 0755u, 0u);
    case TRENAMEAT:
        return client_pack(type, tag, "dsds", fid, "s-old", WORK, "s-new");
    case TUNLINKAT:
        return client_pack(type, tag, "dsd", fid, "s-none", 0u);
    default:
        return NULL;
    }
}

const char *type_name(guint8 type)
{
    static const char *const names[256] = {
        [TVERSION] = "Tversion",     [TAUTH] = "Tauth",
        [TATTACH] = "Tattach",       [TFLUSH] = "Tflush",
        [TWALK] = "Twalk",           [TREAD] = "Tread",
        [TWRITE] = "Twrite",         [TCLUNK] = "Tclunk",
        [TREMOVE] = "Tremove",       [TSTATFS] = "Tstatfs",
        [TLOPEN] = "Tlopen",         [TLCREATE] = "Tlcreate",
        [TSYMLINK] = "Tsymlink",     [TMKNOD] = "Tmknod",
        [TRENAME] = "Trename",       [TREADLINK] = "Treadlink",
        [TGETATTR] = "Tgetattr",     [TSETATTR] = "Tsetattr",
        [TXATTRWALK] = "Txattrwalk", [TXATTRCREATE] = "Txattrcreate",
        [TREADDIR] = "Treaddir",     [TFSYNC] = "Tfsync",
        [TLOCK] = "Tlock",           [TGETLOCK] = "Tgetlock",
        [TLINK] = "Tlink",           [TMKDIR] = "Tmkdir",
        [TRENAMEAT] = "Trenameat",   [TUNLINKAT] = "Tunlinkat",
    };

    return names[type] != NULL ? names[type] : "?";
}
