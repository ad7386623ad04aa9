/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads /proc/self/mountinfo. A mount is opened by its path, and taken only where the file that is
 * found there says that it is on that mount.
 */
#include "config.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/mounts.h"

static void line_free(gpointer data)
{
    struct mount_line *line = data;
    g_free(line->root);
    g_free(line->path);
    g_free(line->type);
    g_free(line);
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static char *unescape(const char *text)
{
    GString *out = g_string_new(NULL);
    while (*text != '\0') {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
            text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
            g_string_append_c(
                out, (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0')));
            text += 4;
        } else {
            g_string_append_c(out, *text++);
        }
    }
    return g_string_free(out, FALSE);
}

static struct mount_line *parse(const char *text)
{
    g_auto(GStrv) fields = g_strsplit(text, " ", -1);
    guint count = g_strv_length(fields);
    guint dash = 6;
    guint64 id;

    while (dash < count && strcmp(fields[dash], "-") != 0) {
        dash++;
    }
    if (dash + 1 >= count || !cmd_number(fields[0], &id)) {
        return NULL;
    }
    struct mount_line *line = g_new0(struct mount_line, 1);
    line->id = id;
    line->root = unescape(fields[3]);
    line->path = unescape(fields[4]);
    line->type = unescape(fields[dash + 1]);
    return line;
}

GPtrArray *mounts_read(void)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(line_free);
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL)) {
        return lines;
    }
    g_auto(GStrv) all = g_strsplit(text, "\n", -1);
    for (char **one = all; *one != NULL; one++) {
        struct mount_line *line = parse(*one);
        if (line != NULL) {
            g_ptr_array_add(lines, line);
        }
    }
    return lines;
}

int mounts_open(const struct mount_line *line, struct statx *st)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH;
    int fd = open(line->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        return -1;
    }
    if (statx(fd, "", flags, STATX_BASIC_STATS | STATX_MNT_ID, st) < 0 ||
        ((st->stx_mask & STATX_MNT_ID) != 0 && st->stx_mnt_id != line->id)) {
        close(fd);
        return -1;
    }
    return fd;
}

gboolean mounts_is_below(const char *path, const char *folder, const char **below)
{
    gsize size = strlen(folder);

    while (size > 0 && folder[size - 1] == '/') {
        size--;
    }
    if (strncmp(path, folder, size) != 0 || (path[size] != '/' && path[size] != '\0')) {
        return FALSE;
    }
    *below = path[size] == '/' ? path + size + 1 : path + size;
    return TRUE;
}
