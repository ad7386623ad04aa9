/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What changes names.
 *
 *   Tmkdir    tag dfid[4] name[s] mode[4] gid[4]                        Rmkdir    tag qid[13]
 *   Tmknod    tag dfid[4] name[s] mode[4] major[4] minor[4] gid[4]      Rmknod    tag qid[13]
 *   Tsymlink  tag dfid[4] name[s] symtgt[s] gid[4]                      Rsymlink  tag qid[13]
 *   Tlink     tag dfid[4] fid[4] name[s]                                Rlink     tag
 *   Trename   tag fid[4] dfid[4] name[s]                                Rrename   tag
 *   Trenameat tag olddirfid[4] oldname[s] newdirfid[4] newname[s]       Rrenameat tag
 *   Tunlinkat tag dirfd[4] name[s] flags[4]                             Runlinkat tag
 *   Tremove   tag fid[4]                                                Rremove   tag
 */
#include "config.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "src/export.h"
#include "src/fd-guard.h"
#include "src/locator.h"
#include "src/name-tree.h"
#include "src/op.h"
#include "src/security.h"

#define RENAME_TRIES 100 /* while others make and remove the new name */

int op_check_change(const struct fid *dir, const char *name, size_t len)
{
    int error = op_check_file(dir);

    if (error == 0)
        error = path_check_name(name, len, true);
    if (error == 0 && dir->type != S_IFDIR)
        error = -ENOTDIR;
    if (error == 0 && dir->export->readonly)
        error = -EROFS;
    return error;
}

/* Answers with the qid of what was just made; where that fails the thing stays, as another client
 * may have it already. */
static int put_made(struct request *request, const struct fid *dir, const char *name)
{
    int fd = path_lookup(dir->fd, name), error;
    struct statx stx;
    struct qid qid;

    if (fd < 0)
        return fd;
    error = fid_qid_of(dir, fd, &stx, &qid);
    close(fd);
    if (error == 0)
        wire_put_qid(&request->out, &qid);
    return error;
}

static struct security_owner owner_of(struct request *request)
{
    return (struct security_owner){.user = op_fid(request)->user, .gid = request->msg.gid};
}

static const struct security_ops *kept_by(const struct fid *dir)
{
    return dir->export->security->ops;
}

int op_mkdir(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *dir = op_fid(request);
    const struct security_owner owner = owner_of(request);
    int error = op_check_change(dir, msg->name, msg->name_len);

    if (error == 0)
        error = kept_by(dir)->mkdir(&owner, dir->fd, msg->name, msg->mode & 07777);
    if (error != 0)
        return error;
    return put_made(request, dir, msg->name);
}

int op_mknod(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *dir = op_fid(request);
    const struct security_owner owner = owner_of(request);
    mode_t type = msg->mode & S_IFMT;
    int error = op_check_change(dir, msg->name, msg->name_len);

    if (error != 0)
        return error;
    if (type != 0 && type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR &&
        type != S_IFBLK)
        return type == S_IFDIR ? -EPERM : -EINVAL;
    error = kept_by(dir)->mknod(&owner, dir->fd, msg->name, msg->mode & (S_IFMT | 07777),
                                makedev(msg->major, msg->minor));
    if (error != 0)
        return error;
    return put_made(request, dir, msg->name);
}

int op_symlink(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *dir = op_fid(request);
    const struct security_owner owner = owner_of(request);
    int error = op_check_change(dir, msg->name, msg->name_len);

    if (error == 0 && msg->name2_len == 0)
        error = -ENOENT;
    if (error == 0 && msg->name2_len >= PATH_MAX)
        error = -ENAMETOOLONG;
    if (error == 0)
        error = kept_by(dir)->symlink(&owner, dir->fd, msg->name, msg->name2);
    if (error != 0)
        return error;
    return put_made(request, dir, msg->name);
}

int op_link(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *file = op_fid(request), *dir = op_other_fid(request);
    char path[PATH_PROC_SIZE];
    int error = op_check_file(file);

    if (error == 0)
        error = op_check_change(dir, msg->name, msg->name_len);
    if (error == 0 && file->type == S_IFDIR)
        error = -EPERM;
    if (error == 0 && !export_same(file->export, dir->export))
        error = -EXDEV;
    if (error != 0)
        return error;
    /* The name in /proc is followed to the file itself; if that is a symlink, no further. */
    return linkat(AT_FDCWD, path_proc(file->fd, path), dir->fd, msg->name, AT_SYMLINK_FOLLOW) < 0
               ? -errno
               : 0;
}

/* Where the file stands now. A file that was found again by handle may stand nowhere as far as the
 * kernel knows; then the place that is remembered is looked at. */
static int whereabouts(const struct fid *fid, char *name)
{
    struct locator *locator = fid->slot.locator;
    int dir_fd = -ENOENT;
    struct stat st;

    if (locator != NULL && locator_is_nameless(fid->export, locator, fid->fd)) {
        /* Another name is not taken in its place; but a name may look like a removed one. */
        dir_fd = path_whereabouts(fid->export, fid->fd, name);
        if (dir_fd < 0 || g_str_has_suffix(name, " (deleted)"))
            return dir_fd;
        close(dir_fd);
        return -ENOENT;
    }
    if (locator_knows_better(locator)) {
        dir_fd = locator_whereabouts(fid->export, locator, fid->qid_path, name);
        if (dir_fd == -ENOENT &&
            (locator_has_many(locator) || (fstat(fid->fd, &st) == 0 && st.st_nlink > 1)))
            return dir_fd;
    }
    if (dir_fd < 0)
        dir_fd = path_whereabouts(fid->export, fid->fd, name);
    return dir_fd == -ENOENT ? locator_whereabouts(fid->export, locator, fid->qid_path, name)
                             : dir_fd;
}

/* Two names of one file: a rename leaves both. */
static bool is_same(int a_fd, const char *a, int b_fd, const char *b)
{
    struct stat x, y;

    return fstatat(a_fd, a, &x, AT_SYMLINK_NOFOLLOW) == 0 && x.st_nlink > 1 &&
           fstatat(b_fd, b, &y, AT_SYMLINK_NOFOLLOW) == 0 && x.st_ino == y.st_ino &&
           x.st_dev == y.st_dev && !S_ISDIR(x.st_mode);
}

/* Closed fids of what is replaced get their descriptors first, and those of what is moved learn the
 * new place. */
static int move_once(int from_fd, const char *from_name, int to_fd, const char *to_name)
{
    struct name_rename rename, removal;
    struct fd_guard guard;
    bool nothing = false, vacant;
    int error;

    fd_guard_begin(&guard);
    name_removal_begin_at(&removal, from_fd);
    error = fd_guard_set(&guard, to_fd, to_name);
    vacant = error == -ENOENT;
    if (error == 0 || vacant) {
        name_rename_begin_at(&rename, from_fd);
        nothing = rename.lock != NULL && is_same(from_fd, from_name, to_fd, to_name);
        error = -EINVAL;
        /* What was not there when it was looked for must not be replaced: its fids would lose it.
         */
        if (vacant && renameat2(from_fd, from_name, to_fd, to_name, RENAME_NOREPLACE) == 0)
            error = 0;
        else if (vacant)
            error = -errno;
        /* This is also how filesystems say that they do not know the flag. */
        if (error == -EINVAL)
            error = renameat(from_fd, from_name, to_fd, to_name) < 0 ? -errno : 0;
        if (error == 0 && !nothing)
            name_tree_moved(from_fd, from_name, to_fd, to_name);
        name_rename_end(&rename);
    }
    fd_guard_end(&guard);
    name_rename_end(&removal);
    return vacant && error == -EEXIST ? -EAGAIN : error;
}

static int move(int from_fd, const char *from_name, int to_fd, const char *to_name)
{
    int error = -EAGAIN;

    for (int tries = 0; tries < RENAME_TRIES && error == -EAGAIN; tries++)
        error = move_once(from_fd, from_name, to_fd, to_name);
    return error;
}

static int remove_name(int dir_fd, const char *name, int flags)
{
    struct name_rename removal;
    struct fd_guard guard;
    int error;

    fd_guard_begin(&guard);
    name_removal_begin_at(&removal, dir_fd);
    error = fd_guard_set(&guard, dir_fd, name);
    if (error == 0)
        error = unlinkat(dir_fd, name, flags) < 0 ? -errno : 0;
    fd_guard_end(&guard);
    name_rename_end(&removal);
    return error;
}

int op_renameat(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *from = op_fid(request), *to = op_other_fid(request);
    int error = op_check_change(from, msg->name, msg->name_len);

    if (error == 0)
        error = op_check_change(to, msg->name2, msg->name2_len);
    if (error == 0 && !export_same(from->export, to->export))
        error = -EXDEV;
    return error != 0 ? error : move(from->fd, msg->name, to->fd, msg->name2);
}

int op_rename(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *fid = op_fid(request), *to = op_other_fid(request);
    char name[P9_NAME_MAX + 1];
    int error = op_check_file(fid), dir_fd;

    if (error == 0)
        error = op_check_change(to, msg->name, msg->name_len);
    if (error == 0 && !export_same(fid->export, to->export))
        error = -EXDEV;
    if (error != 0)
        return error;
    dir_fd = whereabouts(fid, name);
    if (dir_fd < 0)
        return dir_fd;
    error = move(dir_fd, name, to->fd, msg->name);
    close(dir_fd);
    return error;
}

int op_unlinkat(struct request *request)
{
    const struct wire_msg *msg = &request->msg;
    struct fid *dir = op_fid(request);
    int error = op_check_change(dir, msg->name, msg->name_len);

    if (error == 0 && (msg->flags & ~P9_DOTL_AT_REMOVEDIR))
        error = -EINVAL;
    if (error != 0)
        return error;
    return remove_name(dir->fd, msg->name, msg->flags & P9_DOTL_AT_REMOVEDIR ? AT_REMOVEDIR : 0);
}

/* Removes a file that Tlcreate made by this fid, where it still has that name and no other.
 * -ENOENT: it has not, or that is not known. */
static int remove_made(const struct fid *fid)
{
    const struct fid_made *made = fid->more != NULL ? fid->more->made : NULL;
    int dir_fd = made != NULL ? fd_cache_borrow(made->dir) : -1, error = -ENOENT;
    struct statx stx;

    if (dir_fd < 0)
        return -ENOENT;
    if (statx(dir_fd, made->name, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_NLINK, &stx) == 0 &&
        stx.stx_ino == made->ino && makedev(stx.stx_dev_major, stx.stx_dev_minor) == made->dev &&
        stx.stx_nlink == 1)
        error = remove_name(dir_fd, made->name, 0);
    fd_cache_return(made->dir);
    return error;
}

int op_remove(struct request *request)
{
    struct fid *fid = op_fid(request);
    char name[P9_NAME_MAX + 1];
    int error = op_check_file(fid), dir_fd;

    if (error == 0 && fid->export->readonly)
        error = -EROFS;
    if (error != 0)
        return error;
    error = remove_made(fid);
    if (error != -ENOENT)
        return error;
    dir_fd = whereabouts(fid, name);
    if (dir_fd < 0)
        return dir_fd;
    error = remove_name(dir_fd, name, fid->type == S_IFDIR ? AT_REMOVEDIR : 0);
    close(dir_fd);
    return error;
}
