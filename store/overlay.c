/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The options of an overlay, as the kernel shows them:
 *
 *     lowerdir=/a:/b\:c::/data   folders from the uppermost down; a backslash takes the meaning of
 *                                ':' ',' and itself; behind '::' stand data-only layers
 *     lowerdir+=/a               one folder each, as it is, from Linux 6.8 on
 *     datadir+=/data             data-only
 *     upperdir=/u                backslashes as in lowerdir
 *
 * On top of that mountinfo writes blank, tab, newline, backslash and comma as \ooo.
 */
#include "config.h"

#include "store/overlay.h"

#include <string.h>

#include "store/mountinfo.h"

/* Takes away one level of backslashes. */
static char *plain(const char *text, gsize size)
{
    GString *out = g_string_sized_new(size);

    for (gsize i = 0; i < size; i++) {
        if (text[i] == '\\' && i + 1 < size)
            i++;
        g_string_append_c(out, text[i]);
    }
    return g_string_free(out, FALSE);
}

static void add_lowers(const char *list, GPtrArray *lowers)
{
    gsize start = 0;

    for (gsize i = 0;; i++) {
        if (list[i] == '\\' && list[i + 1] != '\0') {
            i++;
            continue;
        }
        if (list[i] != ':' && list[i] != '\0')
            continue;
        if (i > start)
            g_ptr_array_add(lowers, plain(list + start, i - start));
        if (list[i] == '\0' || list[i + 1] == ':')
            return;
        start = i + 1;
    }
}

void qm_overlay_parse(const char *options, struct qm_overlay_options *out)
{
    memset(out, 0, sizeof *out);
    out->lowers = g_ptr_array_new_with_free_func(g_free);

    while (*options != '\0') {
        gsize length = strcspn(options, ",");
        const char *equals = memchr(options, '=', length);
        if (equals != NULL) {
            gsize name = (gsize)(equals - options);
            g_autofree char *value = qm_mountinfo_unescape(equals + 1, length - name - 1);
            if (name == 8 && strncmp(options, "lowerdir", 8) == 0) {
                add_lowers(value, out->lowers);
            } else if (name == 9 && strncmp(options, "lowerdir+", 9) == 0) {
                g_ptr_array_add(out->lowers, g_steal_pointer(&value));
            } else if (name == 8 && strncmp(options, "upperdir", 8) == 0) {
                g_free(out->upper);
                out->upper = plain(value, strlen(value));
            } else if (name == 4 && strncmp(options, "xino", 4) == 0) {
                out->xino = strcmp(value, "on") == 0 || strcmp(value, "auto") == 0;
            } else if (name == 4 && strncmp(options, "uuid", 4) == 0) {
                out->no_uuid = strcmp(value, "off") == 0;
            }
        }
        options += length;
        options += *options == ',';
    }
}

void qm_overlay_options_clear(struct qm_overlay_options *options)
{
    g_free(options->upper);
    g_ptr_array_unref(options->lowers);
    memset(options, 0, sizeof *options);
}
