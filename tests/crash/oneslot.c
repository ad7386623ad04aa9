/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A negative control (LD_PRELOAD, before the recorder): an xattr store with one slot instead of
 * two. What is written to slot B goes to A, over the state that counts. The laboratory must find
 * that out at once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

/* The name, with slot A in place of B. */
static const char *in_one(const char *name, char room[256])
{
    char *p;

    snprintf(room, 256, "%s", name);
    p = strstr(room, "qidmap.b");
    if (p)
        p[strlen("qidmap.")] = 'a';
    return room;
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    char room[256];
    REAL(fsetxattr);

    return real(fd, in_one(name, room), value, size, flags & ~XATTR_CREATE);
}

EXPORT ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    char room[256];
    REAL(fgetxattr);

    return real(fd, in_one(name, room), value, size);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    char room[256];
    REAL(fremovexattr);

    /* What is left over of B is now what A has. */
    if (strcmp(in_one(name, room), name) != 0)
        return 0;
    return real(fd, name);
}
