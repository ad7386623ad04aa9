/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mounts that are kept. See view.h. Knows nothing of namespaces but that the path is the same. */
#include "config.h"

#include "store/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/identity.h"
#include "store/mountinfo.h"

#define STEP  65536
#define TRIES 3

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the position in mountinfo_fd */
static int mountinfo_fd = -1;
static int root_fd = -1; /* set last, once, before other threads ask */

int qm_view_keep(void)
{
    int root, info;

    if (root_fd >= 0)
        return 0;
    info = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (info < 0)
        return -errno;
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        int error = -errno;

        close(info);
        return error;
    }
    mountinfo_fd = info;
    root_fd = root;
    return 0;
}

/* The kernel writes the table anew for whoever reads from its beginning. */
static GPtrArray *read_kept(void)
{
    g_autoptr(GByteArray) content = g_byte_array_new();
    guint used = 0;
    ssize_t n = -1;

    pthread_mutex_lock(&lock);
    if (lseek(mountinfo_fd, 0, SEEK_SET) == 0) {
        do {
            g_byte_array_set_size(content, used + STEP);
            n = read(mountinfo_fd, content->data + used, STEP);
            if (n > 0)
                used += (guint)n;
        } while (n > 0 || (n < 0 && errno == EINTR));
    }
    pthread_mutex_unlock(&lock);
    return n == 0 ? qm_mountinfo_parse((const char *)content->data, used) : NULL;
}

GPtrArray *qm_view_mounts(void)
{
    return root_fd >= 0 ? read_kept() : qm_mountinfo_read(NULL);
}

int qm_view_open(const char *path, int flags)
{
    struct open_how how = {
        .flags = (guint64)(unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd;

    if (root_fd < 0)
        return open(path, flags | O_CLOEXEC);
    while (*path == '/')
        path++;
    do
        fd = (int)syscall(SYS_openat2, root_fd, *path != '\0' ? path : ".", &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    return fd;
}

static gboolean is_same(int a, int b)
{
    struct statx x, y;

    return qm_statx(a, STATX_TYPE | STATX_INO, &x) == 0 &&
           qm_statx(b, STATX_TYPE | STATX_INO, &y) == 0 && x.stx_ino == y.stx_ino &&
           x.stx_dev_major == y.stx_dev_major && x.stx_dev_minor == y.stx_dev_minor &&
           (x.stx_mode & S_IFMT) == (y.stx_mode & S_IFMT);
}

int qm_view_find(const GPtrArray *mounts, int fd)
{
    char link[64], path[4096];
    struct statx stx;
    int found;

    /* Ids of mounts are those of the whole kernel: one that is in the table is of it. */
    if (root_fd < 0 || (qm_statx(fd, STATX_TYPE | STATX_MNT_ID, &stx) == 0 &&
                        qm_mountinfo_find(mounts, stx.stx_mnt_id) != NULL)) {
        found = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return found >= 0 ? found : -errno;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    for (int i = 0; i < TRIES; i++) { /* it may be moved in between */
        ssize_t size = readlink(link, path, sizeof path - 1);

        if (size < 0)
            return -errno;
        if (size == 0 || path[0] != '/' || size == sizeof path - 1)
            break;
        path[size] = '\0';
        found = qm_view_open(path, O_PATH | O_NOFOLLOW);
        if (found < 0)
            continue;
        if (is_same(fd, found))
            return found;
        close(found);
    }
    return -EAGAIN;
}
