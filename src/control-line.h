/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines of the control socket, with the descriptors that come with them. For control.c alone.
 *
 * A client that sends half a line, or does not read, is given up after some seconds. Nothing here
 * knows what a line means.
 */
#ifndef CONTROL_LINE_H
#define CONTROL_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "src/control.h"

struct control_input {
    int fd;
    char bytes[CONTROL_LINE];
    size_t size; /* bytes that came */
    size_t done; /* of these, the line that was given last */
    int fds[CONTROL_FDS];
    unsigned n_fds;
};

void control_input_init(struct control_input *input, int fd);

/* Closes the descriptors that nobody took. */
void control_input_drop_fds(struct control_input *input);

/* The next line, without its newline, NUL-terminated; valid until the next call. NULL: there is
 * none: *error is 0 at the end of the input, or a negative errno: -EMSGSIZE the line is too long,
 * -EMFILE more descriptors than there may be, -ETIMEDOUT. */
char *control_input_line(struct control_input *input, size_t *size, int *error);

/* Sends all of it, within some seconds. 0 or a negative errno. */
int control_send(int fd, const char *bytes, size_t size);

/* Whether text nests deeper than CONTROL_DEPTH: the parser would go down with it. */
bool control_is_deep(const char *text, size_t size);

#endif
