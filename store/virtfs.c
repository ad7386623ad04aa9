/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The layout in which a patch of 2019 kept the table of another 9P server, so that people can look
 * at what they have. It was never merged, and its text is all that defines it. Our reading:
 *
 *   The xattrs user.virtfs.system.qidp.0, .1, .2 ... of the exported directory, one after the
 *   other, are one run of bytes, cut wherever a value was full (65,535 or 65,536 bytes); the first
 *   number that is missing ends it. The run, little-endian:
 *     0 u16 version: 1    2 u16 reserved    4 u32 CRC32C of all that follows (RFC 3720, with the
 *     final inversion)    8 entries of 10 bytes: u64 st_dev, u16 ino_prefix
 *   The entry at place i (from 0) has the suffix of index i + 1; ino_prefix is the value of the 16
 *   highest bits of the inode numbers that it covers.
 */
#include "config.h"

#include "store/virtfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/error.h"

#define PREFIX      "user.virtfs.system.qidp."
#define VALUE_MAX   65536u
#define CHUNKS_MAX  1024u
#define HEADER_SIZE 8u
#define ENTRY_SIZE  10u

static guint64 get_le(const guint8 *p, gsize size)
{
    guint64 value = 0;

    while (size-- > 0)
        value = value << 8 | p[size];
    return value;
}

int qm_virtfs_parse(const void *bytes, gsize size, qm_virtfs_row row, void *data)
{
    const guint8 *p = bytes;
    gsize count, i;

    if (size < HEADER_SIZE || get_le(p, 2) == 0)
        return -EUCLEAN;
    if (get_le(p, 2) != 1)
        return -EPROTO;
    if ((size - HEADER_SIZE) % ENTRY_SIZE != 0 ||
        qm_crc32c(0, p + HEADER_SIZE, size - HEADER_SIZE) != get_le(p + 4, 4))
        return -EUCLEAN;
    count = (size - HEADER_SIZE) / ENTRY_SIZE;
    for (i = 0; i < count; i++) {
        const guint8 *e = p + HEADER_SIZE + i * ENTRY_SIZE;
        struct qidmap_virtfs_entry entry = {
            .index = (guint32)i + 1,
            .ino_prefix = (guint16)get_le(e + 8, 2),
            .dev = get_le(e, 8),
        };
        int r = row(&entry, data);

        if (r != 0)
            return r;
    }
    return 0;
}

/* All chunks, one after the other; NULL and an errno where one cannot be read. */
static GByteArray *read_all(int fd, int *code)
{
    g_autofree guint8 *value = g_malloc(VALUE_MAX);
    GByteArray *all = g_byte_array_new();
    guint i;

    *code = 0;
    for (i = 0; i < CHUNKS_MAX; i++) {
        char name[sizeof(PREFIX) + 12];
        ssize_t n;

        snprintf(name, sizeof(name), PREFIX "%u", i);
        n = fgetxattr(fd, name, value, VALUE_MAX);
        if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
            break;
        if (n < 0) {
            *code = -errno;
            g_byte_array_unref(all);
            return NULL;
        }
        g_byte_array_append(all, value, (guint)n);
    }
    if (i > 0)
        return all;
    *code = -ENOENT;
    g_byte_array_unref(all);
    return NULL;
}

int qm_virtfs_read(const char *dir, qm_virtfs_row row, void *data, GError **error)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), e;
    GByteArray *all;

    if (fd < 0)
        return qm_set_error(error, errno, "cannot open the directory: %s", g_strerror(errno));
    all = read_all(fd, &e);
    close(fd);
    if (e == -ENOENT)
        return qm_set_error(error, e, "no table of 2019 there: no xattr " PREFIX "0");
    if (e != 0)
        return qm_set_error(error, e, "cannot read the xattrs " PREFIX "N: %s", g_strerror(-e));
    e = qm_virtfs_parse(all->data, all->len, row, data);
    g_byte_array_unref(all);
    if (e == -EUCLEAN)
        return qm_set_error(error, e,
                            "the table in " PREFIX "N is damaged: its size or its "
                            "checksum is wrong");
    if (e == -EPROTO)
        return qm_set_error(error, e, "the table in " PREFIX "N has another version than 1");
    return e;
}
