/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The object key of a file that is known by its handle. Server and tools must make the same one.
 *
 * The handle of an overlay names the file of a layer. A lower file with several names, of which one
 * was written to through an overlay without index=on, is two files from then on, and both may show
 * the handle of the lower one: its inode number, which differs, is appended. (It is kept when a
 * file with one name is copied up.) Directories have one name, and their handle is enough.
 */
#include "config.h"

#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include <glib.h>

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

/* Types of the handles of overlays, as linux/exportfs.h and fs/overlayfs/overlayfs.h number them.
 */
#define OVERLAY_HANDLE_V0 0xfb
#define OVERLAY_HANDLE_V1 0xf8

int qm_object_by_handle(uint32_t fs, int fd, const char *name, uint64_t ino,
                        struct qidmap_object *object)
{
    static atomic_int not_known; /* the kernel lacks it (before Linux 6.5) */
    union {
        struct file_handle handle;
        uint8_t room[sizeof(struct file_handle) + QIDMAP_HANDLE_BYTES];
    } u;
    int flags = name[0] == '\0' ? AT_EMPTY_PATH : 0, mount_id, rc = -1;
    uint32_t size;

    memset(&u, 0, sizeof(u));
    u.handle.handle_bytes = QIDMAP_HANDLE_BYTES;
    if (!atomic_load(&not_known)) {
        rc = name_to_handle_at(fd, name, &u.handle, &mount_id, flags | AT_HANDLE_FID);
        if (rc != 0 && errno != EINVAL)
            return -errno;
    }
    if (rc != 0) {
        u.handle.handle_bytes = QIDMAP_HANDLE_BYTES;
        if (name_to_handle_at(fd, name, &u.handle, &mount_id, flags) != 0)
            return -errno;
        atomic_store(&not_known, 1);
    }
    size = u.handle.handle_bytes;
    memset(object, 0, sizeof(*object));
    object->fs = fs;
    object->kind = QIDMAP_OBJECT_HANDLE;
    object->handle_type = u.handle.handle_type;
    memcpy(object->handle, u.handle.f_handle, size);
    if (ino != 0 &&
        (u.handle.handle_type == OVERLAY_HANDLE_V0 || u.handle.handle_type == OVERLAY_HANDLE_V1)) {
        if (size + sizeof(ino) > QIDMAP_HANDLE_BYTES)
            return -EOVERFLOW;
        ino = GUINT64_TO_LE(ino);
        memcpy(object->handle + size, &ino, sizeof(ino));
        size += sizeof(ino);
    }
    object->handle_size = (uint8_t)size;
    return 0;
}
