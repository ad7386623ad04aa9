/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads mountinfo (proc_pid_mountinfo(5)):
 *
 *     36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue
 *     id parent major:minor root path options tags... - type source super-options
 *
 * The kernel writes blank, tab, newline and backslash within a field as \ooo. Owns nothing but the
 * text form; what a filesystem is, is not its business.
 */
#include "config.h"

#include "store/mountinfo.h"

#include <string.h>

/* Takes the next blank-separated field of [*at, end); FALSE at the end of the line. */
static gboolean next_field(const char **at, const char *end, const char **field, gsize *size)
{
    const char *p = *at;

    while (p < end && *p == ' ')
        p++;
    if (p == end)
        return FALSE;
    const char *blank = memchr(p, ' ', (gsize)(end - p));
    if (blank == NULL)
        blank = end;
    *field = p;
    *size = (gsize)(blank - p);
    *at = blank;
    return TRUE;
}

/* Undoes \ooo; anything else after a backslash is taken as it stands. A NUL ends the string, since
 * no path can hold one. */
char *qm_mountinfo_unescape(const char *field, gsize size)
{
    GString *out = g_string_sized_new(size);

    for (gsize i = 0; i < size; i++) {
        char c = field[i];
        if (c == '\\' && size - i > 3 && field[i + 1] >= '0' && field[i + 1] <= '3' &&
            field[i + 2] >= '0' && field[i + 2] <= '7' && field[i + 3] >= '0' &&
            field[i + 3] <= '7') {
            c = (char)((field[i + 1] - '0') << 6 | (field[i + 2] - '0') << 3 |
                       (field[i + 3] - '0'));
            i += 3;
        }
        if (c == '\0')
            break;
        g_string_append_c(out, c);
    }
    return g_string_free(out, FALSE);
}

/* A decimal number that fills the field wholly. */
static gboolean parse_number(const char *field, gsize size, guint64 max, guint64 *number)
{
    guint64 value = 0;

    if (size == 0)
        return FALSE;
    for (gsize i = 0; i < size; i++) {
        if (field[i] < '0' || field[i] > '9')
            return FALSE;
        guint digit = (guint)(field[i] - '0');
        if (value > (max - digit) / 10)
            return FALSE;
        value = value * 10 + digit;
    }
    *number = value;
    return TRUE;
}

/* TRUE when "ro" is one of the comma-separated options. */
static gboolean has_ro(const char *options, gsize size)
{
    for (gsize i = 0; i < size;) {
        const char *comma = memchr(options + i, ',', size - i);
        gsize length = comma != NULL ? (gsize)(comma - options) - i : size - i;
        if (length == 2 && memcmp(options + i, "ro", 2) == 0)
            return TRUE;
        i += length + 1;
    }
    return FALSE;
}

static struct qm_mount *parse_line(const char *line, const char *end)
{
    const char *field[6], *tag, *type, *source, *options;
    gsize size[6], tag_size, type_size, source_size, options_size;
    guint64 id, parent, major, minor;

    for (int i = 0; i < 6; i++) {
        if (!next_field(&line, end, &field[i], &size[i]))
            return NULL;
    }
    do { /* optional tags, up to a lone hyphen */
        if (!next_field(&line, end, &tag, &tag_size))
            return NULL;
    } while (tag_size != 1 || *tag != '-');
    if (!next_field(&line, end, &type, &type_size))
        return NULL;

    /* An empty source leaves two blanks in a row, so that what follows is the options. */
    if (line < end && line + 1 < end && line[1] == ' ') {
        source = "";
        source_size = 0;
    } else if (!next_field(&line, end, &source, &source_size)) {
        return NULL;
    }
    if (!next_field(&line, end, &options, &options_size)) {
        options = "";
        options_size = 0;
    }

    const char *colon = memchr(field[2], ':', size[2]);
    if (colon == NULL || !parse_number(field[0], size[0], G_MAXUINT64, &id) ||
        !parse_number(field[1], size[1], G_MAXUINT64, &parent) ||
        !parse_number(field[2], (gsize)(colon - field[2]), G_MAXUINT32, &major) ||
        !parse_number(colon + 1, size[2] - (gsize)(colon - field[2]) - 1, G_MAXUINT32, &minor))
        return NULL;

    struct qm_mount *mount = g_new0(struct qm_mount, 1);
    mount->id = id;
    mount->parent = parent;
    mount->major = (guint32)major;
    mount->minor = (guint32)minor;
    mount->root = qm_mountinfo_unescape(field[3], size[3]);
    mount->path = qm_mountinfo_unescape(field[4], size[4]);
    mount->readonly = has_ro(field[5], size[5]) || has_ro(options, options_size);
    mount->type = qm_mountinfo_unescape(type, type_size);
    mount->source = qm_mountinfo_unescape(source, source_size);
    mount->options = g_strndup(options, options_size);
    return mount;
}

void qm_mount_free(struct qm_mount *mount)
{
    if (mount == NULL)
        return;
    g_free(mount->root);
    g_free(mount->path);
    g_free(mount->type);
    g_free(mount->source);
    g_free(mount->options);
    g_free(mount);
}

char *qm_mount_option(const char *options, const char *name)
{
    gsize size = strlen(name);

    while (*options != '\0') {
        gsize length = strcspn(options, ",");
        if (length >= size && strncmp(options, name, size) == 0) {
            if (length == size)
                return g_strdup("");
            if (options[size] == '=')
                return qm_mountinfo_unescape(options + size + 1, length - size - 1);
        }
        options += length;
        options += *options == ',';
    }
    return NULL;
}

GPtrArray *qm_mountinfo_parse(const char *buffer, gsize size)
{
    GPtrArray *mounts = g_ptr_array_new_with_free_func((GDestroyNotify)qm_mount_free);
    const char *end = buffer + size;

    for (const char *line = buffer; line < end;) {
        const char *newline = memchr(line, '\n', (gsize)(end - line));
        if (newline == NULL)
            newline = end;
        struct qm_mount *mount = parse_line(line, newline);
        if (mount != NULL)
            g_ptr_array_add(mounts, mount);
        line = newline + 1;
    }
    return mounts;
}

GPtrArray *qm_mountinfo_read(GError **error)
{
    g_autofree char *buffer = NULL;
    gsize size = 0;

    if (!g_file_get_contents("/proc/self/mountinfo", &buffer, &size, error))
        return NULL;
    return qm_mountinfo_parse(buffer, size);
}

const struct qm_mount *qm_mountinfo_find(const GPtrArray *mounts, guint64 id)
{
    for (guint i = 0; i < mounts->len; i++) {
        const struct qm_mount *mount = g_ptr_array_index(mounts, i);
        if (mount->id == id)
            return mount;
    }
    return NULL;
}

GPtrArray *qm_mountinfo_below(const GPtrArray *mounts, const char *path)
{
    GPtrArray *below = g_ptr_array_new();
    gsize size = strlen(path);

    while (size > 0 && path[size - 1] == '/')
        size--;
    for (guint i = 0; i < mounts->len; i++) {
        struct qm_mount *mount = g_ptr_array_index(mounts, i);
        if (strncmp(mount->path, path, size) == 0 &&
            (mount->path[size] == '/' || mount->path[size] == '\0'))
            g_ptr_array_add(below, mount);
    }
    return below;
}
