/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The terminal as a picture that is painted again and again: its other screen, keys one by one, and
 * everything as it was afterwards, whatever ends the program (but SIGKILL).
 *
 * Terminals of the last decades share the few sequences that this needs, so that no library for
 * them is. One thread.
 */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <glib.h>

/* Takes the terminal of standard output. FALSE: it is none. */
gboolean terminal_begin(void);
/* Gives it back. */
void terminal_end(void);

void terminal_size(guint *columns, guint *rows);

/* Paints these lines (char *), each fitting the terminal, without escape sequences of their own;
 * line `loud` (-1: none) is set off. FALSE: the terminal is gone. */
gboolean terminal_paint(const GPtrArray *lines, int loud);

enum terminal_event {
    TERMINAL_TIME,   /* it is over */
    TERMINAL_WOKEN,  /* `fd` is readable */
    TERMINAL_RESIZE, /* paint again */
    TERMINAL_QUIT    /* q, Ctrl-C, SIGTERM, SIGHUP, or the terminal is gone */
};

/* Waits until something happens, or for so many milliseconds; `fd` is looked at, too. */
enum terminal_event terminal_wait(int fd, int milliseconds);

#endif
