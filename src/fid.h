/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fids: what a client's number means, and in which order requests may use it.
 *
 * Requests of one connection run in parallel, yet must look as if those that depend on each other
 * ran in the order in which they were read. So the thread that reads a request takes a *turn* at
 * each fid that it names, in the order of reading (fid_take, with the connection's lock held), and
 * it is run when that turn has come (inflight.h: until then it needs no thread). A shared turn
 * waits for the exclusive ones taken before it; an exclusive turn waits for all before it. As a
 * request waits only for ones that were read earlier, nothing waits for ever.
 *
 *   prepared   turns taken so far        finished   turns given back so far
 *   barrier    the number of finished turns that a shared turn must see: one more than the number
 *              of the last exclusive turn, or any that was seen since
 *
 * A fid that was removed from the table (clunk) lives until its last turn is given back.
 */
#ifndef FID_H
#define FID_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "src/fd-cache.h"
#include "src/limit.h"
#include "src/lock.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/qid.h"

struct conn;

enum fid_kind {                  /* of fid->kind */
                FID_FILE,        /* fd is an O_PATH descriptor, or the opened one after Tlopen */
                FID_XATTR_READ,  /* made by Txattrwalk: xattr holds the value */
                FID_XATTR_WRITE, /* made by Txattrcreate: xattr collects the value until the clunk
                                  */
};

/* A value of an xattr being read or written. */
struct fid_xattr {
    char *name;
    uint8_t *bytes;
    struct limit_account *account; /* LIMIT_MEMORY was taken from it for `bytes` */
    size_t taken;
    size_t size;    /* declared */
    size_t written; /* bytes from the beginning that have come */
    int flags;      /* of setxattr(2) */
};

struct fid_dir; /* of op-dir.c */

/* The name that Tlcreate gave a file: to remove it again, which is what comes next with temporary
 * files, without asking the kernel where it stands. */
struct fid_made {
    struct fd_shared *dir; /* remembered */
    uint64_t ino;          /* of the file, which is open: no other has this number on `dev` */
    dev_t dev;
    char name[];
};

/* What few fids have, and a fid that was only walked to does without: made by fid_more(), by who
 * has a turn of its own, when the fid is opened or gets to mean an xattr; freed with the fid. */
struct fid_more {
    int open_flags; /* as given to open(2); guarded by turns */
    struct fid_xattr *xattr;
    struct fid_made *made; /* NULL: not by Tlcreate, or nobody else had the directory */

    /* Guarded by mutex: used by shared turns. */
    pthread_mutex_t mutex;
    struct fid_dir *dir;
    struct lock_fid locks;
};

/* A client may have a great many: fid.c says how large it may be. What different locks guard is
 * never in one bit field. */
struct fid {
    struct limit_account *account; /* of the session, which outlives its fids */

    /* Guarded by the connection's lock. */
    uint64_t prepared;
    uint32_t pending, behind; /* prepared - finished, and prepared - barrier */
    uint32_t number;
    bool in_table;

    /* Guarded by turns: changed by exclusive ones only. */
    bool dead;     /* its creation failed; users that waited for it get EBADF */
    uint8_t kind;  /* enum fid_kind */
    bool open;     /* fd came from Tlopen or Tlcreate */
    uint16_t type; /* S_IFMT bits */
    int fd;        /* valid while held (fd-cache.h); -1: none, or closed for now */
    const struct path_export *export;
    struct privs_user *user;
    uint64_t qid_path;     /* of the file; 0: not known yet */
    struct fid_more *more; /* not NULL where `open`, or `kind` is another than FID_FILE */
    struct fd_slot slot;
};

enum fid_mode { FID_NONE, FID_SHARED, FID_EXCLUSIVE, FID_NEW, FID_REMOVE };

struct fid_turn {
    struct fid *fid;
    uint64_t number;
    enum fid_mode mode;
    bool held; /* the fid's descriptor */
};

/* With the connection's lock held: looks up (or for FID_NEW makes) the fid `number`, and takes a
 * turn. 0; -EBADF: no such fid, or FID_NEW and it exists already; -EMFILE, -ENFILE:
 * too many. */
int fid_take(struct conn *conn, uint32_t number, enum fid_mode mode, struct fid_turn *turn);

/* With the connection's lock held: whether the turn came. */
bool fid_turn_came(const struct fid_turn *turn);

/* With the connection's lock held: the request will not run. A fid that it should have made is no
 * longer in the table, and comes to nothing; the turn must still be given back, once it came. */
void fid_cancel(struct conn *conn, struct fid_turn *turn);

/* Gives the turn back, once it came. `failed`: a fid that this turn should have made comes to
 * nothing. Takes the connection's lock; frees the fid if it was the last turn of a removed one. */
void fid_give_back(struct conn *conn, struct fid_turn *turn, bool failed);

/* With the connection's lock held: as fid_give_back() of a turn that did not fail. Where that was
 * the last of a removed fid, it comes back, for fid_free() without the lock; else NULL. */
struct fid *fid_finish(struct fid_turn *turn);
void fid_free(struct fid *fid);

/* Removes and frees all fids of a connection without requests in flight. */
void fid_drop_all(struct conn *conn);

/* What only some fids have. By who has a turn of its own. */
struct fid_more *fid_more(struct fid *fid);

/* Makes `to` mean `fd` (which it takes) of the same export and user as `from`. */
void fid_set(struct fid *to, const struct fid *from, int fd, mode_t type);

/* Makes the new fid `to` mean the same as `from`, which is no open file; their descriptor is one. 0
 * or a negative errno. */
int fid_clone(struct fid *to, struct fid *from);

/* After Tlopen or Tlcreate: the fid, which has a turn of its own, stands for the open file `fd`. */
void fid_set_open(struct fid *fid, int fd, int flags);

/* Notes the qid of the file, where the caller has it anyway. */
static inline void fid_set_qid(struct fid *fid, const struct qid *qid)
{
    fid->qid_path = qid->path;
}

/* Frees an xattr value. */
void fid_xattr_free(struct fid_xattr *xattr);

/* The qid of the file of the fid where nothing needs to be asked for it. */
bool fid_known_qid(const struct fid *fid, struct qid *qid);

/* The qid of the file of the fid, with one statx. 0 or a negative errno. */
int fid_qid(const struct fid *fid, struct statx *stx, struct qid *qid);

/* The same for another descriptor below the same export, with path_look(). */
int fid_qid_of(const struct fid *fid, int fd, struct statx *stx, struct qid *qid);

/* Defined by op-dir.c. */
void fid_dir_free(struct fid_dir *dir);

#endif
