/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines of the configuration file. See config-lines.h. */
#include "config.h"

#include "src/config-lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "src/fail.h"

#define FILE_MAX (16 << 20)

struct config_lines {
    char *path, *text;
    GHashTable *numbers; /* "GROUP" or "GROUP\nKEY" -> line */
};

static guint number_of(const struct config_lines *lines, const char *group, const char *key)
{
    g_autofree char *name = key != NULL ? g_strconcat(group, "\n", key, NULL) : g_strdup(group);

    return GPOINTER_TO_UINT(g_hash_table_lookup(lines->numbers, name));
}

/* FALSE where it is there already. */
static gboolean note(struct config_lines *lines, const char *group, const char *key, guint number)
{
    if (number_of(lines, group, key) != 0)
        return FALSE;
    g_hash_table_insert(lines->numbers,
                        key != NULL ? g_strconcat(group, "\n", key, NULL) : g_strdup(group),
                        GUINT_TO_POINTER(number));
    return TRUE;
}

static gboolean read_group(struct config_lines *lines, const char *line, guint number, char **group,
                           GError **error)
{
    const char *end = strrchr(line, ']');

    if (end == NULL || end[1] != '\0')
        return fail_usage(error, "%s:%u: expected [GROUP]", lines->path, number);
    g_free(*group);
    *group = g_strndup(line + 1, (gsize)(end - line - 1));
    if (!note(lines, *group, NULL, number))
        return fail_usage(error, "%s:%u: [%s] is there already, in line %u", lines->path, number,
                          *group, number_of(lines, *group, NULL));
    return TRUE;
}

static gboolean read_key(struct config_lines *lines, const char *line, guint number,
                         const char *group, GError **error)
{
    const char *equals = strchr(line, '=');
    g_autofree char *key = equals != NULL ? g_strndup(line, (gsize)(equals - line)) : NULL;

    if (key == NULL || *g_strchomp(key) == '\0')
        return fail_usage(error, "%s:%u: expected KEY=VALUE, [GROUP] or # and a comment",
                          lines->path, number);
    if (group == NULL)
        return fail_usage(error, "%s:%u: '%s' stands before the first [GROUP]", lines->path, number,
                          key);
    if (!note(lines, group, key, number))
        return fail_usage(error, "%s:%u: '%s' is there already, in line %u", lines->path, number,
                          key, number_of(lines, group, key));
    return TRUE;
}

static gboolean read_lines(struct config_lines *lines, GError **error)
{
    g_auto(GStrv) all = g_strsplit(lines->text, "\n", -1);
    g_autofree char *group = NULL;
    guint number = 0;

    for (char **line = all; *line != NULL; line++) {
        const char *text = g_strstrip(*line);

        number++;
        if (*text == '\0' || *text == '#')
            continue;
        if (*text == '[' ? !read_group(lines, text, number, &group, error)
                         : !read_key(lines, text, number, group, error))
            return FALSE;
    }
    return TRUE;
}

static int open_plainly(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd >= 0 ? fd : -errno;
}

static int (*open_file)(const char *path) = open_plainly;

void config_lines_open_by(int (*opener)(const char *path))
{
    open_file = opener;
}

/* 0 or a negative errno. */
static int read_whole(int fd, GString *text)
{
    char buffer[8192];
    ssize_t n;

    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            g_string_append_len(text, buffer, n);
        if (text->len > FILE_MAX)
            return -EFBIG;
    }
    return 0;
}

static gboolean read_text(const char *path, char **text, gsize *size, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);
    int fd = open_file(path), failed = fd < 0 ? fd : read_whole(fd, all);

    if (fd >= 0)
        close(fd);
    if (failed != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-failed), "%s: %s", path,
                    failed == -ETIMEDOUT ? "its filesystem does not answer" : g_strerror(-failed));
        return FALSE;
    }
    *size = all->len;
    *text = g_string_free(g_steal_pointer(&all), FALSE);
    return TRUE;
}

struct config_lines *config_lines_read(const char *path, GError **error)
{
    struct config_lines *lines = g_new0(struct config_lines, 1);
    gsize size;

    lines->path = g_strdup(path);
    lines->numbers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!read_text(path, &lines->text, &size, error))
        goto bad;
    if (strlen(lines->text) != size) {
        fail_usage(error, "%s: has a NUL byte in it; is it a configuration file?", path);
        goto bad;
    }
    if (read_lines(lines, error))
        return lines;
bad:
    config_lines_free(lines);
    return NULL;
}

void config_lines_free(struct config_lines *lines)
{
    g_free(lines->path);
    g_free(lines->text);
    g_hash_table_unref(lines->numbers);
    g_free(lines);
}

const char *config_lines_text(const struct config_lines *lines)
{
    return lines->text;
}

char *config_lines_where(const struct config_lines *lines, const char *group, const char *key)
{
    guint number = key != NULL ? number_of(lines, group, key) : 0;

    if (number == 0)
        number = number_of(lines, group, NULL);
    return number > 0 ? g_strdup_printf("%s:%u: ", lines->path, number) : g_strdup("");
}

void config_lines_blame(const struct config_lines *lines, const char *group, GError **error)
{
    const char *message, *colon;
    guint number = 0;

    if (error == NULL || *error == NULL)
        return;
    message = (*error)->message;
    colon = strchr(message, ':');
    if (colon != NULL) {
        g_autofree char *key = g_strndup(message, (gsize)(colon - message));

        number = number_of(lines, group, key);
        if (number == 0)
            number = number_of(lines, "daemon", key);
    }
    if (number == 0)
        number = number_of(lines, group, NULL);
    if (number > 0)
        g_prefix_error(error, "%s:%u: ", lines->path, number);
    else
        g_prefix_error(error, "%s: ", lines->path);
}
