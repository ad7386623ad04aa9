/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signals, and the messages to the service manager about the daemon's state. */
#ifndef QUIT_H
#define QUIT_H

/* Blocks the signals that end the daemon, in this thread and those started later; ignores SIGPIPE.
 */
void quit_prepare(void);

/* Waits for SIGTERM or SIGINT; returns its number. The others are called here, and not by a signal
 * handler; `on_hup` must not wait for anything. */
int quit_wait(void (*on_usr1)(void), void (*on_hup)(void));

/* Makes quit_wait() return, from any thread. */
void quit_now(void);

/* Says that the daemon listens: to systemd, and on `ready_fd` where it is not negative (closed). */
void quit_tell_ready(int ready_fd);
void quit_tell_stopping(void);

/* That it reads its configuration again, and that it has done so. */
void quit_tell_reloading(void);
void quit_tell_reloaded(void);

#endif
