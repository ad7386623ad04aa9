/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the source and the options of a mount mean. They come from fstab or a command line, so that
 * mistakes are likely; the kernel's 9p client passes over words that it does not know, and a mount
 * with a misspelt option would be another one than was asked for. Opens nothing.
 */
#include "config.h"

#include <libmount.h>
#include <string.h>
#include <sys/un.h>

#include "tools/mount-qidmap.h"

G_DEFINE_QUARK(qidmap - mount, mount_error)

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (error != NULL) {
        *error = g_error_new_valist(MOUNT_ERROR, 0, format, arguments);
    }
    va_end(arguments);
    return FALSE;
}

/* Decimal digits alone: no sign, no space. */
static gboolean parse_number(const char *text, guint64 min, guint64 max, guint64 *number)
{
    return g_ascii_isdigit(text[0]) && g_ascii_string_to_unsigned(text, 10, min, max, number, NULL);
}

static gboolean has_control_bytes(const char *text)
{
    for (; *text != '\0'; text++) {
        if (g_ascii_iscntrl(*text)) {
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean quotes_are_pairs(const char *text)
{
    gboolean open = FALSE;

    for (; *text != '\0'; text++) {
        if (text[0] == '\\' && text[1] == '"') {
            return FALSE; /* an escaped one, which versions of libmount read differently */
        }
        if (*text == '"') {
            open = !open;
        }
    }
    return !open;
}

/* ---- the source ------------------------------------------------------------------------------ */

static gboolean parse_vsock(const char *text, const char *rest, struct mount_source *source,
                            GError **error)
{
    const char *colon = strchr(rest, ':');
    g_autofree char *cid = colon != NULL ? g_strndup(rest, (gsize)(colon - rest)) : g_strdup(rest);
    guint64 number, port = MOUNT_PORT;

    if (strcmp(cid, "host") == 0) {
        number = 2;
    } else if (strcmp(cid, "local") == 0) {
        number = 1;
    } else if (!parse_number(cid, 1, UINT32_MAX - 1, &number)) {
        return fail(error, "%s: the CID of a vsock is a number, host or local; the host is 2",
                    text);
    }
    if (colon != NULL && !parse_number(colon + 1, 1, UINT32_MAX - 1, &port)) {
        return fail(error, "%s: the port of a vsock is a number from 1 to 4294967294", text);
    }
    source->transport = MOUNT_VSOCK;
    source->cid = (uint32_t)number;
    source->port = (uint32_t)port;
    return TRUE;
}

static gboolean parse_tcp(const char *text, const char *rest, struct mount_source *source,
                          GError **error)
{
    const char *end, *port_text = NULL;
    guint64 port = MOUNT_PORT;

    if (rest[0] == '[') {
        rest++;
        end = strchr(rest, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return fail(error, "%s: expected tcp:[ADDRESS]:PORT", text);
        }
        port_text = end[1] == ':' ? end + 2 : NULL;
    } else {
        end = strchr(rest, ':');
        if (end != NULL && strchr(end + 1, ':') != NULL) {
            return fail(error, "%s: an address of IPv6 stands in brackets, tcp:[ADDRESS]:PORT",
                        text);
        }
        port_text = end != NULL ? end + 1 : NULL;
        end = end != NULL ? end : rest + strlen(rest);
    }
    if (end == rest) {
        return fail(error, "%s: no host in it; expected tcp:HOST:PORT", text);
    }
    if (port_text != NULL && !parse_number(port_text, 1, 65535, &port)) {
        return fail(error, "%s: the port is a number from 1 to 65535", text);
    }
    source->transport = MOUNT_TCP;
    source->port = (uint32_t)port;
    source->host = g_strndup(rest, (gsize)(end - rest));
    return TRUE;
}

static gboolean parse_unix(const char *text, const char *rest, struct mount_source *source,
                           GError **error)
{
    const struct sockaddr_un *address = NULL;

    if (rest[0] != '/') {
        return fail(error, "%s: the path of a unix socket is absolute", text);
    }
    if (strlen(rest) >= sizeof(address->sun_path)) {
        return fail(error, "%s: the path of a unix socket has at most %zu bytes", text,
                    sizeof(address->sun_path) - 1);
    }
    source->transport = MOUNT_UNIX;
    source->path = g_strdup(rest);
    return TRUE;
}

gboolean mount_source_parse(const char *text, struct mount_source *source, GError **error)
{
    memset(source, 0, sizeof(*source));
    if (has_control_bytes(text)) {
        return fail(error, "the source has control characters in it");
    }
    if (g_str_has_prefix(text, "vsock:")) {
        return parse_vsock(text, text + strlen("vsock:"), source, error);
    }
    if (g_str_has_prefix(text, "tcp:")) {
        return parse_tcp(text, text + strlen("tcp:"), source, error);
    }
    if (g_str_has_prefix(text, "unix:")) {
        return parse_unix(text, text + strlen("unix:"), source, error);
    }
    return fail(error, "%s: expected vsock:CID:PORT, tcp:HOST:PORT or unix:PATH", text);
}

void mount_source_clear(struct mount_source *source)
{
    g_clear_pointer(&source->host, g_free);
    g_clear_pointer(&source->path, g_free);
}

/* ---- options --------------------------------------------------------------------------------- */

enum value { NONE, MAYBE, NEEDED };

/* What the kernel's 9p client takes (fs/9p and net/9p of Linux 5.10 to 6.18), and is not ours. */
static const struct {
    const char *name;
    enum value value;
} client_options[] = {
    {"access", NEEDED},  {"cache", NEEDED},       {"cachetag", NEEDED}, {"debug", NEEDED},
    {"dfltgid", NEEDED}, {"dfltuid", NEEDED},     {"directio", NONE},   {"ignoreqv", NONE},
    {"nodevmap", NONE},  {"locktimeout", NEEDED}, {"noxattr", NONE},    {"posixacl", NONE},
    {"uname", NEEDED},
};

/* Words of security modules, which the kernel reads for every filesystem. */
static const char *const security_options[] = {
    "context",    "defcontext",   "fscontext",  "rootcontext", "seclabel",
    "smackfsdef", "smackfsfloor", "smackfshat", "smackfsroot", "smackfstransmute",
};

/* Words of fstab that libmount's table has no line for. */
static gboolean is_for_others(const char *name)
{
    return g_ascii_strncasecmp(name, "x-", 2) == 0 || strcmp(name, "_netdev") == 0 ||
           strcmp(name, "defaults") == 0 || strcmp(name, "comment") == 0;
}

/* In a table of libmount, "name", "name=TYPE" or "name[=TYPE]". */
static gboolean in_map(int map, const char *name)
{
    const struct libmnt_optmap *entry = mnt_get_builtin_optmap(map);

    for (; entry != NULL && entry->name != NULL; entry++) {
        if (strcspn(entry->name, "=[") == strlen(name) &&
            strncmp(entry->name, name, strlen(name)) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean is_security(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(security_options); i++) {
        if (strcmp(security_options[i], name) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

/* TRUE: an option of the client, with a value where it wants one. *known: it is one at all. */
static gboolean check_client(const char *name, const char *value, gboolean *known, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(client_options); i++) {
        enum value wanted = client_options[i].value;

        if (strcmp(client_options[i].name, name) != 0) {
            continue;
        }
        *known = TRUE;
        if (wanted == NEEDED && (value == NULL || value[0] == '\0')) {
            return fail(error, "option %s wants a value", name);
        }
        if (wanted == NONE && value != NULL) {
            return fail(error, "option %s has no value", name);
        }
        return TRUE;
    }
    *known = FALSE;
    return TRUE;
}

static void append(GString *list, const char *name, const char *value)
{
    if (list->len > 0) {
        g_string_append_c(list, ',');
    }
    g_string_append(list, name);
    if (value != NULL) {
        g_string_append_printf(list, "=%s", value);
    }
}

static gboolean read_msize(const char *value, struct mount_options *options, GError **error)
{
    guint64 number;

    if (value == NULL || !parse_number(value, MOUNT_MSIZE_MIN, MOUNT_MSIZE_MAX, &number)) {
        return fail(error, "msize= is a number of bytes from %u to %u", MOUNT_MSIZE_MIN,
                    MOUNT_MSIZE_MAX);
    }
    options->msize = (uint32_t)number;
    return TRUE;
}

static gboolean read_retry(const char *value, struct mount_options *options, GError **error)
{
    guint64 number;

    if (value == NULL || !parse_number(value, 0, MOUNT_RETRY_MAX, &number)) {
        return fail(error, "retry= is a number of seconds from 0 to %d", MOUNT_RETRY_MAX);
    }
    options->retry = (unsigned)number;
    return TRUE;
}

/* An option that is ours: FALSE with *error NULL where it is none. */
static gboolean take_own(const char *name, const char *value, struct mount_options *options,
                         GError **error)
{
    if (strcmp(name, "aname") == 0) {
        if (value == NULL) {
            return fail(error, "aname= wants the name of an export");
        }
        g_free(options->aname);
        options->aname = g_strdup(value);
        return TRUE;
    }
    if (strcmp(name, "msize") == 0) {
        return read_msize(value, options, error);
    }
    if (strcmp(name, "retry") == 0) {
        return read_retry(value, options, error);
    }
    if (strcmp(name, "version") == 0) {
        if (value == NULL || g_ascii_strcasecmp(value, "9p2000.L") != 0) {
            return fail(error, "version=%s: only 9p2000.L is spoken", value != NULL ? value : "");
        }
        return TRUE;
    }
    if (strcmp(name, "trans") == 0 || strcmp(name, "rfdno") == 0 || strcmp(name, "wfdno") == 0 ||
        strcmp(name, "port") == 0 || strcmp(name, "privport") == 0) {
        return fail(error,
                    "option %s: the source says how the host is reached (vsock:CID:PORT, "
                    "tcp:HOST:PORT, unix:PATH)",
                    name);
    }
    return FALSE;
}

/*
 * libmount lets commas stand in quotes; the kernel's 9p client splits at each comma. Only labels of
 * security modules have them, and never a '=', so that what a kernel without such a module makes of
 * them is no option with a value.
 */
static gboolean check_quotes(const char *name, const char *value, GError **error)
{
    gsize length = value != NULL ? strlen(value) : 0;

    if (strchr(name, '"') != NULL) {
        return fail(error, "option %s: a quote in its name", name);
    }
    if (length >= 2 && is_security(name) && value[0] == '"' &&
        strchr(value + 1, '"') == value + length - 1 && strchr(value, '=') == NULL) {
        return TRUE;
    }
    if (length > 0 && strpbrk(value, ",\"") != NULL) {
        return fail(error, "option %s: the kernel's 9p client cannot be given a comma or a quote",
                    name);
    }
    return TRUE;
}

static gboolean take(const char *name, const char *value, gboolean sloppy,
                     struct mount_options *options, GString *passed, GError **error)
{
    GError *failed = NULL;
    gboolean known;

    if (!check_quotes(name, value, error)) {
        return FALSE;
    }
    if (take_own(name, value, options, &failed)) {
        return TRUE;
    }
    if (failed != NULL) {
        g_propagate_error(error, failed);
        return FALSE;
    }
    if (!check_client(name, value, &known, error)) {
        return FALSE;
    }
    if (strcmp(name, "remount") == 0) {
        options->remount = TRUE;
    }
    if (!known && !is_for_others(name) && !is_security(name) && !in_map(MNT_LINUX_MAP, name) &&
        !in_map(MNT_USERSPACE_MAP, name)) {
        return sloppy || fail(error, "unknown option %s (mount.qidmap(8) has the list)", name);
    }
    append(passed, name, value);
    return TRUE;
}

gboolean mount_options_parse(const char *text, gboolean sloppy, struct mount_options *options,
                             GError **error)
{
    g_autoptr(GString) passed = g_string_new(NULL);
    g_autofree char *copy = g_strdup(text != NULL ? text : "");
    char *position = copy, *name, *value;
    gsize name_size, value_size;
    int code;

    *options = (struct mount_options){.msize = MOUNT_MSIZE, .retry = MOUNT_RETRY};
    if (has_control_bytes(copy)) {
        return fail(error, "the options have control characters in them");
    }
    /* libmount takes what follows a quote without its end for the end of the options. */
    if (!quotes_are_pairs(copy)) {
        return fail(error, "the options have a quote without its end");
    }
    while ((code = mnt_optstr_next_option(&position, &name, &name_size, &value, &value_size)) ==
           0) {
        g_autofree char *n = g_strndup(name, name_size);
        g_autofree char *v = value != NULL ? g_strndup(value, value_size) : NULL;

        if (!take(n, v, sloppy, options, passed, error)) {
            mount_options_clear(options);
            return FALSE;
        }
    }
    if (code < 0) {
        mount_options_clear(options);
        return fail(error, "the options cannot be read: %s", copy);
    }
    if (passed->len + (options->aname != NULL ? strlen(options->aname) : 0) > MOUNT_KERNEL_LENGTH) {
        mount_options_clear(options);
        return fail(error, "the options are longer than the kernel takes (%d bytes)",
                    MOUNT_KERNEL_LENGTH);
    }
    options->passed = g_string_free(g_steal_pointer(&passed), FALSE);
    return TRUE;
}

void mount_options_clear(struct mount_options *options)
{
    g_clear_pointer(&options->aname, g_free);
    g_clear_pointer(&options->passed, g_free);
}

char *mount_options_join(const struct mount_options *options, int fd)
{
    GString *list = g_string_new(options->passed);

    if (options->remount) {
        return g_string_free(list, FALSE);
    }
    if (list->len > 0) {
        g_string_append_c(list, ',');
    }
    g_string_append_printf(list, "trans=fd,rfdno=%d,wfdno=%d,version=9p2000.L,msize=%u", fd, fd,
                           options->msize);
    if (options->aname != NULL) {
        g_string_append_printf(list, ",aname=%s", options->aname);
    }
    return g_string_free(list, FALSE);
}
