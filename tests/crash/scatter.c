/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For LD_PRELOAD: statx(2) tells inode numbers scattered over 64 bits, as filesystems with hashed
 * inodes have them, for regular files. One to one, and the same in every process. So a server has
 * something to write for nearly every new file.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <dlfcn.h>
#include <stdint.h>
#include <sys/stat.h>

__attribute__((visibility("default"))) int statx(int dir, const char *restrict path, int flags,
                                                 unsigned mask, struct statx *restrict st)
{
    static __typeof__(&statx) real;
    int r;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "statx");
    r = real(dir, path, flags, mask, st);
    if (r == 0 && S_ISREG(st->stx_mode))
        st->stx_ino *= UINT64_C(0x9e3779b97f4a7c15); /* odd: one to one modulo 2^64 */
    return r;
}
