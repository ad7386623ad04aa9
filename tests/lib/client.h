/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small 9P2000.L client for the tests and the load program.
 *
 * It marshals on its own and shares no code with the server, so that a mistake in the server's
 * codec cannot hide behind the same mistake here.  One connection belongs to one thread.
 *
 * Every call returns 0, the positive errno of an Rlerror, or one of the negative codes below.
 * Messages are described by format strings, one letter for each field:
 *
 *   letter  sent as                        received into
 *   b w d q u8, u16, u32 (int sized), u64  guint8 *, guint16 *, guint32 *, guint64 *
 *   s       const char *                   char ** (to be freed)
 *   S       gsize, const void * (string)   -
 *   D       gsize, const void * (u32 n)    GByteArray ** (to be unreffed)
 *   L       const char *const * (u16 n)    -
 *   Q       -                              struct client_qid *
 *   A       -                              guint *n, struct client_qid[16]
 */
#ifndef TESTS_LIB_CLIENT_H
#define TESTS_LIB_CLIENT_H

#include <glib.h>

#define CLIENT_EOF     (-1) /* the server closed the connection */
#define CLIENT_TIMEOUT (-2) /* no answer before the deadline */
#define CLIENT_BAD     (-3) /* an answer that breaks the protocol */

#define NOFID    0xffffffffu
#define NOTAG    0xffff
#define NONUNAME 0xffffffffu

enum {
    RLERROR = 7,
    TSTATFS = 8,
    TLOPEN = 12,
    TLCREATE = 14,
    TSYMLINK = 16,
    TMKNOD = 18,
    TRENAME = 20,
    TREADLINK = 22,
    TGETATTR = 24,
    TSETATTR = 26,
    TXATTRWALK = 30,
    TXATTRCREATE = 32,
    TREADDIR = 40,
    TFSYNC = 50,
    TLOCK = 52,
    TGETLOCK = 54,
    TLINK = 70,
    TMKDIR = 72,
    TRENAMEAT = 74,
    TUNLINKAT = 76,
    TVERSION = 100,
    TAUTH = 102,
    TATTACH = 104,
    TFLUSH = 108,
    TWALK = 110,
    TREAD = 116,
    TWRITE = 118,
    TCLUNK = 120,
    TREMOVE = 122,
};

#define QTDIR     0x80
#define QTSYMLINK 0x02
#define QTFILE    0x00

/* open flags of 9P2000.L: the generic Linux values, whatever the host's are */
#define L_RDONLY    0
#define L_WRONLY    1
#define L_RDWR      2
#define L_CREAT     0100
#define L_EXCL      0200
#define L_TRUNC     01000
#define L_APPEND    02000
#define L_NONBLOCK  04000
#define L_DIRECTORY 0200000
#define L_NOFOLLOW  0400000

#define GETATTR_BASIC 0x7ffull
#define GETATTR_ALL   0x3fffull

#define SETATTR_MODE      0x1u
#define SETATTR_UID       0x2u
#define SETATTR_GID       0x4u
#define SETATTR_SIZE      0x8u
#define SETATTR_ATIME     0x10u
#define SETATTR_MTIME     0x20u
#define SETATTR_CTIME     0x40u
#define SETATTR_ATIME_SET 0x80u
#define SETATTR_MTIME_SET 0x100u

#define LOCK_TYPE_RDLCK 0
#define LOCK_TYPE_WRLCK 1
#define LOCK_TYPE_UNLCK 2
#define LOCK_SUCCESS    0
#define LOCK_BLOCKED    1
#define LOCK_ERROR      2

struct client_qid {
    guint8 type;
    guint32 version;
    guint64 path;
};

struct client_attr {
    guint64 valid;
    struct client_qid qid;
    guint32 mode, uid, gid;
    guint64 nlink, rdev, size, blksize, blocks;
    guint64 atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns, btime, btime_ns;
    guint64 gen, data_version;
};

struct client_dirent {
    struct client_qid qid;
    guint64 offset;
    guint8 type;
    char *name;
};

struct client {
    int fd;
    guint32 msize;
    int timeout_ms; /* for each reply */
    guint16 next_tag;
    guint32 next_fid;
    GByteArray *in; /* received, not yet cut into frames */
    gsize in_pos;
    GHashTable *parked; /* tag -> GByteArray: replies that came before they were asked for */
};

/* The connection.  ADDR is unix:PATH or tcp:HOST:PORT; NULL where nobody listens. */
struct client *client_connect(const char *addr);
struct client *client_of_fd(int fd); /* connected already; takes it */
void client_close(struct client *c);
/* As client_close(), but returns when the server has put the session away, too. */
void client_leave(struct client *c);
guint32 client_fid(struct client *c); /* a number not used before on this connection */

/* Raw bytes and frames.  client_recv gives the next frame whatever its tag. */
int client_send_raw(struct client *c, const void *bytes, gsize len);
int client_recv(struct client *c, GByteArray **frame);
guint8 client_frame_type(const GByteArray *frame);
guint16 client_frame_tag(const GByteArray *frame);
GByteArray *client_pack(guint8 type, guint16 tag, const char *fmt, ...);
gboolean client_unpack(const GByteArray *frame, const char *fmt, ...);

/* Pipelining: post gives the tag (or a negative code), wait takes the reply to that tag. */
int client_post(struct client *c, guint8 type, const char *fmt, ...);
int client_wait(struct client *c, int tag, guint8 rtype, const char *fmt, ...);
/* one request, one reply: request fields, then the reply's format and its pointers */
int client_rpc(struct client *c, guint8 type, const char *fmt, ...);

int client_version(struct client *c, guint32 msize, const char *version, guint32 *got,
                   char **got_version);
/* Tversion with msize and 9P2000.L, expecting just that */
int client_hello(struct client *c, guint32 msize);
int client_attach(struct client *c, guint32 fid, guint32 uid, const char *aname,
                  struct client_qid *qid);
int client_walk(struct client *c, guint32 fid, guint32 newfid, const char *const *names, guint *n,
                struct client_qid *qids);
/* walks a path of any depth; all of it or ENOENT; "" clones; qid (may be NULL) of the last */
int client_walk_path(struct client *c, guint32 fid, guint32 newfid, const char *path,
                     struct client_qid *qid);
int client_clunk(struct client *c, guint32 fid);
int client_remove(struct client *c, guint32 fid);
int client_getattr(struct client *c, guint32 fid, guint64 mask, struct client_attr *attr);
int client_setattr(struct client *c, guint32 fid, guint32 valid, const struct client_attr *attr);
int client_lopen(struct client *c, guint32 fid, guint32 flags, struct client_qid *qid);
int client_lcreate(struct client *c, guint32 fid, const char *name, guint32 flags, guint32 mode,
                   struct client_qid *qid);
int client_read(struct client *c, guint32 fid, guint64 offset, guint32 count, GByteArray **data);
int client_write(struct client *c, guint32 fid, guint64 offset, gsize count, const void *data,
                 guint32 *written);
int client_fsync(struct client *c, guint32 fid);
int client_mkdir(struct client *c, guint32 dfid, const char *name, guint32 mode,
                 struct client_qid *qid);
int client_symlink(struct client *c, guint32 dfid, const char *name, const char *target,
                   struct client_qid *qid);
int client_mknod(struct client *c, guint32 dfid, const char *name, guint32 mode, guint32 major,
                 guint32 minor, struct client_qid *qid);
int client_link(struct client *c, guint32 dfid, guint32 fid, const char *name);
int client_readlink(struct client *c, guint32 fid, char **target);
int client_rename(struct client *c, guint32 fid, guint32 dfid, const char *name);
int client_renameat(struct client *c, guint32 odfid, const char *oname, guint32 ndfid,
                    const char *nname);
int client_unlinkat(struct client *c, guint32 dfid, const char *name, guint32 flags);
int client_lock(struct client *c, guint32 fid, guint8 type, guint64 start, guint64 length,
                guint32 proc, const char *id, guint8 *status);
int client_getlock(struct client *c, guint32 fid, guint8 *type, guint64 start, guint64 length,
                   guint32 proc, const char *id);
int client_xattrwalk(struct client *c, guint32 fid, guint32 newfid, const char *name,
                     guint64 *size);
int client_xattrcreate(struct client *c, guint32 fid, const char *name, guint64 size,
                       guint32 flags);
/* whole steps on a fid that stays as it was */
int client_getxattr(struct client *c, guint32 fid, const char *name, GByteArray **value);
int client_setxattr(struct client *c, guint32 fid, const char *name, const void *value, gsize len,
                    guint32 flags);

/* One Treaddir; the entries are appended (free with client_dirent_free); CLIENT_BAD for bytes
 * that are no sequence of whole entries. */
int client_readdir(struct client *c, guint32 fid, guint64 offset, guint32 count,
                   GPtrArray *entries);
/* the whole directory at DFID, through a fid of its own, with replies of COUNT bytes */
int client_readdir_all(struct client *c, guint32 dfid, guint32 count, GPtrArray **entries);
void client_dirent_free(struct client_dirent *entry);

#endif
