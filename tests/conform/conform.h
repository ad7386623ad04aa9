/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The conformance suite: what a case is, and what cases share.
 *
 * Each case runs in a process of its own, with a directory of its own below the export's root, and
 * ends with the first thing that is wrong: fail() and skip() do not return, and nothing needs to be
 * freed. What a case may use of the server is a connection to its address, and, where the tester
 * gave it, the exported directory as the host sees it. No server's code is included.
 */
#ifndef TESTS_CONFORM_CONFORM_H
#define TESTS_CONFORM_CONFORM_H

#include "tests/lib/client.h"

#include <errno.h>
#include <sys/types.h>

/* What a case needs; without it, it is skipped. Long ones are left out without --torture. */
enum {
    CASE_WRITES = 1,   /* a directory to change things in: --writable */
    CASE_HOST = 2,     /* the exported directory on the host: --dir */
    CASE_ROOT = 4,     /* to act as root on the server: --uid 0 */
    CASE_LONG = 8,     /* minutes or much memory: --torture */
    CASE_PID = 16,     /* the server's process id: --pid */
    CASE_UNLISTED = 32 /* ends the table */
};

struct conform_case {
    const char *name;   /* area/what */
    const char *proves; /* the promise */
    const char *rule;   /* where it comes from: the message, Linux' fs/9p, a system call */
    unsigned needs;
    void (*run)(guint arg);
    guint arg; /* for a function that serves several cases */
};

#define CASES_END                                                                                  \
    {                                                                                              \
        NULL, NULL, NULL, CASE_UNLISTED, NULL, 0                                                   \
    }

extern const struct conform_case session_cases[], walk_cases[], io_cases[], unlinked_cases[],
    create_cases[], rename_cases[], dir_cases[], attr_cases[], setattr_cases[], xattr_cases[],
    lock_cases[], order_cases[], malformed_cases[], torture_cases[];

/* What the tester said, and where the present case works. */
struct env {
    const char *addr;
    const char *aname;
    const char *dir; /* of the export on the host, or NULL */
    guint32 uid;     /* n_uname of attaches */
    gboolean writable, torture;
    guint32 seed;
    guint rounds; /* of the seeded mutations */
    pid_t pid;    /* of the server, or 0 */
    int timeout_ms;
    const char *work; /* name of the run's directory below the export's root */
    const char *at;   /* name of the case's directory below that */
};
extern struct env env;

/* ---- how a case ends ------------------------------------------------------------------------- */
void fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;
void skip(const char *fmt, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;
const char *rc_name(int rc); /* of what the client's functions give */

/* Each takes the code that a client function gave; `what` is the call as written. */
void expect_ok(int rc, const char *what, const char *file, int line);
void expect_errno(int rc, const int *wanted, const char *what, const char *file, int line);
void expect_error(int rc, const char *what, const char *file, int line);
void expect_equal(guint64 got, guint64 wanted, const char *what, const char *file, int line);
void expect_true(gboolean is, const char *what, const char *file, int line);

/* OK: success. ERR: Rlerror with one of the numbers. ERROR: Rlerror, whatever its number.
 * IS: two numbers are equal. YES: a condition holds. */
#define OK(call) expect_ok((call), #call, __FILE__, __LINE__)
#define ERR(call, ...)                                                                             \
    expect_errno((call), (const int[]){__VA_ARGS__, 0}, #call, __FILE__, __LINE__)
#define ERROR(call)   expect_error((call), #call, __FILE__, __LINE__)
#define IS(got, want) expect_equal((got), (want), #got " is " #want, __FILE__, __LINE__)
#define YES(cond)     expect_true((cond), #cond, __FILE__, __LINE__)

/* ---- sessions -------------------------------------------------------------------------------- */
#define ROOT 1u /* fid of the export's root */
#define WORK 2u /* fid of the case's directory; only where the case writes */

struct client *dial(void);                   /* a connection, nothing said yet */
struct client *session(void);                /* version, attach to ROOT, walk to WORK */
struct client *session_msize(guint32 msize); /* the same with this msize */
struct client *session_or_null(void);        /* NULL where the server does not answer */
/* The server still does its work for a client that comes now. */
void still_serves(void);

/* Steps that must succeed. */
guint32 walk_to(struct client *c, guint32 from, const char *path); /* a new fid */
guint32 clone_fid(struct client *c, guint32 fid);
guint32 make_file(struct client *c, const char *name, const char *text); /* closed; a walked fid */
guint32 make_open(struct client *c, const char *name, const char *text); /* open, L_RDWR */
guint32 make_dir(struct client *c, const char *name);                    /* a walked fid */
guint32 make_link(struct client *c, const char *name, const char *target);
guint32 open_path(struct client *c, const char *path, guint32 flags); /* below WORK */
struct client_qid qid_of(struct client *c, guint32 fid);
struct client_attr attr_of(struct client *c, guint32 fid);
gboolean same_qid(const struct client_qid *a, const struct client_qid *b);
void expect_text(struct client *c, guint32 open_fid, const char *text); /* the file's whole data */
void expect_content(struct client *c, const char *path, const char *text);
void put_text(struct client *c, guint32 open_fid, guint64 offset, const char *text);
gboolean exists(struct client *c, const char *path); /* below WORK */
/* Removes or moves a name, as Linux does it: where the server has no Tunlinkat or no Trenameat, by
 * Tremove or Trename. */
int remove_name(struct client *c, guint32 dfid, const char *name, guint32 flags);
int move_name(struct client *c, guint32 odfid, const char *oname, guint32 ndfid, const char *nname);

/* The same name on the host; skips the case where no --dir was given. To be freed, or not. */
char *host_path(const char *name);

/* Frames. An answer to the tag that is no success: Rlerror, or the end of the connection. */
int reply_of(struct client *c, guint16 tag, GByteArray **frame); /* whatever its type */

/* ---- one of each message --------------------------------------------------------------------- */
/* A valid message of this type for a session that was prepared by samples_prepare(); `fid` takes
 * the place of the first fid. NULL: no such message. */
void samples_prepare(struct client *c);
GByteArray *sample(guint8 type, guint16 tag, guint32 fid);
guint32 sample_fid(guint8 type); /* a fid for which the sample works */
extern const guint8 sample_types[];
const char *type_name(guint8 type);

#endif
