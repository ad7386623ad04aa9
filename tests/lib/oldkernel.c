/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * oldkernel: shows a program an older kernel, by LD_PRELOAD. Without unique ids of mounts, numbers
 * of subvolumes in statx(2), handles that need not be decoded, statmount(2), listmount(2) and
 * FS_IOC_GETFSUUID, which came with Linux 6.5 to 6.10. What Debian 12's own kernel lacks, and the
 * development machines' kernel has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNIQUE_IDS   0x4000u
#define SUBVOLUMES   0x8000u
#define HANDLE_FID   0x200
#define STATMOUNT_NR 457
#define LISTMOUNT_NR 458
#define GET_FS_UUID  0x80111500ul /* FS_IOC_GETFSUUID, Linux 6.9 */

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict stx)
{
    unsigned lacking = UNIQUE_IDS | SUBVOLUMES;
    long rc = syscall(SYS_statx, fd, path, flags, mask & ~lacking, stx);

    if (rc == 0)
        stx->stx_mask &= ~lacking;
    return (int)rc;
}

int name_to_handle_at(int fd, const char *path, struct file_handle *handle, int *mount_id,
                      int flags)
{
    if (flags & HANDLE_FID) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_name_to_handle_at, fd, path, handle, mount_id, flags);
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    va_list args;
    long a[6];

    if (number == STATMOUNT_NR || number == LISTMOUNT_NR) {
        errno = ENOSYS;
        return -1;
    }
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]); /* those that are there count */
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;

    if (request == GET_FS_UUID) {
        errno = ENOTTY;
        return -1;
    }
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    return (int)syscall(SYS_ioctl, fd, request, argument);
}
