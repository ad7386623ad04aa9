/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the manifest reader. Promise: whatever the bytes, each call ends in a file, an
 * error or the end; paths that it gives ascend, ids are in their range, filesystems are known; and
 * what was read to the end is, written again, the same to the byte.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("manifest", MFD_CLOEXEC);
    check(fd >= 0 && (size == 0 || write(fd, bytes, size) == (ssize_t)size));
    check(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* Filesystems that came since the file before. */
static guint32 copy_fs(manifest_reader *reader, manifest_writer *writer, guint32 written)
{
    const struct manifest_fs *fs;
    while ((fs = manifest_reader_fs(reader, written + 1)) != NULL) {
        check(fs->n == written + 1 && fs->path != NULL);
        manifest_writer_fs(writer, fs);
        written++;
    }
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qidmap_error error = {0};
    struct manifest_file file;
    manifest_reader *reader;
    g_autofree char *before = NULL;
    guint32 written = 0;
    int code = manifest_reader_new(file_of(data, size), &reader, &error);

    if (code < 0) {
        check(error.code == code && error.text[0] != '\0');
        return 0;
    }
    int fd = memfd_create("again", MFD_CLOEXEC);
    manifest_writer *writer = manifest_writer_new(fd, manifest_reader_header(reader));
    while ((code = manifest_reader_next(reader, &file, &error)) > 0) {
        check(before == NULL || manifest_path_compare(before, file.path) < 0);
        check(file.id == 0 || (file.id >= MANIFEST_ID_MIN && file.id < MANIFEST_ID_END));
        check(file.type == MANIFEST_UNKNOWN || manifest_reader_fs(reader, file.fs) != NULL);
        g_free(before);
        before = g_strdup(file.path);
        written = copy_fs(reader, writer, written);
        check(manifest_writer_file(writer, &file) == 0);
    }
    check(code == 0 || (error.code == code && error.text[0] != '\0'));
    if (code == 0) {
        copy_fs(reader, writer, written);
        check(manifest_writer_end(writer) == 0);
        off_t end = lseek(fd, 0, SEEK_END);
        void *again = end > 0 ? mmap(NULL, (size_t)end, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        check(again != MAP_FAILED && (size_t)end == size);
        check(memcmp(again, data, size) == 0);
        munmap(again, (size_t)end);
    }
    manifest_writer_free(writer);
    manifest_reader_close(reader);
    close(fd);
    return 0;
}
