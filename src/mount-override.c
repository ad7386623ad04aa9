/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs-id: "PATH=UUID" -> path and 16 bytes. See mount-override.h. */
#include "config.h"

#include "src/mount-override.h"

#include <string.h>

static gboolean parse_uuid(const char *text, guint8 uuid[16])
{
    guint digits = 0;

    memset(uuid, 0, 16);
    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        int value = g_ascii_xdigit_value(*text);
        if (value < 0 || digits == 32)
            return FALSE;
        uuid[digits / 2] = (guint8)(uuid[digits / 2] << 4 | value);
        digits++;
    }
    return digits == 32;
}

static void override_clear(gpointer data)
{
    g_free(((struct mount_override *)data)->path);
}

GArray *mount_overrides_parse(char *const *texts, GError **error)
{
    g_autoptr(GArray) overrides = g_array_new(FALSE, TRUE, sizeof(struct mount_override));

    g_array_set_clear_func(overrides, override_clear);
    for (; texts != NULL && *texts != NULL; texts++) {
        struct mount_override override = {0};
        const char *equals = strrchr(*texts, '=');
        if (equals == NULL || **texts != '/' || !parse_uuid(equals + 1, override.uuid)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "fs-id: '%s': write it as /ABSOLUTE/PATH=UUID", *texts);
            return NULL;
        }
        override.path = g_strndup(*texts, (gsize)(equals - *texts));
        gsize size = strlen(override.path);
        while (size > 1 && override.path[size - 1] == '/')
            override.path[--size] = '\0';
        g_array_append_val(overrides, override);
    }
    return g_steal_pointer(&overrides);
}

const struct mount_override *mount_override_find(const GArray *overrides, const char *path)
{
    for (guint i = 0; i < overrides->len; i++) {
        const struct mount_override *o = &g_array_index(overrides, struct mount_override, i);
        if (strcmp(o->path, path) == 0)
            return o;
    }
    return NULL;
}
