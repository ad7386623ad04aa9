/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How owners, modes and kinds of files are kept on the host, and who acts there: the security mode
 * of an export, as one small table of operations, so that the messages know no special cases.
 *
 *   passthrough   as the host's own; the attached user acts
 *   squash        the same; one user acts for all, or for root
 *   mapped-xattr  in xattrs that QEMU's mode of this name writes, and the host's own are the
 *                 daemon's; the daemon acts, and the client checks permissions
 *
 * Also: which xattrs clients may use, and what cannot be done. Must not know how messages look.
 */
#ifndef SECURITY_H
#define SECURITY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "src/path.h"
#include "src/privs.h"

enum security_mode { SECURITY_PASSTHROUGH, SECURITY_MAPPED_XATTR, SECURITY_SQUASH };

/* Who makes a file, and with which group, as the client said ((uint32_t)-1: did not). */
struct security_owner {
    struct privs_user *user;
    uint32_t gid;
};

/* All return 0 (or what is said) or a negative errno. `fd` may be O_PATH, and is never followed
 * where it is a symlink; `mode` has bits of 07777, and a type where it says so. */
struct security_ops {
    /* Makes of what the host says about `fd` what a client is shown; without `all` only type and
     * mode must be right. */
    int (*look)(int fd, struct statx *stx, bool all);
    /* The same for the type of a directory entry, DT_*. */
    int (*look_entry)(int dir_fd, const char *name, uint8_t *d_type);
    /* A new regular file: a descriptor, open with `flags` of open(2); -EEXIST. */
    int (*create)(const struct security_owner *owner, int dir_fd, const char *name, int flags,
                  mode_t mode);
    int (*mkdir)(const struct security_owner *owner, int dir_fd, const char *name, mode_t mode);
    int (*mknod)(const struct security_owner *owner, int dir_fd, const char *name, mode_t type_mode,
                 dev_t device);
    int (*symlink)(const struct security_owner *owner, int dir_fd, const char *name,
                   const char *target);
    int (*chmod)(int fd, mode_t mode);
    int (*chown)(const struct security_owner *owner, int fd, uint32_t uid, uint32_t gid);
    /* Length of the target, not terminated; `size` where there may be more. */
    ssize_t (*readlink)(int fd, char *target, size_t size);
    /* The name on the host of an xattr that the client names; NULL: the client has no such. */
    const char *(*host_xattr)(const char *name, char *buffer, size_t size);
    /* The name for clients of one on the host, a part of it; NULL: it is hidden. */
    const char *(*client_xattr)(const char *name);
    /* An empty value of this xattr removes it, which succeeds where there is none. */
    bool (*empty_removes)(const char *host_name);
};

/* Classes of xattrs by the beginning of their names. */
#define SECURITY_XATTR_USER     1u
#define SECURITY_XATTR_SYSTEM   2u /* POSIX ACLs among them */
#define SECURITY_XATTR_SECURITY 4u
#define SECURITY_XATTR_TRUSTED  8u
#define SECURITY_XATTR_OTHER    16u
#define SECURITY_XATTR_ALL      31u

#define SECURITY_XATTR_NAME_SIZE 512 /* room for a name on the host */

/* What the operator chose for an export. */
struct security_settings {
    enum security_mode mode;
    bool squash_root_only;
    const char *squash_user; /* UID:GID, UID or name; NULL: nobody */
    uint32_t xattrs;         /* classes */
};

/* One export's. Read-only once it serves. */
struct security {
    const struct security_ops *ops;
    enum security_mode mode;
    bool squash_root_only;
    struct privs_user *squash; /* NULL: nobody is */
    uint32_t xattrs;
};

/* Checks the settings and finds the user of squash. After privs_init(). */
struct security *security_new(const char *export_name, const struct security_settings *settings,
                              bool trusted, GError **error);
void security_free(struct security *security);

/* Classes of a list of words, or "all", or "none". */
gboolean security_parse_xattrs(const char *text, uint32_t *classes, GError **error);

/* Who acts for a user that attaches, as privs_user_find(). */
int security_user(const struct security *security, uint32_t uid, const char *name,
                  struct privs_user **user);

/* The host's name of an xattr. 0; -EOPNOTSUPP: not allowed here; -ENODATA: hidden. */
int security_xattr(const struct security *security, const char *name, const char **host,
                   char buffer[SECURITY_XATTR_NAME_SIZE]);

/* The client's name of one on the host; NULL: not shown. */
const char *security_xattr_shown(const struct security *security, const char *host);

/* The types of entries as clients see them. */
void security_look_entries(const struct security *security, int dir_fd, struct qid_dirent *entries,
                           size_t count);

/* Says once in the log what cannot be done without them; `all_mapped`: all exports are of that
 * mode, which needs few. */
void security_tell_limits(bool all_mapped);

extern const struct security_ops security_mapped; /* security-mapped.c */

#endif
