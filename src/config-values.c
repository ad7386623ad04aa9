/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values that are more than a word or a number. See config-values.h. */
#include "config.h"

#include "src/config-values.h"

#include "src/accept.h"
#include "src/fail.h"
#include "src/listen-spec.h"
#include "src/mount-override.h"

gboolean config_parse_listen(char *const *texts, GPtrArray *specs, GError **error)
{
    for (; texts != NULL && *texts != NULL; texts++) {
        struct listen_spec *spec = listen_spec_parse(*texts, error);

        if (spec == NULL)
            return FALSE;
        if (specs != NULL)
            g_ptr_array_add(specs, spec);
        else
            listen_spec_free(spec);
    }
    return TRUE;
}

static gboolean parse_fd(const char *text, int *fd)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &value, NULL) || value == 2)
        return FALSE; /* the log goes to 2 */
    *fd = (int)value;
    return TRUE;
}

static gboolean is_taken(const GArray *pairs, const struct accept_pair *new_pair)
{
    for (guint i = 0; i < pairs->len; i++) {
        const struct accept_pair *pair = &g_array_index(pairs, struct accept_pair, i);

        if (pair->in == new_pair->in || pair->in == new_pair->out || pair->out == new_pair->in ||
            pair->out == new_pair->out)
            return TRUE;
    }
    return FALSE;
}

gboolean config_parse_connected(char *const *texts, int ready_fd, GArray *pairs, GError **error)
{
    for (; texts != NULL && *texts != NULL; texts++) {
        g_auto(GStrv) parts = g_strsplit(*texts, ",", 3);
        guint count = g_strv_length(parts);
        struct accept_pair pair;

        if (count < 1 || count > 2 || !parse_fd(parts[0], &pair.in) ||
            !parse_fd(parts[count - 1], &pair.out))
            return fail_usage(
                error,
                "connected-fd: '%s': expected the number of a descriptor that is handed "
                "over, or two: IN,OUT",
                *texts);
        if (is_taken(pairs, &pair) || pair.in == ready_fd || pair.out == ready_fd)
            return fail_usage(error, "connected-fd: '%s': a descriptor is named twice", *texts);
        g_array_append_val(pairs, pair);
    }
    return TRUE;
}

gboolean config_check_fs_ids(char *const *texts, GError **error)
{
    GArray *overrides = mount_overrides_parse(texts, error);

    if (overrides == NULL)
        return FALSE;
    g_array_unref(overrides);
    return TRUE;
}
