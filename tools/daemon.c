/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines to and from the control socket. What comes is checked as any other input, though only root
 * and the user who runs the tool may be at the other end.
 */
#include "config.h"

#include "tools/daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES (64u << 20) /* of a reply: statistics of very many sessions */
#define FDS_MAX        4

static int G_GNUC_PRINTF(3, 4) fail(struct qidmap_error *error, int code, const char *format, ...)
{
    va_list args;

    if (error != NULL) {
        error->code = code;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return code;
}

/* ---- finding it ------------------------------------------------------------------------------ */

/* Or a link to one, as a daemon leaves where its socket is in another place. */
static gboolean is_socket(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

char *daemon_of_process(gint64 pid)
{
    static const char *const kinds[] = {"at",
                                        "control"}; /* of the latter one of before may lie there */
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");
    char *path = NULL;

    for (guint i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("%s-%" G_GINT64_FORMAT, kinds[i % 2], pid);

        if (i >= 2 && runtime == NULL)
            break;
        g_free(path);
        path = g_build_filename(i < 2 ? "/run" : runtime, "qidmap", name, NULL);
        if (is_socket(path))
            return path;
    }
    g_free(path);
    return NULL;
}

int daemon_find(const char *uri, char **path, struct qidmap_error *error)
{
    struct qidmap_holder holder = {.size = sizeof holder};
    g_autofree char *found = NULL;
    int code = qidmap_store_holder(uri, &holder, error);

    if (code < 0)
        return code;
    found = holder.contact[0] == '/' ? g_strdup(holder.contact) : daemon_of_process(holder.pid);
    if (found == NULL || !is_socket(found))
        return fail(error, -EBUSY,
                    "%.200s: another process has it open for writing (pid and name: "
                    "%" G_GINT64_FORMAT " %s), and has no control socket; stop it, and try again",
                    uri, holder.pid, holder.name);
    *path = g_steal_pointer(&found);
    return 0;
}

char *daemon_store_uri(const char *uri)
{
    const char *place = strchr(uri, ':');
    char *real = place != NULL ? realpath(place + 1, NULL) : NULL;
    char *whole;

    if (real == NULL)
        return g_strdup(uri);
    whole = g_strdup_printf("%.*s%s", (int)(place + 1 - uri), uri, real);
    free(real);
    return whole;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Somebody else could have put a socket there. */
static int check_trusted(int fd, const char *path, struct qidmap_error *error)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return fail(error, -errno, "%s: %s", path, g_strerror(errno));
    if (peer.uid != 0 && peer.uid != geteuid())
        return fail(error, -EPERM,
                    "%s: the process there belongs to user %u; if that is its daemon, run "
                    "qidmapctl as that user",
                    path, peer.uid);
    return 0;
}

static int connect_to(const char *path, struct qidmap_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, code;

    if (strlen(path) >= sizeof address.sun_path)
        return fail(error, -ENAMETOOLONG, "%.200s: too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(error, -errno, "cannot make a socket: %s", g_strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        code = -errno;
        close(fd);
        return fail(error, code, "%s: %s; is the daemon running?", path, g_strerror(-code));
    }
    code = check_trusted(fd, path, error);
    if (code < 0)
        close(fd);
    return code < 0 ? code : fd;
}

static int send_request(int fd, const char *line, const int *fds, gsize n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    gsize size = strlen(line), done = 0;

    while (done < size) {
        struct iovec iov = {(void *)(line + done), size - done};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (done == 0 && n_fds > 0) {
            struct cmsghdr *c = &control.align;

            msg.msg_control = control.bytes;
            msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
            memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (gsize)n;
    }
    return 0;
}

/* The next line, without its newline, taken out of `buffer`; NULL at the end, or after an error. */
static char *read_line(int fd, GString *buffer)
{
    gsize looked = 0;

    for (;;) {
        char *end = memchr(buffer->str + looked, '\n', buffer->len - looked);
        char bytes[16384];
        ssize_t n;

        if (end != NULL) {
            char *line = g_strndup(buffer->str, (gsize)(end - buffer->str));

            g_string_erase(buffer, 0, end + 1 - buffer->str);
            return line;
        }
        looked = buffer->len;
        if (buffer->len > LINE_MAX_BYTES)
            return NULL;
        do
            n = recv(fd, bytes, sizeof bytes, 0);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
            return NULL;
        g_string_append_len(buffer, bytes, n);
    }
}

static JsonObject *object_of(JsonObject *object, const char *member)
{
    JsonNode *node = json_object_get_member(object, member);

    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

const char *daemon_text(JsonObject *object, const char *member)
{
    JsonNode *node = json_object_get_member(object, member);
    const char *text = node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
                               json_node_get_value_type(node) == G_TYPE_STRING
                           ? json_node_get_string(node)
                           : NULL;

    return text != NULL ? text : "";
}

char *daemon_name(JsonObject *object, const char *member)
{
    GString *out = g_string_new(NULL);

    for (const char *at = daemon_text(object, member); *at != '\0'; at++) {
        if (at[0] == '\\' && at[1] == 'x' && g_ascii_isxdigit(at[2]) && g_ascii_isxdigit(at[3])) {
            g_string_append_c(
                out, (char)(g_ascii_xdigit_value(at[2]) << 4 | g_ascii_xdigit_value(at[3])));
            at += 3;
        } else {
            if (at[0] == '\\' && at[1] == '\\')
                at++;
            g_string_append_c(out, *at);
        }
    }
    return g_string_free(out, FALSE);
}

guint64 daemon_u64(JsonObject *object, const char *member)
{
    JsonNode *node = json_object_get_member(object, member);

    if (node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
        json_node_get_value_type(node) == G_TYPE_INT64)
        return (guint64)MAX(json_node_get_int(node), 0);
    return g_ascii_strtoull(daemon_text(object, member), NULL, 10);
}

static int code_of(const char *name)
{
    static const struct {
        const char *name;
        int code;
    } names[] = {
        {"EPERM", EPERM},           {"ENOENT", ENOENT},       {"EAGAIN", EAGAIN},
        {"ENOMEM", ENOMEM},         {"EACCES", EACCES},       {"EBUSY", EBUSY},
        {"EEXIST", EEXIST},         {"ENODEV", ENODEV},       {"EINVAL", EINVAL},
        {"ENFILE", ENFILE},         {"EMFILE", EMFILE},       {"ENOSPC", ENOSPC},
        {"EROFS", EROFS},           {"ENOSYS", ENOSYS},       {"ENOTEMPTY", ENOTEMPTY},
        {"ENODATA", ENODATA},       {"EPROTO", EPROTO},       {"EBADMSG", EBADMSG},
        {"EBADF", EBADF},           {"ETIMEDOUT", ETIMEDOUT}, {"ESTALE", ESTALE},
        {"EUCLEAN", EUCLEAN},       {"EREMOTE", EREMOTE},     {"ECANCELED", ECANCELED},
        {"EOPNOTSUPP", EOPNOTSUPP},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(names[i].name, name) == 0)
            return -names[i].code;
    return -EIO;
}

/* Looks at one line: 1: it is progress; 0: *result; or the daemon's error. */
static int take_line(const char *path, const char *text, progress *line, JsonObject **result,
                     struct qidmap_error *error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root =
        json_parser_load_from_data(parser, text, -1, NULL) ? json_parser_get_root(parser) : NULL;
    JsonObject *whole =
        root != NULL && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
    JsonObject *part;

    if (whole == NULL)
        return fail(error, -EPROTO, "%s: answers nonsense; is it a qidmapd?", path);
    part = object_of(whole, "progress");
    if (part != NULL) {
        if (line != NULL)
            progress_tell(line, daemon_u64(part, "done"), daemon_u64(part, "total"));
        return 1;
    }
    part = object_of(whole, "error");
    if (part != NULL)
        return fail(error, code_of(daemon_text(part, "errno")), "%s", daemon_text(part, "text"));
    part = object_of(whole, "result");
    if (part == NULL)
        return fail(error, -EPROTO, "%s: answers nonsense; is it a qidmapd?", path);
    *result = json_object_ref(part);
    return 0;
}

static char *request_line(const char *verb, JsonObject *arguments)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *text = NULL;

    if (arguments == NULL)
        arguments = json_object_new();
    json_object_set_string_member(arguments, "verb", verb);
    json_node_take_object(root, arguments);
    text = json_to_string(root, FALSE);
    return g_strconcat(text, "\n", NULL);
}

int daemon_call(const char *path, const char *verb, JsonObject *arguments, const int *fds,
                gsize n_fds, progress *line, JsonObject **result, struct qidmap_error *error)
{
    g_autofree char *request = request_line(verb, arguments);
    g_autoptr(GString) buffer = g_string_new(NULL);
    int fd, code;

    g_assert(n_fds <= FDS_MAX);
    fd = connect_to(path, error);
    if (fd < 0)
        return fd;
    code = send_request(fd, request, fds, n_fds);
    if (code < 0 && code != -EPIPE) /* one that is closed may have said why */
        fail(error, code, "%s: %s", path, g_strerror(-code));
    else
        do {
            g_autofree char *text = read_line(fd, buffer);

            code = text != NULL
                       ? take_line(path, text, line, result, error)
                       : fail(error, -EPROTO, "%s: the daemon ended before it answered", path);
        } while (code > 0);
    close(fd);
    return code;
}
