/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket, its clients, and the table of verbs. See control.h.
 *
 * A thread accepts, and each client has a thread of its own: so a long verb holds up nobody, and no
 * thread that serves 9P ever waits for an administrator. There are at most CONTROL_CLIENTS.
 */
#include "config.h"

#include "src/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/control-line.h"
#include "src/fail.h"
#include "src/fd-cache.h"
#include "src/listen-spec.h"
#include "src/listen.h"
#include "src/log.h"
#include "src/privs.h"
#include "src/run-dir.h"

#define PROGRESS_US 200000

struct verb {
    const char *name;
    control_func run;
    void *data;
};

struct control_client {
    struct control *control;
    int fd;
    struct control_client *next, *prev;
};

struct control {
    char *path;
    struct listener *listener;
    struct run_dir *run_dir; /* NULL: none */
    int wake_fd;
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t gone;
    struct control_client *clients;
    unsigned count;
    bool stopping; /* atomic */
};

struct control_call {
    struct control *control;
    struct control_input *input;
    int code; /* of control_fail() */
    char *text;
    gint64 next_progress;
};

static GPtrArray *verbs; /* struct verb; read-only once the socket is answered */

void control_add(const char *name, control_func run, void *data)
{
    struct verb *verb = g_new0(struct verb, 1);

    verb->name = name;
    verb->run = run;
    verb->data = data;
    if (verbs == NULL)
        verbs = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(verbs, verb);
}

static const struct verb *find_verb(const char *name)
{
    for (guint i = 0; verbs != NULL && i < verbs->len; i++) {
        const struct verb *verb = g_ptr_array_index(verbs, i);

        if (strcmp(verb->name, name) == 0)
            return verb;
    }
    return NULL;
}

/* ---- for verbs ------------------------------------------------------------------------------- */

JsonObject *control_fail(struct control_call *call, int code, const char *format, ...)
{
    va_list args;

    g_free(call->text);
    call->code = code;
    va_start(args, format);
    call->text = g_strdup_vprintf(format, args);
    va_end(args);
    return NULL;
}

static bool is_stopping(struct control *control)
{
    return __atomic_load_n(&control->stopping, __ATOMIC_RELAXED);
}

static bool has_gone(int fd)
{
    struct pollfd one = {.fd = fd, .events = 0}; /* half of it may be closed: no more requests */

    return poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR)) != 0;
}

static int send_object(int fd, const char *member, JsonObject *object)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *whole = json_object_new();
    g_autofree char *text = NULL, *line = NULL;

    json_object_set_object_member(whole, member, object);
    json_node_take_object(root, whole);
    text = json_to_string(root, FALSE);
    line = g_strconcat(text, "\n", NULL);
    return control_send(fd, line, strlen(line));
}

int control_progress(void *data, uint64_t done, uint64_t total)
{
    struct control_call *call = data;
    gint64 now = g_get_monotonic_time();
    JsonObject *object;

    if (is_stopping(call->control))
        return -ECANCELED;
    if (now < call->next_progress)
        return 0;
    call->next_progress = now + PROGRESS_US;
    if (has_gone(call->input->fd))
        return -ECANCELED;
    object = json_object_new();
    control_set_u64(object, "done", done);
    control_set_u64(object, "total", total);
    return send_object(call->input->fd, "progress", object) == 0 ? 0 : -ECANCELED;
}

int control_take_fd(struct control_call *call, unsigned index)
{
    int fd = index < call->input->n_fds ? call->input->fds[index] : -1;

    if (fd >= 0)
        call->input->fds[index] = -1;
    return fd;
}

/* The member, where it has a value of this type; *fine is false where it is wrong or missing. */
static JsonNode *find_member(struct control_call *call, JsonObject *request, const char *member,
                             bool needed, bool *fine)
{
    JsonNode *node = json_object_get_member(request, member);

    *fine = node != NULL || !needed;
    if (!*fine)
        control_fail(call, -EINVAL, "the request needs a member \"%s\"", member);
    return node;
}

bool control_text(struct control_call *call, JsonObject *request, const char *member, bool needed,
                  const char **value)
{
    bool fine;
    JsonNode *node = find_member(call, request, member, needed, &fine);

    if (node == NULL)
        return fine;
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING) {
        control_fail(call, -EINVAL, "\"%s\" is to be a string", member);
        return false;
    }
    *value = json_node_get_string(node);
    return true;
}

bool control_name(struct control_call *call, JsonObject *request, const char *member, bool needed,
                  char **value)
{
    const char *text = NULL;
    GString *out;

    *value = NULL;
    if (!control_text(call, request, member, needed, &text))
        return false;
    if (text == NULL)
        return true;
    out = g_string_new(NULL);
    for (; *text != '\0'; text++) {
        unsigned byte = 0;

        if (*text != '\\') {
            g_string_append_c(out, *text);
            continue;
        }
        text++;
        if (*text == 'x' && g_ascii_isxdigit(text[1]) && g_ascii_isxdigit(text[2]))
            byte = (unsigned)(g_ascii_xdigit_value(text[1]) << 4 | g_ascii_xdigit_value(text[2]));
        if (byte != 0) {
            g_string_append_c(out, (char)byte);
            text += 2;
        } else if (*text == '\\')
            g_string_append_c(out, '\\');
        else {
            g_string_free(out, TRUE);
            control_fail(call, -EINVAL,
                         "\"%s\": a backslash is written twice, another byte as \\xHH", member);
            return false;
        }
    }
    *value = g_string_free(out, FALSE);
    return true;
}

bool control_number(struct control_call *call, JsonObject *request, const char *member, bool needed,
                    uint64_t *value)
{
    bool fine;
    JsonNode *node = find_member(call, request, member, needed, &fine);
    guint64 number = 0;

    if (node == NULL)
        return fine;
    fine = false;
    if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
        fine = g_ascii_string_to_unsigned(json_node_get_string(node), 10, 0, G_MAXUINT64, &number,
                                          NULL);
    else if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_INT64) {
        fine = json_node_get_int(node) >= 0;
        number = (guint64)json_node_get_int(node);
    }
    if (!fine)
        control_fail(call, -EINVAL, "\"%s\" is to be a number of 64 bits", member);
    else
        *value = number;
    return fine;
}

bool control_flag(struct control_call *call, JsonObject *request, const char *member, bool *value)
{
    JsonNode *node = json_object_get_member(request, member);

    if (node == NULL)
        return true;
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_BOOLEAN) {
        control_fail(call, -EINVAL, "\"%s\" is to be true or false", member);
        return false;
    }
    *value = json_node_get_boolean(node);
    return true;
}

void control_set_u64(JsonObject *object, const char *member, uint64_t number)
{
    char text[24];

    g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, number);
    json_object_set_string_member(object, member, text);
}

/* A backslash is doubled, and a byte that is no part of valid UTF-8 becomes \xHH. */
void control_set_name(JsonObject *object, const char *member, const char *name)
{
    g_autoptr(GString) out = g_string_new(NULL);

    while (*name != '\0') {
        gunichar c = g_utf8_get_char_validated(name, -1);

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*name++);
            continue;
        }
        if (c == '\\')
            g_string_append_c(out, '\\');
        g_string_append_unichar(out, c);
        name = g_utf8_next_char(name);
    }
    json_object_set_string_member(object, member, out->str);
}

/* ---- requests -------------------------------------------------------------------------------- */

static const char *errno_name(int code)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {
        {EPERM, "EPERM"},           {ENOENT, "ENOENT"},
        {EINTR, "EINTR"},           {EIO, "EIO"},
        {EBADF, "EBADF"},           {EAGAIN, "EAGAIN"},
        {ENOMEM, "ENOMEM"},         {EACCES, "EACCES"},
        {EBUSY, "EBUSY"},           {EEXIST, "EEXIST"},
        {ENODEV, "ENODEV"},         {ENOTDIR, "ENOTDIR"},
        {EISDIR, "EISDIR"},         {EINVAL, "EINVAL"},
        {ENFILE, "ENFILE"},         {EMFILE, "EMFILE"},
        {EFBIG, "EFBIG"},           {ENOSPC, "ENOSPC"},
        {EROFS, "EROFS"},           {ENOSYS, "ENOSYS"},
        {ENOTEMPTY, "ENOTEMPTY"},   {ENODATA, "ENODATA"},
        {EPROTO, "EPROTO"},         {EBADMSG, "EBADMSG"},
        {EOVERFLOW, "EOVERFLOW"},   {EMSGSIZE, "EMSGSIZE"},
        {EOPNOTSUPP, "EOPNOTSUPP"}, {ETIMEDOUT, "ETIMEDOUT"},
        {ESTALE, "ESTALE"},         {EUCLEAN, "EUCLEAN"},
        {EREMOTE, "EREMOTE"},       {ECANCELED, "ECANCELED"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].code == -code)
            return names[i].name;
    return "EIO";
}

static int send_error(int fd, int code, const char *text)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "errno", errno_name(code));
    control_set_name(object, "text", text);
    return send_object(fd, "error", object);
}

static JsonObject *answer_object(struct control_call *call, JsonNode *root)
{
    JsonObject *request = JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
    const struct verb *verb;
    const char *name = NULL;

    if (request == NULL)
        return control_fail(call, -EINVAL, "a request is one object: {\"verb\":\"stats\"}");
    if (!control_text(call, request, "verb", true, &name))
        return NULL;
    verb = find_verb(name);
    if (verb == NULL)
        return control_fail(call, -ENOSYS, "there is no verb \"%.64s\"; see qidmapd(8)", name);
    return verb->run(call, request, verb->data);
}

static JsonObject *answer(struct control_call *call, const char *line, size_t size)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    JsonNode *root;

    if (!g_utf8_validate(line, (gssize)size, NULL) || control_is_deep(line, size))
        return control_fail(call, -EINVAL, "the request is no UTF-8, or nests too deep");
    if (!json_parser_load_from_data(parser, line, (gssize)size, &error))
        return control_fail(call, -EINVAL, "the request is no JSON: %s", error->message);
    root = json_parser_get_root(parser);
    if (root == NULL)
        return control_fail(call, -EINVAL, "the request is empty");
    return answer_object(call, root);
}

/* False: the client is to be dropped. */
static bool serve_line(struct control_client *client, struct control_input *input, const char *line,
                       size_t size)
{
    struct control_call call = {.control = client->control, .input = input};
    JsonObject *result;
    int sent;

    call.next_progress = g_get_monotonic_time() + PROGRESS_US;
    result = answer(&call, line, size);
    if (result != NULL)
        sent = send_object(client->fd, "result", result);
    else
        sent = send_error(client->fd, call.code, call.text != NULL ? call.text : "failed");
    g_free(call.text);
    control_input_drop_fds(input);
    return sent == 0 && !is_stopping(client->control);
}

static void serve(struct control_client *client)
{
    struct control_input *input = g_new(struct control_input, 1);
    size_t size;
    int error = 0;
    char *line;

    control_input_init(input, client->fd);
    do
        line = control_input_line(input, &size, &error);
    while (line != NULL && serve_line(client, input, line, size));
    if (line == NULL && error == -EMSGSIZE)
        send_error(client->fd, error, "the request is too long");
    if (line == NULL && error == -EMFILE)
        send_error(client->fd, error, "too many descriptors came with the request");
    control_input_drop_fds(input);
    g_free(input);
}

/* ---- clients --------------------------------------------------------------------------------- */

static void *client_main(void *data)
{
    struct control_client *client = data;
    struct control *control = client->control;

    serve(client);
    privs_thread_end();
    pthread_mutex_lock(&control->lock);
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        control->clients = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    close(client->fd);
    g_free(client);
    control->count--;
    pthread_cond_broadcast(&control->gone);
    pthread_mutex_unlock(&control->lock);
    return NULL;
}

static bool may_connect(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

/* 0 or a negative errno, *text says what to tell the client. */
static int begin(struct control *control, int fd, const char **text)
{
    struct control_client *client;
    pthread_attr_t attr;
    pthread_t thread;
    int failed;

    *text = "this socket is for root and the daemon's own user";
    if (!may_connect(fd))
        return -EACCES;
    *text = "too many clients of the control socket; try again later";
    pthread_mutex_lock(&control->lock);
    if (control->count >= CONTROL_CLIENTS || is_stopping(control)) {
        pthread_mutex_unlock(&control->lock);
        return -EAGAIN;
    }
    client = g_new0(struct control_client, 1);
    client->control = control;
    client->fd = fd;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&thread, &attr, client_main, client);
    pthread_attr_destroy(&attr);
    if (failed == 0) {
        client->next = control->clients;
        if (client->next != NULL)
            client->next->prev = client;
        control->clients = client;
        control->count++;
    } else
        g_free(client);
    pthread_mutex_unlock(&control->lock);
    return -failed;
}

static void accept_one(struct control *control)
{
    int fd = accept4(control->listener->fd, NULL, NULL, SOCK_CLOEXEC);
    const char *text;
    int error;

    if (fd < 0) {
        if ((errno != EMFILE && errno != ENFILE) || !fd_cache_relieve())
            g_usleep(10000); /* who connects waits; do not spin */
        return;
    }
    error = begin(control, fd, &text);
    if (error != 0) {
        send_error(fd, error, text);
        close(fd);
    }
}

static void *accept_main(void *data)
{
    struct control *control = data;
    struct pollfd fds[2] = {{.fd = control->listener->fd, .events = POLLIN},
                            {.fd = control->wake_fd, .events = POLLIN}};

    while (!is_stopping(control)) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0 && !is_stopping(control))
            accept_one(control);
    }
    privs_thread_end();
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct listener *listen_at(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("unix:%s,mode=0600", path);
    struct listen_spec *spec = listen_spec_parse(text, error);
    struct listener *listener = spec != NULL ? listen_unix_open(spec, error) : NULL;

    if (spec != NULL)
        listen_spec_free(spec);
    return listener;
}

gboolean control_open(const char *path, struct control **control, GError **error)
{
    g_autofree char *place = NULL;
    g_autoptr(GError) problem = NULL;
    struct listener *listener;
    struct run_dir *dir;

    *control = NULL;
    dir = run_dir_open(); /* what is left there goes in any case */
    if (path != NULL && strcmp(path, "none") == 0) {
        run_dir_close(dir);
        return TRUE;
    }
    if (path != NULL)
        place = g_strdup(path);
    else if (dir != NULL)
        place = run_dir_socket(dir);
    if (place == NULL) {
        log_info("there is no place for a control socket: give --control PATH, or none");
        return TRUE;
    }
    listener = listen_at(place, &problem);
    if (listener == NULL)
        run_dir_close(dir);
    if (listener == NULL && path == NULL) {
        log_warning("there is no control socket: %s", problem->message);
        return TRUE;
    }
    if (listener == NULL)
        return fail_start(error, "control: %s", problem->message);
    *control = g_new0(struct control, 1);
    (*control)->path = g_steal_pointer(&place);
    (*control)->listener = listener;
    (*control)->run_dir = dir;
    if (path != NULL && dir != NULL)
        run_dir_link(dir, path);
    (*control)->wake_fd = -1;
    pthread_mutex_init(&(*control)->lock, NULL);
    pthread_cond_init(&(*control)->gone, NULL);
    return TRUE;
}

const char *control_path(const struct control *control)
{
    return control->path;
}

gboolean control_start(struct control *control, GError **error)
{
    int failed;

    if (control == NULL)
        return TRUE;
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    failed =
        control->wake_fd < 0 ? errno : pthread_create(&control->thread, NULL, accept_main, control);
    if (failed != 0)
        return fail_start(error, "control: %s", g_strerror(failed));
    control->started = true;
    log_info("control socket: %s", control->path);
    return TRUE;
}

void control_stop(struct control *control)
{
    if (control == NULL)
        return;
    __atomic_store_n(&control->stopping, true, __ATOMIC_RELAXED);
    if (control->started) {
        eventfd_write(control->wake_fd, 1);
        pthread_join(control->thread, NULL);
    }
    pthread_mutex_lock(&control->lock);
    for (struct control_client *c = control->clients; c != NULL; c = c->next)
        shutdown(c->fd, SHUT_RD); /* what is at work still answers */
    while (control->count > 0)
        pthread_cond_wait(&control->gone, &control->lock);
    pthread_mutex_unlock(&control->lock);
    listen_unix_remove(control->listener);
    listener_free(control->listener);
    run_dir_close(control->run_dir);
    if (control->wake_fd >= 0)
        close(control->wake_fd);
    pthread_mutex_destroy(&control->lock);
    pthread_cond_destroy(&control->gone);
    g_clear_pointer(&verbs, g_ptr_array_unref);
    g_free(control->path);
    g_free(control);
}
