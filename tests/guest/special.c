/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What busybox has no command for, for guest-mapped.sh: sockets and ACLs, made with plain system
 * calls.
 *
 *   special socket FILE        makes a socket
 *   special acl FILE           gives it an ACL with a named user
 *   special default-acl DIR    the same as default ACL
 *   special show FILE          prints both ACLs in hexadecimal
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* Version 2; user::rwx user:1001:r-- group::r-x mask::r-x other::--- */
static const uint8_t acl[] = {2, 0,    0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  4,
                              0, 0xe9, 3,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                              5, 0,    255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255};

static void show(const char *file, const char *name)
{
    uint8_t value[256];
    ssize_t n = lgetxattr(file, name, value, sizeof value);

    printf(" %s=", name);
    for (ssize_t i = 0; i < n; i++)
        printf("%02x", value[i]);
}

int main(int argc, char **argv)
{
    static const char access[] = "system.posix_acl_access", inherit[] = "system.posix_acl_default";
    int rc = -1;

    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "socket") == 0)
        rc = mknod(argv[2], S_IFSOCK | 0755, 0);
    else if (strcmp(argv[1], "acl") == 0)
        rc = setxattr(argv[2], access, acl, sizeof acl, 0);
    else if (strcmp(argv[1], "default-acl") == 0)
        rc = setxattr(argv[2], inherit, acl, sizeof acl, 0);
    else if (strcmp(argv[1], "show") == 0) {
        show(argv[2], access);
        show(argv[2], inherit);
        printf("\n");
        rc = 0;
    }
    if (rc != 0)
        perror(argv[2]);
    return rc != 0;
}
