/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log that record.c writes and states.c reads: one header for each file operation that
 * succeeded, in the order in which they ended, then the path, the second path and the data. Paths
 * are relative to the recorded directory, "" is that directory itself. Host byte order.
 */
#ifndef TESTS_CRASH_RECORD_H
#define TESTS_CRASH_RECORD_H

#include <stdint.h>

enum record_op {
    RECORD_CREATE = 1, /* path: a new regular file, ino */
    RECORD_MKDIR,      /* path, ino; the first record is that of "" */
    RECORD_WRITE,      /* ino, offset, data; flags */
    RECORD_TRUNCATE,   /* ino, offset: the new size */
    RECORD_ALLOCATE,   /* ino, offset: the size is at least this */
    RECORD_SYNC,       /* ino: of a file or a directory; 0: of everything */
    RECORD_RENAME,     /* path to path2 */
    RECORD_UNLINK,     /* path: a file or an empty directory */
    RECORD_SETXATTR,   /* ino, path2: the name, data: the value */
    RECORD_DELXATTR    /* ino, path2 */
};

enum { RECORD_DSYNC = 1 }; /* WRITE: through a descriptor with O_DSYNC */

struct record_head {
    uint32_t op;
    uint32_t flags;
    uint64_t ino;
    uint64_t offset;
    uint32_t path;  /* bytes of the path */
    uint32_t path2; /* ... and of the other */
    uint64_t data;
};

#endif
