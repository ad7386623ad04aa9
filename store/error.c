/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GError domain of the library and its translation for callers. Text is cut to the caller's array;
 * nothing here allocates on the caller's behalf. Must not know which backend speaks.
 */
#include "config.h"

#include "store/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

G_DEFINE_QUARK(qidmap - error, qm_error)

int qm_set_error(GError **error, int code, const char *format, ...)
{
    va_list args;
    int value = code < 0 ? -code : code;

    if (error) {
        va_start(args, format);
        *error = g_error_new_valist(QM_ERROR, value, format, args);
        va_end(args);
    }
    return -value;
}

static int fill(struct qidmap_error *out, int code, const char *name, const char *text)
{
    if (!out)
        return code;
    out->code = code;
    if (name)
        g_snprintf(out->text, sizeof(out->text), "%s: %s", name, text);
    else
        g_strlcpy(out->text, text, sizeof(out->text));
    return code;
}

int qm_error_export(GError *error, const char *name, struct qidmap_error *out)
{
    int code = -EIO;

    if (!error)
        return fill(out, code, name, "unknown trouble");
    if (error->domain == QM_ERROR && error->code > 0)
        code = -error->code;
    fill(out, code, name, error->message);
    g_error_free(error);
    return code;
}

int qm_error_code(int code, const char *name, struct qidmap_error *out)
{
    const char *text;

    switch (-code) {
    case EUCLEAN:
        text = "the store is damaged; nothing was changed: restore it from a backup";
        break;
    case ENFILE:
        text = "nothing more can be mapped: the counters of the store are used up, or it is an "
               "xattr: store, which keeps no full map: use an lmdb: store";
        break;
    case EROFS:
        text = "the store is open for reading only";
        break;
    case ENOSPC:
        text = "no room for new mappings: make space on the filesystem of the store, or, with an "
               "xattr: store, use an lmdb: one";
        break;
    case EIO:
        text = "a write to the store failed: known ids are served, new ones after what is stored "
               "has been copied to a new generation";
        break;
    case ENOENT:
        text = "no such row or id";
        break;
    case ESTALE:
        text = "the store grew while it was being read: begin again";
        break;
    case EAGAIN:
        text = "too many processes or threads read the store at once: try again";
        break;
    case EPERM:
        text = "the policy of this filesystem is `deny`";
        break;
    case EINVAL:
        text = "an argument is out of its range";
        break;
    default:
        text = g_strerror(-code);
    }
    return fill(out, code, name, text);
}
