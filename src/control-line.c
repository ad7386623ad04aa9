/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines in and out. See control-line.h. */
#include "config.h"

#include "src/control-line.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_MS 300000 /* between requests */
#define LINE_MS 10000  /* for the rest of a line that began */
#define SEND_MS 10000

void control_input_init(struct control_input *input, int fd)
{
    input->fd = fd;
    input->size = input->done = 0;
    input->n_fds = 0;
}

void control_input_drop_fds(struct control_input *input)
{
    for (unsigned i = 0; i < input->n_fds; i++)
        if (input->fds[i] >= 0)
            close(input->fds[i]);
    input->n_fds = 0;
}

/* Keeps the descriptors; false: there are too many, and the rest is closed. */
static bool take_fds(struct control_input *input, struct msghdr *msg)
{
    bool fits = (msg->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (input->n_fds < CONTROL_FDS)
                input->fds[input->n_fds++] = fd;
            else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

/* Waits until `when` (monotonic microseconds): 0, or a negative errno. */
static int wait_for(int fd, short events, gint64 when)
{
    struct pollfd one = {.fd = fd, .events = events};

    for (;;) {
        gint64 left = (when - g_get_monotonic_time()) / 1000;
        int n = left > 0 ? poll(&one, 1, (int)left) : 0;

        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

/* 1: more came; 0: the end; or a negative errno. */
static int receive(struct control_input *input, gint64 when)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * (CONTROL_FDS + 1))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {input->bytes + input->size, sizeof input->bytes - input->size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n;

    for (;;) {
        int error = wait_for(input->fd, POLLIN, when);

        if (error != 0)
            return error;
        n = recvmsg(input->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0)
            break;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    if (!take_fds(input, &msg))
        return -EMFILE;
    input->size += (size_t)n;
    return n > 0 ? 1 : 0;
}

char *control_input_line(struct control_input *input, size_t *size, int *error)
{
    gint64 when = g_get_monotonic_time() + (gint64)IDLE_MS * 1000;
    size_t looked = 0;

    memmove(input->bytes, input->bytes + input->done, input->size - input->done);
    input->size -= input->done;
    input->done = 0;
    for (;;) {
        char *end = memchr(input->bytes + looked, '\n', input->size - looked);
        bool began = input->size > 0;

        if (end != NULL) {
            *end = '\0';
            *size = (size_t)(end - input->bytes);
            input->done = *size + 1;
            return input->bytes;
        }
        looked = input->size;
        if (input->size == sizeof input->bytes) {
            *error = -EMSGSIZE;
            return NULL;
        }
        if (began && looked == input->size)
            when = MIN(when, g_get_monotonic_time() + (gint64)LINE_MS * 1000);
        int got = receive(input, when);
        if (got <= 0) {
            *error = got;
            return NULL;
        }
    }
}

int control_send(int fd, const char *bytes, size_t size)
{
    gint64 when = g_get_monotonic_time() + (gint64)SEND_MS * 1000;

    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0) {
            bytes += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            int error = wait_for(fd, POLLOUT, when);

            if (error != 0)
                return error;
        } else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

bool control_is_deep(const char *text, size_t size)
{
    bool in_string = false;
    unsigned depth = 0;

    for (size_t i = 0; i < size; i++) {
        if (in_string) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                in_string = false;
        } else if (text[i] == '"')
            in_string = true;
        else if (text[i] == '[' || text[i] == '{') {
            if (++depth > CONTROL_DEPTH)
                return true;
        } else if ((text[i] == ']' || text[i] == '}') && depth > 0)
            depth--;
    }
    return false;
}
