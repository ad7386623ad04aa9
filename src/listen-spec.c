/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses to listen on, as text. See listen-spec.h. */
#include "config.h"

#include "src/listen-spec.h"

#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "src/account.h"
#include "src/allow.h"
#include "src/fail.h"

#define CID_LOCAL    1u
#define MODE_DEFAULT 0600 /* who may connect may act as any user: the owner alone */

static gboolean complain(GError **error, const char *text, const char *what)
{
    return fail_usage(error, "listen: %s: %s", text, what);
}

gboolean listen_parse_cid(const char *text, uint32_t *cid)
{
    guint64 value;

    if (strcmp(text, "host") == 0)
        *cid = VMADDR_CID_HOST;
    else if (strcmp(text, "local") == 0)
        *cid = CID_LOCAL;
    else if (g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &value, NULL))
        *cid = (uint32_t)value;
    else
        return FALSE;
    return TRUE;
}

static gboolean parse_unix(const char *path, struct listen_spec *spec, GError **error)
{
    struct sockaddr_un address;

    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return fail_usage(error, "listen: %s: the path must have 1 to %zu bytes", spec->text,
                          sizeof address.sun_path - 1);
    spec->kind = LISTEN_UNIX;
    spec->path = g_strdup(path);
    return TRUE;
}

static gboolean parse_tcp(const char *text, struct listen_spec *spec, GError **error)
{
    const char *colon = strrchr(text, ':');

    if (colon == NULL || colon == text || colon[1] == '\0')
        return complain(error, spec->text, "expected tcp:HOST:PORT");
    /* getaddrinfo() takes larger numbers modulo 65536. */
    if (strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, NULL, NULL))
        return complain(error, spec->text, "the port must be 1 to 65535");
    spec->kind = LISTEN_TCP;
    spec->port = g_strdup(colon + 1);
    if (text[0] == '[' && colon[-1] == ']')
        spec->host = g_strndup(text + 1, (gsize)(colon - text - 2));
    else
        spec->host = g_strndup(text, (gsize)(colon - text));
    if (spec->host[0] == '\0')
        return complain(error, spec->text, "expected tcp:HOST:PORT");
    if (text[0] != '[' && strchr(spec->host, ':') != NULL)
        return complain(error, spec->text, "write an IPv6 address in brackets: tcp:[ADDR]:PORT");
    if (strcmp(spec->host, "*") == 0)
        g_clear_pointer(&spec->host, g_free);
    return TRUE;
}

static gboolean parse_vsock(const char *text, struct listen_spec *spec, GError **error)
{
    const char *colon = strchr(text, ':');
    guint64 port;

    spec->kind = LISTEN_VSOCK;
    spec->cid = VMADDR_CID_ANY;
    if (colon != NULL) {
        g_autofree char *cid = g_strndup(text, (gsize)(colon - text));

        if (strcmp(cid, "any") != 0 && !listen_parse_cid(cid, &spec->cid))
            return complain(error, spec->text,
                            "the context id (CID) of this machine is a number, any, host or local");
        text = colon + 1;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &port, NULL))
        return complain(error, spec->text, "expected vsock:PORT or vsock:CID:PORT");
    spec->vsock_port = (uint32_t)port;
    return TRUE;
}

static gboolean parse_address(struct listen_spec *spec, GError **error)
{
    const char *text = spec->text;

    if (g_str_has_prefix(text, "unix:"))
        return parse_unix(text + strlen("unix:"), spec, error);
    if (g_str_has_prefix(text, "tcp:"))
        return parse_tcp(text + strlen("tcp:"), spec, error);
    if (g_str_has_prefix(text, "vsock:"))
        return parse_vsock(text + strlen("vsock:"), spec, error);
    return complain(error, text, "expected unix:PATH, tcp:HOST:PORT or vsock:[CID:]PORT");
}

static gboolean parse_mode(const char *value, struct listen_spec *spec, GError **error)
{
    guint64 mode;

    if (!g_ascii_string_to_unsigned(value, 8, 0, 0777, &mode, NULL))
        return complain(error, spec->text, "mode= is an octal number up to 0777");
    spec->mode = (mode_t)mode;
    return TRUE;
}

static gboolean parse_option(const char *key, const char *value, struct listen_spec *spec,
                             GError **error)
{
    const char *what;

    if (strcmp(key, "allow") == 0) {
        spec->allow = allow_parse(value, error);
        if (spec->allow == NULL)
            g_prefix_error(error, "listen: %s: ", spec->text);
        return spec->allow != NULL;
    }
    if (spec->kind != LISTEN_UNIX)
        return complain(error, spec->text, "mode=, owner= and group= are for unix: alone");
    if (strcmp(key, "mode") == 0)
        return parse_mode(value, spec, error);
    if (strcmp(key, "owner") == 0 ? account_uid(value, &spec->owner, &what)
                                  : account_gid(value, &spec->group, &what))
        return TRUE;
    return fail_usage(error, "listen: %s: %s=%s: %s", spec->text, key, value, what);
}

/* The first comma before one of our options: paths may have commas, too. */
static const char *find_options(const char *text)
{
    static const char *const keys[] = {",mode=", ",owner=", ",group=", ",allow="};

    for (const char *at = strchr(text, ','); at != NULL; at = strchr(at + 1, ','))
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
            if (g_str_has_prefix(at, keys[i]))
                return at;
    return NULL;
}

static gboolean parse_options(const char *options, struct listen_spec *spec, GError **error)
{
    while (options != NULL) {
        const char *equals = strchr(options, '='), *end;
        g_autofree char *key = g_strndup(options + 1, (gsize)(equals - options - 1));
        g_autofree char *value = NULL;

        end = strcmp(key, "allow") == 0 ? NULL : find_options(equals);
        value =
            end != NULL ? g_strndup(equals + 1, (gsize)(end - equals - 1)) : g_strdup(equals + 1);
        if (!parse_option(key, value, spec, error))
            return FALSE;
        options = end;
    }
    return TRUE;
}

struct listen_spec *listen_spec_parse(const char *text, GError **error)
{
    struct listen_spec *spec = g_new0(struct listen_spec, 1);
    const char *options = find_options(text);

    spec->mode = MODE_DEFAULT;
    spec->owner = (uid_t)-1;
    spec->group = (gid_t)-1;
    spec->text = options != NULL ? g_strndup(text, (gsize)(options - text)) : g_strdup(text);
    if (!parse_address(spec, error) || !parse_options(options, spec, error)) {
        listen_spec_free(spec);
        return NULL;
    }
    return spec;
}

void listen_spec_free(struct listen_spec *spec)
{
    if (spec == NULL)
        return;
    g_free(spec->text);
    g_free(spec->path);
    g_free(spec->host);
    g_free(spec->port);
    allow_free(spec->allow);
    g_free(spec);
}
