/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that are there as a whole or not at all. See output-file.h. */
#include "config.h"

#include "tools/output-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/cmd.h"

struct output_file {
    char *name, *new_name;
    gboolean replace;
    int fd;
};

static void fail(const char *name, const char *what)
{
    int e = errno;
    g_autofree char *shown = cmd_escape(name, TRUE);
    cmd_error("cannot %s %s: %s", what, shown, g_strerror(e));
}

output_file *output_file_new(const char *name, gboolean replace)
{
    output_file *file;

    if (!replace && g_file_test(name, G_FILE_TEST_EXISTS)) {
        errno = EEXIST;
        fail(name, "write");
        return NULL;
    }
    file = g_new0(output_file, 1);
    file->name = g_strdup(name);
    file->new_name = g_strdup_printf("%s.new-%ld", name, (long)getpid());
    file->replace = replace;
    file->fd = open(file->new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0) {
        fail(file->new_name, "write");
        g_clear_pointer(&file->new_name, g_free); /* not ours */
        output_file_free(file);
        return NULL;
    }
    return file;
}

int output_file_write(output_file *file, const void *bytes, gsize size)
{
    const char *p = bytes;

    while (size > 0) {
        ssize_t n = write(file->fd, p, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENOSPC;
        }
        p += n;
        size -= (gsize)n;
    }
    return 0;
}

static gboolean sync_parent(const char *name)
{
    g_autofree char *parent = g_path_get_dirname(name);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean good = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0) {
        int e = errno;
        close(fd);
        errno = e;
    }
    return good;
}

gboolean output_file_finish(output_file *file)
{
    gboolean good = fsync(file->fd) == 0;

    /* link(2) does not replace. */
    good = good && (file->replace ? rename(file->new_name, file->name)
                                  : link(file->new_name, file->name)) == 0;
    if (good && file->replace) {
        g_clear_pointer(&file->new_name, g_free);
    }
    good = good && sync_parent(file->name);
    if (!good) {
        fail(file->name, "write");
    }
    return good;
}

void output_file_free(output_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->new_name != NULL) {
        (void)unlink(file->new_name);
    }
    g_free(file->new_name);
    g_free(file->name);
    g_free(file);
}
