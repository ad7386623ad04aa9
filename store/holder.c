/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who has a store open for writing. The answer of an lmdb: store is the first line of its lock file
 * while that is locked, "PID NAME CONTACT"; of an xattr: store what the kernel tells of the lock on
 * the directory. The file is checked as any other: it is shown, and led to a socket.
 */
#include "config.h"

#include "store/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "store/error.h"

static char contact[sizeof((struct qidmap_holder *)0)->contact];

const char *qm_contact(void)
{
    return contact;
}

static gboolean is_plain(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return FALSE;
    }
    return TRUE;
}

int qm_set_contact(const char *text, GError **error)
{
    if (strlen(text) >= sizeof(contact) || !is_plain(text))
        return qm_set_error(error, EINVAL,
                            "a contact is at most %zu bytes without control characters",
                            sizeof(contact) - 1);
    g_strlcpy(contact, text, sizeof(contact));
    return 0;
}

static int nobody(GError **error)
{
    return qm_set_error(error, ENOENT, "no process has it open for writing");
}

static void take_name(struct qidmap_holder *holder, const char *name)
{
    g_strlcpy(holder->name, name, sizeof(holder->name));
    g_strcanon(holder->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-",
               '?');
}

static void parse_line(char *line, struct qidmap_holder *holder)
{
    char *end, *name, *rest;

    line[strcspn(line, "\n")] = '\0';
    holder->pid = g_ascii_isdigit(line[0]) ? g_ascii_strtoll(line, &end, 10) : 0;
    if (holder->pid <= 0 || *end != ' ') {
        holder->pid = 0;
        return;
    }
    name = end + 1;
    rest = strchr(name, ' ');
    if (rest)
        *rest++ = '\0';
    take_name(holder, name);
    if (rest && is_plain(rest) && strlen(rest) < sizeof(holder->contact))
        g_strlcpy(holder->contact, rest, sizeof(holder->contact));
}

static int holder_lmdb(int dir, struct qidmap_holder *holder, GError **error)
{
    char line[512];
    int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    gboolean held;
    ssize_t size;

    if (fd < 0)
        return errno == ENOENT
                   ? nobody(error)
                   : qm_set_error(error, errno, "cannot open its lock file: %s", g_strerror(errno));
    held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    size = pread(fd, line, sizeof(line) - 1, 0);
    close(fd);
    if (!held)
        return nobody(error);
    line[MAX(size, 0)] = '\0';
    parse_line(line, holder);
    return 0;
}

static int holder_xattr(int dir, struct qidmap_holder *holder, GError **error)
{
    g_autofree char *name = NULL;
    long pid;

    if (!qm_flock_holder(dir, &pid, &name))
        return nobody(error);
    holder->pid = pid;
    take_name(holder, name);
    return 0;
}

int qm_store_holder(const char *uri, struct qidmap_holder *holder, GError **error)
{
    gboolean lmdb = g_str_has_prefix(uri, "lmdb:");
    int dir, e;

    if (!lmdb && !g_str_has_prefix(uri, "xattr:"))
        return nobody(error);
    dir = open(strchr(uri, ':') + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return qm_set_error(error, errno, "cannot open the directory: %s", g_strerror(errno));
    e = lmdb ? holder_lmdb(dir, holder, error) : holder_xattr(dir, holder, error);
    close(dir);
    return e;
}
