/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file `origin`: one line of text, "qidmap-origin 1" and pairs NAME=VALUE, the last of which is
 * the CRC32C of what stands before it.
 *
 *   state        "open" or "stopped"
 *   machine      /etc/machine-id
 *   self         inode and time of birth of this file itself: one that was put back by writing over
 *                it, or by unpacking an archive, tells the numbers of another
 *   data         inode and time of birth of data.mdb
 *   transaction  the newest one when this was written
 *   size, mtime, ctime   of data.mdb at the clean stop
 *
 * None of these changes by a reboot. A snapshot of the whole disk that is rolled back shows
 * nothing: that cannot be told from inside.
 */
#include "config.h"

#include "store/lmdb-origin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/crc.h"

#define NAME     "origin"
#define NEW_NAME "origin.new"
#define ROOM     512

struct file {
    guint64 inode, size;
    gint64 birth, mtime, ctime; /* ns; birth 0: not known */
};

static gint64 ns(struct statx_timestamp t)
{
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int look(int dir_fd, const char *name, struct file *f)
{
    struct statx st;

    memset(f, 0, sizeof(*f));
    if (statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH),
              STATX_BASIC_STATS | STATX_BTIME, &st) != 0)
        return -errno;
    f->inode = st.stx_ino;
    f->size = st.stx_size;
    f->birth = st.stx_mask & STATX_BTIME ? ns(st.stx_btime) : 0;
    f->mtime = ns(st.stx_mtime);
    f->ctime = ns(st.stx_ctime);
    return 0;
}

static void machine_id(char id[33])
{
    g_autofree char *text = NULL;

    memset(id, 0, 33);
    if (g_file_get_contents("/etc/machine-id", &text, NULL, NULL) && strlen(text) >= 32) {
        memcpy(id, text, 32);
        g_strcanon(id, "0123456789abcdef", '-');
    } else {
        id[0] = '-';
    }
}

/* What the line says. */
struct note {
    char state[16], machine[40];
    guint64 self_inode, data_inode, transaction, size;
    gint64 self_birth, data_birth, mtime, ctime;
};

#define FORMAT                                                                                     \
    "qidmap-origin 1 state=%s machine=%s self=%" G_GUINT64_FORMAT ",%" G_GINT64_FORMAT             \
    " data=%" G_GUINT64_FORMAT ",%" G_GINT64_FORMAT " transaction=%" G_GUINT64_FORMAT              \
    " size=%" G_GUINT64_FORMAT " mtime=%" G_GINT64_FORMAT " ctime=%" G_GINT64_FORMAT " "

static int parse(char *text, struct note *n)
{
    char *crc = g_strrstr(text, "crc=");
    unsigned value;
    int end = 0;

    memset(n, 0, sizeof(*n));
    if (!crc || sscanf(crc, "crc=%8x%n", &value, &end) != 1 || strcmp(crc + end, "\n") != 0 ||
        qm_crc32c(0, text, (size_t)(crc - text)) != value)
        return -EUCLEAN;
    return sscanf(text,
                  "qidmap-origin 1 state=%15s machine=%39s self=%" G_GUINT64_FORMAT
                  ",%" G_GINT64_FORMAT " data=%" G_GUINT64_FORMAT ",%" G_GINT64_FORMAT
                  " transaction=%" G_GUINT64_FORMAT " size=%" G_GUINT64_FORMAT
                  " mtime=%" G_GINT64_FORMAT " ctime=%" G_GINT64_FORMAT " ",
                  n->state, n->machine, &n->self_inode, &n->self_birth, &n->data_inode,
                  &n->data_birth, &n->transaction, &n->size, &n->mtime, &n->ctime) == 10
               ? 0
               : -EUCLEAN;
}

enum qm_origin qm_lmdb_origin_read(int gen_fd, guint64 transaction)
{
    int fd = openat(gen_fd, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char text[ROOM], machine[33];
    struct file self, data;
    struct note n;
    ssize_t size;
    int e;

    if (fd < 0)
        return QM_ORIGIN_COPIED;
    size = read(fd, text, sizeof(text) - 1);
    e = look(fd, "", &self);
    close(fd);
    if (size < 0 || e != 0 || look(gen_fd, "data.mdb", &data) != 0)
        return QM_ORIGIN_COPIED;
    text[size] = '\0';
    if (parse(text, &n) != 0 || n.self_inode != self.inode || n.self_birth != self.birth ||
        n.data_inode != data.inode || n.data_birth != data.birth || n.transaction > transaction)
        return QM_ORIGIN_COPIED;
    machine_id(machine);
    if (strcmp(n.state, "stopped") != 0 || n.transaction != transaction)
        return QM_ORIGIN_OPEN;
    if (n.size != data.size || n.mtime != data.mtime)
        return QM_ORIGIN_COPIED; /* nobody committed since, but somebody wrote */
    return n.ctime == data.ctime && strcmp(n.machine, machine) == 0 ? QM_ORIGIN_STOPPED
                                                                    : QM_ORIGIN_OPEN;
}

static int write_note(int fd, int gen_fd, gboolean stopped, guint64 transaction)
{
    g_autofree char *line = NULL, *text = NULL;
    struct file self, data;
    char machine[33];
    size_t size;
    int e = look(fd, "", &self);

    if (e == 0)
        e = look(gen_fd, "data.mdb", &data);
    if (e != 0)
        return e;
    machine_id(machine);
    line = g_strdup_printf(FORMAT, stopped ? "stopped" : "open", machine, self.inode, self.birth,
                           data.inode, data.birth, transaction, data.size, data.mtime, data.ctime);
    text = g_strdup_printf("%scrc=%08x\n", line, qm_crc32c(0, line, strlen(line)));
    size = strlen(text);
    errno = ENOSPC;
    if (write(fd, text, size) != (ssize_t)size || fsync(fd) != 0)
        return -errno;
    return 0;
}

int qm_lmdb_origin_write(int gen_fd, gboolean stopped, guint64 transaction)
{
    int fd, e;

    if (unlinkat(gen_fd, NEW_NAME, 0) != 0 && errno != ENOENT)
        return -errno;
    fd = openat(gen_fd, NEW_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    e = write_note(fd, gen_fd, stopped, transaction);
    if (close(fd) != 0 && e == 0)
        e = -errno;
    if (e == 0 && renameat(gen_fd, NEW_NAME, gen_fd, NAME) != 0)
        e = -errno;
    if (e == 0)
        return fsync(gen_fd) == 0 ? 0 : -errno;
    (void)unlinkat(gen_fd, NEW_NAME, 0);
    return e;
}
