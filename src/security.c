/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The security modes of exports; passthrough itself. See security.h. */
#include "config.h"

#include "src/security.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/log.h"
#include "src/proto.h"

/* ---- as the host keeps them ------------------------------------------------------------------ */

static int plain_look(int fd, struct statx *stx, bool all)
{
    (void)fd;
    (void)stx;
    (void)all;
    return 0;
}

static int plain_create(const struct security_owner *owner, int dir_fd, const char *name, int flags,
                        mode_t mode)
{
    int error = privs_become_group(owner->user, owner->gid), fd;

    if (error != 0)
        return error;
    do {
        fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        fd = fd < 0 ? -errno : fd;
    } while (fd < 0 && path_relieved(fd)); /* without a descriptor, nothing was made */
    return fd;
}

static int plain_mkdir(const struct security_owner *owner, int dir_fd, const char *name,
                       mode_t mode)
{
    int error = privs_become_group(owner->user, owner->gid);

    if (error != 0)
        return error;
    return mkdirat(dir_fd, name, mode) < 0 ? -errno : 0;
}

static int plain_mknod(const struct security_owner *owner, int dir_fd, const char *name,
                       mode_t type_mode, dev_t device)
{
    int error = privs_become_group(owner->user, owner->gid);

    if (error != 0)
        return error;
    return mknodat(dir_fd, name, type_mode, device) < 0 ? -errno : 0;
}

static int plain_symlink(const struct security_owner *owner, int dir_fd, const char *name,
                         const char *target)
{
    int error = privs_become_group(owner->user, owner->gid);

    if (error != 0)
        return error;
    return symlinkat(target, dir_fd, name) < 0 ? -errno : 0;
}

/* With the new group as the thread's, where the user may give it: the private group of a user whom
 * the host does not know is in no list of groups. */
static int plain_chown(const struct security_owner *owner, int fd, uint32_t uid, uint32_t gid)
{
    int error = privs_become_group(owner->user, gid);

    if (error != 0)
        return error;
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static ssize_t plain_readlink(int fd, char *target, size_t size)
{
    ssize_t n = readlinkat(fd, "", target, size);

    return n < 0 ? -errno : n;
}

static const char *plain_host_xattr(const char *name, char *buffer, size_t size)
{
    (void)buffer;
    (void)size;
    return qid_xattr_is_hidden(name) ? NULL : name;
}

static const char *plain_client_xattr(const char *name)
{
    return qid_xattr_is_hidden(name) ? NULL : name;
}

static bool plain_empty_removes(const char *host_name)
{
    (void)host_name;
    return false; /* the kernel knows */
}

static const struct security_ops plain = {
    .look = plain_look,
    .look_entry = NULL,
    .create = plain_create,
    .mkdir = plain_mkdir,
    .mknod = plain_mknod,
    .symlink = plain_symlink,
    .chmod = path_chmod,
    .chown = plain_chown,
    .readlink = plain_readlink,
    .host_xattr = plain_host_xattr,
    .client_xattr = plain_client_xattr,
    .empty_removes = plain_empty_removes,
};

/* ---- an export's ----------------------------------------------------------------------------- */

static gboolean parse_number(const char *text, uint32_t *number)
{
    char *end;
    unsigned long long value;

    if (!g_ascii_isdigit(text[0]))
        return FALSE;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value >= UINT32_MAX)
        return FALSE;
    *number = (uint32_t)value;
    return TRUE;
}

/* UID:GID, UID or a name. */
static struct privs_user *parse_user(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);
    struct privs_user *user = NULL;
    uint32_t uid, gid;
    int rc;

    if (parts[0] != NULL && parts[1] != NULL) {
        if (parse_number(parts[0], &uid) && parse_number(parts[1], &gid))
            return privs_user_plain(uid, gid, true);
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "squash-user: '%s' is neither UID:GID, nor a UID, nor a name", text);
        return NULL;
    }
    rc = parse_number(text, &uid) ? privs_user_find(uid, "", &user)
                                  : privs_user_find(P9_NONUNAME, text, &user);
    if (rc == 0 && user->known)
        return user;
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "squash-user: the host knows no user '%s'%s%s; give UID:GID", text,
                rc == 0 ? "" : ": ", rc == 0 ? "" : g_strerror(-rc));
    privs_user_unref(user);
    return NULL;
}

static gboolean set_squash(struct security *security, const struct security_settings *settings,
                           bool trusted, GError **error)
{
    security->squash_root_only = settings->squash_root_only;
    if (trusted) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "security=squash and access=trusted contradict each other: choose one");
        return FALSE;
    }
    if (!privs_act_for_others()) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "security=squash needs root, or CAP_SETUID and CAP_SETGID; without them all "
                    "clients act as the daemon's own user anyway: use security=passthrough");
        return FALSE;
    }
    security->squash = settings->squash_user != NULL
                           ? parse_user(settings->squash_user, error)
                           : privs_user_plain(PRIVS_NOBODY, PRIVS_NOBODY, true);
    return security->squash != NULL;
}

struct security *security_new(const char *export_name, const struct security_settings *settings,
                              bool trusted, GError **error)
{
    struct security *security = g_new0(struct security, 1);

    security->mode = settings->mode;
    security->xattrs = settings->xattrs;
    security->ops = settings->mode == SECURITY_MAPPED_XATTR ? &security_mapped : &plain;
    if (settings->mode == SECURITY_SQUASH && !set_squash(security, settings, trusted, error)) {
        g_prefix_error(error, "export '%s': ", export_name);
        security_free(security);
        return NULL;
    }
    return security;
}

void security_free(struct security *security)
{
    if (security == NULL)
        return;
    privs_user_unref(security->squash);
    g_free(security);
}

int security_user(const struct security *security, uint32_t uid, const char *name,
                  struct privs_user **user)
{
    int error;

    if (security->mode == SECURITY_MAPPED_XATTR) {
        *user = privs_user_daemon(uid);
        return 0;
    }
    if (security->squash != NULL && (!security->squash_root_only || uid == 0)) {
        *user = privs_user_ref(security->squash);
        return 0;
    }
    error = privs_user_find(uid, name, user);
    if (error == 0 && security->squash != NULL && (*user)->uid == 0) {
        privs_user_unref(*user);
        *user = privs_user_ref(security->squash);
    }
    return error;
}

void security_look_entries(const struct security *security, int dir_fd, struct qid_dirent *entries,
                           size_t count)
{
    if (security->ops->look_entry == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        struct qid_dirent *entry = &entries[i];

        if (entry->result != 0)
            continue;
        entry->result = security->ops->look_entry(dir_fd, entry->name, &entry->d_type);
        entry->qid.type = entry->d_type == DT_DIR   ? QID_TYPE_DIR
                          : entry->d_type == DT_LNK ? QID_TYPE_SYMLINK
                                                    : QID_TYPE_FILE;
    }
}

/* ---- what is needed -------------------------------------------------------------------------- */

void security_tell_limits(bool all_mapped)
{
    static const struct {
        unsigned cap;
        bool mapped; /* counts with mapped-xattr, too */
        const char *what;
    } limits[] = {
        {CAP_SETUID, false, "to act for the clients' users"},
        {CAP_DAC_OVERRIDE, true, "files that it may not read or write itself"},
        {CAP_DAC_READ_SEARCH, true, "opening by file handle"},
        {CAP_FOWNER, true, "changes of attributes of others' files"},
        {CAP_CHOWN, false, "changes of owners"},
        {CAP_MKNOD, false, "device nodes"},
        {CAP_SYS_ADMIN, false, "trusted.* and security.* xattrs"},
    };
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    g_autoptr(GString) text = g_string_new(NULL);

    memset(caps, 0, sizeof caps);
    if (syscall(SYS_capget, &header, caps) < 0)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++)
        if (!(caps[limits[i].cap / 32].effective & (1u << (limits[i].cap % 32))) &&
            (limits[i].mapped || !all_mapped))
            g_string_append_printf(text, "%s%s", text->len > 0 ? "; " : "", limits[i].what);
    if (text->len > 0)
        log_info("running as uid %u without all capabilities; not possible: %s; see \"Without "
                 "root\" in qidmapd(8)",
                 (unsigned)geteuid(), text->str);
}
