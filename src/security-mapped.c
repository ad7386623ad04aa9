/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * security=mapped-xattr: what a file is for clients stands in its xattrs, as QEMU's
 * security_model=mapped-xattr writes them, so that an export can be taken over from it and given
 * back:
 *
 *   user.virtfs.uid   u32, little-endian      user.virtfs.mode  u32: type and permissions
 *   user.virtfs.gid   u32                     user.virtfs.rdev  u64: as dev_t of glibc
 *   user.virtfs.system.posix_acl_access, ..._default: the ACLs
 *
 * Symlinks are regular files that hold their target; device nodes, FIFOs and sockets are empty
 * regular files. Files are made with mode 0600 and directories with 0700, and belong to the daemon.
 * What has no such xattr is shown as it is.
 *
 * Others on the host may write these xattrs, too: a type in them counts on regular files only, and
 * never makes a directory. security.* and trusted.* of clients are kept below user.virtfs., so that
 * they mean nothing to the host, and need no privilege.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "src/proto.h"
#include "src/security.h"

#define FILE_MODE   0600
#define DIR_MODE    0700
#define PREFIX      "user.virtfs."
#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define UNSET       UINT32_MAX

/* ---- numbers --------------------------------------------------------------------------------- */

/* 1, 0 where there is none of this size, or a negative errno. `path` is not followed. */
static int get_bytes(const char *path, const char *name, void *bytes, size_t size, bool follow)
{
    uint8_t room[16];
    ssize_t n =
        follow ? getxattr(path, name, room, sizeof room) : lgetxattr(path, name, room, sizeof room);

    if (n < 0) /* EACCES: not to be read, nor opened either, by a daemon that is not root */
        return errno == ENODATA || errno == EOPNOTSUPP || errno == ERANGE || errno == EPERM ||
                       errno == EACCES
                   ? 0
                   : -errno;
    if ((size_t)n != size)
        return 0;
    memcpy(bytes, room, size);
    return 1;
}

static int get32(const char *path, const char *name, uint32_t *value, bool follow)
{
    uint32_t raw;
    int rc = get_bytes(path, name, &raw, sizeof raw, follow);

    if (rc > 0)
        *value = GUINT32_FROM_LE(raw);
    return rc;
}

/* What type the host's and the stored one make together. */
static mode_t shown_type(mode_t host, uint32_t stored)
{
    mode_t type = stored & S_IFMT;

    if (S_ISREG(host) && (type == S_IFLNK || type == S_IFCHR || type == S_IFBLK ||
                          type == S_IFIFO || type == S_IFSOCK))
        return type;
    return host & S_IFMT;
}

static int mapped_look(int fd, struct statx *stx, bool all)
{
    char path[PATH_PROC_SIZE];
    uint32_t value;
    uint64_t raw;
    int rc;

    path_proc(fd, path); /* on an O_PATH descriptor of a symlink this is the link itself */
    rc = get32(path, PREFIX "mode", &value, true);
    if (rc > 0)
        stx->stx_mode = (uint16_t)(shown_type(stx->stx_mode, value) | (value & 07777));
    if (rc < 0 || !all)
        return MIN(rc, 0);
    rc = get32(path, PREFIX "uid", &value, true);
    if (rc > 0 && value != UNSET) /* nobody's number: clients could not show it */
        stx->stx_uid = value;
    if (rc >= 0)
        rc = get32(path, PREFIX "gid", &value, true);
    if (rc > 0 && value != UNSET)
        stx->stx_gid = value;
    if (rc >= 0 && (S_ISCHR(stx->stx_mode) || S_ISBLK(stx->stx_mode))) {
        rc = get_bytes(path, PREFIX "rdev", &raw, sizeof raw, true);
        if (rc > 0) {
            stx->stx_rdev_major = major(GUINT64_FROM_LE(raw));
            stx->stx_rdev_minor = minor(GUINT64_FROM_LE(raw));
        }
    }
    return MIN(rc, 0);
}

static int mapped_look_entry(int dir_fd, const char *name, uint8_t *d_type)
{
    char path[PATH_PROC_SIZE + 1 + P9_NAME_MAX + 1];
    uint32_t value;
    int rc;

    if (*d_type != DT_REG)
        return 0;
    path_proc(dir_fd, path);
    strcat(path, "/");
    g_strlcat(path, name, sizeof path);
    rc = get32(path, PREFIX "mode", &value, false);
    if (rc > 0)
        *d_type = (uint8_t)(shown_type(S_IFREG, value) >> 12);
    return MIN(rc, 0);
}

/* ---- making ---------------------------------------------------------------------------------- */

static int set_bytes(int fd, const char *name, const void *bytes, size_t size)
{
    char path[PATH_PROC_SIZE];

    return setxattr(path_proc(fd, path), name, bytes, size, 0) < 0 ? -errno : 0;
}

static int set32(int fd, const char *name, uint32_t value)
{
    uint32_t raw = GUINT32_TO_LE(value);

    return value == UNSET ? 0 : set_bytes(fd, name, &raw, sizeof raw);
}

static int set_made(const struct security_owner *owner, int fd, mode_t type_mode)
{
    int error = set32(fd, PREFIX "uid", owner->user->client_uid);

    if (error == 0)
        error = set32(fd, PREFIX "gid", owner->gid);
    return error != 0 ? error : set32(fd, PREFIX "mode", type_mode);
}

/* A new file. A descriptor or a negative errno; without a descriptor, nothing was made. */
static int open_new(int dir_fd, const char *name, int flags)
{
    int fd;

    do {
        fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        fd = fd < 0 ? -errno : fd;
    } while (fd < 0 && path_relieved(fd));
    return fd;
}

/* Takes away what could not be made whole, unless the name means something else by now. */
static void take_back(int dir_fd, const char *name, int fd, int flags)
{
    struct stat made, there;

    if (fstat(fd, &made) == 0 && fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        made.st_ino == there.st_ino && made.st_dev == there.st_dev)
        unlinkat(dir_fd, name, flags);
}

static int make_file(const struct security_owner *owner, int dir_fd, const char *name, int flags,
                     mode_t type_mode)
{
    int fd = open_new(dir_fd, name, flags);
    int error;

    if (fd < 0)
        return fd;
    error = set_made(owner, fd, type_mode);
    if (error != 0) {
        take_back(dir_fd, name, fd, 0);
        close(fd);
        return error;
    }
    return fd;
}

static int mapped_create(const struct security_owner *owner, int dir_fd, const char *name,
                         int flags, mode_t mode)
{
    return make_file(owner, dir_fd, name, flags, S_IFREG | mode);
}

static int mapped_mkdir(const struct security_owner *owner, int dir_fd, const char *name,
                        mode_t mode)
{
    int fd, error;

    if (mkdirat(dir_fd, name, DIR_MODE) < 0)
        return -errno;
    fd = path_lookup(dir_fd, name);
    if (fd < 0)
        return fd;
    error = set_made(owner, fd, S_IFDIR | mode);
    if (error != 0)
        take_back(dir_fd, name, fd, AT_REMOVEDIR);
    close(fd);
    return error;
}

static int mapped_mknod(const struct security_owner *owner, int dir_fd, const char *name,
                        mode_t type_mode, dev_t device)
{
    mode_t shown = type_mode & S_IFMT ? type_mode : S_IFREG | type_mode;
    uint64_t raw = GUINT64_TO_LE((uint64_t)device);
    int fd = make_file(owner, dir_fd, name, O_WRONLY, shown), error;

    if (fd < 0)
        return fd;
    error = set_bytes(fd, PREFIX "rdev", &raw, sizeof raw);
    if (error != 0)
        take_back(dir_fd, name, fd, 0);
    close(fd);
    return error;
}

/* The target first: whoever sees a symlink sees it whole. */
static int mapped_symlink(const struct security_owner *owner, int dir_fd, const char *name,
                          const char *target)
{
    int fd = open_new(dir_fd, name, O_WRONLY);
    size_t size = strlen(target);
    ssize_t n;
    int error;

    if (fd < 0)
        return fd;
    do
        n = write(fd, target, size);
    while (n < 0 && errno == EINTR);
    error = n < 0 ? -errno : (size_t)n < size ? -ENOSPC : 0;
    if (error == 0)
        error = set_made(owner, fd, S_IFLNK | 0777);
    if (error != 0)
        take_back(dir_fd, name, fd, 0);
    close(fd);
    return error;
}

/* ---- changing -------------------------------------------------------------------------------- */

static int look_now(int fd, struct statx *stx)
{
    int error = path_statx(fd, stx);

    return error != 0 ? error : mapped_look(fd, stx, true);
}

static int mapped_chmod(int fd, mode_t mode)
{
    struct statx stx;
    int error = look_now(fd, &stx);

    return error != 0 ? error : set32(fd, PREFIX "mode", (stx.stx_mode & S_IFMT) | mode);
}

/* As the kernel does, a file that gets another owner is no longer set-uid. */
static int mapped_chown(const struct security_owner *owner, int fd, uint32_t uid, uint32_t gid)
{
    struct statx stx;
    int error = look_now(fd, &stx);
    mode_t kept = stx.stx_mode;

    (void)owner;
    if (error == 0)
        error = set32(fd, PREFIX "uid", uid);
    if (error == 0)
        error = set32(fd, PREFIX "gid", gid);
    if (error != 0 || !S_ISREG(stx.stx_mode) || (uid == UNSET && gid == UNSET))
        return error;
    kept &= ~(mode_t)S_ISUID;
    if (kept & S_IXGRP)
        kept &= ~(mode_t)S_ISGID;
    return kept != stx.stx_mode ? set32(fd, PREFIX "mode", kept) : 0;
}

static ssize_t mapped_readlink(int fd, char *target, size_t size)
{
    ssize_t n = readlinkat(fd, "", target, size);
    int file;

    if (n >= 0) /* a symlink of the host's own */
        return n;
    file = path_reopen(fd, O_RDONLY | O_NONBLOCK | O_NOATIME);
    if (file == -EPERM) /* another's file, and the daemon is not root */
        file = path_reopen(fd, O_RDONLY | O_NONBLOCK);
    if (file < 0)
        return file;
    n = pread(file, target, size, 0);
    if (n < 0)
        n = -errno;
    close(file);
    return n;
}

/* ---- xattrs ---------------------------------------------------------------------------------- */

static bool is_mapped_name(const char *name)
{
    return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0 ||
           g_str_has_prefix(name, "security.") || g_str_has_prefix(name, "trusted.");
}

static const char *mapped_host_xattr(const char *name, char *buffer, size_t size)
{
    if (qid_xattr_is_hidden(name))
        return NULL;
    if (g_str_has_prefix(name, "user."))
        return name;
    if (!is_mapped_name(name) || g_strlcpy(buffer, PREFIX, size) >= size ||
        g_strlcat(buffer, name, size) >= size)
        return NULL;
    return buffer;
}

static const char *mapped_client_xattr(const char *name)
{
    if (g_str_has_prefix(name, PREFIX)) {
        name += strlen(PREFIX);
        return is_mapped_name(name) && !qid_xattr_is_hidden(name) ? name : NULL;
    }
    return g_str_has_prefix(name, "user.") && !qid_xattr_is_hidden(name) ? name : NULL;
}

static bool mapped_empty_removes(const char *host_name)
{
    return strcmp(host_name, PREFIX ACL_ACCESS) == 0 || strcmp(host_name, PREFIX ACL_DEFAULT) == 0;
}

const struct security_ops security_mapped = {
    .look = mapped_look,
    .look_entry = mapped_look_entry,
    .create = mapped_create,
    .mkdir = mapped_mkdir,
    .mknod = mapped_mknod,
    .symlink = mapped_symlink,
    .chmod = mapped_chmod,
    .chown = mapped_chown,
    .readlink = mapped_readlink,
    .host_xattr = mapped_host_xattr,
    .client_xattr = mapped_client_xattr,
    .empty_removes = mapped_empty_removes,
};
